/*
 * transformer.c
 *	  Transformers: families, checks, layout of parameters.
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
#define MAX_BUCKETS 1024
#define MAX_TYPES 64

/*
 * Deviation of initial weights, as GPT-2, Llama and BERT have it; what is added to a stream without norms starts
 * smaller by the root of its terms.
 */
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
	{"bert",
	 {.norm_epsilon = 1e-12f,
	  .activation = ACT_GELU,
	  .bias = true,
	  .qkv_bias = true,
	  .tied = true,
	  .bidirectional = true,
	  .post_norm = true,
	  .head_transform = true}},
	{"t5",
	 {.norm_epsilon = 1e-6f,
	  .activation = ACT_RELU,
	  .buckets = 32,
	  .distance = 128,
	  .rms_norm = true,
	  .tied = true,
	  .head_scale = true}},
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

static bool
check_rotary(const transformer_config *c, llm_error *err)
{
	if (!c->rotary)
		return true;
	if (c->head_dim % 2 != 0 && c->rotary_dim == 0)
		return llm_fail(err, LLM_INVALID, "rotary positions need heads of even width, not %d", c->head_dim);
	if (c->rotary_dim < 0 || c->rotary_dim > c->head_dim || c->rotary_dim % 2 != 0)
		return llm_fail(err, LLM_INVALID, "rotary_dim %d is not even and between 0 and head_dim %d", c->rotary_dim,
						c->head_dim);
	if (!(c->rope_theta > 1 && c->rope_theta <= 1e9f))
		return llm_fail(err, LLM_INVALID, "rope_theta is not between 1 and 1e9");
	if (!(c->rope_attention >= 0 && c->rope_attention <= 100) ||
		(c->rope_yarn && (c->rope_factor == 0 || c->rope_low == 0)))
		return llm_fail(err, LLM_INVALID, "rope_attention or rope_yarn is out of range");
	if (c->rope_factor == 0)
		return true;
	return (c->rope_factor >= 1 && c->rope_factor <= 1e6f &&
			(c->rope_low == 0 || (c->rope_low > 0 && c->rope_high > c->rope_low && c->rope_high <= 1e6f &&
								  c->rope_context > 0 && c->rope_context <= MAX_CONTEXT))) ||
		   llm_fail(err, LLM_INVALID, "rope_factor, rope_low, rope_high or rope_context is out of range");
}

/* Types of tokens, and heads in place of that of a language model. */
static bool
check_kinds(const transformer_config *c, llm_error *err)
{
	if (!check_size("types", c->types, 0, MAX_TYPES, err) || !check_size("labels", c->labels, 0, MAX_WIDTH, err) ||
		!check_size("separator", c->separator, 0, c->vocab - 1, err))
		return false;
	if (c->types > 0 && (!c->bidirectional || c->encoder_depth > 0))
		return llm_fail(err, LLM_INVALID, "only a bidirectional network has types of tokens");
	if (c->labels > 0 && (c->tied || c->head_transform || c->head_scale || c->headless || c->encoder_depth > 0))
		return llm_fail(err, LLM_INVALID, "a head for labels of tokens is a linear layer of its own");
	if (c->parallel && (c->post_norm || c->encoder_depth > 0))
		return llm_fail(err, LLM_INVALID, "only a decoder with norms before its layers has parallel layers");
	return true;
}

static bool
check_window(const transformer_config *c, llm_error *err)
{
	if (c->window < 0 || (c->window > 0 && (c->bidirectional || c->encoder_depth > 0)))
		return llm_fail(err, LLM_INVALID, "a window of attention is one of a decoder alone");
	if (c->window == 0 && (c->window_period != 0 || c->window_theta != 0))
		return llm_fail(err, LLM_INVALID, "without a window no layers have one");
	if (c->window_theta != 0 && !(c->rotary && c->window_theta > 1 && c->window_theta <= 1e9f))
		return llm_fail(err, LLM_INVALID, "window_theta is not between 1 and 1e9");
	return check_size("window_period", c->window_period, 0, MAX_CONTEXT, err);
}

