/*
 * bench.h
 *	  What the programs of this folder share: clocks and medians.
 *
 * On one thread the time of a piece of work is the processor's, so that other processes of a
 * shared machine count little; on several it is the wall clock's.
 */
#ifndef LLMAPP_BENCH_H
#define LLMAPP_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../src/engine/blas.h"
#include "../../src/engine/net.h"
#include "../../src/engine/philox.h"

#define REPETITIONS 9
#define SECONDS 0.1 /* of one repetition, about */
#define LONG 1.0    /* seconds from which on three repetitions do */

typedef void (*work)(void *arg);

static inline double
seconds(int threads)
{
	struct timespec t;

	clock_gettime(threads > 1 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static inline int
by_value(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return x < y ? -1 : x > y;
}

/* Median seconds of one call. */
static inline double
median_time(int threads, work w, void *arg)
{
	double times[REPETITIONS], start;
	int calls = 0, repetitions;

	w(arg);
	for (start = seconds(threads); seconds(threads) - start < SECONDS; calls++)
		w(arg);
	repetitions = seconds(threads) - start < LONG ? REPETITIONS : 3;
	for (int r = 0; r < repetitions; r++)
	{
		start = seconds(threads);
		for (int i = 0; i < calls; i++)
			w(arg);
		times[r] = (seconds(threads) - start) / calls;
	}
	qsort(times, repetitions, sizeof(double), by_value);
	return times[repetitions / 2];
}

static inline void
check(const llm_error *err)
{
	if (err->code == LLM_OK)
		return;
	fprintf(stderr, "%s\n", err->message);
	exit(1);
}

/* Random inputs, alternating targets. */
static inline void
fill(batch *b, int64_t rows)
{
	const batch_shape *s = &b->shape;
	uint32_t bits[4];

	b->rows = rows;
	for (int64_t i = 0; i < rows * s->dense; i++)
	{
		philox(1, 0, 0, (uint32_t) i, bits);
		b->dense[i] = 2 * philox_uniform(bits[0]) - 1;
	}
	for (int64_t i = 0; i < rows; i++)
	{
		for (int j = 0; j < s->bag_max; j++)
		{
			philox(1, 0, 1, (uint32_t) (i * s->bag_max + j), bits);
			b->bag_index[i * s->bag_max + j] = (int32_t) (bits[0] % s->bag_rows);
			b->bag_value[i * s->bag_max + j] = 1;
		}
		if (s->bag_max > 0)
			b->bag_start[i + 1] = (int32_t) ((i + 1) * s->bag_max);
		b->target_class[i] = i % (s->outputs > 1 ? s->outputs : 2);
		b->weight[i] = 1;
	}
}

typedef struct training
{
	trainer *t;
	batch *b;
} training;

static inline void
train_step(void *arg)
{
	training *a = arg;
	llm_error err = {0};
	double loss;

	trainer_step(a->t, a->b, &loss, &err);
	check(&err);
}

/* Seconds of one step of training with AdamW. */
static inline double
step_time(const net *n, int64_t rows, int threads)
{
	train_config c = {.optimizer = OPT_ADAMW,
					  .learning_rate = 1e-3,
					  .beta1 = 0.9,
					  .beta2 = 0.999,
					  .epsilon = 1e-8,
					  .clip_norm = 1,
					  .total_steps = 1000000,
					  .threads = threads};
	llm_error err = {0};
	training a = {trainer_new(n, &c, rows, &err), batch_new(&net_get_config(n)->shape, rows, &err)};
	double time;

	check(&err);
	fill(a.b, rows);
	time = median_time(threads, train_step, &a);
	trainer_free(a.t);
	batch_free(a.b);
	return time;
}

static inline void
predict(void *arg)
{
	llm_error err = {0};

	predictor_run(arg, &err);
	check(&err);
}

/* Seconds of a prediction of so many rows, on one thread. */
static inline double
predict_time(const net *n, int64_t rows)
{
	float *w = aligned_alloc(64, net_weight_bytes(n));
	llm_error err = {0};
	predictor *p;
	double time;

	for (size_t i = 0; i < net_weight_bytes(n) / sizeof(float); i++)
		w[i] = 0.01f * (float) (i % 17);
	p = predictor_new(n, w, rows, NULL, &err);
	check(&err);
	fill(predictor_batch(p), rows);
	time = median_time(1, predict, p);
	predictor_free(p);
	free(w);
	return time;
}

#endif /* LLMAPP_BENCH_H */
