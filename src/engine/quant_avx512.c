/*
 * quant_avx512.c
 *	  Products with weights in fewer bits, for x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
 *
 * A single row of x meets one row of weights after the other, as processors fetch ahead best; several rows meet four at
 * a time, so that what is loaded serves more than one product.  VPDPBUSD multiplies bytes without by bytes with a sign: signed
 * bytes of q8_0 are made larger by 128, q4_0's are larger by 8, and the sums start lower by as much.
 */
#include "quant.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define LANES 16
#define COLUMNS 4 /* rows of w that meet GROUP rows of x in registers */
#define GROUP 2
#define PAIR (2 * QUANT_BLOCK)

/* ---- decoding ---- */

INLINE __m512
load_f16(const char *w)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) w));
}

INLINE __m512
load_bf16(const char *w)
{
	__m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) w));

	return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}

TARGET static void
decode_f16(const void *w, int64_t count, float *x)
{
	for (int64_t i = 0; i < count; i += LANES)
		_mm512_storeu_ps(x + i, load_f16((const char *) w + 2 * i));
}

TARGET static void
decode_bf16(const void *w, int64_t count, float *x)
{
	for (int64_t i = 0; i < count; i += LANES)
		_mm512_storeu_ps(x + i, load_bf16((const char *) w + 2 * i));
}

/* Both halves of the bytes of a q4_0 block, in the order of its numbers, as they are stored. */
INLINE __m256i
nibbles(const char *block)
{
	__m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) (block + 2)));
	__m256i shifts = _mm256_set_epi64x(0x0004000400040004, 0x0004000400040004, 0, 0);

	return _mm256_and_si256(_mm256_srlv_epi16(bytes, shifts), _mm256_set1_epi8(15));
}

INLINE short
word_at(const char *p)
{
	short w;

	memcpy(&w, p, sizeof(w));
	return w;
}

/* d q of 32 signed bytes. */
INLINE void
store_block(__m256i q, const char *block, float *x)
{
	__m512 d = _mm512_cvtph_ps(_mm256_set1_epi16(word_at(block)));
	__m512i low = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(q));
	__m512i high = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(q, 1));

	_mm512_storeu_ps(x, _mm512_mul_ps(d, _mm512_cvtepi32_ps(low)));
	_mm512_storeu_ps(x + LANES, _mm512_mul_ps(d, _mm512_cvtepi32_ps(high)));
}

TARGET static void
decode_q8_0(const void *w, int64_t count, float *x)
{
	const char *block = w;

	for (int64_t i = 0; i < count; i += QUANT_BLOCK, block += 34)
		store_block(_mm256_loadu_si256((const __m256i *) (block + 2)), block, x + i);
}

TARGET static void
decode_q4_0(const void *w, int64_t count, float *x)
{
	const char *block = w;

	for (int64_t i = 0; i < count; i += QUANT_BLOCK, block += 18)
		store_block(_mm256_sub_epi8(nibbles(block), _mm256_set1_epi8(8)), block, x + i);
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

TARGET static void
to_f16(const float *x, int64_t n, uint16_t *h)
{
	for (int64_t i = 0; i < n; i += LANES)
		_mm256_storeu_si256((__m256i *) (h + i), _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
}

/* ---- products ---- */

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

/* Sums of products of some rows of w with some of x; two of each, over every other vector. */
typedef struct sums
{
	__m512 of[COLUMNS][GROUP][2];
} sums;

INLINE void
clear(sums *s, int columns, int rows)
{
#pragma GCC unroll 4
	for (int c = 0; c < columns; c++)
#pragma GCC unroll 2
		for (int r = 0; r < rows; r++)
			s->of[c][r][0] = s->of[c][r][1] = _mm512_setzero_ps();
}

INLINE void
finish(const sums *s, int columns, int rows, const float *bias, float *y, int64_t ldy)
{
#pragma GCC unroll 4
	for (int c = 0; c < columns; c++)
#pragma GCC unroll 2
		for (int r = 0; r < rows; r++)
			y[r * ldy + c] =
				(bias ? bias[c] : 0) + _mm512_reduce_add_ps(_mm512_add_ps(s->of[c][r][0], s->of[c][r][1]));
}

/* `columns` rows of 16-bit numbers, `rows` of x; both constants. */
INLINE void
dot_words(__m512 (*load)(const char *w), int columns, int rows, const float *x, int64_t k, const char *w,
		  const float *bias, float *y, int64_t ldy)
{
	sums s;

	clear(&s, columns, rows);
	for (int64_t i = 0; i < k; i += 2 * LANES)
	{
#pragma GCC unroll 2
		for (int half = 0; half < 2; half++)
		{
			int64_t at = i + half * LANES;

#pragma GCC unroll 4
			for (int c = 0; c < columns; c++)
			{
				__m512 v = load(w + 2 * (c * k + at));

#pragma GCC unroll 2
				for (int r = 0; r < rows; r++)
					s.of[c][r][half] = _mm512_fmadd_ps(v, _mm512_loadu_ps(x + r * k + at), s.of[c][r][half]);
			}
		}
	}
	finish(&s, columns, rows, bias, y, ldy);
}

INLINE void
gemv_words(__m512 (*load)(const char *w), const quant_rows *x, const char *w, const float *bias, float *y,
		   int64_t ldy, int64_t n)
{
	int64_t k = x->k, j = 0, r;

	for (; x->rows > 1 && j + COLUMNS <= n; j += COLUMNS)
	{
		for (r = 0; r + GROUP <= x->rows; r += GROUP)
			dot_words(load, COLUMNS, GROUP, x->x + r * k, k, w + 2 * j * k, bias ? bias + j : NULL, y + r * ldy + j,
					  ldy);
		if (r < x->rows)
			dot_words(load, COLUMNS, 1, x->x + r * k, k, w + 2 * j * k, bias ? bias + j : NULL, y + r * ldy + j, ldy);
	}
	for (; j < n; j++)
		for (r = 0; r < x->rows; r++)
			dot_words(load, 1, 1, x->x + r * k, k, w + 2 * j * k, bias ? bias + j : NULL, y + r * ldy + j, ldy);
}

TARGET static void
gemv_f16(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	gemv_words(load_f16, x, w, bias, y, ldy, n);
}

TARGET static void
gemv_bf16(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	gemv_words(load_bf16, x, w, bias, y, ldy, n);
}

/* The bytes of two blocks, none below 0; the second may not exist. */
INLINE __m512i
pair_q8_0(const char *block, bool both)
{
	__m512i q = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *) (block + 2)));

	if (both)
		q = _mm512_inserti64x4(q, _mm256_loadu_si256((const __m256i *) (block + 36)), 1);
	return _mm512_xor_si512(q, _mm512_set1_epi8(-128));
}

INLINE __m512i
pair_q4_0(const char *block, bool both)
{
	__m512i q = _mm512_broadcast_i64x2(_mm_loadu_si128((const __m128i *) (block + 2)));
	__m512i shifts =
		_mm512_set_epi64(0x0004000400040004, 0x0004000400040004, 0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0);

	if (both)
		q = _mm512_mask_broadcast_i64x2(q, 0xf0, _mm_loadu_si128((const __m128i *) (block + 20)));
	return _mm512_and_si512(_mm512_srlv_epi16(q, shifts), _mm512_set1_epi8(15));
}

/* Their scales, eight times each. */
INLINE __m512
pair_scale(const char *block, int64_t bytes, bool both)
{
	__m128i first = _mm_set1_epi16(word_at(block));
	__m128i second = both ? _mm_set1_epi16(word_at(block + bytes)) : _mm_setzero_si128();

	return _mm512_cvtph_ps(_mm256_set_m128i(second, first));
}

/* What gemv reads of prepared rows, each `width` numbers. */
typedef struct bytes_rows
{
	const int8_t *q;
	const int32_t *start;
	const float *scale;
	int64_t width;
} bytes_rows;

typedef __m512i (*pair_load)(const char *block, bool both);

