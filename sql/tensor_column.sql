-- A column holds values of its shape
CREATE TABLE shaped (id int PRIMARY KEY, t tensor(2,3), v tensor(4));
\d shaped
INSERT INTO shaped VALUES (1, '[[1,2,3],[4,5,6]]', '[1,2,3,4]'), (2, NULL, NULL);
INSERT INTO shaped VALUES (3, '[[1,2],[3,4],[5,6]]');
INSERT INTO shaped VALUES (3, '[[1,2],[3,4]]');
INSERT INTO shaped VALUES (3, '[1,2,3,4,5,6]'::tensor);
INSERT INTO shaped VALUES (3, llm_reshape('[1,2,3,4,5,6]', '{2,3}'));
COPY shaped (id, v) FROM STDIN;
4	[1,2,3]
\.
COPY shaped (id, v) FROM STDIN;
4	[1,2,3,4]
\.
SELECT '[1,2]'::tensor(3);
SELECT '[1,2]'::tensor(2), CAST('[[1,2]]' AS tensor(1,2)), '[1]'::tensor(1)::tensor(1);

-- The modifier
SELECT format_type('tensor'::regtype, atttypmod)
  FROM pg_attribute WHERE attrelid = 'shaped'::regclass AND attname IN ('t', 'v') ORDER BY attname;
CREATE TEMP TABLE modifiers (a tensor(16777216), b tensor(4096,4096), c tensor(1,16777216), d tensor(16777216,1), e tensor(28,28),
                             f tensor(3,224,224), g tensor(224,224,3), h tensor(3,1080,1920), i tensor(1,1,1), j tensor(1,3,224,224),
                             k tensor(16,3,112,112), l tensor(1,1,1,1), m tensor(2,2,2,32768), n tensor(1), o tensor(5793,2896),
                             p tensor);
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
 WHERE attrelid = 'modifiers'::regclass AND attnum > 0 ORDER BY attnum;
SELECT NULL::tensor(16,3,1080,1920);
SELECT NULL::tensor(64,512,512);
SELECT NULL::tensor(0);
SELECT NULL::tensor(-1);
SELECT NULL::tensor(2,0);
SELECT NULL::tensor(16777217);
SELECT NULL::tensor(65536,65536);
SELECT NULL::tensor(2147483647,2147483647,2147483647,2147483647);
SELECT NULL::tensor(1,2,3,4,5);
SELECT NULL::tensor('x');
SELECT tensor_typmod_in('{}');
-- codes that no shape has
SELECT tensor_typmod_out(-1), tensor_typmod_out(2147483647), tensor_typmod_out(0);
SELECT tensor('[1]', 2147483647, false);
SELECT tensor_in('[1]', 0, 2147483647);
-- what the hint of a shape too large for a modifier proposes
CREATE TEMP TABLE checked (t tensor CHECK (llm_shape(t) = '{64,512,512}'));
INSERT INTO checked VALUES ('[1]');
-- every shape whose code exists has it for itself: modifiers of all small shapes differ and read back
SELECT count(*) AS shapes, count(DISTINCT code) AS codes, bool_and(format_type('tensor'::regtype, code) = 'tensor(' || array_to_string(shape, ',') || ')') AS same
  FROM (SELECT shape, tensor_typmod_in(shape::text::cstring[]) AS code
          FROM (SELECT ARRAY[a] FROM generate_series(1, 200) a
                UNION ALL SELECT ARRAY[a, b] FROM generate_series(1, 40) a, generate_series(1, 40) b
                UNION ALL SELECT ARRAY[a, b, c] FROM generate_series(1, 17) a, generate_series(1, 17) b, generate_series(1, 17) c
                UNION ALL SELECT ARRAY[a, b, c, d] FROM generate_series(1, 9) a, generate_series(1, 9) b, generate_series(1, 9) c,
                                                        generate_series(1, 9) d) AS s(shape)) AS codes;

-- Variables and arrays of tensors
DO $$
DECLARE
    t tensor(2) := '[3,4]';
BEGIN
    RAISE NOTICE 'length %', sqrt(t[1] ^ 2 + t[2] ^ 2);
    t := '[1,2,3]';
END $$;
DO $$
DECLARE
    t tensor := '[3,4]';
BEGIN
    t[1] := 5;
