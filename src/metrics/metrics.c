/*
 * metrics.c
 *	  Metrics of classification and regression from rows seen one by one.
 *
 * Classes are counted (actual, predicted, both), numbers are summed; only ROC and AUC need
 * the scores themselves, which roc.c keeps within bounds.  Every metric is computed in one
 * place, json_metrics(), from those sums.
 */
#include "metrics.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "roc.h"

const char *const metric_names[] = {"n",  "accuracy", "balanced_accuracy", "precision", "recall",
									"f1", "roc_auc",  "log_loss",          "rmse",      "mae",
									"r2", NULL};

/* Sums of one target number. */
typedef struct number_sums
{
	double squared; /* sum of (predicted - actual)^2 */
	double absolute;
	double mean;      /* of actual values, by Welford's recurrence */
	double deviation; /* sum of (actual - mean)^2 */
} number_sums;

struct evaluation
{
	const target *target;
	int64_t rows;
	/* TARGET_CLASS */
	double log_loss;     /* sum over rows */
	int64_t unseen;      /* rows whose label the model does not know */
	int64_t *actual;     /* (class_count) rows that have the class */
	int64_t *predicted;  /* (class_count) rows that were given it */
	int64_t *correct;    /* (class_count) both */
	int64_t *confusion;  /* (class_count + 1, class_count), the last row for unseen labels; or NULL */
	score_table *scores; /* of the positive class, or of every class when there are more than two */
	/* TARGET_NUMBER */
	number_sums *numbers; /* (outputs) */
};

int32_t
predicted_class(const target *t, const float *out)
{
	int32_t best = 0;

	if (t->outputs == 1)
		return out[0] > 0.5f;
	for (int32_t i = 1; i < t->outputs; i++)
		if (out[i] > out[best])
			best = i;
	return best;
}

double
class_probability(const target *t, const float *out, int32_t label)
{
	if (t->outputs > 1)
		return out[label];
	return label == 1 ? out[0] : 1.0 - out[0];
}

double
predicted_number(const target *t, const float *out, int32_t i)
{
	return t->mean[i] + t->scale[i] * out[i];
}

/* Counters of a classification; false when out of memory. */
static bool
make_class_counters(evaluation *e, llm_error *err)
{
	size_t classes = e->target->class_count;

	e->actual = calloc(classes, sizeof(int64_t));
	e->predicted = calloc(classes, sizeof(int64_t));
	e->correct = calloc(classes, sizeof(int64_t));
	e->scores = scores_new(e->target->outputs, err);
	if (classes <= METRICS_CONFUSION_CLASSES)
		e->confusion = calloc((classes + 1) * classes, sizeof(int64_t));
	return e->actual != NULL && e->predicted != NULL && e->correct != NULL && e->scores != NULL &&
		   (e->confusion != NULL || classes > METRICS_CONFUSION_CLASSES);
}

evaluation *
evaluation_new(const target *t, llm_error *err)
{
	evaluation *e = calloc(1, sizeof(*e));
	bool ok = e != NULL;

	if (ok)
	{
		e->target = t;
		if (t->kind == TARGET_CLASS)
			ok = make_class_counters(e, err);
		else
			ok = (e->numbers = calloc(t->outputs, sizeof(number_sums))) != NULL;
	}
	if (!ok)
	{
		llm_fail(err, LLM_MEMORY, "out of memory for an evaluation");
		evaluation_free(e);
		return NULL;
	}
	return e;
}

void
evaluation_free(evaluation *e)
{
	if (e == NULL)
		return;
	free(e->actual);
	free(e->predicted);
	free(e->correct);
	free(e->confusion);
	scores_free(e->scores);
	free(e->numbers);
	free(e);
}

