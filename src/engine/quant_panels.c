/*
 * quant_panels.c
 *	  Products of many rows with weights in blocks, for x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
 *
 * A vector along a row of weights is folded at the end of a product, and its scales are read again for each row of x. Many
 * rows of x pay for laying rows of weights beside each other instead: a vector holds four neighbours of 16 of them,
 * which four bytes of x, broadcast, meet at once.
 */
#include "quant_panels.h"

#if defined(__x86_64__)
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")))
#define INLINE TARGET static inline __attribute__((always_inline))
#include "panel_rows.h"

#define HALF PANEL_HALF
#define STEPS (QUANT_BLOCK / 4)
#define TILE_ROWS 6 /* of x, whose sums with a panel, whole and float, are in registers */

/* A block of each of the rows of a panel. */
typedef struct panel_block
{
	__m512i q[STEPS][2]; /* four neighbours of each row of a half, larger by what makes them bytes without a sign */
	__m512 scale[2];
	__m512 sum[2]; /* of the numbers of the block */
} panel_block;

_Static_assert(sizeof(panel_block) == QUANT_PANEL_BYTES, "a block of a panel");

bool
panels_supported(weight_type t)
{
	return (t == WEIGHT_Q8_0 || t == WEIGHT_Q4_0) && quant_avx512.supported();
}

/* ---- panels ---- */

/* The first words of 16 blocks. */
INLINE __m512
load_scales(const char *w, const int64_t *row)
{
	__m128i low = _mm512_cvtepi64_epi16(_mm512_i64gather_epi64(_mm512_loadu_si512(row), w, 1));
	__m128i high = _mm512_cvtepi64_epi16(_mm512_i64gather_epi64(_mm512_loadu_si512(row + HALF / 2), w, 1));

	return _mm512_cvtph_ps(_mm256_set_m128i(high, low));
}

/* Blocks of a type of half a panel, which begin at w. */
INLINE void
lay_half(weight_type t, const char *w, const int64_t *row, panel_block *out, int half)
{
	__m512i v[4], sum = _mm512_set1_epi32(-QUANT_BLOCK * quant_excess(t));

	for (int part = 0; part < (t == WEIGHT_Q8_0 ? 2 : 1); part++)
	{
		transpose_rows(w + 2 + 16 * part, row, v);
#pragma GCC unroll 4
		for (int i = 0; i < 4; i++)
			if (t == WEIGHT_Q8_0)
				out->q[4 * part + i][half] = _mm512_xor_si512(v[i], _mm512_set1_epi8(-128));
			else
			{
				out->q[i][half] = _mm512_and_si512(v[i], _mm512_set1_epi8(15));
				out->q[4 + i][half] = _mm512_and_si512(_mm512_srli_epi16(v[i], 4), _mm512_set1_epi8(15));
			}
	}
#pragma GCC unroll 8
	for (int i = 0; i < STEPS; i++)
		sum = _mm512_dpbusd_epi32(sum, out->q[i][half], _mm512_set1_epi8(1));
	out->scale[half] = load_scales(w, row);
	out->sum[half] = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), out->scale[half]);
}

INLINE void
lay_panel(weight_type t, const char *w, int64_t rows, int64_t k, panel_block *out)
{
	int64_t row[PANEL_ROWS];

	begin_rows(rows, weight_bytes(t, (size_t) k), row);
	for (int64_t i = 0; i < k; i += QUANT_BLOCK, w += weight_bytes(t, QUANT_BLOCK), out++)
	{
		lay_half(t, w, row, out, 0);
		lay_half(t, w, row + HALF, out, 1);
	}
}

/* ---- rows of x ---- */

INLINE void
round_block(int32_t excess, const float *x, quant_block *out)
{
	__m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + HALF);
	float most = _mm512_reduce_max_ps(_mm512_max_ps(low, high)),
		  least = _mm512_reduce_min_ps(_mm512_min_ps(low, high));
	float scale = (most - least) / 254, middle = (most + least) / 2;
	__m512 inverse = _mm512_set1_ps(scale > 0 ? 1 / scale : 0), from = _mm512_set1_ps(middle);
	__m128i low8 = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_sub_ps(low, from), inverse)));
	__m128i high8 = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_sub_ps(high, from), inverse)));
	__m256i q = _mm256_set_m128i(high8, low8);
	__m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);

	_mm256_storeu_si256((__m256i *) out->q, q);
	out->start = -excess * _mm512_reduce_add_epi32(_mm512_zextsi256_si512(sums));
	out->middle = middle;
	out->scale = scale;
}

TARGET void
panels_round(weight_type t, const float *x, int64_t count, quant_block *out)
{
	for (int64_t i = 0; i < count; i += QUANT_BLOCK)
		round_block(quant_excess(t), x + i, out++);
}

