/*
 * onnx_graph.c
 *	  The graph of an ONNX file as JSON.
 *
 * Names are printable ASCII, lists have limits that no network of layers comes near, and graphs within
 * attributes are not entered.
 */
#include "onnx_graph.h"

#include <math.h>
#include <string.h>

#define NODES_MAX 2048
#define NODE_NAMES_MAX 64 /* inputs or outputs of a node, or of the graph */
#define ATTRIBUTES_MAX 32 /* of a node */
#define LIST_MAX 64       /* integers of an attribute */
#define DIMS_MAX 8
#define TEXT_MAX 256 /* bytes of an attribute, or of the name of an operation */

enum
{
	GRAPH_NODE = 1,
	GRAPH_INITIALIZER = 5,
	GRAPH_INPUT = 11,
	GRAPH_OUTPUT = 12,
	GRAPH_SPARSE = 15
};

enum
{
	NODE_INPUT = 1,
	NODE_OUTPUT = 2,
	NODE_NAME = 3,
	NODE_OP = 4,
	NODE_ATTRIBUTE = 5,
	NODE_DOMAIN = 7
};

enum
{
	ATTRIBUTE_NAME = 1,
	ATTRIBUTE_FLOAT = 2,
	ATTRIBUTE_INTEGER = 3,
	ATTRIBUTE_TEXT = 4,
	ATTRIBUTE_TENSOR = 5,
	ATTRIBUTE_INTEGERS = 8,
	ATTRIBUTE_KIND = 20
};

enum
{
	KIND_FLOAT = 1,
	KIND_INTEGER = 2,
	KIND_TEXT = 3,
	KIND_TENSOR = 4,
	KIND_INTEGERS = 7
};

enum
{
	INFO_NAME = 1,
	INFO_TYPE = 2,
	TYPE_TENSOR = 1,
	TENSOR_ELEMENT = 1,
	TENSOR_SHAPE = 2,
	SHAPE_DIM = 1,
	DIM_VALUE = 1
};

/* What is being read. */
typedef struct reader
{
	const onnx_found *to;
	json_t *node;
} reader;

static bool
append_name(wire *w, const field *f, json_t *list)
{
	char name[ONNX_NAME_MAX + 1];

	if (json_array_size(list) == NODE_NAMES_MAX)
		return WIRE_FAIL(w, "the file has a list of more than %d names", NODE_NAMES_MAX);
	if (!wire_name(w, f, "value", 0, ONNX_NAME_MAX, name))
		return false;
	json_array_append_new(list, json_string(name));
	return true;
}

/* ---- attributes ---- */

typedef struct attribute
{
	char name[TEXT_MAX + 1], text[TEXT_MAX + 1];
	uint64_t kind; /* 0: not said, as in old files */
	field tensor;  /* number 0: none */
	float number;
	uint64_t integer;
	json_t *integers;
} attribute;

static bool
take_float(wire *w, const field *f, float *out)
{
	uint8_t raw[4];
	uint32_t bits = 0;

	if (f->type != WIRE_FOUR)
		return WIRE_FAIL(w, "an attribute of the file is no float, at byte %llu", (unsigned long long) w->at);
	if (!wire_bytes(w, f->at, raw, sizeof(raw)))
		return false;
	for (int i = 0; i < 4; i++)
		bits |= (uint32_t) raw[i] << 8 * i;
	memcpy(out, &bits, sizeof(bits));
	return isfinite(*out) || WIRE_FAIL(w, "an attribute of the file is not finite");
}

static bool
add_integer(wire *w, json_t *list, uint64_t integer)
{
	if (json_array_size(list) == LIST_MAX)
		return WIRE_FAIL(w, "an attribute of the file has more than %d integers", LIST_MAX);
	json_array_append_new(list, json_integer((json_int_t) integer));
	return true;
}

/* One of them, or all behind each other. */
static bool
take_integers(wire *w, const field *f, json_t *list)
{
	uint64_t integer;

	if (f->type == WIRE_INTEGER)
		return add_integer(w, list, f->value);
	if (f->type != WIRE_BYTES)
		return WIRE_FAIL(w, "an attribute of the file has integers that are none");
	for (w->at = f->at; w->at < f->at + f->length;)
		if (!wire_integer(w, f->at + f->length, &integer) || !add_integer(w, list, integer))
			return false;
	return true;
}

