/*
 * transformer_record.c
 *	  The forward pass of transformers, by the numbers of transformer_tensors_of().
 */
#include "transformer_record.h"

#include <math.h>

#include "tuning.h"

/* Parameters are recorded in any order, each once. */
static int32_t
param(transformer_graph *t, int32_t number)
{
	const net_tensor_info *info;

	if (number == TENSOR_NONE)
		return TENSOR_NONE;
	info = &t->n->tensors[number];
	return !t->tuning || tuning_trains(t->tuning, number) ? graph_param(t->g, number, info->ndim, info->dims)
														  : graph_statistic(t->g, number, info->ndim, info->dims);
}

static int32_t
record_norm(transformer_graph *t, int32_t x, const int32_t numbers[2])
{
	const transformer_config *c = &t->n->config.text;
	int32_t gamma = param(t, numbers[0]);
	int32_t beta = param(t, numbers[1]);

	return c->rms_norm ? op_rms_norm(t->g, x, gamma, c->norm_epsilon)
					   : op_layer_norm(t->g, x, gamma, beta, c->norm_epsilon);
}

/* What is read of the stream, and what becomes of it when something was added. */
static int32_t
norm_before(transformer_graph *t, int32_t x, const int32_t numbers[2])
{
	return t->n->config.text.post_norm ? x : record_norm(t, x, numbers);
}

static int32_t
norm_after(transformer_graph *t, int32_t x, const int32_t numbers[2])
{
	return t->n->config.text.post_norm ? record_norm(t, x, numbers) : x;
}

/* What a half of a layer made, as it is added. */
static int32_t
norm_added(transformer_graph *t, int32_t x, const int32_t numbers[2])
{
	return numbers[0] == TENSOR_NONE ? x : record_norm(t, x, numbers);
}

static int32_t
record_linear(transformer_graph *t, int32_t x, const int32_t numbers[2])
{
	int32_t w = param(t, numbers[0]);
	int32_t bias = param(t, numbers[1]);
	int32_t y = op_linear(t->g, x, w, bias);

	return t->tuning ? tuning_record(t->tuning, t->g, numbers[0], x, y) : y;
}

static int32_t
record_dropout(transformer_graph *t, int32_t x)
{
	float rate = t->n->config.text.dropout;

	return t->training && rate > 0 ? op_dropout(t->g, x, rate, t->dropouts++) : x;
}

/* A stack while it is recorded. */
typedef struct stack
{
	const transformer_stack *numbers;
	int32_t token, start; /* inputs */
	int32_t source;       /* the encoder's stream, or none */
	int32_t bias;         /* by relative position, or none */
	/* of layers that see all, and of those with a window */
	int32_t rotary[2]; /* tables, where positions are */
	attention_shape attention[2];
} stack;

static int32_t
record_attention(transformer_graph *t, int32_t x, int32_t layer, const stack *s)
{
	const transformer_config *c = &t->n->config.text;
	const transformer_layer *l = &s->numbers->layers[layer];
	bool window = transformer_has_window(c, layer);
	const attention_shape *shape = &s->attention[window];
	int32_t qkv = record_linear(t, norm_before(t, x, l->attn_norm), l->qkv);

	if (c->qk_norm)
	{
		int32_t q_gain = param(t, l->q_norm);
		int32_t k_gain = param(t, l->k_norm);

		qkv = op_head_norm(t->g, qkv, q_gain, k_gain, c->norm_epsilon, shape);
	}
	if (c->rotary)
		qkv = op_rotary(t->g, qkv, s->start, s->rotary[window], shape);
	x = record_linear(t, op_attention(t->g, qkv, s->start, s->bias, shape), l->out);
	return record_dropout(t, norm_added(t, x, l->attn_added));
}

static int32_t
record_cross_attention(transformer_graph *t, int32_t x, const transformer_layer *l, const stack *s)
{
	attention_shape shape = s->attention[0];
	int32_t q = record_linear(t, norm_before(t, x, l->cross_norm), l->cross_q);
	int32_t kv = record_linear(t, s->source, l->cross_kv);

	shape.causal = false;
	x = op_cross_attention(t->g, q, kv, s->start, t->source_start, &shape);
	return record_dropout(t, record_linear(t, x, l->cross_out));
}

static int32_t
record_feed_forward(transformer_graph *t, int32_t x, const transformer_layer *l)
{
	const transformer_config *c = &t->n->config.text;
	int32_t up = record_linear(t, norm_before(t, x, l->ffn_norm), l->up);
	int32_t y = c->gated ? op_glu(t->g, up, c->activation) : op_act(t->g, up, c->activation);

	return record_dropout(t, norm_added(t, record_linear(t, y, l->down), l->ffn_added));
}

/* Both halves of a layer read the same stream. */
static int32_t
record_parallel(transformer_graph *t, int32_t x, int32_t layer, const stack *s)
{
	int32_t attended = record_attention(t, x, layer, s);
	int32_t fed = record_feed_forward(t, x, &s->numbers->layers[layer]);

	return op_add(t->g, op_add(t->g, x, attended), fed);
}

