-- For tests: linear models written by hand, so that every byte is known.  The model has one column x of n
-- numbers and predicts weight * sum(x) + bias, where weight and bias are one of the numbers 0, 1, 2, 3.
CREATE FUNCTION handmade_number(number int) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT (ARRAY['00000000', '0000803f', '00000040', '00004040'])[number + 1] $$;

-- Floats in the byte order of most machines; each tensor starts at a multiple of 16 of them.
CREATE FUNCTION handmade_weights(n int, weight int, bias int) RETURNS bytea LANGUAGE sql IMMUTABLE AS
    $$ SELECT decode(repeat(handmade_number(weight), n) || repeat(handmade_number(0), (16 - n % 16) % 16) ||
                     handmade_number(bias) || repeat(handmade_number(0), 15), 'hex') $$;

CREATE FUNCTION handmade_manifest(n int, weights bytea) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object(
        'format', 1, 'architecture', 'mlp', 'task', 'regression',
        'network', jsonb_build_object(
            'dense', n, 'embed_columns', 0, 'embed_rows', 0, 'bag_rows', 0, 'bag_max', 0, 'outputs', 1,
            'class_target', false, 'embed_dim', 0, 'hidden', '[]'::jsonb, 'activation', 'relu', 'layer_norm', false,
            'residual', false, 'dropout', 0, 'loss', 'mse', 'huber_delta', 1, 'label_smoothing', 0, 'members', 0),
        'columns', jsonb_build_object('columns', jsonb_build_array(jsonb_build_object(
            'name', 'x', 'type', 'real[]', 'kind', 'vector', 'integer', false, 'encoding', 'vector', 'missing', false,
            'squash', false, 'means', to_jsonb(array_fill(0, ARRAY[n])), 'scales', to_jsonb(array_fill(1, ARRAY[n]))))),
        'target', jsonb_build_object(
            'kind', 'number', 'columns', jsonb_build_array(jsonb_build_object('name', 'y', 'type', 'real')),
            'means', '[0]'::jsonb, 'scales', '[1]'::jsonb),
        'tensors', jsonb_build_array(
            jsonb_build_object('name', 'output.weight', 'dtype', 'f32', 'shape', jsonb_build_array(1, n), 'offset', 0),
            jsonb_build_object('name', 'output.bias', 'dtype', 'f32', 'shape', '[1]'::jsonb,
                               'offset', (n + 15) / 16 * 64)),
        'weights', jsonb_build_object('bytes', length(weights), 'sha256', encode(sha256(weights), 'hex')),
        'settings', '{"epochs": {"value": 3, "source": "user"}, "hidden": {"value": [], "source": "auto"}}'::jsonb,
        'metrics', '{"rmse": 0.5}'::jsonb, 'findings', '[]'::jsonb,
        'lineage', '{"rows": 10, "job": 7, "trained_at": "2024-02-29 12:00:00+00", "query": "SELECT 1"}'::jsonb) $$;

-- Add a version in parts of 1 MiB, by SQL.
CREATE FUNCTION handmade_version(model regclass, version int, n int, weight int, bias int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    weights bytea := handmade_weights(n, weight, bias);
BEGIN
    EXECUTE format('INSERT INTO %s VALUES ($1, 0, ''manifest'', $2, NULL)', model)
        USING version, handmade_manifest(n, weights);
    EXECUTE format('INSERT INTO %s SELECT $1, p, ''weights'', NULL, substring($2 FROM (p - 1) * 1048576 + 1 FOR 1048576)
                    FROM generate_series(1, (length($2) + 1048575) / 1048576) AS p', model)
        USING version, weights;
END $$;
