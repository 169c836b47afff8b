/*
 * bf16.c
 *	  Blocked matrix product on VDPBF16PS.
 *
 * The instruction adds to each of 16 sums the products of two neighbours of 32 numbers.  So both
 * operands are rounded and packed into strips of 16 items (rows of op(a), columns of op(b)): for
 * each pair of numbers along k, the 16 items' pairs next to each other.  Items and k beyond the
 * matrix are zero.
 *
 * A tile of 8 rows and 3 vectors keeps 24 sums in registers.  Its three strips of b, 48 kB, pass
 * through the first cache once for each 8 rows.
 */
#include "bf16.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define INLINE TARGET static inline __attribute__((always_inline))

#define STRIP 16    /* items */
#define TILE_ROWS 8 /* divides STRIP */
#define TILE_STRIPS 3
#define BLOCK_M 128
#define BLOCK_N 288 /* multiples of STRIP */
#define BLOCK_K 512 /* multiple of 2 */
#define PAIRS (BLOCK_K / 2)

#define FIRST(n) ((__mmask16) ((n) >= 16 ? 0xffff : (1u << (n)) - 1))

/* Two bf16 along k; the first in the low half. */
typedef uint32_t pair;

typedef struct panels
{
	pair a[BLOCK_M * PAIRS] __attribute__((aligned(64))); /* per strip: (pairs, STRIP) */
	pair b[BLOCK_N * PAIRS] __attribute__((aligned(64)));
} panels;

static inline int64_t
smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

INLINE __m512i
round_to_bf16(__m512 low, __m512 high)
{
	return (__m512i) _mm512_cvtne2ps_pbh(high, low);
}

/* One strip of items that lie next to each other, step_k floats from k to k. */
TARGET static void
pack_across(pair *out, int64_t items, int64_t k, const float *x, int64_t step_k)
{
	__mmask16 mask = FIRST(items);
	__m512i interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
										  21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);

	for (int64_t p = 0; p < k; p += 2, out += STRIP)
	{
		__m512 low = _mm512_maskz_loadu_ps(mask, x + p * step_k);
		__m512 high = p + 1 < k ? _mm512_maskz_loadu_ps(mask, x + (p + 1) * step_k) : _mm512_setzero_ps();

		_mm512_store_si512(out, _mm512_permutexvar_epi16(interleave, round_to_bf16(low, high)));
	}
}

