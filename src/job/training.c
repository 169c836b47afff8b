/*
 * training.c
 *	  A training from its description to a published version.
 *
 * Phases: loading (dataset.c), training, evaluating, saving (version.c).  Only loading
 * and saving use transactions; between them no snapshot, lock or transaction is held.
 *
 * Everything that decides what comes next is in TrainingState and in the trainer's
 * state, and both are in the checkpoint: position, best epoch, sums.  Batches depend on
 * (seed, epoch, batch) only.  So a training that goes on from a checkpoint ends with the
 * bytes that it would have had without the interruption.
 *
 * All memory belongs to one context; objects of the engine are freed by its callbacks,
 * which also run when the process has to end, so that no thread outlives it.
 */
#include "postgres.h"

#include <math.h>
#include <unistd.h>

#include "access/xact.h"
#include "common/int.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "../llmapp.h"
#include "../model/model.h"
#include "../serve/metrics.h"
#include "checkpoint.h"
#include "dataset.h"
#include "version.h"

#define REPORTED_LOSSES 500		/* losses of single steps that a job records, about */
#define RECORD_MEMORY (8 * 1024 * 1024) /* least memory beside the network's: windows of records */

typedef struct Training
{
	int64		job;
	const TrainingSpec *spec;
	train_params *params;
	const Model *base;			/* NULL: from random weights */
	Dataset    *data;
	net		   *net;
	train_config config;
	trainer    *trainer;
	batch	   *batch;
	float	   *out;			/* (batch_rows, outputs) */
	int64		batch_rows;
	int64		batches;		/* of an epoch */
	int64		report_every;	/* steps */
	double		checkpoint_every;	/* seconds */
	TimestampTz started;		/* this run's training */
	double		elapsed_before; /* seconds of earlier runs */
	double		checkpoint_at;	/* elapsed seconds at the last checkpoint */
	Checkpoint	checkpoint;
} Training;

/* ---- preparation ---- */

/* The submitter's settings, and no source of a different order of rows. */
static void
ApplySettings(const TrainingSpec *spec)
{
	const struct
	{
		const char *name;
		const char *value;
	}			settings[] = {
		{"search_path", spec->search_path},
		{"TimeZone", spec->timezone},
		{"DateStyle", spec->datestyle},
		{"synchronize_seqscans", "off"},
		{"llmapp.threads", psprintf("%d", spec->threads)},
		{"llmapp.train_memory", psprintf("%d", spec->train_memory)},
		{"llmapp.checkpoint_interval", psprintf("%d", spec->checkpoint_interval)},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		(void) set_config_option(settings[i].name, settings[i].value, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SET, true, 0, false);
}

/* Take the network's settings from the version that was the base. */
static void
AdoptBaseSettings(train_params *params, const manifest *base)
{
	const json_t *settings = json_object_get(base->json, "settings");
	const param_info *table;
	int32		count;

	table = params_table("mlp", &count);
	for (int i = 0; base_settings[i] != NULL; i++)
	{
		json_t	   *value = json_object_get(json_object_get(settings, base_settings[i]), "value");

		if (value == NULL)
			continue;
		json_object_set(params->resolved, base_settings[i], value);
		for (int32 k = 0; k < count; k++)
			if (strcmp(table[k].name, base_settings[i]) == 0)
				params->sources[k] = SOURCE_AUTO;
	}
}

static void
OpenBaseModel(Training *t)
{
	MemoryContext cxt = CurrentMemoryContext;

	if (!OidIsValid(t->spec->base))
		return;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	RequireWeightsPrivilege(t->spec->base);
	t->base = OpenModel(t->spec->base, 0, cxt);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	AdoptBaseSettings(t->params, t->base->manifest);
}

static net_config
NetworkConfig(const Training *t)
{
	const train_params *p = t->params;
	const target *goal = t->data->target;
	net_config	c = {0};

	if (t->base != NULL)
		c = *net_get_config(t->base->manifest->net);
	else
	{
		encoder_shape(t->data->encoder, &c.shape);
		target_shape(goal, &c.shape);
		c.embed_dim = p->embed_dim;
		c.hidden_count = p->hidden_count;
		memcpy(c.hidden, p->hidden, sizeof(c.hidden));
		c.activation = p->activation;
		c.layer_norm = p->layer_norm;
		c.residual = p->residual;
		c.loss = goal->kind == TARGET_NUMBER ? p->loss : goal->class_count == 2 ? LOSS_BINARY : LOSS_CROSS_ENTROPY;
	}
	if (goal->kind == TARGET_NUMBER && p->loss_given)
		c.loss = p->loss;
	c.dropout = p->dropout;
	c.huber_delta = p->huber_delta;
	c.label_smoothing = p->label_smoothing;
	return c;
}

static int32
ThreadCount(void)
{
	long		processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (llmapp_threads > 0)
		return llmapp_threads;
	return processors < 4 ? 1 : processors > 8 ? 4 : processors / 2;
}

static train_config
TrainerConfig(const Training *t)
{
	const train_params *p = t->params;
	train_config c = {.optimizer = p->optimizer,.learning_rate = p->learning_rate,.weight_decay = p->weight_decay,
		.beta1 = 0.9,.beta2 = 0.999,.epsilon = 1e-8,.momentum = p->momentum,.clip_norm = p->clip_norm,
	.schedule = p->schedule,.ema_decay = p->ema_decay,.seed = p->seed,.threads = ThreadCount(),.poll = JobPoll};

	c.total_steps = p->steps;
	if (p->steps == 0 && pg_mul_s64_overflow(p->epochs, t->batches, &c.total_steps))
		c.total_steps = PG_INT64_MAX;
	c.warmup_steps = (int64) (p->warmup * c.total_steps);
	return c;
}

static size_t
BatchBytes(const batch_shape *s, int64 rows)
{
	return rows * sizeof(float) * ((size_t) s->dense + s->embed_columns + 2 * (size_t) s->bag_max + 2 * s->outputs + 4);
}

/* What the records may take of the job's memory; ERROR when the network alone takes too much. */
static Size
CheckMemory(const Training *t)
{
	Size		limit = (Size) llmapp_train_memory * 1024;
	size_t		bytes = 0;
	llm_error	err = {0};

	if (!trainer_memory(t->net, &t->config, t->batch_rows, &bytes, &err))
		ThrowError(&err);
	/* the trainer, its state while it is written, the best weights, a batch */
	bytes = add_size(bytes, mul_size(net_weight_bytes(t->net), 5));
	bytes = add_size(bytes, BatchBytes(&net_get_config(t->net)->shape, t->batch_rows));
	bytes = add_size(bytes, RECORD_MEMORY);
	if (bytes > limit)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("this training needs %zu MB of memory, llmapp.train_memory allows %zu MB",
						bytes / (1024 * 1024) + 1, limit / (1024 * 1024)),
				 errdetail("The network has %zu MB of weights.", net_weight_bytes(t->net) / (1024 * 1024) + 1),
				 errhint("SET llmapp.train_memory = '%zuMB'; or use a smaller batch_size, hidden or text_buckets.",
						 bytes / (1024 * 1024) + 1)));
	return limit - bytes;
}