static bool
check_caps(const transformer_config *c, llm_error *err)
{
	if (!(c->score_cap >= 0 && c->score_cap <= 1e6f && c->logit_cap >= 0 && c->logit_cap <= 1e6f) ||
		(c->score_cap != 0 && c->score_cap < 1e-3f) || (c->logit_cap != 0 && c->logit_cap < 1e-3f))
		return llm_fail(err, LLM_INVALID, "score_cap or logit_cap is not between 0.001 and 1e6");
	if (c->buckets > 0 && (c->score_cap > 0 || c->query_dim != 0))
		return llm_fail(err, LLM_INVALID, "scores with relative positions have neither a cap nor a scale");
	if (c->added_norm && (c->post_norm || c->encoder_depth > 0))
		return llm_fail(err, LLM_INVALID, "only a decoder with norms before its layers has norms of what they add");
	return check_size("query_dim", c->query_dim, 0, MAX_WIDTH, err);
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
		!check_size("encoder_layers", c->encoder_depth, 0, TRANSFORMER_MAX_DEPTH, err) ||
		!check_size("source_context", c->source_context, c->encoder_depth > 0, c->encoder_depth > 0 ? MAX_CONTEXT : 0,
					err) ||
		!check_size("heads", c->heads, 1, MAX_WIDTH, err) || !check_size("kv_heads", c->kv_heads, 1, c->heads, err) ||
		!check_size("head_dim", c->head_dim, 1, ATTENTION_MAX_DIM, err) ||
		!check_size("ffn_dim", c->ffn, 1, 4 * MAX_WIDTH, err))
		return false;
	if (c->heads % c->kv_heads != 0)
		return llm_fail(err, LLM_INVALID, "kv_heads %d does not divide heads %d", c->kv_heads, c->heads);
	if (!check_rotary(c, err) || !check_kinds(c, err))
		return false;
	if ((unsigned) c->activation > ACT_SIGMOID || !(c->norm_epsilon > 0 && c->norm_epsilon < 1) ||
		!(c->dropout >= 0 && c->dropout < 1))
		return llm_fail(err, LLM_INVALID, "activation, norm_epsilon or dropout is out of range");
	if (c->buckets != 0 && (c->rotary || c->buckets < 4 || c->buckets > MAX_BUCKETS || c->buckets % 2 != 0 ||
							c->distance <= c->buckets / 2 || c->distance > MAX_CONTEXT))
		return llm_fail(err, LLM_INVALID, "relative positions have no %d buckets up to distance %d", c->buckets,
						c->distance);
	if (c->encoder_depth > 0 && c->buckets == 0)
		return llm_fail(err, LLM_INVALID, "an encoder before a decoder needs relative positions");
	if (!check_window(c, err) || !check_caps(c, err))
		return false;
	if (c->head_transform && !c->bidirectional)
		return llm_fail(err, LLM_INVALID, "only a bidirectional network has a head for masked tokens");
	if (s->vocab != c->vocab || s->context != c->context || s->source_context != c->source_context ||
		s->labels != c->labels || config->members > 1 || c->headless == s->token_target ||
		(unsigned) config->pool > POOL_LAST)
		return llm_fail(err, LLM_INVALID, "a transformer reads other tokens than its rows have");
	return true;
}

/* ---- parameters ---- */

#define ONE(condition) ((condition) ? (*next)++ : TENSOR_NONE)

/* A weight and a bias, where they are there. */
static void
pair(int32_t numbers[2], bool exists, bool bias, int32_t *next)
{
	numbers[0] = ONE(exists);
	numbers[1] = ONE(exists && bias);
}

static void
layer_of(const transformer_config *c, bool cross, transformer_layer *l, int32_t *next)
{
	pair(l->attn_norm, true, c->bias, next);
	pair(l->qkv, true, c->qkv_bias, next);
	l->q_norm = ONE(c->qk_norm);
	l->k_norm = ONE(c->qk_norm);
	pair(l->out, true, c->bias, next);
	pair(l->attn_added, c->added_norm, c->bias, next);
	pair(l->cross_norm, cross, c->bias, next);
	pair(l->cross_q, cross, c->qkv_bias, next);
	pair(l->cross_kv, cross, c->qkv_bias, next);
	pair(l->cross_out, cross, c->bias, next);
	pair(l->ffn_norm, true, c->bias, next);
	pair(l->up, true, c->bias, next);
	pair(l->down, true, c->bias, next);
	pair(l->ffn_added, c->added_norm, c->bias, next);
}

static void
stack_of(const transformer_config *c, int32_t depth, bool cross, transformer_stack *s, int32_t *next)
{
	s->depth = depth;
	for (int32_t i = 0; i < depth; i++)
		layer_of(c, cross, &s->layers[i], next);
	pair(s->norm, depth > 0, c->bias, next);
	s->relative = ONE(depth > 0 && c->buckets > 0);
}

