# Weight files: shared between sessions, never trusted beyond their checksum, and never needed.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('model_cache', 'log_min_messages = log');
my $folder = $node->data_dir . '/llmapp';
my $predict = "SELECT llm_predict('big', array_fill(1::real, ARRAY[1000]))";
my $is_mapped = "SELECT pg_read_file('/proc/self/maps', 0, 10000000) ~ 'llmapp/pgsql_tmp'";

sub sql { return $node->safe_psql('postgres', shift); }
sub files { my @names = sort map { m{([^/]+)$} } glob("$folder/*"); return @names; }
sub file_of { my $table = shift; return (glob("$folder/pgsql_tmp.*." . sql("SELECT '$table'::regclass::oid") . '.1'))[0] // ''; }
sub inode { return (stat shift)[1] // 0; }
sub settings { sql("LOAD 'llmapp'; ALTER SYSTEM SET $_") foreach @_; $node->reload; select(undef, undef, undef, 0.3); return; }
sub write_file { my ($path, $bytes) = @_; open my $file, '>', $path or die "$path: $!"; print $file $bytes; close $file; return; }

sql(slurp_file('tests/handmade_model.sql'));
foreach my $table (qw(big second small))
{
	sql("CREATE TABLE $table OF llmapp.model_part (PRIMARY KEY (version, part))");
	my $shape = $table eq 'small' ? '2, 0' : '1000, 300';
	sql("SELECT handmade_version('$table', 1, $shape, 1, 0); SELECT llm_promote('$table', 1)");
}

# Small weights need no file, large ones get one that the next session maps.
is(sql("SELECT llm_predict('small', '{1,2}'::real[])"), '3', 'a small model predicts');
is(join(' ', files()), '', 'without a file');
is(sql("$predict; $is_mapped"), "300000\nt", 'a large model predicts from a mapped file');
my $file = file_of('big');
is(scalar(files()), 1, 'one file, nothing temporary left');
is(-s $file, 4096 + 1202496, 'it holds one page and the weights');
is((stat $file)[2] & 07777, 0600, 'it is private to the server');
my $inode = inode($file);
is(sql("$predict; $is_mapped"), "300000\nt", 'another session maps it');
is(inode($file), $inode, 'without writing it again');

# Files that were tampered with are replaced, not read.
truncate($file, 500_000);
is(sql($predict), '300000', 'a shortened file is not mapped');
is(-s $file, 4096 + 1202496, 'it is replaced');
isnt(inode($file), $inode, 'under a new inode: who has the old one keeps it');
my $right = slurp_file($file);
write_file($file, "\0" x length $right);
is(sql($predict), '300000', 'a file of zeros is not mapped');
write_file($file, substr($right, 0, 4096) . ("\0" x (length($right) - 4096)) . 'x');
is(sql($predict), '300000', 'nor one with a byte more');
is(slurp_file($file), $right, 'both are replaced');
write_file($file, substr($right, 0, 500_000) . "\x7f" . substr($right, 500_001));
is(sql($predict), '300000', 'nor one in which a byte has changed');
is(slurp_file($file), $right, 'it is replaced, too');
like(slurp_file($node->logfile), qr/weight file "[^"]*" was written to by something else/, 'and the log says so');
unlink $file;
is(sql($predict), '300000', 'a removed file is made again');
ok(-s $file, 'and is there');

# The same number of the same table, but other weights.
sql("BEGIN; DELETE FROM big WHERE version = 1; SELECT handmade_version('big', 1, 1000, 300, 2, 0); COMMIT");
is(sql($predict), '600000', 'another model of the same number is not served from the old file');
isnt(slurp_file($file), $right, 'its file is another');

# One session keeps what it mapped while files come and go; what it opens next is the truth of the table.
my $session = $node->background_psql('postgres');
is($session->query($predict), '600000', 'a session opens the model');
unlink $file;
is($session->query($predict), '600000', 'and keeps it without the file');
sql("SELECT handmade_version('big', 2, 1000, 300, 3, 0); SELECT llm_promote('big', 2)");
is($session->query($predict), '900000', 'it sees the version that another session made live');
$session->query("BEGIN ISOLATION LEVEL REPEATABLE READ");
is($session->query($predict), '900000', 'in a repeatable read transaction');
sql("SELECT llm_promote('big', 1)");
is($session->query($predict), '900000', 'it goes by its snapshot');
$session->query('COMMIT');
is($session->query($predict), '600000', 'and sees the new version afterwards');
sql("SELECT llm_drop_version('big', 2)");
is(scalar(grep { /\.2$/ } files()), 0, 'dropping a version removes its file');
sql("DROP TABLE big; CREATE TABLE big OF llmapp.model_part (PRIMARY KEY (version, part));
	 SELECT handmade_version('big', 1, 1000, 300, 1, 1); SELECT llm_promote('big', 1)");
is($session->query($predict), '300300', 'a table dropped and made again is another model');
ok(!-e $file, 'the file of the dropped one is gone');
is($session->query("SELECT count(*) FROM string_to_table(pg_read_file('/proc/self/maps', 0, 10000000), E'\\n') AS line WHERE line ~ 'llmapp/pgsql_tmp'"),
	'1', 'and the session has given up its mapping');
$session->quit;

# What a killed writer left is removed, what is not ours stays.
$file = file_of('big');
unlink $file;
my $leftover = "$file.999999";
write_file($leftover, 'half');
write_file("$folder/pgsql_tmp.other", 'x');
write_file("$folder/README", 'x');
is(sql($predict), '300300', 'predicts beside leftovers');
ok(!-e $leftover, 'what a dead writer left is removed');
ok(-e "$folder/pgsql_tmp.other" && -e "$folder/README", 'files of others stay');

# The least recently used file makes room.
settings("llmapp.cache_size = '2MB'");
is(sql("SELECT llm_predict('second', array_fill(1::real, ARRAY[1000]))"), '300000', 'a second model does not fit beside the first');
ok(!-e $file && -e file_of('second'), 'the one used before is removed');
settings("llmapp.cache_size = '1MB'");
unlink file_of('second');
is(sql("SELECT llm_predict('second', array_fill(1::real, ARRAY[1000])); $is_mapped"), "300000\nf",
	'a model larger than the cache is kept in memory');
settings("llmapp.cache_size = 0");
is(sql("$predict; $is_mapped"), "300300\nf", 'without a cache too');
settings("llmapp.cache_size = '1GB'");

# Whatever the file system refuses, the model predicts.
chmod 0500, $folder;
is(sql("$predict; $is_mapped"), "300300\nf", 'a folder that cannot be written');
chmod 0000, $folder;
is(sql("$predict; $is_mapped"), "300300\nf", 'one that cannot be read');
chmod 0700, $folder;
like(slurp_file($node->logfile), qr/could not write weight file "llmapp[^"]*": Permission denied/, 'the log says why');
mkdir $file;
is(sql("$predict; $is_mapped"), "300300\nf", 'a folder in the place of the file');
rmdir $file;
is(join(' ', grep { /\.\d+\.\d+\.\d+\.\d+$/ } files()), '', 'nothing temporary is left');
SKIP:
{
	skip 'needs prlimit', 3 unless `sh -c 'command -v prlimit'`;
	my $full = $node->background_psql('postgres');
	my $pid = $full->query('SELECT pg_backend_pid()');
	system('prlimit', "--pid=$pid", '--fsize=700000') == 0 or die;
	is($full->query("$predict"), '300300', 'a file that cannot grow');
	is(join(' ', grep { /pgsql_tmp\.\d/ && !/\.${\(sql("SELECT 'second'::regclass::oid"))}\./ } files()), '', 'and nothing of it is left');
	like(slurp_file($node->logfile), qr/could not write weight file "llmapp[^"]*": File too large/, 'the log says why');
	$full->quit;
}
system('rm', '-rf', $folder);
write_file($folder, 'not a folder');
is(sql("$predict; $is_mapped"), "300300\nf", 'a file in the place of the folder');
unlink $folder;
is(sql("$predict; $is_mapped"), "300300\nt", 'and everything is well again');

# Many sessions that need the same file at once: one writes.
unlink $file;
my @children = map { my $pid = fork(); if (!$pid) { exec('psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-o', '/dev/null', '-c', $predict) or die; } $pid } 1 .. 6;
my $failures = 0;
foreach (@children) { waitpid($_, 0); $failures++ if $?; }
is($failures, 0, 'six sessions open the model at once');
is(scalar(grep { /pgsql_tmp\.\d/ } files()), 1, 'one file remains');
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal|SIGBUS/, 'no process crashed');
$node->stop;
done_testing();
