-- Embeddings learned from pairs of texts that belong together.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(40);

\ir common/functions.sql

-- each of 12 x 12 x 12 facts is said in two languages, with other words in another order
CREATE TABLE fact AS
    SELECT a * 144 + b * 12 + c AS id,
           format('the %s %s a %s', who[a + 1], does[b + 1], what[c + 1]) AS said,
           format('%s by %s %s', thing[c + 1], person[a + 1], done[b + 1]) AS meant,
           (a * 31 + b * 17 + c * 7) % 12 = 0 AS unseen
    FROM generate_series(0, 11) AS a, generate_series(0, 11) AS b, generate_series(0, 11) AS c,
         (SELECT string_to_array('king cook nurse farmer child poet thief judge sailor baker pilot monk', ' ') AS who,
                 string_to_array('rex coquus medica agricola puer vates fur iudex nauta pistor rector frater', ' ') AS person,
                 string_to_array('buys sells finds loses breaks mends paints hides lifts burns eats draws', ' ') AS does,
                 string_to_array('emit vendit invenit perdit frangit reparat pingit celat tollit urit edit ducit', ' ') AS done,
                 string_to_array('cup book horse ship door sword chair coin apple stone lamp tree', ' ') AS what,
                 string_to_array('poculum liber equus navis porta gladius sella nummus malum saxum lucerna arbor', ' ') AS thing) AS words;
-- for a text of the one kind, how often the nearest of the other kind among 100 is its partner
CREATE FUNCTION found(model regclass, pool text DEFAULT NULL) RETURNS float8 LANGUAGE sql AS $$
    WITH embedded AS MATERIALIZED (SELECT id, llm_embed(model, said, pool)::tensor AS s, llm_embed(model, meant, pool)::tensor AS m
                               FROM fact WHERE unseen ORDER BY id LIMIT 100)
    SELECT avg((best = id)::int)::float8
    FROM (SELECT a.id, (SELECT b.id FROM embedded AS b ORDER BY a.s <-> b.m LIMIT 1) AS best FROM embedded AS a) AS t $$;

SELECT llm_train('twin', 'SELECT said, meant, unseen FROM fact', target => 'meant', task => 'embedding',
                 params => '{"prompt": "said", "validation": "unseen", "layers": 1, "embed_dim": 64, "epochs": 8, "batch_size": 64, "seed": 3}', wait => true) \g /dev/null
SELECT is((SELECT task || ' ' || architecture || ' ' || target FROM llmapp.models WHERE name = 'twin'), 'embedding bert meant',
          'pairs of texts are for an encoder unless another architecture is named');
SELECT is(metric('twin', 'n'), 144::float8, 'held-out pairs are judged');
SELECT cmp_ok(metric('twin', 'accuracy'), '>', 0.9::float8, 'among the pairs of their batch');
SELECT cmp_ok(metric('twin', 'loss'), '<', 0.5::float8, 'by their loss');
SELECT is((SELECT count(*) FROM llm_evaluate('twin') WHERE metric IN ('perplexity', 'bits_per_byte')), 0::bigint, 'no token is predicted');
SELECT cmp_ok(found('twin'), '>', 0.9::float8, 'the partner of a text that was never seen is the nearest');
SELECT is(cardinality(llm_embed('twin', 'the king')), 64, 'as wide as the network');
SELECT cmp_ok((SELECT abs(sum(x * x) - 1) FROM unnest(llm_embed('twin', 'the king')) AS x), '<', 1e-5::double precision, 'and of length 1');
SELECT is(llm_embed('twin', 'the king'), llm_embed('twin', 'the king', 'mean'), 'pooled as in training');
SELECT ok(llm_embed('twin', repeat('the king ', 1000)) IS NOT NULL, 'of a long text the beginning is read');
SELECT ok(llm_embed('twin', '') IS NOT NULL, 'an empty text is one');
SELECT is(llm_embed('twin', NULL), NULL, 'NULL is none');
SELECT is((SELECT count(*) FROM (SELECT llm_embed('twin', t) AS one, llm_embed_over('twin', t) OVER (PARTITION BY id % 3) AS many FROM (SELECT id, CASE WHEN id % 7 > 0 THEN repeat(said || ' ', id % 20) END AS t FROM fact WHERE id < 250) AS texts) AS e
           WHERE one IS DISTINCT FROM many), 0::bigint, 'many texts have at once the embeddings that they have alone');
SELECT is((SELECT count(*) FROM (SELECT llm_embed_over('twin', llm_embed_over::text) OVER () AS second FROM (SELECT llm_embed_over('twin', said) OVER () FROM fact WHERE id < 70) AS inner_texts) AS e WHERE second IS NULL), 0::bigint, 'also of what it made');
SELECT is((SELECT count(llm_embed_over) FROM (SELECT llm_embed_over(NULL, said) OVER () FROM fact LIMIT 3) AS t), 0::bigint, 'no model, no embedding');
SELECT throws_ok($$SELECT llm_embed_over(c.oid, 'the') OVER () FROM pg_class AS c WHERE relname = 'twin'$$, '0A000', NULL, 'one model for all rows');
SELECT throws_ok($$SELECT llm_embed_over('fact', said) OVER () FROM fact$$, '42809', NULL, 'which is one');
SELECT is(setting('twin', 'pool'), 'mean default', 'the pool is a setting');
SELECT is(setting('twin', 'ngrams'), NULL, 'other settings of rows are not');

-- Three answers for many questions: others that have the same answer are not to be told from it.
SELECT llm_train('helpdesk', 'SELECT said, meant FROM (SELECT said, split_part(meant, '' '', 1) AS meant, id FROM fact) AS f WHERE meant IN (''cup'', ''poculum'', ''liber'', ''navis'')',
                 target => 'meant', task => 'embedding', params => '{"prompt": "said", "layers": 1, "embed_dim": 32, "steps": 150, "batch_size": 64}', wait => true) \g /dev/null
