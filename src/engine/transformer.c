/*
 * transformer.c
 *	  Decoder transformers: checks, layout of parameters, forward pass.
 *
 * transformer_tensors_of() alone decides which tensors there are and in which order;
 * layout, recorder and generator.c go by its numbers.
 */
#include "transformer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_VOCAB (1 << 20)
#define MAX_CONTEXT (1 << 17)
#define MAX_WIDTH 65536

/* Deviation of initial weights, as GPT-2 has it; what is added to the stream starts smaller by the root of its terms. */
#define INITIAL_DEVIATION 0.02f

static const struct
{
	const char *name;
	transformer_config flags;
} families[] = {
	{"gpt", {.norm_epsilon = 1e-5f, .activation = ACT_GELU_TANH, .bias = true, .qkv_bias = true, .tied = true}},
	{"llama",
	 {.norm_epsilon = 1e-5f,
	  .activation = ACT_SILU,
	  .rotary = true,
	  .rope_theta = 10000,
	  .rms_norm = true,
	  .gated = true,
	  .tied = true}},
};

bool
transformer_family(const char *name, transformer_config *c)
{
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (strcmp(families[i].name, name) == 0)
		{
			*c = families[i].flags;
			return true;
		}
	return false;
}

/* ---- checks ---- */

static bool
check_size(const char *name, int32_t value, int32_t least, int32_t most, llm_error *err)
{
	return (value >= least && value <= most) ||
		   llm_fail(err, LLM_INVALID, "%s is %d, not between %d and %d", name, value, least, most);
}

bool
transformer_check(const net_config *config, llm_error *err)
{
	const transformer_config *c = &config->text;
	const batch_shape *s = &config->shape;

	if (!check_size("vocabulary", c->vocab, 2, MAX_VOCAB, err) ||
		!check_size("context", c->context, 1, MAX_CONTEXT, err) ||
		!check_size("embed_dim", c->width, 1, MAX_WIDTH, err) ||
		!check_size("layers", c->depth, 1, TRANSFORMER_MAX_DEPTH, err) ||
		!check_size("heads", c->heads, 1, MAX_WIDTH, err) || !check_size("kv_heads", c->kv_heads, 1, c->heads, err) ||
		!check_size("head_dim", c->head_dim, 1, ATTENTION_MAX_DIM, err) ||
		!check_size("ffn_dim", c->ffn, 1, 4 * MAX_WIDTH, err))
		return false;
	if (c->heads % c->kv_heads != 0)
		return llm_fail(err, LLM_INVALID, "kv_heads %d does not divide heads %d", c->kv_heads, c->heads);
	if (c->rotary && c->head_dim % 2 != 0)
		return llm_fail(err, LLM_INVALID, "rotary positions need heads of even width, not %d", c->head_dim);
	if ((unsigned) c->activation > ACT_SIGMOID || !(c->norm_epsilon > 0 && c->norm_epsilon < 1) ||
		(c->rotary && !(c->rope_theta > 1 && c->rope_theta <= 1e9f)) || !(c->dropout >= 0 && c->dropout < 1))
		return llm_fail(err, LLM_INVALID, "activation, norm_epsilon, rope_theta or dropout is out of range");
	if (s->vocab != c->vocab || s->context != c->context || !s->token_target || s->class_target || s->dense > 0 ||
		s->embed_columns > 0 || s->bag_rows > 0 || config->members > 1 || config->layer_count > 0)
		return llm_fail(err, LLM_INVALID, "a language model reads and predicts tokens, nothing else");
	return true;
}

/* ---- parameters ---- */

void
transformer_tensors_of(const transformer_config *c, transformer_tensors *t)
{
	int32_t next = 0;

#define ONE(condition) ((condition) ? next++ : TENSOR_NONE)
#define PAIR(pair, bias) ((pair)[0] = next++, (pair)[1] = ONE(bias))
	t->embed = next++;
	t->position = ONE(!c->rotary);
	for (int32_t i = 0; i < c->depth; i++)
	{
		transformer_layer *l = &t->layers[i];

		PAIR(l->attn_norm, c->bias);
		PAIR(l->qkv, c->qkv_bias);
		l->q_norm = ONE(c->qk_norm);
		l->k_norm = ONE(c->qk_norm);
		PAIR(l->out, c->bias);
		PAIR(l->ffn_norm, c->bias);
		PAIR(l->up, c->bias);
		PAIR(l->down, c->bias);
	}
	PAIR(t->norm, c->bias);
	t->head = c->tied ? t->embed : next;
#undef ONE
#undef PAIR
}

#define NAME_BYTES 64

/* layer -1: a tensor of the whole network */
static const char *
tensor_name(char name[NAME_BYTES], int32_t layer, const char *part, const char *kind)
{
	if (layer < 0)
		snprintf(name, NAME_BYTES, "%s.%s", part, kind);
	else
		snprintf(name, NAME_BYTES, "layers.%d.%s.%s", layer, part, kind);
	return name;
}

/* Weights (rows, columns) and, where the layer has it, a bias (rows). */
static bool
add_linear(net *n, int32_t layer, const char *name, const int32_t numbers[2], int64_t rows, int64_t columns,
		   float deviation, llm_error *err)
{
	char full[NAME_BYTES];

	return net_add_tensor(n, tensor_name(full, layer, name, "weight"), 2, (int64_t[]) {rows, columns}, deviation, 0,
						  err) &&
		   (numbers[1] == TENSOR_NONE ||
			net_add_tensor(n, tensor_name(full, layer, name, "bias"), 1, &rows, 0, 0, err));
}

