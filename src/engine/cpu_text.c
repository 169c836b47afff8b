/*
 * cpu_text.c
 *	  CPU kernels of the operations on tokens, but for the language loss (cpu_language.c).
 *
 * `start` (rows + 1) says where the tokens of each row begin; a token's position is counted from
 * there.  What is summed over tokens is summed by one unit in their order.
 */
#include <math.h>
#include <string.h>

#include "cpu_attention.h"
#include "cpu_ops.h"

/* The elements of rows begin .. end - 1 of input or output x, of n columns. */
#define FROM(x, n) ((float *) (x) + begin * (n))

/* The row that token t belongs to: the last that starts at or before it and is not empty. */
static int64_t
row_of_token(const int32_t *start, int64_t rows, int64_t t)
{
	int64_t low = 0, high = rows - 1;

	while (low < high)
	{
		int64_t middle = (low + high + 1) / 2;

		if (start[middle] <= t)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* Walks over tokens: *row is that of the token before, or of this one. */
static inline int64_t
position_of(const int32_t *start, int64_t *row, int64_t t)
{
	while (start[*row + 1] <= t)
		++*row;
	return t - start[*row];
}

/* ---- attention: in = q and kv or qkv, NULL or kv, start, NULL or start of kv, bias; a unit is a head of a row ---- */

typedef struct fused
{
	int64_t q, k, v, q_step, kv_step; /* floats to the first of each from a token, and from token to token */
} fused;

/* Where queries, keys and values lie: in one tensor, or in two. */
static fused
layout(const attention_shape *a, bool cross)
{
	int64_t q = (int64_t) a->heads * a->head_dim, kv = (int64_t) a->kv_heads * a->head_dim;

	if (cross)
		return (fused) {.k = 0, .v = kv, .q_step = q, .kv_step = 2 * kv};
	return (fused) {.k = q, .v = q + kv, .q_step = q + 2 * kv, .kv_step = q + 2 * kv};
}

static attention_row
row_of_step(const step *s, int64_t row)
{
	const attention_shape *a = &s->attr.attention;
	fused at = layout(a, s->in[1] != NULL);
	const int32_t *start = s->in[2], *kv_start = s->in[1] ? s->in[3] : start;
	const float *q = s->in[0], *kv = s->in[1] ? s->in[1] : s->in[0];

	return (attention_row) {
		.queries = start[row + 1] - start[row],
		.keys = kv_start[row + 1] - kv_start[row],
		.q = q + start[row] * at.q_step,
		.k = kv + kv_start[row] * at.kv_step + at.k,
		.v = kv + kv_start[row] * at.kv_step + at.v,
		.q_step = at.q_step,
		.kv_step = at.kv_step,
		.bias = s->in[4],
	};
}

/* Products over half of all pairs under a causal mask, `products` of them, and about as much again for the rest. */
static void
prepare_attention_step(step *s, const graph *g, const node *n, double products, int32_t heads)
{
	const attention_shape *a = &n->attr.attention;
	double tokens = (double) g->capacity[g->tensors[n->in[1] == TENSOR_NONE ? n->in[0] : n->in[1]].axis];
	double length = tokens / g->capacity[AXIS_ROW];

	s->by_axis = AXIS_ROW;
	s->units = heads;
	s->cost = products * length * length * a->head_dim * (a->heads / heads) * (a->causal ? 1 : 2);
}

void
prepare_attention(step *s, const graph *g, const node *n)
{
	prepare_attention_step(s, g, n, 3, n->attr.attention.heads);
}

/* out = result, logarithms of the sums */
void
run_attention(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const attention_shape *a = &s->attr.attention;
	const int32_t *start = s->in[2];

	for (int64_t u = begin; u < end; u++)
	{
		int64_t row = u / a->heads;
		attention_row at = row_of_step(s, row);

		at.out = (float *) s->out[0] + (int64_t) start[row] * a->heads * a->head_dim;
		at.log_sum = (float *) s->out[1] + (int64_t) start[row] * a->heads;
		attention_forward(r->simd, a, &at, (int32_t) (u % a->heads));
	}
}

void
prepare_attention_grad(step *s, const graph *g, const node *n)
{
	prepare_attention_step(s, g, n, 7, n->attr.attention.kv_heads);
}

/*
 * in = as above, then the result, its gradient and the logarithms; out = gradients of q and kv, or
 * of qkv, and of the bias by row (rows, buckets * heads); a unit is a head of kv of a row, with
 * all that reads it
 */
void
run_attention_grad(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const attention_shape *a = &s->attr.attention;
	bool cross = s->in[1] != NULL;
	fused to = layout(a, cross);
	const int32_t *start = s->in[2], *kv_start = cross ? s->in[3] : start;

	for (int64_t u = begin; u < end; u++)
	{
		int64_t row = u / a->kv_heads, token = start[row], width = (int64_t) a->heads * a->head_dim;
		float *dkv = (float *) s->out[cross ? 1 : 0] + kv_start[row] * to.kv_step;
		attention_row at = row_of_step(s, row);

		at.out = (float *) s->in[5] + token * width;
		at.dout = (const float *) s->in[6] + token * width;
		at.log_sum = (float *) s->in[7] + token * a->heads;
		at.dq = (float *) s->out[0] + token * to.q_step;
		at.dk = dkv + to.k;
		at.dv = dkv + to.v;
		at.dq_step = to.q_step;
		at.dkv_step = to.kv_step;
		at.dbias = s->out[2] ? (float *) s->out[2] + row * a->buckets * a->heads : NULL;
		at.accumulate_q = s->accumulate[0];
		at.accumulate_kv = s->accumulate[cross ? 1 : 0];
		attention_backward(r->simd, a, &at, (int32_t) (u % a->kv_heads));
	}
}

/* ---- rotary_table: in = start; out (positions, dim): cosines, then sines; a unit is a position ---- */

/* The number whose wave fits so many times into the context. */
static double
number_of_wave(const rotary_shape *r, double times)
{
	return r->dim * log(r->context / (times * 2 * M_PI)) / (2 * log(r->theta));
}

/* Of the frequency of number i, what stays as it is. */
static double
share_by_number(const rotary_shape *r, int64_t i)
{
	double begin = number_of_wave(r, r->high), end = number_of_wave(r, r->low), share;

	begin = fmax(r->whole ? floor(begin) : begin, 0);
	end = fmin(r->whole ? ceil(end) : end, r->dim - 1);
	if (begin == end)
		end += 0.001; /* a step */
	share = (i - begin) / (end - begin);
	return 1 - (share < 0 ? 0 : share > 1 ? 1 : share);
}

static double
share_by_wave(const rotary_shape *r, double f)
{
	double share = (r->context * f / (2 * M_PI) - r->low) / ((double) r->high - r->low);

	return share < 0 ? 0 : share > 1 ? 1 : share;
}

/* Radians that number i turns from one position to the next. */
static double
frequency(const rotary_shape *r, int64_t i)
{
	double f = pow(r->theta, -2.0 * i / r->dim), share;

	if (r->factor == 0)
		return f;
	if (r->low == 0)
		return f / r->factor;
	share = r->yarn ? share_by_number(r, i) : share_by_wave(r, f);
	return (1 - share) * f / r->factor + share * f;
}

void
rotary_angles(const rotary_shape *r, int64_t first, int64_t positions, float *angles)
{
	float attention = r->attention > 0 ? r->attention : 1, turn[ATTENTION_MAX_DIM / 2];
	int64_t half = r->dim / 2;

	for (int64_t i = 0; i < half; i++)
		turn[i] = (float) frequency(r, i);
	for (int64_t p = 0; p < positions; p++, angles += r->dim)
		for (int64_t i = 0; i < half; i++)
		{
			/* in float, as the libraries that models come from */
			float angle = (float) (first + p) * turn[i];

			angles[i] = cosf(angle) * attention;
			angles[half + i] = sinf(angle) * attention;
		}
}

void
prepare_rotary_table(step *s, const graph *g, const node *n)
{
	s->size[0] = columns_of(g, n->out[0]);
	s->units = g->tensors[n->out[0]].dims[0];
	s->cost = COST_FUNCTION * 4 * s->size[0];
}

/* Positions that this run's rows have. */
void
run_rotary_table(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int32_t *start = s->in[0];
	int64_t longest = 0;

	for (int64_t i = 0; i < r->rows[AXIS_ROW]; i++)
		if (start[i + 1] - start[i] > longest)
			longest = start[i + 1] - start[i];
	rotary_angles(&s->attr.rotary, begin, smaller(end, longest) - begin, (float *) s->out[0] + begin * s->size[0]);
}

/* ---- rotary: in = qkv, start, table; heads of q and k are turned, back when attr.flag; size = columns, table's ---- */

void
prepare_rotary(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
	s->size[1] = columns_of(g, n->in[2]);
}

/* y = x, or added to it */
static void
pass_on(const run_args *r, const float *x, float *y, bool accumulate, int64_t n)
{
	if (accumulate)
		r->simd->axpy(1, x, y, n);
	else if (x != y)
		memcpy(y, x, n * sizeof(float));
}

void
run_rotary(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const attention_shape *a = &s->attr.attention;
	const int32_t *start = s->in[1];
	int64_t n = a->head_dim, columns = s->size[0], turned = (a->heads + a->kv_heads) * n, dim = s->size[1];
	int64_t row = row_of_token(start, r->rows[AXIS_ROW], begin);

	for (int64_t t = begin; t < end; t++)
	{
		const float *x = (const float *) s->in[0] + t * columns;
		const float *angles = (const float *) s->in[2] + position_of(start, &row, t) * dim;
		float *y = (float *) s->out[0] + t * columns;

		for (int64_t h = 0; h < turned; h += n)
		{
			r->simd->rotate(x + h, angles, angles + dim / 2, s->attr.flag ? -1 : 1, y + h, s->accumulate[0], dim / 2);
			if (dim < n)
				pass_on(r, x + h + dim, y + h + dim, s->accumulate[0], n - dim);
		}
		pass_on(r, x + turned, y + turned, s->accumulate[0], columns - turned);
	}
}

/* ---- token_types: in = token, start; out = separators before each token of a row, at most attr.count - 1 ---- */

void
prepare_token_types(step *s, const graph *g, const node *n)
{
	s->by_axis = AXIS_ROW;
	s->cost = COST_SIMPLE * g->capacity[AXIS_TOKEN] / g->capacity[AXIS_ROW];
}

void
run_token_types(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int32_t *token = s->in[0], *start = s->in[1];
	int32_t *types = s->out[0];

	for (int64_t row = begin; row < end; row++)
		for (int32_t t = start[row], type = 0; t < start[row + 1]; t++)
		{
			types[t] = type;
			type += token[t] == s->attr.index && type < s->attr.count - 1;
		}
}

/* ---- rms_norm: in = x, gamma; out = y, stats (rows, 2) = 0, 1 / deviation; size = columns ---- */

void
prepare_rms_norm(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
}

void
run_rms_norm(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end; i++)
	{
		float *stats = (float *) s->out[1] + 2 * i;

		stats[0] = 0;
		stats[1] = r->simd->rms_norm((const float *) s->in[0] + i * n, s->in[1], s->attr.number,
									 (float *) s->out[0] + i * n, n);
	}
}

/* in = dy, x, gamma, stats */
void
prepare_rms_norm_dx(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
}

void
run_rms_norm_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end; i++)
		r->simd->rms_norm_grad((const float *) s->in[0] + i * n, (const float *) s->in[1] + i * n, s->in[2],
							   ((const float *) s->in[3])[2 * i + 1], (float *) s->out[0] + i * n, s->accumulate[0],
							   n);
}

