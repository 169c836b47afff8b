-- Texts that follow a JSON Schema, values of SQL's types, and conversations.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(64);

\ir common/functions.sql

CREATE TABLE tales AS
    SELECT i AS id, format('the %s %s sees the %s %s. then the %s runs.', a[1 + i % 3], s[1 + i / 3 % 4], a[1 + i / 12 % 3], s[1 + i / 36 % 4], s[1 + i / 3 % 4]) AS body
    FROM generate_series(0, 299) AS i, (SELECT ARRAY['old', 'young', 'red'] AS a, ARRAY['fox', 'hen', 'cat', 'dog'] AS s) AS words;
SELECT llm_train('tale', 'tales', target => 'body', task => 'generation',
                 params => '{"layers": 1, "embed_dim": 16, "heads": 2, "context": 512, "vocab_size": 300, "batch_size": 16, "epochs": 1, "dropout": 0}', wait => true) \g /dev/null

-- 200 texts of every schema parse and satisfy it, whatever the model says.
CREATE FUNCTION samples(schema jsonb, max_tokens int DEFAULT 120) RETURNS SETOF jsonb LANGUAGE sql AS
    $$SELECT llm_generate('tale', 'the', max_tokens, temperature => 1.5, seed => i, schema => $1)::jsonb FROM generate_series(1, 200) AS i$$;
SELECT is((SELECT count(s) FROM samples('{}') AS s), 200::bigint, 'any JSON');
SELECT is((SELECT count(*) FROM samples('{"type": "object"}', 40) AS s WHERE jsonb_typeof(s) = 'object'), 200::bigint, 'any object, within few tokens');
SELECT is((SELECT count(*) FROM samples('{"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
                                          "kind": {"enum": ["fox", "hen", 2]}}, "required": ["name", "age", "kind"], "additionalProperties": false}') AS s
           WHERE (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(s) AS k) = '{age,kind,name}' AND length(s ->> 'name') <= 8 AND (s ->> 'age')::int BETWEEN 0 AND 120
             AND s -> 'kind' IN ('"fox"', '"hen"', '2')), 200::bigint, 'an object with properties');
SELECT cmp_ok((SELECT count(DISTINCT s) FROM samples('{"type": "integer", "minimum": -50, "maximum": 50}') AS s WHERE s::text::int BETWEEN -50 AND 50), '>', 50::bigint, 'integers of a range, of all kinds');
SELECT is((SELECT count(*) FROM samples('{"type": "array", "items": {"type": ["boolean", "null"]}, "minItems": 2, "maxItems": 5}') AS s
           WHERE jsonb_array_length(s) BETWEEN 2 AND 5 AND (SELECT bool_and(jsonb_typeof(e) IN ('boolean', 'null')) FROM jsonb_array_elements(s) AS e)), 200::bigint, 'arrays');
SELECT is((SELECT count((s ->> 'day')::date) + count((s ->> 'at')::timestamptz) + count((s ->> 'id')::uuid) FROM samples('{"properties": {"day": {"format": "date"}, "at": {"format": "date-time"}, "id": {"format": "uuid"}}, "required": ["day", "at", "id"]}', 200) AS s),
          600::bigint, 'dates, times and uuids are ones');
SELECT is((SELECT count(*) FROM samples('{"$ref": "#/$defs/tree", "$defs": {"tree": {"properties": {"value": {"type": "number"}, "parts": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "required": ["value", "parts"]}}}', 60) AS s
           WHERE jsonb_typeof(s -> 'value') = 'number' AND jsonb_typeof(s -> 'parts') = 'array'), 200::bigint, 'trees');
SELECT is((SELECT count(*) FROM samples('{"oneOf": [{"properties": {"type": {"const": "a"}, "n": {"type": "integer"}}, "required": ["type", "n"]}, {"properties": {"type": {"const": "b"}, "s": {"type": "string"}}, "required": ["type", "s"]}]}') AS s
           WHERE (s ->> 'type' = 'a' AND jsonb_typeof(s -> 'n') = 'number') OR (s ->> 'type' = 'b' AND jsonb_typeof(s -> 's') = 'string')), 200::bigint, 'one of two objects');