static bool
add_class(evaluation *e, const float *out, int32_t actual, llm_error *err)
{
	const target *t = e->target;
	int32_t predicted = predicted_class(t, out);
	double probability = actual < 0 ? 0 : class_probability(t, out, actual);
	/* The one score of two classes is that of class 1. */
	int32_t scored = t->outputs > 1 ? actual : actual - 1;

	if (!scores_add(e->scores, out, scored == 0 || t->outputs > 1 ? scored : -1, err))
		return false;
	e->log_loss -= log(fmin(fmax(probability, FLT_EPSILON), 1));
	e->predicted[predicted]++;
	if (actual < 0)
		e->unseen++;
	else
		e->actual[actual]++;
	if (actual == predicted)
		e->correct[actual]++;
	if (e->confusion != NULL)
		e->confusion[(int64_t) (actual < 0 ? t->class_count : actual) * t->class_count + predicted]++;
	return true;
}

static void
add_number(number_sums *sums, double predicted, double actual, int64_t rows)
{
	double error = predicted - actual;
	double delta = actual - sums->mean;

	sums->squared += error * error;
	sums->absolute += fabs(error);
	sums->mean += delta / rows;
	sums->deviation += delta * (actual - sums->mean);
}

bool
evaluation_add(evaluation *e, const float *out, int32_t actual_class, const double *actual, llm_error *err)
{
	if (e->target->kind == TARGET_CLASS && !add_class(e, out, actual_class, err))
		return false;
	e->rows++;
	if (e->target->kind == TARGET_NUMBER)
		for (int32_t i = 0; i < e->target->outputs; i++)
			add_number(&e->numbers[i], predicted_number(e->target, out, i), actual[i], e->rows);
	return true;
}

/* Add a metric; one that is not finite is undefined and left out. */
static bool
put(json_t *metrics, const char *name, double value)
{
	return !isfinite(value) || json_object_set_new(metrics, name, json_real(value)) == 0;
}

/* Recall, precision and F1 of one class. */
typedef struct class_quality
{
	double recall;
	double precision;
	double f1;
} class_quality;

/* Undefined for a class that neither occurs nor is predicted; 0 where only one of the two is missing. */
static class_quality
quality_of(const evaluation *e, int32_t label)
{
	double correct = e->correct[label];
	int64_t actual = e->actual[label];
	int64_t predicted = e->predicted[label];
	class_quality q = {NAN, NAN, NAN};

	if (actual + predicted > 0)
	{
		q.recall = actual > 0 ? correct / actual : 0;
		q.precision = predicted > 0 ? correct / predicted : 0;
		q.f1 = 2 * correct / (actual + predicted);
	}
	return q;
}

/* Means over the classes that occur among labels or predictions; unseen labels are one that is never predicted. */
static class_quality
mean_quality(const evaluation *e, double *balanced_accuracy)
{
	class_quality sum = {0};
	int32_t occurring = e->unseen > 0;
	int32_t labelled = e->unseen > 0;

	for (int32_t label = 0; label < e->target->class_count; label++)
	{
		class_quality q = quality_of(e, label);

		if (isnan(q.f1))
			continue;
		occurring++;
		labelled += e->actual[label] > 0;
		sum.recall += q.recall;
		sum.precision += q.precision;
		sum.f1 += q.f1;
	}
	*balanced_accuracy = sum.recall / labelled;
	sum.recall /= occurring;
	sum.precision /= occurring;
	sum.f1 /= occurring;
	return sum;
}

/* Mean area under the curves that are defined; NaN when none is. */
static bool
mean_area(const evaluation *e, double *area, llm_error *err)
{
	double sum = 0;
	int32_t defined = 0;

	for (int32_t label = 0; label < e->target->outputs; label++)
	{
		roc_curve curve;

		if (e->target->outputs > 1 && e->actual[label] == 0)
			continue;
		if (!roc_compute(e->scores, label, false, &curve, err))
			return false;
		if (roc_defined(&curve))
		{
			sum += roc_area(&curve);
			defined++;
		}
		roc_free(&curve);
	}
	*area = sum / defined;
	return true;
}

