# Trained models and jobs where a server is copied: a standby that is promoted, pg_dump into another cluster,
# pg_upgrade, and recovery to a point in time.  (model_standby.pl and model_dump.pl look at single model tables.)
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1, has_archiving => 1);
configure_node($primary, 'llmapp.checkpoint_interval = 1');
$primary->start;
sub sql { my ($node, $query, $database) = @_; return $node->safe_psql($database // 'postgres', $query); }

sql($primary, q{CREATE EXTENSION llmapp;
	CREATE TABLE points AS SELECT i AS id, sin(i) AS x, cos(i) AS y, 'c' || i % 4 AS c, sin(i) > cos(i) AS above FROM generate_series(1, 2000) AS i;
	CREATE VIEW stuck AS SELECT x, y, c, above FROM points, pg_sleep(600)});
# The second model is large enough for a weight file.
sql($primary, qq{SELECT llm_train('$_->[0]', 'SELECT x, y, c, above FROM points', target => 'above', params => '{"epochs": 2, "hidden": $_->[1]}', wait => true)})
  foreach [ 'small', '[16]' ], [ 'large', '[700, 700]' ];
my $predict = q{SELECT md5(string_agg(llm_probability('small', p)::text || ' ' || llm_probability('large', p)::text, ',' ORDER BY id)) FROM points AS p};
my $expected = sql($primary, $predict);
my $jobs = q{SELECT string_agg(model || ' ' || status, ', ' ORDER BY job) FROM llmapp.jobs};
sub is_running { my ($node, $job) = @_; return wait_for($node, "SELECT count(*) FROM llmapp.progress WHERE job = $job", '1', 30); }

# a standby, and the end of its primary while a job runs
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
my $running = sql($primary, q{SELECT llm_train('third', 'stuck', target => 'above')});
ok(is_running($primary, $running), 'a job runs on the primary');
$primary->wait_for_catchup($standby);
is(sql($standby, $predict), $expected, 'the standby predicts the same to the bit');
my $shown = 'public.small succeeded, public.large succeeded, public.third ';
like(sql($standby, $jobs), qr/^$shown(running|interrupted)$/, 'it shows the jobs');
foreach my $call (qq{llm_train('m', 'points', target => 'above')}, "llm_cancel($running)", "llm_resume($running)")
{
	my ($status, $stdout, $stderr) = $standby->psql('postgres', "SELECT $call");
	like($stderr, qr/^[^\n]*ERROR:  cannot [^\n]* on a standby server\n/, "$call is refused there");
}
my $segment = sql($primary, 'SELECT pg_walfile_name(pg_create_restore_point($$before$$))');
sql($primary, q{SELECT pg_switch_wal()});
$primary->poll_query_until('postgres', "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver")
  or die 'the segment with the restore point is not archived';
$primary->stop('immediate');
$standby->promote;
is(sql($standby, $predict), $expected, 'promoted, it predicts the same');
is(sql($standby, $jobs), $shown . 'interrupted', 'the job that ran on the primary is interrupted');
is(sql($standby, q{SELECT count(*) FROM llmapp.progress}), '0', 'and has no progress');
sql($standby, "CREATE OR REPLACE VIEW stuck AS SELECT x, y, c, above FROM points");
is(sql($standby, "SELECT llm_resume($running)"), 'queued', 'it can be resumed here');
is(sql($standby, "SELECT llm_wait($running)"), 'succeeded', 'and ends');
my $next = sql($standby, q{SELECT llm_train('small', 'SELECT x, y, c, above FROM points', target => 'above', params => '{"epochs": 1, "deploy": "never"}', wait => true)});
cmp_ok($next, '>', $running, 'jobs can be submitted, with numbers of their own');
is(sql($standby, $predict), $expected, 'predictions stay');

# pg_dump into another cluster
my $dump = $standby->basedir . '/dump';
$standby->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $standby->connstr('postgres') ], 'pg_dump of models and jobs');
my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init;
configure_node($restored);
$restored->start;
$restored->command_ok([ 'pg_restore', '--exit-on-error', '-d', $restored->connstr('postgres'), $dump ], 'pg_restore into another cluster');
is(sql($restored, $predict), $expected, 'which predicts the same');
is(sql($restored, 'SELECT (SELECT count(*) FROM llmapp.job) + (SELECT count(*) FROM llmapp.job_metric)'), '0', 'its job tables are empty');
is(sql($restored, q{SELECT llm_train('small', 'SELECT x, y, c, above FROM points', target => 'above', params => '{"epochs": 1}', wait => true)}), '1', 'its jobs are numbered from 1');
is(sql($restored, q{SELECT string_agg(version::text, ',' ORDER BY version) FROM llmapp.model_versions WHERE model = 'small'::regclass}), '1,2,3', 'its versions go on');
my ($status, $stdout, $stderr) = $restored->psql('postgres', 'DROP EXTENSION llmapp');
like($stderr, qr/cannot drop extension llmapp because other objects depend on it.*(small|large)/s, 'DROP EXTENSION is refused while models exist');
($status, $stdout, $stderr) = $restored->psql('postgres', 'CREATE EXTENSION llmapp');
like($stderr, qr/already exists/, 'as is creating it again');
sql($restored, 'DROP TABLE small, large, third; DROP EXTENSION llmapp; CREATE EXTENSION llmapp');
is(sql($restored, $jobs), '', 'without models it is dropped and created');

