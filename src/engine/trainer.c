/*
 * trainer.c
 *	  Training a network: state, steps, scoring with the weights to publish, checkpoints.
 *
 * All state that a resumed run needs is one block of equal parts, each laid out as the trained
 * weights: parameters, moments (two for AdamW, one for SGD), moving average (when on).  Frozen
 * weights lie before it, so that all parameters are one block, too; a checkpoint has only a
 * checksum of them.
 * Training, scoring and prediction plans never run at the same time and share one arena.
 * Parameters change only after a whole step was computed, so a cancelled or failed step
 * leaves everything as it was; sums over passes lie beside them.
 * Where plans run is trainer_device's; a GPU has a copy of the block, and `changed` and `ahead` say
 * which is the newer one.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bf16.h"
#include "blas.h"
#include "trainer.h"

#define MAX_THREADS 1024
#define STATE_MAGIC 0x324E5254u /* "TRN2" in little-endian memory */

/* What trainer_save() writes before the parts. */
typedef struct state_header
{
	uint32_t magic;
	uint32_t parts;
	uint64_t part_bytes;
	int32_t optimizer;
	int32_t average;
	int64_t steps;
	double learning_rate; /* of the last step */
	double gradient_norm;
	uint64_t frozen; /* checksum of frozen weights */
	int32_t train_layers, lora_rank;
	uint32_t lora_targets;
	float lora_alpha;
} state_header;

/* ---- memory and construction ---- */

static bool
is_fraction(double x)
{
	return x >= 0 && x < 1;
}

static bool
has_batch_norm(const net *n)
{
	for (int32_t i = 0; i < n->layer_count; i++)
		if (n->layers[i].layer.kind == LAYER_BATCH_NORM)
			return true;
	return false;
}

static bool
check_passes(const net *n, const train_config *c, int64_t batch_rows, llm_error *err)
{
	if (c->micro_rows < 0)
		return llm_fail(err, LLM_INVALID, "rows of a micro batch must not be negative");
	if (c->micro_rows > 0 && c->micro_rows < batch_rows && has_batch_norm(n))
		return llm_fail(err, LLM_INVALID, "a network with batch_norm cannot be trained in micro batches");
	if (c->micro_rows > 0 && c->micro_rows < batch_rows && n->config.loss == LOSS_CONTRASTIVE)
		return llm_fail(err, LLM_INVALID,
						"texts are compared within a batch, which cannot be computed in micro batches");
	return true;
}

static bool
check_train_config(const net *n, const train_config *c, int64_t batch_rows, llm_error *err)
{
	if (n->config.members > 1)
		return llm_fail(err, LLM_INVALID, "members of an ensemble are trained one by one");
	if (batch_rows < 1 || batch_rows > (1 << 24))
		return llm_fail(err, LLM_INVALID, "batch size %lld is not between 1 and %d", (long long) batch_rows, 1 << 24);
	if (c->threads < 1 || c->threads > MAX_THREADS)
		return llm_fail(err, LLM_INVALID, "number of threads %d is not between 1 and %d", c->threads, MAX_THREADS);
	if (!(c->learning_rate > 0 && isfinite(c->learning_rate)))
		return llm_fail(err, LLM_INVALID, "learning_rate must be positive");
	if (!(c->weight_decay >= 0 && c->weight_decay * c->learning_rate < 1))
		return llm_fail(err, LLM_INVALID,
						"weight_decay must not be negative, nor learning_rate * weight_decay reach 1");
	if (!is_fraction(c->ema_decay) || !is_fraction(c->momentum) || !(c->clip_norm >= 0 && isfinite(c->clip_norm)))
		return llm_fail(err, LLM_INVALID, "momentum, ema_decay or clip_norm is out of range");
	if (c->optimizer == OPT_ADAMW && !(is_fraction(c->beta1) && is_fraction(c->beta2) && c->epsilon > 0))
		return llm_fail(err, LLM_INVALID, "beta1, beta2 or epsilon is out of range");
	if ((unsigned) c->precision > PRECISION_BF16)
		return llm_fail(err, LLM_INVALID, "precision is out of range");
	if (c->warmup_steps < 0 || c->total_steps < 0 || (unsigned) c->optimizer > OPT_SGD ||
		(unsigned) c->schedule > SCHEDULE_COSINE)
		return llm_fail(err, LLM_INVALID, "optimizer or schedule is out of range");
	if (c->precision == PRECISION_BF16 && !c->gpu && !bf16_supported())
	{
		llm_fail(err, LLM_UNAVAILABLE, "precision bf16 needs a CPU with AVX512-BF16");
		return llm_hint(err, "Train in precision f32.");
	}
	return check_passes(n, c, batch_rows, err);
}

