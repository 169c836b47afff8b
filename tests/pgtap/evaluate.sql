-- Evaluation against the same quantities computed in SQL.
SET client_min_messages = warning;
SET llmapp.progress_notices = off;
CREATE TABLE noisy AS
    SELECT i AS id, sin(i)::float8 AS x, cos(i * 1.7)::float8 AS y,
           CASE WHEN sin(i) + 0.6 * sin(i * 7.3) > 0 THEN 'yes' ELSE 'no' END AS answer,
           (ARRAY['a', 'b', 'c'])[1 + (abs(sin(i)) * 2 + 0.9 * abs(sin(i * 5.1)))::int % 3] AS kind,
           3 * sin(i) + sin(i * 3.3) AS amount
    FROM generate_series(1, 800) AS i;
SELECT llm_train('answer', 'SELECT x, y, answer FROM noisy WHERE id <= 500', target => 'answer', params => '{"epochs": 15}', wait => true) \g /dev/null
SELECT llm_train('kind', 'SELECT x, y, kind FROM noisy WHERE id <= 500', target => 'kind', params => '{"epochs": 15, "validation": 0.15}', wait => true) \g /dev/null
SELECT llm_train('amount', 'SELECT x, y, amount FROM noisy WHERE id <= 500', target => 'amount', task => 'regression', params => '{"epochs": 15}', wait => true) \g /dev/null

BEGIN;
SELECT plan(33);

CREATE TEMP TABLE answers AS SELECT answer, llm_predict('answer', n) AS given, llm_probability('answer', n) AS p FROM noisy n;
CREATE TEMP TABLE kinds AS SELECT id, kind, llm_predict('kind', n) AS given, llm_probability('kind', n, kind) AS p FROM noisy n;
CREATE TEMP TABLE amounts AS SELECT amount, llm_predict('amount', n, NULL::float8) AS given FROM noisy n;

CREATE FUNCTION metric_of(model regclass, metric text) RETURNS float8 LANGUAGE sql AS
$$ SELECT value FROM llm_evaluate(model, 'noisy') AS e WHERE e.metric = metric_of.metric $$;
CREATE FUNCTION near(actual float8, expected float8, name text) RETURNS text LANGUAGE sql AS
$$ SELECT cmp_ok(abs(actual - expected), '<', 1e-6::float8, name || ' of ' || round(expected::numeric, 4)) $$;

SELECT near(metric_of('answer', 'n'), 800, 'n');
SELECT near(metric_of('answer', 'accuracy'), (SELECT avg((answer = given)::int) FROM answers), 'accuracy');
SELECT near(metric_of('answer', 'precision'), (SELECT avg((answer = 'yes')::int) FROM answers WHERE given = 'yes'), 'precision');
SELECT near(metric_of('answer', 'recall'), (SELECT avg((given = 'yes')::int) FROM answers WHERE answer = 'yes'), 'recall');
SELECT near(metric_of('answer', 'f1'), (SELECT 2.0 * count(*) FILTER (WHERE answer = 'yes' AND given = 'yes') /
            (count(*) FILTER (WHERE answer = 'yes') + count(*) FILTER (WHERE given = 'yes')) FROM answers), 'f1');
SELECT near(metric_of('answer', 'balanced_accuracy'), (SELECT avg(part) FROM (SELECT avg((answer = given)::int) AS part FROM answers GROUP BY answer) AS a),
            'balanced accuracy');
SELECT cmp_ok(abs(metric_of('answer', 'log_loss') - (SELECT avg(-ln(greatest(CASE answer WHEN 'yes' THEN p ELSE 1 - p END, 1.2e-7))) FROM answers)),
              '<', 1e-4::float8, 'log loss');
SELECT cmp_ok(abs(metric_of('answer', 'roc_auc') -
                  (SELECT avg(CASE WHEN a.p > b.p THEN 1 WHEN a.p = b.p THEN 0.5 ELSE 0 END) FROM answers a, answers b
                    WHERE a.answer = 'yes' AND b.answer = 'no')), '<', 1e-3::float8, 'area under the curve is the share of pairs in order');
SELECT is((SELECT jsonb_object_agg(actual || predicted, count) FROM llm_confusion('answer', 'noisy')),
          (SELECT jsonb_object_agg(pair, count) FROM (SELECT answer || given AS pair, count(*) FROM answers GROUP BY 1) AS a), 'confusion of two labels');

SELECT near(metric_of('kind', 'accuracy'), (SELECT avg((kind = given)::int) FROM kinds), 'accuracy of three');
SELECT near(metric_of('kind', 'balanced_accuracy'), (SELECT avg(part) FROM (SELECT avg((kind = given)::int) AS part FROM kinds GROUP BY kind) AS a),
            'balanced accuracy of three');
