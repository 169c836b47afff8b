-- Masked language models, pairs of prompt and completion, and what is tuned of a base.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(41);

\ir common/functions.sql

-- A question has one answer, which follows from two of its words.
CREATE TABLE question AS
    SELECT i AS id, format('which %s has the %s?', animal[1 + i % 4], place[1 + i / 4 % 3]) AS body,
           format('the %s of the %s', (ARRAY['red', 'old', 'big', 'shy'])[1 + i % 4], (ARRAY['north', 'south', 'west'])[1 + i / 4 % 3]) AS answer,
           (ARRAY['red', 'old', 'big', 'shy'])[1 + i % 4] AS kind
    FROM generate_series(0, 479) AS i, (SELECT ARRAY['fox', 'hen', 'cat', 'dog'] AS animal, ARRAY['house', 'field', 'river'] AS place) AS words;

-- pairs
SELECT llm_train('answerer', 'question', target => 'answer', task => 'generation', wait => true,
                 params => '{"prompt": "body", "layers": 1, "embed_dim": 32, "epochs": 20, "batch_size": 32, "dropout": 0}') \g /dev/null
SELECT is((SELECT count(*) FROM question WHERE id < 12 AND llm_generate('answerer', body, 40) = answer), 12::bigint, 'a decoder answers what it was asked');
SELECT cmp_ok(metric('answerer', 'accuracy'), '>', 0.99::float8, 'and so it does for held-out questions');
SELECT is((SELECT llm_text_metrics(llm_generate('answerer', body, 40), answer) ->> 'exact_match' FROM question WHERE id < 12), '1', 'which metrics of texts confirm');
SELECT ok(llm_generate('answerer', repeat('which fox has the house? ', 200), 40) IS NOT NULL, 'of a long prompt the last tokens are read');
SELECT is(llm_generate_over('answerer', 'which fox has the house?', 40) OVER (), 'the red of the north', 'the window form gives prompts the same form');
SELECT llm_train('translator', 'question', target => 'answer', architecture => 't5', wait => true,
                 params => '{"prompt": "body", "layers": 1, "embed_dim": 32, "epochs": 30, "batch_size": 32, "dropout": 0, "learning_rate": 0.005}') \g /dev/null
SELECT is((SELECT task || ' ' || architecture FROM llmapp.models WHERE name = 'translator'), 'generation t5', 'an encoder-decoder learns pairs');
SELECT is((SELECT count(*) FROM question WHERE id < 12 AND llm_generate('translator', body, 40) = answer), 12::bigint, 'and writes what it learned');
SELECT is((SELECT string_agg(token, '' ORDER BY position) FROM llm_generate_stream('translator', 'which hen has the river?', 40)), 'the old of the west', 'token by token, too');
SELECT is((SELECT count(*) FROM (SELECT body, llm_generate('translator', body, 40) AS one, llm_generate_over('translator', body, 40) OVER () AS many
                                 FROM question WHERE id < 20) AS g WHERE one IS DISTINCT FROM many), 0::bigint, 'and several at once');
SELECT ok(llm_generate('translator', '', 10) IS NOT NULL, 'an empty prompt is one');
SELECT throws_ok($$SELECT llm_perplexity('translator', 'the red of the north')$$, '22023', NULL, 'without its prompt a text has no perplexity');
SELECT is((SELECT array_agg(metric || ' ' || value ORDER BY metric) FROM llm_evaluate('translator', 'SELECT * FROM question WHERE id < 12') WHERE metric NOT IN ('loss', 'perplexity', 'bits_per_byte', 'n')),
          '{accuracy 1,bleu 1,exact_match 1,rouge_l 1,token_f1 1}', 'pairs of a source judge how it foresees and what it writes');
-- Half learned, so that no metric is 0 or 1.
SELECT llm_train(name, 'SELECT body, answer, id FROM question', target => 'answer', architecture => architecture, task => 'generation', wait => true,
                 params => '{"prompt": "body", "time_column": "id", "validation": 0.25, "layers": 1, "embed_dim": 32, "epochs": 1}') FROM (VALUES ('half_gpt', 'gpt'), ('half_t5', 't5')) AS v (name, architecture) \g /dev/null
SELECT is((SELECT count(*) FROM llm_evaluate(model) AS a JOIN llm_evaluate(model, 'SELECT body, answer FROM question WHERE id >= 360') AS b USING (metric)
           WHERE abs(a.value - b.value) <= 1e-5 * a.value), 5::bigint, model || ' is judged by given pairs as by those held out')
FROM unnest('{half_gpt,half_t5}'::text[]) AS model;
SELECT is((SELECT m ->> 'bleu' FROM (SELECT llm_text_metrics(llm_generate('half_gpt', body, 32), answer) AS m FROM question WHERE id >= 440) AS s)::float8,
          (SELECT value FROM llm_evaluate('half_gpt', 'SELECT answer, body FROM question WHERE id >= 440') WHERE metric = 'bleu'), 'and by the texts that llm_generate() writes');