/*
 * ---- head_norm: in = qkv, gain of q, gain of k; out = y, 1 / deviation (rows, heads + kv_heads) ----
 * Each head of q and k by its root mean square; v as it is.  size = columns.
 */

void
prepare_head_norm(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
}

void
run_head_norm(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const attention_shape *a = &s->attr.attention;
	int64_t n = a->head_dim, columns = s->size[0], heads = a->heads + a->kv_heads;

	for (int64_t i = begin; i < end; i++)
	{
		const float *x = (const float *) s->in[0] + i * columns;
		float *y = (float *) s->out[0] + i * columns, *rstd = (float *) s->out[1] + i * heads;

		for (int64_t h = 0; h < heads; h++)
			rstd[h] = r->simd->rms_norm(x + h * n, s->in[h < a->heads ? 1 : 2], s->attr.number, y + h * n, n);
		if (x != y)
			memcpy(y + heads * n, x + heads * n, (columns - heads * n) * sizeof(float));
	}
}

/* in = dy, qkv, gain of q, gain of k, 1 / deviation */
void
prepare_head_norm_dx(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
}

void
run_head_norm_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const attention_shape *a = &s->attr.attention;
	int64_t n = a->head_dim, columns = s->size[0], heads = a->heads + a->kv_heads, rest = columns - heads * n;

	for (int64_t i = begin; i < end; i++)
	{
		const float *dy = (const float *) s->in[0] + i * columns, *x = (const float *) s->in[1] + i * columns;
		const float *rstd = (const float *) s->in[4] + i * heads;
		float *dx = (float *) s->out[0] + i * columns;

		for (int64_t h = 0; h < heads; h++)
			r->simd->rms_norm_grad(dy + h * n, x + h * n, s->in[h < a->heads ? 2 : 3], rstd[h], dx + h * n,
								   s->accumulate[0], n);
		if (s->accumulate[0])
			r->simd->axpy(1, dy + heads * n, dx + heads * n, rest);
		else if (dx != dy)
			memcpy(dx + heads * n, dy + heads * n, rest * sizeof(float));
	}
}

/*
 * in = dy, qkv, 1 / deviation; out = the gains' gradients; a unit is a column of a head.
 * size = columns, heads + kv_heads
 */
void
prepare_head_norm_dparam(step *s, const graph *g, const node *n)
{
	s->size[0] = columns_of(g, n->in[0]);
	s->size[1] = n->attr.attention.heads + n->attr.attention.kv_heads;
	s->units = n->attr.attention.head_dim;
	s->cost = COST_SIMPLE * s->size[1] * g->capacity[s->axis];
	s->panel = 16;
}

void
run_head_norm_dparam(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const attention_shape *a = &s->attr.attention;
	int64_t n = a->head_dim, columns = s->size[0], heads = s->size[1];

	for (int i = 0; i < 2; i++)
		if (!s->accumulate[i])
			memset((float *) s->out[i] + begin, 0, (end - begin) * sizeof(float));
	for (int64_t i = 0; i < r->rows[s->axis]; i++)
	{
		const float *dy = (const float *) s->in[0] + i * columns, *x = (const float *) s->in[1] + i * columns;
		const float *rstd = (const float *) s->in[2] + i * heads;

		for (int64_t h = 0; h < heads; h++)
		{
			float *sum = s->out[h < a->heads ? 0 : 1];

			for (int64_t j = begin; j < end; j++)
				sum[j] += dy[h * n + j] * x[h * n + j] * rstd[h];
		}
	}
}

