/*
 * learn.c
 *	  One network of a training: trained epoch by epoch, scored.
 *
 * Everything that decides what comes next is in TrainingState and in the trainer's
 * state, and both are in the checkpoint: position, best epoch, sums.  Batches depend on
 * (seed, epoch, batch) only, and checkpoints lie between steps, never between the passes of one.  So a
 * training that goes on from a checkpoint ends with the bytes that it would have had without the
 * interruption.
 *
 * Objects of the engine are freed by callbacks of the memory context, which also run
 * when the process has to end, so that no thread outlives it.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "../metrics/metrics.h"
#include "corpus.h"
#include "../job/gpu.h"
#include "learn.h"

#define REPORTED_LOSSES 500                      /* losses of single steps that a network records, about */
#define LAST_CHECKPOINT_BYTES (64 * 1024 * 1024) /* a shutdown does not wait until more is on disk */

/* What the base has of this network, whose head may be another. */
static void
StartAtBase(const Learning *l)
{
	const net *base = l->base->manifest->net;
	float *weights = MemoryContextAllocHuge(CurrentMemoryContext, net_weight_bytes(l->net));
	int32 k = 0;

	memcpy(weights, trainer_weights(l->trainer), net_weight_bytes(l->net));
	for (int32 i = 0; i < net_tensor_count(l->net); i++)
	{
		const net_tensor_info *to = net_tensor(l->net, i);

		while (k < net_tensor_count(base) && strcmp(net_tensor(base, k)->name, to->name) != 0)
			k++;
		if (k == net_tensor_count(base))
			k = 0; /* the base has none of this name */
		else if (net_tensor(base, k)->count == to->count)
			net_decode_tensor(base, k, 0, to->count, l->base->weights, weights + to->offset);
	}
	trainer_set_weights(l->trainer, weights);
	pfree(weights);
}

/* Start at the share of each class, as the losses weigh it: it need not be learned. */
static void
StartAtShares(const Learning *l)
{
	const target *goal = l->data->target;
	double rows = 0;
	float *bias;

	if (goal->kind != TARGET_CLASS)
		return;
	bias = palloc(goal->outputs * sizeof(float));
	for (int32 i = 0; i < goal->class_count; i++)
		rows += l->data->class_weights[i] * goal->class_rows[i] + 1;
	for (int32 i = 0; i < goal->outputs; i++)
		bias[i] = (float) log((l->data->class_weights[i] * goal->class_rows[i] + 1) / rows);
	if (goal->outputs == 1) /* log odds of class 1 */
		bias[0] = (float) log((l->data->class_weights[1] * goal->class_rows[1] + 1) /
							  (l->data->class_weights[0] * goal->class_rows[0] + 1));
	trainer_set_output_bias(l->trainer, bias);
}

/* Parameters and moments come to this memory. */
static void
FetchState(const Learning *l)
{
	llm_error err = {0};

	if (!trainer_fetch(l->trainer, &err))
		ThrowError(&err);
}

/* False when the job is to pause. */
static bool
MakeTrainer(Learning *l)
{
	llm_error err = {0};

	while ((l->trainer = trainer_new(l->net, &l->config, BatchRows(l), &err)) == NULL)
	{
		if (err.code != LLM_CANCELLED)
			ThrowError(&err);
		CHECK_FOR_INTERRUPTS();
		if (JobPauseRequested())
			return false;
		err.code = LLM_OK;
	}
	return true;
}

/* What operations need besides is known now; false and smaller passes are planned when there is no room for it. */
static bool
HasScratch(Learning *l)
{
	Size bytes = trainer_device_bytes(l->trainer), planned;

	if (bytes == 0)
		return true;
	planned = LearningDeviceMemory(l);
	LeaveGpuScratch(bytes - planned);
	if (planned <= GpuMemory())
		return true;
	trainer_free(l->trainer);
	l->trainer = NULL;
	PlanPasses(l);
	params_choose_memory(l->params, l->pass_samples, l->config.recompute);
	return false;
}

/* False when the job is to pause. */
static bool
CreateTrainer(Learning *l)
{
	const batch_shape *shape = &net_get_config(l->net)->shape;
	llm_error err = {0};

	do
	{
		if (!MakeTrainer(l))
			return false;
	} while (!HasScratch(l));
	OWN(l->trainer, trainer_free);
	l->batch = batch_new(shape, PassRows(l), &err);
	if (l->batch == NULL)
		ThrowError(&err);
	OWN(l->batch, batch_free);
	if (l->base == NULL || ChangesTask(l->base->manifest, l->data->task))
		StartAtShares(l);
	if (l->base != NULL)
		StartAtBase(l);
	l->out = MemoryContextAllocHuge(CurrentMemoryContext, mul_size(PassRows(l) * sizeof(float), shape->outputs));
	return true;
}

/* ---- checkpoints ---- */

static double
Elapsed(const Learning *l)
{
	return l->elapsed_before + (GetCurrentTimestamp() - l->started) / 1e6;
}

static void
SaveCheckpoint(Learning *l)
{
	Checkpoint *c = l->checkpoint;

	c->state.elapsed = c->written_at = Elapsed(l);
	FetchState(l);
	trainer_save(l->trainer, c->parts[PART_TRAINER].data);
	WriteCheckpoint(l->job, c);
	JobFlushMetrics();
}

static Size
CheckpointBytes(const Checkpoint *checkpoint)
{
	Size bytes = 0;

	for (int i = 0; i < CHECKPOINT_PARTS; i++)
		bytes = add_size(bytes, checkpoint->parts[i].bytes);
	return bytes;
}

/*
 * Before an interrupt ends the worker, keep what was done; a cancelled job needs nothing.  A
 * state that takes long to write goes on from the last regular checkpoint.
 */
static void
CheckInterrupts(Learning *l)
{
	if (JobTerminating() && InterruptHoldoffCount == 0 && CritSectionCount == 0 &&
		CheckpointBytes(l->checkpoint) <= LAST_CHECKPOINT_BYTES)
	{
		HOLD_INTERRUPTS();
		SaveCheckpoint(l);
		RESUME_INTERRUPTS();
	}
	CHECK_FOR_INTERRUPTS();
}

/* And their numbers, unless it is NULL. */
static const net *
FindMatrices(const Learning *l, const float **numbers)
{
	return l->params->lora_merge ? NULL : trainer_adapters(l->trainer, numbers);
}

const net *
LearnedMatrices(const Learning *l)
{
	const float *ignored;

	return FindMatrices(l, &ignored);
}

static Size
LearnedBytes(const Learning *l)
{
	const net *matrices = LearnedMatrices(l);

	return add_size(net_weight_bytes(l->net), matrices != NULL ? net_weight_bytes(matrices) : 0);
}

/* The trainer's weights become the best ones. */
static void
KeepBest(Learning *l)
{
	char *best = l->checkpoint->parts[PART_BEST].data;
	const float *numbers;
	const net *matrices;

	FetchState(l);
	matrices = FindMatrices(l, &numbers);
	memcpy(best, trainer_weights(l->trainer), net_weight_bytes(l->net));
	if (matrices != NULL)
		memcpy(best + net_weight_bytes(l->net), numbers, net_weight_bytes(matrices));
}

/* Why the checkpoint's parts are not of this network, or NULL after going on from them. */
static const char *
Restore(Learning *l)
{
	Checkpoint *c = l->checkpoint;
	llm_error err = {0};

	if (c->parts[PART_TRAINER].bytes != trainer_state_bytes(l->trainer) ||
		c->parts[PART_BEST].bytes != LearnedBytes(l))
		return "the checkpoint belongs to another network";
	if (!trainer_restore(l->trainer, c->parts[PART_TRAINER].data, c->parts[PART_TRAINER].bytes, &err))
		return "the checkpoint is damaged";
	return NULL;
}

/* Begin with the first step of the network. */
static void
StartAnew(Learning *l)
{
	Checkpoint *c = l->checkpoint;
	CheckpointPart *trainer = &c->parts[PART_TRAINER];
	CheckpointPart *best = &c->parts[PART_BEST];

	c->state = (TrainingState) {.fit = c->state.fit,
								.earlier_steps = c->state.earlier_steps,
								.elapsed = c->state.elapsed,
								.fit_started = c->state.elapsed,
								.best_loss = INFINITY};
	trainer->bytes = trainer_state_bytes(l->trainer);
	trainer->data = MemoryContextAllocHuge(CurrentMemoryContext, trainer->bytes);
	best->bytes = LearnedBytes(l);
	best->data = MemoryContextAllocHuge(CurrentMemoryContext, best->bytes);
	memset(best->data, 0, best->bytes);
}

bool
StartLearning(Learning *l, bool resumed)
{
	const char *problem;

	if (!CreateTrainer(l))
		return false;
	problem = resumed ? Restore(l) : NULL;
	if (!resumed || problem != NULL)
		StartAnew(l);
	if (problem != NULL)
		JobReport("restarted", json_pack("{s:s}", "reason", problem));
	l->report_every = Max(1, l->config.total_steps / REPORTED_LOSSES);
	l->started = GetCurrentTimestamp();
	l->elapsed_before = l->checkpoint->state.elapsed;
	return true;
}

/* Samples are held out, to judge by. */
static bool
HasHeldOut(const Learning *l)
{
	return CountSamples(l->data->held_out) > 0;
}

/* At most so many samples, and not more than those of a pass; false when there are none left. */
static bool
NextBatch(Learning *l, Samples *samples, int64 most)
{
	return FillBatch(samples, l->data->encoder, l->data->target, Min(most, l->pass_samples), l->batch);
}

/* ---- held-out rows ---- */

typedef struct Score
{
	double loss_sum;
	double weight_sum;
	double good; /* rows or tokens predicted right, or sum of squared errors of the first number */
	int64 rows;
} Score;

static void
ScoreBatch(const Learning *l, Score *score)
{
	const target *goal = l->data->target;
	const batch *b = l->batch;

	score->rows += b->rows;
	for (int64 i = 0; i < b->rows && goal->kind != TARGET_TEXT; i++)
	{
		const float *out = l->out + i * goal->outputs;

		if (goal->kind == TARGET_CLASS)
			score->good += predicted_class(goal, out) == b->target_class[i];
		else
			score->good += pow(goal->scale[0] * ((double) out[0] - b->target_number[i * goal->outputs]), 2);
	}
}

/* Predict the batch, or tokens of it right or wrong; LLM_CANCELLED to be asked again. */
static bool
TryPredict(Learning *l, Score *score, llm_error *err)
{
	if (l->data->target->kind == TARGET_TEXT)
		return trainer_score_tokens(l->trainer, l->batch, &score->loss_sum, &score->weight_sum, &score->good, err);
	return trainer_predict(l->trainer, l->batch, l->out, &score->loss_sum, &score->weight_sum, err);
}

/* False when the job is to pause. */
static bool
PredictBatch(Learning *l, Score *score)
{
	for (;;)
	{
		llm_error err = {0};

		if (TryPredict(l, score, &err))
			return true;
		if (err.code != LLM_CANCELLED)
			ThrowError(&err);
		CheckInterrupts(l);
		if (JobPauseRequested())
			return false;
	}
}

/* Score the held-out rows after an epoch and keep the best weights; false when the job is to pause. */
static bool
Validate(Learning *l)
{
	TrainingState *s = &l->checkpoint->state;
	Score score = {0};
	double epoch = s->epoch + 1;
	double loss;

	StartSamples(l->data->held_out, false, 0, 0);
	while (NextBatch(l, l->data->held_out, l->pass_samples))
	{
		if (!PredictBatch(l, &score))
			return false;
		ScoreBatch(l, &score);
	}
	if (!(score.weight_sum > 0)) /* rows of weight 0 say nothing */
		return true;
	loss = score.loss_sum / score.weight_sum;
	JobMetric(s->earlier_steps + s->step, epoch, "validation", "loss", loss);
	if (l->data->target->kind == TARGET_TEXT)
		JobMetric(s->earlier_steps + s->step, epoch, "validation", "accuracy", score.good / score.weight_sum);
	else if (l->data->target->kind == TARGET_CLASS)
		JobMetric(s->earlier_steps + s->step, epoch, "validation", "accuracy", score.good / score.rows);
	else
		JobMetric(s->earlier_steps + s->step, epoch, "validation", "rmse", sqrt(score.good / score.rows));
	if (loss < s->best_loss)
	{
		s->best_loss = loss;
		s->best_epoch = s->epoch + 1;
		s->best_step = s->step;
		KeepBest(l);
	}
	return true;
}

/* ---- steps ---- */

static bool
IsLate(const Learning *l)
{
	return l->deadline > 0 && Elapsed(l) >= l->deadline;
}

static bool
IsFinished(const Learning *l)
{
	const TrainingState *s = &l->checkpoint->state;
	const train_params *p = l->params;

	if (s->step >= l->config.total_steps)
		return true;
	if (s->step > 0 && IsLate(l))
		return true;
	return p->early_stopping > 0 && s->best_epoch > 0 && s->epoch - s->best_epoch >= p->early_stopping;
}

