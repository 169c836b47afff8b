/*
 * accumulate.h
 *	  Gradients of several passes added up for one step of the optimizer.
 *
 * Each pass makes the gradient of its own weighted mean; what is summed is that times the
 * weight of the pass, so the sum over the whole weight is the gradient of the step's mean.
 * Compact gradients stay compact: a table's sum has the rows that any pass used.
 */
#ifndef LLMAPP_ACCUMULATE_H
#define LLMAPP_ACCUMULATE_H

#include "optim.h"

typedef struct accumulator accumulator;

/* The sum of a tensor. */
typedef struct gradient_sum
{
	optim_tensor pass; /* gradient of one */
	float *total;      /* (rows, width), of a compact one (used[0], width) */
	int32_t *used;     /* as in optim_tensor; NULL: not compact */
	int32_t *place;    /* (table_rows): 1 + row of total, 0: none yet */
} gradient_sum;

/* Bytes that accumulator_new() will allocate; addresses in tensors are not read.  False on overflow. */
extern bool accumulator_bytes(const optim_tensor *tensors, int32_t count, int64_t passes, size_t *bytes);
/*
 * Where sums lie in accumulator_bytes() bytes of memory, which may be a device's and is not touched: used[0] and
 * place are to be 0.  tensors are changed as accumulator_new() does.
 */
extern void accumulator_lay_out(gradient_sum *sums, optim_tensor *tensors, int32_t count, int64_t passes,
								void *memory);
/*
 * tensors have the gradients of one pass and are changed to have those of the step.  passes: all
 * together use at most so many times the rows that a compact gradient has room for.
 */
extern accumulator *accumulator_new(optim_tensor *tensors, int32_t count, int64_t passes, llm_error *err);
extern void accumulator_free(accumulator *a);
/* Add the gradients of the pass that was just run; the first one of a step replaces what is there. */
extern void accumulator_add(accumulator *a, float weight, bool first, const simd_kernels *simd, pool *p);

#endif /* LLMAPP_ACCUMULATE_H */
