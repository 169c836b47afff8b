-- Model tables: what the catalogs must say, and what holds for every way to open a model.
\ir ../handmade_model.sql
BEGIN;
SELECT plan(29);

SELECT columns_are('llmapp', 'models', ARRAY['model', 'schema', 'name', 'owner', 'task', 'architecture', 'target', 'live_version',
    'versions', 'size', 'trained_at', 'rows', 'metrics', 'may_predict', 'problem']);
SELECT columns_are('llmapp', 'model_versions', ARRAY['model', 'version', 'live', 'task', 'architecture', 'target', 'trained_at',
    'rows', 'metrics', 'bytes', 'job', 'findings', 'lineage', 'problem']);
SELECT columns_are('llmapp', 'model_settings', ARRAY['model', 'version', 'setting', 'value', 'source']);
SELECT is((SELECT string_agg(attname || ' ' || format_type(atttypid, -1), ', ' ORDER BY attnum) FROM pg_attribute
           WHERE attrelid = (SELECT typrelid FROM pg_type WHERE oid = 'llmapp.model_part'::regtype)),
          'version integer, part integer, kind text, meta jsonb, data bytea', 'the row type of models');
SELECT is((SELECT string_agg(relname || '.' || attname, ', ') FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
           WHERE relname = 'model_part' AND relkind = 'c' AND col_description(attrelid, attnum) IS NULL), NULL,
          'every attribute of it has a comment');
SELECT is((SELECT count(*) FROM unnest(ARRAY['llmapp.models', 'llmapp.model_versions', 'llmapp.model_settings']::regclass[]) AS v
           WHERE obj_description(v, 'pg_class') IS NULL), 0::bigint, 'every view has a comment');
SELECT is((SELECT count(*) FROM pg_proc WHERE proname IN ('llm_promote', 'llm_drop_version', 'llm_describe_model', 'llm_describe_versions')
           AND obj_description(oid, 'pg_proc') IS NOT NULL), 4::bigint, 'every function has one');
SELECT volatility_is('llm_promote', ARRAY['regclass', 'integer'], 'volatile');
SELECT volatility_is('llm_drop_version', ARRAY['regclass', 'integer'], 'volatile');
SELECT is_strict('llm_promote', ARRAY['regclass', 'integer']);
SELECT table_privs_are('llmapp', view, 'public', ARRAY['SELECT'], view || ' can be read by everybody')
FROM unnest(ARRAY['models', 'model_versions', 'model_settings']) AS view;

CREATE TABLE small OF llmapp.model_part (PRIMARY KEY (version, part));
CREATE TABLE large OF llmapp.model_part (PRIMARY KEY (version, part));
ALTER TABLE large ALTER COLUMN data SET STORAGE EXTERNAL;
SELECT handmade_version('small', 1, 2, 0, 1, 2) \g /dev/null
SELECT handmade_version('large', 1, 1000, 300, 1, 0) \g /dev/null
SELECT is((SELECT count(*) FROM llmapp.models WHERE live_version IS NULL AND versions = 1 AND problem IS NULL), 2::bigint,
          'models without a live version are listed');
SELECT lives_ok($$SELECT llm_promote('small', 1), llm_promote('large', 1)$$, 'two models can be promoted in one statement');
SELECT results_eq('SELECT model, live_version, task, architecture, target, rows, metrics, may_predict FROM llmapp.models ORDER BY name',
    $$VALUES ('large'::regclass, 1, 'regression', 'mlp', 'y', 10::bigint, '{"rmse": 0.5}'::jsonb, true),
             ('small', 1, 'regression', 'mlp', 'y', 10, '{"rmse": 0.5}', true)$$, 'models shows what the manifests say');
SELECT is((SELECT trained_at FROM llmapp.models WHERE name = 'small'), '2024-02-29 12:00:00+00'::timestamptz, 'the time of training too');
SELECT cmp_ok((SELECT size FROM llmapp.models WHERE name = 'large'), '>', 1202496::bigint, 'and the size on disk');
SELECT is((SELECT bytes FROM llmapp.model_versions WHERE model = 'large'::regclass), 1202496::bigint, 'and that of the weights');

-- Every row of a scan over many models, in leader and workers, gives what its own model says.
CREATE TABLE inputs AS SELECT i, ARRAY[i % 10, 1]::real[] AS x FROM generate_series(1, 20000) AS i;
SELECT is((SELECT count(*) FROM inputs WHERE llm_predict('small', x)::float8 <> i % 10 + 3), 0::bigint, 'each row is predicted');
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL max_parallel_workers_per_gather = 2;
ANALYZE inputs;
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || query; END $$;
SELECT alike((SELECT string_agg(line, ' ') FROM plan_of($$SELECT sum(llm_predict('small', x)::float8) FROM inputs$$) AS line),
             '%Parallel Seq Scan%', 'workers predict');
SELECT is((SELECT sum(llm_predict('small', x)::float8) FROM inputs), 150000::float8, 'the same, with a model of this transaction');
SELECT is((SELECT sum(llm_predict(CASE WHEN i % 2 = 0 THEN 'small' ELSE 'large' END::regclass,
                                  CASE WHEN i % 2 = 0 THEN x ELSE array_fill(1::real, ARRAY[1000]) END)::float8)
           FROM inputs WHERE i <= 100), 50 * 300000 + 50 * 7::float8, 'a model that changes from row to row');

-- More models than stay open.
DO $$ BEGIN
    FOR i IN 1..40 LOOP
        EXECUTE format('CREATE TABLE many_%s OF llmapp.model_part (PRIMARY KEY (version, part))', i);
        PERFORM handmade_version(('many_' || i)::regclass, 1, i, 0, 1, i % 4), llm_promote(('many_' || i)::regclass, 1);
    END LOOP;
END $$;
SELECT is((SELECT count(*) FROM generate_series(1, 40) AS i, generate_series(1, 2)
           WHERE llm_predict(('many_' || i)::regclass, array_fill(1::real, ARRAY[i]))::float8 <> i + i % 4), 0::bigint,
          'many models in one statement');
SELECT cmp_ok((SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'llmapp open version'), '<=', 16::bigint,
              'few of which stay open');

SELECT throws_ok($$SELECT llm_drop_version('small', 1)$$, '55006', NULL, 'the live version cannot be dropped');
SELECT throws_ok('DROP EXTENSION llmapp', '2BP01', NULL, 'nor the extension under its models');
SELECT lives_ok('ALTER TABLE small RENAME TO renamed', 'a model is renamed as a table');
SELECT is(llm_predict('renamed', '{1,2}'::real[]), '5', 'and predicts under its new name');
SELECT finish();
ROLLBACK;
