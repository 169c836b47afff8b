# What an ordinary role can do with a schema of its own, and what it cannot do with anybody else's things.
use strict;
use warnings;
use LlmappTest;
use Test::More;

my $node = start_node('roles');
$node->safe_psql('postgres', q(
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE nobody_logs_in NOLOGIN;
	CREATE SCHEMA alice AUTHORIZATION alice; CREATE SCHEMA bob AUTHORIZATION bob;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	CREATE TABLE public.visits AS SELECT i AS id, sin(i) AS x, cos(i * 1.7) AS y, sin(i) > 0 AS positive,
		CASE WHEN i % 2 = 0 THEN 'alice' ELSE 'other' END AS owner FROM generate_series(1, 400) AS i;
	ALTER TABLE public.visits ENABLE ROW LEVEL SECURITY;
	CREATE POLICY own ON public.visits USING (owner = current_user);
	GRANT SELECT (x, y, positive, owner) ON public.visits TO alice));

sub as { my ($role, $sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]); }
sub fails
{
	my ($role, $sql, $pattern, $name) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', $sql, extra_params => [ '-U', $role ]);
	ok($status != 0, "$name: refused") or diag($stdout);
	like($stderr, $pattern, "$name: message");
	return;
}

# Alice trains, looks, predicts, promotes and drops without any privilege but her schema.
as('alice', q(SELECT llm_train('m', 'SELECT x, y, positive FROM visits', target => 'positive', wait => true,
	params => '{"epochs": 3, "hidden": [8]}')));
is(as('alice', q(SELECT report -> 'data' ->> 'rows_read' FROM llmapp.jobs)), '200', 'row security hides rows from her job');
is(as('alice', q(SELECT model FROM llmapp.models)), 'm', 'her model is in her schema and she sees it');
like(as('alice', q(SELECT llm_predict('m', '{"x": 1, "y": 0}'::jsonb))), qr/^(true|false)$/, 'she predicts');
like(as('alice', q(SELECT value FROM llm_evaluate('m') WHERE metric = 'accuracy')), qr/^[01]/, 'she evaluates');
as('alice', q(SELECT llm_train('m', 'SELECT x, y, positive FROM visits', target => 'positive', wait => true,
	params => '{"epochs": 1, "hidden": [4], "deploy": "always"}')));
as('alice', q(SELECT llm_promote('m', 1); SELECT llm_drop_version('m', 2)));
is(as('alice', q(SELECT count(*) FROM llmapp.model_versions)), '1', 'she promotes and drops versions');
fails('alice', q(SELECT llm_train('m2', 'SELECT id, x, positive FROM visits', target => 'positive', wait => true)),
	qr/permission denied for table visits/, 'a column she may not read');
fails('alice', q(SELECT llm_train('bob.m', 'SELECT x, positive FROM visits', target => 'positive', wait => true)),
	qr/permission denied for schema bob/, 'a model in another schema');

# Bob sees nothing of it until it is granted, and then no more than granted.
fails('bob', q(SELECT llm_predict('alice.m', '{"x": 1, "y": 0}'::jsonb)), qr/permission denied/, 'without USAGE');
as('alice', 'GRANT USAGE ON SCHEMA alice TO bob');
fails('bob', q(SELECT llm_predict('alice.m', '{"x": 1, "y": 0}'::jsonb)), qr/permission denied/, 'without SELECT on meta');
is(as('bob', q(SELECT count(*) FROM llmapp.jobs)), '0', 'the jobs of others are invisible');
is(as('bob', q(SELECT count(*) FROM llmapp.job_metrics)), '0', 'their metrics too');
is(as('bob', q(SELECT count(*) FROM llmapp.progress)), '0', 'their progress too');
is(as('bob', q(SELECT count(*) FROM llmapp.model_versions)), '0', 'versions of models he may not read too');
fails('bob', 'SELECT * FROM llmapp.job', qr/permission denied/, 'the table of jobs itself');
my $job = as('alice', 'SELECT min(job) FROM llmapp.jobs');
fails('bob', "SELECT llm_cancel($job)", qr/job $job|permission denied/, 'cancelling a job of another role');
fails('bob', "SELECT llm_wait($job)", qr/job $job|permission denied/, 'waiting for a job of another role');
as('alice', 'GRANT SELECT (meta) ON alice.m TO bob');
like(as('bob', q(SELECT llm_predict('alice.m', '{"x": 1, "y": 0}'::jsonb))), qr/^(true|false)$/, 'SELECT on meta allows to predict');
fails('bob', 'SELECT data FROM alice.m', qr/permission denied/, 'the weights');
fails('bob', q(SELECT llm_promote('alice.m', 1)), qr/permission denied/, 'promoting a version of another role');
fails('bob', q(SELECT llm_train('alice.m', 'SELECT 1.0 AS x, true AS positive', target => 'positive', wait => true)),
	qr/permission denied/, 'adding a version to the model of another role');

# Files: whoever may read the weights may take them along, whoever may write a model may import into it.
fails('bob', q(SELECT llm_export('alice.m')), qr/permission denied for model "m".*GRANT SELECT \(data\)/s, 'exporting without SELECT on data');
as('alice', 'GRANT SELECT (data) ON alice.m TO bob');
as('bob', q(SELECT llm_import('copy', llm_export('alice.m'))));
is(as('bob', q(SELECT owner, live_version FROM llmapp.models WHERE name = 'copy')), 'bob|1', 'a copy is his own');
fails('bob', q(SELECT llm_import('alice.m', llm_export('copy'))), qr/permission denied for model "m"/, 'importing into the model of another role');
fails('bob', q(SELECT llm_import('alice.m2', llm_export('copy'))), qr/permission denied for schema alice/, 'importing into another schema');
as('alice', 'REVOKE SELECT (meta) ON alice.m FROM bob');
fails('bob', q(SELECT llm_export('alice.m')), qr/permission denied for model "m".*GRANT SELECT \(meta\)/s, 'exporting without SELECT on meta');

# A role that cannot log in cannot have a worker.
$node->safe_psql('postgres', 'GRANT nobody_logs_in TO bob');
fails('bob', q(SET ROLE nobody_logs_in; SELECT llm_train('bob.m', 'SELECT 1.0 AS x, true AS positive', target => 'positive')),
	qr/log in/, 'a role without LOGIN');
done_testing();
