-- Pieces of texts, and what llm_embed_column() makes and refuses.  How it follows changes: tests/tap/embed_column.pl.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
SELECT plan(47);

CREATE TABLE pair AS SELECT 'word ' || i AS said, 'mot ' || i AS meant FROM generate_series(1, 60) AS i;
SELECT llm_train('small', 'pair', target => 'meant', task => 'embedding', wait => true,
                 params => '{"prompt": "said", "tokenizer": "bytes", "layers": 1, "embed_dim": 16, "context": 32, "epochs": 1}') \g /dev/null
SELECT llm_train('writes', 'SELECT said FROM pair', task => 'generation', wait => true,
                 params => '{"tokenizer": "bytes", "layers": 1, "embed_dim": 16, "context": 32, "steps": 2}') \g /dev/null
CREATE FUNCTION pieces(input text, max_tokens int DEFAULT NULL, overlap int DEFAULT 0) RETURNS text LANGUAGE sql AS
    $$ SELECT string_agg(text, '|' ORDER BY chunk) FROM llm_chunk('small', input, max_tokens, overlap) $$;

-- llm_chunk
SELECT is(pieces('short'), 'short', 'a short text is one piece');
SELECT is(pieces(''), NULL, 'an empty text has none');
SELECT is(pieces(NULL), NULL, 'nor has NULL');
SELECT is(pieces('One. Two three. Four five six.', 17), 'One. Two three. |Four five six.', 'sentences');
SELECT is(pieces(E'One.\n\nTwo three. Four', 18), E'One.\n\nTwo three. |Four', 'a paragraph in the first half is passed over');
SELECT is(pieces(E'One two.\n\nThree. Four', 18), E'One two.\n\n|Three. Four', 'in the second half it ends a piece');
SELECT is(pieces('one two three', 9), 'one two |three', 'words');
SELECT is(pieces('äöüäöü', 5), 'äö|üä|öü', 'never within a character');
SELECT is(pieces('one two three four', 10, 5), 'one two |two three |four', 'pieces overlap by words');
SELECT is((SELECT array_agg(ROW(start, length, tokens)::text ORDER BY chunk) FROM llm_chunk('small', 'ähm, öfter über', 8)),
          ARRAY['(1,5,6)', '(6,6,7)', '(12,4,5)'], 'start and length are characters, tokens are tokens');
SELECT ok(bool_and(substr(body, start, length) = text AND tokens <= 31 AND cardinality(llm_tokenize('small', text)) = tokens), 'so substr() is the piece')
    FROM (SELECT repeat('Ein Wörtchen, ein Satz. ', 20) AS body) AS t, llm_chunk('small', body, overlap => 7);
SELECT is(string_agg(text, '' ORDER BY chunk), body, 'without overlap they are the text')
    FROM (SELECT repeat('Ein Wörtchen, ein Satz. ', 20) AS body) AS t, llm_chunk('small', body) GROUP BY body;
SELECT is((SELECT max(tokens) FROM llm_chunk('small', repeat('x', 100))), 31, 'an embedding reads one fewer than its context, for the end');
SELECT is((SELECT max(tokens) FROM llm_chunk('writes', repeat('x', 100))), 32, 'a language model reads all of it');
SELECT throws_ok($$SELECT pieces('x', 0)$$, '22023', 'max_tokens must be at least 1, not 0', 'no tokens');
SELECT throws_ok($$SELECT pieces('x', 32)$$, '22023', 'max_tokens must be at most 31, not 32', 'more than the model reads');
SELECT throws_ok($$SELECT pieces('x', 8, 8)$$, '22023', 'overlap must be less than 8, not 8', 'all of it twice');
SELECT throws_ok($$SELECT pieces('x', 8, -1)$$, '22023', 'overlap must be at least 0, not -1', 'less than nothing');
SELECT throws_ok($$SELECT pieces('€', 2)$$, '22023', 'a character takes more than 2 tokens', 'a character that does not fit');
SELECT throws_ok($$SELECT * FROM llm_chunk('pair', 'x')$$, '42809', NULL, 'a table that is no model');
SELECT volatility_is('llm_chunk', ARRAY['regclass', 'text', 'integer', 'integer'], 'stable', 'llm_chunk reads only');

