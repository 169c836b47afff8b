# The inference server, with the CPU in the GPU's place: texts of all sessions together, each as its session would have
# written it alone; what frees its places, and what sessions do without it.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @settings = ("shared_preload_libraries = 'llmapp'", "llmapp.inference_device = 'cpu'", 'max_connections = 60');
my $node = start_node('inference', @settings);
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub alone { return sql("SET llmapp.device = 'cpu'; $_[0]"); }
sub count_of { return sql("SELECT sum($_[0]) FROM llmapp.stat_inference"); }
sub free { return wait_for($node, 'SELECT sum(calls) FROM llmapp.stat_inference', '0', 20); }

# A query gives the same with the server and without, and the server did it.
sub same
{
	my ($query, $name) = @_;
	my $before = count_of('passes');
	my $together = sql($query);
	ok($together ne '' && $together eq alone($query), "$name: as alone");
	cmp_ok(wait_for($node, "SELECT sum(passes) > $before FROM llmapp.stat_inference", 't', 5), '>', 0, "$name: by the server");
	return;
}

sql(q{CREATE TABLE songs AS SELECT 'la ' || repeat(chr(97 + i % 5) || ' ', 1 + i % 7) || repeat('do re mi ', i % 30) || i AS song FROM generate_series(1, 60) AS i});
my $params = q({"context": 256, "embed_dim": 32, "layers": 2, "heads": 2, "epochs": 2, "vocab_size": 300, "tokenizer": "bytes"});
sql("SELECT llm_train('writer', 'songs', target => 'song', task => 'generation', architecture => 'llama', params => '$params', device => 'cpu', wait => true)");
sql(q{CREATE FUNCTION song(prompt text, n int DEFAULT 40) RETURNS text LANGUAGE sql AS $$ SELECT llm_generate('writer', prompt, max_tokens => n, temperature => 1, seed => length(prompt)) $$});
is(sql('SELECT device || models FROM llmapp.stat_inference'), 'cpu0', 'a server is there and has nothing');

# what it writes
same(q{SELECT song('la b')}, 'a text');
same(q{SELECT string_agg(llm_generate('writer', song, max_tokens => 20), '|') FROM songs WHERE length(song) < 200}, 'texts of a query');
same(q{SELECT llm_generate('writer', 'la', max_tokens => 700, temperature => 1, seed => 3)}, 'a text longer than the context');
same(q{SELECT string_agg(t, '|') FROM (SELECT llm_generate_over('writer', left(song, 20), max_tokens => 20) OVER () AS t FROM songs) x}, 'texts together');
same(q{SELECT string_agg(token, '|') FROM llm_generate_stream('writer', 'la a', max_tokens => 20)}, 'a stream');
same(q{SELECT llm_generate('writer', 'la', max_tokens => 60, schema => '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}')}, 'JSON');
is(sql('SELECT models FROM llmapp.stat_inference'), '1', 'one model is in memory');
ok(free(), 'no call is left');
sql('SELECT llmapp.stat_models_reset()');
like(sql(q{EXPLAIN (ANALYZE, COSTS OFF) SELECT llm_generate('writer', song, max_tokens => 2) FROM songs LIMIT 3}), qr/Predicted Rows: 3\nRows at Inference Server: 3/, 'EXPLAIN says so');
like(alone(q{EXPLAIN (ANALYZE, COSTS OFF) SELECT llm_generate('writer', song, max_tokens => 2) FROM songs LIMIT 3}), qr/Predicted Rows: 3\nRows at Inference Server: 0/, 'and where it was not');
is(sql(q{SELECT rows || '|' || served_rows FROM llmapp.stat_models WHERE model = 'writer'::regclass}), '6|3', 'statistics, too');
$node->safe_psql('postgres', q{DO $$ DECLARE plan json; BEGIN EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) SELECT llm_generate(''writer'', ''la'', max_tokens => 2)' INTO plan; ASSERT (plan -> 1 ->> 'Predicted Rows')::int = 1; END $$});

# one beginning
my $shared = count_of('shared_tokens');
my $long = 'do re mi ' x 20;
sql("SELECT song('$long')") for 1 .. 2;
ok(wait_for($node, "SELECT sum(shared_tokens) > $shared FROM llmapp.stat_inference", 't', 5), 'what another text began with is not computed again');

# many sessions
my $script = PostgreSQL::Test::Utils::tempdir() . '/songs.sql';
append_to_file($script, "\\set i random(1, 60)\nSELECT 1 / (song(left(song, 10)) = expected)::int FROM expected WHERE id = :i;\n");
alone(q{CREATE TABLE expected AS SELECT row_number() OVER ()::int AS id, song, song(left(song, 10)) AS expected FROM songs});
my ($tokens, $passes) = (count_of('tokens'), count_of('passes'));
$node->command_ok(['pgbench', '-n', '-c', '30', '-j', '2', '-t', '10', '-f', $script, $node->connstr('postgres')], 'thirty sessions, every text right');
wait_for($node, 'SELECT sum(calls) FROM llmapp.stat_inference', '0', 20);
cmp_ok((count_of('tokens') - $tokens) / (count_of('passes') - $passes), '>', 2, 'passes had tokens of several sessions');

# ends of calls
my $endless = q{SELECT llm_generate('writer', 'la', max_tokens => 100000, temperature => 1, seed => i) FROM generate_series(1, 1000000) AS i};
my ($status, $stdout, $stderr) = $node->psql('postgres', "SET statement_timeout = 500; $endless");
like($stderr, qr/canceling statement due to statement timeout/, 'a statement is cancelled');
ok(free(), 'which frees its place');
my %background;
sub begin_endless
{
	@background{qw(out err)} = ('', '');
	$background{run} = IPC::Run::start(['psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SET application_name = 'endless'", '-c', $_[0]], '<', \'', '>', \$background{out}, '2>', \$background{err});
	return wait_for($node, 'SELECT sum(calls) > 0 FROM llmapp.stat_inference', 't', 20);
}
ok(begin_endless($endless), 'a session writes');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'endless'});
$background{run}->finish;
ok(free(), 'a session that is ended frees its place');

