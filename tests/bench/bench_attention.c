/*
 * bench_attention.c
 *	  How fast attention and the language loss run on one thread, and which share that is of what
 *	  a large matrix product reaches in the same run.
 *
 * Prints "attention.HEADSxHEAD_DIM.TOKENS.forward GFLOP/S SHARE" and ".backward"; under a causal
 * mask only the pairs that see each other count.  Then "language_loss.VOCABxWIDTH.TOKENS", its
 * gradient included.
 */
#include "../../src/engine/cpu_attention.h"
#include "../../src/engine/plan.h"
#include "bench.h"

#define SIDE 1024

static void
product(void *arg)
{
	float *x = arg;

	gemm(simd_best(), false, true, SIDE, SIDE, SIDE, x, SIDE, x + SIDE * SIDE, SIDE, 0, x + 2 * SIDE * SIDE, SIDE);
}

static double
roof(void)
{
	float *x = calloc(3 * SIDE * SIDE, sizeof(float));
	double time = median_time(1, product, x);

	free(x);
	return 2e-9 * SIDE * SIDE * SIDE / time;
}

typedef struct problem
{
	attention_shape s;
	attention_row r;
} problem;

static void
forward(void *arg)
{
	const problem *p = arg;

	for (int i = 0; i < p->s.heads; i++)
		attention_forward(simd_best(), &p->s, &p->r, i);
}

static void
backward(void *arg)
{
	const problem *p = arg;

	for (int i = 0; i < p->s.kv_heads; i++)
		attention_backward(simd_best(), &p->s, &p->r, i);
}

static void
measure(int heads, int head_dim, int tokens, double top)
{
	int64_t width = heads * head_dim, step = 3 * width;
	float *memory = malloc((tokens * (2 * step + 2 * width + heads)) * sizeof(float)),
		  *gradient = memory + tokens * step;
	problem p = {
		.s = {.heads = heads, .kv_heads = heads, .head_dim = head_dim, .causal = true, .scale = 0.1f},
		.r = {.queries = tokens,
			  .keys = tokens,
			  .q = memory,
			  .k = memory + width,
			  .v = memory + 2 * width,
			  .q_step = step,
			  .kv_step = step,
			  .dq = gradient,
			  .dk = gradient + width,
			  .dv = gradient + 2 * width,
			  .dq_step = step,
			  .dkv_step = step,
			  .out = gradient + tokens * step,
			  .dout = gradient + tokens * (step + width),
			  .log_sum = gradient + tokens * (step + 2 * width)},
	};
	double pairs = 1e-9 * tokens * (tokens + 1) / 2 * width, speed;
	uint32_t bits[4];

	for (int64_t i = 0; i < tokens * (2 * step + 2 * width); i++)
	{
		philox(1, 0, 0, (uint32_t) i, bits);
		memory[i] = 2 * philox_uniform(bits[0]) - 1;
	}
	speed = 4 * pairs / median_time(1, forward, &p);
	printf("attention.%dx%d.%d.forward %.1f %.2f\n", heads, head_dim, tokens, speed, speed / top);
	speed = 10 * pairs / median_time(1, backward, &p);
	printf("attention.%dx%d.%d.backward %.1f %.2f\n", heads, head_dim, tokens, speed, speed / top);
	free(memory);
}

/* ---- language loss ---- */

static void
run_plan(void *arg)
{
	static run_args r;
	llm_error err = {0};
	const graph *g = plan_graph(arg);

	r.simd = simd_best();
	r.rows[AXIS_TOKEN] = g->capacity[AXIS_TOKEN];
	plan_run(arg, &r, &err);
	check(&err);
}

static void
measure_language_loss(int64_t vocab, int64_t width, int64_t tokens, double top)
{
	llm_error err = {0};
	graph *g = graph_new(1, &err);
	int32_t *index = malloc(tokens * sizeof(int32_t)), token, weight_input, target, w, correct;
	float *weight = malloc(tokens * sizeof(float)), *weights = aligned_alloc(64, vocab * width * sizeof(float));
	double time;
	plan *p;
	void *arena;

	g->capacity[AXIS_TOKEN] = tokens;
	for (int64_t i = 0; i < vocab * width; i++)
		weights[i] = 0.01f * (float) (i * 7 % 19 - 9);
	for (int64_t i = 0; i < tokens; i++)
	{
		index[i] = (int32_t) (i * 37 % vocab);
		weight[i] = 1;
	}
	token = graph_input(g, 0, TENSOR_I32, AXIS_TOKEN, 0, 1);
	weight_input = graph_input(g, 1, TENSOR_F32, AXIS_TOKEN, 0, 0);
	target = graph_input(g, 2, TENSOR_I32, AXIS_TOKEN, 0, 0);
	w = graph_param(g, 0, 2, (int64_t[]) {vocab, width});
	op_language_loss(g, op_embed(g, token, w), w, TENSOR_NONE, 0, target, weight_input, true, &correct);
	p = plan_new(g, &backend_cpu, (size_t[]) {0}, &err);
	check(&err);
	arena = backend_cpu.allocate(plan_arena_bytes(p));
	plan_attach(p, arena, weights);
	plan_bind(p, 0, index);
	plan_bind(p, 1, weight);
	plan_bind(p, 2, index);
	run_plan(p);
	time = seconds(1);
	run_plan(p);
	time = seconds(1) - time;
	printf("language_loss.%dx%d.%d %.1f %.2f\n", (int) vocab, (int) width, (int) tokens,
		   6e-9 * tokens * vocab * width / time, 6e-9 * tokens * vocab * width / time / top);
	plan_free(p);
	backend_cpu.release(arena);
	free(weights);
	free(weight);
	free(index);
}

int
main(void)
{
	double top;

	blas_open();
	top = roof();
	printf("product %.1f\n", top);
	measure(12, 64, 64, top);
	measure(12, 64, 256, top);
	measure(12, 64, 1024, top);
	measure(12, 32, 64, top);
	measure_language_loss(50257, 768, 512, top);
	measure_language_loss(100, 128, 4096, top);
	return 0;
}
