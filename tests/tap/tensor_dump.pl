# Columns, domains, defaults, indexes and values of type tensor survive pg_dump and restore.
use strict;
use warnings;
use IPC::Run;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('tensor_dump');
$node->safe_psql('postgres', q{
	CREATE DATABASE restored;
	CREATE TABLE picture (id int PRIMARY KEY, pixels tensor(2,3) DEFAULT '[[1,2,3],[4,5,6]]', any_shape tensor,
						  first real GENERATED ALWAYS AS (pixels[1][1]) STORED,
						  CHECK (llm_shape(any_shape) = '{3,1,1}'));
	CREATE INDEX ON picture (pixels);
	CREATE INDEX ON picture USING hash (any_shape);
	CREATE DOMAIN positive AS tensor(2) CHECK (VALUE[1] > 0 AND VALUE[2] > 0);
	CREATE TABLE other (p positive, list tensor(3,2)[]);
	CREATE VIEW corners AS SELECT id, pixels[2][3] AS corner, pixels::tensor(2,3) AS whole FROM picture;
	INSERT INTO picture VALUES (1, DEFAULT, '[[[1]],[[0.1]],[[1e-45]]]'), (2, NULL, '[[[-0]],[[3.4028235e38]],[[16777216]]]');
	INSERT INTO other VALUES ('[1,2]', ARRAY['[[1,2],[3,4],[5,6]]'::tensor]);
});

# A dump without the random words that pg_dump puts around it.
sub dump_of
{
	my ($database) = @_;
	my ($stdout, $stderr);
	IPC::Run::run([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-d', $database ], '>', \$stdout, '2>', \$stderr)
	  or die $stderr;
	$stdout =~ s/^\\(un)?restrict .*$//mg;
	return $stdout;
}

my $dump = dump_of('postgres');
like($dump, qr/pixels public\.tensor\(2,3\) DEFAULT/, 'the shape of a column is dumped');
like($dump, qr/DOMAIN public\.positive AS public\.tensor\(2\)/, 'the shape of a domain is dumped');
like($dump, qr/list public\.tensor\(3,2\)\[\]/, 'the shape of the elements of an array is dumped');
my $file = $node->basedir . '/dump.sql';
append_to_file($file, $dump);
$node->safe_psql('restored', undef, extra_params => [ '-v', 'ON_ERROR_STOP=1', '-f', $file ]);
is(dump_of('restored'), $dump, 'a restored database dumps the same');
is($node->safe_psql('restored', 'SELECT corner, whole FROM corners WHERE id = 1'), '6|[[1,2,3],[4,5,6]]', 'values and views work');
done_testing();
