# Submitting: what COMMIT, ROLLBACK, subtransactions, prepared and read-only transactions, roles and timeouts do to a job.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('job_submit', 'max_prepared_transactions = 5', 'wal_level = replica');
sub sql { return $node->safe_psql('postgres', $_[0]); }

# Standard error of a script that must fail.
sub fails
{
	my ($script, $pattern, $name, %options) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', $script, on_error_stop => 1,
		extra_params => [ map { ('-c', $_) } @{ $options{setup} // [] } ]);
	isnt($status, 0, "$name: fails");
	like($stderr, $pattern, $name);
	return $stderr;
}

sql(q{CREATE TABLE points AS SELECT sin(i) AS x, cos(i) AS y, sin(i) > cos(i) AS above FROM generate_series(1, 500) AS i;
	GRANT SELECT ON points TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC;
	CREATE FUNCTION train(model text) RETURNS bigint LANGUAGE sql AS
	$$ SELECT llm_train(model, 'points', target => 'above', params => '{"epochs": 2}') $$});

# No job but those that exist ever starts a worker: the log would show it.
sub settled
{
	wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llmapp job'}, '0', 60);
	return sql('SELECT string_agg(model || $$=$$ || status, $$ $$ ORDER BY job) FROM llmapp.jobs');
}

my $job = sql("SELECT train('committed')");
is(sql("SELECT llm_wait($job)"), 'succeeded', 'a committed job runs');
sql("BEGIN; SELECT train('rolled_back'); ROLLBACK");
sql("BEGIN; SAVEPOINT a; SELECT train('to_savepoint'); ROLLBACK TO a; COMMIT");
sql("BEGIN; SAVEPOINT a; SAVEPOINT b; SELECT train('nested'); RELEASE b; ROLLBACK TO a; COMMIT");
is(settled(), 'public.committed=succeeded', 'ROLLBACK and ROLLBACK TO start nothing, nested ones too');
sql("BEGIN; SAVEPOINT a; SELECT train('released'); RELEASE a; SAVEPOINT b; SELECT train('undone'); ROLLBACK TO b; COMMIT");
like(settled(), qr/^public.committed=succeeded public.released=succeeded$/, 'a released savepoint starts its job, the other does not');
sql(q{DO $$ BEGIN
	PERFORM train('before_exception');
	BEGIN PERFORM train('in_exception'); PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END;
	PERFORM train('after_exception');
	END $$});
like(settled(), qr/before_exception=succeeded public.after_exception=succeeded$/, 'an exception block undoes its job only');
sql(q{CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$ BEGIN
	PERFORM train('first_step'); COMMIT; PERFORM train('second_step'); ROLLBACK; END $$; CALL steps()});
like(settled(), qr/first_step=succeeded$/, 'COMMIT and ROLLBACK within a procedure');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|server process .* exited with exit code [^01]/,
	'no worker crashed on a row that was rolled back');

# what a transaction must not do
fails("BEGIN; SELECT train('prepared'); PREPARE TRANSACTION 'p'", qr/cannot PREPARE a transaction that has submitted/, 'PREPARE TRANSACTION');
fails("BEGIN READ ONLY; SELECT train('read_only')", qr/cannot execute llm_train\(\) in a read-only transaction/, 'read-only transaction');
fails("BEGIN; SELECT llm_train('m', 'points', target => 'above', wait => true)", qr/cannot run inside a transaction block.*HINT/s, 'wait in a transaction block');
fails(q{DO $$ BEGIN CREATE TABLE t (); PERFORM llm_train('m', 'points', target => 'above', wait => true); END $$},
	qr/in a transaction that has written.*would not see/s, 'wait after writing');
fails(q{DO $$ BEGIN BEGIN PERFORM llm_train('m', 'points', target => 'above', wait => true); EXCEPTION WHEN division_by_zero THEN NULL; END; END $$},
	qr/cannot run inside a transaction block/, 'wait in an exception block');
fails("BEGIN; SELECT train('own') AS job \\gset\nSELECT llm_wait(:job)", qr/starts when this transaction commits.*COMMIT; SELECT llm_wait/s, 'waiting for a job of this transaction');
fails("SELECT llm_train(NULL, 'points')", qr/argument "model" of llm_train\(\) must not be null/, 'model is NULL');
fails("SELECT llm_train('m', NULL)", qr/argument "source" of llm_train\(\) must not be null/, 'source is NULL');

# roles: the job runs as the current user, who must be able to connect
sql("CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE team NOLOGIN; GRANT team TO alice");
fails("SET ROLE team; SELECT train('of_team')", qr/role "team" cannot run a job because it is not permitted to log in.*HINT/s, 'a role that cannot log in');
$job = sql("SET ROLE alice; SELECT train('of_alice')");
is(sql("SELECT llm_wait($job)"), 'succeeded', 'a job of the current user');
is(sql("SELECT relowner::regrole FROM pg_class WHERE relname = 'of_alice'"), 'alice', 'publishes as that user');
is(sql("SELECT owner FROM llmapp.jobs WHERE job = $job"), 'alice', 'and is that user\'s');

# row security and privileges hold in the worker
sql(q{CREATE TABLE secret AS SELECT i % 2 = 0 AS mine, i AS n, i * 2 AS y FROM generate_series(1, 400) AS i;
	ALTER TABLE secret ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON secret TO alice USING (mine); GRANT SELECT ON secret TO alice});
$job = sql(q{SET ROLE alice; SELECT llm_train('of_rows', 'SELECT n, y FROM secret', target => 'y', params => '{"epochs": 1}')});
sql("SELECT llm_wait($job)");
is(sql("SELECT report -> 'data' ->> 'rows_read' FROM llmapp.jobs WHERE job = $job"), '200', 'row security limits what the worker reads');

# settings of role and database do not reach the job
sql(q{ALTER ROLE alice SET statement_timeout = '1ms'; ALTER ROLE alice SET lock_timeout = '1ms'; ALTER ROLE alice SET default_transaction_read_only = on;
	ALTER ROLE alice SET default_transaction_isolation = serializable});
$job = sql("SET ROLE alice; SELECT train('no_timeout')");
is(sql("SELECT llm_wait($job)"), 'succeeded', 'timeouts, read-only and isolation of the role do not reach the job');
sql('ALTER ROLE alice RESET ALL');
sql(q{CREATE SCHEMA hidden; CREATE TABLE hidden.rows AS SELECT sin(i) AS a, cos(i) AS b FROM generate_series(1, 300) AS i});
$job = sql(q{SET search_path = hidden, public; SELECT llm_train('public.by_path', 'SELECT a, b FROM rows', target => 'b', params => '{"epochs": 1}')});
is(sql("SELECT llm_wait($job)"), 'succeeded', 'the search path of the session reaches the job');

# operators that shadow the server's are never run with the rights of the extension's owner
sql(q{CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO alice});
sql(q{SET ROLE alice; CREATE TABLE evil.caught (who text);
	CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO evil.caught VALUES (current_user); RETURN true; END $$;
	CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO evil.caught VALUES (current_user); RETURN true; END $$;
	CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq);
	CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq)});
