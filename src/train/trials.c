/*
 * trials.c
 *	  Jobs that train several networks on one loaded data set: folds and searches.
 *
 * The networks are trained one after the other, each as learn.c trains it, from the rows
 * that were loaded once.  What those before it gave is the history, which the checkpoint
 * carries, so a job goes on in the middle of the network that it was interrupted in.
 *
 * A search is successive halving (Jamieson and Talwalkar, "Non-stochastic best arm
 * identification and hyperparameter optimization", 2016): all trials learn for a small
 * share of the epochs, the best of them anew for a larger one, the best of those for all.
 * Each run has a complete schedule of its own: losses in the middle of a long schedule
 * say how high the learning rate still is, those at the end of a short one tell nearly
 * always which setting is better in the end.  The first trial, the defaults as far as the
 * ranges hold them, always comes to the last stage, as the yardstick of the others.
 *
 * Of the folds all networks are published, and the version predicts the mean of their
 * outputs: each has left out and stopped by other rows, so they err in different ways.
 * Columns and target are therefore fitted once, on all rows, before the folds.
 *
 * Memory of one network, threads included, belongs to a context that goes with it.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "../common.h"
#include "../metrics/metrics.h"
#include "trials.h"

#define STAGES 3
#define SEED_STRIDE UINT64CONST(0x466f6c6453656564) /* between the seeds of the folds */

/* Of all epochs, and of all trials (rounded up). */
static const struct
{
	double epochs;
	int32 trials_divisor;
} stages[STAGES] = {{1.0 / 16, 1}, {1.0 / 4, 3}, {1, 8}};

/* What a trial gave; part of the checkpoint. */
typedef struct Trial
{
	double loss[STAGES]; /* the best of its epochs; NAN: not run, INFINITY: diverged */
	int64 epochs;        /* these of its last run */
	int64 best_epoch;
	int64 steps;
} Trial;

typedef struct Search
{
	int64 winner; /* trial, -1: none yet */
	int64 winner_stage;
	Trial trials[FLEXIBLE_ARRAY_MEMBER];
} Search;

void
ChooseParams(TrainingRun *run, int64 training_rows)
{
	int32 image[3];

	encoder_image(run->data->encoder, image);
	params_choose(run->params, training_rows);
	params_choose_image(run->params, image);
}

double
SearchWork(int32 trials)
{
	double work = 0;

	for (int i = 0; i < STAGES; i++)
		work += stages[i].epochs * ((trials + stages[i].trials_divisor - 1) / stages[i].trials_divisor);
	return work;
}

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
	llm_error err = {0};
	json_t *folds = part->bytes == 0 ? json_array() : json_parse(part->data, part->bytes, &err);

	if (folds == NULL)
		ThrowError(&err);
	OWN(folds, json_decref);
	return folds;
}

static void
WriteFolds(TrainingRun *run, const json_t *folds)
{
	char *text = json_text(folds);

	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	run->checkpoint.parts[PART_HISTORY] = (CheckpointPart) {pstrdup(text), strlen(text)};
	free(text);
}

/* ---- folds ---- */

/* What is left for records beside one network and the weights of all. */
static Size
FoldRecordMemory(const TrainingRun *run, const Learning *l)
{
	return RecordMemory(l, add_size(LearningMemory(l), mul_size(net_weight_bytes(l->net), run->params->folds)));
}

/* Fit all rows, once for all folds, and say what became of them. */
static void
PrepareFolds(TrainingRun *run)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt = CreateFitContext();

	FitDataset(run->data, run->params, run->base ? run->base->manifest : NULL);
	ChooseParams(run, run->data->rows - run->data->rows / run->params->folds);
	MemoryContextSwitchTo(cxt);
	EncodeDataset(run->data, run->params,
				  FoldRecordMemory(run, PlanLearning(run->job, run->params, run->base, run->data, NULL)));
	JobReport("data", DataReport(run->data));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* Encode what the fold leaves and what it holds out, and plan to learn from it. */
static Learning *
PlanFold(TrainingRun *run, int32 fold)
{
	Learning *l;

	JobSetTrial(1, fold + 1);
	HoldOutFold(run->data, fold);
	l = PlanLearning(run->job, run->params, run->base, run->data, &run->checkpoint);
	l->config.seed += fold * SEED_STRIDE;
	l->job_steps *= run->params->folds;
	/* Each network may take its share of the time, and what those before it left. */
	l->deadline = run->params->max_seconds * (fold + 1) / run->params->folds;
	EncodeDataset(run->data, run->params, FoldRecordMemory(run, l));
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
	json_t *settings = json_object();

	JobTrial(settings, FoldMetric(run->data), value, run->checkpoint.state.epoch, status);
	json_decref(settings);
}

