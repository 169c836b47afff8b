/*
 * language.cu
 *	  The language loss: tokens that count, logits of the vocabulary by chunks of them, cross-entropy.
 *
 * As cpu_language.c has it; `active` = (1 + tokens): how many tokens count, and which.  Chunks beyond the
 * bucket of counting tokens launch nothing.  Rows of a chunk beyond the tokens that count are cleared
 * before the product that sums over them.
 */
#include "device.h"
#include "linear.h"

/* One block; tokens in their order. */
static __global__ void
list_active(const llmapp_cuda_batch *batch, int axis, const float *weight, int32_t *active, float *loss,
			float *correct)
{
	int64_t tokens = batch->rows[axis];
	int32_t before = 0;

	for (int64_t first = 0; first < tokens; first += blockDim.x)
	{
		int64_t t = first + threadIdx.x;
		bool counts = t < tokens && weight[t] > 0;
		int total, at = block_offset(counts, &total);

		if (counts)
			active[1 + before + at] = (int32_t) t;
		if (t < tokens)
			loss[t] = correct[t] = 0;
		before += total;
	}
	if (threadIdx.x == 0)
		active[0] = before;
}

/* in = weight; out = active, loss = 0, correct = 0 */
void
launch_active_tokens(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, list_active, 1, 1024, 0, l->batch, s->in[0].axis, FLOATS(s->in[0]), INTS(s->out[0]), FLOATS(s->out[1]),
		   FLOATS(s->out[2]));
}

static __global__ void
gather_rows(int64_t n, const int32_t *active, const float *x, float *y)
{
	FOR_ELEMENTS(i, active[0] * n)
	y[i] = x[active[1 + i / n] * n + i % n];
}

void
launch_gather_active(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH(l, gather_rows, element_blocks(bucket_of(l, &s->in[0]) * n), BLOCK, 0, n, INTS(s->in[1]), FLOATS(s->in[0]),
		   FLOATS(s->out[0]));
}

/* A block is a token; where it is among those that count is searched. */
static __global__ void
scatter_row(const llmapp_cuda_batch *batch, int axis, int64_t n, const int32_t *active, const float *x,
			int accumulate, float *y)
{
	int64_t t = blockIdx.x, low = 0, high = active[0];

	if (t >= batch->rows[axis])
		return;
	while (low < high)
	{
		int64_t middle = (low + high) / 2;

		if (active[1 + middle] < t)
			low = middle + 1;
		else
			high = middle;
	}
	FOR_COLUMNS(j, n)
	{
		if (low < active[0] && active[1 + low] == t)
			put(y + t * n + j, x[low * n + j], accumulate);
		else if (!accumulate)
			y[t * n + j] = 0;
	}
}

/* in = gathered rows, active */
void
launch_scatter_active(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH(l, scatter_row, bucket_of(l, &s->in[0]), row_threads(n), 0, l->batch, s->in[0].axis, n, INTS(s->in[1]),
		   FLOATS(s->in[0]), s->accumulate[0], FLOATS(s->out[0]));
}

/* ---- chunks ---- */

/* Tokens of the chunk that a launch covers: its tensor's rows, those of the bucket from attr.index on; 0: none. */
static int64_t
chunk_rows(const launch *l, const llmapp_cuda_step *s, const llmapp_cuda_tensor *chunk, int axis)
{
	int64_t most = l->bucket[AXIS_NONE] ? l->bucket[AXIS_NONE] : l->bucket[axis], left = most - s->attr.index;

	return left < 0 ? 0 : left < chunk->dims[0] ? left : chunk->dims[0];
}

/* in = gathered x, w (vocab, width), bias or none, active; out = logits (chunk, vocab) */
void
launch_head_logits(launch *l, const llmapp_cuda_step *s)
{
	int64_t width = columns_of(&s->in[0]), rows = chunk_rows(l, s, &s->out[0], s->in[0].axis);
	gemm_shape shape = {false, true, rows, columns_of(&s->out[0]), width, s->bf16 != 0};

	if (rows > 0)
		gemm(l, &shape, FLOATS(s->in[0]) + s->attr.index * width, FLOATS(s->in[1]), FLOATS(s->in[2]), 0,
			 FLOATS(s->out[0]));
}