$job = sql(q{SET ROLE alice; SET search_path = evil, pg_catalog, public; SELECT train('shadowed')});
sql(qq{SET ROLE alice; SET search_path = evil, pg_catalog, public; SELECT llm_wait($job); SELECT llm_cancel($job); SELECT count(*) FROM llmapp.jobs});
is(sql(q{SELECT count(*) FROM evil.caught WHERE who <> 'alice'}), '0', 'no operator of a user runs with the rights of another');

# other roles
my ($status, $stdout, $stderr) = $node->psql('postgres', "SET ROLE bob; SELECT count(*) FROM llmapp.jobs; SELECT count(*) FROM llmapp.job_metrics; SELECT count(*) FROM llmapp.progress");
is("$status $stdout", "0 0\n0\n0", 'a stranger sees nothing and no error');
fails("SET ROLE bob; SELECT $_($job)", qr/permission denied for job $job/, "a stranger and $_") foreach qw(llm_cancel llm_pause llm_resume llm_wait);
fails("SET ROLE bob; TABLE llmapp.$_", qr/permission denied for table $_/, "the table $_ is closed") foreach qw(job job_metric);
sql('GRANT alice TO bob');
cmp_ok(sql("SET ROLE bob; SELECT count(*) FROM llmapp.jobs WHERE owner = 'alice'::regrole"), '>', 0, 'a member of the owner sees the jobs');
is(sql("SET ROLE bob; SELECT llm_wait($job)"), sql("SELECT status FROM llmapp.jobs WHERE job = $job"), 'and may control them');
fails('SELECT llm_cancel(999999)', qr/job 999999 does not exist.*HINT/s, 'an unknown job');

# a reader leak: the view's own condition is applied before a function of the reader sees a row
sql('CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO mallory');
($status, $stdout, $stderr) = $node->psql('postgres', q{SET ROLE mallory;
	CREATE FUNCTION peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'seen %', $1; RETURN true; END $$;
	SELECT count(*) FROM llmapp.jobs WHERE peek(model)});
unlike($stderr, qr/seen/, 'no row leaks into a cheap function of the reader');

# a standby
$node->stop;
$node->backup_fs_cold('base');
$node->start;
my $standby = PostgreSQL::Test::Cluster->new('job_submit_standby');
$standby->init_from_backup($node, 'base');
$standby->set_standby_mode;
$standby->start;
foreach my $call ("llm_train('m', 'points', target => 'above')", "llm_train('m', 'points', target => 'above', wait => true)", "llm_cancel($job)", "llm_wait($job)")
{
	($status, $stdout, $stderr) = $standby->psql('postgres', "SELECT $call");
	like($stderr, qr/standby server.*HINT:  Connect to the primary/s, "a standby refuses $call");
}
cmp_ok($standby->safe_psql('postgres', 'SELECT count(*) FROM llmapp.jobs'), '>', 5, 'a standby shows the jobs');
done_testing();
