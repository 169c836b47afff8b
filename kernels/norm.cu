/*
 * norm.cu
 *	  Layer norm, root mean square norm of rows and of heads, rows of length 1, and their gradients.
 *
 * One block makes a row, or a warp a head.  Gradients of gains are sums over rows: parts of fixed
 * size, then the parts in their order.
 */
#include "device.h"

#define PART_ROWS 256
#define PART_LANES 8

/* One block for each row of the bucket; blocks of rows that this run lacks end at once, together. */
#define LAUNCH_ROWS(l, kernel, rows, n, ...) LAUNCH(l, kernel, rows, row_threads(n), 0, (l)->batch, __VA_ARGS__)

/* ---- layer norm: out = y, stats (rows, 2) = mean, 1 / deviation ---- */

static __global__ void
layer_norm_row(const llmapp_cuda_batch *batch, int axis, int64_t n, float epsilon, const float *x, const float *gamma,
			   const float *beta, float *y, float *stats)
{
	int64_t row = blockIdx.x;
	float sum = 0, mean, rstd;

	if (row >= batch->rows[axis])
		return;
	x += row * n;
	y += row * n;
	FOR_COLUMNS(j, n)
	sum += x[j];
	mean = block_sum(sum) / n;
	sum = 0;
	FOR_COLUMNS(j, n)
	sum += (x[j] - mean) * (x[j] - mean);
	rstd = 1 / sqrtf(block_sum(sum) / n + epsilon);
	FOR_COLUMNS(j, n)
	y[j] = (x[j] - mean) * rstd * gamma[j] + (beta ? beta[j] : 0);
	if (threadIdx.x == 0)
	{
		stats[2 * row] = mean;
		stats[2 * row + 1] = rstd;
	}
}

void
launch_layer_norm(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ROWS(l, layer_norm_row, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, s->attr.number, FLOATS(s->in[0]),
				FLOATS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->out[0]), FLOATS(s->out[1]));
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy gamma; without the mean of g when it was not centred. */
static __global__ void
norm_slope_row(const llmapp_cuda_batch *batch, int axis, int64_t n, bool centred, const float *dy, const float *x,
			   const float *gamma, const float *stats, int accumulate, float *dx)
{
	int64_t row = blockIdx.x;
	float g_sum = 0, gx_sum = 0, mean, rstd;

	if (row >= batch->rows[axis])
		return;
	dy += row * n;
	x += row * n;
	dx += row * n;
	mean = stats[2 * row];
	rstd = stats[2 * row + 1];
	FOR_COLUMNS(j, n)
	{
		float g = dy[j] * gamma[j];

		g_sum += g;
		gx_sum += g * (x[j] - mean);
	}
	g_sum = centred ? block_sum(g_sum) / n : 0;
	gx_sum = block_sum(gx_sum) / n * rstd * rstd;
	FOR_COLUMNS(j, n)
	put(dx + j, (dy[j] * gamma[j] - g_sum - (x[j] - mean) * gx_sum) * rstd, accumulate);
}

static void
norm_dx(launch *l, const llmapp_cuda_step *s, bool centred)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ROWS(l, norm_slope_row, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, centred, FLOATS(s->in[0]),
				FLOATS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->in[3]), s->accumulate[0], FLOATS(s->out[0]));
}

/* in = dy, x, gamma, stats */
void
launch_layer_norm_dx(launch *l, const llmapp_cuda_step *s)
{
	norm_dx(l, s, true);
}

void
launch_rms_norm_dx(launch *l, const llmapp_cuda_step *s)
{
	norm_dx(l, s, false);
}

/* A part's sums of dy xhat and of dy, of 32 columns. */
static __global__ void
param_part(const llmapp_cuda_batch *batch, int axis, int64_t n, int64_t groups, const float *dy, const float *x,
		   const float *stats, float *parts)
{
	SHARED(float, sums, 2 * PART_LANES * WARP);
	int64_t part = blockIdx.x / groups, column = blockIdx.x % groups * WARP + threadIdx.x % WARP;
	int64_t first = part * PART_ROWS, last = first + PART_ROWS;
	float gamma = 0, beta = 0;

	last = last < batch->rows[axis] ? last : batch->rows[axis];
	for (int64_t i = first + threadIdx.x / WARP; i < last && column < n; i += PART_LANES)
	{
		float d = dy[i * n + column];

		gamma += d * ((x[i * n + column] - stats[2 * i]) * stats[2 * i + 1]);
		beta += d;
	}
	sums[2 * threadIdx.x] = gamma;
	sums[2 * threadIdx.x + 1] = beta;
	__syncthreads();
	if (threadIdx.x < WARP && column < n)
	{
		for (int i = 1; i < PART_LANES; i++)
		{
			gamma += sums[2 * (i * WARP + threadIdx.x)];
			beta += sums[2 * (i * WARP + threadIdx.x) + 1];
		}
		parts[(2 * part) * n + column] = gamma;
		parts[(2 * part + 1) * n + column] = beta;
	}
}

/* Two vectors (n) from parts of two vectors each; the second may be NULL. */
static __global__ void
param_sum(int64_t parts, int64_t n, const float *x, int accumulate0, float *y0, int accumulate1, float *y1)
{
	FOR_ELEMENTS(j, 2 * n)
	{
		float *y = j < n ? y0 : y1, sum = 0;

		if (!y)
			continue;
		for (int64_t i = 0; i < parts; i++)
			sum += x[i * 2 * n + j];
		put(y + j % n, sum, j < n ? accumulate0 : accumulate1);
	}
}

/* in = dy, x, stats; out = dgamma, dbeta or none */
void
launch_layer_norm_dparam(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]), groups = (n + WARP - 1) / WARP;
	int64_t parts = (bucket_of(l, &s->in[0]) + PART_ROWS - 1) / PART_ROWS;
	float *sums = launch_scratch<float>(l, parts * 2 * n);

	LAUNCH(l, param_part, parts * groups, PART_LANES * WARP, 0, l->batch, s->in[0].axis, n, groups, FLOATS(s->in[0]),
		   FLOATS(s->in[1]), FLOATS(s->in[2]), sums);
	LAUNCH(l, param_sum, element_blocks(2 * n), BLOCK, 0, parts, n, sums, s->accumulate[0], FLOATS(s->out[0]),
		   s->accumulate[1], FLOATS(s->out[1]));
}

/* ---- root mean square: stats (rows, 2) = 0, 1 / deviation ---- */

static __global__ void
rms_norm_row(const llmapp_cuda_batch *batch, int axis, int64_t n, float epsilon, const float *x, const float *gamma,
			 float *y, float *stats)
{
	int64_t row = blockIdx.x;
	float squares = 0, rstd;

	if (row >= batch->rows[axis])
		return;
	x += row * n;
	y += row * n;
	FOR_COLUMNS(j, n)
	squares += x[j] * x[j];
	rstd = 1 / sqrtf(block_sum(squares) / n + epsilon);
	FOR_COLUMNS(j, n)
	y[j] = x[j] * rstd * gamma[j];
	if (threadIdx.x == 0)
	{
		stats[2 * row] = 0;
		stats[2 * row + 1] = rstd;
	}
}

void
launch_rms_norm(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ROWS(l, rms_norm_row, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, s->attr.number, FLOATS(s->in[0]),
				FLOATS(s->in[1]), FLOATS(s->out[0]), FLOATS(s->out[1]));
}

/*
 * ---- heads: in = qkv, gain of q, gain of k; out = y, 1 / deviation (rows, heads + kv_heads) ----
 * A block is a row, its warps take heads in turn: those of q and k are normalised, those of v copied.
 */

#define HEAD_THREADS 128

typedef struct head_shape
{
	int heads, kv_heads, n; /* n: of a head */
} head_shape;

static head_shape
heads_of(const llmapp_cuda_step *s)
{
	return (head_shape) {s->attr.heads, s->attr.kv_heads, s->attr.head_dim};
}

static __global__ void
head_norm_row(const llmapp_cuda_batch *batch, int axis, head_shape a, float epsilon, const float *qkv,
			  const float *q_gain, const float *k_gain, float *out, float *rstds)
{
	int64_t row = blockIdx.x, columns = (int64_t) (a.heads + 2 * a.kv_heads) * a.n;
	int lane = threadIdx.x % WARP, normed = a.heads + a.kv_heads;

	if (row >= batch->rows[axis])
		return;
	for (int h = threadIdx.x / WARP; h < normed + a.kv_heads; h += blockDim.x / WARP)
	{
		const float *x = qkv + row * columns + h * a.n, *gain = h < a.heads ? q_gain : k_gain;
		float *y = out + row * columns + h * a.n, squares = 0, rstd;

		for (int j = lane; j < a.n; j += WARP)
			squares += x[j] * x[j];
		rstd = 1 / sqrtf(warp_sum(squares) / a.n + epsilon);
		for (int j = lane; j < a.n; j += WARP)
			y[j] = h < normed ? x[j] * rstd * gain[j] : x[j];
		if (lane == 0 && h < normed)
			rstds[row * normed + h] = rstd;
	}
}

void
launch_head_norm(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, head_norm_row, bucket_of(l, &s->in[0]), HEAD_THREADS, 0, l->batch, s->in[0].axis, heads_of(s),
		   s->attr.number, FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->out[0]),
		   FLOATS(s->out[1]));
}

