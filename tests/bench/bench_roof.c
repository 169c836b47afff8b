/*
 * bench_roof.c
 *	  What one core of this machine can do at most, and what the matrix products reach of it.
 *
 * Prints "fma", "blas", "builtin" and, where the CPU has it, "bf16" in GFLOP/s, "read" in GB/s.
 */
#include "bench.h"

#include "../../src/engine/bf16.h"

#define SIDE 512
#define BF16_SIDE 1024
#define FMA_ROUNDS 100000
#define FMA_CHAINS 12 /* more than latency times units of any CPU, fewer than its registers */
#define READ_FLOATS ((int64_t) 64 * 1024 * 1024)

typedef float vector __attribute__((vector_size(32)));

#if defined(__x86_64__)
#define VECTORS __attribute__((target("avx2,fma")))
#else
#define VECTORS
#endif

VECTORS static void
multiply_add(void *arg)
{
	vector a = *(vector *) arg, sum[FMA_CHAINS];

#pragma GCC unroll 12
	for (int k = 0; k < FMA_CHAINS; k++)
		sum[k] = a + (float) k;
	for (int i = 0; i < FMA_ROUNDS; i++)
	{
#pragma GCC unroll 12
		for (int k = 0; k < FMA_CHAINS; k++)
			sum[k] = sum[k] * a + a;
	}
#pragma GCC unroll 12
	for (int k = 0; k < FMA_CHAINS; k++)
		a += sum[k];
	*(vector *) arg = a * 0;
}

static void
product(void *arg)
{
	float *x = arg;

	gemm(simd_best(), false, true, SIDE, SIDE, SIDE, x, SIDE, x + SIDE * SIDE, SIDE, 0, x + 2 * SIDE * SIDE, SIDE);
}

static void
builtin_product(void *arg)
{
	float *x = arg;

	gemm_builtin(simd_best(), false, true, SIDE, SIDE, SIDE, x, SIDE, x + SIDE * SIDE, SIDE, 0, x + 2 * SIDE * SIDE,
				 SIDE);
}

static void
bf16_product(void *arg)
{
	float *x = arg;
	int64_t count = BF16_SIDE * BF16_SIDE;

	gemm_bf16(false, true, BF16_SIDE, BF16_SIDE, BF16_SIDE, x, BF16_SIDE, x + count, BF16_SIDE, 0, x + 2 * count,
			  BF16_SIDE);
}

VECTORS static void
read_all(void *arg)
{
	const vector *x = arg;
	vector sum[4] = {};

	for (int64_t i = 0; i < READ_FLOATS / 8; i += 4)
	{
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++)
			sum[k] += x[i + k];
	}
	*(vector *) arg = (sum[0] + sum[1] + sum[2] + sum[3]) * 0;
}

int
main(void)
{
	static vector a;
	float *x = aligned_alloc(64, READ_FLOATS * sizeof(float));

	blas_open();
	memset(x, 0, READ_FLOATS * sizeof(float));
	printf("fma %.1f\n", 2e-9 * FMA_ROUNDS * FMA_CHAINS * 8 / median_time(1, multiply_add, &a));
	printf("blas %.1f\n", 2e-9 * SIDE * SIDE * SIDE / median_time(1, product, x));
	printf("builtin %.1f\n", 2e-9 * SIDE * SIDE * SIDE / median_time(1, builtin_product, x));
	if (bf16_supported())
		printf("bf16 %.1f\n", 2e-9 * BF16_SIDE * BF16_SIDE * BF16_SIDE / median_time(1, bf16_product, x));
	printf("read %.1f\n", 1e-9 * READ_FLOATS * sizeof(float) / median_time(1, read_all, x));
	free(x);
	return 0;
}
