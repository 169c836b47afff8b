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
done_testing();
