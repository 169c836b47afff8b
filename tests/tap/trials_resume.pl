# A job that trains several networks goes on after a pause or kill -9 and ends with the bytes of one that was not
# interrupted; a cancel is quick in each of them.
use strict;
use warnings;
use LlmappTest;
use Time::HiRes qw(time);
use Test::More;

my $node = start_node('trials_resume', 'restart_after_crash = on', 'autovacuum = off');
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{CREATE TABLE rows AS
	SELECT sin(i) AS a, cos(i * 1.7) AS b, ('c' || i % 5) AS c, sin(i) * cos(i * 1.7) + (i % 5) * 0.1 AS y
	FROM generate_series(1, 12000) AS i});

my %params = (
	folds => '{"folds": 3, "epochs": 60, "hidden": [64, 64], "batch_size": 64, "early_stopping": 0, "checkpoint_every": 0.2}',
	search => '{"trials": 6, "epochs": 60, "hidden": {"choices": [[64, 64], [96]]}, "dropout": {"min": 0, "max": 0.5}, "batch_size": 64,
		"early_stopping": 0, "checkpoint_every": 0.2}');

sub submit { return sql("SELECT llm_train('$_[0]', 'rows', target => 'y', params => '$_[1]')"); }
sub weights { return sql("SELECT md5(string_agg(data, '' ORDER BY part)) FROM $_[0] WHERE kind = 'weights'"); }
sub trials { return sql("SELECT string_agg(t::text, ' ' ORDER BY trial, fold) FROM (SELECT trial, fold, settings, metric, value, epochs, status FROM llmapp.job_trials WHERE job = $_[0]) AS t"); }

# Wait until the second network is being trained.
sub wait_for_second
{
	my ($job) = @_;
	return wait_for($node, "SELECT count(*) > 1 FROM llmapp.job_trials WHERE job = $job", 't', 60);
}

foreach my $kind (sort keys %params)
{
	my $job = submit("${kind}_whole", $params{$kind});
	is(sql("SELECT llm_wait($job)"), 'succeeded', "$kind without interruption");
	my ($expected, $trials) = (weights("${kind}_whole"), trials($job));

	$job = submit("${kind}_paused", $params{$kind});
	ok(wait_for_second($job), "$kind: the second network trains");
	select(undef, undef, undef, 0.5);	# until there is a checkpoint: a pause while a network is made writes none
	is(sql("SELECT llm_pause($job)"), 'paused', 'pause');
	sql("SELECT llm_resume($job)");
	is(sql("SELECT llm_wait($job)"), 'succeeded', 'resume');
	like(sql("SELECT report FROM llmapp.jobs WHERE job = $job"), qr/"resumed": \{"step"/, 'from the checkpoint');
	is(weights("${kind}_paused"), $expected, 'to the same weights');
	is(trials($job), $trials, 'and the same trials');
	is(sql("SELECT count(*) - count(DISTINCT (step, split, metric)) FROM llmapp.job_metrics WHERE job = $job"), '0', 'no metric is there twice');

	$job = submit("${kind}_killed", $params{$kind});
	ok(wait_for_second($job), "$kind: the second network trains");
	select(undef, undef, undef, 0.3);
	my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'llmapp job'");
	kill 'KILL', $pid;
	$node->poll_query_until('postgres', "SELECT status = 'interrupted' FROM llmapp.jobs WHERE job = $job");
	sql("SELECT llm_resume($job)");
	is(sql("SELECT llm_wait($job)"), 'succeeded', 'resumed after kill -9');
	is(weights("${kind}_killed"), $expected, 'to the same weights');
	is(trials($job), $trials, 'and the same trials');

	$job = submit("${kind}_cancelled", $params{$kind});
	ok(wait_for_second($job), "$kind: the second network trains");
	my $start = time;
	is(sql("SELECT llm_cancel($job)"), 'cancelled', 'cancel');
	cmp_ok(time - $start, '<', 1, 'within a second');
}
done_testing();
