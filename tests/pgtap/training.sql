-- What a training makes of rows, settings, privileges and session.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(45);

-- Weights of a version, to compare bytes.
CREATE FUNCTION weights(model regclass, wanted int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE format('SELECT md5(string_agg(data, '''' ORDER BY part)) FROM %s WHERE version = $1 AND kind = ''weights''', model)
        INTO result USING wanted;
    RETURN result;
END $$;
CREATE FUNCTION metric(model regclass, wanted text) RETURNS float8 LANGUAGE sql AS
    $$ SELECT value FROM llm_evaluate(model) WHERE metric = wanted $$;
CREATE FUNCTION report(wanted text) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT report FROM llmapp.jobs WHERE model = wanted ORDER BY job DESC LIMIT 1 $$;

-- A known function, and the same bytes for the same seed and any number of threads.
CREATE TABLE lines AS SELECT x, 3 * x + 7 AS y FROM (SELECT sin(i) AS x FROM generate_series(1, 400) AS i) AS s;
SELECT llm_train('line', 'lines', target => 'y', params => '{"hidden": [], "epochs": 200, "learning_rate": 0.05, "validation": 0.15}', wait => true) \g /dev/null
SELECT cmp_ok(metric('line', 'r2'), '>', 0.999::float8, 'a line is learned');
SELECT cmp_ok(abs(llm_predict('line', '{"x": 0.5}'::jsonb, NULL::float8) - 8.5), '<', 0.1::float8, 'and predicted');
SELECT llm_train('same', 'lines', target => 'y', params => '{"epochs": 3}', wait => true) \g /dev/null
SET llmapp.threads = 2;
SELECT llm_train('same', 'lines', target => 'y', params => '{"epochs": 3}', wait => true) \g /dev/null
RESET llmapp.threads;
SELECT llm_train('same', 'lines', target => 'y', params => '{"epochs": 3, "seed": 2}', wait => true) \g /dev/null
SELECT is(weights('same', 1), weights('same', 2), 'the same seed gives the same bytes for any number of threads');
SELECT isnt(weights('same', 1), weights('same', 3), 'another seed gives others');

-- Steps of several passes learn what those of one do, and make room for batches that memory has none for.
CREATE FUNCTION setting(model regclass, wanted text) RETURNS text LANGUAGE sql AS
    $$ SELECT value #>> '{}' || ' ' || source FROM llmapp.model_settings AS s WHERE s.model = $1 AND s.setting = wanted $$;
\set params '{"epochs": 4, "hidden": [16], "dropout": 0, "batch_size": 50, "validation": 0.15'
SELECT llm_train('one_pass', 'lines', target => 'y', params => (:'params' || '}')::jsonb, wait => true) \g /dev/null
SELECT llm_train('four_passes', 'lines', target => 'y', params => (:'params' || ', "micro_batch": 16}')::jsonb, wait => true) \g /dev/null
SELECT cmp_ok(abs(metric('four_passes', 'rmse') / metric('one_pass', 'rmse') - 1), '<', 1e-4::float8, 'passes of a step give nearly the same loss');
SELECT isnt(weights('four_passes', 1), weights('one_pass', 1), 'but for rounding');
SELECT is(setting('one_pass', 'micro_batch') || ', ' || setting('four_passes', 'micro_batch'), '50 auto, 16 user', 'settings say which passes');
SET llmapp.train_memory = '40MB';
SELECT llm_train('large_batch', 'SELECT sin(i) AS x, cos(i) AS y FROM generate_series(1, 10000) AS i', target => 'y',
                 params => '{"steps": 1, "hidden": [512, 512], "batch_size": 8192}', wait => true) \g /dev/null
RESET llmapp.train_memory;
SELECT ok(setting('large_batch', 'micro_batch') LIKE '% auto' AND split_part(setting('large_batch', 'micro_batch'), ' ', 1)::int BETWEEN 64 AND 4096,
          'a large batch is cut to the memory of a training');
SELECT is(setting('large_batch', 'batch_size'), '8192 user', 'and stays a batch');
SELECT llm_train('normed', 'lines', target => 'y', params => '{"layers": [{"type": "linear", "width": 4}, {"type": "batch_norm"}], "micro_batch": 8, "batch_size": 32}') AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is((SELECT message FROM llmapp.jobs WHERE job = :job), 'a network with batch_norm cannot be trained in micro batches', 'batch norm needs whole batches');

-- Every type, NULL everywhere.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN percent AS numeric CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE kinds AS
    SELECT CASE WHEN i % 5 = 0 THEN NULL ELSE i % 7 END::int2 AS small, CASE WHEN i % 6 = 0 THEN NULL ELSE i % 13 END AS number,
           NULLIF(i % 11, 0)::int8 AS large, sin(i)::float4 AS single, CASE WHEN i % 9 = 0 THEN 'NaN' ELSE cos(i) END::float8 AS double,
           (i % 100)::percent AS share, NULLIF(i % 3, 0) = 1 AS flag,
           (ARRAY['sad', 'ok', 'happy', NULL]::mood[])[1 + i % 4] AS mood, CASE WHEN i % 8 > 0 THEN 'color ' || i % 4 END AS text,
           ('c' || i % 3)::char(5) AS padded, NULLIF(date '2024-01-01' + i, date '2024-01-09') AS day,
           CASE WHEN i % 10 = 0 THEN 'infinity' ELSE timestamptz '2024-01-01 UTC' + i * interval '1 hour' END AS at,
           make_interval(mins => i % 50) AS took, time '08:00' + make_interval(mins => i) AS clock,
           ARRAY[i % 2, i % 3, NULL]::int[] AS vector, ARRAY[[sin(i), 1], [2, cos(i)]]::float4[] AS matrix,
           CASE i % 4 WHEN 0 THEN 'null' WHEN 1 THEN '1.5' WHEN 2 THEN '"a"' ELSE 'true' END::jsonb AS json,
           ('10.0.0.' || i % 4)::inet AS address, NULL::text AS empty,
           CASE WHEN i % 17 > 0 THEN (i % 7) * 2 + sin(i) END AS y
    FROM generate_series(1, 500) AS i;
SELECT llm_train('kinds_model', 'SELECT *, ARRAY[single, 2]::tensor AS tensor FROM kinds AS kinds', target => 'y', params => '{"epochs": 5}', wait => true) \g /dev/null
SELECT is((report('public.kinds_model') -> 'data' ->> 'rows_read')::int, 500, 'all rows are read');
SELECT is((report('public.kinds_model') -> 'data' -> 'dropped' ->> 'without_target')::int, 29, 'those without a target are skipped and counted');
SELECT is((report('public.kinds_model') -> 'data' ->> 'training_rows')::int + (report('public.kinds_model') -> 'data' ->> 'held_out_rows')::int, 471, 'the rest is used');
SELECT is((SELECT count(*)::int FROM (SELECT *, ARRAY[single, 2]::tensor AS tensor FROM kinds) AS k WHERE llm_predict('kinds_model', k) IS NOT NULL),
          500, 'every row can be predicted, NULLs and all');
SELECT is((SELECT count(*)::int FROM (SELECT *, ARRAY[single, 2]::tensor AS tensor FROM kinds) AS k
           WHERE llm_predict('kinds_model', k) IS DISTINCT FROM llm_predict('kinds_model', to_jsonb(k))),
          0, 'a row means the same as its JSON form');

-- Tasks
CREATE TABLE labels AS SELECT i % 2 = 0 AS flag, i % 3 AS few, i AS many, sin(i) AS x, cos(i) AS z FROM generate_series(1, 300) AS i;
SELECT llm_train('flag', 'labels', target => 'flag', params => '{"epochs": 1}', wait => true) \g /dev/null
SELECT llm_train('few', 'labels', target => 'few', params => '{"epochs": 1, "validation": 0.15}', wait => true) \g /dev/null
SELECT llm_train('many', 'labels', target => 'many', params => '{"epochs": 1}', wait => true) \g /dev/null
SELECT llm_train('rare', 'SELECT * FROM labels LIMIT 15', target => 'many', params => '{"epochs": 1}', wait => true) \g /dev/null
SELECT llm_train('several', 'labels', target => 'x, z', params => '{"epochs": 1}', wait => true) \g /dev/null
SELECT llm_train('forced', 'labels', target => 'few', task => 'regression', params => '{"epochs": 1}', wait => true) \g /dev/null
SELECT is(report('public.flag') ->> 'task', 'classification', 'a boolean is a class');
SELECT is(report('public.few') ->> 'task', 'classification', 'few integers are classes');
SELECT is(report('public.many') ->> 'task', 'regression', 'many integers are numbers');
SELECT is(report('public.rare') ->> 'task', 'regression', 'so are few that do not come again');
SELECT is(report('public.several') ->> 'task', 'regression', 'several targets are numbers');
SELECT is(report('public.forced') ->> 'task', 'regression', 'a given task is kept');

-- Splits
SELECT is((report('public.few') -> 'data' ->> 'held_out_rows')::int, 45, 'each class gives its share');
CREATE TABLE timed AS SELECT i AS x, i > 250 AS late, i % 2 = 0 AS y, timestamp '2024-01-01' + i * interval '1 day' AS at, i % 5 = 0 AS held FROM generate_series(300, 1, -1) AS i;
SELECT llm_train('by_time', 'SELECT x::float8, y, at FROM timed', target => 'y', params => '{"epochs": 1, "time_column": "at", "validation": 0.2}', wait => true) \g /dev/null
SELECT is((report('public.by_time') -> 'data' ->> 'held_out_rows')::int, 60, 'the last rows by time are held out');
SELECT llm_train('by_column', 'SELECT x::float8, y, held FROM timed', target => 'y', params => '{"epochs": 1, "validation": "held"}', wait => true) \g /dev/null
SELECT is((report('public.by_column') -> 'data' ->> 'held_out_rows')::int, 60, 'rows named by a column are held out');
SELECT lives_ok($$ SELECT llm_predict('by_column', '{"x": 1}'::jsonb) $$, 'and that column is no input');
SELECT llm_train('unseen', 'SELECT x::float8, late::text AS late, held FROM (SELECT x, CASE WHEN held THEN ''only held'' ELSE (x % 2)::text END AS late, held FROM timed) AS s', target => 'late', params => '{"epochs": 1, "validation": "held"}', wait => true) \g /dev/null
SELECT is((report('public.unseen') -> 'data' -> 'dropped' ->> 'unseen_label')::int, 60, 'held-out labels that no training row has are counted');
SELECT is(report('public.unseen') ->> 'evaluated_on', 'training', 'and what could not be evaluated is said');
SELECT llm_train('whole', 'lines', target => 'y', params => '{"epochs": 1, "validation": 0}', wait => true) \g /dev/null
SELECT is(report('public.whole') ->> 'evaluated_on', 'training', 'without held-out rows the training rows are evaluated');

-- Weights of rows and classes
CREATE TABLE weighted AS SELECT i % 2 AS x, i % 4 = 0 AS y, CASE WHEN i % 4 = 0 THEN 0 ELSE 1 END AS w FROM generate_series(1, 400) AS i;
SELECT llm_train('by_weight', 'SELECT x::float8, y, w FROM weighted', target => 'y', params => '{"hidden": [], "epochs": 100, "learning_rate": 0.05, "weight_column": "w"}', wait => true) \g /dev/null
SELECT cmp_ok(llm_probability('by_weight', '{"x": 0}'::jsonb, 'true'), '<', 0.1::float8, 'rows of weight zero teach nothing');
SELECT llm_train('balanced', 'SELECT x::float8, y FROM weighted WHERE x = 0 OR true', target => 'y', params => '{"hidden": [], "epochs": 100, "learning_rate": 0.05, "class_weight": {"true": 1000}}', wait => true) \g /dev/null
SELECT cmp_ok(llm_probability('balanced', '{"x": 0}'::jsonb, 'true'), '>', 0.9::float8, 'a class can weigh more');

-- Going live
SELECT llm_train('line', 'lines', target => 'y', params => '{"hidden": [], "epochs": 1}', wait => true) \g /dev/null
SELECT is((SELECT live_version FROM llmapp.models WHERE model = 'line'::regclass), 1, 'a worse version does not go live');
SELECT is(report('public.line') -> 'live', 'false', 'and the report says so');
SELECT llm_train('line', 'lines', target => 'y', params => '{"hidden": [], "epochs": 1, "deploy": "always"}', wait => true) \g /dev/null
SELECT is((SELECT live_version FROM llmapp.models WHERE model = 'line'::regclass), 3, 'unless it is told to');

-- From a base model
SELECT llm_promote('line', 1) \g /dev/null
SELECT llm_train('tuned', 'lines', target => 'y', base => 'line', params => '{"epochs": 1, "learning_rate": 1e-9}', wait => true) \g /dev/null
SELECT cmp_ok(metric('tuned', 'r2'), '>', 0.999::float8, 'a base model is where training starts');
SELECT throws_ok($$ SELECT llm_train('tuned', 'lines', target => 'y', base => 'line', params => '{"hidden": [4]}') $$,
                 '22023', NULL, 'its network is fixed');
SELECT throws_ok($$ SELECT llm_train('tuned', 'lines', target => 'y', base => 'same') $$, '0A000', 'base model "same" is a mean of 5 networks', 'it is a single one');
SELECT throws_ok($$ SELECT llm_train('tuned', 'labels', target => 'flag', base => 'line') $$, '22023', NULL, 'its target is, too');
SELECT throws_ok($$ SELECT llm_train('tuned', 'SELECT z, few::float8 AS y FROM labels', target => 'y', base => 'line') $$,
                 '42703', NULL, 'its columns are needed');

-- Privileges and row security of the submitter
CREATE ROLE training_reader LOGIN;
CREATE SCHEMA training_reader AUTHORIZATION training_reader;
CREATE TABLE secret_rows AS SELECT i % 3 AS tenant, sin(i) AS x, i % 2 = 0 AS y, i AS hidden FROM generate_series(1, 300) AS i;
ALTER TABLE secret_rows ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON secret_rows USING (tenant = 1);
GRANT SELECT (tenant, x, y) ON secret_rows TO training_reader;
SET ROLE training_reader;
SELECT throws_ok($$ SELECT llm_train('m', 'secret_rows', target => 'y') $$, '42501', NULL, 'a column without privilege is refused');
SELECT llm_train('mine', 'SELECT x, y FROM secret_rows', target => 'y', params => '{"epochs": 1}', wait => true) \g /dev/null
RESET ROLE;
SELECT is((report('training_reader.mine') -> 'data' ->> 'rows_read')::int, 100, 'row security hides rows from a training');
SELECT is((SELECT relowner::regrole::text FROM pg_class WHERE oid = 'training_reader.mine'::regclass), 'training_reader', 'the submitter owns the model');

-- The session's settings hold in the worker
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.dated AS SELECT to_char(date '2024-01-01' + i, 'DD.MM.YYYY') AS day, i % 2 = 0 AS y, sin(i) AS x FROM generate_series(1, 60) AS i;
SET search_path = elsewhere, public;
SET DateStyle = 'German';
SELECT llm_train('dated_model', 'SELECT day::date, y, x FROM dated', target => 'y', params => '{"epochs": 1}', wait => true) \g /dev/null
SELECT is((public.report('elsewhere.dated_model') -> 'data' ->> 'rows_read')::int, 60, 'search_path and DateStyle of the session hold');
RESET search_path;
RESET DateStyle;

-- Limits
CREATE TABLE broad AS SELECT repeat(md5(i::text), 100) AS words, i % 2 = 0 AS y FROM generate_series(1, 2000) AS i;
ALTER ROLE training_reader SET temp_file_limit = '1MB';
GRANT SELECT ON broad TO training_reader;
SET ROLE training_reader;
SELECT llm_train('broad', 'public.broad', target => 'y') AS job \gset
SELECT llm_wait(:job) \g /dev/null
RESET ROLE;
SELECT is((SELECT sqlstate FROM llmapp.jobs WHERE job = :job), '53400', 'temp_file_limit holds');
SELECT is((SELECT status FROM llmapp.jobs WHERE job = :job), 'failed', 'and the job fails');
SELECT is(to_regclass('training_reader.broad'), NULL, 'without leaving a table');
SELECT * FROM finish();
