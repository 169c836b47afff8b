# The unit tests of the engine, the formats and the features, one test per program.
use strict;
use warnings;
use Test::More;

my $output = `make --no-print-directory -C tests/unit check 2>&1`;
my $status = $?;
my ($passed, $failed) = $output =~ /(\d+) passed, (\d+) failed\s*\z/;
ok(defined $passed && $passed > 0, 'unit tests ran');
is($failed, 0, 'no unit test failed') or diag($output);
is($status, 0, 'make unit succeeded') or diag($output);
note($output);
done_testing();
