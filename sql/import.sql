-- Models from safetensors files and back: each way in which file and parameters can be wrong.
SET client_min_messages = warning;
CREATE FUNCTION little_endian(numbers real[]) RETURNS bytea LANGUAGE sql AS $$
    SELECT string_agg(substr(b, 4, 1) || substr(b, 3, 1) || substr(b, 2, 1) || substr(b, 1, 1), '' ORDER BY i)
    FROM unnest(numbers) WITH ORDINALITY AS u(x, i), float4send(x) AS b $$;
CREATE FUNCTION safetensors(header text, numbers real[] DEFAULT '{}') RETURNS bytea LANGUAGE sql AS $$
    SELECT substr(n, 4, 1) || substr(n, 3, 1) || substr(n, 2, 1) || substr(n, 1, 1) || '\x00000000'::bytea
           || convert_to(header, 'UTF8') || coalesce(little_endian(numbers), '')
    FROM int4send(octet_length(header)) AS n $$;
-- fc: three outputs of two inputs
CREATE FUNCTION fc(weight text DEFAULT 'fc.weight', bias text DEFAULT 'fc.bias', shape text DEFAULT '3,2') RETURNS bytea
LANGUAGE sql AS $$
    SELECT safetensors(format('{"%s":{"dtype":"F32","shape":[%s],"data_offsets":[0,24]},"%s":{"dtype":"F32","shape":[3],"data_offsets":[24,36]}}',
                              weight, shape, bias), '{1,0, 0,1, 1,1, 0,0.5,-9}') $$;
CREATE TABLE p (params jsonb);
INSERT INTO p VALUES ('{"layers": [{"type": "linear", "name": "fc", "width": 3}], "input": {"name": "x", "shape": [2]}}');
SELECT llm_import('m', fc(), params) FROM p;
SELECT llm_predict('m', '{2,1}'::real[]), llm_predict('m', '{1,2}'::real[]), llm_predict('m', '{"x": [9, 9]}'::jsonb);
SELECT model, task, architecture, target, live_version, versions, rows, metrics, problem FROM llmapp.models;
SELECT setting, value, source FROM llmapp.model_settings ORDER BY setting;
SELECT lineage -> 'imported' ->> 'format' AS format, lineage -> 'imported' ->> 'sha256' = encode(sha256(fc()), 'hex') AS sha256,
       lineage -> 'imported' ->> 'bytes' = octet_length(fc())::text AS bytes,
       lineage -> 'imported' ->> 'extension_version' = llm_version() AS version FROM llmapp.model_versions;
-- labels in another order, other names, numbers
SELECT llm_import('m', fc(), params || '{"classes": ["z", "a", "m"], "target": "kind"}') FROM p;
SELECT llm_predict('m', '{2,1}'::real[]), llm_predict('m', '{1,2}'::real[]);
SELECT label, round(probability::numeric, 4) FROM llm_probabilities('m', '{2,1}'::real[]);
SELECT llm_import('m', fc('dense/kernel:0', 'dense/bias:0', '2,3'),
                  params || '{"layout": "tensorflow", "tensors": {"fc.weight": "dense/kernel:0", "fc.bias": "dense/bias:0"}, "task": "regression"}') FROM p;
SELECT llm_predict('m', '{2,1}'::real[]);
SELECT llm_predict('m', '{2,1}'::real[], NULL::float8[]);
SELECT llm_import('m', fc('0.weight', '0.bias'), '{"layers": [{"type": "linear", "width": 3}], "input": {"shape": [2], "mean": [1, 0], "std": 2}, "task": "regression"}');
SELECT llm_predict('m', '{"input": [2, 1]}'::jsonb);
SELECT version, live, target FROM llmapp.model_versions ORDER BY version;
-- an image: PyTorch flattens it channel by channel
SELECT llm_import('picture', safetensors('{"c.weight":{"dtype":"F32","shape":[2,1,1,1],"data_offsets":[0,8]},"2.weight":{"dtype":"F32","shape":[1,8],"data_offsets":[8,40]},"2.bias":{"dtype":"F32","shape":[1],"data_offsets":[40,44]}}  ',
                                         '{1,10, 1,2,3,4,0.1,0.2,0.3,0.4, 0}'),
    '{"layers": [{"type": "conv2d", "name": "c", "channels": 2, "kernel": 1, "bias": false}, {"type": "flatten"}, {"type": "linear", "width": 1}],
      "input": {"name": "pixels", "shape": [1, 2, 2], "std": [0.5]}, "task": "regression", "target": "sum"}');
