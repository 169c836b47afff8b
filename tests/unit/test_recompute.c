/*
 * test_recompute.c
 *	  Layers that are computed again for the backward pass: gradients, losses and weights to the
 *	  last bit those of a plan that keeps everything, and how much less memory that takes.
 */
#include "net_check.h"

#include "../../src/engine/bf16.h"

#define VOCAB 53
#define CONTEXT 10
#define ROWS 12

static net_config
config_of(const char *family)
{
	net_config c = small_transformer(family, VOCAB, CONTEXT);

	c.text.depth = 3;
	c.text.kv_heads = 2;
	c.text.dropout = 0.2f;
	return c;
}

/* A class by the text and numbers beside it. */
static net_config
reader_config(void)
{
	net_config c = config_of("bert");

	c.shape = (batch_shape) {.dense = 4, .outputs = 3, .class_target = true, .vocab = VOCAB, .context = CONTEXT};
	c.loss = LOSS_CROSS_ENTROPY;
	c.dropout = 0.1f;
	c.text.headless = true;
	return c;
}

/* Pairs of texts. */
static net_config
pairs_config(void)
{
	net_config c = config_of("llama");

	c.shape.token_target = false;
	c.loss = LOSS_CONTRASTIVE;
	c.text.headless = true;
	return c;
}

static batch *
make_batch(const net_config *config)
{
	llm_error err = {0};
	batch *b = batch_new(&config->shape, ROWS, &err);

	check_no_error(&err);
	if (config->shape.token_target)
		fill_tokens(b, ROWS);
	else
		fill_batch(b, ROWS);
	return b;
}

/* ---- gradients ---- */

/* Losses, then gradients of all that is trained; malloc'd. */
static float *
run_plan(const net *n, const train_config *c, bool recompute, const batch *b, const float *w, size_t *count)
{
	llm_error err = {0};
	net_tuning *tuning = tuning_new(n, c, &err);
	run_args run = {.seed = 3, .step = 1, .simd = simd_best()};
	const graph *g;
	net_plan p;
	void *arena;
	float *out;

	CHECK(net_plan_tuned(&p, n, tuning, c->precision, recompute, MODE_TRAIN, ROWS, &err));
	g = plan_graph(p.plan);
	arena = backend_cpu.allocate(plan_arena_bytes(p.plan));
	memset(arena, 0xff, plan_arena_bytes(p.plan)); /* NaN: nothing may be read before it is written */
	plan_attach(p.plan, arena, w);
	net_plan_bind(&p, b);
	net_rows(b, run.rows);
	CHECK(plan_run(p.plan, &run, &err));
	check_no_error(&err);
	out = malloc((ROWS * CONTEXT + tuning_end(tuning)) * sizeof(float));
	*count = b->shape.token_target ? b->token_start[b->rows] : b->rows;
	memcpy(out, plan_address(p.plan, p.loss), *count * sizeof(float));
	for (int32_t i = 0; i < g->tensor_count; i++)
	{
		const tensor *t = &g->tensors[i];
		size_t size = t->dims[0] * tensor_columns(t);

		if (t->role != ROLE_PARAM || t->gradient == TENSOR_NONE)
			continue;
		memcpy(out + *count, plan_address(p.plan, t->gradient), size * sizeof(float));
		*count += size;
	}
	net_plan_free(&p);
	tuning_free(tuning);
	backend_cpu.release(arena);
	return out;
}

static void
check_gradients(const net_config *config, const train_config *c)
{
	llm_error err = {0};
	net *n = net_new(config, &err);
	net_tuning *tuning = n ? tuning_new(n, c, &err) : NULL;
	batch *b = make_batch(config);
	size_t floats, plain_count, count;
	float *w, *plain, *again;

	check_no_error(&err);
	floats = tuning_end(tuning);
	w = aligned_alloc(64, floats * sizeof(float));
	for (size_t i = 0; i < floats; i++)
		w[i] = 0.3f * next_normal();
	plain = run_plan(n, c, false, b, w, &plain_count);
	again = run_plan(n, c, true, b, w, &count);
	CHECK(count > ROWS && plain[0] > 0 && isfinite(plain[count - 1]));
	CHECK_INT(count, plain_count);
	CHECK_BYTES(again, plain, count * sizeof(float));
	tuning_free(tuning);
	batch_free(b);
	net_free(n);
	free(w);
	free(plain);
	free(again);
}