static bool
add_norm(net *n, int32_t layer, const char *name, const int32_t numbers[2], int64_t size, llm_error *err)
{
	char full[NAME_BYTES];

	return (numbers[0] == TENSOR_NONE ||
			net_add_tensor(n, tensor_name(full, layer, name, "weight"), 1, &size, 0, 1, err)) &&
		   (numbers[1] == TENSOR_NONE ||
			net_add_tensor(n, tensor_name(full, layer, name, "bias"), 1, &size, 0, 0, err));
}

static bool
add_layer(net *n, int32_t i, const transformer_layer *l, llm_error *err)
{
	const transformer_config *c = &n->config.text;
	int64_t q = (int64_t) c->heads * c->head_dim, kv = (int64_t) c->kv_heads * c->head_dim;
	float smaller = INITIAL_DEVIATION / sqrtf(2.0f * c->depth);

	return add_norm(n, i, "attn.norm", l->attn_norm, c->width, err) &&
		   add_linear(n, i, "attn.qkv", l->qkv, q + 2 * kv, c->width, INITIAL_DEVIATION, err) &&
		   add_norm(n, i, "attn.q_norm", (int32_t[]) {l->q_norm, TENSOR_NONE}, c->head_dim, err) &&
		   add_norm(n, i, "attn.k_norm", (int32_t[]) {l->k_norm, TENSOR_NONE}, c->head_dim, err) &&
		   add_linear(n, i, "attn.out", l->out, c->width, q, smaller, err) &&
		   add_norm(n, i, "ffn.norm", l->ffn_norm, c->width, err) &&
		   add_linear(n, i, "ffn.up", l->up, (c->gated ? 2 : 1) * (int64_t) c->ffn, c->width, INITIAL_DEVIATION,
					  err) &&
		   add_linear(n, i, "ffn.down", l->down, c->width, c->ffn, smaller, err);
}

bool
transformer_layout(net *n, llm_error *err)
{
	const transformer_config *c = &n->config.text;
	transformer_tensors t;
	int64_t table[2] = {c->vocab, c->width}, positions[2] = {c->context, c->width};

	transformer_tensors_of(c, &t);
	if (!net_add_tensor(n, "embed.weight", 2, table, INITIAL_DEVIATION, 0, err) ||
		(t.position != TENSOR_NONE && !net_add_tensor(n, "position.weight", 2, positions, INITIAL_DEVIATION, 0, err)))
		return false;
	for (int32_t i = 0; i < c->depth; i++)
		if (!add_layer(n, i, &t.layers[i], err))
			return false;
	return add_norm(n, -1, "norm", t.norm, c->width, err) &&
		   (c->tied || net_add_tensor(n, "head.weight", 2, table, INITIAL_DEVIATION, 0, err));
}

/* ---- forward pass ---- */

attention_shape
transformer_attention(const transformer_config *c)
{
	return (attention_shape) {.heads = c->heads,
							  .kv_heads = c->kv_heads,
							  .head_dim = c->head_dim,
							  .causal = true,
							  .scale = 1 / sqrtf((float) c->head_dim)};
}

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

static int32_t
record_attention(transformer_graph *t, int32_t x, const transformer_layer *l, int32_t rotary)
{
	const transformer_config *c = &t->n->config.text;
	attention_shape shape = transformer_attention(c);
	int32_t qkv = record_linear(t, record_norm(t, x, l->attn_norm), l->qkv);

	if (c->qk_norm)
	{
		int32_t q_gain = param(t, l->q_norm);
		int32_t k_gain = param(t, l->k_norm);

		qkv = op_head_norm(t->g, qkv, q_gain, k_gain, c->norm_epsilon, &shape);
	}
	if (c->rotary)
		qkv = op_rotary(t->g, qkv, t->start, rotary, &shape);
	return record_dropout(t, record_linear(t, op_attention(t->g, qkv, t->start, TENSOR_NONE, &shape), l->out));
}

static int32_t
record_feed_forward(transformer_graph *t, int32_t x, const transformer_layer *l)
{
	const transformer_config *c = &t->n->config.text;
	int32_t up = record_linear(t, record_norm(t, x, l->ffn_norm), l->up);
	int32_t y = c->gated ? op_glu(t->g, up, c->activation) : op_act(t->g, up, c->activation);

	return record_dropout(t, record_linear(t, y, l->down));
}

int32_t
transformer_record(transformer_graph *t, int32_t *head)
{
	const transformer_config *c = &t->n->config.text;
	transformer_tensors numbers;
	int32_t embed, x, rotary = TENSOR_NONE;

	transformer_tensors_of(c, &numbers);
	embed = param(t, numbers.embed);
	*head = c->tied ? embed : param(t, numbers.head);
	x = op_embed(t->g, t->token, embed);
	if (c->rotary)
		rotary = op_rotary_table(t->g, t->start, c->context, c->head_dim, c->rope_theta);
	else
		x = op_position(t->g, x, t->start, param(t, numbers.position));
	x = record_dropout(t, x);
	for (int32_t i = 0; i < c->depth; i++)
	{
		x = op_add(t->g, x, record_attention(t, x, &numbers.layers[i], rotary));
		x = op_add(t->g, x, record_feed_forward(t, x, &numbers.layers[i]));
	}
	return record_norm(t, x, numbers.norm);
}
