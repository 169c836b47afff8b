# Every function, operator, aggregate and cast of the extension with arguments that nobody would choose: each call gives
# a value or an error of its own, never an internal one (XX000), and no process dies.
# LLMAPP_TEST_LONG=1 makes 60,000 calls instead of 4,000; LLMAPP_TEST_SEED chooses others.
use strict;
use warnings;
use IPC::Run;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $calls = $ENV{LLMAPP_TEST_LONG} ? 60000 : 4000;
my $seed = $ENV{LLMAPP_TEST_SEED} // 42;
my $node = start_node('random_calls', 'llmapp.progress_notices = off', 'statement_timeout = 10s');
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{CREATE TABLE points AS SELECT i AS id, sin(i) AS x, cos(i) AS y, 'c' || i % 5 AS c, sin(i) > cos(i) AS above FROM generate_series(1, 300) AS i});
sql(qq{SELECT llm_train('$_', 'SELECT x, y, c, above FROM points', target => '}. ($_ eq 'classes' ? 'above' : 'y') . q{', params => '{"epochs": 2}', wait => true)})
  foreach qw(classes numbers);
sql(q{CREATE ROLE stranger LOGIN; GRANT ALL ON SCHEMA public TO stranger; GRANT ALL ON ALL TABLES IN SCHEMA public TO stranger;
	ALTER TABLE classes OWNER TO stranger});

# Values by type; what is missing here is drawn from the unknown literals.
my @words = ("''", "' '", "'a'", "E'\\u00e9\\u4e2d'", "'classes'", "'public.classes'", "'points'", "'SELECT * FROM points'", "'SELECT 1'",
	"'x'", "'above'", "'nosuch'", "'{}'", "'[]'", "'[1,2]'", "repeat('x', 70000)", "'mlp'", "'regression'", "'1 min'", "'\"'", "';'", "'SELECT 1/0'");
my @integers = qw(0 1 2 3 -1 2147483647 -2147483648 65536 1000000);
my @tensors = ("'[1,2,3]'", "'[[1,2],[3,4]]'", "'[0]'", "'[[[[1]]]]'", "'[3.4e38,-3.4e38]'", "'[1e-45,-0]'", "(SELECT array_agg(i)::real[] FROM generate_series(1, 5000) AS i)");
my %values = (
	text => \@words, name => \@words, cstring => [ "'x'" ], json => [ "'{}'", "'[1,2]'" ],
	jsonb => [ "'{}'", "'[]'", "'null'", "'1e400'", "'{\"x\": 1, \"y\": 2, \"c\": \"c1\"}'", "'{\"x\": \"1\", \"y\": [1], \"c\": {}}'", "'[[1,2],[3]]'", "'{\"epochs\": 1}'", "'\"a\"'" ],
	regclass => [ "'classes'", "'numbers'", "'points'", "'pg_class'", "'llmapp.job'", "'llmapp.models'", '0', '4294967295', "'points_pkey'" ],
	oid => [ 0, 1, 1259, 4294967295 ], boolean => [ qw(true false) ], integer => \@integers,
	bigint => [ @integers, '9223372036854775807' ], smallint => [ qw(0 1 -1 32767) ],
	real => [ qw(0 1 -1.5 1e38), "'NaN'", "'-Infinity'" ], 'double precision' => [ qw(0 1 -1.5 1e308), "'NaN'", "'Infinity'" ],
	numeric => [ qw(0 1e100), "'NaN'" ], interval => [ "'0'", "'-1 day'", "'100000000 years'" ], tensor => \@tensors,
	bytea => [ "''", "'\\x00'", "'\\x0101000000000003'", "(SELECT tensor_send('[1,2]'))" ], anyelement => [ 'NULL::text', 'NULL::boolean', 'NULL::float8', 'NULL::tensor', '1', "'{1}'::int[]" ],
	'text[]' => [ "'{}'", "'{a,NULL}'", "'{{a},{b}}'" ], 'name[]' => [ "'{x}'" ], 'integer[]' => [ "'{}'", "'{1}'", "'{2,3}'", "'{0}'", "'{-1,4}'", "'{NULL}'", "'[0:1]={1,2}'", "'{1,1,1,1,1}'", "'{2147483647,2147483647}'" ]);
$values{"$_\[]"} = [ "'{}'", "'{1}'", "'{1,2,3}'", "'{{1,2},{3,4}}'", "'[-3:-1]={1,2,3}'", "'{1,NULL}'", "array_fill(1, ARRAY[5000])", "'{{{{{1}}}}}'", ($_ =~ /int/ ? () : ("'{NaN}'", "'{Infinity}'", "'{1e30}'")) ]
  foreach ('real', 'double precision', 'numeric', 'smallint', 'bigint');
$values{record} = [ 'ROW(1)', 'ROW(1, NULL)', '(SELECT p FROM points AS p LIMIT 1)', "ROW('a', 2)::text", '(SELECT c FROM classes AS c LIMIT 1)' ];

