# A training that is paused, terminated or killed ends with the bytes of one that was not.
# LLMAPP_TEST_LONG=1 kills at 20 more moments, in any phase; LLMAPP_TEST_SEED chooses others.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time sleep);
use Test::More;

my $node = start_node('training_resume', 'restart_after_crash = on', 'llmapp.checkpoint_interval = 1', 'autovacuum = off');
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{CREATE TABLE rows AS
	SELECT sin(i) AS a, cos(i * 1.7) AS b, ('c' || i % 5) AS c, sin(i) * cos(i * 1.7) + (i % 5) * 0.1 AS y
	FROM generate_series(1, 20000) AS i});

my $params = '{"epochs": 60, "hidden": [64, 32], "batch_size": 64, "early_stopping": 0, "checkpoint_every": 0.2}';

sub submit { return sql("SELECT llm_train('$_[0]', 'rows', target => 'y', params => '$params')"); }
sub status { return sql("SELECT status FROM llmapp.jobs WHERE job = $_[0]"); }
sub report { return sql("SELECT coalesce(report ->> '$_[1]', '') FROM llmapp.jobs WHERE job = $_[0]"); }

sub weights
{
	return sql("SELECT md5(string_agg(data, '' ORDER BY part)) FROM $_[0] WHERE kind = 'weights'");
}

# Wait until a job has done at least one epoch, so that there is a checkpoint to come.
sub wait_for_steps
{
	my ($job) = @_;
	return wait_for($node, "SELECT count(*) > 0 FROM llmapp.progress WHERE job = $job AND phase = 'training' AND done > 400", 't', 60);
}

my $job = submit('uninterrupted');
is(sql("SELECT llm_wait($job)"), 'succeeded', 'a training without interruption');
my $expected = weights('uninterrupted');
my $duration = sql("SELECT extract(epoch FROM finished_at - started_at) FROM llmapp.jobs WHERE job = $job");

$job = submit('paused');
ok(wait_for_steps($job), 'a training makes steps');
sql("SELECT llm_pause($job)");
ok(wait_for($node, "SELECT status FROM llmapp.jobs WHERE job = $job", 'paused', 20), 'and is paused');
sql("SELECT llm_resume($job)");
is(sql("SELECT llm_wait($job)"), 'succeeded', 'and goes on');
like(report($job, 'resumed'), qr/step/, 'from its checkpoint');
is(weights('paused'), $expected, 'to the same weights');

$job = submit('restarted');
ok(wait_for_steps($job), 'a training makes steps');
$node->restart('fast');
is(status($job), 'interrupted', 'a restart interrupts it');
sql("SELECT llm_resume($job)");
is(sql("SELECT llm_wait($job)"), 'succeeded', 'it is resumed');
like(report($job, 'resumed'), qr/step/, 'from the checkpoint written at shutdown');
is(weights('restarted'), $expected, 'to the same weights');

$job = submit('killed');
ok(wait_for_steps($job), 'a training makes steps');
select(undef, undef, undef, 0.5);
my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'llmapp%' AND backend_type NOT LIKE '%launcher%' LIMIT 1");
kill 'KILL', $pid;
$node->poll_query_until('postgres', "SELECT status = 'interrupted' FROM llmapp.jobs WHERE job = $job");
is(status($job), 'interrupted', 'kill -9 interrupts it');
sql("SELECT llm_resume($job)");
is(sql("SELECT llm_wait($job)"), 'succeeded', 'it is resumed');
like(report($job, 'resumed'), qr/step/, 'from its last checkpoint');
is(weights('killed'), $expected, 'to the same weights');

