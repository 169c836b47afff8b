# What the library brings into a server: no BLAS, no CUDA, no thread, no symbol that PostgreSQL also has.
use strict;
use warnings;
use LlmappTest;
use Test::More;

chomp(my $pkglibdir = `pg_config --pkglibdir`);
chomp(my $bindir = `pg_config --bindir`);
my $library = ($ENV{LLMAPP_DESTDIR} // '') . "$pkglibdir/llmapp.so";

my $needed = `ldd $library`;
unlike($needed, qr/blas|cuda|cublas|gomp/i, 'no BLAS, CUDA or OpenMP library is linked');
like($needed, qr/jansson/, 'ldd listed the libraries');

my %server = map { $_ => 1 } map { /(\S+)$/ ? $1 : () } split /\n/, `nm -D --defined-only $bindir/postgres`;
my @own = map { /(\S+)$/ ? $1 : () } split /\n/, `nm -D --defined-only $library`;
is(join(' ', grep { $server{$_} } @own), '', 'no exported symbol exists in the server too');
unlike(`nm -D --undefined-only $library`, qr/\bjson_object$/m, 'json_object of the server is never taken for that of jansson');

my $node = start_node('library', "shared_preload_libraries = 'llmapp'");
my $pid = do { open my $file, '<', $node->data_dir . '/postmaster.pid' or die; <$file> + 0 };
my @threads = glob("/proc/$pid/task/*");
is(scalar(@threads), 1, 'the postmaster has one thread after loading the library');

my $backend = $node->safe_psql('postgres', 'SELECT llm_version(); SELECT pg_backend_pid()');
unlike(`grep -il blas /proc/$pid/maps`, qr/maps/, 'the postmaster has not opened a BLAS');
is($node->safe_psql('postgres', "SELECT passed FROM llm_selftest() WHERE test = 'floating-point mode'"), 't',
	'the floating-point control word is unchanged');

# Threads of a job: every signal that PostgreSQL handles is blocked on all but the main thread.
$node->safe_psql('postgres', q(CREATE TABLE points AS SELECT sin(i) AS x, cos(i) AS y, sin(i) > 0 AS above
	FROM generate_series(1, 5000) AS i; SET llmapp.threads = 2;
	SELECT llm_train('points_model', 'points', target => 'above', params => '{"epochs": 100000, "hidden": [512, 512],
		"early_stopping": 0}')));
ok(wait_for($node, q(SELECT count(*) FROM llmapp.progress WHERE phase = 'training' AND done > 0), '1'), 'a job trains');
my $worker = $node->safe_psql('postgres', q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'llmapp job'));
my @others = grep { !m{/$worker$} } glob("/proc/$worker/task/*");
cmp_ok(scalar(@others), '>=', 1, 'with threads of its own');
foreach my $thread (@others)
{
	my ($blocked) = do { open my $file, '<', "$thread/status" or die; join '', <$file> } =~ /^SigBlk:\s+(\w+)/m;
	my $handled = 0;
	$handled |= 1 << ($_ - 1) foreach 1, 2, 3, 10, 12, 14, 15, 17, 23;    # HUP INT QUIT USR1 USR2 ALRM TERM CHLD URG
	is(hex($blocked) & $handled, $handled, 'all signals that PostgreSQL handles are blocked on it');
}
$node->safe_psql('postgres', 'SELECT llm_cancel(max(job)) FROM llmapp.jobs');

# The installation takes over nothing that somebody else has put in its way.
foreach my $trap ('CREATE SCHEMA llmapp', q(CREATE FUNCTION llm_version() RETURNS text LANGUAGE sql RETURN 'trap'),
	q(CREATE TYPE tensor AS (trap int)))
{
	$node->safe_psql('postgres', 'CREATE DATABASE trapped');
	$node->safe_psql('trapped', $trap);
	my ($status, $stdout, $stderr) = $node->psql('trapped', 'CREATE EXTENSION llmapp');
	like($stderr, qr/already exists/, "$trap: the installation stops");
	$node->safe_psql('postgres', 'DROP DATABASE trapped');
}
done_testing();