static bool
take_attribute_field(wire *w, const field *f, void *arg)
{
	attribute *a = arg;

	switch (f->number)
	{
		case ATTRIBUTE_NAME: return wire_name(w, f, "attribute", 1, TEXT_MAX, a->name);
		case ATTRIBUTE_FLOAT: a->kind = a->kind ? a->kind : KIND_FLOAT; return take_float(w, f, &a->number);
		case ATTRIBUTE_INTEGER:
			a->kind = a->kind ? a->kind : KIND_INTEGER;
			a->integer = f->value;
			return true;
		case ATTRIBUTE_TEXT:
			a->kind = a->kind ? a->kind : KIND_TEXT;
			/* Texts that this cannot hold, as those that describe a node, are of no kind that is read. */
			if (f->length > TEXT_MAX)
				return true;
			return wire_name(w, f, "value of an attribute", 0, TEXT_MAX, a->text);
		case ATTRIBUTE_TENSOR:
			a->kind = a->kind ? a->kind : KIND_TENSOR;
			a->tensor = *f;
			return true;
		case ATTRIBUTE_INTEGERS: a->kind = a->kind ? a->kind : KIND_INTEGERS; return take_integers(w, f, a->integers);
		case ATTRIBUTE_KIND: a->kind = f->value; return true;
		default: return true;
	}
}

static json_t *
attribute_json(const attribute *a)
{
	switch (a->kind)
	{
		case KIND_FLOAT: return json_real(a->number);
		case KIND_INTEGER: return json_integer((json_int_t) a->integer);
		case KIND_TEXT: return json_string(a->text);
		case KIND_INTEGERS: return json_incref(a->integers);
		default: return json_null();
	}
}

/* The tensor of a node Constant is found by the name of what the node makes. */
static bool
keep_attribute(wire *w, const attribute *a, const reader *r)
{
	const char *op = json_string_value(json_object_get(r->node, "op"));
	const char *output = json_string_value(json_array_get(json_object_get(r->node, "outputs"), 0));
	json_t *attributes = json_object_get(r->node, "attributes");

	if (a->name[0] == '\0' || json_object_get(attributes, a->name) != NULL)
		return WIRE_FAIL(w, "an attribute of the file has no name, or that of another");
	if (json_object_size(attributes) == ATTRIBUTES_MAX)
		return WIRE_FAIL(w, "a node of the file has more than %d attributes", ATTRIBUTES_MAX);
	json_object_set_new(attributes, a->name, attribute_json(a));
	if (a->kind != KIND_TENSOR || strcmp(a->name, "value") != 0 || op == NULL || strcmp(op, "Constant") != 0 ||
		output == NULL || output[0] == '\0')
		return true;
	return onnx_tensor(w, &a->tensor, output, r->to);
}

static bool
take_attribute(wire *w, const field *f, const reader *r)
{
	attribute a = {.integers = json_array()};
	bool ok = wire_each(w, f, take_attribute_field, &a) && keep_attribute(w, &a, r);

	json_decref(a.integers);
	return ok;
}

/* ---- nodes ---- */

static bool
take_text(wire *w, const field *f, const char *what, const char *key, const reader *r)
{
	char text[ONNX_NAME_MAX + 1];

	if (!wire_name(w, f, what, 0, ONNX_NAME_MAX, text))
		return false;
	json_object_set_new(r->node, key, json_string(text));
	return true;
}

static bool
take_node_field(wire *w, const field *f, void *arg)
{
	const reader *r = arg;

	switch (f->number)
	{
		case NODE_INPUT: return append_name(w, f, json_object_get(r->node, "inputs"));
		case NODE_OUTPUT: return append_name(w, f, json_object_get(r->node, "outputs"));
		case NODE_NAME: return take_text(w, f, "node", "name", r);
		case NODE_OP: return take_text(w, f, "operation", "op", r);
		case NODE_DOMAIN: return f->length == 0 || take_text(w, f, "domain", "domain", r);
		default: return true;
	}
}

/* Once what the node is called is known. */
static bool
take_attributes(wire *w, const field *f, void *arg)
{
	return f->number != NODE_ATTRIBUTE || take_attribute(w, f, arg);
}