void
transformer_tensors_of(const transformer_config *c, transformer_tensors *t)
{
	bool transform = c->head_transform && !c->headless;
	int32_t count = 0, *next = &count;

	t->embed = ONE(true);
	t->position = ONE(!c->rotary && c->buckets == 0);
	t->types = ONE(c->types > 0);
	stack_of(c, c->encoder_depth, false, &t->encoder, next);
	stack_of(c, c->depth, c->encoder_depth > 0, &t->stack, next);
	t->head = c->tied && !c->headless ? t->embed : ONE(!c->headless);
	pair(t->transform, transform, c->bias, next);
	pair(t->transform_norm, transform, c->bias, next);
	t->head_bias = ONE(transform || c->labels > 0);
}

#undef ONE

/* The network that tensors are added to, and the part that their names begin with. */
typedef struct layout
{
	net *n;
	char prefix[32];
	llm_error *err;
} layout;

static bool
add_tensor(layout *l, const char *name, const char *kind, int32_t ndim, const int64_t *dims, float deviation,
		   float constant)
{
	char full[sizeof(((net_tensor_info *) 0)->name)];

	snprintf(full, sizeof(full), "%s%s.%s", l->prefix, name, kind);
	return net_add_tensor(l->n, full, ndim, dims, deviation, constant, l->err);
}

/* Weights (rows, columns) and a bias (rows), where they are there. */
static bool
add_linear(layout *l, const char *name, const int32_t numbers[2], int64_t rows, int64_t columns, float deviation)
{
	int64_t dims[2] = {rows, columns};

	return (numbers[0] == TENSOR_NONE || add_tensor(l, name, "weight", 2, dims, deviation, 0)) &&
		   (numbers[1] == TENSOR_NONE || add_tensor(l, name, "bias", 1, dims, 0, 0));
}

static bool
add_norm(layout *l, const char *name, const int32_t numbers[2], int64_t size)
{
	return (numbers[0] == TENSOR_NONE || add_tensor(l, name, "weight", 1, &size, 0, 1)) &&
		   (numbers[1] == TENSOR_NONE || add_tensor(l, name, "bias", 1, &size, 0, 0));
}

/*
 * Deviation of a layer's weights.  T5 has it from the number of inputs, for stream and scores that are
 * not scaled; so has BERT, because behind a norm what a narrow layer with GPT-2's deviation adds is too
 * little to learn from.
 */
static float
deviation_of(const transformer_config *c, int64_t inputs)
{
	float scaled = 1 / sqrtf((float) inputs);

	return c->buckets > 0 || c->post_norm ? fmaxf(scaled, INITIAL_DEVIATION) : INITIAL_DEVIATION;
}

/* Of what is added to the stream. */
static float
added_deviation(const transformer_config *c, int64_t inputs)
{
	return deviation_of(c, inputs) / (c->buckets > 0 || c->post_norm ? 1 : sqrtf(2.0f * c->depth));
}

/* Of layers that make queries: scores are sums over head_dim products, which both sides or one side make smaller. */
static float
query_deviation(const transformer_config *c, bool both)
{
	return deviation_of(c, c->width) / (c->buckets == 0 ? 1 : powf((float) c->head_dim, both ? 0.25f : 0.5f));
}

static bool
add_cross_attention(layout *l, const transformer_layer *t)
{
	const transformer_config *c = &l->n->config.text;
	int64_t q = (int64_t) c->heads * c->head_dim, kv = (int64_t) c->kv_heads * c->head_dim;

	return add_norm(l, "cross.norm", t->cross_norm, c->width) &&
		   add_linear(l, "cross.q", t->cross_q, q, c->width, query_deviation(c, false)) &&
		   add_linear(l, "cross.kv", t->cross_kv, 2 * kv, c->width, deviation_of(c, c->width)) &&
		   add_linear(l, "cross.out", t->cross_out, c->width, q, added_deviation(c, q));
}

static bool
add_layer(layout *l, const transformer_layer *t)
{
	const transformer_config *c = &l->n->config.text;
	int64_t q = (int64_t) c->heads * c->head_dim, kv = (int64_t) c->kv_heads * c->head_dim;
	int64_t up = (c->gated ? 2 : 1) * (int64_t) c->ffn;

	return add_norm(l, "attn.norm", t->attn_norm, c->width) &&
		   add_linear(l, "attn.qkv", t->qkv, q + 2 * kv, c->width, query_deviation(c, true)) &&
		   add_norm(l, "attn.q_norm", (int32_t[]) {t->q_norm, TENSOR_NONE}, c->head_dim) &&
		   add_norm(l, "attn.k_norm", (int32_t[]) {t->k_norm, TENSOR_NONE}, c->head_dim) &&
		   add_linear(l, "attn.out", t->out, c->width, q, added_deviation(c, q)) &&
		   add_norm(l, "attn.added_norm", t->attn_added, c->width) && add_cross_attention(l, t) &&
		   add_norm(l, "ffn.norm", t->ffn_norm, c->width) &&
		   add_linear(l, "ffn.up", t->up, up, c->width, deviation_of(c, c->width)) &&
		   add_linear(l, "ffn.down", t->down, c->width, c->ffn, added_deviation(c, c->ffn)) &&
		   add_norm(l, "ffn.added_norm", t->ffn_added, c->width);
}