/* The next two blocks of each row of w, or the last one. */
INLINE void
add_pair(pair_load load, int64_t bytes, bool both, int columns, int rows, const bytes_rows *x, int64_t at,
		 const char *w, int64_t row_bytes, sums *s, int half)
{
#pragma GCC unroll 4
	for (int c = 0; c < columns; c++)
	{
		const char *block = w + c * row_bytes + at / QUANT_BLOCK * bytes;
		__m512i q = load(block, both);
		__m512 scale = pair_scale(block, bytes, both);

#pragma GCC unroll 2
		for (int r = 0; r < rows; r++)
		{
			int64_t from = r * x->width + at;
			__m512i product =
				_mm512_dpbusd_epi32(_mm512_loadu_si512(x->start + from / 4), q, _mm512_loadu_si512(x->q + from));

			s->of[c][r][half] =
				_mm512_fmadd_ps(_mm512_cvtepi32_ps(product),
								_mm512_mul_ps(scale, _mm512_loadu_ps(x->scale + from / 4)), s->of[c][r][half]);
		}
	}
}

/* `columns` rows of blocks, `rows` of x; both constants. */
INLINE void
dot_blocks(pair_load load, int64_t bytes, int columns, int rows, const quant_rows *x, int64_t row, const char *w,
		   const float *bias, float *y, int64_t ldy)
{
	int64_t k = x->k, i = 0, row_bytes = k / QUANT_BLOCK * bytes, width = (k + PAIR - 1) / PAIR * PAIR;
	bytes_rows from = {x->q + row * width, x->start + row * width / 4, x->scale + row * width / 4, width};
	sums s;

	clear(&s, columns, rows);
	for (; i + 2 * PAIR <= k; i += 2 * PAIR)
	{
		add_pair(load, bytes, true, columns, rows, &from, i, w, row_bytes, &s, 0);
		add_pair(load, bytes, true, columns, rows, &from, i + PAIR, w, row_bytes, &s, 1);
	}
	if (i + PAIR <= k)
	{
		add_pair(load, bytes, true, columns, rows, &from, i, w, row_bytes, &s, 0);
		i += PAIR;
	}
	if (i < k)
		add_pair(load, bytes, false, columns, rows, &from, i, w, row_bytes, &s, 1);
	finish(&s, columns, rows, bias, y, ldy);
}

INLINE void
gemv_blocks(pair_load load, int64_t bytes, const quant_rows *x, const char *w, const float *bias, float *y,
			int64_t ldy, int64_t n)
{
	int64_t row_bytes = x->k / QUANT_BLOCK * bytes, j = 0, r;

	for (; x->rows > 1 && j + COLUMNS <= n; j += COLUMNS)
	{
		for (r = 0; r + GROUP <= x->rows; r += GROUP)
			dot_blocks(load, bytes, COLUMNS, GROUP, x, r, w + j * row_bytes, bias ? bias + j : NULL, y + r * ldy + j,
					   ldy);
		if (r < x->rows)
			dot_blocks(load, bytes, COLUMNS, 1, x, r, w + j * row_bytes, bias ? bias + j : NULL, y + r * ldy + j,
					   ldy);
	}
	for (; j < n; j++)
		for (r = 0; r < x->rows; r++)
			dot_blocks(load, bytes, 1, 1, x, r, w + j * row_bytes, bias ? bias + j : NULL, y + r * ldy + j, ldy);
}

TARGET static void
gemv_q8_0(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	gemv_blocks(pair_q8_0, 34, x, w, bias, y, ldy, n);
}

TARGET static void
gemv_q4_0(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	gemv_blocks(pair_q4_0, 18, x, w, bias, y, ldy, n);
}

static bool
avx512_supported(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
		   __builtin_cpu_supports("avx512vnni");
}

const quant_kernels quant_avx512 = {
	.name = "avx512",
	.supported = avx512_supported,
	.decode = {NULL, decode_f16, decode_bf16, decode_q8_0, decode_q4_0},
	.round_block = round_block,
	.to_f16 = to_f16,
	.add_f16_rows = add_f16_rows,
	.gemv = {NULL, gemv_f16, gemv_bf16, gemv_q8_0, gemv_q4_0},
};
#endif
