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
	float learning_rate;
	float decay; /* 1 - learning_rate * weight_decay, or 1 */
	float beta1, beta2, epsilon;
	float correction1;    /* 1 / (1 - beta1^t) */
	float correction2;    /* 1 / (1 - beta2^t) */
	float gradient_scale; /* of clipping */
} adamw_scalars;

/* Which random stream drops elements; the mask is made again for the gradient. */
typedef struct dropout_key
{
	uint64_t seed, step;
	uint32_t stream;
	uint32_t threshold; /* probability * 65536 */
	float scale;        /* 1 / (1 - threshold / 65536) */
} dropout_key;

/*
 * Strides, in floats, of a product of small matrices that lie within larger ones:
 *	 c[i][j] = sum over r < runs and p < length of
 *		a[i a_row + r a_run + p a_step] b[r b_run + p b_step + j]
 */
typedef struct tile_shape
{
	int64_t runs, length;
	int64_t a_row, a_run, a_step;
	int64_t b_run, b_step;
	int64_t c_row;
} tile_shape;

/* What normalises a matrix of c channels: four vectors (c). */
typedef struct channel_coefficients
{
	const float *mean, *scale, /* gamma / standard deviation */
		*rstd,                 /* 1 / standard deviation */
		*beta;
} channel_coefficients;

/* A window of pixels of one image: `rows` by `columns` of them, each of c channels. */
typedef struct pixel_window
{
	int64_t rows, columns;
	int64_t row_step;            /* floats from row to row of the image */
	int64_t first, ordinal_step; /* number of the first pixel, and from row to row */
	int64_t c;
} pixel_window;

