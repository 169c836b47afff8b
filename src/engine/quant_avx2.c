/*
 * quant_avx2.c
 *	  Products with weights in fewer bits, for x86-64 with AVX2, FMA and F16C.
 *
 * VPMADDUBSW adds two products of bytes without and with a sign in 16 bits, for which q8_0's, made larger by 128, would
 * be too large: the sign of a weight goes over to the number that it multiplies instead.
 */
#include "quant.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define LANES 8
#define COLUMNS 2
#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define NAME quant_avx2
#define NAME_STRING "avx2"
#define SUPPORTED avx2_supported
#define VECTOR_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)

typedef __m256 vf;

INLINE vf
load(const float *p)
{
	return _mm256_loadu_ps(p);
}

INLINE void
store(float *p, vf v)
{
	_mm256_storeu_ps(p, v);
}

INLINE vf
splat(float x)
{
	return _mm256_set1_ps(x);
}

INLINE float
add_lanes(vf v)
{
	__m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	__m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

	return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE vf
load_f16(const char *w)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) w));
}

INLINE vf
load_bf16(const char *w)
{
	__m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) w));

	return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
}

INLINE void
store_f16(uint16_t *h, vf v)
{
	_mm_storeu_si128((__m128i *) h, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

INLINE __m256i
nibbles(const char *block)
{
	__m128i bytes = _mm_loadu_si128((const __m128i *) (block + 2));

	return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), _mm256_set1_epi8(15));
}

INLINE vf
scales(short first, short second)
{
	return _mm256_cvtph_ps(_mm_set1_epi16(first));
}

INLINE void
store_block(__m256i q, short scale, float *x)
{
	__m256 d = scales(scale, 0);
	__m128i half[2] = {_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1)};

#pragma GCC unroll 2
	for (int i = 0; i < 2; i++)
	{
		__m256i low = _mm256_cvtepi8_epi32(half[i]), high = _mm256_cvtepi8_epi32(_mm_srli_si128(half[i], 8));

		_mm256_storeu_ps(x + i * 16, _mm256_mul_ps(d, _mm256_cvtepi32_ps(low)));
		_mm256_storeu_ps(x + i * 16 + LANES, _mm256_mul_ps(d, _mm256_cvtepi32_ps(high)));
	}
}

/* Sums of four neighbours, products of bytes without and with a sign. */
INLINE __m256i
sum4(__m256i a, __m256i b)
{
	return _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1));
}

INLINE vf
product_q8_0(const char *block, bool whole, const int8_t *q, const int32_t *start)
{
	__m256i w = _mm256_loadu_si256((const __m256i *) (block + 2));
	__m256i sums = sum4(_mm256_sign_epi8(w, w), _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *) q), w));

	return _mm256_cvtepi32_ps(sums);
}

INLINE vf
product_q4_0(const char *block, bool whole, const int8_t *q, const int32_t *start)
{
	__m256i sums = sum4(nibbles(block), _mm256_loadu_si256((const __m256i *) q));

	return _mm256_cvtepi32_ps(_mm256_add_epi32(sums, _mm256_loadu_si256((const __m256i *) start)));
}

TARGET static void
round_block(const float *x, int32_t factor, int8_t *q, int32_t *start, float *scale)
{
	__m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)), most = _mm256_setzero_ps(), inverse;
	__m256i part[4], words[2], bytes;
	__m128 top;
	float d;

	for (int i = 0; i < 4; i++)
		most = _mm256_max_ps(most, _mm256_and_ps(_mm256_loadu_ps(x + i * LANES), magnitude));
	top = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
	top = _mm_max_ps(top, _mm_movehl_ps(top, top));
	d = _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top))) / 127;
	inverse = _mm256_set1_ps(d > 0 ? 1 / d : 0);
	for (int i = 0; i < 4; i++)
		part[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i * LANES), inverse));
	words[0] = _mm256_packs_epi32(part[0], part[1]);
	words[1] = _mm256_packs_epi32(part[2], part[3]);
	bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words[0], words[1]),
										_mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
	bytes = _mm256_max_epi8(bytes, _mm256_set1_epi8(-127));
	_mm256_storeu_si256((__m256i *) q, bytes);
	_mm256_storeu_si256((__m256i *) start,
						_mm256_mullo_epi32(sum4(_mm256_set1_epi8(1), bytes), _mm256_set1_epi32(factor)));
	_mm256_storeu_ps(scale, _mm256_set1_ps(d));
}

/* Four vectors of all rows. */
TARGET static void
add_f16_rows(const uint16_t *x, const float *p, int64_t rows, bool accumulate, float *y, int64_t n)
{
	for (int64_t i = 0; i < n; i += 4 * LANES)
	{
		__m256 sum[4];

#pragma GCC unroll 4
		for (int v = 0; v < 4; v++)
			sum[v] = accumulate ? _mm256_loadu_ps(y + i + v * LANES) : _mm256_setzero_ps();
		for (int64_t r = 0; r < rows; r++)
		{
			__m256 factor = _mm256_set1_ps(p[r]);

#pragma GCC unroll 4
			for (int v = 0; v < 4; v++)
				sum[v] = _mm256_fmadd_ps(factor, load_f16((const char *) (x + r * n + i + v * LANES)), sum[v]);
		}
#pragma GCC unroll 4
		for (int v = 0; v < 4; v++)
			_mm256_storeu_ps(y + i + v * LANES, sum[v]);
	}
}

#include "quant_impl.h"

/* All processors with AVX2 have F16C. */
static bool
avx2_supported(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif
