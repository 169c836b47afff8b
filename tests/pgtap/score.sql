-- llm_score: the table it makes, the tables it accepts, types, keys, and rows that cannot be predicted.
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE TABLE sample AS
    SELECT i AS id, ('k' || i)::varchar(20) AS code, sin(i)::float8 AS x, cos(i * 1.7)::real AS y,
           CASE WHEN sin(i) > 0 THEN 'wild' ELSE 'calm' END::mood AS mood, (10 * sin(i))::numeric(8, 2) AS amount,
           (20000 * sin(i))::smallint AS small, ARRAY[sin(i), cos(i)]::real[] AS pair
    FROM generate_series(1, 1000) AS i;
ALTER TABLE sample ADD PRIMARY KEY (id);
SELECT llm_train('m_mood', 'SELECT x, y, mood FROM sample', target => 'mood', params => '{"epochs": 20}', wait => true) \g /dev/null
SELECT llm_train('m_amount', 'SELECT x, y, amount FROM sample', target => 'amount', params => '{"epochs": 20}', wait => true) \g /dev/null
SELECT llm_train('m_small', 'SELECT x, small FROM sample', target => 'small', task => 'regression', params => '{"epochs": 20, "hidden": []}', wait => true) \g /dev/null
SELECT llm_train('m_two', 'SELECT x, y, amount, small FROM sample', target => 'amount, small', task => 'regression', params => '{"epochs": 5}', wait => true) \g /dev/null
SELECT llm_train('m_pair', 'SELECT pair, mood FROM sample', target => 'mood', params => '{"epochs": 5}', wait => true) \g /dev/null

-- tables made by jobs
SELECT llm_score('m_mood', 'sample', 's_mood', wait => true) \g /dev/null
SELECT llm_score('m_amount', 'SELECT code, id, x, y FROM sample', 's_amount', ARRAY['code', 'id'], wait => true) \g /dev/null
SELECT llm_score('m_two', 'sample', 's_two', device => 'cpu', wait => true) \g /dev/null
SELECT llm_score('m_small', 'SELECT id, CASE WHEN id % 100 = 0 THEN 1e6 ELSE x END AS x FROM sample', 's_small', '{id}', wait => true) \g /dev/null
SELECT llm_score('m_pair', 'SELECT id, CASE id WHEN 7 THEN ''{1,2,3}'' ELSE pair END AS pair FROM sample', 's_pair', '{id}', wait => true) \g /dev/null
SELECT llm_score('m_mood', 'SELECT * FROM sample WHERE false', 's_none', '{id}', wait => true) \g /dev/null
-- tables made by hand
CREATE TABLE h_text (error text, note text DEFAULT 'kept', prediction text, id int UNIQUE, probability float8, model_version int, predicted_at timestamptz);
INSERT INTO h_text (id, note, prediction, model_version, predicted_at) VALUES (1, 'mine', 'old', 99, now()), (5000, 'other', 'old', 1, now());
SELECT llm_score('m_mood', 'sample', 'h_text', wait => true) \g /dev/null
CREATE TABLE h_parts (LIKE s_mood INCLUDING ALL) PARTITION BY RANGE (id);
CREATE TABLE h_parts_1 PARTITION OF h_parts FOR VALUES FROM (0) TO (500);
CREATE TABLE h_parts_2 PARTITION OF h_parts FOR VALUES FROM (500) TO (5000);
SELECT llm_score('m_mood', 'sample', 'h_parts', wait => true) \g /dev/null
SELECT llm_train('m_mood', 'SELECT x, y, mood FROM sample', target => 'mood', params => '{"epochs": 1, "deploy": "always"}', wait => true) \g /dev/null
CREATE TABLE first_run AS TABLE s_mood;
SELECT llm_score('m_mood', 'SELECT * FROM sample WHERE id <= 10', 's_mood', '{id}', wait => true) \g /dev/null

BEGIN;
SELECT no_plan();
SELECT is((SELECT pg_get_function_arguments('llm_score'::regproc)),
    'model regclass, source text, into_table text, key text[] DEFAULT NULL::text[], device text DEFAULT NULL::text, wait boolean DEFAULT false', 'arguments of llm_score');
SELECT volatility_is('llm_score', 'volatile');
SELECT columns_are('s_mood', ARRAY['id', 'prediction', 'probability', 'model_version', 'predicted_at', 'error']);
SELECT col_type_is('s_mood', 'id', 'integer', 'keys keep their types');
SELECT col_type_is('s_amount', 'code', 'character varying(20)', 'with modifiers');
SELECT col_type_is('s_mood', 'prediction', 'mood', 'predictions have the type of the target');
SELECT col_type_is('s_amount', 'prediction', 'numeric', 'without its limits');
SELECT col_type_is('s_two', 'prediction', 'double precision[]', 'several targets are an array');
SELECT col_is_pk('s_mood', 'id', 'the primary key of the source is the key');
SELECT col_is_pk('s_amount', ARRAY['code', 'id'], 'a key of two columns');
SELECT is((SELECT tableowner::text FROM pg_tables WHERE tablename = 's_mood'), current_user::text, 'the table is the submitter''s');
SELECT is(obj_description('s_mood'::regclass), 'predictions of llm_score()', 'and has a comment');
SELECT is((SELECT count(*) FROM s_none), 0::bigint, 'a source without rows gives a table without rows');

-- the same as llm_predict

SELECT is((SELECT count(*) FROM first_run s JOIN sample p USING (id) WHERE error IS NULL AND model_version = 1 AND predicted_at <= now()), 1000::bigint, 'one prediction for every row');
SELECT is((SELECT count(*) FROM s_mood s JOIN sample p USING (id) WHERE id <= 10 AND s.prediction IS DISTINCT FROM llm_predict('m_mood', p, NULL::mood)), 0::bigint, 'labels are those of llm_predict');
SELECT cmp_ok((SELECT max(abs(probability - llm_probability('m_mood', p, prediction::text))) FROM s_mood s JOIN sample p USING (id) WHERE id <= 10), '<', 1e-5::float8, 'and so are probabilities');
SELECT cmp_ok((SELECT max(abs(s.prediction - llm_predict('m_amount', p, NULL::numeric))) FROM s_amount s JOIN sample p USING (id)), '<', 1e-3, 'numbers too');
SELECT is((SELECT count(*) FROM s_amount WHERE probability IS NOT NULL), 0::bigint, 'numbers have no probability');
SELECT is((SELECT count(*) FROM s_two WHERE array_length(prediction, 1) <> 2), 0::bigint, 'two numbers each');

-- a later version replaces
SELECT is((SELECT string_agg(model_version || '=' || n, ',' ORDER BY model_version) FROM (SELECT model_version, count(*) AS n FROM s_mood GROUP BY 1) AS v), '1=990,2=10', 'rows of the source are replaced, others stay');

-- rows that cannot be predicted
SELECT is((SELECT string_agg(id::text, ',' ORDER BY id) FROM s_small WHERE error IS NOT NULL), '100,200,300,400,500,600,700,800,900,1000', 'a number beyond the type is an error of its row');
SELECT is((SELECT DISTINCT error FROM s_small WHERE error IS NOT NULL), 'smallint out of range', 'with its message');
SELECT is((SELECT count(*) FROM s_small WHERE (prediction IS NULL) <> (error IS NOT NULL)), 0::bigint, 'and all others are predicted');
SELECT is((SELECT string_agg(id || ':' || (prediction IS NULL), ',') FROM s_pair WHERE error IS NOT NULL), '7:true', 'a vector of another length too');
SELECT is((SELECT report ->> 'rows' || '/' || (report ->> 'errors') FROM llmapp.jobs WHERE model = 'public.m_small' AND kind = 'score'), '1000/10', 'the job counts both');

-- tables made by hand
SELECT is((SELECT count(*) FROM h_text WHERE prediction IN ('calm', 'wild') AND note = 'kept'), 999::bigint, 'text takes any prediction, defaults work');
SELECT is((SELECT note || model_version FROM h_text WHERE id = 1), 'mine1', 'other columns of a replaced row stay');
SELECT is((SELECT prediction FROM h_text WHERE id = 5000), 'old', 'rows that are not in the source stay');
SELECT is((SELECT count(*) FROM h_parts_1) || '+' || (SELECT count(*) FROM h_parts_2), '499+501', 'a partitioned table');

