/*
 * learn_plan.c
 *	  What a network of a training will be: its layers, its steps, the memory that it takes.
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "../common.h"
#include "../format/layers.h"
#include "../engine/cuda.h"
#include "corpus.h"
#include "../job/gpu.h"
#include "learn_plan.h"

#define TEXT_EMBED_DIM 16 /* of categories beside a text */
/*
 * A transformer fits few rows so well that n-grams beside it learn little from them.  In rows without what it makes
 * they learn alone, as in ModDrop (Neverova et al. 2015); the more of them, the more its dropout says that it
 * has to be held back.
 */
#define TEXT_ROW_DROPOUT (5 / 3.0) /* times dropout: half of the rows at 0.3 */
#define MOST_ROW_DROPOUT 0.8
#define TEXT_BETA2 0.99                 /* gradients of rare tokens come seldom */
#define PASS_TOKENS 256                 /* fewer at once soon cost as much time as computing layers again; */
#define GPU_PASS_TOKENS 8192            /* a GPU needs more of them to be busy */
#define RECORD_MEMORY (8 * 1024 * 1024) /* least memory beside the network's: windows of records */

/* What an architecture other than mlp consists of; that of a base stays, but for its dropout. */
static void
SetLayers(const train_params *p, bool has_base, net_config *c)
{
	llm_error err = {0};

	if (p->architecture->bit == ARCH_CNN && !has_base)
		net_default_cnn(c);
	else if (p->layers != NULL && !layers_from_json(p->layers, c, &err))
		ThrowError(&err);
	for (int32 i = 0; p->architecture->bit == ARCH_CNN && i < c->layer_count; i++)
		if (c->layers[i].kind == LAYER_DROPOUT)
			c->layers[i].rate = p->dropout;
}

/* The transformer: that of a base, or one of the settings. */
static transformer_config
TransformerConfig(const Learning *l)
{
	const train_params *p = l->params;
	transformer_config text = {0};
	transformer_config *t = &text;

	if (l->base != NULL)
		text = net_get_config(l->base->manifest->net)->text;
	else
	{
		(void) transformer_family(p->architecture->name, t);
		t->vocab = tokenizer_size(l->data->corpus->tokenizer);
		t->context = p->context;
		t->width = p->embed_dim;
		t->depth = p->depth;
		t->heads = p->heads;
		t->kv_heads = p->kv_heads > 0 ? p->kv_heads : p->heads;
		t->head_dim = p->embed_dim / p->heads;
		t->ffn = p->ffn_dim;
		if (p->architecture->bit == ARCH_T5)
		{
			t->encoder_depth = p->depth;
			t->source_context = p->source_context;
		}
		if (p->embed_dim % p->heads != 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("embed_dim %d is not a multiple of heads %d", p->embed_dim, p->heads),
							errhint("For example params => '{\"embed_dim\": %d, \"heads\": %d}'.",
									Max(1, p->embed_dim / p->heads) * p->heads, p->heads)));
	}
	t->dropout = p->dropout;
	return text;
}

/* What stands for a text: that of a base which has learned it. */
static text_pool
TextPool(const Learning *l)
{
	const net_config *base = l->base != NULL ? net_get_config(l->base->manifest->net) : NULL;

	return base != NULL && base->text.headless ? base->pool : l->params->pool;
}

static net_config
LanguageConfig(const Learning *l)
{
	bool embeds = IsEmbeddingTask(l->data->task);
	net_config c = {.loss = embeds ? LOSS_CONTRASTIVE : LOSS_CROSS_ENTROPY, .text = TransformerConfig(l)};

	target_shape(l->data->target, &c.shape);
	c.shape.token_target = !embeds;
	c.shape.vocab = c.text.vocab;
	c.shape.context = c.text.context;
	c.shape.source_context = c.text.source_context;
	c.text.headless = embeds;
	if (embeds)
		c.pool = TextPool(l);
	if (embeds && l->base != NULL)
	{
		c.dense_count = net_get_config(l->base->manifest->net)->dense_count;
		memcpy(c.dense, net_get_config(l->base->manifest->net)->dense, sizeof(c.dense));
	}
	return c;
}

