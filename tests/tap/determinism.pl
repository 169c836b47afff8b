# Same seed, same bytes: for one thread and two, and for a training that is killed again and again at moments that
# nobody chose, with a checkpoint that may be just being written.
# LLMAPP_TEST_LONG=1 kills 20 times instead of 5.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time sleep);
use Test::More;

my $kills = $ENV{LLMAPP_TEST_LONG} ? 20 : 5;
my $seed = $ENV{LLMAPP_TEST_SEED} // 20240229;
my $node = start_node('determinism', 'restart_after_crash = on', 'autovacuum = off');
sub sql { return $node->safe_psql('postgres', $_[0]); }

# Every kind of column, so that every kind of layer has gradients; rows in a file when memory is small.
sql(q{CREATE TABLE rows AS
	SELECT sin(i) AS a, cos(i * 1.7) AS b, 'c' || i % 5 AS c, 'shop ' || i * i % 997 AS d,
		'word' || i % 11 || ' and word' || i % 7 || ' of ' || i % 101 AS e, sin(i) * cos(i * 1.7) > (i % 5) * 0.1 AS y
	FROM generate_series(1, 12000) AS i});

my $job;
my $params = '{"epochs": 12, "hidden": [96, 48], "batch_size": 64, "early_stopping": 0, "checkpoint_every": 0.1, "layer_norm": true, "ema_decay": 0.99}';

sub submit
{
	my ($model, $threads) = @_;
	return sql("SET llmapp.threads = $threads; SELECT llm_train('$model', 'rows', target => 'y', params => '$params')");
}

sub digest
{
	my ($model) = @_;
	return sql("SELECT md5(string_agg(data, '' ORDER BY part)) FROM $model WHERE kind = 'weights'");
}
sub status { return sql("SELECT status FROM llmapp.jobs WHERE job = $_[0]"); }

# False for a worker that had come to its end when it was killed: then the server goes on.
sub wait_for_start
{
	my ($number) = @_;
	for (1 .. 1200)
	{
		return 1 if starts($node) >= $number;
		return 0 if $_ > 60 && status($job) eq 'succeeded';
		sleep(0.05);
	}
	BAIL_OUT('the server does not come back');
}

# Numbers that are the same in every run (Knuth's linear congruential generator), in [0, 1).
sub draw
{
	$seed = ($seed * 1103515245 + 12345) % 2147483648;
	return $seed / 2147483648;
}

my $start = time;
$job = submit('two_threads', 2);
is(sql("SELECT llm_wait($job)"), 'succeeded', 'a training with two threads');
my $seconds = time - $start;
my $expected = digest('two_threads');
$job = submit('one_thread', 1);
is(sql("SELECT llm_wait($job)"), 'succeeded', 'a training with one thread');
is(digest('one_thread'), $expected, 'has the same bytes');

# Kill the worker and wait for the server; false when the job had ended before.
sub kill_after
{
	my ($delay) = @_;
	for (1 .. 400)
	{
		my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'llmapp job'");
		if ($pid ne '')
		{
			my $before = starts($node);
			sleep($delay);
			return 0 unless kill 'KILL', $pid;
			return wait_for_start($before + 1);
		}
		return 0 if status($job) eq 'succeeded';
		sleep(0.01);
	}
	return 0;
}

# Each model is one training; when one ends in spite of everything the next one takes the rest of the kills.
my ($done, $models, $resumed) = (0, 0, 0);
while ($done < $kills)
{
	my $model = 'killed_' . ++$models;
	$job = submit($model, 1 + $models % 2);
	while ($done < $kills && kill_after(draw() * $seconds / 2))
	{
		$done++;
		last if status($job) eq 'succeeded';
		is(status($job), 'interrupted', "kill $done interrupts the job");
		is(sql("SET llmapp.threads = 2; SELECT llm_resume($job)"), 'queued', 'it is resumed');
	}
	is(sql("SELECT llm_wait($job)"), 'succeeded', "model $models is trained to its end");
	is(digest($model), $expected, 'to the same bytes');
	$resumed++ if sql("SELECT report ? 'resumed' FROM llmapp.jobs WHERE job = $job") eq 't';
}
# Rows that do not fit into memory are shuffled within windows of a file.
my $wide = join ', ', map { "sin(i * $_) AS x$_" } 1 .. 40;
sql("CREATE TABLE wide AS SELECT $wide, cos(i) + sin(i * 7) AS y FROM generate_series(1, 60000) AS i");
my $windows = '{"epochs": 3, "hidden": [8], "batch_size": 128, "early_stopping": 0, "checkpoint_every": 0.1}';
foreach my $threads (1, 2)
{
	$job = sql("SET llmapp.train_memory = '16MB'; SET llmapp.threads = $threads; SELECT llm_train('windows_$threads', 'wide', target => 'y', params => '$windows')");
	if ($threads == 2)
	{
		wait_for($node, "SELECT count(*) FROM llmapp.progress WHERE job = $job AND phase = 'training' AND done > 500", '1', 60);
		is(sql("SELECT llm_pause($job)"), 'paused', 'a training from a file is paused');
		sql("SELECT llm_resume($job)");
	}
	is(sql("SELECT llm_wait($job)"), 'succeeded', 'a training from a file ends');
}
is(digest('windows_2'), digest('windows_1'), 'interrupted or not, with the same bytes');

ok($resumed > 0, "the last run of $resumed of $models trainings began at a checkpoint");
is(sql("SELECT count(*) FROM llmapp.jobs WHERE status <> 'succeeded'"), '0', 'every job has succeeded in the end');
is(join(' ', glob($node->data_dir . '/llmapp/pgsql_tmp.checkpoint*')), '', 'no checkpoint is left');
unlike(slurp_file($node->logfile), qr/PANIC|signal 11|signal 6|signal 7/, 'nothing crashed but what was killed');
note(sprintf '%d kills, %d trainings, one takes %.1f s', $done, $models, $seconds);
done_testing();