/* Network and settings that depend on the number of rows; returns the memory for records. */
static Size
PlanTraining(Training *t)
{
	net_config	config;
	llm_error	err = {0};

	params_choose(t->params, t->data->training_rows);
	t->batch_rows = Min(t->params->batch_size, t->data->training_rows);
	t->batches = (t->data->training_rows + t->batch_rows - 1) / t->batch_rows;
	config = NetworkConfig(t);
	t->net = net_new(&config, &err);
	if (t->net == NULL)
		ThrowError(&err);
	OWN(t->net, net_free);
	t->config = TrainerConfig(t);
	t->report_every = Max(1, t->config.total_steps / REPORTED_LOSSES);
	t->checkpoint_every = t->params->checkpoint_every >= 0 ? t->params->checkpoint_every : llmapp_checkpoint_interval;
	return CheckMemory(t);
}

/* Start at the share of each class, as the losses weigh it: it need not be learned. */
static void
StartAtShares(const Training *t)
{
	const target *goal = t->data->target;
	double		rows = 0;
	float	   *bias;

	if (goal->kind != TARGET_CLASS)
		return;
	bias = palloc(goal->outputs * sizeof(float));
	for (int32 i = 0; i < goal->class_count; i++)
		rows += t->data->class_weights[i] * goal->class_rows[i] + 1;
	for (int32 i = 0; i < goal->outputs; i++)
		bias[i] = (float) log((t->data->class_weights[i] * goal->class_rows[i] + 1) / rows);
	if (goal->outputs == 1)		/* log odds of class 1 */
		bias[0] = (float) log((t->data->class_weights[1] * goal->class_rows[1] + 1) /
							  (t->data->class_weights[0] * goal->class_rows[0] + 1));
	trainer_set_output_bias(t->trainer, bias);
}

