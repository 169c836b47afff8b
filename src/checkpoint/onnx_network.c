/*
 * onnx_network.c
 *	  The graph of an ONNX file as layers, and the numbers of their tensors.
 *
 * Nodes come in an order in which each reads what those before it make; each looks its inputs up by name, adds the
 * layers it needs, and leaves what it makes under its own name.
 */
#include "onnx_network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "onnx_ops.h"

#define OPSET_FIRST 7
#define OPSET_LAST 28
#define DIM_MAX 65536
#define OUTPUTS_JOINED 1024 /* most numbers that a linear layer of ones is put behind */

/* ---- operations ---- */

static const onnx_op *const op_lists[] = {onnx_layer_ops, onnx_activation_ops, onnx_shape_ops};

#define OP_LISTS ((int) (sizeof(op_lists) / sizeof(op_lists[0])))

static const onnx_op *
find_op(const char *name)
{
	for (int list = 0; list < OP_LISTS; list++)
		for (const onnx_op *op = op_lists[list]; op->name != NULL; op++)
			if (strcmp(op->name, name) == 0)
				return op;
	return NULL;
}

static bool
unknown_op(translator *t)
{
	char names[sizeof(t->err->detail) - 64] = "";

	for (int list = 0; list < OP_LISTS; list++)
		for (const onnx_op *op = op_lists[list]; op->name != NULL; op++)
		{
			strncat(names, names[0] ? ", " : "", sizeof(names) - strlen(names) - 1);
			strncat(names, op->name, sizeof(names) - strlen(names) - 1);
		}
	NODE_FAIL(t, "is of an operation that no layer has");
	llm_detail(t->err, "Operations are %s.", names);
	return llm_hint(t->err,
					"Write the network with these, or give its layers in \"params\" and its weights as safetensors.");
}

/* "a, b, c" contains key as a whole word. */
static bool
is_listed(const char *list, const char *key)
{
	size_t length = strlen(key);

	for (const char *at = list; (at = strstr(at, key)) != NULL; at += length)
		if ((at == list || at[-1] == ' ') && (at[length] == '\0' || at[length] == ','))
			return true;
	return false;
}

static bool
translate_node(translator *t, const json_t *node)
{
	const json_t *domain = json_object_get(node, "domain");
	const onnx_op *op = find_op(json_string_value(json_object_get(node, "op")));
	const char *key;
	json_t *value;

	t->node = node;
	if (op == NULL || (domain != NULL && strcmp(json_string_value(domain), "ai.onnx") != 0))
		return unknown_op(t);
	json_object_foreach(json_object_get(node, "attributes"), key, value)
		if (!is_listed(op->attributes, key))
			return NODE_FAIL(t, "has attribute \"%s\", which is not known", SHOWN(key));
	return op->translate(t);
}

/* ---- the graph ---- */

static void
count_reader(translator *t, const char *name)
{
	json_object_set_new(t->readers, name, json_integer(count_readers(t, name) + 1));
}

static void
count_all_readers(translator *t)
{
	size_t i, k;
	json_t *node, *input, *output;

	json_array_foreach(json_object_get(t->graph, "nodes"), i, node)
	{
		json_array_foreach(json_object_get(node, "inputs"), k, input)
		{
			count_reader(t, json_string_value(input));
		}
	}
	json_array_foreach(json_object_get(t->graph, "outputs"), i, output)
	{
		count_reader(t, json_string_value(output));
	}
}

/* The one input that no initializer is. */
static const json_t *
find_input(translator *t)
{
	const json_t *found = NULL;
	size_t i;
	json_t *input;

	json_array_foreach(json_object_get(t->graph, "inputs"), i, input)
	{
		const char *name = json_string_value(json_object_get(input, "name"));

		if (tensor_source_find(t->source, name) != NULL)
			continue;
		if (found != NULL)
		{
			llm_fail(t->err, LLM_INVALID, "the graph has several inputs, \"%s\" and \"%s\" among them",
					 SHOWN(json_string_value(json_object_get(found, "name"))), SHOWN(name));
			return NULL;
		}
		found = input;
	}
	if (found == NULL)
		llm_fail(t->err, LLM_INVALID, "the graph has no input");
	return found;
}

