# Models on a hot standby: predictions, own weight files, and following what the primary publishes.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('model_primary');
$primary->init(allows_streaming => 1);
configure_node($primary);
$primary->start;
my $predict = "SELECT llm_predict('big', array_fill(1::real, ARRAY[1000]))";
$primary->safe_psql('postgres', 'CREATE EXTENSION llmapp');
$primary->safe_psql('postgres', slurp_file('tests/handmade_model.sql'));
$primary->safe_psql('postgres', <<'SQL');
CREATE TABLE big OF llmapp.model_part (PRIMARY KEY (version, part));
SELECT handmade_version('big', v, 1000, 300, v, 0) FROM generate_series(1, 2) AS v;
SELECT llm_promote('big', 1);
CREATE UNLOGGED TABLE fleeting OF llmapp.model_part (PRIMARY KEY (version, part));
SQL
is($primary->safe_psql('postgres', $predict), '300000', 'the primary predicts');

$primary->backup('backup');
my @copied = glob($primary->backup_dir . '/backup/llmapp/*');
is("@copied", '', 'a base backup leaves weight files out');

my $standby = PostgreSQL::Test::Cluster->new('model_standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);
my $session = $standby->background_psql('postgres', on_error_stop => 0);
is($session->query($predict), '300000', 'the standby predicts');
is(scalar(my @files = glob($standby->data_dir . '/llmapp/pgsql_tmp.*')), 1, 'with a file of its own');
is($session->query("SELECT live_version, versions, may_predict FROM llmapp.models WHERE name = 'big'"), '1|2|t', 'views work');
is($session->query("SELECT problem FROM llmapp.models WHERE name = 'fleeting'"),
	'"fleeting" is not a model: It is unlogged, so this standby does not have its rows.', 'an unlogged model is explained');

$primary->safe_psql('postgres', "SELECT llm_promote('big', 2)");
$primary->wait_for_catchup($standby);
is($session->query($predict), '600000', 'a session on the standby follows a promotion');
my ($status, $stdout, $stderr) = $standby->psql('postgres', "SELECT llm_promote('big', 1)");
like($stderr, qr/cannot execute llm_promote\(\) during recovery/, 'promoting on the standby is refused clearly');

$primary->safe_psql('postgres', "BEGIN; DROP TABLE big; CREATE TABLE big OF llmapp.model_part (PRIMARY KEY (version, part));
	SELECT handmade_version('big', 1, 1000, 300, 3, 0); SELECT llm_promote('big', 1); COMMIT");
$primary->wait_for_catchup($standby);
is($session->query($predict), '900000', 'and a table dropped and made again');
$standby->promote;
is($session->query($predict), '900000', 'the session predicts after the standby became primary');
is($session->query("SELECT handmade_version('big', 2, 1000, 300, 1, 0); SELECT llm_promote('big', 2)") // '', "\n", 'which can promote');
is($session->query($predict), '300000', 'and sees it');
$session->quit;

# A crash loses nothing: files that were renamed into place are whole.
$standby->stop('immediate');
$standby->start;
is($standby->safe_psql('postgres', $predict), '300000', 'predicts after a crash');
done_testing();