END $$;
SELECT a[2], (a[2])[1], llm_shape(a[1]) FROM (SELECT ARRAY['[1,2]', '[3,4]']::tensor(2)[]) AS v(a);
SELECT ARRAY['[1,2]', '[3]']::tensor(2)[];

-- Domains
CREATE DOMAIN unit_vector AS tensor(2) CHECK (VALUE[1] ^ 2 + VALUE[2] ^ 2 < 1.0001);
SELECT '[0.6,0.8]'::unit_vector, ('[0.6,0.8]'::unit_vector)[2];
SELECT '[1,1]'::unit_vector;
SELECT '[1,0,0]'::unit_vector;
SELECT ARRAY[0,1]::tensor::unit_vector;
DROP DOMAIN unit_vector;

-- COPY BINARY gives back the same values
\getenv abs_builddir PG_ABS_BUILDDIR
\set file :abs_builddir '/results/tensor_column.bin'
CREATE TABLE copied (LIKE shaped);
COPY shaped TO :'file' (FORMAT binary);
COPY copied FROM :'file' (FORMAT binary);
SELECT count(*) AS rows, count(*) FILTER (WHERE s.t IS NOT DISTINCT FROM c.t AND s.v IS NOT DISTINCT FROM c.v) AS same
  FROM shaped s JOIN copied c USING (id);
