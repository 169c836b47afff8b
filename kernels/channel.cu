/*
 * channel.cu
 *	  Normalisation by channel: batch, running and group statistics, and the gradient.
 *
 * As cpu_norm.c: rows of the batch leave moments of their own, which are put together in double and in
 * the order of rows.  Coefficients are four vectors (channels): mean, scale = gamma / deviation,
 * 1 / deviation, unbiased variance.  A block of row kernels takes 32 channels of a row, lanes along
 * channels, warps along positions.
 */
#include "device.h"

#define NORM_EPSILON 1e-5
#define LANES 8 /* positions that a block reads at a time */
#define THREADS (LANES * WARP)

typedef struct channel_shape
{
	int64_t c, positions, groups; /* groups: of 32 channels */
} channel_shape;

static channel_shape
channels_of(const llmapp_cuda_tensor *x)
{
	int64_t c = x->dims[x->ndim - 1];

	return (channel_shape) {c, columns_of(x) / c, (c + WARP - 1) / WARP};
}

/* Sum over the block's warps of a lane's number, in every warp; THREADS threads. */
static __device__ inline float
lanes_sum(float x)
{
	SHARED(float, parts, THREADS);
	float sum = 0;

	__syncthreads();
	parts[threadIdx.x] = x;
	__syncthreads();
	for (int i = 0; i < LANES; i++)
		sum += parts[i * WARP + threadIdx.x % WARP];
	return sum;
}

/* ---- channel_moments: out (rows, 2, channels): means, sums of squared distances from them ---- */

static __global__ void
moments_row(const llmapp_cuda_batch *batch, channel_shape z, const float *x, float *moments)
{
	int64_t row = blockIdx.x / z.groups, channel = blockIdx.x % z.groups * WARP + threadIdx.x % WARP;
	bool inside = channel < z.c;
	float sum = 0, mean;

	if (row >= batch->rows[AXIS_ROW])
		return;
	x += row * z.positions * z.c + channel;
	for (int64_t p = threadIdx.x / WARP; p < z.positions && inside; p += LANES)
		sum += x[p * z.c];
	mean = lanes_sum(sum) / z.positions;
	sum = 0;
	for (int64_t p = threadIdx.x / WARP; p < z.positions && inside; p += LANES)
		sum += (x[p * z.c] - mean) * (x[p * z.c] - mean);
	sum = lanes_sum(sum);
	if (threadIdx.x < WARP && inside)
	{
		moments[2 * row * z.c + channel] = mean;
		moments[(2 * row + 1) * z.c + channel] = sum;
	}
}

void
launch_channel_moments(launch *l, const llmapp_cuda_step *s)
{
	channel_shape z = channels_of(&s->in[0]);

	LAUNCH(l, moments_row, bucket_of(l, &s->in[0]) * z.groups, THREADS, 0, l->batch, z, FLOATS(s->in[0]),
		   FLOATS(s->out[0]));
}

/* ---- coefficients ---- */

/* Means and sums of squares of `items` parts of `each` elements, `step` floats apart, as one. */
static __device__ inline void
merge_moments(const float *mean, const float *squares, int64_t items, int64_t step, double each, double *merged_mean,
			  double *merged_squares)
{
	double sum = 0, rest = 0;

	for (int64_t i = 0; i < items; i++)
		sum += mean[i * step];
	sum /= items;
	for (int64_t i = 0; i < items; i++)
		rest += squares[i * step] + each * (mean[i * step] - sum) * (mean[i * step] - sum);
	*merged_mean = sum;
	*merged_squares = rest;
}

static __device__ inline void
store_coefficients(float *out, int64_t c, double mean, double variance, double published, float gamma)
{
	double rstd = 1 / sqrt(fmax(variance, 0.0) + NORM_EPSILON);

	out[0] = (float) mean;
	out[c] = (float) (gamma * rstd);
	out[2 * c] = (float) rstd;
	out[3 * c] = (float) published;
}

static __global__ void
batch_coefficients(const llmapp_cuda_batch *batch, channel_shape z, const float *moments, const float *gamma,
				   float *out)
{
	int64_t rows = batch->rows[AXIS_ROW];
	double count = (double) rows * z.positions, mean, squares;

	FOR_ELEMENTS(j, rows > 0 ? z.c : 0)
	{
		merge_moments(moments + j, moments + z.c + j, rows, 2 * z.c, (double) z.positions, &mean, &squares);
		store_coefficients(out + j, z.c, mean, squares / count, squares / fmax(count - 1, 1.0), gamma[j]);
	}
}

