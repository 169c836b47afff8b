# Preloaded: plain predictions become batched ones where that pays, with the same results in the same order.
use strict;
use warnings;
use LlmappTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_node('batching', "shared_preload_libraries = 'llmapp'", 'max_parallel_workers_per_gather = 0');
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub plan_of { return sql("EXPLAIN (VERBOSE, COSTS OFF) $_[0]"); }

sql(slurp_file('tests/handmade_model.sql'));
sql(q{CREATE TABLE large OF llmapp.model_part (PRIMARY KEY (version, part));
	CREATE TABLE tiny OF llmapp.model_part (PRIMARY KEY (version, part));
	CREATE TABLE broken OF llmapp.model_part (PRIMARY KEY (version, part));
	SELECT handmade_version('large', 1, 32, 600, 1, 0), handmade_version('tiny', 1, 32, 0, 1, 1);
	SELECT llm_promote('large', 1), llm_promote('tiny', 1);
	CREATE TABLE rows AS SELECT i AS id, CASE WHEN i % 7 > 0 THEN array_fill((i % 13)::real, ARRAY[32]) END AS x, i % 5 AS part FROM generate_series(1, 5000) AS i;
	CREATE TABLE few AS SELECT * FROM rows WHERE id <= 50;
	ALTER TABLE rows ADD PRIMARY KEY (id);
	CREATE VIEW predicted AS SELECT id, part, llm_predict('large', x) AS p FROM rows;
	CREATE VIEW over_view AS SELECT id, p || '!' AS p FROM predicted;
	ANALYZE});

# Every query gives the same rows in the same order with and without the hook; those of the first list are batched.
my %batched = (
	'a table' => q{SELECT id, llm_predict('large', x) FROM rows},
	'in an expression' => q{SELECT id, llm_predict('large', x)::float8 + 1, upper(llm_predict('large', x)) FROM rows},
	'a row as input' => q{SELECT id, llm_predict('large', r) FROM rows r},
	'a condition' => q{SELECT id, llm_predict('large', x) FROM rows WHERE part < 4},
	'a prediction as condition' => q{SELECT id, llm_predict('large', x) FROM rows WHERE llm_predict('tiny', x) <> '1'},
	'order' => q{SELECT id, llm_predict('large', x) AS p FROM rows ORDER BY part DESC, id},
	'order by the prediction' => q{SELECT id, llm_predict('large', x) AS p FROM rows ORDER BY p DESC NULLS LAST, id},
	'order by an index' => q{SELECT id, llm_predict('large', x) FROM rows ORDER BY id},
	'a join' => q{SELECT r.id, llm_predict('large', r.x) FROM rows r JOIN rows s ON s.id = r.id + 1},
	'two models' => q{SELECT id, llm_predict('large', x), llm_predict('large', ARRAY[1]::real[] || x[2:32]) FROM rows WHERE x IS NOT NULL},
	'a nested call' => q{SELECT id, llm_predict('large', array_fill(coalesce(llm_predict('tiny', x), '0')::real, ARRAY[32])) FROM rows},
	'a view' => q{SELECT * FROM predicted},
	'a view of a view' => q{SELECT p, id FROM over_view ORDER BY id DESC},
	'a subquery' => q{SELECT s.p, s.id FROM (SELECT id, llm_predict('large', x) AS p FROM rows) AS s},
	'from a CTE' => q{WITH c AS MATERIALIZED (SELECT * FROM rows WHERE part = 1 OR part > 1) SELECT id, llm_predict('large', x) FROM c},
	'a scalar subquery beside it' => q{SELECT id, llm_predict('large', x), (SELECT max(id) FROM few) FROM rows});
