# A model is a table: pg_dump, restore into another database, ownership and names need nothing of ours.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('model_dump');
my $predict = "SELECT llm_predict('shop.big', array_fill(1::real, ARRAY[1000]))";
$node->safe_psql('postgres', slurp_file('tests/handmade_model.sql'));
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE seller;
CREATE ROLE clerk;
CREATE SCHEMA shop AUTHORIZATION seller;
GRANT USAGE ON SCHEMA shop TO clerk;
CREATE TABLE shop.big OF llmapp.model_part (PRIMARY KEY (version, part));
ALTER TABLE shop.big ALTER COLUMN data SET STORAGE EXTERNAL;
SELECT handmade_version('shop.big', v, 1000, 300, v, 0) FROM generate_series(1, 2) AS v;
SELECT llm_promote('shop.big', 2);
ALTER TABLE shop.big OWNER TO seller;
GRANT SELECT (meta) ON shop.big TO clerk;
CREATE VIEW shop.predicted AS SELECT llm_predict('shop.big', array_fill(1::real, ARRAY[1000])) AS prediction;
SQL
is($node->safe_psql('postgres', $predict), '600000', 'predicts');

my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', 'postgres', '-h', $node->host, '-p', $node->port ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-d', 'copy', '-h', $node->host, '-p', $node->port, '--exit-on-error', $dump ], 'pg_restore');
is($node->safe_psql('copy', $predict), '600000', 'the copy predicts');
is($node->safe_psql('copy', 'SELECT prediction FROM shop.predicted'), '600000', 'and its view');
is($node->safe_psql('copy', "SET ROLE clerk; $predict"), '600000', 'for whom the right to predict was granted');
is($node->safe_psql('copy', "SELECT owner, live_version, versions, problem IS NULL FROM llmapp.models"), 'seller|2|2|t', 'with its owner and versions');
is($node->safe_psql('copy', "SELECT attstorage FROM pg_attribute WHERE attrelid = 'shop.big'::regclass AND attname = 'data'"), 'e', 'and its storage');

my ($status, $stdout, $stderr) = $node->psql('copy', 'DROP ROLE seller');
like($stderr, qr/cannot be dropped because some objects depend on it/, 'the owner of a model cannot be dropped');
$node->safe_psql('copy', 'ALTER TABLE shop.big RENAME TO other; ALTER TABLE shop.other SET SCHEMA public');
is($node->safe_psql('copy', 'SELECT prediction FROM shop.predicted'), '600000', 'a view follows the model to another name and schema');

# Two databases hold files of the same cache; those of a dropped one go when the next file is made.
my @files = glob($node->data_dir . '/llmapp/pgsql_tmp.*');
is(scalar(@files), 2, 'each database has its own file');
$node->safe_psql('postgres', 'DROP DATABASE copy');
$node->safe_psql('postgres', "SELECT llm_promote('shop.big', 1); $predict");
@files = glob($node->data_dir . '/llmapp/pgsql_tmp.*');
is(scalar(@files), 2, 'the file of a dropped database is removed, the new version has one');
done_testing();
