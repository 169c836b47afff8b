/*
 * cpu_bf16.c
 *	  CPU kernels of linear layers whose products are of numbers rounded to bf16.
 *
 * A product rounds and packs both of its matrices, so unlike in float32 it is cut in two directions:
 * weights are packed once for each panel of rows, of which there is one in a small batch, and yet all
 * threads have tiles.  The axis of the batch is cut by its capacity; panels beyond a run's rows are empty.
 */
#include <string.h>

#include "bf16.h"
#include "cpu_ops.h"

#define ROW_PANEL 256
#define COLUMN_PANEL 192

/* The result is rows x columns, a sum of `length` products each. */
static void
prepare(step *s, int64_t rows, int64_t columns, int64_t length,
		void (*run)(const step *s, const run_args *r, int64_t begin, int64_t end))
{
	s->size[0] = rows;
	s->size[1] = columns;
	s->size[2] = length;
	s->by_axis = AXIS_NONE;
	s->panel = 0;
	s->bf16 = true;
	s->run = run;
	cut_panels(s, rows, ROW_PANEL, columns, COLUMN_PANEL);
}

/* ---- linear: size = rows, n, k ---- */

static void
run_linear_bf16(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[1], k = s->size[2], i, j;
	const float *x = s->in[0], *w = s->in[1], *bias = s->in[2];

	for (int64_t u = begin; u < end; u++)
	{
		int64_t rows = panel_of(u / s->size[3], ROW_PANEL, r->rows[s->axis], &i);
		int64_t columns = panel_of(u % s->size[3], COLUMN_PANEL, n, &j);
		float *y = (float *) s->out[0] + i * n + j;

		for (int64_t row = 0; bias && row < rows; row++)
			memcpy(y + row * n, bias + j, columns * sizeof(float));
		gemm_bf16(false, true, rows, columns, k, x + i * k, k, w + j * k, k, bias ? 1 : 0, y, n);
	}
}

void
prepare_linear_bf16(step *s, const graph *g, const node *n)
{
	prepare(s, g->capacity[s->axis], columns_of(g, n->out[0]), columns_of(g, n->in[0]), run_linear_bf16);
}

/* ---- linear_dx: size = rows, k, n: dx (rows, k) = dy (rows, n) w (n, k) ---- */

static void
run_linear_dx_bf16(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t k = s->size[1], n = s->size[2], i, j;
	const float *dy = s->in[0], *w = s->in[1];

	for (int64_t u = begin; u < end; u++)
	{
		int64_t rows = panel_of(u / s->size[3], ROW_PANEL, r->rows[s->axis], &i);
		int64_t columns = panel_of(u % s->size[3], COLUMN_PANEL, k, &j);

		gemm_bf16(false, false, rows, columns, n, dy + i * n, n, w + j, k, s->accumulate[0] ? 1 : 0,
				  (float *) s->out[0] + i * k + j, k);
	}
}

void
prepare_linear_dx_bf16(step *s, const graph *g, const node *n)
{
	prepare(s, g->capacity[s->axis], columns_of(g, n->out[0]), columns_of(g, n->in[0]), run_linear_dx_bf16);
}

/* ---- linear_dw: size = n, k, rows: dw (n, k) = dy^T x ---- */

static void
run_linear_dw_bf16(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0], k = s->size[1], i, j;
	const float *dy = s->in[0], *x = s->in[1];

	for (int64_t u = begin; u < end; u++)
	{
		int64_t rows = panel_of(u / s->size[3], ROW_PANEL, n, &i);
		int64_t columns = panel_of(u % s->size[3], COLUMN_PANEL, k, &j);

		gemm_bf16(true, false, rows, columns, r->rows[s->axis], dy + i, n, x + j, k, s->accumulate[0] ? 1 : 0,
				  (float *) s->out[0] + i * k + j, k);
	}
}

void
prepare_linear_dw_bf16(step *s, const graph *g, const node *n)
{
	prepare(s, columns_of(g, n->in[0]), columns_of(g, n->in[1]), g->capacity[s->axis], run_linear_dw_bf16);
}
