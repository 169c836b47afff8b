-- Networks on images and networks of declared layers, from SQL.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(38);

\ir common/functions.sql

-- A bar of random place and brightness, lying or upright, in red or in blue.
CREATE FUNCTION bar(lying boolean, place int, red boolean, bright float8) RETURNS tensor LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(plane ORDER BY c)::real[]::tensor FROM
        (SELECT c, array_agg(line ORDER BY h) AS plane FROM
            (SELECT c, h, array_agg(CASE WHEN (c = 0) = red AND c <> 1 AND (CASE WHEN lying THEN h ELSE w END) BETWEEN place AND place + 1
                                         THEN bright ELSE 0.1 * ((h * 7 + w * 3 + place) % 5) / 5 END ORDER BY w) AS line
             FROM generate_series(0, 2) AS c, generate_series(0, 11) AS h, generate_series(0, 11) AS w GROUP BY c, h) AS lines
         GROUP BY c) AS planes $$;
CREATE TABLE bars (id int, picture tensor(3,12,12), weight float8, kind text, mixed text);
INSERT INTO bars SELECT i, bar(lying, place, red, bright), weight,
        CASE WHEN lying THEN 'lying' ELSE 'upright' END || CASE WHEN red THEN ' red' ELSE ' blue' END, CASE WHEN lying THEN 'lying' ELSE 'upright' END || CASE WHEN weight > 0 THEN ' plus' ELSE ' minus' END
    FROM (SELECT i, i % 2 = 0 AS lying, i * 7 % 11 AS place, i / 2 % 2 = 0 AS red, 0.5 + (i % 13) / 26.0 AS bright, sin(i * 3.7) AS weight
          FROM generate_series(1, 400) AS i) AS s;

-- The declared type alone makes it a convolutional network.
SELECT llm_train('bar', 'SELECT picture, kind FROM bars', target => 'kind', params => '{"epochs": 6, "validation": 0.2}', wait => true) \g /dev/null
SELECT is((SELECT architecture FROM llmapp.models WHERE name = 'bar'), 'cnn', 'a column declared as an image is learned by a convolutional network');
SELECT cmp_ok(metric('bar', 'accuracy'), '>', 0.95::float8, 'which tells direction and color');
SELECT is(setting('bar', 'shift'), '0 auto', 'the size of the image decides how far it moves');
SELECT is(setting('bar', 'hidden'), NULL, 'settings of other architectures are not shown');
SELECT ok((SELECT bool_and(NOT (name IN ('hidden', 'layers'))) AND bool_or(name = 'flip') FROM llm_params('cnn')), 'nor listed');
SELECT is((SELECT string_agg(architecture, ' ' ORDER BY architecture) FROM llm_architectures()), 'bert cnn gpt layers llama mlp t5', 'architectures');

-- All forms of an input mean the same.
SELECT is((SELECT count(*)::int FROM bars AS b WHERE llm_predict('bar', b) IS DISTINCT FROM llm_predict('bar', picture)), 0, 'a row and its image predict the same');
SELECT is((SELECT count(*)::int FROM bars AS b WHERE id <= 50 AND llm_predict('bar', b) IS DISTINCT FROM llm_predict('bar', to_jsonb(b))), 0, 'so does its JSON');
SELECT is((SELECT count(*)::int FROM bars WHERE llm_predict('bar', picture) IS DISTINCT FROM llm_predict('bar', llm_reshape(picture, '{432}')::real[])), 0, 'and its plain numbers');
SELECT is((SELECT count(*)::int FROM (SELECT llm_predict('bar', b) AS one, llm_predict_over('bar', b) OVER () AS many FROM bars AS b) AS s WHERE one <> many),
          0, 'one by one and many at once agree');
SELECT isnt(llm_predict('bar', '{"picture": null}'::jsonb), NULL, 'a missing image is predicted');
SELECT throws_ok($$SELECT llm_predict('bar', llm_reshape(bar(true, 3, true, 1), '{12,12,3}'))$$, '22023', NULL, 'channels last are refused');
SELECT throws_ok($$SELECT llm_predict('bar', '[[1,2],[3,4]]'::tensor)$$, '22023', 'column "picture" has an image of 1 x 2 x 2, the model was trained with 3 x 12 x 12', 'another size is refused');
SELECT throws_ok($$SELECT llm_predict('bar', array_fill(0::real, ARRAY[431]))$$, '22023', NULL, 'too few numbers are refused');
SELECT throws_ok($$SELECT llm_predict('bar', '{"picture": [[[1]],[[2]]]}'::jsonb)$$, '22023', NULL, 'JSON of another shape is refused');

