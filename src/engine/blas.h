/*
 * blas.h
 *	  The one matrix product of the engine, on OpenBLAS when it is installed.
 *
 * OpenBLAS is opened at run time with one thread of its own; the engine's pool calls it
 * on fixed panels.  Without it an own blocked product on the vector kernels serves.
 */
#ifndef LLMAPP_BLAS_H
#define LLMAPP_BLAS_H

#include "error.h"
#include "simd.h"

/*
 * Open OpenBLAS if that was not tried before; true when it is there, and memory for products in
 * one thread.  Call it after the last fork and before threads are started: it briefly changes the
 * environment.
 */
extern bool blas_open(void);
/*
 * After blas_open(): products will run in so many threads at once.  LLM_MEMORY when OpenBLAS is
 * there but there is no memory for its buffers; a product would wait for it.
 */
extern bool blas_reserve(int32_t threads, llm_error *err);
extern const char *blas_name(void); /* "openblas <configuration>" or "built-in" */

/*
 * c (m, n) = beta c + op(a) op(b), row-major, op(a) (m, k), op(b) (k, n), transposed when
 * the flag is set; beta 0 or 1; leading dimensions in elements; all below 2^31.
 */
extern void gemm(const simd_kernels *simd, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
				 const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
/* The built-in product, for comparison. */
extern void gemm_builtin(const simd_kernels *simd, bool transpose_a, bool transpose_b, int64_t m, int64_t n,
						 int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
						 int64_t ldc);

#endif /* LLMAPP_BLAS_H */
