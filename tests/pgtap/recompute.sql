-- Layers that are computed again for their gradient where memory is short.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(9);

\ir common/functions.sql

-- One window of a long context whose layers do not fit into memory.
CREATE TABLE saga AS SELECT (SELECT string_agg(md5((i * 1000 + k)::text), ' ') FROM generate_series(1, 200) AS k) AS body FROM generate_series(1, 4) AS i;
\set long '{"tokenizer": "bytes", "context": 1024, "layers": 12, "embed_dim": 32, "heads": 2, "batch_size": 1, "steps": 3, "dropout": 0.2, "checkpoint_every": 1000'
CREATE TABLE long_before AS
    SELECT recompute, e.* FROM (VALUES (false), (true)) AS t (recompute),
        llm_estimate('saga', task => 'generation', params => (:'long' || '}')::jsonb || jsonb_build_object('recompute', recompute)) AS e;
SELECT cmp_ok(again.memory_bytes - 10000000, '<', (plain.memory_bytes - 10000000) / 3, 'computing layers again takes less memory')
    FROM long_before AS plain, long_before AS again WHERE again.recompute AND NOT plain.recompute;
SELECT ok(again.flops / plain.flops BETWEEN 1.1 AND 1.34, 'and up to a third more time')
    FROM long_before AS plain, long_before AS again WHERE again.recompute AND NOT plain.recompute;
SELECT memory_bytes / 1024 - 1024 AS less FROM long_before WHERE NOT recompute \gset
SELECT llm_train('long_plain', 'saga', task => 'generation', params => (:'long' || '}')::jsonb, wait => true) \g /dev/null
SELECT is(setting('long_plain', 'recompute'), 'false auto', 'with enough memory nothing is computed again');
SET llmapp.train_memory = :less;
SELECT llm_train('long_refused', 'saga', task => 'generation', params => (:'long' || ', "recompute": false}')::jsonb) AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is(split_part(failure(:job), ' ', 1), '53200', 'one window is too much');
SELECT llm_train('long_again', 'saga', task => 'generation', params => (:'long' || '}')::jsonb) AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is((SELECT status FROM llmapp.jobs WHERE job = :job), 'succeeded', 'but is learned when layers are computed again');
SELECT is(setting('long_again', 'recompute') || ', ' || setting('long_again', 'micro_batch'), 'true auto, 1 auto', 'which the settings say');
SELECT is((SELECT memory_bytes FROM llm_estimate('saga', task => 'generation', params => (:'long' || '}')::jsonb)), (SELECT memory_bytes FROM long_before WHERE recompute),
          'and an estimate knows');
RESET llmapp.train_memory;
SELECT is(weights('long_again', 1), weights('long_plain', 1), 'the weights are the same to the last bit');
SELECT is(metric('long_again', 'loss'), metric('long_plain', 'loss'), 'and so is the loss');

SELECT * FROM finish();