static bool
wrong_input(translator *t, const char *name)
{
	llm_fail(t->err, LLM_INVALID, "input \"%s\" of the graph is not one of floats in 2 to 4 dimensions", SHOWN(name));
	return llm_detail(t->err,
					  "The first one is the batch and may be open; the others are (numbers) or (channels, "
					  "height, width), each from 1 to %d.",
					  DIM_MAX);
}

static bool
start_input(translator *t)
{
	const json_t *input = find_input(t), *dims = json_object_get(input, "dims");
	const char *name = json_string_value(json_object_get(input, "name"));
	made *v = &t->values[0];
	onnx_network *n = t->n;

	if (input == NULL)
		return false;
	*v =
		(made) {.kind = MADE_ROWS, .ndim = (int32_t) json_array_size(dims) - 1, .from = FROM_COLUMNS, .vector = true};
	if (!is_float_type(json_integer_value(json_object_get(input, "type"))) || v->ndim < 1 || v->ndim > MADE_DIMS)
		return wrong_input(t, name);
	t->batch = json_integer_value(json_array_get(dims, 0));
	t->batch = t->batch > 0 ? t->batch : 0;
	for (int32_t i = 0; i < v->ndim; i++)
	{
		v->dims[i] = json_integer_value(json_array_get(dims, i + 1));
		if (v->dims[i] < 1 || v->dims[i] > DIM_MAX)
			return wrong_input(t, name);
	}
	n->ndim = v->ndim == 3 ? 3 : 1;
	n->dims[0] = made_count(v);
	if (v->ndim == 3)
	{
		v->from = FROM_IMAGE;
		v->vector = false;
		memcpy(n->dims, v->dims, sizeof(n->dims));
	}
	json_object_set_new(t->numbers, name, json_integer(t->value_count++));
	return true;
}

/* ---- the end ---- */

/* Behind a layer that is not linear, outputs are its numbers times 1. */
static bool
end_linear(translator *t, made *v)
{
	json_t *last = json_array_get(t->n->layers, json_array_size(t->n->layers) - 1);
	const char *type = json_string_value(json_object_get(last, "type"));
	int64_t width = made_count(v);

	if (type != NULL && strcmp(type, "linear") == 0 && v->from == (int32_t) json_array_size(t->n->layers) - 1)
		return true;
	if (made_image(v) || width > OUTPUTS_JOINED || json_array_size(t->n->layers) == NET_MAX_LAYERS)
	{
		llm_fail(t->err, LLM_INVALID, "the graph does not end with a layer of at most %d numbers", OUTPUTS_JOINED);
		return llm_detail(t->err, "It ends with %lld numbers of a row%s.", (long long) width,
						  made_image(v) ? ", which are an image" : "");
	}
	last = add_layer(t, "linear", v);
	if (last == NULL)
		return false;
	json_object_set_new(last, "width", json_integer(width));
	json_object_set_new(last, "bias", json_false());
	*part_of(t, v, PART_WEIGHT) = (onnx_part) {.repeat = 1, .identity = true};
	return true;
}

static bool
end_graph(translator *t)
{
	const json_t *outputs = json_object_get(t->graph, "outputs");
	const char *name = json_string_value(json_array_get(outputs, 0));
	const json_t *number = name ? json_object_get(t->numbers, name) : NULL;
	made *v = number ? &t->values[json_integer_value(number)] : NULL;

	if (v == NULL || (v->kind != MADE_ROWS && v->kind != MADE_CLASSES))
		return llm_fail(t->err, LLM_INVALID, "output \"%s\" of the graph is not computed from its input",
						SHOWN(name ? name : ""));
	if (!end_linear(t, v))
		return false;
	if (t->n->task == NULL)
		t->n->task = t->task ? t->task : t->classes ? "classification" : "regression";
	for (int32_t i = 0; i < t->source->count; i++)
		if (!t->used[i])
			return llm_fail(t->err, LLM_INVALID, "no node takes tensor %s of the file",
							SOURCE_TEXT(&t->source->tensors[i]));
	return true;
}

static bool
check_graph(translator *t)
{
	int64_t opset = json_integer_value(json_object_get(t->graph, "opset"));
	size_t outputs = json_array_size(json_object_get(t->graph, "outputs"));

	if (opset < OPSET_FIRST || opset > OPSET_LAST)
	{
		llm_fail(t->err, LLM_INVALID, "the graph is of operations of version %lld, known are %d to %d",
				 (long long) opset, OPSET_FIRST, OPSET_LAST);
		return llm_hint(t->err, "Write it again, in Python by torch.onnx.export(..., opset_version=20).");
	}
	return outputs == 1 || llm_fail(t->err, LLM_INVALID, "the graph has %zu outputs, not one", outputs);
}