-- Other columns beside the image, which the label cannot be told without.
SELECT llm_train('mixed', 'SELECT picture, weight, mixed FROM bars', target => 'mixed', params => '{"epochs": 20, "validation": 0.2}', wait => true) \g /dev/null
SELECT cmp_ok(metric('mixed', 'accuracy'), '>', 0.9::float8, 'image and number are joined');

-- Same seed, same bytes; all augmentation is part of it.
SELECT llm_train('same', 'SELECT picture, kind FROM bars', target => 'kind',
                 params => '{"epochs": 2, "shift": 2, "flip": true, "crop": 0.2, "deploy": "always"}', wait => true) \g /dev/null
SET llmapp.threads = 2;
SELECT llm_train('same', 'SELECT picture, kind FROM bars', target => 'kind',
                 params => '{"epochs": 2, "shift": 2, "flip": true, "crop": 0.2, "deploy": "always"}', wait => true) \g /dev/null
RESET llmapp.threads;
SELECT is(weights('same', 1), weights('same', 2), 'the same seed gives the same bytes for any number of threads');
SELECT llm_train('same', 'SELECT picture, kind FROM bars', target => 'kind', params => '{"epochs": 2, "shift": 2, "flip": false, "deploy": "always"}', wait => true) \g /dev/null
SELECT isnt(weights('same', 1), weights('same', 3), 'without mirrors they differ');

-- A search over augmentation.
SELECT llm_train('searched', 'SELECT picture, kind FROM bars', target => 'kind',
                 params => '{"epochs": 2, "shift": {"choices": [0, 1]}, "crop": {"min": 0, "max": 0.3}, "trials": 2, "validation": 0.2}', wait => true) \g /dev/null
SELECT is((SELECT count(*)::int FROM llmapp.job_trials AS t JOIN llmapp.jobs AS j USING (job) WHERE j.model = 'public.searched' AND t.settings ? 'crop'), 2, 'augmentation is searched');

-- Training further, with the network of the base.
SELECT llm_train('further', 'SELECT picture, kind FROM bars', target => 'kind', base => 'bar', params => '{"epochs": 1, "learning_rate": 1e-5}', wait => true) \g /dev/null
SELECT is((SELECT architecture FROM llmapp.models WHERE name = 'further'), 'cnn', 'the base decides the architecture');
SELECT cmp_ok(metric('further', 'accuracy'), '>', 0.9::float8, 'and gives the first weights');
SELECT throws_ok($$SELECT llm_train('further', 'SELECT picture, kind FROM bars', target => 'kind', architecture => 'mlp', base => 'bar')$$,
                 '22023', 'the base model is of architecture "cnn", not "mlp"', 'another architecture is refused');
SELECT throws_ok($$SELECT llm_train('further', 'SELECT picture, kind FROM bars', target => 'kind', base => 'bar', params => '{"image": "picture"}')$$,
                 '22023', 'parameter "image" cannot be set together with a base model', 'so is another image');

-- Declared layers, with a branch by name.
SELECT llm_train('declared', 'SELECT picture, weight, mixed FROM bars', target => 'mixed', wait => true, params => '{"epochs": 20, "validation": 0.2, "layers": [
    {"type": "conv2d", "name": "stem", "channels": 8, "kernel": 3},
    {"type": "group_norm", "groups": 2},
    {"type": "activation", "function": "silu"},
    {"type": "conv2d", "channels": 8, "kernel": 3},
    {"type": "add", "inputs": ["stem", 4]},
    {"type": "max_pool", "kernel": 3},
    {"type": "flatten"},
    {"type": "linear", "name": "seen", "width": 16},
    {"type": "linear", "name": "told", "input": "columns", "width": 16},
    {"type": "concat", "inputs": ["seen", "told"]},
    {"type": "activation", "function": "relu"},
    {"type": "linear", "width": 16},
    {"type": "activation", "function": "relu"}]}') \g /dev/null
