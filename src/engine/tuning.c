/*
 * tuning.c
 *	  Which tensors of a network are trained, and adapters beside them.
 *
 * Tensors are known by their names, so that this holds for every family of transformers.
 */
#include "tuning.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net_record.h"

struct net_tuning
{
	const net *n;
	int32_t first;    /* tensors before are frozen */
	net *adapters;    /* a directory of tensors, nothing else; NULL: there are none */
	int32_t *adapted; /* (adapters) tensor of the network */
	float scale;      /* lora_scale() */
};

static const struct
{
	uint32_t target;
	const char *name; /* end of the names of weights */
} targets[] = {
	{LORA_QKV, ".attn.qkv.weight"},
	{LORA_OUT, ".attn.out.weight"},
	{LORA_UP, ".ffn.up.weight"},
	{LORA_DOWN, ".ffn.down.weight"},
};

static bool
begins_with(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool
ends_with(const char *name, const char *suffix)
{
	size_t length = strlen(name), end = strlen(suffix);

	return length >= end && strcmp(name + length - end, suffix) == 0;
}

/* ---- which tensors ---- */

/* What stands behind the last layer; embeddings, which may have a norm there, stay as they are. */
static bool
is_behind_layers(const char *name)
{
	return begins_with(name, "norm.") || begins_with(name, "head.") || begins_with(name, "dense.") ||
		   begins_with(name, "output.");
}

/* The first tensor of layer i; where there are several stacks of layers, of the last one. */
static int32_t
first_of_layer(const net *n, int32_t i)
{
	char part[32];
	int32_t first = n->tensor_count;

	snprintf(part, sizeof(part), "layers.%d.", i);
	while (first > 0 && !strstr(n->tensors[first - 1].name, part))
		first--;
	while (first > 0 && strstr(n->tensors[first - 1].name, part))
		first--;
	return first;
}

/* Of the layer that makes a row's outputs; all tensors when there is none. */
static int32_t
first_of_output(const net *n)
{
	int32_t first = n->tensor_count;

	while (first > 0 && begins_with(n->tensors[first - 1].name, "output."))
		first--;
	return first;
}

static bool
is_target(const char *name, uint32_t wanted)
{
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
		if ((wanted & targets[i].target) && ends_with(name, targets[i].name))
			return true;
	return false;
}

float
lora_scale(float alpha, int32_t rank)
{
	return alpha / rank;
}

/* ---- construction ---- */

static bool
check_tuning(const net *n, const train_config *c, llm_error *err)
{
	int32_t depth = n->config.text.vocab > 0 ? n->config.text.depth : 0;

	if ((c->train_layers != 0 || c->lora_rank != 0) && depth == 0)
		return llm_fail(err, LLM_INVALID, "only a transformer is trained in part or by adapters");
	if (c->train_layers < 0 || c->train_layers > depth)
		return llm_fail(err, LLM_INVALID, "train_layers %d is not between 0 and the network's %d layers",
						c->train_layers, depth);
	if (c->lora_rank == 0)
		return true;
	if (c->train_layers > 0)
		return llm_fail(err, LLM_INVALID, "train_layers and lora_rank exclude each other");
	if (c->lora_rank < 0 || c->lora_rank > LORA_RANK_MAX)
		return llm_fail(err, LLM_INVALID, "lora_rank %d is not between 0 and %d", c->lora_rank, LORA_RANK_MAX);
	if (!(c->lora_alpha > 0 && isfinite(c->lora_alpha)))
		return llm_fail(err, LLM_INVALID, "lora_alpha must be positive");
	if (c->lora_targets == 0 || (c->lora_targets & ~(uint32_t) LORA_ALL) != 0)
		return llm_fail(err, LLM_INVALID, "lora_targets names no layers, or unknown ones");
	return true;
}

/*
 * A and B, by the names that PEFT gives them.  A has the variance of PEFT's, whatever the rank: that
 * of Kaiming's initialisation with a = sqrt(5).
 */
static bool
add_adapter(net_tuning *t, int32_t weight, int32_t rank, llm_error *err)
{
	const net_tensor_info *w = &t->n->tensors[weight];
	int length = (int) (strlen(w->name) - strlen("weight"));
	int64_t a[2] = {rank, w->dims[1]}, b[2] = {w->dims[0], rank};
	char name[2][sizeof(w->name) + 8];

	for (int i = 0; i < 2; i++)
		snprintf(name[i], sizeof(name[i]), "%.*slora_%c.weight", length, w->name, "AB"[i]);
	t->adapted[t->adapters->tensor_count / 2] = weight;
	return net_add_tensor(t->adapters, name[0], 2, a, 1 / sqrtf(3.0f * w->dims[1]), 0, err) &&
		   net_add_tensor(t->adapters, name[1], 2, b, 0, 0, err);
}

static bool
add_adapters(net_tuning *t, const train_config *c, llm_error *err)
{
	t->scale = lora_scale(c->lora_alpha, c->lora_rank);
	t->adapters = calloc(1, sizeof(net));
	t->adapted = malloc(t->n->tensor_count * sizeof(int32_t));
	if (!t->adapters || !t->adapted)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	for (int32_t i = 0; i < t->n->tensor_count; i++)
		if (is_target(t->n->tensors[i].name, c->lora_targets) && !add_adapter(t, i, c->lora_rank, err))
			return false;
	return true;
}

net_tuning *
tuning_new(const net *n, const train_config *config, llm_error *err)
{
	net_tuning *t;

	if (!check_tuning(n, config, err))
		return NULL;
	t = calloc(1, sizeof(net_tuning));
	if (!t)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	t->n = n;
	if (config->lora_rank > 0)
		t->first = first_of_output(n);
	else if (config->train_layers > 0)
		t->first = first_of_layer(n, n->config.text.depth - config->train_layers);
	if (config->lora_rank > 0 && !add_adapters(t, config, err))
	{
		tuning_free(t);
		return NULL;
	}
	return t;
}

void
tuning_free(net_tuning *t)
{
	if (!t)
		return;
	net_free(t->adapters);
	free(t->adapted);
	free(t);
}

size_t
tuning_begin(const net_tuning *t)
{
	return t->first < t->n->tensor_count ? t->n->tensors[t->first].offset : t->n->weight_floats;
}

size_t
tuning_end(const net_tuning *t)
{
	return t->n->weight_floats + (t->adapters ? t->adapters->weight_floats : 0);
}

const net *
tuning_adapters(const net_tuning *t)
{
	return t->adapters;
}

/* ---- recording ---- */

bool
tuning_trains(const net_tuning *t, int32_t tensor)
{
	const char *name = t->n->tensors[tensor].name;

	return t->first == 0 || (tensor >= t->first && (strstr(name, "layers.") || is_behind_layers(name)));
}

int32_t
tuning_slots(const net_tuning *t)
{
	return t->n->tensor_count + (t->adapters ? t->adapters->tensor_count : 0);
}

size_t
tuning_offset(const net_tuning *t, int32_t slot)
{
	int32_t own = t->n->tensor_count;

	return slot < own ? t->n->tensors[slot].offset : t->n->weight_floats + t->adapters->tensors[slot - own].offset;
}

static int32_t
record_param(const net_tuning *t, graph *g, int32_t number)
{
	const net_tensor_info *info = &t->adapters->tensors[number];

	return graph_param(g, t->n->tensor_count + number, info->ndim, info->dims);
}

int32_t
tuning_record(const net_tuning *t, graph *g, int32_t weight, int32_t x, int32_t y)
{
	for (int32_t i = 0; t->adapters && i < t->adapters->tensor_count / 2; i++)
		if (t->adapted[i] == weight)
		{
			int32_t a = record_param(t, g, 2 * i);
			int32_t b = record_param(t, g, 2 * i + 1);
			int32_t low = op_scale(g, op_linear(g, x, a, TENSOR_NONE), t->scale);

			return op_add(g, y, op_linear(g, low, b, TENSOR_NONE));
		}
	return y;
}

/* ---- values ---- */

bool
tuning_initialise(const net_tuning *t, uint64_t seed, float *adapters, pool *p, llm_poll poll, void *poll_arg)
{
	/* other numbers than those the network may have started with */
	return !t->adapters || net_initialise(t->adapters, ~seed, adapters, p, poll, poll_arg);
}

void
tuning_clear(const net_tuning *t, float *adapters)
{
	for (int32_t i = 1; t->adapters && i < t->adapters->tensor_count; i += 2)
		memset(adapters + t->adapters->tensors[i].offset, 0, t->adapters->tensors[i].count * sizeof(float));
}

void
lora_add(const simd_kernels *simd, const float *x, float scale, const float *b, int64_t rank, const float *a,
		 int64_t inputs, float *y, int64_t n)
{
	float scaled[LORA_RANK_MAX];

	simd->scale(scale, b, scaled, rank);
	simd->add_low_rank(x, scaled, rank, a, inputs, y, n);
}

#define MERGE_ROWS 16 /* in a tile */

typedef struct merge_args
{
	const float *a, *b; /* (rank, inputs), (outputs, rank) */
	float *w;           /* (outputs, inputs) */
	int64_t rank, inputs, outputs;
	float scale;
	const simd_kernels *simd;
} merge_args;

/* Some rows of W. */
static void
merge_tile(void *arg, int64_t tile)
{
	const merge_args *m = arg;

	for (int64_t row = tile * MERGE_ROWS; row < (tile + 1) * MERGE_ROWS && row < m->outputs; row++)
	{
		float *w = m->w + row * m->inputs;

		lora_add(m->simd, w, m->scale, m->b + row * m->rank, m->rank, m->a, m->inputs, w, m->inputs);
	}
}

void
tuning_merge(const net_tuning *t, const float *adapters, float *weights, const simd_kernels *simd, pool *p)
{
	for (int32_t i = 0; t->adapters && i < t->adapters->tensor_count / 2; i++)
	{
		const net_tensor_info *a = &t->adapters->tensors[2 * i], *b = a + 1;
		merge_args m = {adapters + a->offset,
						adapters + b->offset,
						weights + t->n->tensors[t->adapted[i]].offset,
						a->dims[0],
						a->dims[1],
						b->dims[0],
						t->scale,
						simd};

		pool_run(p, merge_tile, &m, (m.outputs + MERGE_ROWS - 1) / MERGE_ROWS, NULL, NULL);
	}
}
