/*
 * trials.c
 *	  Jobs that train several networks on one loaded data set: folds.
 *
 * The networks are trained one after the other, each as learn.c trains it, from the rows
 * that were loaded once.  What those before it gave is the history, which the checkpoint
 * carries, so a job goes on in the middle of the network that it was interrupted in.
 *
 * Memory of one network, threads included, belongs to a context that goes with it.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "../llmapp.h"
#include "../serve/metrics.h"
#include "trials.h"

static MemoryContext
CreateFitContext(void)
{
	return AllocSetContextCreate(CurrentMemoryContext, "llmapp network", ALLOCSET_DEFAULT_SIZES);
}

/* The network is done; the next one starts with a fresh state. */
static void
NextFit(TrainingRun *run)
{
	TrainingState *s = &run->checkpoint.state;

	s->earlier_steps += s->step;
	s->step = 0;
	s->fit++;
	run->resumed = false;
}

/* ---- history of folds: JSON, one object for each ---- */

static json_t *
ReadFolds(const TrainingRun *run)
{
	const CheckpointPart *part = &run->checkpoint.parts[PART_HISTORY];
	llm_error	err = {0};
	json_t	   *folds = part->bytes == 0 ? json_array() : json_parse(part->data, part->bytes, &err);

	if (folds == NULL)
		ThrowError(&err);
	OWN(folds, json_decref);
	return folds;
}

static void
WriteFolds(TrainingRun *run, const json_t *folds)
{
	char	   *text = json_text(folds);

	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	run->checkpoint.parts[PART_HISTORY] = (CheckpointPart) {pstrdup(text), strlen(text)};
	free(text);
}

/* ---- what the folds say together ---- */

/* Mean of a metric over the folds that have it, and its standard deviation (of a sample); rows are summed. */
static void
SummarizeMetric(const json_t *folds, const char *name, json_t *mean, json_t *sd)
{
	double		sum = 0;
	double		squares = 0;
	int			n = 0;
	size_t		i;
	json_t	   *fold;

	json_array_foreach(folds, i, fold)
	{
		const json_t *metric = json_object_get(json_object_get(fold, "metrics"), name);

		if (metric != NULL)
			n++;
		sum += json_number_value(metric);
	}
	if (strcmp(name, "n") == 0)
	{
		json_object_set_new(mean, name, json_integer((json_int_t) sum));
		return;
	}
	json_array_foreach(folds, i, fold)
	{
		const json_t *metric = json_object_get(json_object_get(fold, "metrics"), name);

		if (metric != NULL)
			squares += pow(json_number_value(metric) - sum / n, 2);
	}
	json_object_set_new(mean, name, json_real(sum / n));
	if (n > 1)
		json_object_set_new(sd, name, json_real(sqrt(squares / (n - 1))));
}

