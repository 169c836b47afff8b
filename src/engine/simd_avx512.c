/*
 * simd_avx512.c
 *	  Vector kernels for x86-64 with AVX-512 F, DQ and VL.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma")))
#define NAME simd_avx512
#define NAME_STRING "avx512"
#define SUPPORTED avx512_supported
#define VECTOR_SQRT(x) _mm512_sqrt_ps((__m512) (x))
#define VECTOR_MAX(a, b) _mm512_max_ps((__m512) (a), (__m512) (b))
#define VECTOR_MIN(a, b) _mm512_min_ps((__m512) (a), (__m512) (b))
#define VECTOR_MUL_EVEN(a, b) _mm512_mul_epu32((__m512i) (a), (__m512i) (b))
#define FIRST(n) ((__mmask16) ((1u << (n)) - 1))
#define VECTOR_LOAD_PART(p, n) _mm512_maskz_loadu_ps(FIRST(n), p)
#define VECTOR_STORE_PART(p, v, n) _mm512_mask_storeu_ps(p, FIRST(n), (__m512) (v))
#include "simd_impl.h"

static bool
avx512_supported(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
		   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}
#endif