/* False when the job is to pause. */
static bool
CreateTrainer(Training *t)
{
	const batch_shape *shape = &net_get_config(t->net)->shape;
	llm_error	err = {0};

	t->batch = batch_new(shape, t->batch_rows, &err);
	if (t->batch == NULL)
		ThrowError(&err);
	OWN(t->batch, batch_free);
	while ((t->trainer = trainer_new(t->net, &t->config, t->batch_rows, &err)) == NULL)
	{
		if (err.code != LLM_CANCELLED)
			ThrowError(&err);
		CHECK_FOR_INTERRUPTS();
		if (JobPauseRequested())
			return false;
		err.code = LLM_OK;
	}
	OWN(t->trainer, trainer_free);
	if (t->base != NULL)
		trainer_set_weights(t->trainer, t->base->weights);
	else
		StartAtShares(t);
	t->out = MemoryContextAllocHuge(CurrentMemoryContext, mul_size(t->batch_rows * sizeof(float), shape->outputs));
	return true;
}

/* ---- checkpoints ---- */

static double
Elapsed(const Training *t)
{
	return t->elapsed_before + (GetCurrentTimestamp() - t->started) / 1e6;
}

static void
CreateCheckpoint(Training *t)
{
	Checkpoint *c = &t->checkpoint;

	c->fingerprint = t->data->fingerprint;
	c->trainer_bytes = trainer_state_bytes(t->trainer);
	c->trainer_state = MemoryContextAllocHuge(CurrentMemoryContext, c->trainer_bytes);
	c->best_bytes = net_weight_bytes(t->net);
	c->best_weights = MemoryContextAllocHuge(CurrentMemoryContext, c->best_bytes);
	memset(c->best_weights, 0, c->best_bytes);
	c->state.best_loss = INFINITY;
}

static void
SaveCheckpoint(Training *t)
{
	t->checkpoint.state.elapsed = Elapsed(t);
	trainer_save(t->trainer, t->checkpoint.trainer_state);
	WriteCheckpoint(t->job, &t->checkpoint);
	t->checkpoint_at = t->checkpoint.state.elapsed;
	JobFlushMetrics();
}

/* Go on from the job's checkpoint when there is one; say so, or why not. */
static void
ResumeTraining(Training *t)
{
	TrainingState fresh = t->checkpoint.state;
	const char *problem;
	llm_error	err = {0};

	if (ReadCheckpoint(t->job, &t->checkpoint, &problem) &&
		!trainer_restore(t->trainer, t->checkpoint.trainer_state, t->checkpoint.trainer_bytes, &err))
		problem = "the checkpoint is damaged";
	if (problem != NULL)
	{
		t->checkpoint.state = fresh;
		JobReport("restarted", json_pack("{s:s}", "reason", problem));
	}
	else if (t->checkpoint.state.step > 0)
		JobReport("resumed", json_pack("{s:I}", "step", (json_int_t) t->checkpoint.state.step));
	JobForgetMetricsAfter(t->checkpoint.state.step);
	t->elapsed_before = t->checkpoint_at = t->checkpoint.state.elapsed;
	t->started = GetCurrentTimestamp();
}

/* Before an interrupt ends the worker, keep what was done; a cancelled job needs nothing. */
static void
CheckInterrupts(Training *t)
{
	if (JobTerminating() && InterruptHoldoffCount == 0 && CritSectionCount == 0)
	{
		HOLD_INTERRUPTS();
		SaveCheckpoint(t);
		RESUME_INTERRUPTS();
	}
	CHECK_FOR_INTERRUPTS();
}

/* ---- batches ---- */

/* Fill the batch from a reading; false at its end. */
static bool
FillBatch(Training *t, Records *records)
{
	llm_error	err = {0};

	t->batch->rows = 0;
	while (t->batch->rows < t->batch_rows)
	{
		uint32		bytes;
		const uint8 *record = NextRecord(records, &bytes);

		if (record == NULL)
			break;
		if (!batch_add_record(t->data->encoder, t->data->target, record, bytes, t->batch, &err))
			ThrowError(&err);
	}
	return t->batch->rows > 0;
}

/* ---- held-out rows ---- */

typedef struct Score
{
	double		loss_sum;
	double		weight_sum;
	double		good;			/* rows predicted right, or sum of squared errors of the first number */
	int64		rows;
} Score;

static void
ScoreBatch(const Training *t, Score *score)
{
	const target *goal = t->data->target;
	const batch *b = t->batch;

	for (int64 i = 0; i < b->rows; i++)
	{
		const float *out = t->out + i * goal->outputs;

		if (goal->kind == TARGET_CLASS)
			score->good += predicted_class(goal, out) == b->target_class[i];
		else
			score->good += pow(goal->scale[0] * ((double) out[0] - b->target_number[i * goal->outputs]), 2);
	}
	score->rows += b->rows;
}

