# Weights and programs of the inference server on a GPU, the backend's emulated one in a copy of the private tree: sessions write
# alone when one has no memory for them, and write the same with it, whatever type weights are kept in.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my (undef, $plug) = private_gpu_tree();
$plug->();
my $fault = $ENV{LLMAPP_EMULATE_FAULT};

my $node = start_node('cuda_weights', "shared_preload_libraries = 'llmapp'", "llmapp.inference_device = 'cuda'");
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub alone { return sql("SET llmapp.device = 'cpu'; $_[0]"); }
sub passes { return sql('SELECT coalesce(sum(passes), 0) FROM llmapp.stat_inference'); }
sub serves { return wait_for($node, 'SELECT count(*) FROM llmapp.stat_inference', '1', 30); }

# A query gives the same with the server and without; and the server did it, or had no memory.
sub same
{
	my ($query, $name) = @_;
	my $before = passes();
	my $together = sql($query);
	ok($together ne '' && $together eq alone($query), "$name: as alone");
	ok(wait_for($node, "SELECT sum(passes) > $before FROM llmapp.stat_inference", 't', 10), "$name: on the GPU");
	return;
}
sub without
{
	my ($what, $query, $name) = @_;
	append_to_file($fault, $what);
	is(sql($query), alone($query), "$name: the session writes alone");
	unlink $fault;
	return;
}

sql(q{CREATE TABLE songs AS SELECT 'la ' || repeat(chr(97 + i % 5) || ' ', 1 + i % 7) || i AS song FROM generate_series(1, 40) AS i});
my $params = q({"context": 128, "embed_dim": 32, "layers": 2, "heads": 2, "epochs": 3, "vocab_size": 300, "tokenizer": "bytes"});
sql("SELECT llm_train('$_', 'songs', target => 'song', task => 'generation', architecture => '$_', params => '$params', device => 'cpu', wait => true)") foreach qw(llama gpt);
ok(serves(), 'a server is there');
is(sql('SELECT device || models FROM llmapp.stat_inference'), 'cuda:00', 'with the GPU and no model');

# short memory, at the start of a server whose allocations are counted: weights and pages, then a program of a pass
my $text = q{SELECT llm_generate('llama', 'la b', max_tokens => 12)};
without('memory 2', $text, 'no memory for weights and pages');
is(sql('SELECT models FROM llmapp.stat_inference'), '0', 'no model is left behind');
without('memory 5', $text, 'no memory for a program');

same($text, 'a text');
same(q{SELECT llm_generate('llama', repeat('la b c ', 12), max_tokens => 12)}, 'a long prompt');
same(q{SELECT string_agg(t, '|') FROM (SELECT llm_generate_over('llama', song, max_tokens => 6) OVER () AS t FROM songs LIMIT 10) x}, 'texts together');
same(q{SELECT llm_generate('gpt', 'la b', max_tokens => 12)}, 'another family');
sql(q{SELECT llm_promote('gpt', llm_quantise('gpt', 'bf16'))});
same(q{SELECT llm_generate('gpt', 'la b', max_tokens => 12)}, 'weights in bf16');
is(sql('SELECT models || device FROM llmapp.stat_inference'), '3cuda:0', 'all of them are on the GPU');

unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'nothing crashed');
done_testing();
