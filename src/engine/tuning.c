/*
 * tuning.c
 *	  Which tensors of a network are trained.
 *
 * Tensors are known by their names, so that this holds for every family of transformers.
 */
#include "tuning.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net_record.h"

static bool
begins_with(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* What stands behind the last layer; embeddings, which may have a norm there, stay as they are. */
static bool
is_behind_layers(const char *name)
{
	return begins_with(name, "norm.") || begins_with(name, "head.") || begins_with(name, "output.");
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

static bool
check_tuning(const net *n, const train_config *c, llm_error *err)
{
	int32_t depth = n->config.text.vocab > 0 ? n->config.text.depth : 0;

	if (c->train_layers != 0 && depth == 0)
		return llm_fail(err, LLM_INVALID, "only a transformer is trained in part");
	if (c->train_layers < 0 || c->train_layers > depth)
		return llm_fail(err, LLM_INVALID, "train_layers %d is not between 0 and the network's %d layers",
						c->train_layers, depth);
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
	if (config->train_layers > 0)
		t->first = first_of_layer(n, n->config.text.depth - config->train_layers);
	return t;
}

void
tuning_free(net_tuning *t)
{
	free(t);
}

bool
tuning_trains(const net_tuning *t, int32_t tensor)
{
	const char *name = t->n->tensors[tensor].name;

	return t->first == 0 || (tensor >= t->first && (strstr(name, "layers.") || is_behind_layers(name)));
}

size_t
tuning_begin(const net_tuning *t)
{
	return t->first < t->n->tensor_count ? t->n->tensors[t->first].offset : t->n->weight_floats;
}

size_t
tuning_end(const net_tuning *t)
{
	return t->n->weight_floats;
}
