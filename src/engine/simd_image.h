/*
 * simd_image.h
 *	  The vector kernels of simd.h on images: strided products, channels, windows.
 *
 * Part of simd_impl.h, compiled once for each vector width.  Channels are the last
 * dimension and fill the vectors; a partial vector of channels is masked.
 */

/* ---- strided products ---- */

/* Sums of a tile stay in registers: AVX-512 has 32 of them, the others 16. */
#if LANES == 16
#define DIRECT_ROWS 14
#else
#define DIRECT_ROWS 6
#endif

/* `last` columns are in the last of the `vectors`; m and vectors are constants in each expansion. */
INLINE void
direct_tile(const int m, const int vectors, const tile_shape *s, int64_t last, const float *a, const float *b,
			const float *bias, bool accumulate, float *c)
{
	vf sum[DIRECT_ROWS][2];
	const int end = vectors - 1;
	int64_t a_row = s->a_row;

#pragma GCC unroll 14
	for (int i = 0; i < m; i++)
		sum[i][0] = sum[i][1] = (vf) {};
	for (int64_t r = 0; r < s->runs; r++)
	{
		const float *ap = a + r * s->a_run;
		const float *bp = b + r * s->b_run;

		for (int64_t p = 0; p < s->length; p++, ap += s->a_step, bp += s->b_step)
		{
			vf b_end = load_part(bp + end * LANES, last);
			vf b_first = vectors == 2 ? load(bp) : b_end;

#pragma GCC unroll 14
			for (int i = 0; i < m; i++)
			{
				vf ai = splat(ap[i * a_row]);

				if (vectors == 2)
					sum[i][0] += ai * b_first;
				sum[i][end] += ai * b_end;
			}
		}
	}
#pragma GCC unroll 14
	for (int i = 0; i < m; i++)
	{
		float *row = c + i * s->c_row;

		if (vectors == 2)
		{
			if (bias)
				sum[i][0] += load(bias);
			store(row, accumulate ? sum[i][0] + load(row) : sum[i][0]);
		}
		row += end * LANES;
		if (bias)
			sum[i][end] += load_part(bias + end * LANES, last);
		store_part(row, accumulate ? sum[i][end] + load_part(row, last) : sum[i][end], last);
	}
}

#define TILE_CASE(m) \
	case m: \
		if (n > LANES) \
			direct_tile(m, 2, s, n - LANES, a, b, bias, accumulate, c); \
		else \
			direct_tile(m, 1, s, n, a, b, bias, accumulate, c); \
		break;

KERNEL void
tile(const tile_shape *s, int64_t m, int64_t n, const float *a, const float *b, const float *bias, bool accumulate,
	 float *c)
{
	switch (m)
	{
		TILE_CASE(1)
		TILE_CASE(2)
		TILE_CASE(3)
		TILE_CASE(4)
		TILE_CASE(5)
		TILE_CASE(6)
#if DIRECT_ROWS == 14
		TILE_CASE(7)
		TILE_CASE(8)
		TILE_CASE(9)
		TILE_CASE(10)
		TILE_CASE(11)
		TILE_CASE(12)
		TILE_CASE(13)
		TILE_CASE(14)
#endif
	}
}

/* ---- normalisation by channel ---- */

/* Vectors of channels [j, j + n). */
#define FOR_CHANNELS(j, n, channels) \
	for (int64_t j = 0, n = 0; j < channels && (n = channels - j < LANES ? channels - j : LANES) > 0; j += LANES)

/* Four sums, so that additions of successive rows do not wait for each other. */
KERNEL void
channel_moments(const float *x, int64_t rows, int64_t c, float *moments)
{
	FOR_CHANNELS(j, n, c)
	{
		vf sum[4] = {};
		vf mean, d;

		for (int64_t r = 0; r < rows; r++)
			sum[r & 3] += load_part(x + r * c + j, n);
		mean = ((sum[0] + sum[1]) + (sum[2] + sum[3])) * splat(1.0f / rows);
		sum[0] = sum[1] = sum[2] = sum[3] = (vf) {};
		for (int64_t r = 0; r < rows; r++)
		{
			d = load_part(x + r * c + j, n) - mean;
			sum[r & 3] += d * d;
		}
		store_part(moments + j, mean, n);
		store_part(moments + c + j, (sum[0] + sum[1]) + (sum[2] + sum[3]), n);
	}
}

/* kind is a constant in each expansion of what follows. */
INLINE void
channel_norm_loop(net_activation kind, const float *x, const channel_coefficients *k, float *y, int64_t rows,
				  int64_t c)
{
	FOR_CHANNELS(j, n, c)
	{
		vf mean = load_part(k->mean + j, n), scale = load_part(k->scale + j, n), beta = load_part(k->beta + j, n);

		for (int64_t r = 0; r < rows; r++)
			store_part(y + r * c + j, act_vf(kind, (load_part(x + r * c + j, n) - mean) * scale + beta), n);
	}
}