/* ---- glu: y (n) = act(first half of x) * second half; size = n ---- */

void
prepare_glu(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->out[0], COST_FUNCTION);
}

void
run_glu(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end; i++)
		r->simd->glu(s->attr.act, (const float *) s->in[0] + i * 2 * n, (float *) s->out[0] + i * n, n);
}

/* in = dy, x */
void
prepare_glu_grad(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], 2 * COST_FUNCTION);
}

void
run_glu_grad(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end; i++)
		r->simd->glu_grad(s->attr.act, (const float *) s->in[0] + i * n, (const float *) s->in[1] + i * 2 * n,
						  (float *) s->out[0] + i * 2 * n, s->accumulate[0], n);
}

/* ---- position: in = x, start, table; y = x + the table's row of each token's position; size = columns ---- */

void
prepare_position(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
}

void
run_position(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int32_t *start = s->in[1];
	int64_t n = s->size[0], row = row_of_token(start, r->rows[AXIS_ROW], begin);

	for (int64_t t = begin; t < end; t++)
		r->simd->add((const float *) s->in[0] + t * n, (const float *) s->in[2] + position_of(start, &row, t) * n,
					 (float *) s->out[0] + t * n, n);
}

/* in = dy, start; a unit is a row of the table; size = columns */
void
prepare_position_grad(step *s, const graph *g, const node *n)
{
	s->size[0] = columns_of(g, n->out[0]);
	s->units = g->tensors[n->out[0]].dims[0];
	s->cost = COST_SIMPLE * s->size[0] * (1 + (double) g->capacity[s->axis] / s->units);
}