my %plain = (
	'few rows' => q{SELECT id, llm_predict('large', x) FROM few},
	'one row' => q{SELECT id, llm_predict('large', x) FROM rows WHERE id = 5},
	'a small network' => q{SELECT id, llm_predict('tiny', x) FROM rows},
	'a limit' => q{SELECT id, llm_predict('large', x) FROM rows ORDER BY id LIMIT 2000},
	'an offset' => q{SELECT id, llm_predict('large', x) FROM rows ORDER BY id OFFSET 2000},
	'a limit above' => q{SELECT * FROM (SELECT id, llm_predict('large', x) FROM rows) AS s LIMIT 1500},
	'a condition above' => q{SELECT * FROM predicted WHERE id BETWEEN 100 AND 3000},
	'a join above' => q{SELECT p FROM predicted JOIN rows USING (id)},
	'a count above' => q{SELECT count(p) FROM predicted},
	'an aggregate' => q{SELECT count(llm_predict('large', x)) FROM rows},
	'grouping' => q{SELECT llm_predict('large', x) AS p, count(*) FROM rows GROUP BY 1 ORDER BY 1},
	'distinct' => q{SELECT DISTINCT llm_predict('large', x) AS p FROM rows ORDER BY 1},
	'a window' => q{SELECT id, llm_predict('large', x), row_number() OVER (ORDER BY id) FROM rows},
	'a union' => q{SELECT id, llm_predict('large', x) FROM rows UNION ALL SELECT id, llm_predict('large', x) FROM rows},
	'a set-returning function' => q{SELECT id, llm_predict('large', x), generate_series(1, 2) FROM rows},
	'a case' => q{SELECT id, CASE WHEN part > 2 THEN llm_predict('large', x) END FROM rows},
	'coalesce' => q{SELECT id, coalesce(x::text, llm_predict('large', x)) FROM rows},
	'a volatile function beside it' => q{SELECT id, llm_predict('large', x), clock_timestamp() IS NULL FROM rows},
	'a subquery as input' => q{SELECT id, llm_predict('large', (SELECT r.x)) FROM rows r},
	'a model of the row' => q{SELECT id, llm_predict(CASE WHEN part = 1 THEN 'large' ELSE 'tiny' END::text::regclass, x) FROM rows},
	'no model' => q{SELECT id, llm_predict(NULL, x) FROM rows},
	'a CTE' => q{WITH c AS (SELECT id, llm_predict('large', x) AS p FROM rows) SELECT * FROM c WHERE id < 2000},
	'exists' => q{SELECT id FROM few WHERE EXISTS (SELECT llm_predict('large', x) FROM rows)},
	'lateral' => q{SELECT f.id, p FROM few f, LATERAL (SELECT llm_predict('large', f.x) AS p FROM rows WHERE id < 3) AS l});

sub same_rows
{
	my ($name, $query) = @_;
	is(sql("SET llmapp.batch_predictions = on; $query"), sql("SET llmapp.batch_predictions = off; $query"), "$name: same rows in the same order");
	return;
}

