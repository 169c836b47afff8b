/*
 * loss.cu
 *	  Softmax and the losses of rows, each with its gradient.
 *
 * in = prediction, target, weight (rows), 1 / total weight; out = weight times loss (rows), gradient of the
 * weighted mean, which may lie where the prediction does: what a block needs of its row is read
 * before a barrier, written after it.
 */
#include "device.h"

static __global__ void
softmax_row(const llmapp_cuda_batch *batch, int axis, int64_t n, const float *x, float *y)
{
	int64_t row = blockIdx.x;
	float top = -INFINITY, sum = 0;

	if (row >= batch->rows[axis])
		return;
	x += row * n;
	y += row * n;
	FOR_COLUMNS(j, n)
	top = fmaxf(top, x[j]);
	top = block_max(top);
	FOR_COLUMNS(j, n)
	{
		float e = expf(x[j] - top);

		sum += e;
		y[j] = e;
	}
	sum = block_sum(sum);
	FOR_COLUMNS(j, n)
	y[j] *= 1 / sum;
}

void
launch_softmax(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH(l, softmax_row, bucket_of(l, &s->in[0]), row_threads(n), 0, l->batch, s->in[0].axis, n, FLOATS(s->in[0]),
		   FLOATS(s->out[0]));
}

static __global__ void
total_weight(const llmapp_cuda_batch *batch, int axis, const float *weight, float *inverse)
{
	double total = 0;

	FOR_COLUMNS(i, batch->rows[axis])
	total += weight[i];
	total = block_sum(total);
	if (threadIdx.x == 0)
		*inverse = total > 0 ? (float) (1 / total) : 0;
}

void
launch_weight_total(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, total_weight, 1, 512, 0, l->batch, s->in[0].axis, FLOATS(s->in[0]), FLOATS(s->out[0]));
}

/* ---- classes ---- */

static __global__ void
cross_entropy_row(const llmapp_cuda_batch *batch, int axis, int64_t n, float smooth, const float *x,
				  const int32_t *targets, const float *weight, const float *inverse, float *losses, float *dx)
{
	int64_t row = blockIdx.x;
	float top = -INFINITY, sum = 0, all = 0, logit, log_sum;
	int32_t target;

	if (row >= batch->rows[axis])
		return;
	x += row * n;
	target = targets[row];
	logit = x[target];
	FOR_COLUMNS(j, n)
	top = fmaxf(top, x[j]);
	top = block_max(top);
	FOR_COLUMNS(j, n)
	{
		sum += expf(x[j] - top);
		all += x[j];
	}
	log_sum = logf(block_sum(sum));
	all = block_sum(all);
	if (threadIdx.x == 0)
	{
		float loss = (1 - smooth) * (log_sum + (top - logit));

		losses[row] = weight[row] * (smooth > 0 ? loss + smooth * (log_sum + (top - all / n)) : loss);
	}
	if (!dx)
		return;
	FOR_COLUMNS(j, n)
	{
		float factor = weight[row] * *inverse, p = expf(x[j] - (top + log_sum));

		dx[row * n + j] = factor * (p - smooth / n - (j == target ? 1 - smooth : 0));
	}
}

static float *
gradient_of(const llmapp_cuda_step *s)
{
	return s->attr.flag ? FLOATS(s->out[1]) : NULL;
}

void
launch_cross_entropy(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH(l, cross_entropy_row, bucket_of(l, &s->in[0]), row_threads(n), 0, l->batch, s->in[0].axis, n,
		   s->attr.number, FLOATS(s->in[0]), INTS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->in[3]), FLOATS(s->out[0]),
		   gradient_of(s));
}

static __global__ void
binary_elements(const llmapp_cuda_batch *batch, int axis, float smooth, const float *xs, const int32_t *targets,
				const float *weight, const float *inverse, float *losses, float *dx)
{
	FOR_ELEMENTS(i, batch->rows[axis])
	{
		float x = xs[i], target = targets[i] * (1 - smooth) + 0.5f * smooth, e = expf(-fabsf(x));

		losses[i] = weight[i] * (fmaxf(x, 0) - x * target + log1pf(e));
		if (dx)
			dx[i] = weight[i] * *inverse * ((x >= 0 ? 1 : e) / (1 + e) - target);
	}
}

void
launch_binary(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, binary_elements, element_blocks(bucket_of(l, &s->in[0])), BLOCK, 0, l->batch, s->in[0].axis,
		   s->attr.number, FLOATS(s->in[0]), INTS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->in[3]), FLOATS(s->out[0]),
		   gradient_of(s));
}

/* ---- numbers: the mean over the row's; delta 0: squares ---- */

static __global__ void
regression_row(const llmapp_cuda_batch *batch, int axis, int64_t n, bool huber, float delta, const float *y,
			   const float *targets, const float *weight, const float *inverse, float *losses, float *dy)
{
	int64_t row = blockIdx.x;
	float total = 0;

	if (row >= batch->rows[axis])
		return;
	FOR_COLUMNS(j, n)
	{
		float error = y[row * n + j] - targets[row * n + j], size = fabsf(error), slope = 2 * error;

		if (!huber)
			total += error * error;
		else
		{
			total += size < delta ? 0.5f * error * error : delta * (size - 0.5f * delta);
			slope = size < delta ? error : copysignf(delta, error);
		}
		if (dy)
			dy[row * n + j] = weight[row] * *inverse / n * slope;
	}
	total = block_sum(total);
	if (threadIdx.x == 0)
		losses[row] = weight[row] * total / n;
}