SELECT is((SELECT architecture FROM llmapp.models WHERE name = 'declared'), 'layers', 'layers make an architecture of their own');
SELECT cmp_ok(metric('declared', 'accuracy'), '>', 0.8::float8, 'which learns');
SELECT is((SELECT (t ->> 'name') || ' ' || (t -> 'shape') FROM declared, jsonb_array_elements(meta -> 'tensors') AS t WHERE kind = 'manifest' AND t ->> 'name' LIKE 'stem.%' ORDER BY 1 DESC LIMIT 1),
          'stem.weight [3, 3, 3, 8]', 'tensors carry the names of the layers');
CREATE TABLE numbers AS SELECT sin(i) AS x, cos(i) AS z, sin(i) * cos(i) AS y FROM generate_series(1, 600) AS i;
SELECT llm_train('columns_only', 'numbers', target => 'y', wait => true, params => '{"layers": [{"type": "linear", "width": 32}, {"type": "activation", "function": "tanh"}]}') \g /dev/null
SELECT cmp_ok(metric('columns_only', 'r2'), '>', 0.9::float8, 'layers on columns alone');

-- What is refused, before a job starts where that is known.
SELECT throws_ok($$SELECT llm_train('m', 'numbers', target => 'y', architecture => 'cnn')$$, '22023', 'the source has no column with an image', 'a cnn needs an image');
SELECT throws_ok($$SELECT llm_train('m', 'SELECT picture, picture AS other, kind FROM bars', target => 'kind')$$, '42702', 'the source has several columns that may be the image', 'which of two');
SELECT throws_ok($$SELECT llm_train('m', 'SELECT picture, weight, kind FROM bars', target => 'kind', params => '{"image": "weight"}')$$, '42804', 'column "weight" of type double precision is no image', 'a number is none');
SELECT throws_ok($$SELECT llm_train('m', 'SELECT picture, kind FROM bars', target => 'kind', params => '{"image": "kind"}')$$, '22023', 'column "kind" is not an input', 'nor is the target');
SELECT throws_ok($$SELECT llm_train('m', 'SELECT picture, kind FROM bars', target => 'kind', architecture => 'mlp', params => '{"flip": true}')$$, '22023', 'parameter "flip" has no meaning for architecture "mlp"', 'a setting of another architecture');
SELECT throws_ok($$SELECT llm_train('m', 'numbers', target => 'y', architecture => 'layers')$$, '22023', 'parameter "layers" is missing', 'layers must be given');
SELECT throws_ok($$SELECT llm_train('m', 'numbers', target => 'y', params => '{"layers": [{"type": "linear", "width": 8, "with": 3}]}')$$, '22023', 'layer 1 (linear): unknown key "with"', 'a misspelt key');
SELECT throws_ok($$SELECT llm_train('m', 'numbers', target => 'y', params => '{"layers": [{"type": "conv2d", "channels": 8, "kernel": 3}]}')$$, '22023', 'the source has no column with an image', 'a convolution of columns');
-- What only the rows show is the job's error.
SELECT llm_train('m', 'SELECT picture, kind FROM bars', target => 'kind', params => '{"layers": [{"type": "max_pool", "kernel": 20}, {"type": "flatten"}]}') AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is(failure(:job), '22023 layer 1 (max_pool) has a window of 20 x 20, larger than its input of 12 x 12 x 3', 'layers that do not fit the image');
SELECT llm_train('m', 'SELECT llm_reshape(picture, ''{12,12,3}'') AS picture, kind FROM bars', target => 'kind', architecture => 'cnn') AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is(failure(:job), '22023 column "picture" has images of shape 12 x 12 x 3, which looks like (height, width, channels)', 'channels last');
SELECT llm_train('m', 'SELECT CASE WHEN id % 2 = 0 THEN picture::real[]::tensor ELSE ''[[1,2],[3,4]]'' END AS picture, kind FROM bars', target => 'kind', architecture => 'cnn') AS job \gset
SELECT llm_wait(:job) \g /dev/null
SELECT is(failure(:job), '22023 column "picture" has an image of 1 x 2 x 2 in one row and of 3 x 12 x 12 in another', 'images of different sizes');
SELECT * FROM finish();
