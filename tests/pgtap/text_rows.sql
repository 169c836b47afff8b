-- Labels and numbers predicted from a text, and from columns beside it, by a transformer.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(31);

\ir common/functions.sql

CREATE TABLE review AS
    SELECT i AS id,
           'The ' || (ARRAY['soup', 'room', 'show', 'phone'])[1 + i % 4] || ' was ' ||
           CASE WHEN i % 5 = 0 THEN 'not ' ELSE '' END || (ARRAY['good', 'bad'])[1 + i / 4 % 2] || ' ' || repeat('indeed ', i % 3) AS body,
           (ARRAY['red', 'green', 'blue'])[1 + i * 7 % 3] AS colour,
           CASE WHEN (i / 4 % 2 = 0) <> (i % 5 = 0) THEN 'praise' ELSE 'blame' END AS mood,
           (i % 3) * 2.0 + CASE WHEN i * 7 % 3 = 0 THEN 5 ELSE 0 END AS score
    FROM generate_series(1, 600) AS i;
SELECT llm_train('mood', 'SELECT body, mood FROM review', target => 'mood', architecture => 'gpt', wait => true) \g /dev/null
SELECT llm_train('score', 'SELECT body, colour, score FROM review', target => 'score', architecture => 'llama',
                 params => '{"text": "body", "ngrams": false, "epochs": 30, "layers": 1, "embed_dim": 32}', wait => true) \g /dev/null
SELECT llm_train('tale', 'SELECT body FROM review', task => 'generation', params => '{"layers": 1, "embed_dim": 32, "context": 16, "epochs": 2, "vocab_size": 300}',
                 wait => true) \g /dev/null
SELECT llm_train('tuned', 'SELECT body, mood FROM review', target => 'mood', task => 'classification', base => 'tale', params => '{"epochs": 30, "learning_rate": 0.002}', wait => true) \g /dev/null
SELECT is((SELECT task || ' ' || architecture || ' ' || target FROM llmapp.models WHERE name = 'mood'), 'classification gpt mood',
          'a label beside a text is a classification');
SELECT cmp_ok(metric('mood', 'accuracy'), '>', 0.97::float8, 'whose held-out rows are predicted');
SELECT cmp_ok((SELECT avg((llm_predict('mood', body) = mood)::int) FROM review), '>', 0.97, 'a text is input enough');
SELECT is((SELECT count(*) FROM review AS r WHERE llm_predict('mood', r) IS DISTINCT FROM llm_predict('mood', body)), 0::bigint, 'a row says the same');
SELECT is((SELECT count(*) FROM review WHERE llm_predict('mood', jsonb_build_object('body', body)) IS DISTINCT FROM llm_predict('mood', body)),
          0::bigint, 'and so does jsonb');
SELECT is((SELECT count(*) FROM (SELECT llm_predict('mood', body) AS one, llm_predict_over('mood', body) OVER () AS many FROM review) AS p
           WHERE one IS DISTINCT FROM many), 0::bigint, 'many at once are predicted as one is');
SELECT cmp_ok((SELECT max(abs(llm_probability('mood', body, 'praise') + llm_probability('mood', body, 'blame') - 1)) FROM review), '<', 1e-6::float8,
          'probabilities add up');
SELECT ok(llm_predict('mood', '') IN ('praise', 'blame'), 'an empty text is one');
SELECT ok(llm_predict('mood', repeat('good ', 5000)) IS NOT NULL, 'of a long text the beginning is read');
SELECT ok(llm_predict('mood', E'caf\u00e9 \U0001F600') IS NOT NULL, 'letters that were never seen are tokens, too');
SELECT is(llm_predict('mood', NULL::text), NULL, 'NULL is not predicted');
SELECT is((SELECT value FROM llm_evaluate('mood', 'review') WHERE metric = 'n'), 600::float8, 'other rows are evaluated');
SELECT matches(setting('mood', 'dropout'), '^0.(3|29999).* auto$', 'settings are chosen for rows');
SELECT is(setting('mood', 'context'), '16 auto', 'among them the context, by the length of texts');
SELECT cmp_ok(metric('score', 'r2'), '>', 0.9::float8, 'a number follows from a text and the column beside it');
SELECT cmp_ok((SELECT max(abs(llm_predict('score', r, NULL::float8) - llm_predict('score', jsonb_build_object('body', body, 'colour', colour), NULL::float8)))
               FROM review AS r), '<', 1e-6::float8, 'which both come by name');
SELECT throws_ok($$SELECT llm_predict('score', 'a text alone')$$, '42804', NULL, 'and are both needed');
SELECT is((SELECT task FROM llmapp.models WHERE name = 'tuned'), 'classification', 'a language model learns to predict labels');
SELECT cmp_ok(metric('tuned', 'accuracy'), '>', 0.9::float8, 'and does');
SELECT is(setting('tuned', 'context'), '16 auto', 'with the context that it had');
SELECT throws_ok($$SELECT llm_generate('mood', 'The')$$, '42809', NULL, 'a model of labels writes no text');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body, colour, mood FROM review', target => 'mood', architecture => 'gpt')$$, '42702',
                 'the source has several columns of text', 'which text is to be read must be clear');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT id, mood FROM review', target => 'mood', task => 'classification', architecture => 'gpt')$$, '22023',
                 'the source has no column of text that is an input', 'there must be one');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT id, body, mood FROM review', target => 'mood', architecture => 'gpt', params => '{"text": "id"}')$$,
                 '42804', 'column "id" of type integer is no text', 'that is text');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body FROM review', task => 'generation', params => '{"pool": "last"}')$$, '22023',
                 'parameter "pool" has no meaning for task "generation"', 'settings of rows mean nothing to a language model');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body, mood FROM review', target => 'mood', task => 'classification', base => 'mood', params => '{"ngrams": false}')$$,
                 '22023', 'parameter "ngrams" cannot be set together with a base model', 'a base has decided what is read');
-- an estimate with a base leaves the open model as it was
SELECT is((SELECT rows FROM llm_estimate('SELECT body, mood FROM review', 'mood', base => 'mood')), 600::bigint, 'a base is estimated');
SELECT ok(llm_predict('mood', 'good soup') IS NOT NULL AND llm_predict('mood', repeat('bad ', 1000)) IS NOT NULL, 'and predicts afterwards');
SELECT llm_train('x', 'SELECT NULL::text AS body, score, mood FROM review', target => 'mood', task => 'classification', architecture => 'gpt') AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is((SELECT sqlstate || ' ' || message FROM llmapp.jobs WHERE job = :job), '22023 no training row has a text in column "body"',
          'without any text there is nothing to read token by token');
-- what the owner of a model writes into its manifest is not believed
UPDATE mood SET meta = jsonb_set(meta, '{columns,columns,0,tokens,vocab}', '7') WHERE version = 1 AND part = 0;
SELECT throws_ok($$SELECT llm_predict('mood', 'good')$$, 'XX001', NULL, 'a vocabulary that is not the network''s');
UPDATE mood SET meta = jsonb_set(meta #- '{columns,columns,0,tokens}', '{format}', '1') WHERE version = 1 AND part = 0;
SELECT throws_ok($$SELECT llm_predict('mood', 'good')$$, 'XX001', NULL, 'a transformer that no column feeds');
SELECT * FROM finish();
