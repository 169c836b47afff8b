/*
 * ops_text.c
 *	  Shape and gradient rules of the operations on tokens, and the functions that record them.
 *
 * The language loss is no operation but a group of steps, with its gradient among them: see
 * cpu_language.c for why.
 */
#include "ops_rules.h"

#include <string.h>

/* ---- shape rules ---- */

static bool
is_start(const graph *g, int32_t t)
{
	const tensor *x;

	if (t == TENSOR_NONE)
		return false;
	x = &g->tensors[t];
	return x->type == TENSOR_I32 && x->ndim == 1 && x->dims[0] == g->capacity[AXIS_ROW] + 1;
}

static bool
is_tokens(const tensor *x, int64_t columns)
{
	return (x->axis == AXIS_TOKEN || x->axis == AXIS_SOURCE) && x->type == TENSOR_F32 && x->ndim == 2 &&
		   (columns < 0 || x->dims[1] == columns);
}

static bool
is_attention(const attention_shape *a)
{
	return a->heads > 0 && a->kv_heads > 0 && a->heads % a->kv_heads == 0 && a->head_dim > 0 &&
		   a->head_dim <= ATTENTION_MAX_DIM && a->cap >= 0;
}

static int64_t
fused_columns(const attention_shape *a)
{
	return (a->heads + 2 * (int64_t) a->kv_heads) * a->head_dim;
}

static bool
is_table(const graph *g, int32_t t, int64_t columns)
{
	const tensor *x = &g->tensors[t];

	return x->axis == AXIS_NONE && x->ndim == 2 && x->dims[1] == columns;
}

/* in: qkv, none, start, none, bias; or q, kv, start, start of kv, bias */
bool
shape_attention(graph *g, node *n)
{
	const attention_shape *a = &n->attr.attention;
	int64_t q = (int64_t) a->heads * a->head_dim, kv = 2 * (int64_t) a->kv_heads * a->head_dim;
	bool cross = n->in[1] != TENSOR_NONE;
	bool bias = n->in[4] != TENSOR_NONE;

	if (!is_attention(a) || (bias && a->cap > 0) || !is_tokens(IN(n, 0), cross ? q : q + kv) ||
		!is_start(g, n->in[2]) || (cross && (!is_tokens(IN(n, 1), kv) || !is_start(g, n->in[3]))) ||
		(bias && (!is_table(g, n->in[4], a->heads) || IN(n, 4)->dims[0] != a->buckets || a->buckets < 4 ||
				  a->distance <= a->buckets / 2)))
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, q) && rule_make_rows(g, n, 1, a->heads);
}

/* in: start; out: (positions, dim) */
bool
shape_rotary_table(graph *g, node *n)
{
	int64_t dims[2] = {n->attr.count, n->attr.rotary.dim};

	if (!is_start(g, n->in[0]) || dims[0] < 1 || dims[1] < 2 || dims[1] % 2)
		return rule_mismatch(g, n);
	n->out[0] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_NONE, 2, dims);
	return n->out[0] != TENSOR_NONE;
}

/* in: qkv, start, table */
bool
shape_rotary(graph *g, node *n)
{
	const attention_shape *a = &n->attr.attention;

	if (!is_attention(a) || !is_tokens(IN(n, 0), fused_columns(a)) || !is_start(g, n->in[1]) ||
		!is_table(g, n->in[2], tensor_columns(IN(n, 2))) || tensor_columns(IN(n, 2)) > a->head_dim ||
		tensor_columns(IN(n, 2)) % 2)
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, fused_columns(a));
}

/* in: token, start; out: index */
bool
shape_token_types(graph *g, node *n)
{
	const tensor *token = IN(n, 0);
	int64_t dims[2] = {g->capacity[AXIS_TOKEN], 1};

	if (token->axis != AXIS_TOKEN || token->type != TENSOR_I32 || !is_start(g, n->in[1]) || n->attr.count < 1)
		return rule_mismatch(g, n);
	n->out[0] = graph_tensor(g, ROLE_VALUE, TENSOR_I32, AXIS_TOKEN, 2, dims);
	return n->out[0] != TENSOR_NONE;
}

