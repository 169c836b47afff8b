/*
 * quant_impl.h
 *	  Products with weights in fewer bits for x86-64, written once for any vector width.
 *
 * The including file defines LANES (8 or 16), COLUMNS, TARGET (function attribute), INLINE, NAME, NAME_STRING,
 * SUPPORTED and VECTOR_FMA, the type vf of LANES floats and, before it includes this:
 *	  load, store, splat	a vector in memory, or of one number
 *	  add_lanes				the sum of a vector
 *	  load_f16, load_bf16	a vector of stored words; store_f16 rounds one back
 *	  nibbles				the bytes of a q4_0 block in the order of its numbers, as they are stored
 *	  store_block			d q of 32 signed bytes
 *	  scales				d of one block, or of two, eight times each
 *	  product_q8_0, _q4_0	sums over four neighbours of SPAN stored numbers' products with rounded ones; of two
 *							blocks the second does not exist unless `whole`
 *	  round_block, add_f16_rows
 *
 * A single row of x meets one row of weights after the other, as processors fetch ahead best; several rows meet COLUMNS
 * at a time, so that what is loaded serves more than one product.
 */
#define GROUP 2          /* rows of x that meet COLUMNS rows of w in registers */
#define SPAN (4 * LANES) /* numbers that a vector of their products' sums covers: one block or two */

INLINE short
word_at(const char *p)
{
	short w;

	memcpy(&w, p, sizeof(w));
	return w;
}

/* ---- decoding ---- */

TARGET static void
decode_f16(const void *w, int64_t count, float *x)
{
	for (int64_t i = 0; i < count; i += LANES)
		store(x + i, load_f16((const char *) w + 2 * i));
}

TARGET static void
decode_bf16(const void *w, int64_t count, float *x)
{
	for (int64_t i = 0; i < count; i += LANES)
		store(x + i, load_bf16((const char *) w + 2 * i));
}

TARGET static void
decode_q8_0(const void *w, int64_t count, float *x)
{
	const char *block = w;

	for (int64_t i = 0; i < count; i += QUANT_BLOCK, block += 34)
		store_block(_mm256_loadu_si256((const __m256i *) (block + 2)), word_at(block), x + i);
}

TARGET static void
decode_q4_0(const void *w, int64_t count, float *x)
{
	const char *block = w;

	for (int64_t i = 0; i < count; i += QUANT_BLOCK, block += 18)
		store_block(_mm256_sub_epi8(nibbles(block), _mm256_set1_epi8(8)), word_at(block), x + i);
}

TARGET static void
to_f16(const float *x, int64_t n, uint16_t *h)
{
	for (int64_t i = 0; i < n; i += LANES)
		store_f16(h + i, load(x + i));
}

/* ---- products ---- */

/* Sums of products of some rows of w with some of x; two of each, over every other vector. */
typedef struct sums
{
	vf of[COLUMNS][GROUP][2];
} sums;

INLINE void
clear(sums *s, int columns, int rows)
{
#pragma GCC unroll 4
	for (int c = 0; c < columns; c++)
#pragma GCC unroll 2
		for (int r = 0; r < rows; r++)
			s->of[c][r][0] = s->of[c][r][1] = splat(0);
}

INLINE void
finish(const sums *s, int columns, int rows, const float *bias, float *y, int64_t ldy)
{
#pragma GCC unroll 4
	for (int c = 0; c < columns; c++)
#pragma GCC unroll 2
		for (int r = 0; r < rows; r++)
			y[r * ldy + c] = (bias ? bias[c] : 0) + add_lanes(s->of[c][r][0] + s->of[c][r][1]);
}

/* `columns` rows of 16-bit numbers, `rows` of x; both constants. */
INLINE void
dot_words(vf (*load_words)(const char *w), int columns, int rows, const float *x, int64_t k, const char *w,
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
				vf v = load_words(w + 2 * (c * k + at));

#pragma GCC unroll 2
				for (int r = 0; r < rows; r++)
					s.of[c][r][half] = VECTOR_FMA(v, load(x + r * k + at), s.of[c][r][half]);
			}
		}
	}
	finish(&s, columns, rows, bias, y, ldy);
}

