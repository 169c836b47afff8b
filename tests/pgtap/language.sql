-- Language models from a column of text: training, generation, and texts as tokens.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(67);

\ir common/functions.sql

-- Sentences of a small grammar, which can be learned to the last word but the choices.
CREATE TABLE tales AS
    SELECT i AS id, format('the %s %s sees the %s %s. then the %s runs.', a[1 + i % 3], s[1 + i / 3 % 4], a[1 + i / 12 % 3], s[1 + i / 36 % 4], s[1 + i / 3 % 4]) AS body
    FROM generate_series(0, 599) AS i, (SELECT ARRAY['old', 'young', 'red'] AS a, ARRAY['fox', 'hen', 'cat', 'dog'] AS s) AS words;

SELECT llm_train('tale', 'tales', target => 'body', task => 'generation',
                 params => '{"layers": 2, "embed_dim": 32, "heads": 2, "context": 24, "vocab_size": 300, "batch_size": 16, "epochs": 12, "dropout": 0, "learning_rate": 0.01}',
                 wait => true) \g /dev/null
SELECT is((SELECT task || ' ' || architecture || ' ' || target FROM llmapp.models WHERE name = 'tale'), 'generation gpt body', 'a column of text is learned by a GPT');
SELECT cmp_ok(metric('tale', 'accuracy'), '>', 0.6::float8, 'most tokens of held-out texts are predicted');
SELECT cmp_ok(abs(metric('tale', 'perplexity') - exp(metric('tale', 'loss'))), '<', 1e-6::float8, 'perplexity is exp of the loss');
SELECT cmp_ok(metric('tale', 'bits_per_byte'), '<', 1.0::float8, 'and a byte costs less than one bit');
SELECT is(setting('tale', 'tokenizer'), 'bpe default', 'the tokenizer is byte pair encoding');
SELECT is(setting('tale', 'ffn_dim'), '128 auto', 'widths that were left open are chosen');
SELECT is(setting('tale', 'hidden'), NULL, 'settings of other architectures are not shown');
SELECT ok((SELECT count(*) > 3 FROM llmapp.job_metrics WHERE split = 'validation' AND metric = 'loss'), 'each epoch is scored');
SELECT is((SELECT report #>> '{data,training_rows}' FROM llmapp.jobs ORDER BY job LIMIT 1)::int
        + (SELECT report #>> '{data,held_out_rows}' FROM llmapp.jobs ORDER BY job LIMIT 1)::int, 600, 'all texts are learned or held out');

-- Generation.
SELECT matches(llm_generate('tale', 'the old fox sees the', 12), '^ (old|young|red) (fox|hen|cat|dog)\. then the', 'a text goes on where the prompt ends');
SELECT is(llm_generate('tale', 'the old fox', 30), llm_generate('tale', 'the old fox', 30), 'greedy text is always the same');
SELECT is(llm_generate('tale', 'the old', 30, temperature => 1, seed => 7), llm_generate('tale', 'the old', 30, temperature => 1, seed => 7), 'so is one with a seed');
SELECT cmp_ok((SELECT count(DISTINCT llm_generate('tale', 'the', 10, temperature => 1.5, seed => i)) FROM generate_series(1, 20) AS i), '>', 5::bigint, 'seeds differ');
SELECT cmp_ok((SELECT count(DISTINCT llm_generate('tale', 'the', 10, temperature => 1.5)) FROM generate_series(1, 20) AS i), '>', 5::bigint, 'so do texts without one');
SELECT is(llm_generate('tale', 'the', 10, temperature => 2, top_k => 1, seed => 3), llm_generate('tale', 'the', 10), 'of one candidate the best is taken');
SELECT is(llm_generate('tale', 'the', 10, temperature => 2, top_p => 0.001, seed => 3), llm_generate('tale', 'the', 10), 'so it is of the smallest share');
SELECT is(llm_generate('tale', 'the', 10, temperature => 2, min_p => 0.9999, seed => 3), llm_generate('tale', 'the', 10), 'or of those as probable as the best');
SELECT is(strpos(llm_generate('tale', 'the old fox sees', 40, stop => ARRAY['then', 'xyz']), 'then'), 0, 'a stop string ends the text before it');
SELECT cmp_ok(length(llm_generate('tale', 'the old fox sees', 40, stop => ARRAY['then'])), '>', 5, 'and leaves what comes before');
SELECT cmp_ok(length(llm_generate('tale', '', 100, temperature => 1, seed => 1)), '>', 5, 'an empty prompt begins a text');
SELECT is(llm_generate(NULL, 'x'), NULL, 'no model, no text');
SELECT is(llm_generate('tale', NULL), NULL, 'no prompt, no text');
SELECT is((SELECT count(*)::int FROM tales WHERE id < 20 AND llm_generate('tale', left(body, 10), 5) IS NULL), 0, 'a prompt for each row');
SELECT is((SELECT string_agg(token, '' ORDER BY "position") FROM llm_generate_stream('tale', 'the old fox', 12)), llm_generate('tale', 'the old fox', 12), 'token by token it is the same text');
SELECT ok((SELECT bool_and(logprob <= 0) AND max("position") = count(*) FROM llm_generate_stream('tale', 'the old fox', 12)), 'with logarithms of probabilities');
BEGIN;
DECLARE c CURSOR FOR SELECT llm_generate_stream('tale', 'the', 1000000, temperature => 1, seed => 1, repetition_penalty => 1.1);
FETCH 3 FROM c \g /dev/null
SELECT pass('a cursor takes tokens from a long text as they are made');
COMMIT;

-- Tokens.
SELECT is(llm_detokenize('tale', llm_tokenize('tale', body)), body, 'tokens are the text again') FROM (VALUES ('the old fox'), ('Ünïcödé 中文 🦊'), (E'  tabs\tand\nlines  '), ('')) AS t (body);
SELECT cmp_ok(cardinality(llm_tokenize('tale', 'the old fox sees the red hen.')), '<', 15, 'words of the texts are single tokens');
SELECT is(cardinality(llm_tokenize('tale', '')), 0, 'an empty text has none');
SELECT cmp_ok(llm_perplexity('tale', 'the old fox sees the red hen. then the fox runs.'), '<', llm_perplexity('tale', 'fox the then old runs sees hen the the red.'), 'order is less surprising than disorder');
SELECT is(llm_perplexity('tale', ''), NULL, 'nothing to predict in an empty text');
SELECT cmp_ok(llm_perplexity('tale', (SELECT string_agg(body, ' ') FROM tales WHERE id < 10)), '<', 10::float8, 'a text longer than the context is scored in windows');
SELECT is(cardinality(llm_embed('tale', 'the old fox')), 32, 'an embedding is as wide as the model');
SELECT cmp_ok((SELECT abs(sum(x * x) - 1) FROM unnest(llm_embed('tale', 'the old fox')) AS x), '<', 1e-5::float8, 'and of length 1');
SELECT isnt(llm_embed('tale', 'the old fox', 'last', false), llm_embed('tale', 'the old fox', 'first', false), 'pooling matters');

-- Errors.
SELECT throws_ok($$SELECT llm_generate('tale', repeat('the old fox ', 50))$$, '22026', NULL, 'a prompt longer than the context is refused');
SELECT throws_ok($$SELECT llm_embed('tale', repeat('the old fox ', 50))$$, '22026', NULL, 'so is a text to embed');
SELECT throws_ok($$SELECT llm_generate('tale', 'x', 0)$$, '22023', 'max_tokens is 0, outside 1 to 1000000', 'no tokens are no text');
SELECT throws_ok($$SELECT llm_generate('tale', 'x', temperature => -1)$$, '22023', NULL, 'negative temperature');
SELECT throws_ok($$SELECT llm_generate('tale', 'x', top_p => 0)$$, '22023', NULL, 'top_p of 0');
SELECT throws_ok($$SELECT llm_generate('tale', 'x', stop => ARRAY[''])$$, '22023', NULL, 'empty stop string');
SELECT throws_ok($$SELECT llm_embed('tale', 'x', 'middle')$$, '22023', 'unknown pooling "middle"', 'unknown pooling');
SELECT throws_ok($$SELECT llm_detokenize('tale', '{1,-1}')$$, '22023', NULL, 'a token that is none');
SELECT throws_ok($$SELECT llm_detokenize('tale', '{1,100000}')$$, '22023', NULL, 'nor is this');
SELECT throws_ok($$SELECT llm_predict('tale', t) FROM tales AS t LIMIT 1$$, '42809', 'model "tale" is a language model and predicts no columns', 'it predicts no columns');
SELECT throws_ok($$SELECT llm_score('tale', 'tales', 'scored', ARRAY['id'])$$, '42809', NULL, 'nor fills it a table');
SELECT throws_ok($$SELECT llm_create_function('tale', 'tale_function')$$, '42809', NULL, 'nor is it a function');
SELECT throws_ok($$SELECT llm_export('tale')$$, '0A000', 'model "tale" is a language model', 'nor a file');
SELECT throws_ok($$SELECT llm_train('t', 'SELECT body, body AS again FROM tales', task => 'generation')$$, '42702', NULL, 'two columns of text need a name');
SELECT throws_ok($$SELECT llm_train('t', 'SELECT id FROM tales', task => 'generation')$$, '22023', 'the source has no column of text', 'no column of text');
SELECT throws_ok($$SELECT llm_train('t', 'tales', target => 'id', task => 'generation')$$, '42804', NULL, 'a number is no text');
SELECT throws_ok($$SELECT llm_train('t', 'tales', target => 'body', task => 'generation', architecture => 'mlp')$$, '22023', NULL, 'an mlp does not generate');
SELECT llm_train('t', 'tales', target => 'body', architecture => 'gpt', params => '{"embed_dim": 33, "heads": 4}') AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is(failure(:job), '22023 embed_dim 33 is not a multiple of heads 4', 'heads divide the width');
SELECT llm_train('t', 'SELECT ''''::text AS body', target => 'body', architecture => 'gpt') AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is(failure(:job), '22023 the texts have too few tokens to learn from', 'an empty text teaches nothing');

-- The same seed gives the same bytes; a base is trained further with its own tokenizer; llama shares heads.
CREATE TABLE small AS SELECT body FROM tales WHERE id < 120;
SELECT llm_train('same', 'small', architecture => 'llama', params => '{"layers": 1, "embed_dim": 16, "heads": 4, "kv_heads": 2, "context": 16, "tokenizer": "characters", "epochs": 2, "deploy": "always"}', wait => true)
    FROM generate_series(1, 2) \g /dev/null
SELECT is(weights('same', 1), weights('same', 2), 'same seed, same weights');
SELECT isnt(llm_generate('same', 'the', 10), NULL, 'llama generates, too');
SELECT is(cardinality(llm_tokenize('same', 'the fox')), 7, 'of characters');
SELECT is(llm_detokenize('same', llm_tokenize('same', 'the ✓')), 'the �', 'a character never seen is unknown');
SELECT llm_train('more', 'SELECT body AS other FROM tales', base => 'tale', params => '{"epochs": 1, "learning_rate": 0.001}', wait => true) \g /dev/null
SELECT is(llm_tokenize('more', 'the old fox'), llm_tokenize('tale', 'the old fox'), 'a base model gives its tokenizer');
SELECT cmp_ok(metric('more', 'loss'), '<', metric('tale', 'loss') + 0.2, 'and what it knows');

-- One long text gives its end to judge by.
SELECT llm_train('novel', 'SELECT string_agg(body, E''\n'' ORDER BY id) AS novel FROM tales', task => 'generation', params => '{"layers": 1, "embed_dim": 16, "heads": 1, "context": 16, "tokenizer": "bytes", "epochs": 1}', wait => true) \g /dev/null
SELECT is((SELECT (metrics ->> 'n')::int FROM llmapp.models WHERE name = 'novel'), (SELECT (length(string_agg(body, E'\n')) / 10) - 1 FROM tales), 'the last tenth of a single text is held out');

-- Whoever may not read the model may not use it.
CREATE ROLE reader;
SET ROLE reader;
SELECT throws_ok($$SELECT llm_generate('tale', 'the')$$, '42501', NULL, 'no privilege, no text');
RESET ROLE;
GRANT SELECT (meta) ON tale TO reader;
SET ROLE reader;
SELECT isnt(llm_generate('tale', 'the'), NULL, 'with SELECT on meta it speaks');
RESET ROLE;
SELECT cmp_ok((SELECT rows FROM llmapp.stat_models WHERE model = 'tale'::regclass), '>', 10::bigint, 'use is counted');
SELECT * FROM finish();
