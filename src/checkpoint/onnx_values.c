/*
 * onnx_values.c
 *	  What the nodes of an ONNX graph read and make, by name.
 */
#include "onnx_values.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../engine/net.h"

bool
node_fail(translator *t, const char *format, ...)
{
	char why[160];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	return llm_fail(t->err, LLM_INVALID, "node \"%s\" (%s) %s",
					SHOWN(json_string_value(json_object_get(t->node, "name"))),
					SHOWN(json_string_value(json_object_get(t->node, "op"))), why);
}

/* ---- names ---- */

static const char *
name_at(const json_t *node, const char *key, int i)
{
	const char *name = json_string_value(json_array_get(json_object_get(node, key), i));

	return name != NULL && name[0] != '\0' ? name : NULL;
}

const char *
node_input(const translator *t, int i)
{
	return name_at(t->node, "inputs", i);
}

const char *
node_output(const translator *t, int i)
{
	return name_at(t->node, "outputs", i);
}

int32_t
count_readers(const translator *t, const char *name)
{
	return (int32_t) json_integer_value(json_object_get(t->readers, name));
}

const json_t *
only_reader(const translator *t, const char *name)
{
	size_t i, k;
	json_t *node, *input;

	if (count_readers(t, name) != 1)
		return NULL;
	json_array_foreach(json_object_get(t->graph, "nodes"), i, node)
	{
		json_array_foreach(json_object_get(node, "inputs"), k, input)
			if (strcmp(json_string_value(input), name) == 0)
				return node;
	}
	return NULL;
}

/* ---- values ---- */

/* NULL: the file has no tensor of this name. */
static const source_tensor *
find_constant(const translator *t, const char *name)
{
	const json_t *alias = json_object_get(t->aliases, name);

	return tensor_source_find(t->source, alias ? json_string_value(alias) : name);
}

made *
find_made(const translator *t, int i)
{
	const char *name = node_input(t, i);
	const json_t *number = name ? json_object_get(t->numbers, name) : NULL;

	return number ? &t->values[json_integer_value(number)] : NULL;
}

/* The input is there, and something is known of it. */
static bool
require_input(translator *t, int i)
{
	const char *name = node_input(t, i);

	if (name == NULL)
		return NODE_FAIL(t, "has no input number %d", i + 1);
	return find_made(t, i) != NULL || find_constant(t, name) != NULL ||
		   NODE_FAIL(t, "reads \"%s\", which no initializer is and no node before it makes", SHOWN(name));
}

made *
take_rows(translator *t, int i)
{
	made *v = find_made(t, i);

	if (!require_input(t, i))
		return NULL;
	if (v != NULL && v->kind == MADE_ROWS)
		return v;
	if (v != NULL && v->kind == MADE_CLASSES)
		NODE_FAIL(t, "reads probabilities \"%s\", with which the graph has to end", SHOWN(node_input(t, i)));
	else if (v != NULL && v->kind == MADE_GROUPED)
		NODE_FAIL(t, "reads \"%s\", an image in another shape, of which only a norm by group is known",
				  SHOWN(node_input(t, i)));
	else
		NODE_FAIL(t, "reads \"%s\", which is not computed from the input of the graph", SHOWN(node_input(t, i)));
	return NULL;
}

/* Output 0 is the first value of its name; NULL: it is not. */
static const char *
new_output(translator *t)
{
	const char *name = node_output(t, 0);

	if (name == NULL)
		NODE_FAIL(t, "makes no output");
	else if (json_object_get(t->numbers, name) != NULL || find_constant(t, name) != NULL)
		NODE_FAIL(t, "makes \"%s\", which is there already", SHOWN(name));
	else
		return name;
	return NULL;
}

bool
put_made(translator *t, const made *v)
{
	const char *name = new_output(t);

	if (name == NULL)
		return false;
	t->values[t->value_count] = *v;
	json_object_set_new(t->numbers, name, json_integer(t->value_count++));
	return true;
}

bool
put_alias(translator *t, made v)
{
	v.fresh = v.fresh && count_readers(t, node_input(t, 0)) == 1;
	return put_made(t, &v);
}

int64_t
made_count(const made *v)
{
	int64_t count = 1;

	for (int32_t i = 0; i < v->ndim; i++)
		count *= v->dims[i];
	return count;
}

bool
made_image(const made *v)
{
	return v->ndim == 3 && !v->vector;
}

/* ---- constants ---- */

bool
is_constant(const translator *t, int i)
{
	const char *name = node_input(t, i);

	return name != NULL && find_made(t, i) == NULL && find_constant(t, name) != NULL;
}

bool
take_constant(translator *t, int i, bool optional, const source_tensor **out)
{
	*out = NULL;
	if (optional && node_input(t, i) == NULL)
		return true;
	if (!require_input(t, i))
		return false;
	if (!is_constant(t, i))
		return NODE_FAIL(t, "reads \"%s\" where an initializer has to be", SHOWN(node_input(t, i)));
	*out = find_constant(t, node_input(t, i));
	if ((*out)->type == SOURCE_OTHER)
		return NODE_FAIL(t, "reads tensor %s, which is of a type that is not read", SOURCE_TEXT(*out));
	t->used[*out - t->source->tensors] = true;
	return true;
}