INLINE vf
slope_at(net_activation kind, vf u)
{
	return act_slope_vf(kind, kind == ACT_TANH || kind == ACT_SIGMOID ? act_vf(kind, u) : u);
}

INLINE void
channel_norm_sums_loop(net_activation kind, const float *dy, const float *x, const channel_coefficients *k,
					   float *sums, int64_t rows, int64_t c)
{
	FOR_CHANNELS(j, n, c)
	{
		vf mean = load_part(k->mean + j, n), scale = load_part(k->scale + j, n), beta = load_part(k->beta + j, n);
		vf sum = {}, sum_x = {};

		for (int64_t r = 0; r < rows; r++)
		{
			vf d = load_part(x + r * c + j, n) - mean;
			vf g = load_part(dy + r * c + j, n) * slope_at(kind, d * scale + beta);

			sum += g;
			sum_x += g * d;
		}
		store_part(sums + j, sum, n);
		store_part(sums + c + j, sum_x * load_part(k->rstd + j, n), n);
	}
}

INLINE void
channel_norm_dx_loop(net_activation kind, const float *dy, const float *x, const channel_coefficients *k,
					 const float *means, float *dx, bool accumulate, int64_t rows, int64_t c)
{
	FOR_CHANNELS(j, n, c)
	{
		vf mean = load_part(k->mean + j, n), scale = load_part(k->scale + j, n), beta = load_part(k->beta + j, n);
		vf rstd = load_part(k->rstd + j, n);
		vf g_mean = rstd * load_part(means + j, n), gx_mean = rstd * rstd * load_part(means + c + j, n);

		for (int64_t r = 0; r < rows; r++)
		{
			vf d = load_part(x + r * c + j, n) - mean;
			vf g = load_part(dy + r * c + j, n) * slope_at(kind, d * scale + beta);
			float *to = dx + r * c + j;

			g = scale * g - (g_mean + d * gx_mean);
			store_part(to, accumulate ? load_part(to, n) + g : g, n);
		}
	}
}

#define FOR_ACTIVATIONS(loop, ...) \
	switch (kind) \
	{ \
		case ACT_IDENTITY: loop(ACT_IDENTITY, __VA_ARGS__); break; \
		case ACT_RELU: loop(ACT_RELU, __VA_ARGS__); break; \
		case ACT_GELU: loop(ACT_GELU, __VA_ARGS__); break; \
		case ACT_GELU_TANH: loop(ACT_GELU_TANH, __VA_ARGS__); break; \
		case ACT_SILU: loop(ACT_SILU, __VA_ARGS__); break; \
		case ACT_TANH: loop(ACT_TANH, __VA_ARGS__); break; \
		case ACT_SIGMOID: loop(ACT_SIGMOID, __VA_ARGS__); break; \
	}

KERNEL void
channel_norm(net_activation kind, const float *x, const channel_coefficients *k, float *y, int64_t rows,
			 int64_t c) {FOR_ACTIVATIONS(channel_norm_loop, x, k, y, rows, c)}

KERNEL void channel_norm_sums(net_activation kind, const float *dy, const float *x, const channel_coefficients *k,
							  float *sums, int64_t rows,
							  int64_t c) {FOR_ACTIVATIONS(channel_norm_sums_loop, dy, x, k, sums, rows, c)}

KERNEL
	void channel_norm_dx(net_activation kind, const float *dy, const float *x, const channel_coefficients *k,
						 const float *means, float *dx, bool accumulate, int64_t rows,
						 int64_t c) {FOR_ACTIVATIONS(channel_norm_dx_loop, dy, x, k, means, dx, accumulate, rows, c)}

/* ---- windows ---- */

KERNEL void pool_max(const float *x, const pixel_window *w, float *y, int32_t *index)
{
	FOR_CHANNELS(j, n, w->c)
	{
		vf best = load_part(x + j, n);
		vi at = (int32_t) w->first - (vi) {};

		for (int64_t r = 0; r < w->rows; r++)
			for (int64_t p = 0; p < w->columns; p++)
			{
				vf v = load_part(x + r * w->row_step + p * w->c + j, n);
				vi more = v > best;
				vi here = (int32_t) (w->first + r * w->ordinal_step + p) - (vi) {};

				best = select_vf(more, v, best);
				at = (more & here) | (~more & at);
			}
		store_part(y + j, best, n);
		store_part((float *) (index + j), (vf) at, n);
	}
}

KERNEL void
pool_max_grad(const float *dy, const int32_t *index, const pixel_window *w, float *dx)
{
	FOR_CHANNELS(j, n, w->c)
	{
		vf d = load_part(dy + j, n);
		vi at = (vi) load_part((const float *) (index + j), n);

		for (int64_t r = 0; r < w->rows; r++)
			for (int64_t p = 0; p < w->columns; p++)
			{
				float *to = dx + r * w->row_step + p * w->c + j;
				vi here = (int32_t) (w->first + r * w->ordinal_step + p) - (vi) {};

				store_part(to, load_part(to, n) + (vf) ((vi) d & (at == here)), n);
			}
	}
}
