# Checkpoints written to the server: what was imported or trained here goes out as a folder or a GGUF file, comes in
# again and computes the same numbers; whatever is wrong leaves nothing behind.
use strict;
use warnings;
use LlmappTest;
use StoriesCheckpoint;
use Test::More;

my $data = $ENV{LLMAPP_TEST_DATA} // '../shared/data';
plan skip_all => "no data in $data" unless -e "$data/weights/stories260K.bin";

my $node = start_node('export_files');
my $folder = PostgreSQL::Test::Utils::tempdir() . '/checkpoints';
mkdir $folder;
chmod 0755, $folder;
write_stories("$folder/stories", "$data/weights");
sub sql { return $node->safe_psql('postgres', $_[0]); }

my $known = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park.';
sub numbers
{
	my ($model) = @_;
	return sql("SELECT llm_generate('$model', 'Once upon a time', 60), llm_perplexity('$model', '$known')");
}

# Out and in again.
sub round_trip
{
	my ($model, $format) = @_;
	my $path = "$folder/${model}_$format";
	my $bytes = sql("SELECT llm_export('$model', '$path', '$format')");
	cmp_ok($bytes, '>', 10000, "$model is written as $format");
	sql("SELECT llm_import('${model}_$format', '$path', wait => true)");
	return "${model}_$format";
}

# ---- an imported language model ----

sql("SELECT llm_import('stories', '$folder/stories', wait => true)");
my $expected = numbers('stories');
is(numbers(round_trip('stories', $_)), $expected, "as $_ it tells the same story") foreach qw(safetensors gguf);
my @files = sort map { s{.*/}{}r } glob "$folder/stories_safetensors/*";
is("@files", 'config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json', 'files of the folder');
my $total = 0;
$total += -s $_ foreach glob "$folder/stories_safetensors/*";
is(sql("SELECT llm_export('stories', '$folder/again')"), $total, 'the result is their bytes');
is(PostgreSQL::Test::Utils::slurp_file("$folder/again/model.safetensors"), PostgreSQL::Test::Utils::slurp_file("$folder/stories_safetensors/model.safetensors"),
	'the same weights give the same file');
is(-s "$folder/stories_gguf", sql("SELECT llm_export('stories', '$folder/again.gguf', 'gguf')"), 'and those of the GGUF file');

# ---- what a manifest says beside the network ----

# All of it but where it comes from, and the tokenizer's bytes, which may be kept in another way.
sub manifest
{
	my ($model) = @_;
	return sql("SELECT meta - '{lineage,settings,weights}'::text[] FROM $model WHERE version = 1 AND kind = 'manifest'");
}

write_stories("$folder/talker", "$data/weights");
write_file("$folder/talker/generation_config.json", '{"bos_token_id": 1, "eos_token_id": [300, 2, 17, 2], "decoder_start_token_id": 1}');
sql("SELECT llm_import('talker', '$folder/talker', wait => true)");
is(sql(q{SELECT meta -> 'tokens' FROM talker WHERE version = 1 AND kind = 'manifest'}), '{"ends": [2, 17, 300], "start": 1}', 'several tokens end a text');
is(manifest(round_trip('talker', $_)), manifest('talker'), "and do in what is written as $_") foreach qw(safetensors gguf);
my %written = map { $_ => read_file("$folder/talker_safetensors/$_.json") =~ s/\s+/ /gr } qw(config generation_config);
like($written{$_}, qr/"eos_token_id": \[ 2, 17, 300 \]/, "$_.json has them all") foreach qw(config generation_config);
like($written{generation_config}, qr/"bos_token_id": 1.*"decoder_start_token_id": 1/, 'and how a text begins');