/* name: "" or with a dot at its end */
static bool
add_stack(layout *l, const char *name, const transformer_stack *s)
{
	const transformer_config *c = &l->n->config.text;

	for (int32_t i = 0; i < s->depth; i++)
	{
		snprintf(l->prefix, sizeof(l->prefix), "%slayers.%d.", name, i);
		if (!add_layer(l, &s->layers[i]))
			return false;
	}
	snprintf(l->prefix, sizeof(l->prefix), "%s", name);
	return add_norm(l, c->post_norm ? "embed.norm" : "norm", s->norm, c->width) &&
		   (s->relative == TENSOR_NONE ||
			add_tensor(l, "relative", "weight", 2, (int64_t[]) {c->buckets, c->heads}, deviation_of(c, c->width), 0));
}

static bool
add_head(layout *l, const transformer_tensors *t)
{
	const transformer_config *c = &l->n->config.text;
	int64_t table[2] = {transformer_outputs(c), c->width};

	return (c->tied || c->headless || add_tensor(l, "head", "weight", 2, table, deviation_of(c, c->width), 0)) &&
		   add_linear(l, "head.transform", t->transform, c->width, c->width, deviation_of(c, c->width)) &&
		   add_norm(l, "head.norm", t->transform_norm, c->width) &&
		   (t->head_bias == TENSOR_NONE || add_tensor(l, "head", "bias", 1, table, 0, 0));
}

bool
transformer_layout(net *n, llm_error *err)
{
	const transformer_config *c = &n->config.text;
	int64_t table[2] = {c->vocab, c->width}, positions[2] = {c->context, c->width}, types[2] = {c->types, c->width};
	layout l = {.n = n, .err = err};
	transformer_tensors t;

	transformer_tensors_of(c, &t);
	return add_tensor(&l, "embed", "weight", 2, table, c->buckets > 0 ? 1 : INITIAL_DEVIATION, 0) &&
		   (t.position == TENSOR_NONE || add_tensor(&l, "position", "weight", 2, positions, INITIAL_DEVIATION, 0)) &&
		   (t.types == TENSOR_NONE || add_tensor(&l, "types", "weight", 2, types, INITIAL_DEVIATION, 0)) &&
		   add_stack(&l, "encoder.", &t.encoder) && add_stack(&l, "", &t.stack) && add_head(&l, &t);
}

/* ---- heads ---- */

attention_shape
transformer_attention(const transformer_config *c, bool window)
{
	int32_t dim = c->query_dim > 0 ? c->query_dim : c->head_dim;

	return (attention_shape) {.heads = c->heads,
							  .kv_heads = c->kv_heads,
							  .head_dim = c->head_dim,
							  .causal = !c->bidirectional,
							  .scale = c->buckets > 0 ? 1 : 1 / sqrtf((float) dim),
							  .buckets = c->buckets,
							  .distance = c->distance,
							  .window = window ? c->window : 0,
							  .cap = c->score_cap};
}

rotary_shape
transformer_rotary(const transformer_config *c, bool window)
{
	int32_t dim = c->rotary_dim > 0 ? c->rotary_dim : c->head_dim;

	if (window && c->window_theta > 0)
		return (rotary_shape) {.dim = dim, .theta = c->window_theta};
	return (rotary_shape) {.dim = dim,
						   .theta = c->rope_theta,
						   .factor = c->rope_factor,
						   .low = c->rope_low,
						   .high = c->rope_high,
						   .context = c->rope_context,
						   .yarn = c->rope_yarn,
						   .whole = c->rope_whole,
						   .attention = c->rope_attention};
}

/* ---- devices ---- */

const char *
transformer_beyond_gpu(const transformer_config *c)
{
	return c->window > 0                          ? "attention with a window"
		   : c->score_cap > 0 || c->logit_cap > 0 ? "caps of scores or logits"
		   : c->added_norm                        ? "norms of what layers add"
												  : NULL;
}
