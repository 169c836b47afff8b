/*
 * cpu_conv.c
 *	  Convolutions on the CPU, straight from channels-last images.
 *
 * Along an axis, output u reads inputs u * stride + t - pad for those taps t that fall on
 * the image.  Outputs with the same taps form a span: the interior, and each output at a
 * border alone.  Within a span the taps of a row are one run of (columns, channels), so a
 * block of outputs is a product of strided rows of the image with rows of the weights
 * (kernel height, kernel width, channels, n): simd.h's tile(), with neither padding nor
 * an unrolled copy of the image.  The gradient of the input is the same with the
 * transposed, reversed weights, one convolution of stride 1 for each phase of the stride.
 */
#include <string.h>

#include "cpu_ops.h"

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

typedef struct axis
{
	int64_t inputs, outputs, taps, stride, pad; /* pad may be negative */
} axis;

/* Outputs [begin, end) that read the taps [first, last); first = last: none. */
typedef struct span
{
	int64_t begin, end, first, last;
} span;

static int64_t
first_tap(const axis *x, int64_t u)
{
	return MAX(0, x->pad - u * x->stride);
}

static int64_t
last_tap(const axis *x, int64_t u)
{
	return MAX(MIN(x->taps, x->inputs + x->pad - u * x->stride), first_tap(x, u));
}

/* The span that begins at output u. */
static span
span_at(const axis *x, int64_t u)
{
	span s = {u, u + 1, first_tap(x, u), last_tap(x, u)};

	if (s.first == 0 && s.last == x->taps && x->taps > 0)
		while (s.end < x->outputs && last_tap(x, s.end) == x->taps)
			s.end++;
	return s;
}

/* ---- one image ---- */

typedef struct convolution
{
	axis rows, columns;
	int64_t c, n;            /* channels in and out */
	int64_t y_row, y_column; /* floats from output to output */
	bool accumulate;
} convolution;

/* `count` outputs on a line, in blocks of nearly equal size. */
static void
convolve_line(const simd_kernels *simd, const tile_shape *t, int64_t count, int64_t n, const float *x, const float *w,
			  const float *bias, bool accumulate, float *y)
{
	int64_t blocks = (count + simd->tile_rows - 1) / simd->tile_rows;

	for (int64_t b = 0; b < blocks; b++)
	{
		int64_t begin = count * b / blocks, end = count * (b + 1) / blocks;

		simd->tile(t, end - begin, n, x + begin * t->a_row, w, bias, accumulate, y + begin * t->c_row);
	}
}

/* Outputs of one span of rows by one of columns; n of the channels out. */
static void
convolve_spans(const convolution *v, const simd_kernels *simd, const span *h, const span *w, int64_t n,
			   const float *x, const float *weights, const float *bias, float *y)
{
	int64_t x_row = v->columns.inputs * v->c;
	tile_shape t = {
		.runs = h->last - h->first,
		.length = (w->last - w->first) * v->c,
		.a_step = 1,
		.a_run = x_row,
		.b_step = v->n,
		.b_run = v->columns.taps * v->c * v->n,
	};
	bool along_columns = w->end - w->begin >= h->end - h->begin;
	const span *line = along_columns ? w : h, *other = along_columns ? h : w;
	int64_t x_steps[2] = {v->rows.stride * x_row, v->columns.stride * v->c};
	int64_t y_steps[2] = {v->y_row, v->y_column};

	t.a_row = x_steps[along_columns];
	t.c_row = y_steps[along_columns];
	x += (h->begin * v->rows.stride + h->first - v->rows.pad) * x_row +
		 (w->begin * v->columns.stride + w->first - v->columns.pad) * v->c;
	weights += (h->first * v->columns.taps + w->first) * v->c * v->n;
	y += h->begin * v->y_row + w->begin * v->y_column;
	for (int64_t i = 0; i < other->end - other->begin; i++)
		convolve_line(simd, &t, line->end - line->begin, n, x + i * x_steps[!along_columns], weights, bias,
					  v->accumulate, y + i * y_steps[!along_columns]);
}

