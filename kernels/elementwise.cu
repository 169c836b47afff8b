/*
 * elementwise.cu
 *	  Operations that make each element, or each row's part, of what lies at the same place.
 *
 * Grids have as many threads as fit a device and walk over the rows that this run has.
 */
#include "device.h"

/* One element per thread of rows of n columns. */
#define LAUNCH_ELEMENTS(l, kernel, rows, n, ...) \
	LAUNCH(l, kernel, element_blocks((rows) * (n)), BLOCK, 0, (l)->batch, __VA_ARGS__)

static __global__ void
add_elements(const llmapp_cuda_batch *batch, int axis, int64_t n, const float *a, const float *b, float *y)
{
	FOR_ELEMENTS(i, batch->rows[axis] * n)
	y[i] = a[i] + b[i];
}

void
launch_add(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ELEMENTS(l, add_elements, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, FLOATS(s->in[0]), FLOATS(s->in[1]),
					FLOATS(s->out[0]));
}

static __global__ void
scale_elements(const llmapp_cuda_batch *batch, int axis, int64_t n, float factor, const float *x, int accumulate,
			   float *y)
{
	FOR_ELEMENTS(i, batch->rows[axis] * n)
	put(y + i, factor * x[i], accumulate);
}

static void
scale(launch *l, const llmapp_cuda_step *s, float factor)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ELEMENTS(l, scale_elements, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, factor, FLOATS(s->in[0]),
					s->accumulate[0], FLOATS(s->out[0]));
}

void
launch_scale(launch *l, const llmapp_cuda_step *s)
{
	scale(l, s, s->attr.number);
}

void
launch_pass(launch *l, const llmapp_cuda_step *s)
{
	if (s->accumulate[0] || s->in[0].data != s->out[0].data)
		scale(l, s, 1);
}

void
launch_flatten(launch *l, const llmapp_cuda_step *s)
{
	launch_pass(l, s);
}

/* ---- activations ---- */

static __global__ void
act_elements(const llmapp_cuda_batch *batch, int axis, int64_t n, int act, const float *x, float *y)
{
	FOR_ELEMENTS(i, batch->rows[axis] * n)
	y[i] = act_value(act, x[i]);
}

void
launch_act(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ELEMENTS(l, act_elements, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, s->attr.act, FLOATS(s->in[0]),
					FLOATS(s->out[0]));
}

static __global__ void
act_slopes(const llmapp_cuda_batch *batch, int axis, int64_t n, int act, const float *dy, const float *ref,
		   int accumulate, float *dx)
{
	FOR_ELEMENTS(i, batch->rows[axis] * n)
	put(dx + i, dy[i] * act_slope(act, ref[i]), accumulate);
}

/* in = dy, and x or y as slope_by_input() says */
void
launch_act_grad(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ELEMENTS(l, act_slopes, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, s->attr.act, FLOATS(s->in[0]),
					FLOATS(s->in[1]), s->accumulate[0], FLOATS(s->out[0]));
}

static __global__ void
glu_elements(const llmapp_cuda_batch *batch, int axis, int64_t n, int act, const float *x, float *y)
{
	FOR_ELEMENTS(i, batch->rows[axis] * n)
	{
		const float *a = x + i / n * 2 * n + i % n;

		y[i] = act_value(act, a[0]) * a[n];
	}
}

/* (rows, 2 n): act(first half) * second half */
void
launch_glu(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->out[0]);

	LAUNCH_ELEMENTS(l, glu_elements, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, s->attr.act, FLOATS(s->in[0]),
					FLOATS(s->out[0]));
}

static __global__ void
glu_slopes(const llmapp_cuda_batch *batch, int axis, int64_t n, int act, const float *dy, const float *x,
		   int accumulate, float *dx)
{
	FOR_ELEMENTS(i, batch->rows[axis] * n)
	{
		int64_t at = i / n * 2 * n + i % n;
		float a = x[at], b = x[at + n], f = act_value(act, a);

		put(dx + at, dy[i] * b * act_slope(act, slope_by_input(act) ? a : f), accumulate);
		put(dx + at + n, dy[i] * f, accumulate);
	}
}

void
launch_glu_grad(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ELEMENTS(l, glu_slopes, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, s->attr.act, FLOATS(s->in[0]),
					FLOATS(s->in[1]), s->accumulate[0], FLOATS(s->out[0]));
}

