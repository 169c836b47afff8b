/*
 * cpu_ops.c
 *	  The CPU's column beside ops.def: one kernel per operation, on vector kernels and
 *	  the matrix product.  Those on images are in cpu_conv.c, cpu_image.c and cpu_norm.c,
 *	  those on tokens in cpu_text.c and cpu_language.c.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blas.h"
#include "cpu_ops.h"
#include "cpu_bf16.h"

/* Up to so many rows, or columns, a product runs on the kernels that pack nothing; up to more rows when they are long. */
#define FEW_ROWS 8
#define FEW_LONG_ROWS 48
#define LONG_ROW 256
#define FEW_COLUMNS 4

/*
 * A product packs its second matrix anew for each tile, so tiles have many rows; fewer
 * when the batch is small, so that there are several.
 */
static int64_t
product_panel(const step *s, const graph *g)
{
	return g->capacity[s->axis] >= 512 ? 128 : 64;
}

/* Products with few columns are none of the matrix product. */
static bool
is_bf16(const graph *g, int64_t columns)
{
	return g->precision == PRECISION_BF16 && columns > FEW_COLUMNS;
}

/* ---- linear: size = k, n ---- */

static void
prepare_linear(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], 2.0 * columns_of(g, n->out[0]));
	s->size[1] = columns_of(g, n->out[0]);
	s->panel = product_panel(s, g);
	if (is_bf16(g, columns_of(g, n->out[0])))
		prepare_linear_bf16(s, g, n);
}

static void
run_linear(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t k = s->size[0], n = s->size[1];
	const float *x = (const float *) s->in[0] + begin * k, *w = s->in[1], *bias = s->in[2];
	float *y = (float *) s->out[0] + begin * n;

	if (r->rows[s->axis] <= (k < LONG_ROW ? FEW_ROWS : FEW_LONG_ROWS) || n <= FEW_COLUMNS)
	{
		r->simd->gemv(x, end - begin, k, w, bias, y, n, n);
		return;
	}
	if (bias)
		for (int64_t i = 0; i < end - begin; i++)
			memcpy(y + i * n, bias, n * sizeof(float));
	gemm(r->simd, false, true, end - begin, n, k, x, k, w, k, bias ? 1 : 0, y, n);
}

/* ---- linear_dx: size = n, k: dx (rows, k) = dy (rows, n) w (n, k) ---- */

static void
prepare_linear_dx(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], 2.0 * columns_of(g, n->out[0]));
	s->size[1] = columns_of(g, n->out[0]);
	s->panel = product_panel(s, g);
	if (is_bf16(g, columns_of(g, n->in[0])))
		prepare_linear_dx_bf16(s, g, n);
}

static void
run_linear_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0], k = s->size[1];
	const float *dy = (const float *) s->in[0] + begin * n, *w = s->in[1];
	float *dx = (float *) s->out[0] + begin * k;

	if (n > FEW_COLUMNS)
	{
		gemm(r->simd, false, false, end - begin, k, n, dy, n, w, k, s->accumulate[0] ? 1 : 0, dx, k);
		return;
	}
	for (int64_t i = 0; i < end - begin; i++, dy += n, dx += k)
	{
		if (s->accumulate[0])
			r->simd->axpy(dy[0], w, dx, k);
		else
			r->simd->scale(dy[0], w, dx, k);
		for (int64_t j = 1; j < n; j++)
			r->simd->axpy(dy[j], w + j * k, dx, k);
	}
}

/* ---- linear_dw: size = n, k; a unit is a row of dw (n, k) = dy^T x ---- */

static void
prepare_linear_dw(step *s, const graph *g, const node *n)
{
	s->size[0] = columns_of(g, n->in[0]);
	s->size[1] = columns_of(g, n->in[1]);
	s->units = s->size[0];
	s->cost = 2.0 * s->size[1] * g->capacity[s->axis];
	s->panel = product_panel(s, g);
	if (is_bf16(g, columns_of(g, n->in[0])))
		prepare_linear_dw_bf16(s, g, n);
}

static void
run_linear_dw(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0], k = s->size[1];
	const float *dy = s->in[0], *x = s->in[1];
	float *dw = (float *) s->out[0] + begin * k;

	if (n > FEW_COLUMNS)
	{
		gemm(r->simd, true, false, end - begin, k, r->rows[s->axis], dy + begin, n, x, k, s->accumulate[0] ? 1 : 0,
			 dw, k);
		return;
	}
	if (!s->accumulate[0])
		memset(dw, 0, (end - begin) * k * sizeof(float));
	for (int64_t j = begin; j < end; j++, dw += k)
		for (int64_t i = 0; i < r->rows[s->axis]; i++)
			r->simd->axpy(dy[i * n + j], x + i * k, dw, k);
}

/* ---- column_sum: size = n; a unit is a column ---- */

#define COLUMN_PANEL 64 /* whole cache lines, few strides over all rows */

static void
prepare_column_sum(step *s, const graph *g, const node *n)
{
	s->size[0] = s->units = columns_of(g, n->in[0]);
	s->cost = COST_SIMPLE * g->capacity[s->axis];
	s->panel = COLUMN_PANEL;
}

static void
run_column_sum(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const float *dy = (const float *) s->in[0] + begin;
	float *sum = (float *) s->out[0] + begin;

	if (!s->accumulate[0])
		memset(sum, 0, (end - begin) * sizeof(float));
	r->simd->column_sum(dy, r->rows[s->axis], s->size[0], sum, end - begin);
}

/* ---- embed: size = columns of the index, width ---- */

static void
prepare_embed(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE * columns_of(g, n->in[1]));
	s->size[1] = columns_of(g, n->in[1]);
}

static void
run_embed(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t columns = s->size[0], width = s->size[1];
	const int32_t *index = s->in[0];
	const float *table = s->in[1];
	float *y = s->out[0];

	for (int64_t i = begin * columns; i < end * columns; i++)
		memcpy(y + i * width, table + index[i] * width, width * sizeof(float));
}

/* ---- embed_bag: size = width; in = base, start, index, value, table, bias ---- */

static void
prepare_embed_bag(step *s, const graph *g, const node *n)
{
	int64_t pairs = g->tensors[n->in[2]].dims[0] / g->capacity[AXIS_ROW];

	per_row(s, g, n->out[0], COST_SIMPLE * (pairs < 64 ? pairs : 64));
}

static void
run_embed_bag(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t width = s->size[0];
	const float *base = s->in[0], *value = s->in[3], *table = s->in[4], *bias = s->in[5];
	const int32_t *start = s->in[1], *index = s->in[2];
	float *y = (float *) s->out[0] + begin * width;

	for (int64_t i = begin; i < end; i++, y += width)
	{
		const float *from = base ? base + i * width : bias;

		if (!from)
			memset(y, 0, width * sizeof(float));
		else if (from != y)
			memcpy(y, from, width * sizeof(float));
		if (base && bias)
			r->simd->axpy(1, bias, y, width);
		r->simd->add_rows(table, index + start[i], value + start[i], start[i + 1] - start[i], y, width);
	}
}

/*
 * ---- group_pairs: size = rows of the table, columns of the index (embed) ----
 * in = start, index, value; without start a pair is an element of the index and its row
 * of dy the element's number.  Counting sort by table row, stable.
 * out = first (rows + 1), row of dy (pairs), factor (pairs), used (1 + rows used).
 */
static void
prepare_group_pairs(step *s, const graph *g, const node *n)
{
	s->size[0] = n->attr.index;
	s->size[1] = columns_of(g, n->in[1]);
	s->units = 1;
}

static void
count_pairs(const int32_t *index, int32_t pairs, int32_t *first, int64_t rows, int32_t *used)
{
	int32_t total = 0, used_count = 0;

	memset(first, 0, (rows + 1) * sizeof(int32_t));
	for (int32_t p = 0; p < pairs; p++)
		first[index[p]]++;
	for (int64_t t = 0; t < rows; t++)
	{
		int32_t count = first[t];

		first[t] = total;
		total += count;
		if (count > 0)
			used[++used_count] = (int32_t) t;
	}
	used[0] = used_count;
}

/* Put pair p into its table row's run; first[row] moves from the run's start to its end. */
static inline void
place_pair(int32_t *first, int32_t index, int32_t row, float factor, int32_t *rows, float *factors)
{
	int32_t at = first[index]++;

	rows[at] = row;
	factors[at] = factor;
}

static void
run_group_pairs(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int32_t *start = s->in[0], *index = s->in[1];
	const float *value = s->in[2];
	int32_t *first = s->out[0], *rows = s->out[1];
	float *factors = s->out[2];
	int32_t pairs = start ? start[r->rows[s->axis]] : (int32_t) (r->rows[s->axis] * s->size[1]);

	count_pairs(index, pairs, first, s->size[0], s->out[3]);
	if (start)
		for (int32_t i = 0; i < r->rows[s->axis]; i++)
			for (int32_t p = start[i]; p < start[i + 1]; p++)
				place_pair(first, index[p], i, value[p], rows, factors);
	else
		for (int32_t p = 0; p < pairs; p++)
			place_pair(first, index[p], p, 1, rows, factors);
	/* each entry is now where the next run starts: shift back by one */
	memmove(first + 1, first, s->size[0] * sizeof(int32_t));
	first[0] = 0;
}

/* ---- table_grad: size = width; in = dy, first, rows, factors, used; a unit is a row of the gradient ---- */

static void
prepare_table_grad(step *s, const graph *g, const node *n)
{
	const tensor *gradient = &g->tensors[n->out[0]];
	double pairs = g->tensors[n->in[2]].dims[0];

	s->size[0] = columns_of(g, n->out[0]);
	s->units = gradient->dims[0];
	s->cost = COST_SIMPLE * s->size[0] * (1 + pairs / s->units);
}

static void
run_table_grad(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t width = s->size[0];
	const float *dy = s->in[0], *factors = s->in[3];
	const int32_t *first = s->in[1], *rows = s->in[2], *used = s->in[4];

	if (s->attr.flag && end > used[0])
		end = used[0];
	for (int64_t u = begin; u < end; u++)
	{
		int64_t row = s->attr.flag ? used[1 + u] : u;
		float *sum = (float *) s->out[0] + u * width;

		if (!s->accumulate[0])
			memset(sum, 0, width * sizeof(float));
		r->simd->add_rows(dy, rows + first[row], factors + first[row], first[row + 1] - first[row], sum, width);
	}
}

/* ---- concat: size = last dimension of a, of b, positions of a row ---- */

static int64_t
last_dim(const graph *g, int32_t t)
{
	const tensor *x = &g->tensors[t];

	return x->dims[x->ndim - 1];
}

static void
prepare_concat(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->out[0], COST_SIMPLE);
	s->size[0] = last_dim(g, n->in[0]);
	s->size[1] = last_dim(g, n->in[1]);
	s->size[2] = columns_of(g, n->out[0]) / (s->size[0] + s->size[1]);
}

static void
run_concat(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t a = s->size[0], b = s->size[1];

	for (int64_t i = begin * s->size[2]; i < end * s->size[2]; i++)
	{
		float *y = (float *) s->out[0] + i * (a + b);

		memcpy(y, (const float *) s->in[0] + i * a, a * sizeof(float));
		memcpy(y + a, (const float *) s->in[1] + i * b, b * sizeof(float));
	}
}

/* ---- slice: size = last dimension of the input, of the output, positions of a row; attr.index = first column ---- */

static void
prepare_slice(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
	s->size[0] = last_dim(g, n->in[0]);
	s->size[1] = last_dim(g, n->out[0]);
	s->size[2] = columns_of(g, n->out[0]) / s->size[1];
}

static void
run_slice(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	for (int64_t i = begin * s->size[2]; i < end * s->size[2]; i++)
	{
		const float *x = (const float *) s->in[0] + i * s->size[0] + s->attr.index;
		float *y = (float *) s->out[0] + i * s->size[1];

		if (s->accumulate[0])
			r->simd->axpy(1, x, y, s->size[1]);
		else
			memcpy(y, x, s->size[1] * sizeof(float));
	}
}

/* ---- elementwise: size = columns ---- */

static void
prepare_elementwise(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
}

static void
prepare_function(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_FUNCTION);
}

#define prepare_add prepare_elementwise
#define prepare_scale prepare_elementwise
#define prepare_pass prepare_elementwise
#define prepare_flatten prepare_elementwise
#define run_flatten run_pass
#define prepare_act prepare_function
#define prepare_act_grad prepare_function
#define prepare_dropout prepare_elementwise
#define prepare_row_dropout prepare_elementwise
#define prepare_softmax prepare_function
#define prepare_layer_norm prepare_elementwise
#define prepare_layer_norm_dx prepare_elementwise

/* The elements of rows begin .. end - 1 of input or output x. */
#define AT(x) ((float *) (x) + begin * s->size[0])
#define ELEMENTS ((end - begin) * s->size[0])

static void
run_add(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	r->simd->add(AT(s->in[0]), AT(s->in[1]), AT(s->out[0]), ELEMENTS);
}

static void
run_scale(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	if (s->accumulate[0])
		r->simd->axpy(s->attr.number, AT(s->in[0]), AT(s->out[0]), ELEMENTS);
	else
		r->simd->scale(s->attr.number, AT(s->in[0]), AT(s->out[0]), ELEMENTS);
}

static void
run_pass(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	if (s->accumulate[0])
		r->simd->axpy(1, AT(s->in[0]), AT(s->out[0]), ELEMENTS);
	else if (s->in[0] != s->out[0])
		memcpy(AT(s->out[0]), AT(s->in[0]), ELEMENTS * sizeof(float));
}

static void
run_act(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	r->simd->act(s->attr.act, AT(s->in[0]), AT(s->out[0]), ELEMENTS);
}

static void
run_act_grad(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	r->simd->act_grad(s->attr.act, AT(s->in[0]), AT(s->in[1]), AT(s->out[0]), s->accumulate[0], ELEMENTS);
}

static dropout_key
key_of(const step *s, const run_args *r)
{
	uint32_t wanted = (uint32_t) (s->attr.number * 65536.0f + 0.5f);
	uint32_t threshold = wanted < 65536 ? wanted : 65535;

	return (dropout_key) {r->seed, r->step, (uint32_t) s->attr.index, threshold, 65536.0f / (65536.0f - threshold)};
}

/* Rows start at whole blocks of random numbers, so a row's mask does not depend on its tile. */
static void
run_dropout(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	dropout_key key = key_of(s, r);
	int64_t width = s->size[0];

	for (int64_t i = begin; i < end; i++)
		r->simd->dropout((const float *) s->in[0] + i * width, (float *) s->out[0] + i * width, &key,
						 (uint32_t) (i * ((width + 7) / 8)), s->accumulate[0], width);
}

static void
run_row_dropout(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	dropout_key key = key_of(s, r);
	int64_t width = s->size[0];
	float one = 1, factor;

	for (int64_t i = begin; i < end; i++)
	{
		const float *x = (const float *) s->in[0] + i * width;
		float *y = (float *) s->out[0] + i * width;

		r->simd->dropout(&one, &factor, &key, (uint32_t) i, false, 1);
		if (s->accumulate[0])
			r->simd->axpy(factor, x, y, width);
		else
			r->simd->scale(factor, x, y, width);
	}
}

static void
run_softmax(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end; i++)
	{
		const float *x = (const float *) s->in[0] + i * n;
		float *y = (float *) s->out[0] + i * n;
		float sum = r->simd->exp_sum(x, r->simd->max(x, n), y, n);

		r->simd->scale(1 / sum, y, y, n);
	}
}

/* ---- layer_norm: size = columns; out = y, stats (rows, 2) ---- */

static void
run_layer_norm(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end; i++)
		r->simd->layer_norm((const float *) s->in[0] + i * n, s->in[1], s->in[2], s->attr.number,
							(float *) s->out[0] + i * n, (float *) s->out[1] + 2 * i, n);
}

/* in = dy, x, gamma, stats */
static void
run_layer_norm_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end; i++)
		r->simd->layer_norm_grad((const float *) s->in[0] + i * n, (const float *) s->in[1] + i * n, s->in[2],
								 (const float *) s->in[3] + 2 * i, (float *) s->out[0] + i * n, s->accumulate[0], n);
}

/* in = dy, x, stats; out = dgamma, dbeta; a unit is a column */
static void
prepare_layer_norm_dparam(step *s, const graph *g, const node *n)
{
	prepare_column_sum(s, g, n);
}

static void
run_layer_norm_dparam(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];
	float *dgamma = (float *) s->out[0] + begin, *dbeta = s->out[1] ? (float *) s->out[1] + begin : NULL;

	if (!s->accumulate[0])
		memset(dgamma, 0, (end - begin) * sizeof(float));
	if (dbeta && !s->accumulate[1])
		memset(dbeta, 0, (end - begin) * sizeof(float));
	r->simd->layer_norm_param((const float *) s->in[0] + begin, (const float *) s->in[1] + begin, s->in[2],
							  r->rows[s->axis], n, dgamma, dbeta, end - begin);
}