static void
ReportStep(Learning *l, double loss)
{
	TrainingState *s = &l->checkpoint->state;
	double epoch = (double) s->epoch + (double) s->batch / l->batches;
	double seconds = Elapsed(l) - s->fit_started;
	int64 step = s->earlier_steps + s->step;
	int32 tokens = l->data->target->kind == TARGET_TEXT ? net_get_config(l->net)->shape.context : 1; /* of a row */

	s->loss_sum += loss;
	s->loss_steps++;
	JobProgress(step, loss, seconds > 0 ? s->step * BatchRows(l) * tokens / seconds : 0,
				(int32) Min(s->epoch + 1, PG_INT32_MAX));
	if (s->step % l->report_every != 0)
		return;
	JobMetric(step, epoch, "training", "loss", s->loss_sum / s->loss_steps);
	JobMetric(step, epoch, "training", "learning_rate", trainer_learning_rate(l->trainer));
	s->loss_sum = 0;
	s->loss_steps = 0;
}

/* The batch becomes that of the next pass, of at most so many samples; false when there are none left in the epoch. */
static bool
NextPass(Learning *l, int64 most)
{
	llm_error err = {0};

	if (!NextBatch(l, l->data->training, most))
		return false;
	if (!trainer_stage(l->trainer, l->batch, &err))
		ThrowError(&err);
	return true;
}

/* Add the batch to the step; false when the job is to pause. */
static bool
RunPass(Learning *l)
{
	for (;;)
	{
		llm_error err = {0};

		if (trainer_accumulate(l->trainer, l->batch, &err))
			return true;
		if (err.code != LLM_CANCELLED)
			ThrowError(&err);
		CheckInterrupts(l);
		if (JobPauseRequested())
			return false;
	}
}

/*
 * One step on the batch and what follows it in the samples; LEARN_FINISHED when it is done.  *more: the batch has the
 * samples of the next one, which are read and staged while a GPU computes; only the update waits for it.
 */
static LearnEnd
RunStep(Learning *l, bool *more)
{
	TrainingState *s = &l->checkpoint->state;
	int64 left = l->batch_samples;
	llm_error err = {0};
	double loss;

	do
	{
		if (!RunPass(l))
			return LEARN_PAUSED;
		left -= l->batch->rows;
	} while (left > 0 && NextPass(l, left));
	*more = NextPass(l, l->batch_samples);
	if (!trainer_update(l->trainer, &loss, &err))
	{
		if (err.code == LLM_INVALID && l->may_diverge)
			return LEARN_DIVERGED;
		ThrowError(&err);
	}
	s->batch++;
	s->step++;
	ReportStep(l, loss);
	CheckInterrupts(l);
	if (Elapsed(l) - l->checkpoint->written_at >= l->checkpoint_every)
		SaveCheckpoint(l);
	return JobPauseRequested() ? LEARN_PAUSED : LEARN_FINISHED;
}

/* The rest of the current epoch. */
static LearnEnd
RunEpoch(Learning *l)
{
	TrainingState *s = &l->checkpoint->state;
	LearnEnd end;
	bool more;

	StartSamples(l->data->training, true, l->config.seed, s->epoch);
	SkipSamples(l->data->training, s->batch * l->batch_samples);
	more = s->step < l->config.total_steps && NextPass(l, l->batch_samples);
	while (s->step < l->config.total_steps && more)
	{
		end = RunStep(l, &more);
		if (end != LEARN_FINISHED)
			return end;
		if (IsLate(l))
			break;
	}
	if (HasHeldOut(l) && !Validate(l))
		return LEARN_PAUSED;
	s->epoch++;
	s->batch = 0;
	return LEARN_FINISHED;
}

LearnEnd
RunLearning(Learning *l)
{
	TrainingState *s = &l->checkpoint->state;
	LearnEnd end = LEARN_FINISHED;

	JobPhase("training", l->job_steps);
	while (end == LEARN_FINISHED && (s->batch > 0 || !IsFinished(l))) /* an epoch that was begun is ended */
		end = RunEpoch(l);
	s->elapsed = Elapsed(l);
	if (end == LEARN_PAUSED)
		SaveCheckpoint(l);
	return end;
}

/* ---- the result ---- */

const float *
LearnedWeights(Learning *l)
{
	if (l->checkpoint->state.best_epoch == 0)
		KeepBest(l);
	return l->checkpoint->parts[PART_BEST].data;
}