typedef struct simd_kernels
{
	const char *name;
	bool (*supported)(void);

	/*
	 * y[r][j] = bias[j] + sum_i x[r][i] w[j][i]; bias may be NULL.  Of many rows those at once that stay in the second cache
	 * are best.
	 */
	void (*gemv)(const float *x, int64_t rows, int64_t k, const float *w, const float *bias, float *y, int64_t ldy,
				 int64_t n);
	/* c[6][2 * lanes] (ldc) = beta * c + a(k, 6) b(k, 2 * lanes), both packed; beta 0 or 1 */
	void (*gemm_tile)(int64_t k, const float *a, const float *b, float beta, float *c, int64_t ldc);
	int lanes;

	void (*axpy)(float a, const float *x, float *y, int64_t n);  /* y += a x */
	void (*scale)(float a, const float *x, float *y, int64_t n); /* y = a x */
	void (*add)(const float *a, const float *b, float *y, int64_t n);
	/* y (n) += the sum of factor[i] x[row[i]] over count rows of x, in their order */
	void (*add_rows)(const float *x, const int32_t *row, const float *factor, int64_t count, float *y, int64_t n);
	/* y[i] = (x - edge[i]) inverse[i] within [0, 1]; 0 where x is NaN */
	void (*bins)(float x, const float *edge, const float *inverse, float *y, int64_t n);
	void (*act)(net_activation kind, const float *x, float *y, int64_t n);
	/* dx = or += dy f'(x); ref is x for gelu, gelu_tanh and silu, else y = f(x) */
	void (*act_grad)(net_activation kind, const float *dy, const float *ref, float *dx, bool accumulate, int64_t n);
	/* one row; beta may be NULL; stats[0] = mean, stats[1] = 1 / standard deviation */
	void (*layer_norm)(const float *x, const float *gamma, const float *beta, float epsilon, float *y, float *stats,
					   int64_t n);
	void (*layer_norm_grad)(const float *dy, const float *x, const float *gamma, const float *stats, float *dx,
							bool accumulate, int64_t n);
	/* of n columns of rows that lie row_step apart: dgamma += sum of dy (x - mean) rstd, dbeta += sum of dy or NULL */
	void (*layer_norm_param)(const float *dy, const float *x, const float *stats, int64_t rows, int64_t row_step,
							 float *dgamma, float *dbeta, int64_t n);
	/* sum (n) += of n columns of rows that lie row_step apart */
	void (*column_sum)(const float *x, int64_t rows, int64_t row_step, float *sum, int64_t n);
	float (*max)(const float *x, int64_t n);
	float (*sum)(const float *x, int64_t n);
	/* y = exp(x - shift); returns the sum of y.  y may be NULL. */
	float (*exp_sum)(const float *x, float shift, float *y, int64_t n);
	double (*sum_squares)(const float *x, int64_t n);
	/* y = or += x * scale where a 16-bit random number >= threshold; block: of the first element */
	void (*dropout)(const float *x, float *y, const dropout_key *key, uint32_t block, bool accumulate, int64_t n);

	void (*adamw)(float *w, const float *g, float *m, float *v, const adamw_scalars *s, int64_t n);
	/* u = momentum u + scale g; w = decay w - rate u */
	void (*sgd)(float *w, const float *g, float *u, float momentum, float scale, float rate, float decay, int64_t n);
	/* average = decay average + (1 - decay) w */
	void (*average)(float *average, const float *w, float decay, int64_t n);
	/*
	 * y = x + sum of b[r] a[r a_row + j] over r < rank, in double and rounded once.  Products of two floats are
	 * exact there and are added in order, so the bytes are the same by every set of kernels.
	 */
	void (*add_low_rank)(const float *x, const float *b, int64_t rank, const float *a, int64_t a_row, float *y,
						 int64_t n);

	/* m <= tile_rows rows and n <= 2 lanes columns of c, = or +=; bias (n) may be NULL */
	int tile_rows;
	void (*tile)(const tile_shape *s, int64_t m, int64_t n, const float *a, const float *b, const float *bias,
				 bool accumulate, float *c);
	/* x (rows, c): moments (2, c), means and sums of squared distances from them */
	void (*channel_moments)(const float *x, int64_t rows, int64_t c, float *moments);
	/* y = act(u), u = (x - mean) scale + beta */
	void (*channel_norm)(net_activation kind, const float *x, const channel_coefficients *k, float *y, int64_t rows,
						 int64_t c);
	/* sums (2, c) of g = dy act'(u) and of g (x - mean) rstd */
	void (*channel_norm_sums)(net_activation kind, const float *dy, const float *x, const channel_coefficients *k,
							  float *sums, int64_t rows, int64_t c);
	/* dx = or += scale g - rstd (means[0] + (x - mean) rstd means[1]), means (2, c) */
	void (*channel_norm_dx)(net_activation kind, const float *dy, const float *x, const channel_coefficients *k,
							const float *means, float *dx, bool accumulate, int64_t rows, int64_t c);
	/* y (c): largest of a window; index (c): which pixel, the first of equals */
	void (*pool_max)(const float *x, const pixel_window *w, float *y, int32_t *index);
	void (*pool_max_grad)(const float *dy, const int32_t *index, const pixel_window *w, float *dx); /* dx += */

	/* y = x rstd gamma, rstd = 1 / sqrt(mean of squares + epsilon), which is returned */
	float (*rms_norm)(const float *x, const float *gamma, float epsilon, float *y, int64_t n);
	void (*rms_norm_grad)(const float *dy, const float *x, const float *gamma, float rstd, float *dx, bool accumulate,
						  int64_t n);
	/* pairs (x[i], x[half + i]) turned by angles whose cosines and sines are given; sign -1: back */
	void (*rotate)(const float *x, const float *cosine, const float *sine, float sign, float *y, bool accumulate,
				   int64_t half);
	/* y (n) = act(x[i]) x[n + i], and the gradient of both halves */
	void (*glu)(net_activation kind, const float *x, float *y, int64_t n);
	void (*glu_grad)(net_activation kind, const float *dy, const float *x, float *dx, bool accumulate, int64_t n);
	/* y[r] = factor x . w_r, n numbers each; rows of w lie w_step apart */
	void (*dots)(const float *x, int64_t n, const float *w, int64_t w_step, int64_t rows, float factor, float *y);
	/* y (columns, width) = factor x^T, x (rows, columns); columns of y from rows on are zero */
	void (*transpose)(const float *x, int64_t x_row, int64_t rows, int64_t columns, float factor, float *y,
					  int64_t width);
	/*
	 * Scores (keys, width), width whole vectors; column j sees keys below visible + j, others
	 * become 0.  Added to score (k, j) is bias[j - k], unless bias is NULL.  The softmax over
	 * keys: top (width) and sum (width) carry the largest score and the sum over blocks, scores
	 * become exp(score - top), and what was made from earlier blocks counts `factor` of itself.
	 */
	void (*attention_softmax)(float *scores, int64_t keys, int64_t width, int64_t visible, const float *bias,
							  float *top, float *sum, float *factor);
	/* scores become p = exp(score - log_sum), slopes become scale p (slope - delta) */
	void (*attention_softmax_grad)(float *scores, float *slopes, int64_t keys, int64_t width, int64_t visible,
								   const float *bias, const float *log_sum, const float *delta, float scale);
} simd_kernels;

extern const simd_kernels simd_portable;
#if defined(__x86_64__)
extern const simd_kernels simd_avx2;
extern const simd_kernels simd_avx512;
#endif

/* All sets in this build, widest first; those not supported on this CPU included. */
extern const simd_kernels *const *simd_all(int *count);
extern const simd_kernels *simd_best(void);

/* x become cap tanh(x / cap) */
static inline void
simd_cap(const simd_kernels *simd, float cap, float *x, int64_t n)
{
	simd->scale(1 / cap, x, x, n);
	simd->act(ACT_TANH, x, x, n);
	simd->scale(cap, x, x, n);
}

/* Its slope where it is y. */
static inline float
simd_cap_slope(float cap, float y)
{
	return 1 - y / cap * (y / cap);
}

#endif /* LLMAPP_SIMD_H */