# A language model, whose position is one in a file of tokens, with steps of two passes; the one that is killed computes
# layers again for their gradient, which changes nothing.
sql(q{CREATE TABLE texts AS SELECT format('item %s of %s, number %s', i % 7, i % 11, i * 37 % 101) AS body FROM generate_series(1, 3000) AS i});
sub submit_text
{
	return sql("SELECT llm_train('$_[0]', 'texts', task => 'generation', params => '{\"layers\": 1, \"embed_dim\": 32, \"heads\": 2,
		\"context\": 32, \"vocab_size\": 300, \"batch_size\": 4, \"micro_batch\": 3, \"recompute\": $_[1], \"epochs\": 30, \"checkpoint_every\": 0.2}')");
}
is(sql('SELECT llm_wait(' . submit_text('text_whole', 'false') . ')'), 'succeeded', 'a language model without interruption');
$job = submit_text('text_killed', 'true');
ok(wait_for_steps($job), 'another one makes steps');
select(undef, undef, undef, 0.5);
$pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'llmapp%' AND backend_type NOT LIKE '%launcher%' LIMIT 1");
kill 'KILL', $pid;
$node->poll_query_until('postgres', "SELECT status = 'interrupted' FROM llmapp.jobs WHERE job = $job");
sql("SELECT llm_resume($job)");
is(sql("SELECT llm_wait($job)"), 'succeeded', 'it is resumed after kill -9');
like(report($job, 'resumed'), qr/step/, 'from its last checkpoint');
is(weights('text_killed'), weights('text_whole'), 'to the same weights');

$job = submit('changed');
ok(wait_for_steps($job), 'a training makes steps');
sql("SELECT llm_pause($job)");
ok(wait_for($node, "SELECT status FROM llmapp.jobs WHERE job = $job", 'paused', 20), 'it is paused');
sql("UPDATE rows SET y = y + 1 WHERE a > 0.999");
sql("SELECT llm_resume($job)");
is(sql("SELECT llm_wait($job)"), 'succeeded', 'it goes on when its rows have changed');
like(report($job, 'restarted'), qr/rows have changed/, 'from the first step, and says so');

$job = submit('damaged');
ok(wait_for_steps($job), 'a training makes steps');
sql("SELECT llm_pause($job)");
ok(wait_for($node, "SELECT status FROM llmapp.jobs WHERE job = $job", 'paused', 20), 'it is paused');
my ($file) = glob($node->data_dir . "/llmapp/pgsql_tmp.checkpoint.*.$job");
ok($file, 'there is a checkpoint');
open my $handle, '+<', $file or die;
seek $handle, 5000, 0;
print $handle 'damage';
close $handle;
sql("SELECT llm_resume($job)");
is(sql("SELECT llm_wait($job)"), 'succeeded', 'it goes on when the checkpoint is damaged');
like(report($job, 'restarted'), qr/damaged/, 'from the first step, and says so');
ok(!-e $file, 'no checkpoint is left');

# kill -9 at random moments of loading, training, evaluating and saving, each job until it is through
srand($ENV{LLMAPP_TEST_SEED} // 11);
my ($kills, $jobs, $wanted) = (0, 0, $ENV{LLMAPP_TEST_LONG} ? 20 : 0);
if ($wanted)
{
	sql('SELECT llm_wait(' . submit('as_they_are') . ')');    # the rows have changed since the first
	$expected = weights('as_they_are');
}
while ($kills < $wanted)
{
	my $model = 'killed_' . ++$jobs;
	my @moments;
	$job = submit($model);
	while ($kills < $wanted)
	{
		sleep(rand($duration));
		my ($phase, $worker) = split /\|/, sql(q{SELECT max(phase), max(pid) FROM pg_stat_activity
			LEFT JOIN llmapp.progress ON true WHERE backend_type = 'llmapp job'});
		last unless $worker && kill 'KILL', $worker;
		$kills++;
		push @moments, $phase || 'starting';
		sleep(0.2);
		$node->poll_query_until('postgres', "SELECT status NOT IN ('running', 'queued') FROM llmapp.jobs WHERE job = $job")
		  or BAIL_OUT('the server does not come back');
		sql("SELECT llm_resume($job)") if status($job) eq 'interrupted';
	}
	is(sql("SELECT llm_wait($job)"), 'succeeded', "$model: killed " . scalar(@moments) . " times (@moments)");
	is(weights($model), $expected, 'the same weights');
}
unlike(slurp_file($node->logfile), qr/PANIC|signal 11|signal 6/, 'nothing crashed but what was killed');
done_testing();
