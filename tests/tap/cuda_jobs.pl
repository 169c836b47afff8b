# Jobs on a GPU through SQL, with the backend's emulated GPU in a copy of the private tree: devices, a training, memory,
# a checkpoint of the GPU continued on the CPU, places, scorings, embeddings, and what becomes of a job whose GPU fails.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);
use Test::More;

my ($library, $plug) = private_gpu_tree();
my $fault = $ENV{LLMAPP_EMULATE_FAULT};
sub break { PostgreSQL::Test::Utils::append_to_file($fault, $_[0]); return; }

my $node = start_node('cuda_jobs', 'llmapp.checkpoint_interval = 1', 'llmapp.max_jobs = 4');
sub sql { return $node->safe_psql('postgres', $_[0]); }

sub fails
{
	my ($script, $pattern, $name) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', $script);
	like($stderr, $pattern, $name);
	return;
}

sql(q{CREATE TABLE points AS SELECT sin(i) AS x, cos(i) AS y, sin(i) > cos(i) AS above FROM generate_series(1, 200) AS i;
	CREATE TABLE songs AS SELECT 'la ' || repeat(chr(97 + i % 5), 1 + i % 7) AS song FROM generate_series(1, 40) AS i});
my $small = q({"epochs": 4, "hidden": [8], "batch_size": 50, "early_stopping": 0});
my $long = q({"epochs": 100000, "hidden": [8], "batch_size": 50, "early_stopping": 0});

sub submit { return sql(sprintf "SELECT llm_train('%s', 'points', target => 'above', params => '%s', device => '%s')", @_); }
sub report { return sql("SELECT report -> 'device' ->> '$_[1]' FROM llmapp.jobs WHERE job = $_[0]"); }
sub row { return sql("SELECT concat_ws('|', status, sqlstate, message, hint) FROM llmapp.jobs WHERE job = $_[0]"); }
sub trains { return wait_for($node, "SELECT count(*) FROM llmapp.progress WHERE job = $_[0] AND phase = 'training' AND done > 4", '1', 30); }

# without the library
is(sql(q{SELECT reason FROM llmapp.devices WHERE device = 'cuda'}), 'no GPU: llmapp_cuda.so is not installed', 'no library, no GPU');
fails(q{SELECT llm_train('m', 'points', target => 'above', device => 'cuda', wait => true)}, qr/device "cuda" is not available\nDETAIL:  llmapp_cuda.so is not installed/, 'asking for one is an error');

# with it
$plug->();
is(sql(q{SELECT concat_ws('|', device, available, name, kernels, memory) FROM llmapp.devices WHERE device LIKE 'cuda%'}), 'cuda:0|t|emulated GPU|compute capability 8.0, 4 multiprocessors|1073741824', 'the GPU is listed');
fails(q{SELECT llm_train('m', 'points', target => 'above', device => 'cuda:1')}, qr/device "cuda:1" is not available\nDETAIL:  There are 1 GPUs/, 'another one is not there');
my $job = sql("SELECT llm_train('m', 'points', target => 'above', params => '$small', device => 'cuda', wait => true)");
is(report($job, 'used') . report($job, 'name'), 'cuda:0emulated GPU', 'a training runs on it');
is(sql(q{SELECT lineage ->> 'device' FROM llmapp.model_versions WHERE model = 'm'::regclass}), 'cuda:0', 'its version says so');
my $on_cpu = sql("SELECT llm_train('c', 'points', target => 'above', params => '$small', device => 'cpu', wait => true)");
my $loss = q{SELECT round(avg(value)::numeric, 5) FROM llmapp.job_metrics WHERE metric = 'loss' AND job = };
is(sql($loss . $job), sql($loss . $on_cpu), 'with the losses of the CPU');
is(sql('SELECT count(*) FROM points WHERE llm_predict(\'m\', points) IS DISTINCT FROM llm_predict(\'c\', points)'), '0', 'and its predictions');
$job = sql(q{SELECT llm_train('g', 'songs', target => 'song', architecture => 'gpt', params => '{"steps": 3, "context": 16, "embed_dim": 16, "heads": 2, "layers": 1, "batch_size": 4}', device => 'cuda', wait => true)});
is(report($job, 'used'), 'cuda:0', 'a language model learns on it');
$job = sql("SELECT llm_train('a', 'points', target => 'above', params => '$small', wait => true)");
is(report($job, 'used'), 'cuda:0', 'auto takes it');