/* A block is a token of the chunk; the gradient may lie where the logits do. */
static __global__ void
head_loss_row(int64_t first, int64_t vocab, const float *x, const int32_t *targets, const float *weights,
			  const float *inverse, const int32_t *active, float *losses, float *correct, float *dx)
{
	int64_t row = blockIdx.x;
	float top = -INFINITY, sum = 0, logit, weight;
	int32_t token, target;

	if (first + row >= active[0])
		return;
	x += row * vocab;
	token = active[1 + first + row];
	target = targets[token];
	weight = weights[token];
	logit = x[target];
	FOR_COLUMNS(j, vocab)
	top = fmaxf(top, x[j]);
	top = block_max(top);
	FOR_COLUMNS(j, vocab)
	sum += expf(x[j] - top);
	sum = block_sum(sum);
	if (threadIdx.x == 0)
	{
		losses[token] = weight * (logf(sum) + (top - logit));
		correct[token] = logit >= top;
	}
	if (!dx)
		return;
	FOR_COLUMNS(j, vocab)
	{
		float factor = weight * *inverse;

		dx[row * vocab + j] = factor / sum * expf(x[j] - top) - (j == target ? factor : 0);
	}
}

/* in = logits, target, weight, 1 / total weight or none, active; out = loss, correct, gradient of the logits or none */
void
launch_head_loss(launch *l, const llmapp_cuda_step *s)
{
	int64_t vocab = columns_of(&s->in[0]);

	LAUNCH(l, head_loss_row, chunk_rows(l, s, &s->in[0], s->in[1].axis), row_threads(vocab), 0, s->attr.index, vocab,
		   FLOATS(s->in[0]), INTS(s->in[1]), FLOATS(s->in[2]), FLOATS(s->in[3]), INTS(s->in[4]), FLOATS(s->out[0]),
		   FLOATS(s->out[1]), FLOATS(s->out[2]));
}

/* Zeros in rows of the chunk, of `rows`, that are not of a token. */
static __global__ void
clear_inactive(int64_t first, int64_t rows, int64_t n, const int32_t *active, float *x)
{
	int64_t tokens = active[0] - first;

	tokens = tokens < 0 ? 0 : tokens < rows ? tokens : rows;
	FOR_ELEMENTS(i, (rows - tokens) * n)
	x[tokens * n + i] = 0;
}

/* in = gradient of the logits, gathered x, active; out = gradients of w and of the bias, either or none */
void
launch_head_dw(launch *l, const llmapp_cuda_step *s)
{
	int64_t width = columns_of(&s->in[1]), vocab = columns_of(&s->in[0]);
	int64_t rows = chunk_rows(l, s, &s->in[0], s->in[1].axis);
	gemm_shape shape = {true, false, vocab, width, rows, s->bf16 != 0};
	float *slopes = FLOATS(s->in[0]), *x = FLOATS(s->in[1]) + s->attr.index * width;

	if (rows == 0)
		return;
	LAUNCH(l, clear_inactive, element_blocks(rows * vocab), BLOCK, 0, s->attr.index, rows, vocab, INTS(s->in[2]),
		   slopes);
	LAUNCH(l, clear_inactive, element_blocks(rows * width), BLOCK, 0, s->attr.index, rows, width, INTS(s->in[2]), x);
	if (s->out[0].data)
		gemm(l, &shape, slopes, x, NULL, s->accumulate[0] ? 1 : 0, FLOATS(s->out[0]));
	if (s->out[1].data)
		sum_columns(l, AXIS_NONE, rows, vocab, slopes, s->accumulate[1], FLOATS(s->out[1]));
}

/* in = gradient of the logits, w, active; out = the chunk's rows of the gradient of the gathered x */
void
launch_head_dx(launch *l, const llmapp_cuda_step *s)
{
	int64_t width = columns_of(&s->in[1]), rows = chunk_rows(l, s, &s->in[0], s->out[0].axis);
	gemm_shape shape = {false, false, rows, width, columns_of(&s->in[0]), s->bf16 != 0};

	if (rows > 0)
		gemm(l, &shape, FLOATS(s->in[0]), FLOATS(s->in[1]), NULL, 0, FLOATS(s->out[0]) + s->attr.index * width);
}
