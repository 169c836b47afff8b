-- Functions of prediction: what the catalogs must say, and properties that hold for every row.
CREATE TABLE sample AS
    SELECT i AS id, sin(i)::float8 AS x, cos(i * 1.7)::real AS y, (i % 5)::text AS kind,
           CASE WHEN sin(i) + (i % 5) * 0.3 > 0.9 THEN 'c' WHEN cos(i * 1.7) > 0 THEN 'b' ELSE 'a' END AS label,
           10 * sin(i) + 5 * cos(i * 1.7) AS amount, -cos(i * 1.7) * 3 AS other
    FROM generate_series(1, 500) AS i;
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT llm_train('sample_label', 'SELECT x, y, kind, label FROM sample', target => 'label', params => '{"epochs": 20, "folds": 0}', wait => true) \g /dev/null
SELECT llm_train('sample_amount', 'SELECT x, y, amount FROM sample', target => 'amount', task => 'regression', params => '{"epochs": 20}', wait => true) \g /dev/null
SELECT llm_train('sample_two', 'SELECT x, y, amount, other FROM sample', target => 'amount, other', task => 'regression', params => '{"epochs": 20}', wait => true) \g /dev/null

SELECT llm_train('sample_span', 'SELECT x, y, amount * interval ''1 hour'' AS span FROM sample', target => 'span', params => '{"epochs": 20}', wait => true) \g /dev/null

BEGIN;
SELECT plan(38);

SELECT volatility_is('llm_predict', ARRAY['regclass', '"any"'], 'stable');
SELECT volatility_is('llm_predict', ARRAY['regclass', '"any"', 'anyelement'], 'stable');
SELECT volatility_is('llm_probability', ARRAY['regclass', '"any"', 'text'], 'stable');
SELECT is_strict('llm_predict', ARRAY['regclass', '"any"']);
SELECT isnt_strict('llm_predict', ARRAY['regclass', '"any"', 'anyelement']);
SELECT is((SELECT string_agg(DISTINCT proparallel::text, '') FROM pg_proc WHERE proname IN ('llm_predict', 'llm_predict_over', 'llm_probability', 'llm_probabilities')), 's',
          'prediction is parallel safe');
SELECT is((SELECT count(*) FROM pg_proc WHERE proname ~ '^llm_(predict|probabilit|evaluate|confusion|roc|selftest)' AND obj_description(oid, 'pg_proc') IS NULL),
          0::bigint, 'every function has a comment');
SELECT is((SELECT count(*) FROM pg_proc WHERE proname ~ '^llm_(predict|probab)' AND proname NOT IN ('llm_predict_support', 'llm_predict_over') AND prosupport <> 'llm_predict_support'::regproc),
          0::bigint, 'the planner asks the support function');
SELECT is((SELECT array_agg(proargnames[1:2]::text ORDER BY oid) FROM pg_proc WHERE proname IN ('llm_predict', 'llm_probability')),
          ARRAY['{model,input}', '{model,input}', '{model,input}'], 'arguments have the names of the documentation');

-- one row at a time, as JSON, as an array, in another order of columns: always the same
SELECT is((SELECT count(*) FROM sample s WHERE llm_predict('sample_label', s) IS DISTINCT FROM llm_predict('sample_label', to_jsonb(s))), 0::bigint,
          'a row and its JSON object are predicted alike');
SELECT is((SELECT count(*) FROM sample s, LATERAL (SELECT s.kind, 'more' AS more, s.y, s.x) AS r
            WHERE llm_predict('sample_label', s) <> llm_predict('sample_label', r)), 0::bigint, 'columns bind by name, not by position');
SELECT cmp_ok((SELECT max(abs(llm_predict('sample_amount', s, NULL::float8) - llm_predict('sample_amount', ARRAY[s.x, s.y]::real[], NULL::float8))) FROM sample s),
              '<', 1e-3::float8, 'an array holds the columns in order');
SELECT is((SELECT count(*) FROM sample s WHERE llm_predict('sample_amount', s)::float8 <> llm_predict('sample_amount', s, NULL::float8)), 0::bigint,
          'the text of a number reads back equal');
SELECT is((SELECT count(*) FROM sample s WHERE llm_predict('sample_amount', s)::numeric <> llm_predict('sample_amount', s, NULL::numeric)
                                            AND abs(llm_predict('sample_amount', s)::numeric - llm_predict('sample_amount', s, NULL::numeric)) > 1e-12),
          0::bigint, 'and so does numeric');

SELECT cmp_ok((SELECT max(abs(extract(epoch FROM llm_predict('sample_span', s)::interval) - llm_predict('sample_span', s, NULL::numeric))) FROM sample s),
              '<', 1e-5, 'seconds of an interval target are an interval');

-- many rows at once
SELECT is((SELECT count(*) FROM (SELECT llm_predict('sample_label', s) AS one, llm_predict_over('sample_label', s) OVER () AS many FROM sample s) AS p
            WHERE one IS DISTINCT FROM many), 0::bigint, 'the window function predicts the same labels');
SELECT is((SELECT count(*) FROM (SELECT llm_predict('sample_label', s) AS one, llm_predict_over('sample_label', s) OVER (PARTITION BY kind ORDER BY x) AS many
                                 FROM sample s) AS p WHERE one IS DISTINCT FROM many), 0::bigint, 'in any partition and order');
