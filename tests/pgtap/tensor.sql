-- The type tensor: what the catalogs must say, and properties that hold for any value.
BEGIN;
SELECT plan(86);

SELECT has_type('tensor');
SELECT is((SELECT (typlen, typbyval, typalign, typstorage, typcategory)::text FROM pg_type WHERE oid = 'tensor'::regtype), '(-1,f,i,e,U)',
          'variable length, integer alignment, stored out of line uncompressed');
SELECT is((SELECT typsubscript::text FROM pg_type WHERE oid = 'tensor'::regtype), 'tensor_subscript', 'has subscripts');

SELECT has_function('llm_shape', ARRAY['tensor']);
SELECT function_returns('llm_shape', ARRAY['tensor'], 'integer[]');
SELECT has_function('llm_reshape', ARRAY['tensor', 'integer[]']);
SELECT function_returns('llm_reshape', ARRAY['tensor', 'integer[]'], 'tensor');
SELECT volatility_is('llm_shape', ARRAY['tensor'], 'immutable');
SELECT volatility_is('llm_reshape', ARRAY['tensor', 'integer[]'], 'immutable');
SELECT is_strict('llm_shape', ARRAY['tensor']);
SELECT is_strict('llm_reshape', ARRAY['tensor', 'integer[]']);
SELECT is((SELECT proargnames::text FROM pg_proc WHERE oid = 'llm_reshape'::regproc), '{value,shape}', 'arguments of llm_reshape are named');

SELECT cast_context_is('tensor', 'real[]', 'implicit');
SELECT cast_context_is('tensor', 'tensor', 'implicit');
SELECT cast_context_is('tensor', 'jsonb', 'assignment');
SELECT cast_context_is('jsonb', 'tensor', 'assignment');
SELECT cast_context_is(source, 'tensor', 'assignment')
  FROM unnest(ARRAY['real[]', 'double precision[]', 'smallint[]', 'integer[]', 'bigint[]', 'numeric[]']) AS source;

SELECT has_operator('tensor', o, 'tensor', 'boolean') FROM unnest(ARRAY['=', '<>', '<', '<=', '>', '>=']::name[]) AS o;
SELECT has_opclass('tensor_ops');
SELECT is((SELECT array_agg(amname ORDER BY amname)::text FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod
            WHERE opcintype = 'tensor'::regtype AND opcdefault), '{btree,hash}', 'has default operator classes');
SELECT is((SELECT (oprcanhash, oprcanmerge, oprrest, oprjoin)::text FROM pg_operator WHERE oid = '=(tensor,tensor)'::regoperator),
          '(t,t,eqsel,eqjoinsel)', 'equality hashes, merges and estimates');
SELECT is((SELECT count(*) FROM pg_operator o JOIN pg_operator n ON n.oid = o.oprnegate JOIN pg_operator c ON c.oid = o.oprcom
            WHERE o.oprleft = 'tensor'::regtype AND n.oprnegate = o.oid AND c.oprcom = o.oid), 6::bigint,
          'negators and commutators point at each other');

-- values of every rank, many lengths and magnitudes, reproducible
CREATE TEMP TABLE sample AS
SELECT id, llm_reshape(array_agg(((id * 7919 + i * 104729) % 20001 - 10000) * 10.0 ^ ((id + i) % 61 - 33) ORDER BY i)::float8[]::tensor,
                       CASE id % 4 WHEN 0 THEN ARRAY[-1] WHEN 1 THEN ARRAY[-1, 2] WHEN 2 THEN ARRAY[2, -1, 1] ELSE ARRAY[1, 2, 2, -1] END) AS t
  FROM generate_series(1, 200) AS id, generate_series(1, 4 * (1 + id % 90)) AS i
 GROUP BY id;
SELECT is((SELECT count(*) FROM sample), 200::bigint, 'sample is there');
SELECT is_empty('SELECT id FROM sample WHERE t::text::tensor IS DISTINCT FROM t', 'text gives back the value');
SELECT is_empty('SELECT id FROM sample WHERE t::jsonb::tensor IS DISTINCT FROM t', 'jsonb gives back the value');
SELECT is_empty('SELECT id FROM sample WHERE t::real[]::tensor IS DISTINCT FROM t', 'real[] gives back the value');
SELECT is_empty('SELECT id FROM sample WHERE t::real[]::float8[]::tensor IS DISTINCT FROM t', 'double precision[] gives back the value');
SELECT is_empty('SELECT id FROM sample WHERE t::text::jsonb::tensor IS DISTINCT FROM t', 'text of a tensor is JSON');
SELECT is_empty($$SELECT id FROM sample WHERE translate(t::text, '[]', '{}')::real[] IS DISTINCT FROM t::real[]$$,
                'text of a tensor is the text of an array in other brackets');
