/*
 * linear.cu
 *	  Linear layers and their gradients: matrix products of the bucket's rows, and sums of columns.
 *
 * A product has as many rows as the bucket.  Rows beyond those of the run make rows that nobody reads;
 * but where a product sums over rows, those of both matrices are cleared first.
 */
#include "linear.h"

#include "device.h"
#include "ptx.h"

static __global__ void
round_elements(int64_t n, const float *x, uint16_t *y)
{
	FOR_ELEMENTS(i, n)
	y[i] = to_bf16(x[i]);
}

const uint16_t *
gemm_round(launch *l, const float *x, int64_t n)
{
	uint16_t *y = launch_scratch<uint16_t>(l, n);

	LAUNCH(l, round_elements, element_blocks(n), BLOCK, 0, n, x, y);
	return y;
}

static __global__ void
round_to_tf32(int64_t n, const float *x, float *y)
{
	FOR_ELEMENTS(i, n)
	y[i] = to_tf32(x[i]);
}

const float *
gemm_round_tf32(launch *l, const float *x, int64_t n)
{
	float *y = launch_scratch<float>(l, n);

	LAUNCH(l, round_to_tf32, element_blocks(n), BLOCK, 0, n, x, y);
	return y;
}

void
gemm(launch *l, const gemm_shape *s, const float *a, const float *b, const float *bias, float beta, float *c)
{
	if (s->bf16)
		gemm_enqueue(l, s, gemm_round(l, a, s->m * s->k), gemm_round(l, b, s->k * s->n), bias, beta, c);
	else
		gemm_enqueue(l, s, a, b, bias, beta, c);
}

static __global__ void
clear_rows(const llmapp_cuda_batch *batch, int axis, int64_t bucket, int64_t n, float *x)
{
	int64_t first = batch->rows[axis] * n;

	FOR_ELEMENTS(i, bucket * n - first)
	x[first + i] = 0;
}

void
clear_tail(launch *l, int axis, int64_t bucket, int64_t n, float *x)
{
	LAUNCH(l, clear_rows, element_blocks(bucket * n), BLOCK, 0, l->batch, axis, bucket, n, x);
}

/* ---- sums of columns: parts of PART_ROWS rows, then parts in their order ---- */

#define PART_ROWS 512
#define PART_LANES 8 /* rows that a block reads at a time, of 32 columns */

static __global__ void
sum_part(const llmapp_cuda_batch *batch, int axis, int64_t bucket, int64_t n, int64_t groups, const float *x,
		 float *parts)
{
	SHARED(float, sums, PART_LANES *WARP);
	int64_t part = blockIdx.x / groups, column = blockIdx.x % groups * WARP + threadIdx.x % WARP;
	int64_t rows = axis == AXIS_NONE ? bucket : batch->rows[axis];
	int64_t first = part * PART_ROWS, last = first + PART_ROWS < rows ? first + PART_ROWS : rows;
	float sum = 0;

	for (int64_t i = first + threadIdx.x / WARP; i < last && column < n; i += PART_LANES)
		sum += x[i * n + column];
	sums[threadIdx.x] = sum;
	__syncthreads();
	if (threadIdx.x < WARP && column < n)
	{
		for (int i = 1; i < PART_LANES; i++)
			sum += sums[i * WARP + threadIdx.x];
		parts[part * n + column] = sum;
	}
}

static __global__ void
sum_parts(int64_t parts, int64_t n, const float *x, int accumulate, float *y)
{
	FOR_ELEMENTS(j, n)
	{
		float sum = 0;

		for (int64_t i = 0; i < parts; i++)
			sum += x[i * n + j];
		put(y + j, sum, accumulate);
	}
}

void
sum_columns(launch *l, int axis, int64_t bucket, int64_t n, const float *x, int accumulate, float *y)
{
	int64_t parts = (bucket + PART_ROWS - 1) / PART_ROWS, groups = (n + WARP - 1) / WARP;
	float *sums = launch_scratch<float>(l, parts * n);

	LAUNCH(l, sum_part, parts * groups, PART_LANES * WARP, 0, l->batch, axis, bucket, n, groups, x, sums);
	LAUNCH(l, sum_parts, element_blocks(n), BLOCK, 0, parts, n, sums, accumulate, y);
}

void
launch_column_sum(launch *l, const llmapp_cuda_step *s)
{
	sum_columns(l, s->in[0].axis, bucket_of(l, &s->in[0]), columns_of(&s->in[0]), FLOATS(s->in[0]), s->accumulate[0],
				FLOATS(s->out[0]));
}

/* ---- linear: in = x, w (n, k), bias ---- */

void
launch_linear(launch *l, const llmapp_cuda_step *s)
{
	gemm_shape shape = {false,       true, bucket_of(l, &s->in[0]), columns_of(&s->out[0]), columns_of(&s->in[0]),
						s->bf16 != 0};

	gemm(l, &shape, FLOATS(s->in[0]), FLOATS(s->in[1]), FLOATS(s->in[2]), 0, FLOATS(s->out[0]));
}

/* in = dy, w */
void
launch_linear_dx(launch *l, const llmapp_cuda_step *s)
{
	gemm_shape shape = {false,       false, bucket_of(l, &s->in[0]), columns_of(&s->out[0]), columns_of(&s->in[0]),
						s->bf16 != 0};

	gemm(l, &shape, FLOATS(s->in[0]), FLOATS(s->in[1]), NULL, s->accumulate[0] ? 1 : 0, FLOATS(s->out[0]));
}

/* in = dy, x */
void
launch_linear_dw(launch *l, const llmapp_cuda_step *s)
{
	int64_t rows = bucket_of(l, &s->in[0]), n = columns_of(&s->in[0]), k = columns_of(&s->in[1]);
	gemm_shape shape = {true, false, n, k, rows, s->bf16 != 0};

	clear_tail(l, s->in[0].axis, rows, n, FLOATS(s->in[0]));
	clear_tail(l, s->in[1].axis, rows, k, FLOATS(s->in[1]));
	gemm(l, &shape, FLOATS(s->in[0]), FLOATS(s->in[1]), NULL, s->accumulate[0] ? 1 : 0, FLOATS(s->out[0]));
}
