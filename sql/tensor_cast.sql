-- Arrays of every number type keep their shape
SELECT ARRAY[1.5,2]::real[]::tensor AS f4, ARRAY[[0.1,2],[3,4]]::float8[]::tensor AS f8, ARRAY[1,-2]::int2[]::tensor AS i2,
       ARRAY[[[1,2]],[[3,4]]]::tensor AS i4, ARRAY[16777217,9007199254740993]::int8[]::tensor AS i8,
       ARRAY[1.25,0.1,12345678901234567890.5]::numeric[]::tensor AS n;
SELECT '[0:1][5:7]={{1,2,3},{4,5,6}}'::int[]::tensor AS lower_bounds;
SELECT ARRAY[1e-60, 1e-400::numeric]::numeric[]::tensor AS below_the_smallest, ARRAY[1e-60]::float8[]::tensor AS f8;
SELECT ARRAY[[[[1,2]]]]::tensor AS four;
SELECT ARRAY[[[[[1,2]]]]]::tensor AS five;
SELECT '{}'::real[]::tensor;
SELECT ARRAY[1,NULL]::real[]::tensor;
SELECT ARRAY[1,NULL]::numeric[]::tensor;
SELECT ARRAY['NaN']::real[]::tensor;
SELECT ARRAY['-Infinity']::real[]::tensor;
SELECT ARRAY['NaN']::float8[]::tensor;
SELECT ARRAY['Infinity']::float8[]::tensor;
SELECT ARRAY['NaN']::numeric[]::tensor;
SELECT ARRAY['-Infinity']::numeric[]::tensor;
SELECT ARRAY[1e39]::float8[]::tensor;
SELECT ARRAY[-1e39]::numeric[]::tensor;
SELECT array_fill(1, ARRAY[4097,4096])::tensor;
SELECT ARRAY['a']::text[]::tensor;

-- tensor to real[], implicitly
SELECT '[[1,2],[3,4.5]]'::tensor::real[] AS a, array_dims('[[1,2],[3,4]]'::tensor::real[]) AS dims;
CREATE FUNCTION pg_temp.total(real[]) RETURNS real LANGUAGE sql AS 'SELECT sum(v) FROM unnest($1) AS v';
SELECT pg_temp.total('[[1,2],[3,4.5]]'::tensor);
SELECT ('[0:0]={7}'::real[]::tensor)::real[] AS starts_at_1;

-- assignment casts work in INSERT without a word
CREATE TEMP TABLE assigned (id int, t tensor(2,2), r real[], j jsonb);
INSERT INTO assigned (id, t) VALUES (1, ARRAY[[1,2],[3,4]]), (2, ARRAY[[1.5,2],[3,4]]), (3, ARRAY[[1,2],[3,4]]::float8[]),
                                    (4, '[[1,2],[3,4]]'::jsonb);
INSERT INTO assigned (id, t) VALUES (5, ARRAY[[1,2,3],[4,5,6]]);
INSERT INTO assigned (id, t) VALUES (5, ARRAY[1,2,3,4]);
UPDATE assigned SET r = t, j = t;
SELECT * FROM assigned ORDER BY id;
-- an array is not compared with a tensor unasked
SELECT '[1]'::tensor = ARRAY[1]::real[];

-- jsonb
SELECT '[1, 2.5, -0.1, 1e3]'::jsonb::tensor AS one, '[[[[1],[2]]]]'::jsonb::tensor AS four;
SELECT '[[0.1,3.4028235e38],[1e-45,-2]]'::tensor::jsonb AS j;
SELECT t, t::jsonb, t::jsonb::tensor = t AS same
  FROM (VALUES ('[1]'::tensor), ('[[1],[2]]'), ('[[[1,2],[3,4]],[[5,6],[7,8]]]'), ('[[[[0.1]]],[[[0.2]]]]')) AS v(t);
SELECT '[[0.1,3.4028235e38],[1e-45,-2]]'::tensor::jsonb::tensor = '[[0.1,3.4028235e38],[1e-45,-2]]'::tensor AS same;
SELECT '[1e-60]'::jsonb::tensor AS below_the_smallest;
SELECT '1'::jsonb::tensor;
SELECT '"[1]"'::jsonb::tensor;
SELECT 'null'::jsonb::tensor;
SELECT '{"a":[1]}'::jsonb::tensor;
SELECT '[{"a":1}]'::jsonb::tensor;
SELECT '[1,"2"]'::jsonb::tensor;
SELECT '[true]'::jsonb::tensor;
SELECT '[1,null]'::jsonb::tensor;
SELECT '[]'::jsonb::tensor;
SELECT '[[],[]]'::jsonb::tensor;
SELECT '[[1,2],[3]]'::jsonb::tensor;
SELECT '[[1],2]'::jsonb::tensor;
SELECT '[1,[2]]'::jsonb::tensor;
SELECT '[[[[[1]]]]]'::jsonb::tensor;
SELECT '[1e39]'::jsonb::tensor;
SELECT ('[[-1e40],[2]]'::jsonb)::tensor;
