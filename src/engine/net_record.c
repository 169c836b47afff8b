/*
 * net_record.c
 *	  The forward pass of a network's layers, and its plan for training, scoring or
 *	  predicting.
 *
 * Layers are recorded in their order, each from the tensors of those it reads; a norm
 * by channel takes the activation after it along.  Parameters are asked for in the order
 * in which net.c lays them out.  An ensemble records its members one after the other and
 * averages their outputs.
 */
#include "net_record.h"

#include <string.h>

#include "transformer_record.h"

enum
{
	SLOT_DENSE,
	SLOT_EMBED,
	SLOT_BAG_START,
	SLOT_BAG_INDEX,
	SLOT_BAG_VALUE,
	SLOT_TARGET,
	SLOT_WEIGHT,
	SLOT_TOKEN,
	SLOT_TOKEN_START,
	SLOT_TOKEN_TARGET,
	SLOT_TOKEN_WEIGHT,
	SLOT_SOURCE,
	SLOT_SOURCE_START,
	SLOT_COUNT
};

_Static_assert(SLOT_COUNT == NET_INPUTS, "every slot of inputs is known");

/* A network being recorded. */
typedef struct recorder
{
	const net *n;
	const net_tuning *tuning;
	graph *g;
	net_plan *p;
	bool training, recompute;
	int32_t next_param;
	int64_t dropouts;                                                      /* so far */
	int32_t dense, embed, bag_start, bag_index, bag_value, target, weight; /* inputs */
	transformer_graph text;
	int32_t image, columns;           /* made of them; columns TENSOR_NONE when there are no numbers */
	int32_t made[NET_MAX_LAYERS + 1]; /* by each layer */
} recorder;

static void
record_token_inputs(recorder *r)
{
	r->text.token = graph_input(r->g, SLOT_TOKEN, TENSOR_I32, AXIS_TOKEN, 0, 1);
	r->text.start = graph_input(r->g, SLOT_TOKEN_START, TENSOR_I32, AXIS_NONE, r->g->capacity[AXIS_ROW] + 1, 0);
}

static void
record_source_inputs(recorder *r)
{
	r->text.source = graph_input(r->g, SLOT_SOURCE, TENSOR_I32, AXIS_SOURCE, 0, 1);
	r->text.source_start =
		graph_input(r->g, SLOT_SOURCE_START, TENSOR_I32, AXIS_NONE, r->g->capacity[AXIS_ROW] + 1, 0);
}

static void
record_tokens(recorder *r)
{
	const batch_shape *s = &r->n->config.shape;
	graph *g = r->g;

	g->capacity[AXIS_TOKEN] = g->capacity[AXIS_ROW] * s->context;
	g->capacity[AXIS_SOURCE] = g->capacity[AXIS_ROW] * s->source_context;
	r->text = (transformer_graph) {
		.g = g, .n = r->n, .tuning = r->tuning, .training = r->training, .recompute = r->recompute};
	record_token_inputs(r);
	if (s->source_context > 0)
		record_source_inputs(r);
}

static void
record_inputs(recorder *r)
{
	const batch_shape *s = &r->n->config.shape;
	int64_t pairs = r->g->capacity[AXIS_ROW] * s->bag_max;

	r->dense = r->embed = r->bag_start = TENSOR_NONE;
	if (s->vocab > 0)
		record_tokens(r);
	if (s->dense > 0)
		r->dense = graph_input(r->g, SLOT_DENSE, TENSOR_F32, AXIS_ROW, 0, s->dense);
	if (s->embed_columns > 0)
		r->embed = graph_input(r->g, SLOT_EMBED, TENSOR_I32, AXIS_ROW, 0, s->embed_columns);
	if (s->bag_rows > 0)
	{
		r->bag_start = graph_input(r->g, SLOT_BAG_START, TENSOR_I32, AXIS_NONE, r->g->capacity[AXIS_ROW] + 1, 0);
		r->bag_index = graph_input(r->g, SLOT_BAG_INDEX, TENSOR_I32, AXIS_NONE, pairs, 0);
		r->bag_value = graph_input(r->g, SLOT_BAG_VALUE, TENSOR_F32, AXIS_NONE, pairs, 0);
	}
	r->target = graph_input(r->g, SLOT_TARGET, s->class_target ? TENSOR_I32 : TENSOR_F32, AXIS_ROW, 0,
							s->class_target ? 0 : s->outputs);
	r->weight = graph_input(r->g, SLOT_WEIGHT, TENSOR_F32, AXIS_ROW, 0, 0);
}

