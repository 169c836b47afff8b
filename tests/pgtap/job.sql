-- Jobs: what the catalogs must say about tables, views and functions, and who may do what.
BEGIN;
SELECT no_plan();

SELECT has_table('llmapp', t, 'table ' || t) FROM unnest(ARRAY['job', 'job_metric', 'job_trial']::name[]) AS t;
SELECT has_view('llmapp', v, 'view ' || v) FROM unnest(ARRAY['jobs', 'job_metrics', 'job_trials', 'progress', 'devices']::name[]) AS v;
SELECT columns_are('llmapp', 'jobs', ARRAY['job', 'model', 'version', 'owner', 'kind', 'status', 'phase', 'device', 'sqlstate',
    'message', 'detail', 'hint', 'submitted_at', 'started_at', 'finished_at', 'report']);
SELECT columns_are('llmapp', 'job_metrics', ARRAY['job', 'step', 'epoch', 'split', 'metric', 'value', 'at', 'trial', 'fold']);
SELECT columns_are('llmapp', 'progress', ARRAY['job', 'model', 'phase', 'done', 'total', 'epoch', 'loss', 'per_second', 'eta', 'bar']);
SELECT columns_are('llmapp', 'devices', ARRAY['device', 'available', 'name', 'threads', 'kernels', 'memory', 'memory_free', 'reason']);
SELECT col_type_is('llmapp', 'job', 'owner', 'regrole', 'owners are stored by a type that dump and upgrade understand');
SELECT is_empty($$SELECT attrelid::regclass, attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
    WHERE relnamespace = 'llmapp'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0
      AND atttypid IN ('oid'::regtype, 'aclitem'::regtype, 'aclitem[]'::regtype, 'regproc'::regtype, 'regprocedure'::regtype,
                       'regoper'::regtype, 'regoperator'::regtype, 'regnamespace'::regtype, 'regconfig'::regtype, 'regdictionary'::regtype)$$,
    'no column of a type that breaks a dump or pg_upgrade');
SELECT is((SELECT extconfig IS NULL FROM pg_extension WHERE extname = 'llmapp'), true, 'jobs are not dumped');
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class c WHERE relname IN ('job', 'job_metric', 'job_trial', 'job_unfinished', 'job_metric_job', 'jobs', 'job_metrics', 'job_trials', 'progress', 'devices')
    AND relnamespace = 'llmapp'::regnamespace AND obj_description(c.oid, 'pg_class') IS NULL$$, 'every relation has a comment');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'llmapp')
    WHERE obj_description(p.oid, 'pg_proc') IS NULL$$, 'every function has a comment');
SELECT is((SELECT reloptions::text FROM pg_class WHERE oid = ('llmapp.' || v)::regclass), '{security_barrier=true}', v || ' is a security barrier')
  FROM unnest(ARRAY['jobs', 'job_metrics', 'job_trials', 'progress']) AS v;
SELECT table_privs_are('llmapp', t, 'public', ARRAY[]::text[], t || ' is closed') FROM unnest(ARRAY['job', 'job_metric', 'job_trial']::name[]) AS t;
SELECT table_privs_are('llmapp', v, 'public', ARRAY['SELECT'], v || ' may be read') FROM unnest(ARRAY['jobs', 'job_metrics', 'job_trials', 'progress', 'devices']::name[]) AS v;

SELECT is((SELECT pg_get_function_arguments('llm_train'::regproc)),
    'model text, source text, target text DEFAULT NULL::text, task text DEFAULT NULL::text, architecture text DEFAULT NULL::text, '
    'params jsonb DEFAULT ''{}''::jsonb, base regclass DEFAULT NULL::regclass, device text DEFAULT NULL::text, wait boolean DEFAULT false',
    'arguments of llm_train');
