/*
 * net_check.h
 *	  Checks of whole networks: the gradient of all parameters by one difference, and
 *	  training on the same batches.
 */
#ifndef LLMAPP_NET_CHECK_H
#define LLMAPP_NET_CHECK_H

#include "../../src/engine/net_record.h"
#include "fixture.h"

/* Normalised squared error of logits. */
static inline double
logits_nmse(const float *x, const float *y, int32_t vocab)
{
	double error = 0, size = 0;

	for (int32_t i = 0; i < vocab; i++)
	{
		error += pow((double) x[i] - y[i], 2);
		size += pow(y[i], 2);
	}
	return error / size;
}

/* ---- gradients: <g, delta> against the loss on both sides ---- */

/* Weighted mean loss by the training plan, without an update. */
static inline double
plan_loss(net_plan *p, const run_args *run, const batch *b, llm_error *err)
{
	double sum = 0, weight = 0;
	const float *loss;

	if (!plan_run(p->plan, run, err))
		return NAN;
	loss = plan_address(p->plan, p->loss);
	for (int64_t i = 0; i < b->rows; i++)
	{
		sum += loss[i];
		weight += b->weight[i];
	}
	return sum / weight;
}

/* <gradient, direction> over all parameters. */
static inline double
slope_along(const net *n, const net_plan *p, const float *direction)
{
	const graph *g = plan_graph(p->plan);
	double slope = 0;

	for (int32_t i = 0; i < g->tensor_count; i++)
	{
		const tensor *t = &g->tensors[i];
		const net_tensor_info *info;
		const tensor *d;
		const float *gradient;
		const int32_t *used;

		if (t->role != ROLE_PARAM || !t->needs_gradient)
			continue;
		info = net_tensor(n, t->slot);
		if (!CHECK(t->gradient != TENSOR_NONE))
			continue;
		d = &g->tensors[t->gradient];
		gradient = plan_address(p->plan, t->gradient);
		used = plan_address(p->plan, d->used);
		for (int64_t row = 0; row < (used ? used[0] : d->dims[0]); row++)
			for (int64_t j = 0; j < tensor_columns(d); j++)
				slope += (double) gradient[row * tensor_columns(d) + j] *
						 direction[info->offset + (used ? used[1 + row] : row) * tensor_columns(d) + j];
	}
	return slope;
}

/* Random values for every parameter, so that no gradient is zero by symmetry. */
static inline void
random_weights(const net *n, float *w, float scale)
{
	memset(w, 0, net_weight_bytes(n));
	for (int32_t i = 0; i < net_tensor_count(n); i++)
		for (size_t j = 0; j < net_tensor(n, i)->count; j++)
			w[net_tensor(n, i)->offset + j] = scale * next_normal();
}

static inline void
check_gradient(const net_config *config, int64_t rows)
{
	llm_error err = {0};
	net *n = net_new(config, &err);
	net_plan p;
	run_args run = {.seed = 3, .step = 1, .simd = simd_best()};
	batch *b = batch_new(&config->shape, rows + 3, &err);
	size_t count;
	float *w, *direction, *moved;
	void *arena;
	/* a kink between the two sides spoils the difference, so relu needs them close */
	double step = config->activation == ACT_RELU ? 1e-4 : 2e-3;
	double slope, difference;

	check_no_error(&err);
	if (!n || !b || !net_plan_new(&p, n, MODE_TRAIN, rows + 3, &err))
	{
		check_no_error(&err);
		return;
	}
	count = net_weight_bytes(n) / sizeof(float);
	w = malloc(net_weight_bytes(n));
	direction = malloc(net_weight_bytes(n));
	moved = malloc(net_weight_bytes(n));
	arena = backend_cpu.allocate(plan_arena_bytes(p.plan));
	memset(arena, 0xff, plan_arena_bytes(p.plan)); /* NaN: nothing may be read before it is written */
	fill_batch(b, rows);
	net_rows(b, run.rows);
	random_weights(n, w, 0.3f);
	random_weights(n, direction, 1);
	plan_attach(p.plan, arena, moved);
	net_plan_bind(&p, b);
	memcpy(moved, w, net_weight_bytes(n));
	plan_loss(&p, &run, b, &err);
	slope = slope_along(n, &p, direction);
	difference = 0;
	for (int side = -1; side <= 1; side += 2)
	{
		for (size_t i = 0; i < count; i++)
			moved[i] = w[i] + (float) (side * step) * direction[i];
		difference += side * plan_loss(&p, &run, b, &err) / (2 * step);
	}
	CHECK_NEAR(slope, difference, 4e-3 * (1 + fabs(difference)));
	plan_free(p.plan);
	backend_cpu.release(arena);
	free(w);
	free(direction);
	free(moved);
	batch_free(b);
	net_free(n);
}

