/*
 * simd_avx2.c
 *	  Vector kernels for x86-64 with AVX2 and FMA.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
#define TARGET __attribute__((target("avx2,fma")))
#define NAME simd_avx2
#define NAME_STRING "avx2"
#define SUPPORTED avx2_supported
#define VECTOR_SQRT(x) _mm256_sqrt_ps((__m256) (x))
#define VECTOR_MAX(a, b) _mm256_max_ps((__m256) (a), (__m256) (b))
#define VECTOR_MIN(a, b) _mm256_min_ps((__m256) (a), (__m256) (b))
#define VECTOR_MUL_EVEN(a, b) _mm256_mul_epu32((__m256i) (a), (__m256i) (b))
#define FIRST(n) _mm256_cmpgt_epi32(_mm256_set1_epi32((int) (n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define VECTOR_LOAD_PART(p, n) _mm256_maskload_ps(p, FIRST(n))
#define VECTOR_STORE_PART(p, v, n) _mm256_maskstore_ps(p, FIRST(n), (__m256) (v))
#include "simd_impl.h"

static bool
avx2_supported(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif
