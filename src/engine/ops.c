/*
 * ops.c
 *	  Shape and gradient rules of the operations of ops.def, and the functions that
 *	  record them; those on images are in ops_image.c, on tokens in ops_text.c.
 *
 * A shape rule checks the inputs and makes the outputs.  A gradient rule appends steps
 * that write, or add to, the gradients of those inputs that need one; which of several
 * writers comes first, and so does not add, is decided by the plan.
 */
#include "ops_rules.h"

#include <string.h>

/* ---- shape rules ---- */

bool
rule_mismatch(graph *g, const node *n)
{
	return llm_fail(&g->error, LLM_INVALID, "operation %s: shapes of inputs do not fit", op_table[n->op].name);
}

/* A matrix of the node's axis, or a vector when columns is 1. */
static bool
is_batched(const graph *g, const node *n, int32_t i, int64_t columns)
{
	return IN(n, i)->axis == node_axis(g, n) && tensor_columns(IN(n, i)) == columns;
}

bool
rule_is_vector(graph *g, int32_t t, int64_t size)
{
	return t == TENSOR_NONE ||
		   (g->tensors[t].axis == AXIS_NONE && g->tensors[t].ndim == 1 && g->tensors[t].dims[0] == size);
}

bool
rule_make_rows(graph *g, node *n, int32_t i, int64_t columns)
{
	tensor_axis axis = node_axis(g, n);
	int64_t dims[2] = {g->capacity[axis], columns};

	n->out[i] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, axis, columns ? 2 : 1, dims);
	return n->out[i] != TENSOR_NONE;
}

/* Output i is like input 0. */
static bool
make_like(graph *g, node *n, int32_t i)
{
	tensor like = *IN(n, 0);

	n->out[i] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, like.axis, like.ndim, like.dims);
	return n->out[i] != TENSOR_NONE;
}

static bool
shape_linear(graph *g, node *n)
{
	tensor *w = IN(n, 1);

	if (w->ndim != 2 || w->axis != AXIS_NONE || !is_batched(g, n, 0, w->dims[1]) ||
		!rule_is_vector(g, n->in[2], w->dims[0]))
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, w->dims[0]);
}

static bool
shape_embed(graph *g, node *n)
{
	tensor *index = IN(n, 0), *table = IN(n, 1);
	int64_t columns;

	if (table->ndim != 2 || index->ndim != 2 || index->type != TENSOR_I32 || index->axis == AXIS_NONE)
		return rule_mismatch(g, n);
	if (__builtin_mul_overflow(index->dims[1], table->dims[1], &columns))
		return llm_fail(&g->error, LLM_MEMORY, "network is too large");
	return rule_make_rows(g, n, 0, columns);
}

static bool
shape_embed_bag(graph *g, node *n)
{
	tensor *table = IN(n, 4);

	if (table->ndim != 2 || (n->in[0] != TENSOR_NONE && !is_batched(g, n, 0, table->dims[1])) ||
		!rule_is_vector(g, n->in[5], table->dims[1]) || IN(n, 1)->dims[0] != g->capacity[AXIS_ROW] + 1 ||
		IN(n, 2)->dims[0] != IN(n, 3)->dims[0])
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, table->dims[1]);
}

static bool
shape_concat(graph *g, node *n)
{
	tensor y = *IN(n, 0);
	const tensor *b = IN(n, 1);

	if (y.axis == AXIS_NONE || y.axis != b->axis || y.ndim != b->ndim || y.ndim < 2)
		return rule_mismatch(g, n);
	for (int32_t i = 1; i < y.ndim - 1; i++)
		if (y.dims[i] != b->dims[i])
			return rule_mismatch(g, n);
	y.dims[y.ndim - 1] += b->dims[y.ndim - 1];
	n->out[0] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, y.axis, y.ndim, y.dims);
	return n->out[0] != TENSOR_NONE;
}

static bool
shape_add(graph *g, node *n)
{
	if (IN(n, 0)->axis == AXIS_NONE || !is_batched(g, n, 1, tensor_columns(IN(n, 0))))
		return rule_mismatch(g, n);
	return make_like(g, n, 0);
}