static int32_t
param(recorder *r)
{
	const net_tensor_info *t = &r->n->tensors[r->next_param];

	return graph_param(r->g, r->next_param++, t->ndim, t->dims);
}

static int32_t
statistic(recorder *r)
{
	const net_tensor_info *t = &r->n->tensors[r->next_param];

	return graph_statistic(r->g, r->next_param++, t->ndim, t->dims);
}

/* What stands for the text of a row. */
static int32_t
record_text(recorder *r)
{
	const net_config *c = &r->n->config;
	int32_t x = op_pool_tokens(r->g, transformer_record(&r->text), r->text.start, c->pool);

	r->dropouts = r->text.dropouts;
	if (r->training && c->text.dropout > 0)
		x = op_dropout(r->g, x, c->text.dropout, r->dropouts++);
	return r->training && c->text_dropout > 0 ? op_row_dropout(r->g, x, c->text_dropout, r->dropouts++) : x;
}

/* Numbers side by side; of the columns there may be none (a bag alone has none either). */
static int32_t
record_concat(recorder *r, int32_t a, int32_t b)
{
	return a == TENSOR_NONE ? b : b == TENSOR_NONE ? a : op_concat(r->g, a, b);
}

/* What layers read of the inputs: the image, and the columns beside it with embeddings and text. */
static void
record_sources(recorder *r)
{
	const net_config *c = &r->n->config;
	int32_t pixels = c->image[0] * c->image[1] * c->image[2];

	r->columns = r->dense;
	if (pixels > 0)
	{
		r->image = op_image(r->g, r->dense, c->image[0], c->image[1], c->image[2], r->training ? &c->augment : NULL);
		r->columns =
			pixels < c->shape.dense ? op_columns(r->g, r->dense, pixels, c->shape.dense - pixels) : TENSOR_NONE;
	}
	if (r->embed != TENSOR_NONE)
		r->columns = record_concat(r, r->columns, op_embed(r->g, r->embed, param(r)));
	if (c->text.vocab > 0)
		r->columns = record_concat(r, r->columns, record_text(r));
}

static int32_t
source(const recorder *r, const layer_plan *p, int i)
{
	int32_t from = p->layer.from[i];

	return from == FROM_IMAGE ? r->image : from == FROM_COLUMNS ? r->columns : r->made[from];
}

/* x may be TENSOR_NONE when the bag is the only input. */
static int32_t
record_linear(recorder *r, const layer_plan *p, int32_t x)
{
	int32_t w = x == TENSOR_NONE ? TENSOR_NONE : param(r);
	int32_t table = p->bag ? param(r) : TENSOR_NONE;
	int32_t bias = p->layer.bias ? param(r) : TENSOR_NONE;
	int32_t y = x == TENSOR_NONE ? TENSOR_NONE : op_linear(r->g, x, w, bias);

	if (!p->bag)
		return y;
	return op_embed_bag(r->g, y, r->bag_start, r->bag_index, r->bag_value, table,
						x == TENSOR_NONE ? bias : TENSOR_NONE);
}

static window2d
window_of(const net_layer *l)
{
	return (window2d) {{l->kernel[0], l->kernel[1]}, {l->stride[0], l->stride[1]}, {l->padding[0], l->padding[1]}};
}

static int32_t
record_conv2d(recorder *r, const layer_plan *p, int32_t x)
{
	window2d window = window_of(&p->layer);
	int32_t w = param(r);
	int32_t bias = p->layer.bias ? param(r) : TENSOR_NONE;

	return op_conv2d(r->g, x, w, bias, &window);
}

static int32_t
record_pool(recorder *r, const layer_plan *p, int32_t x)
{
	window2d window = window_of(&p->layer);

	return p->layer.kind == LAYER_MAX_POOL ? op_max_pool(r->g, x, &window) : op_avg_pool(r->g, x, &window);
}

/* One window as large as the image. */
static int32_t
record_global_pool(recorder *r, int32_t x)
{
	window2d window = {.stride = {1, 1}};

	if (x == TENSOR_NONE)
		return x;
	window.kernel[0] = (int32_t) r->g->tensors[x].dims[1];
	window.kernel[1] = (int32_t) r->g->tensors[x].dims[2];
	return op_flatten(r->g, op_avg_pool(r->g, x, &window));
}

