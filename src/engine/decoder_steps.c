/*
 * decoder_steps.c
 *	  A pass of tokens through a language model as steps for a GPU.
 *
 * The numbers are those of generator_pass.c.  Rows of AXIS_TOKEN are the tokens of a pass, rows of AXIS_ROW those
 * whose logits are wanted.  What a half of a layer makes is added to the stream by the product that makes it.
 */
#include "decoder_steps.h"

#include <math.h>
#include <stdlib.h>

#define STEPS_OF_LAYER 9
#define STEPS_BESIDE 6

typedef struct step_list
{
	const llmapp_cuda_api *api;
	const net *n;
	const transformer_config *config;
	const decoder_shape *shape;
	const decoder_arrays *a;
	llmapp_cuda_step *steps;
	int32_t count;
	const char *missing; /* an operation that the backend lacks */
} step_list;

static llmapp_cuda_step *
add_step(step_list *l, const char *name, tensor_axis axis)
{
	llmapp_cuda_step *s = &l->steps[l->count++];

	s->op = l->api->op(name);
	s->axis = axis;
	if (s->op < 0)
		l->missing = name;
	return s;
}

/* columns 0: one number for each row */
static llmapp_cuda_tensor
rows_of(const step_list *l, void *data, tensor_axis axis, int64_t columns)
{
	return (llmapp_cuda_tensor) {
		data, axis, columns > 0 ? 2 : 1, {axis == AXIS_TOKEN ? l->shape->tokens : l->shape->texts, columns}};
}

static llmapp_cuda_tensor
parameter_of(const step_list *l, int32_t number)
{
	const net_tensor_info *t = number == TENSOR_NONE ? NULL : &l->n->tensors[number];

	if (!t)
		return (llmapp_cuda_tensor) {0};
	return (llmapp_cuda_tensor) {l->a->weights + t->place, AXIS_NONE, t->ndim, {t->dims[0], t->dims[1]}};
}

static void
add_norm(step_list *l, float *x, tensor_axis axis, const int32_t numbers[2], float *y)
{
	llmapp_cuda_step *s = add_step(l, l->config->rms_norm ? "rms_norm" : "layer_norm", axis);

	s->attr.number = l->config->norm_epsilon;
	s->in[0] = rows_of(l, x, axis, l->config->width);
	s->in[1] = parameter_of(l, numbers[0]);
	s->in[2] = parameter_of(l, numbers[1]);
	s->out[0] = rows_of(l, y, axis, l->config->width);
	s->out[1] = rows_of(l, l->a->stats, axis, 2);
}

/* y = or += x w^T + bias */
static void
add_linear(step_list *l, float *x, tensor_axis axis, const int32_t numbers[2], float *y, bool accumulate)
{
	llmapp_cuda_step *s = add_step(l, "kept_linear", axis);
	const net_tensor_info *w = &l->n->tensors[numbers[0]];

	s->attr.index = w->type;
	s->accumulate[0] = accumulate;
	s->in[0] = rows_of(l, x, axis, w->dims[1]);
	s->in[1] = parameter_of(l, numbers[0]);
	s->in[2] = parameter_of(l, numbers[1]);
	if (l->a->panel_bytes > 0)
		s->in[3] = (llmapp_cuda_tensor) {l->a->panel, AXIS_NONE, 1, {l->a->panel_bytes}};
	s->out[0] = rows_of(l, y, axis, w->dims[0]);
}

/* What a half of a layer reads of the stream. */
static float *
norm_before(step_list *l, const int32_t numbers[2])
{
	if (l->config->post_norm)
		return l->a->stream;
	add_norm(l, l->a->stream, AXIS_TOKEN, numbers, l->a->normed);
	return l->a->normed;
}

/* What it makes, added to the stream. */
static void
add_to_stream(step_list *l, float *x, const int32_t layer[2], const int32_t norm[2])
{
	add_linear(l, x, AXIS_TOKEN, layer, l->a->stream, true);
	if (l->config->post_norm)
		add_norm(l, l->a->stream, AXIS_TOKEN, norm, l->a->stream);
}

