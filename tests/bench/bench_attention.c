/*
 * bench_attention.c
 *	  How fast attention runs on one thread, and which share that is of what a large matrix
 *	  product reaches in the same run.
 *
 * Prints "attention.HEADSxHEAD_DIM.TOKENS.forward GFLOP/S SHARE" and ".backward"; under a causal
 * mask only the pairs that see each other count.
 */
#include "../../src/engine/cpu_attention.h"
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

	for (int i = 0; i < p->s.kv_heads; i++)
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
	return 0;
}