/* ---- dropout: the bits of philox.h, eight elements of a row from each block ---- */

typedef struct dropout
{
	uint32_t stream, threshold;
	float scale;
} dropout;

static dropout
dropout_of(const llmapp_cuda_step *s)
{
	uint32_t wanted = (uint32_t) (s->attr.number * 65536.0f + 0.5f);
	uint32_t threshold = wanted < 65536 ? wanted : 65535;

	return (dropout) {(uint32_t) s->attr.index, threshold, 65536.0f / (65536.0f - threshold)};
}

/* Of element i of a block: half i % 2 of word i / 2. */
static __device__ inline float
dropout_factor(const uint32_t bits[4], int i, dropout d)
{
	return (bits[i / 2] >> i % 2 * 16 & 0xffff) >= d.threshold ? d.scale : 0;
}

static __global__ void
drop_elements(const llmapp_cuda_batch *batch, int axis, int64_t n, dropout d, const float *x, int accumulate,
			  float *y)
{
	int64_t blocks = (n + 7) / 8;

	FOR_ELEMENTS(b, batch->rows[axis] * blocks)
	{
		int64_t row = b / blocks, first = b % blocks * 8;
		uint32_t bits[4];

		philox_block(batch->seed, batch->step, d.stream, (uint32_t) b, bits);
		for (int i = 0; i < 8 && first + i < n; i++)
			put(y + row * n + first + i, x[row * n + first + i] * dropout_factor(bits, i, d), accumulate);
	}
}

void
launch_dropout(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ELEMENTS(l, drop_elements, bucket_of(l, &s->in[0]), (n + 7) / 8, s->in[0].axis, n, dropout_of(s),
					FLOATS(s->in[0]), s->accumulate[0], FLOATS(s->out[0]));
}

static __global__ void
drop_rows(const llmapp_cuda_batch *batch, int axis, int64_t n, dropout d, const float *x, int accumulate, float *y)
{
	FOR_ELEMENTS(i, batch->rows[axis] * n)
	{
		uint32_t bits[4];

		philox_block(batch->seed, batch->step, d.stream, (uint32_t) (i / n), bits);
		put(y + i, x[i] * dropout_factor(bits, 0, d), accumulate);
	}
}

void
launch_row_dropout(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH_ELEMENTS(l, drop_rows, bucket_of(l, &s->in[0]), n, s->in[0].axis, n, dropout_of(s), FLOATS(s->in[0]),
					s->accumulate[0], FLOATS(s->out[0]));
}

/* ---- last dimensions joined and parted; a row has `positions` of them ---- */

static __global__ void
concat_elements(const llmapp_cuda_batch *batch, int axis, int64_t positions, int64_t n, int64_t m, const float *a,
				const float *b, float *y)
{
	FOR_ELEMENTS(i, batch->rows[axis] * positions * (n + m))
	{
		int64_t p = i / (n + m), j = i % (n + m);

		y[i] = j < n ? a[p * n + j] : b[p * m + j - n];
	}
}

static int64_t
last_dim(const llmapp_cuda_tensor *t)
{
	return t->dims[t->ndim - 1];
}

void
launch_concat(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = last_dim(&s->in[0]), m = last_dim(&s->in[1]), positions = columns_of(&s->out[0]) / (n + m);

	LAUNCH_ELEMENTS(l, concat_elements, bucket_of(l, &s->in[0]), columns_of(&s->out[0]), s->in[0].axis, positions, n,
					m, FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->out[0]));
}

static __global__ void
slice_elements(const llmapp_cuda_batch *batch, int axis, int64_t positions, int64_t from, int64_t n, int64_t first,
			   const float *x, int accumulate, float *y)
{
	FOR_ELEMENTS(i, batch->rows[axis] * positions * n)
	put(y + i, x[i / n * from + first + i % n], accumulate);
}

/* Columns from attr.index on. */
void
launch_slice(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = last_dim(&s->out[0]), positions = columns_of(&s->out[0]) / n;

	LAUNCH_ELEMENTS(l, slice_elements, bucket_of(l, &s->in[0]), columns_of(&s->out[0]), s->in[0].axis, positions,
					last_dim(&s->in[0]), n, s->attr.index, FLOATS(s->in[0]), s->accumulate[0], FLOATS(s->out[0]));
}