/* x[i] lane j and x[j] lane i change places; three stages of 4 x 4 and of quarters. */
INLINE void
transpose(__m512i *x)
{
	__m512i y[STRIP];

#pragma GCC unroll 8
	for (int i = 0; i < STRIP; i += 2)
	{
		y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
		y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < STRIP; i += 4)
	{
		x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
		x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
		x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
		x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
	}
	/* x[4 q + c]: quarter r has column 4 r + c of rows 4 q .. 4 q + 3 */
#pragma GCC unroll 4
	for (int c = 0; c < 4; c++)
	{
		__m512i even_low = _mm512_shuffle_i32x4(x[c], x[4 + c], 0x88),
				odd_low = _mm512_shuffle_i32x4(x[c], x[4 + c], 0xdd);
		__m512i even_high = _mm512_shuffle_i32x4(x[8 + c], x[12 + c], 0x88);
		__m512i odd_high = _mm512_shuffle_i32x4(x[8 + c], x[12 + c], 0xdd);

		y[c] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
		y[8 + c] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
		y[4 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
		y[12 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
	}
#pragma GCC unroll 16
	for (int i = 0; i < STRIP; i++)
		x[i] = y[i];
}

/* One strip of items whose k lie next to each other, step_item floats from item to item. */
TARGET static void
pack_along(pair *out, int64_t items, int64_t k, const float *x, int64_t step_item)
{
	for (int64_t p = 0; p < k; p += 2 * STRIP, out += STRIP * STRIP)
	{
		__mmask16 low = FIRST(k - p), high = k - p > STRIP ? FIRST(k - p - STRIP) : 0;
		int64_t pairs = smaller(STRIP, (k - p + 1) / 2);
		__m512i rows[STRIP];

#pragma GCC unroll 16
		for (int i = 0; i < STRIP; i++)
		{
			const float *from = x + i * step_item + p;

			rows[i] = i < items
						  ? round_to_bf16(_mm512_maskz_loadu_ps(low, from), _mm512_maskz_loadu_ps(high, from + STRIP))
						  : _mm512_setzero_si512();
		}
		transpose(rows);
#pragma GCC unroll 16
		for (int i = 0; i < STRIP; i++)
			if (i < pairs)
				_mm512_store_si512(out + i * STRIP, rows[i]);
	}
}

/* `along`: k lie next to each other and items step apart; else the reverse. */
static void
pack(pair *out, bool along, int64_t items, int64_t k, const float *x, int64_t step)
{
	int64_t pairs = (k + 1) / 2;

	for (int64_t i = 0; i < items; i += STRIP, out += STRIP * pairs)
		if (along)
			pack_along(out, smaller(STRIP, items - i), k, x + i * step, step);
		else
			pack_across(out, smaller(STRIP, items - i), k, x + i, step);
}

/* rows <= TILE_ROWS of c, `strips` (a constant) vectors of it, of which the last has the lanes of `last`. */
INLINE void
tile(int strips, int64_t pairs, const pair *a, const pair *b, int64_t rows, __mmask16 last, bool add, float *c,
	 int64_t ldc)
{
	__m512 sum[TILE_ROWS][TILE_STRIPS];
	__m512i vector[TILE_STRIPS];

#pragma GCC unroll 8
	for (int i = 0; i < TILE_ROWS; i++)
#pragma GCC unroll 3
		for (int j = 0; j < strips; j++)
			sum[i][j] = _mm512_setzero_ps();
	for (int64_t p = 0; p < pairs; p++)
	{
#pragma GCC unroll 3
		for (int j = 0; j < strips; j++)
			vector[j] = _mm512_load_si512(b + (j * pairs + p) * STRIP);
#pragma GCC unroll 8
		for (int i = 0; i < TILE_ROWS; i++)
		{
			__m512i scalar = _mm512_set1_epi32((int) a[p * STRIP + i]);

#pragma GCC unroll 3
			for (int j = 0; j < strips; j++)
				sum[i][j] = _mm512_dpbf16_ps(sum[i][j], (__m512bh) scalar, (__m512bh) vector[j]);
		}
	}
#pragma GCC unroll 8
	for (int i = 0; i < TILE_ROWS; i++)
		if (i < rows)
#pragma GCC unroll 3
			for (int j = 0; j < strips; j++)
			{
				__mmask16 mask = j == strips - 1 ? last : 0xffff;
				float *at = c + i * ldc + j * STRIP;

				if (add)
					sum[i][j] = _mm512_add_ps(sum[i][j], _mm512_maskz_loadu_ps(mask, at));
				_mm512_mask_storeu_ps(at, mask, sum[i][j]);
			}
}

TARGET static void
multiply_panels(const panels *x, int64_t m, int64_t n, int64_t k, bool add, float *c, int64_t ldc)
{
	int64_t pairs = (k + 1) / 2;

	for (int64_t j = 0; j < n; j += TILE_STRIPS * STRIP)
	{
		int64_t strips = smaller(TILE_STRIPS, (n - j + STRIP - 1) / STRIP);
		__mmask16 last = FIRST(n - j - (strips - 1) * STRIP);

		for (int64_t i = 0; i < m; i += TILE_ROWS)
		{
			const pair *a = x->a + i / STRIP * STRIP * pairs + i % STRIP, *b = x->b + j * pairs;
			float *at = c + i * ldc + j;

			switch (strips)
			{
				case 1: tile(1, pairs, a, b, m - i, last, add, at, ldc); break;
				case 2: tile(2, pairs, a, b, m - i, last, add, at, ldc); break;
				default: tile(TILE_STRIPS, pairs, a, b, m - i, last, add, at, ldc);
			}
		}
	}
}

bool
bf16_supported(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
		   __builtin_cpu_supports("avx512bf16");
}

void
gemm_bf16(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
		  const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
	panels x;

	for (int64_t j = 0; m > 0 && j < n; j += BLOCK_N)
		for (int64_t q = 0; q == 0 || q < k; q += BLOCK_K)
		{
			int64_t nn = smaller(BLOCK_N, n - j), kk = smaller(BLOCK_K, k - q);

			pack(x.b, transpose_b, nn, kk, transpose_b ? b + j * ldb + q : b + q * ldb + j, ldb);
			for (int64_t i = 0; i < m; i += BLOCK_M)
			{
				int64_t mm = smaller(BLOCK_M, m - i);

				pack(x.a, !transpose_a, mm, kk, transpose_a ? a + q * lda + i : a + i * lda + q, lda);
				multiply_panels(&x, mm, nn, kk, q > 0 || beta != 0, c + i * ldc + j, ldc);
			}
		}
}

#else

bool
bf16_supported(void)
{
	return false;
}

void
gemm_bf16(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
		  const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
}
#endif
