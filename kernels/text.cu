/*
 * text.cu
 *	  Operations on tokens but for attention: positions, rotation, what stands for a row's tokens.
 *
 * start (rows + 1): tokens of row r are [start[r], start[r + 1]); a token's position counts from there.
 */
#include "device.h"

/* ---- rotary_table: (positions, dim): cosines, then sines ---- */

typedef struct rotary_args
{
	int dim, context;
	float theta, factor, low, high;
} rotary_args;

/* Radians that number i turns from one position to the next: frequency() of cpu_text.c. */
static __device__ inline double
frequency(const rotary_args &r, int64_t i)
{
	double f = pow((double) r.theta, -2.0 * i / r.dim), share;

	if (r.factor == 0)
		return f;
	if (r.low == 0)
		return f / r.factor;
	share = (r.context * f / (2 * M_PI) - r.low) / ((double) r.high - r.low);
	share = share < 0 ? 0 : share > 1 ? 1 : share;
	return (1 - share) * f / r.factor + share * f;
}

static __global__ void
make_angles(int64_t positions, rotary_args r, float *table)
{
	int64_t half = r.dim / 2;

	FOR_ELEMENTS(i, positions * half)
	{
		int64_t p = i / half, j = i % half;
		float angle = (float) p * (float) frequency(r, j); /* in float, as on the CPU */

		table[p * r.dim + j] = cosf(angle);
		table[p * r.dim + half + j] = sinf(angle);
	}
}

/* All positions that the table has room for: the rows of a run differ, and it is small. */
void
launch_rotary_table(launch *l, const llmapp_cuda_step *s)
{
	const llmapp_cuda_attr *a = &s->attr;
	rotary_args r = {a->rotary_dim,    a->rotary_context, a->rotary_theta,
					 a->rotary_factor, a->rotary_low,     a->rotary_high};
	int64_t positions = s->out[0].dims[0];

	LAUNCH(l, make_angles, element_blocks(positions * r.dim / 2), BLOCK, 0, positions, r, FLOATS(s->out[0]));
}

/* ---- rotary: in = qkv, start, table; a block is a token; the first dim numbers of heads of q and k are turned ---- */

static __global__ void
rotate_token(const llmapp_cuda_batch *batch, int axis, int64_t columns, int64_t heads, int64_t n, int64_t dim,
			 float sign, const float *x, const int32_t *start, const float *table, int accumulate, float *y)
{
	int64_t t = blockIdx.x, half = dim / 2;
	const float *angles;

	if (t >= batch->rows[axis])
		return;
	angles = table + (t - start[row_of_token(start, batch->rows[AXIS_ROW], t)]) * dim;
	x += t * columns;
	y += t * columns;
	FOR_COLUMNS(i, heads * half)
	{
		int64_t at = i / half * n + i % half;
		float c = angles[i % half], s = sign * angles[half + i % half], a = x[at], b = x[at + half];

		put(y + at, a * c - b * s, accumulate);
		put(y + at + half, b * c + a * s, accumulate);
	}
	FOR_COLUMNS(j, columns)
	if (j >= heads * n || j % n >= dim)
		put(y + j, x[j], accumulate);
}

void
launch_rotary(launch *l, const llmapp_cuda_step *s)
{
	int64_t columns = columns_of(&s->in[0]);

	LAUNCH(l, rotate_token, bucket_of(l, &s->in[0]), row_threads(columns), 0, l->batch, s->in[0].axis, columns,
		   (int64_t) (s->attr.heads + s->attr.kv_heads), (int64_t) s->attr.head_dim, columns_of(&s->in[2]),
		   s->attr.flag ? -1.0f : 1.0f, FLOATS(s->in[0]), INTS(s->in[1]), FLOATS(s->in[2]), s->accumulate[0],
		   FLOATS(s->out[0]));
}

/* ---- token_types: in = token, start; separators before each token of a row, at most attr.count - 1 ---- */

/* A thread is a token and counts from its row's first on: rows of two or three texts are short. */
static __global__ void
count_types(const llmapp_cuda_batch *batch, int64_t separator, int32_t types, const int32_t *token,
			const int32_t *start, int32_t *type)
{
	FOR_ELEMENTS(t, batch->rows[AXIS_TOKEN])
	{
		int32_t count = 0;

		for (int64_t i = start[row_of_token(start, batch->rows[AXIS_ROW], t)]; i < t && count < types - 1; i++)
			count += token[i] == separator;
		type[t] = count;
	}
}

void
launch_token_types(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, count_types, element_blocks(bucket_of(l, &s->in[0])), BLOCK, 0, l->batch, s->attr.index, s->attr.count,
		   INTS(s->in[0]), INTS(s->in[1]), INTS(s->out[0]));
}

/* ---- position: in = x, start, table ---- */

static __global__ void
add_position(const llmapp_cuda_batch *batch, int axis, int64_t n, const float *x, const int32_t *start,
			 const float *table, float *y)
{
	int64_t t = blockIdx.x, position;

	if (t >= batch->rows[axis])
		return;
	position = t - start[row_of_token(start, batch->rows[AXIS_ROW], t)];
	FOR_COLUMNS(j, n)
	y[t * n + j] = x[t * n + j] + table[position * n + j];
}

void
launch_position(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH(l, add_position, bucket_of(l, &s->in[0]), row_threads(n), 0, l->batch, s->in[0].axis, n, FLOATS(s->in[0]),
		   INTS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->out[0]));
}

static __global__ void
sum_position(const llmapp_cuda_batch *batch, int64_t n, const float *dy, const int32_t *start, int accumulate,
			 float *gradient)
{
	int64_t position = blockIdx.x;

	FOR_COLUMNS(j, n)
	{
		float sum = accumulate ? gradient[position * n + j] : 0;

		for (int64_t row = 0; row < batch->rows[AXIS_ROW]; row++)
			if (start[row] + position < start[row + 1])
				sum += dy[(start[row] + position) * n + j];
		gradient[position * n + j] = sum;
	}
}

/* in = dy, start; a block is a row of the table */
void
launch_position_grad(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->out[0]);

	LAUNCH(l, sum_position, s->out[0].dims[0], row_threads(n), 0, l->batch, n, FLOATS(s->in[0]), INTS(s->in[1]),
		   s->accumulate[0], FLOATS(s->out[0]));
}

/* ---- pool_tokens: in = x, start; a block is a row; kinds as text_pool of net.h ---- */

enum
{
	POOL_MEAN,
	POOL_FIRST,
	POOL_LAST
};

static __device__ inline void
pooled_tokens(int64_t kind, const int32_t *start, int64_t row, int64_t *first, int64_t *last)
{
	*first = start[row];
	*last = start[row + 1];
	if (kind == POOL_FIRST && *last > *first)
		*last = *first + 1;
	else if (kind == POOL_LAST && *last > *first)
		*first = *last - 1;
}

static __global__ void
pool_row(const llmapp_cuda_batch *batch, int64_t kind, int64_t n, const float *x, const int32_t *start, float *y)
{
	int64_t row = blockIdx.x, first, last;

	if (row >= batch->rows[AXIS_ROW])
		return;
	pooled_tokens(kind, start, row, &first, &last);
	FOR_COLUMNS(j, n)
	{
		float sum = 0;

		for (int64_t t = first; t < last; t++)
			sum += x[t * n + j];
		y[row * n + j] = last > first + 1 ? sum * (1.0f / (last - first)) : sum;
	}
}

void
launch_pool_tokens(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH(l, pool_row, l->bucket[AXIS_ROW], row_threads(n), 0, l->batch, s->attr.index, n, FLOATS(s->in[0]),
		   INTS(s->in[1]), FLOATS(s->out[0]));
}

static __global__ void
pool_slope_row(const llmapp_cuda_batch *batch, int64_t kind, int64_t n, const float *dy, const int32_t *start,
			   int accumulate, float *dx)
{
	int64_t row = blockIdx.x, first, last;

	if (row >= batch->rows[AXIS_ROW])
		return;
	pooled_tokens(kind, start, row, &first, &last);
	for (int64_t t = start[row]; t < start[row + 1]; t++)
		FOR_COLUMNS(j, n)
		{
			if (t >= first && t < last)
				put(dx + t * n + j, 1.0f / (last - first) * dy[row * n + j], accumulate);
			else if (!accumulate)
				dx[t * n + j] = 0;
		}
}

/* in = dy, start */
void
launch_pool_tokens_dx(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->out[0]);

	LAUNCH(l, pool_slope_row, l->bucket[AXIS_ROW], row_threads(n), 0, l->batch, s->attr.index, n, FLOATS(s->in[0]),
		   INTS(s->in[1]), s->accumulate[0], FLOATS(s->out[0]));
}
