/*
 * simd_impl.h
 *	  The vector kernels of simd.h, written once for any vector width.
 *
 * The including file defines LANES (4, 8 or 16), TARGET (function attribute), NAME,
 * NAME_STRING and SUPPORTED; optionally VECTOR_SQRT, VECTOR_MAX, VECTOR_MIN,
 * VECTOR_MUL_EVEN, VECTOR_LOAD_PART and VECTOR_STORE_PART.  Tails shorter than a vector are
 * masked, or go through plain C where that is cheaper.  Matrix products are in simd_products.h,
 * kernels on images in simd_image.h, those on tokens in simd_text.h.
 */
#include "simd_math.h"

/* Whole vectors of n elements; the tail is the caller's. */
#define FOR_VECTORS(i, n) for (; (i) + LANES <= (n); (i) += LANES)

/* The loop for one kind, which is a constant in each expansion: its switches are resolved outside. */
#define EACH_ACTIVATION(loop, ...) \
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

INLINE void
act_loop(net_activation kind, const float *x, float *y, int64_t n)
{
	int64_t i = 0;

	FOR_VECTORS(i, n)
		store(y + i, act_vf(kind, load(x + i)));
	if (i < n)
		store_part(y + i, act_vf(kind, load_part(x + i, n - i)), n - i);
}

KERNEL void
act(net_activation kind, const float *x, float *y, int64_t n)
{
	EACH_ACTIVATION(act_loop, x, y, n);
}

INLINE void
act_grad_loop(net_activation kind, const float *dy, const float *ref, float *dx, bool accumulate, int64_t n)
{
	int64_t i = 0;
	vf g;

	FOR_VECTORS(i, n)
	{
		g = load(dy + i) * act_slope_vf(kind, load(ref + i));
		store(dx + i, accumulate ? load(dx + i) + g : g);
	}
	if (i < n)
	{
		g = load_part(dy + i, n - i) * act_slope_vf(kind, load_part(ref + i, n - i));
		store_part(dx + i, accumulate ? load_part(dx + i, n - i) + g : g, n - i);
	}
}

KERNEL void
act_grad(net_activation kind, const float *dy, const float *ref, float *dx, bool accumulate, int64_t n)
{
	EACH_ACTIVATION(act_grad_loop, dy, ref, dx, accumulate, n);
}

/* ---- elementwise and reductions ---- */

KERNEL void
axpy(float a, const float *x, float *y, int64_t n)
{
	int64_t i = 0;

	FOR_VECTORS(i, n)
		store(y + i, load(y + i) + splat(a) * load(x + i));
	for (; i < n; i++)
		y[i] += a * x[i];
}

KERNEL void
scale(float a, const float *x, float *y, int64_t n)
{
	int64_t i = 0;

	FOR_VECTORS(i, n)
		store(y + i, splat(a) * load(x + i));
	for (; i < n; i++)
		y[i] = a * x[i];
}

KERNEL void
add(const float *a, const float *b, float *y, int64_t n)
{
	int64_t i = 0;

	FOR_VECTORS(i, n)
		store(y + i, load(a + i) + load(b + i));
	for (; i < n; i++)
		y[i] = a[i] + b[i];
}

/* The order of max_vf()'s arguments makes 0 of NaN. */
INLINE vf
bins_vf(float x, vf edge, vf inverse)
{
	return min_vf(max_vf((splat(x) - edge) * inverse, (vf) {}), splat(1));
}

KERNEL void
bins(float x, const float *edge, const float *inverse, float *y, int64_t n)
{
	int64_t i = 0;

	FOR_VECTORS(i, n)
		store(y + i, bins_vf(x, load(edge + i), load(inverse + i)));
	if (i < n)
		store_part(y + i, bins_vf(x, load_part(edge + i, n - i), load_part(inverse + i, n - i)), n - i);
}

KERNEL float
max(const float *x, int64_t n)
{
	int64_t i = 0;
	vf v = splat(-INFINITY);
	float m = -INFINITY;

	FOR_VECTORS(i, n)
		v = max_vf(v, load(x + i));
	for (int j = 0; j < LANES; j++)
		m = v[j] > m ? v[j] : m;
	for (; i < n; i++)
		m = x[i] > m ? x[i] : m;
	return m;
}

KERNEL float
sum(const float *x, int64_t n)
{
	int64_t i = 0;
	vf v = {};
	float tail = 0;

	FOR_VECTORS(i, n)
		v += load(x + i);
	for (; i < n; i++)
		tail += x[i];
	return sum4(fold(v)) + tail;
}

KERNEL float
exp_sum(const float *x, float shift, float *y, int64_t n)
{
	int64_t i = 0;
	vf total = {};
	vf e;

	FOR_VECTORS(i, n)
	{
		e = exp_vf(load(x + i) - splat(shift));
		total += e;
		if (y)
			store(y + i, e);
	}
	if (i < n)
	{
		float part[LANES];
		float tail = 0;

		e = exp_vf(load_part(x + i, n - i) - splat(shift));
		store(part, e);
		for (int64_t j = 0; j < n - i; j++)
			tail += part[j];
		if (y)
			store_part(y + i, e, n - i);
		return sum4(fold(total)) + tail;
	}
	return sum4(fold(total));
}

/* Blocks of 256 are summed in float, blocks in double. */
KERNEL double
sum_squares(const float *x, int64_t n)
{
	double total = 0;

	for (int64_t start = 0; start < n; start += 256)
	{
		int64_t end = start + 256 < n ? start + 256 : n;
		int64_t i = start;
		vf v = {};
		float tail = 0;

		FOR_VECTORS(i, end)
			v += load(x + i) * load(x + i);
		for (; i < end; i++)
			tail += x[i] * x[i];
		total += (double) sum4(fold(v)) + tail;
	}
	return total;
}

#include "simd_products.h"

/* ---- layer normalisation ---- */