/* The activation that alone reads layer i, which comes next; identity when there is none. */
static net_activation
activation_after(const net *n, int32_t i)
{
	const layer_plan *next = &n->layers[i + 1];

	return n->layers[i].readers == 1 && next->layer.kind == LAYER_ACTIVATION && next->layer.from[0] == i
			   ? next->layer.activation
			   : ACT_IDENTITY;
}

static int32_t
record_batch_norm(recorder *r, int32_t i, int32_t x)
{
	net_activation act = activation_after(r->n, i);
	int32_t gamma = param(r);
	int32_t beta = param(r);
	int32_t first = r->next_param;
	int32_t mean = statistic(r);
	int32_t variance = statistic(r);
	int32_t k = r->p->statistic_count;
	int32_t y;

	if (!r->training)
		return op_running_norm(r->g, x, gamma, beta, mean, variance, act);
	y = op_batch_norm(r->g, x, gamma, beta, act, &r->p->statistic[k]);
	graph_keep(r->g, r->p->statistic[k]);
	r->p->running[k] = first;
	r->p->statistic_count++;
	return y;
}

static int32_t
record_norm(recorder *r, int32_t i, int32_t x)
{
	const net_layer *l = &r->n->layers[i].layer;
	int32_t gamma = param(r);
	int32_t beta = param(r);

	return l->kind == LAYER_LAYER_NORM ? op_layer_norm(r->g, x, gamma, beta, LAYER_NORM_EPSILON)
									   : op_group_norm(r->g, x, gamma, beta, l->width, activation_after(r->n, i));
}

static int32_t
record_activation(recorder *r, int32_t i, int32_t x)
{
	const net_layer *l = &r->n->layers[i].layer;
	layer_kind before = l->from[0] == i - 1 && i > 0 ? r->n->layers[i - 1].layer.kind : LAYER_LINEAR;
	bool done = (before == LAYER_BATCH_NORM || before == LAYER_GROUP_NORM) && r->n->layers[i - 1].readers == 1;

	return done || l->activation == ACT_IDENTITY ? x : op_act(r->g, x, l->activation);
}

/* Each dropout of a network draws from a stream of its own. */
static int32_t
record_dropout(recorder *r, const layer_plan *p, int32_t x)
{
	int64_t stream = r->dropouts++;

	return r->training && p->layer.rate > 0 ? op_dropout(r->g, x, p->layer.rate, stream) : x;
}

static int32_t
record_layer(recorder *r, int32_t i)
{
	const layer_plan *p = &r->n->layers[i];
	int32_t x = source(r, p, 0);

	switch (p->layer.kind)
	{
		case LAYER_LINEAR: return record_linear(r, p, x);
		case LAYER_CONV2D: return record_conv2d(r, p, x);
		case LAYER_MAX_POOL:
		case LAYER_AVG_POOL: return record_pool(r, p, x);
		case LAYER_GLOBAL_AVG_POOL: return record_global_pool(r, x);
		case LAYER_BATCH_NORM: return record_batch_norm(r, i, x);
		case LAYER_GROUP_NORM:
		case LAYER_LAYER_NORM: return record_norm(r, i, x);
		case LAYER_ACTIVATION: return record_activation(r, i, x);
		case LAYER_DROPOUT: return record_dropout(r, p, x);
		case LAYER_FLATTEN: return op_flatten(r->g, x);
		case LAYER_ADD: return op_add(r->g, x, source(r, p, 1));
		case LAYER_CONCAT: return record_concat(r, x, source(r, p, 1));
	}
	return TENSOR_NONE;
}

/* One member's logits. */
static int32_t
record_member(recorder *r)
{
	record_sources(r);
	for (int32_t i = 0; i < r->n->layer_count; i++)
		r->made[i] = record_layer(r, i);
	return r->made[r->n->layer_count - 1];
}

static int32_t
record_loss(recorder *r, int32_t logits)
{
	const net_config *c = &r->n->config;

	/* smoothing is a means of training; scores are plain */
	float smoothing = r->training ? c->label_smoothing : 0;

	switch (c->loss)
	{
		case LOSS_CROSS_ENTROPY: return op_cross_entropy(r->g, logits, r->target, r->weight, smoothing, r->training);
		case LOSS_BINARY: return op_binary_cross_entropy(r->g, logits, r->target, r->weight, smoothing, r->training);
		case LOSS_MSE: return op_mse(r->g, logits, r->target, r->weight, r->training);
		case LOSS_HUBER: return op_huber(r->g, logits, r->target, r->weight, c->huber_delta, r->training);
		case LOSS_CONTRASTIVE: break; /* has no logits */
	}
	return TENSOR_NONE;
}

