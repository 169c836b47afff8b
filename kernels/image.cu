/*
 * image.cu
 *	  Images from numbers, moved at random as on the CPU, and pools.
 *
 * Images are (rows, height, width, channels).  Gradients of pools gather: each pixel sums what the
 * windows that cover it give, in the order of windows.
 */
#include "device.h"

/* No dropout has these streams; as cpu_image.c. */
#define MOVE_STREAM 0xffffffffu
#define CROP_STREAM 0xfffffffeu

typedef struct image_shape
{
	int64_t columns, height, width, channels; /* columns: of the input */
	int64_t shift;
	float crop;
	int flip;
} image_shape;

/* What becomes of one image. */
typedef struct image_move
{
	int32_t down, right;
	bool mirrored;
	float top, left, height, width;
} image_move;

typedef struct sample_point
{
	int64_t first, second;
	float share; /* of the second */
} sample_point;

static __device__ inline float
uniform(uint32_t bits)
{
	return (float) (bits >> 8) * (1.0f / 16777216.0f);
}

static __device__ inline image_move
draw_move(const llmapp_cuda_batch *batch, const image_shape &z, uint32_t row)
{
	uint32_t places = 2 * (uint32_t) z.shift + 1, bits[4];
	image_move m = {0, 0, false, 0, 0, 1, 1};

	philox_block(batch->seed, batch->step, MOVE_STREAM, row, bits);
	m.down = (int32_t) ((int64_t) (bits[0] % places) - z.shift);
	m.right = (int32_t) ((int64_t) (bits[1] % places) - z.shift);
	m.mirrored = z.flip && (bits[2] & 1);
	if (z.crop > 0)
	{
		philox_block(batch->seed, batch->step, CROP_STREAM, row, bits);
		m.height = 1 - z.crop * uniform(bits[0]);
		m.width = 1 - z.crop * uniform(bits[1]);
		m.top = uniform(bits[2]) * (1 - m.height) * z.height;
		m.left = uniform(bits[3]) * (1 - m.width) * z.width;
	}
	return m;
}

static __device__ inline sample_point
point_at(float at, int64_t length)
{
	float bounded = fmaxf(0.0f, fminf((float) (length - 1), at));
	int64_t first = (int64_t) bounded;

	return (sample_point) {first, first + 1 < length ? first + 1 : length - 1, bounded - first};
}

/* A block is an image. */
static __global__ void
make_image(const llmapp_cuda_batch *batch, image_shape z, bool moves, const float *x, float *y)
{
	int64_t row = blockIdx.x, floats = z.height * z.width * z.channels;
	image_move m;

	if (row >= batch->rows[AXIS_ROW])
		return;
	x += row * z.columns;
	y += row * floats;
	if (moves)
		m = draw_move(batch, z, (uint32_t) row);
	FOR_COLUMNS(i, floats)
	{
		int64_t c = i % z.channels, w = i / z.channels % z.width, h = i / z.channels / z.width;
		const float *plane = x + c * z.height * z.width;

		if (moves)
		{
			int64_t from = m.mirrored ? z.width - 1 - w : w;
			sample_point v = point_at(m.top + (h + 0.5f) * m.height - 0.5f - m.down, z.height);
			sample_point u = point_at(m.left + (from + 0.5f) * m.width - 0.5f - m.right, z.width);
			const float *upper = plane + v.first * z.width, *lower = plane + v.second * z.width;
			float above = upper[u.first] + u.share * (upper[u.second] - upper[u.first]);
			float below = lower[u.first] + u.share * (lower[u.second] - lower[u.first]);

			y[i] = above + v.share * (below - above);
		}
		else
			y[i] = plane[h * z.width + w];
	}
}

void
launch_image(launch *l, const llmapp_cuda_step *s)
{
	const int64_t *d = s->out[0].dims;
	image_shape z = {columns_of(&s->in[0]), d[1], d[2], d[3], s->attr.index, s->attr.number, s->attr.flag};
	bool moves = s->attr.index > 0 || s->attr.flag || s->attr.number > 0;

	LAUNCH(l, make_image, bucket_of(l, &s->in[0]), BLOCK, 0, l->batch, z, moves, FLOATS(s->in[0]), FLOATS(s->out[0]));
}

/* ---- pools ---- */

typedef struct pool_shape
{
	int64_t x[3], y[3]; /* height, width, channels */
	int32_t kernel[2], stride[2], padding[2];
} pool_shape;

static pool_shape
pool_of(const llmapp_cuda_step *s, const llmapp_cuda_tensor *x, const llmapp_cuda_tensor *y)
{
	pool_shape z;

	for (int i = 0; i < 3; i++)
	{
		z.x[i] = x->dims[1 + i];
		z.y[i] = y->dims[1 + i];
	}
	for (int i = 0; i < 2; i++)
	{
		z.kernel[i] = s->attr.kernel[i];
		z.stride[i] = s->attr.stride[i];
		z.padding[i] = s->attr.padding[i];
	}
	return z;
}

/* Taps [*first, *last) of output u along an axis that fall on the image, and the input of tap 0. */
static __device__ inline int64_t
taps_of(const pool_shape &z, int axis, int64_t u, int64_t *first, int64_t *last)
{
	int64_t from = u * z.stride[axis] - z.padding[axis];

	*first = from < 0 ? -from : 0;
	*last = from + z.kernel[axis] > z.x[axis] ? z.x[axis] - from : z.kernel[axis];
	return from;
}

