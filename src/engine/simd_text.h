/*
 * simd_text.h
 *	  The vector kernels of simd.h on tokens: attention between blocks of queries and keys.
 *
 * Part of simd_impl.h, compiled once for each vector width.  Scores lie as (keys, queries), so
 * that lanes are queries: the softmax over keys then needs no sums across a vector.
 */

KERNEL void
transpose(const float *x, int64_t x_row, int64_t rows, int64_t columns, float factor, float *y, int64_t width)
{
	int64_t r = 0;

	for (; r + 4 <= rows; r += 4)
	{
		const float *at = x + r * x_row;
		int64_t c = 0;

		for (; c + 4 <= columns; c += 4)
		{
			v4 row0 = *(const v4_memory *) (at + c) * factor, row1 = *(const v4_memory *) (at + x_row + c) * factor;
			v4 row2 = *(const v4_memory *) (at + 2 * x_row + c) * factor;
			v4 row3 = *(const v4_memory *) (at + 3 * x_row + c) * factor;
			v4 low01 = __builtin_shufflevector(row0, row1, 0, 4, 1, 5);
			v4 low23 = __builtin_shufflevector(row2, row3, 0, 4, 1, 5);
			v4 high01 = __builtin_shufflevector(row0, row1, 2, 6, 3, 7);
			v4 high23 = __builtin_shufflevector(row2, row3, 2, 6, 3, 7);
			float *to = y + c * width + r;

			*(v4_memory *) to = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
			*(v4_memory *) (to + width) = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
			*(v4_memory *) (to + 2 * width) = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
			*(v4_memory *) (to + 3 * width) = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
		}
		for (; c < columns; c++)
			for (int64_t i = 0; i < 4; i++)
				y[c * width + r + i] = at[i * x_row + c] * factor;
	}
	for (; r < width; r++)
		for (int64_t c = 0; c < columns; c++)
			y[c * width + r] = r < rows ? x[r * x_row + c] * factor : 0;
}

/* ---- attention ---- */

/* Lane l of column j sees key k when k < visible + j + l. */
INLINE vi
visible_vi(int64_t visible, int64_t j, int64_t k)
{
	vi lane;

	for (int i = 0; i < LANES; i++)
		lane[i] = i;
	return lane > (int32_t) (k - visible - j) - (vi) {};
}

/* Of `keys`, those that all lanes from column j see, and those that one of them sees. */
#define SEEN_BY_ALL(j) clamp_count(visible + (j), keys)
#define SEEN_BY_ONE(j) clamp_count(visible + (j) + LANES - 1, keys)

static inline int64_t
clamp_count(int64_t n, int64_t most)
{
	return n < 0 ? 0 : n > most ? most : n;
}

KERNEL void
attention_softmax(float *scores, int64_t keys, int64_t width, int64_t visible, const float *bias, float *top,
				  float *sum, float *factor)
{
	for (int64_t j = 0; j < width; j += LANES)
	{
		int64_t all = SEEN_BY_ALL(j), some = SEEN_BY_ONE(j);
		float *s = scores + j;
		vf before = load(top + j), most = before, total = {}, f;

		for (int64_t k = 0; bias && k < some; k++)
			store(s + k * width, load(s + k * width) + load(bias + j - k));
		for (int64_t k = 0; k < all; k++)
			most = max_vf(most, load(s + k * width));
		for (int64_t k = all; k < some; k++)
			most = max_vf(most, select_vf(visible_vi(visible, j, k), load(s + k * width), splat(-INFINITY)));
		for (int64_t k = 0; k < all; k++)
		{
			vf e = exp_vf(load(s + k * width) - most);

			total += e;
			store(s + k * width, e);
		}
		for (int64_t k = all; k < some; k++)
		{
			vf e = (vf) ((vi) exp_vf(load(s + k * width) - most) & visible_vi(visible, j, k));

			total += e;
			store(s + k * width, e);
		}
		for (int64_t k = some; k < keys; k++)
			store(s + k * width, (vf) {});
		f = exp_vf(before - most);
		store(factor + j, f);
		store(top + j, most);
		store(sum + j, load(sum + j) * f + total);
	}
}

KERNEL void
attention_softmax_grad(float *scores, float *slopes, int64_t keys, int64_t width, int64_t visible, const float *bias,
					   const float *log_sum, const float *delta, float scale)
{
	for (int64_t j = 0; j < width; j += LANES)
	{
		int64_t all = SEEN_BY_ALL(j), some = SEEN_BY_ONE(j);
		float *s = scores + j, *d = slopes + j;
		vf shift = load(log_sum + j), mean = load(delta + j);

		for (int64_t k = 0; bias && k < some; k++)
			store(s + k * width, load(s + k * width) + load(bias + j - k));
		for (int64_t k = 0; k < some; k++)
		{
			vf p = exp_vf(load(s + k * width) - shift);

			if (k >= all)
				p = (vf) ((vi) p & visible_vi(visible, j, k));
			store(s + k * width, p);
			store(d + k * width, p * (load(d + k * width) - mean) * splat(scale));
		}
		for (int64_t k = some; k < keys; k++)
		{
			store(s + k * width, (vf) {});
			store(d + k * width, (vf) {});
		}
	}
}