# pg_upgrade by the same binaries: the tables' files are taken as they are
my $upgraded = PostgreSQL::Test::Cluster->new('upgraded');
$upgraded->init;
configure_node($upgraded);
$standby->stop;
my $bin = $standby->config_data('--bindir');
my $folder = $upgraded->basedir;
ok(system("cd $folder && pg_upgrade --no-sync -b $bin -B $bin -d " . $standby->data_dir . ' -D ' . $upgraded->data_dir .
	' -s ' . $upgraded->host . ' -p ' . $standby->port . ' -P ' . $upgraded->port . " > $folder/pg_upgrade.out 2>&1") == 0, 'pg_upgrade')
  or diag(slurp_file("$folder/pg_upgrade.out"));
$upgraded->start;
is(sql($upgraded, $predict), $expected, 'the upgraded cluster predicts the same');
is(sql($upgraded, q{SELECT count(*) FROM llmapp.jobs WHERE status IN ('running', 'queued')}), '0', 'no job runs in it');
cmp_ok(sql($upgraded, q{SELECT llm_train('small', 'SELECT x, y, c, above FROM points', target => 'above', params => '{"epochs": 1}', wait => true)}),
	'>', $next, 'its jobs are numbered on');
$upgraded->stop;

# recovery to a point in time, from the base backup, which has no weight files
my @files = glob($primary->backup_dir . '/base/llmapp/*');
is("@files", '', 'the base backup has no weight files');
my $recovered = PostgreSQL::Test::Cluster->new('recovered');
$recovered->init_from_backup($primary, 'base', has_restoring => 1, standby => 0);
$recovered->append_conf('postgresql.conf', "recovery_target_name = 'before'\nrecovery_target_action = 'promote'\narchive_mode = off");
$recovered->start;
$recovered->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'no end of recovery';
is(sql($recovered, $predict), $expected, 'the recovered server predicts the same');
is(sql($recovered, $jobs), $shown . 'interrupted', 'the job that ran at that moment is interrupted');
is(sql($recovered, "SELECT llm_cancel($running)"), 'cancelled', 'and can be cancelled');
cmp_ok(sql($recovered, q{SELECT llm_train('small', 'SELECT x, y, c, above FROM points', target => 'above', params => '{"epochs": 1}', wait => true)}),
	'>', $running, 'jobs can be submitted');
unlike(slurp_file($_->logfile), qr/PANIC|process[^\n]* was terminated by signal/, $_->name . ': nothing crashed') foreach $primary, $standby, $restored, $upgraded, $recovered;
done_testing();