static int64_t
pass_rows(const train_config *c, int64_t batch_rows)
{
	return c->micro_rows > 0 && c->micro_rows < batch_rows ? c->micro_rows : batch_rows;
}

static int32_t
part_count(const train_config *c)
{
	return 1 + (c->optimizer == OPT_ADAMW ? 2 : 1) + (c->ema_decay > 0);
}

/* Weights to publish are no part of the state: adapters lie beside them, an average lacks frozen ones. */
static bool
needs_merged(const net_tuning *tuning, const train_config *c)
{
	return tuning_adapters(tuning) || (c->ema_decay > 0 && tuning_begin(tuning) > 0);
}

/* Of frozen weights and the state; of merged weights, 0 where they are there anyway. */
static bool
count_bytes(const net *n, const net_tuning *tuning, const train_config *c, size_t *state, size_t *merged,
			llm_error *err)
{
	size_t frozen = tuning_begin(tuning) * sizeof(float), part = tuning_end(tuning) * sizeof(float) - frozen;
	size_t both;

	*merged = needs_merged(tuning, c) ? net_weight_bytes(n) : 0;
	if (__builtin_mul_overflow(part, (size_t) part_count(c), state) ||
		__builtin_add_overflow(*state, frozen, state) || __builtin_add_overflow(*state, *merged, &both) ||
		both > INT64_MAX - sizeof(state_header))
		return llm_fail(err, LLM_MEMORY, "network is too large");
	return true;
}

static void
free_plans(trainer *t)
{
	net_plan_free(&t->train);
	net_plan_free(&t->score);
	net_plan_free(&t->predict);
}

/* Record the three plans; *arena_bytes serves each of them. */
static bool
make_plans(trainer *t, size_t *arena_bytes, llm_error *err)
{
	net_plan *all[] = {&t->train, &t->score, &t->predict};
	net_mode modes[] = {MODE_TRAIN, MODE_SCORE, MODE_PREDICT};

	*arena_bytes = 0;
	for (int i = 0; i < (net_predicts_rows(&t->n->config) ? 3 : 2); i++) /* others are only scored */
	{
		bool train = modes[i] == MODE_TRAIN;

		if (!net_plan_tuned(all[i], t->n, train ? t->tuning : NULL, train ? t->config.precision : PRECISION_F32,
							train && t->config.recompute, modes[i], t->pass_rows, err))
			return false;
		if (plan_arena_bytes(all[i]->plan) > *arena_bytes)
			*arena_bytes = plan_arena_bytes(all[i]->plan);
	}
	return true;
}

/* Of the sums over passes. */
static bool
count_sums(const trainer *t, size_t *bytes, llm_error *err)
{
	optim_tensor *tensors;
	int32_t count;
	bool ok;

	*bytes = 0;
	if (trainer_passes(t) == 1)
		return true;
	tensors = trainer_gradients(t, &count, err);
	ok = tensors && (accumulator_bytes(tensors, count, trainer_passes(t), bytes) ||
					 llm_fail(err, LLM_MEMORY, "network is too large"));
	free(tensors);
	return ok;
}

/* What all plans and the state take, in this memory and on a device. */
typedef struct memory_need
{
	size_t host, device;
} memory_need;

static bool
count_memory(const net *n, const train_config *config, int64_t batch_rows, memory_need *need, llm_error *err)
{
	trainer t = {.n = n, .config = *config, .batch_rows = batch_rows, .pass_rows = pass_rows(config, batch_rows)};
	size_t state, merged, arena, sums;
	bool ok = check_train_config(n, config, batch_rows, err) && (t.tuning = tuning_new(n, config, err)) &&
			  count_bytes(n, t.tuning, config, &state, &merged, err) && make_plans(&t, &arena, err) &&
			  count_sums(&t, &sums, err);

	if (ok && config->gpu)
	{
		ok = trainer_cuda_memory(&t, &(trainer_sizes) {state, merged, arena, sums}, &need->device, &arena, err);
		sums = 0;
	}
	free_plans(&t);
	tuning_free(t.tuning);
	if (ok && (__builtin_add_overflow(state + merged, arena, &need->host) ||
			   __builtin_add_overflow(need->host, sums, &need->host)))
		return llm_fail(err, LLM_MEMORY, "network is too large");
	return ok;
}

bool
trainer_memory(const net *n, const train_config *config, int64_t batch_rows, size_t *bytes, llm_error *err)
{
	memory_need need;
	bool ok = count_memory(n, config, batch_rows, &need, err);

	if (ok)
		*bytes = need.host;
	return ok;
}

bool
trainer_device_memory(const net *n, const train_config *config, int64_t batch_rows, size_t *bytes, llm_error *err)
{
	memory_need need;
	bool ok = count_memory(n, config, batch_rows, &need, err);

	if (ok)
		*bytes = need.device;
	return ok;
}

/* Where weights to publish are, once trainer_weights() has made them. */
static const float *
published(const trainer *t)
{
	return t->merged ? t->merged : t->average ? t->average : t->weights;
}

static bool
allocate(trainer *t, llm_error *err)
{
	trainer_sizes z;

	if (!make_plans(t, &z.arena, err) || !count_bytes(t->n, t->tuning, &t->config, &z.state, &z.merged, err) ||
		!count_sums(t, &z.sums, err))
		return false;
	t->parts = part_count(&t->config);
	t->frozen_floats = tuning_begin(t->tuning);
	t->part_floats = tuning_end(t->tuning) - t->frozen_floats;
	t->weights = backend_cpu.allocate(z.state);
	t->merged = z.merged > 0 ? backend_cpu.allocate(z.merged) : NULL;
	if (!t->weights || (z.merged > 0 && !t->merged))
		return llm_fail(err, LLM_MEMORY, "out of memory: training needs %zu bytes", z.state + z.merged + z.arena);
	t->trained = t->weights + t->frozen_floats;
	if (t->config.ema_decay > 0)
		t->average = t->trained + (t->parts - 1) * t->part_floats;
	return t->device->start(t, published(t), &z, err);
}

#define ZERO_TILE (1 << 20) /* floats */

static void
zero_tile(void *arg, int64_t tile)
{
	trainer *t = arg;
	size_t begin = tile * ZERO_TILE;
	size_t rest = t->frozen_floats + t->parts * t->part_floats - begin;

	memset(t->weights + begin, 0, (rest < ZERO_TILE ? rest : ZERO_TILE) * sizeof(float));
}

/* FNV-1a (Fowler, Noll, Vo) by words of 8 bytes; floats are even. */
static uint64_t
checksum(const float *x, size_t floats)
{
	uint64_t sum = 0xCBF29CE484222325u, word;

	for (size_t i = 0; i < floats; i += 2)
	{
		memcpy(&word, x + i, sizeof(word));
		sum = (sum ^ word) * 0x100000001B3u;
	}
	return sum;
}

/* After parameters were given from outside. */
static void
start_from_weights(trainer *t)
{
	if (t->average)
		memcpy(t->average, t->trained, t->part_floats * sizeof(float));
	t->frozen = checksum(t->weights, t->frozen_floats);
	t->merged_made = false;
	t->changed |= CHANGED_WEIGHTS;
	t->open = (open_step) {0};
}

/* Gigabytes may have to be filled, so this asks whether to stop, as steps do. */
static bool
fill_state(trainer *t, llm_error *err)
{
	run_args *r = &t->run;
	size_t floats = t->frozen_floats + t->parts * t->part_floats;

	if (!pool_run(r->pool, zero_tile, t, (floats + ZERO_TILE - 1) / ZERO_TILE, r->poll, r->poll_arg) ||
		!net_initialise(t->n, t->config.seed, t->weights, r->pool, r->poll, r->poll_arg) ||
		!tuning_initialise(t->tuning, t->config.seed, t->weights + t->n->weight_floats, r->pool, r->poll,
						   r->poll_arg))
		return llm_fail(err, LLM_CANCELLED, "canceled");
	t->changed |= CHANGED_STATE;
	start_from_weights(t);
	return true;
}

trainer *
trainer_new(const net *n, const train_config *config, int64_t batch_rows, llm_error *err)
{
	trainer *t;

	if (!check_train_config(n, config, batch_rows, err))
		return NULL;
	t = calloc(1, sizeof(trainer));
	if (!t)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	t->n = n;
	t->config = *config;
	t->batch_rows = batch_rows;
	t->pass_rows = pass_rows(config, batch_rows);
	t->device = config->gpu ? &trainer_cuda : &trainer_cpu;
	t->run =
		(run_args) {.seed = config->seed, .simd = simd_best(), .poll = config->poll, .poll_arg = config->poll_arg};
	blas_open(); /* before threads start; without it the built-in product serves */
	if (!(t->tuning = tuning_new(n, config, err)) || !blas_reserve(config->threads, err) || !allocate(t, err) ||
		!(t->run.pool = pool_new(config->threads, err)) || !fill_state(t, err))
	{
		trainer_free(t);
		return NULL;
	}
	return t;
}

void
trainer_free(trainer *t)
{
	if (!t)
		return;
	pool_free(t->run.pool);
	t->device->stop(t);
	free_plans(t);
	tuning_free(t->tuning);
	backend_cpu.release(t->weights);
	backend_cpu.release(t->merged);
	free(t);
}

void
trainer_set_poll(trainer *t, llm_poll poll, void *arg)
{
	t->run.poll = poll;
	t->run.poll_arg = arg;
}

/* ---- steps ---- */

/* Of step t, from 1: linear warm-up times the schedule's way down to zero at total_steps. */
static double
scheduled_rate(const train_config *c, int64_t t)
{
	double warm = t < c->warmup_steps ? (double) t / c->warmup_steps : 1;
	double done = c->total_steps > 0 ? fmin((double) t / c->total_steps, 1) : 0;

	if (c->schedule == SCHEDULE_LINEAR)
		return c->learning_rate * warm * (1 - done);
	if (c->schedule == SCHEDULE_COSINE)
		return c->learning_rate * warm * 0.5 * (1 + cos(M_PI * done));
	return c->learning_rate * warm;
}

/* Of tokens or rows, each with a loss. */
static int64_t
loss_count(const batch *b)
{
	return b->shape.token_target ? b->token_start[b->rows] : b->rows;
}

/* Add weights of rows or tokens, in their order. */
static void
add_weights(const batch *b, double *sum)
{
	const float *weight = b->shape.token_target ? b->token_weight : b->weight;

	for (int64_t i = 0; i < loss_count(b); i++)
		*sum += weight[i];
}

/* Of a batch with what is to be learned. */
static bool
check_batch(const trainer *t, const batch *b, llm_error *err)
{
	if (!batch_check(b, &t->n->config.shape, t->pass_rows, true, err))
		return false;
	return t->n->config.loss != LOSS_CONTRASTIVE || b->rows % 2 == 0 ||
		   llm_fail(err, LLM_INVALID, "batch has a text without its partner");
}

#define PASS_SHIFT 40 /* random numbers of a pass are those of step | pass << PASS_SHIFT */

bool
trainer_accumulate(trainer *t, const batch *b, llm_error *err)
{
	open_step *o = &t->open;
	double weight_sum = 0;
	bool sums = trainer_passes(t) > 1;

	if (!check_batch(t, b, err))
		return false;
	if (b->rows == 0)
		return llm_fail(err, LLM_INVALID, "batch has no rows");
	if (o->passes > 0 && (!sums || o->rows + b->rows > t->batch_rows))
		return llm_fail(err, LLM_INVALID, "step has more than %lld rows", (long long) t->batch_rows);
	add_weights(b, &weight_sum);
	t->run.step = (uint64_t) t->steps | (uint64_t) o->passes << PASS_SHIFT;
	if (!t->device->run(t, &t->train, b, err))
		return false;
	*o = (open_step) {o->passes + 1, o->rows + b->rows, loss_count(b), o->loss_sum, o->weight_sum + weight_sum};
	return !sums || t->device->add_pass(t, o, (float) weight_sum, err);
}