SELECT is((SELECT string_agg((many IS NULL)::int::text, '' ORDER BY g) FROM (SELECT g, llm_predict_over('sample_label', CASE WHEN g % 3 = 0 THEN NULL ELSE s END) OVER (ORDER BY g) AS many
             FROM generate_series(1, 9) AS g JOIN sample s ON s.id = g) AS p), '001001001', 'NULL gives NULL');
SELECT is((SELECT count(*) FROM (SELECT llm_predict_over('sample_label', to_jsonb(s) || jsonb_build_object('kind', inner_label)) OVER () AS many, s
             FROM (SELECT s, llm_predict_over('sample_label', s) OVER () AS inner_label FROM sample s) AS i) AS o WHERE many IS NULL), 0::bigint,
          'calls for one model may be nested');
SELECT throws_ok($$SELECT llm_predict_over(oid, s) OVER () FROM sample s, pg_class WHERE relname LIKE 'sample\_%'$$, '0A000', NULL, 'one model for all rows');

-- probabilities
SELECT cmp_ok((SELECT max(abs(total - 1)) FROM (SELECT sum(probability) AS total FROM sample s, llm_probabilities('sample_label', s) GROUP BY id) AS t),
              '<', 1e-5::float8, 'probabilities add up to one');
SELECT is((SELECT count(*) FROM sample s, LATERAL (SELECT label FROM llm_probabilities('sample_label', s) LIMIT 1) AS p
            WHERE p.label <> llm_predict('sample_label', s)), 0::bigint, 'the predicted label is the most probable one');
SELECT is((SELECT count(*) FROM sample s, LATERAL (SELECT array_agg(probability) AS given FROM llm_probabilities('sample_label', s)) AS p
            WHERE given <> (SELECT array_agg(g ORDER BY g DESC) FROM unnest(given) AS g)), 0::bigint, 'labels come in order of probability');
SELECT is((SELECT count(*) FROM sample s, llm_probabilities('sample_label', s) AS p
            WHERE p.probability <> llm_probability('sample_label', s, p.label)), 0::bigint, 'llm_probability gives the same numbers');
SELECT is((SELECT count(*) FROM sample s WHERE llm_probability('sample_label', s) <>
            (SELECT max(probability) FROM llm_probabilities('sample_label', s))), 0::bigint, 'without a label it is that of the predicted one');

-- several numbers
SELECT is((SELECT count(*) FROM sample s WHERE jsonb_array_length(llm_predict('sample_two', s)::jsonb) <> 2), 0::bigint, 'two numbers are a JSON array of two');
SELECT cmp_ok((SELECT max(abs((llm_predict('sample_two', s)::jsonb ->> 1)::float8 - (llm_predict('sample_two', s, NULL::float8[]))[2])) FROM sample s),
              '<', 1e-12::float8, 'and an array of two');
SELECT is((SELECT count(*) FROM sample s WHERE llm_predict('sample_two', s, NULL::real[]) <> llm_predict('sample_two', s, NULL::tensor)::real[]), 0::bigint,
          'and a tensor');
SELECT is((SELECT count(*) FROM llm_evaluate('sample_two', 'sample') WHERE metric LIKE '%\_other'), 3::bigint, 'each number has metrics of its own');

-- the planner knows a model that was used
CREATE FUNCTION cost_of(query text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE plan json; BEGIN EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan; RETURN plan -> 0 -> 'Plan' ->> 'Total Cost'; END $$;
CREATE FUNCTION rows_of(query text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE plan json; BEGIN EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan; RETURN plan -> 0 -> 'Plan' ->> 'Plan Rows'; END $$;
SELECT cmp_ok(cost_of('SELECT llm_predict(''sample_label'', s) FROM sample s'), '>',
              10 * cost_of('SELECT s FROM sample s'), 'a prediction costs more than reading a row');
SELECT cmp_ok(cost_of('SELECT llm_predict(''sample_label'', s) FROM sample s'), '<',
              cost_of('SELECT llm_predict(oid, s) FROM sample s, pg_class WHERE relname = ''sample_label'''), 'a known small model less than an unknown one');
SELECT is(rows_of('SELECT * FROM llm_probabilities(''sample_label'', ''{}''::jsonb)'), 3::float8, 'as many rows as labels');
SELECT lives_ok($$EXPLAIN SELECT llm_predict(0::regclass, s), llm_predict(NULL, s), llm_probability('sample', s) FROM sample s$$,
                'planning a call with a bad model raises nothing');

-- a large number of rows, and rows without end
SELECT is((SELECT count(*) FROM sample s, generate_series(1, 40) WHERE llm_predict('sample_label', s) IN ('a', 'b', 'c')), 20000::bigint, 'twenty thousand rows');
SELECT is((SELECT count(llm_predict('sample_label', (SELECT s FROM sample s WHERE id = g))) FROM generate_series(1, 100) AS g), 100::bigint, 'rows from a subquery');
CREATE FUNCTION cancelled(query text) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN EXECUTE query; RETURN false; EXCEPTION WHEN query_canceled THEN RETURN true; END $$;
SET LOCAL statement_timeout = '200ms';
SELECT ok(cancelled($$SELECT count(llm_predict('sample_label', s)) FROM sample s, generate_series(1, 100000000)$$), 'a prediction can be cancelled');
SELECT ok(cancelled($$SELECT * FROM llm_evaluate('sample_label', 'SELECT s.* FROM sample s, generate_series(1, 100000000)')$$), 'an evaluation can be cancelled');
SET LOCAL statement_timeout = 0;
SELECT is((SELECT count(*) FROM llm_evaluate('sample_label')), 8::bigint, 'and used again');
SELECT * FROM finish();
ROLLBACK;