write_golden("$folder/golden", 'bert-labels', LABEL_0 => 'O', LABEL_1 => 'B-PER', LABEL_2 => 'I-PER', LABEL_3 => 'B-LOC', LABEL_4 => 'I-LOC');
sql(qq{SELECT llm_import('entities', '$folder/golden', '{"ignore": ["golden.*"]}', wait => true)});
my $found = q{SELECT string_agg(concat_ws(' ', label, start, probability), ', ') FROM llm_extract_entities('%s', 'the cat sees a red house in the old city?')};
my $entities = sql(sprintf $found, 'entities');
like($entities, qr/(PER|LOC) \d/, 'labels of tokens have names');
is(manifest(round_trip('entities', 'safetensors')), manifest('entities'), 'which are in what is written');
is(sql(sprintf $found, 'entities_safetensors'), $entities, 'and it finds the same');
my $config = read_file("$folder/entities_safetensors/config.json") =~ s/\s+/ /gr;
like($config, qr/"BertForTokenClassification".*"id2label": \{ "0": "O", "1": "B-PER", "2": "I-PER", "3": "B-LOC", "4": "I-LOC" \}, "label2id": \{ "O": 0, "B-PER": 1,/,
	'for other libraries, too');

foreach my $function (qw(activation.Sigmoid linear.Identity))
{
	my $name = lc substr $function, -8;
	$name =~ s/.*\.//;
	write_golden("$folder/$name", 'bert-score', '"add_cross_attention"' => qq("sentence_transformers": {"activation_fn": "torch.nn.modules.$function"}, "add_cross_attention"));
	sql(qq{SELECT llm_import('$name', '$folder/$name', '{"ignore": ["golden.*"]}', wait => true)});
	is(manifest(round_trip($name, 'safetensors')), manifest($name), "a score is one of $function after a round trip, too");
	my $ranked = q{SELECT string_agg(document || ' ' || score, ', ') FROM llm_rerank('%s', 'Where is the cat?', '{the cat is in the house.,a man plays with a child}')};
	is(sql(sprintf $ranked, "${name}_safetensors"), sql(sprintf $ranked, $name), 'and ranks as before');
}

write_stories("$folder/window", "$data/weights");
my $sliding = read_file("$folder/window/config.json") =~ s/LlamaFor/MistralFor/r =~ s/"llama"/"mistral", "sliding_window": 16/r;
write_file("$folder/window/config.json", $sliding);
sql("SELECT llm_import('sliding', '$folder/window', wait => true)");
isnt(numbers('sliding'), $expected, 'a window of attention changes a story');
my $within = q{SELECT llm_generate('%s', 'Once upon a time', 8)};
is(sql(sprintf $within, 'sliding'), sql(sprintf $within, 'stories'), 'but not its beginning');
is(numbers(round_trip('sliding', 'safetensors')), numbers('sliding'), 'and goes out and comes in');
is(manifest('sliding_safetensors'), manifest('sliding'), 'as part of the network');
my ($refused, undef, $why) = $node->psql('postgres', "SELECT llm_export('sliding', '$folder/sliding.gguf', 'gguf')");
like($why, qr/"window"/, 'a GGUF file cannot say it');

# ---- layers with and without a window, caps, norms of what layers add ----

my $gemma = q{'{"ignore": ["golden.*"], "check": false}', wait => true)};
foreach my $name (qw(gemma2 gemma3 gemma3_images))
{
	write_golden("$folder/$name", $name =~ tr/_/-/r);
	sql("SELECT llm_import('$name', '$folder/$name', $gemma");
	my $said = q{SELECT llm_generate('%s', 'the cat sees a red house in the old city', 40), llm_perplexity('%1$s', 'a man plays with a child in the old city')};
	foreach my $format ($name =~ /images/ ? 'safetensors' : qw(safetensors gguf))
	{
		my $again = "${name}_$format";
		sql("SELECT llm_export('$name', '$folder/$again', '$format'); SELECT llm_import('$again', '$folder/$again', $gemma");
		is(manifest($again), manifest($name), "$name is the same network as $format");
		is(sql(sprintf $said, $again), sql(sprintf $said, $name), 'and says the same');
	}
}
(undef, undef, $why) = $node->psql('postgres', "SELECT llm_export('gemma3_images', '$folder/images.gguf', 'gguf')");
like($why, qr/"query_dim"/, 'a GGUF file cannot say by what scores are divided');
foreach my $how ('"train_layers": 2', '"lora_rank": 4')
{
	sql(qq{SELECT llm_train('tuned', 'SELECT ''a man plays with a child in the old city''::text AS body FROM generate_series(1, 60)', task => 'generation', base => 'gemma2', params => '{"steps": 30, "learning_rate": 0.01, "deploy": "always", $how}', wait => true)});
	cmp_ok(sql(q{SELECT llm_perplexity('tuned', 'a man plays with a child in the old city') / llm_perplexity('gemma2', 'a man plays with a child in the old city')}), '<', 0.8, "and learns with $how");
	sql('DROP TABLE tuned');
}

# ---- weights in fewer bits ----

foreach my $type (qw(bf16 q8_0 q4_0))
{
	sql("SELECT llm_import('few_$type', '$folder/stories', wait => true); SELECT llm_promote('few_$type', llm_quantise('few_$type', '$type'))");
	# An import keeps all as float32, so the numbers are those of the weights and not of how they are multiplied.
	my ($folder_numbers, $file_numbers) = map { numbers(round_trip("few_$type", $_)) } qw(safetensors gguf);
	is($file_numbers, $folder_numbers, "weights kept as $type are the same in both formats");
}
cmp_ok(-s "$folder/few_bf16_safetensors/model.safetensors", '<', 0.65 * -s "$folder/again/model.safetensors", 'bf16 is written so');
cmp_ok(-s "$folder/few_q4_0_gguf", '<', 0.4 * -s "$folder/again.gguf", 'and q4_0, in a GGUF file');