-- refusals, each before a job exists
CREATE TABLE no_unique (LIKE s_mood);
CREATE TABLE wrong_type (LIKE s_amount INCLUDING ALL);
CREATE TABLE needy (LIKE s_mood INCLUDING ALL, more int NOT NULL);
CREATE TABLE made (LIKE s_mood INCLUDING INDEXES, again int GENERATED ALWAYS AS (id) STORED);
CREATE TEMP TABLE fleeting (LIKE s_mood INCLUDING ALL);
CREATE VIEW a_view AS TABLE s_mood;
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'no_unique')$$, '42P16', 'table public.no_unique has no unique index on the key (id)');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'wrong_type')$$, '42804', 'table public.wrong_type cannot take these predictions');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'needy')$$, '42804', 'table public.needy cannot take these predictions');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'a_view')$$, '42809', 'public.a_view is not a table that a job can fill');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'fleeting')$$, '42809', NULL, 'a temporary table');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'm_mood')$$, '42804', NULL, 'a model');
SELECT throws_ok($$SELECT llm_score('m_mood', 'SELECT x, y FROM sample', 'new')$$, '22023', 'the key is missing');
CREATE TABLE no_key AS TABLE sample;
SELECT throws_ok($$SELECT llm_score('m_mood', 'no_key', 'new')$$, '22023', 'the key is missing', 'a table without a primary key');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'new', '{}')$$, '22023', 'the key is missing');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'new', '{id,NULL}')$$, '22004', NULL, 'NULL in the key');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'new', '{id,id}')$$, '42701', 'column "id" is twice in the key');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'new', '{idd}')$$, '42703', 'the source has no column "idd"');
SELECT throws_ok($$SELECT llm_score('m_mood', 'SELECT *, 1 AS error FROM sample', 'new', '{error}')$$, '42701', 'a column of the key cannot be named "error"');
SELECT throws_ok($$SELECT llm_score('m_mood', 'SELECT x, y, ''{}''::json AS j FROM sample', 'new', '{j}')$$, '42804', 'column "j" of type json cannot be part of a key');
SELECT throws_ok($$SELECT llm_score('m_mood', 'SELECT id, x FROM sample', 'new', '{id}')$$, '42703', 'input has no column "y"');
SELECT throws_ok($$SELECT llm_score('m_mood', 'SELECT id, x, true AS y FROM sample', 'new', '{id}')$$, '42804', NULL, 'a column of another type');
SELECT throws_ok($$SELECT llm_score('m_mood', 'DELETE FROM sample', 'new', '{id}')$$, '22023', 'the source is not a SELECT');
SELECT throws_ok($$SELECT llm_score('sample', 'sample', 'new')$$, '42809', '"sample" is not a model');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'new', device => 'cuda')$$, NULL, NULL, 'a device that is not there');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'a.b.c')$$, '42602', '"a.b.c" is not a name for a table');
SELECT throws_ok($$SELECT llm_score(NULL, 'sample', 'new')$$, '22004', 'argument "model" of llm_score() must not be null');
SELECT throws_ok($$SELECT llm_score('m_mood', NULL, 'new')$$, '22004', 'argument "source" of llm_score() must not be null');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', NULL)$$, '22004', 'argument "into_table" of llm_score() must not be null');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'new', wait => true)$$, '25001', 'llm_score(wait => true) cannot run inside a transaction block');
SELECT is((SELECT count(*) FROM llmapp.jobs WHERE status <> 'succeeded'), 0::bigint, 'no refusal leaves a job');

-- privileges
CREATE ROLE score_reader LOGIN;
GRANT CREATE ON SCHEMA public TO score_reader;
GRANT SELECT ON sample TO score_reader;
SET LOCAL ROLE score_reader;
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 'new')$$, '42501', 'permission denied for model "m_mood"');
RESET ROLE;
GRANT SELECT (meta) ON m_mood TO score_reader;
SET LOCAL ROLE score_reader;
SELECT lives_ok($$SELECT llm_score('m_mood', 'sample', 'new')$$, 'who may predict may score');
SELECT throws_ok($$SELECT llm_score('m_mood', 'sample', 's_mood')$$, '42501', 'permission denied for table public.s_mood');
SELECT throws_ok($$SELECT llm_score('m_mood', 'first_run', 'new', '{id}')$$, '42501', NULL, 'a source that may not be read');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
