-- Text form
SELECT '[1,2,3]'::tensor AS one, '[[1,2],[3,4]]'::tensor AS two, '[[[1],[2]]]'::tensor AS three,
       '[[[[1,2]]],[[[3,4]]]]'::tensor AS four;
SELECT E' [ [ +1 ,\t.5 ] ,\n[ -2. , 1e2 ] ] '::tensor AS spaced;
-- the shortest text that reads back as the same float
SELECT '[0.1, 1e-45, 1.17549435e-38, 3.4028235e38, -3.4028235e38, 16777217, 0.30000001]'::tensor AS extreme;
SELECT '[1e-60, -1e-60, -0]'::tensor AS below_the_smallest;
SET extra_float_digits = -3;
SELECT '[0.1234567]'::tensor;
RESET extra_float_digits;

-- Every malformed text has its own error
SELECT ''::tensor;
SELECT '   '::tensor;
SELECT '1'::tensor;
SELECT '{1,2}'::tensor;
SELECT ']'::tensor;
SELECT ',1]'::tensor;
SELECT '[]'::tensor;
SELECT '[[],[]]'::tensor;
SELECT '[1,[]]'::tensor;
SELECT '[[1,2],[3]]'::tensor;
SELECT '[[[1],[2]],[[3]]]'::tensor;
SELECT '[[1],2]'::tensor;
SELECT '[1,[2]]'::tensor;
SELECT '[1,2'::tensor;
SELECT '[[1,2],[3,4]'::tensor;
SELECT '['::tensor;
SELECT '[1,2]]'::tensor;
SELECT '[1,2] 3'::tensor;
SELECT '[1,2],[3]'::tensor;
SELECT '[1,,2]'::tensor;
SELECT '[,1]'::tensor;
SELECT '[1,]'::tensor;
SELECT '[1 2]'::tensor;
SELECT '[[1][2]]'::tensor;
SELECT '[1,x]'::tensor;
SELECT '[1}'::tensor;
SELECT '[été]'::tensor;
SELECT '["été",1e400]'::tensor;
SELECT '[1.2.3]'::tensor;
SELECT '[1e]'::tensor;
SELECT '[.]'::tensor;
SELECT '[-]'::tensor;
SELECT '[0x10]'::tensor;
SELECT '[1e39]'::tensor;
SELECT '[-1e39]'::tensor;
SELECT '[NaN]'::tensor;
SELECT '[1,-inf]'::tensor;
SELECT '[Infinity]'::tensor;
SELECT '[nano]'::tensor;
SELECT '[[[[[1]]]]]'::tensor;
SELECT ('[' || repeat('0,', 16 * 1024 * 1024) || '0]')::tensor;

-- Shape
SELECT llm_shape('[1,2,3]'), llm_shape('[[1,2,3],[4,5,6]]'), llm_shape('[[[[1]],[[2]]]]');
SELECT llm_reshape('[1,2,3,4,5,6]', '{2,3}'), llm_reshape('[1,2,3,4,5,6]', '{3,-1}'),
       llm_reshape('[[1,2],[3,4]]', '{-1}'), llm_reshape('[1,2]', '{1,1,1,2}');
SELECT llm_reshape(value => '[[1,2]]', shape => ARRAY[2]);
SELECT llm_reshape('[1,2,3,4,5,6]', '{4,2}');
SELECT llm_reshape('[1,2,3,4,5,6]', '{4,-1}');
SELECT llm_reshape('[1,2,3,4,5,6]', '{-1,-1}');
SELECT llm_reshape('[1,2,3,4,5,6]', '{-1,0}');
SELECT llm_reshape('[1,2,3,4,5,6]', '{-2,3}');
SELECT llm_reshape('[1,2]', '{}');
SELECT llm_reshape('[1,2]', '{1,1,1,1,2}');
SELECT llm_reshape('[1,2]', '{{1,2}}');
SELECT llm_reshape('[1,2]', '{1,NULL}');
SELECT llm_reshape('[1,2]', '{100000,100000}');
SELECT llm_reshape('[1,2]', NULL) IS NULL AS strict;

-- Subscripts: one element
SELECT t[1][1], t[1][2], t[2][1], t[2][2], pg_typeof(t[1][1]) FROM (SELECT '[[1,2],[3,4]]'::tensor) AS v(t);
SELECT t[0], t[1], t[3], t[4], t[NULL], t[2::bigint], t[1.6] FROM (SELECT '[10,20,30]'::tensor) AS v(t);
SELECT t[2][1][1][3] FROM (SELECT llm_reshape('[1,2,3,4,5,6]', '{2,1,1,3}')) AS v(t);
SELECT i, ('[5,6,7]'::tensor)[i] FROM generate_series(1, 3) AS i;
SELECT (NULL::tensor)[1] IS NULL AS strict;
SELECT t[1] FROM (SELECT '[[1,2],[3,4]]'::tensor) AS v(t);
SELECT t[1][1] FROM (SELECT '[1,2]'::tensor) AS v(t);
SELECT t[1][1][1][1][1] FROM (SELECT '[1,2]'::tensor) AS v(t);
SELECT t['x'] FROM (SELECT '[1,2]'::tensor) AS v(t);
SELECT t[now()] FROM (SELECT '[1,2]'::tensor) AS v(t);
SELECT t[1:2] FROM (SELECT '[1,2]'::tensor) AS v(t);
SELECT t[:] FROM (SELECT '[1,2]'::tensor) AS v(t);
SELECT t[:][1] FROM (SELECT '[[1,2]]'::tensor) AS v(t);
CREATE TEMP VIEW subscripted_view AS SELECT t[2][i] AS x FROM (SELECT '[[1,2],[3,4]]'::tensor) AS v(t), generate_series(1, 2) AS i;
SELECT pg_get_viewdef('subscripted_view'::regclass);
SELECT * FROM subscripted_view;
CREATE TEMP TABLE subscripted (t tensor);
INSERT INTO subscripted (t[1]) VALUES (1);
UPDATE subscripted SET t[1] = 2;