static bool
shape_same(graph *g, node *n)
{
	if (IN(n, 0)->axis == AXIS_NONE)
		return rule_mismatch(g, n);
	return make_like(g, n, 0);
}

static bool
shape_layer_norm(graph *g, node *n)
{
	int64_t columns = tensor_columns(IN(n, 0));

	if (IN(n, 0)->axis == AXIS_NONE || !rule_is_vector(g, n->in[1], columns) || !rule_is_vector(g, n->in[2], columns))
		return rule_mismatch(g, n);
	return make_like(g, n, 0) && rule_make_rows(g, n, 1, 2);
}

static bool
shape_scalar(graph *g, node *n)
{
	int64_t one = 1;

	n->out[0] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_NONE, 1, &one);
	return n->out[0] != TENSOR_NONE;
}

/* in: prediction, target, weight, 1 / total weight; out: loss (rows), gradient of the prediction */
static bool
shape_loss(graph *g, node *n)
{
	int64_t target = n->op == OP_cross_entropy || n->op == OP_binary ? 1 : tensor_columns(IN(n, 0));

	if (IN(n, 0)->axis == AXIS_NONE || !is_batched(g, n, 1, target) || !is_batched(g, n, 2, 1) ||
		(n->op == OP_binary && tensor_columns(IN(n, 0)) != 1))
		return rule_mismatch(g, n);
	if (!rule_make_rows(g, n, 0, 0))
		return false;
	if (n->attr.flag)
		n->out[1] = graph_gradient(g, n->in[0]);
	return true;
}

/* ---- gradient rules ---- */

bool
rule_wants(const graph *g, int32_t t)
{
	return t != TENSOR_NONE && g->tensors[t].needs_gradient;
}

int32_t
rule_gradient_of(const graph *g, const node *n)
{
	return g->tensors[n->out[0]].gradient;
}

void
rule_step_to(graph *g, op_kind op, op_attr attr, int32_t out, int32_t a, int32_t b, int32_t c, int32_t d)
{
	int32_t in[4] = {a, b, c, d};

	graph_append_step(g, op, attr, 4, in, 1, &out);
}

void
rule_pass_to(graph *g, int32_t from, int32_t t)
{
	if (rule_wants(g, t))
		rule_step_to(g, OP_pass, (op_attr) {0}, graph_gradient(g, t), from, TENSOR_NONE, TENSOR_NONE, TENSOR_NONE);
}

static void
bias_grad(graph *g, int32_t dy, int32_t bias)
{
	if (rule_wants(g, bias))
		rule_step_to(g, OP_column_sum, (op_attr) {0}, graph_gradient(g, bias), dy, TENSOR_NONE, TENSOR_NONE,
					 TENSOR_NONE);
}

static void
grad_linear(graph *g, const node *n)
{
	int32_t dy = rule_gradient_of(g, n);

	if (rule_wants(g, n->in[1]))
		rule_step_to(g, OP_linear_dw, (op_attr) {0}, graph_gradient(g, n->in[1]), dy, n->in[0], TENSOR_NONE,
					 TENSOR_NONE);
	bias_grad(g, dy, n->in[2]);
	if (rule_wants(g, n->in[0]))
		rule_step_to(g, OP_linear_dx, (op_attr) {0}, graph_gradient(g, n->in[0]), dy, n->in[1], TENSOR_NONE,
					 TENSOR_NONE);
}

/* A large table that only one operation reads has few rows with a gradient. */
static bool
is_compact(const graph *g, int32_t table)
{
	int32_t readers = 0;

	for (int32_t i = 0; i < g->node_count; i++)
		for (int j = 0; j < NODE_INPUTS; j++)
			readers += g->nodes[i].in[j] == table;
	return readers == 1 && g->tensors[table].dims[0] > COMPACT_TABLE_ROWS;
}

/* The gradient tensor of a table: as the table, or with one row per row used. */
static int32_t
table_gradient(graph *g, int32_t table, int32_t used, bool compact)
{
	int64_t dims[2] = {g->tensors[table].dims[0], g->tensors[table].dims[1]};
	int32_t d;

	if (!compact)
		return graph_gradient(g, table);
	dims[0] = g->tensors[used].dims[0] - 1;
	d = graph_tensor(g, ROLE_GRADIENT, TENSOR_F32, AXIS_NONE, 2, dims);
	if (d == TENSOR_NONE)
		return d;
	g->tensors[table].gradient = d;
	g->tensors[d].keep = g->tensors[used].keep = true;
	g->tensors[d].used = used;
	return d;
}

