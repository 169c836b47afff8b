/*
 * bf16_dots.c
 *	  Products with weights as they lie, on tiles or by VDPBF16PS.
 */
#include "bf16.h"
#include "bf16_tiles.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")))
#include "simd_math.h"

INLINE vf
add_products(vf sum, vu a, vu b)
{
	return (vf) _mm512_dpbf16_ps((__m512) sum, (__m512bh) a, (__m512bh) b);
}

#include "bf16_dots.h"

TARGET void
round_bf16(const float *x, int64_t n, uint16_t *y)
{
	for (int64_t i = 0; i < n; i += LANES)
		_mm256_storeu_si256((__m256i *) (y + i), (__m256i) _mm512_cvtneps_pbh((__m512) load(x + i)));
}

void
dots_bf16(const uint16_t *x, int64_t rows, int64_t k, const uint16_t *w, const float *bias, float *y, int64_t ldy,
		  int64_t n, void *panel)
{
	if (tiles_supported())
		tiles_bf16(x, rows, k, w, bias, y, ldy, n, panel);
	else
		multiply_dots(x, rows, k, w, bias, y, ldy, n);
}

#else

void
round_bf16(const float *x, int64_t n, uint16_t *y)
{
}

void
dots_bf16(const uint16_t *x, int64_t rows, int64_t k, const uint16_t *w, const float *bias, float *y, int64_t ldy,
		  int64_t n, void *panel)
{
}
#endif