static bool
take_node(wire *w, const field *f, const onnx_found *to)
{
	json_t *nodes = json_object_get(to->graph, "nodes");
	reader r = {to,
				json_pack("{s:s, s:s, s:[], s:[], s:{}}", "name", "", "op", "", "inputs", "outputs", "attributes")};

	if (r.node == NULL || json_array_append_new(nodes, r.node) != 0)
		return llm_fail(w->err, LLM_MEMORY, "out of memory for the graph");
	if (json_array_size(nodes) > NODES_MAX)
	{
		llm_fail(w->err, LLM_INVALID, "the graph has more than %d nodes", NODES_MAX);
		return llm_detail(w->err, "Networks of layers have far fewer.");
	}
	return wire_each(w, f, take_node_field, &r) && wire_each(w, f, take_attributes, &r);
}

/* ---- inputs ---- */

/* A dimension without a value, or with a name, is open. */
static bool
take_dim(wire *w, const field *f, void *arg)
{
	if (f->number == DIM_VALUE && f->type == WIRE_INTEGER)
		*(int64_t *) arg = (int64_t) f->value;
	return true;
}

static bool
take_shape(wire *w, const field *f, void *arg)
{
	json_t *dims = json_object_get(arg, "dims");
	int64_t dim = -1;

	if (f->number != SHAPE_DIM)
		return true;
	if (json_array_size(dims) == DIMS_MAX)
		return WIRE_FAIL(w, "an input of the graph has more than %d dimensions", DIMS_MAX);
	if (!wire_each(w, f, take_dim, &dim))
		return false;
	json_array_append_new(dims, json_integer(dim));
	return true;
}

static bool
take_tensor_type(wire *w, const field *f, void *arg)
{
	if (f->number == TENSOR_ELEMENT && f->type == WIRE_INTEGER && f->value <= INT32_MAX)
		json_object_set_new(arg, "type", json_integer((json_int_t) f->value));
	if (f->number != TENSOR_SHAPE)
		return true;
	json_object_set_new(arg, "dims", json_array());
	return wire_each(w, f, take_shape, arg);
}

static bool
take_type(wire *w, const field *f, void *arg)
{
	return f->number != TYPE_TENSOR || wire_each(w, f, take_tensor_type, arg);
}

static bool
take_info(wire *w, const field *f, void *arg)
{
	char name[ONNX_NAME_MAX + 1];

	if (f->number == INFO_TYPE)
		return wire_each(w, f, take_type, arg);
	if (f->number != INFO_NAME)
		return true;
	if (!wire_name(w, f, "value", 0, ONNX_NAME_MAX, name))
		return false;
	json_object_set_new(arg, "name", json_string(name));
	return true;
}

static bool
take_input(wire *w, const field *f, json_t *graph)
{
	json_t *inputs = json_object_get(graph, "inputs");
	json_t *input = json_pack("{s:s, s:i}", "name", "", "type", 0);

	if (input == NULL || json_array_append_new(inputs, input) != 0)
		return llm_fail(w->err, LLM_MEMORY, "out of memory for the graph");
	if (json_array_size(inputs) > NODES_MAX)
		return WIRE_FAIL(w, "the graph has more than %d inputs", NODES_MAX);
	return wire_each(w, f, take_info, input);
}

static bool
take_output_name(wire *w, const field *f, void *arg)
{
	return f->number != INFO_NAME || append_name(w, f, arg);
}

/* ---- the graph ---- */

static bool
take_graph_field(wire *w, const field *f, void *arg)
{
	const onnx_found *to = arg;

	if (f->number == GRAPH_INITIALIZER)
		return onnx_tensor(w, f, NULL, to);
	if (to->graph == NULL)
		return true;
	switch (f->number)
	{
		case GRAPH_NODE: return take_node(w, f, to);
		case GRAPH_INPUT: return take_input(w, f, to->graph);
		case GRAPH_OUTPUT: return wire_each(w, f, take_output_name, json_object_get(to->graph, "outputs"));
		case GRAPH_SPARSE:
			return llm_fail(w->err, LLM_INVALID, "the graph has an initializer that is sparse, which is not read");
		default: return true;
	}
}

bool
onnx_graph(wire *w, const field *message, const onnx_found *to)
{
	return wire_each(w, message, take_graph_field, (void *) to);
}
