-- Language models at work on many rows: texts generated side by side, prompts longer than the context,
-- quality on a source, and the tokens of models that predict columns from a text.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(65);

CREATE TABLE tales AS
    SELECT i AS id, format('the %s %s sees the %s %s. then the %s runs.', a[1 + i % 3], s[1 + i / 3 % 4], a[1 + i / 12 % 3], s[1 + i / 36 % 4], s[1 + i / 3 % 4]) AS body
    FROM generate_series(0, 199) AS i, (SELECT ARRAY['old', 'young', 'red'] AS a, ARRAY['fox', 'hen', 'cat', 'dog'] AS s) AS words;
SELECT llm_train(architecture, 'tales', target => 'body', task => 'generation', architecture => architecture,
                 params => format('{"layers": 2, "embed_dim": 32, "heads": 2, "context": 24, "tokenizer": "%s", "vocab_size": 300, "batch_size": 16, "epochs": 3, "dropout": 0, "learning_rate": 0.01}', tokenizer)::jsonb,
                 wait => true) FROM (VALUES ('gpt', 'bpe'), ('llama', 'bytes')) AS v (architecture, tokenizer) \g /dev/null

-- Many rows at once: each text is the one that llm_generate gives.
CREATE TABLE prompts AS SELECT i AS id, CASE WHEN i % 13 <> 5 THEN left(body, (i * 7) % 40) END AS prompt, 1 + (i * 5) % 60 AS size
    FROM tales, LATERAL (SELECT id AS i) AS l WHERE id < 90;
