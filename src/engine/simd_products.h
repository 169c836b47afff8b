/*
 * simd_products.h
 *	  The vector kernels of simd.h that multiply matrices.
 *
 * Part of simd_impl.h, compiled once for each vector width.  Products with weights (n, k) as they lie read both
 * sides along k, so nothing is packed; their sums are folded across vectors once, at the end.
 */

/*
 * Four outputs of one row at once: the sums of vectors of their dot products, of which the first i of k are
 * done, folded 16 -> 8 -> 4 lanes with the remainder of k taken at each width, then transposed.
 */
INLINE v4
finish4(vf a0, vf a1, vf a2, vf a3, const float *x, const float *w, int64_t ldw, int64_t i, int64_t k)
{
	v4 b0 = fold(a0), b1 = fold(a1), b2 = fold(a2), b3 = fold(a3), r;

	for (; i + 4 <= k; i += 4)
	{
		v4 v = *(const v4_memory *) (x + i);

		b0 += v * *(const v4_memory *) (w + i);
		b1 += v * *(const v4_memory *) (w + ldw + i);
		b2 += v * *(const v4_memory *) (w + 2 * ldw + i);
		b3 += v * *(const v4_memory *) (w + 3 * ldw + i);
	}
	r = fold4(b0, b1, b2, b3);
	for (; i < k; i++)
		r += x[i] * (v4) {w[i], w[ldw + i], w[2 * ldw + i], w[3 * ldw + i]};
	return r;
}

INLINE v4
dot4(const float *x, const float *w, int64_t ldw, int64_t k)
{
	vf a0 = {}, a1 = {}, a2 = {}, a3 = {};
	int64_t i = 0;

	FOR_VECTORS(i, k)
	{
		vf v = load(x + i);

		a0 += v * load(w + i);
		a1 += v * load(w + ldw + i);
		a2 += v * load(w + 2 * ldw + i);
		a3 += v * load(w + 3 * ldw + i);
	}
	return finish4(a0, a1, a2, a3, x, w, ldw, i, k);
}

/* Sum of the products of whole vectors, of which there are *end numbers. */
INLINE vf
dot_vectors(const float *x, const float *w, int64_t k, int64_t *end)
{
	vf a[4] = {};
	int64_t i = 0;

	for (; i + 4 * LANES <= k; i += 4 * LANES)
	{
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			a[j] += load(x + i + j * LANES) * load(w + i + j * LANES);
	}
	FOR_VECTORS(i, k)
		a[0] += load(x + i) * load(w + i);
	*end = i;
	return (a[0] + a[1]) + (a[2] + a[3]);
}

/* The same, a row of w after the other. */
INLINE v4
dot4_streamed(const float *x, const float *w, int64_t ldw, int64_t k)
{
	int64_t i;
	vf a0 = dot_vectors(x, w, k, &i), a1 = dot_vectors(x, w + ldw, k, &i);
	vf a2 = dot_vectors(x, w + 2 * ldw, k, &i), a3 = dot_vectors(x, w + 3 * ldw, k, &i);

	return finish4(a0, a1, a2, a3, x, w, ldw, i, k);
}

INLINE float
dot1(const float *x, const float *w, int64_t k)
{
	vf a = {};
	v4 b;
	float r;
	int64_t i = 0;

	FOR_VECTORS(i, k)
		a += load(x + i) * load(w + i);
	b = fold(a);
	for (; i + 4 <= k; i += 4)
		b += *(const v4_memory *) (x + i) * *(const v4_memory *) (w + i);
	r = sum4(b);
	for (; i < k; i++)
		r += x[i] * w[i];
	return r;
}

/* As many rows of x as have their sums with four rows of w in registers, beside a vector of each. */
#if LANES == 16
#define DOT_ROWS 6
#else
#define DOT_ROWS 3
#endif

/* dot4() of so many rows, a constant: the same numbers, as each has sums of its own. */
INLINE void
dot_tile(int rows, v4 bias, const float *x, const float *w, int64_t k, float *y, int64_t ldy)
{
	vf a[DOT_ROWS][4] = {};
	int64_t i = 0;

	FOR_VECTORS(i, k)
	{
		vf v[DOT_ROWS];

#pragma GCC unroll 6
		for (int r = 0; r < rows; r++)
			v[r] = load(x + r * k + i);
#pragma GCC unroll 4
		for (int c = 0; c < 4; c++)
		{
			vf weights = load(w + c * k + i);

#pragma GCC unroll 6
			for (int r = 0; r < rows; r++)
				a[r][c] += v[r] * weights;
		}
	}
#pragma GCC unroll 6
	for (int r = 0; r < rows; r++)
		*(v4_memory *) (y + r * ldy) = bias + finish4(a[r][0], a[r][1], a[r][2], a[r][3], x + r * k, w, k, i, k);
}