void
run_position_grad(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int32_t *start = s->in[1];
	int64_t n = s->size[0];

	if (!s->accumulate[0])
		memset(FROM(s->out[0], n), 0, (end - begin) * n * sizeof(float));
	for (int64_t row = 0; row < r->rows[AXIS_ROW]; row++)
	{
		int64_t length = start[row + 1] - start[row], last = length < end ? length : end;

		if (last > begin)
			r->simd->axpy(1, (const float *) s->in[0] + (start[row] + begin) * n, FROM(s->out[0], n),
						  (last - begin) * n);
	}
}

/* ---- pool_tokens: in = x, start; y (rows) = mean, first or last of a row's tokens; attr.index which; size = columns ---- */

static void
prepare_pooling(step *s, const graph *g, int32_t tokens)
{
	s->size[0] = columns_of(g, tokens);
	s->by_axis = AXIS_ROW;
	s->cost = COST_SIMPLE * s->size[0] * g->capacity[g->tensors[tokens].axis] / g->capacity[AXIS_ROW];
}

void
prepare_pool_tokens(step *s, const graph *g, const node *n)
{
	prepare_pooling(s, g, n->in[0]);
}

/* The tokens that a row's result is made of. */
static void
pooled_tokens(const step *s, const int32_t *start, int64_t row, int64_t *first, int64_t *last)
{
	*first = start[row];
	*last = start[row + 1];
	if (s->attr.index == POOL_FIRST && *last > *first)
		*last = *first + 1;
	else if (s->attr.index == POOL_LAST && *last > *first)
		*first = *last - 1;
}

void
run_pool_tokens(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0], first, last;

	for (int64_t row = begin; row < end; row++)
	{
		float *y = (float *) s->out[0] + row * n;

		pooled_tokens(s, s->in[1], row, &first, &last);
		memset(y, 0, n * sizeof(float));
		for (int64_t t = first; t < last; t++)
			r->simd->axpy(1, (const float *) s->in[0] + t * n, y, n);
		if (last > first + 1)
			r->simd->scale(1.0f / (last - first), y, y, n);
	}
}

/* in = dy, start */
void
prepare_pool_tokens_dx(step *s, const graph *g, const node *n)
{
	prepare_pooling(s, g, n->out[0]);
}

void
run_pool_tokens_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int32_t *start = s->in[1];
	int64_t n = s->size[0], first, last;

	for (int64_t row = begin; row < end; row++)
	{
		pooled_tokens(s, start, row, &first, &last);
		if (!s->accumulate[0])
			memset((float *) s->out[0] + start[row] * n, 0, (start[row + 1] - start[row]) * n * sizeof(float));
		for (int64_t t = first; t < last; t++)
			r->simd->axpy(1.0f / (last - first), (const float *) s->in[0] + row * n, (float *) s->out[0] + t * n, n);
	}
}