/* in: x, gamma */
bool
shape_rms_norm(graph *g, node *n)
{
	int64_t columns = tensor_columns(IN(n, 0));

	if (IN(n, 0)->axis == AXIS_NONE || n->in[1] == TENSOR_NONE || !rule_is_vector(g, n->in[1], columns))
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, columns) && rule_make_rows(g, n, 1, 2);
}

/* in: qkv, gain of q, gain of k */
bool
shape_head_norm(graph *g, node *n)
{
	const attention_shape *a = &n->attr.attention;

	if (!is_attention(a) || !is_tokens(IN(n, 0), fused_columns(a)) || n->in[1] == TENSOR_NONE ||
		n->in[2] == TENSOR_NONE || !rule_is_vector(g, n->in[1], a->head_dim) ||
		!rule_is_vector(g, n->in[2], a->head_dim))
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, fused_columns(a)) && rule_make_rows(g, n, 1, a->heads + a->kv_heads);
}

bool
shape_glu(graph *g, node *n)
{
	const tensor *x = IN(n, 0);

	if (x->axis == AXIS_NONE || x->ndim != 2 || x->dims[1] % 2)
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, x->dims[1] / 2);
}

/* in: x, start, table */
bool
shape_position(graph *g, node *n)
{
	int64_t columns = tensor_columns(IN(n, 0));

	if (!is_tokens(IN(n, 0), -1) || !is_start(g, n->in[1]) || !is_table(g, n->in[2], columns))
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, columns);
}

/* in: x, start */
bool
shape_pool_tokens(graph *g, node *n)
{
	int64_t dims[2] = {g->capacity[AXIS_ROW], tensor_columns(IN(n, 0))};

	if (!is_tokens(IN(n, 0), -1) || !is_start(g, n->in[1]))
		return rule_mismatch(g, n);
	n->out[0] = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_ROW, 2, dims);
	return n->out[0] != TENSOR_NONE;
}

/* in: x; out: y, 1 / length (rows) */
bool
shape_unit_rows(graph *g, node *n)
{
	if (IN(n, 0)->axis == AXIS_NONE || IN(n, 0)->ndim != 2)
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, IN(n, 0)->dims[1]) && rule_make_rows(g, n, 1, 0);
}

static bool
is_number_of_rows(const tensor *t)
{
	return t->axis == AXIS_ROW && t->ndim == 1 && t->type == TENSOR_F32;
}

/* in: unit rows, text, weight; out: loss, correct, log of the sum (all rows) */
bool
shape_contrastive(graph *g, node *n)
{
	const tensor *x = IN(n, 0);

	if (x->axis != AXIS_ROW || x->ndim != 2 || !is_number_of_rows(IN(n, 1)) || !is_number_of_rows(IN(n, 2)) ||
		!(n->attr.number >= CONTRASTIVE_LEAST_TEMPERATURE))
		return rule_mismatch(g, n);
	return rule_make_rows(g, n, 0, 0) && rule_make_rows(g, n, 1, 0) && rule_make_rows(g, n, 2, 0);
}

/* ---- gradient rules ---- */

/* The gradient of the bias is summed over rows last, so that units share nothing. */
void
grad_attention(graph *g, const node *n)
{
	const attention_shape *a = &n->attr.attention;
	int64_t dims[2] = {g->capacity[AXIS_ROW], (int64_t) a->buckets * a->heads};
	int32_t by_row = TENSOR_NONE;

	if (rule_wants(g, n->in[4]))
		by_row = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_ROW, 2, dims);
	graph_append_step(
		g, OP_attention_grad, n->attr, 8,
		(int32_t[]) {n->in[0], n->in[1], n->in[2], n->in[3], n->in[4], n->out[0], rule_gradient_of(g, n), n->out[1]},
		3, (int32_t[]) {graph_gradient(g, n->in[0]), graph_gradient(g, n->in[1]), by_row});
	if (by_row != TENSOR_NONE)
		rule_step_to(g, OP_column_sum, NO_ATTR, graph_gradient(g, n->in[4]), by_row, TENSOR_NONE, TENSOR_NONE,
					 TENSOR_NONE);
}