/* Its weights behind those of the folds before it, in memory that outlives it. */
static void
KeepMember(TrainingRun *run, Learning *l, int32 fold, MemoryContext cxt)
{
	CheckpointPart *members = &run->checkpoint.parts[PART_RESULT];
	Size bytes = net_weight_bytes(l->net);

	if (members->bytes != fold * bytes)
		elog(ERROR, "the weights of earlier folds are damaged");
	members->bytes += bytes;
	members->data = members->data == NULL ? MemoryContextAllocHuge(cxt, members->bytes)
										  : repalloc_huge(members->data, members->bytes);
	memcpy((char *) members->data + fold * bytes, LearnedWeights(l), bytes);
}

/* Train without the fold and judge on it; false when the job is to pause. */
static bool
TrainFold(TrainingRun *run, int32 fold, json_t *folds, MemoryContext cxt)
{
	Learning *l = PlanFold(run, fold);
	TrainingState *s = &run->checkpoint.state;
	json_t *result;
	double score;

	RecordFold(run, NAN, "running");
	if (!StartLearning(l, run->resumed) || RunLearning(l) == LEARN_PAUSED)
		return false;
	result = Evaluate(l, LearnedWeights(l), &score);
	json_object_set_new(result, "score", json_real(isfinite(score) ? score : DBL_MAX));
	json_object_set_new(result, "epochs", json_integer(s->best_epoch > 0 ? s->best_epoch : s->epoch));
	json_object_set_new(result, "data", DataReport(run->data));
	json_array_append_new(folds, result);
	KeepMember(run, l, fold, cxt);
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
		bool done;

		MemoryContextSwitchTo(cxt);
		done = TrainFold(run, (int32) run->checkpoint.state.fit, folds, old);
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
	double sum = 0;
	size_t i;
	json_t *fold;

	json_array_foreach(folds, i, fold)
		sum += json_number_value(json_object_get(fold, key));
	return sum / json_array_size(folds);
}

static void
ReportFolds(const json_t *folds, const json_t *evaluation)
{
	json_t *list = json_array();
	size_t i;
	json_t *fold;

	json_array_foreach(folds, i, fold)
		json_array_append_new(
			list, json_pack("{s:i, s:O, s:O, s:O}", "fold", (int) i + 1, "metrics", json_object_get(fold, "metrics"),
							"epochs", json_object_get(fold, "epochs"), "data", json_object_get(fold, "data")));
	JobReport("folds", list);
	JobReport("sd", json_deep_copy(json_object_get(evaluation, "sd")));
}

bool
TrainFolds(TrainingRun *run, Learned *learned)
{
	TrainingState *s = &run->checkpoint.state;
	json_t *folds = ReadFolds(run);
	llm_error err = {0};

	if (run->data->rows < run->params->folds * 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the source has " INT64_FORMAT " rows with a target, too few for %d folds",
							   run->data->rows, run->params->folds)));
	JobForgetTrials(1, (int32) s->fit + 1);
	PrepareFolds(run);
	if (!TrainEachFold(run, folds))
		return false;
	HoldOutFold(run->data, -1);
	CloseRows(run->data);
	s->step = s->earlier_steps;
	s->epoch = s->best_epoch = (int64) rint(MeanOfFolds(folds, "epochs"));
	learned->params = run->params;
	learned->net = CreateEnsemble(PlanLearning(run->job, run->params, run->base, run->data, &run->checkpoint),
								  run->params->folds);
	learned->weights = run->checkpoint.parts[PART_RESULT].data;
	learned->evaluation = evaluation_mean(folds, &err);
	if (learned->evaluation == NULL)
		ThrowError(&err);
	json_object_set_new(learned->evaluation, "rows", json_string("held_out"));
	learned->score = MeanOfFolds(folds, "score");
	ReportFolds(folds, learned->evaluation);
	return true;
}

/* ---- search ---- */

static train_params *
TrialParams(const TrainingRun *run, int64 number)
{
	llm_error err = {0};
	train_params *params = params_trial(run->params, (int32) number, &err);

	if (params == NULL)
		ThrowError(&err);
	OWN(params, params_free);
	return params;
}

/* The history of the checkpoint, or an empty one. */
static Search *
OpenSearch(TrainingRun *run)
{
	CheckpointPart *part = &run->checkpoint.parts[PART_HISTORY];
	Size bytes = offsetof(Search, trials) + run->params->trials * sizeof(Trial);
	Search *search;

	if (part->bytes == bytes)
		return part->data;
	part->bytes = bytes;
	part->data = search = palloc0(bytes);
	search->winner = -1;
	for (int32 i = 0; i < run->params->trials; i++)
		for (int stage = 0; stage < STAGES; stage++)
			search->trials[i].loss[stage] = NAN;
	return search;
}

