# LlmappTest.pm
#   A server with llmapp for the TAP tests: the installed extension, or the one below
#   LLMAPP_DESTDIR, which need not be installed into the system.
package LlmappTest;

use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(start_node configure_node psql_environment tap_of wait_for starts private_gpu_tree);

# Settings with which a server finds llmapp.
sub configure_node
{
	my ($node, @settings) = @_;
	if (my $destdir = $ENV{LLMAPP_DESTDIR})
	{
		chomp(my $pkglibdir = `pg_config --pkglibdir`);
		$node->append_conf('postgresql.conf', "extension_destdir = '$destdir'");
		$node->append_conf('postgresql.conf', "dynamic_library_path = '$destdir$pkglibdir:\$libdir'");
	}
	$node->append_conf('postgresql.conf', 'max_worker_processes = 16');
	$node->append_conf('postgresql.conf', $_) foreach @settings;
	return;
}

# A new running server with the extension in database postgres.
sub start_node
{
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	configure_node($node, @settings);
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION llmapp');
	return $node;
}

# Environment for client programs that connect to the node.
sub psql_environment
{
	my ($node) = @_;
	return (PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
}

# How often the server has come up; one that answers may not have noticed yet that a process was killed.
sub starts
{
	my ($node) = @_;
	return scalar(() = slurp_file($node->logfile) =~ /database system is ready to accept connections/g);
}

# Wait until a query of the node gives the expected text, at most `seconds`; true when it did.
sub wait_for
{
	my ($node, $query, $expected, $seconds) = @_;
	my $end = time + ($seconds // 60);
	while (time <= $end)
	{
		return 1 if $node->safe_psql('postgres', $query) eq $expected;
		select(undef, undef, undef, 0.05);
	}
	return 0;
}

# A copy of the private tree of tests/run for this test alone, so that no other one meets the backend's emulated GPU: the path
# of its library, which is not there yet, and a function that puts it there.  What the file that LLMAPP_EMULATE_FAULT names
# then says fails.
sub private_gpu_tree
{
	plan skip_all => 'needs the private tree of tests/run' unless $ENV{LLMAPP_DESTDIR};
	my $emulated = 'tests/unit/build/llmapp_cuda.so';
	system('make -s -C tests/unit emulated') unless -e $emulated;
	my $tree = PostgreSQL::Test::Utils::tempdir();
	chomp(my $pkglibdir = `pg_config --pkglibdir`);
	system("cp -r $ENV{LLMAPP_DESTDIR}/. $tree") == 0 or die 'no copy';
	my $library = "$tree$pkglibdir/llmapp_cuda.so";
	unlink $library; # of a build with nvcc
	@ENV{qw(LLMAPP_DESTDIR LLMAPP_EMULATE_FAULT LLMAPP_EMULATED_GPU)} = ($tree, "$tree/fault", 1);
	return ($library, sub { system("cp $emulated $library") == 0 or die 'no library'; return; });
}

# Pass on the TAP lines "ok"/"not ok" of a program's output as tests of our own.
sub tap_of
{
	my ($output, $prefix) = @_;
	my $count = 0;
	foreach my $line (split /\n/, $output)
	{
		next unless $line =~ /^(not )?ok\s+\d+\s*-?\s*(.*)/;
		ok(!$1, "$prefix: $2");
		$count++;
	}
	return $count;
}

1;
