/*
 * quant_avx512.c
 *	  Products with weights in fewer bits, for x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
 *
 * VPDPBUSD multiplies bytes without by bytes with a sign: signed bytes of q8_0 are made larger by 128, q4_0's are
 * larger by 8, and the sums start lower by as much.
 */
#include "quant.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define LANES 16
#define COLUMNS 4
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define NAME quant_avx512
#define NAME_STRING "avx512"
#define SUPPORTED avx512_supported
#define VECTOR_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)

typedef __m512 vf;

INLINE vf
load(const float *p)
{
	return _mm512_loadu_ps(p);
}

INLINE void
store(float *p, vf v)
{
	_mm512_storeu_ps(p, v);
}

INLINE vf
splat(float x)
{
	return _mm512_set1_ps(x);
}

INLINE float
add_lanes(vf v)
{
	return _mm512_reduce_add_ps(v);
}

INLINE vf
load_f16(const char *w)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) w));
}

INLINE vf
load_bf16(const char *w)
{
	__m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) w));

	return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}

INLINE void
store_f16(uint16_t *h, vf v)
{
	_mm256_storeu_si256((__m256i *) h, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

INLINE __m256i
nibbles(const char *block)
{
	__m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) (block + 2)));
	__m256i shifts = _mm256_set_epi64x(0x0004000400040004, 0x0004000400040004, 0, 0);

	return _mm256_and_si256(_mm256_srlv_epi16(bytes, shifts), _mm256_set1_epi8(15));
}

INLINE void
store_block(__m256i q, short scale, float *x)
{
	__m512 d = _mm512_cvtph_ps(_mm256_set1_epi16(scale));
	__m512i low = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(q));
	__m512i high = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(q, 1));

	_mm512_storeu_ps(x, _mm512_mul_ps(d, _mm512_cvtepi32_ps(low)));
	_mm512_storeu_ps(x + LANES, _mm512_mul_ps(d, _mm512_cvtepi32_ps(high)));
}

INLINE vf
scales(short first, short second)
{
	return _mm512_cvtph_ps(_mm256_set_m128i(_mm_set1_epi16(second), _mm_set1_epi16(first)));
}

INLINE vf
product_q8_0(const char *block, bool whole, const int8_t *q, const int32_t *start)
{
	__m512i w = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *) (block + 2)));

	if (whole)
		w = _mm512_inserti64x4(w, _mm256_loadu_si256((const __m256i *) (block + 36)), 1);
	w = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
	return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_loadu_si512(start), w, _mm512_loadu_si512(q)));
}

INLINE vf
product_q4_0(const char *block, bool whole, const int8_t *q, const int32_t *start)
{
	__m512i w = _mm512_broadcast_i64x2(_mm_loadu_si128((const __m128i *) (block + 2)));
	__m512i shifts =
		_mm512_set_epi64(0x0004000400040004, 0x0004000400040004, 0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0);

	if (whole)
		w = _mm512_mask_broadcast_i64x2(w, 0xf0, _mm_loadu_si128((const __m128i *) (block + 20)));
	w = _mm512_and_si512(_mm512_srlv_epi16(w, shifts), _mm512_set1_epi8(15));
	return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_loadu_si512(start), w, _mm512_loadu_si512(q)));
}

TARGET static void
round_block(const float *x, int32_t factor, int8_t *q, int32_t *start, float *scale)
{
	__m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + LANES);
	float d = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high))) / 127;
	__m512 inverse = _mm512_set1_ps(d > 0 ? 1 / d : 0);
	__m128i low8 = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)));
	__m128i high8 = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(high, inverse)));
	__m256i bytes = _mm256_max_epi8(_mm256_set_m128i(high8, low8), _mm256_set1_epi8(-127));
	__m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);

	_mm256_storeu_si256((__m256i *) q, bytes);
	_mm256_storeu_si256((__m256i *) start, _mm256_mullo_epi32(sums, _mm256_set1_epi32(factor)));
	_mm256_storeu_ps(scale, _mm256_set1_ps(d));
}

/* Two vectors of all rows, even and odd ones apart. */
TARGET static void
add_f16_rows(const uint16_t *x, const float *p, int64_t rows, bool accumulate, float *y, int64_t n)
{
	for (int64_t i = 0; i < n; i += 2 * LANES)
	{
		const char *at = (const char *) (x + i);
		__m512 sum[2][2] = {{_mm512_setzero_ps(), _mm512_setzero_ps()}, {_mm512_setzero_ps(), _mm512_setzero_ps()}};

		for (int64_t r = 0; r < rows; r += 2)
		{
#pragma GCC unroll 2
			for (int odd = 0; odd < 2; odd++)
			{
				const char *row = at + 2 * (r + odd) * n;

				if (r + odd == rows)
					break;
				sum[odd][0] = _mm512_fmadd_ps(_mm512_set1_ps(p[r + odd]), load_f16(row), sum[odd][0]);
				sum[odd][1] = _mm512_fmadd_ps(_mm512_set1_ps(p[r + odd]), load_f16(row + 2 * LANES), sum[odd][1]);
			}
		}
#pragma GCC unroll 2
		for (int v = 0; v < 2; v++)
		{
			__m512 all = _mm512_add_ps(sum[0][v], sum[1][v]);

			if (accumulate)
				all = _mm512_add_ps(all, _mm512_loadu_ps(y + i + v * LANES));
			_mm512_storeu_ps(y + i + v * LANES, all);
		}
	}
}

#include "quant_impl.h"

static bool
avx512_supported(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
		   __builtin_cpu_supports("avx512vnni");
}
#endif
