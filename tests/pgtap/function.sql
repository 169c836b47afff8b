-- llm_create_function: types, names, who may call it, and what happens to the model under it.
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE DOMAIN small AS int CHECK (VALUE < 1000);
CREATE TABLE sample AS
    SELECT i AS id, sin(i)::float8 AS input, (cos(i * 1.7) * 100)::int::small AS "select", CASE i % 3 WHEN 0 THEN 'red' ELSE 'blue' END AS "Größe, ""x""",
           '2024-01-01'::date + i AS day, ARRAY[sin(i), cos(i)]::real[] AS pair, i % 7 = 0 AS flag, 'same'::text AS constant,
           CASE WHEN sin(i) > 0 THEN 'wild' ELSE 'calm' END::mood AS mood, 10 * sin(i) AS amount
    FROM generate_series(1, 600) AS i;
SELECT llm_train('m_mood', 'SELECT * FROM sample', target => 'mood', params => '{"epochs": 10, "exclude": ["id", "amount"]}', wait => true) \g /dev/null
SELECT llm_train('m_amount', 'SELECT input, amount, "select" FROM sample', target => 'amount', params => '{"epochs": 5}', wait => true) \g /dev/null
SELECT llm_train('m_two', 'SELECT input, amount, "select" FROM sample', target => 'amount, select', task => 'regression', params => '{"epochs": 2}', wait => true) \g /dev/null

BEGIN;
SELECT no_plan();
SELECT function_returns('llm_create_function', ARRAY['regclass', 'text'], 'regprocedure');
SELECT is(llm_create_function('m_mood', 'mood_of')::text, 'mood_of(double precision,integer,text,date,real[],boolean)', 'the function of a model');
SELECT is(pg_get_function_arguments('mood_of'::regproc), 'input double precision, "select" integer, "Größe, ""x""" text, day date, pair real[], flag boolean', 'has the columns that the model uses as arguments');
SELECT is(pg_get_function_result('mood_of'::regproc), 'mood', 'and returns the type of the target');
SELECT is(pg_get_function_result(llm_create_function('m_amount', 'amount_of')), 'double precision', 'numbers');
SELECT is(pg_get_function_result(llm_create_function('m_two', 'two_of')), 'double precision[]', 'several numbers');
SELECT volatility_is('mood_of', 'stable');
SELECT isnt_strict('mood_of');
SELECT is_definer('mood_of');
SELECT is((SELECT proparallel::text || array_to_string(proconfig, ',') FROM pg_proc WHERE proname = 'mood_of'), 's' || 'search_path=pg_catalog, pg_temp', 'parallel safe, with a fixed search path');
SELECT function_owner_is('mood_of', ARRAY['double precision', 'integer', 'text', 'date', 'real[]', 'boolean'], current_user);

-- the same as llm_predict
SELECT is((SELECT count(*) FROM sample s WHERE mood_of(input, "select", "Größe, ""x""", day, pair, flag) IS DISTINCT FROM llm_predict('m_mood', s, NULL::mood)), 0::bigint, 'labels are those of llm_predict');
SELECT is((SELECT count(*) FROM sample s WHERE amount_of("select" => s.select, input => s.input) IS DISTINCT FROM llm_predict('m_amount', s, NULL::float8)), 0::bigint, 'numbers too, and arguments by name');
SELECT isnt(amount_of(NULL, NULL), NULL, 'NULL is allowed');
SELECT is(array_length(two_of(0.5), 1), 2, 'two numbers');