KERNEL void
layer_norm(const float *x, const float *gamma, const float *beta, float epsilon, float *y, float *stats, int64_t n)
{
	int64_t i = 0;
	float mean = sum(x, n) / n;
	vf v = {};
	float variance, rstd;

	FOR_VECTORS(i, n)
	{
		vf d = load(x + i) - splat(mean);

		v += d * d;
	}
	variance = sum4(fold(v));
	for (; i < n; i++)
		variance += (x[i] - mean) * (x[i] - mean);
	rstd = 1.0f / sqrtf(variance / n + epsilon);
	i = 0;
	FOR_VECTORS(i, n)
	{
		vf scaled = (load(x + i) - splat(mean)) * splat(rstd) * load(gamma + i);

		store(y + i, beta ? scaled + load(beta + i) : scaled);
	}
	for (; i < n; i++)
		y[i] = (x[i] - mean) * rstd * gamma[i] + (beta ? beta[i] : 0);
	stats[0] = mean;
	stats[1] = rstd;
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy gamma */
KERNEL void
layer_norm_grad(const float *dy, const float *x, const float *gamma, const float *stats, float *dx, bool accumulate,
				int64_t n)
{
	int64_t i = 0;
	float mean = stats[0], rstd = stats[1];
	vf sg = {}, sx = {};
	float g_mean, gx_mean;

	FOR_VECTORS(i, n)
	{
		vf g = load(dy + i) * load(gamma + i);

		sg += g;
		sx += g * (load(x + i) - splat(mean));
	}
	g_mean = sum4(fold(sg));
	gx_mean = sum4(fold(sx));
	for (; i < n; i++)
	{
		g_mean += dy[i] * gamma[i];
		gx_mean += dy[i] * gamma[i] * (x[i] - mean);
	}
	g_mean /= n;
	gx_mean = gx_mean / n * rstd * rstd;
	i = 0;
	FOR_VECTORS(i, n)
	{
		vf d = load(dy + i) * load(gamma + i) - splat(g_mean) - (load(x + i) - splat(mean)) * splat(gx_mean);

		d *= splat(rstd);
		store(dx + i, accumulate ? load(dx + i) + d : d);
	}
	for (; i < n; i++)
	{
		float d = (dy[i] * gamma[i] - g_mean - (x[i] - mean) * gx_mean) * rstd;

		dx[i] = accumulate ? dx[i] + d : d;
	}
}

/* Columns [j, j + m) of all rows, in four vectors at a time: whole cache lines, sums in registers. */
#define PARAM_VECTORS 4

INLINE void
layer_norm_param_columns(const int vectors, const float *dy, const float *x, const float *stats, int64_t rows,
						 int64_t row_step, float *dgamma, float *dbeta, int64_t last)
{
	vf gamma[PARAM_VECTORS], beta[PARAM_VECTORS];

#pragma GCC unroll 4
	for (int v = 0; v < vectors; v++)
		gamma[v] = beta[v] = (vf) {};
	for (int64_t r = 0; r < rows; r++, dy += row_step, x += row_step, stats += 2)
	{
		vf mean = splat(stats[0]), rstd = splat(stats[1]);

#pragma GCC unroll 4
		for (int v = 0; v < vectors; v++)
		{
			int64_t n = v < vectors - 1 ? LANES : last;
			vf d = load_part(dy + v * LANES, n);

			gamma[v] += d * ((load_part(x + v * LANES, n) - mean) * rstd);
			beta[v] += d;
		}
	}
#pragma GCC unroll 4
	for (int v = 0; v < vectors; v++)
	{
		int64_t n = v < vectors - 1 ? LANES : last;

		store_part(dgamma + v * LANES, load_part(dgamma + v * LANES, n) + gamma[v], n);
		if (dbeta)
			store_part(dbeta + v * LANES, load_part(dbeta + v * LANES, n) + beta[v], n);
	}
}

KERNEL void
layer_norm_param(const float *dy, const float *x, const float *stats, int64_t rows, int64_t row_step, float *dgamma,
				 float *dbeta, int64_t n)
{
	int64_t j = 0;

	for (; j + PARAM_VECTORS * LANES <= n; j += PARAM_VECTORS * LANES)
		layer_norm_param_columns(PARAM_VECTORS, dy + j, x + j, stats, rows, row_step, dgamma + j,
								 dbeta ? dbeta + j : NULL, LANES);
	for (; j < n; j += LANES)
		layer_norm_param_columns(1, dy + j, x + j, stats, rows, row_step, dgamma + j, dbeta ? dbeta + j : NULL,
								 n - j < LANES ? n - j : LANES);
}

INLINE void
column_sum_columns(const int vectors, const float *x, int64_t rows, int64_t row_step, float *sum, int64_t last)
{
	vf total[PARAM_VECTORS];

#pragma GCC unroll 4
	for (int v = 0; v < vectors; v++)
		total[v] = (vf) {};
	for (int64_t r = 0; r < rows; r++, x += row_step)
	{
#pragma GCC unroll 4
		for (int v = 0; v < vectors; v++)
			total[v] += load_part(x + v * LANES, v < vectors - 1 ? LANES : last);
	}
#pragma GCC unroll 4
	for (int v = 0; v < vectors; v++)
	{
		int64_t n = v < vectors - 1 ? LANES : last;

		store_part(sum + v * LANES, load_part(sum + v * LANES, n) + total[v], n);
	}
}

KERNEL void
column_sum(const float *x, int64_t rows, int64_t row_step, float *sum, int64_t n)
{
	int64_t j = 0;

	for (; j + PARAM_VECTORS * LANES <= n; j += PARAM_VECTORS * LANES)
		column_sum_columns(PARAM_VECTORS, x + j, rows, row_step, sum + j, LANES);
	for (; j < n; j += LANES)
		column_sum_columns(1, x + j, rows, row_step, sum + j, n - j < LANES ? n - j : LANES);
}

/* Rows of a table are far apart and their addresses known early. */
#define ROWS_AHEAD 4

INLINE void
add_rows_columns(const int vectors, const float *x, const int32_t *row, const float *factor, int64_t count, float *y,
				 int64_t n, int64_t last)
{
	vf total[PARAM_VECTORS];

#pragma GCC unroll 4
	for (int v = 0; v < vectors; v++)
		total[v] = load_part(y + v * LANES, v < vectors - 1 ? LANES : last);
	for (int64_t i = 0; i < count; i++)
	{
		const float *from = x + row[i] * n;
		const float *ahead = x + row[i + ROWS_AHEAD < count ? i + ROWS_AHEAD : i] * n;

#pragma GCC unroll 4
		for (int v = 0; v < vectors; v++)
		{
			__builtin_prefetch(ahead + v * LANES);
			total[v] += splat(factor[i]) * load_part(from + v * LANES, v < vectors - 1 ? LANES : last);
		}
	}
#pragma GCC unroll 4
	for (int v = 0; v < vectors; v++)
		store_part(y + v * LANES, total[v], v < vectors - 1 ? LANES : last);
}

KERNEL void
add_rows(const float *x, const int32_t *row, const float *factor, int64_t count, float *y, int64_t n)
{
	int64_t j = 0;

	for (; j + PARAM_VECTORS * LANES <= n; j += PARAM_VECTORS * LANES)
		add_rows_columns(PARAM_VECTORS, x + j, row, factor, count, y + j, n, LANES);
	for (; j < n; j += LANES)
		add_rows_columns(1, x + j, row, factor, count, y + j, n, n - j < LANES ? n - j : LANES);
}

/* ---- random ---- */

/* High and low halves of the 64-bit products of 32-bit lanes. */
INLINE void
multiply_wide(vu a, uint32_t b, vu *high, vu *low)
{
#ifdef VECTOR_MUL_EVEN
	typedef uint64_t vq __attribute__((vector_size(4 * LANES)));
	vu bb = b - (vu) {};
	vu even = (vu) VECTOR_MUL_EVEN(a, bb);
	vu odd = (vu) VECTOR_MUL_EVEN((vu) ((vq) a >> 32), bb);
	vu upper = (vu) (~(vq) {} << 32);

	*low = (even & ~upper) | (vu) ((vq) odd << 32);
	*high = (vu) ((vq) even >> 32) | (odd & upper);
#else
	for (int i = 0; i < LANES; i++)
	{
		uint64_t p = (uint64_t) a[i] * b;

		(*high)[i] = (uint32_t) (p >> 32);
		(*low)[i] = (uint32_t) p;
	}
#endif
}

/*
 * LANES blocks of the stream of philox.h at once, the same numbers.  Word w of block b
 * decides elements 8 b + 2 w (low 16 bits) and 8 b + 2 w + 1 (high 16 bits).
 */
INLINE void
philox_blocks(uint64_t key, uint64_t step, uint32_t stream, uint32_t block, uint32_t out[4][LANES])
{
	vu c0, c1 = stream - (vu) {}, c2 = (uint32_t) step - (vu) {}, c3 = (uint32_t) (step >> 32) - (vu) {};
	uint32_t k0 = (uint32_t) key, k1 = (uint32_t) (key >> 32);

	for (int i = 0; i < LANES; i++)
		c0[i] = block + i;
	for (int i = 0; i < PHILOX_ROUNDS; i++)
	{
		vu h0, l0, h1, l1;

		multiply_wide(c0, PHILOX_MULTIPLIER0, &h0, &l0);
		multiply_wide(c2, PHILOX_MULTIPLIER1, &h1, &l1);
		c0 = h1 ^ c1 ^ k0;
		c1 = l1;
		c2 = h0 ^ c3 ^ k1;
		c3 = l0;
		k0 += PHILOX_WEYL0;
		k1 += PHILOX_WEYL1;
	}
	memcpy(out[0], &c0, sizeof(c0));
	memcpy(out[1], &c1, sizeof(c1));
	memcpy(out[2], &c2, sizeof(c2));
	memcpy(out[3], &c3, sizeof(c3));
}

/* Factors of 2 LANES elements from LANES words. */
INLINE void
dropout_factors(vu words, const dropout_key *k, float *factor)
{
	vi scale = (vi) splat(k->scale);
	vi low = ((words & 0xffff) >= k->threshold) & scale;
	vi high = ((words >> 16) >= k->threshold) & scale;

	store(factor, (vf) INTERLEAVE_FIRST(low, high));
	store(factor + LANES, (vf) INTERLEAVE_SECOND(low, high));
}

KERNEL void
dropout(const float *x, float *y, const dropout_key *k, uint32_t block, bool accumulate, int64_t n)
{
	uint32_t bits[4][LANES], words[4 * LANES];
	float factor[8 * LANES];

	for (int64_t start = 0; start < n; start += 8 * LANES)
	{
		int64_t end = n - start < 8 * LANES ? n : start + 8 * LANES;

		philox_blocks(k->seed, k->step, k->stream, block + (uint32_t) (start / 8), bits);
		for (int b = 0; b < LANES; b++)
			for (int w = 0; w < 4; w++)
				words[4 * b + w] = bits[w][b];
		for (int i = 0; i < 4; i++)
			dropout_factors(*(const vu_memory *) (words + i * LANES), k, factor + 2 * i * LANES);
		for (int64_t i = start; i < end; i += LANES)
		{
			int64_t part = end - i < LANES ? end - i : LANES;
			vf v = load_part(x + i, part) * load(factor + (i - start));

			store_part(y + i, accumulate ? load_part(y + i, part) + v : v, part);
		}
	}
}

/* ---- optimizers ---- */

INLINE vf
sqrt_vf(vf x)
{
#ifdef VECTOR_SQRT
	return (vf) VECTOR_SQRT(x);
#else
	for (int i = 0; i < LANES; i++)
		x[i] = sqrtf(x[i]);
	return x;
#endif
}

INLINE vf
adamw_vf(vf w, vf g, vf *m, vf *v, const adamw_scalars *s)
{
	g *= splat(s->gradient_scale);
	*m = splat(s->beta1) * *m + splat(1.0f - s->beta1) * g;
	*v = splat(s->beta2) * *v + splat(1.0f - s->beta2) * g * g;
	return w * splat(s->decay) -
		   splat(s->learning_rate * s->correction1) * *m / (sqrt_vf(*v * splat(s->correction2)) + splat(s->epsilon));
}

KERNEL void
adamw(float *w, const float *g, float *m, float *v, const adamw_scalars *s, int64_t n)
{
	int64_t i = 0;
	vf mi, vv;

	FOR_VECTORS(i, n)
	{
		mi = load(m + i);
		vv = load(v + i);
		store(w + i, adamw_vf(load(w + i), load(g + i), &mi, &vv, s));
		store(m + i, mi);
		store(v + i, vv);
	}
	if (i < n)
	{
		mi = load_part(m + i, n - i);
		vv = load_part(v + i, n - i);
		store_part(w + i, adamw_vf(load_part(w + i, n - i), load_part(g + i, n - i), &mi, &vv, s), n - i);
		store_part(m + i, mi, n - i);
		store_part(v + i, vv, n - i);
	}
}

KERNEL void
sgd(float *w, const float *g, float *u, float momentum, float gradient_scale, float rate, float decay, int64_t n)
{
	int64_t i = 0;

	FOR_VECTORS(i, n)
	{
		vf ui = splat(momentum) * load(u + i) + splat(gradient_scale) * load(g + i);

		store(u + i, ui);
		store(w + i, splat(decay) * load(w + i) - splat(rate) * ui);
	}
	for (; i < n; i++)
	{
		u[i] = momentum * u[i] + gradient_scale * g[i];
		w[i] = decay * w[i] - rate * u[i];
	}
}

KERNEL void
average(float *mean, const float *w, float decay, int64_t n)
{
	int64_t i = 0;

	FOR_VECTORS(i, n)
		store(mean + i, load(mean + i) + splat(1.0f - decay) * (load(w + i) - load(mean + i)));
	for (; i < n; i++)
		mean[i] += (1.0f - decay) * (w[i] - mean[i]);
}

typedef double vd __attribute__((vector_size(8 * LANES)));

KERNEL void
add_low_rank(const float *x, const float *b, int64_t rank, const float *a, int64_t a_row, float *y, int64_t n)
{
	int64_t i = 0;

	FOR_VECTORS(i, n)
	{
		vd sum = __builtin_convertvector(load(x + i), vd);

		for (int64_t r = 0; r < rank; r++)
			sum += (double) b[r] * __builtin_convertvector(load(a + r * a_row + i), vd);
		store(y + i, __builtin_convertvector(sum, vf));
	}
	for (; i < n; i++)
	{
		double sum = x[i];

		for (int64_t r = 0; r < rank; r++)
			sum += (double) b[r] * a[r * a_row + i];
		y[i] = (float) sum;
	}
}

#include "simd_image.h"
#include "simd_text.h"

static bool SUPPORTED(void);

const simd_kernels NAME = {
	.name = NAME_STRING,
	.supported = SUPPORTED,
	.lanes = LANES,
	.gemv = gemv,
	.gemm_tile = gemm_tile,
	.axpy = axpy,
	.scale = scale,
	.add = add,
	.add_rows = add_rows,
	.bins = bins,
	.act = act,
	.act_grad = act_grad,
	.layer_norm = layer_norm,
	.layer_norm_grad = layer_norm_grad,
	.layer_norm_param = layer_norm_param,
	.max = max,
	.sum = sum,
	.exp_sum = exp_sum,
	.sum_squares = sum_squares,
	.dropout = dropout,
	.adamw = adamw,
	.sgd = sgd,
	.average = average,
	.add_low_rank = add_low_rank,
	.tile_rows = DIRECT_ROWS,
	.tile = tile,
	.channel_moments = channel_moments,
	.channel_norm = channel_norm,
	.channel_norm_sums = channel_norm_sums,
	.channel_norm_dx = channel_norm_dx,
	.pool_max = pool_max,
	.pool_max_grad = pool_max_grad,
	.column_sum = column_sum,
	.rms_norm = rms_norm,
	.rms_norm_grad = rms_norm_grad,
	.rotate = rotate,
	.glu = glu,
	.glu_grad = glu_grad,
	.dots = dots,
	.transpose = transpose,
	.attention_softmax = attention_softmax,
	.attention_softmax_grad = attention_softmax_grad,
};