static void
add_embed(step_list *l, const transformer_tensors *t)
{
	llmapp_cuda_step *s = add_step(l, "kept_embed", AXIS_TOKEN);

	s->attr.index = l->n->tensors[t->embed].type;
	s->attr.number = l->config->embed_scale ? sqrtf((float) l->config->width) : 1;
	s->in[0] = rows_of(l, l->a->id, AXIS_TOKEN, 0);
	s->in[1] = parameter_of(l, t->embed);
	s->in[2] = rows_of(l, l->a->position, AXIS_TOKEN, 0);
	s->in[3] = parameter_of(l, t->position);
	s->out[0] = rows_of(l, l->a->stream, AXIS_TOKEN, l->config->width);
}

/* Heads and pages, as both steps that know them describe them. */
static void
describe_heads(const step_list *l, llmapp_cuda_attr *to)
{
	attention_shape shape = transformer_attention(l->config, false);

	to->heads = shape.heads;
	to->kv_heads = shape.kv_heads;
	to->head_dim = shape.head_dim;
	to->scale = shape.scale;
	to->buckets = shape.buckets;
	to->distance = shape.distance;
	to->flag = l->a->half;
	to->count = DECODER_PAGE;
	to->index = l->config->context;
}

/* Numbers of a token's queries, keys and values. */
static int64_t
qkv_width(const transformer_config *c)
{
	return (c->heads + 2 * (int64_t) c->kv_heads) * c->head_dim;
}

/* Keys or values of a layer. */
static llmapp_cuda_tensor
pages_of(const step_list *l, char *data, int32_t layer)
{
	const transformer_config *c = l->config;
	int64_t page = (int64_t) c->kv_heads * DECODER_PAGE * c->head_dim;

	return (llmapp_cuda_tensor) {
		data + layer * l->shape->pages * page * (l->a->half ? 2 : 4), AXIS_NONE, 2, {l->shape->pages, page}};
}

/* Tokens of a text find its pages by these three, from in[at] on. */
static void
describe_pages(const step_list *l, llmapp_cuda_step *s, int at)
{
	s->in[at] = rows_of(l, l->a->position, AXIS_TOKEN, 0);
	s->in[at + 1] = rows_of(l, l->a->first, AXIS_TOKEN, 0);
	s->in[at + 2] = (llmapp_cuda_tensor) {l->a->pages, AXIS_NONE, 1, {1}};
}

static void
finish_heads(step_list *l, const transformer_layer *t, int32_t layer)
{
	const transformer_config *c = l->config;
	llmapp_cuda_step *s = add_step(l, "page_heads", AXIS_TOKEN);

	describe_heads(l, &s->attr);
	s->attr.number = c->norm_epsilon;
	s->in[0] = s->out[0] = rows_of(l, l->a->qkv, AXIS_TOKEN, qkv_width(c));
	s->in[1] = parameter_of(l, t->q_norm);
	s->in[2] = parameter_of(l, t->k_norm);
	if (c->rotary)
		s->in[3] = (llmapp_cuda_tensor) {l->a->angles, AXIS_NONE, 2, {c->context, transformer_rotary(c, false).dim}};
	describe_pages(l, s, 4);
	s->out[1] = pages_of(l, l->a->keys, layer);
	s->out[2] = pages_of(l, l->a->values, layer);
}

/* What tokens make of each other, into attended. */
static void
self_attention(step_list *l, const transformer_stack *stack, int32_t layer)
{
	const transformer_config *c = l->config;
	const transformer_layer *t = &stack->layers[layer];
	llmapp_cuda_step *s;

	add_linear(l, norm_before(l, t->attn_norm), AXIS_TOKEN, t->qkv, l->a->qkv, false);
	finish_heads(l, t, layer);
	s = add_step(l, "page_attention", AXIS_TOKEN);
	describe_heads(l, &s->attr);
	s->in[0] = rows_of(l, l->a->qkv, AXIS_TOKEN, qkv_width(c));
	s->in[1] = pages_of(l, l->a->keys, layer);
	s->in[2] = pages_of(l, l->a->values, layer);
	describe_pages(l, s, 3);
	s->in[6] = parameter_of(l, stack->relative);
	s->out[0] = rows_of(l, l->a->attended, AXIS_TOKEN, (int64_t) c->heads * c->head_dim);
}

