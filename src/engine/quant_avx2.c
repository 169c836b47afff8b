/*
 * quant_avx2.c
 *	  Products with weights in fewer bits, for x86-64 with AVX2, FMA and F16C.
 *
 * As in quant_avx512.c, block by block.  VPMADDUBSW adds two products of bytes without and with a sign in 16 bits, for
 * which q8_0's, made larger by 128, would be too large: the sign of a weight goes over to the number that it
 * multiplies instead.
 */
#include "quant.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define LANES 8
#define COLUMNS 2 /* rows of w that meet GROUP rows of x in registers */
#define GROUP 2

/* ---- decoding ---- */

INLINE __m256
load_f16(const char *w)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) w));
}

INLINE __m256
load_bf16(const char *w)
{
	__m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) w));

	return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
}

TARGET static void
decode_f16(const void *w, int64_t count, float *x)
{
	for (int64_t i = 0; i < count; i += LANES)
		_mm256_storeu_ps(x + i, load_f16((const char *) w + 2 * i));
}

TARGET static void
decode_bf16(const void *w, int64_t count, float *x)
{
	for (int64_t i = 0; i < count; i += LANES)
		_mm256_storeu_ps(x + i, load_bf16((const char *) w + 2 * i));
}

INLINE __m256i
bytes_q8_0(const char *block)
{
	return _mm256_loadu_si256((const __m256i *) (block + 2));
}

/* Both halves of the bytes of a q4_0 block, in the order of its numbers, as they are stored. */
INLINE __m256i
bytes_q4_0(const char *block)
{
	__m128i bytes = _mm_loadu_si128((const __m128i *) (block + 2));

	return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), _mm256_set1_epi8(15));
}

INLINE __m256
scale_of(const char *block)
{
	short w;

	memcpy(&w, block, sizeof(w));
	return _mm256_cvtph_ps(_mm_set1_epi16(w));
}

/* d q of 32 signed bytes. */
INLINE void
store_block(__m256i q, __m256 d, float *x)
{
	__m128i half[2] = {_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1)};

#pragma GCC unroll 2
	for (int i = 0; i < 2; i++)
	{
		__m256i low = _mm256_cvtepi8_epi32(half[i]), high = _mm256_cvtepi8_epi32(_mm_srli_si128(half[i], 8));

		_mm256_storeu_ps(x + i * 16, _mm256_mul_ps(d, _mm256_cvtepi32_ps(low)));
		_mm256_storeu_ps(x + i * 16 + LANES, _mm256_mul_ps(d, _mm256_cvtepi32_ps(high)));
	}
}

TARGET static void
decode_q8_0(const void *w, int64_t count, float *x)
{
	const char *block = w;

	for (int64_t i = 0; i < count; i += QUANT_BLOCK, block += 34)
		store_block(bytes_q8_0(block), scale_of(block), x + i);
}

TARGET static void
decode_q4_0(const void *w, int64_t count, float *x)
{
	const char *block = w;

	for (int64_t i = 0; i < count; i += QUANT_BLOCK, block += 18)
		store_block(_mm256_sub_epi8(bytes_q4_0(block), _mm256_set1_epi8(8)), scale_of(block), x + i);
}

/* Sums of four neighbours, products of bytes without and with a sign. */
INLINE __m256i
sum4(__m256i a, __m256i b)
{
	return _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1));
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

TARGET static void
to_f16(const float *x, int64_t n, uint16_t *h)
{
	for (int64_t i = 0; i < n; i += LANES)
		_mm_storeu_si128((__m128i *) (h + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
}

/* ---- products ---- */

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

/* Sums of products of some rows of w with some of x; two of each, over every other vector. */
typedef struct sums
{
	__m256 of[COLUMNS][GROUP][2];
} sums;

INLINE void
clear(sums *s, int columns, int rows)
{
#pragma GCC unroll 2
	for (int c = 0; c < columns; c++)
#pragma GCC unroll 2
		for (int r = 0; r < rows; r++)
			s->of[c][r][0] = s->of[c][r][1] = _mm256_setzero_ps();
}

INLINE float
sum8(__m256 v)
{
	__m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	__m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

	return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE void
finish(const sums *s, int columns, int rows, const float *bias, float *y, int64_t ldy)
{
#pragma GCC unroll 2
	for (int c = 0; c < columns; c++)
#pragma GCC unroll 2
		for (int r = 0; r < rows; r++)
			y[r * ldy + c] = (bias ? bias[c] : 0) + sum8(_mm256_add_ps(s->of[c][r][0], s->of[c][r][1]));
}

/* `columns` rows of 16-bit numbers, `rows` of x; both constants. */
INLINE void
dot_words(__m256 (*load)(const char *w), int columns, int rows, const float *x, int64_t k, const char *w,
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

#pragma GCC unroll 2
			for (int c = 0; c < columns; c++)
			{
				__m256 v = load(w + 2 * (c * k + at));

#pragma GCC unroll 2
				for (int r = 0; r < rows; r++)
					s.of[c][r][half] = _mm256_fmadd_ps(v, _mm256_loadu_ps(x + r * k + at), s.of[c][r][half]);
			}
		}
	}
	finish(&s, columns, rows, bias, y, ldy);
}

INLINE void
gemv_words(__m256 (*load)(const char *w), const quant_rows *x, const char *w, const float *bias, float *y,
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

/* Sums over four neighbours of a block's products with rounded numbers. */
INLINE __m256i
product_q8_0(const char *block, const int8_t *q, const int32_t *start)
{
	__m256i w = bytes_q8_0(block);

	return sum4(_mm256_sign_epi8(w, w), _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *) q), w));
}

