# Every reader of foreign bytes survives a few seconds of fuzzing; `make fuzz` runs longer.
use strict;
use warnings;
use File::Temp qw(tempdir);
use Test::More;

my ($clang) = grep { system("command -v $_ > /dev/null 2>&1") == 0 } qw(clang-14 clang);
plan skip_all => 'there is no clang' unless $clang;
my $folder = tempdir(CLEANUP => 1);
open my $source, '>', "$folder/probe.c" or die $!;
print $source "int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size);\n",
	"int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size) { return 0; }\n";
close $source;
plan skip_all => "$clang has no libFuzzer with sanitizers"
	if system("$clang -fsanitize=fuzzer,address,undefined -o $folder/probe $folder/probe.c > /dev/null 2>&1") != 0;

my $output = `make --no-print-directory -C tests/fuzz all CC=$clang 2>&1`;
is($?, 0, 'the targets are built without a warning') or BAIL_OUT($output);
foreach my $name (map { m{fuzz_(\w+)\.c$} } glob('tests/fuzz/fuzz_*.c'))
{
	$output = `make --no-print-directory -C tests/fuzz run NAMES=$name SECONDS=5 CC=$clang 2>&1`;
	my $status = $?;
	my ($executions) = $output =~ /number_of_executed_units: (\d+)/;
	ok($status == 0 && ($executions // 0) > 100, sprintf('fuzz_%s: %d inputs', $name, $executions // 0)) or diag($output);
}
done_testing();