void
grad_rotary(graph *g, const node *n)
{
	op_attr attr = n->attr;

	attr.flag = true;
	if (rule_wants(g, n->in[0]))
		rule_step_to(g, OP_rotary, attr, graph_gradient(g, n->in[0]), rule_gradient_of(g, n), n->in[1], n->in[2],
					 TENSOR_NONE);
}

void
grad_rms_norm(graph *g, const node *n)
{
	int32_t dy = rule_gradient_of(g, n);

	if (rule_wants(g, n->in[1]))
		rule_step_to(g, OP_layer_norm_dparam, NO_ATTR, graph_gradient(g, n->in[1]), dy, n->in[0], n->out[1],
					 TENSOR_NONE);
	if (rule_wants(g, n->in[0]))
		rule_step_to(g, OP_rms_norm_dx, NO_ATTR, graph_gradient(g, n->in[0]), dy, n->in[0], n->in[1], n->out[1]);
}

void
grad_head_norm(graph *g, const node *n)
{
	int32_t dy = rule_gradient_of(g, n);

	if (rule_wants(g, n->in[1]))
		graph_append_step(g, OP_head_norm_dparam, n->attr, 3, (int32_t[]) {dy, n->in[0], n->out[1]}, 2,
						  (int32_t[]) {graph_gradient(g, n->in[1]), graph_gradient(g, n->in[2])});
	if (rule_wants(g, n->in[0]))
		graph_append_step(g, OP_head_norm_dx, n->attr, 5, (int32_t[]) {dy, n->in[0], n->in[1], n->in[2], n->out[1]},
						  1, (int32_t[]) {graph_gradient(g, n->in[0])});
}

void
grad_glu(graph *g, const node *n)
{
	if (rule_wants(g, n->in[0]))
		rule_step_to(g, OP_glu_grad, n->attr, graph_gradient(g, n->in[0]), rule_gradient_of(g, n), n->in[0],
					 TENSOR_NONE, TENSOR_NONE);
}

void
grad_position(graph *g, const node *n)
{
	int32_t dy = rule_gradient_of(g, n);

	if (rule_wants(g, n->in[2]))
		rule_step_to(g, OP_position_grad, NO_ATTR, graph_gradient(g, n->in[2]), dy, n->in[1], TENSOR_NONE,
					 TENSOR_NONE);
	rule_pass_to(g, dy, n->in[0]);
}

void
grad_pool_tokens(graph *g, const node *n)
{
	if (rule_wants(g, n->in[0]))
		rule_step_to(g, OP_pool_tokens_dx, n->attr, graph_gradient(g, n->in[0]), rule_gradient_of(g, n), n->in[1],
					 TENSOR_NONE, TENSOR_NONE);
}

void
grad_unit_rows(graph *g, const node *n)
{
	if (rule_wants(g, n->in[0]))
		rule_step_to(g, OP_unit_rows_dx, NO_ATTR, graph_gradient(g, n->in[0]), rule_gradient_of(g, n), n->out[0],
					 n->out[1], TENSOR_NONE);
}

/* ---- recording ---- */

int32_t
op_attention(graph *g, int32_t qkv, int32_t start, int32_t bias, const attention_shape *shape)
{
	return RECORD(attention, ((op_attr) {.attention = *shape}), qkv, TENSOR_NONE, start, TENSOR_NONE, bias);
}

int32_t
op_cross_attention(graph *g, int32_t q, int32_t kv, int32_t start, int32_t kv_start, const attention_shape *shape)
{
	return RECORD(attention, ((op_attr) {.attention = *shape}), q, kv, start, kv_start, TENSOR_NONE);
}

int32_t
op_rotary_table(graph *g, int32_t start, int32_t positions, const rotary_shape *shape)
{
	return RECORD(rotary_table, ((op_attr) {.count = positions, .rotary = *shape}), start);
}

int32_t
op_token_types(graph *g, int32_t token, int32_t start, int32_t separator, int32_t types)
{
	return RECORD(token_types, ((op_attr) {.index = separator, .count = types}), token, start);
}

