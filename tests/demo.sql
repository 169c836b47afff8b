-- What `make demo` runs: learn from the descriptions in the server's catalogs what kind of object each describes.
\set QUIET on
\pset footer off
SET client_min_messages = warning;
CREATE EXTENSION llmapp;
CREATE TABLE comments AS
    SELECT d.description AS comment, split_part(c.relname, '_', 2) AS kind, hashtext(d.description) % 5 = 0 AS put_aside
    FROM pg_catalog.pg_description d JOIN pg_catalog.pg_class c ON c.oid = d.classoid
    WHERE c.relname IN ('pg_proc', 'pg_operator', 'pg_type', 'pg_collation', 'pg_class');
ANALYZE comments;

\echo
\echo 'Rows to learn from: comments on objects of the catalogs. Every fifth is put aside for the end.'
SELECT kind, count(*) AS comments, count(*) FILTER (WHERE put_aside) AS put_aside, min(comment) AS example
FROM comments GROUP BY kind ORDER BY count(*) DESC;

\echo 'SELECT llm_train(''comment_kind'', ''SELECT comment, kind FROM comments WHERE NOT put_aside'', target => ''kind'');'
SELECT llm_train('comment_kind', 'SELECT comment, kind FROM comments WHERE NOT put_aside', target => 'kind',
                 params => '{"hidden": [512, 512], "epochs": 30, "early_stopping": 0}') AS job \gset
\echo
\echo 'The job runs in the background. SELECT phase, bar, done, total, loss, eta FROM llmapp.progress, again and again:'
\pset tuples_only on
\set look 'SELECT phase, bar, done || '' of '' || total AS steps, round(loss::numeric, 3) AS loss, per_second::int AS rows_per_second, date_trunc(''second'', eta) AS eta FROM (SELECT pg_sleep(0.5)) AS s, llmapp.progress;'
:look
:look
:look
:look
:look
:look
\pset tuples_only off
\echo 'SELECT llm_wait(job);'
SELECT llm_wait(:job);

\echo 'What the worker did'
SELECT job, model, status, device, report #> '{data,training_rows}' AS training_rows, report #> '{data,held_out_rows}' AS held_out_rows,
       round(extract(epoch FROM finished_at - started_at), 1) AS seconds FROM llmapp.jobs;

\echo 'The loss on the rows it held out, epoch by epoch'
SELECT epoch::int, round(value::numeric, 4) AS loss, repeat('#', (60 * value / max(value) OVER ())::int) AS curve
FROM llmapp.job_metrics WHERE split = 'validation' AND metric = 'loss' ORDER BY epoch LIMIT 10;

\echo 'Quality on the comments put aside, which the job never saw'
SELECT metric, round(value::numeric, 4) AS value
FROM llm_evaluate('comment_kind', 'SELECT comment, kind FROM comments WHERE put_aside');

\echo 'Ten predictions for such comments'
SELECT left(comment, 50) AS comment, kind, llm_predict('comment_kind', c) AS prediction,
       round(llm_probability('comment_kind', c)::numeric, 3) AS probability
FROM (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY md5(comment)) AS n FROM comments WHERE put_aside) AS c
WHERE n <= 2 ORDER BY kind;

\echo 'The model is a table'
SELECT model, task, live_version, target, pg_size_pretty(size) AS size FROM llmapp.models;
