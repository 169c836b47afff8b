-- llm_estimate(): what it says of a training before is what the training then is.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(38);

CREATE FUNCTION temporary_files() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM pg_ls_tmpdir() WHERE name LIKE 'pgsql_tmp' || pg_backend_pid() || '%' $$;
CREATE FUNCTION setting(model regclass, wanted text) RETURNS text LANGUAGE sql AS
    $$ SELECT value #>> '{}' FROM llmapp.model_settings AS s WHERE s.model = $1 AND s.setting = wanted $$;
CREATE FUNCTION within(actual float8, expected float8, share float8) RETURNS boolean LANGUAGE sql AS $$ SELECT abs(actual - expected) <= share * expected $$;

CREATE TABLE points AS
    SELECT i AS id, sin(i)::float8 AS x, cos(i * 1.7)::float8 AS y, 'c' || i % 7 AS c, sin(i) + cos(i * 1.7) > 0 AS above FROM generate_series(1, 3000) AS i;
CREATE TABLE tales AS SELECT 'the old fox sees ' || md5(i::text) || ' and runs' AS body FROM generate_series(1, 400) AS i;
ANALYZE;

-- All rows are read where they are few: then it is exact.
CREATE TABLE before AS SELECT * FROM llm_estimate('SELECT x, y, c, above FROM points', 'above', params => '{"epochs": 3, "early_stopping": 0}');
SELECT llm_train('plain', 'SELECT x, y, c, above FROM points', 'above', params => '{"epochs": 3, "early_stopping": 0}', wait => true) \g /dev/null
SELECT is(rows, 3000::bigint, 'rows of a small source are counted') FROM before;
SELECT is(weight_bytes, (SELECT bytes FROM llmapp.model_versions WHERE model = 'plain'::regclass), 'the weights have the size of those that are published') FROM before;
SELECT is(steps, (SELECT max(step) FROM llmapp.job_metrics), 'the steps are those that were taken') FROM before;
SELECT is(epochs, 3::bigint, 'so are the epochs') FROM before;
SELECT is(tokens, NULL, 'rows have no tokens') FROM before;
SELECT is(networks, 1::float8, 'one network') FROM before;
SELECT ok(parameters * 4 <= weight_bytes AND parameters * 5 > weight_bytes, 'parameters take four bytes') FROM before;
SELECT ok(within(flops, 3 * flops_per_epoch, 1e-9), 'arithmetic of all epochs') FROM before;
SELECT cmp_ok(memory_bytes, '>', 5 * weight_bytes, 'a training needs more memory than its weights') FROM before;
SELECT ok(seconds > 0 AND seconds < 60, 'and some seconds') FROM before;

-- The limit of memory is where it says.
SELECT memory_bytes / 1024 - 10 AS less, memory_bytes / 1024 + 10 AS more FROM llm_estimate('SELECT x, y, above FROM points', 'above', params => '{"hidden": [1024, 1024], "batch_size": 256, "micro_batch": 256, "epochs": 1}') \gset
SET llmapp.train_memory = :less;
SELECT llm_train('large', 'SELECT x, y, above FROM points', 'above', params => '{"hidden": [1024, 1024], "batch_size": 256, "micro_batch": 256, "epochs": 1}') AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is(sqlstate, '53200', 'less memory is refused') FROM llmapp.jobs WHERE job = :job;
SET llmapp.train_memory = :more;
SELECT llm_train('large', 'SELECT x, y, above FROM points', 'above', params => '{"hidden": [1024, 1024], "batch_size": 256, "micro_batch": 256, "epochs": 1, "max_seconds": 0.1}') AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is(status, 'succeeded', 'as much is enough') FROM llmapp.jobs WHERE job = :job;
RESET llmapp.train_memory;

-- Texts.
CREATE TABLE text_before AS SELECT * FROM llm_estimate('tales', task => 'generation', params => '{"epochs": 1, "layers": 1, "vocab_size": 300}');
SELECT llm_train('tale', 'tales', task => 'generation', params => '{"epochs": 1, "layers": 1, "vocab_size": 300}', wait => true) \g /dev/null
SELECT is(rows, 400::bigint, 'texts are counted') FROM text_before;
SELECT is(tokens, (SELECT sum(cardinality(llm_tokenize('tale', body)) + 1) FROM tales) - (SELECT (metrics ->> 'n')::bigint FROM llmapp.models WHERE name = 'tale') - 1, 'so are tokens to learn from') FROM text_before;
SELECT is((SELECT ceil(tokens / setting('tale', 'context')::float8 / setting('tale', 'batch_size')::float8) FROM text_before), (SELECT steps::float8 FROM text_before), 'steps are batches of windows');
SELECT cmp_ok(weight_bytes, '<=', (SELECT bytes FROM llmapp.model_versions WHERE model = 'tale'::regclass), 'a version holds weights and a tokenizer') FROM text_before;
SELECT cmp_ok(flops, '>', (6 * tokens * parameters * 0.9)::float8, 'six operations for each parameter and token') FROM text_before;
SELECT is(parameters, (SELECT parameters FROM llm_estimate('SELECT body FROM tales LIMIT 100', base => 'tale')), 'a base model is as large') FROM text_before;

CREATE TABLE notes AS SELECT i % 2 = 0 AS even, sin(i) AS x, 'a note with number ' || i || CASE i % 2 WHEN 0 THEN ' of the even' ELSE ' of the odd' END AS note FROM generate_series(1, 300) AS i;
CREATE TABLE note_before AS SELECT * FROM llm_estimate('notes', 'even', 'classification', 'gpt', params => '{"steps": 9, "layers": 1}');
SELECT llm_train('note', 'notes', 'even', 'classification', 'gpt', params => '{"steps": 9, "layers": 1}', wait => true) \g /dev/null
SELECT is(rows, 300::bigint, 'rows with a text are rows') FROM note_before;
SELECT is(tokens, NULL, 'whose tokens are input') FROM note_before;
SELECT ok(within(weight_bytes, (SELECT bytes FROM llmapp.model_versions WHERE model = 'note'::regclass), 0.3), 'of a transformer') FROM note_before;

-- Many rows: of these a sample.
CREATE TABLE many AS SELECT i AS id, i % 5 > 2 AS above, sin(i)::float8 AS x, 'the fox number ' || i % 100 || ' runs' AS body FROM generate_series(1, 100000) AS i ORDER BY 2;
ANALYZE many;
SELECT ok(within(rows, 100000, 0.05), 'rows are expected as the planner expects them') FROM llm_estimate('SELECT x, above FROM many', 'above');
SELECT ok(within(m.tokens, 20 * s.tokens, 0.1), 'tokens by those of the sample')
    FROM llm_estimate('many', 'body', 'generation', params => '{"vocab_size": 300}') AS m, llm_estimate('SELECT body FROM many LIMIT 5000', 'body', 'generation', params => '{"vocab_size": 300}') AS s;
CREATE TABLE novels AS SELECT (SELECT string_agg(md5((i * 1000 + k)::text), ' ') FROM generate_series(1, 3000) AS k) AS body FROM generate_series(1, 200) AS i;
ANALYZE novels;
SELECT ok(within(rows, 200, 0.05) AND within(tokens, (SELECT sum(length(body)) FROM novels), 0.2), 'of long texts, too')
    FROM llm_estimate('novels', task => 'generation', params => '{"tokenizer": "characters", "validation": 0.01}');
SELECT is((SELECT steps FROM llm_estimate('SELECT x, above FROM many', 'above', params => '{"steps": 77}')), 77::bigint, 'steps may be given');
SELECT ok(within(seconds, 0.001, 1e-9), 'and seconds') FROM llm_estimate('SELECT x, above FROM many', 'above', params => '{"max_seconds": 0.001}');

-- Several networks.
SELECT is(networks, 5::float8, 'folds are five networks') FROM llm_estimate('SELECT x, y, above FROM points LIMIT 500', 'above');
SELECT is(networks, 2.25::float8, 'a search is few whole ones') FROM llm_estimate('SELECT x, y, above FROM points', 'above', params => '{"learning_rate": {"min": 0.001, "max": 0.01}, "trials": 8}');

-- Errors are those of llm_train, and nothing stays behind.
SELECT throws_ok($$SELECT llm_estimate('points', 'nosuch')$$, '42703', 'the source has no column "nosuch"', 'no such column');
SELECT throws_ok($$SELECT llm_estimate('nosuch', 'above')$$, '42P01', NULL, 'no such source');
SELECT throws_ok($$SELECT llm_estimate('points', 'above', params => '{"epoch": 1}')$$, '22023', NULL, 'no such setting');
SELECT throws_ok($$SELECT llm_estimate('DELETE FROM points', 'above')$$, '22023', NULL, 'a source only reads');
SELECT throws_ok($$SELECT llm_estimate('SELECT 1 / (id - 5) AS x, above FROM points', 'above')$$, '22012', NULL, 'an error in the source');
SELECT throws_ok($$SELECT llm_estimate('points', 'id', 'generation')$$, '42804', NULL, 'a target that is no text');
SELECT throws_ok($$SELECT llm_estimate(NULL)$$, '22004', NULL, 'no source');
SELECT is(temporary_files(), 0::bigint, 'no temporary file is left');
CREATE ROLE estimate_stranger;
SET ROLE estimate_stranger;
SELECT throws_ok($$SELECT llm_estimate('points', 'above')$$, '42501', NULL, 'rows that one may not read');
RESET ROLE;
SELECT lives_ok($$SELECT p.seconds FROM (VALUES ('{"hidden": [8]}'::jsonb), ('{"hidden": [64]}')) AS t (params), llm_estimate('points', 'above', params => t.params) AS p$$, 'settings are compared in one query');
SELECT * FROM finish();