int32_t
op_rotary(graph *g, int32_t qkv, int32_t start, int32_t table, const attention_shape *shape)
{
	return RECORD(rotary, ((op_attr) {.attention = *shape}), qkv, start, table);
}

int32_t
op_rms_norm(graph *g, int32_t x, int32_t gamma, float epsilon)
{
	return RECORD(rms_norm, ((op_attr) {.number = epsilon}), x, gamma);
}

int32_t
op_head_norm(graph *g, int32_t qkv, int32_t q_gain, int32_t k_gain, float epsilon, const attention_shape *shape)
{
	return RECORD(head_norm, ((op_attr) {.number = epsilon, .attention = *shape}), qkv, q_gain, k_gain);
}

int32_t
op_glu(graph *g, int32_t x, net_activation kind)
{
	return RECORD(glu, ((op_attr) {.act = kind}), x);
}

int32_t
op_position(graph *g, int32_t x, int32_t start, int32_t table)
{
	return RECORD(position, NO_ATTR, x, start, table);
}

int32_t
op_pool_tokens(graph *g, int32_t x, int32_t start, text_pool pool)
{
	return RECORD(pool_tokens, ((op_attr) {.index = pool}), x, start);
}

/* ---- language loss ---- */

/*
 * Logits of a chunk take about 8 MB; but a large vocabulary's weights, which are read three times
 * and whose gradient is written once by each chunk, must serve many tokens.
 */
#define CHUNK_FLOATS ((int64_t) 2 << 20)
#define CHUNK_MIN_TOKENS 128
#define CHUNK_MIN_TOKENS_BF16 256 /* whose products are twice as fast, reading no less */

static int64_t
chunk_size(const graph *g, int64_t tokens, int64_t vocab)
{
	int64_t least = g->precision == PRECISION_BF16 ? CHUNK_MIN_TOKENS_BF16 : CHUNK_MIN_TOKENS;
	int64_t size = CHUNK_FLOATS / vocab;

	size = size < least ? least : size;
	return size < tokens ? size : tokens;
}

typedef struct language_loss
{
	int32_t x, w, bias, target, weight;
	float cap;
	int32_t total;    /* 1 / sum of weights, or none */
	int32_t active;   /* which tokens count */
	int32_t gathered; /* their rows of x */
	int32_t dx;       /* of those, or none */
	int32_t loss, correct;
} language_loss;

static int32_t
wanted_gradient(graph *g, int32_t t)
{
	return rule_wants(g, t) ? graph_gradient(g, t) : TENSOR_NONE;
}

static void
record_chunk(graph *g, const language_loss *l, int64_t first, int64_t size)
{
	op_attr attr = {.index = first, .number = l->cap};
	int64_t dims[2] = {size, g->tensors[l->w].dims[0]};
	int32_t logits = graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_NONE, 2, dims);
	int32_t slope =
		l->total == TENSOR_NONE ? TENSOR_NONE : graph_tensor(g, ROLE_VALUE, TENSOR_F32, AXIS_NONE, 2, dims);

	graph_append_step(g, OP_head_logits, attr, 4, (int32_t[]) {l->gathered, l->w, l->bias, l->active}, 1, &logits);
	graph_append_step(g, OP_head_loss, attr, 5, (int32_t[]) {logits, l->target, l->weight, l->total, l->active}, 3,
					  (int32_t[]) {l->loss, l->correct, slope});
	if (slope == TENSOR_NONE)
		return;
	if (rule_wants(g, l->w) || rule_wants(g, l->bias))
		graph_append_step(g, OP_head_dw, attr, 3, (int32_t[]) {slope, l->gathered, l->active}, 2,
						  (int32_t[]) {wanted_gradient(g, l->w), wanted_gradient(g, l->bias)});
	if (l->dx != TENSOR_NONE)
		graph_append_step(g, OP_head_dx, attr, 3, (int32_t[]) {slope, l->w, l->active}, 1, &l->dx);
}

