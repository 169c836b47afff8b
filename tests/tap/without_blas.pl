# Without OpenBLAS everything works by kernels of our own, slower; llm_selftest() says which arithmetic is used.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('without_blas');
$node->init;
configure_node($node, 'llmapp.progress_notices = off');
# An empty file in front of the library's folder hides it: it cannot be opened.
my $folder = $node->basedir . '/hidden';
mkdir $folder or die $!;
append_to_file("$folder/libopenblas.so.0", '');

sub start { local $ENV{LD_LIBRARY_PATH} = $_[0]; $node->start; return; }
sub sql { return $node->safe_psql('postgres', $_[0]); }
my $arithmetic = q{SELECT detail FROM llm_selftest() WHERE test = 'matrix product'};
my $train = q{SELECT llm_train('%s', 'points', target => 'above', params => '{"epochs": 5, "hidden": [64, 64]}', wait => true)};
my $predict = q{SELECT string_agg(round(llm_probability('%s', p)::numeric, 3)::text, ' ' ORDER BY i) FROM points AS p WHERE i <= 40};

start('');
sql(q{CREATE EXTENSION llmapp; CREATE TABLE points AS SELECT i, sin(i) AS x, cos(i) AS y, 'c' || i % 7 AS c, sin(i) > cos(i) AS above
	FROM generate_series(1, 2000) AS i});
my $with = sql($arithmetic);
sql(sprintf $train, 'with_blas');
my $expected = sql(sprintf $predict, 'with_blas');
my $accuracy = sql(q{SELECT value FROM llm_evaluate('with_blas') WHERE metric = 'accuracy'});
$node->stop;

start($folder);
like(sql($arithmetic), qr/built-in/, 'the self-test says that there is no OpenBLAS');
SKIP:
{
	skip 'there is no OpenBLAS at all', 1 if $with =~ /built-in/;
	like($with, qr/openblas/i, 'as it names OpenBLAS where there is one');
}
like(sql(q{SELECT kernels FROM llmapp.devices WHERE device = 'cpu'}), qr/OpenBLAS cannot be opened/, 'and so do the devices');
is(sql('SELECT count(*) FROM llm_selftest() WHERE NOT passed'), '0', 'all its tests pass');
is(sql(sprintf $predict, 'with_blas'), $expected, 'a model that was trained with it predicts the same');
is(sql(q{SELECT count(*) FROM (SELECT llm_predict_over('with_blas', p) OVER () AS over, llm_predict('with_blas', p) AS one FROM points AS p) AS t WHERE over <> one}),
	'0', 'many rows at once, too');
sql(sprintf $train, 'without');
cmp_ok(abs(sql(q{SELECT value FROM llm_evaluate('without') WHERE metric = 'accuracy'}) - $accuracy), '<', 0.05, 'a model can be trained, as good as the other');
sql(q{SELECT llm_score('without', 'points', 'scores', key => '{i}', wait => true)});
is(sql('SELECT count(prediction) FROM scores'), '2000', 'and score a table');
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'nothing crashed');
done_testing();
