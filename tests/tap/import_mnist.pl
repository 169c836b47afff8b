# A network for MNIST that others trained reaches its documented accuracy, and so does its copy.
use strict;
use warnings;
use LlmappTest;
use Test::More;

my $data = $ENV{LLMAPP_TEST_DATA} // '../shared/data';
my $weights = "$data/weights/mnist_mlp_784_128_32_10.safetensors";
plan skip_all => "no data in $data" unless -e $weights && -e "$data/image/mnist_t10k-images-idx3-ubyte.gz";

my $node = start_node('import_mnist');
my %environment = psql_environment($node);
local @ENV{ keys %environment } = values %environment;
local $ENV{LLMAPP_TEST_DATA} = $data;
is(system('tests/bench/load_images', '-', 'postgres'), 0, 'pictures are loaded');
sub sql { return $node->safe_psql('postgres', $_[0]); }

# TensorFlow's orders and names with slashes; the pixels of mnist_test are divided by 255 already.
my $names = join ',', map { qq("$_.weight": "$_/weights", "$_.bias": "$_/biases") } qw(hidden1 hidden2 softmax_linear);
my $layers = q({"type": "linear", "name": "hidden1", "width": 128}, {"type": "activation", "function": "relu"},
	{"type": "linear", "name": "hidden2", "width": 32}, {"type": "activation", "function": "relu"},
	{"type": "linear", "name": "softmax_linear", "width": 10});
open my $file, '<:raw', $weights or die;
my $hex = unpack 'H*', do { local $/; <$file> };
sub import_as
{
	my ($model, $input) = @_;
	return sql("SELECT llm_import('$model', '\\x$hex'::bytea,
		'{\"layers\": [$layers], \"layout\": \"tensorflow\", \"tensors\": {$names}, \"input\": $input}')");
}

sub accuracy
{
	my ($model, $rows) = @_;
	return sql("SELECT round(avg((llm_predict('$model', r) = label)::int), 4) FROM $rows AS r");
}

import_as('mnist', '{"name": "image", "shape": [784]}');
is(sql('SELECT count(*) FROM mnist_test'), '10000', 'all test pictures are there');
is(accuracy('mnist', 'mnist_test'), '0.9451', 'the documented accuracy');
is(sql(q(SELECT round(value::numeric, 4) FROM llm_evaluate('mnist', 'mnist_test') WHERE metric = 'accuracy')), '0.9451',
	'and by llm_evaluate');

import_as('bytes', '{"name": "image", "shape": [784], "std": 255}');
is(accuracy('bytes', '(SELECT label, 255 * image AS image FROM mnist_test)'), '0.9451', 'pixels from 0 to 255 are scaled by "std"');

sql(q(SELECT llm_import('copy', llm_export('mnist'))));
is(sql(q(SELECT count(*) FROM mnist_test AS t WHERE llm_predict('copy', t) <> llm_predict('mnist', t))), '0',
	'an exported and imported copy predicts the same');
done_testing();