/* Add the cells of a confusion matrix to those of another; labels are the same. */
static void
AddConfusion(json_t *sum, const json_t *cells)
{
	size_t		i;
	json_t	   *cell;

	json_array_foreach(cells, i, cell)
	{
		size_t		k;
		json_t	   *there = NULL;

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

/* The form of evaluation_json(), with "folds" and "sd" beside it and without curves. */
static json_t *
SummarizeFolds(const json_t *folds)
{
	json_t	   *mean = json_object();
	json_t	   *sd = json_object();
	json_t	   *each = json_array();
	json_t	   *confusion = json_array();
	json_t	   *json = json_pack("{s:o, s:o, s:o, s:s}", "metrics", mean, "sd", sd, "folds", each, "rows", "held_out");
	size_t		i;
	json_t	   *fold;

	json_array_foreach(folds, i, fold)
	{
		const char *name;
		json_t	   *metric;

		json_object_foreach(json_object_get(fold, "metrics"), name, metric)
			if (json_object_get(mean, name) == NULL)
				SummarizeMetric(folds, name, mean, sd);
		json_array_append(each, json_object_get(fold, "metrics"));
		AddConfusion(confusion, json_object_get(fold, "confusion"));
	}
	if (json_array_size(confusion) > 0)
		json_object_set(json, "confusion", confusion);
	json_decref(confusion);
	return json;
}

/* ---- folds ---- */

/* Fit and encode what the fold leaves, or all rows for fold -1, and plan to learn from it. */
static Learning *
PlanFold(TrainingRun *run, int32 fold)
{
	Learning   *l;

	JobSetTrial(1, fold + 1);
	HoldOutFold(run->data, fold);
	FitDataset(run->data, run->params, run->base ? run->base->manifest : NULL);
	l = PlanLearning(run->job, run->params, run->base, run->data, &run->checkpoint);
	l->fits = run->params->folds + 1;
	/* Each network may take its share of the time, and what those before it left. */
	l->deadline = run->params->max_seconds * (run->checkpoint.state.fit + 1) / l->fits;
	EncodeDataset(run->data, run->params, RecordMemory(l, LearningMemory(l)));
	return l;
}

static const char *
FoldMetric(const Dataset *d)
{
	return d->target->kind == TARGET_CLASS ? "log_loss" : "rmse";
}

static void
RecordFold(const TrainingRun *run, double value, const char *status)
{
	json_t	   *settings = json_object();

	JobTrial(settings, FoldMetric(run->data), value, run->checkpoint.state.epoch, status);
	json_decref(settings);
}

/* Train without the fold and judge on it; false when the job is to pause. */
static bool
TrainFold(TrainingRun *run, int32 fold, json_t *folds)
{
	Learning   *l = PlanFold(run, fold);
	TrainingState *s = &run->checkpoint.state;
	json_t	   *result;
	double		score;

	RecordFold(run, NAN, "running");
	if (!StartLearning(l, run->resumed) || RunLearning(l) == LEARN_PAUSED)
		return false;
	result = Evaluate(l, LearnedWeights(l), &score);
	json_object_del(result, "roc");
	json_object_set_new(result, "score", json_real(isfinite(score) ? score : DBL_MAX));
	json_object_set_new(result, "epochs", json_integer(s->best_epoch > 0 ? s->best_epoch : s->epoch));
	json_object_set_new(result, "data", DataReport(run->data));
	json_array_append_new(folds, result);
	RecordFold(run, score, "finished");
	return true;
}

/* All folds that the history does not have yet; false when the job is to pause. */
static bool
TrainEachFold(TrainingRun *run, json_t *folds)
{
	MemoryContext old = CurrentMemoryContext;

	while (run->checkpoint.state.fit < run->params->folds)
	{
		MemoryContext cxt = CreateFitContext();
		bool		done;

		MemoryContextSwitchTo(cxt);
		done = TrainFold(run, (int32) run->checkpoint.state.fit, folds);
		MemoryContextSwitchTo(old);
		if (!done)
			return false;
		MemoryContextDelete(cxt);
		NextFit(run);
		WriteFolds(run, folds);
	}
	return true;
}

/* Of the number under this key, rounded. */
static double
MeanOfFolds(const json_t *folds, const char *key)
{
	double		sum = 0;
	size_t		i;
	json_t	   *fold;

	json_array_foreach(folds, i, fold)
		sum += json_number_value(json_object_get(fold, key));
	return sum / json_array_size(folds);
}

static void
ReportFolds(const json_t *folds, const json_t *evaluation)
{
	json_t	   *list = json_array();
	size_t		i;
	json_t	   *fold;

	json_array_foreach(folds, i, fold)
		json_array_append_new(list, json_pack("{s:i, s:O, s:O, s:O}", "fold", (int) i + 1,
											  "metrics", json_object_get(fold, "metrics"),
											  "epochs", json_object_get(fold, "epochs"),
											  "data", json_object_get(fold, "data")));
	JobReport("folds", list);
	JobReport("sd", json_deep_copy(json_object_get(evaluation, "sd")));
}

bool
TrainFolds(TrainingRun *run, Learned *learned)
{
	json_t	   *folds = ReadFolds(run);
	Learning   *l;

	if (run->data->rows < run->params->folds * 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the source has " INT64_FORMAT " rows with a target, too few for %d folds",
						run->data->rows, run->params->folds)));
	JobForgetTrials(1, (int32) run->checkpoint.state.fit + 1);
	params_choose(run->params, run->data->rows - run->data->rows / run->params->folds);
	FitTarget(run->data, run->base ? run->base->manifest : NULL);
	if (!TrainEachFold(run, folds))
		return false;
	l = PlanFold(run, -1);
	CloseRows(run->data);
	l->last_epoch = (int64) rint(MeanOfFolds(folds, "epochs"));
	JobReport("data", DataReport(run->data));
	RecordFold(run, NAN, "running");
	if (!StartLearning(l, run->resumed) || RunLearning(l) == LEARN_PAUSED)
		return false;
	RecordFold(run, NAN, "best");
	learned->learning = l;
	learned->weights = LearnedWeights(l);
	learned->evaluation = SummarizeFolds(folds);
	learned->score = MeanOfFolds(folds, "score");
	ReportFolds(folds, learned->evaluation);
	return true;
}