SELECT llm_predict('picture', '[[[1,2],[3,4]]]'::tensor), llm_predict('picture', '{1,2,3,4}'::real[]), llm_predict('picture', '{"pixels": [[1,2],[3,4]]}'::jsonb);
SELECT llm_predict('picture', '[1,2,3]'::tensor);
SELECT llm_import('picture2', llm_export('picture'));
SELECT llm_predict('picture2', '[[[1,2],[3,4]]]'::tensor);
-- part of the caller's transaction
BEGIN;
SELECT llm_import('n', fc(), params) FROM p;
SELECT llm_predict('n', '{2,1}'::real[]);
ROLLBACK;
SELECT to_regclass('n');
BEGIN READ ONLY;
SELECT llm_import('n', fc(), params) FROM p;
ROLLBACK;
SELECT llm_import(NULL, fc(), params), llm_import('n', NULL::bytea, params), llm_export(NULL) FROM p;
-- names
SELECT llm_import('', fc(), params) FROM p;
SELECT llm_import('a.b.c', fc(), params) FROM p;
SELECT llm_import('p', fc(), params) FROM p;
SELECT llm_import('nowhere.m', fc(), params) FROM p;
SELECT llm_import('pg_temp.m', fc(), params) FROM p;
-- parameters
SELECT llm_import('n', fc());
SELECT llm_import('n', fc(), '[]');
SELECT llm_import('n', fc(), '{"layer": []}');
SELECT llm_import('n', fc(), '{"task": "regression"}');
SELECT llm_import('n', fc(), params || '{"input": {"shape": [2], "men": 1}}') FROM p;
SELECT llm_import('n', fc(), params || '{"input": {"shape": [100000]}}') FROM p;
SELECT llm_import('n', fc(), params || '{"classes": ["a"]}') FROM p;
SELECT llm_import('n', fc(), params || '{"layers": [{"type": "linear", "name": "fc", "width": 3}, {"type": "activation", "function": "relu"}]}') FROM p;
SELECT llm_import('n', fc(), params || '{"layers": [{"type": "linaer", "width": 3}]}') FROM p;
SELECT llm_import('n', fc(), params || '{"tensors": {"fc2": "dense"}}') FROM p;
-- tensors
SELECT llm_import('n', fc('fc1.weight'), params) FROM p;
SELECT llm_import('n', fc(shape => '2,3'), params) FROM p;
SELECT llm_import('n', fc(), jsonb_set(params, '{layers,0,bias}', 'false')) FROM p;
SELECT llm_import('n', safetensors('{}'), params) FROM p;
SELECT llm_import('n', safetensors('{"fc.weight":{"dtype":"I32","shape":[3,2],"data_offsets":[0,24]},"fc.bias":{"dtype":"F32","shape":[3],"data_offsets":[24,36]}}', '{1,0,0,1,1,1,0,0,0}'), params) FROM p;
SELECT llm_import('n', safetensors('{"fc.weight":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]},"fc.bias":{"dtype":"F32","shape":[3],"data_offsets":[24,36]}}', '{1,0,0,NaN,1,1,0,0,0}'), params) FROM p;
-- files
SELECT llm_import('n', ''::bytea, params) FROM p;
SELECT llm_import('n', '\x89504e470d0a1a0a0000000d49484452'::bytea, params) FROM p;
SELECT llm_import('n', '\x0300000000000000'::bytea || '{}', params) FROM p;
SELECT llm_import('n', safetensors('{"a":1,"a":1}'), params) FROM p;
SELECT llm_import('n', safetensors('{"a":{"dtype":"F4","shape":[],"data_offsets":[0,4]}}', '{1}'), params) FROM p;
SELECT llm_import('n', safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', '{1}'), params) FROM p;
SELECT llm_import('n', safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', '{1}'), params) FROM p;
SELECT llm_import('n', substr(fc(), 1, octet_length(fc()) - 1), params) FROM p;
SELECT llm_import('n', fc() || '\x00', params) FROM p;
-- out, and in again without parameters
SELECT llm_import('n', fc(), params || '{"classes": ["z", "a", "m"]}') FROM p;
SELECT llm_import('copy', llm_export('n'));
SELECT llm_predict('copy', '{2,1}'::real[]), llm_predict('n', '{2,1}'::real[]);
SELECT a.meta -> 'weights' = b.meta -> 'weights' AS weights, a.meta -> 'columns' = b.meta -> 'columns' AS columns,
       a.meta -> 'target' = b.meta -> 'target' AS target, a.meta -> 'settings' = b.meta -> 'settings' AS settings
FROM n AS a, copy AS b WHERE a.kind = 'manifest' AND b.kind = 'manifest';
SELECT llm_export('p');
SELECT llm_export(0);
CREATE TABLE empty OF llmapp.model_part (PRIMARY KEY (version, part));
SELECT llm_export('empty');
-- a manifest in a file is believed no more than one in a table
CREATE FUNCTION forged(manifest text) RETURNS bytea LANGUAGE sql AS $$
    SELECT safetensors(format('{"__metadata__":{"llmapp":%s},"output.weight":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]},"output.bias":{"dtype":"F32","shape":[3],"data_offsets":[24,36]}}',
                              to_json(manifest)), '{1,0, 0,1, 1,1, 0,0.5,-9}') $$;
SELECT llm_import('f', forged(meta::text)) FROM n WHERE kind = 'manifest';
SELECT llm_import('f', forged('{}'));
SELECT llm_import('f', forged('no json'));
SELECT llm_import('f', forged((meta || '{"format": 2}')::text)) FROM n WHERE kind = 'manifest';
SELECT llm_import('f', forged(jsonb_set(meta, '{network,outputs}', '4')::text)) FROM n WHERE kind = 'manifest';
SELECT llm_import('f', forged(jsonb_set(meta, '{weights,bytes}', '4')::text)) FROM n WHERE kind = 'manifest';
SELECT llm_import('f', forged(jsonb_set(meta, '{weights,sha256}', '"x"')::text)) FROM n WHERE kind = 'manifest';
SELECT llm_import('f', replace(encode(forged(meta::text), 'escape'), 'output.bias', 'output.boas')::bytea) FROM n WHERE kind = 'manifest';
-- the checksum in it is made anew; metrics of other weights and the number of a job go
SELECT llm_import('f', forged((jsonb_set(meta, '{weights,sha256}', to_jsonb(repeat('0', 64)))
       || '{"metrics": {"metrics": {"accuracy": 1}}, "lineage": {"job": 77, "query": "SELECT 1"}}')::text)) FROM n WHERE kind = 'manifest';
SELECT metrics, job, lineage ->> 'query' AS query, problem FROM llmapp.model_versions WHERE model = 'f'::regclass AND live;
SELECT llm_predict('f', '{2,1}'::real[]);
DROP TABLE m, n, copy, f, picture, picture2, empty, p;
DROP FUNCTION little_endian, safetensors, fc, forged;
