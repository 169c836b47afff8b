/*
 * test_transformer_golden.c
 *	  Transformers beside PyTorch: losses of tokens, every gradient, ten steps of AdamW.
 *
 * The files are made by golden/make_transformers.py in double precision.  Ours is float32: sums of
 * up to 64 products have a relative error near 1e-7, its square stays below 1e-12 through two
 * layers, so a normalised mean squared error of 1e-10 means the same formula, and one of 1e-9 for
 * gradients, which pass through twice as many.
 */
#include <stdlib.h>

#include "../../src/engine/transformer.h"
#include "net_check.h"

#define STEPS 10
#define NUMBERS 17

typedef struct golden
{
	int32_t numbers[NUMBERS]; /* see the script */
	net *n;
	batch *b;
	float *weights, *gradients;
	double *losses;
	double steps[STEPS];
} golden;

static void
read_numbers(FILE *f, void *to, size_t size, size_t count)
{
	CHECK(fread(to, size, count, f) == count);
}

/* Tensors in the engine's order, each at its place. */
static void
read_tensors(FILE *f, const net *n, float *to)
{
	memset(to, 0, net_weight_bytes(n));
	for (int32_t i = 0; i < net_tensor_count(n); i++)
		read_numbers(f, to + net_tensor(n, i)->offset, sizeof(float), net_tensor(n, i)->count);
}

static net *
golden_net(const int32_t *k)
{
	static const char *const families[] = {"gpt", "llama", "bert", "t5"};
	net_config c = {
		.shape = {.outputs = 1, .token_target = true, .vocab = k[1], .context = k[2], .source_context = k[13]}};
	llm_error err = {0};
	net *n;

	CHECK(transformer_family(families[k[0]], &c.text));
	c.text.vocab = k[1];
	c.text.context = k[2];
	c.text.width = k[3];
	c.text.depth = k[4];
	c.text.heads = k[5];
	c.text.kv_heads = k[6];
	c.text.head_dim = k[7];
	c.text.ffn = k[8];
	c.text.qkv_bias = k[9];
	c.text.qk_norm = k[10];
	c.text.tied = k[11];
	c.text.encoder_depth = k[12];
	c.text.source_context = k[13];
	c.text.buckets = k[14];
	c.text.distance = k[15];
	if (k[0] == 3 && !c.text.tied) /* T5 1.1 */
	{
		c.text.gated = true;
		c.text.activation = ACT_GELU_TANH;
		c.text.head_scale = false;
	}
	n = net_new(&c, &err);
	CHECK(n != NULL);
	return n;
}

static bool
read_golden(const char *name, golden *g)
{
	llm_error err = {0};
	char path[4096];
	int32_t rows, tokens;
	FILE *f;

	snprintf(path, sizeof(path), "%.*sgolden/%s.bin",
			 (int) (strrchr(__FILE__, '/') ? strrchr(__FILE__, '/') + 1 - __FILE__ : 0), __FILE__, name);
	f = fopen(path, "rb");
	if (!CHECK(f != NULL))
		return false;
	read_numbers(f, g->numbers, 4, NUMBERS);
	rows = g->numbers[NUMBERS - 1];
	g->n = golden_net(g->numbers);
	g->b = batch_new(&net_get_config(g->n)->shape, rows, &err);
	g->b->rows = rows;
	read_numbers(f, g->b->token_start, 4, rows + 1);
	tokens = g->b->token_start[rows];
	read_numbers(f, g->b->token, 4, tokens);
	read_numbers(f, g->b->token_target, 4, tokens);
	read_numbers(f, g->b->token_weight, 4, tokens);
	if (g->numbers[12] > 0)
	{
		read_numbers(f, g->b->source_start, 4, rows + 1);
		read_numbers(f, g->b->source, 4, g->b->source_start[rows]);
	}
	g->losses = malloc(tokens * sizeof(double));
	read_numbers(f, g->losses, 8, tokens);
	g->weights = aligned_alloc(64, net_weight_bytes(g->n));
	g->gradients = aligned_alloc(64, net_weight_bytes(g->n));
	read_tensors(f, g->n, g->weights);
	read_tensors(f, g->n, g->gradients);
	read_numbers(f, g->steps, 8, STEPS);
	CHECK(fgetc(f) == EOF);
	fclose(f);
	return true;
}

static void
free_golden(golden *g)
{
	net_free(g->n);
	batch_free(g->b);
	free(g->weights);
	free(g->gradients);
	free(g->losses);
}

static void
check_tokens(const golden *g, const float *loss)
{
	double error = 0, size = 0;

	for (int32_t i = 0; i < g->b->token_start[g->b->rows]; i++)
	{
		error += pow(loss[i] - g->losses[i], 2);
		size += pow(g->losses[i], 2);
	}
	CHECK(error <= 1e-10 * size);
}

static void
check_tensor(const golden *g, const net_plan *p, const tensor *t)
{
	const net_tensor_info *info = net_tensor(g->n, t->slot);
	const float *gradient = plan_address(p->plan, t->gradient), *expected = g->gradients + info->offset;
	double error = 0, size = 0;

	for (size_t i = 0; CHECK(gradient != NULL) && i < info->count; i++)
	{
		error += pow((double) gradient[i] - expected[i], 2);
		size += pow(expected[i], 2);
	}
	CHECK(error <= 1e-9 * size);
}

/* Losses and gradients of one pass. */
static void
check_pass(const golden *g)
{
	llm_error err = {0};
	run_args run = {.simd = simd_best()};
	const graph *recorded;
	net_plan p;
	void *arena;

	if (!CHECK(net_plan_new(&p, g->n, MODE_TRAIN, g->b->rows, &err)))
		return;
	arena = aligned_alloc(64, plan_arena_bytes(p.plan));
	net_plan_bind(&p, g->b);
	net_rows(g->b, run.rows);
	plan_attach(p.plan, arena, g->weights);
	CHECK(plan_run(p.plan, &run, &err));
	check_tokens(g, plan_address(p.plan, p.loss));
	recorded = plan_graph(p.plan);
	for (int32_t i = 0; i < recorded->tensor_count; i++)
		if (recorded->tensors[i].role == ROLE_PARAM)
			check_tensor(g, &p, &recorded->tensors[i]);
	net_plan_free(&p);
	free(arena);
}

/* Ten steps; AdamW divides by roots of squares, so errors of small gradients grow: 1e-5 of the loss. */
static void
check_steps(const golden *g)
{
	train_config c = {.optimizer = OPT_ADAMW,
					  .learning_rate = 1e-3,
					  .weight_decay = 0.1,
					  .beta1 = 0.9,
					  .beta2 = 0.99,
					  .epsilon = 1e-8,
					  .threads = 1};
	llm_error err = {0};
	trainer *t = trainer_new(g->n, &c, g->b->rows, &err);

	if (!CHECK(t != NULL))
		return;
	trainer_set_weights(t, g->weights);
	for (int i = 0; i < STEPS; i++)
	{
		double loss = NAN;

		CHECK(trainer_step(t, g->b, &loss, &err));
		CHECK(fabs(loss - g->steps[i]) <= 1e-5 * g->steps[i]);
	}
	trainer_free(t);
}

int
main(void)
{
	static const char *const names[] = {"gpt2", "llama", "qwen2", "qwen3", "bert", "t5", "t5_1.1"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		golden g = {{0}};

		if (!read_golden(names[i], &g))
			continue;
		check_pass(&g);
		check_steps(&g);
		free_golden(&g);
	}
	return test_summary();
}