/* ---- products ---- */

/* Four neighbours of a block, for all rows of a panel. */
INLINE __m512i
four_of(const quant_block *b, int i)
{
	int32_t four;

	memcpy(&four, b->q + 4 * i, sizeof(four));
	return _mm512_set1_epi32(four);
}

/* So many rows of x, a constant, with a panel. */
INLINE void
multiply_tile(int rows, const quant_block *x, int64_t blocks, const panel_block *panel, const __m512 bias[2],
			  const __mmask16 there[2], float *y, int64_t ldy)
{
	__m512 sum[TILE_ROWS][2];

#pragma GCC unroll 6
	for (int r = 0; r < rows; r++)
	{
		sum[r][0] = bias[0];
		sum[r][1] = bias[1];
	}
	for (int64_t b = 0; b < blocks; b++, panel++, x++)
	{
		__m512i s[TILE_ROWS][2];

#pragma GCC unroll 6
		for (int r = 0; r < rows; r++)
			s[r][0] = s[r][1] = _mm512_set1_epi32(x[r * blocks].start);
#pragma GCC unroll 8
		for (int i = 0; i < STEPS; i++)
		{
#pragma GCC unroll 6
			for (int r = 0; r < rows; r++)
			{
				__m512i q = four_of(x + r * blocks, i);

				s[r][0] = _mm512_dpbusd_epi32(s[r][0], panel->q[i][0], q);
				s[r][1] = _mm512_dpbusd_epi32(s[r][1], panel->q[i][1], q);
			}
		}
#pragma GCC unroll 6
		for (int r = 0; r < rows; r++)
		{
			__m512 scale = _mm512_set1_ps(x[r * blocks].scale), middle = _mm512_set1_ps(x[r * blocks].middle);

#pragma GCC unroll 2
			for (int h = 0; h < 2; h++)
			{
				sum[r][h] =
					_mm512_fmadd_ps(_mm512_cvtepi32_ps(s[r][h]), _mm512_mul_ps(panel->scale[h], scale), sum[r][h]);
				sum[r][h] = _mm512_fmadd_ps(panel->sum[h], middle, sum[r][h]);
			}
		}
	}
#pragma GCC unroll 6
	for (int r = 0; r < rows; r++)
	{
		_mm512_mask_storeu_ps(y + r * ldy, there[0], sum[r][0]);
		_mm512_mask_storeu_ps(y + r * ldy + HALF, there[1], sum[r][1]);
	}
}

INLINE void
multiply(weight_type t, const quant_block *x, int64_t rows, int64_t k, const char *w, const float *bias, float *y,
		 int64_t ldy, int64_t n, panel_block *panel)
{
	int64_t blocks = k / QUANT_BLOCK;

	for (int64_t j = 0, r; j < n; j += PANEL_ROWS)
	{
		int64_t here = n - j < PANEL_ROWS ? n - j : PANEL_ROWS;
		uint32_t mask = UINT32_MAX >> (PANEL_ROWS - here);
		__mmask16 there[2] = {(__mmask16) mask, (__mmask16) (mask >> HALF)};
		__m512 b[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};

		for (int h = 0; h < 2 && bias != NULL; h++)
			b[h] = _mm512_maskz_loadu_ps(there[h], bias + j + h * HALF);
		lay_panel(t, w + weight_bytes(t, (size_t) (j * k)), here, k, panel);
		for (r = 0; r + TILE_ROWS <= rows; r += TILE_ROWS)
			multiply_tile(TILE_ROWS, x + r * blocks, blocks, panel, b, there, y + r * ldy + j, ldy);
		if (r + 3 <= rows)
		{
			multiply_tile(3, x + r * blocks, blocks, panel, b, there, y + r * ldy + j, ldy);
			r += 3;
		}
		for (; r < rows; r++)
			multiply_tile(1, x + r * blocks, blocks, panel, b, there, y + r * ldy + j, ldy);
	}
}

TARGET void
panels_multiply(weight_type t, const quant_block *x, int64_t rows, int64_t k, const void *w, const float *bias,
				float *y, int64_t ldy, int64_t n, void *panel)
{
	if (t == WEIGHT_Q8_0)
		multiply(WEIGHT_Q8_0, x, rows, k, w, bias, y, ldy, n, panel);
	else
		multiply(WEIGHT_Q4_0, x, rows, k, w, bias, y, ldy, n, panel);
}

#else

bool
panels_supported(weight_type t)
{
	return false;
}

void
panels_round(weight_type t, const float *x, int64_t count, quant_block *out)
{
}

void
panels_multiply(weight_type t, const quant_block *x, int64_t rows, int64_t k, const void *w, const float *bias,
				float *y, int64_t ldy, int64_t n, void *panel)
{
}
#endif