static bool
class_metrics(const evaluation *e, json_t *metrics, llm_error *err)
{
	int64_t correct = 0;
	double balanced, area;
	class_quality q = mean_quality(e, &balanced);

	if (!mean_area(e, &area, err))
		return false;
	if (e->target->class_count == 2)
		q = quality_of(e, 1);
	for (int32_t label = 0; label < e->target->class_count; label++)
		correct += e->correct[label];
	return put(metrics, "accuracy", (double) correct / e->rows) && put(metrics, "balanced_accuracy", balanced) &&
		   put(metrics, "precision", q.precision) && put(metrics, "recall", q.recall) && put(metrics, "f1", q.f1) &&
		   put(metrics, "roc_auc", area) && put(metrics, "log_loss", e->log_loss / e->rows);
}

/* rmse, mae and r2 of one number. */
static void
number_quality(const evaluation *e, int32_t i, double quality[3])
{
	const number_sums *sums = &e->numbers[i];

	quality[0] = sqrt(sums->squared / e->rows);
	quality[1] = sums->absolute / e->rows;
	quality[2] = sums->deviation > 0 ? 1 - sums->squared / sums->deviation : NAN;
}

static const char *const number_metric_names[3] = {"rmse", "mae", "r2"};

/* Metrics of one of several target columns, named after it. */
static bool
column_metrics(const evaluation *e, int32_t i, json_t *metrics)
{
	double quality[3];

	number_quality(e, i, quality);
	for (int k = 0; k < 3; k++)
	{
		json_t *name = json_sprintf("%s_%s", number_metric_names[k], e->target->names[i]);
		bool ok = name != NULL && put(metrics, json_string_value(name), quality[k]);

		json_decref(name);
		if (!ok)
			return false;
	}
	return true;
}

static bool
number_metrics(const evaluation *e, json_t *metrics)
{
	int32_t outputs = e->target->outputs;

	for (int k = 0; k < 3; k++)
	{
		double sum = 0;

		for (int32_t i = 0; i < outputs; i++)
		{
			double quality[3];

			number_quality(e, i, quality);
			sum += quality[k];
		}
		if (!put(metrics, number_metric_names[k], sum / outputs))
			return false;
	}
	for (int32_t i = 0; outputs > 1 && outputs == e->target->columns && i < outputs; i++)
		if (!column_metrics(e, i, metrics))
			return false;
	return true;
}

/* All metrics by name. */
static json_t *
json_metrics(const evaluation *e, llm_error *err)
{
	json_t *metrics = new_json_object();
	bool ok = metrics != NULL && json_object_set_new(metrics, "n", json_integer(e->rows)) == 0;

	if (ok && e->rows > 0)
		ok = e->target->kind == TARGET_CLASS ? class_metrics(e, metrics, err) : number_metrics(e, metrics);
	if (ok)
		return metrics;
	llm_fail(err, LLM_MEMORY, "out of memory for metrics");
	json_decref(metrics);
	return NULL;
}

/* Cells of the confusion matrix that are not empty, or NULL when out of memory. */
static json_t *
json_confusion(const evaluation *e)
{
	json_t *cells = json_array();
	int32_t classes = e->target->class_count;

	for (int32_t actual = 0; actual <= classes; actual++)
		for (int32_t predicted = 0; predicted < classes; predicted++)
		{
			int64_t count = e->confusion[(int64_t) actual * classes + predicted];

			if (count > 0 && json_array_append_new(
								 cells, json_pack("[o, i, I]", actual < classes ? json_integer(actual) : json_null(),
												  predicted, (json_int_t) count)) != 0)
			{
				json_decref(cells);
				return NULL;
			}
		}
	return cells;
}

/* Position along the curve, 0 to 2. */
static double
path_length(const roc_curve *curve, const roc_step *step)
{
	return (double) step->true_positives / curve->positives + (double) step->false_positives / curve->negatives;
}

/* Add a point; the threshold above every score is NULL. */
static bool
append_point(json_t *points, const roc_curve *curve, const roc_step *step)
{
	double tpr = step == NULL ? 0 : (double) step->true_positives / curve->positives;
	double fpr = step == NULL ? 0 : (double) step->false_positives / curve->negatives;
	json_t *threshold = step == NULL ? json_null() : json_real(step->threshold);

	return json_array_append_new(points, json_pack("[o, f, f]", threshold, tpr, fpr)) == 0;
}