foreach my $name (sort keys %batched)
{
	like(plan_of($batched{$name}), qr/WindowAgg.*llm_predict_over\('large'::regclass.* OVER \(\?\)/s, "$name: batched");
	same_rows($name, $batched{$name});
}
foreach my $name (sort keys %plain)
{
	unlike(plan_of($plain{$name}), qr/llm_predict_over/, "$name: plain");
	same_rows($name, $plain{$name});
}
unlike(sql("SET llmapp.batch_predictions = off; EXPLAIN VERBOSE $batched{'a table'}"), qr/WindowAgg/, 'the setting switches it off');
like(sql("SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	EXPLAIN VERBOSE $batched{'a table'}"), qr/Gather.*llm_predict\(/s, 'a parallel plan stays');

# statements that keep a plan, write, or are not SELECT
is(sql(q{PREPARE p(int) AS SELECT id, llm_predict('large', x) FROM rows WHERE id > $1; EXPLAIN EXECUTE p(1); EXECUTE p(4998)}) =~ /WindowAgg.*4999\|.*5000\|/s, 1, 'a prepared statement');
is(sql(q{SET plan_cache_mode = force_generic_plan; PREPARE p(int) AS SELECT id, llm_predict('large', x) FROM rows WHERE part <> $1; EXPLAIN EXECUTE p(1); DEALLOCATE p}) =~ /WindowAgg/, 1, 'with a generic plan');
sql(q{CREATE TABLE made AS SELECT id, llm_predict('large', x) AS p FROM rows; CREATE TABLE filled (id int, p text);
	INSERT INTO filled SELECT id, llm_predict('large', x) FROM rows; CREATE MATERIALIZED VIEW kept AS SELECT id, llm_predict('large', x) AS p FROM rows});
foreach my $table ('made', 'filled', 'kept')
{
	is(sql("SET llmapp.batch_predictions = off; SELECT count(*) FROM $table JOIN rows USING (id) WHERE p IS NOT DISTINCT FROM llm_predict('large', x)"), '5000', "rows of table $table");
}
like(plan_of(q{INSERT INTO filled SELECT id, llm_predict('large', x) FROM rows}), qr/Insert on.*llm_predict_over/s, 'INSERT is batched');
like(plan_of(q{CREATE TABLE other AS SELECT llm_predict('large', x) FROM rows}), qr/llm_predict_over/, 'and CREATE TABLE AS');
unlike(sql(q{SELECT pg_get_viewdef('predicted'::regclass) || pg_get_viewdef('kept'::regclass)}), qr/over/, 'views keep what was written');
same_rows('UPDATE', q{BEGIN; UPDATE filled SET p = llm_predict('large', x) || '.' FROM rows WHERE rows.id = filled.id RETURNING filled.*; ROLLBACK});
same_rows('a scrolling cursor', q{BEGIN; DECLARE c SCROLL CURSOR FOR SELECT id, llm_predict('large', x) FROM rows; FETCH 3 FROM c; FETCH ABSOLUTE 700 FROM c; FETCH BACKWARD 2 FROM c; COMMIT});
same_rows('a function', q{CREATE OR REPLACE FUNCTION f() RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT llm_predict('large', x) FROM rows; END $$; SELECT * FROM f()});
sql(q{ALTER TABLE rows ENABLE ROW LEVEL SECURITY; CREATE ROLE reader; CREATE POLICY part ON rows USING (part > 0); GRANT SELECT ON rows TO reader; GRANT SELECT (meta) ON large TO reader});
my @visible = split /\n/, sql(q{SET ROLE reader; SELECT id, llm_predict('large', x) FROM rows}), -1;
is(scalar(@visible) . ' ' . scalar(grep { /\|\d/ } @visible), '4000 3428', 'row security');

# what cannot be opened is for the executor to say
sub fails { my ($script) = @_; my ($status, $out, $err) = $node->psql('postgres', $script); return $err; }
unlike(plan_of(q{SELECT llm_predict('broken', x) FROM rows}), qr/llm_predict_over/, 'a model without a version is not batched');
like(fails(q{SELECT llm_predict('broken', x) FROM rows}), qr/model "broken" has no live version/, 'and is the same error');
like(fails(q{SELECT llm_predict('rows', x) FROM rows}), qr/"rows" is not a model/, 'a table that is no model');
sql('REVOKE ALL ON large FROM reader');
unlike(fails(q{SET ROLE reader; EXPLAIN SELECT llm_predict('large', x) FROM rows}), qr/permission denied/, 'planning checks no privilege');
like(fails(q{SET ROLE reader; SELECT llm_predict('large', x) FROM rows}), qr/permission denied for model "large"/, 'execution does');
like(fails(q{SELECT llm_predict('large', x[1:3]) FROM rows}), qr/ERROR/, 'a wrong row is an error');

# without the extension nothing happens
sql('CREATE DATABASE empty');
is($node->safe_psql('empty', 'SELECT count(*) FROM pg_class WHERE relname = $$none$$'), '0', 'a database without the extension');
done_testing();
