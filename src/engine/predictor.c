/*
 * predictor.c
 *	  Forward passes on weights that belong to someone else, for up to a fixed number of
 *	  rows at a time, in the calling thread or on a GPU.
 *
 * Everything is allocated by predictor_new(); predictor_run() only checks the batch's
 * indexes and replays the plan, so one row costs the arithmetic plus some tens of
 * nanoseconds.
 */
#include <stdlib.h>
#include <string.h>

#include "blas.h"
#include "cuda_plans.h"

/* From this many rows on products go to OpenBLAS, which is opened only then. */
#define BLAS_ROWS 9
/* Of the smallest program for texts, and for rows of numbers; less does not keep a GPU busy. */
#define LEAST_TOKENS 256
#define LEAST_ROWS 64

struct predictor
{
	batch_shape shape;
	batch *batch;
	net_plan forward;
	void *arena;        /* of the CPU */
	cuda_plans *on_gpu; /* NULL without a device */
	run_args run;
};

static bool
plan_rows(const net *n, int64_t max_rows, net_plan *forward, llm_error *err)
{
	if (!net_predicts_rows(&n->config))
		return llm_fail(err, LLM_INVALID, "a language model predicts no rows");
	return net_plan_new(forward, n, MODE_PREDICT, max_rows, err);
}

bool
predictor_memory(const net *n, int64_t max_rows, size_t *bytes, llm_error *err)
{
	const batch_shape *s = &n->config.shape;
	size_t row =
		sizeof(float) * ((size_t) s->dense + s->embed_columns + 2 * (size_t) s->bag_max + s->outputs + s->context);
	net_plan forward;

	if (!plan_rows(n, max_rows, &forward, err))
		return false;
	*bytes = plan_arena_bytes(forward.plan) + row * max_rows;
	net_plan_free(&forward);
	return true;
}

/* Weights begin the memory of the device. */
static bool
lay_out(const net *n, const net_plan *forward, cuda_layout *at, llm_error *err)
{
	return cuda_lay_out(&forward, 1, net_weight_bytes(n), 0, at, err);
}

bool
predictor_device_memory(const net *n, int64_t max_rows, size_t *bytes, llm_error *err)
{
	net_plan forward;
	cuda_layout at;
	bool ok;

	if (!plan_rows(n, max_rows, &forward, err))
		return false;
	ok = lay_out(n, &forward, &at, err);
	net_plan_free(&forward);
	*bytes = at.device_bytes;
	return ok;
}

static bool
start_cpu(predictor *p, const void *weights, llm_error *err)
{
	p->arena = backend_cpu.allocate(plan_arena_bytes(p->forward.plan));
	if (!p->arena)
		return llm_fail(err, LLM_MEMORY, "out of memory: prediction needs %zu bytes",
						plan_arena_bytes(p->forward.plan));
	if (p->batch->capacity >= BLAS_ROWS)
		blas_open();
	plan_attach(p->forward.plan, p->arena, weights);
	net_plan_bind(&p->forward, p->batch);
	return true;
}

/* The copy of the weights ends before this returns, as the caller's memory may be mapped and go away on failure. */
static bool
start_gpu(predictor *p, const net *n, const void *weights, const cuda_device *device, llm_error *err)
{
	net_plan *plans[] = {&p->forward};
	cuda_layout at;
	float *copy;

	if (!lay_out(n, &p->forward, &at, err) || !(p->on_gpu = cuda_plans_new(device, plans, 1, &at, err)))
		return false;
	copy = cuda_plans_device(p->on_gpu);
	return cuda_copy_to(device, copy, weights, net_weight_bytes(n), err) &&
		   cuda_plans_make(p->on_gpu, 0, copy, p->shape.context > 0 ? LEAST_TOKENS : LEAST_ROWS, err) &&
		   cuda_ok(device, device->api->synchronize(device->context), err);
}

predictor *
predictor_new(const net *n, const void *weights, int64_t max_rows, cuda_device *device, llm_error *err)
{
	predictor *p = calloc(1, sizeof(predictor));

	if (!p)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	p->shape = n->config.shape;
	p->run.simd = simd_best();
	if (plan_rows(n, max_rows, &p->forward, err) && (p->batch = batch_new(&p->shape, max_rows, err)) &&
		(device ? start_gpu(p, n, weights, device, err) : start_cpu(p, weights, err)))
		return p;
	predictor_free(p);
	return NULL;
}

void
predictor_free(predictor *p)
{
	if (!p)
		return;
	cuda_plans_free(p->on_gpu);
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

size_t
predictor_device_bytes(const predictor *p)
{
	return p->on_gpu ? cuda_plans_bytes(p->on_gpu) : 0;
}

static const float *
run_cpu(predictor *p, llm_error *err)
{
	net_rows(p->batch, p->run.rows);
	return plan_run(p->forward.plan, &p->run, err) ? plan_address(p->forward.plan, p->forward.output) : NULL;
}

static const float *
run_gpu(predictor *p, llm_error *err)
{
	int64_t count = p->batch->rows * p->shape.outputs;

	if (!cuda_plans_run(p->on_gpu, 0, p->batch, &p->run, err))
		return NULL;
	return cuda_plans_result(p->on_gpu, 0, p->forward.output, count, err);
}

const float *
predictor_run(predictor *p, llm_error *err)
{
	if (!batch_check(p->batch, &p->shape, p->batch->capacity, false, err))
		return NULL;
	return p->on_gpu ? run_gpu(p, err) : run_cpu(p, err);
}

void
predictor_set_poll(predictor *p, llm_poll poll, void *arg)
{
	p->run.poll = poll;
	p->run.poll_arg = arg;
}