/* At most METRICS_ROC_POINTS points, spread evenly along the curve, both ends among them. */
static bool
append_points(json_t *points, const roc_curve *curve)
{
	double next = 0;
	bool all = curve->count < METRICS_ROC_POINTS;

	if (!append_point(points, curve, NULL))
		return false;
	for (int64_t i = 0; i < curve->count; i++)
	{
		const roc_step *step = &curve->steps[i];
		double at = path_length(curve, step);

		if (!all && i < curve->count - 1 && at < next)
			continue;
		if (!append_point(points, curve, step))
			return false;
		/* Of 200 points two are the ends, which leaves 197 intervals to be sure of the rest. */
		while (next <= at)
			next += 2.0 / (METRICS_ROC_POINTS - 3);
	}
	return true;
}

json_t *
evaluation_roc(evaluation *e, int32_t label, llm_error *err)
{
	json_t *points = json_array();
	bool one = e->target->outputs == 1;
	roc_curve curve;
	bool ok;

	if (!roc_compute(e->scores, one ? 0 : label, one && label == 0, &curve, err))
	{
		json_decref(points);
		return NULL;
	}
	ok = points != NULL && (!roc_defined(&curve) || append_points(points, &curve));
	roc_free(&curve);
	if (ok)
		return points;
	llm_fail(err, LLM_MEMORY, "out of memory for a ROC curve");
	json_decref(points);
	return NULL;
}

/* The label with most rows after `last` (-1: of all), -1 when no further one occurs. */
static int32_t
next_frequent_label(const evaluation *e, int32_t last)
{
	int32_t best = -1;

	for (int32_t label = 0; label < e->target->class_count; label++)
	{
		bool done = last >= 0 &&
					(e->actual[label] > e->actual[last] || (label <= last && e->actual[label] == e->actual[last]));

		if (!done && e->actual[label] > 0 && (best < 0 || e->actual[label] > e->actual[best]))
			best = label;
	}
	return best;
}

const char *
evaluation_class_key(int32_t label, char key[METRICS_CLASS_KEY])
{
	snprintf(key, METRICS_CLASS_KEY, "%d", label);
	return key;
}

/* Curves of the positive class of two, or of the labels with most rows. */
static json_t *
json_roc(evaluation *e, llm_error *err)
{
	json_t *roc = new_json_object();
	char key[METRICS_CLASS_KEY];
	bool two = e->target->class_count == 2;
	int32_t label = two ? 1 : next_frequent_label(e, -1);

	for (int32_t i = 0; roc != NULL && label >= 0 && i < METRICS_ROC_LABELS; i++)
	{
		json_t *points = evaluation_roc(e, label, err);

		if (points == NULL || json_object_set_new(roc, evaluation_class_key(label, key), points) != 0)
		{
			json_decref(roc);
			return NULL;
		}
		label = two ? -1 : next_frequent_label(e, label);
	}
	return roc;
}

json_t *
evaluation_json(evaluation *e, llm_error *err)
{
	json_t *json = new_json_object();
	bool ok = json != NULL && json_object_set_new(json, "metrics", json_metrics(e, err)) == 0;

	if (ok && e->confusion != NULL)
		ok = json_object_set_new(json, "confusion", json_confusion(e)) == 0;
	if (ok && e->target->kind == TARGET_CLASS)
		ok = json_object_set_new(json, "roc", json_roc(e, err)) == 0;
	if (!json_memory_failed() && ok)
		return json;
	llm_fail(err, LLM_MEMORY, "out of memory for the results of an evaluation");
	json_decref(json);
	return NULL;
}

double
evaluation_score(evaluation *e)
{
	double score = 0;

	if (e->rows == 0)
		return INFINITY;
	if (e->target->kind == TARGET_CLASS)
		return e->log_loss / e->rows;
	for (int32_t i = 0; i < e->target->outputs; i++)
		score += sqrt(e->numbers[i].squared / e->rows) / e->target->outputs;
	return isfinite(score) ? score : INFINITY;
}
