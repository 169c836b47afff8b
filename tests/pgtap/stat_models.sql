-- llmapp.stat_models: what is counted, who sees it, who resets it.
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
CREATE TABLE sample AS SELECT i AS id, sin(i) AS x, cos(i * 1.7) AS y, sin(i) > 0 AS above FROM generate_series(1, 3000) AS i;
ALTER TABLE sample ADD PRIMARY KEY (id);
SELECT llm_train('m_a', 'SELECT x, y, above FROM sample', target => 'above', params => '{"epochs": 2}', wait => true) \g /dev/null
SELECT llm_train('m_b', 'SELECT x, y, above FROM sample', target => 'above', params => '{"epochs": 2}', wait => true) \g /dev/null
CREATE ROLE stat_owner;
CREATE ROLE stat_reader;
ALTER TABLE m_b OWNER TO stat_owner;
CREATE TABLE seen (step text, model text, calls bigint, rows bigint, sound boolean);
CREATE PROCEDURE look(step text) LANGUAGE sql AS
    $$ INSERT INTO seen SELECT step, model::text, calls, rows, total_time > 0 AND mean_time = total_time / rows AND since <= clock_timestamp() FROM llmapp.stat_models WHERE rows > 0 $$;

SELECT count(llm_predict('m_a', s)) FROM sample s \g /dev/null
CALL look('rows');
SELECT llmapp.stat_models_reset();
SELECT llm_predict('m_a', s), llm_probability('m_b', s) FROM sample s WHERE id = 1 \g /dev/null
SELECT llm_predict('m_a', s) FROM sample s WHERE id = 2 \g /dev/null
CALL look('single');
SELECT llmapp.stat_models_reset();
SELECT llm_predict_over('m_a', s) OVER () FROM sample s \g /dev/null
SELECT llm_probabilities('m_b', s) FROM sample s LIMIT 10 \g /dev/null
CALL look('others');
SELECT llmapp.stat_models_reset();
SELECT count(llm_predict(CASE WHEN id % 2 = 0 THEN 'm_a'::regclass ELSE 'm_b' END, s)) FROM sample s WHERE id <= 10 \g /dev/null
CALL look('alternating');
SELECT llmapp.stat_models_reset();
SELECT count(llm_predict('m_a', s)) FROM sample s, generate_series(1, 50) \g /dev/null
BEGIN;
SELECT count(llm_predict('m_b', s)) FROM sample s \g /dev/null
ROLLBACK;
CALL look('many and rolled back');
SELECT llmapp.stat_models_reset();
SELECT llm_score('m_a', 'sample', 'scores', wait => true) \g /dev/null
CALL look('scored');
SELECT llmapp.stat_models_reset();
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; ALTER TABLE sample SET (parallel_workers = 2);
SELECT count(llm_predict('m_a', s)) FROM sample s \g /dev/null
RESET parallel_setup_cost;
CALL look('parallel');

BEGIN;
SELECT no_plan();
SELECT columns_are('llmapp', 'stat_models', ARRAY['model', 'calls', 'rows', 'served_rows', 'total_time', 'mean_time', 'since']);
SELECT table_privs_are('llmapp', 'stat_models', 'public', ARRAY['SELECT'], 'everybody may look');
SELECT is((SELECT reloptions::text FROM pg_class WHERE oid = 'llmapp.stat_models'::regclass), '{security_barrier=true}', 'behind a security barrier');
SELECT is((SELECT bool_and(sound) FROM seen), true, 'times are positive and fit');
SELECT results_eq($$SELECT model, calls, rows FROM seen WHERE step = 'rows'$$, $$VALUES ('m_a', 1::bigint, 3000::bigint)$$, 'rows of one statement');
SELECT results_eq($$SELECT model, calls, rows FROM seen WHERE step = 'single' ORDER BY 1$$, $$VALUES ('m_a', 2::bigint, 2::bigint), ('m_b', 1, 1)$$, 'single rows, after a reset');
SELECT results_eq($$SELECT model, calls, rows FROM seen WHERE step = 'others' ORDER BY 1$$, $$VALUES ('m_a', 1::bigint, 3000::bigint), ('m_b', 1, 5)$$, 'window function and probabilities');
SELECT results_eq($$SELECT model, calls, rows FROM seen WHERE step = 'alternating' ORDER BY 1$$, $$VALUES ('m_a', 5::bigint, 5::bigint), ('m_b', 5, 5)$$, 'a call that goes from model to model begins anew each time');
SELECT results_eq($$SELECT model, calls, rows FROM seen WHERE step = 'many and rolled back' ORDER BY 1$$, $$VALUES ('m_a', 1::bigint, 150000::bigint), ('m_b', 1, 3000)$$, 'many rows, and rows of a transaction that was rolled back');
SELECT results_eq($$SELECT model, calls, rows FROM seen WHERE step = 'scored'$$, $$VALUES ('m_a', 1::bigint, 3000::bigint)$$, 'rows of a job');
SELECT results_eq($$SELECT model, rows FROM seen WHERE step = 'parallel'$$, $$VALUES ('m_a', 3000::bigint)$$, 'rows of parallel workers');

SELECT llmapp.stat_models_reset();
SELECT is((SELECT count(*) FROM llmapp.stat_models WHERE rows > 0 OR mean_time IS NOT NULL), 0::bigint, 'after a reset nothing is left');
SET LOCAL ROLE stat_reader;
SELECT is_empty('SELECT * FROM llmapp.stat_models', 'a stranger sees nothing');
SELECT is_empty('SELECT * FROM llmapp.model_statistics()', 'nor by the function');
RESET ROLE;
GRANT stat_owner TO stat_reader;
SET LOCAL ROLE stat_reader;
SELECT results_eq('SELECT model::text FROM llmapp.stat_models', ARRAY['m_b'], 'a member of the owner sees his models');
SELECT lives_ok('SELECT llmapp.stat_models_reset()', 'and may reset them');
RESET ROLE;
SELECT cmp_ok((SELECT since FROM llmapp.stat_models WHERE model = 'm_b'::regclass), '>', (SELECT since FROM llmapp.stat_models WHERE model = 'm_a'::regclass), 'but no others');
DROP TABLE m_a;
SELECT results_eq('SELECT model::text FROM llmapp.stat_models', ARRAY['m_b'], 'a dropped model is gone');

-- more models than places: the one used longest ago goes
CREATE FUNCTION copy_model(name text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('CREATE TABLE %I OF llmapp.model_part (PRIMARY KEY (version, part))', name);
    EXECUTE format('INSERT INTO %I SELECT * FROM m_b', name); END $$;
SELECT count(copy_model('copy_' || i)) FROM generate_series(1, 140) AS i \g /dev/null
SELECT count(llm_predict(('copy_' || i)::regclass, '{"x": 1, "y": 1}'::jsonb)) FROM generate_series(1, 140) AS i \g /dev/null
SELECT lives_ok('SELECT * FROM llmapp.stat_models', 'more models than places');
SELECT * FROM finish();
ROLLBACK;