SELECT is((SELECT pg_get_function_arguments('llm_wait'::regproc)), 'job bigint, timeout interval DEFAULT NULL::interval', 'arguments of llm_wait');
SELECT volatility_is(f, 'volatile') FROM unnest(ARRAY['llm_train', 'llm_wait', 'llm_cancel', 'llm_pause', 'llm_resume']::name[]) AS f;
SELECT is((SELECT proparallel::text FROM pg_proc WHERE proname = f), 'u', f || ' is not for parallel workers')
  FROM unnest(ARRAY['llm_train', 'llm_wait', 'llm_cancel', 'llm_pause', 'llm_resume', 'job_status', 'running_jobs']) AS f;
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'llmapp')
    WHERE prosecdef$$, 'nothing runs with the rights of its definer');

-- NULL and unknown jobs
SELECT is(llm_wait(NULL), NULL, 'waiting for NULL');
SELECT is(llm_cancel(NULL), NULL, 'cancelling NULL');
SELECT throws_ok('SELECT llm_wait(-1)', '42704', 'job -1 does not exist');
SELECT throws_ok('SELECT llm_cancel(0)', '42704', 'job 0 does not exist');
SELECT throws_ok('SELECT llm_pause(9223372036854775807)', '42704', 'job 9223372036854775807 does not exist');
SELECT throws_ok('SELECT llm_resume(1)', '42704', 'job 1 does not exist');
SELECT is(llmapp.job_status(1, 'running', 1), 'interrupted', 'a running job of another server');
SELECT is(llmapp.job_status(1, 'succeeded', 1), 'succeeded', 'an ended job of another server');
SELECT is(llmapp.job_status(-1, 'nonsense', 0), 'nonsense', 'any words');
SELECT is(llmapp.job_status(NULL, NULL, NULL), NULL, 'nothing');

-- a row goes through its states in a transaction that is never committed, so nothing starts
CREATE TABLE points AS SELECT i AS x, i * 2 AS y FROM generate_series(1, 100) AS i;
CREATE TEMP TABLE mine AS SELECT llm_train('pgtap_model', 'SELECT * FROM points', target => 'y', task => 'regression', device => 'cpu') AS job;
SELECT results_eq('SELECT status, kind, model, device, sqlstate, version, phase, started_at IS NULL, finished_at IS NULL, submitted_at IS NOT NULL FROM llmapp.jobs JOIN mine USING (job)',
    $$VALUES ('queued', 'train', 'public.pgtap_model', 'cpu', NULL::text, NULL::int, NULL::text, true, true, true)$$, 'a queued job');
SELECT is((SELECT owner FROM llmapp.jobs JOIN mine USING (job)), current_user::regrole, 'is of the current user');
SELECT throws_ok('SELECT llm_wait(job) FROM mine', '55000', NULL, 'cannot be waited for in its own transaction');
SELECT is((SELECT llm_pause(job) FROM mine), 'paused', 'pause');
SELECT is((SELECT llm_resume(job) FROM mine), 'queued', 'resume');
SELECT is((SELECT llm_resume(job) FROM mine), 'queued', 'resume again');
SELECT is((SELECT llm_cancel(job) FROM mine), 'cancelled', 'cancel');
SELECT is((SELECT finished_at IS NOT NULL FROM llmapp.jobs JOIN mine USING (job)), true, 'an ended job has an end');
SELECT throws_ok('SELECT llm_pause(job) FROM mine', '55000', NULL, 'a cancelled job cannot be paused');
SELECT throws_ok('SELECT llm_resume(job) FROM mine', '55000', NULL, 'nor resumed');
SELECT throws_ok($$SELECT llm_train('m', 'points', target => 'y', wait => true)$$, '25001', NULL, 'no wait in a transaction block');

-- devices
SELECT is((SELECT available FROM llmapp.devices WHERE device = 'cpu'), true, 'the processor can train');
SELECT is_empty('SELECT device FROM llmapp.devices WHERE available <> (reason IS NULL)', 'what cannot train has a reason');
SELECT is_empty('SELECT device FROM llmapp.devices WHERE available AND (name IS NULL OR threads < 1 OR kernels IS NULL)', 'what can train is described');
SELECT is_empty('SELECT * FROM llmapp.progress', 'no job runs');

SELECT * FROM finish();
ROLLBACK;
