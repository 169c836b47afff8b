-- Which rows train a model: groups, repeated rows, weights, and what the report says of them.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT no_plan();

CREATE FUNCTION data(wanted text) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT report -> 'data' FROM llmapp.jobs WHERE model = wanted ORDER BY job DESC LIMIT 1 $$;

-- Groups: 40 people, whose rows say which person it is and nothing else. Held-out rows can be predicted
-- only when the same person is in the training part.
CREATE TABLE visits AS
    SELECT 'p' || i % 40 AS person, 'h' || i % 40 AS height, md5((i % 40)::text) < '8' AS y FROM generate_series(1, 1200) AS i;
SELECT llm_train('random_rows', 'SELECT height, y FROM visits', target => 'y', params => '{"epochs": 60}', wait => true) \g /dev/null
SELECT llm_train('whole_groups', 'visits', target => 'y', params => '{"epochs": 60, "group_column": "person", "validation": 0.15}', wait => true) \g /dev/null
SELECT cmp_ok((SELECT value FROM llm_evaluate('random_rows') WHERE metric = 'accuracy'), '>', 0.98::float8,
              'random rows of known persons are predicted');
SELECT cmp_ok((SELECT value FROM llm_evaluate('whole_groups') WHERE metric = 'accuracy'), '<', 0.9::float8,
              'rows of persons that are held out whole are not');
SELECT is((data('public.whole_groups') ->> 'held_out_rows')::int, 180, 'six persons of thirty rows are 15 %');
SELECT lives_ok($$ SELECT llm_predict('whole_groups', '{"height": "h3"}'::jsonb) $$, 'the group is no input');
SELECT llm_train('two_groups', 'SELECT *, CASE WHEN right(person, 1)::int < 8 THEN NULL ELSE 1 END AS half FROM visits', target => 'y',
                 params => '{"epochs": 1, "group_column": "half"}', wait => true) \g /dev/null
SELECT is((data('public.two_groups') ->> 'held_out_rows')::int, 240, 'the smaller of two groups is held out; NULL is a group');
SELECT llm_train('one_group', 'SELECT *, 1 AS same FROM visits', target => 'y',
                 params => '{"epochs": 1, "group_column": "same"}', wait => true) \g /dev/null
SELECT is((data('public.one_group') ->> 'held_out_rows')::int, 0, 'a single group is not held out');
SELECT llm_train('single_rows', 'SELECT *, row_number() OVER () AS id FROM visits', target => 'y',
                 params => '{"epochs": 1, "group_column": "id", "validation": 0.15}', wait => true) \g /dev/null
SELECT is((data('public.single_rows') ->> 'held_out_rows')::int, 180, 'groups of one row give their share');
SELECT throws_ok($$ SELECT llm_train('m', 'visits', target => 'y', params => '{"group_column": "persn"}') $$, '42703', NULL, 'a group column must be there');
SELECT throws_ok($$ SELECT llm_train('m', 'SELECT *, ARRAY[1] AS a FROM visits', target => 'y', params => '{"group_column": "a"}') $$,
                 '42804', 'column "a" of type integer[] cannot group rows', 'and have single values');