bool
put_constant(translator *t)
{
	const char *name = new_output(t);

	if (name != NULL)
		json_object_set_new(t->aliases, name, json_string(find_constant(t, node_input(t, 0))->name));
	return name != NULL;
}

bool
has_dims(const source_tensor *c, int32_t ndim, const int64_t *dims)
{
	return c->ndim == ndim && memcmp(c->dims, dims, ndim * sizeof(int64_t)) == 0;
}

/* Of a tensor of the file. */
static bool
constant_integers(translator *t, const char *name, int64_t *out, int32_t *count)
{
	const source_tensor *c = find_constant(t, name);
	const json_t *integers = json_object_get(json_object_get(t->graph, "integers"), c->name);

	if (integers == NULL)
		return NODE_FAIL(t, "reads \"%s\" where a few integers have to be", SHOWN(name));
	t->used[c - t->source->tensors] = true;
	*count = (int32_t) json_array_size(integers);
	for (int32_t i = 0; i < *count; i++)
		out[i] = json_integer_value(json_array_get(integers, i));
	return true;
}

bool
take_integers(translator *t, int i, int64_t *out, int32_t *count)
{
	made *v = find_made(t, i);

	*count = -1;
	if (node_input(t, i) == NULL)
		return true;
	if (!require_input(t, i))
		return false;
	if (v == NULL)
		return constant_integers(t, node_input(t, i), out, count);
	if (v->kind != MADE_INTEGERS)
		return NODE_FAIL(t, "reads \"%s\" where a few integers have to be", SHOWN(node_input(t, i)));
	*count = v->count;
	memcpy(out, v->integers, v->count * sizeof(int64_t));
	return true;
}

bool
is_float_type(int64_t type)
{
	return type == 1 || type == 10 || type == 11 || type == 16;
}

/* ---- attributes ---- */

static const json_t *
attribute(const translator *t, const char *key)
{
	return json_object_get(json_object_get(t->node, "attributes"), key);
}

bool
has_attribute(const translator *t, const char *key)
{
	return attribute(t, key) != NULL;
}

bool
attribute_integer(translator *t, const char *key, int64_t fallback, int64_t *out)
{
	const json_t *value = attribute(t, key);

	*out = value ? json_integer_value(value) : fallback;
	return value == NULL || json_is_integer(value) || NODE_FAIL(t, "has attribute \"%s\", which is no integer", key);
}

bool
attribute_number(translator *t, const char *key, double fallback, double *out)
{
	const json_t *value = attribute(t, key);

	*out = value ? json_real_value(value) : fallback;
	return value == NULL || json_is_real(value) || NODE_FAIL(t, "has attribute \"%s\", which is no number", key);
}

bool
attribute_text(translator *t, const char *key, const char *fallback, const char **out)
{
	const json_t *value = attribute(t, key);

	*out = value ? json_string_value(value) : fallback;
	return *out != NULL || NODE_FAIL(t, "has attribute \"%s\", which is no text", key);
}

bool
attribute_list(translator *t, const char *key, int32_t count, int64_t fallback, int64_t *out)
{
	const json_t *value = attribute(t, key);

	if (value != NULL && (!json_is_array(value) || json_array_size(value) != (size_t) count))
		return NODE_FAIL(t, "has attribute \"%s\" with other than %d integers", key, count);
	for (int32_t i = 0; i < count; i++)
		out[i] = value ? json_integer_value(json_array_get(value, i)) : fallback;
	return true;
}

/* ---- layers ---- */

json_t *
from_json(const made *v)
{
	return v->from == FROM_IMAGE     ? json_string("image")
		   : v->from == FROM_COLUMNS ? json_string("columns")
									 : json_integer(v->from + 1);
}

json_t *
add_layer(translator *t, const char *type, made *v)
{
	json_t *layer;
	size_t count = json_array_size(t->n->layers);

	if (count == NET_MAX_LAYERS)
	{
		NODE_FAIL(t, "is one layer too many, at most %d are possible", NET_MAX_LAYERS);
		return NULL;
	}
	layer = json_pack("{s:s}", "type", type);
	if (layer == NULL || json_array_append_new(t->n->layers, layer) != 0)
	{
		llm_fail(t->err, LLM_MEMORY, "out of memory for the layers");
		return NULL;
	}
	if (strcmp(type, "add") != 0 && strcmp(type, "concat") != 0)
		json_object_set_new(layer, "input", from_json(v));
	v->kind = MADE_ROWS;
	v->from = (int32_t) count;
	v->fresh = true;
	return layer;
}

onnx_part *
part_of(translator *t, const made *v, layer_part part)
{
	return &t->n->parts[v->from][part];
}