# memory
fails(q{SET llmapp.gpu_memory = '150kB'; SELECT llm_train('b', 'points', target => 'above', params => '{"layers": [{"type": "linear", "width": 64}, {"type": "batch_norm"}], "batch_size": 200}', device => 'cuda', wait => true)},
	qr/needs \d+ MB of GPU memory, it may use 0 MB.*DETAIL:  cuda:0 has 1024 MB free.*HINT:.*batch_size": \d+/s, 'too much for its memory is an error that says what fits');
$job = sql(qq{SET llmapp.gpu_memory = '1kB'; SELECT llm_train('b', 'points', target => 'above', params => '$small', wait => true)});
like(report($job, 'used') . report($job, 'reason'), qr/^cpu.*GPU memory/, 'auto falls back and says why');
my $passes = q({"epochs": 4, "hidden": [8], "batch_size": 50, "micro_batch": 16, "early_stopping": 0});
$job = sql("SELECT llm_train('b', 'points', target => 'above', params => '$passes', device => 'cuda', wait => true)");
is(report($job, 'used'), 'cuda:0', 'steps of several passes run on it');
$on_cpu = sql("SELECT llm_train('c', 'points', target => 'above', params => '$passes', device => 'cpu', wait => true)");
is(sql($loss . $job), sql($loss . $on_cpu), 'with the losses of the CPU');
my $wide = q({"epochs": 1, "hidden": [64], "batch_size": 150, "early_stopping": 0});
$job = sql(qq{SET llmapp.gpu_memory = '60kB'; SELECT llm_train('split', 'points', target => 'above', params => '$wide', device => 'cuda', wait => true)});
like(sql(q{SELECT (value #>> '{}') || ' ' || source FROM llmapp.model_settings WHERE model = 'split'::regclass AND setting = 'micro_batch'}), qr/^\d\d? auto$/, 'a batch that does not fit is split');

# a checkpoint of the GPU goes on on the CPU; places
$job = submit('p', $long, 'auto');
ok(trains($job), 'a training makes steps');
my $second = submit('q', $small, 'cuda');
my $third = sql("SELECT llm_train('r', 'points', target => 'above', params => '$small', wait => true)");
like(report($third, 'used') . report($third, 'reason'), qr/^cpuall GPUs are in use/, 'auto does not wait for a place');
is(sql("SELECT status FROM llmapp.jobs WHERE job = $second"), 'running', 'but a job that asked for the GPU does');
is(sql("SELECT llm_pause($job)"), 'paused', 'a pause');
is(sql("SELECT llm_wait($second)"), 'succeeded', 'gives the place to it');
unlink $library;
sql("SELECT llm_resume($job)");
ok(trains($job), 'the paused job goes on');
is(report($job, 'used'), 'cpu', 'on the CPU');
like(sql("SELECT report ->> 'resumed' FROM llmapp.jobs WHERE job = $job"), qr/step/, 'from its checkpoint');
is(sql("SELECT llm_pause($job)"), 'paused', 'another pause');
$plug->();
sql("SELECT llm_resume($job)");
ok(trains($job), 'goes on');
is(report($job, 'used'), 'cuda:0', 'on the GPU again');
my $start = time;
is(sql("SELECT llm_cancel($job)"), 'cancelled', 'and is cancelled');
cmp_ok(time - $start, '<', 1, 'at once');

# a GPU that fails
foreach my $n (2 .. 5)
{
	break("memory $n");
	fails("SELECT llm_train('f', 'points', target => 'above', params => '$small', device => 'cuda', wait => true)", qr/ERROR:  out of memory on GPU cuda:0\nHINT:  Use a smaller batch_size/, "allocation $n that fails is the error of the job");
	unlink $fault;
}
break('lost 5');
$job = submit('f', $long, 'cuda');
is(sql("SELECT llm_wait($job)"), 'interrupted', 'a device that fails interrupts the job');
is(row($job), "interrupted|58L01|GPU cuda:0 failed: unspecified launch failure|SELECT llm_resume($job);", 'with what is to be done');
unlink $fault;
sql("SELECT llm_resume($job)");
ok(trains($job), 'and it goes on in a new process');
sql("SELECT llm_cancel($job)");

# scorings
sql(q{CREATE TABLE many AS SELECT i AS id, sin(i) AS x, cos(i) AS y FROM generate_series(1, 2000) AS i});
sub score { return sql("SELECT llm_score('m', 'many', '$_[0]', key => ARRAY['id'], device => '$_[1]', wait => true)"); }
score('scored_cpu', 'cpu');
$job = score('scored_gpu', 'cuda');
is(report($job, 'used'), 'cuda:0', 'a scoring runs on it');
my $differ = q{SELECT count(*) FROM scored_cpu AS c FULL JOIN scored_gpu AS g USING (id) WHERE abs(c.probability - g.probability) < 1e-5 IS NOT true OR (c.prediction <> g.prediction AND abs(c.probability - .5) > 1e-5)};
is(sql($differ), '0', 'with the predictions of the CPU');
$job = score('scored_auto', 'auto');
is(report($job, 'used') . report($job, 'reason'), 'cputhe work is too little for a GPU', 'auto leaves little work to the CPU');
fails(q{SELECT llm_score('m', 'many', 'scored_other', key => ARRAY['id'], device => 'cuda:1')}, qr/device "cuda:1" is not available/, 'another GPU is an error');
fails(q{SELECT llm_score('m', 'many', 'scored_other', key => ARRAY['id'], device => 'gpu')}, qr/unknown device "gpu"/, 'so is another name');
fails(q{SET llmapp.gpu_memory = '1kB'; SELECT llm_score('m', 'many', 'scored_small', key => ARRAY['id'], device => 'cuda', wait => true)},
	qr/this model needs 1 MB of GPU memory, it may use 0 MB.*DETAIL:  cuda:0 has 1024 MB free.*HINT:  SET llmapp.gpu_memory/s, 'too much for its memory is refused');
$job = sql(q{SET llmapp.gpu_memory = '64kB'; SELECT llm_score('m', 'many', 'scored_few', key => ARRAY['id'], device => 'cuda', wait => true)});
is(report($job, 'used') . sql('SELECT count(*) FROM scored_few WHERE error IS NULL'), 'cuda:02000', 'batches are as small as its memory wants');
foreach my $n (2, 3)
{
	break("memory $n");
	fails("SELECT llm_score('m', 'many', 'scored_fault', key => ARRAY['id'], device => 'cuda', wait => true)", qr/ERROR:  out of memory on GPU cuda:0\nHINT:/, "allocation $n that fails ends a scoring");
	unlink $fault;
}
break('lost 3');
$job = sql(q{SELECT llm_score('m', 'many', 'scored_lost', key => ARRAY['id'], device => 'cuda')});
is(sql("SELECT llm_wait($job)"), 'interrupted', 'a device that fails interrupts a scoring');
like(row($job), qr/58L01.*llm_resume/, 'which can go on');
unlink $fault;
sql("SELECT llm_resume($job)");
is(sql("SELECT llm_wait($job)") . sql('SELECT count(*) FROM scored_lost WHERE error IS NULL'), 'succeeded2000', 'and does');

# embeddings
sql(q{ALTER TABLE songs ADD id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY});
sub embedded { return sql(q{SELECT count(*) FROM songs AS s JOIN song_vectors AS v USING (id) WHERE (SELECT max(abs(a - b)) FROM unnest(v.embedding, llm_embed('g', s.song)) AS e(a, b)) < 1e-5 AND v.error IS NULL}); }
$job = sql(q{SELECT llm_embed_column('songs', 'song', 'g', 'song_vectors')});
is(sql("SELECT llm_wait($job)") . report($job, 'used'), 'succeededcpu', 'a short queue is embedded on the CPU');
is(embedded(), '40', 'as a session embeds');
sql(q{DROP TABLE song_vectors CASCADE; ALTER DATABASE postgres SET llmapp.device = 'cuda'});
$job = sql(q{SELECT llm_embed_column('songs', 'song', 'g', 'song_vectors')});
is(sql("SELECT llm_wait($job)") . report($job, 'used') . report($job, 'name'), 'succeededcuda:0emulated GPU', 'the setting lets a GPU do it');
is(embedded(), '40', 'as a session embeds, too');
sql(q{UPDATE songs SET song = 'lo' WHERE id % 2 = 0; INSERT INTO songs (song) VALUES ('li la')});
ok(wait_for($node, q{SELECT pending FROM llmapp.embedded_columns WHERE target = 'song_vectors'::regclass}, '0', 30), 'changes are followed');
is(embedded(), '41', 'there as well');
ok(wait_for($node, "SELECT status FROM llmapp.jobs WHERE job = $job", 'succeeded', 30), 'the job ends');
break('lost 1');
sql(q{UPDATE songs SET song = 'lu' WHERE id = 1});
ok(wait_for($node, "SELECT status FROM llmapp.jobs WHERE job = $job", 'interrupted', 30), 'a device that fails interrupts it');
unlink $fault;
sql(q{SELECT llm_embed_column('songs', 'song', 'g', 'song_vectors')});
is(sql("SELECT llm_wait($job)") . embedded(), 'succeeded41', 'and nothing is lost');
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal|exited with exit code [^01]/, 'nothing crashed');
done_testing();
