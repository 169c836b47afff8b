/*
 * conv.cu
 *	  Convolutions as matrix products of unrolled images, a chunk of rows at a time.
 *
 * Weights (kernel height, kernel width, channels, n) are a matrix (taps, n), and an unrolled image is one
 * (positions, taps): y = columns w + bias, dw = columns^T dy, and dx gathers what dy w^T gives each pixel.
 * The gradient of the weights has the parts of ops_image.c, which another step sums.  That of the
 * input reads the weights as they are, so conv2d_flip, which turns them for the CPU, hands them on.
 */
#include "device.h"
#include "linear.h"

#define CHUNK_FLOATS ((int64_t) 16 << 20) /* of unrolled images, unless one row has more */

typedef struct conv_shape
{
	int64_t height, width, c;         /* of x */
	int64_t out_height, out_width, n; /* of y */
	int32_t kernel[2], stride[2], padding[2];
	int64_t taps, positions; /* numbers of an unrolled position; positions of a row */
} conv_shape;

static conv_shape
conv_of(const llmapp_cuda_step *s, const llmapp_cuda_tensor *x, const llmapp_cuda_tensor *y)
{
	conv_shape z;

	z.height = x->dims[1];
	z.width = x->dims[2];
	z.c = x->dims[3];
	z.out_height = y->dims[1];
	z.out_width = y->dims[2];
	z.n = y->dims[3];
	for (int i = 0; i < 2; i++)
	{
		z.kernel[i] = s->attr.kernel[i];
		z.stride[i] = s->attr.stride[i];
		z.padding[i] = s->attr.padding[i];
	}
	z.taps = (int64_t) z.kernel[0] * z.kernel[1] * z.c;
	z.positions = z.out_height * z.out_width;
	return z;
}

static int64_t
chunk_rows(const conv_shape *z, int64_t rows)
{
	int64_t most = CHUNK_FLOATS / (z->positions * z->taps);

	return most < 1 ? 1 : most < rows ? most : rows;
}

/* Of `rows` rows from `first` on; zeros of those that this run lacks. */
static __global__ void
unroll(const llmapp_cuda_batch *batch, conv_shape z, int64_t first, int64_t rows, const float *x, float *columns)
{
	FOR_ELEMENTS(i, rows * z.positions * z.taps)
	{
		int64_t tap = i % z.taps, position = i / z.taps % z.positions, row = first + i / z.taps / z.positions;
		int64_t c = tap % z.c, kw = tap / z.c % z.kernel[1], kh = tap / z.c / z.kernel[1];
		int64_t h = position / z.out_width * z.stride[0] - z.padding[0] + kh;
		int64_t w = position % z.out_width * z.stride[1] - z.padding[1] + kw;
		bool inside = row < batch->rows[AXIS_ROW] && h >= 0 && h < z.height && w >= 0 && w < z.width;

		columns[i] = inside ? x[((row * z.height + h) * z.width + w) * z.c + c] : 0;
	}
}

/* in = x, w, bias; out = y */
void
launch_conv2d(launch *l, const llmapp_cuda_step *s)
{
	conv_shape z = conv_of(s, &s->in[0], &s->out[0]);
	int64_t bucket = bucket_of(l, &s->in[0]), chunk = chunk_rows(&z, bucket);
	float *columns = launch_scratch<float>(l, chunk * z.positions * z.taps);

	for (int64_t first = 0; first < bucket; first += chunk)
	{
		int64_t rows = bucket - first < chunk ? bucket - first : chunk, floats = rows * z.positions * z.taps;
		gemm_shape shape = {false, false, rows * z.positions, z.n, z.taps, false};

		LAUNCH(l, unroll, element_blocks(floats), BLOCK, 0, l->batch, z, first, rows, FLOATS(s->in[0]), columns);
		gemm(l, &shape, columns, FLOATS(s->in[1]), FLOATS(s->in[2]), 0,
			 FLOATS(s->out[0]) + first * z.positions * z.n);
	}
}

static __global__ void
copy_elements(int64_t n, const float *x, float *y)
{
	FOR_ELEMENTS(i, n)
	y[i] = x[i];
}

/* in = w; out = what conv2d_dx reads */
void
launch_conv2d_flip(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = elements_of(&s->in[0]);

	LAUNCH(l, copy_elements, element_blocks(n), BLOCK, 0, n, FLOATS(s->in[0]), FLOATS(s->out[0]));
}

/* Each pixel of `rows` rows from `first` on sums the windows that cover it. */
static __global__ void
roll(const llmapp_cuda_batch *batch, conv_shape z, int64_t first, int64_t rows, const float *columns, int accumulate,
	 float *dx)
{
	FOR_ELEMENTS(i, rows * z.height * z.width * z.c)
	{
		int64_t c = i % z.c, w = i / z.c % z.width, h = i / z.c / z.width % z.height;
		int64_t at = i / (z.height * z.width * z.c), row = first + at;
		float sum = 0;

		if (row >= batch->rows[AXIS_ROW])
			continue;
		for (int64_t kh = 0; kh < z.kernel[0]; kh++)
			for (int64_t kw = 0; kw < z.kernel[1]; kw++)
			{
				int64_t p = h + z.padding[0] - kh, q = w + z.padding[1] - kw;
				int64_t oh = p / z.stride[0], ow = q / z.stride[1];

				if (p >= 0 && q >= 0 && p % z.stride[0] == 0 && q % z.stride[1] == 0 && oh < z.out_height &&
					ow < z.out_width)
					sum += columns[((at * z.out_height + oh) * z.out_width + ow) * z.taps +
								   (kh * z.kernel[1] + kw) * z.c + c];
			}
		put(dx + first * z.height * z.width * z.c + i, sum, accumulate);
	}
}

/* in = dy, w; out = dx */
void
launch_conv2d_dx(launch *l, const llmapp_cuda_step *s)
{
	conv_shape z = conv_of(s, &s->out[0], &s->in[0]);
	int64_t bucket = bucket_of(l, &s->in[0]), chunk = chunk_rows(&z, bucket);
	float *columns = launch_scratch<float>(l, chunk * z.positions * z.taps);

	for (int64_t first = 0; first < bucket; first += chunk)
	{
		int64_t rows = bucket - first < chunk ? bucket - first : chunk;
		gemm_shape shape = {false, true, rows * z.positions, z.taps, z.n, false};

		gemm(l, &shape, FLOATS(s->in[0]) + first * z.positions * z.n, FLOATS(s->in[1]), NULL, 0, columns);
		LAUNCH(l, roll, element_blocks(rows * z.height * z.width * z.c), BLOCK, 0, l->batch, z, first, rows, columns,
			   s->accumulate[0], FLOATS(s->out[0]));
	}
}

static __global__ void
clear_elements(int64_t n, float *x)
{
	FOR_ELEMENTS(i, n)
	x[i] = 0;
}

/* One part: rows [begin, end) of the bucket. */
static void
weights_of_part(launch *l, const llmapp_cuda_step *s, const conv_shape *z, int64_t begin, int64_t end, int64_t chunk,
				float *columns, float *part)
{
	int64_t weights = z->taps * z->n, floats = columns_of(&s->out[0]);

	if (begin >= end)
	{
		LAUNCH(l, clear_elements, element_blocks(floats), BLOCK, 0, floats, part);
		return;
	}
	for (int64_t first = begin; first < end; first += chunk)
	{
		int64_t rows = end - first < chunk ? end - first : chunk;
		gemm_shape shape = {true, false, z->taps, z->n, rows * z->positions, false};
		const float *dy = FLOATS(s->in[0]) + first * z->positions * z->n;

		LAUNCH(l, unroll, element_blocks(rows * z->positions * z->taps), BLOCK, 0, l->batch, *z, first, rows,
			   FLOATS(s->in[1]), columns);
		gemm(l, &shape, columns, dy, NULL, first > begin, part);
	}
	if (s->in[3].data)
		sum_columns(l, AXIS_NONE, (end - begin) * z->positions, z->n, FLOATS(s->in[0]) + begin * z->positions * z->n,
					0, part + weights);
}

/* in = dy, x, w, bias; out (parts, weights [+ n]) */
void
launch_conv2d_dw(launch *l, const llmapp_cuda_step *s)
{
	conv_shape z = conv_of(s, &s->in[1], &s->in[0]);
	int64_t parts = s->out[0].dims[0], part_rows = (s->in[1].dims[0] + parts - 1) / parts;
	int64_t bucket = bucket_of(l, &s->in[0]), chunk = chunk_rows(&z, part_rows);
	float *columns = launch_scratch<float>(l, chunk * z.positions * z.taps);
	size_t used = l->scratch_used;

	clear_tail(l, AXIS_ROW, bucket, z.positions * z.n, FLOATS(s->in[0]));
	for (int64_t i = 0; i < parts; i++)
	{
		int64_t end = (i + 1) * part_rows < bucket ? (i + 1) * part_rows : bucket;

		l->scratch_used = used; /* parts follow each other */
		weights_of_part(l, s, &z, i * part_rows, end, chunk, columns, FLOATS(s->out[0]) + i * columns_of(&s->out[0]));
	}
}

static __global__ void
sum_weights(int64_t parts, int64_t n, int64_t weights, const float *x, int accumulate_w, float *dw, int accumulate_b,
			float *db)
{
	FOR_ELEMENTS(j, n)
	{
		float sum = 0;

		for (int64_t i = 0; i < parts; i++)
			sum += x[i * n + j];
		if (j < weights)
			put(dw + j, sum, accumulate_w);
		else
			put(db + j - weights, sum, accumulate_b);
	}
}

/* in = parts; out = dw, dbias */
void
launch_conv2d_dw_sum(launch *l, const llmapp_cuda_step *s)
{
	int64_t n = columns_of(&s->in[0]);

	LAUNCH(l, sum_weights, element_blocks(n), BLOCK, 0, s->in[0].dims[0], n, elements_of(&s->out[0]),
		   FLOATS(s->in[0]), s->accumulate[0], FLOATS(s->out[0]), s->accumulate[1], FLOATS(s->out[1]));
}
