/*
 * bf16_dots.h
 *	  Products of rows of bfloat16 with weights as they lie, written once for any vector width.
 *
 * The including file defines LANES and TARGET for simd_math.h, includes it, and add_products(sum, a, b): to each of
 * LANES sums the products of two neighbours of 2 LANES numbers.
 */
#if LANES == 16
#define DOT_ROWS 6
#else
#define DOT_ROWS 3
#endif

/* So many rows of x, a constant, with four rows of w. */
INLINE void
dot_tile(int rows, v4 bias, const uint16_t *x, const uint16_t *w, int64_t k, float *y, int64_t ldy)
{
	vf a[DOT_ROWS][4] = {};

	for (int64_t i = 0; i < k; i += 2 * LANES)
	{
		vu v[DOT_ROWS];

#pragma GCC unroll 6
		for (int r = 0; r < rows; r++)
			v[r] = *(const vu_memory *) (x + r * k + i);
#pragma GCC unroll 4
		for (int c = 0; c < 4; c++)
		{
			vu weights = *(const vu_memory *) (w + c * k + i);

#pragma GCC unroll 6
			for (int r = 0; r < rows; r++)
				a[r][c] = add_products(a[r][c], v[r], weights);
		}
	}
#pragma GCC unroll 6
	for (int r = 0; r < rows; r++)
		*(v4_memory *) (y + r * ldy) = bias + fold4(fold(a[r][0]), fold(a[r][1]), fold(a[r][2]), fold(a[r][3]));
}

INLINE float
bf16_value(uint16_t x)
{
	uint32_t bits = (uint32_t) x << 16;
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* dots_bf16() of bf16.h */
TARGET static void
multiply_dots(const uint16_t *x, int64_t rows, int64_t k, const uint16_t *w, const float *bias, float *y, int64_t ldy,
			  int64_t n)
{
	int64_t j = 0;

	for (; j + 4 <= n; j += 4)
	{
		v4 b = {};
		int64_t r = 0;

		if (bias)
			b = *(const v4_memory *) (bias + j);
		for (; r + DOT_ROWS <= rows; r += DOT_ROWS)
			dot_tile(DOT_ROWS, b, x + r * k, w + j * k, k, y + r * ldy + j, ldy);
		for (; r < rows; r++)
			dot_tile(1, b, x + r * k, w + j * k, k, y + r * ldy + j, ldy);
	}
	for (; j < n; j++)
		for (int64_t r = 0; r < rows; r++)
		{
			float sum = bias ? bias[j] : 0;

			for (int64_t i = 0; i < k; i++)
				sum += bf16_value(x[r * k + i]) * bf16_value(w[j * k + i]);
			y[r * ldy + j] = sum;
		}
}
