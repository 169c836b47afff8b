-- Rows per second of llm_predict() and of llm_evaluate() for an mlp of 32 - 128 - 64 - 1, one process.
--   tests/server start DIR && tests/server psql DIR -f tests/bench/predict.sql
\set QUIET on
\pset footer off
\set ON_ERROR_STOP on
SET client_min_messages = warning;
DROP DATABASE IF EXISTS bench_predict;
CREATE DATABASE bench_predict;
\connect bench_predict
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SET max_parallel_workers_per_gather = 0;
SET jit = off;
CREATE EXTENSION llmapp;
CREATE TABLE numbers AS
    SELECT x::real[], x[1] + x[2] > x[3] + x[4] AS y
    FROM generate_series(1, 200000) AS i, LATERAL (SELECT array_agg(random()) AS x FROM generate_series(1, 32) WHERE i > 0) AS r;
VACUUM ANALYZE numbers;
SELECT llm_train('bench_model', 'SELECT * FROM numbers LIMIT 5000', target => 'y',
                 params => '{"hidden": [128, 64], "epochs": 1}', wait => true) \g /dev/null

CREATE FUNCTION rows_per_second(query text, rows bigint) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE began timestamptz; best float8 := 'Infinity';
BEGIN
    FOR i IN 1..3 LOOP
        began := clock_timestamp();
        EXECUTE query;
        best := least(best, extract(epoch FROM clock_timestamp() - began));
    END LOOP;
    RETURN round((rows / best)::numeric, -3);
END $$;

SELECT what, rows_per_second(query, 200000) FROM (VALUES
    ('read the rows', 'SELECT count(x) FROM numbers'),
    ('llm_predict of a row', 'SELECT count(llm_predict(''bench_model'', n)) FROM numbers n'),
    ('llm_predict_over', 'SELECT count(p) FROM (SELECT llm_predict_over(''bench_model'', n) OVER () AS p FROM numbers n) AS q'),
    ('llm_predict of an array', 'SELECT count(llm_predict(''bench_model'', x)) FROM numbers'),
    ('llm_predict as boolean', 'SELECT count(llm_predict(''bench_model'', n, NULL::boolean)) FROM numbers n'),
    ('llm_probability', 'SELECT count(llm_probability(''bench_model'', n)) FROM numbers n'),
    ('llm_evaluate', 'SELECT * FROM llm_evaluate(''bench_model'', ''numbers'')')) AS v(what, query);
\connect postgres
DROP DATABASE bench_predict;
