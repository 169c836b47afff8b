# Checkpoints in folders of the server: a Llama that others trained writes the known text, its files are in the
# lineage, and whatever is wrong with a folder is an error that names it and leaves nothing behind.
use strict;
use warnings;
use File::Path qw(make_path);
use LlmappTest;
use PostgreSQL::Test::Utils;
use StoriesCheckpoint;
use Test::More;

my $data = $ENV{LLMAPP_TEST_DATA} // '../shared/data';
plan skip_all => "no data in $data" unless -e "$data/weights/stories260K.bin";

my $node = start_node('import_files');
my $folder = PostgreSQL::Test::Utils::tempdir() . '/checkpoints';
make_path($folder);
chmod 0755, $folder;
my %tensors = write_stories("$folder/stories", "$data/weights");
sub sql { return $node->safe_psql('postgres', $_[0]); }
my ($status, $out, $err);

# A copy of the folder, with some files replaced or, given as undef, left out.
sub variant
{
	my ($name, %files) = @_;
	mkdir "$folder/$name";
	foreach my $file (qw(config.json model.safetensors tokenizer.model tokenizer_config.json), keys %files)
	{
		my $bytes = exists $files{$file} ? $files{$file} : read_file("$folder/stories/$file");
		write_file("$folder/$name/$file", $bytes) if defined $bytes;
	}
	return "$folder/$name";
}

sub fails
{
	my ($path, $params, $expected, $what) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SELECT llm_import('broken', '$path', '$params', wait => true)");
	isnt($status, 0, "$what fails");
	like($err, $expected, "$what says what is wrong");
	return;
}

# ---- the known text ----

my $expected = read_file("$data/weights/stories260K_expected_greedy.txt");
sql("SELECT llm_import('stories', '$folder/stories', wait => true)");
my $text = sql("SELECT 'Once upon a time' || llm_generate('stories', 'Once upon a time', 240)");
ok(length $text > 300, 'a story has some length');
is($text, substr($expected, 0, length $text), 'it is the known one');
is(sql(q{SELECT architecture || ' ' || task FROM llmapp.models WHERE model = 'stories'::regclass}), 'llama generation', 'what it is');
my $sha256 = PostgreSQL::Test::Utils::slurp_file("$folder/stories/config.json") && `sha256sum $folder/stories/model.safetensors`;
my ($sum) = split ' ', $sha256;
is( sql(q{SELECT file ->> 'sha256' FROM llmapp.model_versions, jsonb_array_elements(lineage -> 'imported' -> 'files') AS file
	WHERE model = 'stories'::regclass AND file ->> 'name' = 'model.safetensors'}), $sum, 'files are in the lineage with their SHA-256');
