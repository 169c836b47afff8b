# The pgTAP files, each in a database of its own; every test is passed on.
use strict;
use warnings;
use LlmappTest;
use Test::More;

my $node = start_node('pgtap');
foreach my $file (sort glob('tests/pgtap/*.sql'))
{
	my ($name) = $file =~ m{([^/]+)\.sql$};
	$node->safe_psql('postgres', "CREATE DATABASE tap_$name");
	$node->safe_psql("tap_$name", 'CREATE EXTENSION pgtap; CREATE EXTENSION llmapp');
	my ($status, $stdout, $stderr) = $node->psql("tap_$name", undef,
		extra_params => [ '-qAt', '-v', 'ON_ERROR_STOP=1', '-f', $file ]);
	my $count = tap_of($stdout, $name);
	my ($planned) = $stdout =~ /^1\.\.(\d+)/m;
	ok($status == 0 && defined $planned && $count == $planned, "$name ran its plan")
	  or diag("$stdout\n$stderr");
}
done_testing();