/* Trials for which a stage has room; the last one besides for the first trial. */
static int32
StageRoom(const TrainingRun *run, int stage)
{
	int32 all = run->params->trials;
	int32 divisor = stages[stage].trials_divisor;

	return Min((all + divisor - 1) / divisor + (stage == STAGES - 1), all);
}

/* Trials that run in a stage; none where a later one has room for as many. */
static int32
StageSize(const TrainingRun *run, int stage)
{
	for (int later = stage + 1; later < STAGES; later++)
		if (StageRoom(run, stage) <= StageRoom(run, later))
			return 0;
	return StageRoom(run, stage);
}

/* Stage and place in it of the network that is next; false when all are done. */
static bool
FindStage(const TrainingRun *run, int *stage, int32 *place)
{
	int64 fit = run->checkpoint.state.fit;

	for (*stage = 0; *stage < STAGES; (*stage)++)
	{
		*place = (int32) fit;
		if (fit < StageSize(run, *stage))
			return true;
		fit -= StageSize(run, *stage);
	}
	return false;
}

/* How many trials were better in a stage. */
static int32
RankInStage(const TrainingRun *run, const Search *search, int stage, int32 number)
{
	double own = search->trials[number].loss[stage];
	int32 better = 0;

	for (int32 i = 0; i < run->params->trials; i++)
	{
		double other = search->trials[i].loss[stage];

		better += other < own || (other == own && i < number);
	}
	return better;
}

/* The trial at this place of a stage: by rank in the last one that was run before it. */
static int32
TrialAt(const TrainingRun *run, const Search *search, int stage, int32 place)
{
	int before = stage - 1;
	bool last_place = stage == STAGES - 1 && place == StageSize(run, stage) - 1;

	while (before >= 0 && StageSize(run, before) == 0)
		before--;
	if (before < 0)
		return place;
	if (last_place && (isnan(search->trials[0].loss[before]) || RankInStage(run, search, before, 0) > place))
		return 0;
	for (int32 i = 0; i < run->params->trials; i++)
		if (!isnan(search->trials[i].loss[before]) && RankInStage(run, search, before, i) == place)
			return i;
	elog(ERROR, "the history of the search is damaged");
}

/* The weights of the new winner, in memory that outlives the trial. */
static void
KeepWinner(TrainingRun *run, Learning *l, MemoryContext cxt)
{
	CheckpointPart *winner = &run->checkpoint.parts[PART_RESULT];

	if (winner->data != NULL)
		pfree(winner->data);
	winner->bytes = net_weight_bytes(l->net);
	winner->data = MemoryContextAllocHuge(cxt, winner->bytes);
	memcpy(winner->data, LearnedWeights(l), winner->bytes);
}

/* Remember how the run of a trial ended, and whether it is the best so far: later stages count first. */
static bool
RecordTrial(const TrainingRun *run, Search *search, int32 number, int stage, LearnEnd end)
{
	const TrainingState *s = &run->checkpoint.state;
	Trial *trial = &search->trials[number];
	bool wins = end == LEARN_FINISHED && (search->winner < 0 || search->winner_stage < stage ||
										  s->best_loss < search->trials[search->winner].loss[stage]);

	trial->loss[stage] = end == LEARN_FINISHED ? s->best_loss : INFINITY;
	trial->epochs = s->epoch;
	trial->best_epoch = s->best_epoch;
	trial->steps = s->step;
	if (wins)
	{
		search->winner = number;
		search->winner_stage = stage;
	}
	return wins;
}

static void
ShowTrial(const train_params *params, double loss, int64 epochs, const char *status)
{
	json_t *settings = params_drawn(params);

	JobTrial(settings, "loss", loss, epochs, status);
	json_decref(settings);
}

/* Steps of all stages, were all trials like this one. */
static int64
SearchSteps(const TrainingRun *run, const Learning *l)
{
	double steps = 0;

	for (int stage = 0; stage < STAGES; stage++)
		steps += StageSize(run, stage) * Max((double) l->batches, stages[stage].epochs * l->config.total_steps);
	return (int64) Min(steps, 1e15);
}