static void
feed_forward(step_list *l, const transformer_layer *t)
{
	const transformer_config *c = l->config;
	llmapp_cuda_step *s;

	add_linear(l, norm_before(l, t->ffn_norm), AXIS_TOKEN, t->up, l->a->up, false);
	s = add_step(l, c->gated ? "glu" : "act", AXIS_TOKEN);
	s->attr.act = c->activation;
	s->in[0] = rows_of(l, l->a->up, AXIS_TOKEN, (c->gated ? 2 : 1) * (int64_t) c->ffn);
	s->out[0] = rows_of(l, l->a->gated, AXIS_TOKEN, c->ffn);
	add_to_stream(l, l->a->gated, t->down, t->ffn_norm);
}

/* Of parallel halves the second must read the stream before the first is added to it. */
static void
add_layer(step_list *l, const transformer_stack *stack, int32_t layer)
{
	const transformer_layer *t = &stack->layers[layer];

	self_attention(l, stack, layer);
	if (l->config->parallel)
		feed_forward(l, t);
	add_to_stream(l, l->a->attended, t->out, t->attn_norm);
	if (!l->config->parallel)
		feed_forward(l, t);
}

/* Logits of the rows that are wanted. */
static void
add_head(step_list *l, const transformer_tensors *t)
{
	const transformer_config *c = l->config;
	llmapp_cuda_step *s = add_step(l, "gather_rows", AXIS_ROW);

	s->in[0] = rows_of(l, l->a->stream, AXIS_TOKEN, c->width);
	s->in[1] = rows_of(l, l->a->wanted, AXIS_ROW, 0);
	s->out[0] = rows_of(l, l->a->last, AXIS_ROW, c->width);
	if (!c->post_norm)
		add_norm(l, l->a->last, AXIS_ROW, t->stack.norm, l->a->normed);
	add_linear(l, c->post_norm ? l->a->last : l->a->normed, AXIS_ROW, (int32_t[]) {t->head, t->head_bias},
			   l->a->logits, false);
	if (c->head_scale)
	{
		s = add_step(l, "scale", AXIS_ROW);
		s->attr.number = 1 / sqrtf((float) c->width);
		s->in[0] = s->out[0] = rows_of(l, l->a->logits, AXIS_ROW, c->vocab);
	}
}

llmapp_cuda_step *
decoder_steps(const llmapp_cuda_api *api, const net *n, const decoder_shape *shape, const decoder_arrays *a,
			  int32_t *count, llm_error *err)
{
	const transformer_config *c = &n->config.text;
	transformer_tensors *t = malloc(sizeof(transformer_tensors));
	step_list l = {.api = api, .n = n, .config = c, .shape = shape, .a = a};

	l.steps = calloc(STEPS_BESIDE + STEPS_OF_LAYER * (size_t) c->depth, sizeof(llmapp_cuda_step));
	if (t && l.steps)
	{
		transformer_tensors_of(c, t);
		add_embed(&l, t);
		if (c->post_norm)
			add_norm(&l, a->stream, AXIS_TOKEN, t->stack.norm, a->stream);
		for (int32_t i = 0; i < c->depth; i++)
			add_layer(&l, &t->stack, i);
		add_head(&l, t);
	}
	if (!t || !l.steps)
		llm_fail(err, LLM_MEMORY, "out of memory");
	else if (l.missing)
		llm_fail(err, LLM_UNAVAILABLE, "the GPU backend has no operation %s", l.missing);
	if (!t || l.missing)
	{
		free(l.steps);
		l.steps = NULL;
	}
	free(t);
	*count = l.count;
	return l.steps;
}