/* Predict the batch; false when the job is to pause. */
static bool
PredictBatch(Training *t, Score *score)
{
	for (;;)
	{
		llm_error	err = {0};

		if (trainer_predict(t->trainer, t->batch, t->out, &score->loss_sum, &score->weight_sum, &err))
			return true;
		if (err.code != LLM_CANCELLED)
			ThrowError(&err);
		CheckInterrupts(t);
		if (JobPauseRequested())
			return false;
	}
}

/* Score the held-out rows after an epoch and keep the best weights; false when the job is to pause. */
static bool
Validate(Training *t)
{
	TrainingState *s = &t->checkpoint.state;
	Score		score = {0};
	double		epoch = s->epoch + 1;
	double		loss;

	StartReading(t->data->held_out, false, 0, 0);
	while (FillBatch(t, t->data->held_out))
	{
		if (!PredictBatch(t, &score))
			return false;
		ScoreBatch(t, &score);
	}
	if (!(score.weight_sum > 0))	/* rows of weight 0 say nothing */
		return true;
	loss = score.loss_sum / score.weight_sum;
	JobMetric(s->step, epoch, "validation", "loss", loss);
	if (t->data->target->kind == TARGET_CLASS)
		JobMetric(s->step, epoch, "validation", "accuracy", score.good / score.rows);
	else
		JobMetric(s->step, epoch, "validation", "rmse", sqrt(score.good / score.rows));
	if (loss < s->best_loss)
	{
		s->best_loss = loss;
		s->best_epoch = s->epoch + 1;
		s->best_step = s->step;
		memcpy(t->checkpoint.best_weights, trainer_weights(t->trainer), t->checkpoint.best_bytes);
	}
	return true;
}

/* ---- steps ---- */

static bool
IsFinished(const Training *t)
{
	const TrainingState *s = &t->checkpoint.state;
	const train_params *p = t->params;

	if (s->step >= t->config.total_steps)
		return true;
	if (p->max_seconds > 0 && Elapsed(t) >= p->max_seconds)
		return true;
	return p->early_stopping > 0 && s->best_epoch > 0 && s->epoch - s->best_epoch >= p->early_stopping;
}

static void
ReportStep(Training *t, double loss)
{
	TrainingState *s = &t->checkpoint.state;
	double		epoch = (double) s->epoch + (double) s->batch / t->batches;
	double		seconds = Elapsed(t) - t->elapsed_before;

	s->loss_sum += loss;
	s->loss_steps++;
	JobProgress(s->step, loss, seconds > 0 ? trainer_steps_done(t->trainer) * t->batch_rows / Elapsed(t) : 0,
				(int32) Min(s->epoch + 1, PG_INT32_MAX));
	if (s->step % t->report_every != 0)
		return;
	JobMetric(s->step, epoch, "training", "loss", s->loss_sum / s->loss_steps);
	JobMetric(s->step, epoch, "training", "learning_rate", trainer_learning_rate(t->trainer));
	s->loss_sum = 0;
	s->loss_steps = 0;
}

/* One step on the batch; false when the job is to pause. */
static bool
RunStep(Training *t)
{
	TrainingState *s = &t->checkpoint.state;
	double		loss;

	for (;;)
	{
		llm_error	err = {0};

		if (trainer_step(t->trainer, t->batch, &loss, &err))
			break;
		if (err.code != LLM_CANCELLED)
			ThrowError(&err);
		CheckInterrupts(t);
		if (JobPauseRequested())
			return false;
	}
	s->batch++;
	s->step++;
	ReportStep(t, loss);
	CheckInterrupts(t);
	if (Elapsed(t) - t->checkpoint_at >= t->checkpoint_every)
		SaveCheckpoint(t);
	return !JobPauseRequested();
}

/* The rest of the current epoch; false when the job is to pause. */
static bool
RunEpoch(Training *t)
{
	TrainingState *s = &t->checkpoint.state;

	StartReading(t->data->training, true, t->params->seed, s->epoch);
	SkipRecords(t->data->training, s->batch * t->batch_rows);
	while (s->step < t->config.total_steps && FillBatch(t, t->data->training))
	{
		if (!RunStep(t))
			return false;
		if (t->params->max_seconds > 0 && Elapsed(t) >= t->params->max_seconds)
			break;
	}
	if (CountRecords(t->data->held_out) > 0 && !Validate(t))
		return false;
	s->epoch++;
	s->batch = 0;
	return true;
}

