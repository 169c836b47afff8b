# The regression tests of sql/ and expected/, each reported as one test.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('regress');
my $schedule = slurp_file('tests/regress_schedule');
my %environment = psql_environment($node);
local @ENV{ keys %environment } = values %environment;
my $output = `$ENV{PG_REGRESS} --inputdir=. --outputdir=. --load-extension=llmapp --host=@{[$node->host]} --port=@{[$node->port]} --dbname=regress_llmapp $schedule 2>&1`;

foreach my $name (split ' ', $schedule)
{
	like($output, qr/^test \Q$name\E\s.*\bok\b/m, "regression test $name");
}
is($?, 0, 'pg_regress succeeded') or diag($output . (-e 'regression.diffs' ? slurp_file('regression.diffs') : ''));
done_testing();
