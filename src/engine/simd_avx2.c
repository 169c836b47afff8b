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
#define VECTOR_MUL_EVEN(a, b) _mm256_mul_epu32((__m256i) (a), (__m256i) (b))
#include "simd_impl.h"

static bool
avx2_supported(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif
