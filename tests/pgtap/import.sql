-- Models that go out as files and come in again, with every kind of input that training makes.
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(22);

SELECT volatility_is('llm_import', ARRAY['text', 'bytea', 'jsonb'], 'volatile');
SELECT volatility_is('llm_export', ARRAY['regclass'], 'stable');
SELECT is_strict('llm_import', ARRAY['text', 'bytea', 'jsonb']);
SELECT is_strict('llm_export', ARRAY['regclass']);
SELECT is((SELECT string_agg(proname || ' ' || proparallel::text, ' ' ORDER BY proname, proparallel) FROM pg_proc
           WHERE proname IN ('llm_import', 'llm_export') AND obj_description(oid, 'pg_proc') IS NOT NULL),
          'llm_export s llm_export u llm_import u llm_import u', 'all have a comment, and only export may run in parallel workers');

CREATE TABLE rows AS
    SELECT i, sin(i) AS x, CASE WHEN i % 9 > 0 THEN cos(i * 1.7) END AS y, ARRAY[sin(i * 3), i % 5]::real[] AS v,
           CASE WHEN i % 7 > 0 THEN 'shop ' || i % 60 END AS shop, 'red green blue '::text || i % 3 || ' größer' AS note,
           '2024-01-01'::timestamptz + i * interval '7 hours' AS at, i % 4 = 0 AS flag, (i % 3)::text AS three, sin(i) * 100 AS number
    FROM generate_series(1, 400) AS i;
SELECT llm_train('three', 'SELECT x, y, v, shop, note, at, flag, three FROM rows', target => 'three',
                 params => '{"epochs": 3, "hidden": [16, 16], "residual": true, "layer_norm": true, "one_hot_max": 10}', wait => true) \g /dev/null
SELECT llm_train('two', 'SELECT x, y, shop, flag FROM rows', target => 'flag', params => '{"epochs": 3, "hidden": [8]}', wait => true) \g /dev/null
SELECT llm_train('number', 'SELECT x, y, note, number FROM rows', target => 'number', params => '{"epochs": 3, "hidden": []}', wait => true) \g /dev/null
SELECT llm_train('twice', 'SELECT x, y, number, y + 1 AS other FROM rows WHERE y IS NOT NULL', target => 'number, other', task => 'regression',
                 params => '{"epochs": 2, "hidden": [4], "folds": 0}', wait => true) \g /dev/null
SELECT llm_import(m || '_copy', llm_export(m::regclass)) FROM unnest('{three,two,number,twice}'::text[]) AS m \g /dev/null

SELECT is((SELECT count(*) FROM rows AS r WHERE llm_predict('three', r) IS DISTINCT FROM llm_predict('three_copy', r)), 0::bigint,
          'three classes: the copy predicts the same');
SELECT is((SELECT count(*) FROM rows AS r WHERE llm_probability('three', r, '2') <> llm_probability('three_copy', r, '2')), 0::bigint,
          'with the same probabilities');
SELECT is((SELECT count(*) FROM rows AS r WHERE llm_probability('two', r) <> llm_probability('two_copy', r)), 0::bigint, 'two classes');
SELECT is((SELECT count(*) FROM rows AS r WHERE llm_predict('number', r) <> llm_predict('number_copy', r)), 0::bigint, 'numbers');
SELECT is((SELECT count(*) FROM rows AS r WHERE y IS NOT NULL AND llm_predict('twice', r) <> llm_predict('twice_copy', r)), 0::bigint,
          'two targets');
CREATE FUNCTION manifest(model regclass) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE result jsonb;
BEGIN EXECUTE format('SELECT meta FROM %s WHERE kind = ''manifest'' AND version = 1', model) INTO result; RETURN result; END $$;
SELECT is(manifest((m || '_copy')::regclass) - 'lineage'::text, manifest(m::regclass) - 'lineage'::text, m || ': manifests are equal, checksum and metrics included')
FROM unnest('{three,two,number,twice}'::text[]) AS m;
SELECT is((manifest('three_copy') -> 'lineage') - 'imported', (manifest('three') -> 'lineage') - 'job',
          'the lineage, too, but for the number of the job');
SELECT is((SELECT count(*) FROM llm_evaluate('three') AS a JOIN llm_evaluate('three_copy') AS b USING (metric, value)),
          (SELECT count(*) FROM llm_evaluate('three')), 'what was measured at training comes along');
SELECT is((SELECT data FROM three WHERE part = 1 AND version = 1), (SELECT data FROM three_copy WHERE part = 1), 'weights are equal byte by byte');
SELECT is(llm_export('three_copy') = llm_export('three_copy'), true, 'exporting twice gives the same bytes');

-- names and shapes as PyTorch has them, in the header of the file
CREATE FUNCTION header(file bytea) RETURNS jsonb LANGUAGE sql AS $$
    SELECT convert_from(substr(file, 9, get_byte(file, 0) + 256 * get_byte(file, 1) + 65536 * get_byte(file, 2)), 'UTF8')::jsonb $$;
SELECT is((SELECT string_agg(key || ' ' || (value ->> 'shape'), ', ' ORDER BY key COLLATE "C") FROM jsonb_each(header(llm_export('twice')) - '__metadata__'::text)),
          'hidden.0.bias [4], hidden.0.weight [4, 2], output.bias [2], output.weight [2, 4]', 'tensors of the file');
SELECT is(header(llm_export('twice')) -> '__metadata__' ->> 'format', 'pt', 'what PyTorch''s readers ask for');
SELECT is((header(llm_export('two')) -> '__metadata__' ->> 'llmapp')::jsonb, manifest('two'), 'the manifest is in the metadata');

-- the live version goes out, further imports are further versions
SELECT llm_import('two_copy', llm_export('two')) \g /dev/null
SELECT llm_promote('two_copy', 1);
SELECT is((SELECT live_version || '/' || versions FROM llmapp.models WHERE name = 'two_copy'), '1/2', 'a second import is a second version');
SELECT * FROM finish();

