# Versions that are kept apart from their base, where a server is copied, dumped, killed: the base comes along, or there is an error.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('model_base');
$primary->init(allows_streaming => 1);
configure_node($primary, 'restart_after_crash = on', 'llmapp.checkpoint_interval = 1');
$primary->start;
sub sql { my ($query, $node, $database) = @_; return ($node // $primary)->safe_psql($database // 'postgres', $query); }
sub refused
{
	my ($query, $pattern, $name, $database) = @_;
	my ($code, $stdout, $stderr) = $primary->psql($database // 'postgres', $query);
	like($stderr, $pattern, $name);
	return;
}

# Large enough for weight files. A schema that is dumped, and restored, before that of its base.
sql(q{CREATE EXTENSION llmapp; CREATE SCHEMA a; CREATE SCHEMA z;
	CREATE TABLE texts AS SELECT format('row %s says %s and %s', i, i * 7 % 13, md5((i % 11)::text)) AS body FROM generate_series(1, 300) AS i;
	SELECT llm_train('z.base', 'texts', target => 'body', task => 'generation', wait => true,
		params => '{"layers": 2, "embed_dim": 128, "context": 32, "vocab_size": 400, "steps": 10}')});
sub train
{
	my ($model, $params, $more) = @_;
	return sql(qq{SELECT llm_train('$model', 'SELECT reverse(body) AS body FROM texts', base => 'z.base', params => '{"lora_rank": 4, "lora_merge": false, "deploy": "always", $params}' $more)});
}
train('a.apart', '"steps": 20', ', wait => true');
my $speak = q{SELECT md5(string_agg(llm_generate('a.apart', left(body, 10), 12) || llm_perplexity('a.apart', body)::text, '' ORDER BY body)) FROM (SELECT body FROM texts ORDER BY body LIMIT 10) AS t};
my $spoken = sql($speak);
sub files { return scalar(my @files = glob($_[0]->data_dir . '/llmapp/pgsql_tmp.*')); }
sub stored { return sql(q{SELECT sum(length(data)) FROM a.apart}); }
cmp_ok(stored(), '<', 200_000, 'the table of the model is small');
is(files($primary), 2, 'base and sum have a weight file');

# a standby, before and after its promotion
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('model_base_standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
is(files($standby), 0, 'a base backup has neither');
is(sql($speak, $standby), $spoken, 'a standby makes the same sum');
is(files($standby), 2, 'in files of its own');
my $session = $standby->background_psql('postgres', on_error_stop => 0);
$session->query($speak);
train('a.apart', '"steps": 3', ', wait => true');
$primary->wait_for_catchup($standby);
my $second = sql($speak);
isnt($second, $spoken, 'another version speaks otherwise');
is($session->query($speak), $second, 'a session on the standby follows');
sql(q{SELECT llm_promote('a.apart', 1)});
$primary->wait_for_catchup($standby);
$standby->promote;
is($session->query($speak), $spoken, 'and after the promotion of both');
$session->quit;
$standby->stop;

# the cache holds nothing that cannot be made again
sub set_cache_size { $primary->adjust_conf('postgresql.conf', 'llmapp.cache_size', $_[0]); $primary->reload; return; }
set_cache_size('0');
is(sql($speak), $spoken, 'without files sessions keep the sum in memory');
set_cache_size("'1GB'");
unlink glob($primary->data_dir . '/llmapp/pgsql_tmp.*');
is(sql($speak), $spoken, 'files are made again');

# dump and restore
sql('ALTER TABLE z.base RENAME TO foundation');
my $dump = $primary->basedir . '/dump';
$primary->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $primary->connstr('postgres') ], 'pg_dump');
foreach my $copy ('copy', 'other')
{
	sql("CREATE DATABASE $copy");
	$primary->command_ok([ 'pg_restore', '--exit-on-error', '-d', $primary->connstr($copy), $dump ], 'pg_restore');
	is(sql($speak, $primary, $copy), $spoken, 'the copy has base and version');
}
refused('DROP TABLE z.foundation', qr/other objects depend on it/, 'and knows that one needs the other', 'copy');
refused(q{SELECT llm_promote('z.foundation', 1); SELECT llm_drop_version('z.foundation', 1)}, qr/is live/, 'in its versions', 'copy');

# another base of the same name and number, or one that was changed
sql(q{DROP TABLE z.foundation CASCADE;
	SELECT llm_train('z.foundation', 'texts', target => 'body', task => 'generation', wait => true,
		params => '{"layers": 2, "embed_dim": 128, "context": 32, "vocab_size": 400, "steps": 11}');
	ALTER TABLE a.apart ADD CHECK ('z.foundation'::regclass IS NOT NULL)}, $primary, 'copy');
refused($speak, qr/version 1 of model "apart" lacks its base/, 'a base with other weights is none', 'copy');
sql(q{UPDATE z.foundation SET meta = jsonb_set(meta, '{weights,sha256}', (SELECT meta #> '{adapter,base_sha256}' FROM a.apart WHERE version = 1 AND part = 0)) WHERE version = 1 AND part = 0},
	$primary, 'copy');
unlink glob($primary->data_dir . '/llmapp/pgsql_tmp.*');
refused($speak, qr/model "foundation" is damaged/, 'nor one that only says so', 'copy');
sql(q{UPDATE a.apart SET data = set_byte(data, 1000, get_byte(data, 1000) # 1) WHERE version = 1 AND part = 1}, $primary, 'other');
unlink glob($primary->data_dir . '/llmapp/pgsql_tmp.*');
refused($speak, qr/model "apart" is damaged/, 'what was added is checked, too', 'other');

# models that stand on themselves
sql(q{UPDATE a.apart SET meta = jsonb_set(jsonb_set(meta, '{adapter,base_sha256}', meta #> '{weights,sha256}'), '{adapter,version}', version::text::jsonb) WHERE version = 1 AND part = 0},
	$primary, 'other');
refused($speak, qr/version 1 of model "apart" lacks its base/, 'a version is not its own base', 'other');

# kill -9, then resume: the matrices of a training that nobody disturbed
sql('ALTER TABLE z.foundation RENAME TO base');
sub added { return sql("SELECT meta #>> '{adapter,sha256}' FROM a.$_[0] WHERE part = 0 AND version = 1"); }
my $long = '"epochs": 10, "batch_size": 2, "early_stopping": 0, "checkpoint_every": 0.1';
is(sql('SELECT llm_wait(' . train('a.whole', $long, '') . ')'), 'succeeded', 'a training that nobody disturbs');
my $job = train('a.killed', $long, '');
ok(wait_for($primary, "SELECT count(*) FROM llmapp.progress WHERE job = $job AND phase = 'training' AND done > 100", '1', 60), 'another one');
kill 'KILL', sql(q{SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'llmapp job'});
$primary->poll_query_until('postgres', "SELECT status = 'interrupted' FROM llmapp.jobs WHERE job = $job") or BAIL_OUT('the job is not interrupted');
sql("SELECT llm_resume($job)");
is(sql("SELECT llm_wait($job)"), 'succeeded', 'killed and resumed, it ends');
like(sql("SELECT report #>> '{resumed,step}' FROM llmapp.jobs WHERE job = $job"), qr/^[1-9]/, 'from a checkpoint');
is(added('killed'), added('whole'), 'with the same matrices');

# a base that loses its version while it is trained further
$job = train('a.late', '"epochs": 100000, "early_stopping": 0, "max_seconds": 5', '');
ok(wait_for($primary, "SELECT count(*) FROM llmapp.progress WHERE job = $job AND phase = 'training'", '1', 60), 'one that has begun');
sql(q{SELECT llm_train('z.base', 'texts', target => 'body', base => 'z.base', wait => true, params => '{"steps": 1, "deploy": "always"}')});
sql(q{DROP TABLE a.apart, a.whole, a.killed; SELECT llm_drop_version('z.base', 1)});
is(sql("SELECT llm_wait($job)"), 'failed', 'fails when its base has gone');
is(sql("SELECT message FROM llmapp.jobs WHERE job = $job"), 'version 1 of model "late" lacks its base', 'and says why');
is(sql(q{SELECT to_regclass('a.late') IS NULL}), 't', 'no model is left');
$primary->stop;
unlike(slurp_file($_->logfile), qr/PANIC|signal 11|signal 6/, $_->name . ': nothing crashed but what was killed') foreach $primary, $standby;
done_testing();
