/*
 * cpu_ops.h
 *	  The kernels of the other cpu_*.c that cpu_ops.c lists.
 *
 * Each pair prepare_X, run_X says in its comment what size[] holds.
 */
#ifndef LLMAPP_CPU_OPS_H
#define LLMAPP_CPU_OPS_H

#include "cpu_step.h"

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
CPU_KERNEL(token_types);
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
