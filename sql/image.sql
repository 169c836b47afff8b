-- Pictures: PGM and PPM as text and binary
SELECT llm_image('P2 3 2 4  0 1 2  4 3 2') AS pgm, llm_image('P3 2 1 5  5 0 1  0 5 2') AS ppm;
SELECT llm_image('P5 2 2 255 ' || '\x003366ff'::bytea) AS pgm, llm_image('P6 1 1 65535 ' || '\xffff00003333'::bytea) AS ppm;
-- PNG: colors, alpha laid over white, 16 bits; JPEG
\set png '\\x89504e470d0a1a0a0000000d4948445200000002000000020802000000fdd49a730000001649444154089963f8cfc0c0f09f81b991e1bff17329001f9004b619046c4a0000000049454e44ae426082'
\set rgba '\\x89504e470d0a1a0a0000000d4948445200000002000000010806000000f4227f8a000000114944415408996360606060f8cf60fc1f00056a023234c1014e0000000049454e44ae426082'
\set g16 '\\x89504e470d0a1a0a0000000d494844520000000200000001100000000081d9fc150000000d494441540899636060fcff1f0003050200430aa40b0000000049454e44ae426082'
\set jpeg '\\xffd8ffe000104a46494600010100000100010000ffdb0043000302020302020303030304030304050805050404050a070706080c0a0c0c0b0a0b0b0d0e12100d0e110e0b0b1016101113141515150c0f171816141812141514ffc0000b080008000801011100ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b5100002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffda0008010100003f00f3aaffd9'
SELECT llm_image(:'png') AS png, llm_image(:'rgba') AS rgba, llm_image(:'g16') AS g16;
SELECT llm_shape(llm_image(:'jpeg')) AS shape, round((llm_image(:'jpeg', 1, 1))[1][1][1]::numeric, 3) AS color;

-- Size and channels: one side alone keeps the ratio, NULL is as in the file
SELECT llm_image('P2 4 2 10  0 10 4 6  10 0 6 4', width => 2), llm_image('P2 4 2 10  0 10 4 6  10 0 6 4', height => 1),
       llm_image('P2 4 2 10  0 10 4 6  10 0 6 4', width => 2, height => 2), llm_image('P2 2 1 1  0 1', 4, 2);
SELECT llm_image('P2 2 1 10  2 7', channels => 3), llm_image('P3 3 1 10  10 0 0  0 10 0  0 0 10', channels => 1),
       llm_image('P2 2 1 10  2 7', NULL, NULL, NULL);
SELECT llm_image(NULL) IS NULL AS no_data, llm_image(NULL, 0, 0, 7) IS NULL AS no_data_at_all;
SELECT pg_typeof(llm_image('P2 1 1 1 1')), llm_shape(llm_image('P2 3 2 1  0 0 0  1 1 1', width => 30));
CREATE TEMP TABLE picture (id int PRIMARY KEY, file bytea, pixels tensor(1,2,2));
INSERT INTO picture (id, file) VALUES (1, 'P2 2 2 4  0 1 2 4'), (2, 'P2 4 4 1  1 1 0 0  1 1 0 0  0 0 1 1  0 0 1 1'), (3, NULL);
UPDATE picture SET pixels = llm_image(file, 2, 2, 1);
SELECT id, pixels, llm_reshape(pixels, '{2,2}') FROM picture ORDER BY id;
UPDATE picture SET pixels = llm_image(file);

-- What is refused
SELECT llm_image('');
SELECT llm_image('hello');
SELECT llm_image('GIF89a');
SELECT llm_image('P5 2 2 255 abc');
SELECT llm_image('P2 2 2 4  0 1 2 5');
SELECT llm_image('P2 2 two');
SELECT llm_image(substr(:'png'::bytea, 1, 50));
SELECT llm_image(substr(:'jpeg'::bytea, 1, 200));
-- the libraries say the rest
\set VERBOSITY terse
SELECT llm_image(overlay(:'png'::bytea PLACING '\x00' FROM 20));
SELECT llm_image(overlay(:'png'::bytea PLACING '\x00' FROM 45));
SELECT llm_image('\xffd8ffd9');
\set VERBOSITY default
SELECT llm_image('P5 70000 70000 255 ');
SELECT llm_image('P6 4000 4000 255 ');
SELECT llm_image('P2 1 1 1 1', width => 0);
SELECT llm_image('P2 1 1 1 1', height => 65536);
SELECT llm_image('P2 1 1 1 1', channels => 2);
SELECT llm_image('P2 1 1 1 1', width => 5000);
SELECT llm_image('P2 1 100 1 1', height => 65535);
\set VERBOSITY sqlstate
SELECT llm_image('hello');
SELECT llm_image('P5 2 2 255 abc');
SELECT llm_image('P5 70000 70000 255 ');
SELECT llm_image('P2 1 1 1 1', width => 0);
\set VERBOSITY default

-- A long decoding can be cancelled
CREATE TEMP TABLE large (file bytea);
ALTER TABLE large ALTER file SET STORAGE EXTERNAL;
INSERT INTO large VALUES ('P5 4000 4000 255 ' || convert_to(repeat('a', 16000000), 'SQL_ASCII'));
SET statement_timeout = '20ms';
SELECT llm_shape(llm_image(file, width => 1000)) FROM large, generate_series(1, 100);
RESET statement_timeout;
DROP TABLE large, picture;