/*
 * Pairs are first sorted by table row (stable, so sums have one order), then each table
 * row sums its pairs.
 */
static void
table_grad(graph *g, int32_t dy, int32_t start, int32_t index, int32_t value, int32_t table)
{
	int64_t rows = g->tensors[table].dims[0];
	int64_t pairs = g->tensors[index].dims[0] * tensor_columns(&g->tensors[index]);
	int64_t first_dim = rows + 1, used_dim = 1 + (rows < pairs ? rows : pairs);
	int32_t in[3] = {start, index, value};
	int32_t out[4];
	op_attr attr = {.index = rows, .flag = is_compact(g, table)};
	int32_t d;

	if (!rule_wants(g, table))
		return;
	out[0] = graph_tensor(g, ROLE_VALUE, TENSOR_I32, AXIS_NONE, 1, &first_dim);
	out[1] = graph_tensor(g, ROLE_VALUE, TENSOR_I32, AXIS_NONE, 1, &pairs);
	out[2] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_NONE, 1, &pairs);
	out[3] = graph_tensor(g, ROLE_VALUE, TENSOR_I32, AXIS_NONE, 1, &used_dim);
	graph_append_step(g, OP_group_pairs, attr, 3, in, 4, out);
	if (g->error.code != LLM_OK)
		return;
	d = table_gradient(g, table, out[3], attr.flag);
	graph_append_step(g, OP_table_grad, attr, 5, (int32_t[]) {dy, out[0], out[1], out[2], out[3]}, 1, &d);
}

static void
grad_embed(graph *g, const node *n)
{
	table_grad(g, rule_gradient_of(g, n), TENSOR_NONE, n->in[0], TENSOR_NONE, n->in[1]);
}

static void
grad_embed_bag(graph *g, const node *n)
{
	int32_t dy = rule_gradient_of(g, n);

	table_grad(g, dy, n->in[1], n->in[2], n->in[3], n->in[4]);
	bias_grad(g, dy, n->in[5]);
	rule_pass_to(g, dy, n->in[0]);
}

static void
slice_to(graph *g, int32_t dy, int32_t t, int64_t first)
{
	if (rule_wants(g, t))
		rule_step_to(g, OP_slice, (op_attr) {.index = first}, graph_gradient(g, t), dy, TENSOR_NONE, TENSOR_NONE,
					 TENSOR_NONE);
}

static void
grad_concat(graph *g, const node *n)
{
	slice_to(g, rule_gradient_of(g, n), n->in[0], 0);
	slice_to(g, rule_gradient_of(g, n), n->in[1], IN(n, 0)->dims[IN(n, 0)->ndim - 1]);
}

static void
grad_add(graph *g, const node *n)
{
	rule_pass_to(g, rule_gradient_of(g, n), n->in[0]);
	rule_pass_to(g, rule_gradient_of(g, n), n->in[1]);
}

/* Operations whose gradient is the same operation on dy. */
static void
grad_scale(graph *g, const node *n)
{
	if (rule_wants(g, n->in[0]))
		rule_step_to(g, n->op, n->attr, graph_gradient(g, n->in[0]), rule_gradient_of(g, n), TENSOR_NONE, TENSOR_NONE,
					 TENSOR_NONE);
}

static void
grad_dropout(graph *g, const node *n)
{
	grad_scale(g, n);
}

static void
grad_row_dropout(graph *g, const node *n)
{
	grad_scale(g, n);
}

static void
grad_act(graph *g, const node *n)
{
	bool by_input = n->attr.act == ACT_GELU || n->attr.act == ACT_GELU_TANH || n->attr.act == ACT_SILU;

	if (rule_wants(g, n->in[0]))
		rule_step_to(g, OP_act_grad, n->attr, graph_gradient(g, n->in[0]), rule_gradient_of(g, n),
					 by_input ? n->in[0] : n->out[0], TENSOR_NONE, TENSOR_NONE);
}

