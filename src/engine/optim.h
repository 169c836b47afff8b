/*
 * optim.h
 *	  One update of all parameters: gradient norm, clipping, AdamW or SGD.
 *
 * AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.  Work is
 * cut into fixed tiles over all tensors; the norm sums each tile in double, then the
 * tiles in order, so results do not depend on threads.  A tensor with a compact gradient
 * (graph.h) is updated in the rows that the batch used only: its other rows keep weights
 * and moments, and see neither decay nor momentum.
 */
#ifndef LLMAPP_OPTIM_H
#define LLMAPP_OPTIM_H

#include "pool.h"
#include "simd.h"

/* One parameter tensor, `rows` rows of `width`. */
typedef struct optim_tensor
{
	size_t offset; /* floats, into weights and moments */
	int64_t rows, width;
	bool decay;
	const float *gradient; /* (rows, width), or (used[0], width) */
	const int32_t *used;   /* NULL, or used[0] rows used[1..] */
	int64_t table_rows;    /* of a compact gradient: rows of the parameter; otherwise 0 */
} optim_tensor;

typedef struct optim optim;

/* tensors is copied. */
extern optim *optim_new(const optim_tensor *tensors, int32_t count, llm_error *err);
extern void optim_free(optim *o);

/* Global gradient norm. */
extern double optim_norm(optim *o, const simd_kernels *simd, pool *p);

/* moments[0] is AdamW's first moment or SGD's velocity, moments[1] AdamW's second. */
typedef struct optim_update
{
	const train_config *config;
	int64_t step; /* 1 for the first update */
	double learning_rate;
	double gradient_scale;
	float *weights;
	float *moments[2];
} optim_update;

extern void optim_apply(optim *o, const optim_update *u, const simd_kernels *simd, pool *p);

#endif /* LLMAPP_OPTIM_H */
