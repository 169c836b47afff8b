# What ends a worker or its server: fast and immediate shutdown, kill -9, promotion, another server's rows,
# and objects that are dropped while a job runs.  With and without the launcher.
use strict;
use warnings;
use IPC::Run;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);
use Test::More;

my $node = start_node('job_crash', 'restart_after_crash = on', 'llmapp.checkpoint_interval = 1');
sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]); }

my $points = q{CREATE TABLE points AS SELECT sin(i) AS x, cos(i) AS y, sin(i) > cos(i) AS above FROM generate_series(1, 4000) AS i;
	CREATE VIEW stuck AS SELECT x, y, above FROM points, pg_sleep(600)};
sql($points);
my $long = '{"epochs": 100000, "early_stopping": 0}';

sub train
{
	my ($source, $database, $role, $params) = @_;
	my $id = sql(sprintf("%sSELECT llm_train('m', '%s', target => 'above', params => '%s')", $role ? "SET ROLE $role; " : '', $source // 'points', $params // $long), $database);
	my $phase = ($source // '') eq 'stuck' ? 'loading' : 'training';
	for (1 .. 400)
	{
		last if sql("SELECT count(*) FROM llmapp.progress WHERE job = $id AND phase = '$phase' AND (phase = 'loading' OR done > 0)", $database) eq '1';
		select(undef, undef, undef, 0.05);
	}
	return $id;
}
sub status { return sql("SELECT status FROM llmapp.jobs WHERE job = $_[0]", $_[1]); }
sub worker { return sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'llmapp job'}); }

# Until the server answers again after a crash.
sub wait_for_server
{
	for (1 .. 200)
	{
		my ($status, $out) = $node->psql('postgres', 'SELECT 1', timeout => 10);
		return if defined $status && $status == 0;
		select(undef, undef, undef, 0.1);
	}
	return;
}

sub idle { return wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llmapp job'}, '0', 30); }

# shutdown
foreach my $source ('points', 'stuck')
{
	my $job = train($source);
	my $start = time;
	$node->stop('fast');
	cmp_ok(time - $start, '<', 3, "fast shutdown with a job on $source is quick");
	$node->start;
	is(status($job), 'interrupted', 'the job is interrupted');
	is(sql("SELECT status FROM llmapp.job WHERE job = $job"), 'interrupted', 'and its row says so');
	is(sql("SELECT llm_cancel($job)"), 'cancelled', 'it can be cancelled');
}
my $job = train();
$node->stop('immediate');
$node->start;
is(status($job), 'interrupted', 'after an immediate shutdown the running job is interrupted');
is(sql("SELECT status FROM llmapp.job WHERE job = $job"), 'running', 'although its row says running');
is(sql("SELECT llm_wait($job)"), 'interrupted', 'a wait does not wait for it');
is(sql("SELECT llm_resume($job)"), 'queued', 'it can be resumed');
ok(wait_for($node, "SELECT status FROM llmapp.jobs WHERE job = $job", 'running', 20), 'and runs');

# kill -9: the whole server restarts, the row is stale
my $pid = worker();
my $waiter = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', "SELECT llm_wait($job)" ], '>', \my $out, '2>', \my $err);
kill 'KILL', $pid;
$waiter->finish;
wait_for_server();
is(status($job), 'interrupted', 'kill -9 interrupts the job');
is(sql('SELECT count(*) FROM llmapp.progress'), '0', 'no slot is left');
is(sql("SELECT llm_pause($job)"), 'paused', 'an interrupted job can be paused');
sql("SELECT llm_resume($job)");
ok(wait_for($node, "SELECT count(*) FROM llmapp.progress WHERE job = $job AND phase = 'training' AND done > 0", '1', 20), 'and resumed');
sql("SELECT llm_cancel($job)");

# the death of the postmaster ends the worker before long
$job = train();
$pid = worker();
my $postmaster = do { open my $file, '<', $node->data_dir . '/postmaster.pid' or die; <$file> + 0 };
kill 'KILL', $postmaster;
for (1 .. 50) { last unless kill 0, $pid; select(undef, undef, undef, 0.1); }
ok(!kill(0, $pid), 'a worker does not outlive the postmaster');
$node->{_pid} = undef;
unlink $node->data_dir . '/postmaster.pid';
$node->start;
is(status($job), 'interrupted', 'its job is interrupted');
sql("SELECT llm_cancel($job)");

# a row of another server is not run here by itself
sql("INSERT INTO llmapp.job (owner, kind, model, status, device, spec, system_identifier, server_started_at)
	SELECT owner, kind, model, s, device, spec, 42, server_started_at FROM llmapp.job, unnest('{queued,running}'::text[]) AS s WHERE job = $job");
is(sql("SELECT string_agg(status, ',') FROM llmapp.jobs WHERE job > $job"), 'interrupted,interrupted', 'rows of another server are interrupted');
my $other = sql('SELECT max(job) FROM llmapp.jobs');
is(sql("SELECT llm_cancel($other); SELECT llm_cancel($other - 1)"), "cancelled\ncancelled", 'and can be cancelled');

# dropping what a job needs
sql('CREATE DATABASE scratch');
sql("CREATE EXTENSION llmapp; $points", 'scratch');
$job = train('points', 'scratch');
my ($status, $stdout, $stderr) = $node->psql('postgres', 'DROP DATABASE scratch');
like($stderr, qr/is being accessed by other users/, 'DROP DATABASE is refused while a job runs');
sql('DROP EXTENSION llmapp', 'scratch');
ok(idle(), 'DROP EXTENSION ends the job');
like(slurp_file($node->logfile), qr/"llmapp\.job(_metric)?" does not exist/, 'with a clear error in the log');
is(sql('CREATE EXTENSION llmapp; SELECT count(*) FROM llmapp.jobs', 'scratch'), '0', 'the extension can be created again');
$job = train('points', 'scratch');
sql('DROP DATABASE scratch WITH (FORCE)');
ok(idle(), 'DROP DATABASE WITH (FORCE) ends the job');

sql('CREATE ROLE carol LOGIN; GRANT CREATE ON SCHEMA public TO carol; GRANT SELECT ON points TO carol');
my $short = '{"epochs": 60, "early_stopping": 0}';
$job = train('points', undef, 'carol', $short);
sql('DROP OWNED BY carol; DROP ROLE carol');
is(sql("SELECT llm_wait($job)"), 'failed', 'a job whose owner is dropped fails');
is(sql("SELECT message FROM llmapp.jobs WHERE job = $job"), 'the role that owns the job has been dropped', 'with an error that says so');
like(sql("SELECT owner FROM llmapp.jobs WHERE job = $job"), qr/^\d+$/, 'its row shows the number of the role');

sql('CREATE TABLE mine AS TABLE points');
$job = train('mine', undef, undef, $short);
sql('DROP TABLE mine');
is(sql("SELECT llm_wait($job)"), 'succeeded', 'the source may go once it is loaded');

# an owner who can no longer connect does not hold up those behind him
sql('CREATE ROLE dora LOGIN; GRANT CREATE ON SCHEMA public TO dora; GRANT SELECT ON points TO dora');
$node->append_conf('postgresql.conf', 'llmapp.max_jobs = 1');
$node->reload;
wait_for($node, 'SHOW llmapp.max_jobs', '1', 10);
$job = train();
my $dora = sql("SET ROLE dora; SELECT llm_train('d', 'points', target => 'above')");
my $behind = sql(q{SELECT llm_train('behind', 'points', target => 'above', params => '{"epochs": 1}')});
sql('ALTER ROLE dora NOLOGIN');
sql("SELECT llm_cancel($job)");
is(sql("SELECT llm_wait($behind)"), 'succeeded', 'the queue goes on behind a job that cannot start');
is(sql("SELECT status || sqlstate FROM llmapp.jobs WHERE job = $dora"), 'failed28000', 'which has failed');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'llmapp%'}) <= 1, 1, 'no process is left over');

# with the launcher
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'llmapp'\nllmapp.databases = 'postgres, no_such_database, template1, two'\nllmapp.max_jobs = 2");
sql('CREATE DATABASE two');
sql("CREATE EXTENSION llmapp; $points", 'two');
$job = train();
my $two = train('points', 'two');
$node->restart('fast');
ok(wait_for($node, "SELECT count(*) FROM llmapp.progress WHERE job = $job AND phase = 'training'", '1', 30), 'the launcher resumes the job after a restart');
for (1 .. 200) { last if status($two, 'two') eq 'running'; select(undef, undef, undef, 0.1); }
is(status($two, 'two'), 'running', 'in every database of the list');
unlike(slurp_file($node->logfile), qr/background worker "llmapp launcher".* exited/, 'and survives databases that are missing or have no llmapp');
kill 'KILL', worker() =~ /(\d+)/;
wait_for_server();
ok(wait_for($node, "SELECT status FROM llmapp.jobs WHERE job = $job", 'running', 30), 'also after a crash');
is(sql("SELECT crashes FROM llmapp.job WHERE job = $job"), '1', 'which is counted');
sql("SELECT llm_cancel($job)");
sql("UPDATE llmapp.job SET status = 'running', crashes = 2 WHERE job = $job");
$node->restart('fast');
ok(wait_for($node, "SELECT status || crashes FROM llmapp.job WHERE job = $job", 'interrupted3', 30), 'a job that took the server down three times is left alone');
$node->append_conf('postgresql.conf', 'llmapp.max_jobs = 0');
$node->reload;
wait_for($node, 'SHOW llmapp.max_jobs', '0', 10);
$job = sql(q{SELECT llm_train('later', 'points', target => 'above', params => '{"epochs": 1}')});
$node->append_conf('postgresql.conf', 'llmapp.max_jobs = 4');
$node->reload;
ok(wait_for($node, "SELECT status FROM llmapp.jobs WHERE job = $job", 'succeeded', 30), 'raising llmapp.max_jobs starts what is queued');
$node->stop('fast');
unlike(slurp_file($node->logfile), qr/PANIC|signal 11|signal 6|stuck spinlock/, 'nothing crashed but what was killed');
done_testing();
