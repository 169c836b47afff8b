# Scoring jobs under way: progress, cancel, pause, kill -9 and resume without losing or repeating a row.
use strict;
use warnings;
use LlmappTest;
use Time::HiRes qw(time);
use Test::More;

my $node = start_node('score', 'restart_after_crash = on');
sub sql { return $node->safe_psql('postgres', $_[0]); }

my $rows = 150000;
sql(qq{CREATE TABLE points AS SELECT i AS id, sin(i) AS x, cos(i) AS y, sin(i) > cos(i) AS above FROM generate_series(1, $rows) AS i;
	ALTER TABLE points ADD PRIMARY KEY (id);
	CREATE VIEW stuck AS SELECT id, x, y FROM points, pg_sleep(600);
	CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END'});
sql(q{SELECT llm_train('m', 'SELECT x, y, above FROM points LIMIT 500', target => 'above', params => '{"epochs": 3}', wait => true)});

# A table of its own for each test; every chunk is slowed down by a trigger.
my $tables = 0;
sub start
{
	my ($source) = @_;
	my $table = 's' . ++$tables;
	sql("CREATE TABLE $table (id int PRIMARY KEY, prediction boolean, probability float8, model_version int, predicted_at timestamptz, error text);
		CREATE TRIGGER slow AFTER INSERT ON $table EXECUTE FUNCTION pause()");
	return ($table, sql("SELECT llm_score('m', '$source', '$table', '{id}')"));
}
sub status { return sql("SELECT status FROM llmapp.jobs WHERE job = $_[0]"); }
sub wait_for_phase { return wait_for($node, "SELECT count(*) FROM llmapp.progress WHERE job = $_[0] AND phase = '$_[1]'", '1', 30); }
sub wait_for_rows { return wait_for($node, "SELECT count(*) > 0 FROM $_[0]", 't', 30); }

sub complete
{
	my ($table, $job, $name) = @_;
	is(sql("SELECT llm_wait($job)"), 'succeeded', "$name: the job succeeds");
	is(sql("SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || count(prediction) FROM $table"), "$rows $rows $rows", "$name: each row once");
	is(sql("SELECT report ->> 'rows' FROM llmapp.jobs WHERE job = $job"), $rows, "$name: the report counts all runs");
	return;
}

# progress
my ($table, $job) = start('points');
ok(wait_for_phase($job, 'scoring'), 'a job scores');
ok(wait_for_rows($table), 'rows arrive while it runs');
like(sql("SELECT bar || ' ' || total || ' ' || (done > 0) || ' ' || (loss IS NULL) FROM llmapp.progress WHERE job = $job"), qr/^\[[#.]{20}\] +\d+ % $rows true true$/, 'with progress');
like(sql(q{SELECT query FROM pg_stat_activity WHERE backend_type = 'llmapp job'}), qr/^scoring with model public.m$/, 'pg_stat_activity names the model');
complete($table, $job, 'undisturbed');

# cancel, in each phase
foreach my $source ('points', 'stuck')
{
	($table, $job) = start($source);
	$source eq 'stuck' ? wait_for_phase($job, 'loading') : wait_for_rows($table);
	my $start = time;
	is(sql("SELECT llm_cancel($job)"), 'cancelled', "cancel of $source");
	cmp_ok(time - $start, '<', 1, 'is quick');
}
is(sql("SELECT count(*) FROM s2"), sql('SELECT count(DISTINCT id) FROM s2'), 'what a cancelled job has written stays');

# pause and resume; rows done before are not done again
($table, $job) = start('points');
wait_for_rows($table);
is(sql("SELECT llm_pause($job)"), 'paused', 'pause');
my $before = sql("SELECT count(*) FROM $table");
cmp_ok($before, '<', $rows, 'a paused job is not complete');
is(sql("SELECT report ->> 'rows' FROM llmapp.jobs WHERE job = $job"), $before, 'and has counted its rows');
my $last = sql("SELECT max(predicted_at) FROM $table");
sql("SELECT llm_resume($job)");
complete($table, $job, 'paused');
is(sql("SELECT count(*) FROM $table WHERE predicted_at <= '$last'"), $before, 'rows done before are left alone');

# kill -9 restarts the server
foreach my $how ('worker', 'server')
{
	($table, $job) = start('points');
	wait_for_rows($table);
	if ($how eq 'worker')
	{
		kill 'KILL', sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'llmapp job'});
		for (1 .. 200)
		{
			my ($status) = $node->psql('postgres', 'SELECT 1', timeout => 10);
			last if defined $status && $status == 0;
			select(undef, undef, undef, 0.1);
		}
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	is(status($job), 'interrupted', "end of the $how interrupts the job");
	$before = sql("SELECT count(*) FROM $table");
	$last = sql("SELECT max(predicted_at) FROM $table");
	cmp_ok($before, '>', 0, 'what was committed is there');
	sql("SELECT llm_resume($job)");
	complete($table, $job, "killed $how");
	is(sql("SELECT count(*) FROM $table WHERE predicted_at <= '$last'"), $before, 'rows done before are left alone');
}

# a job that failed on a row goes on when the row is mended
sql('CREATE TABLE items AS SELECT nullif(id, 9000) AS id, x, y FROM points ORDER BY points.id LIMIT 30000');
$job = sql("SELECT llm_score('m', 'items', 'item_scores', '{id}')");
is(sql("SELECT llm_wait($job)"), 'failed', 'a key of NULL fails the job');
like(sql("SELECT message FROM llmapp.jobs WHERE job = $job"), qr/column "id" of the key is null/, 'and it says so');
sql('UPDATE items SET id = 9000 WHERE id IS NULL');
is(sql("SELECT llm_resume($job); SELECT llm_wait($job)"), "queued\nsucceeded", 'resumed after mending the source it succeeds');
is(sql('SELECT count(*) FROM item_scores'), '30000', 'with all rows');

# the same key far apart, and in one chunk
foreach my $at (30000, 2)
{
	sql("TRUNCATE items; INSERT INTO items SELECT CASE WHEN id = $at THEN 1 ELSE id END, x, y FROM points ORDER BY points.id LIMIT 30000");
	$job = sql("SELECT llm_score('m', 'items', 'twice_$at', '{id}')");
	is(sql("SELECT llm_wait($job)"), 'failed', "a key in rows 1 and $at");
	is(sql("SELECT message || sqlstate FROM llmapp.jobs WHERE job = $job"), 'the key does not identify the rows of the source21000', 'is named');
}

# the version that was live at the call, although another is promoted and the table of rows changes meanwhile
($table, $job) = start('points');
wait_for_rows($table);
sql(q{SELECT llm_train('m', 'SELECT x, y, above FROM points LIMIT 500', target => 'above', params => '{"epochs": 1, "deploy": "always"}', wait => true)});
sql('UPDATE points SET x = x');
complete($table, $job, 'promoted');
is(sql("SELECT DISTINCT model_version FROM $table"), '1', 'one version for all rows');

# the model or the table goes
($table, $job) = start('points');
wait_for_rows($table);
sql("DROP TABLE $table");
is(sql("SELECT llm_wait($job)"), 'failed', 'a dropped table ends the job');
($table, $job) = start('points');
wait_for_rows($table);
sql('DROP TABLE m');
like(sql("SELECT llm_wait($job)"), qr/succeeded|failed/, 'a dropped model does not crash it');
is(sql("SELECT count(*) FROM llmapp.jobs WHERE status = 'running'"), '0', 'nothing is left running');
done_testing();