SELECT cmp_ok(metric('helpdesk', 'loss'), '<', 0.3::float8, 'repeated answers are right wherever they stand');
SELECT llm_train('last', 'SELECT said, meant FROM fact WHERE id % 10 = 0', target => 'meant', task => 'embedding', architecture => 'llama',
                 params => '{"prompt": "said", "pool": "last", "layers": 1, "embed_dim": 32, "epochs": 1}', wait => true) \g /dev/null
SELECT is(llm_embed('last', 'the king'), llm_embed('last', 'the king', 'last'), 'the last token stands for a text when it was trained so');
SELECT isnt(llm_embed('last', 'the king'), llm_embed('last', 'the king', 'mean'), 'which is another than the mean');
SELECT is((SELECT count(*) FROM (SELECT llm_embed('last', said) AS one, llm_embed_over('last', said) OVER () AS many FROM fact WHERE id < 100) AS e WHERE one IS DISTINCT FROM many), 0::bigint, 'also of many at once');
SELECT llm_train('tale', 'SELECT said FROM fact WHERE NOT unseen UNION ALL SELECT meant FROM fact WHERE NOT unseen', task => 'masked_lm',
                 params => '{"layers": 1, "embed_dim": 64, "context": 24, "epochs": 2, "vocab_size": 400}', wait => true) \g /dev/null
SELECT llm_train('tuned', 'SELECT said, meant, unseen FROM fact', target => 'meant', task => 'embedding', base => 'tale',
                 params => '{"prompt": "said", "validation": "unseen", "epochs": 8, "batch_size": 64}', wait => true) \g /dev/null
SELECT is((SELECT task || ' ' || architecture FROM llmapp.models WHERE name = 'tuned'), 'embedding bert', 'a language model learns to embed');
SELECT cmp_ok(found('tuned'), '>', 0.9::float8, 'and does');
SELECT is(setting('tuned', 'context'), '24 auto', 'with its context');
SELECT llm_train('more', 'SELECT said, meant FROM fact WHERE id % 10 = 0', target => 'meant', task => 'embedding', base => 'last',
                 params => '{"prompt": "said", "epochs": 1}', wait => true) \g /dev/null
SELECT is(setting('more', 'pool'), 'last auto', 'an embedding learns on, with its pool');

CREATE TABLE before AS SELECT * FROM llm_estimate('SELECT said, meant, unseen FROM fact', 'meant', 'embedding',
    params => '{"prompt": "said", "validation": "unseen", "layers": 1, "embed_dim": 64, "epochs": 8, "batch_size": 64, "seed": 3}');
SELECT is(steps, (SELECT max(step) FROM llmapp.job_metrics WHERE job = 1), 'the steps of a training are estimated') FROM before;
SELECT is(weight_bytes, (SELECT (meta -> 'weights' ->> 'bytes')::bigint - (meta -> 'weights' ->> 'tokenizer')::bigint FROM twin WHERE version = 1 AND part = 0),
          'and the size of the network') FROM before;
SELECT is((SELECT rows FROM llm_estimate('SELECT said, meant FROM fact', 'meant', 'generation', params => '{"prompt": "said"}')), 1728::bigint,
          'as they are of pairs of which one is written');
SELECT llm_train('x', 'SELECT said, meant FROM fact LIMIT 1', target => 'meant', task => 'embedding', params => '{"prompt": "said"}') AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is(sqlstate || ' ' || message, '22023 there is one training row, an embedding needs at least 2', 'one pair is too few') FROM llmapp.jobs WHERE job = :job;
SELECT throws_ok($$SELECT llm_generate('twin', 'the king')$$, '42809', 'model "twin" embeds texts and predicts nothing', 'it writes no text');
SELECT throws_ok($$SELECT llm_predict('twin', 'the king')$$, '42809', 'model "twin" embeds texts and predicts nothing', 'it predicts no column');
SELECT throws_ok($$SELECT llm_perplexity('twin', 'the king')$$, '42809', 'model "twin" embeds texts and predicts nothing', 'and no token');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT said, meant FROM fact', target => 'meant', task => 'embedding')$$, '22023',
                 'parameter "prompt" is missing', 'the other text must be named');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT said, meant FROM fact', target => 'meant', task => 'embedding', params => '{"prompt": "said", "batch_size": 1}')$$,
                 '22023', 'parameter "batch_size" is 1, an embedding needs at least 2', 'one pair has nothing to be told from');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT said, meant FROM fact', target => 'meant', task => 'embedding', architecture => 't5', params => '{"prompt": "said"}')$$,
                 '22023', 'unknown task "embedding" for architecture "t5"', 'an encoder-decoder does not embed');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT said, meant FROM fact', target => 'meant', task => 'embedding', base => 'last', params => '{"prompt": "said", "pool": "mean"}')$$,
                 '22023', 'parameter "pool" cannot be set together with a base model', 'what stands for a text is learned');
-- what the owner of a model writes into its manifest is not believed
UPDATE last SET meta = jsonb_set(meta, '{network,loss}', '"mse"') WHERE version = 1 AND part = 0;
SELECT throws_ok($$SELECT llm_embed('last', 'good')$$, 'XX001', NULL, 'a loss that is not of texts');
UPDATE last SET meta = jsonb_set(jsonb_set(meta, '{network,loss}', '"contrastive"'), '{task}', '"generation"') WHERE version = 1 AND part = 0;
SELECT throws_ok($$SELECT llm_embed('last', 'good')$$, 'XX001', NULL, 'a task that is not of the network');
SELECT * FROM finish();