INLINE __m256i
product_q4_0(const char *block, const int8_t *q, const int32_t *start)
{
	return _mm256_add_epi32(sum4(bytes_q4_0(block), _mm256_loadu_si256((const __m256i *) q)),
							_mm256_loadu_si256((const __m256i *) start));
}

typedef __m256i (*block_product)(const char *block, const int8_t *q, const int32_t *start);

/* What gemv reads of prepared rows, each `width` numbers. */
typedef struct bytes_rows
{
	const int8_t *q;
	const int32_t *start;
	const float *scale;
	int64_t width;
} bytes_rows;

/* The next block of each row of w. */
INLINE void
add_block(block_product product, int64_t bytes, int columns, int rows, const bytes_rows *x, int64_t at, const char *w,
		  int64_t row_bytes, sums *s, int half)
{
#pragma GCC unroll 2
	for (int c = 0; c < columns; c++)
	{
		const char *block = w + c * row_bytes + at / QUANT_BLOCK * bytes;
		__m256 scale = scale_of(block);

#pragma GCC unroll 2
		for (int r = 0; r < rows; r++)
		{
			int64_t from = r * x->width + at;

			s->of[c][r][half] =
				_mm256_fmadd_ps(_mm256_cvtepi32_ps(product(block, x->q + from, x->start + from / 4)),
								_mm256_mul_ps(scale, _mm256_loadu_ps(x->scale + from / 4)), s->of[c][r][half]);
		}
	}
}

/* `columns` rows of blocks, `rows` of x; both constants. */
INLINE void
dot_blocks(block_product product, int64_t bytes, int columns, int rows, const quant_rows *x, int64_t row,
		   const char *w, const float *bias, float *y, int64_t ldy)
{
	int64_t k = x->k, i = 0, row_bytes = k / QUANT_BLOCK * bytes;
	int64_t width = (k + 2 * QUANT_BLOCK - 1) / (2 * QUANT_BLOCK) * (2 * QUANT_BLOCK);
	bytes_rows from = {x->q + row * width, x->start + row * width / 4, x->scale + row * width / 4, width};
	sums s;

	clear(&s, columns, rows);
	for (; i + 2 * QUANT_BLOCK <= k; i += 2 * QUANT_BLOCK)
	{
		add_block(product, bytes, columns, rows, &from, i, w, row_bytes, &s, 0);
		add_block(product, bytes, columns, rows, &from, i + QUANT_BLOCK, w, row_bytes, &s, 1);
	}
	if (i < k)
		add_block(product, bytes, columns, rows, &from, i, w, row_bytes, &s, 0);
	finish(&s, columns, rows, bias, y, ldy);
}

INLINE void
gemv_blocks(block_product product, int64_t bytes, const quant_rows *x, const char *w, const float *bias, float *y,
			int64_t ldy, int64_t n)
{
	int64_t row_bytes = x->k / QUANT_BLOCK * bytes, j = 0, r;

	for (; x->rows > 1 && j + COLUMNS <= n; j += COLUMNS)
	{
		for (r = 0; r + GROUP <= x->rows; r += GROUP)
			dot_blocks(product, bytes, COLUMNS, GROUP, x, r, w + j * row_bytes, bias ? bias + j : NULL,
					   y + r * ldy + j, ldy);
		if (r < x->rows)
			dot_blocks(product, bytes, COLUMNS, 1, x, r, w + j * row_bytes, bias ? bias + j : NULL, y + r * ldy + j,
					   ldy);
	}
	for (; j < n; j++)
		for (r = 0; r < x->rows; r++)
			dot_blocks(product, bytes, 1, 1, x, r, w + j * row_bytes, bias ? bias + j : NULL, y + r * ldy + j, ldy);
}

TARGET static void
gemv_q8_0(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	gemv_blocks(product_q8_0, 34, x, w, bias, y, ldy, n);
}

TARGET static void
gemv_q4_0(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	gemv_blocks(product_q4_0, 18, x, w, bias, y, ldy, n);
}

/* All processors with AVX2 have F16C. */
static bool
avx2_supported(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const quant_kernels quant_avx2 = {
	.name = "avx2",
	.supported = avx2_supported,
	.decode = {NULL, decode_f16, decode_bf16, decode_q8_0, decode_q4_0},
	.round_block = round_block,
	.to_f16 = to_f16,
	.add_f16_rows = add_f16_rows,
	.gemv = {NULL, gemv_f16, gemv_bf16, gemv_q8_0, gemv_q4_0},
};
#endif