sub draw
{
	my ($n) = @_;
	$seed = ($seed * 1103515245 + 12345) % 2147483648;
	return int($seed / 2147483648 * $n);
}

sub value
{
	my ($type) = @_;
	return 'NULL' if draw(12) == 0;
	return "($_->[draw(scalar @$_)])" . (draw(4) ? '' : '::text') foreach $values{$type} // ();
	return $words[draw(scalar @words)];
}

sub typed { my ($type) = @_; my $v = value($type); return $type =~ /^any|^record|^internal|unknown/ ? $v : "$v\::$type"; }

my $members = q{FROM pg_depend AS d WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'llmapp') AND d.classid};
# Name, kind, types of the arguments; functions that take a cstring or internal value cannot be called from SQL.
my @functions = map { [ split /\|/, $_, -1 ] } split /\n/, sql(qq{SELECT p.oid::regproc, p.prokind, array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t), ',')
	FROM pg_proc AS p WHERE p.oid IN (SELECT d.objid $members = 'pg_proc'::regclass) AND NOT 'internal'::regtype = ANY (p.proargtypes) AND p.prorettype NOT IN ('internal'::regtype, 'language_handler'::regtype) ORDER BY 1, 3});
my @operators = map { [ split /\|/, $_, -1 ] } split /\n/, sql(qq{SELECT o.oprname, CASE WHEN oprleft = 0 THEN '' ELSE format_type(oprleft, NULL) END, format_type(oprright, NULL)
	FROM pg_operator AS o WHERE o.oid IN (SELECT d.objid $members = 'pg_operator'::regclass) ORDER BY 1, 2, 3});
my @casts = map { [ split /\|/ ] } split /\n/, sql(qq{SELECT format_type(castsource, NULL), format_type(casttarget, NULL)
	FROM pg_cast WHERE oid IN (SELECT d.objid $members = 'pg_cast'::regclass) ORDER BY 1, 2});
cmp_ok(scalar @functions, '>', 40, scalar(@functions) . ' functions are called');
ok(@operators && @casts, scalar(@operators) . ' operators and ' . scalar(@casts) . ' casts');

sub call
{
	my ($name, $kind, $types) = @{ $functions[draw(scalar @functions)] };
	my @types = split /,/, $types;
	my $arguments = join ', ', map { draw(6) ? typed($_) : value($_) } @types;
	return "SELECT $name($arguments) FROM generate_series(1, " . draw(4) . ') AS i' if $kind eq 'a';
	return "SELECT $name($arguments) OVER () FROM points LIMIT 3" if $kind eq 'w';
	return draw(5) ? "SELECT $name($arguments)" : "SELECT * FROM $name($arguments) AS f LIMIT 5";
}

sub statement
{
	my $what = draw(10);
	return call() if $what < 7;
	if ($what < 9)
	{
		my ($name, $left, $right) = @{ $operators[draw(scalar @operators)] };
		return 'SELECT ' . ($left eq '' ? '' : typed($left)) . " $name " . typed($right);
	}
	my ($source, $target) = @{ $casts[draw(scalar @casts)] };
	return 'SELECT ' . typed($source) . "::$target" . ($target eq 'tensor' && draw(2) ? '(' . join(',', map { draw(5) } 0 .. draw(3)) . ')' : '');
}

# One session for each part; statements that change something are undone.
my ($sent, %states) = (0);
foreach my $role ('stranger', 'stranger', $ENV{USER} // 'postgres')
{
	my $script = "\\set VERBOSITY verbose\n\\o /dev/null\n" . ($role eq 'stranger' ? "SET ROLE stranger;\n" : '');
	for (1 .. $calls / 3)
	{
		my $statement = statement();
		next if $statement =~ /llm_wait|wait => true/;
		$script .= "BEGIN; $statement;\nROLLBACK;\n";
		$sent++;
	}
	my $errors = '';
	IPC::Run::run([ 'psql', '-Xq', '-d', $node->connstr('postgres') ], '<', \$script, '>', \my $out, '2>', \$errors);
	is($?, 0, 'the session lives on');
	unlike($errors, qr/server closed the connection|connection to server was lost/, 'its process did not die');
	$states{$1}++ while $errors =~ /ERROR:  (\w{5}):/g;
	my @internal = $errors =~ /^(.*ERROR:  XX\w{3}:.*)$/mg;
	is(scalar @internal, 0, 'no error is an internal one') or diag(join "\n", @internal);
}
my $failed = 0;
$failed += $_ foreach values %states;
cmp_ok($failed, '<', $sent * 0.97, "$failed of $sent calls fail");
note("SQLSTATE $_: $states{$_}") foreach sort { $states{$b} <=> $states{$a} } keys %states;
is(sql('SELECT passed FROM llm_selftest() WHERE NOT passed'), '', 'the self-test passes afterwards');
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|process[^\n]* was terminated by signal/, 'nothing crashed');
done_testing();