# without the server
is(sql(q{SET llmapp.gpu_queue_timeout = 0; SELECT song('la b')}), alone(q{SELECT song('la b')}), 'who does not wait writes alone');
my $text = q{SELECT md5(string_agg(llm_generate('writer', 'la', max_tokens => 200, temperature => 1, seed => i), '|' ORDER BY i)) FROM generate_series(1, 500) AS i};
ok(begin_endless($text), 'another one writes');
my $pid = sql('SELECT pid FROM llmapp.stat_inference');
kill TERM => $pid;
$background{run}->finish;
chomp $background{out};
is($background{out}, alone($text), 'when the server ends, the session goes on alone, with the same text');
ok(wait_for($node, "SELECT count(*) FROM llmapp.stat_inference WHERE pid <> $pid", '1', 20), 'another server begins');
same(q{SELECT song('la c')}, 'after that');

# memory: each model fits, both do not
sql("SELECT llm_train('other', 'songs', target => 'song', task => 'generation', architecture => 'llama', params => '$params', device => 'cpu', wait => true)");
$node->append_conf('postgresql.conf', "llmapp.gpu_memory = '800kB'");
$node->restart;
same(q{SELECT llm_generate('writer', 'la', max_tokens => 20)}, 'little memory');
is(sql(q{SELECT models || ' ' || (memory <= 800 * 1024) FROM llmapp.stat_inference}), '1 true', 'one model is there, within the limit');
same(q{SELECT llm_generate('other', 'la', max_tokens => 20)}, 'another model');
is(sql('SELECT models FROM llmapp.stat_inference'), '1', 'takes the place of the first');
my $query = q{SELECT string_agg(t, '|') FROM (SELECT llm_generate_over('writer', left(song, 200), max_tokens => 100) OVER () AS t FROM songs) x};
same($query, 'more texts than have room at once');
cmp_ok(count_of('preempted'), '>', 0, 'some of which were computed again');

# no server
$node->append_conf('postgresql.conf', "llmapp.inference_device = 'off'");
$node->restart;
is(sql(q{SELECT count(*) FROM llmapp.stat_inference}), '0', 'off: none');
is(sql(q{SELECT song('la b') <> ''}), 't', 'and sessions write alone');
$node->append_conf('postgresql.conf', "llmapp.inference_device = 'auto'");
$node->restart;
is(sql(q{SELECT count(*) FROM llmapp.stat_inference}), '0', 'auto: none without a GPU') unless -e '/dev/nvidiactl';
done_testing();