INLINE void
gemv_words(vf (*load_words)(const char *w), const quant_rows *x, const char *w, const float *bias, float *y,
		   int64_t ldy, int64_t n)
{
	int64_t k = x->k, j = 0, r;

	for (; x->rows > 1 && j + COLUMNS <= n; j += COLUMNS)
	{
		for (r = 0; r + GROUP <= x->rows; r += GROUP)
			dot_words(load_words, COLUMNS, GROUP, x->x + r * k, k, w + 2 * j * k, bias ? bias + j : NULL,
					  y + r * ldy + j, ldy);
		if (r < x->rows)
			dot_words(load_words, COLUMNS, 1, x->x + r * k, k, w + 2 * j * k, bias ? bias + j : NULL, y + r * ldy + j,
					  ldy);
	}
	for (; j < n; j++)
		for (r = 0; r < x->rows; r++)
			dot_words(load_words, 1, 1, x->x + r * k, k, w + 2 * j * k, bias ? bias + j : NULL, y + r * ldy + j, ldy);
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

/* What gemv reads of prepared rows, each `width` numbers. */
typedef struct bytes_rows
{
	const int8_t *q;
	const int32_t *start;
	const float *scale;
	size_t width;
} bytes_rows;

typedef vf (*span_product)(const char *block, bool whole, const int8_t *q, const int32_t *start);

/* The next SPAN numbers of each row of w, or the block that is left. */
INLINE void
add_span(span_product product, size_t bytes, bool whole, int columns, int rows, const bytes_rows *x, size_t at,
		 const char *w, size_t row_bytes, sums *s, int half)
{
#pragma GCC unroll 4
	for (int c = 0; c < columns; c++)
	{
		const char *block = w + c * row_bytes + at / QUANT_BLOCK * bytes;
		vf scale = scales(word_at(block), SPAN > QUANT_BLOCK && whole ? word_at(block + bytes) : 0);

#pragma GCC unroll 2
		for (int r = 0; r < rows; r++)
		{
			size_t from = r * x->width + at;

			s->of[c][r][half] = VECTOR_FMA(product(block, whole, x->q + from, x->start + from / 4),
										   scale * load(x->scale + from / 4), s->of[c][r][half]);
		}
	}
}

/* `columns` rows of blocks, `rows` of x; both constants. */
INLINE void
dot_blocks(span_product product, size_t bytes, int columns, int rows, const quant_rows *x, size_t row, const char *w,
		   const float *bias, float *y, int64_t ldy)
{
	size_t k = (size_t) x->k, i = 0, row_bytes = k / QUANT_BLOCK * bytes;
	size_t width = (k + 2 * QUANT_BLOCK - 1) / (2 * QUANT_BLOCK) * (2 * QUANT_BLOCK);
	bytes_rows from = {x->q + row * width, x->start + row * width / 4, x->scale + row * width / 4, width};
	sums s;

	clear(&s, columns, rows);
	for (; i + 2 * SPAN <= k; i += 2 * SPAN)
	{
		add_span(product, bytes, true, columns, rows, &from, i, w, row_bytes, &s, 0);
		add_span(product, bytes, true, columns, rows, &from, i + SPAN, w, row_bytes, &s, 1);
	}
	if (i + SPAN <= k)
	{
		add_span(product, bytes, true, columns, rows, &from, i, w, row_bytes, &s, 0);
	}
	if (SPAN > QUANT_BLOCK && k % SPAN != 0)
		add_span(product, bytes, false, columns, rows, &from, k - QUANT_BLOCK, w, row_bytes, &s, 1);
	finish(&s, columns, rows, bias, y, ldy);
}

INLINE void
gemv_blocks(span_product product, int64_t bytes, const quant_rows *x, const char *w, const float *bias, float *y,
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

static bool SUPPORTED(void);

const quant_kernels NAME = {
	.name = NAME_STRING,
	.supported = SUPPORTED,
	.decode = {NULL, decode_f16, decode_bf16, decode_q8_0, decode_q4_0},
	.round_block = round_block,
	.to_f16 = to_f16,
	.add_f16_rows = add_f16_rows,
	.gemv = {NULL, gemv_f16, gemv_bf16, gemv_q8_0, gemv_q4_0},
};
