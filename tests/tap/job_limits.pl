# Limits and races: worker processes that run out, sessions that submit and stop jobs all at once, and what the
# query of a training may do to its worker.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('job_limits', 'max_worker_processes = 3', 'llmapp.max_jobs = 4', 'max_parallel_workers = 0');
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub idle { return wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llmapp job'}, '0', 60); }

sql(q{CREATE TABLE points AS SELECT sin(i) AS x, cos(i) AS y, sin(i) > cos(i) AS above FROM generate_series(1, 300) AS i;
	CREATE VIEW stuck AS SELECT x, y, above FROM points, pg_sleep(600)});

# two places for workers: the third job is refused when it would have to start at once, otherwise it stays queued
my @jobs = map { sql("SELECT llm_train('m$_', 'stuck', target => 'above')") } 1 .. 2;
ok(wait_for($node, 'SELECT count(*) FROM llmapp.progress', '2', 20), 'two jobs run');
my ($status, $stdout, $stderr) = $node->psql('postgres', q{SELECT llm_train('m', 'points', target => 'above', wait => true)});
like($stderr, qr/ERROR:  no worker is free for the job\nDETAIL:.*max_worker_processes.*\nHINT:  .*without|leave out wait/s, 'wait => true without a free worker is an error');
my $third = sql(q{SELECT llm_train('m', 'points', target => 'above', params => '{"epochs": 1}')});
is(sql("SELECT status FROM llmapp.jobs WHERE job = $third"), 'queued', 'without wait the job is queued');
sql("SELECT llm_cancel($_)") foreach @jobs;
is(sql("SELECT llm_wait($third)"), 'succeeded', 'and runs when there is a place');

# what the query of a training may do to its own session
sql(q{CREATE VIEW unlocking AS SELECT p.* FROM points AS p, pg_advisory_unlock_all(), pg_sleep(3)});
my $job = sql(q{SELECT llm_train('m', 'SELECT x, y, above FROM unlocking', target => 'above', params => '{"epochs": 1}')});
ok(wait_for($node, "SELECT phase FROM llmapp.progress WHERE job = $job", 'loading', 20), 'a query gives up the locks of its session');
sleep 1;
is(sql("SELECT status FROM llmapp.jobs WHERE job = $job"), 'running', 'its job still shows as running');
is(sql("SELECT llm_wait($job)"), 'succeeded', 'and ends');
sql(q{CREATE FUNCTION settings() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
	PERFORM set_config('search_path', 'nowhere', false), set_config('statement_timeout', '1', false), set_config('default_transaction_read_only', 'on', false);
	RETURN true; END $$});
$job = sql(q{SELECT llm_train('m', 'SELECT * FROM points WHERE settings()', target => 'above', params => '{"epochs": 1}')});
is(sql("SELECT llm_wait($job)"), 'succeeded', 'a query that changes settings does not break its job');
sql(q{CREATE FUNCTION give_up() RETURNS boolean LANGUAGE sql AS 'SELECT pg_terminate_backend(pg_backend_pid())'});
$job = sql(q{SELECT llm_train('m', 'SELECT * FROM points WHERE give_up()', target => 'above')});
is(sql("SELECT llm_wait($job)"), 'interrupted', 'a query that ends its own session interrupts its job');
sql("SELECT llm_cancel($job)");

# a storm: every session submits, stops and resumes whatever there is; in the end nothing is left undone
append_to_file($node->basedir . '/storm.sql', q{
\set what random(1, 8)
\set one random(1, 10)
\if :what <= 2
SELECT llm_train('storm_' || :client_id, 'points', target => 'above', params => '{"epochs": 1}');
\elif :what <= 4
SELECT llm_cancel(job) FROM llmapp.jobs WHERE status IN ('queued', 'running') ORDER BY job DESC LIMIT 1;
\elif :what = 5
SELECT llm_pause(job) FROM llmapp.jobs WHERE status = 'queued' ORDER BY job DESC LIMIT 1;
\elif :what = 6
SELECT llm_resume(job) FROM llmapp.jobs WHERE status = 'paused' LIMIT 1;
\elif :what = 7
BEGIN;
SELECT llm_train('storm_' || :client_id, 'points', target => 'above', params => '{"epochs": 1}');
SELECT llm_cancel(job) FROM llmapp.jobs WHERE status = 'queued' LIMIT 1;
ROLLBACK;
\else
SELECT count(*), count(phase), max(status) FROM llmapp.jobs;
\endif
});
my $output = `pgbench -n -h @{[$node->host]} -p @{[$node->port]} -c 5 -T 2 -f @{[$node->basedir]}/storm.sql postgres 2>&1`;
my @errors = grep { !/cannot be (paused|resumed)/ } $output =~ /ERROR: .*/g;
is(join("\n", @errors), '', 'a storm of submits, cancels and pauses raises no unexpected error');
sql(q{SELECT count(llm_resume(job)) FROM llmapp.jobs WHERE status = 'paused'});
my $open = q{SELECT count(*) FROM llmapp.jobs WHERE status IN ('queued', 'running', 'interrupted')};
sql(q{SELECT count(llm_wait(job, '60 s')) FROM llmapp.jobs WHERE status = 'queued'});
ok(wait_for($node, $open, '0', 60), 'every job of the storm has ended') or diag(sql($open));
is(sql(q{SELECT count(*) FROM llmapp.jobs WHERE status = 'failed'}), '0', 'none failed')
  or diag(sql(q{SELECT DISTINCT message FROM llmapp.jobs WHERE status = 'failed'}));
ok(idle(), 'no worker is left');
is(sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), '0', 'no lock is left');
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal|exited with exit code [^01]|WARNING:  you don't own a lock/, 'nothing crashed');
note(sql('SELECT status, count(*) FROM llmapp.jobs GROUP BY status'));
done_testing();