ALTER TABLE copied ALTER v TYPE tensor(2,2) USING llm_reshape(v, '{2,2}');
TRUNCATE copied;
COPY copied FROM :'file' (FORMAT binary);
DROP TABLE copied;
-- binary form: rank, flags, lengths, elements, big-endian
SELECT tensor_send('[[1],[-2]]');
-- bytes that are no tensor
CREATE FUNCTION pg_temp.receive(message bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    file text := current_setting('test.file');
    header bytea := '\x5047434f50590aff0d0a00' || '\x0000000000000000'::bytea;
    writer oid;
BEGIN
    writer := lo_from_bytea(0, header || int2send(1::int2) || int4send(length(message)) || message || int2send((-1)::int2));
    PERFORM lo_export(writer, file);
    PERFORM lo_unlink(writer);
    CREATE TEMP TABLE IF NOT EXISTS received (t tensor) ON COMMIT DROP;
    TRUNCATE received;
    EXECUTE format('COPY received FROM %L (FORMAT binary)', file);
    RETURN (SELECT t::text FROM received);
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SET client_min_messages = warning;
SELECT set_config('test.file', :'file', false) IS NOT NULL AS file;
BEGIN;
SELECT what, pg_temp.receive(message)
  FROM (VALUES (1, 'sound', '\x0001000000000001'::bytea || float4send(1)),
               (2, 'sound, rank 2', '\x000200000000000100000002'::bytea || float4send(1) || float4send(2)),
               (3, 'no bytes', ''), (4, 'half a header', '\x0001'), (5, 'rank 0', '\x00000000'), (6, 'rank 5', '\x00050000'),
               (7, 'negative rank', '\xffff0000'), (8, 'flags', '\x0001000100000001'::bytea || float4send(1)),
               (9, 'no lengths', '\x00020000'), (10, 'length 0', '\x0001000000000000'), (11, 'length -1', '\x00010000ffffffff'),
               (12, 'too large', '\x0002000000010000000100007fffffff'), (13, 'short', '\x0001000000000002'::bytea || float4send(1)),
               (14, 'long', '\x0001000000000001'::bytea || float4send(1) || '\x00'),
               (15, 'NaN', '\x0001000000000001'::bytea || float4send('NaN')),
               (16, 'infinity', '\x0001000000000001'::bytea || float4send('-Infinity'))) AS v(n, what, message)
 ORDER BY n;
ROLLBACK;
RESET client_min_messages;

-- Large values are stored out of line, uncompressed; shape and elements are read without the rest
CREATE TABLE large (id int, t tensor);
INSERT INTO large SELECT i, llm_reshape(array_agg(v * i ORDER BY v)::tensor, '{100,1000}') FROM generate_series(1, 3) i, generate_series(1, 100000) v GROUP BY i;
SELECT attstorage FROM pg_attribute WHERE attrelid = 'large'::regclass AND attname = 't';
SELECT id, pg_column_size(t), llm_shape(t), t[1][1], t[100][1000], t[2][3], t[101][1] FROM large ORDER BY id;
SELECT count(*) AS chunks_are_many FROM large WHERE length(t::text) > 100000;
SELECT a.id, b.id FROM large a JOIN large b ON a.t = b.t ORDER BY 1;
SELECT id FROM large WHERE t::text::tensor = t AND t::jsonb::tensor = t AND t::real[]::tensor = t ORDER BY t DESC;
ALTER TABLE large ALTER t SET STORAGE extended;
UPDATE large SET t = array_fill(id, ARRAY[100,1000]);
SELECT id, pg_column_size(t) < 100000 AS compressed, llm_shape(t), t[100][1000] FROM large ORDER BY id;
-- the largest
SELECT llm_shape(array_fill(1, ARRAY[4096,4096])::real[]::tensor);
-- a scan and a sort in parallel workers
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
ALTER TABLE shaped SET (parallel_workers = 2);
EXPLAIN (COSTS off) SELECT llm_shape(t), v[1] FROM shaped WHERE v = '[1,2,3,4]';
SELECT llm_shape(t), v[1] FROM shaped WHERE v = '[1,2,3,4]' ORDER BY id;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
DROP TABLE shaped, large;

-- Damage of stored bytes is found before they are used
CREATE CAST (bytea AS tensor) WITHOUT FUNCTION;
CREATE FUNCTION pg_temp.show(bytes bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN bytes::tensor::text;
EXCEPTION WHEN data_corrupted THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
-- the parts of the stored form, in this machine's order of bytes
CREATE FUNCTION pg_temp.native(number int, bytes int) RETURNS bytea LANGUAGE sql AS $$
    SELECT string_agg(substr(int4send(number), CASE WHEN little THEN 5 - i ELSE 4 - bytes + i END, 1), '' ORDER BY i)
      FROM generate_series(1, bytes) AS i, (SELECT get_byte(pg_read_binary_file('global/pg_control', 8, 4), 0) <> 0) AS o(little)
$$;
SELECT what, pg_temp.show(bytes)
  FROM (VALUES (1, 'sound', pg_temp.native(1, 2) || pg_temp.native(0, 2) || pg_temp.native(1, 4) || pg_temp.native(0, 4)),
               (2, 'no bytes', ''), (3, 'half a header', '\x0000'), (4, 'only a header', pg_temp.native(1, 2) || pg_temp.native(0, 2)),
               (5, 'rank 0', pg_temp.native(0, 2) || pg_temp.native(0, 2) || pg_temp.native(1, 4)),
               (6, 'rank 5', pg_temp.native(5, 2) || pg_temp.native(0, 2) || decode(repeat('00', 40), 'hex')),
               (7, 'lengths cut off', pg_temp.native(4, 2) || pg_temp.native(0, 2) || pg_temp.native(1, 4)),
               (8, 'flags', pg_temp.native(1, 2) || pg_temp.native(1, 2) || pg_temp.native(1, 4) || pg_temp.native(0, 4)),
               (9, 'length 0', pg_temp.native(1, 2) || pg_temp.native(0, 2) || pg_temp.native(0, 4)),
               (10, 'too long', pg_temp.native(1, 2) || pg_temp.native(0, 2) || pg_temp.native(1, 4) || decode(repeat('00', 8), 'hex')),
               (11, 'too short', pg_temp.native(1, 2) || pg_temp.native(0, 2) || pg_temp.native(3, 4) || pg_temp.native(0, 4))
       ) AS v(n, what, bytes) ORDER BY n;
DROP CAST (bytea AS tensor);

-- Every object of the type has a comment
SELECT classid::regclass, pg_describe_object(classid, objid, 0)
  FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'llmapp') AND deptype = 'e'
   AND (pg_describe_object(classid, objid, 0) LIKE '%tensor%' OR pg_describe_object(classid, objid, 0) ~ 'llm_(re)?shape')
   AND obj_description(objid, classid::regclass::name) IS NULL
   AND NOT (classid = 'pg_type'::regclass AND pg_describe_object(classid, objid, 0) LIKE '%[]');
-- no function of the type is wanting in its marks
SELECT oid::regprocedure FROM pg_proc
 WHERE (proname LIKE 'tensor%' OR proname IN ('llm_shape', 'llm_reshape')) AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'c')
   AND NOT (provolatile = 'i' AND proparallel = 's' AND (proisstrict OR proargtypes[0] = 'internal'::regtype));