-- who may call it
CREATE ROLE caller LOGIN;
CREATE ROLE owner LOGIN;
GRANT CREATE ON SCHEMA public TO owner;
SET LOCAL ROLE caller;
SELECT throws_ok('SELECT amount_of(1, 1)', '42501', 'permission denied for function amount_of', 'not everybody');
SELECT throws_ok($$SELECT llm_create_function('m_amount', 'mine')$$, '42501', 'permission denied for model "m_amount"');
RESET ROLE;
GRANT EXECUTE ON FUNCTION amount_of TO caller;
SET LOCAL ROLE caller;
SELECT lives_ok('SELECT amount_of(1, 1)', 'EXECUTE is enough');
SELECT throws_ok($$SELECT llm_predict('m_amount', '{"input": 1, "select": 1}'::jsonb)$$, '42501', NULL, 'and gives no other way to the model');
CREATE FUNCTION pg_temp.llm_predict(regclass, record, float8) RETURNS float8 LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''caught''; END';
SET LOCAL search_path = pg_temp, public;
SELECT lives_ok('SELECT public.amount_of(1, 1)', 'the search path of the caller does not matter');
SET LOCAL search_path = public;
RESET ROLE;
GRANT SELECT (meta) ON m_amount TO owner;
SET LOCAL ROLE owner;
SELECT is(llm_create_function('m_amount', '"Amount of"')::text, '"Amount of"(double precision,integer)', 'who may predict may make one, of any name');
GRANT EXECUTE ON FUNCTION "Amount of" TO caller;
RESET ROLE;
REVOKE SELECT (meta) ON m_amount FROM owner;
SET LOCAL ROLE caller;
SELECT throws_ok('SELECT "Amount of"(1, 1)', '42501', 'permission denied for model "m_amount"', 'it works as long as its owner may predict');
RESET ROLE;

-- the model changes under it
CREATE TEMP TABLE before AS SELECT id, amount_of(input, "select") AS predicted FROM sample;
ALTER TABLE m_amount RENAME TO renamed;
CREATE SCHEMA elsewhere;
ALTER TABLE renamed SET SCHEMA elsewhere;
SELECT is((SELECT count(*) FROM before JOIN sample USING (id) WHERE predicted IS DISTINCT FROM amount_of(input, "select")), 0::bigint, 'it follows renames');
INSERT INTO elsewhere.renamed SELECT 2, part, kind, meta, data FROM elsewhere.renamed WHERE version = 1;
SELECT lives_ok($$SELECT llm_promote('elsewhere.renamed', 2), amount_of(1, 1)$$, 'and promotions');
SELECT throws_ok('DROP TABLE elsewhere.renamed', '2BP01', NULL, 'a model is not dropped under it');
SELECT lives_ok(pg_get_functiondef('mood_of'::regproc), 'its definition can be run again, as pg_dump does');
SELECT is((SELECT count(*) FROM sample s WHERE mood_of(input, "select", "Größe, ""x""", day, pair, flag) IS DISTINCT FROM llm_predict('m_mood', s, NULL::mood)), 0::bigint, 'and means the same');

-- refusals
SELECT throws_ok($$SELECT llm_create_function('m_mood', 'mood_of')$$, '42723', NULL, 'a function of this name and types');
SELECT throws_ok($$SELECT llm_create_function('m_mood', 'a.b.c')$$, '42602', '"a.b.c" is not a name for a function');
SELECT throws_ok($$SELECT llm_create_function('m_mood', 'no_schema.f')$$, '3F000', 'schema "no_schema" does not exist');
SELECT throws_ok($$SELECT llm_create_function('sample', 'f')$$, '42809', '"sample" is not a model');
SELECT is(llm_create_function(NULL, 'f'), NULL, 'NULL');
GRANT CREATE ON SCHEMA public TO caller;
SET LOCAL ROLE caller;
CREATE FUNCTION llm_predict(regclass, record, mood) RETURNS mood LANGUAGE plpgsql AS 'BEGIN RETURN ''calm''; END';
RESET ROLE;
SELECT throws_ok($$SELECT llm_create_function('m_mood', 'mood_again')$$, '42725', 'another function named llm_predict in schema "public" would be called', 'a planted function is not called with the rights of the owner');

-- a manifest that names types whose input would run somebody's code
CREATE DOMAIN trap AS text CHECK (pg_catalog.set_config('my.caught', 'yes', false) IS NOT NULL);
UPDATE m_two SET meta = jsonb_set(meta, '{columns,columns,0,type}', '"trap"') WHERE part = 0 AND kind = 'manifest';
SELECT is(pg_get_function_arguments(llm_create_function('m_two', 'trapped')), 'input text', 'a domain is not taken from a manifest');
UPDATE m_two SET meta = jsonb_set(meta, '{columns,columns,0,type}', '"text) RETURNS int LANGUAGE sql RETURN 1; --"') WHERE part = 0 AND kind = 'manifest';
SELECT throws_ok($$SELECT llm_create_function('m_two', 'injected')$$, '42601', NULL, 'nor SQL');
SELECT * FROM finish();
ROLLBACK;
