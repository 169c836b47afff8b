-- Masked language models, pairs of prompt and completion, and what is tuned of a base.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(68);

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

-- kept apart from the base
CREATE FUNCTION train_low(model text, merge boolean, more jsonb DEFAULT '{}', base regclass DEFAULT 'answerer', deploy text DEFAULT 'always', wait boolean DEFAULT true) RETURNS bigint LANGUAGE sql AS
    $$ SELECT llm_train(model, 'SELECT body, reverse(answer) AS answer FROM question', target => 'answer', base => base, wait => wait,
                        params => jsonb_build_object('prompt', 'body', 'lora_rank', 4, 'epochs', 2, 'lora_merge', merge, 'deploy', deploy) || more) $$;
CREATE FUNCTION stored(model regclass, wanted int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE result bigint;
BEGIN
    EXECUTE format('SELECT sum(length(data)) FROM %s WHERE version = $1', model) INTO result USING wanted;
    RETURN result;
END $$;
SELECT llm_promote('answerer', 1);
SELECT train_low('sum', true) \g /dev/null
SELECT train_low('apart', false) \g /dev/null
SELECT cmp_ok(stored('apart', 1), '<', stored('answerer', 1) / 8, 'a version that is kept apart is small');
SELECT is((SELECT bytes FROM llmapp.model_versions WHERE model = 'apart'::regclass), stored('apart', 1), 'and is shown as what it holds');
SELECT is(llm_generate('apart', 'which fox has the house?', 40), llm_generate('sum', 'which fox has the house?', 40), 'it writes what the sum writes');
SELECT isnt(llm_generate('apart', 'which fox has the house?', 40), llm_generate('answerer', 'which fox has the house?', 40), 'and not what the base does');
SELECT is((SELECT count(*) FROM (SELECT llm_generate_over('apart', body, 40) OVER (ORDER BY id) AS one, llm_generate('sum', body, 40) AS other FROM question WHERE id < 12) AS g
           WHERE one IS DISTINCT FROM other), 0::bigint, 'nor several at once');
SELECT is((SELECT string_agg(token, '' ORDER BY position) FROM llm_generate_stream('apart', 'which hen has the river?', 40)), llm_generate('sum', 'which hen has the river?', 40), 'nor token by token');
SELECT ok(llm_perplexity('apart', 'the red of the north') = llm_perplexity('sum', 'the red of the north'), 'perplexities are equal to the bit');
SELECT is(llm_embed('apart', 'which fox'), llm_embed('sum', 'which fox'), 'and so are embeddings');
SELECT is(llm_tokenize('apart', 'the red fox'), llm_tokenize('answerer', 'the red fox'), 'the tokenizer is that of the base');
SELECT is((SELECT value FROM llm_evaluate('apart') WHERE metric = 'loss'), (SELECT value FROM llm_evaluate('sum') WHERE metric = 'loss'), 'and metrics are those of the training');
SELECT train_low('apart', false, base => 'apart') \g /dev/null
SELECT train_low('sum', true, base => 'sum') \g /dev/null
SELECT ok(llm_perplexity('apart', 'the red of the north') = llm_perplexity('sum', 'the red of the north'), 'it is a base itself');
SELECT train_low('apart', true, '{"lora_rank": 0}', base => 'apart', deploy => 'never') \g /dev/null
SELECT is(stored('apart', 3), stored('answerer', 1), 'also of a version that holds all');
SELECT llm_train('likes', 'SELECT body, kind FROM question', target => 'kind', task => 'classification', base => 'words', wait => true,
                 params => jsonb_build_object('lora_rank', 4, 'epochs', 3, 'lora_merge', merge, 'deploy', 'never')) FROM unnest('{true,false}'::boolean[]) AS merge \g /dev/null
SELECT llm_promote('likes', 2);
CREATE TABLE liked AS SELECT id, llm_predict('likes', q) AS label, llm_probability('likes', q)::text AS p FROM question AS q WHERE id < 12;
SELECT llm_promote('likes', 1);
SELECT is((SELECT count(*) FROM question AS q JOIN liked AS l USING (id) WHERE l.label = llm_predict('likes', q) AND l.p = llm_probability('likes', q)::text), 12::bigint,
          'a classification with a head of its own predicts the same');

-- the base stays, under whatever name
SELECT throws_ok('DROP TABLE answerer', '2BP01', 'cannot drop table answerer because other objects depend on it', 'the base is not dropped');
SELECT throws_ok($$SELECT llm_drop_version('answerer', 1)$$, '55006', NULL, 'a live version is not dropped anyway');
SELECT llm_promote('answerer', 2);
SELECT throws_ok($$SELECT llm_drop_version('answerer', 1)$$, '2BP01', 'cannot drop version 1 of model "answerer" because another version depends on it', 'nor one that another stands on');
SELECT llm_promote('apart', 2);
SELECT throws_ok($$SELECT llm_drop_version('apart', 1)$$, '2BP01', 'cannot drop version 1 of model "apart" because another version depends on it', 'in the same model');
ALTER TABLE answerer RENAME TO questioner;
CREATE SCHEMA elsewhere;
ALTER TABLE questioner SET SCHEMA elsewhere;
SELECT ok(llm_perplexity('apart', 'the red of the north') = llm_perplexity('sum', 'the red of the north'), 'another name of the base changes nothing');
ALTER TABLE elsewhere.questioner SET SCHEMA public;
ALTER TABLE questioner RENAME TO answerer;

-- whose owner reads both, as that of a view
CREATE ROLE tuner LOGIN;
CREATE ROLE talker;
GRANT CREATE, USAGE ON SCHEMA public TO tuner;
GRANT SELECT ON question TO tuner;
SET ROLE tuner;
SELECT throws_ok($$SELECT train_low('tuned', false, wait => false)$$, '42501', 'permission denied for model "answerer"', 'who may not read the base does not tune it');
RESET ROLE;
GRANT SELECT ON answerer TO tuner;
SET ROLE tuner;
SELECT train_low('tuned', false) \g /dev/null
GRANT SELECT (meta) ON tuned TO talker;
SET ROLE talker;
SELECT ok(llm_generate('tuned', 'which fox', 10) IS NOT NULL, 'who may predict needs no right to the base');
RESET ROLE;
REVOKE SELECT ON answerer FROM tuner;
SET ROLE talker;
SELECT throws_ok($$SELECT llm_generate('tuned', 'which fox', 10)$$, '42501', 'permission denied for model "answerer"', 'when its owner lost it, nobody reads both');
RESET ROLE;
GRANT SELECT, INSERT, UPDATE ON sum TO tuner;
GRANT SELECT ON answerer TO tuner;
SET ROLE tuner;
SELECT throws_ok($$SELECT train_low('sum', false, wait => false)$$, '42501', 'must be owner of model sum', 'only its owner makes a table depend on another');
RESET ROLE;
DROP TABLE tuned;

-- without it there are errors, never other weights
SELECT llm_promote('apart', 1);
DELETE FROM answerer WHERE version = 1 AND part > 0;
ALTER TABLE apart SET (autovacuum_enabled = false); -- sessions open it again
SELECT throws_ok($$SELECT llm_generate('apart', 'which')$$, 'XX001', 'model "answerer" is damaged', 'a damaged base is an error');
DELETE FROM answerer WHERE version = 1;
ALTER TABLE apart RESET (autovacuum_enabled);
SELECT throws_ok($$SELECT llm_generate('apart', 'which')$$, '55000', 'version 1 of model "apart" lacks its base', 'and so is one that is gone');
SELECT throws_ok($$SELECT llm_promote('apart', 1)$$, '55000', 'version 1 of model "apart" lacks its base', 'such a version does not become live');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body FROM question', base => 'words', task => 'masked_lm', params => '{"lora_merge": false}')$$, '22023',
                 'parameter "lora_merge" is false without "lora_rank"', 'there must be something to keep apart');
-- the tokenizer of another model
SELECT llm_train('borrower', 'SELECT answer FROM question', task => 'generation', wait => true,
                 params => '{"tokenizer": "answerer", "layers": 1, "embed_dim": 16, "context": 16, "steps": 5}') \g /dev/null
SELECT is(llm_tokenize('borrower', 'the red fox'), llm_tokenize('answerer', 'the red fox'), 'a tokenizer can be taken from a model');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body FROM question', task => 'generation', params => '{"tokenizer": "bep"}')$$, '22023',
                 'parameter "tokenizer" cannot be "bep"', 'which must be there');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body FROM question', task => 'generation', params => '{"tokenizer": "question"}')$$, '42809', NULL, 'and be a model');

DROP TABLE answerer CASCADE;
SELECT throws_ok($$SELECT llm_generate('apart', 'which')$$, '55000', 'version 1 of model "apart" lacks its base', 'CASCADE leaves the table that depends');

SELECT * FROM finish();