cmp_ok(sql(q{SELECT (report -> 'check' ->> 'loss')::float8 FROM llmapp.jobs WHERE model = 'public.stories'}), '<', 4, 'the plain sentence is foreseen');
my $perplexity = sql(q{SELECT llm_perplexity('stories', 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park.')});
cmp_ok($perplexity, '<', 4, 'and a story even more');

sql("SELECT llm_import('stories', '$folder/stories', '{\"context\": 128}', wait => true)");
is(sql(q{SELECT live_version FROM llmapp.models WHERE model = 'stories'::regclass}), '2', 'importing again makes another version');

# ---- the same as one GGUF file ----

write_stories_gguf("$folder/stories.gguf", "$data/weights");
sql("SELECT llm_import('stories_gguf', '$folder/stories.gguf', wait => true)");
is(sql("SELECT 'Once upon a time' || llm_generate('stories_gguf', 'Once upon a time', 240)"), $text, 'a GGUF file writes the same text');
is(sql(q{SELECT llm_perplexity('stories_gguf', 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park.')}), $perplexity,
	'and foresees one as well');
is( sql(q{SELECT string_agg(file ->> 'name', ',') FROM llmapp.model_versions, jsonb_array_elements(lineage -> 'imported' -> 'files') AS file
	WHERE model = 'stories_gguf'::regclass}), 'stories.gguf', 'the file is in the lineage');

# ---- and as a GGUF file in three parts ----

mkdir "$folder/parts";
write_stories_parts("$folder/parts/stories", "$data/weights");
sql("SELECT llm_import('$_->[0]', '$folder/parts$_->[1]', wait => true)") foreach [ 'parts', '' ], [ 'first_part', '/stories-00001-of-00003.gguf' ];
is(sql("SELECT 'Once upon a time' || llm_generate('$_', 'Once upon a time', 240)"), $text, "$_: three parts write the same text") foreach qw(parts first_part);
my @sums = map { (split ' ', `sha256sum $folder/parts/stories-0000$_-of-00003.gguf`)[0] } 1 .. 3;
is( sql(qq{SELECT string_agg(file ->> 'sha256', ',' ORDER BY file ->> 'name') FROM llmapp.model_versions, jsonb_array_elements(lineage -> 'imported' -> 'files') AS file
	WHERE model = '$_'::regclass}), join(',', @sums), "$_: each is in the lineage") foreach qw(parts first_part);
fails("$folder/parts/stories-00002-of-00003.gguf", '{}', qr/is part 2 of the 3 of a model.*HINT.*stories-00001-of-00003\.gguf/s, 'a part that is not the first');
mkdir "$folder/$_" foreach qw(lacking swapped counted renamed);
write_stories_parts("$folder/lacking/stories", "$data/weights");
unlink "$folder/lacking/stories-00003-of-00003.gguf";
fails("$folder/lacking", '{}', qr/lacks file "stories-00003-of-00003\.gguf".*part 3 of the 3/s, 'a part that is not there');
write_stories_parts("$folder/swapped/stories", "$data/weights", swap => 1);
fails("$folder/swapped", '{}', qr/"stories-00002-of-00003\.gguf" says that it is part 3 of 3, not 2 of 3/, 'parts in another order');
write_stories_parts("$folder/counted/stories", "$data/weights", count => 7);
fails("$folder/counted", '{}', qr/3 parts of the model have \d+ tensors, .* says that there are 7/, 'parts of something else');
rename "$folder/lacking/stories-00001-of-00003.gguf", "$folder/renamed/stories.gguf";
fails("$folder/renamed/stories.gguf", '{}', qr/one of 3 parts.*NAME-00001-of-00003\.gguf/s, 'a part with another name');
write_stories_parts("$folder/lacking/tales", "$data/weights");
write_stories_parts("$folder/lacking/stories", "$data/weights");
fails("$folder/lacking", '{}', qr/more than one model.*first part/s, 'two models in a folder');

sql("SELECT llm_import('small', '$folder/stories', '{\"weights\": \"q8_0\"}', wait => true)");
cmp_ok(sql(q{SELECT size FROM llmapp.models WHERE model = 'small'::regclass}), '<', 0.6 * sql(q{SELECT size / 2 FROM llmapp.models WHERE model = 'stories'::regclass}),
	'weights in fewer bits take less room');
is(sql(q{SELECT llm_generate('small', 'Once upon a time', 20)}), sql(q{SELECT llm_generate('stories', 'Once upon a time', 20)}), 'and write the same');

# ---- networks that read one text or two, with the numbers that transformers gives for them ----

write_golden("$folder/$_", $_) foreach qw(bert-score bert-classes bert-labels);
sql(q{SELECT llm_import('score', '} . $folder . q{/bert-score', '{"ignore": ["golden.*"]}', wait => true)});
sql(q{SELECT llm_import('classes', '} . $folder . q{/bert-classes', '{"ignore": ["golden.*"], "classes": ["yes", "no", "maybe"]}', wait => true)});
is( sql(q{SELECT string_agg(document || ' ' || round(score::numeric, 5), ', ') FROM
	llm_rerank('score', 'Where is the cat?', '{the cat is in the house.,a man plays with a child,NULL,who likes the old city ?}')}),
	'2 0.39990, 4 0.38902, 1 0.38381', 'a cross-encoder ranks documents by the sigmoid of what it computes');
write_golden("$folder/cross", 'bert-score');
write_file("$folder/cross/modules.json", '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]');
write_file("$folder/cross/config_sentence_transformers.json", '{"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}');
sql(q{SELECT llm_import('plain_score', '} . $folder . q{/cross', '{"ignore": ["golden.*"]}', wait => true)});
is( sql(q{SELECT string_agg(document || ' ' || round(score::numeric, 5), ', ') FROM
	llm_rerank('plain_score', 'Where is the cat?', '{the cat is in the house.,a man plays with a child,NULL,who likes the old city ?}')}),
	'2 -0.40587, 4 -0.45144, 1 -0.47340', 'or by itself, if its files say so');
write_file("$folder/cross/modules.json", '[{"type": "sentence_transformers.base.modules.transformer.Transformer"}, {"path": "1_Dense", "type": "sentence_transformers.base.modules.dense.Dense"}]');
mkdir "$folder/cross/1_Dense";
write_file("$folder/cross/1_Dense/model.safetensors", safetensors('linear.weight' => [ [1], pack 'f<', 1 ]));
fails("$folder/cross", '{"ignore": ["golden.*"]}', qr/module Dense of the sentence transformer is not supported/, 'what comes behind a network');
is(sql(q{SELECT count(*) FROM llm_rerank('score', 'Where?', '{a,b,c}', 2)}), '2', 'the best ones alone');
is( sql(q{SELECT string_agg(label || ' ' || round(probability::numeric, 5), ', ' ORDER BY label)
	FROM llm_probabilities('classes', '{"text": "a man plays with a child"}'::jsonb)}),
	'maybe 0.21555, no 0.44812, yes 0.33633', 'a classifier has the labels that it is given');
is(sql(q{SELECT llm_predict('classes', s) FROM (SELECT 'who likes the old city ?' AS text) AS s}), 'no', 'and reads a column');

sql(q{SELECT llm_import('labels', '} . $folder . q{/bert-labels', '{"ignore": ["golden.*"]}', wait => true)});
is( sql(q{SELECT string_agg(concat_ws(' ', label, start, length, round(probability::numeric, 4), quote_literal(entity)), ', ')
	FROM llm_extract_entities('labels', 'the cat sees a red house. What is in  on the old city?')}),
	"LABEL_3 1 44 0.4781 'the cat sees a red house. What is in  on the', LABEL_2 46 3 0.5720 'old', LABEL_3 50 5 0.4584 'city?'",
	'words have labels');
is( sql(q{SELECT min(start), max(start + length), bool_and(substr(t, start, length) = entity)
	FROM (SELECT repeat('the old city is in a house. ', 100) AS t) AS texts, llm_extract_entities('labels', t)}), '1|2800|t', 'longer texts are read in parts');
($status, $out, $err) = $node->psql('postgres', q{SELECT llm_generate('labels', 'the cat')});
like($err, qr/labels the words of a text, nothing else.*llm_extract_entities/s, 'it writes no texts');

# ---- sentence transformers with dense layers, with the numbers that sentence-transformers gives for them ----

my $embedding = q{SELECT string_agg(round(x::numeric, 5)::text, ' ' ORDER BY i) FROM unnest(llm_embed('%s', 'the cat sees a red house')) WITH ORDINALITY AS e (x, i)};
write_golden_folders("$folder/$_", $_) foreach qw(bert-dense t5-dense);
sql("SELECT llm_import('dense', '$folder/bert-dense', wait => true); SELECT llm_import('t5_encoder', '$folder/t5-dense', wait => true)");
is(sql(sprintf $embedding, 'dense'), '0.23881 0.24427 -0.26870 -0.49252 -0.22796 0.42852 0.46944 -0.33549', 'an embedding is what three dense layers make');
is(sql(sprintf $embedding, 't5_encoder'), '-0.09030 0.00579 -0.25994 0.15439 0.16916 0.58439 -0.50990 -0.07234 -0.21336 -0.46854', 'and one behind the encoder of a T5');
is( sql(q{SELECT bool_and(e = llm_embed('dense', body)) FROM (SELECT body, llm_embed_over('dense', body) OVER () AS e
	FROM (VALUES ('the cat'), ('a dog eats in the house'), ('who?')) AS bodies (body)) AS embedded}), 't', 'several texts have the same');
my @parts = map { ("${_}_Dense/config.json", "${_}_Dense/model.safetensors") } 2 .. 4;
is( sql(q{SELECT string_agg(file ->> 'sha256', ' ' ORDER BY file ->> 'name') FROM llmapp.model_versions, jsonb_array_elements(lineage -> 'imported' -> 'files') AS file
	WHERE model = 'dense'::regclass AND file ->> 'name' LIKE '%Dense/%'}), join(' ', map { (split ' ', `sha256sum $folder/bert-dense/$_`)[0] } @parts),
	'their files are in the lineage');
sql(q{CREATE TABLE bodies AS SELECT i AS id, 'the cat sees ' || i || ' dogs' AS body FROM generate_series(1, 20) AS i;
	ALTER TABLE bodies ADD PRIMARY KEY (id)});
sql(q{SELECT llm_embed_column('bodies', 'body', 'dense', 'body_embeddings')});
$node->poll_query_until('postgres', 'SELECT count(*) = 20 FROM body_embeddings') or die 'no embeddings';
is(sql(q{SELECT bool_and(embedding = llm_embed('dense', content)) FROM body_embeddings}), 't', 'a column of them, too');

unlink "$folder/t5-dense/2_Dense/model.safetensors";
fails("$folder/t5-dense", '{}', qr/lacks file "2_Dense\/model\.safetensors"/, 'a dense layer without weights');
write_file("$folder/t5-dense/2_Dense/pytorch_model.bin", 'x');
fails("$folder/t5-dense", '{}', qr/2_Dense.*pickle.*HINT.*SentenceTransformer/s, 'or with pickled ones');
write_golden_folders("$folder/$_", 'bert-dense') foreach qw(mish outside);
my $layer = read_file("$folder/mish/4_Dense/config.json");
write_file("$folder/mish/4_Dense/config.json", $layer =~ s/Tanh/Mish/r);
fails("$folder/mish", '{}', qr/activation\.Mish.*HINT.*Identity, Tanh/s, 'an activation that is not known');
write_file("$folder/outside/modules.json", read_file("$folder/outside/modules.json") =~ s{"2_Dense"}{"../bert-dense/2_Dense"}r);
fails("$folder/outside", '{}', qr/"path" of a module Dense.*no folder of the model/, 'a layer elsewhere');

# ---- who may ----

sql(q{CREATE ROLE reader LOGIN; GRANT CREATE ON SCHEMA public TO reader});
($status, $out, $err) = $node->psql('postgres', "SET ROLE reader; SELECT llm_import('mine', '$folder/stories', wait => true)");
like($err, qr/permission denied to read files of the server.*GRANT pg_read_server_files TO reader/s, 'not without the right to read files');
sql('GRANT pg_read_server_files TO reader');
is($node->safe_psql('postgres', "SELECT llm_import('mine', '$folder/stories', wait => true) > 0", extra_params => [ '-U', 'reader' ]), 't', 'with it')
  if $node->psql('postgres', 'SELECT 1', extra_params => [ '-U', 'reader' ]) == 0;

# ---- what is wrong ----

my $config = read_file("$folder/stories/config.json");
my $file = read_file("$folder/stories/model.safetensors");
(my $unknown = $config) =~ s/"silu"/"spam"/;
(my $scaled = $config) =~ s/"rope_theta": 10000.0/"rope_theta": 10000.0, "rope_scaling": {"rope_type": "spiral", "factor": 2}/;
(my $wider = $config) =~ s/"hidden_size": \d+/"hidden_size": 96/;
(my $text_only = $config) =~ s/"llama"/"flamingo"/;
my %missing = %tensors;
delete $missing{'model.norm.weight'};
my %more = (%tensors, 'model.extra.weight' => [ [1], pack 'f<', 1 ]);
my %mixed = (%tensors, 'model.layers.0.mlp.up_proj.weight' => [ [ 2, 2 ], pack 'f<4', 1 .. 4 ]);

fails("$folder/nowhere", '{}', qr/could not look at ".*nowhere": No such file/, 'a missing folder');
fails('checkpoints/stories', '{}', qr/is not an absolute path/, 'a relative path');
fails(variant('no_config', 'config.json' => undef), '{}', qr/config\.json/, 'a folder without configuration');
fails(variant('no_weights', 'model.safetensors' => undef), '{}', qr/model\.safetensors/, 'a folder without weights');
fails(variant('no_tokenizer', 'tokenizer.model' => undef), '{}', qr/tokenizer/, 'a folder without tokenizer');
fails(variant('bad_json', 'config.json' => '{"model_type": '), '{}', qr/config\.json/, 'a configuration that is no JSON');
fails(variant('family', 'config.json' => $text_only), '{}', qr/flamingo/, 'an unknown family');
fails(variant('activation', 'config.json' => $unknown), '{}', qr/spam/, 'an unknown activation');
fails(variant('scaling', 'config.json' => $scaled), '{}', qr/spiral/, 'unknown positions');
fails(variant('wider', 'config.json' => $wider), '{}', qr/\(.*64\)/, 'another width');
fails(variant('missing', 'model.safetensors' => safetensors(%missing)), '{}', qr/model\.norm\.weight/, 'a missing tensor');
fails(variant('more', 'model.safetensors' => safetensors(%more)), '{}', qr/model\.extra\.weight/, 'a tensor too many');
fails(variant('mixed', 'model.safetensors' => safetensors(%mixed)), '{}', qr/up_proj/, 'a tensor of another shape');
fails(variant('short', 'model.safetensors' => substr($file, 0, length($file) - 1000)), '{}', qr/model\.safetensors/, 'a file cut short');
fails(variant('header', 'model.safetensors' => pack('Q<', 1 << 40) . substr $file, 8), '{}', qr/model\.safetensors/, 'a header that lies');
fails(variant('pickle', 'model.safetensors' => undef, 'pytorch_model.bin' => 'x'), '{}', qr/safetensors/, 'pickled weights');
fails("$folder/stories", '{"contxt": 5}', qr/"contxt".*Did you mean "context"/s, 'a misspelt parameter');
fails("$folder/stories", '{"context": 100000}', qr/context/, 'a longer context than the checkpoint has');

my $gguf = read_file("$folder/stories.gguf");
sub broken_gguf { my ($name, $bytes) = @_; write_file("$folder/$name.gguf", $bytes); return "$folder/$name.gguf"; }
(my $other = $gguf) =~ s/ggml.model(.{12})llama/ggml.model$1glove/s;
(my $lettered = $gguf) =~ s/<0x0A>/<0x-A>/;
fails(broken_gguf('text', 'a text that is longer than the head of a file'), '{}', qr/text\.gguf.*GGUF/, 'a file that is none');
fails(broken_gguf('cut', substr $gguf, 0, length($gguf) - 4000), '{}', qr/cut\.gguf/, 'a GGUF file cut short');
fails(broken_gguf('glove', $other), '{}', qr/glove\.gguf.*model "glove"/, 'a tokenizer that is not known');
fails(broken_gguf('lettered', $lettered), '{}', qr/lettered\.gguf.*byte token/, 'a byte that is none');

# Weights in the wrong order are found by what they say.
my %shuffled = %tensors;
$shuffled{'model.embed_tokens.weight'} =
  [ $tensors{'model.embed_tokens.weight'}[0], join '', reverse unpack '(a256)*', $tensors{'model.embed_tokens.weight'}[1] ];
fails(variant('shuffled', 'model.safetensors' => safetensors(%shuffled)), '{}', qr/loss/, 'a table in the wrong order');
is(sql(q{SELECT to_regclass('broken') IS NULL}), 't', 'nothing is left of what failed');
is(sql(q{SELECT count(*) FROM llmapp.jobs WHERE model = 'public.broken' AND status <> 'failed'}), '0', 'and each job says so');
unlike(slurp_file($node->logfile), qr/not closed at end-of-transaction/, 'files are closed');
done_testing();
