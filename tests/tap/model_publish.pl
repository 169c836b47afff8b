# Trainings that publish to one model at the same time: one table, versions numbered without a gap.
use strict;
use warnings;
use LlmappTest;
use Test::More;

my $node = start_node('model_publish');
$node->safe_psql('postgres', 'CREATE TABLE points AS SELECT sin(i)::float8 AS x, 2 * sin(i)::float8 AS y FROM generate_series(1, 200) AS i');
$node->safe_psql('postgres', <<'SQL');
SELECT llm_train('line', 'points', target => 'y', params => '{"epochs": 3, "deploy": "always"}') FROM generate_series(1, 4);
SQL
ok(wait_for($node, "SELECT count(*) FROM llmapp.jobs WHERE status = 'succeeded'", '4', 60), 'four trainings of a new model succeed')
  or diag($node->safe_psql('postgres', 'SELECT status, message, detail FROM llmapp.jobs'));
is($node->safe_psql('postgres', "SELECT string_agg(version::text, ',' ORDER BY version) FROM llmapp.model_versions WHERE problem IS NULL"),
	'1,2,3,4', 'they publish versions 1 to 4');
is($node->safe_psql('postgres', "SELECT count(DISTINCT job) FROM llmapp.model_versions"), '4', 'one of each job');
is($node->safe_psql('postgres', "SELECT live_version BETWEEN 1 AND 4 FROM llmapp.models"), 't', 'one of them is live');
is($node->safe_psql('postgres', "SELECT obj_description('line'::regclass, 'pg_class')"), 'model of llmapp; see llmapp.models', 'the table says what it is');
is($node->safe_psql('postgres', "SELECT attstorage FROM pg_attribute WHERE attrelid = 'line'::regclass AND attname = 'data'"), 'e', 'weights are not compressed');

# A version whose transaction is rolled back leaves no number behind.
$node->safe_psql('postgres', "BEGIN; SELECT llm_drop_version('line', v) FROM generate_series(1, 4) AS v WHERE v <> (SELECT live_version FROM llmapp.models); ROLLBACK");
is($node->safe_psql('postgres', 'SELECT versions FROM llmapp.models'), '4', 'dropping can be rolled back');
$node->safe_psql('postgres', "SELECT llm_train('line', 'points', target => 'y', params => '{\"epochs\": 3}', wait => true)");
is($node->safe_psql('postgres', 'SELECT max(version) FROM llmapp.model_versions'), '5', 'the next training adds version 5');
$node->stop;
done_testing();