/* One trial in one stage; false when the job is to pause. */
static bool
TrainTrial(TrainingRun *run, Search *search, int32 number, int stage, MemoryContext cxt)
{
	const TrainingState *s = &run->checkpoint.state;
	train_params *params = TrialParams(run, number);
	Learning *l = PlanLearning(run->job, params, run->base, run->data, &run->checkpoint);
	LearnEnd end;

	l->job_steps = SearchSteps(run, l);
	l->may_diverge = true;
	ShortenLearning(l, stages[stage].epochs);
	JobSetTrial(number + 1, 0);
	ShowTrial(params, NAN, 0, "running");
	if (!StartLearning(l, run->resumed))
		return false;
	end = RunLearning(l);
	if (end == LEARN_PAUSED)
		return false;
	if (RecordTrial(run, search, number, stage, end))
		KeepWinner(run, l, cxt);
	ShowTrial(params, s->best_loss, s->epoch,
			  end == LEARN_DIVERGED ? "failed"
			  : stage == STAGES - 1 ? "finished"
									: "stopped");
	return true;
}

/* All networks that the history does not have yet; false when the job is to pause. */
static bool
TrainEachTrial(TrainingRun *run, Search *search)
{
	const TrainingState *s = &run->checkpoint.state;
	MemoryContext old = CurrentMemoryContext;
	int stage;
	int32 place;

	while (FindStage(run, &stage, &place))
	{
		MemoryContext cxt = CreateFitContext();
		bool done;

		MemoryContextSwitchTo(cxt);
		done = TrainTrial(run, search, TrialAt(run, search, stage, place), stage, old);
		MemoryContextSwitchTo(old);
		if (!done)
			return false;
		MemoryContextDelete(cxt);
		NextFit(run);
		if (run->params->max_seconds > 0 && s->elapsed >= run->params->max_seconds)
			break;
	}
	return true;
}

/* What is left for records beside the largest network of all trials and the winner's weights. */
static Size
SearchRecordMemory(const TrainingRun *run)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt = CreateFitContext();
	Size most = 0;
	Size left = 0;

	MemoryContextSwitchTo(cxt);
	for (int32 i = 0; i < run->params->trials; i++)
	{
		Learning *l = PlanLearning(run->job, TrialParams(run, i), run->base, run->data, NULL);

		most = Max(most, add_size(LearningMemory(l), net_weight_bytes(l->net)));
		left = RecordMemory(l, most);
		MemoryContextReset(cxt);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return left;
}

/* Fit and encode the rows once for all trials. */
static void
PrepareSearch(TrainingRun *run)
{
	FitDataset(run->data, TrialParams(run, 0), run->base ? run->base->manifest : NULL);
	if (run->data->held_out_rows == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("no rows are held out, and a search needs them to tell which trial is best"),
						errhint("Use another \"validation\" or \"group_column\".")));
	ChooseParams(run, run->data->training_rows);
	EncodeDataset(run->data, run->params, SearchRecordMemory(run));
	CloseRows(run->data);
	JobReport("data", DataReport(run->data));
}

static json_t *
LossJson(double loss)
{
	return isfinite(loss) ? json_real(loss) : json_null();
}

static void
ReportSearch(const TrainingRun *run, const Search *search, const train_params *params)
{
	JobReport("search", json_pack("{s:i, s:I, s:I, s:o, s:o}", "trials", run->params->trials, "runs",
								  (json_int_t) run->checkpoint.state.fit, "best", (json_int_t) search->winner + 1,
								  "settings", params_drawn(params), "loss",
								  LossJson(search->trials[search->winner].loss[search->winner_stage])));
}

bool
TrainTrials(TrainingRun *run, Learned *learned)
{
	TrainingState *s = &run->checkpoint.state;
	Search *search = OpenSearch(run);
	const Trial *best;
	train_params *params;
	Learning *l;

	if (s->fit == 0)
		JobForgetTrials(1, 0);
	PrepareSearch(run);
	if (!TrainEachTrial(run, search))
		return false;
	if (search->winner < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("all trials of the search diverged"),
						errhint("Lower the range of learning_rate, or set clip_norm.")));
	best = &search->trials[search->winner];
	params = TrialParams(run, search->winner);
	ReportSearch(run, search, params);
	l = PlanLearning(run->job, params, run->base, run->data, &run->checkpoint);
	if (!StartLearning(l, false))
		return false;
	s->epoch = best->epochs;
	s->best_epoch = best->best_epoch;
	s->step = best->steps;
	learned->params = params;
	learned->net = l->net;
	learned->weights = run->checkpoint.parts[PART_RESULT].data;
	learned->evaluation = Evaluate(l, learned->weights, &learned->score);
	JobSetTrial((int32) search->winner + 1, 0);
	ShowTrial(params, best->loss[search->winner_stage], best->epochs, "best");
	return true;
}