static __global__ void
head_slope_row(const llmapp_cuda_batch *batch, int axis, head_shape a, const float *dout, const float *qkv,
			   const float *q_gain, const float *k_gain, const float *rstds, int accumulate, float *dqkv)
{
	int64_t row = blockIdx.x, columns = (int64_t) (a.heads + 2 * a.kv_heads) * a.n;
	int lane = threadIdx.x % WARP, normed = a.heads + a.kv_heads;

	if (row >= batch->rows[axis])
		return;
	for (int h = threadIdx.x / WARP; h < normed + a.kv_heads; h += blockDim.x / WARP)
	{
		int64_t at = row * columns + h * a.n;
		const float *x = qkv + at, *dy = dout + at, *gain = h < a.heads ? q_gain : k_gain;
		float *dx = dqkv + at, sum = 0, rstd = h < normed ? rstds[row * normed + h] : 1;

		for (int j = lane; j < a.n && h < normed; j += WARP)
			sum += dy[j] * gain[j] * x[j];
		sum = warp_sum(sum) / a.n * rstd * rstd;
		for (int j = lane; j < a.n; j += WARP)
			put(dx + j, h < normed ? (dy[j] * gain[j] - x[j] * sum) * rstd : dy[j], accumulate);
	}
}

/* in = dy, qkv, gain of q, gain of k, 1 / deviation */
void
launch_head_norm_dx(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, head_slope_row, bucket_of(l, &s->in[0]), HEAD_THREADS, 0, l->batch, s->in[0].axis, heads_of(s),
		   FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->in[3]), FLOATS(s->in[4]), s->accumulate[0],
		   FLOATS(s->out[0]));
}

/* A part's sums for one number of a head of q, or of k; threads take rows in turn. */
static __global__ void
head_param_part(const llmapp_cuda_batch *batch, int axis, head_shape a, const float *dy, const float *x,
				const float *rstds, float *parts)
{
	int64_t part = blockIdx.x / (2 * a.n), which = blockIdx.x % (2 * a.n) / a.n, j = blockIdx.x % a.n;
	int64_t columns = (int64_t) (a.heads + 2 * a.kv_heads) * a.n, last = (part + 1) * PART_ROWS;
	int first_head = which ? a.heads : 0, end_head = which ? a.heads + a.kv_heads : a.heads;
	float sum = 0;

	last = last < batch->rows[axis] ? last : batch->rows[axis];
	for (int64_t i = part * PART_ROWS + threadIdx.x; i < last; i += blockDim.x)
		for (int h = first_head; h < end_head; h++)
			sum +=
				dy[i * columns + h * a.n + j] * x[i * columns + h * a.n + j] * rstds[i * (a.heads + a.kv_heads) + h];
	sum = block_sum(sum);
	if (threadIdx.x == 0)
		parts[(2 * part + which) * a.n + j] = sum;
}

/* in = dy, qkv, 1 / deviation; out = gradients of the gains */
void
launch_head_norm_dparam(launch *l, const llmapp_cuda_step *s)
{
	int64_t parts = (bucket_of(l, &s->in[0]) + PART_ROWS - 1) / PART_ROWS, n = s->attr.head_dim;
	float *sums = launch_scratch<float>(l, parts * 2 * n);

	LAUNCH(l, head_param_part, parts * 2 * n, HEAD_THREADS, 0, l->batch, s->in[0].axis, heads_of(s), FLOATS(s->in[0]),
		   FLOATS(s->in[1]), FLOATS(s->in[2]), sums);
	LAUNCH(l, param_sum, element_blocks(2 * n), BLOCK, 0, parts, n, sums, s->accumulate[0], FLOATS(s->out[0]),
		   s->accumulate[1], FLOATS(s->out[1]));
}

/* ---- unit rows: out = x / |x|, 1 / |x| (rows), both 0 where x is ---- */

static __global__ void
unit_row(const llmapp_cuda_batch *batch, int axis, int64_t n, const float *x, float *y, float *factors)
{
	int64_t row = blockIdx.x;
	double squares = 0;
	float factor;

	if (row >= batch->rows[axis])
		return;
	x += row * n;
	y += row * n;
	FOR_COLUMNS(j, n)
	squares += (double) x[j] * x[j];
	squares = block_sum(squares);
	factor = squares > 0 ? (float) (1 / sqrt(squares)) : 0;
	FOR_COLUMNS(j, n)
	y[j] = factor * x[j];
	if (threadIdx.x == 0)
		factors[row] = factor;
}

void
launch_unit_rows(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ROWS(l, unit_row, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, FLOATS(s->in[0]), FLOATS(s->out[0]),
				FLOATS(s->out[1]));
}

/* dx = (dy - y (y . dy)) / |x| */
static __global__ void
unit_slope_row(const llmapp_cuda_batch *batch, int axis, int64_t n, const float *dy, const float *y,
			   const float *factors, int accumulate, float *dx)
{
	int64_t row = blockIdx.x;
	float along = 0;

	if (row >= batch->rows[axis])
		return;
	dy += row * n;
	y += row * n;
	dx += row * n;
	FOR_COLUMNS(j, n)
	along += y[j] * dy[j];
	along = block_sum(along);
	FOR_COLUMNS(j, n)
	put(dx + j, (dy[j] - y[j] * along) * factors[row], accumulate);
}

/* in = dy, y, 1 / |x| */
void
launch_unit_rows_dx(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ROWS(l, unit_slope_row, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, FLOATS(s->in[0]), FLOATS(s->in[1]),
				FLOATS(s->in[2]), s->accumulate[0], FLOATS(s->out[0]));
}
