/*
 * bench_mlp.c
 *	  How fast an MLP predicts and trains, beside the speed of the matrix product itself.
 *
 * Prints medians of interleaved repetitions.  Usage: bench_mlp [threads]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../src/engine/blas.h"
#include "../../src/engine/net.h"
#include "../../src/engine/philox.h"

#define REPETITIONS 5
#define STEPS 20

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return x < y ? -1 : x > y;
}

static double
median(double *x)
{
	qsort(x, REPETITIONS, sizeof(double), by_value);
	return x[REPETITIONS / 2];
}

static net *
make_net(int dense, int bag_rows, int bag_max, const int *hidden, int hidden_count, net_activation act)
{
	net_config c = {
		.shape = {.dense = dense, .bag_rows = bag_rows, .bag_max = bag_max, .outputs = 1, .class_target = true},
		.hidden_count = hidden_count,
		.activation = act,
		.loss = LOSS_BINARY,
	};
	llm_error err = {0};
	net *n;

	for (int i = 0; i < hidden_count; i++)
		c.hidden[i] = hidden[i];
	n = net_new(&c, &err);
	if (!n)
		fprintf(stderr, "%s\n", err.message);
	return n;
}

static void
fill(batch *b, int64_t rows)
{
	const batch_shape *s = &b->shape;
	uint32_t bits[4];

	b->rows = rows;
	for (int64_t i = 0; i < rows * s->dense; i++)
	{
		philox(1, 0, 0, (uint32_t) i, bits);
		b->dense[i] = philox_uniform(bits[0]) - 0.5f;
	}
	for (int64_t i = 0; i < rows; i++)
	{
		for (int j = 0; j < s->bag_max; j++)
		{
			philox(1, 0, 1, (uint32_t) (i * s->bag_max + j), bits);
			b->bag_index[i * s->bag_max + j] = (int32_t) (bits[0] % s->bag_rows);
			b->bag_value[i * s->bag_max + j] = 1;
		}
		b->bag_start[i + 1] = (int32_t) ((i + 1) * s->bag_max);
		b->target_class[i] = i & 1;
		b->weight[i] = 1;
	}
}

/* Nanoseconds per row. */
static double
time_predict(const net *n, int64_t rows)
{
	llm_error err = {0};
	float *w = aligned_alloc(64, net_weight_bytes(n));
	predictor *p;
	double times[REPETITIONS];
	int64_t runs = 4000 / rows;

	for (size_t i = 0; i < net_weight_bytes(n) / 4; i++)
		w[i] = 0.01f * (float) (i % 17);
	p = predictor_new(n, w, rows, &err);
	fill(predictor_batch(p), rows);
	for (int r = 0; r < REPETITIONS; r++)
	{
		double start = seconds();

		for (int64_t i = 0; i < runs; i++)
			predictor_run(p, &err);
		times[r] = (seconds() - start) / (runs * rows) * 1e9;
	}
	predictor_free(p);
	free(w);
	return median(times);
}

/* Rows per second of training at this batch size. */
static double
time_train(const net *n, int64_t rows, int threads)
{
	llm_error err = {0};
	train_config c = {.optimizer = OPT_ADAMW,
					  .learning_rate = 1e-3,
					  .beta1 = 0.9,
					  .beta2 = 0.999,
					  .epsilon = 1e-8,
					  .clip_norm = 1,
					  .total_steps = 1000000,
					  .threads = threads};
	trainer *t = trainer_new(n, &c, rows, &err);
	batch *b = batch_new(&net_get_config(n)->shape, rows, &err);
	double times[REPETITIONS], loss;

	fill(b, rows);
	for (int r = 0; r < REPETITIONS; r++)
	{
		double start = seconds();

		for (int i = 0; i < STEPS; i++)
			trainer_step(t, b, &loss, &err);
		times[r] = STEPS * rows / (seconds() - start);
	}
	if (err.code)
		fprintf(stderr, "%s\n", err.message);
	trainer_free(t);
	batch_free(b);
	return median(times);
}

/* Multiply-adds per row of the matrix products, twice. */
static double
flop_per_row(const net *n)
{
	double flop = 0;

	for (int32_t i = 0; i < net_tensor_count(n); i++)
		if (net_tensor(n, i)->ndim == 2 && !strstr(net_tensor(n, i)->name, ".bag"))
			flop += 2.0 * net_tensor(n, i)->count;
	return flop;
}

/* GFLOP/s of one thread on a large square product. */
static double
roof(bool builtin)
{
	enum
	{
		N = 512
	};
	float *x = calloc(3 * N * N, sizeof(float));
	double times[REPETITIONS];

	for (int r = 0; r < REPETITIONS; r++)
	{
		double start = seconds();

		(builtin ? gemm_builtin : gemm)(simd_best(), false, true, N, N, N, x, N, x + N * N, N, 0, x + 2 * N * N, N);
		times[r] = 2.0 * N * N * N / (seconds() - start) * 1e-9;
	}
	free(x);
	return median(times);
}

static void
report(const char *name, const net *n, int threads)
{
	double one = time_predict(n, 1), many = time_predict(n, 256), train = time_train(n, 256, threads);

	printf(
		"%-28s predict 1 row %7.0f ns, 256 rows %7.0f ns/row (%5.1f GFLOP/s), train %9.0f rows/s (%5.1f GFLOP/s)\n",
		name, one, many, flop_per_row(n) / many, train, 3e-9 * flop_per_row(n) * train);
}

int
main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 2;
	net *small = make_net(32, 0, 0, (int[]) {128, 64}, 2, ACT_RELU);
	net *gelu = make_net(32, 0, 0, (int[]) {128, 64}, 2, ACT_GELU);
	net *wide = make_net(256, 0, 0, (int[]) {512, 256}, 2, ACT_RELU);
	net *adult = make_net(6, 102, 8, (int[]) {128, 64}, 2, ACT_RELU);
	net *text = make_net(0, 65536, 100, (int[]) {128}, 1, ACT_RELU);

	blas_open();
	printf("%s, kernels %s, %d threads\n", blas_name(), simd_best()->name, threads);
	printf("matrix product on one thread: %.1f GFLOP/s, built-in %.1f GFLOP/s\n", roof(false), roof(true));
	report("32-128-64-1 relu", small, threads);
	report("32-128-64-1 gelu", gelu, threads);
	report("256-512-256-1 relu", wide, threads);
	report("6+8 of 102-128-64-1 relu", adult, threads);
	report("100 of 65536-128-1 relu", text, threads);
	net_free(small);
	net_free(gelu);
	net_free(wide);
	net_free(adult);
	net_free(text);
	return 0;
}