-- llm_embed_column
CREATE TABLE doc (id int PRIMARY KEY, body text, size int);
CREATE TABLE keyless (id int, body text);
CREATE TABLE word (body text PRIMARY KEY);
CREATE TABLE piece (chunk int PRIMARY KEY, body text);
CREATE TEMP TABLE brief (id int PRIMARY KEY, body text);
CREATE VIEW doc_view AS SELECT * FROM doc;
SELECT throws_ok($$SELECT llm_embed_column('keyless', 'body', 'small', 'e')$$, '55000', 'table public.keyless has no primary key', 'a key is needed');
SELECT throws_ok($$SELECT llm_embed_column('word', 'body', 'small', 'e')$$, '0A000', 'column "body" is part of the primary key', 'besides the text');
SELECT throws_ok($$SELECT llm_embed_column('piece', 'body', 'small', 'e')$$, '42701', 'a column of the key cannot be named "chunk"', 'with names of its own');
SELECT throws_ok($$SELECT llm_embed_column('doc', 'text', 'small', 'e')$$, '42703', 'table public.doc has no column "text"', 'the column must exist');
SELECT throws_ok($$SELECT llm_embed_column('doc', 'size', 'small', 'e')$$, '42804', 'column "size" of type integer holds no texts', 'and hold texts');
SELECT throws_ok($$SELECT llm_embed_column('doc_view', 'body', 'small', 'e')$$, '42809', 'public.doc_view is not a table whose changes can be followed', 'a view has no changes of its own');
SELECT throws_ok($$SELECT llm_embed_column('brief', 'body', 'small', 'e')$$, '42809', NULL, 'a temporary table is not seen by a job');
SELECT throws_ok($$SELECT llm_embed_column('doc', 'body', 'doc', 'e')$$, '42809', NULL, 'the model must be one');
SELECT throws_ok($$SELECT llm_embed_column('doc', 'body', 'small', 'doc')$$, '42P07', 'table public.doc exists and holds no embeddings', 'another table is not overwritten');
SELECT throws_ok($$SELECT llm_embed_column('doc', 'body', 'small', 'a.b.c')$$, '42602', '"a.b.c" is not a name for a table', 'a name is a name');
SELECT throws_ok($$SELECT llm_embed_column('doc', 'body', 'small', 'pg_temp.e')$$, '42809', 'a temporary table cannot be kept up to date', 'in a schema that all see');
SELECT throws_ok($$SELECT llm_embed_column('doc', 'body', 'small', 'nowhere.e')$$, '3F000', NULL, 'in a schema that exists');
SELECT throws_ok($$SELECT llm_embed_column('doc', 'body', 'small', 'e', 40)$$, '22023', 'max_tokens must be at most 31, not 40', 'pieces must fit the model');
SELECT throws_ok($$SELECT llm_embed_column('doc', NULL, 'small', 'e')$$, '22004', 'argument "text_column" of llm_embed_column() must not be null', 'no argument is NULL');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgrelid = 'doc'::regclass), 0::bigint, 'what was refused leaves nothing');

INSERT INTO doc VALUES (1, 'The first text of all.'), (2, NULL), (3, ''), (4, repeat('And a long one. ', 10));
SELECT llm_embed_column('doc', 'body', 'small', 'e') AS job \gset
SELECT is(llm_wait(:job), 'succeeded', 'all texts are embedded');
SELECT is((SELECT array_agg(id || ':' || chunk ORDER BY id, chunk) FROM e), array_prepend('1:1', (SELECT array_agg('4:' || n) FROM generate_series(1, 10) AS n)), 'a row for each piece');
SELECT ok(bool_and(embedding::tensor <-> llm_embed('small', content)::tensor < 1e-5), 'with its embedding') FROM e;
SELECT col_is_pk('e', ARRAY['id', 'chunk'], 'the key is that of the source and the piece');
SELECT is((SELECT source::text || column_name || model || target || queue || pending || failed || status FROM llmapp.embedded_columns),
          'docbodysmallee_queue00succeeded', 'the view shows it');
SELECT throws_ok($$SELECT llm_embed_column('piece', 'body', 'small', 'e')$$, '42701', NULL, 'checks come first');
ALTER TABLE piece RENAME chunk TO id;
SELECT throws_ok($$SELECT llm_embed_column('piece', 'body', 'small', 'e')$$, '42P07', 'table public.e holds the embeddings of another column', 'a target has one source');
SELECT throws_ok($$DROP TABLE small$$, '2BP01', NULL, 'the model is needed');
SELECT throws_ok($$ALTER TABLE doc DROP COLUMN body$$, '2BP01', NULL, 'as is the column');
SELECT lives_ok($$DROP TABLE e CASCADE$$, 'the target goes');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgrelid = 'doc'::regclass) || coalesce(to_regclass('e_queue')::text, ''), '0', 'with triggers and queue');
SELECT * FROM finish();
