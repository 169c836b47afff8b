-- Weights of language models kept in fewer bits: by a training, by llm_quantise, as a base, and what is refused.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(37);

CREATE TABLE tales AS
    SELECT i AS id, format('the %s %s sees the %s %s.', a[1 + i % 3], s[1 + i / 3 % 4], a[1 + i / 12 % 3], s[1 + i / 36 % 4]) AS body, s[1 + i / 3 % 4] AS hero
    FROM generate_series(0, 143) AS i, (SELECT ARRAY['old', 'young', 'red'] AS a, ARRAY['fox', 'hen', 'cat', 'dog'] AS s) AS words;
SELECT llm_train('tale', 'SELECT body FROM tales', task => 'generation', architecture => 'llama', wait => true,
                 params => '{"layers": 2, "embed_dim": 64, "ffn_dim": 96, "heads": 2, "context": 32, "tokenizer": "characters", "steps": 150, "batch_size": 8, "learning_rate": 0.01}') \g /dev/null
CREATE TABLE plain AS SELECT 1 AS version, llm_generate('tale', 'the ', 20) AS text, value AS perplexity, llm_embed('tale', 'the old fox')::tensor AS place
    FROM llm_evaluate('tale', 'SELECT body FROM tales WHERE id < 40') WHERE metric = 'perplexity';

-- llm_quantise adds versions that are not live.
SELECT is(llm_quantise('tale', kind), version, kind || ' is the next version')
    FROM (VALUES ('f32', 2), ('f16', 3), ('bf16', 4), ('q8_0', 5), ('q4_0', 6)) AS v (kind, version) ORDER BY version;
SELECT is((SELECT live_version FROM llmapp.models WHERE model = 'tale'::regclass), 1, 'the live version stays');
SELECT is((SELECT array_agg(DISTINCT metrics) FROM llmapp.model_versions WHERE model = 'tale'::regclass), (SELECT ARRAY[metrics] FROM llmapp.model_versions WHERE model = 'tale'::regclass AND version = 1), 'metrics are those of their source');
SELECT is((SELECT count(*) FROM llmapp.model_versions WHERE model = 'tale'::regclass AND lineage ->> 'quantised_from' = '1'), 5::bigint, 'which their lineage names');
SELECT is((SELECT (meta ->> 'tensors')::jsonb FROM tale WHERE version = 2 AND part = 0), (SELECT (meta ->> 'tensors')::jsonb FROM tale WHERE version = 1 AND part = 0), 'f32 is what was there');
SELECT is((SELECT meta -> 'weights' FROM tale WHERE version = 2 AND part = 0), (SELECT meta -> 'weights' FROM tale WHERE version = 1 AND part = 0), 'to the bit');
SELECT is((SELECT jsonb_object_agg(dtype, names) FROM (SELECT t ->> 'dtype' AS dtype, count(*) AS names FROM tale, jsonb_array_elements(meta -> 'tensors') AS t WHERE version = 6 AND part = 0 GROUP BY 1) AS c),
          '{"f32": 5, "q4_0": 9}'::jsonb, 'matrices are kept in the type, norms are not');
SELECT ok((SELECT bool_and(a.bytes > b.bytes) FROM llmapp.model_versions AS a JOIN llmapp.model_versions AS b ON a.model = b.model AND (a.version, b.version) IN ((2, 3), (4, 5), (5, 6)) WHERE a.model = 'tale'::regclass), 'fewer bits are fewer bytes');

