/*
 * kept.cu
 *	  Linear layers and tables whose weights are as a version keeps them.
 *
 * Up to FEW rows go through matrix-vector kernels: a warp makes some columns of y, its lanes take four numbers of each
 * row of w in turn, and every row of x meets what was read.  More rows are a product of cuBLASLt: of float32 with f32,
 * of tf32 with f16, which it has all bits of, otherwise of bf16, as on the CPU.  What is neither f32 nor bf16 is decoded for
 * it a panel at a time, small enough to be read from the cache of the device.
 */
#include "kept.h"
#include "gemm.h"

#define FEW LLMAPP_CUDA_FEW_ROWS
#define WARPS 4
#define PANEL_ROWS 64 /* of which panels are multiples, as products like their addresses to be */

/* ---- few rows ---- */

/* Of a row of w or x; rows of f32 that are no multiple of 4 long are not WHOLE. */
template <int TYPE, bool WHOLE>
static __device__ inline void
row_four(const void *w, int64_t row, int64_t k, int64_t i, float x[4])
{
	if (WHOLE)
		kept_four<TYPE>(w, row * k + i, x);
	else
		for (int j = 0; j < 4; j++)
			x[j] = i + j < k ? ((const float *) w)[row * k + i + j] : 0;
}

/* ROWS: at least those of the run; what is read of x serves several columns where they are many. */
template <int TYPE, bool WHOLE, int ROWS>
static __global__ void
multiply_few(const llmapp_cuda_batch *batch, int axis, int64_t k, int64_t n, const float *x, const void *w,
			 const float *bias, int accumulate, float *y)
{
	constexpr int COLUMNS = ROWS > 2 ? ROWS / 2 : 1;
	int64_t first = (blockIdx.x * (int64_t) WARPS + threadIdx.x / WARP) * COLUMNS;
	int rows = (int) batch->rows[axis];
	float sum[ROWS][COLUMNS] = {};

	if (first >= n || rows == 0)
		return;
#pragma unroll 4
	for (int64_t i = threadIdx.x % WARP * 4; i < k; i += 4 * WARP)
	{
		float weights[COLUMNS][4], numbers[4];

		for (int c = 0; c < COLUMNS; c++)
			row_four<TYPE, WHOLE>(w, first + c < n ? first + c : n - 1, k, i, weights[c]);
		for (int r = 0; r < ROWS; r++)
		{
			row_four<LLMAPP_CUDA_F32, WHOLE>(x, r < rows ? r : rows - 1, k, i, numbers);
			for (int c = 0; c < COLUMNS; c++)
				for (int j = 0; j < 4; j++)
					sum[r][c] += numbers[j] * weights[c][j];
		}
	}
	for (int r = 0; r < ROWS; r++)
		for (int c = 0; c < COLUMNS; c++)
		{
			float total = warp_sum(sum[r][c]);

			if (threadIdx.x % WARP == 0 && r < rows && first + c < n)
				put(y + r * n + first + c, total + (bias ? bias[first + c] : 0), accumulate);
		}
}

typedef void (*few_kernel)(const llmapp_cuda_batch *batch, int axis, int64_t k, int64_t n, const float *x,
						   const void *w, const float *bias, int accumulate, float *y);

template <int TYPE, bool WHOLE>
static few_kernel
few_rows(int64_t rows)
{
	return rows <= 1   ? multiply_few<TYPE, WHOLE, 1>
		   : rows <= 2 ? multiply_few<TYPE, WHOLE, 2>
		   : rows <= 4 ? multiply_few<TYPE, WHOLE, 4>
					   : multiply_few<TYPE, WHOLE, FEW>;
}

static few_kernel
few_kernel_of(int type, int64_t rows, int64_t k)
{
	switch (type)
	{
		case LLMAPP_CUDA_F32:
			return k % 4 == 0 ? few_rows<LLMAPP_CUDA_F32, true>(rows) : few_rows<LLMAPP_CUDA_F32, false>(rows);
		case LLMAPP_CUDA_F16: return few_rows<LLMAPP_CUDA_F16, true>(rows);
		case LLMAPP_CUDA_BF16: return few_rows<LLMAPP_CUDA_BF16, true>(rows);
		case LLMAPP_CUDA_Q8_0: return few_rows<LLMAPP_CUDA_Q8_0, true>(rows);
		default: return few_rows<LLMAPP_CUDA_Q4_0, true>(rows);
	}
}

/* ---- many rows ---- */

/* `count` numbers, a multiple of 4, to float32, or to bf16. */
template <int TYPE>
static __global__ void
decode_panel(const void *w, int64_t count, int bf16, void *panel)
{
	FOR_ELEMENTS(i, count / 4)
	{
		float x[4];

		kept_four<TYPE>(w, 4 * i, x);
		if (bf16)
			((uint2 *) panel)[i] = (uint2) {pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3])};
		else
			((float4 *) panel)[i] = (float4) {x[0], x[1], x[2], x[3]};
	}
}

