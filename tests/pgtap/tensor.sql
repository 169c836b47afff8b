-- The type tensor: what the catalogs must say, and properties that hold for any value.
BEGIN;
SELECT plan(57);

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