bool
trainer_stage(trainer *t, const batch *b, llm_error *err)
{
	return !t->cuda || (check_batch(t, b, err) && trainer_cuda_stage(t, b, err));
}

bool
trainer_update(trainer *t, double *loss, llm_error *err)
{
	open_step o = t->open;
	double norm, share = trainer_passes(t) == 1 ? 1 : o.weight_sum > 0 ? 1 / o.weight_sum : 0;
	double rate = scheduled_rate(&t->config, t->steps + 1);

	if (o.passes == 0)
		return llm_fail(err, LLM_INVALID, "step has no rows");
	t->open = (open_step) {0};
	if (!t->device->update(t, &o, rate, share, &norm, err))
		return false;
	t->learning_rate = rate;
	t->gradient_norm = norm;
	t->steps++;
	t->merged_made = false;
	*loss = o.weight_sum > 0 ? o.loss_sum / o.weight_sum : 0;
	return true;
}

bool
trainer_step(trainer *t, const batch *b, double *loss, llm_error *err)
{
	return trainer_accumulate(t, b, err) && trainer_update(t, loss, err);
}

size_t
trainer_device_bytes(const trainer *t)
{
	return t->cuda ? trainer_cuda_bytes(t->cuda) : 0;
}

int64_t
trainer_steps_done(const trainer *t)
{
	return t->steps;
}

double
trainer_learning_rate(const trainer *t)
{
	return t->learning_rate;
}

double
trainer_gradient_norm(const trainer *t)
{
	return t->gradient_norm;
}

static void
merge(trainer *t)
{
	const float *trained = t->average ? t->average : t->trained;
	size_t own = t->n->weight_floats - t->frozen_floats; /* of the network */

	memcpy(t->merged, t->weights, t->frozen_floats * sizeof(float));
	memcpy(t->merged + t->frozen_floats, trained, own * sizeof(float));
	tuning_merge(t->tuning, trained + own, t->merged, t->run.simd, t->run.pool);
	t->merged_made = true;
	t->changed |= CHANGED_MERGED;
}

bool
trainer_fetch(trainer *t, llm_error *err)
{
	return t->device->fetch(t, err);
}

/* Weights to publish lie where plans read them. */
static bool
publish(trainer *t, llm_error *err)
{
	if (!t->merged || t->merged_made)
		return true;
	if (!trainer_fetch(t, err))
		return false;
	merge(t);
	return true;
}

bool
trainer_predict(trainer *t, const batch *b, float *out, double *loss_sum, double *weight_sum, llm_error *err)
{
	net_plan *p = loss_sum || weight_sum ? &t->score : &t->predict;
	int64_t count = b->rows * t->n->config.shape.outputs;
	double losses = 0, weights = 0;
	const float *output;

	if (!net_predicts_rows(&t->n->config))
		return llm_fail(err, LLM_INVALID, "a language model's outputs are not kept");
	if (!batch_check(b, &t->n->config.shape, t->pass_rows, p == &t->score, err) || !publish(t, err) ||
		!t->device->run(t, p, b, err) || !(output = t->device->result(t, p, p->output, count, err)))
		return false;
	memcpy(out, output, count * sizeof(float));
	if (p == &t->score)
	{
		if (!trainer_add_result(t, p, p->loss, loss_count(b), &losses, err))
			return false;
		add_weights(b, &weights);
	}
	if (loss_sum)
		*loss_sum += losses;
	if (weight_sum)
		*weight_sum += weights;
	return true;
}