# ---- positions scaled by YaRN ----

my $plain = read_file("$folder/stories/config.json");
my %scaled = (yarn => '"factor": 1.2, "original_max_position_embeddings": 400', untruncated => '"factor": 1.2, "truncate": false',
	attending => '"factor": 1.2, "beta_fast": 16, "attention_factor": 0.99');
foreach my $model (sort keys %scaled)
{
	write_stories("$folder/$model", "$data/weights");
	write_file("$folder/$model/config.json", $plain =~ s/"rope_theta"/"rope_scaling": {"rope_type": "yarn", $scaled{$model}}, "rope_theta"/r);
	sql("SELECT llm_import('$model', '$folder/$model', wait => true)");
	isnt(numbers($model), $expected, "$model: other positions, another story");
	is(numbers(round_trip($model, 'safetensors')), numbers($model), "$model: the same in what is written");
	is(manifest("${model}_safetensors"), manifest($model), "$model: the same network");
}
is(numbers(round_trip('yarn', 'gguf')), numbers('yarn'), 'yarn: the same as a GGUF file');
is(manifest('yarn_gguf'), manifest('yarn'), 'yarn: the same network');
my $rope = read_file("$folder/yarn_safetensors/config.json") =~ s/\s+/ /gr;
like($rope, qr/"rope_scaling": \{ "rope_type": "yarn", "factor": 1\.2, "beta_fast": 32\.0, "beta_slow": 1\.0, "original_max_position_embeddings": 400 \}/,
	'yarn: as transformers has it');
unlike($rope, qr/attention_factor|truncate/, 'yarn: nothing that follows from it');

# ---- a sentence transformer with dense layers ----

write_golden_folders("$folder/dense", 'bert-dense');
sql("SELECT llm_import('dense', '$folder/dense', wait => true); SELECT llm_export('dense', '$folder/dense_out'); SELECT llm_import('dense_back', '$folder/dense_out', wait => true)");
is(sql(q{SELECT llm_embed('dense_back', 'the cat sees a red house')}), sql(q{SELECT llm_embed('dense', 'the cat sees a red house')}), 'its embedding is the same');
is(manifest('dense_back'), manifest('dense'), 'and so is its network');
my $dense = read_file("$folder/dense/3_Dense/model.safetensors");
is(substr(read_file("$folder/dense_out/3_Dense/model.safetensors"), -4 * 12 * 41), substr($dense, -4 * 12 * 41), 'weights of a layer are in its folder');
like(read_file("$folder/dense_out/3_Dense/config.json") =~ s/\s+/ /gr,
	qr/"in_features": 40, "out_features": 12, "bias": true, "activation_function": "torch\.nn\.modules\.activation\.GELU"/, 'and what it is');
write_golden_folders("$folder/encoder", 't5-dense');
sql("SELECT llm_import('encoder', '$folder/encoder', wait => true); SELECT llm_export('encoder', '$folder/encoder_out'); SELECT llm_import('encoder_back', '$folder/encoder_out', wait => true)");
is(sql(q{SELECT llm_embed('encoder_back', 'the cat sees a red house')}), sql(q{SELECT llm_embed('encoder', 'the cat sees a red house')}), 'the encoder of a T5, too');
like(read_file("$folder/encoder_out/config.json"), qr/"T5EncoderModel"/, 'by its class');

# ---- trained here ----

my $tiny = '"context": 32, "layers": 1, "embed_dim": 32, "heads": 2, "vocab_size": 300, "seed": 5';
sql(q{CREATE TABLE texts AS SELECT 'the number ' || i || ' comes before the number ' || i + 1 AS body, 'the number ' || i AS said FROM generate_series(1, 300) AS i});
sql(qq{SELECT llm_train('trained', 'SELECT body FROM texts', task => 'generation', params => '{$tiny, "epochs": 12}', wait => true)});
my $trained = sql(q{SELECT llm_generate('trained', 'the number 12', 12), llm_perplexity('trained', 'the number 12 comes')});
foreach my $format (qw(safetensors gguf))
{
	my $path = "$folder/trained_$format";
	sql("SELECT llm_export('trained', '$path', '$format')");
	# It has seen no plain English, so it is not imported as a language model that must know some.
	like(read_file($format eq 'gguf' ? $path : "$path/config.json"), qr/gpt2/, "a GPT is one of GPT-2 as $format");
}
sql(qq{SELECT llm_train('twin', 'SELECT said, body FROM texts', target => 'body', task => 'embedding', params => '{$tiny, "prompt": "said", "steps": 20}', wait => true)});
sql("SELECT llm_export('twin', '$folder/twin'); SELECT llm_import('twin_back', '$folder/twin', wait => true)");
is(sql("SELECT llm_embed('twin_back', 'the number 12')"), sql("SELECT llm_embed('twin', 'the number 12')"), 'an embedding is the same');
ok(-e "$folder/twin/1_Pooling/config.json", 'in a folder of sentence-transformers');
sql("SELECT llm_export('twin', '$folder/twin.gguf', 'gguf'); SELECT llm_import('twin_file', '$folder/twin.gguf', wait => true)");
is(sql("SELECT llm_embed('twin_file', 'the number 12')"), sql("SELECT llm_embed('twin', 'the number 12')"), 'and in a GGUF file');

