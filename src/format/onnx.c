/*
 * onnx.c
 *	  Read ONNX files.
 *
 * Only messages at fixed places are entered (model, graph, node, attribute, tensor), so nothing nests deeper.
 */
#include "onnx.h"

#include <string.h>

#include "onnx_graph.h"

enum
{
	MODEL_VERSION = 1,
	MODEL_GRAPH = 7,
	MODEL_OPSET = 8,
	OPSET_DOMAIN = 1,
	OPSET_VERSION = 2
};

/* Every writer begins with the version of the format; in the other formats these bytes are a size or a word. */
bool
onnx_begins(const uint8_t head[ONNX_HEAD_BYTES])
{
	return head[0] == (MODEL_VERSION << 3 | WIRE_INTEGER) && memcmp(head + 4, "\0\0\0\0", 4) != 0;
}

typedef struct opset
{
	bool own;
	uint64_t version;
} opset;

static bool
take_opset_field(wire *w, const field *f, void *arg)
{
	opset *o = arg;
	char domain[8];

	if (f->number == OPSET_VERSION && f->type == WIRE_INTEGER)
		o->version = f->value;
	if (f->number == OPSET_DOMAIN)
		o->own = f->length == 0 ||
				 (f->length == 7 && wire_name(w, f, "domain", 7, 7, domain) && strcmp(domain, "ai.onnx") == 0);
	return w->err->code == LLM_OK;
}

static bool
take_opset(wire *w, const field *f, json_t *graph)
{
	opset o = {.own = true};

	if (!wire_each(w, f, take_opset_field, &o))
		return false;
	if (o.own && o.version <= INT32_MAX)
		json_object_set_new(graph, "opset", json_integer((json_int_t) o.version));
	return true;
}

static bool
take_model(wire *w, const onnx_found *to)
{
	field f, graph = {0};
	bool version = false;

	while (w->at < w->size)
	{
		uint64_t behind;

		if (!wire_field(w, w->size, &f))
			return false;
		behind = w->at;
		version = version || (f.number == MODEL_VERSION && f.type == WIRE_INTEGER);
		if (f.number == MODEL_OPSET && to->graph != NULL && !take_opset(w, &f, to->graph))
			return false;
		w->at = behind;
		if (f.number != MODEL_GRAPH)
			continue;
		if (graph.number != 0 || f.type != WIRE_BYTES)
			return WIRE_FAIL(w, "the file has not one graph");
		graph = f;
	}
	if (!version || graph.number == 0)
		return llm_fail(w->err, LLM_INVALID, "the file is not an ONNX file: it has no version or no graph");
	return onnx_graph(w, &graph, to);
}

static bool
start_graph(json_t *graph)
{
	return json_object_set_new(graph, "opset", json_integer(0)) == 0 &&
		   json_object_set_new(graph, "inputs", json_array()) == 0 &&
		   json_object_set_new(graph, "outputs", json_array()) == 0 &&
		   json_object_set_new(graph, "nodes", json_array()) == 0 &&
		   json_object_set_new(graph, "integers", json_object()) == 0;
}

bool
onnx_source(tensor_source *s, int32_t file, uint64_t size, json_t *graph, llm_error *err)
{
	onnx_found to = {s, graph};
	wire w;
	bool ok;

	if (graph != NULL && !start_graph(graph))
		return llm_fail(err, LLM_MEMORY, "out of memory for the graph");
	ok = wire_open(&w, s, file, size, err) && take_model(&w, &to);
	wire_close(&w);
	return ok && (graph == NULL || !json_memory_failed() || llm_fail(err, LLM_MEMORY, "out of memory for the graph"));
}
