/*
 * bench_cnn.c
 *	  How fast the default convolutional network trains and predicts on images of 28 x 28.
 *
 * Prints medians of repetitions, and the rate of its matrix products beside that of a large
 * one.  Usage: bench_cnn [threads [batch]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../../src/engine/blas.h"
#include "../../src/engine/net.h"
#include "../../src/engine/philox.h"

#define REPETITIONS 9
#define SECONDS 0.15 /* of one repetition, about */
#define SIDE 28
#define ROOF 512

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return x < y ? -1 : x > y;
}

typedef void (*work)(void *arg);

/* Median seconds of one call. */
static double
median_time(work w, void *arg)
{
	double times[REPETITIONS], start;
	int calls = 0;

	w(arg);
	for (start = seconds(); seconds() - start < SECONDS; calls++)
		w(arg);
	for (int r = 0; r < REPETITIONS; r++)
	{
		start = seconds();
		for (int i = 0; i < calls; i++)
			w(arg);
		times[r] = (seconds() - start) / calls;
	}
	qsort(times, REPETITIONS, sizeof(double), by_value);
	return times[REPETITIONS / 2];
}

typedef struct training
{
	trainer *t;
	batch *b;
} training;

static void
fail(const llm_error *err)
{
	fprintf(stderr, "%s\n", err->message);
	exit(1);
}

static void
train_step(void *arg)
{
	training *a = arg;
	llm_error err = {0};
	double loss;

	if (!trainer_step(a->t, a->b, &loss, &err))
		fail(&err);
}

static void
predict(void *arg)
{
	llm_error err = {0};

	if (!predictor_run(arg, &err))
		fail(&err);
}

static void
square_product(void *arg)
{
	float *x = arg;

	gemm(simd_best(), false, true, ROOF, ROOF, ROOF, x, ROOF, x + ROOF * ROOF, ROOF, 0, x + 2 * ROOF * ROOF, ROOF);
}

static void
fill(batch *b, int64_t rows)
{
	uint32_t bits[4];

	b->rows = rows;
	for (int64_t i = 0; i < rows * b->shape.dense; i++)
	{
		philox(1, 0, 0, (uint32_t) i, bits);
		b->dense[i] = 2 * philox_uniform(bits[0]) - 1;
	}
	for (int64_t i = 0; i < rows; i++)
	{
		b->target_class[i] = i % b->shape.outputs;
		b->weight[i] = 1;
	}
}

static void
report(const char *what, double time, int64_t rows, double multiplications)
{
	printf("%-16s %8.3f ms, %8.0f rows/s, %6.1f GFLOP/s\n", what, time * 1e3, rows / time,
		   2e-9 * multiplications * rows / time);
}

int
main(int argc, char **argv)
{
	static net_config c = {
		.shape = {.dense = SIDE * SIDE, .outputs = 10, .class_target = true},
		.image = {1, SIDE, SIDE},
		.augment = {.shift = 2},
		.dropout = 0.25f,
		.loss = LOSS_CROSS_ENTROPY,
	};
	train_config tc = {.optimizer = OPT_ADAMW,
					   .learning_rate = 1e-3,
					   .beta1 = 0.9,
					   .beta2 = 0.999,
					   .epsilon = 1e-8,
					   .clip_norm = 1,
					   .total_steps = 1000000,
					   .threads = argc > 1 ? atoi(argv[1]) : 2};
	int64_t rows = argc > 2 ? atoi(argv[2]) : 128;
	float *square = calloc(3 * ROOF * ROOF, sizeof(float));
	llm_error err = {0};
	net *n;
	training a;
	predictor *p;

	blas_open();
	net_default_cnn(&c);
	n = net_new(&c, &err);
	a.t = n ? trainer_new(n, &tc, rows, &err) : NULL;
	a.b = batch_new(&c.shape, rows, &err);
	if (!a.t || !a.b)
		fail(&err);
	fill(a.b, rows);
	printf("%s, kernels %s, %d threads, batch %lld, %.2f million multiplications a row\n", blas_name(),
		   simd_best()->name, tc.threads, (long long) rows, net_multiplications(n) / 1e6);
	printf("matrix product on one thread: %.1f GFLOP/s\n",
		   2e-9 * ROOF * ROOF * ROOF / median_time(square_product, square));
	report("training step", median_time(train_step, &a), rows, 3 * net_multiplications(n));
	for (int64_t many = 1; many <= 64; many *= 64)
	{
		p = predictor_new(n, trainer_weights(a.t), many, &err);
		if (!p)
			fail(&err);
		fill(predictor_batch(p), many);
		report(many == 1 ? "predict 1 row" : "predict 64 rows", median_time(predict, p), many,
			   net_multiplications(n));
		predictor_free(p);
	}
	trainer_free(a.t);
	batch_free(a.b);
	net_free(n);
	free(square);
	return 0;
}