static void
test_gradients(const net_config *config)
{
	for (train_precision precision = PRECISION_F32; precision <= PRECISION_BF16; precision++)
	{
		train_config c = fast_training(1);

		c.precision = precision;
		if (precision == PRECISION_BF16 && !bf16_supported())
			continue;
		check_gradients(config, &c);
		c.train_layers = 2;
		check_gradients(config, &c);
		c.train_layers = 0;
		c.lora_rank = 4;
		c.lora_alpha = 6;
		c.lora_targets = LORA_ALL;
		check_gradients(config, &c);
	}
}

/* ---- training ---- */

/* Steps of b in passes of half of it, into the state behind `from`, which may be NULL; malloc'd. */
static void *
train(const net *n, const train_config *c, const batch *b, const void *from, int steps, double *loss)
{
	llm_error err = {0};
	trainer *t = trainer_new(n, c, 2 * ROWS, &err);
	void *state;

	check_no_error(&err);
	if (from)
		CHECK(trainer_restore(t, from, trainer_state_bytes(t), &err));
	for (int i = 0; i < steps; i++)
		CHECK(trainer_accumulate(t, b, &err) && trainer_accumulate(t, b, &err) && trainer_update(t, loss, &err));
	state = malloc(trainer_state_bytes(t));
	trainer_save(t, state);
	trainer_free(t);
	return state;
}

/* A training that was begun either way goes on the other way, with any number of threads. */
static void
test_training(const net_config *config)
{
	llm_error err = {0};
	net *n = net_new(config, &err);
	batch *b = make_batch(config);
	train_config plain = fast_training(1), again = fast_training(2);
	void *expected, *half, *state;
	double expected_loss, loss;
	trainer *t;

	plain.micro_rows = again.micro_rows = ROWS;
	again.recompute = true;
	expected = train(n, &plain, b, NULL, 6, &expected_loss);
	for (int i = 0; i < 2; i++)
	{
		half = train(n, i ? &again : &plain, b, NULL, 3, &loss);
		state = train(n, i ? &plain : &again, b, half, 3, &loss);
		t = trainer_new(n, &plain, 2 * ROWS, &err);
		CHECK(loss == expected_loss);
		CHECK_BYTES(state, expected, trainer_state_bytes(t));
		trainer_free(t);
		free(half);
		free(state);
	}
	check_no_error(&err);
	free(expected);
	batch_free(b);
	net_free(n);
}

/* ---- memory ---- */

#define DEPTH 12
#define WIDTH 16
#define TOKENS 4096

/* Bytes of the arena beside gradients of parameters. */
static double
activations(const net *n, bool recompute)
{
	llm_error err = {0};
	net_plan p;
	double bytes;

	CHECK(net_plan_tuned(&p, n, NULL, PRECISION_F32, recompute, MODE_TRAIN, 1, &err));
	bytes = (double) plan_arena_bytes(p.plan) - net_weight_bytes(n);
	net_plan_free(&p);
	check_no_error(&err);
	return bytes;
}

/* Of 12 layers, each with 16 times its input, are left the inputs and what one layer needs. */
static void
test_memory(void)
{
	net_config c = small_transformer("gpt", VOCAB, TOKENS);
	double stream = WIDTH * TOKENS * sizeof(float), plain, again;
	llm_error err = {0};
	net *n;

	c.text.width = WIDTH;
	c.text.depth = DEPTH;
	c.text.head_dim = WIDTH / 4;
	c.text.ffn = 4 * WIDTH;
	n = net_new(&c, &err);
	check_no_error(&err);
	plain = activations(n, false);
	again = activations(n, true);
	CHECK(plain > 15 * DEPTH * stream);
	CHECK(again < (DEPTH + 22) * stream);
	CHECK(again < plain / 5);
	net_free(n);
}

int
main(void)
{
	static const char *const families[] = {"gpt", "llama", "bert", "t5"};
	net_config config;

	for (int i = 0; i < 4; i++)
	{
		config = config_of(families[i]);
		config.text.qk_norm = i % 2 == 1;
		test_gradients(&config);
		test_training(&config);
	}
	config = reader_config();
	test_gradients(&config);
	test_training(&config);
	config = pairs_config();
	test_gradients(&config);
	test_memory();
	return test_summary();
}