/* in = moments, gamma, x for its shape */
void
launch_norm_batch(launch *l, const llmapp_cuda_step *s)
{
	channel_shape z = channels_of(&s->in[2]);

	LAUNCH(l, batch_coefficients, element_blocks(z.c), BLOCK, 0, l->batch, z, FLOATS(s->in[0]), FLOATS(s->in[1]),
		   FLOATS(s->out[0]));
}

static __global__ void
group_coefficients(const llmapp_cuda_batch *batch, channel_shape z, int64_t width, const float *moments,
				   const float *gamma, float *out)
{
	double mean, squares;

	FOR_ELEMENTS(i, batch->rows[AXIS_ROW] * z.c)
	{
		int64_t row = i / z.c, j = i % z.c, first = row * 2 * z.c + j / width * width;

		merge_moments(moments + first, moments + z.c + first, width, 1, (double) z.positions, &mean, &squares);
		store_coefficients(out + row * 4 * z.c + j, z.c, mean, squares / (width * z.positions), 0, gamma[j]);
	}
}

void
launch_norm_group(launch *l, const llmapp_cuda_step *s)
{
	channel_shape z = channels_of(&s->in[2]);

	LAUNCH(l, group_coefficients, element_blocks(bucket_of(l, &s->in[0]) * z.c), BLOCK, 0, l->batch, z,
		   z.c / s->attr.count, FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->out[0]));
}

static __global__ void
running_coefficients(int64_t c, const float *mean, const float *variance, const float *gamma, float *out)
{
	FOR_ELEMENTS(j, c)
	store_coefficients(out + j, c, mean[j], variance[j], variance[j], gamma[j]);
}

/* in = mean, variance, gamma */
void
launch_norm_running(launch *l, const llmapp_cuda_step *s)
{
	int64_t c = s->in[0].dims[0];

	LAUNCH(l, running_coefficients, element_blocks(c), BLOCK, 0, c, FLOATS(s->in[0]), FLOATS(s->in[1]),
		   FLOATS(s->in[2]), FLOATS(s->out[0]));
}

/* ---- channel_norm: act((x - mean) scale + beta); coefficients by row when attr.flag ---- */

static __global__ void
norm_elements(const llmapp_cuda_batch *batch, channel_shape z, bool by_row, int act, const float *x,
			  const float *coefficients, const float *beta, float *y)
{
	FOR_ELEMENTS(i, batch->rows[AXIS_ROW] * z.positions * z.c)
	{
		int64_t j = i % z.c;
		const float *k = coefficients + (by_row ? i / (z.positions * z.c) * 4 * z.c : 0) + j;

		y[i] = act_value(act, (x[i] - k[0]) * k[z.c] + beta[j]);
	}
}

/* in = x, coefficients, beta */
void
launch_channel_norm(launch *l, const llmapp_cuda_step *s)
{
	channel_shape z = channels_of(&s->in[0]);

	LAUNCH(l, norm_elements, element_blocks(bucket_of(l, &s->in[0]) * z.positions * z.c), BLOCK, 0, l->batch, z,
		   s->attr.flag != 0, s->attr.act, FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->out[0]));
}

/* ---- gradients: in = dy, x, coefficients, beta ---- */

static __device__ inline float
slope_at(int act, float u)
{
	return act_slope(act, act == ACT_TANH || act == ACT_SIGMOID ? act_value(act, u) : u);
}

/* out (rows, 2, channels): sums of g = dy act' and of g xhat */
static __global__ void
sums_row(const llmapp_cuda_batch *batch, channel_shape z, bool by_row, int act, const float *dy, const float *x,
		 const float *coefficients, const float *beta, float *sums)
{
	int64_t row = blockIdx.x / z.groups, channel = blockIdx.x % z.groups * WARP + threadIdx.x % WARP;
	const float *k = coefficients + (by_row ? row * 4 * z.c : 0) + channel;
	float sum = 0, sum_x = 0;

	if (row >= batch->rows[AXIS_ROW])
		return;
	for (int64_t p = threadIdx.x / WARP; p < z.positions && channel < z.c; p += LANES)
	{
		int64_t at = (row * z.positions + p) * z.c + channel;
		float d = x[at] - k[0], g = dy[at] * slope_at(act, d * k[z.c] + beta[channel]);

		sum += g;
		sum_x += g * d;
	}
	sum = lanes_sum(sum);
	sum_x = lanes_sum(sum_x);
	if (threadIdx.x < WARP && channel < z.c)
	{
		sums[2 * row * z.c + channel] = sum;
		sums[(2 * row + 1) * z.c + channel] = sum_x * k[2 * z.c];
	}
}