static int32_t
record_output(recorder *r, int32_t logits)
{
	if (r->n->config.loss == LOSS_CROSS_ENTROPY)
		return op_softmax(r->g, logits);
	if (r->n->config.loss == LOSS_BINARY)
		return op_act(r->g, logits, ACT_SIGMOID);
	return logits;
}

/* The mean of all members' outputs. */
static int32_t
record_ensemble(recorder *r)
{
	int32_t members = r->n->config.members;
	int32_t sum = record_output(r, record_member(r));

	for (int32_t i = 1; i < members; i++)
		sum = op_add(r->g, sum, record_output(r, record_member(r)));
	return members > 1 ? op_scale(r->g, sum, 1.0f / members) : sum;
}

/* ---- language models ---- */

/* Loss and right predictions of every token. */
static void
record_language(recorder *r, bool gradient)
{
	graph *g = r->g;
	transformer_head head;
	int32_t target, weight;

	record_tokens(r);
	target = graph_input(g, SLOT_TOKEN_TARGET, TENSOR_I32, AXIS_TOKEN, 0, 0);
	weight = graph_input(g, SLOT_TOKEN_WEIGHT, TENSOR_F32, AXIS_TOKEN, 0, 0);
	head = transformer_record_head(&r->text, transformer_record(&r->text));
	r->p->loss =
		op_language_loss(g, head.x, head.weight, head.bias, head.cap, target, weight, gradient, &r->p->correct);
	if (gradient)
		graph_backward(g);
}

/* ---- pairs of texts ---- */

#define TEMPERATURE 0.05f /* that of SimCSE (Gao et al. 2021) */

static void
record_pairs(recorder *r, bool gradient)
{
	graph *g = r->g;
	int32_t x;

	record_tokens(r);
	r->target = graph_input(g, SLOT_TARGET, TENSOR_F32, AXIS_ROW, 0, 0);
	r->weight = graph_input(g, SLOT_WEIGHT, TENSOR_F32, AXIS_ROW, 0, 0);
	x = op_pool_tokens(g, transformer_record(&r->text), r->text.start, r->n->config.pool);
	x = transformer_record_dense(&r->text, x);
	r->p->loss = op_contrastive_loss(g, x, r->target, r->weight, TEMPERATURE, gradient, &r->p->correct);
	if (gradient)
		graph_backward(g);
}

/* ---- plans ---- */

static void
record_columns(recorder *r, net_mode mode)
{
	int32_t logits;

	record_inputs(r);
	if (mode == MODE_PREDICT)
	{
		r->p->output = record_ensemble(r);
		return;
	}
	logits = record_member(r);
	r->p->loss = record_loss(r, logits);
	if (mode == MODE_SCORE)
		r->p->output = record_output(r, logits);
	else
		graph_backward(r->g);
}

bool
net_plan_tuned(net_plan *p, const net *n, const net_tuning *tuning, train_precision precision, bool recompute,
			   net_mode mode, int64_t capacity, llm_error *err)
{
	recorder r = {.n = n,
				  .tuning = tuning,
				  .g = graph_new(capacity, err),
				  .p = p,
				  .training = mode == MODE_TRAIN,
				  .recompute = recompute,
				  .next_param = n->text_tensors};
	size_t offsets[2 * NET_MAX_TENSORS]; /* with adapters */

	*p = (net_plan) {.output = TENSOR_NONE, .loss = TENSOR_NONE, .correct = TENSOR_NONE};
	if (!r.g)
		return false;
	r.g->precision = precision;
	if (n->config.shape.token_target)
		record_language(&r, r.training);
	else if (n->config.loss == LOSS_CONTRASTIVE)
		record_pairs(&r, r.training);
	else
		record_columns(&r, mode);
	graph_keep(r.g, p->output);
	for (int32_t i = 0; i < (tuning ? tuning_slots(tuning) : n->tensor_count); i++)
		offsets[i] = tuning ? tuning_offset(tuning, i) : n->tensors[i].offset;
	p->plan = plan_new(r.g, &backend_cpu, offsets, err);
	return p->plan != NULL;
}

bool
net_plan_new(net_plan *p, const net *n, net_mode mode, int64_t capacity, llm_error *err)
{
	return net_plan_tuned(p, n, NULL, PRECISION_F32, false, mode, capacity, err);
}

