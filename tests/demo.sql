-- What `make demo` runs: learn from the descriptions in the server's catalogs what kind of object each describes.
\set QUIET on
\pset footer off
CREATE EXTENSION llmapp;
CREATE TABLE comments AS
    SELECT d.description AS comment, split_part(c.relname, '_', 2) AS kind
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.classoid
    WHERE c.relname IN ('pg_proc', 'pg_operator', 'pg_type', 'pg_cast', 'pg_class', 'pg_collation', 'pg_am', 'pg_opfamily');

\echo
\echo 'Rows to learn from: comments on objects of the catalogs'
SELECT kind, count(*) AS comments, min(comment) AS example FROM comments GROUP BY kind ORDER BY count(*) DESC;

\echo 'SELECT llm_train(''comment_kind'', ''comments'', target => ''kind'', wait => true);'
\echo
SELECT llm_train('comment_kind', 'comments', target => 'kind', wait => true) AS job;

\echo 'What the background worker did'
SELECT job, model, status, device, round(extract(epoch FROM finished_at - started_at), 1) AS seconds FROM llmapp.jobs;

\echo 'The loss on held-out rows, epoch by epoch'
SELECT epoch::int, round(value::numeric, 4) AS loss, repeat('#', (60 * value / max(value) OVER ())::int) AS curve
FROM llmapp.job_metrics WHERE split = 'validation' AND metric = 'loss' ORDER BY epoch LIMIT 15;

\echo 'Quality on the held-out rows'
SELECT metric, round(value::numeric, 4) AS value FROM llm_evaluate('comment_kind');

\echo 'Ten predictions for comments the model has never seen'
SELECT comment, llm_predict('comment_kind', v) AS prediction,
       round(llm_probability('comment_kind', v)::numeric, 3) AS probability
FROM (VALUES ('absolute value'), ('less than or equal'), ('convert text to integer'), ('hash access method'),
             ('I/O'), ('multiply'), ('German collation'), ('current date and time'),
             ('unsigned four-byte integer'), ('number of rows in the table')) AS v(comment);

\echo 'The model is a table'
SELECT model, task, live_version, target FROM llmapp.models;