-- Repeated rows
CREATE TABLE repeated AS SELECT i % 300 AS x, NULLIF(i % 300 % 7, 3)::text AS t, i % 300 % 2 = 0 AS y, i AS w FROM generate_series(1, 900) AS i;
SELECT llm_train('all_rows', 'repeated', target => 'y', params => '{"epochs": 1, "weight_column": "w"}', wait => true) \g /dev/null
SELECT is(data('public.all_rows') ->> 'repeated', '600', 'repeated rows are counted, whatever their weight');
SELECT is((data('public.all_rows') ->> 'training_rows')::int + (data('public.all_rows') ->> 'held_out_rows')::int, 900, 'and used');
SELECT llm_train('distinct_rows', 'repeated', target => 'y', params => '{"epochs": 1, "weight_column": "w", "deduplicate": true}', wait => true) \g /dev/null
SELECT is(data('public.distinct_rows') #>> '{dropped,repeated}', '600', 'deduplicate leaves them out');
SELECT is((data('public.distinct_rows') ->> 'training_rows')::int + (data('public.distinct_rows') ->> 'held_out_rows')::int, 300, 'the others are used');
SET llmapp.train_memory = '16MB';
SELECT llm_train('many_rows', 'SELECT i::float8 AS x, i % 2 = 0 AS y FROM generate_series(1, 400000) AS i', target => 'y',
                 params => '{"steps": 1, "hidden": []}', wait => true) \g /dev/null
SELECT is(data('public.many_rows') -> 'repeated', 'null'::jsonb, 'more rows than memory are not counted');
\set ON_ERROR_STOP off
\set VERBOSITY sqlstate
SELECT llm_train('many_distinct', 'SELECT i::float8 AS x, i % 2 = 0 AS y FROM generate_series(1, 400000) AS i', target => 'y',
                 params => '{"deduplicate": true}', wait => true) AS ignored \gset
\set ON_ERROR_STOP on
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '53200', 'nor left out without saying so');
RESET llmapp.train_memory;

-- Weights: a weight of 2 is the row twice, a weight of 0 the row not at all.
CREATE TABLE coins AS SELECT i % 2 AS side, i % 10 < 3 AS heads FROM generate_series(1, 400) AS i;
\set params '{"hidden": [], "epochs": 400, "learning_rate": 0.05, "validation": 0, "weight_decay": 0'
SELECT llm_train('twice', 'SELECT side::float8, heads FROM coins, generate_series(1, CASE WHEN heads THEN 2 ELSE 1 END)', target => 'heads',
                 params => (:'params' || '}')::jsonb, wait => true) \g /dev/null
SELECT llm_train('weight_two', 'SELECT side::float8, heads, CASE WHEN heads THEN 2 ELSE 1 END AS w FROM coins', target => 'heads',
                 params => (:'params' || ', "weight_column": "w"}')::jsonb, wait => true) \g /dev/null
SELECT cmp_ok(abs(llm_probability('twice', '{"side": 0}'::jsonb) - 2 * 80 / (2 * 80 + 120.0)), '<', 0.01::float8, 'rows that are there twice count twice');
SELECT cmp_ok(abs(llm_probability('weight_two', '{"side": 0}'::jsonb) - llm_probability('twice', '{"side": 0}'::jsonb)), '<', 0.01::float8,
              'a weight of 2 is the row twice');
SELECT cmp_ok(abs(llm_probability('weight_two', '{"side": 1}'::jsonb) - llm_probability('twice', '{"side": 1}'::jsonb)), '<', 0.01::float8,
              'on the other side, too');
SELECT llm_train('weight_zero', 'SELECT side::float8, heads, (side = 1 OR heads)::int AS w FROM coins', target => 'heads',
                 params => (:'params' || ', "weight_column": "w"}')::jsonb, wait => true) \g /dev/null
SELECT cmp_ok(llm_probability('weight_zero', '{"side": 0}'::jsonb), '>', 0.98::float8, 'a weight of 0 is the row not at all');

-- What the report says
CREATE TABLE gaps AS
    SELECT CASE WHEN i % 10 > 0 THEN sin(i) END AS number, CASE WHEN i % 20 > 0 THEN 'c' || i % 3 END AS color,
           CASE WHEN i > 400 THEN 'new' ELSE 'old' || i % 2 END AS era, 1 AS same, i > 400 AS held,
           CASE WHEN i % 50 > 0 THEN i % 2 = 0 END AS y
    FROM generate_series(1, 500) AS i;
SELECT llm_train('gaps_model', 'gaps', target => 'y', params => '{"epochs": 1, "validation": "held"}', wait => true) \g /dev/null
SELECT is(data('public.gaps_model'),
    '{"rows_read": 500, "dropped": {"without_target": 10, "repeated": 0, "unseen_label": 0}, "repeated": 33, "training_rows": 392,
      "held_out_rows": 98, "imputed": {"number": 40, "color": 20}, "unseen": {"era": 98}}'::jsonb,
    'rows, what was left out, filled in and never seen');
SELECT * FROM finish();
