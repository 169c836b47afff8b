/*
 * folds.c
 *	  What the evaluations of several folds say together: evaluation_json() objects in, one
 *	  of the same form out.
 *
 * Metrics are means, cells of the confusion matrix are sums.  Points of the curves are means
 * over the folds at one threshold (threshold averaging: Fawcett, "An introduction to ROC
 * analysis", 2006): networks of one form on parts of one table give comparable probabilities.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"

static const json_t *
fold_metric(const json_t *fold, const char *name)
{
	return json_object_get(json_object_get(fold, "metrics"), name);
}

/* Mean of a metric over the folds that have it, and its standard deviation (of a sample); rows are summed. */
static void
add_metric(const json_t *folds, const char *name, json_t *mean, json_t *sd)
{
	double sum = 0;
	double squares = 0;
	int n = 0;
	size_t i;
	json_t *fold;

	json_array_foreach(folds, i, fold)
	{
		n += fold_metric(fold, name) != NULL;
		sum += json_number_value(fold_metric(fold, name));
	}
	if (strcmp(name, "n") == 0)
	{
		json_object_set_new(mean, name, json_integer((json_int_t) sum));
		return;
	}
	json_array_foreach(folds, i, fold)
		if (fold_metric(fold, name) != NULL)
			squares += pow(json_number_value(fold_metric(fold, name)) - sum / n, 2);
	json_object_set_new(mean, name, json_real(sum / n));
	if (n > 1)
		json_object_set_new(sd, name, json_real(sqrt(squares / (n - 1))));
}

/* Add the cells of a confusion matrix to those of another; labels are the same. */
static void
add_confusion(json_t *sum, const json_t *cells)
{
	size_t i;
	json_t *cell;

	json_array_foreach(cells, i, cell)
	{
		size_t k;
		json_t *there = NULL;

		json_array_foreach(sum, k, there)
			if (json_equal(json_array_get(there, 0), json_array_get(cell, 0)) &&
				json_equal(json_array_get(there, 1), json_array_get(cell, 1)))
				break;
		if (k == json_array_size(sum))
			json_array_append_new(sum, json_deep_copy(cell));
		else
			json_integer_set(json_array_get(there, 2), json_integer_value(json_array_get(there, 2)) +
														   json_integer_value(json_array_get(cell, 2)));
	}
}

/* ---- curves ---- */

/* A fold's curve; the points before next have thresholds that were passed. */
typedef struct fold_curve
{
	const json_t *points;
	size_t next;
} fold_curve;

/* -INFINITY behind the last point. */
static double
next_threshold(const fold_curve *curve)
{
	const json_t *point = json_array_get(curve->points, curve->next);

	return point == NULL ? -INFINITY : json_number_value(json_array_get(point, 0));
}

/* Pass the highest of all next thresholds; -INFINITY when there is none. */
static double
pass_threshold(fold_curve *curves, size_t count)
{
	double highest = -INFINITY;

	for (size_t i = 0; i < count; i++)
		highest = fmax(highest, next_threshold(&curves[i]));
	for (size_t i = 0; i < count; i++)
		while (curves[i].next < json_array_size(curves[i].points) && next_threshold(&curves[i]) == highest)
			curves[i].next++;
	return highest;
}

/* The point at a threshold: the mean of the rates there. */
static json_t *
mean_point(const fold_curve *curves, size_t count, json_t *threshold)
{
	double rates[2] = {0, 0};

	for (size_t i = 0; i < count; i++)
		for (int k = 0; k < 2; k++)
			rates[k] +=
				json_number_value(json_array_get(json_array_get(curves[i].points, curves[i].next - 1), 1 + k)) /
				(double) count;
	return json_pack("[o, f, f]", threshold, fmin(rates[0], 1), fmin(rates[1], 1));
}

/* At most METRICS_ROC_POINTS points, the ends among them. */
static json_t *
mean_points(fold_curve *curves, size_t count)
{
	json_t *points = json_array();
	size_t steps = 0;
	size_t stride;
	double threshold;

	for (size_t i = 0; i < count; i++)
		steps += json_array_size(curves[i].points) - curves[i].next;
	stride = steps / (METRICS_ROC_POINTS - 2) + 1;
	if (steps > 0)
		json_array_append_new(points, mean_point(curves, count, json_null()));
	for (size_t passed = 1; (threshold = pass_threshold(curves, count)) != -INFINITY; passed++)
	{
		bool last = true;

		for (size_t i = 0; i < count; i++)
			last &= curves[i].next == json_array_size(curves[i].points);
		if (passed % stride == 0 || last)
			json_array_append_new(points, mean_point(curves, count, json_real(threshold)));
	}
	return points;
}

/* Over the folds that have a curve of the label; empty when none has. */
static json_t *
mean_curve(const json_t *folds, const char *label)
{
	fold_curve *curves = calloc(json_array_size(folds), sizeof(fold_curve));
	json_t *points = NULL;
	size_t count = 0;
	size_t i;
	json_t *fold;

	if (curves == NULL)
	{
		json_fail_memory();
		return NULL;
	}
	json_array_foreach(folds, i, fold)
	{
		const json_t *curve = json_object_get(json_object_get(fold, "roc"), label);

		if (json_array_size(curve) > 0)
			curves[count++] = (fold_curve) {.points = curve, .next = 1}; /* (0, 0) lies above all thresholds */
	}
	points = mean_points(curves, count);
	free(curves);
	return points;
}

static json_t *
mean_curves(const json_t *folds)
{
	json_t *roc = new_json_object();
	size_t i;
	json_t *fold;

	json_array_foreach(folds, i, fold)
	{
		const char *label;
		json_t *ignored;

		json_object_foreach(json_object_get(fold, "roc"), label, ignored)
			if (json_object_get(roc, label) == NULL && json_object_size(roc) < METRICS_ROC_LABELS)
				json_object_set_new(roc, label, mean_curve(folds, label));
	}
	return roc;
}

json_t *
evaluation_mean(const json_t *folds, llm_error *err)
{
	json_t *mean = new_json_object();
	json_t *sd = new_json_object();
	json_t *each = json_array();
	json_t *confusion = json_array();
	json_t *json = json_pack("{s:o, s:o, s:o}", "metrics", mean, "sd", sd, "folds", each);
	size_t i;
	json_t *fold;

	json_array_foreach(folds, i, fold)
	{
		const char *name;
		json_t *metric;

		json_object_foreach(json_object_get(fold, "metrics"), name, metric)
			if (json_object_get(mean, name) == NULL)
				add_metric(folds, name, mean, sd);
		json_array_append(each, json_object_get(fold, "metrics"));
		add_confusion(confusion, json_object_get(fold, "confusion"));
	}
	if (json_array_size(confusion) > 0)
		json_object_set(json, "confusion", confusion);
	json_decref(confusion);
	if (json_object_get(json_array_get(folds, 0), "roc") != NULL)
		json_object_set_new(json, "roc", mean_curves(folds));
	if (!json_memory_failed())
		return json;
	llm_fail(err, LLM_MEMORY, "out of memory for the results of an evaluation");
	json_decref(json);
	return NULL;
}
