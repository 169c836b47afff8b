/*
 * program.cu
 *	  Steps made ready to run: checked, measured, captured as one CUDA graph.
 *
 * Kernels read rows, seed and step from the batch in the program's device memory, which one small
 * kernel writes before the graph runs; so the graph is the same for every batch.
 */
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "device.h"

struct llmapp_cuda_program
{
	llmapp_cuda_context *context;
	int32_t count;
	llmapp_cuda_step *steps;
	launch l;
	llmapp_cuda_batch *batch; /* device memory; scratch follows */
	size_t bytes;
	cudaGraphExec_t graph;
};

typedef struct op_entry
{
	const char *name;
	void (*launch)(launch *l, const llmapp_cuda_step *s);
} op_entry;

static const op_entry ops[] = {
#define OP(name, inplace, shape, gradient) {#name, launch_##name},
#include "../src/engine/ops.def"
#undef OP
#define STEP(name) {#name, launch_##name},
#include "serving.def"
#undef STEP
};

#define OP_COUNT ((int) (sizeof(ops) / sizeof(*ops)))
#define BATCH_BYTES 256

int
op_number(const char *name)
{
	for (int i = 0; i < OP_COUNT; i++)
		if (strcmp(ops[i].name, name) == 0)
			return i;
	return -1;
}

void
launch_allow_shared(launch *l, const void *kernel, size_t bytes)
{
	cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int) bytes);

	if (l->error == cudaSuccess)
		l->error = error;
}

static __global__ void
set_batch(llmapp_cuda_batch *to, llmapp_cuda_batch batch)
{
	if (threadIdx.x == 0)
		*to = batch;
}

/* ---- checks ---- */

static bool
tensor_fits(const llmapp_cuda_tensor *t, const int64_t *bucket)
{
	if (!t->data)
		return true;
	if (t->axis < 0 || t->axis >= LLMAPP_CUDA_AXES || t->ndim < 1 || t->ndim > 4)
		return false;
	for (int32_t i = 0; i < t->ndim; i++)
		if (t->dims[i] < 1)
			return false;
	return t->axis == AXIS_NONE || (bucket[t->axis] >= 1 && bucket[t->axis] <= t->dims[0]);
}

static bool
step_fits(const llmapp_cuda_step *s, const int64_t *bucket)
{
	if (s->op < 0 || s->op >= OP_COUNT || s->axis < 0 || s->axis >= LLMAPP_CUDA_AXES)
		return false;
	for (int i = 0; i < LLMAPP_CUDA_INPUTS; i++)
		if (!tensor_fits(&s->in[i], bucket))
			return false;
	for (int i = 0; i < LLMAPP_CUDA_OUTPUTS; i++)
		if (!tensor_fits(&s->out[i], bucket))
			return false;
	return true;
}

/* ---- making ---- */

static void
enqueue_steps(llmapp_cuda_program *p)
{
	gemm_set_restart(p->l.gemms);
	for (int32_t i = 0; i < p->count && p->l.error == cudaSuccess && !p->l.what; i++)
	{
		p->l.scratch_used = 0;
		ops[p->steps[i].op].launch(&p->l, &p->steps[i]);
	}
}

static int
launch_result(llmapp_cuda_program *p)
{
	if (p->l.what)
		return context_fail(p->context, LLMAPP_CUDA_FAILED, p->l.what);
	return context_check(p->context, p->l.error);
}

/* Scratch is the program's own, as graphs of one context may be in flight one after the other. */
static int
measure(llmapp_cuda_program *p)
{
	void *memory;
	int code;

	p->l.measure = true;
	p->l.gemms = gemm_set_new(p->context->gemms);
	if (!p->l.gemms)
		return context_fail(p->context, LLMAPP_CUDA_MEMORY, "out of memory");
	enqueue_steps(p);
	p->l.measure = false;
	code = launch_result(p);
	p->bytes = BATCH_BYTES + p->l.scratch_bytes;
	if (code == LLMAPP_CUDA_OK)
		code = context_allocate(p->context, p->bytes, &memory);
	if (code != LLMAPP_CUDA_OK)
		return code;
	p->batch = (llmapp_cuda_batch *) memory;
	p->l.batch = p->batch;
	p->l.scratch = (char *) memory + BATCH_BYTES;
	return code;
}

static int
capture(llmapp_cuda_program *p)
{
	cudaGraph_t graph = NULL;
	int code = context_check(p->context, cudaStreamBeginCapture(p->l.stream, cudaStreamCaptureModeThreadLocal));
	cudaError_t error;

	if (code != LLMAPP_CUDA_OK)
		return code;
	enqueue_steps(p);
	error = cudaStreamEndCapture(p->l.stream, &graph);
	code = launch_result(p);
	if (code == LLMAPP_CUDA_OK)
		code = context_check(p->context, error);
	if (code == LLMAPP_CUDA_OK)
		code = context_check(p->context, cudaGraphInstantiate(&p->graph, graph, 0));
	if (graph)
		cudaGraphDestroy(graph);
	return code;
}

int
program_new(llmapp_cuda_context *c, const llmapp_cuda_step *steps, int32_t count,
			const int64_t bucket[LLMAPP_CUDA_AXES], llmapp_cuda_program **result)
{
	llmapp_cuda_program *p;
	int code = context_enter(c);

	*result = NULL;
	if (code != LLMAPP_CUDA_OK)
		return code;
	for (int32_t i = 0; i < count; i++)
		if (!step_fits(&steps[i], bucket))
			return context_fail(c, LLMAPP_CUDA_INVALID, "a step has an impossible shape");
	p = (llmapp_cuda_program *) calloc(1, sizeof(llmapp_cuda_program));
	if (p)
		p->steps = (llmapp_cuda_step *) malloc((count + 1) * sizeof(llmapp_cuda_step));
	if (!p || !p->steps)
	{
		free(p);
		return context_fail(c, LLMAPP_CUDA_MEMORY, "out of memory");
	}
	memcpy(p->steps, steps, count * sizeof(llmapp_cuda_step));
	memcpy(p->l.bucket, bucket, sizeof(p->l.bucket));
	p->context = c;
	p->count = count;
	p->l.stream = c->stream;
	code = measure(p);
	if (code == LLMAPP_CUDA_OK)
		code = capture(p);
	if (code == LLMAPP_CUDA_OK)
		*result = p;
	else
		program_free(p);
	return code;
}

void
program_free(llmapp_cuda_program *p)
{
	if (!p)
		return;
	if (context_enter(p->context) == LLMAPP_CUDA_OK)
	{
		cudaStreamSynchronize(p->context->stream);
		if (p->graph)
			cudaGraphExecDestroy(p->graph);
		cudaFree(p->batch);
	}
	gemm_set_free(p->l.gemms);
	free(p->steps);
	free(p);
}

size_t
program_bytes(const llmapp_cuda_program *p)
{
	return p->bytes;
}

int
program_run(llmapp_cuda_program *p, const llmapp_cuda_batch *batch)
{
	int code = context_enter(p->context);

	if (code != LLMAPP_CUDA_OK)
		return code;
	for (int i = AXIS_NONE; i < LLMAPP_CUDA_AXES; i++)
		if (batch->rows[i] < 0 || batch->rows[i] > p->l.bucket[i])
			return context_fail(p->context, LLMAPP_CUDA_INVALID, "a batch has more rows than its program");
	LAUNCH(&p->l, set_batch, 1, WARP, 0, p->batch, *batch);
	if (p->l.error == cudaSuccess)
		p->l.error = cudaGraphLaunch(p->graph, p->l.stream);
	code = launch_result(p);
	p->l.error = cudaSuccess;
	return code;
}