static net_config
NetworkConfig(const Learning *l)
{
	const train_params *p = l->params;
	const target *goal = l->data->target;
	bool has_base = l->base != NULL && l->base->manifest->target->kind != TARGET_TEXT;
	net_config c = {0};

	if (has_base)
		c = *net_get_config(l->base->manifest->net);
	else
	{
		encoder_image(l->data->encoder, c.image);
		encoder_shape(l->data->encoder, &c.shape);
		target_shape(goal, &c.shape);
		c.embed_dim = l->data->corpus != NULL ? TEXT_EMBED_DIM : p->embed_dim;
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
	if (c.image[0] > 0)
		c.augment = p->augment;
	if (l->data->corpus != NULL)
	{
		c.text = TransformerConfig(l);
		c.text.headless = true;
		c.pool = TextPool(l);
		c.text_dropout = p->ngrams ? Min(TEXT_ROW_DROPOUT * p->dropout, MOST_ROW_DROPOUT) : 0;
	}
	SetLayers(p, has_base, &c);
	return c;
}

static train_config
TrainerConfig(const Learning *l)
{
	const train_params *p = l->params;
	train_config c = {.optimizer = p->optimizer,
					  .learning_rate = p->learning_rate,
					  .weight_decay = p->weight_decay,
					  .beta1 = 0.9,
					  .beta2 = l->data->corpus != NULL ? TEXT_BETA2 : 0.999,
					  .epsilon = 1e-8,
					  .momentum = p->momentum,
					  .clip_norm = p->clip_norm,
					  .schedule = p->schedule,
					  .ema_decay = p->ema_decay,
					  .precision = p->precision,
					  .train_layers = p->train_layers,
					  .lora_rank = p->lora_rank,
					  .lora_alpha = (float) p->lora_alpha,
					  .lora_targets = p->lora_rank > 0 ? p->lora_targets : 0,
					  .seed = p->seed,
					  .threads = ThreadCount(),
					  .poll = JobPoll,
					  .gpu = JobGpu() != NULL,
					  .device = JobGpu()};

	c.total_steps = p->steps;
	if (p->steps == 0 && pg_mul_s64_overflow(p->epochs, l->batches, &c.total_steps))
		c.total_steps = PG_INT64_MAX;
	c.warmup_steps = (int64) (p->warmup * c.total_steps);
	return c;
}

static size_t
BatchBytes(const batch_shape *s, int64 rows)
{
	return rows * sizeof(float) *
		   ((size_t) s->dense + s->embed_columns + 2 * (size_t) s->bag_max + 2 * s->outputs + 4 +
			3 * (size_t) s->context + s->source_context);
}

/* Weights that the job keeps beside those of LearningMemory(). */
static Size
KeptWeights(const Learning *l)
{
	int32 networks = l->params->folds > 0 ? l->params->folds : l->params->ranges != NULL ? 1 : 0;

	return mul_size(net_weight_bytes(l->net), networks);
}

/* A pair of texts that are compared has a row for each. */
static int64
RowsOf(const Learning *l, int64 samples)
{
	return samples * (net_get_config(l->net)->loss == LOSS_CONTRASTIVE ? 2 : 1);
}

int64
BatchRows(const Learning *l)
{
	return RowsOf(l, l->batch_samples);
}

int64
PassRows(const Learning *l)
{
	return RowsOf(l, l->pass_samples);
}

static Size
DeviceMemory(const Learning *l, int64 rows)
{
	size_t bytes = 0;
	llm_error err = {0};

	if (!trainer_device_memory(l->net, &l->config, rows, &bytes, &err))
		ThrowError(&err);
	return bytes;
}

Size
LearningDeviceMemory(const Learning *l)
{
	return DeviceMemory(l, BatchRows(l));
}

/* Choose a pass of so many samples; whether the memory suffices, of the GPU where it is one's. */
static bool
SetPass(Learning *l, int64 samples)
{
	l->pass_samples = Min(samples, l->batch_samples);
	l->config.micro_rows = PassRows(l);
	if (l->config.gpu)
		return LearningDeviceMemory(l) <= GpuMemory();
	return add_size(LearningMemory(l), KeptWeights(l)) <= (Size) llmapp_train_memory * 1024;
}

/* Statistics of a batch, and texts that are compared in it, are those of a pass. */
static bool
NeedsWholeBatch(const Learning *l)
{
	const net_config *c = net_get_config(l->net);

	if (c->loss == LOSS_CONTRASTIVE)
		return true;
	for (int32 i = 0; i < c->layer_count; i++)
		if (c->layers[i].kind == LAYER_BATCH_NORM)
			return true;
	return false;
}

/* The fewest passes of at least so many samples that fit, or the smallest of them; false when none does. */
static bool
FitPasses(Learning *l, int64 least)
{
	int64 too_few = 1;
	int64 enough = NeedsWholeBatch(l) ? 1 : l->batch_samples / least;

	if (l->params->micro_batch > 0)
		return SetPass(l, l->params->micro_batch);
	if (SetPass(l, l->batch_samples))
		return true;
	if (!SetPass(l, (l->batch_samples + enough - 1) / enough))
		return false;
	while (enough - too_few > 1)
	{
		int64 passes = too_few + (enough - too_few) / 2;

		if (SetPass(l, (l->batch_samples + passes - 1) / passes))
			enough = passes;
		else
			too_few = passes;
	}
	return SetPass(l, (l->batch_samples + enough - 1) / enough);
}

/* Samples below which a pass costs more than computing layers again. */
static int64
LeastSamples(const Learning *l)
{
	const transformer_config *text = &net_get_config(l->net)->text;
	int64 tokens = text->context + text->source_context;

	int64 least = l->config.gpu ? GPU_PASS_TOKENS : PASS_TOKENS;

	return tokens == 0 ? 1 : Max(1, Min(l->batch_samples, least / tokens));
}

/* ---- on a GPU ---- */

/* The largest of halves of the batch that fits, in samples; 0: none does. */
static int64
FittingBatch(Learning *l)
{
	int64 samples = l->batch_samples, whole = l->config.micro_rows;

	l->config.micro_rows = 0;
	while (samples > 0 && DeviceMemory(l, RowsOf(l, samples)) > GpuMemory())
		samples /= 2;
	l->config.micro_rows = whole;
	return samples;
}

/* Nothing that can be chosen fits: an error, or the CPU is to do it. */
static void
LeaveItToCpu(Learning *l)
{
	Size bytes = LearningDeviceMemory(l);
	int64 samples = FittingBatch(l);

	LackGpuMemory("this training", bytes,
				  samples > 0 && samples < l->batch_samples
					  ? psprintf("It fits with params => '{\"batch_size\": " INT64_FORMAT "}'.", samples)
					  : psprintf("SET llmapp.gpu_memory = '%zuMB'; or use a smaller network, or device => 'cpu'.",
								 bytes / (1024 * 1024) + 1));
	l->config.gpu = false;
	l->config.device = NULL;
}

/* Smaller passes first, while they cost nothing; then layers that are computed again; then as small as it takes. */
static bool
TryPasses(Learning *l)
{
	bool open = net_get_config(l->net)->text.vocab > 0 && !l->params->recompute_given;

	l->config.recompute = l->params->recompute;
	if (FitPasses(l, open ? LeastSamples(l) : 1))
		return true;
	if (!open)
		return false;
	l->config.recompute = true;
	return FitPasses(l, 1);
}

void
PlanPasses(Learning *l)
{
	if (l->config.gpu && !TryPasses(l))
		LeaveItToCpu(l);
	if (!l->config.gpu)
		(void) TryPasses(l); /* when even this is too much, RecordMemory() says so */
}

Learning *
PlanLearning(int64 job, train_params *params, const Model *base, Dataset *data, Checkpoint *checkpoint)
{
	Learning *l = palloc0(sizeof(Learning));
	int64 samples;
	net_config config;
	llm_error err = {0};

	l->job = job;
	l->params = params;
	l->base = base;
	l->data = data;
	l->checkpoint = checkpoint;
	l->deadline = params->max_seconds;
	samples = data->target->kind == TARGET_TEXT ? CountSamples(data->training) : data->training_rows;
	l->batch_samples = Min(params->batch_size, samples);
	l->batches = (samples + l->batch_samples - 1) / l->batch_samples;
	config = data->target->kind == TARGET_TEXT ? LanguageConfig(l) : NetworkConfig(l);
	l->net = net_new(&config, &err);
	if (l->net == NULL)
		ThrowError(&err);
	OWN(l->net, net_free);
	l->config = TrainerConfig(l);
	PlanPasses(l);
	params_choose_memory(params, l->pass_samples, l->config.recompute);
	l->job_steps = l->config.total_steps;
	l->checkpoint_every = params->checkpoint_every >= 0 ? params->checkpoint_every : llmapp_checkpoint_interval;
	return l;
}

net *
CreateEnsemble(const Learning *l, int32 members)
{
	net_config config = *net_get_config(l->net);
	llm_error err = {0};
	net *ensemble;

	config.members = members;
	ensemble = net_new(&config, &err);
	if (ensemble == NULL)
		ThrowError(&err);
	OWN(ensemble, net_free);
	return ensemble;
}

void
ShortenLearning(Learning *l, double share)
{
	int64 epochs = (l->config.total_steps + l->batches - 1) / l->batches;
	int64 some = Max(1, (int64) rint(share * epochs));

	l->config.total_steps = Min(l->config.total_steps, some * l->batches);
	l->config.warmup_steps = (int64) (l->params->warmup * l->config.total_steps);
}

Size
LearningMemory(const Learning *l)
{
	size_t bytes = 0;
	llm_error err = {0};

	if (!trainer_memory(l->net, &l->config, BatchRows(l), &bytes, &err))
		ThrowError(&err);
	/* the trainer, its state while it is written, the best weights, a batch */
	bytes = add_size(bytes, mul_size(net_weight_bytes(l->net), 5));
	bytes = add_size(bytes, BatchBytes(&net_get_config(l->net)->shape, PassRows(l)));
	return add_size(bytes, RECORD_MEMORY);
}

Size
RecordMemory(const Learning *l, Size most)
{
	Size limit = (Size) llmapp_train_memory * 1024;

	if (most > limit)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("this training needs %zu MB of memory, llmapp.train_memory allows %zu MB",
							   most / (1024 * 1024) + 1, limit / (1024 * 1024)),
						errdetail("The network has %zu MB of weights.", net_weight_bytes(l->net) / (1024 * 1024) + 1),
						errhint("SET llmapp.train_memory = '%zuMB'; or use a smaller %s.", most / (1024 * 1024) + 1,
								l->data->corpus != NULL ? "context, embed_dim or vocab_size"
														: "batch_size, hidden or text_buckets")));
	return limit - most;
}