static void
decode(launch *l, int type, const void *w, int64_t count, bool bf16, void *panel)
{
	void (*kernel)(const void *w, int64_t count, int bf16, void *panel) =
		type == LLMAPP_CUDA_F16    ? decode_panel<LLMAPP_CUDA_F16>
		: type == LLMAPP_CUDA_Q8_0 ? decode_panel<LLMAPP_CUDA_Q8_0>
								   : decode_panel<LLMAPP_CUDA_Q4_0>;

	LAUNCH(l, kernel, element_blocks(count / 4), BLOCK, 0, w, count, (int) bf16, panel);
}

static void
multiply_many(launch *l, const llmapp_cuda_step *s, int type, int64_t rows, int64_t k, int64_t n)
{
	bool bf16 = type != LLMAPP_CUDA_F32 && type != LLMAPP_CUDA_F16;
	bool decoded = type != LLMAPP_CUDA_F32 && type != LLMAPP_CUDA_BF16;
	int64_t panel = decoded ? s->in[3].dims[0] / (k * (bf16 ? 2 : 4)) : n;
	bool tf32 = type == LLMAPP_CUDA_F16;
	const void *x = bf16   ? (const void *) gemm_round(l, FLOATS(s->in[0]), rows * k)
					: tf32 ? gemm_round_tf32(l, FLOATS(s->in[0]), rows * k)
						   : s->in[0].data;

	if (panel > PANEL_ROWS)
		panel -= panel % PANEL_ROWS;
	if (panel < 1)
	{
		l->what = "there is no room to decode weights";
		return;
	}
	for (int64_t j = 0; j < n; j += panel)
	{
		int64_t columns = n - j < panel ? n - j : panel;
		const void *w = (const char *) s->in[1].data + kept_bytes(type, j * k);
		gemm_shape shape = {false, true, rows, columns, k, bf16, n, tf32};

		if (decoded)
			decode(l, type, w, columns * k, bf16, s->in[3].data);
		gemm_enqueue(l, &shape, x, decoded ? s->in[3].data : w, s->in[2].data ? FLOATS(s->in[2]) + j : NULL,
					 s->accumulate[0] ? 1 : 0, FLOATS(s->out[0]) + j);
	}
}

static bool
is_kept(launch *l, int64_t type, int64_t k)
{
	if (type >= LLMAPP_CUDA_F32 && type <= LLMAPP_CUDA_Q4_0 && (type == LLMAPP_CUDA_F32 || k % KEPT_BLOCK == 0))
		return true;
	l->what = "weights are kept in an impossible form";
	return false;
}

void
launch_kept_linear(launch *l, const llmapp_cuda_step *s)
{
	int64_t rows = bucket_of(l, &s->in[0]), n = s->in[1].dims[0], k = columns_of(&s->in[1]);
	int type = (int) s->attr.index;

	if (!is_kept(l, s->attr.index, k))
		return;
	if (rows <= FEW)
	{
		few_kernel kernel = few_kernel_of(type, rows, k);
		int64_t columns = WARPS * (rows <= 2 ? 1 : rows <= 4 ? 2 : FEW / 2);

		LAUNCH(l, kernel, (n + columns - 1) / columns, WARPS * WARP, 0, l->batch, s->in[0].axis, k, n,
			   FLOATS(s->in[0]), s->in[1].data, FLOATS(s->in[2]), s->accumulate[0], FLOATS(s->out[0]));
		return;
	}
	multiply_many(l, s, type, rows, k, n);
}

/* ---- tables ---- */

static __global__ void
embed_kept(const llmapp_cuda_batch *batch, int axis, int type, int64_t width, float factor, const int32_t *id,
		   const void *table, const int32_t *position, const float *positions, float *y)
{
	FOR_ELEMENTS(i, batch->rows[axis] * width)
	{
		float x = factor * kept_one(type, table, id[i / width] * width + i % width);

		y[i] = positions ? x + positions[position[i / width] * width + i % width] : x;
	}
}

void
launch_kept_embed(launch *l, const llmapp_cuda_step *s)
{
	int64_t width = columns_of(&s->in[1]);

	if (!is_kept(l, s->attr.index, width))
		return;
	LAUNCH(l, embed_kept, element_blocks(bucket_of(l, &s->in[0]) * width), BLOCK, 0, l->batch, s->in[0].axis,
		   (int) s->attr.index, width, s->attr.number, INTS(s->in[0]), s->in[1].data, INTS(s->in[2]),
		   FLOATS(s->in[3]), FLOATS(s->out[0]));
}