/* Places for weights that the graph reads, as net.c would lay them out alone. */
static size_t
place_weights(const graph *g, const net *n, size_t *offsets)
{
	size_t floats = 0;

	for (int32_t i = 0; i < n->tensor_count; i++)
		offsets[i] = NET_UNREAD;
	for (int32_t i = 0; i < g->tensor_count; i++)
	{
		const tensor *t = &g->tensors[i];

		if (t->role != ROLE_PARAM || offsets[t->slot] != NET_UNREAD)
			continue;
		offsets[t->slot] = floats;
		floats += (n->tensors[t->slot].count + 15) & ~(size_t) 15;
	}
	return floats;
}

bool
net_plan_embed(net_plan *p, const net *n, text_pool pool, int64_t texts, int64_t tokens, size_t *offsets,
			   size_t *floats, llm_error *err)
{
	recorder r = {.n = n, .g = graph_new(texts, err), .p = p};
	bool source = n->config.text.encoder_depth > 0;
	int32_t x;

	*p = (net_plan) {.output = TENSOR_NONE, .loss = TENSOR_NONE, .correct = TENSOR_NONE};
	if (!r.g)
		return false;
	r.g->capacity[source ? AXIS_SOURCE : AXIS_TOKEN] = tokens;
	r.text = (transformer_graph) {.g = r.g, .n = n};
	if (source)
		record_source_inputs(&r);
	else
		record_token_inputs(&r);
	x = source ? transformer_record_encoder(&r.text) : transformer_record(&r.text);
	x = op_pool_tokens(r.g, x, source ? r.text.source_start : r.text.start, pool);
	p->output = transformer_record_dense(&r.text, x);
	graph_keep(r.g, p->output);
	*floats = place_weights(r.g, n, offsets);
	p->plan = plan_new(r.g, &backend_cpu, offsets, err);
	return p->plan != NULL;
}

void
net_rows(const batch *b, int64_t rows[AXIS_COUNT])
{
	rows[AXIS_ROW] = b->rows;
	rows[AXIS_TOKEN] = b->shape.context > 0 ? b->token_start[b->rows] : 0;
	rows[AXIS_SOURCE] = b->shape.source_context > 0 ? b->source_start[b->rows] : 0;
}

void
net_plan_free(net_plan *p)
{
	plan_free(p->plan);
	p->plan = NULL;
}

void
net_inputs(const batch *b, net_input inputs[NET_INPUTS])
{
	const batch_shape *s = &b->shape;
	int64_t rows[AXIS_COUNT], pairs = s->bag_rows > 0 ? b->bag_start[b->rows] : 0;
	int64_t starts = b->rows + 1;

	net_rows(b, rows);
	inputs[SLOT_DENSE] = (net_input) {b->dense, b->rows * s->dense};
	inputs[SLOT_EMBED] = (net_input) {b->embed, b->rows * s->embed_columns};
	inputs[SLOT_BAG_START] = (net_input) {b->bag_start, s->bag_rows > 0 ? starts : 0};
	inputs[SLOT_BAG_INDEX] = (net_input) {b->bag_index, pairs};
	inputs[SLOT_BAG_VALUE] = (net_input) {b->bag_value, pairs};
	inputs[SLOT_TARGET] = s->class_target ? (net_input) {b->target_class, b->rows}
										  : (net_input) {b->target_number, b->rows * s->outputs};
	inputs[SLOT_WEIGHT] = (net_input) {b->weight, b->rows};
	inputs[SLOT_TOKEN] = (net_input) {b->token, rows[AXIS_TOKEN]};
	inputs[SLOT_TOKEN_START] = (net_input) {b->token_start, s->context > 0 ? starts : 0};
	inputs[SLOT_TOKEN_TARGET] = (net_input) {b->token_target, rows[AXIS_TOKEN]};
	inputs[SLOT_TOKEN_WEIGHT] = (net_input) {b->token_weight, rows[AXIS_TOKEN]};
	inputs[SLOT_SOURCE] = (net_input) {b->source, rows[AXIS_SOURCE]};
	inputs[SLOT_SOURCE_START] = (net_input) {b->source_start, s->source_context > 0 ? starts : 0};
}

void
net_plan_bind(net_plan *p, const batch *b)
{
	net_input inputs[NET_INPUTS];

	net_inputs(b, inputs);
	for (int32_t slot = 0; slot < NET_INPUTS; slot++)
		plan_bind(p->plan, slot, inputs[slot].data);
}