static void
grad_layer_norm(graph *g, const node *n)
{
	int32_t dy = rule_gradient_of(g, n);

	if (rule_wants(g, n->in[1]))
		graph_append_step(g, OP_layer_norm_dparam, (op_attr) {0}, 3, (int32_t[]) {dy, n->in[0], n->out[1]}, 2,
						  (int32_t[]) {graph_gradient(g, n->in[1]), graph_gradient(g, n->in[2])});
	if (rule_wants(g, n->in[0]))
		rule_step_to(g, OP_layer_norm_dx, (op_attr) {0}, graph_gradient(g, n->in[0]), dy, n->in[0], n->in[1],
					 n->out[1]);
}

/* ---- recording ---- */

int32_t
op_linear(graph *g, int32_t x, int32_t w, int32_t bias)
{
	return RECORD(linear, NO_ATTR, x, w, bias);
}

int32_t
op_embed(graph *g, int32_t index, int32_t table)
{
	return RECORD(embed, NO_ATTR, index, table);
}

int32_t
op_embed_bag(graph *g, int32_t base, int32_t start, int32_t index, int32_t value, int32_t table, int32_t bias)
{
	return RECORD(embed_bag, NO_ATTR, base, start, index, value, table, bias);
}

int32_t
op_concat(graph *g, int32_t a, int32_t b)
{
	return RECORD(concat, NO_ATTR, a, b);
}

int32_t
op_add(graph *g, int32_t a, int32_t b)
{
	return RECORD(add, NO_ATTR, a, b);
}

int32_t
op_scale(graph *g, int32_t x, float factor)
{
	return RECORD(scale, ((op_attr) {.number = factor}), x);
}

int32_t
op_act(graph *g, int32_t x, net_activation kind)
{
	return RECORD(act, ((op_attr) {.act = kind}), x);
}

int32_t
op_layer_norm(graph *g, int32_t x, int32_t gamma, int32_t beta, float epsilon)
{
	return RECORD(layer_norm, ((op_attr) {.number = epsilon}), x, gamma, beta);
}

int32_t
op_dropout(graph *g, int32_t x, float probability, int64_t stream)
{
	return RECORD(dropout, ((op_attr) {.number = probability, .index = stream}), x);
}

int32_t
op_row_dropout(graph *g, int32_t x, float probability, int64_t stream)
{
	return RECORD(row_dropout, ((op_attr) {.number = probability, .index = stream}), x);
}

int32_t
op_softmax(graph *g, int32_t logits)
{
	return RECORD(softmax, NO_ATTR, logits);
}

/* Losses with a gradient read 1 / (sum of weights), which one node makes for the batch. */
static int32_t
record_loss(graph *g, op_kind op, int32_t prediction, int32_t target, int32_t weight, float number, bool gradient)
{
	int32_t in[4] = {prediction, target, weight, TENSOR_NONE};
	int32_t loss;

	if (gradient)
		in[3] = RECORD(weight_total, NO_ATTR, weight);
	loss = graph_append(g, op, (op_attr) {.number = number, .flag = gradient}, 4, in);
	graph_keep(g, loss);
	return loss;
}

int32_t
op_cross_entropy(graph *g, int32_t logits, int32_t target, int32_t weight, float smoothing, bool gradient)
{
	return record_loss(g, OP_cross_entropy, logits, target, weight, smoothing, gradient);
}

int32_t
op_binary_cross_entropy(graph *g, int32_t logits, int32_t target, int32_t weight, float smoothing, bool gradient)
{
	return record_loss(g, OP_binary, logits, target, weight, smoothing, gradient);
}

int32_t
op_mse(graph *g, int32_t y, int32_t target, int32_t weight, bool gradient)
{
	return record_loss(g, OP_mse, y, target, weight, 0, gradient);
}

int32_t
op_huber(graph *g, int32_t y, int32_t target, int32_t weight, float delta, bool gradient)
{
	return record_loss(g, OP_huber, y, target, weight, delta, gradient);
}

const op_info op_table[OP_COUNT] = {
#define OP(name, inplace, shape, gradient) {#name, inplace, shape, gradient},
#include "ops.def"
#undef OP
};
