/*
 * cpu_image.c
 *	  Images from numbers, and pooling, on the CPU.
 */
#include <string.h>

#include "cpu_ops.h"
#include "philox.h"

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* ---- image: size = columns of the input, height, width, channels ---- */

/* No dropout has these streams. */
#define MOVE_STREAM UINT32_MAX
#define CROP_STREAM (UINT32_MAX - 1)

void
prepare_image(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
	memcpy(s->size + 1, g->tensors[n->out[0]].dims + 1, 3 * sizeof(int64_t));
}

/* Where a row of the result, or a column, comes from: pixels of the image, with the share of the second. */
typedef struct sample_point
{
	int64_t first, second;
	float share;
} sample_point;

/* Point at of `length` along one side. */
static sample_point
point_at(float at, int64_t length)
{
	float bounded = MAX(0.0f, MIN((float) (length - 1), at));
	int64_t first = (int64_t) bounded;

	return (sample_point) {first, MIN(first + 1, length - 1), bounded - first};
}

/* What becomes of one image: one point of it for each row and column of the result. */
typedef struct image_move
{
	int32_t down, right; /* pixels */
	bool mirrored;       /* left to right */
	float top, left;     /* of the window, in pixels */
	float height, width; /* shares of the image */
} image_move;

static image_move
draw_move(const step *s, const run_args *r, uint32_t row)
{
	uint32_t places = 2 * (uint32_t) s->attr.index + 1;
	image_move m = {.height = 1, .width = 1};
	uint32_t bits[4];

	philox(r->seed, r->step, MOVE_STREAM, row, bits);
	m.down = (int32_t) ((int64_t) (bits[0] % places) - s->attr.index);
	m.right = (int32_t) ((int64_t) (bits[1] % places) - s->attr.index);
	m.mirrored = s->attr.flag && bits[2] & 1;
	if (s->attr.number > 0)
	{
		philox(r->seed, r->step, CROP_STREAM, row, bits);
		m.height = 1 - s->attr.number * philox_uniform(bits[0]);
		m.width = 1 - s->attr.number * philox_uniform(bits[1]);
		m.top = philox_uniform(bits[2]) * (1 - m.height) * s->size[1];
		m.left = philox_uniform(bits[3]) * (1 - m.width) * s->size[2];
	}
	return m;
}

/* Centers of pixels go to centers of pixels; without a window the points are whole. */
static sample_point
row_point(const step *s, const image_move *m, int64_t h)
{
	return point_at(m->top + (h + 0.5f) * m->height - 0.5f - m->down, s->size[1]);
}

static sample_point
column_point(const step *s, const image_move *m, int64_t w)
{
	int64_t from = m->mirrored ? s->size[2] - 1 - w : w;

	return point_at(m->left + (from + 0.5f) * m->width - 0.5f - m->right, s->size[2]);
}

/* y (height, width, channels) from x (channels, height, width). */
static void
move_image(const step *s, const image_move *m, const float *x, float *y)
{
	int64_t height = s->size[1], width = s->size[2], channels = s->size[3];

	for (int64_t h = 0; h < height; h++)
	{
		sample_point v = row_point(s, m, h);

		for (int64_t w = 0; w < width; w++)
		{
			sample_point u = column_point(s, m, w);

			for (int64_t c = 0; c < channels; c++)
			{
				const float *upper = x + (c * height + v.first) * width;
				const float *lower = x + (c * height + v.second) * width;
				float above = upper[u.first] + u.share * (upper[u.second] - upper[u.first]);
				float below = lower[u.first] + u.share * (lower[u.second] - lower[u.first]);

				*y++ = above + v.share * (below - above);
			}
		}
	}
}

/* The same without any change. */
static void
turn_image(const step *s, const float *x, float *y)
{
	int64_t pixels = s->size[1] * s->size[2], channels = s->size[3];

	for (int64_t p = 0; p < pixels; p++)
		for (int64_t c = 0; c < channels; c++)
			*y++ = x[c * pixels + p];
}

void
run_image(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t floats = s->size[1] * s->size[2] * s->size[3];
	bool moves = s->attr.index > 0 || s->attr.flag || s->attr.number > 0;

	for (int64_t i = begin; i < end; i++)
	{
		const float *x = (const float *) s->in[0] + i * s->size[0];
		float *y = (float *) s->out[0] + i * floats;

		if (moves)
		{
			image_move m = draw_move(s, r, (uint32_t) i);

			move_image(s, &m, x, y);
		}
		else
			turn_image(s, x, y);
	}
}

/* ---- pools: size = height, width, channels of x, of y ---- */