/* Outputs [*first, *last) along an axis whose windows cover input u. */
static __device__ inline void
outputs_of(const pool_shape &z, int axis, int64_t u, int64_t *first, int64_t *last)
{
	int64_t low = u + z.padding[axis] - z.kernel[axis] + 1, high = (u + z.padding[axis]) / z.stride[axis] + 1;

	*first = low > 0 ? (low + z.stride[axis] - 1) / z.stride[axis] : 0;
	*last = high < z.y[axis] ? high : z.y[axis];
}

static __global__ void
max_elements(const llmapp_cuda_batch *batch, pool_shape z, const float *x, float *y, int32_t *index)
{
	FOR_ELEMENTS(i, batch->rows[AXIS_ROW] * z.y[0] * z.y[1] * z.y[2])
	{
		int64_t c = i % z.y[2], ow = i / z.y[2] % z.y[1], oh = i / z.y[2] / z.y[1] % z.y[0];
		int64_t row = i / (z.y[0] * z.y[1] * z.y[2]), h0, h1, w0, w1;
		int64_t top = taps_of(z, 0, oh, &h0, &h1), left = taps_of(z, 1, ow, &w0, &w1);
		int64_t at = h0 * z.kernel[1] + w0;
		float best = x[((row * z.x[0] + top + h0) * z.x[1] + left + w0) * z.x[2] + c];

		for (int64_t h = h0; h < h1; h++)
			for (int64_t w = w0; w < w1; w++)
			{
				float v = x[((row * z.x[0] + top + h) * z.x[1] + left + w) * z.x[2] + c];

				if (v > best)
				{
					best = v;
					at = h * z.kernel[1] + w;
				}
			}
		y[i] = best;
		index[i] = (int32_t) at;
	}
}

/* out = y, which pixel of the window, the first of equals */
void
launch_max_pool(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, max_elements, element_blocks(bucket_of(l, &s->out[0]) * columns_of(&s->out[0])), BLOCK, 0, l->batch,
		   pool_of(s, &s->in[0], &s->out[0]), FLOATS(s->in[0]), FLOATS(s->out[0]), INTS(s->out[1]));
}

static __global__ void
mean_elements(const llmapp_cuda_batch *batch, pool_shape z, const float *x, float *y)
{
	FOR_ELEMENTS(i, batch->rows[AXIS_ROW] * z.y[0] * z.y[1] * z.y[2])
	{
		int64_t c = i % z.y[2], ow = i / z.y[2] % z.y[1], oh = i / z.y[2] / z.y[1] % z.y[0];
		int64_t row = i / (z.y[0] * z.y[1] * z.y[2]), h0, h1, w0, w1;
		int64_t top = taps_of(z, 0, oh, &h0, &h1), left = taps_of(z, 1, ow, &w0, &w1);
		float share = 1.0f / ((h1 - h0) * (w1 - w0)), sum = 0;

		for (int64_t h = h0; h < h1; h++)
			for (int64_t w = w0; w < w1; w++)
				sum += share * x[((row * z.x[0] + top + h) * z.x[1] + left + w) * z.x[2] + c];
		y[i] = sum;
	}
}

void
launch_avg_pool(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, mean_elements, element_blocks(bucket_of(l, &s->out[0]) * columns_of(&s->out[0])), BLOCK, 0, l->batch,
		   pool_of(s, &s->in[0], &s->out[0]), FLOATS(s->in[0]), FLOATS(s->out[0]));
}

/* index NULL: of means. */
static __global__ void
pool_slopes(const llmapp_cuda_batch *batch, pool_shape z, const float *dy, const int32_t *index, int accumulate,
			float *dx)
{
	FOR_ELEMENTS(i, batch->rows[AXIS_ROW] * z.x[0] * z.x[1] * z.x[2])
	{
		int64_t c = i % z.x[2], w = i / z.x[2] % z.x[1], h = i / z.x[2] / z.x[1] % z.x[0];
		int64_t row = i / (z.x[0] * z.x[1] * z.x[2]), p0, p1, q0, q1, first, last, h0, h1;
		float sum = 0;

		outputs_of(z, 0, h, &p0, &p1);
		outputs_of(z, 1, w, &q0, &q1);
		for (int64_t p = p0; p < p1; p++)
			for (int64_t q = q0; q < q1; q++)
			{
				int64_t at = ((row * z.y[0] + p) * z.y[1] + q) * z.y[2] + c;
				int64_t tap_h = h - taps_of(z, 0, p, &h0, &h1), tap_w = w - taps_of(z, 1, q, &first, &last);

				if (!index)
					sum += 1.0f / ((h1 - h0) * (last - first)) * dy[at];
				else if (index[at] == tap_h * z.kernel[1] + tap_w)
					sum += dy[at];
			}
		put(dx + i, sum, accumulate);
	}
}

/* in = dy, index */
void
launch_max_pool_dx(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, pool_slopes, element_blocks(bucket_of(l, &s->out[0]) * columns_of(&s->out[0])), BLOCK, 0, l->batch,
		   pool_of(s, &s->out[0], &s->in[0]), FLOATS(s->in[0]), INTS(s->in[1]), s->accumulate[0], FLOATS(s->out[0]));
}

void
launch_avg_pool_dx(launch *l, const llmapp_cuda_step *s)
{
	LAUNCH(l, pool_slopes, element_blocks(bucket_of(l, &s->out[0]) * columns_of(&s->out[0])), BLOCK, 0, l->batch,
		   pool_of(s, &s->out[0], &s->in[0]), FLOATS(s->in[0]), (const int32_t *) NULL, s->accumulate[0],
		   FLOATS(s->out[0]));
}
