/*
 * bf16.h
 *	  Matrix products of numbers rounded to bfloat16, on CPUs with AVX512-BF16.
 *
 * A product of two such numbers is exact in float32, and sums are kept in float32.  Debian's
 * OpenBLAS has no such product, so this one is the engine's own.
 */
#ifndef LLMAPP_BF16_H
#define LLMAPP_BF16_H

#include <stdbool.h>
#include <stdint.h>

extern bool bf16_supported(void); /* by this CPU */

/*
 * As gemm() of blas.h, with a and b rounded to the nearest bfloat16, denormals to zero.  Takes 430 kB
 * of stack.  An element of c depends on its row of op(a), its column of op(b) and k only, so a
 * product may be cut along m and n.  Call it where bf16_supported().
 */
extern void gemm_bf16(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float *a,
					  int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

/* n numbers, a multiple of 16, to the nearest bfloat16, denormals to zero. */
extern void round_bf16(const float *x, int64_t n, uint16_t *y);
/*
 * y[r ldy + j] = bias[j] + x[r] . w[j]: rows of x and n rows of w, each of k numbers, a multiple of 32; bias may be
 * NULL.  Nothing but a panel of weights is packed, so these may be few rows' or a file's; a row depends on none beside
 * it.  The panel is memory of 64 k bytes, 64-byte aligned.
 */
extern void dots_bf16(const uint16_t *x, int64_t rows, int64_t k, const uint16_t *w, const float *bias, float *y,
					  int64_t ldy, int64_t n, void *panel);

#endif /* LLMAPP_BF16_H */
