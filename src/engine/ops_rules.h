/*
 * ops_rules.h
 *	  What shape and gradient rules are written with, for ops.c, ops_image.c and
 *	  ops_text.c.
 */
#ifndef LLMAPP_OPS_RULES_H
#define LLMAPP_OPS_RULES_H

#include "graph.h"

#define IN(n, i) (&g->tensors[(n)->in[i]])
#define NO_ATTR ((op_attr) {0})
#define RECORD(op, attr, ...) \
	graph_append(g, OP_##op, attr, sizeof((int32_t[]) {__VA_ARGS__}) / sizeof(int32_t), (int32_t[]) {__VA_ARGS__})

extern bool rule_mismatch(graph *g, const node *n);            /* fails; always false */
extern bool rule_is_vector(graph *g, int32_t t, int64_t size); /* (size), or none */
/* Output i is (rows, columns), or (rows) when columns is 0, of the node's axis. */
extern bool rule_make_rows(graph *g, node *n, int32_t i, int64_t columns);
extern bool rule_wants(const graph *g, int32_t t);              /* a gradient */
extern int32_t rule_gradient_of(const graph *g, const node *n); /* of the first output */
/* A gradient step with one output; inputs may be TENSOR_NONE. */
extern void rule_step_to(graph *g, op_kind op, op_attr attr, int32_t out, int32_t a, int32_t b, int32_t c, int32_t d);
extern void rule_pass_to(graph *g, int32_t from, int32_t t); /* as it is, when t wants it */

/* Rules of ops_image.c */
extern bool shape_image(graph *g, node *n);
extern bool shape_slice(graph *g, node *n);
extern bool shape_flatten(graph *g, node *n);
extern bool shape_conv2d(graph *g, node *n);
extern bool shape_pool(graph *g, node *n);
extern bool shape_moments(graph *g, node *n);
extern bool shape_norm_batch(graph *g, node *n);
extern bool shape_norm_running(graph *g, node *n);
extern bool shape_norm_group(graph *g, node *n);
extern bool shape_channel_norm(graph *g, node *n);
extern void grad_flatten(graph *g, const node *n);
extern void grad_conv2d(graph *g, const node *n);
extern void grad_max_pool(graph *g, const node *n);
extern void grad_avg_pool(graph *g, const node *n);
extern void grad_channel_norm(graph *g, const node *n);

/* Rules of ops_text.c */
extern bool shape_attention(graph *g, node *n);
extern bool shape_rotary_table(graph *g, node *n);
extern bool shape_rotary(graph *g, node *n);
extern bool shape_token_types(graph *g, node *n);
extern bool shape_rms_norm(graph *g, node *n);
extern bool shape_head_norm(graph *g, node *n);
extern bool shape_glu(graph *g, node *n);
extern bool shape_position(graph *g, node *n);
extern bool shape_pool_tokens(graph *g, node *n);
extern bool shape_unit_rows(graph *g, node *n);
extern bool shape_contrastive(graph *g, node *n);
extern void grad_attention(graph *g, const node *n);
extern void grad_rotary(graph *g, const node *n);
extern void grad_rms_norm(graph *g, const node *n);
extern void grad_head_norm(graph *g, const node *n);
extern void grad_glu(graph *g, const node *n);
extern void grad_position(graph *g, const node *n);
extern void grad_pool_tokens(graph *g, const node *n);
extern void grad_unit_rows(graph *g, const node *n);

#endif /* LLMAPP_OPS_RULES_H */