static inline trainer *
train_some(const net *n, const train_config *c, batch *const *batches, int from, int to, trainer *t)
{
	llm_error err = {0};
	double loss;

	if (!t)
		t = trainer_new(n, c, 40, &err);
	for (int i = from; t && i < to; i++)
		CHECK(trainer_step(t, batches[i % 4], &loss, &err) && isfinite(loss));
	check_no_error(&err);
	return t;
}

static inline void
make_batches(const net *n, batch **batches)
{
	llm_error err = {0};

	for (int i = 0; i < 4; i++)
	{
		batches[i] = batch_new(&net_get_config(n)->shape, 40, &err);
		fill_batch(batches[i], 40 - 3 * i);
	}
}

static inline void
free_batches(batch **batches)
{
	for (int i = 0; i < 4; i++)
		batch_free(batches[i]);
}

/* An llm_poll that asks to stop after so many calls. */
static int polls_left;

static inline bool
poll_countdown(void *arg)
{
	return --polls_left < 0;
}

/* ---- transformers ---- */

/* A small one of a family, with an encoder where it has relative positions, whose rest of sizes callers set. */
static inline net_config
small_transformer(const char *family, int32_t vocab, int32_t context)
{
	net_config c = {.shape = {.outputs = 1, .token_target = true, .vocab = vocab, .context = context}};

	CHECK(transformer_family(family, &c.text));
	c.text.vocab = vocab;
	c.text.context = context;
	c.text.width = 24;
	c.text.depth = 2;
	c.text.ffn = 40;
	c.text.heads = c.text.kv_heads = 4;
	c.text.head_dim = 6;
	if (c.text.buckets > 0)
	{
		c.text.buckets = 8;
		c.text.distance = 10;
		c.text.encoder_depth = 2;
		c.text.source_context = c.shape.source_context = context + 3;
	}
	return c;
}

/* Layers as Gemma's: every other one has a window; caps and bases are so small that they change much. */
static inline void
use_windows(net_config *c, int32_t window)
{
	c->text.depth = 3;
	c->text.added_norm = true;
	c->text.window = window;
	c->text.window_period = 2;
	c->text.window_theta = 20;
	c->text.query_dim = 3;
	c->text.score_cap = 0.4f;
	c->text.logit_cap = 0.3f;
}

/* Sources of different lengths; each begins with the token that its row begins with. */
static inline void
fill_sources(batch *b)
{
	b->source_start[0] = 0;
	for (int64_t i = 0; i < b->rows; i++)
	{
		int32_t length = 1 + (int32_t) (next_uniform() * b->shape.source_context);
		int32_t first = b->source_start[i];

		for (int32_t k = first; k < first + length; k++)
			b->source[k] = k == first ? b->token[b->token_start[i]] : (int32_t) (next_uniform() * b->shape.vocab);
		b->source_start[i + 1] = first + length;
	}
}

/* Rows of different lengths; tokens follow a rule that can be learned. */
static inline void
fill_tokens(batch *b, int64_t rows)
{
	b->rows = rows;
	b->token_start[0] = 0;
	for (int64_t i = 0; i < rows; i++)
	{
		int32_t length = 1 + (int32_t) (next_uniform() * b->shape.context);
		int32_t first = b->token_start[i];
		int32_t token = (int32_t) (next_uniform() * b->shape.vocab);

		for (int32_t k = first; k < first + length; k++)
		{
			b->token[k] = token;
			token = (token * 7 + 3) % b->shape.vocab;
			b->token_target[k] = token;
			b->token_weight[k] = k % 5 == 4 ? 0 : 1;
		}
		b->token_start[i + 1] = first + length;
	}
	if (b->source)
		fill_sources(b);
}

/* Mean loss by the training plan, without an update. */
static inline double
token_loss(net_plan *p, const run_args *run, const batch *b, llm_error *err)
{
	double sum = 0, weight = 0;
	const float *loss;

	if (!plan_run(p->plan, run, err))
		return NAN;
	loss = plan_address(p->plan, p->loss);
	for (int64_t i = 0; i < b->token_start[b->rows]; i++)
	{
		sum += loss[i];
		weight += b->token_weight[i];
	}
	return sum / weight;
}

/*
 * The derivative of that loss at w along a direction, by central differences of fourth order:
 * 8 (f(1) - f(-1)) - (f(2) - f(-2)) over 12 steps.  moved is scratch of the same size.
 */
static inline double
token_loss_difference(net_plan *p, const run_args *run, const batch *b, void *arena, const float *w,
					  const float *direction, float *moved, size_t floats, double step)
{
	static const double factor[5] = {1, -8, 0, 8, -1};
	llm_error err = {0};
	double difference = 0;

	for (int k = -2; k <= 2; k++)
	{
		for (size_t i = 0; i < floats; i++)
			moved[i] = w[i] + (float) (k * step) * direction[i];
		plan_attach(p->plan, arena, moved);
		difference += factor[k + 2] * token_loss(p, run, b, &err) / (12 * step);
	}
	return difference;
}

/* A network whose outputs are no rows' is refused where rows are predicted. */
static inline void
check_predicts_no_rows(const net *n, trainer *t, const batch *b)
{
	llm_error err = {0};

	CHECK(!trainer_predict(t, b, NULL, NULL, NULL, &err) && err.code == LLM_INVALID);
	err.code = LLM_OK;
	CHECK(predictor_new(n, trainer_weights(t), 1, NULL, &err) == NULL && err.code == LLM_INVALID);
}

static inline train_config
fast_training(int32_t threads)
{
	return (train_config) {.optimizer = OPT_ADAMW,
						   .learning_rate = 0.01,
						   .weight_decay = 0.01,
						   .beta1 = 0.9,
						   .beta2 = 0.99,
						   .epsilon = 1e-8,
						   .clip_norm = 1,
						   .seed = 5,
						   .threads = threads};
}

/* ---- parts of a batch ---- */

/* Starts of rows from `begin` on, as many as `to` has; returns where the first of them starts. */
static inline int32_t
copy_starts(int32_t *to, const int32_t *from, int64_t begin, int64_t rows)
{
	for (int64_t i = 0; i <= rows; i++)
		to[i] = from[begin + i] - from[begin];
	return from[begin];
}

static inline void
copy_tokens(batch *to, const batch *from, int64_t begin)
{
	int32_t first = copy_starts(to->token_start, from->token_start, begin, to->rows);
	int32_t count = to->token_start[to->rows];

	memcpy(to->token, from->token + first, count * sizeof(int32_t));
	if (from->shape.token_target)
	{
		memcpy(to->token_target, from->token_target + first, count * sizeof(int32_t));
		memcpy(to->token_weight, from->token_weight + first, count * sizeof(float));
	}
	if (from->source)
	{
		first = copy_starts(to->source_start, from->source_start, begin, to->rows);
		memcpy(to->source, from->source + first, to->source_start[to->rows] * sizeof(int32_t));
	}
}

/* Rows from `begin` on, at most so many. */
static inline void
copy_rows(batch *to, const batch *from, int64_t begin, int64_t most)
{
	const batch_shape *s = &from->shape;
	int32_t first;

	to->rows = from->rows - begin < most ? from->rows - begin : most;
	if (s->vocab > 0)
		copy_tokens(to, from, begin);
	if (s->token_target)
		return;
	memcpy(to->dense, from->dense + begin * s->dense, to->rows * s->dense * sizeof(float));
	memcpy(to->embed, from->embed + begin * s->embed_columns, to->rows * s->embed_columns * sizeof(int32_t));
	first = copy_starts(to->bag_start, from->bag_start, begin, to->rows);
	memcpy(to->bag_index, from->bag_index + first, to->bag_start[to->rows] * sizeof(int32_t));
	memcpy(to->bag_value, from->bag_value + first, to->bag_start[to->rows] * sizeof(float));
	if (s->class_target)
		memcpy(to->target_class, from->target_class + begin, to->rows * sizeof(int32_t));
	else
		memcpy(to->target_number, from->target_number + begin * s->outputs, to->rows * s->outputs * sizeof(float));
	memcpy(to->weight, from->weight + begin, to->rows * sizeof(float));
}

#endif /* LLMAPP_NET_CHECK_H */
