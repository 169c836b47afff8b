-- Jobs that train several networks: folds and searches.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT no_plan();

CREATE FUNCTION last_job(wanted text) RETURNS bigint LANGUAGE sql AS
    $$ SELECT max(job) FROM llmapp.jobs WHERE model = wanted $$;
CREATE FUNCTION report(wanted text) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT report FROM llmapp.jobs WHERE job = last_job(wanted) $$;

SELECT columns_are('llmapp', 'job_trials', ARRAY['job', 'trial', 'fold', 'settings', 'metric', 'value', 'epochs', 'status']);
SELECT table_privs_are('llmapp', 'job_trial', 'public', ARRAY[]::text[], 'job_trial is closed');
SELECT table_privs_are('llmapp', 'job_trials', 'public', ARRAY['SELECT'], 'job_trials may be read');
SELECT is((SELECT reloptions::text FROM pg_class WHERE oid = 'llmapp.job_trials'::regclass), '{security_barrier=true}', 'and is a security barrier');

-- Folds
CREATE TABLE waves AS SELECT sin(i) AS a, cos(i * 1.7) AS b, i / 10 AS g, sin(i) + cos(i * 1.7) > 0.3 AS y, 2 * sin(i) - cos(i * 1.7) AS z
    FROM generate_series(1, 403) AS i;
\set source 'SELECT a, b, y FROM waves'
SELECT llm_train('folded', :'source', target => 'y', params => '{"folds": 4, "epochs": 30}', wait => true) \g /dev/null
SELECT is((SELECT count(*)::int FROM llmapp.job_trials WHERE job = last_job('public.folded')), 4, 'four folds');
SELECT results_eq($$ SELECT trial, fold, metric, status, value IS NULL, settings FROM llmapp.job_trials WHERE job = last_job('public.folded') ORDER BY fold $$,
    $$ VALUES (1, 1, 'log_loss', 'finished', false, '{}'::jsonb), (1, 2, 'log_loss', 'finished', false, '{}'), (1, 3, 'log_loss', 'finished', false, '{}'),
              (1, 4, 'log_loss', 'finished', false, '{}') $$, 'are rows of job_trials');
