/*
 * net_record.c
 *	  The forward pass of each architecture, and its plan for training, scoring or
 *	  predicting.
 *
 * record_mlp() reads top to bottom as the network:
 *	 x0 = concat(dense, embeddings)
 *	 h  = dropout(act(norm(x W^T + b [+ rows of the bag's table]))) [+ x]
 *	 logits = h W^T + b
 * Parameters are asked for in the order in which net.c lays them out.  An ensemble
 * records its members one after the other and averages their outputs.
 */
#include "net_record.h"

#include <string.h>

enum
{
	SLOT_DENSE, SLOT_EMBED, SLOT_BAG_START, SLOT_BAG_INDEX, SLOT_BAG_VALUE, SLOT_TARGET, SLOT_WEIGHT
};

/* A network being recorded. */
typedef struct recorder
{
	const net  *n;
	graph	   *g;
	bool		training;
	int32_t		next_param;
	int32_t		dense, embed, bag_start, bag_index, bag_value, target, weight;	/* inputs */
} recorder;

static void
record_inputs(recorder *r)
{
	const batch_shape *s = &r->n->config.shape;
	int64_t		pairs = r->g->capacity * s->bag_max;

	r->dense = r->embed = r->bag_start = TENSOR_NONE;
	if (s->dense > 0)
		r->dense = graph_input(r->g, SLOT_DENSE, TENSOR_F32, 0, s->dense);
	if (s->embed_columns > 0)
		r->embed = graph_input(r->g, SLOT_EMBED, TENSOR_I32, 0, s->embed_columns);
	if (s->bag_rows > 0)
	{
		r->bag_start = graph_input(r->g, SLOT_BAG_START, TENSOR_I32, r->g->capacity + 1, 0);
		r->bag_index = graph_input(r->g, SLOT_BAG_INDEX, TENSOR_I32, pairs, 0);
		r->bag_value = graph_input(r->g, SLOT_BAG_VALUE, TENSOR_F32, pairs, 0);
	}
	r->target = graph_input(r->g, SLOT_TARGET, s->class_target ? TENSOR_I32 : TENSOR_F32, 0,
							s->class_target ? 0 : s->outputs);
	r->weight = graph_input(r->g, SLOT_WEIGHT, TENSOR_F32, 0, 0);
}

static int32_t
param(recorder *r)
{
	const net_tensor_info *t = &r->n->tensors[r->next_param];

	return graph_param(r->g, r->next_param++, t->ndim, t->dims);
}

/* x may be TENSOR_NONE when the bag is the only input. */
static int32_t
record_layer(recorder *r, int32_t x, bool bag)
{
	int32_t		w = x == TENSOR_NONE ? TENSOR_NONE : param(r);
	int32_t		table = bag ? param(r) : TENSOR_NONE;
	int32_t		bias = param(r);
	int32_t		y = x == TENSOR_NONE ? TENSOR_NONE : op_linear(r->g, x, w, bias);

	if (!bag)
		return y;
	return op_embed_bag(r->g, y, r->bag_start, r->bag_index, r->bag_value, table,
						x == TENSOR_NONE ? bias : TENSOR_NONE);
}

static int32_t
record_hidden(recorder *r, int32_t x, int32_t layer)
{
	const net_config *c = &r->n->config;
	int32_t		h = record_layer(r, x, layer == 0 && c->shape.bag_rows > 0);

	if (c->layer_norm)
	{
		int32_t		gamma = param(r);
		int32_t		beta = param(r);

		h = op_layer_norm(r->g, h, gamma, beta);
	}
	if (c->activation != ACT_IDENTITY)
		h = op_act(r->g, h, c->activation);
	if (r->training && c->dropout > 0)
		h = op_dropout(r->g, h, c->dropout, layer);
	if (c->residual && layer > 0 && c->hidden[layer] == c->hidden[layer - 1])
		h = op_add(r->g, h, x);
	return h;
}

static int32_t
record_mlp(recorder *r)
{
	const net_config *c = &r->n->config;
	int32_t		x = r->dense;

	if (r->embed != TENSOR_NONE)
	{
		int32_t		e = op_embed(r->g, r->embed, param(r));

		x = x == TENSOR_NONE ? e : op_concat(r->g, x, e);
	}
	for (int32_t i = 0; i < c->hidden_count; i++)
		x = record_hidden(r, x, i);
	return record_layer(r, x, c->hidden_count == 0 && c->shape.bag_rows > 0);
}

static int32_t
record_loss(recorder *r, int32_t logits)
{
	const net_config *c = &r->n->config;

	/* smoothing is a means of training; scores are plain */
	float		smoothing = r->training ? c->label_smoothing : 0;

	switch (c->loss)
	{
		case LOSS_CROSS_ENTROPY:
			return op_cross_entropy(r->g, logits, r->target, r->weight, smoothing, r->training);
		case LOSS_BINARY:
			return op_binary_cross_entropy(r->g, logits, r->target, r->weight, smoothing, r->training);
		case LOSS_MSE:
			return op_mse(r->g, logits, r->target, r->weight, r->training);
		case LOSS_HUBER:
			return op_huber(r->g, logits, r->target, r->weight, c->huber_delta, r->training);
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
	int32_t		members = r->n->config.members;
	int32_t		sum = record_output(r, record_mlp(r));

	for (int32_t i = 1; i < members; i++)
		sum = op_add(r->g, sum, record_output(r, record_mlp(r)));
	return members > 1 ? op_scale(r->g, sum, 1.0f / members) : sum;
}

bool
net_plan_new(net_plan *p, const net *n, net_mode mode, int64_t capacity, llm_error *err)
{
	recorder	r = {.n = n,.g = graph_new(capacity, err),.training = mode == MODE_TRAIN};
	size_t		offsets[NET_MAX_TENSORS];
	int32_t		logits;

	*p = (net_plan) {.output = TENSOR_NONE,.loss = TENSOR_NONE};
	if (!r.g)
		return false;
	record_inputs(&r);
	if (mode == MODE_PREDICT)
		p->output = record_ensemble(&r);
	else
	{
		logits = record_mlp(&r);
		p->loss = record_loss(&r, logits);
		if (mode == MODE_SCORE)
			p->output = record_output(&r, logits);
		else
			graph_backward(r.g);
	}
	graph_keep(r.g, p->output);
	for (int32_t i = 0; i < n->tensor_count; i++)
		offsets[i] = n->tensors[i].offset;
	p->plan = plan_new(r.g, &backend_cpu, offsets, err);
	return p->plan != NULL;
}

void
net_plan_free(net_plan *p)
{
	plan_free(p->plan);
	p->plan = NULL;
}

void
net_plan_bind(net_plan *p, const batch *b)
{
	plan_bind(p->plan, SLOT_DENSE, b->dense);
	plan_bind(p->plan, SLOT_EMBED, b->embed);
	plan_bind(p->plan, SLOT_BAG_START, b->bag_start);
	plan_bind(p->plan, SLOT_BAG_INDEX, b->bag_index);
	plan_bind(p->plan, SLOT_BAG_VALUE, b->bag_value);
	plan_bind(p->plan, SLOT_TARGET, b->shape.class_target ? (const void *) b->target_class : b->target_number);
	plan_bind(p->plan, SLOT_WEIGHT, b->weight);
}