-- Comparison: by rank, then lengths, then elements; -0 equals 0
SELECT a::tensor, o, b::tensor,
       CASE o WHEN '<' THEN a::tensor < b::tensor AND a::tensor <= b::tensor AND a::tensor <> b::tensor
                            AND b::tensor > a::tensor AND b::tensor >= a::tensor
                            AND NOT a::tensor >= b::tensor AND NOT a::tensor > b::tensor AND NOT a::tensor = b::tensor
              ELSE a::tensor = b::tensor AND a::tensor <= b::tensor AND a::tensor >= b::tensor
                   AND NOT a::tensor < b::tensor AND NOT a::tensor > b::tensor AND NOT a::tensor <> b::tensor
                   AND tensor_hash(a::tensor) = tensor_hash(b::tensor)
                   AND tensor_hash_extended(a::tensor, 7) = tensor_hash_extended(b::tensor, 7) END AS holds,
       tensor_cmp(a::tensor, b::tensor) AS cmp
  FROM (VALUES ('[1]', '=', '[1.0]'), ('[0,1]', '=', '[-0,1]'), ('[9]', '<', '[[1]]'), ('[9]', '<', '[1,1]'),
               ('[[9,9]]', '<', '[[1],[1]]'), ('[1,2]', '<', '[1,3]'), ('[1,2]', '<', '[2,1]'),
               ('[-1]', '<', '[1]')) AS v(a, o, b);
-- with seed 0 the extended hash continues the plain one
SELECT tensor_hash(t) = tensor_hash_extended(t, 0)::bit(32)::integer AS same, tensor_hash_extended(t, 0) <> tensor_hash_extended(t, 1) AS seeded
  FROM (VALUES ('[1,2,3]'::tensor), ('[[0.5],[-0]]')) AS v(t);

CREATE TEMP TABLE compared (id int, t tensor);
INSERT INTO compared VALUES (1, '[2,1]'), (2, '[[1,2]]'), (3, '[1,2]'), (4, '[0]'), (5, '[-0]'), (6, NULL), (7, '[1,2]'), (8, '[1,2,3]');
SELECT t FROM compared ORDER BY t, id;
SELECT t FROM compared ORDER BY t DESC NULLS LAST, id LIMIT 2;
SELECT DISTINCT llm_shape(t) AS shape FROM compared ORDER BY 1;
SET enable_hashagg = off;
SELECT t = '[0]' AS zero, count(*) FROM (SELECT DISTINCT t FROM compared) AS d GROUP BY 1 ORDER BY 1;
SELECT max(id), count(*) FROM compared GROUP BY t ORDER BY 1;
RESET enable_hashagg;
SET enable_sort = off;
SELECT max(id), count(*) FROM compared GROUP BY t ORDER BY 1;
RESET enable_sort;
SET enable_nestloop = off;
SET enable_mergejoin = off;
EXPLAIN (COSTS off) SELECT a.id, b.id FROM compared a JOIN compared b USING (t);
SELECT a.id, b.id FROM compared a JOIN compared b USING (t) WHERE a.id < b.id ORDER BY 1, 2;
SET enable_hashjoin = off;
SET enable_mergejoin = on;
EXPLAIN (COSTS off) SELECT a.id, b.id FROM compared a JOIN compared b USING (t);
SELECT a.id, b.id FROM compared a JOIN compared b USING (t) WHERE a.id < b.id ORDER BY 1, 2;
RESET enable_nestloop;
RESET enable_mergejoin;
RESET enable_hashjoin;
CREATE INDEX ON compared (t);
CREATE INDEX ON compared USING hash (t);
ANALYZE compared;
SET enable_seqscan = off;
SELECT id FROM compared WHERE t = '[1,2]' ORDER BY id;
SELECT id FROM compared WHERE t >= '[1,2]' AND t < '[[0]]' ORDER BY t, id;
RESET enable_seqscan;
CREATE TEMP TABLE partitioned (t tensor) PARTITION BY HASH (t);
CREATE TEMP TABLE partition_0 PARTITION OF partitioned FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TEMP TABLE partition_1 PARTITION OF partitioned FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO partitioned SELECT t FROM compared WHERE t IS NOT NULL;
SELECT count(*) FROM partitioned WHERE t = '[0]';
