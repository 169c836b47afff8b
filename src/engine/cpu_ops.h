/*
 * cpu_ops.h
 *	  What the files of CPU kernels share: units of cost, and the kernels of the other
 *	  cpu_*.c that cpu_ops.c lists.
 *
 * Each pair prepare_X, run_X says in its comment what size[] holds.  Costs are in units
 * of floating-point operations of a matrix product: one element of a simple loop counts
 * 12, of a transcendental function 50.
 */
#ifndef LLMAPP_CPU_OPS_H
#define LLMAPP_CPU_OPS_H

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

/* In cpu_bf16.c: have a linear layer's step, prepared otherwise, multiply numbers rounded to bf16. */
extern void prepare_linear_bf16(step *s, const graph *g, const node *n);
extern void prepare_linear_dx_bf16(step *s, const graph *g, const node *n);
extern void prepare_linear_dw_bf16(step *s, const graph *g, const node *n);

#define CPU_KERNEL(name) \
	extern void prepare_##name(step *s, const graph *g, const node *n); \
	extern void run_##name(const step *s, const run_args *r, int64_t begin, int64_t end)

CPU_KERNEL(image);
CPU_KERNEL(max_pool);
CPU_KERNEL(max_pool_dx);
CPU_KERNEL(avg_pool);
CPU_KERNEL(avg_pool_dx);
CPU_KERNEL(conv2d);
CPU_KERNEL(conv2d_flip);
CPU_KERNEL(conv2d_dx);
CPU_KERNEL(conv2d_dw);
CPU_KERNEL(conv2d_dw_sum);
CPU_KERNEL(channel_moments);
CPU_KERNEL(norm_batch);
CPU_KERNEL(norm_running);
CPU_KERNEL(norm_group);
CPU_KERNEL(channel_norm);
CPU_KERNEL(channel_norm_sums);
CPU_KERNEL(norm_batch_means);
CPU_KERNEL(norm_group_means);
CPU_KERNEL(channel_norm_dparam);
CPU_KERNEL(channel_norm_dx);
CPU_KERNEL(attention);
CPU_KERNEL(attention_grad);
CPU_KERNEL(rotary_table);
CPU_KERNEL(rotary);
CPU_KERNEL(rms_norm);
CPU_KERNEL(rms_norm_dx);
CPU_KERNEL(head_norm);
CPU_KERNEL(head_norm_dx);
CPU_KERNEL(head_norm_dparam);
CPU_KERNEL(glu);
CPU_KERNEL(glu_grad);
CPU_KERNEL(position);
CPU_KERNEL(position_grad);
CPU_KERNEL(pool_tokens);
CPU_KERNEL(pool_tokens_dx);
CPU_KERNEL(unit_rows);
CPU_KERNEL(unit_rows_dx);
CPU_KERNEL(contrastive);
CPU_KERNEL(contrastive_grad);
CPU_KERNEL(active_tokens);
CPU_KERNEL(gather_active);
CPU_KERNEL(scatter_active);
CPU_KERNEL(head_logits);
CPU_KERNEL(head_loss);
CPU_KERNEL(head_dw);
CPU_KERNEL(head_dx);

#endif /* LLMAPP_CPU_OPS_H */