/* Channels out outermost: their weights stay in the cache while the image passes. */
static void
convolve_image(const convolution *v, const simd_kernels *simd, const float *x, const float *weights,
			   const float *bias, float *y)
{
	int64_t width = 2 * simd->lanes;
	span h, w;

	for (int64_t j = 0; j < v->n; j += width)
		for (int64_t p = 0; p < v->rows.outputs; p = h.end)
		{
			h = span_at(&v->rows, p);
			for (int64_t q = 0; q < v->columns.outputs; q = w.end)
			{
				w = span_at(&v->columns, q);
				convolve_spans(v, simd, &h, &w, MIN(width, v->n - j), x, weights + j, bias ? bias + j : NULL, y + j);
			}
		}
}

/* ---- conv2d: size = height, width, channels of x, of y; in = x, w, bias ---- */

static void
prepare_sizes(step *s, const graph *g, int32_t x, int32_t y)
{
	memcpy(s->size, g->tensors[x].dims + 1, 3 * sizeof(int64_t));
	memcpy(s->size + 3, g->tensors[y].dims + 1, 3 * sizeof(int64_t));
}

/* Of one image. */
static double
product_cost(const step *s)
{
	return 2.0 * s->size[2] * s->size[3] * s->size[4] * s->size[5] * s->attr.window.kernel[0] *
		   s->attr.window.kernel[1];
}

void
prepare_conv2d(step *s, const graph *g, const node *n)
{
	prepare_sizes(s, g, n->in[0], n->out[0]);
	s->by_axis = AXIS_ROW;
	s->cost = product_cost(s);
}

static axis
forward_axis(const step *s, int i)
{
	const window2d *w = &s->attr.window;

	return (axis) {s->size[i], s->size[3 + i], w->kernel[i], w->stride[i], w->padding[i]};
}

void
run_conv2d(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int64_t *z = s->size;
	convolution v = {
		.rows = forward_axis(s, 0),
		.columns = forward_axis(s, 1),
		.c = z[2],
		.n = z[5],
		.y_row = z[4] * z[5],
		.y_column = z[5],
	};

	for (int64_t i = begin; i < end; i++)
		convolve_image(&v, r->simd, (const float *) s->in[0] + i * z[0] * z[1] * z[2], s->in[1], s->in[2],
					   (float *) s->out[0] + i * z[3] * z[4] * z[5]);
}

/* ---- gradient of the input ---- */

/*
 * Inputs u = start + stride * v read outputs v + base - q through taps phase + stride * q,
 * q < taps.  With the taps reversed that is an axis of stride 1 over the outputs.
 */
typedef struct phase
{
	int64_t start;
	axis axis;
} phase;

static phase
phase_of(const axis *forward, int64_t f)
{
	int64_t stride = forward->stride;
	int64_t start = ((f - forward->pad) % stride + stride) % stride;
	int64_t base = (start + forward->pad - f) / stride;
	int64_t taps = f < forward->taps ? (forward->taps - f + stride - 1) / stride : 0;
	int64_t inputs = start < forward->inputs ? (forward->inputs - start + stride - 1) / stride : 0;

	return (phase) {
		start, {.inputs = forward->outputs, .outputs = inputs, .taps = taps, .stride = 1, .pad = taps - 1 - base}};
}

/* Taps of the phases before f. */
static int64_t
taps_before(const axis *forward, int64_t f)
{
	int64_t taps = 0;

	for (int64_t i = 0; i < smaller(f, forward->taps); i++) /* later ones have none */
		taps += phase_of(forward, i).axis.taps;
	return taps;
}

/* Where the weights of a phase are, in taps: phases of rows, then of columns, end to end. */
static int64_t
phase_offset(const axis *rows, const axis *columns, int64_t f, int64_t e)
{
	return taps_before(rows, f) * columns->taps + phase_of(rows, f).axis.taps * taps_before(columns, e);
}

/*
 * conv2d_flip: size[0 .. 3] = kernel height, kernel width, channels, n; in = w; a unit is a tap.
 * out: for each phase (reversed taps of rows, of columns, n, channels).
 */