SELECT cmp_ok(abs(metric_of('kind', 'log_loss') - (SELECT avg(-ln(greatest(p, 1.2e-7))) FROM kinds)), '<', 1e-4::float8, 'log loss of three');
SELECT is((SELECT jsonb_object_agg(actual || predicted, count) FROM llm_confusion('kind', 'noisy')),
          (SELECT jsonb_object_agg(pair, count) FROM (SELECT kind || given AS pair, count(*) FROM kinds GROUP BY 1) AS a), 'confusion of three labels');
SELECT is((SELECT sum(count) FROM llm_confusion('kind', 'SELECT x, y, kind || ''!'' AS kind FROM noisy') WHERE actual IS NULL), 800::numeric,
          'labels never seen are counted as NULL');

SELECT near(metric_of('amount', 'rmse'), (SELECT sqrt(avg((amount - given) ^ 2)) FROM amounts), 'rmse');
SELECT near(metric_of('amount', 'mae'), (SELECT avg(abs(amount - given)) FROM amounts), 'mae');
SELECT near(metric_of('amount', 'r2'), (SELECT 1 - sum((amount - given) ^ 2) / (var_pop(amount) * count(*)) FROM amounts), 'r2');

-- curves
SELECT is((SELECT (true_positive_rate, false_positive_rate, threshold)::text FROM llm_roc('answer', 'noisy') LIMIT 1), '(0,0,Infinity)', 'a curve begins at the origin');
SELECT is((SELECT (max(true_positive_rate), max(false_positive_rate))::text FROM llm_roc('answer', 'noisy')), '(1,1)', 'and ends at one');
SELECT cmp_ok((SELECT count(*) FROM llm_roc('answer', 'noisy')), '<=', 200::bigint, 'with at most 200 points');
SELECT is((SELECT count(*) FROM (SELECT true_positive_rate - lag(true_positive_rate) OVER w AS t, false_positive_rate - lag(false_positive_rate) OVER w AS f,
                                        threshold - lag(threshold) OVER w AS h FROM llm_roc('answer', 'noisy') WITH ORDINALITY AS r(threshold, true_positive_rate, false_positive_rate, n)
                                 WINDOW w AS (ORDER BY n)) AS s WHERE t < 0 OR f < 0 OR h >= 0), 0::bigint, 'rates rise as thresholds fall');
SELECT cmp_ok((SELECT max(abs(r.true_positive_rate - (SELECT avg((p >= r.threshold)::int) FROM answers WHERE answer = 'yes')))
               FROM llm_roc('answer', 'noisy') AS r), '<', 0.01::float8, 'a rate is the share of rows at or above the threshold');

-- held-out rows
SELECT is((SELECT count(*) FROM llm_evaluate('answer')), 8::bigint, 'results on held-out rows are stored');
SELECT is((SELECT sum(count) FROM llm_confusion('answer')), 500::numeric, 'of each row once, with folds');
SELECT is((SELECT (min(true_positive_rate), max(true_positive_rate), min(false_positive_rate), max(false_positive_rate))::text FROM llm_roc('answer')), '(0,1,0,1)',
          'whose curves are averaged');
SELECT cmp_ok((SELECT sum(count) FROM llm_confusion('kind')), '<', 500::numeric, 'of fewer rows than were read, without');

-- what the owner of a model writes into its manifest is not believed
UPDATE answer SET meta = jsonb_set(meta, '{metrics}', '{"rows": "held_out", "metrics": {"n": "many"}, "confusion": [[1, 2]], "roc": {"1": 5}}')
    WHERE version = 1 AND part = 0;
SELECT throws_ok($$SELECT * FROM llm_evaluate('answer')$$, 'XX001', NULL, 'a metric that is no number');
SELECT throws_ok($$SELECT * FROM llm_confusion('answer')$$, 'XX001', NULL, 'a matrix of something else');
SELECT throws_ok($$SELECT * FROM llm_roc('answer')$$, 'XX001', NULL, 'a curve that is no array');
UPDATE answer SET meta = jsonb_set(meta, '{metrics}', '{"rows": "held_out", "metrics": {}, "confusion": [], "roc": {"1": [[null], 3, [0.5, 1, 1]]}}')
    WHERE version = 1 AND part = 0;
SELECT throws_ok($$SELECT * FROM llm_roc('answer')$$, 'XX001', NULL, 'points that are none');
SELECT is((SELECT count(*) FROM llm_evaluate('answer')), 0::bigint, 'no metrics');
UPDATE answer SET meta = jsonb_set(meta, '{metrics}', '{"rows": "training", "metrics": {"n": 500}}') WHERE version = 1 AND part = 0;
SELECT throws_ok($$SELECT * FROM llm_evaluate('answer')$$, '55000', NULL, 'results on training rows are not passed off as held out');
SELECT is(metric_of('answer', 'n'), 800::float8, 'and other rows can still be evaluated');
SELECT * FROM finish();
ROLLBACK;