static void
prepare_pool_sizes(step *s, const graph *g, int32_t x, int32_t y)
{
	per_row(s, g, x, COST_SIMPLE);
	memcpy(s->size, g->tensors[x].dims + 1, 3 * sizeof(int64_t));
	memcpy(s->size + 3, g->tensors[y].dims + 1, 3 * sizeof(int64_t));
}

void
prepare_max_pool(step *s, const graph *g, const node *n)
{
	prepare_pool_sizes(s, g, n->in[0], n->out[0]);
}

void
prepare_avg_pool(step *s, const graph *g, const node *n)
{
	prepare_pool_sizes(s, g, n->in[0], n->out[0]);
}

void
prepare_max_pool_dx(step *s, const graph *g, const node *n)
{
	prepare_pool_sizes(s, g, n->out[0], n->in[0]);
}

void
prepare_avg_pool_dx(step *s, const graph *g, const node *n)
{
	prepare_pool_sizes(s, g, n->out[0], n->in[0]);
}

/* The pixels of the window of an output; *first is where they begin in the image. */
static pixel_window
window_at(const step *s, int64_t output, int64_t *first)
{
	const window2d *v = &s->attr.window;
	int64_t top = output / s->size[4] * v->stride[0] - v->padding[0],
			left = output % s->size[4] * v->stride[1] - v->padding[1];
	int64_t above = MAX(0, -top), before = MAX(0, -left);

	*first = ((top + above) * s->size[1] + left + before) * s->size[2];
	return (pixel_window) {
		.rows = MIN(v->kernel[0], s->size[0] - top) - above,
		.columns = MIN(v->kernel[1], s->size[1] - left) - before,
		.row_step = s->size[1] * s->size[2],
		.first = above * v->kernel[1] + before,
		.ordinal_step = v->kernel[1],
		.c = s->size[2],
	};
}

static int64_t
x_floats(const step *s)
{
	return s->size[0] * s->size[1] * s->size[2];
}

static int64_t
y_floats(const step *s)
{
	return s->size[3] * s->size[4] * s->size[5];
}

#define FOR_OUTPUTS(s, o) for (int64_t o = 0; o < (s)->size[3] * (s)->size[4]; o++)

/* out = y, index */
void
run_max_pool(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	for (int64_t i = begin; i < end; i++)
	{
		const float *x = (const float *) s->in[0] + i * x_floats(s);
		float *y = (float *) s->out[0] + i * y_floats(s);
		int32_t *index = (int32_t *) s->out[1] + i * y_floats(s);

		FOR_OUTPUTS(s, o)
		{
			int64_t from;
			pixel_window window = window_at(s, o, &from);

			r->simd->pool_max(x + from, &window, y + o * window.c, index + o * window.c);
		}
	}
}

/* in = dy, index */
void
run_max_pool_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	for (int64_t i = begin; i < end; i++)
	{
		const float *dy = (const float *) s->in[0] + i * y_floats(s);
		const int32_t *index = (const int32_t *) s->in[1] + i * y_floats(s);
		float *dx = (float *) s->out[0] + i * x_floats(s);

		if (!s->accumulate[0])
			memset(dx, 0, x_floats(s) * sizeof(float));
		FOR_OUTPUTS(s, o)
		{
			int64_t from;
			pixel_window window = window_at(s, o, &from);

			r->simd->pool_max_grad(dy + o * window.c, index + o * window.c, &window, dx + from);
		}
	}
}

void
run_avg_pool(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	for (int64_t i = begin; i < end; i++)
	{
		const float *x = (const float *) s->in[0] + i * x_floats(s);
		float *y = (float *) s->out[0] + i * y_floats(s);

		memset(y, 0, y_floats(s) * sizeof(float));
		FOR_OUTPUTS(s, o)
		{
			int64_t from;
			pixel_window window = window_at(s, o, &from);
			float share = 1.0f / (window.rows * window.columns);

			for (int64_t h = 0; h < window.rows; h++)
				for (int64_t w = 0; w < window.columns; w++)
					r->simd->axpy(share, x + from + h * window.row_step + w * window.c, y + o * window.c, window.c);
		}
	}
}

void
run_avg_pool_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	for (int64_t i = begin; i < end; i++)
	{
		const float *dy = (const float *) s->in[0] + i * y_floats(s);
		float *dx = (float *) s->out[0] + i * x_floats(s);

		if (!s->accumulate[0])
			memset(dx, 0, x_floats(s) * sizeof(float));
		FOR_OUTPUTS(s, o)
		{
			int64_t from;
			pixel_window window = window_at(s, o, &from);
			float share = 1.0f / (window.rows * window.columns);

			for (int64_t h = 0; h < window.rows; h++)
				for (int64_t w = 0; w < window.columns; w++)
					r->simd->axpy(share, dy + o * window.c, dx + from + h * window.row_step + w * window.c, window.c);
		}
	}
}
