/*
 * simd.h
 *	  Vector kernels on rows of float32, one set per instruction set.
 *
 * simd_impl.h is compiled once for each of portable (4 lanes), AVX2 + FMA (8) and AVX-512
 * (16); simd_best() picks the widest that this CPU runs.  A kernel computes one row or
 * one run of elements and never splits work between threads, so its result depends on
 * its arguments only.  Buffers may be unaligned; input and output may be the same
 * buffer where they are the same length, and may not overlap otherwise.
 *
 * Errors of the approximations (measured against libm in double, tests/unit/test_simd.c):
 * exp, sigmoid, silu and tanh 4e-7 relative; gelu 2e-6 relative where |y| > 1e-6 and
 * 1e-7 absolute elsewhere.
 */
#ifndef LLMAPP_SIMD_H
#define LLMAPP_SIMD_H

#include <stddef.h>
#include <stdint.h>

#include "net.h"

/* Scalars of one AdamW step, the same for all tensors. */
typedef struct adamw_scalars
{
	float		learning_rate;
	float		decay;			/* 1 - learning_rate * weight_decay, or 1 */
	float		beta1, beta2, epsilon;
	float		correction1;	/* 1 / (1 - beta1^t) */
	float		correction2;	/* 1 / (1 - beta2^t) */
	float		gradient_scale; /* of clipping */
} adamw_scalars;

/* Which random stream drops elements; the mask is made again for the gradient. */
typedef struct dropout_key
{
	uint64_t	seed, step;
	uint32_t	stream;
	uint32_t	threshold;		/* probability * 65536 */
	float		scale;			/* 1 / (1 - threshold / 65536) */
} dropout_key;

typedef struct simd_kernels
{
	const char *name;
	bool		(*supported) (void);

	/* y[r][j] = bias[j] + sum_i x[r][i] w[j][i] for few rows; bias may be NULL */
	void		(*gemv) (const float *x, int64_t rows, int64_t k, const float *w, const float *bias,
						 float *y, int64_t ldy, int64_t n);
	/* c[6][2 * lanes] (ldc) = beta * c + a(k, 6) b(k, 2 * lanes), both packed; beta 0 or 1 */
	void		(*gemm_tile) (int64_t k, const float *a, const float *b, float beta, float *c, int64_t ldc);
	int			lanes;

	void		(*axpy) (float a, const float *x, float *y, int64_t n); /* y += a x */
	void		(*scale) (float a, const float *x, float *y, int64_t n);	/* y = a x */
	void		(*add) (const float *a, const float *b, float *y, int64_t n);
	void		(*act) (net_activation kind, const float *x, float *y, int64_t n);
	/* dx = or += dy f'(x); ref is x for gelu, gelu_tanh and silu, else y = f(x) */
	void		(*act_grad) (net_activation kind, const float *dy, const float *ref, float *dx,
							 bool accumulate, int64_t n);
	/* one row; stats[0] = mean, stats[1] = 1 / standard deviation */
	void		(*layer_norm) (const float *x, const float *gamma, const float *beta, float *y,
							   float *stats, int64_t n);
	void		(*layer_norm_grad) (const float *dy, const float *x, const float *gamma,
									const float *stats, float *dx, bool accumulate, int64_t n);
	/* one row's part: dgamma += dy (x - mean) rstd, dbeta += dy */
	void		(*layer_norm_param) (const float *dy, const float *x, const float *stats,
									 float *dgamma, float *dbeta, int64_t n);
	float		(*max) (const float *x, int64_t n);
	float		(*sum) (const float *x, int64_t n);
	/* y = exp(x - shift); returns the sum of y.  y may be NULL. */
	float		(*exp_sum) (const float *x, float shift, float *y, int64_t n);
	double		(*sum_squares) (const float *x, int64_t n);
	/* y = or += x * scale where a 16-bit random number >= threshold; block: of the first element */
	void		(*dropout) (const float *x, float *y, const dropout_key *key, uint32_t block,
							bool accumulate, int64_t n);

	void		(*adamw) (float *w, const float *g, float *m, float *v, const adamw_scalars *s, int64_t n);
	/* u = momentum u + scale g; w = decay w - rate u */
	void		(*sgd) (float *w, const float *g, float *u, float momentum, float scale, float rate,
						float decay, int64_t n);
	/* average = decay average + (1 - decay) w */
	void		(*average) (float *average, const float *w, float decay, int64_t n);
} simd_kernels;

extern const simd_kernels simd_portable;
#if defined(__x86_64__)
extern const simd_kernels simd_avx2;
extern const simd_kernels simd_avx512;
#endif

/* All sets in this build, widest first; those not supported on this CPU included. */
extern const simd_kernels *const *simd_all(int *count);
extern const simd_kernels *simd_best(void);

#endif							/* LLMAPP_SIMD_H */
