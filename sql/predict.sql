-- Prediction and evaluation in SQL: forms of input and result, errors, plans, privileges.
SET llmapp.progress_notices = off;
SET client_min_messages = warning;

-- Labels and numbers far from every boundary, so that the output is the same on all machines.
CREATE TABLE points AS
    SELECT i AS id, (CASE WHEN i % 2 = 0 THEN 1 ELSE -1 END * (1 + abs(sin(i))))::float8 AS x,
           CASE i % 3 WHEN 0 THEN 'red' WHEN 1 THEN 'blue' END AS colour,
           i % 2 = 0 AS above,
           CASE i % 4 WHEN 0 THEN 'high' WHEN 2 THEN 'high' WHEN 1 THEN 'low' ELSE 'middle' END AS level,
           CASE i % 4 WHEN 1 THEN 0 ELSE 1 END AS y,
           (CASE WHEN i % 2 = 0 THEN 100 ELSE -100 END) AS amount
    FROM generate_series(1, 400) AS i;
SELECT llm_train('above', 'SELECT x, colour, above FROM points', target => 'above', params => '{"epochs": 30}', wait => true) > 0 AS trained;
SELECT llm_train('level', 'SELECT x, y, level FROM points', target => 'level', params => '{"epochs": 60}', wait => true) > 0 AS trained;
SELECT llm_train('amount', 'SELECT x, amount FROM points', target => 'amount', task => 'regression', params => '{"epochs": 60}', wait => true) > 0 AS trained;

-- forms of input
SELECT id, llm_predict('above', p) FROM points p WHERE id <= 4 ORDER BY id;
SELECT llm_predict('above', row_to_json(p)), llm_predict('above', to_jsonb(p)) FROM points p WHERE id = 2;
SELECT llm_predict('above', '{"x": 1.5, "colour": "red"}');
SELECT llm_predict('above', '{"x": 1.5, "colour": null}'::jsonb);
SELECT llm_predict('above', '{"x": -1.5, "colour": "never seen"}'::text);
SELECT llm_predict(input => '{"x": -1.5, "colour": "red", "more": [1, 2]}', model => 'above');
SELECT llm_predict('above', r) FROM (SELECT 'red'::text AS colour, 2 AS x) AS r;
SELECT llm_predict('level', ARRAY[1.5, 1]::real[]), llm_predict('level', ARRAY[-1.5, 0]), llm_predict('level', '[-1.5, 1]'::tensor);
PREPARE one(jsonb) AS SELECT llm_predict('above', $1);
EXECUTE one('{"x": 2, "colour": "red"}');
EXECUTE one('{"x": -2, "colour": "red"}');
DEALLOCATE one;

-- NULL in, NULL out
SELECT llm_predict('above', NULL) IS NULL AS unknown, llm_predict('above', NULL::points) IS NULL AS row,
       llm_predict(NULL, p) IS NULL AS model, llm_predict('above', NULL::jsonb, NULL::boolean) IS NULL AS typed,
       llm_probability('above', NULL) IS NULL AS probability FROM points p WHERE id = 1;
SELECT count(*) FROM llm_probabilities('above', NULL::jsonb);
SELECT count(*) FROM llm_evaluate(NULL);

-- forms of result
SELECT llm_predict('above', p, NULL::boolean), llm_predict('above', p)::boolean, llm_predict('above', p, NULL::varchar) FROM points p WHERE id = 2;
SELECT pg_typeof(llm_predict('amount', p, NULL::numeric)), pg_typeof(llm_predict('amount', p, NULL::int)),
       abs(llm_predict('amount', p, NULL::numeric) - 100) < 20 AS numeric, abs(llm_predict('amount', p, NULL::real) - 100) < 20 AS real,
       abs(llm_predict('amount', p, NULL::smallint) - 100) < 20 AS smallint, abs(llm_predict('amount', p)::int - 100) < 20 AS integer
    FROM points p WHERE id = 2;
CREATE DOMAIN yes AS boolean CHECK (VALUE);
SELECT llm_predict('above', p, NULL::yes) FROM points p WHERE id = 2;
SELECT llm_predict('above', p, NULL::yes) FROM points p WHERE id = 1;
SELECT llm_predict('above', p, NULL::int) FROM points p WHERE id = 1;

-- probabilities
SELECT llm_probability('above', p) > 0.9 AS positive, llm_probability('above', p, 'false') < 0.1 AS negative,
       llm_probability('level', p) > 0.8 AS predicted FROM points p WHERE id = 2;
SELECT label, probability > 0.8 AS sure FROM llm_probabilities('level', '{"x": 1.5, "y": 1}') LIMIT 1;
SELECT round(sum(probability)::numeric, 5), count(*) FROM llm_probabilities('level', '{"x": 1.5, "y": 1}'::jsonb);
SELECT p.id, l.label FROM points p, LATERAL llm_probabilities('level', p) WITH ORDINALITY AS l(label, probability, n)
    WHERE p.id <= 3 AND n = 1 ORDER BY p.id;

