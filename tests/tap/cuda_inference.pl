# The inference server on a GPU, with the backend's emulated one: texts are those that sessions write alone, and a GPU that
# fails ends its server only.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my (undef, $plug) = private_gpu_tree();
$plug->();
my $fault = $ENV{LLMAPP_EMULATE_FAULT};

my $node = start_node('cuda_inference', "shared_preload_libraries = 'llmapp'", 'max_connections = 40');
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub alone { return sql("SET llmapp.device = 'cpu'; $_[0]"); }
sub counted { return wait_for($node, "SELECT sum(tokens) > $_[0] FROM llmapp.stat_inference", 't', 10); }

ok(wait_for($node, 'SELECT device || name FROM llmapp.stat_inference', 'cuda:0emulated GPU', 20), 'auto starts a server on the GPU');
sql(q{CREATE TABLE songs AS SELECT 'la ' || repeat(chr(97 + i % 5) || ' ', 1 + i % 7) || repeat('do re mi ', i % 30) || i AS song FROM generate_series(1, 60) AS i;
	CREATE TABLE prompts AS SELECT left(song, 70) AS song FROM songs WHERE length(song) < 150 ORDER BY song LIMIT 6});
foreach my $architecture (qw(llama gpt))
{
	sql("SELECT llm_train('$architecture', 'songs', target => 'song', task => 'generation', architecture => '$architecture', device => 'cpu', wait => true,
		params => '{\"context\": 256, \"embed_dim\": 32, \"layers\": 2, \"heads\": 2, \"epochs\": 6, \"vocab_size\": 300, \"tokenizer\": \"bytes\", \"learning_rate\": 0.01}')");
	my $query = "SELECT string_agg(llm_generate('$architecture', song, max_tokens => 8), '|' ORDER BY song) FROM prompts";
	my $before = sql('SELECT sum(tokens) FROM llmapp.stat_inference');
	is(sql($query), alone($query), "$architecture: texts are those of the CPU");
	ok(counted($before), 'and were written there');
}
my $query = q{SELECT string_agg(t, '|') FROM (SELECT llm_generate_over('llama', song, max_tokens => 8) OVER (ORDER BY song) AS t FROM prompts) x};
is(sql($query), alone($query), 'texts together');

# a GPU that fails in the midst of a text
my $pid = sql('SELECT pid FROM llmapp.stat_inference');
append_to_file($fault, 'lost ' . (5 + sql('SELECT sum(passes) FROM llmapp.stat_inference')));
$query = q{SELECT llm_generate('llama', 'la b', max_tokens => 20)};
is(sql($query), alone($query), 'the session goes on alone');
ok(wait_for($node, "SELECT count(*) FROM llmapp.stat_inference WHERE pid <> $pid", '1', 20), 'another server begins');
is(sql($query), alone($query), 'and writes');
is(sql('SELECT models FROM llmapp.stat_inference'), '1', 'there');

# embeddings
sql('SELECT llmapp.stat_models_reset()');
is(sql(q{CREATE TEMP TABLE there AS SELECT song, llm_embed('gpt', song) AS e FROM prompts; SET llmapp.device = 'cpu';
	SELECT max((SELECT sum((x - y) ^ 2) FROM unnest(e, llm_embed('gpt', song)) AS n (x, y))) < 1e-9 FROM there}), 't', 'embeddings are those of the CPU');
is(sql(q{SELECT rows || ' ' || served_rows FROM llmapp.stat_models WHERE model = 'gpt'::regclass}), '12 6', 'and were made there');
is(sql('SELECT models FROM llmapp.stat_inference'), '2', 'by a model of their own');
done_testing();