# Trained further, all of it, its last layer or beside it, an embedding with a dense layer has as many numbers.
system("cp -r $folder/twin $folder/narrow") == 0 or die 'no copy';
mkdir "$folder/narrow/2_Dense";
write_file("$folder/narrow/modules.json", read_file("$folder/twin/modules.json") =~ s/"2_Normalize"/"2_Dense"/r =~ s/Normalize/Dense/r);
write_file("$folder/narrow/2_Dense/config.json", '{"in_features": 32, "out_features": 8, "bias": false}');
write_file("$folder/narrow/2_Dense/model.safetensors", safetensors('linear.weight' => [ [ 8, 32 ], pack 'f<*', map { sin($_) / 4 } 1 .. 256 ]));
sql("SELECT llm_import('narrow', '$folder/narrow', wait => true)");
my %tuned = (tuned => '', tuned_last => ', "train_layers": 1', tuned_apart => ', "lora_rank": 2, "lora_merge": false');
foreach my $model (sort keys %tuned)
{
	sql(qq{SELECT llm_train('$model', 'SELECT said, body FROM texts', target => 'body', task => 'embedding', base => 'narrow', wait => true,
		params => '{"prompt": "said", "seed": 5, "steps": 5$tuned{$model}}')});
	is(sql(qq{SELECT cardinality(e), e <> llm_embed('narrow', 'the number') FROM llm_embed('$model', 'the number') AS e}), '8|t', "$model has other numbers, as many");
}

# ---- what is refused ----

sub fails
{
	my ($query, $expected_error, $what) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $query);
	isnt($status, 0, "$what fails");
	like($err, $expected_error, "$what says what is wrong");
	return;
}

fails("SELECT llm_export('stories', '$folder/again')", qr/could not create ".*again": File exists.*HINT/s, 'a folder that is there');
fails("SELECT llm_export('stories', '$folder/again.gguf', 'gguf')", qr/File exists/, 'a file that is there');
ok(-e "$folder/again/config.json" && -e "$folder/again.gguf", 'they are as they were');
fails("SELECT llm_export('dense', '$folder/dense.gguf', 'gguf')", qr/GGUF file does not hold the dense layers.*HINT.*safetensors/s, 'dense layers in a GGUF file');
fails("SELECT llm_export('$_', '$folder/$_.gguf', 'gguf')", qr/does not hold this scaling of positions by YaRN.*HINT.*safetensors/s, "$_ in a GGUF file")
  foreach qw(untruncated attending);
fails("SELECT llm_export('stories', '$folder/no/where')", qr/No such file/, 'a folder in one that is not there');
fails("SELECT llm_export('stories', 'here')", qr/is not an absolute path/, 'a relative path');
fails("SELECT llm_export('stories', '$folder/onnx', 'onnx')", qr/format "onnx" is not known.*gguf/s, 'a format that is not known');
sql(q{CREATE TABLE points AS SELECT i AS x, i > 50 AS above FROM generate_series(1, 100) AS i; SELECT llm_train('columns', 'points', target => 'above', params => '{"epochs": 1}', wait => true)});
fails("SELECT llm_export('columns', '$folder/columns')", qr/no transformer.*llm_export\('public\.columns'\)/s, 'a model of columns');
sql(qq{SELECT llm_train('letters', 'SELECT body FROM texts', task => 'generation', params => '{$tiny, "tokenizer": "bytes", "steps": 3}', wait => true)});
fails("SELECT llm_export('letters', '$folder/letters.gguf', 'gguf')", qr/GGUF file cannot say.*safetensors/s, 'a tokenizer of bytes in a GGUF file');
ok(!-e "$folder/letters.gguf" && !-e "$folder/columns" && !-e "$folder/onnx", 'nothing is left of what failed');
sql(q{CREATE ROLE reader LOGIN; GRANT SELECT ON stories TO reader});
fails("SET ROLE reader; SELECT llm_export('stories', '$folder/mine')", qr/permission denied to write files.*GRANT pg_write_server_files TO reader/s, 'a role that may not write files');
done_testing();