SELECT is((SELECT array_agg(metric || ' ' || value) FROM llm_evaluate('half_t5', 'SELECT body, NULL::text AS answer FROM question')), '{"n 0"}', 'a prompt alone says nothing');
SELECT throws_ok($$SELECT * FROM llm_evaluate('half_t5', 'SELECT answer FROM question')$$, '42703', 'the source has no column "body"', 'pairs have a prompt');
SELECT throws_ok($$SELECT * FROM llm_evaluate('half_t5', 'SELECT body, id AS answer FROM question')$$, '42804', 'column "answer" of type integer is no text', 'and a text');
SELECT throws_ok($$SELECT llm_train('x', 'question', target => 'answer', architecture => 't5')$$, '22023', 'parameter "prompt" is missing', 'an encoder needs something to read');
SELECT throws_ok($$SELECT llm_train('x', 'question', target => 'answer', task => 'generation', params => '{"prompt": "answer"}')$$, '22023',
                 'column "answer" cannot be both prompt and target', 'that is not what it writes');
SELECT throws_ok($$SELECT llm_train('x', 'question', target => 'answer', task => 'generation', params => '{"prompt": "id"}')$$, '42804',
                 'column "id" of type integer is no text', 'and is text');
SELECT throws_ok($$SELECT llm_train('x', 'question', target => 'kind', task => 'classification', architecture => 'gpt', params => '{"text": "body", "prompt": "answer"}')$$, '22023',
                 'parameter "prompt" has no meaning for task "classification"', 'labels have no prompt');

-- masked tokens
SELECT llm_train('words', 'question', target => 'body', task => 'masked_lm', wait => true,
                 params => '{"layers": 1, "embed_dim": 32, "context": 16, "epochs": 60, "batch_size": 16}') \g /dev/null
SELECT is((SELECT task || ' ' || architecture FROM llmapp.models WHERE name = 'words'), 'masked_lm bert', 'hidden tokens are predicted by an encoder');
SELECT cmp_ok(metric('words', 'accuracy'), '>', 0.4::float8, 'as far as they can be');
SELECT is(metric('words', 'bits_per_byte'), NULL::float8, 'bytes that are not predicted have no bits');
SELECT throws_ok($$SELECT llm_generate('words', 'which')$$, '22023', NULL, 'it writes no text');
SELECT throws_ok($$SELECT * FROM llm_evaluate('words', 'question')$$, '0A000', 'model "words" predicts hidden tokens', 'and is not judged as if it did');
SELECT is(cardinality(llm_embed('words', 'which fox')), 32, 'but embeds it');
SELECT llm_train('kind', 'SELECT body, kind FROM question', target => 'kind', task => 'classification', base => 'words', wait => true,
                 params => '{"epochs": 8}') \g /dev/null
SELECT is((SELECT architecture FROM llmapp.models WHERE name = 'kind'), 'bert', 'and is the base of a classification');
SELECT cmp_ok(metric('kind', 'accuracy'), '>', 0.95::float8, 'that learns');

-- parts of a base
SELECT llm_train('answerer', 'SELECT body, answer FROM question', target => 'answer', base => 'answerer', wait => true,
                 params => '{"prompt": "body", "lora_rank": 4, "steps": 5, "deploy": "never"}') \g /dev/null
SELECT isnt(weights('answerer', 2), weights('answerer', 1), 'matrices of low rank change the sum');
SELECT is((SELECT value #>> '{}' FROM llmapp.model_settings WHERE model = 'answerer'::regclass AND version = 2 AND setting = 'lora_rank'), '4', 'the version says so');
SELECT lives_ok($$SELECT llm_promote('answerer', 2)$$, 'and is one like any other');
SELECT is(llm_generate('answerer', 'which fox has the house?', 40), 'the red of the north', 'that answers');
SELECT llm_train('kind', 'SELECT body, kind FROM question', target => 'kind', task => 'classification', base => 'kind', wait => true,
                 params => '{"epochs": 1, "train_layers": 1, "deploy": "never"}') \g /dev/null
SELECT isnt(weights('kind', 2), weights('kind', 1), 'the last layers alone can be trained');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body FROM question', task => 'generation', params => '{"lora_rank": 4}')$$, '22023',
                 'parameter "lora_rank" needs a base model', 'random weights are not tuned');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body, kind FROM question', target => 'kind', base => 'kind', params => '{"lora_rank": 4, "train_layers": 1}')$$, '22023',
                 'parameters "train_layers" and "lora_rank" cannot be used together', 'one way or the other');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body, kind FROM question', target => 'kind', base => 'kind', params => '{"lora_rank": 4, "lora_targets": ["head"]}')$$, '22023',
                 'parameter "lora_targets" cannot be "head"', 'layers have names');

-- the tokenizer of another model
SELECT llm_train('borrower', 'SELECT answer FROM question', task => 'generation', wait => true,
                 params => '{"tokenizer": "answerer", "layers": 1, "embed_dim": 16, "context": 16, "steps": 5}') \g /dev/null
SELECT is(llm_tokenize('borrower', 'the red fox'), llm_tokenize('answerer', 'the red fox'), 'a tokenizer can be taken from a model');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body FROM question', task => 'generation', params => '{"tokenizer": "bep"}')$$, '22023',
                 'parameter "tokenizer" cannot be "bep"', 'which must be there');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body FROM question', task => 'generation', params => '{"tokenizer": "question"}')$$, '42809', NULL, 'and be a model');

SELECT * FROM finish();