bool
trainer_score_tokens(trainer *t, const batch *b, double *loss_sum, double *weight_sum, double *correct,
					 llm_error *err)
{
	const net_plan *p = &t->score;

	if (net_predicts_rows(&t->n->config))
		return llm_fail(err, LLM_INVALID, "the network does not predict tokens");
	if (!check_batch(t, b, err) || !publish(t, err) || !t->device->run(t, &t->score, b, err) ||
		!trainer_add_result(t, p, p->loss, loss_count(b), loss_sum, err))
		return false;
	add_weights(b, weight_sum);
	return trainer_add_result(t, p, p->correct, loss_count(b), correct, err);
}

const float *
trainer_weights(trainer *t)
{
	if (t->merged && !t->merged_made)
		merge(t);
	return published(t);
}

void
trainer_set_weights(trainer *t, const float *weights)
{
	memmove(t->weights, weights, t->n->weight_floats * sizeof(float));
	tuning_clear(t->tuning, t->weights + t->n->weight_floats);
	start_from_weights(t);
}

const net *
trainer_adapters(const trainer *t, const float **data)
{
	const float *trained = t->average ? t->average : t->trained;

	*data = trained + (t->n->weight_floats - t->frozen_floats);
	return tuning_adapters(t->tuning);
}

void
trainer_set_output_bias(trainer *t, const float *bias)
{
	const net_tensor_info *last = &t->n->tensors[t->n->tensor_count - 1]; /* output.bias */

	memcpy(t->weights + last->offset, bias, last->count * sizeof(float));
	if (t->average)
		memcpy(t->average + (last->offset - t->frozen_floats), bias, last->count * sizeof(float));
	t->merged_made = false;
	t->changed |= CHANGED_WEIGHTS;
}

/* ---- checkpoints ---- */

size_t
trainer_state_bytes(const trainer *t)
{
	return sizeof(state_header) + t->parts * t->part_floats * sizeof(float);
}

static state_header
header_of(const trainer *t)
{
	return (state_header) {
		.magic = STATE_MAGIC,
		.parts = t->parts,
		.part_bytes = t->part_floats * sizeof(float),
		.optimizer = t->config.optimizer,
		.average = t->average != NULL,
		.steps = t->steps,
		.learning_rate = t->learning_rate,
		.gradient_norm = t->gradient_norm,
		.frozen = t->frozen,
		.train_layers = t->config.train_layers,
		.lora_rank = t->config.lora_rank,
		.lora_targets = t->config.lora_targets,
		.lora_alpha = t->config.lora_alpha,
	};
}

void
trainer_save(const trainer *t, void *state)
{
	state_header h = header_of(t);

	memcpy(state, &h, sizeof(h));
	memcpy((char *) state + sizeof(h), t->trained, t->parts * t->part_floats * sizeof(float));
}

bool
trainer_restore(trainer *t, const void *state, size_t bytes, llm_error *err)
{
	state_header h, own = header_of(t);

	if (bytes != trainer_state_bytes(t))
		return llm_fail(err, LLM_CORRUPT, "training state has %zu bytes, expected %zu", bytes,
						trainer_state_bytes(t));
	memcpy(&h, state, sizeof(h));
	if (h.magic != own.magic || h.parts != own.parts || h.part_bytes != own.part_bytes ||
		h.optimizer != own.optimizer || h.average != own.average || h.steps < 0 || !isfinite(h.learning_rate) ||
		!isfinite(h.gradient_norm) || h.train_layers != own.train_layers || h.lora_rank != own.lora_rank ||
		h.lora_targets != own.lora_targets || h.lora_alpha != own.lora_alpha)
		return llm_fail(err, LLM_CORRUPT, "training state does not belong to this network and optimizer");
	if (h.frozen != own.frozen)
		return llm_fail(err, LLM_INVALID, "training state was begun on other frozen weights");
	memcpy(t->trained, (const char *) state + sizeof(h), t->parts * t->part_floats * sizeof(float));
	t->merged_made = false;
	t->changed |= CHANGED_STATE;
	t->ahead = false;
	t->open = (open_step) {0};
	t->steps = h.steps;
	t->learning_rate = h.learning_rate;
	t->gradient_norm = h.gradient_norm;
	return true;
}