void
prepare_conv2d_flip(step *s, const graph *g, const node *n)
{
	memcpy(s->size, g->tensors[n->in[0]].dims, 4 * sizeof(int64_t));
	s->units = s->size[0] * s->size[1];
	s->cost = COST_SIMPLE * s->size[2] * s->size[3];
}

static void
transpose(const float *x, int64_t rows, int64_t columns, float *y)
{
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < columns; j++)
			y[j * rows + i] = x[i * columns + j];
}

void
run_conv2d_flip(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int32_t *stride = s->attr.window.stride;
	axis rows = {.taps = s->size[0], .stride = stride[0]}, columns = {.taps = s->size[1], .stride = stride[1]};
	int64_t floats = s->size[2] * s->size[3];

	for (int64_t t = begin; t < end; t++)
	{
		int64_t i = t / columns.taps, j = t % columns.taps;
		int64_t f = i % stride[0], e = j % stride[1];
		int64_t row = phase_of(&rows, f).axis.taps - 1 - i / stride[0], wide = phase_of(&columns, e).axis.taps,
				column = wide - 1 - j / stride[1];
		int64_t to = phase_offset(&rows, &columns, f, e) + row * wide + column;

		transpose((const float *) s->in[0] + t * floats, s->size[2], s->size[3], (float *) s->out[0] + to * floats);
	}
}

/* conv2d_dx: size as conv2d; in = dy, flipped weights */
void
prepare_conv2d_dx(step *s, const graph *g, const node *n)
{
	prepare_sizes(s, g, n->out[0], n->in[0]);
	s->by_axis = AXIS_ROW;
	s->cost = product_cost(s);
}

void
run_conv2d_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int64_t *z = s->size;
	axis rows = forward_axis(s, 0), columns = forward_axis(s, 1);

	for (int64_t f = 0; f < rows.stride; f++)
	{
		phase h = phase_of(&rows, f);

		for (int64_t e = 0; e < columns.stride && h.axis.outputs > 0; e++)
		{
			phase w = phase_of(&columns, e);
			convolution v = {
				.rows = h.axis,
				.columns = w.axis,
				.c = z[5],
				.n = z[2],
				.y_row = rows.stride * z[1] * z[2],
				.y_column = columns.stride * z[2],
				.accumulate = s->accumulate[0],
			};
			const float *weights = (const float *) s->in[1] + phase_offset(&rows, &columns, f, e) * z[2] * z[5];
			float *dx = (float *) s->out[0] + (h.start * z[1] + w.start) * z[2];

			for (int64_t i = begin; i < end; i++)
				convolve_image(&v, r->simd, (const float *) s->in[0] + i * z[3] * z[4] * z[5], weights, NULL,
							   dx + i * z[0] * z[1] * z[2]);
		}
	}
}

/* ---- gradient of weights and bias ---- */

/*
 * conv2d_dw: size[0 .. 5] as conv2d, size[6] = rows of a part; in = dy, x, w, bias; a unit is a part.
 * out (parts, weights [+ n]): each part's own sum, so that none depends on threads.
 */
void
prepare_conv2d_dw(step *s, const graph *g, const node *n)
{
	s->units = g->tensors[n->out[0]].dims[0];
	prepare_sizes(s, g, n->in[1], n->in[0]);
	s->size[6] = (g->capacity[AXIS_ROW] + s->units - 1) / s->units;
	s->size[7] = tensor_columns(&g->tensors[n->out[0]]);
	s->cost = product_cost(s) * s->size[6];
}

/* dw += a^T b with `count` rows of dw, a's columns; t says how a and b lie. */
static void
weight_tiles(const simd_kernels *simd, const tile_shape *t, int64_t count, int64_t n, const float *a, const float *b,
			 float *dw)
{
	int64_t width = 2 * simd->lanes;

	for (int64_t j = 0; j < n; j += width)
		convolve_line(simd, t, count, MIN(width, n - j), a, b + j, NULL, true, dw + j);
}

/* Outputs that read tap t: [*begin, *end). */
static void
outputs_of_tap(const axis *x, int64_t t, int64_t *begin, int64_t *end)
{
	int64_t low = x->pad - t, high = x->inputs - 1 + x->pad - t;

	*begin = low > 0 ? (low + x->stride - 1) / x->stride : 0;
	*end = high < 0 ? 0 : MIN(high / x->stride + 1, x->outputs);
}

/* One image's share of one row of taps, span by span of columns. */
static void
weights_of_row(const step *s, const simd_kernels *simd, int64_t tap, const float *x, const float *dy, float *dw)
{
	const int64_t *z = s->size;
	axis rows = forward_axis(s, 0), columns = forward_axis(s, 1);
	int64_t begin, end;
	span w;

	outputs_of_tap(&rows, tap, &begin, &end);
	for (int64_t q = 0; q < columns.outputs && begin < end; q = w.end)
	{
		tile_shape t = {
			.runs = end - begin,
			.a_row = 1,
			.a_run = rows.stride * z[1] * z[2],
			.a_step = columns.stride * z[2],
			.b_run = z[4] * z[5],
			.b_step = z[5],
			.c_row = z[5],
		};

		w = span_at(&columns, q);
		t.length = w.end - w.begin;
		weight_tiles(
			simd, &t, (w.last - w.first) * z[2], z[5],
			x + ((begin * rows.stride + tap - rows.pad) * z[1] + w.begin * columns.stride + w.first - columns.pad) *
					z[2],
			dy + (begin * z[4] + w.begin) * z[5], dw + (tap * columns.taps + w.first) * z[2] * z[5]);
	}
}

void
run_conv2d_dw(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	static const float one = 1;
	const int64_t *z = s->size;
	int64_t taps = s->attr.window.kernel[0];
	int64_t weights = taps * s->attr.window.kernel[1] * z[2] * z[5];
	tile_shape sum = {.runs = 1, .length = z[3] * z[4], .b_step = z[5]};

	for (int64_t part = begin; part < end; part++)
	{
		float *dw = (float *) s->out[0] + part * z[7];
		int64_t last = MIN((part + 1) * z[6], r->rows[AXIS_ROW]);

		memset(dw, 0, z[7] * sizeof(float));
		for (int64_t i = part * z[6]; i < last; i++)
		{
			const float *dy = (const float *) s->in[0] + i * z[3] * z[4] * z[5],
						*x = (const float *) s->in[1] + i * z[0] * z[1] * z[2];

			for (int64_t tap = 0; tap < taps; tap++)
				weights_of_row(s, r->simd, tap, x, dy, dw);
			if (s->in[3])
				weight_tiles(r->simd, &sum, 1, z[5], &one, dy, dw + weights);
		}
	}
}

/* conv2d_dw_sum: size = parts, floats of a part, of the weights; out = dw, dbias; a unit is a float */
void
prepare_conv2d_dw_sum(step *s, const graph *g, const node *n)
{
	const tensor *dw = &g->tensors[n->out[0]];

	s->size[0] = g->tensors[n->in[0]].dims[0];
	s->size[1] = s->units = columns_of(g, n->in[0]);
	s->size[2] = dw->dims[0] * tensor_columns(dw);
	s->cost = COST_SIMPLE * s->size[0];
}

/* Elements [begin, end) of a part's vector to `out`, which stands for element `first`. */
static void
sum_parts(const step *s, const simd_kernels *simd, int64_t begin, int64_t end, int64_t first, bool accumulate,
		  float *out)
{
	const float *parts = s->in[0];

	if (begin >= end)
		return;
	if (!accumulate)
		memset(out + begin - first, 0, (end - begin) * sizeof(float));
	for (int64_t i = 0; i < s->size[0]; i++)
		simd->axpy(1, parts + i * s->size[1] + begin, out + begin - first, end - begin);
}

void
run_conv2d_dw_sum(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t weights = s->size[2];

	sum_parts(s, r->simd, begin, MIN(end, weights), 0, s->accumulate[0], s->out[0]);
	sum_parts(s, r->simd, MAX(begin, weights), end, weights, s->accumulate[1], s->out[1]);
}
