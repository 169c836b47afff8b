# Embeddings of a column that follow its changes: bursts, kill -9, cancel, pause, privileges, row security, renames, dump.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use IPC::Run;
use Time::HiRes qw(time);
use Test::More;

my $node = start_node('embed_column', 'restart_after_crash = on', 'wal_level = logical');
my $database = 'postgres';
sub sql { return $node->safe_psql($database, $_[0]); }
sub fails { my ($status, $out, $err) = $node->psql($database, $_[0]); return $status == 0 ? 'succeeded' : $err; }

sql(q{CREATE TABLE fact AS SELECT i AS id, 'the number ' || i AS said, 'number ' || i || ' it is' AS meant FROM generate_series(1, 500) AS i;
	CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NULL; END';
	SELECT llm_train('twin', 'SELECT said, meant FROM fact', target => 'meant', task => 'embedding', wait => true,
		params => '{"prompt": "said", "layers": 1, "embed_dim": 32, "context": 32, "epochs": 1, "seed": 3}')});

# Each row of the source is in the target as llm_embed() would have it, by the pieces of llm_chunk(), and nothing else is.
sub is_current
{
	my ($name, $source, $target) = @_;
	ok(wait_for($node, "SELECT count(*) FROM ${target}_queue", '0', 120), "$name: the queue is emptied");
	is(sql("SELECT count(*) FROM (SELECT s.id, c.chunk, c.start, c.length, c.text FROM $source AS s, llm_chunk('twin', s.body) AS c WHERE c.tokens > 0
		EXCEPT ALL SELECT id, chunk, start, length, content FROM $target) AS missing"), '0', "$name: no piece is missing");
	is(sql("SELECT count(*) FROM (SELECT id, chunk, start, length, content FROM $target
		EXCEPT ALL SELECT s.id, c.chunk, c.start, c.length, c.text FROM $source AS s, llm_chunk('twin', s.body) AS c) AS more"), '0', "$name: no piece is doubled or old");
	is(sql("SELECT count(*) FROM $target WHERE embedding::tensor <-> llm_embed('twin', content)::tensor > 1e-4 OR embedding IS NULL"), '0', "$name: the embeddings are those of the pieces");
	return;
}
sub jobs { return sql(q{SELECT count(*) FROM llmapp.jobs WHERE kind = 'embed'}); }
sub worker { return sql(q{SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'llmapp job'}); }

my $rows = 3000;
sql(qq{CREATE TABLE docs (id int PRIMARY KEY, title text, body text);
	INSERT INTO docs SELECT i, 'title ' || i, 'Number ' || i || ' is here. ' || repeat('It has more words. ', i % 15) FROM generate_series(1, $rows) AS i});
my $job = sql(q{SELECT llm_embed_column('docs', 'body', 'twin', 'emb')});
is(sql("SELECT llm_wait($job)"), 'succeeded', 'the job ends when all is embedded');
is_current('at first', 'docs', 'emb');
is(sql("SELECT report ->> 'errors' FROM llmapp.jobs WHERE job = $job"), '0', 'without errors');

# changes of each kind
sql(q{INSERT INTO docs SELECT i, NULL, 'A new one, ' || i FROM generate_series(10001, 10100) AS i;
	UPDATE docs SET body = body || 'The end.' WHERE id % 10 = 0;
	UPDATE docs SET id = id + 20000 WHERE id % 100 = 7;
	UPDATE docs SET body = NULL WHERE id % 100 = 8;
	UPDATE docs SET body = '' WHERE id % 100 = 9;
	DELETE FROM docs WHERE id % 100 = 11});
is_current('changed', 'docs', 'emb');
sql(q{UPDATE docs SET title = 'other', body = body; BEGIN; UPDATE docs SET body = 'never' WHERE id < 100; ROLLBACK});
is(sql('SELECT count(*) FROM emb_queue'), '0', 'what did not change the text is not queued');
is(sql(q{SELECT count(*) FROM emb WHERE content = 'never'}), '0', 'nor what was rolled back');

# many small transactions: no worker for each
sleep 3; # the last worker is gone
sql('ALTER SYSTEM SET log_min_messages = debug1; SELECT pg_reload_conf()');
sleep 1;
my $before = -s $node->logfile;
sql('SET synchronous_commit = off; ' . join "\n", map { "UPDATE docs SET body = 'Small transaction $_.' WHERE id = $_;" } 1 .. 1000);
is_current('a burst', 'docs', 'emb');
is(jobs(), '1', 'a target has one job, however often it runs');
my $workers = () = substr(slurp_file($node->logfile), $before) =~ /starting background worker process "llmapp job"/g;
cmp_ok($workers, '<=', 3, "1000 transactions start few workers: $workers");
cmp_ok($workers, '>', 0, 'and at least one');
sql('ALTER SYSTEM RESET log_min_messages; SELECT pg_reload_conf()');

# several sessions at once
my @handles = map { my $n = $_; IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr($database), '-c',
	"DO \$\$ BEGIN FOR i IN 1 .. 100 LOOP UPDATE docs SET body = 'Session $n wrote ' || i WHERE id = 100 + (i * 7 + $n) % 50; COMMIT; END LOOP; END \$\$" ], '>', \my $out, '2>', \my $err) } 1 .. 4;
