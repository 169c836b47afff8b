/*
 * linear.h
 *	  What operations with products over the rows of a batch share.
 */
#ifndef LLMAPP_CUDA_LINEAR_H
#define LLMAPP_CUDA_LINEAR_H

#include "gemm.h"

/* Zeros behind the rows of this run, up to `bucket` rows of n columns, so that products may sum over all. */
extern void clear_tail(launch *l, int axis, int64_t bucket, int64_t n, float *x);
/* y (n) = or += the sums of the columns of x (rows of the axis, n), of all `bucket` rows for AXIS_NONE. */
extern void sum_columns(launch *l, int axis, int64_t bucket, int64_t n, const float *x, int accumulate, float *y);

#endif /* LLMAPP_CUDA_LINEAR_H */