SELECT is((SELECT value #>> '{}' FROM llmapp.model_settings WHERE model = 'tale'::regclass AND version = 5 AND setting = 'weights'), 'q8_0', 'and a setting says which');

-- They write, score and embed as the source does, about.
CREATE FUNCTION outcome(number int, OUT version int, OUT text text, OUT perplexity float8, OUT place tensor) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM llm_promote('tale', number);
    version := number;
    text := llm_generate('tale', 'the ', 20);
    perplexity := (SELECT value FROM llm_evaluate('tale', 'SELECT body FROM tales WHERE id < 40') WHERE metric = 'perplexity');
    place := llm_embed('tale', 'the old fox')::tensor;
END $$;
CREATE TABLE kept AS SELECT (outcome(n)).* FROM generate_series(2, 6) AS n;
SELECT is((SELECT array_agg(kept.version ORDER BY kept.version) FROM kept JOIN plain USING (perplexity) WHERE kept.text = plain.text), '{2}', 'f32 is the same model');
SELECT ok(abs(k.perplexity / p.perplexity - 1) < error, format('version %s foresees as well', k.version))
    FROM kept AS k, plain AS p, (VALUES (3, 0.001), (4, 0.002), (5, 0.002), (6, 0.1)) AS v (version, error) WHERE v.version = k.version ORDER BY k.version;
SELECT ok((SELECT bool_and((k.place <-> p.place) / llm_norm < 0.2) FROM kept AS k, plain AS p, LATERAL (SELECT sqrt(-(p.place <#> p.place)) AS llm_norm) AS l), 'and embeds as well');
SELECT is((SELECT count(*) FROM (SELECT body, llm_generate('tale', left(body, id % 9), 12) AS one, llm_generate_over('tale', left(body, id % 9), 12) OVER () AS many FROM tales WHERE id < 16) AS t WHERE one IS DISTINCT FROM many),
          0::bigint, 'several texts at once are those of one by one');
SELECT is((SELECT string_agg(token, '' ORDER BY position) FROM llm_generate_stream('tale', 'the ', 20)), (SELECT text FROM kept WHERE version = 6), 'and token by token');
SELECT is(llm_quantise('tale'), 7, 'what was quantised is quantised again, into q8_0 when nothing is said');
SELECT is((SELECT lineage ->> 'quantised_from' FROM llmapp.model_versions WHERE model = 'tale'::regclass AND version = 7), '6', 'of the live version');

-- A base in fewer bits: what is trained from it is float32, unless params say otherwise.
SELECT llm_train('short', 'SELECT body FROM tales WHERE id < 40', base => 'tale', wait => true, params => '{"steps": 3}') \g /dev/null
SELECT is((SELECT count(*) FROM short, jsonb_array_elements(meta -> 'tensors') AS t WHERE part = 0 AND t ->> 'dtype' <> 'f32'), 0::bigint, 'a version of its own is float32');
SELECT llm_train('apart', 'SELECT body FROM tales WHERE id < 40', base => 'tale', wait => true, params => '{"steps": 3, "lora_rank": 2, "lora_merge": false}') \g /dev/null
SELECT ok(llm_perplexity('apart', 'the old fox sees the red hen.') BETWEEN 1 AND 30, 'matrices alone stand on it');
SELECT ok((SELECT bytes FROM llmapp.model_versions WHERE model = 'apart'::regclass) < 40000, 'and hold no more');
SELECT is(llm_quantise('apart', 'bf16'), 2, 'their sum can be quantised');
SELECT ok((SELECT NOT meta ? 'adapter' FROM apart WHERE version = 2 AND part = 0), 'and is a whole');
SELECT llm_train('label', 'SELECT body, hero FROM tales', target => 'hero', task => 'classification', base => 'tale', wait => true, params => '{"epochs": 2}') \g /dev/null
SELECT ok((llm_predict('label', t)) IN ('fox', 'hen', 'cat', 'dog'), 'it is a base for labels') FROM tales AS t WHERE id = 1;

-- a training keeps them so itself
SELECT llm_train('small', 'SELECT body FROM tales', task => 'generation', wait => true,
                 params => '{"layers": 1, "embed_dim": 64, "heads": 2, "context": 32, "steps": 20, "weights": "q8_0"}') \g /dev/null
SELECT is((SELECT count(*) FROM small, jsonb_array_elements(meta -> 'tensors') AS t WHERE part = 0 AND t ->> 'dtype' = 'q8_0'), 5::bigint, 'a training keeps its matrices so');
SELECT ok(llm_generate('small', 'the', 5) IS NOT NULL, 'and they write');

-- refused
SELECT throws_ok($$SELECT llm_quantise('tale', 'q5_0')$$, '22023', 'weights cannot be kept as "q5_0"', 'an unknown type');
SELECT throws_ok($$SELECT llm_quantise('label', 'q8_0')$$, '0A000', 'model "label" is no language model and embeds no texts', 'a model that predicts columns');
SELECT throws_ok($$SELECT llm_quantise('tales', 'q8_0')$$, '42809', NULL, 'no model');
SELECT throws_ok($$SELECT llm_train('x', 'tales', target => 'hero', task => 'classification', architecture => 'gpt', params => '{"text": "body", "weights": "q8_0"}')$$, '22023',
                 'parameter "weights" has no meaning for task "classification"', 'columns are predicted from float32');
SELECT throws_ok($$SELECT llm_train('x', 'SELECT body FROM tales', base => 'tale', params => '{"lora_rank": 2, "lora_merge": false, "weights": "q8_0"}')$$, '22023',
                 'parameters "lora_merge" and "weights" cannot be used together', 'matrices beside a base are float32');
UPDATE tale SET meta = jsonb_set(meta, '{tensors,1,dtype}', '"q8_0"') WHERE version = 7 AND part = 0;
SELECT throws_ok($$SELECT llm_promote('tale', 7)$$, 'XX001', NULL, 'a manifest with a norm in bytes is damaged');

SELECT * FROM finish();