-- errors
\set SHOW_CONTEXT never
SELECT llm_predict('above', 'a string');
SELECT llm_predict('above', '{"x": 1}');
SELECT llm_predict('above', '{"x": 1');
SELECT llm_predict('above', '[1, 2]'::jsonb);
SELECT llm_predict('above', '{"x": "much", "colour": "red"}');
SELECT llm_predict('above', ROW(1, 2));
SELECT llm_predict('above', ARRAY[1, 2]::real[]);
SELECT llm_predict('above', '\x00'::bytea);
SELECT llm_predict('points', p) FROM points p;
SELECT llm_predict('no_such_model', p) FROM points p;
SELECT llm_probability('above', p, 'perhaps') FROM points p;
SELECT llm_probability('amount', p) FROM points p;
SELECT * FROM llm_probabilities('amount', '{"x": 1}');
SELECT * FROM llm_confusion('amount');
SELECT * FROM llm_roc('level');
SELECT * FROM llm_roc('level', label => 'highest');

-- many models in one statement, several calls of one model, volatile inputs
SELECT m::text, llm_predict(m, '{"x": 1.5, "colour": "red", "y": 1}'::jsonb) FROM unnest(ARRAY['above', NULL, 'level', 'above', 'level']::regclass[]) AS m;
SELECT bool_and(llm_predict('above', p) = llm_predict('above', q)) FROM points p JOIN points q ON q.id = p.id + 2;
CREATE FUNCTION predicted(p points) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN llm_predict('above', p); END $$;
SELECT predicted(p), predicted(p) FROM points p WHERE id <= 2;
CREATE VIEW predictions AS SELECT id, llm_predict('above', p) AS label FROM points p;
SELECT label, count(*) FROM predictions GROUP BY label ORDER BY label;
DROP TABLE above;

-- a new version is used from the next statement on, also where the plan is old
PREPARE again AS SELECT count(*) FILTER (WHERE llm_predict('level', p) IN ('high', 'low', 'middle')) FROM points p;
EXECUTE again;
SELECT llm_train('level', 'SELECT x, y, CASE level WHEN ''high'' THEN ''top'' ELSE level END AS level FROM points', target => 'level',
                 params => '{"epochs": 60, "deploy": "always"}', wait => true) > 0 AS trained;
EXECUTE again;

-- evaluation
SELECT metric FROM llm_evaluate('above');
SELECT metric FROM llm_evaluate('amount');
SELECT metric, value FROM llm_evaluate('above', 'points') WHERE metric IN ('n', 'accuracy', 'f1', 'roc_auc');
SELECT * FROM llm_confusion('above', 'SELECT * FROM points WHERE id <= 100');
SELECT * FROM llm_confusion('above', 'SELECT x, colour, CASE WHEN id % 10 = 0 THEN ''new'' ELSE above::text END AS above FROM points');
SELECT min(false_positive_rate), max(true_positive_rate), bool_or(threshold = 'Infinity') FROM llm_roc('above', 'points');
SELECT count(*) > 0 AS kept FROM llm_roc('level', label => 'low');
SELECT value FROM llm_evaluate('above', 'SELECT x, colour, NULLIF(above, true) AS above FROM points') WHERE metric = 'n';
SELECT * FROM llm_evaluate('above', 'SELECT * FROM points WHERE false');
SELECT metric, value < 20 AS small FROM llm_evaluate('amount', 'points') WHERE metric IN ('rmse', 'mae');

-- errors of sources
SELECT * FROM llm_evaluate('above', 'SELECT x, colour FROM points');
SELECT * FROM llm_evaluate('above', 'SELECT x, above FROM points');
SELECT * FROM llm_evaluate('amount', 'SELECT x, ''much''::text AS amount FROM points');
SELECT * FROM llm_evaluate('above', 'no_such_table');
SELECT * FROM llm_evaluate('above', 'DELETE FROM points');
SELECT * FROM llm_evaluate('above', 'WITH gone AS (DELETE FROM points RETURNING *) SELECT * FROM gone');
SELECT * FROM llm_evaluate('above', 'SELECT * FROM points FOR UPDATE');
SELECT * FROM llm_evaluate('above', 'SELECT 1; SELECT 2');
SELECT * FROM llm_evaluate('above', 'SELECT * FROM points WHERE 1 / (id - id) > 0');

-- plans
SET jit = off;
EXPLAIN (COSTS OFF) SELECT id, llm_predict('above', p) FROM points p ORDER BY x LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM points p WHERE llm_predict('above', p) = 'true' AND id % 2 = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SET parallel_leader_participation = off;
EXPLAIN (COSTS OFF) SELECT count(llm_predict('above', p)) FROM points p;
SELECT llm_predict('above', p), count(*) FROM points p GROUP BY 1 ORDER BY 1;
RESET parallel_leader_participation;
RESET max_parallel_workers_per_gather;

-- privileges: SELECT on meta to predict and to evaluate, the source's own for its rows
CREATE ROLE regress_llmapp_reader;
SET ROLE regress_llmapp_reader;
SELECT llm_predict('above', '{"x": 1.5, "colour": "red"}'::jsonb);
SELECT * FROM llm_evaluate('above');
RESET ROLE;
GRANT SELECT (meta) ON above TO regress_llmapp_reader;
SET ROLE regress_llmapp_reader;
SELECT llm_predict('above', '{"x": 1.5, "colour": "red"}'::jsonb);
SELECT count(*) > 0 AS shown FROM llm_evaluate('above');
SELECT * FROM llm_evaluate('above', 'points');
RESET ROLE;
REVOKE SELECT (meta) ON above FROM regress_llmapp_reader;
DROP ROLE regress_llmapp_reader;

SELECT test, passed FROM llm_selftest();

DROP VIEW predictions;
DROP FUNCTION predicted;
DROP TABLE above, level, amount, points;
DROP DOMAIN yes;