/* ---- losses: in = prediction, target, weight, 1 / total; out = loss (rows), gradient; size = columns ---- */

static void
prepare_weight_total(step *s, const graph *g, const node *n)
{
	s->units = 1;
}

static void
run_weight_total(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const float *weight = s->in[0];
	double total = 0;

	for (int64_t i = 0; i < r->rows[s->axis]; i++)
		total += weight[i];
	*(float *) s->out[0] = total > 0 ? (float) (1 / total) : 0;
}

#define prepare_cross_entropy prepare_function
#define prepare_binary prepare_function
#define prepare_mse prepare_elementwise
#define prepare_huber prepare_elementwise

/* What row i's gradient is multiplied with. */
static inline float
row_factor(const step *s, int64_t i)
{
	return ((const float *) s->in[2])[i] * *(const float *) s->in[3];
}

static void
run_cross_entropy(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];
	float smooth = s->attr.number;

	for (int64_t i = begin; i < end; i++)
	{
		const float *x = (const float *) s->in[0] + i * n;
		int32_t target = ((const int32_t *) s->in[1])[i];
		float top = r->simd->max(x, n);
		float log_sum = logf(r->simd->exp_sum(x, top, NULL, n));
		float loss = (1 - smooth) * (log_sum + (top - x[target]));

		if (smooth > 0)
			loss += smooth * (log_sum + (top - r->simd->sum(x, n) / n));
		((float *) s->out[0])[i] = ((const float *) s->in[2])[i] * loss;
		if (s->attr.flag)
		{
			float *dx = (float *) s->out[1] + i * n;
			float factor = row_factor(s, i);

			r->simd->exp_sum(x, top + log_sum, dx, n);
			r->simd->scale(factor, dx, dx, n);
			for (int64_t j = 0; smooth > 0 && j < n; j++)
				dx[j] -= factor * smooth / n;
			dx[target] -= factor * (1 - smooth);
		}
	}
}

static void
run_binary(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	for (int64_t i = begin; i < end; i++)
	{
		float x = ((const float *) s->in[0])[i];
		float smooth = s->attr.number;
		float target = ((const int32_t *) s->in[1])[i] * (1 - smooth) + 0.5f * smooth;
		float e = expf(-fabsf(x));

		((float *) s->out[0])[i] = ((const float *) s->in[2])[i] * (fmaxf(x, 0) - x * target + log1pf(e));
		if (s->attr.flag)
			((float *) s->out[1])[i] = row_factor(s, i) * ((x >= 0 ? 1 : e) / (1 + e) - target);
	}
}

/* Loss and slope of one number's error, by kind of loss. */
static inline float
mse_loss(float error, float delta, float *slope)
{
	*slope = 2 * error;
	return error * error;
}

static inline float
huber_loss(float error, float delta, float *slope)
{
	float size = fabsf(error);

	*slope = size < delta ? error : copysignf(delta, error);
	return size < delta ? 0.5f * error * error : delta * (size - 0.5f * delta);
}

/* The mean over the row's numbers. */
static inline void
run_regression(const step *s, int64_t begin, int64_t end, float (*loss)(float, float, float *))
{
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end; i++)
	{
		const float *y = (const float *) s->in[0] + i * n, *target = (const float *) s->in[1] + i * n;
		float factor = s->attr.flag ? row_factor(s, i) / n : 0;
		float total = 0, slope;

		for (int64_t j = 0; j < n; j++)
		{
			total += loss(y[j] - target[j], s->attr.number, &slope);
			if (s->attr.flag)
				((float *) s->out[1])[i * n + j] = factor * slope;
		}
		((float *) s->out[0])[i] = ((const float *) s->in[2])[i] * total / n;
	}
}

static void
run_mse(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	run_regression(s, begin, end, mse_loss);
}

static void
run_huber(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	run_regression(s, begin, end, huber_loss);
}

static const op_kernel kernels[OP_COUNT] = {
#define OP(name, inplace, shape, gradient) {prepare_##name, run_##name},
#include "ops.def"
#undef OP
};

static void *
allocate(size_t bytes)
{
	return aligned_alloc(64, bytes ? bytes : 64);
}

const backend backend_cpu = {
	.name = "cpu",
	.allocate = allocate,
	.release = free,
	.kernels = kernels,
};