SELECT is((SELECT sum((f #>> '{data,held_out_rows}')::int)::int FROM jsonb_array_elements(report('public.folded') -> 'folds') AS f), 403, 'every row is held out once');
SELECT is((SELECT max(abs((f #>> '{data,held_out_rows}')::int - 403 / 4.0)) <= 1.0 FROM jsonb_array_elements(report('public.folded') -> 'folds') AS f), true, 'in parts of equal size');
SELECT is((report('public.folded') #>> '{data,training_rows}')::int, 403, 'all rows train the version');
SELECT is((SELECT value FROM llm_evaluate('folded') WHERE metric = 'n'), 403::float8, 'its quality is that of all folds');
SELECT cmp_ok(abs((SELECT value FROM llm_evaluate('folded') WHERE metric = 'log_loss')
    - (SELECT avg(value) FROM llmapp.job_trials WHERE job = last_job('public.folded'))), '<', 1e-9::float8, 'the mean of the folds');
SELECT is((SELECT sum(count)::int FROM llm_confusion('folded')), 403, 'the confusion matrix has every row');
SELECT cmp_ok((report('public.folded') #>> '{sd,log_loss}')::float8, '>', 0::float8, 'the standard deviation is reported');
SELECT is((SELECT count(DISTINCT fold)::int FROM llmapp.job_metrics WHERE job = last_job('public.folded') AND split = 'validation'), 4, 'curves belong to folds');
SELECT cmp_ok((SELECT value FROM llm_evaluate('folded', :'source') WHERE metric = 'accuracy'), '>', 0.9::float8, 'the version has learned');
SELECT is((SELECT value::text || source FROM llmapp.model_settings WHERE model = 'folded'::regclass AND setting = 'folds'), '4user', 'and knows its folds');
SELECT llm_train('folded_number', 'SELECT a, b, g, z FROM waves', target => 'z', params => '{"folds": 3, "epochs": 20, "group_column": "g"}', wait => true) \g /dev/null
SELECT is((SELECT array_agg(metric || status ORDER BY fold) FROM llmapp.job_trials WHERE job = last_job('public.folded_number')),
          '{rmsefinished,rmsefinished,rmsefinished}', 'numbers, in groups');
SELECT is((SELECT bool_and(abs((f #>> '{data,held_out_rows}')::int - 403 / 3.0) < 10) FROM jsonb_array_elements(report('public.folded_number') -> 'folds') AS f), true, 'of nearly equal size');
SELECT cmp_ok((SELECT value FROM llm_evaluate('folded_number') WHERE metric = 'r2'), '>', 0.9::float8, 'are learned, too');

-- The version predicts the mean of the networks of the folds: probabilities stay such, and its error is no more than theirs is on average.
CREATE FUNCTION network_of(wanted regclass) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE result jsonb; BEGIN EXECUTE format('SELECT meta -> ''network'' FROM %s WHERE version = 1 AND part = 0', wanted) INTO result; RETURN result; END $$;
SELECT is(network_of('folded') ->> 'members', '4', 'the version has a member for each fold');
SELECT llm_train('most_folds', 'SELECT a, b, z FROM waves', target => 'z', params => '{"folds": 20, "epochs": 1, "hidden": [4]}', wait => true) \g /dev/null
SELECT is(network_of('most_folds') ->> 'members', '20', 'up to twenty');
SELECT lives_ok($$ SELECT llm_predict('most_folds', '{"a": 0.5, "b": 0.5}'::jsonb) $$, 'which predict');
SELECT is((SELECT (lineage ->> 'training_rows') || ' ' || (lineage ->> 'steps') FROM llmapp.model_versions WHERE model = 'most_folds'::regclass), '403 240', 'it was learned from all rows, in the steps of all folds');

-- Few rows are learned in folds when nothing else is said.
CREATE TABLE cases (name text, source text, params jsonb, folds text);
INSERT INTO cases VALUES
    ('few_rows', 'SELECT a, z FROM waves', '{}', '5auto'),
    ('twenty_rows', 'SELECT a, z FROM waves LIMIT 20', '{}', '5auto'),
    ('nineteen_rows', 'SELECT a, z FROM waves LIMIT 19', '{}', '0auto'),
    ('almost_many_rows', 'SELECT sin(i) AS a, cos(i) AS z FROM generate_series(1, 1999) AS i', '{}', '5auto'),
    ('many_rows', 'SELECT sin(i) AS a, cos(i) AS z FROM generate_series(1, 2000) AS i', '{}', '0auto'),
    ('rows_without_target', 'SELECT sin(i) AS a, CASE WHEN i < 500 THEN cos(i) END AS z FROM generate_series(1, 2500) AS i', '{}', '5auto'),
    ('class_of_five_rows', 'SELECT a, g = 40 AS z FROM waves UNION ALL SELECT 1, true', '{}', '5auto'),
    ('class_of_four_rows', 'SELECT a, g = 40 AS z FROM waves', '{}', '0auto'),
    ('in_groups', 'SELECT a, g, z FROM waves', '{"group_column": "g"}', '5auto'),
    ('in_two_groups', 'SELECT a, g % 2 AS half, z FROM waves', '{"group_column": "half"}', '0auto'),
    ('by_time', 'SELECT a, g, z FROM waves', '{"time_column": "g"}', '0auto'),
    ('by_share', 'SELECT a, z FROM waves', '{"validation": 0.15}', '0auto'),
    ('in_a_search', 'SELECT a, z FROM waves', '{"trials": 1, "dropout": {"choices": [0]}}', '0auto'),
    ('without', 'SELECT a, z FROM waves', '{"folds": 0}', '0user'),
    ('spelled_out', 'SELECT a, z FROM waves', '{"folds": null, "validation": null}', '5auto');
SELECT llm_train('auto_' || name, source, target => 'z', params => params || '{"epochs": 1, "hidden": [4]}') FROM cases \g /dev/null
SELECT llm_wait(job) FROM llmapp.jobs WHERE model LIKE 'public.auto\_%' \g /dev/null
SELECT is((SELECT value::text || source FROM llmapp.model_settings WHERE model = ('auto_' || name)::regclass AND setting = 'folds'), folds, 'folds: ' || name) FROM cases;
SELECT llm_train('auto_few_rows', 'SELECT a, z FROM waves', target => 'z', base => 'auto_without', params => '{"epochs": 1}', wait => true) \g /dev/null
SELECT is((SELECT value::text || source FROM llmapp.model_settings WHERE model = 'auto_few_rows'::regclass AND setting = 'folds' AND version = 2), '0auto', 'folds: from a base model');
SELECT llm_train('auto_few_rows', 'SELECT a, z FROM waves', target => 'z', base => 'auto_without', params => '{"epochs": 1, "folds": 2}', wait => true) \g /dev/null
SELECT is((SELECT value::text || source FROM llmapp.model_settings WHERE model = 'auto_few_rows'::regclass AND setting = 'folds' AND version = 3), '2user', 'where they can be asked for');
CREATE TABLE pictures AS SELECT llm_reshape((SELECT array_agg(sin(i * k)::real) FROM generate_series(1, 64) AS k)::tensor, '{1,8,8}') AS picture, sin(i) AS z FROM generate_series(1, 60) AS i;
SELECT llm_train('of_pictures', 'pictures', target => 'z', params => '{"epochs": 1, "image": "picture"}', wait => true) \g /dev/null
SELECT is((SELECT value::text || source FROM llmapp.model_settings WHERE model = 'of_pictures'::regclass AND setting = 'folds'), '0auto', 'folds: a convolutional network takes long enough once');
SELECT llm_train('folded_pictures', 'pictures', target => 'z', params => '{"epochs": 1, "image": "picture", "folds": 2}', wait => true) \g /dev/null
SELECT is(network_of('folded_pictures') ->> 'members', '2', 'but can be averaged');
SELECT is((SELECT count(llm_predict('folded_pictures', p)) FROM pictures AS p), 60::bigint, 'and predicts');

SELECT throws_ok($$ SELECT llm_train('m', 'waves', target => 'y', params => '{"folds": 3, "validation": 0.2}') $$, '22023',
                 'parameters "folds" and "validation" cannot be used together', 'one way of holding out');
\set ON_ERROR_STOP off
\set VERBOSITY sqlstate
SELECT llm_train('m', 'waves', target => 'y', params => '{"folds": 20, "group_column": "b2"}', wait => true) AS ignored \gset
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '42703', 'no such group');
SELECT llm_train('m', 'SELECT *, g % 2 AS half FROM waves', target => 'y', params => '{"folds": 3, "group_column": "half"}', wait => true) AS ignored \gset
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '22023', 'fewer groups than folds');
SELECT llm_train('m', 'SELECT * FROM waves LIMIT 9', target => 'y', params => '{"folds": 5}', wait => true) AS ignored \gset
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '22023', 'fewer rows than two for each fold');
SET llmapp.train_memory = '32MB';
SELECT llm_train('large_members', 'SELECT a, z FROM waves', target => 'z', params => '{"hidden": [512, 512], "steps": 1, "folds": 2}', wait => true) > 0 AS trained \gset
SELECT is(:'trained'::boolean, true, 'two members fit into memory');
SELECT llm_train('large_members', 'SELECT a, z FROM waves', target => 'z', params => '{"hidden": [512, 512], "steps": 1, "folds": 20}', wait => true) AS ignored \gset
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '53200', 'twenty do not');
RESET llmapp.train_memory;
\set ON_ERROR_STOP on
\set VERBOSITY default

-- Search
\set search '{"epochs": 32, "trials": 10, "learning_rate": {"min": 1e-6, "max": 1e-1, "log": true}, "hidden": {"choices": [[8], [32, 32]]}}'
SELECT llm_train('found', :'source', target => 'y', params => :'search', wait => true) \g /dev/null
CREATE FUNCTION trials(wanted text) RETURNS text LANGUAGE sql AS
    $$ SELECT string_agg(t::text, ' ' ORDER BY trial) FROM (SELECT trial, fold, settings, metric, value, epochs, status FROM llmapp.job_trials WHERE job = last_job(wanted)) AS t $$;
SELECT results_eq($$ SELECT count(*)::int, count(DISTINCT settings)::int, sum((status = 'best')::int)::int, sum((status = 'finished')::int)::int,
                            sum((status = 'stopped')::int)::int FROM llmapp.job_trials WHERE job = last_job('public.found') $$,
                  'VALUES (10, 10, 1, 2, 7)', 'ten trials, of which three learn to the end');
SELECT is((SELECT bool_and(epochs = 32) FROM llmapp.job_trials WHERE job = last_job('public.found') AND status IN ('best', 'finished')), true, 'these have all epochs');
SELECT is((SELECT max(epochs) FROM llmapp.job_trials WHERE job = last_job('public.found') AND status = 'stopped'), 8::bigint, 'the others a share');
SELECT is((SELECT settings ->> 'hidden' FROM llmapp.job_trials WHERE job = last_job('public.found') AND trial = 1), '[8]', 'the first draws what its range does not hold');
SELECT is((SELECT (settings ->> 'learning_rate')::float8 FROM llmapp.job_trials WHERE job = last_job('public.found') AND trial = 1), 0.002::float8, 'and has the default otherwise');
SELECT is((SELECT value FROM llmapp.model_settings WHERE model = 'found'::regclass AND setting = 'learning_rate'),
          (SELECT settings -> 'learning_rate' FROM llmapp.job_trials WHERE job = last_job('public.found') AND status = 'best'), 'the best setting is published');
SELECT is((SELECT source FROM llmapp.model_settings WHERE model = 'found'::regclass AND setting = 'hidden'), 'search', 'and said to be found');
SELECT is((report('public.found') #>> '{search,best}')::int, (SELECT trial FROM llmapp.job_trials WHERE job = last_job('public.found') AND status = 'best'), 'the report names it');
SELECT cmp_ok(abs((report('public.found') #>> '{search,loss}')::float8 - (SELECT value FROM llm_evaluate('found') WHERE metric = 'log_loss')), '<', 1e-5::float8, 'its weights are published');
SELECT cmp_ok((SELECT value FROM llm_evaluate('found') WHERE metric = 'accuracy'), '>', 0.85::float8, 'they have learned');
SELECT trials('public.found') AS expected \gset
SET llmapp.threads = 2;
SELECT llm_train('found_again', :'source', target => 'y', params => :'search', wait => true) \g /dev/null
RESET llmapp.threads;
SELECT is(trials('public.found_again'), :'expected'::text, 'the same seed finds the same');
SELECT llm_train('one_trial', :'source', target => 'y', params => '{"epochs": 3, "trials": 1, "dropout": {"choices": [0]}}', wait => true) \g /dev/null
SELECT is(trials('public.one_trial') ~ '^\(1,,"\{""dropout"": 0}",loss,[0-9.]+,3,best\)$', true, 'one trial of one choice');
SELECT llm_train('diverging', 'SELECT a, b, z FROM waves', target => 'z', params => '{"epochs": 16, "trials": 4, "hidden": [], "optimizer": "sgd", "clip_norm": 0,
    "weight_decay": 0, "learning_rate": {"choices": [100, 0.01]}, "seed": 2}', wait => true) \g /dev/null
SELECT is((SELECT count(*) > 0 FROM llmapp.job_trials WHERE job = last_job('public.diverging') AND status = 'failed' AND value IS NULL), true, 'a trial that diverges fails alone');
SELECT is((SELECT value FROM llmapp.model_settings WHERE model = 'diverging'::regclass AND setting = 'learning_rate'), '0.01'::jsonb, 'and is not published');
SELECT llm_train('hasty', :'source', target => 'y', params => '{"epochs": 100000, "early_stopping": 0, "max_seconds": 1, "dropout": {"min": 0, "max": 0.5}}', wait => true) \g /dev/null
SELECT is((report('public.hasty') #>> '{search,runs}')::int < 10, true, 'max_seconds ends a search with the best so far');

-- Trials are shown to those who see the job.
CREATE ROLE trials_stranger;
SET ROLE trials_stranger;
SELECT is((SELECT count(*)::int FROM llmapp.job_trials), 0, 'a stranger sees no trials');
RESET ROLE;
SELECT * FROM finish();
DROP ROLE trials_stranger;
