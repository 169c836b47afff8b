/*
 * simd_text.h
 *	  The vector kernels of simd.h on tokens: norms, rotary positions, gated units, attention.
 *
 * Part of simd_impl.h, compiled once for each vector width.  Scores of attention lie as (keys,
 * queries), so that lanes are queries: the softmax over keys then needs no sums across a vector.
 */

/* Vectors of elements [i, i + m), the last one partial. */
#define FOR_PARTS(i, m, n) for (int64_t i = 0, m = 0; i < n && (m = n - i < LANES ? n - i : LANES) > 0; i += LANES)

INLINE void
put(float *y, vf v, bool accumulate, int64_t n)
{
	store_part(y, accumulate ? load_part(y, n) + v : v, n);
}

KERNEL float
rms_norm(const float *x, const float *gamma, float epsilon, float *y, int64_t n)
{
	vf squares = {};
	float rstd;

	FOR_PARTS(i, m, n)
	{
		vf v = load_part(x + i, m);

		squares += v * v;
	}
	rstd = 1.0f / sqrtf(sum4(fold(squares)) / n + epsilon);
	FOR_PARTS(i, m, n)
		store_part(y + i, load_part(x + i, m) * splat(rstd) * load_part(gamma + i, m), m);
	return rstd;
}

/* dx = rstd (g - xhat mean(g xhat)) with g = dy gamma, xhat = x rstd */
KERNEL void
rms_norm_grad(const float *dy, const float *x, const float *gamma, float rstd, float *dx, bool accumulate, int64_t n)
{
	vf product = {};
	float slope;

	FOR_PARTS(i, m, n)
		product += load_part(dy + i, m) * load_part(gamma + i, m) * load_part(x + i, m);
	slope = sum4(fold(product)) / n * rstd * rstd;
	FOR_PARTS(i, m, n)
	{
		vf d = load_part(dy + i, m) * load_part(gamma + i, m) - load_part(x + i, m) * splat(slope);

		put(dx + i, d * splat(rstd), accumulate, m);
	}
}

KERNEL void
rotate(const float *x, const float *cosine, const float *sine, float sign, float *y, bool accumulate, int64_t half)
{
	FOR_PARTS(i, m, half)
	{
		vf c = load_part(cosine + i, m), s = load_part(sine + i, m) * splat(sign);
		vf a = load_part(x + i, m), b = load_part(x + half + i, m);

		put(y + i, a * c - b * s, accumulate, m);
		put(y + half + i, b * c + a * s, accumulate, m);
	}
}

/* kind is a constant in each expansion. */
INLINE void
glu_loop(net_activation kind, const float *x, float *y, int64_t n)
{
	FOR_PARTS(i, m, n)
		store_part(y + i, act_vf(kind, load_part(x + i, m)) * load_part(x + n + i, m), m);
}

INLINE void
glu_grad_loop(net_activation kind, const float *dy, const float *x, float *dx, bool accumulate, int64_t n)
{
	bool by_input = kind == ACT_GELU || kind == ACT_GELU_TANH || kind == ACT_SILU;

	FOR_PARTS(i, m, n)
	{
		vf d = load_part(dy + i, m), a = load_part(x + i, m), b = load_part(x + n + i, m);
		vf f = act_vf(kind, a);

		put(dx + i, d * b * act_slope_vf(kind, by_input ? a : f), accumulate, m);
		put(dx + n + i, d * f, accumulate, m);
	}
}

KERNEL void
glu(net_activation kind, const float *x, float *y, int64_t n)
{
	EACH_ACTIVATION(glu_loop, x, y, n);
}

KERNEL void
glu_grad(net_activation kind, const float *dy, const float *x, float *dx, bool accumulate, int64_t n)
{
	EACH_ACTIVATION(glu_grad_loop, dy, x, dx, accumulate, n);
}

/* ---- attention ---- */

KERNEL void
dots(const float *x, int64_t n, const float *w, int64_t w_step, int64_t rows, float factor, float *y)
{
	int64_t r = 0;

	for (; r + 4 <= rows; r += 4)
		*(v4_memory *) (y + r) = dot4(x, w + r * w_step, w_step, n) * factor;
	for (; r < rows; r++)
		y[r] = dot1(x, w + r * w_step, n) * factor;
}

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
