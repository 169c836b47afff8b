-- llm_text_metrics(): metrics of texts as an aggregate; their values themselves are in tests/unit/test_text_metrics.c.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SELECT plan(19);

CREATE FUNCTION near(actual jsonb, metric text, expected float8) RETURNS boolean LANGUAGE sql AS
    $$ SELECT abs((actual ->> metric)::float8 - expected) < 1e-6 $$;

CREATE TABLE pairs (id int, prediction text, reference text);
INSERT INTO pairs VALUES
    (1, 'The cat sat on the mat.', 'A cat was sitting on the mat.'),
    (2, 'He paid $1,250.50 for 3-4 tickets, didn''t he?', 'He paid $1,250.50 for 3-4 tickets; didn''t he?'),
    (3, 'Hello &amp; welcome to the U.S.A...', 'Hello & welcome, to the U.S.A.'),
    (4, 'It is what it is', 'It was what it was, and it will be what it will be.'),
    (5, E'"Quoted" text (with brackets) and 5.\n', '''Quoted'' text [with brackets], and 5 more'),
    (6, NULL, 'a reference without a prediction'), (7, 'a prediction without a reference', NULL), (8, NULL, NULL);

-- Constants of sacrebleu 2.6.0, rouge-score 0.1.2 and SQuAD v1.1.
CREATE TABLE result AS SELECT llm_text_metrics(prediction, reference) AS m FROM pairs;
SELECT is(m -> 'n', '5', 'rows with a NULL are skipped') FROM result;
SELECT ok(near(m, 'bleu', 0.418939900), 'BLEU of the corpus') FROM result;
SELECT ok(near(m, 'rouge_l', 0.761025641), 'ROUGE-L') FROM result;
SELECT ok(near(m, 'exact_match', 0.2), 'exact match') FROM result;
SELECT ok(near(m, 'token_f1', 0.762393162), 'F1 of tokens') FROM result;
SELECT is((SELECT string_agg(key, ' ' ORDER BY key) FROM result, jsonb_object_keys(m) AS key), 'bleu exact_match n rouge_l token_f1', 'and nothing else');
SELECT is(llm_text_metrics(prediction, reference), '{"n": 0}', 'no rows, no metrics') FROM pairs WHERE id > 5;
SELECT is(llm_text_metrics(NULL, 'x'), '{"n": 0}', 'a NULL alone says nothing');
SELECT is(llm_text_metrics('', ''), '{"n": 1, "bleu": 0, "rouge_l": 0, "token_f1": 0, "exact_match": 1}', 'two empty texts match');
SELECT is(llm_text_metrics(reference, reference) ->> 'bleu', '1', 'a text is like itself') FROM pairs;

-- Texts without spaces.
SELECT ok(near(llm_text_metrics(p, r), 'bleu', 0.388126019), 'BLEU of Chinese text')
    FROM (VALUES ('今天天气很好，我们去公园散步。', '今天天气真好，我们一起去公园散步吧。'), ('他说：“价格是10.5元”……', '他说“价格为10.5元”……'),
                 ('机器学习', '机器学习是人工智能的一个分支')) AS t (p, r);
SELECT ok(near(llm_text_metrics('私は猫が好きです。', '私は犬が好きです。'), 'rouge_l', 0.875), 'ROUGE-L of Japanese text');

-- Groups, windows and parallel workers.
SELECT is((SELECT string_agg(n, ' ' ORDER BY g) FROM (SELECT id % 2 AS g, llm_text_metrics(prediction, reference) ->> 'n' AS n FROM pairs GROUP BY 1) AS s), '2 3', 'a result for each group');
SELECT is((SELECT string_agg(n, ' ' ORDER BY id) FROM (SELECT id, llm_text_metrics(prediction, reference) OVER (ORDER BY id) ->> 'n' AS n FROM pairs) AS s), '1 2 3 4 5 5 5 5', 'as a window function it goes on adding');
CREATE TABLE many AS SELECT i, md5((i / 2)::text) || ' one two three four' AS prediction, md5(i::text) || ' one two three four' AS reference FROM generate_series(1, 20000) AS i;
ANALYZE many;
CREATE TABLE alone AS SELECT llm_text_metrics(prediction, reference) AS m FROM many;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || query; END $$;
SELECT ok((SELECT bool_or(line ~ 'Partial Aggregate') FROM plan_of('SELECT llm_text_metrics(prediction, reference) FROM many') AS line), 'parts are computed by parallel workers');
CREATE TABLE together AS SELECT llm_text_metrics(prediction, reference) AS m FROM many;
SELECT ok((t.m ->> 'n') = (a.m ->> 'n') AND (t.m ->> 'bleu') = (a.m ->> 'bleu') AND near(t.m, 'rouge_l', (a.m ->> 'rouge_l')::float8), 'which make the same whole') FROM together AS t, alone AS a;

-- Long texts.
CREATE FUNCTION interrupted(p text, r text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN RETURN llm_text_metrics(p, r); EXCEPTION WHEN query_canceled THEN RETURN 'interrupted'; END $$;
SET statement_timeout = '200ms';
SELECT is(interrupted(repeat('a b ', 500000), repeat('b a ', 500000)), 'interrupted', 'very long texts can be interrupted');
RESET statement_timeout;
SELECT is(llm_text_metrics(repeat('ab ', 100000), 'ab') ->> 'n', '1', 'a long text beside a short one is quick');

-- Other encodings hold the same text.
CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
\connect latin
SET client_encoding = 'UTF8';
CREATE EXTENSION llmapp;
SELECT CASE WHEN llm_text_metrics('Été à Orléans', 'ÉTÉ À Orléans') @> '{"rouge_l": 1, "exact_match": 1}' THEN 'ok 19' ELSE 'not ok 19' END || ' - in a database in LATIN1, too';
