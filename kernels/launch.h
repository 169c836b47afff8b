/*
 * launch.h
 *	  The host's side of operations: what a launcher is given, and the helpers it is written with.
 *
 * An operation of ops.def or serving.def is one function launch_NAME(l, s) that enqueues its kernels.  It is called
 * twice: first to measure, when a program is made, where launches do nothing, scratch is only added
 * up and matrix products choose their algorithms; then to enqueue, in the same order.  So it must
 * depend on l and s alone, and neither allocates nor waits.
 */
#ifndef LLMAPP_CUDA_LAUNCH_H
#define LLMAPP_CUDA_LAUNCH_H

#include <cuda_runtime.h>

#include "../src/engine/philox.h"
#include "llmapp_cuda.h"

enum
{
	AXIS_NONE,
	AXIS_ROW,
	AXIS_TOKEN,
	AXIS_SOURCE
};

struct gemm_set;

typedef struct launch
{
	cudaStream_t stream;
	const llmapp_cuda_batch *batch; /* device memory */
	int64_t bucket[LLMAPP_CUDA_AXES];
	bool measure;
	size_t scratch_used, scratch_bytes; /* of this step; the most of any */
	char *scratch;
	struct gemm_set *gemms;
	cudaError_t error; /* the first */
	const char *what;  /* or a reason that is none of CUDA's */
} launch;

/* Step s alone may use it. */
template <typename T>
static inline T *
launch_scratch(launch *l, int64_t count)
{
	size_t at = l->scratch_used;

	l->scratch_used += (count * sizeof(T) + 255) / 256 * 256;
	if (l->scratch_used > l->scratch_bytes && l->measure)
		l->scratch_bytes = l->scratch_used;
	return reinterpret_cast<T *>(l->scratch + at);
}

/* Allow a kernel more dynamic shared memory than it gets unasked. */
extern void launch_allow_shared(launch *l, const void *kernel, size_t bytes);

#define SHARED_UNASKED 49152

static inline bool
launch_begins(launch *l, const void *kernel, int64_t grid, size_t shared_bytes)
{
	if (l->measure && shared_bytes > SHARED_UNASKED)
		launch_allow_shared(l, kernel, shared_bytes);
	return !l->measure && grid > 0 && l->error == cudaSuccess;
}

static inline void
launch_ends(launch *l)
{
	cudaError_t error = cudaGetLastError();

	if (l->error == cudaSuccess)
		l->error = error;
}

static inline int64_t
columns_of(const llmapp_cuda_tensor *t)
{
	int64_t n = 1;

	for (int32_t i = 1; i < t->ndim; i++)
		n *= t->dims[i];
	return n;
}

static inline int64_t
elements_of(const llmapp_cuda_tensor *t)
{
	return columns_of(t) * t->dims[0];
}

/* Rows of a tensor that launches cover. */
static inline int64_t
bucket_of(const launch *l, const llmapp_cuda_tensor *t)
{
	return t->axis == AXIS_NONE ? t->dims[0] : l->bucket[t->axis];
}

#define FLOATS(t) ((float *) (t).data)
#define INTS(t) ((int32_t *) (t).data)

#define OP(name, inplace, shape, gradient) extern void launch_##name(launch *l, const llmapp_cuda_step *s);
#include "../src/engine/ops.def"
#undef OP
#define STEP(name) extern void launch_##name(launch *l, const llmapp_cuda_step *s);
#include "serving.def"
#undef STEP

#endif /* LLMAPP_CUDA_LAUNCH_H */
