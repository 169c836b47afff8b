/*
 * op_bench.h
 *	  One graph with random inputs and parameters, planned and run with fewer rows than
 *	  the capacity, for the tests of single operations.
 */
#ifndef LLMAPP_OP_BENCH_H
#define LLMAPP_OP_BENCH_H

#include "../../src/engine/blas.h"
#include "../../src/engine/plan.h"
#include "fixture.h"

#define CAPACITY 40
#define MAX_SLOTS 12

/* One graph with its data: inputs and parameters are random. */
typedef struct bench
{
	graph *g;
	plan *p;
	void *input[MAX_SLOTS];
	float *weights;
	size_t offsets[MAX_SLOTS];
	size_t floats;
	int32_t inputs, params;
	char *arena;
	run_args run;
} bench;

static inline bench
bench_new(void)
{
	llm_error err = {0};

	return (bench) {.g = graph_new(CAPACITY, &err),
					.weights = calloc(1 << 20, sizeof(float)),
					.run = {.seed = 1, .simd = simd_best()}};
}

static inline int32_t
rows_input(bench *b, int64_t columns)
{
	float *x = calloc(CAPACITY * (columns ? columns : 1), sizeof(float));

	for (int64_t i = 0; i < CAPACITY * (columns ? columns : 1); i++)
		x[i] = next_normal();
	b->input[b->inputs] = x;
	return graph_input(b->g, b->inputs++, TENSOR_F32, AXIS_ROW, 0, columns);
}

static inline int32_t
index_input(bench *b, int64_t rows, int64_t columns, int32_t limit)
{
	int64_t count = (rows ? rows : CAPACITY) * (columns ? columns : 1);
	int32_t *x = calloc(count, sizeof(int32_t));

	for (int64_t i = 0; i < count; i++)
		x[i] = next_below(limit);
	b->input[b->inputs] = x;
	return graph_input(b->g, b->inputs++, TENSOR_I32, rows ? AXIS_NONE : AXIS_ROW, rows, columns);
}

static inline int32_t
parameter(bench *b, int64_t rows, int64_t columns)
{
	int64_t count = rows * (columns ? columns : 1);

	b->offsets[b->params] = b->floats;
	for (int64_t i = 0; i < count; i++)
		b->weights[b->floats + i] = next_normal();
	b->floats += (count + 15) / 16 * 16;
	return graph_param(b->g, b->params++, columns ? 2 : 1, (int64_t[]) {rows, columns});
}

/* Plan and run; the arena starts as NaN, so that reading before writing shows. */
static inline bool
bench_run(bench *b, int64_t rows)
{
	llm_error err = {0};

	b->p = plan_new(b->g, &backend_cpu, b->offsets, &err);
	check_no_error(&err);
	if (!b->p)
		return false;
	b->arena = backend_cpu.allocate(plan_arena_bytes(b->p));
	memset(b->arena, 0xff, plan_arena_bytes(b->p));
	plan_attach(b->p, b->arena, b->weights);
	for (int32_t i = 0; i < b->inputs; i++)
		plan_bind(b->p, i, b->input[i]);
	b->run.rows[AXIS_ROW] = rows;
	return CHECK(plan_run(b->p, &b->run, &err));
}

static inline void
bench_free(bench *b)
{
	plan_free(b->p);
	backend_cpu.release(b->arena);
	free(b->weights);
	for (int i = 0; i < b->inputs; i++)
		free(b->input[i]);
}

#define F(b, slot) ((const float *) (b).input[slot])
#define I(b, slot) ((const int32_t *) (b).input[slot])
#define W(b, slot) ((b).weights + (b).offsets[slot])

#endif /* LLMAPP_OP_BENCH_H */
