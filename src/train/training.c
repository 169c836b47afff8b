/*
 * training.c
 *	  A training from its description to a published version.
 *
 * Phases: loading (dataset.c), training and evaluating (learn.c, for several networks
 * trials.c), saving (version.c).  Only loading and saving use transactions; between them
 * no snapshot, lock or transaction is held.
 *
 * All memory belongs to one context; objects of the engine are freed by its callbacks,
 * which also run when the process has to end.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "../common.h"
#include "../model/model.h"
#include "corpus.h"
#include "../job/gpu.h"
#include "trials.h"
#include "version.h"

/* ---- preparation ---- */

/* The submitter's settings, and no source of a different order of rows. */
static void
ApplySettings(const TrainingSpec *spec)
{
	const struct
	{
		const char *name;
		const char *value;
	} settings[] = {
		{"search_path", spec->search_path},
		{"TimeZone", spec->timezone},
		{"DateStyle", spec->datestyle},
		{"synchronize_seqscans", "off"},
		{"llmapp.threads", psprintf("%d", spec->threads)},
		{"llmapp.train_memory", psprintf("%d", spec->train_memory)},
		{"llmapp.gpu_memory", psprintf("%d", spec->gpu_memory)},
		{"llmapp.checkpoint_interval", psprintf("%d", spec->checkpoint_interval)},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		(void) set_config_option(settings[i].name, settings[i].value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SET,
								 true, 0, false);
}

/* Take the network's settings from the version that was the base. */
static void
AdoptBaseSettings(train_params *params, const manifest *base, const char *const *names)
{
	const json_t *settings = json_object_get(base->json, "settings");

	for (; *names != NULL; names++)
	{
		json_t *value = json_object_get(json_object_get(settings, *names), "value");

		if (value == NULL)
			continue;
		json_object_set(params->resolved, *names, value);
		params->sources[params_index(*names, params->architecture->bit)] = SOURCE_AUTO;
	}
}

static const Model *
OpenOtherModel(Oid relid)
{
	MemoryContext cxt = CurrentMemoryContext;
	Model *model;

	if (!OidIsValid(relid))
		return NULL;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	RequireWeightsPrivilege(relid);
	model = OpenModel(relid, 0, cxt);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return model;
}

static void
OpenOtherModels(TrainingRun *t)
{
	t->tokenizer = OpenOtherModel(t->spec->tokenizer);
	t->base = OpenOtherModel(t->spec->base);
	if (t->base == NULL)
		return;
	AdoptBaseSettings(t->params, t->base->manifest, base_settings);
	if (t->base->manifest->target->kind != TARGET_TEXT)
		AdoptBaseSettings(t->params, t->base->manifest, base_row_settings);
	if (IsEmbeddingTask(t->base->manifest->task))
		AdoptBaseSettings(t->params, t->base->manifest, base_embedding_settings);
}

/* Go on from the job's checkpoint when there is one; say so, or why not. */
static void
OpenCheckpoint(TrainingRun *t)
{
	Checkpoint *c = &t->checkpoint;
	const char *problem;

	c->fingerprint = t->data->fingerprint;
	t->resumed = ReadCheckpoint(t->job, c, &problem);
	if (problem != NULL)
		JobReport("restarted", json_pack("{s:s}", "reason", problem));
	else if (t->resumed)
		JobReport("resumed", json_pack("{s:I}", "step", (json_int_t) (c->state.earlier_steps + c->state.step)));
	c->written_at = c->state.elapsed;
	JobForgetMetricsAfter(c->state.earlier_steps + c->state.step);
}

/* Columns fitted and encoded; what is left of memory is for records.  NULL when the job is to pause. */
static Learning *
PrepareColumns(TrainingRun *t)
{
	Learning *l;

	if (t->data->roles->text < 0)
	{
		FitDataset(t->data, t->params, t->base ? t->base->manifest : NULL);
		ChooseParams(t, t->data->training_rows);
	}
	else if (!FitTextRows(t->data, t->params, t->base, t->tokenizer))
		return NULL;
	l = PlanLearning(t->job, t->params, t->base, t->data, &t->checkpoint);
	EncodeDataset(t->data, t->params, RecordMemory(l, LearningMemory(l)));
	return l;
}

/* Texts made tokens; NULL when the job is to pause. */
static Learning *
PrepareTexts(TrainingRun *t)
{
	Learning *l;

	if (!FitCorpus(t->data, t->params, t->base, t->tokenizer))
		return NULL;
	l = PlanLearning(t->job, t->params, t->base, t->data, &t->checkpoint);
	(void) RecordMemory(l, LearningMemory(l));
	return l;
}

/* The plain case: one network. */
static bool
TrainOne(TrainingRun *t, Learned *learned)
{
	Learning *l = t->data->roles->learns_text ? PrepareTexts(t) : PrepareColumns(t);

	if (l == NULL)
		return false;
	CloseRows(t->data);
	JobReport("data", DataReport(t->data));
	if (!StartLearning(l, t->resumed) || RunLearning(l) == LEARN_PAUSED)
		return false;
	learned->params = l->params;
	learned->net = l->net;
	learned->weights = LearnedWeights(l);
	learned->matrices = LearnedMatrices(l);
	learned->evaluation = Evaluate(l, learned->weights, &learned->score);
	return true;
}

static void
Publish(const TrainingRun *t, const Learned *learned)
{
	TrainedNetwork trained = {.job = t->job,
							  .spec = t->spec,
							  .params = learned->params,
							  .data = t->data,
							  .net = learned->net,
							  .weights = learned->weights,
							  .state = &t->checkpoint.state,
							  .evaluation = learned->evaluation,
							  .score = learned->score,
							  .matrices = learned->matrices,
							  .base = t->base};

	JobReport("task", json_string(t->data->task));
	JobReport("evaluated_on", json_copy(json_object_get(learned->evaluation, "rows")));
	JobReport("metrics", json_deep_copy(json_object_get(learned->evaluation, "metrics")));
	JobFlushMetrics();
	PublishTraining(&trained);
	RemoveCheckpoint(t->job);
}

/* The whole job, in the current memory context; false when it paused. */
static bool
Train(int64 job, const TrainingSpec *spec)
{
	TrainingRun *t = palloc0(sizeof(TrainingRun));
	Learned learned = {0};
	bool done;

	t->job = job;
	t->spec = spec;
	ApplySettings(spec);
	t->params = ResolveParams(spec->architecture, spec->params);
	OpenOtherModels(t);
	t->data = LoadDataset(spec, t->params, t->base ? t->base->manifest : NULL);
	if (JobPauseRequested())
		return false;
	ChooseFolds(t->data, t->params, t->base != NULL);
	OpenCheckpoint(t);
	if (!ChooseDevice(spec->device, NULL))
		return false;
	done = t->params->folds > 0        ? TrainFolds(t, &learned)
		   : t->params->ranges != NULL ? TrainTrials(t, &learned)
									   : TrainOne(t, &learned);
	if (!done)
		return false;
	Publish(t, &learned);
	return true;
}

/* Free everything, threads first of all, whatever ends the training. */
static void
ReleaseTraining(int code, Datum arg)
{
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete((MemoryContext) DatumGetPointer(arg));
}

bool
RunTraining(const ClaimedJob *claimed)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "llmapp training", ALLOCSET_DEFAULT_SIZES);
	bool done = false;

	PG_ENSURE_ERROR_CLEANUP(ReleaseTraining, PointerGetDatum(cxt));
	{
		MemoryContextSwitchTo(cxt);
		done = Train(claimed->job, TrainingSpecFromJson(claimed->spec, strlen(claimed->spec)));
	}
	PG_END_ENSURE_ERROR_CLEANUP(ReleaseTraining, PointerGetDatum(cxt));
	ReleaseTraining(0, PointerGetDatum(cxt));
	MemoryContextSwitchTo(old);
	return done;
}
