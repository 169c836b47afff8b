/*
 * text.cu
 *	  Operations on tokens but for attention: positions, rotation, what stands for a row's tokens.
 *
 * start (rows + 1): tokens of row r are [start[r], start[r + 1]); a token's position counts from there.
 */
#include "device.h"

/* ---- rotary_table: (positions, head_dim): cosines, then sines ---- */

static __global__ void
make_angles(int64_t positions, int64_t n, float theta, float *table)
{
	FOR_ELEMENTS(i, positions * (n / 2))
	{
		int64_t p = i / (n / 2), j = i % (n / 2);
		/* in float, as on the CPU */
		float angle = (float) p * (float) pow((double) theta, -2.0 * j / n);

		table[p * n + j] = cosf(angle);
		table[p * n + n / 2 + j] = sinf(angle);
	}
}

/* All positions that the table has room for: the rows of a run differ, and it is small. */
void
launch_rotary_table(launch *l, const llmapp_cuda_step *s)
{
	int64_t positions = s->out[0].dims[0], n = columns_of(&s->out[0]);

	LAUNCH(l, make_angles, element_blocks(positions * n / 2), BLOCK, 0, positions, n, s->attr.number,
		   FLOATS(s->out[0]));
}

/* ---- rotary: in = qkv, start, table; a block is a token ---- */

static __global__ void
rotate_token(const llmapp_cuda_batch *batch, int axis, int64_t columns, int64_t turned, int n, float sign,
			 const float *x, const int32_t *start, const float *table, int accumulate, float *y)
{
	int64_t t = blockIdx.x, half = n / 2;
	const float *angles;

	if (t >= batch->rows[axis])
		return;
	angles = table + (t - start[row_of_token(start, batch->rows[AXIS_ROW], t)]) * n;
	x += t * columns;
	y += t * columns;
	FOR_COLUMNS(i, turned / 2)
	{
		int64_t at = i / half * n + i % half;
		float c = angles[i % half], s = sign * angles[half + i % half], a = x[at], b = x[at + half];

		put(y + at, a * c - b * s, accumulate);
		put(y + at + half, b * c + a * s, accumulate);
	}
	for (int64_t j = turned + threadIdx.x; j < columns; j += blockDim.x)
		put(y + j, x[j], accumulate);
}

void
launch_rotary(launch *l, const llmapp_cuda_step *s)
{
	int64_t columns = columns_of(&s->in[0]), turned = (int64_t) (s->attr.heads + s->attr.kv_heads) * s->attr.head_dim;

	LAUNCH(l, rotate_token, bucket_of(l, &s->in[0]), row_threads(columns), 0, l->batch, s->in[0].axis, columns,
		   turned, s->attr.head_dim, s->attr.flag ? -1.0f : 1.0f, FLOATS(s->in[0]), INTS(s->in[1]), FLOATS(s->in[2]),
		   s->accumulate[0], FLOATS(s->out[0]));
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
