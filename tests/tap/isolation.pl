# The isolation specs: sessions that get in each other's way.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @specs = map { m{([^/]+)\.spec$} } sort glob('tests/isolation/specs/*.spec');
plan skip_all => 'no isolation specs' unless @specs;

my $node = start_node('isolation');
my $tester = "$ENV{PG_ISOLATION_REGRESS}";
my $output = `$tester --inputdir=tests/isolation --outputdir=tests/isolation --load-extension=llmapp --host=@{[$node->host]} --port=@{[$node->port]} --dbname=isolation_llmapp @specs 2>&1`;
my $status = $?;
like($output, qr/^test \Q$_\E\s.*\bok\b/m, "isolation spec $_") foreach @specs;
is($status, 0, 'pg_isolation_regress succeeded')
  or diag($output . (-e 'tests/isolation/regression.diffs' ? slurp_file('tests/isolation/regression.diffs') : ''));
done_testing();
