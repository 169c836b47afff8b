/*
 * embed.cu
 *	  Rows of tables, and the gradients of tables, whose sums have one order.
 *
 * Pairs (row of the table, row of the result, factor) are sorted by row of the table: a stable radix
 * sort by 8 bits, in which thread d of a block counts and places the numbers with digit d of the
 * block's tile, in their order.  Then each row of the table sums its pairs, in theirs.
 */
#include "device.h"

static __global__ void
embed_elements(const llmapp_cuda_batch *batch, int axis, int64_t columns, int64_t width, const int32_t *index,
			   const float *table, float *y)
{
	FOR_ELEMENTS(i, batch->rows[axis] * columns * width)
	y[i] = table[index[i / width] * width + i % width];
}

/* in = index (rows, columns), table */
void
launch_embed(launch *l, const llmapp_cuda_step *s)
{
	int64_t columns = columns_of(&s->in[0]), width = columns_of(&s->in[1]);

	LAUNCH(l, embed_elements, element_blocks(bucket_of(l, &s->in[0]) * columns * width), BLOCK, 0, l->batch,
		   s->in[0].axis, columns, width, INTS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->out[0]));
}

static __global__ void
embed_bag_row(const llmapp_cuda_batch *batch, int64_t width, const float *base, const int32_t *start,
			  const int32_t *index, const float *value, const float *table, const float *bias, float *y)
{
	int64_t row = blockIdx.x;

	if (row >= batch->rows[AXIS_ROW])
		return;
	FOR_COLUMNS(j, width)
	{
		float sum = (base ? base[row * width + j] : 0) + (bias ? bias[j] : 0);

		for (int32_t p = start[row]; p < start[row + 1]; p++)
			sum += value[p] * table[index[p] * width + j];
		y[row * width + j] = sum;
	}
}

/* in = base, start, index, value, table, bias */
void
launch_embed_bag(launch *l, const llmapp_cuda_step *s)
{
	int64_t width = columns_of(&s->out[0]);

	LAUNCH(l, embed_bag_row, bucket_of(l, &s->out[0]), row_threads(width), 0, l->batch, width, FLOATS(s->in[0]),
		   INTS(s->in[1]), INTS(s->in[2]), FLOATS(s->in[3]), FLOATS(s->in[4]), FLOATS(s->in[5]), FLOATS(s->out[0]));
}

/* ---- sorting of pairs ---- */

#define DIGITS 256 /* threads of a block, too */
#define TILE 1024

typedef struct pair_shape
{
	int axis;
	int64_t columns;      /* of the index, when there is no start */
	const int32_t *start; /* (rows + 1) or NULL */
} pair_shape;

static __device__ inline int64_t
pair_count(const llmapp_cuda_batch *batch, pair_shape p)
{
	return p.start ? p.start[batch->rows[AXIS_ROW]] : batch->rows[p.axis] * p.columns;
}

static __global__ void
list_pairs(const llmapp_cuda_batch *batch, pair_shape p, const int32_t *index, int32_t *keys, int32_t *pairs)
{
	FOR_ELEMENTS(i, pair_count(batch, p))
	{
		keys[i] = index[i];
		pairs[i] = (int32_t) i;
	}
}

/* The digits of this block's tile in shared memory; returns how many. */
static __device__ inline int
load_digits(int64_t count, int shift, const int32_t *keys, unsigned char *digits)
{
	int64_t first = blockIdx.x * (int64_t) TILE, left = count - first;
	int here = left < 0 ? 0 : left < TILE ? (int) left : TILE;

	for (int i = threadIdx.x; i < here; i += blockDim.x)
		digits[i] = (unsigned char) ((uint32_t) keys[first + i] >> shift);
	__syncthreads();
	return here;
}

static __global__ void
count_digits(const llmapp_cuda_batch *batch, pair_shape p, int shift, const int32_t *keys, int32_t *counts)
{
	SHARED(unsigned char, digits, TILE);
	int here = load_digits(pair_count(batch, p), shift, keys, digits), count = 0;

	for (int i = 0; i < here; i++)
		count += digits[i] == threadIdx.x;
	counts[threadIdx.x * gridDim.x + blockIdx.x] = count;
}

/* Each number becomes the sum of those before it; one block. */
static __global__ void
scan_counts(int64_t n, int32_t *counts)
{
	SHARED(int32_t, sums, 32);
	int32_t before = 0;
	int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;

	for (int64_t first = 0; first < n; first += blockDim.x)
	{
		int64_t i = first + threadIdx.x;
		int32_t own = i < n ? counts[i] : 0, sum = own, total = 0;

		for (int step = 1; step < WARP; step *= 2)
		{
			int32_t other = __shfl_up_sync(ALL_LANES, sum, step);

			sum += lane >= step ? other : 0;
		}
		__syncthreads();
		if (lane == WARP - 1)
			sums[warp] = sum;
		__syncthreads();
		for (unsigned w = 0; w < blockDim.x / WARP; w++)
		{
			sum += (int) w < warp ? sums[w] : 0;
			total += sums[w];
		}
		if (i < n)
			counts[i] = before + sum - own;
		before += total;
	}
}

static __global__ void
place_digits(const llmapp_cuda_batch *batch, pair_shape p, int shift, const int32_t *offsets, const int32_t *keys,
			 const int32_t *pairs, int32_t *keys_to, int32_t *pairs_to)
{
	SHARED(unsigned char, digits, TILE);
	int here = load_digits(pair_count(batch, p), shift, keys, digits);
	int64_t first = blockIdx.x * (int64_t) TILE;
	int32_t at = offsets[threadIdx.x * gridDim.x + blockIdx.x];

	for (int i = 0; i < here; i++)
		if (digits[i] == threadIdx.x)
		{
			keys_to[at] = keys[first + i];
			pairs_to[at++] = pairs[first + i];
		}
}

/* ---- what the sorted pairs say ---- */

static __global__ void
describe_pairs(const llmapp_cuda_batch *batch, pair_shape p, const int32_t *pairs, const float *value, int32_t *rows,
			   float *factors)
{
	FOR_ELEMENTS(i, pair_count(batch, p))
	{
		rows[i] = p.start ? (int32_t) row_of_token(p.start, batch->rows[AXIS_ROW], pairs[i]) : pairs[i];
		factors[i] = value ? value[pairs[i]] : 1;
	}
}

/* first (table rows + 1): where each row's pairs begin */
static __global__ void
find_first(const llmapp_cuda_batch *batch, pair_shape p, int64_t table_rows, const int32_t *keys, int32_t *first)
{
	int64_t count = pair_count(batch, p);

	FOR_ELEMENTS(t, table_rows + 1)
	{
		int64_t low = 0, high = count;

		while (low < high)
		{
			int64_t middle = (low + high) / 2;

			if (keys[middle] < t)
				low = middle + 1;
			else
				high = middle;
		}
		first[t] = (int32_t) low;
	}
}

/* used: how many table rows have pairs, and which; one block */
static __global__ void
list_used(const llmapp_cuda_batch *batch, pair_shape p, const int32_t *keys, int32_t *used)
{
	int64_t count = pair_count(batch, p);
	int32_t before = 0;

	for (int64_t first = 0; first < count; first += blockDim.x)
	{
		int64_t i = first + threadIdx.x;
		bool is_new = i < count && (i == 0 || keys[i] != keys[i - 1]);
		int total, at = block_offset(is_new, &total);

		if (is_new)
			used[1 + before + at] = keys[i];
		before += total;
	}
	if (threadIdx.x == 0)
		used[0] = before;
}

/* in = start or none, index, value or none; out = first, row of the result, factor, used */
void
launch_group_pairs(launch *l, const llmapp_cuda_step *s)
{
	int64_t rows = s->attr.index;
	pair_shape p = {s->in[1].axis, columns_of(&s->in[1]), INTS(s->in[0])};
	int64_t most = p.start ? s->in[1].dims[0] : bucket_of(l, &s->in[1]) * p.columns, tiles = (most + TILE - 1) / TILE;
	int32_t *keys[2], *pairs[2], *counts;
	int from = 0;

	for (int i = 0; i < 2; i++)
	{
		keys[i] = launch_scratch<int32_t>(l, most);
		pairs[i] = launch_scratch<int32_t>(l, most);
	}
	counts = launch_scratch<int32_t>(l, tiles * DIGITS);
	LAUNCH(l, list_pairs, element_blocks(most), BLOCK, 0, l->batch, p, INTS(s->in[1]), keys[0], pairs[0]);
	for (int shift = 0; shift < 32 && (shift == 0 || (rows - 1) >> shift > 0); shift += 8, from ^= 1)
	{
		LAUNCH(l, count_digits, tiles, DIGITS, 0, l->batch, p, shift, keys[from], counts);
		LAUNCH(l, scan_counts, 1, 1024, 0, tiles * DIGITS, counts);
		LAUNCH(l, place_digits, tiles, DIGITS, 0, l->batch, p, shift, counts, keys[from], pairs[from], keys[from ^ 1],
			   pairs[from ^ 1]);
	}
	LAUNCH(l, describe_pairs, element_blocks(most), BLOCK, 0, l->batch, p, pairs[from], FLOATS(s->in[2]),
		   INTS(s->out[1]), FLOATS(s->out[2]));
	LAUNCH(l, find_first, element_blocks(rows + 1), BLOCK, 0, l->batch, p, rows, keys[from], INTS(s->out[0]));
	LAUNCH(l, list_used, 1, 1024, 0, l->batch, p, keys[from], INTS(s->out[3]));
}

static __global__ void
sum_pairs(int64_t width, bool compact, const float *dy, const int32_t *first, const int32_t *rows,
		  const float *factors, const int32_t *used, int accumulate, float *gradient)
{
	int64_t unit = blockIdx.x, row = unit;

	if (compact && unit >= used[0])
		return;
	if (compact)
		row = used[1 + unit];
	FOR_COLUMNS(j, width)
	{
		float sum = accumulate ? gradient[unit * width + j] : 0;

		for (int32_t i = first[row]; i < first[row + 1]; i++)
			sum += factors[i] * dy[rows[i] * width + j];
		gradient[unit * width + j] = sum;
	}
}

/* in = dy, first, rows, factors, used; a block is a row of the gradient */
void
launch_table_grad(launch *l, const llmapp_cuda_step *s)
{
	int64_t width = columns_of(&s->out[0]);

	LAUNCH(l, sum_pairs, s->out[0].dims[0], row_threads(width), 0, width, s->attr.flag != 0, FLOATS(s->in[0]),
		   INTS(s->in[1]), INTS(s->in[2]), FLOATS(s->in[3]), INTS(s->in[4]), s->accumulate[0], FLOATS(s->out[0]));
}