IPC::Run::finish($_) foreach @handles;
is_current('sessions at once', 'docs', 'emb');

sql('TRUNCATE docs');
is_current('truncated', 'docs', 'emb');
is(sql('SELECT count(*) FROM emb'), '0', 'nothing is left');

# kill -9 of the worker, and of the server, in the midst; every batch is slowed down by a trigger
sub refill
{
	sql('TRUNCATE docs');
	wait_for($node, 'SELECT count(*) FROM emb', '0', 60); # else what is seen next may be of before
	sql(q{INSERT INTO docs SELECT i, '', 'Number ' || i || ' is here. ' || repeat('It has more words. ', i % 15) FROM generate_series(1, 2000) AS i});
	return;
}
sql('CREATE TRIGGER slow AFTER INSERT ON emb FOR EACH ROW EXECUTE FUNCTION pause()');
# Rows count as done before their batch is committed.
sub wait_for_some { return wait_for($node, "SELECT EXISTS (SELECT FROM llmapp.progress WHERE job = $job AND done > 50) AND EXISTS (SELECT FROM emb)", 't', 60); }
foreach my $how ('worker', 'server')
{
	refill();
	ok(wait_for_some(), "$how: it works");
	cmp_ok(sql('SELECT count(*) FROM emb_queue'), '>', 100, 'and is not at the end');
	if ($how eq 'worker')
	{
		my $starts = starts($node);
		kill 'KILL', worker();
		for (1 .. 1200)
		{
			last if starts($node) > $starts;
			select(undef, undef, undef, 0.05);
		}
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	is(sql("SELECT status FROM llmapp.jobs WHERE job = $job"), 'interrupted', "end of the $how interrupts the job");
	cmp_ok(sql('SELECT count(DISTINCT id) FROM emb'), '>', 0, 'what was committed is there');
	$how eq 'worker' ? sql("SELECT llm_resume($job)") : sql(q{INSERT INTO docs VALUES (9000, '', 'wakes it up')});
	sql('ALTER TABLE emb DISABLE TRIGGER slow');
	is_current("killed $how", 'docs', 'emb');
	sql('ALTER TABLE emb ENABLE TRIGGER slow');
}

# cancel within a second, pause, resume
refill();
ok(wait_for_some(), 'it works');
like(sql("SELECT phase || ' ' || (done > 0) || ' ' || (total > 0) FROM llmapp.progress WHERE job = $job"), qr/^embedding true true$/, 'with progress');
like(sql(q{SELECT query FROM pg_stat_activity WHERE backend_type = 'llmapp job'}), qr/^embedding with model public.twin$/, 'pg_stat_activity names the model');
my $start = time;
is(sql("SELECT llm_cancel($job)"), 'cancelled', 'cancel');
cmp_ok(time - $start, '<', 1, 'is quick');
cmp_ok(sql('SELECT count(*) FROM emb_queue'), '>', 100, 'what is not done stays in the queue');
sql(q{INSERT INTO docs VALUES (9001, '', 'wakes it up')});
ok(wait_for($node, "SELECT status FROM llmapp.jobs WHERE job = $job", 'running', 20), 'the next change starts it again');
is(sql("SELECT llm_pause($job)"), 'paused', 'pause');
sql(q{INSERT INTO docs VALUES (9002, '', 'does not wake it up')});
sleep 2;
is(sql("SELECT status FROM llmapp.jobs WHERE job = $job"), 'paused', 'a paused one stays so');
sql("SELECT llm_resume($job)");
sql('ALTER TABLE emb DISABLE TRIGGER slow');
is_current('resumed', 'docs', 'emb');
ok(wait_for($node, "SELECT status FROM llmapp.jobs WHERE job = $job", 'succeeded', 20), 'a job that has nothing to do ends');
is(sql("SELECT llm_pause($job)"), 'paused', 'and can be paused then, too');
sql(q{INSERT INTO docs VALUES (9003, '', 'does not wake it up')});
sleep 1;
is(sql('SELECT count(*) FROM emb_queue'), '1', 'which keeps what comes in the queue');
sql("SELECT llm_resume($job)");
is_current('resumed once more', 'docs', 'emb');

# a row that cannot be stored is that row's error
sql(q{ALTER TABLE emb ADD CONSTRAINT no_secrets CHECK (content NOT LIKE '%secret%');
	UPDATE docs SET body = 'A secret of mine.' WHERE id = 5; UPDATE docs SET body = 'Of nobody.' WHERE id = 6});
ok(wait_for($node, 'SELECT count(*) FROM emb_queue', '0', 30), 'an error does not stop the rest');
is(sql('SELECT chunk, error FROM emb WHERE id = 5'), '0|new row for relation "emb" violates check constraint "no_secrets"', 'the row has the error');
is(sql('SELECT content FROM emb WHERE id = 6'), 'Of nobody.', 'others have embeddings');
is(sql('SELECT failed, last_error LIKE \'%no_secrets%\' FROM llmapp.embedded_columns'), '1|t', 'the view tells of it');
sql('ALTER TABLE emb DROP CONSTRAINT no_secrets');
sql(q{SELECT llm_embed_column('docs', 'body', 'twin', 'emb')});
is_current('asked again', 'docs', 'emb');

# a new version, other settings
sql(q{SELECT llm_train('twin', 'SELECT said, meant FROM fact', target => 'meant', task => 'embedding', wait => true,
		params => '{"prompt": "said", "layers": 1, "embed_dim": 32, "context": 32, "epochs": 1, "seed": 4, "deploy": "always"}')});
sql(q{SELECT llm_embed_column('docs', 'body', 'twin', 'emb')});
is_current('a new version', 'docs', 'emb');
is(sql('SELECT DISTINCT model_version FROM emb'), '2', 'applies to all rows');
sql(q{SELECT llm_embed_column('docs', 'body', 'twin', 'emb', max_tokens => 12, overlap => 4)});
ok(wait_for($node, 'SELECT count(*) FROM emb_queue', '0', 60), 'smaller pieces');
is(sql('SELECT max(cardinality(llm_tokenize(\'twin\', content))) <= 12 FROM emb'), 't', 'are no longer than asked for');
sql(q{SELECT llm_embed_column('docs', 'body', 'twin', 'emb')});
is_current('longer pieces', 'docs', 'emb');

# everything may be renamed
sql(q{CREATE SCHEMA s; ALTER TABLE docs RENAME TO papers; ALTER TABLE papers RENAME body TO words; ALTER TABLE papers RENAME id TO number;
	ALTER TABLE papers SET SCHEMA s; ALTER TABLE emb RENAME TO vectors; ALTER TABLE vectors RENAME id TO of; ALTER TABLE emb_queue RENAME TO todo;
	ALTER TABLE twin RENAME TO other; INSERT INTO s.papers VALUES (9100, '', 'Renamed.'); DELETE FROM s.papers WHERE number = 1});
ok(wait_for($node, 'SELECT count(*) FROM todo', '0', 30), 'renamed: the queue is emptied');
is(sql('SELECT content FROM vectors WHERE of = 9100'), 'Renamed.', 'renamed: a new row');
is(sql('SELECT count(*) FROM vectors WHERE of = 1'), '0', 'renamed: a row that is gone');
is(sql('SELECT source, column_name, model, target, queue FROM llmapp.embedded_columns'), 's.papers|words|other|vectors|todo', 'renamed: the view');
sql(q{ALTER TABLE s.papers SET SCHEMA public; ALTER TABLE papers RENAME TO docs; ALTER TABLE docs RENAME words TO body; ALTER TABLE docs RENAME number TO id;
	ALTER TABLE vectors RENAME TO emb; ALTER TABLE emb RENAME of TO id; ALTER TABLE todo RENAME TO emb_queue; ALTER TABLE other RENAME TO twin});
is_current('renamed back', 'docs', 'emb');

# who publishes all tables may go on
sql('CREATE PUBLICATION everything FOR ALL TABLES; UPDATE docs SET body = body || \' Published.\' WHERE id < 10');
is_current('published', 'docs', 'emb');
sql('DROP PUBLICATION everything');

# roles: the owner of the embeddings may read the source and set triggers on it, a writer may only insert
sql(q{CREATE ROLE librarian LOGIN; CREATE ROLE writer LOGIN; CREATE ROLE stranger LOGIN; GRANT CREATE ON SCHEMA public TO librarian, stranger;
	CREATE TABLE letters (id int PRIMARY KEY, secret boolean, body text); GRANT INSERT ON letters TO writer;
	ALTER TABLE letters ENABLE ROW LEVEL SECURITY; CREATE POLICY open ON letters TO librarian USING (NOT secret);
	CREATE POLICY write ON letters TO writer USING (true) WITH CHECK (true)});
my $call = q{SELECT llm_embed_column('letters', 'body', 'twin', 'letter_emb')};
like(fails("SET ROLE librarian; $call"), qr/permission denied for/, 'the model must be granted');
sql('GRANT SELECT (meta) ON twin TO librarian');
like(fails("SET ROLE librarian; $call"), qr/permission denied for table letters/, 'so must the source');
sql('GRANT SELECT ON letters TO librarian');
like(fails("SET ROLE librarian; $call"), qr/permission denied for table letters/, 'and triggers on it');
sql('GRANT TRIGGER ON letters TO librarian');
sql("SET ROLE librarian; $call");
sql(q{SET ROLE writer; INSERT INTO letters VALUES (1, false, 'For all.'), (2, true, 'For nobody.')});
ok(wait_for($node, 'SELECT string_agg(content, \',\') FROM letter_emb', 'For all.', 30), 'rows of a role that may only insert are embedded, as their owner may see them');
ok(wait_for($node, 'SELECT count(*) FROM letter_emb_queue', '0', 30), 'and the others looked at');
is(sql('SELECT tableowner FROM pg_tables WHERE tablename = \'letter_emb_queue\''), 'librarian', 'the queue belongs to the owner of the embeddings');
like(fails('SET ROLE writer; SELECT * FROM letter_emb_queue'), qr/permission denied/, 'whom others need to read it');
is(sql('SET ROLE stranger; SELECT source, pending IS NULL, failed IS NULL, last_error IS NULL, job IS NULL FROM llmapp.embedded_columns WHERE target = \'letter_emb\'::regclass'), 'letters|t|t|t|t', 'the view shows a stranger no counts');
# a trigger of somebody else's does not write to the queue
sql(q{SET ROLE stranger; CREATE TABLE evil (id int PRIMARY KEY, body text);
	CREATE TRIGGER evil AFTER INSERT OR UPDATE OF body, id OR DELETE ON evil FOR EACH ROW WHEN ('letter_emb'::regclass IS NOT NULL) EXECUTE FUNCTION llmapp.embed_changes();
	INSERT INTO evil VALUES (77, 'x')});
is(sql('SELECT count(*) FROM letter_emb_queue'), '0', 'a trigger on a table that the owner did not name does nothing');
# what a stranger makes of a table of his own is not run by who looks at the view
sql(q{SET ROLE stranger; CREATE VIEW trap AS SELECT 1 / 0 AS id; GRANT SELECT ON trap TO PUBLIC;
	CREATE TABLE hostile (id int, error int, updated_at int, CHECK (llmapp.embeds('evil', 'letter_emb', 'trap', NULL, 0)));
	INSERT INTO hostile VALUES (1, 1, 1); GRANT SELECT ON hostile TO PUBLIC});
is(sql(q{SELECT source, pending IS NULL, failed IS NULL, last_error IS NULL FROM llmapp.embedded_columns WHERE target = 'hostile'::regclass}), 'evil|t|t|t', 'the view reads plain tables only');
like(fails(q{SELECT llm_embed_column('letters', 'body', 'twin', 'letter_emb')}), qr/must be owner of table public.letter_emb.*SET ROLE librarian/s, 'only the owner asks again');
sql('DROP TABLE hostile; DROP VIEW trap');
sql('DROP TABLE evil; REVOKE SELECT ON letters FROM librarian');
sql(q{SET ROLE writer; INSERT INTO letters VALUES (3, false, 'Unread.')});
ok(wait_for($node, q{SELECT status, message FROM llmapp.jobs WHERE owner = 'librarian'::regrole}, 'failed|permission denied for table letters', 30), 'a right that is gone fails the job');
is(sql('SELECT count(*) FROM letter_emb_queue'), '1', 'and leaves the queue');
sql('GRANT SELECT ON letters TO librarian');
sql(q{SELECT llm_resume(job) FROM llmapp.jobs WHERE owner = 'librarian'::regrole});
ok(wait_for($node, 'SELECT count(*) FROM letter_emb', '2', 30), 'when it is back the job goes on');

# partitions
sql(q{CREATE TABLE log (id int, at date, body text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
	CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
	CREATE TABLE log_2 (body text, id int NOT NULL, at date NOT NULL); ALTER TABLE log ATTACH PARTITION log_2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
	INSERT INTO log VALUES (1, '2020-05-05', 'In the first.');
	SELECT llm_embed_column('log', 'body', 'twin', 'log_emb')});
sql(q{INSERT INTO log VALUES (1, '2021-05-05', 'In the second.'); INSERT INTO log_2 (id, at, body) VALUES (2, '2021-06-06', 'Past its parent.')});
ok(wait_for($node, 'SELECT string_agg(content, \'|\' ORDER BY at, id) FROM log_emb', 'In the first.|In the second.|Past its parent.', 30), 'partitions are followed');

# a dump and what comes after
ok(wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llmapp job'}, '0', 30), 'nobody works');
$node->safe_psql($database, q{SELECT llm_pause(job) FROM llmapp.jobs WHERE model = 'public.twin' AND owner = current_user::regrole AND kind = 'embed'});
sql(q{UPDATE docs SET body = 'Dumped.' WHERE id = 12});
is(sql('SELECT count(*) FROM emb_queue'), '1', 'a row waits');
my $dump = $node->basedir . '/dump.sql';
my (undef, $warnings) = run_command([ 'pg_dump', '-d', $node->connstr($database), '-f', $dump ]);
is($warnings, '', 'a dump is made without a warning');
sql('CREATE DATABASE copy');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'and restored');
$database = 'copy';
is(sql('SELECT count(*) FROM emb_queue'), '1', 'the queue is there');
sql(q{INSERT INTO docs VALUES (9500, '', 'After the dump.')});
ok(wait_for_in($database, 'SELECT count(*) FROM emb_queue', '0'), 'restored: changes are followed');
is(sql(q{SELECT string_agg(content, '|' ORDER BY id) FROM emb WHERE id IN (12, 9500)}), 'Dumped.|After the dump.', 'and what was waiting is done');
sleep 2;
sql('DROP TABLE emb CASCADE');
is(sql(q{SELECT to_regclass('emb_queue') IS NULL, (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs'::regclass AND tgname LIKE 'emb%')}), 't|0', 'DROP of the embeddings takes queue and triggers with it, after a dump, too');
like(fails('DROP TABLE twin'), qr/depends on table twin/, 'a model in use is not dropped');
sql('DROP TABLE letters CASCADE');
is(sql('SELECT count(*) FROM llmapp.embedded_columns WHERE target = \'letter_emb\'::regclass'), '0', 'a source that is dropped leaves a plain table');
$database = 'postgres';
is(sql(q{SELECT count(*) FROM llmapp.jobs WHERE status = 'running' AND kind = 'train'}), '0', 'nothing is left running');
sub wait_for_in
{
	my ($db, $query, $expected) = @_;
	my $end = time + 60;
	while (time <= $end) { return 1 if $node->safe_psql($db, $query) eq $expected; select(undef, undef, undef, 0.05); }
	return 0;
}
done_testing();
