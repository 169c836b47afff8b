/*
 * gemm.h
 *	  The one matrix product, by cuBLASLt.
 *
 * c (m, n) = op(a) op(b) + beta c + bias (n), all row-major and, but for c, without gaps: a is (m, k), or (k, m)
 * when transpose_a; b is (k, n), or (n, k) when transpose_b.  Sums are float32.  When a program is
 * made each product chooses its algorithm, which its runs then use.
 */
#ifndef LLMAPP_CUDA_GEMM_H
#define LLMAPP_CUDA_GEMM_H

#include "launch.h"

typedef struct gemm_shape
{
	bool transpose_a, transpose_b;
	int64_t m, n, k; /* at least 1 */
	bool bf16;       /* a and b are rounded to it */
	int64_t c_step;  /* numbers from one row of c to the next; 0: n */
	bool tf32;       /* a and b are float32 with 10 bits behind the leading one; the others are not read */
} gemm_shape;

typedef struct gemm_set gemm_set; /* the products of one program */
typedef struct gemm_device gemm_device;

/* What products of a context share; NULL and a reason on failure. */
extern gemm_device *gemm_device_new(const char **what);
extern void gemm_device_free(gemm_device *d);

extern gemm_set *gemm_set_new(gemm_device *d);
extern void gemm_set_free(gemm_set *s);
extern void gemm_set_restart(gemm_set *s); /* the next product is the first again */

/* bias may be NULL; beta 0 or 1. */
extern void gemm(launch *l, const gemm_shape *s, const float *a, const float *b, const float *bias, float beta,
				 float *c);
/* n numbers rounded to bfloat16, or to float32 as products of tf32 read it, in scratch. */
extern const uint16_t *gemm_round(launch *l, const float *x, int64_t n);
extern const float *gemm_round_tf32(launch *l, const float *x, int64_t n);
/* The product itself, of matrices that are float32, or bfloat16 when s->bf16. */
extern void gemm_enqueue(launch *l, const gemm_shape *s, const void *a, const void *b, const float *bias, float beta,
						 float *c);

#endif /* LLMAPP_CUDA_GEMM_H */
