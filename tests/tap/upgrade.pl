# Every upgrade script that is shipped: a database that began with an older version and was updated has the same
# objects, to the letter of their definitions, as one that began with the newest; models and jobs survive.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('upgrade', 'llmapp.progress_notices = off');
sub sql { my ($query, $database) = @_; return $node->safe_psql($database // 'postgres', $query); }

# What the extension consists of; numbers of objects that differ between databases are written as names.
my $catalog = q{
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
	SELECT concat_ws(' ', d.type, d.identity,
		CASE d.classid WHEN 'pg_proc'::regclass THEN
			(SELECT concat_ws(' ', CASE WHEN prokind = 'a' THEN (SELECT row_to_json(a)::text FROM (SELECT aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn, agginitval) AS a)
					ELSE pg_get_functiondef(p.oid) END, prosupport::regproc::text, proacl::text)
			 FROM pg_proc AS p LEFT JOIN pg_aggregate ON aggfnoid = p.oid WHERE p.oid = d.objid)
		WHEN 'pg_class'::regclass THEN
			(SELECT concat_ws(' ', relkind, relpersistence, relacl::text, reloptions::text, CASE relkind WHEN 'v' THEN pg_get_viewdef(c.oid) WHEN 'i' THEN pg_get_indexdef(c.oid) END,
				(SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attstorage, attacl::text,
						pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)), ', ' ORDER BY attnum)
				 FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum) WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
				(SELECT string_agg(pg_get_constraintdef(k.oid), ', ' ORDER BY conname) FROM pg_constraint AS k WHERE conrelid = c.oid),
				(SELECT string_agg(pg_get_indexdef(indexrelid), ', ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = c.oid))
			 FROM pg_class AS c WHERE c.oid = d.objid)
		WHEN 'pg_type'::regclass THEN
			(SELECT concat_ws(' ', typtype, typlen, typalign, typstorage, typinput, typoutput, typreceive, typsend, typmodin, typmodout, typsubscript, typacl::text) FROM pg_type AS t WHERE t.oid = d.objid)
		WHEN 'pg_cast'::regclass THEN (SELECT concat_ws(' ', castfunc::regproc, castcontext, castmethod) FROM pg_cast AS c WHERE c.oid = d.objid)
		WHEN 'pg_operator'::regclass THEN
			(SELECT concat_ws(' ', oprcode, oprrest, oprjoin, oprcom::regoper::text <> '-', oprnegate::regoper::text <> '-', oprcanmerge, oprcanhash) FROM pg_operator AS o WHERE o.oid = d.objid)
		END, obj_description(d.objid, d.classid::regclass::text)) AS line
	FROM (SELECT classid, objid, (pg_identify_object(classid, objid, objsubid)).* FROM pg_depend
		  WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'llmapp')) AS d
) AS lines};
my $config = q{SELECT extversion, (SELECT string_agg(c::regclass || ' ' || f, ', ' ORDER BY c::regclass::text) FROM unnest(extconfig, extcondition) AS t(c, f)) FROM pg_extension WHERE extname = 'llmapp'};

my ($newest) = slurp_file('llmapp.control') =~ /^default_version = '(.+)'/m;
my @fresh = (sql($catalog), sql($config));
like($fresh[1], qr/^\Q$newest\E\|/, "a new installation has version $newest");
cmp_ok(scalar(my @lines = split /\n/, $fresh[0]), '>', 100, 'and many objects');
is(sql(q{SELECT llm_version()}), $newest, 'the library has the version of the script');

# The scripts as files: an installation of each version that has one, and the ways from there.
my @scripts = map { m{/llmapp--([^/]+)\.sql$} ? [ split /--/, $1 ] : () } glob('sql/llmapp--*.sql');
my @installable = map { @$_ == 1 ? $_->[0] : () } @scripts;
ok((grep { $_ eq $newest } @installable), "there is a script that installs $newest");
foreach my $update (grep { @$_ == 2 } @scripts)
{
	my ($from, $to) = @$update;
	ok((grep { @$_ == 2 && $_->[0] eq $to } @scripts) || $to eq $newest, "the way from $from to $to goes on to $newest");
	ok((grep { $_ eq $from } @installable) || (grep { @$_ == 2 && $_->[1] eq $from } @scripts), 'and begins at a version that is tested');
}
foreach my $version (grep { $_ ne $newest } @installable)
{
	sql('CREATE DATABASE older');
	sql("CREATE EXTENSION llmapp VERSION '$version'", 'older');
	sql('ALTER EXTENSION llmapp UPDATE', 'older');
	is(sql($catalog, 'older'), $fresh[0], "$version updated to $newest has the objects of $newest");
	is(sql($config, 'older'), $fresh[1], 'and the same configuration');
	sql('DROP DATABASE older');
}

# The same script gives the same objects, which also shows that the comparison does not see what may differ.
sql('CREATE DATABASE again');
sql('CREATE TABLE earlier (i int); CREATE EXTENSION llmapp', 'again');
is(sql($catalog, 'again'), $fresh[0], 'another database has the same objects');
sql('CREATE OR REPLACE FUNCTION llm_version() RETURNS text LANGUAGE sql AS $$ SELECT NULL $$', 'again');
isnt(sql($catalog, 'again'), $fresh[0], 'and one that was changed is seen');
sql('ALTER EXTENSION llmapp UPDATE');
is(sql('SELECT extversion FROM pg_extension WHERE extname = $$llmapp$$'), $newest, 'an update of the newest version does nothing');
$node->stop;
done_testing();
