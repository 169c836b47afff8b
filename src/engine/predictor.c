/*
 * predictor.c
 *	  Forward passes on weights that belong to someone else, for up to a fixed number of
 *	  rows at a time, in the calling thread.
 *
 * Everything is allocated by predictor_new(); predictor_run() only checks the batch's
 * indexes and replays the plan, so one row costs the arithmetic plus some tens of
 * nanoseconds.
 */
#include <stdlib.h>
#include <string.h>

#include "blas.h"
#include "net_record.h"

/* From this many rows on products go to OpenBLAS, which is opened only then. */
#define BLAS_ROWS 9

struct predictor
{
	batch_shape shape;
	batch *batch;
	net_plan forward;
	void *arena;
	const float *output; /* (rows, outputs), in the arena */
	run_args run;
};

bool
predictor_memory(const net *n, int64_t max_rows, size_t *bytes, llm_error *err)
{
	const batch_shape *s = &n->config.shape;
	size_t row =
		sizeof(float) * ((size_t) s->dense + s->embed_columns + 2 * (size_t) s->bag_max + s->outputs + s->context);
	net_plan forward;

	if (!net_predicts_rows(&n->config))
		return llm_fail(err, LLM_INVALID, "a language model predicts no rows");
	if (!net_plan_new(&forward, n, MODE_PREDICT, max_rows, err))
		return false;
	*bytes = plan_arena_bytes(forward.plan) + row * max_rows;
	net_plan_free(&forward);
	return true;
}

predictor *
predictor_new(const net *n, const void *weights, int64_t max_rows, llm_error *err)
{
	predictor *p;

	if (!net_predicts_rows(&n->config))
	{
		llm_fail(err, LLM_INVALID, "a language model predicts no rows");
		return NULL;
	}
	p = calloc(1, sizeof(predictor));
	if (!p)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	p->shape = n->config.shape;
	p->run.simd = simd_best();
	p->batch = batch_new(&p->shape, max_rows, err);
	if (!p->batch || !net_plan_new(&p->forward, n, MODE_PREDICT, max_rows, err))
	{
		predictor_free(p);
		return NULL;
	}
	p->arena = backend_cpu.allocate(plan_arena_bytes(p->forward.plan));
	if (!p->arena)
	{
		llm_fail(err, LLM_MEMORY, "out of memory: prediction needs %zu bytes", plan_arena_bytes(p->forward.plan));
		predictor_free(p);
		return NULL;
	}
	if (max_rows >= BLAS_ROWS)
		blas_open();
	plan_attach(p->forward.plan, p->arena, weights);
	net_plan_bind(&p->forward, p->batch);
	p->output = plan_address(p->forward.plan, p->forward.output);
	return p;
}

void
predictor_free(predictor *p)
{
	if (!p)
		return;
	batch_free(p->batch);
	net_plan_free(&p->forward);
	backend_cpu.release(p->arena);
	free(p);
}

batch *
predictor_batch(predictor *p)
{
	return p->batch;
}

const float *
predictor_run(predictor *p, llm_error *err)
{
	if (!batch_check(p->batch, &p->shape, p->batch->capacity, false, err))
		return NULL;
	net_rows(p->batch, p->run.rows);
	return plan_run(p->forward.plan, &p->run, err) ? p->output : NULL;
}

void
predictor_set_poll(predictor *p, llm_poll poll, void *arg)
{
	p->run.poll = poll;
	p->run.poll_arg = arg;
}