static bool
translate(translator *t)
{
	size_t i;
	json_t *node;

	if (!check_graph(t))
		return false;
	count_all_readers(t);
	if (!start_input(t))
		return false;
	json_array_foreach(json_object_get(t->graph, "nodes"), i, node)
	{
		if (!translate_node(t, node))
			return false;
	}
	t->node = NULL;
	return end_graph(t) && (!json_memory_failed() || llm_fail(t->err, LLM_MEMORY, "out of memory for the layers"));
}

static bool
allocate(translator *t)
{
	size_t nodes = json_array_size(json_object_get(t->graph, "nodes"));

	t->n = calloc(1, sizeof(onnx_network));
	t->numbers = json_object();
	t->aliases = json_object();
	t->readers = json_object();
	t->values = calloc(nodes + 1, sizeof(made));
	t->used = calloc((size_t) t->source->count + 1, sizeof(bool));
	if (t->n != NULL)
		t->n->layers = json_array();
	return (t->n != NULL && t->n->layers != NULL && t->numbers != NULL && t->aliases != NULL && t->readers != NULL &&
			t->values != NULL && t->used != NULL) ||
		   llm_fail(t->err, LLM_MEMORY, "out of memory for the graph");
}

onnx_network *
onnx_network_new(const json_t *graph, const tensor_source *source, const char *task, bool classes, llm_error *err)
{
	translator t = {.graph = graph, .source = source, .task = task, .classes = classes, .err = err};
	bool ok = allocate(&t) && translate(&t);

	json_decref(t.numbers);
	json_decref(t.aliases);
	json_decref(t.readers);
	free(t.values);
	free(t.used);
	if (ok)
		return t.n;
	onnx_network_free(t.n);
	return NULL;
}

void
onnx_network_free(onnx_network *n)
{
	if (n == NULL)
		return;
	json_decref(n->layers);
	free(n);
}

/* ---- numbers ---- */

/* Of the file, to their places. */
static void
place_numbers(const onnx_part *p, const float *from, size_t count, float *out)
{
	size_t columns = p->columns > 0 ? (size_t) p->columns : 1, rows = count / columns;

	for (size_t i = 0; i < count; i++)
	{
		size_t at = p->columns > 0 ? i % rows * columns + i / rows : i / (size_t) p->repeat;

		out[i] = (float) (p->scale * from[at] + p->shift);
	}
}

static void
fill_numbers(const onnx_part *p, size_t count, float *out)
{
	size_t width = (size_t) sqrt((double) count);

	for (size_t i = 0; i < count; i++)
		out[i] = p->identity ? i / width == i % width : (float) p->shift;
}

static bool
check_numbers(const onnx_part *p, layer_part part, size_t count, const float *numbers, llm_error *err)
{
	for (size_t i = 0; i < count; i++)
	{
		if (!isfinite(numbers[i]))
			return llm_fail(err, LLM_INVALID, "tensor %s holds a number that is not finite", SOURCE_TEXT(p->from));
		if (part == PART_VARIANCE && numbers[i] < 0)
			return llm_fail(err, LLM_INVALID, "tensor %s holds a variance that is negative", SOURCE_TEXT(p->from));
	}
	return true;
}

bool
onnx_network_read(const onnx_network *n, const tensor_source *source, int32_t layer, layer_part part, size_t count,
				  float *out, llm_error *err)
{
	const onnx_part *p = &n->parts[layer][part];
	size_t held = count / (p->repeat > 0 ? (size_t) p->repeat : 1);
	float *from;
	bool ok;

	if (p->from == NULL)
	{
		fill_numbers(p, count, out);
		return true;
	}
	if (p->from->count != held)
		return llm_fail(err, LLM_INVALID, "tensor %s is not of %zu numbers", SOURCE_TEXT(p->from), held);
	from = malloc(held * sizeof(float));
	ok = from != NULL || llm_fail(err, LLM_MEMORY, "out of memory for tensor %s", SOURCE_TEXT(p->from));
	ok = ok && tensor_source_read(source, p->from, 0, held, from, err);
	if (ok)
		place_numbers(p, from, count, out);
	free(from);
	return ok && check_numbers(p, part, count, out, err);
}