SELECT is_empty('SELECT id FROM sample WHERE llm_reshape(llm_reshape(t, ARRAY[-1]), llm_shape(t)) IS DISTINCT FROM t',
                'reshape to one dimension and back gives back the value');
SELECT is_empty('SELECT id FROM sample WHERE length(tensor_send(t)) <> 4 + 4 * cardinality(llm_shape(t)) + 4 * cardinality(t::real[])',
                'binary form has the size of its parts');
SELECT is_empty($$SELECT id FROM sample WHERE llm_shape(t)
                  <> ARRAY(SELECT array_length(t::real[], d) FROM generate_series(1, array_ndims(t::real[])) AS d)$$,
                'shape is that of the array');
SELECT is_empty('SELECT id, i FROM sample, generate_series(1, 5) AS i WHERE id % 4 = 0 AND t[i] IS DISTINCT FROM (t::real[])[i]',
                'subscript is that of the array, rank 1');
SELECT is_empty('SELECT id, i, j FROM sample, generate_series(0, 9) AS i, generate_series(0, 3) AS j
                  WHERE id % 4 = 1 AND t[i][j] IS DISTINCT FROM (t::real[])[i][j]', 'subscript is that of the array, rank 2');
SELECT is_empty('SELECT id, i, j FROM sample, generate_series(0, 9) AS i, generate_series(0, 3) AS j
                  WHERE id % 4 = 2 AND t[j][i][1] IS DISTINCT FROM (t::real[])[j][i][1]', 'subscript is that of the array, rank 3');
SELECT is_empty('SELECT id, i, j FROM sample, generate_series(0, 9) AS i, generate_series(0, 3) AS j
                  WHERE id % 4 = 3 AND t[1][j][2][i] IS DISTINCT FROM (t::real[])[1][j][2][i]', 'subscript is that of the array, rank 4');
SELECT is_empty('SELECT a.id, b.id FROM sample a, sample b
                  WHERE (a.t = b.t) <> (a.t::text = b.t::text) OR (a.t = b.t) <> (tensor_cmp(a.t, b.t) = 0)
                     OR tensor_cmp(a.t, b.t) <> -tensor_cmp(b.t, a.t)', 'order is antisymmetric and agrees with equality');
SELECT is_empty($$SELECT a.id, b.id FROM sample a, sample b
                   WHERE cardinality(llm_shape(a.t)) = cardinality(llm_shape(b.t)) AND llm_shape(a.t) = llm_shape(b.t)
                     AND (a.t < b.t) <> (ARRAY(SELECT unnest(a.t::real[])) < ARRAY(SELECT unnest(b.t::real[])))$$,
                'order within a shape is that of the elements');
SELECT results_eq('SELECT id FROM sample ORDER BY t, id',
                  'SELECT id FROM sample ORDER BY cardinality(llm_shape(t)), llm_shape(t), ARRAY(SELECT unnest(t::real[])), id',
                  'order is by rank, lengths, elements');
SELECT cmp_ok((SELECT count(DISTINCT tensor_hash(t)) FROM sample), '>=', (SELECT count(DISTINCT t) - 1 FROM sample), 'hash tells values apart');

-- arithmetic and aggregates
SELECT has_operator('tensor', o, 'tensor', 'tensor') FROM unnest(ARRAY['+', '-', '*']::name[]) AS o;
SELECT has_operator('tensor', o, 'tensor', 'double precision') FROM unnest(ARRAY['<->', '<#>']::name[]) AS o;
SELECT has_operator('tensor', '*', 'double precision', 'tensor');
SELECT has_operator('double precision', '*', 'tensor', 'tensor');
SELECT is((SELECT count(*) FROM pg_operator o JOIN pg_operator c ON c.oid = o.oprcom
            WHERE o.oprname IN ('+', '*', '<->', '<#>') AND 'tensor'::regtype IN (o.oprleft, o.oprright) AND c.oprcom = o.oid
              AND c.oprleft = o.oprright), 6::bigint, 'all but the difference commute');
SELECT is_aggregate(a, ARRAY['tensor']) FROM unnest(ARRAY['sum', 'avg']::name[]) AS a;
SELECT is((SELECT count(*) FROM pg_proc p LEFT JOIN pg_operator o ON o.oprcode = p.oid
            WHERE ('tensor'::regtype = ANY (proargtypes) OR proname ~ '^tensor' OR proname = 'llm_image') AND proname !~ '^llm_(predict|prob)'
              AND (obj_description(p.oid, 'pg_proc') IS NULL OR o.oid IS NOT NULL AND obj_description(o.oid, 'pg_operator') IS NULL
                   OR proparallel <> 's' OR provolatile <> 'i')), 0::bigint, 'functions and operators have comments, are parallel safe and immutable');
SELECT is_empty('SELECT id FROM sample WHERE (t + t) - t IS DISTINCT FROM t OR t * 2 <> t + t OR 2 * t <> t + t OR t - t <> t * 0', 'sums and differences agree');
SELECT is_empty('SELECT a.id, b.id FROM sample a JOIN sample b ON llm_shape(a.t) = llm_shape(b.t)
                  WHERE a.t + b.t <> b.t + a.t OR (a.t <-> b.t) <> (b.t <-> a.t) OR (a.t <#> b.t) <> (b.t <#> a.t) OR (a.t = b.t) <> ((a.t <-> b.t) = 0)',
                'operators commute, and only equal tensors have no distance');
SELECT is_empty('SELECT a.id, b.id FROM sample a JOIN sample b ON llm_shape(a.t) = llm_shape(b.t),
                  LATERAL (SELECT sqrt(sum((x - y) ^ 2)) AS distance, -sum(x * y) AS product, sqrt(sum(x * x) * sum(y * y)) AS size
                             FROM unnest(a.t::real[]::float8[], b.t::real[]::float8[]) AS e(x, y)) AS w
                  WHERE abs((a.t <-> b.t) - distance) > 1e-12 * distance OR abs((a.t <#> b.t) - product) > 1e-12 * size', 'distances are those of the elements');
CREATE TEMP TABLE sums AS
SELECT id % 4 AS rank, cardinality(t::real[]) AS n, sum(t) AS sum, avg(t) AS avg, count(*) FROM sample GROUP BY 1, 2;
SELECT is_empty('SELECT rank, n FROM sums WHERE count = 1 AND (sum <> avg OR NOT EXISTS (SELECT FROM sample WHERE t = sum))', 'sum and mean of one tensor are the tensor');
SELECT is_empty('SELECT rank, n FROM sums s, LATERAL (SELECT array_agg(total ORDER BY place) AS totals, array_agg(total / s.count ORDER BY place) AS means
                    FROM (SELECT place, sum(x::float8) AS total FROM sample z, unnest(z.t::real[]) WITH ORDINALITY AS e(x, place)
                           WHERE z.id % 4 = s.rank AND cardinality(z.t::real[]) = s.n GROUP BY place) AS w) AS v
                  WHERE llm_reshape(s.sum, ''{-1}'') <> totals::tensor OR llm_reshape(s.avg, ''{-1}'') <> means::tensor',
                'aggregates are those of the elements');

-- the same result from several processes; integers, so that the order of additions does not matter
CREATE TABLE shared_rows AS
SELECT id, id % 5 AS kind, CASE WHEN id % 11 <> 0 THEN ARRAY[[id % 101, -id % 7], [id, 3 * id % 1009]]::tensor END AS t FROM generate_series(1, 20000) AS id;
ANALYZE shared_rows;
SET LOCAL max_parallel_workers_per_gather = 0;
CREATE TEMP TABLE serial AS SELECT kind, sum(t) AS sum, avg(t) AS avg FROM shared_rows GROUP BY ROLLUP (kind);
SET LOCAL max_parallel_workers_per_gather = 2;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL parallel_leader_participation = off;
CREATE FUNCTION plan_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text; plan text := '';
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP plan := plan || line || E'\n'; END LOOP;
    RETURN plan;
END $$;
SELECT matches(plan_of(query), '(?s)Finalize.*Partial', 'plan is parallel: ' || query)
  FROM (VALUES ('SELECT sum(t), avg(t) FROM shared_rows'), ('SELECT kind, sum(t), avg(t) FROM shared_rows GROUP BY kind')) AS v(query);
SELECT results_eq('SELECT sum(t), avg(t) FROM shared_rows', 'SELECT sum, avg FROM serial WHERE kind IS NULL', 'workers sum as one process does');
SELECT results_eq('SELECT kind, sum(t), avg(t) FROM shared_rows GROUP BY kind ORDER BY kind',
                  'SELECT * FROM serial WHERE kind IS NOT NULL ORDER BY kind', 'workers sum groups as one process does');
SELECT results_eq('SELECT sum(t) FROM shared_rows WHERE id % 11 = 0', 'SELECT NULL::tensor', 'workers that see only NULL');
SELECT throws_ok('SELECT sum(t) FROM (SELECT CASE WHEN id % 2 = 0 THEN t ELSE llm_reshape(t, ''{4}'') END AS t FROM shared_rows) AS s', '22000', NULL,
                 'workers refuse to add tensors of different shapes');
RESET max_parallel_workers_per_gather;

-- pictures
SELECT has_function('llm_image', ARRAY['bytea', 'integer', 'integer', 'integer']);
SELECT function_returns('llm_image', ARRAY['bytea', 'integer', 'integer', 'integer'], 'tensor');
SELECT isnt_strict('llm_image', ARRAY['bytea', 'integer', 'integer', 'integer']);
SELECT is((SELECT (proargnames, pronargdefaults)::text FROM pg_proc WHERE oid = 'llm_image'::regproc), '("{data,width,height,channels}",3)',
          'arguments of llm_image are named, all but the first have defaults');
SELECT is_empty($$SELECT id FROM sample, LATERAL (SELECT ARRAY(SELECT mod(trunc(abs(x)::numeric), 256)::int FROM unnest(t::real[]) AS x) AS samples) AS s
                   WHERE llm_image(convert_to('P5 ' || cardinality(samples) || ' 1 255 ', 'UTF8') || (SELECT string_agg(decode(lpad(to_hex(x), 2, '0'), 'hex'), '' ORDER BY i)
                                                                                       FROM unnest(samples) WITH ORDINALITY AS e(x, i)))
                      <> llm_reshape((SELECT array_agg(x::real / 255 ORDER BY i) FROM unnest(samples) WITH ORDINALITY AS e(x, i))::tensor, '{1,1,-1}')$$,
                'samples become their share of the largest');
SELECT is_empty($$SELECT w, h FROM generate_series(1, 12) AS w, generate_series(1, 12) AS h, (VALUES ('P3 4 3 1 ' || repeat('1 0 1 ', 12))) AS p(file)
                   WHERE llm_shape(llm_image(file::bytea, w, h)) <> ARRAY[3, h, w]
                      OR (llm_image(file::bytea, w, h) <-> llm_image('P3 1 1 1 1 0 1', w, h)) > 1e-5$$,
                'every size is made, and one color stays it');
SELECT throws_ok($$SELECT llm_image('P5 2 2 255 abc')$$, 'XX001', 'PGM picture is truncated');

-- a column that holds its shape, whatever way a value takes
CREATE TABLE picture (id int, pixels tensor(2, 2));
SELECT col_type_is('picture', 'pixels', 'tensor(2,2)');
SELECT lives_ok('INSERT INTO picture VALUES (1, ARRAY[[1,2],[3,4]])', 'array of the shape');
SELECT throws_ok('INSERT INTO picture VALUES (1, ARRAY[1,2,3,4])', '22000', 'value of shape (4) does not fit type tensor(2,2)');
SELECT throws_ok('UPDATE picture SET pixels = ''[[1,2]]''', '22000', 'value of shape (1,2) does not fit type tensor(2,2)');
SELECT throws_ok('ALTER TABLE picture ALTER pixels TYPE tensor(4)', '22000', 'value of shape (2,2) does not fit type tensor(4)');
SELECT lives_ok('ALTER TABLE picture ALTER pixels TYPE tensor(4) USING llm_reshape(pixels, ''{4}'')', 'column takes another shape');
SELECT lives_ok('ALTER TABLE picture ALTER pixels TYPE tensor', 'column takes any shape');

SELECT * FROM finish();
ROLLBACK;
