# Every SQL example of README.md and docs/ runs, in order, in a database of its own per file.
# Blocks that begin with ```sql are run; an example that shows an error is not marked sql.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('examples');
foreach my $file ('README.md', sort glob('docs/*.md'))
{
	my @blocks = slurp_file($file) =~ /^```sql\n(.*?)^```/msg;
	next unless @blocks;
	(my $database = lc $file) =~ s/[^a-z]+/_/g;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	my $script = join "\n", @blocks;
	$script = "CREATE EXTENSION llmapp;\n$script" unless $script =~ /CREATE EXTENSION llmapp/;
	my ($status, $stdout, $stderr) = $node->psql($database, $script, extra_params => [ '-v', 'ON_ERROR_STOP=1' ]);
	is($status, 0, "$file: " . scalar(@blocks) . ' examples run') or diag($stderr);
	$node->safe_psql('postgres', "DROP DATABASE $database WITH (FORCE)");
}
done_testing();