CREATE FUNCTION differ(sampling text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE result bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM (SELECT llm_generate_over(''gpt'', prompt, %1$s) OVER (ORDER BY id) AS many, llm_generate(''gpt'', prompt, %1$s) AS one FROM prompts) AS t WHERE many IS DISTINCT FROM one', sampling)
        INTO result;
    RETURN result;
END $$;
SELECT is(differ(sampling), 0::bigint, 'the same texts as one by one: ' || sampling)
    FROM unnest(ARRAY['20', 'max_tokens => size', 'size, temperature => 1, seed => id', '30, 0.8, top_k => 10, top_p => 0.9, stop => ARRAY[''hen'', ''the o''], seed => 3',
                      '20, 1, seed => id, min_p => 0.05, repetition_penalty => 1.2']) AS sampling;
SELECT is((SELECT count(*) FROM (SELECT llm_generate_over('llama', prompt, size, 1, seed => id, truncate => 'left') OVER (PARTITION BY id % 3) AS many, llm_generate('llama', prompt, size, 1, seed => id, truncate => 'left') AS one FROM prompts) AS t
           WHERE many IS DISTINCT FROM one), 0::bigint, 'in partitions, too, and by rotary positions and shared heads');
SELECT is((SELECT count(*) FROM (SELECT prompt, llm_generate_over('gpt', prompt, 5) OVER () AS many FROM prompts) AS t WHERE (prompt IS NULL) <> (many IS NULL)), 0::bigint, 'no prompt, no text');
SELECT is((SELECT count(llm_generate_over) FROM (SELECT llm_generate_over(NULL, prompt) OVER () FROM prompts) AS t), 0::bigint, 'no model, no text');
SELECT is((SELECT count(*) FROM (SELECT llm_generate_over('gpt', prompt, 5) OVER () FROM prompts WHERE prompt IS NULL) AS t), (SELECT count(*) FROM prompts WHERE prompt IS NULL), 'not even one prompt');
SELECT is((SELECT count(*) FROM (SELECT llm_generate_over('gpt', inside, 5) OVER () AS many, llm_generate('gpt', inside, 5) AS one
                                 FROM (SELECT llm_generate_over('gpt', prompt, 3, truncate => 'left') OVER () AS inside FROM prompts) AS i) AS o WHERE many IS DISTINCT FROM one), 0::bigint,
          'one call within another');
SELECT cmp_ok((SELECT count(DISTINCT t) FROM (SELECT llm_generate_over('gpt', 'the', 10, 1.5) OVER () AS t FROM generate_series(1, 20)) AS s), '>', 5::bigint, 'without a seed texts differ');
SELECT throws_ok($$SELECT llm_generate_over(c.oid, 'the') OVER () FROM pg_class AS c WHERE relname = 'gpt'$$, '0A000', NULL, 'one model for all rows');
SELECT throws_ok($$SELECT llm_generate_over('gpt', prompt, id) OVER () FROM prompts$$, '22023', 'max_tokens is 0, outside 1 to 1000000', 'options of a row are checked');
SELECT throws_ok($$SELECT llm_generate_over('gpt', body) OVER () FROM (SELECT string_agg(body, ' ') AS body FROM tales) AS t$$, '22026', NULL, 'so is a prompt that is too long');
SELECT throws_ok($$SELECT llm_generate_over('tales', body) OVER () FROM tales$$, '42809', NULL, 'and the model');
CREATE FUNCTION cancelled(query text) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN EXECUTE query; RETURN false; EXCEPTION WHEN query_canceled THEN RETURN true; END $$;
SET statement_timeout = '200ms';
SELECT ok(cancelled($$SELECT count(t) FROM (SELECT llm_generate_over('gpt', 'the', 1000, 5) OVER () AS t FROM generate_series(1, 100000)) AS s$$), 'generation can be cancelled');
RESET statement_timeout;
SELECT cmp_ok((SELECT rows FROM llmapp.stat_models WHERE model = 'gpt'::regclass), '>', 500::bigint, 'use is counted');

-- Prompts longer than the context.
CREATE TABLE longer AS SELECT string_agg(body, ' ' ORDER BY id) AS prompt FROM tales WHERE id < 20;
CREATE FUNCTION last_tokens(prompt text, count int) RETURNS text LANGUAGE sql AS
    $$ SELECT llm_detokenize('gpt', t[cardinality(t) - count + 1:]) FROM llm_tokenize('gpt', prompt) AS t $$;
SELECT is(cardinality(llm_tokenize('gpt', last_tokens(prompt, 24))), 24, 'the last tokens are the tokens of their text') FROM longer;
SELECT is(llm_generate('gpt', prompt, 40, 1, seed => 5, truncate => 'left'), llm_generate('gpt', last_tokens(prompt, 24), 40, 1, seed => 5), 'the last tokens count') FROM longer;
SELECT is((SELECT string_agg(token, '' ORDER BY "position") FROM llm_generate_stream('gpt', prompt, 40, truncate => 'left')), llm_generate('gpt', prompt, 40, truncate => 'left'), 'in a stream as well') FROM longer;
SELECT is((SELECT count(*) FROM (SELECT llm_generate_over('gpt', p, 40, 1, seed => i, truncate => 'left') OVER () AS many, llm_generate('gpt', p, 40, 1, seed => i, truncate => 'left') AS one
           FROM longer, generate_series(1, 12) AS i, LATERAL (SELECT left(prompt, i * 30) AS p) AS l) AS t WHERE one <> many), 0::bigint, 'and among others');
SELECT is(llm_generate('gpt', 'the old', 40, truncate => 'left'), llm_generate('gpt', 'the old', 40), 'a short prompt stays as it is');
SELECT is(llm_generate('gpt', 'the old', 40, truncate => NULL), llm_generate('gpt', 'the old', 40), 'NULL is the default');
SELECT cmp_ok((SELECT max("position") FROM longer, llm_generate_stream('gpt', prompt, 100, 5, seed => 2, truncate => 'left')), '>', 60, 'the text grows beyond the context');
SELECT is((SELECT count(*) FROM (SELECT llm_generate_over('llama', p, 70, 5, seed => i, truncate => 'left') OVER () AS many, llm_generate('llama', p, 70, 5, seed => i, truncate => 'left') AS one
           FROM longer, generate_series(1, 12) AS i, LATERAL (SELECT left(prompt, i * 30) AS p) AS l) AS t WHERE one <> many), 0::bigint, 'and so it does among others');
SELECT throws_ok($$SELECT llm_generate('gpt', prompt) FROM longer$$, '22026', NULL, 'they are refused unless asked for');
SELECT throws_ok($$SELECT llm_generate('gpt', prompt, truncate => 'error') FROM longer$$, '22026', NULL, 'or told so');
SELECT throws_ok($$SELECT llm_generate('gpt', 'the', truncate => 'right')$$, '22023', 'unknown truncation "right"', 'there is no other end');

-- Quality on a source.
CREATE FUNCTION metric(model regclass, source text, wanted text) RETURNS float8 LANGUAGE sql AS
    $$ SELECT value FROM llm_evaluate(model, source) WHERE metric = wanted $$;
CREATE FUNCTION near(a float8, b float8) RETURNS boolean LANGUAGE sql AS $$ SELECT abs(a - b) <= 1e-9 * abs(b) $$;
SELECT is((SELECT array_agg(metric ORDER BY metric COLLATE "C") FROM llm_evaluate('gpt')), '{accuracy,bits_per_byte,loss,n,perplexity}', 'what was measured at training');
SELECT is((SELECT array_agg(metric ORDER BY metric COLLATE "C") FROM llm_evaluate('gpt', 'tales')), '{accuracy,bits_per_byte,loss,n,perplexity}', 'is measured on a source');
SELECT is(metric('gpt', 'tales', 'n'), (SELECT sum(cardinality(llm_tokenize('gpt', body)) - 1) FROM tales)::float8, 'all tokens but the first of each text are foreseen');
SELECT ok(near(metric('gpt', 'tales', 'loss'), (SELECT sum(ln(llm_perplexity('gpt', body)) * (cardinality(llm_tokenize('gpt', body)) - 1)) / sum(cardinality(llm_tokenize('gpt', body)) - 1) FROM tales)), 'the loss is their mean');
SELECT ok(near(metric('gpt', 'tales', 'perplexity'), exp(metric('gpt', 'tales', 'loss'))), 'perplexity is its exp');
SELECT ok(near(metric('gpt', 'tales', 'bits_per_byte'),
               (SELECT metric('gpt', 'tales', 'loss') * metric('gpt', 'tales', 'n') / ln(2::float8) / sum(octet_length(body) - octet_length(llm_detokenize('gpt', (llm_tokenize('gpt', body))[1:1]))) FROM tales)), 'bits are divided among the bytes of these tokens');
SELECT ok(near(metric('gpt', 'longer', 'perplexity'), llm_perplexity('gpt', prompt)), 'texts longer than the context are read in windows') FROM longer;
SELECT ok(near(metric('llama', 'SELECT ''the old fox sees the'' AS body', 'accuracy'), 
               (SELECT avg((llm_generate('llama', left(t, i), 1) = substr(t, i + 1, 1))::int) FROM (VALUES ('the old fox sees the')) AS v (t), generate_series(1, length(t) - 1) AS i)::float8), 'accuracy is the share of tokens that would be generated');
SELECT cmp_ok(abs(metric('gpt', 'tales', 'accuracy') - (SELECT value FROM llm_evaluate('gpt') WHERE metric = 'accuracy')), '<', 0.15::float8, 'it is near that of training');
SELECT is(metric('gpt', 'SELECT body AS other, id FROM tales WHERE id < 5', 'n'), metric('gpt', 'SELECT body FROM tales WHERE id < 5', 'n'), 'a single column of text needs no name');
SELECT is(metric('gpt', 'SELECT ''x y''::text AS other, body::varchar(200) FROM tales WHERE id < 5', 'n'), metric('gpt', 'SELECT body FROM tales WHERE id < 5', 'n'), 'of several the one that was learned counts');
SELECT is(metric('gpt', 'SELECT body FROM tales WHERE id < 5 UNION ALL VALUES (NULL), (''''), (''x'')', 'n'), metric('gpt', 'SELECT body FROM tales WHERE id < 5', 'n'), 'texts without a token to foresee are skipped');
SELECT is((SELECT array_agg(e::text) FROM llm_evaluate('gpt', 'SELECT body FROM tales WHERE false') AS e), '{"(n,0)"}', 'no texts, no quality');
SELECT throws_ok($$SELECT * FROM llm_evaluate('gpt', 'SELECT body AS a, body AS b FROM tales')$$, '42702', 'the source has several columns of text', 'two columns need a name');
SELECT throws_ok($$SELECT * FROM llm_evaluate('gpt', 'SELECT id FROM tales')$$, '42703', 'the source has no column of text', 'no column');
SELECT throws_ok($$SELECT * FROM llm_evaluate('gpt', 'SELECT id AS body FROM tales')$$, '42804', 'column "body" of type integer is no text', 'a column of numbers');
SELECT throws_ok($$SELECT * FROM llm_evaluate('gpt', 'WITH gone AS (DELETE FROM tales RETURNING *) SELECT * FROM gone')$$, '22023', 'the source changes data or locks rows', 'a source only reads');
SELECT throws_ok($$SELECT * FROM llm_evaluate('gpt', 'SELECT * FROM tales FOR UPDATE')$$, '22023', 'the source changes data or locks rows', 'and locks nothing');
SELECT throws_ok($$SELECT * FROM llm_evaluate('gpt', 'no_such_table')$$, '42P01', NULL, 'nor is it missing');
SELECT throws_ok($$SELECT * FROM llm_confusion('gpt', 'tales')$$, '42809', NULL, 'texts have no labels');
SET statement_timeout = '200ms';
SELECT ok(cancelled($$SELECT * FROM llm_evaluate('gpt', 'SELECT body FROM tales, generate_series(1, 100000)')$$), 'an evaluation can be cancelled');
RESET statement_timeout;

-- With the privileges of the caller, whose rows alone are read.
CREATE ROLE serving_reader;
GRANT SELECT (meta) ON gpt TO serving_reader;
SET ROLE serving_reader;
SELECT throws_ok($$SELECT * FROM llm_evaluate('gpt', 'tales')$$, '42501', 'permission denied for table tales', 'no privilege on the source');
SELECT throws_ok($$SELECT * FROM llm_evaluate('llama', 'SELECT ''a text'' AS t')$$, '42501', NULL, 'nor on the model');
SELECT is(metric('gpt', 'SELECT ''the old fox'' AS t', 'n') > 0, true, 'a model that may be read judges what may be read');
RESET ROLE;
GRANT SELECT ON tales TO serving_reader;
ALTER TABLE tales ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON tales FOR SELECT TO serving_reader USING (id < 5);
SELECT metric('gpt', 'SELECT * FROM tales WHERE id < 5', 'n') AS few, metric('gpt', 'tales', 'n') AS all \gset
SET ROLE serving_reader;
SELECT is(metric('gpt', 'tales', 'n'), :few::float8, 'row security hides texts');
RESET ROLE;
SELECT cmp_ok(:few::float8, '<', :all::float8, 'which others see');
SELECT is(metric('gpt', 'tales', 'n'), :all::float8, 'as before');

-- Models that predict columns from a text read tokens, too.
SELECT llm_train('kind', 'SELECT body, body ~ ''^the old'' AS old FROM tales', target => 'old', architecture => 'llama',
                 params => '{"layers": 1, "embed_dim": 16, "heads": 2, "context": 24, "vocab_size": 300, "epochs": 3, "ngrams": false, "deploy": "always"}', wait => true) \g /dev/null
SELECT is(llm_detokenize('kind', llm_tokenize('kind', 'the ✓ fox')), 'the ✓ fox', 'a classifier has a tokenizer');
-- The only layer behind the transformer is linear: weights (1, 16) and a bias, of 4 bytes each, lowest first.
CREATE FUNCTION weight(model regclass, name text, i int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE bits bigint; bytes bytea;
BEGIN
    EXECUTE format('SELECT substring(w.data FROM (t ->> ''offset'')::int + 1 + 4 * $2 FOR 4) FROM %1$s AS w, %1$s AS m, jsonb_array_elements(m.meta -> ''tensors'') AS t WHERE w.kind = ''weights'' AND m.kind = ''manifest'' AND t ->> ''name'' = $1', model)
        INTO bytes USING name, i;
    SELECT sum(get_byte(bytes, b)::bigint << (8 * b)) INTO bits FROM generate_series(0, 3) AS b;
    RETURN (1 - 2 * (bits >> 31)) * (1 + (bits & 8388607) / 8388608.0) * 2::float8 ^ ((bits >> 23 & 255) - 127);
END $$;
SELECT cmp_ok(abs(llm_probability('kind', jsonb_build_object('body', t), 'true') -
                  (SELECT 1 / (1 + exp(-weight('kind', 'output.bias', 0) - sum(x * weight('kind', 'output.weight', i::int - 1)))) FROM unnest(llm_embed('kind', t, normalise => false)) WITH ORDINALITY AS e (x, i))),
              '<', 1e-5::float8, 'its embedding is what the layer behind the transformer reads: ' || left(t, 20))
    FROM (VALUES ('the old fox'), ('the red hen sees'), (''), (repeat('the young dog ', 30))) AS v (t);
SELECT isnt(llm_embed('kind', 'the old fox', 'last'), llm_embed('kind', 'the old fox', 'first'), 'pooling matters');
SELECT throws_ok($$SELECT llm_generate('kind', 'the')$$, '42809', 'model "kind" is no language model', 'it does not write');
SELECT throws_ok($$SELECT llm_perplexity('kind', 'the')$$, '42809', 'model "kind" is no language model', 'nor is it surprised');
SELECT llm_train('plain', 'SELECT id AS x, id > 100 AS y FROM tales', target => 'y', params => '{"epochs": 1}', wait => true) \g /dev/null
SELECT throws_ok($$SELECT llm_tokenize('plain', 'the')$$, '42809', 'model "plain" reads no tokens', 'other models read no tokens');
SELECT throws_ok($$SELECT llm_embed('plain', 'the')$$, '42809', 'model "plain" reads no tokens', 'and have no embeddings');
SELECT * FROM finish();