void
launch_channel_norm_sums(launch *l, const llmapp_cuda_step *s)
{
	channel_shape z = channels_of(&s->in[1]);

	LAUNCH(l, sums_row, bucket_of(l, &s->in[1]) * z.groups, THREADS, 0, l->batch, z, s->attr.flag != 0, s->attr.act,
		   FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->in[3]), FLOATS(s->out[0]));
}

static __global__ void
slope_elements(const llmapp_cuda_batch *batch, channel_shape z, bool by_row, int act, const float *dy, const float *x,
			   const float *coefficients, const float *beta, const float *means, int accumulate, float *dx)
{
	FOR_ELEMENTS(i, batch->rows[AXIS_ROW] * z.positions * z.c)
	{
		int64_t j = i % z.c, row = i / (z.positions * z.c);
		const float *k = coefficients + (by_row ? row * 4 * z.c : 0) + j,
					*m = means + (by_row ? row * 2 * z.c : 0) + j;
		float d = x[i] - k[0], rstd = k[2 * z.c], g = dy[i] * slope_at(act, d * k[z.c] + beta[j]);

		put(dx + i, k[z.c] * g - (rstd * m[0] + d * (rstd * rstd * m[z.c])), accumulate);
	}
}

/* in[4] = means (2, channels), by row when attr.flag */
void
launch_channel_norm_dx(launch *l, const llmapp_cuda_step *s)
{
	channel_shape z = channels_of(&s->in[1]);

	LAUNCH(l, slope_elements, element_blocks(bucket_of(l, &s->in[1]) * z.positions * z.c), BLOCK, 0, l->batch, z,
		   s->attr.flag != 0, s->attr.act, FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->in[3]),
		   FLOATS(s->in[4]), s->accumulate[0], FLOATS(s->out[0]));
}

/* Over all rows, of one column of the sums (rows, 2 c). */
static __device__ inline double
column_total(int64_t rows, int64_t c, const float *sums, int64_t column)
{
	double total = 0;

	for (int64_t i = 0; i < rows; i++)
		total += sums[i * 2 * c + column];
	return total;
}

static __global__ void
param_elements(const llmapp_cuda_batch *batch, int64_t c, const float *sums, int accumulate_gamma, float *dgamma,
			   int accumulate_beta, float *dbeta)
{
	FOR_ELEMENTS(j, c)
	{
		put(dgamma + j, (float) column_total(batch->rows[AXIS_ROW], c, sums, c + j), accumulate_gamma);
		put(dbeta + j, (float) column_total(batch->rows[AXIS_ROW], c, sums, j), accumulate_beta);
	}
}

/* in = sums; out = dgamma, dbeta */
void
launch_channel_norm_dparam(launch *l, const llmapp_cuda_step *s)
{
	int64_t c = columns_of(&s->in[0]) / 2;

	LAUNCH(l, param_elements, element_blocks(c), BLOCK, 0, l->batch, c, FLOATS(s->in[0]), s->accumulate[0],
		   FLOATS(s->out[0]), s->accumulate[1], FLOATS(s->out[1]));
}

/* ---- means of gamma g and gamma g xhat: in = sums, gamma, x for its shape ---- */

static __global__ void
batch_means(const llmapp_cuda_batch *batch, channel_shape z, const float *sums, const float *gamma, float *means)
{
	int64_t rows = batch->rows[AXIS_ROW];

	FOR_ELEMENTS(j, rows > 0 ? 2 * z.c : 0)
	means[j] = (float) (gamma[j % z.c] * column_total(rows, z.c, sums, j) / ((double) rows * z.positions));
}

void
launch_norm_batch_means(launch *l, const llmapp_cuda_step *s)
{
	channel_shape z = channels_of(&s->in[2]);

	LAUNCH(l, batch_means, element_blocks(2 * z.c), BLOCK, 0, l->batch, z, FLOATS(s->in[0]), FLOATS(s->in[1]),
		   FLOATS(s->out[0]));
}

static __global__ void
group_means(const llmapp_cuda_batch *batch, channel_shape z, int64_t width, const float *sums, const float *gamma,
			float *means)
{
	FOR_ELEMENTS(i, batch->rows[AXIS_ROW] * 2 * z.c)
	{
		int64_t j = i % z.c, first = i - j % width;
		double total = 0;

		for (int64_t k = 0; k < width; k++)
			total += gamma[j / width * width + k] * sums[first + k];
		means[i] = (float) (total / (width * z.positions));
	}
}

void
launch_norm_group_means(launch *l, const llmapp_cuda_step *s)
{
	channel_shape z = channels_of(&s->in[2]);

	LAUNCH(l, group_means, element_blocks(bucket_of(l, &s->in[2]) * 2 * z.c), BLOCK, 0, l->batch, z,
		   z.c / s->attr.count, FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->out[0]));
}