static bool
check_language_loss(graph *g, const language_loss *l)
{
	const tensor *x = &g->tensors[l->x], *target = &g->tensors[l->target], *weight = &g->tensors[l->weight];

	if (is_tokens(x, -1) && is_table(g, l->w, x->dims[1]) && rule_is_vector(g, l->bias, g->tensors[l->w].dims[0]) &&
		target->type == TENSOR_I32 && target->axis == x->axis && target->ndim == 1 && weight->type == TENSOR_F32 &&
		weight->axis == x->axis && weight->ndim == 1)
		return true;
	return llm_fail(&g->error, LLM_INVALID, "language loss: shapes of inputs do not fit");
}

int32_t
op_language_loss(graph *g, int32_t x, int32_t w, int32_t bias, float cap, int32_t target, int32_t weight,
				 bool gradient, int32_t *correct)
{
	language_loss l = {x, w, bias, target, weight, cap, TENSOR_NONE, .dx = TENSOR_NONE};
	int64_t dims[2], active_dim, chunk;
	tensor_axis axis;

	*correct = TENSOR_NONE;
	if (g->error.code != LLM_OK || !check_language_loss(g, &l))
		return TENSOR_NONE;
	axis = g->tensors[x].axis;
	dims[0] = g->capacity[axis];
	dims[1] = g->tensors[x].dims[1];
	active_dim = dims[0] + 1;
	if (gradient)
		l.total = RECORD(weight_total, NO_ATTR, weight);
	l.active = graph_tensor(g, ROLE_VALUE, TENSOR_I32, AXIS_NONE, 1, &active_dim);
	l.loss = graph_tensor(g, ROLE_VALUE, TENSOR_F32, axis, 1, dims);
	l.correct = graph_tensor(g, ROLE_VALUE, TENSOR_F32, axis, 1, dims);
	l.gathered = graph_tensor(g, ROLE_VALUE, TENSOR_F32, axis, 2, dims);
	if (gradient && rule_wants(g, x))
		l.dx = graph_tensor(g, ROLE_VALUE, TENSOR_F32, axis, 2, dims);
	graph_keep(g, l.loss);
	graph_keep(g, l.correct);
	graph_append_step(g, OP_active_tokens, NO_ATTR, 1, &weight, 3, (int32_t[]) {l.active, l.loss, l.correct});
	rule_step_to(g, OP_gather_active, NO_ATTR, l.gathered, x, l.active, TENSOR_NONE, TENSOR_NONE);
	chunk = chunk_size(g, dims[0], g->tensors[w].dims[0]);
	for (int64_t first = 0; first < dims[0]; first += chunk)
		record_chunk(g, &l, first, chunk < dims[0] - first ? chunk : dims[0] - first);
	if (l.dx != TENSOR_NONE)
		rule_step_to(g, OP_scatter_active, NO_ATTR, graph_gradient(g, x), l.dx, l.active, TENSOR_NONE, TENSOR_NONE);
	*correct = l.correct;
	return g->error.code == LLM_OK ? l.loss : TENSOR_NONE;
}

/* ---- contrastive loss ---- */

int32_t
op_contrastive_loss(graph *g, int32_t x, int32_t text, int32_t weight, float temperature, bool gradient,
					int32_t *correct)
{
	op_attr attr = {.number = temperature};
	int32_t unit = RECORD(unit_rows, NO_ATTR, x);
	int32_t total = gradient ? RECORD(weight_total, NO_ATTR, weight) : TENSOR_NONE;
	int32_t loss = unit == TENSOR_NONE ? TENSOR_NONE : RECORD(contrastive, attr, unit, text, weight);

	*correct = TENSOR_NONE;
	if (loss == TENSOR_NONE)
		return loss;
	*correct = g->nodes[g->node_count - 1].out[1];
	graph_keep(g, loss);
	graph_keep(g, *correct);
	if (gradient && rule_wants(g, unit))
	{
		int32_t in[5] = {unit, text, weight, total, g->nodes[g->node_count - 1].out[2]}, dx = graph_gradient(g, unit);

		graph_append_step(g, OP_contrastive_grad, attr, 5, in, 1, &dx);
	}
	return loss;
}
