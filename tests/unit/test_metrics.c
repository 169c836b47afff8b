/*
 * test_metrics.c
 *	  Metrics against values computed by hand, and by the definition in O(n^2) where that is
 *	  simpler: ties in AUC, labels never seen, one class only, many rows in bins.
 */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "../../src/metrics/metrics.h"
#include "../../src/metrics/roc.h"

static char *names[] = {"a", "b"};
static char *classes[] = {"no", "yes", "maybe", "never"};
static double means[] = {10, 0};
static double scales[] = {2, 1};

static target
class_target(int32_t count)
{
	target t = {.kind = TARGET_CLASS,
				.columns = 1,
				.names = names,
				.outputs = count == 2 ? 1 : count,
				.class_count = count,
				.classes = classes};

	return t;
}

static double
metric(const json_t *result, const char *name)
{
	const json_t *value = json_object_get(json_object_get(result, "metrics"), name);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

static bool
has_metric(const json_t *result, const char *name)
{
	return json_object_get(json_object_get(result, "metrics"), name) != NULL;
}

/* Evaluate rows of `outputs` numbers. */
static evaluation *
evaluate(const target *t, const float *out, const int32_t *actual, int count)
{
	llm_error err = {0};
	evaluation *e = evaluation_new(t, &err);

	for (int i = 0; i < count; i++)
		CHECK(evaluation_add(e, out + i * t->outputs, actual[i], NULL, &err));
	return e;
}

static void
test_two_classes(void)
{
	/* Positive scores .9 .8 .4 .4, negative .7 .4 .2: wins 3 + 3 + 1.5 + 1.5 of 12. */
	const float out[] = {.9f, .8f, .4f, .4f, .7f, .4f, .2f};
	const int32_t actual[] = {1, 1, 1, 1, 0, 0, 0};
	target t = class_target(2);
	llm_error err = {0};
	evaluation *e = evaluate(&t, out, actual, 7);
	json_t *r = evaluation_json(e, &err);

	CHECK_NEAR(metric(r, "n"), 7, 0);
	CHECK_NEAR(metric(r, "accuracy"), 4 / 7.0, 1e-12);
	CHECK_NEAR(metric(r, "balanced_accuracy"), (2 / 4.0 + 2 / 3.0) / 2, 1e-12);
	CHECK_NEAR(metric(r, "precision"), 2 / 3.0, 1e-12);
	CHECK_NEAR(metric(r, "recall"), .5, 1e-12);
	CHECK_NEAR(metric(r, "f1"), 4 / 7.0, 1e-12);
	CHECK_NEAR(metric(r, "roc_auc"), 9 / 12.0, 1e-12);
	CHECK_NEAR(metric(r, "log_loss"), -(log(.9) + log(.8) + 2 * log(.4) + log(.3) + log(.6) + log(.8)) / 7, 1e-7);
	CHECK_NEAR(evaluation_score(e), metric(r, "log_loss"), 1e-12);
	json_decref(r);
	evaluation_free(e);
}

static void
test_confusion_and_curve(void)
{
	const float out[] = {.9f, .8f, .4f, .1f};
	const int32_t actual[] = {1, 0, 1, 0};
	target t = class_target(2);
	llm_error err = {0};
	evaluation *e = evaluate(&t, out, actual, 4);
	json_t *r = evaluation_json(e, &err);
	char *confusion = json_text(json_object_get(r, "confusion"));
	json_t *no = evaluation_roc(e, 0, &err);
	json_t *curve = json_object_get(json_object_get(r, "roc"), "1");

	CHECK_STR(confusion, "[[0,0,1],[0,1,1],[1,0,1],[1,1,1]]");
	CHECK_INT(json_object_size(json_object_get(r, "roc")), 1);
	CHECK_INT(json_array_size(curve), 5);
	CHECK(json_is_null(json_array_get(json_array_get(curve, 0), 0)));
	CHECK_NEAR(json_number_value(json_array_get(json_array_get(curve, 1), 0)), .9f, 0);
	CHECK_NEAR(json_number_value(json_array_get(json_array_get(curve, 2), 1)), .5, 0);
	CHECK_NEAR(json_number_value(json_array_get(json_array_get(curve, 2), 2)), .5, 0);
	CHECK_NEAR(json_number_value(json_array_get(json_array_get(curve, 4), 2)), 1, 0);
	/* The other label: thresholds are 1 - p, and the curve is mirrored. */
	CHECK_INT(json_array_size(no), 5);
	CHECK_NEAR(json_number_value(json_array_get(json_array_get(no, 1), 0)), .9, 1e-7);
	CHECK_NEAR(json_number_value(json_array_get(json_array_get(no, 1), 1)), .5, 0);
	CHECK_NEAR(json_number_value(json_array_get(json_array_get(no, 1), 2)), 0, 0);
	free(confusion);
	json_decref(no);
	json_decref(r);
	evaluation_free(e);
}

static void
test_many_classes(void)
{
	/* Predicted 0 1 1 2 1; class 3 never occurs; the last row's label is unknown. */
	const float out[] = {
		.7f, .2f, .1f, 0, .3f, .4f, .3f, 0, .1f, .6f, .3f, 0, .2f, .2f, .6f, 0, .1f, .8f, .1f, 0,
	};
	const int32_t actual[] = {0, 0, 1, 2, -1};
	target t = class_target(4);
	llm_error err = {0};
	evaluation *e = evaluate(&t, out, actual, 5);
	json_t *r = evaluation_json(e, &err);
	char *confusion = json_text(json_object_get(r, "confusion"));

	CHECK_NEAR(metric(r, "accuracy"), 3 / 5.0, 1e-12);
	CHECK_NEAR(metric(r, "balanced_accuracy"), (.5 + 1 + 1 + 0) / 4, 1e-12);
	CHECK_NEAR(metric(r, "precision"), (1 + 1 / 3.0 + 1 + 0) / 4, 1e-12);
	CHECK_NEAR(metric(r, "f1"), (2 / 3.0 + 1 / 2.0 + 1 + 0) / 4, 1e-12);
	/* Class 0: .7 .3 against .1 .2 .1; class 1: .6 against .2 .4 .2 .8; class 2: .6 against .1 .3 .3 .1. */
	CHECK_NEAR(metric(r, "roc_auc"), (1 + .75 + 1) / 3, 1e-12);
	CHECK_NEAR(metric(r, "log_loss"), -(log(.7) + log(.3) + log(.6) + log(.6) + log(1.1920929e-7)) / 5, 1e-6);
	CHECK_STR(confusion, "[[0,0,1],[0,1,1],[1,1,1],[2,2,1],[null,1,1]]");
	CHECK_INT(json_object_size(json_object_get(r, "roc")), 3);
	free(confusion);
	json_decref(r);
	evaluation_free(e);
}

/* What cannot be computed is absent, not a number made up. */
static void
test_undefined(void)
{
	const float out[] = {.2f, .3f};
	const int32_t actual[] = {0, 0};
	target t = class_target(2);
	llm_error err = {0};
	evaluation *e = evaluate(&t, out, actual, 2);
	json_t *r = evaluation_json(e, &err);

	CHECK(!has_metric(r, "roc_auc"));
	CHECK(!has_metric(r, "precision"));
	CHECK(!has_metric(r, "f1"));
	CHECK_NEAR(metric(r, "accuracy"), 1, 0);
	CHECK_INT(json_array_size(json_object_get(json_object_get(r, "roc"), "1")), 0);
	json_decref(r);
	evaluation_free(e);

	e = evaluation_new(&t, &err);
	r = evaluation_json(e, &err);
	CHECK_INT(json_object_size(json_object_get(r, "metrics")), 1);
	CHECK_NEAR(metric(r, "n"), 0, 0);
	CHECK(isinf(evaluation_score(e)));
	json_decref(r);
	evaluation_free(e);
}

static void
test_numbers(void)
{
	/* Column a: predicted 10 12 14, actual 11 12 16; column b: predicted and actual constant. */
	const float out[] = {0, 5, 1, 5, 2, 5};
	const double actual[] = {11, 5, 12, 5, 16, 5};
	target t = {.kind = TARGET_NUMBER, .columns = 2, .names = names, .outputs = 2, .mean = means, .scale = scales};
	llm_error err = {0};
	evaluation *e = evaluation_new(&t, &err);
	json_t *r;

	for (int i = 0; i < 3; i++)
		CHECK(evaluation_add(e, out + i * 2, -1, actual + i * 2, &err));
	r = evaluation_json(e, &err);
	CHECK_NEAR(metric(r, "rmse_a"), sqrt(5 / 3.0), 1e-12);
	CHECK_NEAR(metric(r, "mae_a"), 1, 1e-12);
	CHECK_NEAR(metric(r, "r2_a"), 1 - 5 / 14.0, 1e-12);
	CHECK_NEAR(metric(r, "rmse_b"), 0, 0);
	CHECK(!has_metric(r, "r2_b"));
	CHECK(!has_metric(r, "r2"));
	CHECK_NEAR(metric(r, "rmse"), sqrt(5 / 3.0) / 2, 1e-12);
	CHECK_NEAR(evaluation_score(e), sqrt(5 / 3.0) / 2, 1e-12);
	CHECK(json_object_get(r, "confusion") == NULL);
	CHECK(json_object_get(r, "roc") == NULL);
	json_decref(r);
	evaluation_free(e);

	t.columns = t.outputs = 1;
	e = evaluation_new(&t, &err);
	for (int i = 0; i < 3; i++)
		CHECK(evaluation_add(e, out + i * 2, -1, actual + i * 2, &err));
	r = evaluation_json(e, &err);
	CHECK_NEAR(metric(r, "r2"), 1 - 5 / 14.0, 1e-12);
	CHECK_INT(json_object_size(json_object_get(r, "metrics")), 4);
	json_decref(r);
	evaluation_free(e);
}

/* Predictions that are not finite give no metric and the worst score. */
static void
test_not_finite(void)
{
	const float out[] = {NAN};
	const double actual[] = {1};
	const int32_t label[] = {1};
	target number = {
		.kind = TARGET_NUMBER, .columns = 1, .names = names, .outputs = 1, .mean = means, .scale = scales};
	target two = class_target(2);
	llm_error err = {0};
	evaluation *e = evaluation_new(&number, &err);
	json_t *r;

	CHECK(evaluation_add(e, out, -1, actual, &err));
	r = evaluation_json(e, &err);
	CHECK(!has_metric(r, "rmse"));
	CHECK(isinf(evaluation_score(e)));
	json_decref(r);
	evaluation_free(e);

	e = evaluate(&two, out, label, 1);
	CHECK_NEAR(evaluation_score(e), -log(1.1920929e-7), 1e-6);
	evaluation_free(e);
}

/* AUC by its definition: the share of (positive, negative) pairs in the right order. */
static double
area_by_pairs(const float *score, const bool *positive, int count)
{
	double won = 0;
	int64_t pairs = 0;

	for (int i = 0; i < count; i++)
		for (int j = 0; j < count; j++)
			if (positive[i] && !positive[j])
			{
				won += score[i] > score[j] ? 1 : score[i] == score[j] ? .5 : 0;
				pairs++;
			}
	return won / pairs;
}

static uint32_t seed = 1;

static float
random_unit(void)
{
	seed = seed * 1664525 + 1013904223;
	return (float) (seed >> 8) / (1 << 24);
}

static void
test_area_by_pairs(void)
{
	enum
	{
		COUNT = 300
	};
	float score[COUNT];
	bool positive[COUNT];

	for (int levels = 2; levels <= 200; levels *= 3)
	{
		score_table *s = scores_new(1, NULL);
		roc_curve curve, mirrored;

		for (int i = 0; i < COUNT; i++)
		{
			score[i] = floorf(random_unit() * levels) / levels;
			positive[i] = random_unit() < .3f + .4f * score[i];
			CHECK(scores_add(s, &score[i], positive[i] ? 0 : -1, NULL));
		}
		CHECK(roc_compute(s, 0, false, &curve, NULL));
		CHECK(roc_compute(s, 0, true, &mirrored, NULL));
		CHECK(curve.count <= levels);
		CHECK_NEAR(roc_area(&curve), area_by_pairs(score, positive, COUNT), 1e-12);
		CHECK_NEAR(roc_area(&mirrored), roc_area(&curve), 1e-12);
		roc_free(&curve);
		roc_free(&mirrored);
		scores_free(s);
	}
}

/* More rows than are kept: bins change the area by less than a ten-thousandth, also with rare scores near 0 and 1. */
static void
test_bins(void)
{
	score_table *s = scores_new(1, NULL);
	target t = class_target(2);
	llm_error err = {0};
	evaluation *e = evaluation_new(&t, &err);
	roc_curve exact, binned;
	double area;
	bool ok = true;
	json_t *points;

	for (int i = 0; i < METRICS_EXACT_ROWS; i++)
	{
		float odds = 16 * random_unit() - 8;
		float p = 1 / (1 + expf(-odds));

		ok &= scores_add(s, &p, random_unit() < p ? 0 : -1, NULL);
	}
	CHECK(roc_compute(s, 0, false, &exact, NULL));
	area = roc_area(&exact);
	ok &= scores_add(s, (const float[]) {0.5f}, 0, NULL);
	CHECK(roc_compute(s, 0, false, &binned, NULL));
	CHECK(ok);
	CHECK(binned.count <= 65536);
	CHECK_INT(binned.positives + binned.negatives, METRICS_EXACT_ROWS + 1);
	CHECK_NEAR(roc_area(&binned), area, 1e-4);
	roc_free(&exact);
	CHECK(roc_compute(s, 0, true, &exact, NULL));
	CHECK_NEAR(roc_area(&exact), roc_area(&binned), 1e-12);
	roc_free(&exact);
	roc_free(&binned);
	scores_free(s);

	for (int i = 0; i < 5000; i++)
		ok &= evaluation_add(e, (const float[]) {random_unit()}, i % 2, NULL, &err);
	points = evaluation_roc(e, 1, &err);
	CHECK(json_array_size(points) <= METRICS_ROC_POINTS);
	CHECK(json_array_size(points) > METRICS_ROC_POINTS / 2);
	CHECK_NEAR(json_number_value(json_array_get(json_array_get(points, json_array_size(points) - 1), 1)), 1, 0);
	json_decref(points);
	evaluation_free(e);
}

/* So many classes that scores go to bins early, and neither matrix nor all curves are kept. */
static void
test_thousand_classes(void)
{
	enum
	{
		CLASSES = 1000,
		COUNT = METRICS_EXACT_SCORES / CLASSES + 300
	};
	static char labels[CLASSES][8];
	static char *label_names[CLASSES];
	static float out[CLASSES];
	target t = {.kind = TARGET_CLASS,
				.columns = 1,
				.names = names,
				.outputs = CLASSES,
				.class_count = CLASSES,
				.classes = label_names};
	llm_error err = {0};
	evaluation *e;
	json_t *r;
	bool ok = true;

	for (int i = 0; i < CLASSES; i++)
	{
		snprintf(labels[i], sizeof(labels[i]), "c%d", i);
		label_names[i] = labels[i];
	}
	e = evaluation_new(&t, &err);
	for (int row = 0; row < COUNT; row++)
	{
		int actual = row % 50;

		for (int i = 0; i < CLASSES; i++)
			out[i] = random_unit() * 0.001f;
		out[actual] = row % 4 ? 0.5f : 0.0f;
		ok &= evaluation_add(e, out, actual, NULL, &err);
	}
	CHECK(ok);
	r = evaluation_json(e, &err);
	CHECK_NEAR(metric(r, "accuracy"), .75, 0.01);
	CHECK_NEAR(metric(r, "roc_auc"), .75, 0.01);
	CHECK(json_object_get(r, "confusion") == NULL);
	CHECK_INT(json_object_size(json_object_get(r, "roc")), METRICS_ROC_LABELS);
	json_decref(r);
	evaluation_free(e);
}

/* A fold as evaluation_json() would give it. */
static json_t *
fold(const char *text)
{
	llm_error err = {0};
	json_t *json = json_parse(text, strlen(text), &err);

	CHECK(json != NULL);
	return json;
}

/* Means, deviations and sums; a metric that a fold does not have is the mean of the others. */
static void
test_folds(void)
{
	llm_error err = {0};
	json_t *folds = json_array();
	json_t *r;
	char *text;

	json_array_append_new(folds, fold("{\"metrics\": {\"n\": 3, \"accuracy\": 0.5, \"roc_auc\": 1},"
									  "\"confusion\": [[\"a\", \"a\", 1], [\"a\", \"b\", 2]],"
									  "\"roc\": {\"b\": [[null, 0, 0], [0.75, 1, 0], [0.25, 1, 1]]}}"));
	json_array_append_new(folds,
						  fold("{\"metrics\": {\"n\": 4, \"accuracy\": 0.75}, \"confusion\": [[\"a\", \"b\", 4]],"
							   "\"roc\": {\"b\": []}}"));
	json_array_append_new(folds, fold("{\"metrics\": {\"n\": 2, \"accuracy\": 1}, \"confusion\": [[\"b\", \"b\", 2]],"
									  "\"roc\": {\"b\": [[null, 0, 0], [0.875, 0, 0.5], [0.25, 1, 1]]}}"));
	r = evaluation_mean(folds, &err);
	CHECK_INT(err.code, LLM_OK);
	CHECK_NEAR(metric(r, "n"), 9, 0);
	CHECK_NEAR(metric(r, "accuracy"), .75, 1e-15);
	CHECK_NEAR(metric(r, "roc_auc"), 1, 1e-15);
	CHECK_NEAR(json_number_value(json_object_get(json_object_get(r, "sd"), "accuracy")), .25, 1e-15);
	CHECK(json_object_get(json_object_get(r, "sd"), "roc_auc") == NULL);
	CHECK_INT(json_array_size(json_object_get(r, "folds")), 3);
	text = json_text(json_object_get(r, "confusion"));
	CHECK_STR(text, "[[\"a\",\"a\",1],[\"a\",\"b\",6],[\"b\",\"b\",2]]");
	free(text);
	text = json_text(json_object_get(r, "roc"));
	CHECK_STR(text, "{\"b\":[[null,0.0,0.0],[0.875,0.0,0.25],[0.75,0.5,0.25],[0.25,1.0,1.0]]}");
	free(text);
	json_decref(r);
	json_decref(folds);
}

/* Curves of many points keep their ends and do not fall. */
static void
test_long_curves(void)
{
	enum
	{
		POINTS = 199
	};
	llm_error err = {0};
	json_t *folds = json_array();
	const json_t *points;
	json_t *r;
	double last[3] = {INFINITY, 0, 0};
	bool monotone = true;

	for (int k = 0; k < 5; k++)
	{
		json_t *curve = json_pack("[[n, f, f]]", 0.0, 0.0);

		for (int i = 1; i <= POINTS; i++)
			json_array_append_new(curve, json_pack("[f, f, f]", 1 - (i + k / 5.0) / (POINTS + 1),
												   sqrt((double) i / POINTS), (double) i / POINTS));
		json_array_append_new(folds, json_pack("{s:{s:i}, s:{s:o}}", "metrics", "n", 1, "roc", "b", curve));
	}
	r = evaluation_mean(folds, &err);
	points = json_object_get(json_object_get(r, "roc"), "b");
	CHECK(json_array_size(points) <= METRICS_ROC_POINTS && json_array_size(points) > METRICS_ROC_POINTS / 2);
	for (size_t i = 1; i < json_array_size(points); i++)
	{
		double here[3];

		for (int k = 0; k < 3; k++)
			here[k] = json_number_value(json_array_get(json_array_get(points, i), k));
		monotone &= here[0] < last[0] && here[1] >= last[1] && here[2] >= last[2];
		memcpy(last, here, sizeof(last));
	}
	CHECK(monotone);
	CHECK_NEAR(last[1], 1, 1e-15);
	CHECK_NEAR(last[2], 1, 1e-15);
	json_decref(r);
	json_decref(folds);
}

int
main(void)
{
	test_two_classes();
	test_confusion_and_curve();
	test_many_classes();
	test_undefined();
	test_numbers();
	test_not_finite();
	test_area_by_pairs();
	test_bins();
	test_thousand_classes();
	test_folds();
	test_long_curves();
	return test_summary();
}