static void
regression(launch *l, const llmapp_cuda_step *s, bool huber)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH(l, regression_row, bucket_of(l, &s->in[0]), row_threads(n), 0, l->batch, s->in[0].axis, n, huber,
		   s->attr.number, FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->in[3]), FLOATS(s->out[0]),
		   gradient_of(s));
}

void
launch_mse(launch *l, const llmapp_cuda_step *s)
{
	regression(l, s, false);
}

void
launch_huber(launch *l, const llmapp_cuda_step *s)
{
	regression(l, s, true);
}

/*
 * ---- pairs of rows: in = unit rows, text, weight; out = loss, correct, log of the sum of exponentials ----
 * As cpu_contrastive.c: similarities over the temperature, shifted by its reciprocal.  Warps of a block
 * take the rows of the other side in turn.
 */

#define PAIR_THREADS 256
#define PAIR_BLOCK 64

static __device__ inline int64_t
other_row(int64_t i, int64_t pair)
{
	return 2 * pair + 1 - i % 2;
}

/* Of row i to the other side's of a pair; minus infinity for another pair with one of its texts.  One warp. */
static __device__ inline float
similarity(int64_t n, float temperature, const float *x, const float *text, int64_t i, int64_t pair)
{
	const float *own = text + i / 2 * 2, *other = text + 2 * pair, *a = x + i * n, *b = x + other_row(i, pair) * n;
	float sum = 0;

	for (int64_t j = threadIdx.x % WARP; j < n; j += WARP)
		sum += a[j] * b[j];
	sum = warp_sum(sum) / temperature;
	return pair != i / 2 && (other[0] == own[0] || other[1] == own[1]) ? -INFINITY : sum;
}

static __global__ void
contrastive_row(const llmapp_cuda_batch *batch, int64_t n, float temperature, const float *x, const float *text,
				const float *weight, float *losses, float *correct, float *log_sums)
{
	SHARED(float, own_score, 1);
	int64_t i = blockIdx.x, pairs = batch->rows[AXIS_ROW] / 2;
	float top = -INFINITY, sum = 0, shift = 1 / temperature;

	if (i >= batch->rows[AXIS_ROW])
		return;
	for (int64_t pair = threadIdx.x / WARP; pair < pairs; pair += blockDim.x / WARP)
	{
		float score = similarity(n, temperature, x, text, i, pair);

		if (pair == i / 2 && threadIdx.x % WARP == 0)
			*own_score = score;
		top = fmaxf(top, score);
		sum += threadIdx.x % WARP == 0 ? expf(score - shift) : 0;
	}
	top = block_max(top);
	sum = block_sum(sum);
	if (threadIdx.x == 0)
	{
		float log_sum = shift + logf(sum);

		losses[i] = weight[i] * (log_sum - *own_score);
		correct[i] = *own_score >= top;
		log_sums[i] = log_sum;
	}
}

void
launch_contrastive(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, contrastive_row, bucket_of(l, &s->in[0]), PAIR_THREADS, 0, l->batch, columns_of(&s->in[0]),
		   s->attr.number, FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->out[0]), FLOATS(s->out[1]),
		   FLOATS(s->out[2]));
}

/* Row i and one of the other side appear in each other's softmax. */
static __global__ void
contrastive_slope_row(const llmapp_cuda_batch *batch, int64_t n, float temperature, const float *x, const float *text,
					  const float *weight, const float *inverse, const float *log_sum, int accumulate, float *dx)
{
	SHARED(float, slopes, PAIR_BLOCK);
	int64_t i = blockIdx.x, pairs = batch->rows[AXIS_ROW] / 2;
	float factor;

	if (i >= batch->rows[AXIS_ROW])
		return;
	dx += i * n;
	factor = *inverse / temperature;
	for (int64_t first = 0; first < pairs || first == 0; first += PAIR_BLOCK)
	{
		int64_t count = pairs - first < PAIR_BLOCK ? pairs - first : PAIR_BLOCK;

		__syncthreads();
		for (int64_t k = threadIdx.x / WARP; k < count; k += blockDim.x / WARP)
		{
			int64_t other = other_row(i, first + k);
			float score = similarity(n, temperature, x, text, i, first + k), target = first + k == i / 2;

			if (threadIdx.x % WARP == 0)
				slopes[k] = weight[i] * (expf(score - log_sum[i]) - target) +
							weight[other] * (expf(score - log_sum[other]) - target);
		}
		__syncthreads();
		FOR_COLUMNS(j, n)
		{
			float sum = accumulate || first > 0 ? dx[j] : 0;

			for (int64_t k = 0; k < count; k++)
				sum += factor * slopes[k] * x[other_row(i, first + k) * n + j];
			dx[j] = sum;
		}
	}
}

/* in = x, text, weight, 1 / total weight, logs of sums */
void
launch_contrastive_grad(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, contrastive_slope_row, bucket_of(l, &s->in[0]), PAIR_THREADS, 0, l->batch, columns_of(&s->in[0]),
		   s->attr.number, FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->in[3]), FLOATS(s->in[4]),
		   s->accumulate[0], FLOATS(s->out[0]));
}
