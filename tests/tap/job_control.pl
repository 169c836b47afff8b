# Cancel, pause, resume, wait and the queue: every state, every phase, and how fast a job reacts.
use strict;
use warnings;
use IPC::Run;
use LlmappTest;
use Time::HiRes qw(time);
use Test::More;

my $node = start_node('job_control', 'llmapp.max_jobs = 4');
sub sql { return $node->safe_psql('postgres', $_[0]); }

sub fails
{
	my ($script, $pattern, $name) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', $script);
	like($stderr, $pattern, $name);
	return;
}

sql(q{CREATE TABLE points AS SELECT sin(i) AS x, cos(i) AS y, sin(i) > cos(i) AS above FROM generate_series(1, 4000) AS i;
	CREATE VIEW slow AS SELECT x, y, above FROM points, pg_sleep(0.05);
	CREATE VIEW stuck AS SELECT x, y, above FROM points, pg_sleep(600)});
my $long = '{"epochs": 100000, "early_stopping": 0}';

sub train
{
	my ($source, $params) = @_;
	return sql(sprintf "SELECT llm_train('m', '%s', target => 'above', params => '%s')", $source // 'points', $params // $long);
}
sub status { return sql("SELECT status FROM llmapp.jobs WHERE job = $_[0]"); }

sub wait_for_phase
{
	my ($job, $phase) = @_;
	return wait_for($node, "SELECT count(*) FROM llmapp.progress WHERE job = $job AND phase = '$phase' AND (phase = 'loading' OR done > 0)", '1', 30);
}

sub idle { return wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llmapp job'}, '0', 30); }

# a running job in the views
my $job = train();
ok(wait_for_phase($job, 'training'), 'a job trains');
like(sql("SELECT bar || ' ' || total FROM llmapp.progress WHERE job = $job"), qr/^\[[#.]{20}\] +\d+ % \d+$/, 'progress has a bar and a total');
is(sql("SELECT status || phase FROM llmapp.jobs WHERE job = $job"), 'runningtraining', 'jobs shows status and phase');
is(sql("SELECT count(*) FROM llmapp.jobs WHERE job = $job AND started_at >= submitted_at AND finished_at IS NULL"), '1', 'times');
is(sql("SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE backend_type = 'llmapp job'"), 't', 'a training job holds no snapshot');
is(sql("SELECT count(*) FROM pg_locks WHERE pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'llmapp job') AND locktype = 'relation'"), '0', 'nor a lock on a table');
like(sql("SELECT application_name || ' ' || query FROM pg_stat_activity WHERE backend_type = 'llmapp job'"), qr/^llmapp job \d+ training model public.m$/, 'pg_stat_activity names the job');
is(sql("SELECT llm_wait($job, '0.1 s')"), 'running', 'a wait that times out gives the status');
is(sql("SELECT llm_wait($job, '0')"), 'running', 'a wait of no time as well');
is(sql("SELECT llm_resume($job)"), 'running', 'resuming a running job does nothing');
ok(wait_for($node, "SELECT count(*) > 0 FROM llmapp.job_metrics WHERE job = $job", 't', 10), 'metrics arrive while it runs');
is(sql("SELECT llm_cancel($job)"), 'cancelled', 'cancel');
is(sql("SELECT status || sqlstate || (finished_at IS NOT NULL) FROM llmapp.jobs WHERE job = $job"), 'cancelled57014true', 'a cancelled job says so');
is(sql("SELECT llm_cancel($job)"), 'cancelled', 'cancelling twice does nothing');
is(sql("SELECT llm_wait($job)"), 'cancelled', 'waiting for a job that has ended returns at once');
fails("SELECT llm_pause($job)", qr/job $job cannot be paused: it has been cancelled.*HINT/s, 'pausing a cancelled job');
fails("SELECT llm_resume($job)", qr/job $job cannot be resumed: it has been cancelled/, 'resuming a cancelled job');

# how fast a cancel is, in each phase and before it
sub cancel_times
{
	my ($count, $prepare) = @_;
	my @times;
	foreach (1 .. $count)
	{
		my $id = $prepare->();
		my $start = time;
		my $end = sql("SELECT llm_cancel($id)");
		push @times, time - $start;
		return (999) if $end ne 'cancelled';
	}
	return sort { $a <=> $b } @times;
}
my %cases = (
	'at its start' => sub { return train() },
	'stuck in the query' => sub { my $id = train('stuck'); wait_for_phase($id, 'loading'); return $id },
	'training' => sub { my $id = train(); wait_for_phase($id, 'training'); return $id },
	'training with large steps' => sub { my $id = train('points', '{"epochs": 100000, "early_stopping": 0, "hidden": [2048, 2048], "batch_size": 4000}');
		wait_for_phase($id, 'training'); return $id });
foreach my $case (sort keys %cases)
{
	my @times = cancel_times($case =~ /start/ ? 20 : 5, $cases{$case});
	cmp_ok($times[-1], '<', 1, sprintf('cancel %s: the slowest of %d took %.3f s', $case, scalar @times, $times[-1]));
}

# pg_cancel_backend and pg_terminate_backend
$job = train();
wait_for_phase($job, 'training');
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'llmapp job'});
is(sql("SELECT llm_wait($job)"), 'cancelled', 'pg_cancel_backend cancels the job');
$job = train();
wait_for_phase($job, 'training');
my $start = time;
sql(q{SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'llmapp job'});
cmp_ok(time - $start, '<', 1, 'pg_terminate_backend is quick');
is(sql("SELECT status || sqlstate || hint FROM llmapp.jobs WHERE job = $job"), "interrupted57P01SELECT llm_resume($job);", 'and leaves a job that can be resumed');
is(sql("SELECT llm_resume($job)"), 'queued', 'resume');
ok(wait_for_phase($job, 'training'), 'an interrupted job goes on');
is(sql("SELECT llm_pause($job)"), 'paused', 'pause');
is(sql("SELECT llm_pause($job)"), 'paused', 'pausing twice does nothing');
is(sql("SELECT llm_wait($job)"), 'paused', 'a wait returns when the job is paused');
is(sql("SELECT llm_cancel($job)"), 'cancelled', 'a paused job is cancelled');
is(join(',', map { s/.*\///r } glob($node->data_dir . '/llmapp/pgsql_tmp.checkpoint*')), '', 'no checkpoint is left');
$job = train('stuck');
wait_for_phase($job, 'loading');
$start = time;
is(sql("SELECT llm_pause($job)"), 'paused', 'a job stuck in its query is paused');
cmp_ok(time - $start, '<', 1, 'at once');
sql("SELECT llm_cancel($job)");

# changes of a job that does not run are part of the transaction
ok(idle(), 'no worker is left');
$job = sql("BEGIN; SELECT llm_train('m', 'points', target => 'above', params => '$long') AS job \\gset\nSELECT llm_pause(:job); COMMIT; SELECT :job");
($job) = $job =~ /(\d+)\s*$/;
is(status($job), 'paused', 'a job can be paused before it starts');
sql("BEGIN; SELECT llm_cancel($job); ROLLBACK");
is(status($job), 'paused', 'a cancel that is rolled back has not happened');
sql("BEGIN; SELECT llm_resume($job); ROLLBACK");
is(status($job), 'paused', 'nor a resume');
sql("BEGIN; SELECT llm_resume($job); SELECT llm_cancel($job); COMMIT");
ok(idle(), 'a job that was resumed and cancelled at once does not run');
is(status($job), 'cancelled', 'it is cancelled');

# a failing job: the whole error is kept and raised
sql(q{CREATE VIEW broken AS SELECT x, 1 / (x - x)::int AS z, above FROM points});
$job = train('broken');
is(sql("SELECT llm_wait($job)"), 'failed', 'a failing query fails the job');
is(sql("SELECT sqlstate || message || phase FROM llmapp.jobs WHERE job = $job"), '22012division by zeroloading', 'with its error and phase');
fails("SELECT llm_resume($job)", qr/job $job cannot be resumed: it has failed.*DETAIL:  division by zero/s, 'a failed job without checkpoint cannot be resumed');
fails("SELECT llm_train('m', 'broken', target => 'above', wait => true)", qr/ERROR:  division by zero\nCONTEXT:  job \d+/, 'wait raises the error of the job');

# waiting
my ($status, $stdout, $stderr) = $node->psql('postgres', "SET statement_timeout = '5s'; SELECT llm_train('m', 'points', target => 'above', params => '$long', wait => true)");
my @notices = $stderr =~ /NOTICE:  job \d+: training \[[#.]+\] +\d+ %, loss [^,]+/g;
cmp_ok(scalar @notices, '>=', 1, 'a wait reports progress');
cmp_ok(scalar @notices, '<=', 3, 'not more often than every two seconds');
like($stderr, qr/canceling statement due to statement timeout/, 'a wait honours statement_timeout');
ok(idle(), 'and its job ends');
is(sql('SELECT status FROM llmapp.jobs ORDER BY job DESC LIMIT 1'), 'cancelled', 'as cancelled');
($status, $stdout, $stderr) = $node->psql('postgres', "SET llmapp.progress_notices = off; SET statement_timeout = '2500ms'; SELECT llm_train('m', 'points', target => 'above', params => '$long', wait => true)");
unlike($stderr, qr/NOTICE/, 'silent when told so');
ok(idle(), 'cancelled again');
foreach my $level ('repeatable read', 'serializable')
{
	is(sql("SET default_transaction_isolation = '$level'; SELECT llm_train('iso', 'points', target => 'above', params => '{\"epochs\": 1}', wait => true) > 0"), 't', "wait => true with isolation $level");
	$job = train('slow', '{"epochs": 1}');
	wait_for($node, "SELECT status = 'queued' FROM llmapp.jobs WHERE job = $job", 'f', 20);
	is(sql("BEGIN ISOLATION LEVEL $level; SELECT count(*) > 0 FROM llmapp.jobs; SELECT llm_wait($job); SELECT status FROM llmapp.jobs WHERE job = $job; COMMIT"),
		"t\nsucceeded\nsucceeded", "a wait with isolation $level sees the end");
}
my $waiter = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', "SELECT llm_train('m', 'points', target => 'above', params => '$long', wait => true)" ],
	'>', \my $out, '2>', \my $err);
ok(wait_for($node, q{SELECT count(*) FROM llmapp.progress WHERE phase = 'training'}, '1', 20), 'a session waits');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT llm_train%' AND backend_type = 'client backend'});
$waiter->finish;
ok(idle(), 'terminating the session that waits ends the job');
is(sql('SELECT status FROM llmapp.jobs ORDER BY job DESC LIMIT 1'), 'cancelled', 'as cancelled');

# the queue: five jobs, one at a time, the oldest first, none forgotten
$node->append_conf('postgresql.conf', 'llmapp.max_jobs = 1');
$node->reload;
ok(wait_for($node, 'SHOW llmapp.max_jobs', '1', 10), 'one job at a time');
my $first = sql('SELECT max(job) + 1 FROM llmapp.jobs');
sql(q{SELECT llm_train('queue_' || i, 'slow', target => 'above', params => '{"epochs": 1}') FROM generate_series(1, 5) AS i});
my $most = 0;
foreach (1 .. 1000)
{
	my ($running, $open) = split /\|/, sql("SELECT count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE status IN ('running', 'queued')) FROM llmapp.jobs WHERE job >= $first");
	$most = $running if $running > $most;
	last if $open == 0;
}
is($most, 1, 'never more than one runs');
is(sql("SELECT string_agg(status, ',') FROM llmapp.jobs WHERE job >= $first"), join(',', ('succeeded') x 5), 'all five succeed');
is(sql("SELECT string_agg(job::text, ',' ORDER BY started_at) = string_agg(job::text, ',' ORDER BY job) FROM llmapp.jobs WHERE job >= $first"), 't', 'the oldest first');

# a queue in another database goes on, too; a job that waits for a slot can be cancelled
sql('CREATE DATABASE other');
$node->safe_psql('other', q{CREATE EXTENSION llmapp; CREATE TABLE points AS SELECT sin(i) AS x, cos(i) AS y, sin(i) > cos(i) AS above FROM generate_series(1, 300) AS i});
$job = train();
wait_for_phase($job, 'training');
my @others = map { $node->safe_psql('other', "SELECT llm_train('o$_', 'points', target => 'above', params => '{\"epochs\": 1}')") } 1 .. 3;
my $blocked = train();
is(status($blocked), 'queued', 'a job waits for a slot');
($status, $stdout, $stderr) = $node->psql('postgres', "SET statement_timeout = '3s'; SELECT llm_train('w', 'points', target => 'above', wait => true)");
like($stderr, qr/NOTICE:  job \d+ is queued.*statement timeout/s, 'wait => true waits for a slot and says so');
is(sql("SELECT status FROM llmapp.jobs ORDER BY job DESC LIMIT 1"), 'cancelled', 'and can be cancelled there');
is(sql("SELECT llm_cancel($blocked)"), 'cancelled', 'a queued job is cancelled');
sql("SELECT llm_cancel($job)");
is($node->safe_psql('other', "SELECT llm_wait($_)"), 'succeeded', 'a job of another database gets the slot') foreach @others;

# max_jobs = 0 stops the queue; a wait brings a queue back to life
$node->append_conf('postgresql.conf', 'llmapp.max_jobs = 0');
$node->reload;
ok(wait_for($node, 'SHOW llmapp.max_jobs', '0', 10), 'no jobs');
fails("SELECT llm_train('m', 'points', target => 'above', wait => true)", qr/no job can run: llmapp.max_jobs is 0.*HINT/s, 'wait without any slot');
$job = train('points', '{"epochs": 1}');
$node->append_conf('postgresql.conf', 'llmapp.max_jobs = 1');
$node->reload;
is(sql("SELECT llm_wait($job)"), 'succeeded', 'a wait starts what lost its chance');
done_testing();