/* All epochs; false after a checkpoint because the job is to pause. */
static bool
RunEpochs(Training *t)
{
	JobPhase("training", t->config.total_steps);
	while (t->checkpoint.state.batch > 0 || !IsFinished(t)) /* an epoch that was begun is ended */
	{
		if (!RunEpoch(t))
		{
			SaveCheckpoint(t);
			return false;
		}
	}
	t->checkpoint.state.elapsed = Elapsed(t);
	return true;
}

/* ---- the end ---- */

static bool
InterruptPoll(void *arg)
{
	return InterruptPending;
}

static void
EvaluateBatch(const Training *t, evaluation *e, double *actual)
{
	const target *goal = t->data->target;
	const batch *b = t->batch;
	llm_error	err = {0};

	for (int64 i = 0; i < b->rows; i++)
	{
		for (int32 k = 0; goal->kind == TARGET_NUMBER && k < goal->outputs; k++)
			actual[k] = goal->mean[k] + goal->scale[k] * b->target_number[i * goal->outputs + k];
		if (!evaluation_add(e, t->out + i * goal->outputs, goal->kind == TARGET_CLASS ? b->target_class[i] : 0,
							actual, &err))
			ThrowError(&err);
	}
}

/* Metrics of the weights to publish, on the held-out rows, or on the training rows when there are none. */
static json_t *
Evaluate(Training *t, double *score)
{
	bool		held_out = CountRecords(t->data->held_out) > 0;
	Records    *records = held_out ? t->data->held_out : t->data->training;
	double	   *actual = palloc0(t->data->target->outputs * sizeof(double));
	Score		ignored = {0};
	llm_error	err = {0};
	evaluation *e = evaluation_new(t->data->target, &err);
	json_t	   *json;

	if (e == NULL)
		ThrowError(&err);
	OWN(e, evaluation_free);
	JobPhase("evaluating", CountRecords(records));
	if (t->checkpoint.state.best_epoch > 0)
		trainer_set_weights(t->trainer, t->checkpoint.best_weights);
	trainer_set_poll(t->trainer, InterruptPoll, NULL);
	StartReading(records, false, 0, 0);
	while (FillBatch(t, records))
	{
		while (!trainer_predict(t->trainer, t->batch, t->out, &ignored.loss_sum, &ignored.weight_sum, &err))
		{
			if (err.code != LLM_CANCELLED)
				ThrowError(&err);
			CHECK_FOR_INTERRUPTS();
			err.code = LLM_OK;
		}
		EvaluateBatch(t, e, actual);
		ignored.rows += t->batch->rows;
		JobProgress(ignored.rows, 0, 0, (int32) Min(t->checkpoint.state.epoch, PG_INT32_MAX));
		CHECK_FOR_INTERRUPTS();
	}
	json = evaluation_json(e, &err);
	if (json == NULL)
		ThrowError(&err);
	*score = evaluation_score(e);
	json_object_set_new(json, "rows", json_string(held_out ? "held_out" : "training"));
	return json;
}

static void
Publish(Training *t)
{
	double		score = 0;
	json_t	   *metrics = Evaluate(t, &score);
	TrainedNetwork trained = {.job = t->job,.spec = t->spec,.params = t->params,.data = t->data,.net = t->net,
		.weights = trainer_weights(t->trainer),.state = &t->checkpoint.state,.evaluation = metrics,.score = score,
	.base = t->spec->base,.base_version = t->base ? t->base->version : 0};

	JobReport("evaluated_on", json_copy(json_object_get(metrics, "rows")));
	JobReport("metrics", json_deep_copy(json_object_get(metrics, "metrics")));
	JobFlushMetrics();
	PublishTraining(&trained);
	RemoveCheckpoint(t->job);
}

/* The whole job, in the current memory context; false when it paused. */
static bool
Train(int64 job, const TrainingSpec *spec)
{
	Training   *t = palloc0(sizeof(Training));
	const manifest *base;
	Size		budget;

	t->job = job;
	t->spec = spec;
	ApplySettings(spec);
	t->params = ResolveParams(spec->architecture, spec->params);
	OpenBaseModel(t);
	base = t->base ? t->base->manifest : NULL;
	t->data = LoadDataset(spec, t->params, base);
	if (JobPauseRequested())
		return false;
	FitDataset(t->data, t->params, base);
	budget = PlanTraining(t);
	EncodeDataset(t->data, t->params, budget);
	JobReport("data", DataReport(t->data));
	JobReport("task", json_string(t->data->task));
	if (!CreateTrainer(t))
		return false;
	CreateCheckpoint(t);
	ResumeTraining(t);
	if (!RunEpochs(t))
		return false;
	Publish(t);
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
	bool		done = false;

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
