# A full disk, simulated for one kind of file after the other: the server goes on, the job fails with an error that
# says so, and what was there before still is.  When there is room again, the job can go on.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('disk_full');
my $library = $node->basedir . '/faulty_disk.so';
my $control = $node->basedir . '/full';
my $compiler = $ENV{CC} // 'cc';
is(system("$compiler -shared -fPIC -o $library tests/tap/faulty_disk.c -ldl"), 0, 'the faulty disk is built') or BAIL_OUT('no compiler');

# Files whose path holds this text cannot be written; '' ends it.
sub fill { my ($text) = @_; unlink "$control.new"; append_to_file("$control.new", $text); rename("$control.new", $control) or die $!; return; }

$node->init;
configure_node($node, 'autovacuum = off', 'llmapp.progress_notices = off', 'checkpoint_timeout = 1h');
{
	local $ENV{LD_PRELOAD} = $library;
	local $ENV{FAULTY_DISK} = $control;
	$node->start;
}
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub wait_job { return sql("SELECT llm_wait($_[0])"); }
sub weights { return sql("SELECT md5(string_agg(data, '' ORDER BY part)) FROM $_[0] WHERE kind = 'weights' AND version = $_[1]"); }
sub leftovers { return join ' ', glob($node->data_dir . '/base/pgsql_tmp/*'), glob($node->data_dir . '/llmapp/*.new'); }

sub fails_for_want_of_space
{
	my ($job, $what) = @_;
	is(wait_job($job), 'failed', "$what: the job fails");
	like(sql("SELECT sqlstate || ' ' || message || coalesce(' ' || hint, '') FROM llmapp.jobs WHERE job = $job"),
		qr/^53100 could not (write|extend|create).*: No space left on device/, 'with an error that says why');
	is(leftovers(), '', 'and takes no space');
	return;
}

sql(q{CREATE EXTENSION llmapp;
	CREATE TABLE rows AS SELECT i AS id, sin(i) AS a, cos(i * 1.7) AS b, 'shop ' || i % 7 AS c, repeat(md5(i::text), 60) AS pad,
		sin(i) * cos(i * 1.7) AS y FROM generate_series(1, 8000) AS i});
my $source = 'SELECT a, b, c, y FROM rows';
my $params = '{"epochs": 150, "hidden": [64, 32], "batch_size": 64, "early_stopping": 0, "checkpoint_every": 0.1}';
sub submit { return sql("SELECT llm_train('$_[0]', '$source', target => 'y', params => '$params')"); }
is(wait_job(submit('expected')), 'succeeded', 'a training with room enough');
my $expected = weights('expected', 1);

# the rows of a training beyond llmapp.train_memory
fill('pgsql_tmp/');
my $wide = q{SELECT llm_train('wide', 'SELECT pad || id AS pad, y FROM rows', target => 'y', params => '{"epochs": 1}')};
my $job = sql("SET llmapp.train_memory = '16MB'; $wide");
fails_for_want_of_space($job, 'rows in a temporary file');
fill('');

# temp_file_limit is a full disk that somebody has drawn
sql("ALTER DATABASE postgres SET temp_file_limit = '1MB'");
$job = sql("SET llmapp.train_memory = '16MB'; $wide");
is(wait_job($job), 'failed', 'temp_file_limit: the job fails');
like(sql("SELECT sqlstate || ' ' || message FROM llmapp.jobs WHERE job = $job"), qr/^53400 temporary file size exceeds temp_file_limit/, 'with the error of the limit');
is(leftovers(), '', 'and takes no space');
sql('ALTER DATABASE postgres RESET temp_file_limit');

# checkpoints: the job stops, and goes on from the last one that was whole
$job = submit('stopped');
my $end = time + 60;
select(undef, undef, undef, 0.01) until glob($node->data_dir . "/llmapp/pgsql_tmp.checkpoint.*.$job") || time > $end;
fill('checkpoint');
fails_for_want_of_space($job, 'a checkpoint');
like(sql("SELECT hint FROM llmapp.jobs WHERE job = $job"), qr/llm_resume/, 'the hint says what to do');
fill('');
is(sql("SELECT llm_resume($job)"), 'queued', 'with room again it is resumed');
is(wait_job($job), 'succeeded', 'and ends');
like(sql("SELECT report ->> 'resumed' FROM llmapp.jobs WHERE job = $job"), qr/step/, 'from its checkpoint');
is(weights('stopped', 1), $expected, 'with the weights that it would have had');

# publishing: the table of the model cannot grow
sql(q{CREATE TABLE kept AS SELECT id, llm_predict('expected', r) AS prediction FROM rows AS r WHERE id <= 50});
my $same = q{SELECT count(*) FROM rows AS r JOIN kept USING (id) WHERE llm_predict('expected', r) = prediction};
fill(sql(q{SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE oid = 'expected'::regclass}));
$job = sql("SELECT llm_train('expected', '$source', target => 'y', params => '" . ($params =~ s/150, "hidden": \[64, 32\]/20, "hidden": [256, 256]/r) . "')");
fails_for_want_of_space($job, 'a new version');
is(sql(q{SELECT string_agg(version::text, ',') FROM llmapp.model_versions WHERE model = 'expected'::regclass}), '1', 'the model has its old version only');
is(sql($same), '50', 'which predicts as before');
fill('');
is(sql("SELECT llm_resume($job)"), 'queued', 'nothing is lost: the job goes on from its last checkpoint');
is(wait_job($job), 'succeeded', 'and publishes');

# a table of predictions
sql(q{CREATE TABLE scores (id int PRIMARY KEY, prediction text, probability float8, model_version int, predicted_at timestamptz, error text)});
fill(sql(q{SELECT pg_relation_filepath('scores')}));
$job = sql(q{SELECT llm_score('stopped', 'SELECT id, a, b, c FROM rows', 'scores', key => '{id}')});
fails_for_want_of_space($job, 'predictions');
fill('');
sql("SELECT llm_resume($job)");
is(wait_job($job), 'succeeded', 'with room again it goes on');
is(sql('SELECT count(*), count(DISTINCT id), count(prediction) FROM scores'), '8000|8000|8000', 'and every row is there once');

# weight files, which are not needed
sql(slurp_file('tests/handmade_model.sql'));
sql(q{CREATE TABLE big OF llmapp.model_part (PRIMARY KEY (version, part)); SELECT handmade_version('big', 1, 1000, 300, 1, 0); SELECT llm_promote('big', 1)});
fill('llmapp/pgsql_tmp');
is(sql(q{SELECT llm_predict('big', array_fill(1::real, ARRAY[1000]))}), '300000', 'a weight file: the model predicts without one');
is(join(' ', glob($node->data_dir . '/llmapp/pgsql_tmp.[0-9]*')), '', 'and nothing of it is left');
fill('');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|process[^\n]* was terminated by signal/, 'no process crashed');
done_testing();