static bool
InterruptPoll(void *arg)
{
	return InterruptPending;
}

static void
EvaluateBatch(const Learning *l, evaluation *e, double *actual)
{
	const target *goal = l->data->target;
	const batch *b = l->batch;
	llm_error err = {0};

	for (int64 i = 0; i < b->rows; i++)
	{
		for (int32 k = 0; goal->kind == TARGET_NUMBER && k < goal->outputs; k++)
			actual[k] = goal->mean[k] + goal->scale[k] * b->target_number[i * goal->outputs + k];
		if (!evaluation_add(e, l->out + i * goal->outputs, goal->kind == TARGET_CLASS ? b->target_class[i] : 0,
							actual, &err))
			ThrowError(&err);
	}
}

/* Predict all samples with the trainer's weights; e may be NULL. */
static void
EvaluateSamples(Learning *l, Samples *samples, evaluation *e, Score *sums)
{
	double *actual = palloc0(l->data->target->outputs * sizeof(double));

	trainer_set_poll(l->trainer, InterruptPoll, NULL);
	StartSamples(samples, false, 0, 0);
	while (NextBatch(l, samples, l->pass_samples))
	{
		llm_error err = {0};

		while (!TryPredict(l, sums, &err))
		{
			if (err.code != LLM_CANCELLED)
				ThrowError(&err);
			CHECK_FOR_INTERRUPTS();
			err.code = LLM_OK;
		}
		if (e != NULL)
			EvaluateBatch(l, e, actual);
		sums->rows += l->batch->rows;
		JobProgress(sums->rows, 0, 0, (int32) Min(l->checkpoint->state.epoch, PG_INT32_MAX));
		CHECK_FOR_INTERRUPTS();
	}
}

static json_t *
EvaluateColumns(Learning *l, Samples *samples, double *score)
{
	llm_error err = {0};
	evaluation *e = evaluation_new(l->data->target, &err);
	Score ignored = {0};
	json_t *json;

	if (e == NULL)
		ThrowError(&err);
	OWN(e, evaluation_free);
	EvaluateSamples(l, samples, e, &ignored);
	json = evaluation_json(e, &err);
	if (json == NULL)
		ThrowError(&err);
	*score = evaluation_score(e);
	return json;
}

/* In nats for each token, and bits for each byte of text, which can be compared between tokenizers. */
static json_t *
EvaluateText(Learning *l, Samples *samples, bool held_out, double *score)
{
	bool masked = strcmp(l->data->task, "masked_lm") == 0; /* of which most bytes are not predicted */
	int64 bytes = held_out && !masked ? l->data->corpus->held_out_bytes : 0;
	Score sums = {0};
	json_t *metrics;

	EvaluateSamples(l, samples, NULL, &sums);
	*score = sums.loss_sum / sums.weight_sum;
	metrics = json_pack("{s:I, s:f, s:f, s:f}", "n", (json_int_t) sums.weight_sum, "loss", *score, "perplexity",
						exp(Min(*score, 700)), "accuracy", sums.good / sums.weight_sum);
	if (bytes > 0)
		json_object_set_new(metrics, "bits_per_byte", json_real(sums.loss_sum / M_LN2 / bytes));
	return json_pack("{s:o}", "metrics", metrics);
}

/* Of pairs, each text among those of its batch. */
static json_t *
EvaluatePairs(Learning *l, Samples *samples, double *score)
{
	Score sums = {0};

	EvaluateSamples(l, samples, NULL, &sums);
	*score = sums.loss_sum / sums.weight_sum;
	return json_pack("{s:{s:I, s:f, s:f}}", "metrics", "n", (json_int_t) sums.rows / 2, "loss", *score, "accuracy",
					 sums.good / sums.weight_sum);
}

json_t *
Evaluate(Learning *l, const float *weights, double *score)
{
	bool held_out = HasHeldOut(l);
	Samples *samples = held_out ? l->data->held_out : l->data->training;
	json_t *json;

	JobPhase("evaluating", CountSamples(samples));
	trainer_set_weights(l->trainer, weights);
	json = IsEmbeddingTask(l->data->task)         ? EvaluatePairs(l, samples, score)
		   : l->data->target->kind == TARGET_TEXT ? EvaluateText(l, samples, held_out, score)
												  : EvaluateColumns(l, samples, score);
	json_object_set_new(json, "rows", json_string(held_out ? "held_out" : "training"));
	return json;
}