static int32_t
record_halves(transformer_graph *t, int32_t x, int32_t layer, const stack *s)
{
	const transformer_layer *l = &s->numbers->layers[layer];

	x = norm_after(t, op_add(t->g, x, record_attention(t, x, layer, s)), l->attn_norm);
	if (s->source != TENSOR_NONE)
		x = norm_after(t, op_add(t->g, x, record_cross_attention(t, x, l, s)), l->cross_norm);
	return norm_after(t, op_add(t->g, x, record_feed_forward(t, x, l)), l->ffn_norm);
}

static int32_t
record_layer(transformer_graph *t, int32_t x, int32_t layer, const stack *s)
{
	int32_t first = t->g->node_count;

	x = t->n->config.text.parallel ? record_parallel(t, x, layer, s) : record_halves(t, x, layer, s);
	if (t->recompute)
		graph_recompute(t->g, first);
	return x;
}

/* Tokens, with their types and positions. */
static int32_t
record_embeddings(transformer_graph *t, const stack *s, int32_t position, int32_t types)
{
	const transformer_config *c = &t->n->config.text;
	int32_t x = op_embed(t->g, s->token, t->embed);

	if (c->embed_scale)
		x = op_scale(t->g, x, sqrtf((float) c->width));
	if (types != TENSOR_NONE)
	{
		int32_t index = op_token_types(t->g, s->token, s->start, c->separator, c->types);

		x = op_add(t->g, x, op_embed(t->g, index, types));
	}
	return position == TENSOR_NONE ? x : op_position(t->g, x, s->start, position);
}

static void
record_rotary(transformer_graph *t, stack *s)
{
	const transformer_config *c = &t->n->config.text;

	for (int window = 0; window < 2; window++)
	{
		rotary_shape shape = transformer_rotary(c, window);

		s->rotary[window] =
			window && c->window_theta == 0 ? s->rotary[0] : op_rotary_table(t->g, s->start, c->context, &shape);
	}
}

static int32_t
record_stack(transformer_graph *t, stack *s, int32_t position, int32_t types)
{
	const transformer_config *c = &t->n->config.text;
	int32_t x = record_embeddings(t, s, position, types);

	s->bias = param(t, s->numbers->relative);
	if (c->rotary)
		record_rotary(t, s);
	x = record_dropout(t, norm_after(t, x, s->numbers->norm));
	for (int32_t i = 0; i < s->numbers->depth; i++)
		x = record_layer(t, x, i, s);
	return norm_before(t, x, s->numbers->norm);
}

static int32_t
record_encoder(transformer_graph *t, const transformer_tensors *numbers)
{
	stack s = {&numbers->encoder, t->source, t->source_start, TENSOR_NONE,
			   .attention = {transformer_attention(&t->n->config.text, false)}};

	s.attention[0].causal = false;
	return record_stack(t, &s, TENSOR_NONE, TENSOR_NONE);
}

int32_t
transformer_record(transformer_graph *t)
{
	const transformer_config *c = &t->n->config.text;
	transformer_tensors numbers;
	stack s = {&numbers.stack, t->token, t->start, TENSOR_NONE,
			   .attention = {transformer_attention(c, false), transformer_attention(c, true)}};
	int32_t position, types;

	transformer_tensors_of(c, &numbers);
	t->embed = param(t, numbers.embed);
	if (c->encoder_depth > 0)
		s.source = record_encoder(t, &numbers);
	position = param(t, numbers.position);
	types = param(t, numbers.types);
	return record_stack(t, &s, position, types);
}

int32_t
transformer_record_encoder(transformer_graph *t)
{
	transformer_tensors numbers;

	transformer_tensors_of(&t->n->config.text, &numbers);
	t->embed = param(t, numbers.embed);
	return record_encoder(t, &numbers);
}

int32_t
transformer_record_dense(transformer_graph *t, int32_t x)
{
	const net_config *c = &t->n->config;

	for (int32_t i = 0; i < c->dense_count; i++)
	{
		int32_t numbers[2];

		net_dense_tensors(t->n, i, numbers);
		x = record_linear(t, x, numbers);
		if (c->dense[i].activation != ACT_IDENTITY)
			x = op_act(t->g, x, c->dense[i].activation);
	}
	return x;
}

transformer_head
transformer_record_head(transformer_graph *t, int32_t x)
{
	const transformer_config *c = &t->n->config.text;
	transformer_tensors numbers;
	transformer_head head;

	transformer_tensors_of(c, &numbers);
	head.weight = c->tied ? t->embed : param(t, numbers.head);
	head.bias = param(t, numbers.head_bias);
	head.cap = transformer_logit_cap(c);
	if (c->head_transform)
	{
		x = op_act(t->g, record_linear(t, x, numbers.transform), c->activation);
		x = record_norm(t, x, numbers.transform_norm);
	}
	head.x = c->head_scale ? op_scale(t->g, x, 1 / sqrtf((float) c->width)) : x;
	return head;
}
