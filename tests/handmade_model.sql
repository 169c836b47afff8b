-- For tests: models written by hand, so that every byte is known.  The model has one column x of n numbers and
-- predicts weight * sum(x) + bias, times `hidden` when it has a hidden layer of that width (0: none).
-- Weight and bias are one of the numbers 0, 1, 2, 3.
CREATE FUNCTION handmade_number(number int) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT (ARRAY['00000000', '0000803f', '00000040', '00004040'])[number + 1] $$;

-- A tensor of equal numbers in the byte order of most machines; the next one starts at a multiple of 64 bytes.
CREATE FUNCTION handmade_tensor(elements int, number int) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT repeat(handmade_number(number), elements) || repeat(handmade_number(0), (16 - elements % 16) % 16) $$;

CREATE FUNCTION handmade_weights(n int, hidden int, weight int, bias int) RETURNS bytea LANGUAGE sql IMMUTABLE AS
    $$ SELECT decode(CASE WHEN hidden = 0 THEN handmade_tensor(n, weight)
                          ELSE handmade_tensor(n * hidden, weight) || handmade_tensor(hidden, bias) ||
                               handmade_tensor(hidden, 1) END ||
                     handmade_tensor(1, CASE WHEN hidden = 0 THEN bias ELSE 0 END), 'hex') $$;

-- Directory of tensors, with offsets that follow from names and shapes.
CREATE FUNCTION handmade_tensors(n int, hidden int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_agg(jsonb_build_object('name', name, 'dtype', 'f32', 'shape', shape, 'offset', "end" - bytes) ORDER BY i)
    FROM (SELECT *, sum(bytes) OVER (ORDER BY i) AS "end"
          FROM (VALUES (1, hidden > 0, 'hidden.0.weight', jsonb_build_array(hidden, n), (hidden * n + 15) / 16 * 64),
                       (2, hidden > 0, 'hidden.0.bias', jsonb_build_array(hidden), (hidden + 15) / 16 * 64),
                       (3, hidden > 0, 'output.weight', jsonb_build_array(1, hidden), (hidden + 15) / 16 * 64),
                       (3, hidden = 0, 'output.weight', jsonb_build_array(1, n), (n + 15) / 16 * 64),
                       (4, true, 'output.bias', jsonb_build_array(1), 64)) AS t(i, used, name, shape, bytes)
          WHERE used) AS t $$;

CREATE FUNCTION handmade_manifest(n int, hidden int, weights bytea) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object(
        'format', 1, 'architecture', 'mlp', 'task', 'regression',
        'network', jsonb_build_object(
            'dense', n, 'embed_columns', 0, 'embed_rows', 0, 'bag_rows', 0, 'bag_max', 0, 'outputs', 1,
            'class_target', false, 'embed_dim', 0, 'activation', 'identity', 'layer_norm', false,
            'hidden', CASE WHEN hidden = 0 THEN '[]' ELSE jsonb_build_array(hidden) END,
            'residual', false, 'dropout', 0, 'loss', 'mse', 'huber_delta', 1, 'label_smoothing', 0, 'members', 1),
        'columns', jsonb_build_object('columns', jsonb_build_array(jsonb_build_object(
            'name', 'x', 'type', 'real[]', 'kind', 'vector', 'integer', false, 'encoding', 'vector', 'missing', false,
            'squash', false, 'means', to_jsonb(array_fill(0, ARRAY[n])), 'scales', to_jsonb(array_fill(1, ARRAY[n]))))),
        'target', jsonb_build_object(
            'kind', 'number', 'columns', jsonb_build_array(jsonb_build_object('name', 'y', 'type', 'real')),
            'means', '[0]'::jsonb, 'scales', '[1]'::jsonb),
        'tensors', handmade_tensors(n, hidden),
        'weights', jsonb_build_object('bytes', length(weights), 'sha256', encode(sha256(weights), 'hex')),
        'settings', '{"epochs": {"value": 3, "source": "user"}, "hidden": {"value": [], "source": "auto"}}'::jsonb,
        'metrics', '{"metrics": {"rmse": 0.5}}'::jsonb, 'findings', '[]'::jsonb,
        'lineage', '{"rows": 10, "job": 7, "trained_at": "2024-02-29 12:00:00+00", "query": "SELECT 1"}'::jsonb) $$;

-- Add a version in parts of 1 MiB, by SQL.
CREATE FUNCTION handmade_version(model regclass, version int, n int, hidden int, weight int, bias int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    weights bytea := handmade_weights(n, hidden, weight, bias);
BEGIN
    EXECUTE format('INSERT INTO %s VALUES ($1, 0, ''manifest'', $2, NULL)', model)
        USING version, handmade_manifest(n, hidden, weights);
    EXECUTE format('INSERT INTO %s SELECT $1, p, ''weights'', NULL, substring($2 FROM (p - 1) * 1048576 + 1 FOR 1048576)
                    FROM generate_series(1, (length($2) + 1048575) / 1048576) AS p', model)
        USING version, weights;
END $$;
