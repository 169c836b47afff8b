-- Element by element
SELECT a + b AS sum, a - b AS difference, a * b AS product
  FROM (VALUES ('[1,2,3]'::tensor, '[10,-20,0.5]'::tensor), ('[[1,2],[3,4]]', '[[0,1],[-1,2]]'), ('[[[[7]]]]', '[[[[-7]]]]')) AS v(a, b);
SELECT t + '[1,1]' AS literal, t - ARRAY[1, 2]::tensor AS from_array, t + NULL IS NULL AS strict FROM (SELECT '[5,6]'::tensor) AS v(t);
SELECT t * 2 AS by_int, 2 * t AS int_by, t * 0.5 AS by_numeric, 0.5::real * t AS real_by, t * -1::bigint AS by_bigint, 1e-3::float8 * t AS float8_by
  FROM (SELECT '[[1,-2],[3,4]]'::tensor) AS v(t);
SELECT pg_typeof('[1]'::tensor + '[1]'), pg_typeof('[1]'::tensor * 2), pg_typeof('[1]'::tensor <-> '[1]'), pg_typeof('[1]'::tensor <#> '[1]');
-- below the smallest real is zero
SELECT '[1e-30,1]'::tensor * '[1e-30,1]' AS product, '[1e-30]'::tensor * 1e-30 AS scaled;

-- Distances
SELECT '[0,0]'::tensor <-> '[3,4]' AS distance, '[[1,2],[3,4]]'::tensor <-> '[[1,2],[3,4]]' AS none,
       '[1,2,3]'::tensor <#> '[4,5,6]' AS negative_inner_product, '[1,0]'::tensor <#> '[0,1]' AS orthogonal,
       '[3e38]'::tensor <-> '[-3e38]' AS far, '[3e38,3e38]'::tensor <#> '[3e38,3e38]' AS large;
SELECT n, sqrt(n) AS expected, a <-> b AS distance, a <#> b AS product
  FROM (SELECT n, array_agg(i)::tensor AS a, array_agg(i + 1)::tensor AS b
          FROM unnest(ARRAY[1, 7, 8, 9, 100]) AS n, generate_series(1, n) AS i GROUP BY n) AS v ORDER BY n;
SELECT name FROM (VALUES ('far', '[9,9]'::tensor), ('near', '[1,1]'), ('same', '[0,1]')) AS v(name, t) ORDER BY t <-> '[0,1]';

-- Errors
SELECT '[1,2]'::tensor + '[1,2,3]';
SELECT '[[1,2,3],[4,5,6]]'::tensor - '[[1,2],[3,4],[5,6]]';
SELECT '[1,2]'::tensor * '[[1,2]]';
SELECT '[1,2]'::tensor <-> '[1]';
SELECT '[1,2]'::tensor <#> '[[[[1]]]]';
SELECT '[3e38]'::tensor + '[3e38]';
SELECT '[-3e38]'::tensor - '[3e38]';
SELECT '[1e20]'::tensor * '[1e20]';
SELECT '[1e20]'::tensor * 1e20;
SELECT '[1]'::tensor * 'NaN'::float8;
SELECT 'Infinity'::real * '[0]'::tensor;

-- Aggregates
CREATE TEMP TABLE measured (id int, kind text, t tensor);
INSERT INTO measured VALUES (1, 'a', '[1,2]'), (2, 'a', '[3,5]'), (3, 'a', NULL), (4, 'b', NULL), (5, 'c', '[0.5,-1]'), (6, 'c', NULL), (7, 'c', '[1,1]');
SELECT kind, sum(t), avg(t), count(t) FROM measured GROUP BY kind ORDER BY kind;
SELECT sum(t), avg(t) FROM measured;
SELECT sum(t) IS NULL AS no_sum, avg(t) IS NULL AS no_mean FROM measured WHERE false;
SELECT sum(t) FILTER (WHERE kind = 'a'), avg(DISTINCT t), sum(t ORDER BY id DESC) FROM measured;
SELECT kind, sum(t) FROM measured GROUP BY ROLLUP (kind) ORDER BY kind;
-- a window reads the state again and again, and moves
SELECT id, sum(t) OVER (ORDER BY id) AS so_far, avg(t) OVER (ORDER BY id) AS mean_so_far,
       sum(t) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS last_two,
       avg(t) OVER (PARTITION BY kind) AS mean_of_kind
  FROM measured ORDER BY id;
-- the state is double: real alone would lose the ones, and would leave its range on the way
SELECT sum(t) FROM (VALUES ('[16777216]'::tensor), ('[1]'), ('[1]')) AS v(t);
SELECT sum(t), avg(t) FROM (VALUES ('[3e38]'::tensor), ('[3e38]'), ('[-3e38]'), ('[-3e38]')) AS v(t);
SELECT avg(t) FROM (VALUES ('[3e38]'::tensor), ('[3e38]')) AS v(t);
SELECT sum(t) FROM (VALUES ('[3e38]'::tensor), ('[3e38]')) AS v(t);
SELECT sum(t) FROM (VALUES ('[1,2]'::tensor), ('[[1,2]]')) AS v(t);
SELECT avg(t) FROM (VALUES ('[1,2]'::tensor), (NULL), ('[1,2,3]')) AS v(t);
DROP TABLE measured;
