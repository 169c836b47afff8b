/*
 * panel_rows.h
 *	  32 rows of weights laid beside each other, 16 in a vector, for AVX-512.
 *
 * The including file defines TARGET and INLINE.  Rows begin at `row` of w, in bytes; a vector then holds four bytes of
 * each: four numbers of 8 bits, or two of 16.
 */
#include <immintrin.h>
#include <stdint.h>

#define PANEL_ROWS 32
#define PANEL_HALF (PANEL_ROWS / 2)

/* Those of a panel, of which the last stands for all that are missing. */
INLINE void
begin_rows(int64_t rows, size_t row_bytes, int64_t row[PANEL_ROWS])
{
	for (int64_t i = 0; i < PANEL_ROWS; i++)
		row[i] = (i < rows ? i : rows - 1) * (int64_t) row_bytes;
}

/* 16 bytes of rows i, i + 4, i + 8 and i + 12. */
INLINE __m512i
load_rows(const char *w, const int64_t *row, int i)
{
	__m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *) (w + row[i])));

	v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) (w + row[i + 4])), 1);
	v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) (w + row[i + 8])), 2);
	return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) (w + row[i + 12])), 3);
}

/* Of 16 bytes of all rows the first four, the next four, and so on. */
INLINE void
transpose_rows(const char *w, const int64_t *row, __m512i out[4])
{
	__m512i a = load_rows(w, row, 0), b = load_rows(w, row, 1), c = load_rows(w, row, 2), d = load_rows(w, row, 3);
	__m512i ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);

	out[0] = _mm512_unpacklo_epi64(ab, cd);
	out[1] = _mm512_unpackhi_epi64(ab, cd);
	ab = _mm512_unpackhi_epi32(a, b);
	cd = _mm512_unpackhi_epi32(c, d);
	out[2] = _mm512_unpacklo_epi64(ab, cd);
	out[3] = _mm512_unpackhi_epi64(ab, cd);
}
