# Memory that ends: the address space of single processes is limited, from far too little to nearly enough.  Each job
# and each prediction works or fails with an error of its own; no process dies of it, and the others do not notice.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'needs prlimit' unless `sh -c 'command -v prlimit'`;
my $node = start_node('low_memory', 'llmapp.progress_notices = off', 'llmapp.threads = 4', 'llmapp.max_jobs = 1', 'autovacuum = off', 'max_parallel_workers = 0');
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub address_space { my ($pid) = @_; return slurp_file("/proc/$pid/statm") =~ /^(\d+)/ ? $1 * 4096 : die; }
sub limit { my ($pid, $bytes) = @_; system('prlimit', "--pid=$pid", "--as=$bytes:") == 0 or die; return; }
my $postmaster = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/ ? $1 : die;
my $start = address_space($postmaster);

sql(q{CREATE TABLE points AS SELECT i, sin(i) AS x, cos(i) AS y, 'c' || i % 7 AS c, md5(i::text) AS t, sin(i) > cos(i) AS above
	FROM generate_series(1, 4000) AS i});

# Jobs get the limit of the postmaster, which starts them; this session was there before.
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query('SELECT llm_version()');
my %ends;
my $patience = 4;
foreach my $megabytes (3, 5, 6, 7, 8, 10, 14, 20, 28, 40, 60, 90, 140, 1200)
{
	limit($postmaster, $start + $megabytes * 1024 * 1024);
	my $job = $session->query(q{SELECT llm_train('m', 'SELECT x, y, c, t, above FROM points', target => 'above', params => '{"epochs": 1, "hidden": [512, 512]}')});
	my $status = $session->query("SELECT llm_wait($job, '$patience s')");
	# Where not even a worker can begin, the job stays in the queue.
	like($status, qr/^(queued|failed|succeeded)$/, "a job with $megabytes MB more: $status");
	$ends{$status}++;
	$session->query("SELECT llm_cancel($job)") if $status eq 'queued';
	like($session->query("SELECT sqlstate || ' ' || message FROM llmapp.jobs WHERE job = $job"), qr/^5[34]\d\d\d .*(memory|thread)/i, 'its error says so') if $status eq 'failed';
}
limit($postmaster, 'unlimited');
cmp_ok($ends{failed} // 0, '>', 0, 'some failed');
cmp_ok($ends{succeeded} // 0, '>', 0, 'some had enough');
is(sql(q{SELECT llm_train('n', 'SELECT x, y, above FROM points', target => 'above', params => '{"epochs": 1}', wait => true) > 0}), 't', 'without the limit all is well again');

# Predictions: a model of 24 MB in sessions that have less.
sql(slurp_file('tests/handmade_model.sql'));
sql(q{CREATE TABLE big OF llmapp.model_part (PRIMARY KEY (version, part)); SELECT handmade_version('big', 1, 2000, 3000, 1, 0); SELECT llm_promote('big', 1)});
my $predict = q{SELECT llm_predict('big', array_fill(1::real, ARRAY[2000]))};
my %answers;
foreach my $cache ('4GB', 0)
{
	sql("LOAD 'llmapp'; ALTER SYSTEM SET llmapp.cache_size = '$cache'");
	$node->reload;
	foreach my $megabytes (1, 3, 6, 12, 20, 27, 40, 80)
	{
		my $limited = $node->background_psql('postgres', on_error_stop => 0);
		my $pid = $limited->query(q{SELECT pg_backend_pid() FROM llm_version()});
		limit($pid, address_space($pid) + $megabytes * 1024 * 1024);
		my $answer = $limited->query($predict) // '';
		$answer = $limited->{stderr} =~ /ERROR:\s+(.*)/ ? $1 : 'nothing' if $answer eq '';
		like($answer, qr/^6000000$|out of memory/, "a prediction with $megabytes MB more, cache of $cache: $answer");
		$answers{$answer}++;
		is($limited->query('SELECT 1'), '1', 'the session lives on');
		limit($pid, 'unlimited');
		is($limited->query($predict), '6000000', 'and predicts when there is memory');
		$limited->quit;
	}
}
cmp_ok($answers{6000000} // 0, '>', 0, 'some had enough');
$session->quit;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'no process crashed');
done_testing();
