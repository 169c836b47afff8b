-- What llm_train refuses, and how it says so.
\set SHOW_CONTEXT never
SET llmapp.progress_notices = off;
CREATE TABLE training_rows AS
    SELECT i AS id, i * 1.5 AS size, (i % 3)::text AS color, i % 2 = 0 AS good, now() + i * interval '1 hour' AS at,
           NULL::float8 AS nothing, ''::bytea AS raw
    FROM generate_series(1, 300) AS i;
CREATE TABLE "Mixed Case" ("Label" text, x float8);
CREATE VIEW training_input AS SELECT id, size, color, good FROM training_rows;

-- the source
SELECT llm_train('m', 'training_row', 'good');
SELECT llm_train('m', 'public.training_row', 'good');
SELECT llm_train('m', 'entirely_unknown', 'good');
SELECT llm_train('m', '', 'good');
SELECT llm_train('m', '-- only a comment', 'good');
SELECT llm_train('m', 'SELECT 1; SELECT 2', 'good');
SELECT llm_train('m', 'DELETE FROM training_rows', 'good');
SELECT llm_train('m', 'SELECT * FROM training_rows FOR UPDATE', 'good');
SELECT llm_train('m', 'SELECT * FROM (SELECT * FROM training_rows FOR SHARE) s', 'good');
SELECT llm_train('m', 'WITH d AS (DELETE FROM training_rows RETURNING *) SELECT * FROM d', 'good');
SELECT llm_train('m', 'SELECT * INTO copy FROM training_rows', 'good');
SELECT llm_train('m', 'SELEC 1', 'good');
SELECT llm_train('m', 'SELECT unknown FROM training_rows', 'good');
SELECT llm_train('m', 'SELECT $1 AS x, 1 AS good', 'good');
SELECT llm_train('m', 'pg_class_oid_index', 'good');
SELECT llm_train('m', 'SELECT size AS x, id AS x, good FROM training_rows', 'good');
SELECT llm_train('m', 'SELECT good FROM training_rows', 'good');
CREATE TEMPORARY TABLE session_rows (x int, good bool);
SELECT llm_train('m', 'session_rows', 'good');

-- the target
SELECT llm_train('m', 'training_input');
SELECT llm_train('m', 'training_input', 'goods');
SELECT llm_train('m', 'training_input', 'size, size');
SELECT llm_train('m', 'training_input', 'size,good', task => 'classification');
SELECT llm_train('m', 'training_input', 'color', task => 'regression');
SELECT llm_train('m', 'SELECT id, at FROM training_rows', 'at');

-- task, architecture, device, name
SELECT llm_train('m', 'training_input', 'good', task => 'ranking');
SELECT llm_train('m', 'training_input', 'good', architecture => 'gnn');
SELECT llm_train('m', 'training_input', 'good', architecture => 'cnn');
-- there may be a GPU, but not this one; the reason is the machine's
\set VERBOSITY terse
SELECT llm_train('m', 'training_input', 'good', device => 'cuda:99');
\set VERBOSITY default
SELECT llm_train('m', 'training_input', 'good', device => 'tpu');
SELECT llm_train('a.b.c', 'training_input', 'good');

-- params
SELECT llm_train('m', 'training_input', 'good', params => '{"epoch": 1}');
SELECT llm_train('m', 'training_input', 'good', params => '{"epochs": 0}');
SELECT llm_train('m', 'training_input', 'good', params => '{"exclude": ["colour"]}');
SELECT llm_train('m', 'training_input', 'good', params => '{"exclude": ["good"]}');
SELECT llm_train('m', 'training_input', 'good', params => '{"weight_column": "color"}');
SELECT llm_train('m', 'training_input', 'good', params => '{"validation": "color"}');
SELECT llm_train('m', 'training_input', 'size', params => '{"class_weight": "balanced"}');
SELECT llm_train('m', 'training_input', 'good', params => '{"loss": "huber"}');
SELECT llm_train('m', 'training_rows', 'good');

-- what only the rows can tell
SELECT llm_train('m', 'SELECT size, good FROM training_rows WHERE false', 'good', wait => true);
SELECT llm_train('m', 'SELECT size, nothing FROM training_rows', 'nothing', wait => true);
SELECT llm_train('m', 'SELECT size, good FROM training_rows LIMIT 3', 'good', wait => true);
SELECT llm_train('m', 'SELECT size, true AS good FROM training_rows', 'good', params => '{"validation": 0}', wait => true);
SELECT llm_train('m', 'training_input', 'good', params => '{"class_weight": {"yes": 3}}', wait => true);
SELECT llm_train('m', 'SELECT size, good, -1 AS w FROM training_rows', 'good', params => '{"weight_column": "w"}', wait => true);
SELECT llm_train('m', 'SELECT size, good, 0 AS w FROM training_rows', 'good', params => '{"weight_column": "w"}', wait => true);
SELECT llm_train('m', 'SELECT size, good, true AS v FROM training_rows', 'good', params => '{"validation": "v"}', wait => true);
SELECT llm_train('m', 'SELECT size / (id - 200) AS x, good FROM training_rows', 'good', wait => true);
SET llmapp.train_memory = '16MB';
\set VERBOSITY sqlstate
SELECT llm_train('m', 'training_input', 'good', params => '{"hidden": [4096, 4096]}', wait => true);
\set VERBOSITY default
RESET llmapp.train_memory;

SELECT to_regclass('m') IS NULL AS nothing_was_left;
SELECT count(*) FROM llmapp.jobs WHERE model = 'public.m' AND status <> 'failed';
DROP VIEW training_input;
DROP TABLE training_rows, "Mixed Case";
