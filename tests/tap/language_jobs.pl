# Language models and classifiers of texts where a server is copied, restored, cancelled and killed; who may use them.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time sleep);
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('language');
$primary->init(allows_streaming => 1);
configure_node($primary, 'restart_after_crash = on', 'autovacuum = off', 'llmapp.checkpoint_interval = 1', 'llmapp.threads = 2',
	'max_wal_size = 4GB');
$primary->start;
sub sql { my ($query, $node, $database) = @_; return ($node // $primary)->safe_psql($database // 'postgres', $query); }
sub status { return sql("SELECT status FROM llmapp.jobs WHERE job = $_[0]"); }

# Sentences of 40 words in an order that is the same in every run; `rare` words of 16 letters beside them.
sql(q{CREATE EXTENSION llmapp;
	CREATE FUNCTION sentence(i bigint, words int, rare int) RETURNS text IMMUTABLE LANGUAGE sql AS $$
		SELECT string_agg(w[1 + (i * 2654435761 + k * 40503 + i * k * 97 >> 7) % 40], ' ') || '.' || coalesce((
			SELECT string_agg(' ' || translate(left(md5((i * rare + k)::text), 16), '0123456789', 'ghijklmnop'), '') FROM generate_series(1, rare) AS k), '')
		FROM generate_series(1, words) AS k, (SELECT string_to_array('the of and to in is was he for it with as his on be at by had not are but
			from or have an they which one you were her all she there would their we him been has', ' ') AS w) AS list $$;
	CREATE TABLE texts AS SELECT i AS id, sentence(i, 12, 0) || CASE WHEN i % 2 = 0 THEN ' good ' ELSE ' bad ' END || sentence(i + 7, 3, 0) AS body,
		i % 2 = 0 AS good, CASE WHEN i % 4 = 0 THEN 'writer' ELSE 'other' END AS owner FROM generate_series(1, 400) AS i});
my $tiny = '"layers": 1, "embed_dim": 16, "heads": 2, "context": 32, "vocab_size": 400, "batch_size": 8';
sql(qq{SELECT llm_train('speaker', 'SELECT body FROM texts', task => 'generation', params => '{$tiny, "epochs": 2}', wait => true);
	SELECT llm_train('judge', 'SELECT body, good FROM texts', target => 'good', task => 'classification', architecture => 'gpt',
		params => '{$tiny, "text": "body", "epochs": 2}', wait => true)});

my $speak = q{SELECT md5(string_agg(llm_generate('speaker', left(body, 20), 12) || llm_generate('speaker', 'the', 12, temperature => 1, seed => id)
	|| llm_perplexity('speaker', body)::text || llm_embed('speaker', body)::text, '' ORDER BY id)) FROM texts WHERE id <= 20};
my $judge = q{SELECT md5(string_agg(llm_predict('judge', t) || llm_probability('judge', t)::text, ',' ORDER BY id)) FROM texts AS t WHERE id <= 100};
my ($spoken, $judged) = (sql($speak), sql($judge));

sub says_the_same
{
	my ($name, $node, $database) = @_;
	is(sql($speak, $node, $database), $spoken, "$name: the same text");
	is(sql($judge, $node, $database), $judged, "$name: the same predictions");
	return;
}

# a standby, before and after its promotion
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('language_standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
says_the_same('a standby', $standby);
sql(qq{SELECT llm_train('speaker', 'SELECT body FROM texts', base => 'speaker', params => '{"epochs": 1, "deploy": "always"}', wait => true)});
isnt(sql($speak), $spoken, 'another version speaks otherwise');
$primary->wait_for_catchup($standby);
is(sql($speak, $standby), sql($speak), 'on the standby, too');
sql(q{SELECT llm_promote('speaker', 1)});
$primary->wait_for_catchup($standby);
says_the_same('a standby that follows', $standby);
$standby->promote;
says_the_same('a standby that was promoted', $standby);
$standby->stop;

# pg_dump into another database
my $dump = $primary->basedir . '/dump';
$primary->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $primary->connstr('postgres') ], 'pg_dump');
sql('CREATE DATABASE copy');
$primary->command_ok([ 'pg_restore', '--exit-on-error', '-d', $primary->connstr('copy'), $dump ], 'pg_restore');
says_the_same('another database', $primary, 'copy');

# row security and privileges
sql(q{CREATE ROLE writer LOGIN; CREATE ROLE reader LOGIN; CREATE SCHEMA writer AUTHORIZATION writer; CREATE SCHEMA reader AUTHORIZATION reader; GRANT USAGE ON SCHEMA writer TO reader;
	ALTER TABLE texts ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON texts USING (owner = current_user); GRANT SELECT ON texts TO writer});
sub as { my ($role, $query) = @_; return $primary->safe_psql('postgres', $query, extra_params => [ '-U', $role ]); }
sub refused
{
	my ($role, $query, $pattern, $name) = @_;
	my ($code, $stdout, $stderr) = $primary->psql('postgres', $query, extra_params => [ '-U', $role ]);
	like($stderr, $pattern, $name);
	return;
}
as('writer', qq{SELECT llm_train('writer.own', 'SELECT body FROM texts', task => 'generation', params => '{$tiny, "steps": 3}', wait => true)});
is(as('writer', q{SELECT report #>> '{data,rows_read}' FROM llmapp.jobs}), '100', 'row security hides texts from a training');
refused('reader', "SELECT $_", qr/permission denied for model "own"/, "without privilege: $_")
  foreach q{llm_generate('writer.own', 'the')}, q{llm_generate_stream('writer.own', 'the')}, q{llm_tokenize('writer.own', 'the')},
  q{llm_detokenize('writer.own', '{1}')}, q{llm_perplexity('writer.own', 'the of')}, q{llm_embed('writer.own', 'the')};
refused('writer', q{SELECT llm_generate('speaker', 'the')}, qr/permission denied for model "speaker"/, 'nor does one speak with the model of another');
refused('reader', q{SELECT llm_train('reader.m', 'SELECT ''a b c'' AS body', base => 'writer.own')}, qr/permission denied/, 'nor train it further');
as('writer', 'GRANT SELECT (meta) ON writer.own TO reader');
isnt(as('reader', q{SELECT llm_generate('writer.own', 'the')}), '', 'with SELECT on meta one does');
refused('reader', q{SELECT llm_train('reader.m', 'SELECT ''a b c'' AS body', base => 'writer.own')}, qr/permission denied/, 'but still not train it further');

# a text that takes long ends when its statement does
my $start = time;
my ($code, $stdout, $stderr) = $primary->psql('postgres', q{SET statement_timeout = '500ms';
	SELECT length(string_agg(t, '')) FROM (SELECT llm_generate('speaker', 'the', 1000000, temperature => 1, seed => i) AS t FROM generate_series(1, 1000) AS i) AS many});
like($stderr, qr/canceling statement due to statement timeout/, 'llm_generate is cancelled by statement_timeout');
cmp_ok(time - $start, '<', 5, sprintf('after %.2f s', time - $start));

# cancel in each phase
sql(q{CREATE VIEW stuck AS SELECT body FROM texts, pg_sleep(600);
	CREATE TABLE large AS SELECT string_agg(sentence(i, 10, 3), ' ' ORDER BY i) AS body FROM generate_series(1, 40000) AS i;
	CREATE VIEW huge AS SELECT repeat(body, 30) AS body FROM large;
	CREATE VIEW wall AS SELECT repeat(replace(replace(body, ' ', ''), '.', ''), 2) AS body FROM large});
my $endless = qq{$tiny, "epochs": 1000000, "early_stopping": 0};
# Source, settings, the phase, and seconds in it.
my @cases = (
	[ 'loading', 'stuck', "{$endless}", 'loading', 0.2 ],
	[ 'counting words', 'huge', "{$endless}", 'vocabulary', 0 ],
	[ 'counting characters', 'huge', qq({$endless, "tokenizer": "characters"}), 'vocabulary', 0 ],
	[ 'learning words', 'large', qq({"vocab_size": 65000, "steps": 1}), 'vocabulary', 0.6 ],
	[ 'writing tokens', 'huge', "{$endless}", 'tokenizing', 0.2 ],
	[ 'writing tokens of one word', 'wall', "{$endless}", 'tokenizing', 0.2 ],
	[ 'training', 'large', qq({"layers": 2, "embed_dim": 256, "batch_size": 64, "context": 256, "vocab_size": 1000, "steps": 1000}), 'training', 1 ],
	[ 'evaluating', 'large', qq({$tiny, "steps": 1, "validation": 0.5}), 'evaluating', 0.1 ]);
sub files { return join ',', map { glob($primary->data_dir . "/$_") } 'llmapp/pgsql_tmp.checkpoint*', 'base/pgsql_tmp/*'; }
sub wait_for_phase
{
	my ($job, $phase) = @_;
	return wait_for($primary, "SELECT count(*) FROM llmapp.progress WHERE job = $job AND phase = '$phase'", '1', 60);
}
foreach my $case (@cases)
{
	my ($name, $source, $params, $phase, $delay) = @$case;
	my $job = sql("SELECT llm_train('cancelled', '$source', target => 'body', task => 'generation', params => '$params')");
	ok(wait_for_phase($job, $phase), "$name: the phase is reached");
	sleep($delay);
	my $found = sql("SELECT phase FROM llmapp.progress WHERE job = $job");
	$start = time;
	my $end = sql("SELECT llm_cancel($job)");
	my $seconds = time - $start;
	is($end, 'cancelled', "$name: cancelled in phase $found");
	cmp_ok($seconds, '<', 5, sprintf('%s: after %.2f s', $name, $seconds));
	note(sprintf '%-30s %.3f s', $name, $seconds);
	$primary->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'llmapp job'});
	is(files(), '', "$name: no file is left");
}
is(sql(q{SELECT to_regclass('cancelled') IS NULL}), 't', 'no model is left');

# kill -9, then resume: the weights of a training that nobody disturbed
sub train { return sql(qq{SELECT llm_train('$_[0]', 'large', target => 'body', task => 'generation', params => '{$tiny, "vocab_size": 2000, "steps": 800, "checkpoint_every": 0.1}')}); }
sub weights { return sql("SELECT meta #>> '{weights,sha256}' FROM $_[0] WHERE part = 0 AND version = 1"); }
is(sql('SELECT llm_wait(' . train('whole') . ')'), 'succeeded', 'a training that nobody disturbs');
my $expected = weights('whole');
like($expected, qr/^[0-9a-f]{64}$/, 'has a checksum of its weights');
foreach my $phase ('vocabulary', 'tokenizing', 'training')
{
	my $job = train("killed_$phase");
	my $begun = $phase eq 'training' ? "'training'" : "'$phase', 'tokenizing', 'training'";    # a fast machine may be further
	ok(wait_for($primary, "SELECT count(*) FROM llmapp.progress WHERE job = $job AND phase IN ($begun)", '1', 60), "another one is $phase");
	sleep(0.5) if $phase eq 'training';
	my $pid = sql(q{SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'llmapp job'});
	kill 'KILL', $pid;
	$primary->poll_query_until('postgres', "SELECT status = 'interrupted' FROM llmapp.jobs WHERE job = $job") or BAIL_OUT('the job is not interrupted');
	sql("SELECT llm_resume($job)");
	is(sql("SELECT llm_wait($job)"), 'succeeded', 'killed and resumed, it ends');
	is(weights("killed_$phase"), $expected, 'with the same weights');
}
like(sql(q{SELECT report #>> '{resumed,step}' FROM llmapp.jobs ORDER BY job DESC LIMIT 1}), qr/^[1-9]/, 'the last one from a checkpoint');
says_the_same('after all this', $primary);
is(files(), '', 'no file is left');
$primary->stop;
unlike(slurp_file($_->logfile), qr/PANIC|signal 11|signal 6/, $_->name . ': nothing crashed but what was killed') foreach $primary, $standby;
done_testing();