/*
 * Four outputs of each row.  Rows innermost: four rows of w stay in the first-level cache for all rows of x.  The next four
 * are fetched meanwhile, if that is wanted, a share with each tile; behind the last ones that does nothing.
 */
#define LINE 16 /* numbers of a cache line */

INLINE void
dot_rows(bool fetch, const float *x, int64_t rows, int64_t k, const float *w, v4 bias, float *y, int64_t ldy)
{
	int64_t r = 0, share = fetch ? 4 * k / (rows / DOT_ROWS) + LINE : 0;
	const float *next = w + 4 * k;

	for (; r + DOT_ROWS <= rows; r += DOT_ROWS, next += share)
	{
		for (int64_t i = 0; i < share; i += LINE)
			__builtin_prefetch(next + i);
		dot_tile(DOT_ROWS, bias, x + r * k, w, k, y + r * ldy, ldy);
	}
	if (DOT_ROWS > 3 && r + 3 <= rows)
	{
		dot_tile(3, bias, x + r * k, w, k, y + r * ldy, ldy);
		r += 3;
	}
	for (; r < rows; r++)
		*(v4_memory *) (y + r * ldy) = bias + dot4(x + r * k, w, k, k);
}

/* Returns outputs, a multiple of four. */
INLINE int64_t
gemv4(bool streamed, bool fetch, const float *x, int64_t rows, int64_t k, const float *w, const float *bias, float *y,
	  int64_t ldy, int64_t n)
{
	int64_t j = 0;

	for (; j + 4 <= n; j += 4)
	{
		v4 b = {};

		if (bias)
			b = *(const v4_memory *) (bias + j);
		if (!streamed)
			dot_rows(fetch, x, rows, k, w + j * k, b, y + j, ldy);
		for (int64_t r = 0; streamed && r < rows; r++)
			*(v4_memory *) (y + r * ldy + j) = b + dot4_streamed(x + r * k, w + j * k, k, k);
	}
	return j;
}

/*
 * Few rows of three quarters of a page: a processor that fetches ahead within pages is led astray by four streams
 * that share them.  No part of gemv(), whose loop for small networks it would slow down.
 */
#define STREAM_FROM 640
#define STREAM_TO 1024
#define STREAM_ROWS 8

__attribute__((noinline)) KERNEL int64_t
gemv_streamed(const float *x, int64_t rows, int64_t k, const float *w, const float *bias, float *y, int64_t ldy,
			  int64_t n)
{
	return gemv4(true, false, x, rows, k, w, bias, y, ldy, n);
}

/*
 * Many rows of such weights: processors fetch too little ahead, since their streams end every four rows, and there is
 * time for it.  Apart for the same reason.
 */
#define FETCH_ROWS 9
#define FETCH_FROM 256
#define FETCH_TO 1024

__attribute__((noinline)) KERNEL int64_t
gemv_fetched(const float *x, int64_t rows, int64_t k, const float *w, const float *bias, float *y, int64_t ldy,
			 int64_t n)
{
	return gemv4(false, true, x, rows, k, w, bias, y, ldy, n);
}

KERNEL void
gemv(const float *x, int64_t rows, int64_t k, const float *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	int64_t j;

	if (rows >= FETCH_ROWS && k >= FETCH_FROM && k <= FETCH_TO)
		j = gemv_fetched(x, rows, k, w, bias, y, ldy, n);
	else if (k >= STREAM_FROM && k < STREAM_TO && rows <= STREAM_ROWS)
		j = gemv_streamed(x, rows, k, w, bias, y, ldy, n);
	else
		j = gemv4(false, false, x, rows, k, w, bias, y, ldy, n);
	for (; j < n; j++)
		for (int64_t r = 0; r < rows; r++)
			y[r * ldy + j] = (bias ? bias[j] : 0) + dot1(x + r * k, w + j * k, k);
}

/* ---- the built-in product on packed panels ---- */

#define TILE_ROWS 6

KERNEL void
gemm_tile(int64_t k, const float *a, const float *b, float beta, float *c, int64_t ldc)
{
	vf s[TILE_ROWS][2];

#pragma GCC unroll 6
	for (int i = 0; i < TILE_ROWS; i++)
		s[i][0] = s[i][1] = (vf) {};
	for (int64_t p = 0; p < k; p++)
	{
		vf b0 = load(b + p * 2 * LANES);
		vf b1 = load(b + p * 2 * LANES + LANES);

#pragma GCC unroll 6
		for (int i = 0; i < TILE_ROWS; i++)
		{
			vf ai = splat(a[p * TILE_ROWS + i]);

			s[i][0] += ai * b0;
			s[i][1] += ai * b1;
		}
	}
#pragma GCC unroll 6
	for (int i = 0; i < TILE_ROWS; i++)
	{
		float *row = c + i * ldc;

		store(row, beta == 0 ? s[i][0] : s[i][0] + load(row));
		store(row + LANES, beta == 0 ? s[i][1] : s[i][1] + load(row + LANES));
	}
}
