# The inference server on a GPU, with the backend's emulated one: texts, embeddings and predictions are those that sessions
# make alone, and a GPU that fails ends its server only.
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

# predictions of rows: a batch of 256 is worth the way, what is left of a table is not
sql(q{CREATE TABLE houses AS SELECT i AS id, sin(i) * 50 + 100 AS area, i % 6 AS rooms, 'town ' || i % 11 AS town, sin(i) * 30 + i % 6 * 10 + i % 11 AS price FROM generate_series(1, 2600) AS i;
	CREATE TABLE pictures (id int, pixels tensor(1,20,20), upper int);
	INSERT INTO pictures SELECT i, ARRAY[(SELECT array_agg(line ORDER BY h) FROM (SELECT h, array_agg(CASE WHEN (h < 10) = (i % 2 = 0) THEN 1 ELSE 0 END + sin(h * w * i) / 4 ORDER BY w) AS line
		FROM generate_series(0, 19) AS h, generate_series(0, 19) AS w GROUP BY h) AS lines)]::real[]::tensor, i % 2 FROM generate_series(1, 256) AS i;
	CREATE TABLE words AS SELECT i AS id, repeat(CASE WHEN i % 2 = 0 THEN 'good ' ELSE 'bad ' END, 1 + i % 5) || chr(97 + i % 7) AS body, sin(i) AS mark FROM generate_series(1, 256) AS i});
sub train
{
	my ($model, $query, $target, $architecture, $params) = @_;
	sql("SELECT llm_train('$model', '$query', target => '$target', architecture => '$architecture', device => 'cpu', wait => true, params => '{\"batch_size\": 64, $params}')");
	return;
}
train('price', 'SELECT area, rooms, town, price FROM houses LIMIT 400', 'price', 'mlp', '"hidden": [768, 768], "epochs": 2, "folds": 0');
train('upper', 'SELECT pixels, upper::text FROM pictures', 'upper', 'cnn', '"epochs": 2, "shift": 0');
train('mark', 'SELECT body, mark FROM words', 'mark', 'bert', '"text": "body", "context": 32, "embed_dim": 64, "layers": 2, "heads": 2, "epochs": 2, "vocab_size": 300');

# The largest difference of predictions there and here, in parts of their size; of labels how many are others.
sub difference
{
	my ($model, $table, $by) = @_;
	return sql(qq{CREATE TEMP TABLE there AS SELECT id, llm_predict_over('$model', t) OVER (ORDER BY id) AS p FROM $table AS t; SET llmapp.device = 'cpu';
		SELECT $by FROM there JOIN (SELECT id, llm_predict_over('$model', t) OVER (ORDER BY id) AS p FROM $table AS t) AS here USING (id)});
}
my $numbers = 'max(abs(there.p::float8 - here.p::float8) / (1 + abs(here.p::float8)))';
sub made { return sql("SELECT rows || ' ' || served_rows FROM llmapp.stat_models WHERE model = '$_[0]'::regclass"); }
sql('SELECT llmapp.stat_models_reset()');
cmp_ok(difference('price', '(SELECT * FROM houses WHERE id <= 300)', $numbers), '<', 1e-5, 'numbers are those of the CPU');
is(made('price'), '600 256', 'and were made there where that pays');
like(sql(q{EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT llm_predict_over('price', t) OVER () FROM (SELECT * FROM houses WHERE id <= 300) AS t}),
	qr/Predicted Rows: 300\n.*Rows at Inference Server: 256/, 'EXPLAIN says so');
is(difference('upper', 'pictures', 'count(*) FILTER (WHERE there.p <> here.p)'), '0', 'images');
is(made('upper'), '512 256', 'are there, too');
cmp_ok(difference('mark', 'words', $numbers), '<', 1e-5, 'and texts');
is(made('mark'), '512 256', 'of as many tokens as pay');
is(sql('SELECT models FROM llmapp.stat_inference'), '5', 'each by a model of its own');
is(sql(q{SET llmapp.gpu_queue_timeout = 0; SELECT count(p) FROM (SELECT llm_predict_over('price', t) OVER () AS p FROM houses AS t WHERE id <= 256) AS x}), '256', 'who does not wait predicts all the same');

# all houses by a session of its own, while others do the same or the server ends
sub begin_all { return IPC::Run::start(['psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{SET llmapp.gpu_queue_timeout = '20s'}, '-c', "CREATE TABLE $_[0] AS SELECT id, llm_predict_over('price', t) OVER (ORDER BY id) AS p FROM houses AS t"]); }
sub wrong { return sql("SELECT count(*) FROM houses LEFT JOIN $_[0] AS there USING (id) LEFT JOIN here USING (id) WHERE (abs(there.p::float8 - here.p::float8) < 1e-5 * (1 + abs(here.p::float8))) IS NOT TRUE"); }
sub served { my ($rows, $served) = split / /, made('price'); return $served; }
sub ended { return wait_for($node, "SELECT count(*) FROM llmapp.stat_inference WHERE pid <> $pid", '1', 20); }
alone(q{CREATE TABLE here AS SELECT id, llm_predict_over('price', t) OVER (ORDER BY id) AS p FROM houses AS t});
my $before = served();
my @sessions = map { begin_all("session$_") } 1 .. 3;
$_->finish foreach @sessions;
is(wrong("session$_"), '0', "session $_ beside others") foreach 1 .. 3;
is(served() - $before, 3 * 2560, 'all at the server');

$pid = sql('SELECT pid FROM llmapp.stat_inference');
$before = served();
my $session = begin_all('killed');
ok(wait_for($node, 'SELECT sum(calls) > 0 FROM llmapp.stat_inference', 't', 20), 'a session predicts');
kill TERM => $pid;
$session->finish;
is(wrong('killed'), '0', 'when the server ends, the session goes on alone');
cmp_ok(served() - $before, '<', 2560, 'on the CPU');
ok(ended(), 'another server begins');

$pid = sql('SELECT pid FROM llmapp.stat_inference');
$before = served();
unlink $fault;
append_to_file($fault, 'lost 4');
begin_all('lost')->finish;
unlink $fault;
is(wrong('lost'), '0', 'so it does when the GPU fails');
is(served() - $before, 3 * 256, 'after what it had made');
ok(ended(), 'and another server begins');
begin_all('again')->finish;
is(wrong('again') . ' ' . (served() - $before), '0 ' . (3 * 256 + 2560), 'and predicts');
done_testing();
