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

/* Bytes that accumulator_new() will allocate; addresses in tensors are not read.  False on overflow. */
extern bool accumulator_bytes(const optim_tensor *tensors, int32_t count, int64_t passes, size_t *bytes);
/*
 * tensors have the gradients of one pass and are changed to have those of the step.  passes: all
 * together use at most so many times the rows that a compact gradient has room for.
 */
extern accumulator *accumulator_new(optim_tensor *tensors, int32_t count, int64_t passes, llm_error *err);
extern void accumulator_free(accumulator *a);
/* Add the gradients of the pass that was just run; the first one of a step replaces what is there. */
extern void accumulator_add(accumulator *a, float weight, bool first, const simd_kernels *simd, pool *p);

#endif /* LLMAPP_ACCUMULATE_H */
