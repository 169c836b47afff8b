/*
 * cpu_step.h
 *	  What the files of CPU kernels share: units of cost, and how work is cut.
 *
 * Costs are in units of floating-point operations of a matrix product: one element of a simple loop
 * counts 12, of a transcendental function 50.
 */
#ifndef LLMAPP_CPU_STEP_H
#define LLMAPP_CPU_STEP_H

#include "backend.h"

#define COST_SIMPLE 12.0
#define COST_FUNCTION 50.0

static inline int64_t
columns_of(const graph *g, int32_t t)
{
	return tensor_columns(&g->tensors[t]);
}

static inline int64_t
smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Work per row of the tensor's axis, on rows of size[0] elements. */
static inline void
per_row(step *s, const graph *g, int32_t t, double cost)
{
	s->size[0] = columns_of(g, t);
	s->by_axis = g->tensors[t].axis;
	s->cost = s->size[0] * cost;
}

/*
 * Products of size[0] x size[1] x size[2] are cut in two directions: size[3] = panels of the second, so
 * that unit u is panel (u / size[3], u % size[3]).
 */
static inline void
cut_panels(step *s, int64_t rows, int64_t row_panel, int64_t columns, int64_t column_panel)
{
	s->size[3] = (columns + column_panel - 1) / column_panel;
	s->units = (rows + row_panel - 1) / row_panel * s->size[3];
	s->cost = 2.0 * s->size[0] * s->size[1] * s->size[2] / s->units;
}

/* A range of one direction: panel i of n numbers; its size, 0 when it is beyond them. */
static inline int64_t
panel_of(int64_t i, int64_t panel, int64_t n, int64_t *first)
{
	*first = i * panel;
	return *first >= n ? 0 : smaller(panel, n - *first);
}

#endif /* LLMAPP_CPU_STEP_H */