SELECT is((SELECT count(*) FROM samples('{"pattern": "^[A-Z]{2}-[0-9]{3}$"}') AS s WHERE s #>> '{}' ~ '^[A-Z]{2}-[0-9]{3}$'), 200::bigint, 'a pattern');
SELECT is((SELECT count(*) FROM samples('{"type": "object", "additionalProperties": {"type": "string"}}', 30) AS s WHERE (SELECT coalesce(bool_and(jsonb_typeof(value) = 'string'), true) FROM jsonb_each(s))), 200::bigint, 'members of any name');
SELECT is(llm_generate('tale', 'the', 20, schema => '{"const": {"a": [1, null]}}'), '{"a":[1,null]}', 'one value alone');
SELECT is(llm_generate('tale', 'the', 30, schema => '{"enum": ["fox"]}'), llm_generate('tale', 'the', 30, schema => '{"enum": ["fox"]}'), 'always the same without temperature');
SELECT is(llm_generate('tale', 'the', 5, temperature => 1, top_k => 1, top_p => 0.1, repetition_penalty => 2, schema => '{"type": "boolean"}')::boolean IS NOT NULL, true, 'other settings choose among what is allowed');

-- The sisters.
SELECT is((SELECT string_agg(token, '' ORDER BY "position") FROM llm_generate_stream('tale', 'the', 40, temperature => 1, seed => 3, schema => '{"type": "object"}')),
          llm_generate('tale', 'the', 40, temperature => 1, seed => 3, schema => '{"type": "object"}'), 'token by token it is the same text');
SELECT is((SELECT count(*) FROM (SELECT llm_generate_over('tale', 'the', 40, temperature => 1.5, seed => i, schema => s) OVER () AS many, llm_generate('tale', 'the', 40, temperature => 1.5, seed => i, schema => s) AS one
                                 FROM generate_series(1, 40) AS i, (VALUES ('{"type": "array"}'::jsonb), ('{"type": "string", "minLength": 3}'), (NULL)) AS v (s)) AS t WHERE many IS DISTINCT FROM one), 0::bigint,
          'and beside others with other schemas');

-- Errors.
SELECT throws_ok($$SELECT llm_generate('tale', 'the', schema => '{"allOf": []}')$$, '22023', 'the schema has "allOf", which is not supported', 'a keyword that is not supported is named');
SELECT throws_ok($$SELECT llm_generate('tale', 'the', 5, schema => '{"const": "abcdefghij"}')$$, '22023', NULL, 'too few tokens for any text');
SELECT throws_ok($$SELECT llm_generate('tale', 'the', stop => '{x}', schema => '{}')$$, '22023', 'a text with a schema cannot end at a stop string', 'no stop strings beside it');
SELECT throws_ok($$SELECT llm_generate('tale', 'the', schema => '3')$$, '22023', 'a schema is neither an object nor true', 'a number is no schema');

-- Schemas of types.
CREATE TYPE colour AS ENUM ('red', 'green', 'blue');
CREATE DOMAIN amount AS numeric(8, 2) NOT NULL;
CREATE TYPE bill_line AS (article text, price amount, colour colour);
CREATE TYPE bill AS (number varchar(6), day date, paid boolean, lines bill_line[], at timestamptz, id uuid, n int, big bigint, x float8, t time, extra jsonb, marks smallint[]);
COMMENT ON COLUMN bill.number IS 'as printed at the top';
SELECT is(llm_schema(NULL::int), '{"type": "integer", "minimum": -2147483648, "maximum": 2147483647}'::jsonb, 'a number');
SELECT is(llm_schema(NULL::colour), '{"enum": ["red", "green", "blue"]}'::jsonb, 'labels');
SELECT is(llm_schema(NULL::varchar[]), '{"type": "array", "items": {"type": "string"}}'::jsonb, 'an array');
SELECT is(llm_schema(NULL::bill_line) -> 'properties' -> 'price', '{"type": "number", "minimum": -999999, "maximum": 999999}'::jsonb, 'a domain that is not NULL');
SELECT is(llm_schema(NULL::bill_line) -> 'properties' -> 'colour', '{"enum": ["red", "green", "blue", null]}'::jsonb, 'what may be NULL may be null');
SELECT is(llm_schema(NULL::bill_line) -> 'required', '["article", "price", "colour"]'::jsonb, 'all members are required');
SELECT is(llm_schema(NULL::bill) -> 'properties' -> 'number', '{"type": ["string", "null"], "maxLength": 6, "description": "as printed at the top"}'::jsonb, 'a comment is a description');
SELECT is(llm_schema(NULL::tales) #> '{properties,id,type}', '["integer", "null"]'::jsonb, 'a table is a type');
SELECT throws_ok($$SELECT llm_schema(NULL::interval)$$, '42804', 'there is no JSON Schema for type interval', 'nothing is known of intervals');
SELECT throws_ok($$SELECT llm_schema(ROW(1))$$, '42804', NULL, 'nor of a record');

-- Values of types.
SELECT is((SELECT count(b.day) + count(b.n) + count(b.id) > 0 FROM (SELECT (llm_extract('tale', body, NULL::bill, max_tokens => 600, temperature => 1.5, seed => id, template => 'go')).* FROM tales WHERE id < 8) AS b), true, 'rows of a type with all kinds of columns');
SELECT is((SELECT count(*) FROM (SELECT llm_extract('tale', 'a', NULL::colour, temperature => 2, seed => i) AS c FROM generate_series(1, 30) AS i) AS s WHERE c IN ('red', 'green', 'blue')), 30::bigint, 'a label');
SELECT cmp_ok((SELECT count(DISTINCT llm_extract('tale', 'a', NULL::colour, temperature => 2, seed => i)) FROM generate_series(1, 30) AS i), '>', 1::bigint, 'not always the same');
SELECT is((SELECT count(*) FROM (SELECT llm_extract('tale', 'a', NULL::int, temperature => 1, seed => i) AS c FROM generate_series(1, 20) AS i) AS s WHERE c IS NULL), 0::bigint, 'a number');
SELECT is((SELECT count(*) FROM (SELECT llm_extract('tale', 'a', NULL::date[], max_tokens => 60, temperature => 1, seed => i) AS c FROM generate_series(1, 20) AS i) AS s WHERE c IS NULL), 0::bigint, 'an array of dates');
SELECT is(pg_typeof(llm_extract('tale', 'the old fox', NULL::bill_line, 'What is it?', seed => 1))::text, 'bill_line', 'its type is that of the argument');
SELECT is(llm_extract('tale', NULL, NULL::bill_line), NULL, 'no text, no value');
CREATE DOMAIN never AS int CHECK (VALUE IS NULL);
SELECT throws_ok($$SELECT llm_extract('tale', 'a', NULL::never)$$, '23514', NULL, 'a domain''s own checks are its own');

-- Conversations.
SELECT is(llm_chat_prompt('tale', '[{"role": "user", "content": "Hello"}]'), E'user: Hello\nassistant:', 'a model without a template gets lines');
SELECT is(llm_chat_prompt('tale', '[{"role": "user", "content": "Hello"}]', template => '{% for m in messages %}[{{ m.role | upper }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[A]{% endif %}'),
          '[USER]Hello[A]', 'or what a template makes');
SELECT is(llm_chat_prompt('tale', '[{"role": "user", "content": "x"}]', tools => '[{"name": "f"}]', template => '{{ tools | tojson }}'), '[{"name": "f"}]', 'which may show tools');
SELECT is(llm_chat('tale', '[{"role": "user", "content": "the old"}]', 10, seed => 1), llm_generate('tale', E'user: the old\nassistant:', 10, seed => 1), 'an answer goes on behind the prompt');
SELECT is((SELECT count(llm_chat('tale', '[{"role": "user", "content": "the old"}]', 40, temperature => 1.5, seed => i, schema => '{"type": "object"}')::jsonb) FROM generate_series(1, 20) AS i), 20::bigint, 'an answer follows a schema');
SELECT is(llm_chat(NULL, '[]'), NULL, 'no model, no answer');
SELECT is(llm_chat('tale', NULL), NULL, 'no messages, no answer');
SELECT throws_ok($$SELECT llm_chat('tale', '[]')$$, '22023', 'messages are not an array of objects with a role', 'no messages');
SELECT throws_ok($$SELECT llm_chat('tale', '{"role": "user"}')$$, '22023', NULL, 'an object is no conversation');
SELECT throws_ok($$SELECT llm_chat('tale', '[{"content": "x"}]')$$, '22023', NULL, 'each message has a role');
SELECT throws_ok($$SELECT llm_chat('tale', '[{"role": "user", "content": "x"}]', template => 'a{% if %}')$$, '22023', 'line 1 of the chat template: the tag ends where a value should stand', 'a template that is none');
SELECT throws_ok($$SELECT llm_chat('tale', '[{"role": "user", "content": "x"}]', template => E'\n{{ raise_exception("no user") }}')$$, '22023', 'line 2 of the chat template: no user', 'a template may refuse');

-- Special tokens come from the template, not from messages: the text that ends texts has one token in the first only.
SELECT llm_chat_prompt('tale', '[{"role": "user", "content": "x"}]', template => '{{ eos_token }}') AS eos \gset
SELECT isnt(:'eos'::text, '', 'a template knows the token that ends texts');
SELECT lives_ok(format($$SELECT llm_chat('tale', '[{"role": "user", "content": "x"}]', 5, template => %L)$$, repeat(:'eos', 256)), 'in a template it is one token');
SELECT throws_ok(format($$SELECT llm_chat('tale', '[{"role": "user", "content": %s}]', 5, template => '{{ messages[0].content }}')$$, to_json(repeat(:'eos', 256))), '22026', NULL, 'typed into a message it is only its characters');

-- A model of pairs is asked what it was trained on, and its schema need not be told.
CREATE TABLE pairs AS SELECT i AS id, format('colour of %s', s[1 + i % 3]) AS question, format('{"colour":"%s"}', c[1 + i % 3]) AS answer
    FROM generate_series(0, 299) AS i, (SELECT ARRAY['grass', 'sky', 'fire'] AS s, ARRAY['green', 'blue', 'red'] AS c) AS w;
SELECT llm_train('painter', 'SELECT question, answer FROM pairs', target => 'answer', task => 'generation',
                 params => '{"prompt": "question", "layers": 2, "embed_dim": 32, "heads": 2, "context": 64, "vocab_size": 300, "batch_size": 16, "epochs": 8, "dropout": 0, "learning_rate": 0.01}', wait => true) \g /dev/null
CREATE TYPE painted AS (colour colour);
SELECT is((llm_extract('painter', 'colour of ' || thing, NULL::painted)).colour, expected::colour, thing || ' has the colour that was learned')
    FROM (VALUES ('grass', 'green'), ('sky', 'blue'), ('fire', 'red')) AS v (thing, expected);
SELECT is(llm_chat('painter', '[{"role": "user", "content": "colour of sky"}]', 30), '{"colour":"blue"}', 'a conversation is its last message');
SELECT is(llm_chat_prompt('painter', '[{"role": "user", "content": "colour of sky"}]'), 'colour of sky', 'and nothing else');

-- A template of the model's own, which its owner may set.
UPDATE tale SET meta = jsonb_set(meta, '{chat_template}', '"{{ messages[0].content }}!"') WHERE part = 0;
SELECT is(llm_chat_prompt('tale', '[{"role": "user", "content": "Hello"}]'), 'Hello!', 'the template that is stored with a model is used');
UPDATE tale SET meta = jsonb_set(meta, '{chat_template}', '7') WHERE part = 0;
SELECT throws_ok($$SELECT llm_chat_prompt('tale', '[{"role": "user", "content": "Hello"}]')$$, 'XX001', NULL, 'a number is none');
UPDATE tale SET meta = meta - 'chat_template' WHERE part = 0;
SELECT is((SELECT count(*) FROM llm_generate_stream('tale', 'x', 5, schema => '{"type": "boolean"}')) > 0, true, 'few tokens are enough for a boolean');
SELECT is((SELECT count(*) FROM (SELECT llm_chat('tale', '[{"role": "user", "content": "x"}]', 4 + i, temperature => 1, seed => i, schema => '{"type": "array"}')::jsonb AS j FROM generate_series(1, 40) AS i) AS s WHERE jsonb_typeof(j) = 'array'), 40::bigint, 'every length is long enough');
CREATE ROLE constrain_reader;
SET ROLE constrain_reader;
SELECT throws_ok($$SELECT llm_chat('tale', '[{"role": "user", "content": "x"}]')$$, '42501', NULL, 'no privilege, no answer');
SELECT throws_ok($$SELECT llm_extract('tale', 'x', NULL::int)$$, '42501', NULL, 'nor a value');
SELECT throws_ok($$SELECT llm_chat_prompt('tale', '[{"role": "user", "content": "x"}]')$$, '42501', NULL, 'nor a prompt');
RESET ROLE;
SELECT * FROM finish();
