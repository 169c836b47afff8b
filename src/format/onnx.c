/*
 * onnx.c
 *	  Read the weights of ONNX files.
 *
 * A file is a message of Protocol Buffers: fields with a number, each of which is an integer, four or
 * eight bytes, or a length and bytes; messages in messages are such bytes.  A field must end within
 * its message.  Only three levels are entered (model, graph, initializer), so nothing nests deeper.
 */
#include "onnx.h"

#include <stdlib.h>
#include <string.h>

#include "ggml_blocks.h"

#define WINDOW_BYTES 65536
#define CORRUPT(err, ...) llm_fail((err), LLM_CORRUPT, __VA_ARGS__)

/* A place in the file, and the bytes around it that are in memory. */
typedef struct wire
{
	const tensor_source *source;
	int32_t file;
	uint64_t size;
	uint64_t at;
	uint8_t *window;
	uint64_t start; /* of the window in the file */
	size_t have;    /* bytes in it */
	llm_error *err;
} wire;

typedef enum wire_type
{
	WIRE_INTEGER = 0,
	WIRE_EIGHT = 1,
	WIRE_BYTES = 2,
	WIRE_FOUR = 5
} wire_type;

typedef struct field
{
	uint64_t number;
	wire_type type;
	uint64_t value;  /* of an integer */
	uint64_t at;     /* of the others: where their bytes begin, */
	uint64_t length; /* and how many there are */
} field;

enum
{
	MODEL_VERSION = 1,
	MODEL_GRAPH = 7,
	GRAPH_INITIALIZER = 5,
	TENSOR_DIMS = 1,
	TENSOR_TYPE = 2,
	TENSOR_SEGMENT = 3,
	TENSOR_FLOATS = 4,
	TENSOR_NAME = 8,
	TENSOR_RAW = 9,
	TENSOR_DOUBLES = 10,
	TENSOR_LOCATION = 14
};

/* By number of TensorProto.DataType. */
static const struct
{
	const char *name; /* NULL: no such type */
	source_type source;
	uint64_t numbers; /* the field that may have them instead of TENSOR_RAW; 0: a list of integers does */
} types[] = {
	[1] = {"FLOAT", SOURCE_F32, TENSOR_FLOATS},
	[2] = {"UINT8", SOURCE_OTHER},
	[3] = {"INT8", SOURCE_OTHER},
	[4] = {"UINT16", SOURCE_OTHER},
	[5] = {"INT16", SOURCE_OTHER},
	[6] = {"INT32", SOURCE_OTHER},
	[7] = {"INT64", SOURCE_OTHER},
	[8] = {"STRING", SOURCE_OTHER},
	[9] = {"BOOL", SOURCE_OTHER},
	[10] = {"FLOAT16", SOURCE_F16},
	[11] = {"DOUBLE", SOURCE_F64, TENSOR_DOUBLES},
	[12] = {"UINT32", SOURCE_OTHER},
	[13] = {"UINT64", SOURCE_OTHER},
	[14] = {"COMPLEX64", SOURCE_OTHER},
	[15] = {"COMPLEX128", SOURCE_OTHER},
	[16] = {"BFLOAT16", SOURCE_BF16},
	[17] = {"FLOAT8E4M3FN", SOURCE_OTHER},
	[18] = {"FLOAT8E4M3FNUZ", SOURCE_OTHER},
	[19] = {"FLOAT8E5M2", SOURCE_OTHER},
	[20] = {"FLOAT8E5M2FNUZ", SOURCE_OTHER},
	[21] = {"UINT4", SOURCE_OTHER},
	[22] = {"INT4", SOURCE_OTHER},
	[23] = {"FLOAT4E2M1", SOURCE_OTHER},
};

#define TYPES (sizeof(types) / sizeof(types[0]))

/* ---- bytes and fields ---- */

/* The byte at the place, which lies in the file. */
static bool
take_byte(wire *w, uint8_t *out)
{
	if (w->at < w->start || w->at - w->start >= w->have)
	{
		uint64_t left = w->size - w->at;
		size_t bytes = left < WINDOW_BYTES ? (size_t) left : WINDOW_BYTES;

		w->have = 0;
		if (!w->source->read(w->source->arg, w->file, w->at, w->window, bytes, w->err))
			return false;
		w->start = w->at;
		w->have = bytes;
	}
	*out = w->window[w->at++ - w->start];
	return true;
}

static bool
ends_early(wire *w)
{
	return CORRUPT(w->err, "a field of the file does not end within its message, at byte %llu",
				   (unsigned long long) w->at);
}

/* An integer of at most 64 bits, seven to a byte, the lowest first. */
static bool
take_integer(wire *w, uint64_t end, uint64_t *out)
{
	uint8_t byte = 0x80;

	*out = 0;
	for (int shift = 0; byte & 0x80; shift += 7)
	{
		if (w->at >= end)
			return ends_early(w);
		if (!take_byte(w, &byte))
			return false;
		if (shift == 63 && byte > 1)
			return CORRUPT(w->err, "an integer of the file has more than 64 bits, at byte %llu",
						   (unsigned long long) w->at);
		*out |= (uint64_t) (byte & 0x7f) << shift;
	}
	return true;
}

/* The next field of a message that ends at `end`; the place is behind it then. */
static bool
take_field(wire *w, uint64_t end, field *f)
{
	uint64_t tag;

	if (!take_integer(w, end, &tag))
		return false;
	*f = (field) {.number = tag >> 3, .type = (wire_type) (tag & 7)};
	if (f->number == 0)
		return CORRUPT(w->err, "the file has a field of number 0, at byte %llu", (unsigned long long) w->at);
	switch (f->type)
	{
		case WIRE_INTEGER: return take_integer(w, end, &f->value);
		case WIRE_FOUR: f->length = 4; break;
		case WIRE_EIGHT: f->length = 8; break;
		case WIRE_BYTES:
			if (!take_integer(w, end, &f->length))
				return false;
			break;
		default:
			return CORRUPT(w->err, "the file has a field of unknown form %d, at byte %llu", (int) f->type,
						   (unsigned long long) w->at);
	}
	f->at = w->at;
	if (f->length > end - w->at)
		return ends_early(w);
	w->at += f->length;
	return true;
}

/* ---- one tensor ---- */

static bool
take_dim(wire *w, source_tensor *t, uint64_t dim)
{
	if (t->ndim == SOURCE_MAX_DIMS)
		return CORRUPT(w->err, "a tensor of the file has more than %d dimensions", SOURCE_MAX_DIMS);
	if (dim > INT64_MAX || __builtin_mul_overflow(t->count, (size_t) dim, &t->count))
		return CORRUPT(w->err, "the shape of a tensor of the file is too large");
	t->dims[t->ndim++] = (int64_t) dim;
	return true;
}

/* One of them, or all behind each other. */
static bool
take_dims(wire *w, source_tensor *t, const field *f)
{
	uint64_t dim;

	if (f->type == WIRE_INTEGER)
		return take_dim(w, t, f->value);
	if (f->type != WIRE_BYTES)
		return CORRUPT(w->err, "a tensor of the file has dimensions that are no integers");
	for (w->at = f->at; w->at < f->at + f->length;)
		if (!take_integer(w, f->at + f->length, &dim) || !take_dim(w, t, dim))
			return false;
	return true;
}

/* Printable ASCII. */
static bool
take_name(wire *w, const field *f, char name[ONNX_NAME_MAX + 1])
{
	uint8_t byte;

	if (f->type != WIRE_BYTES || f->length < 1 || f->length > ONNX_NAME_MAX)
		return CORRUPT(w->err, "the name of a tensor is not one of 1 to %d bytes", ONNX_NAME_MAX);
	w->at = f->at;
	for (uint64_t i = 0; i < f->length; i++)
	{
		if (!take_byte(w, &byte))
			return false;
		if (byte < ' ' || byte > '~')
			return CORRUPT(w->err, "the name of a tensor has other bytes than printable ASCII");
		name[i] = (char) byte;
	}
	name[f->length] = '\0';
	return true;
}

/* What the fields say of a tensor's numbers. */
typedef struct numbers
{
	uint64_t type;
	field raw, listed; /* number 0: not there */
} numbers;

static bool
take_numbers(wire *w, const field *f, field *out)
{
	if (out->number != 0 || f->type != WIRE_BYTES)
		return CORRUPT(w->err, "a tensor of the file has its numbers in several pieces");
	*out = *f;
	return true;
}

static bool
take_tensor_field(wire *w, const field *f, source_tensor *t, numbers *n)
{
	switch (f->number)
	{
		case TENSOR_DIMS: return take_dims(w, t, f);
		case TENSOR_TYPE: n->type = f->value; return true;
		case TENSOR_NAME: return take_name(w, f, t->name);
		case TENSOR_RAW: return take_numbers(w, f, &n->raw);
		case TENSOR_FLOATS:
		case TENSOR_DOUBLES: return take_numbers(w, f, &n->listed);
		case TENSOR_SEGMENT: return CORRUPT(w->err, "a tensor of the file is a segment of one, which is not read");
		case TENSOR_LOCATION:
			if (f->value == 0)
				return true;
			llm_fail(w->err, LLM_INVALID, "numbers of the file are in another file, which is not read");
			return llm_hint(w->err, "Save the model as one file, or its weights as safetensors.");
		default: return true;
	}
}

/* Where the numbers are, which must be as many as the shape has. */
static bool
place(wire *w, source_tensor *t, const numbers *n)
{
	size_t bytes;

	if (t->name[0] == '\0')
		return CORRUPT(w->err, "a tensor of the file has no name");
	if (n->type >= TYPES || types[n->type].name == NULL)
		return CORRUPT(w->err, "tensor \"%s\" is of unknown type %llu", SHOWN(t->name), (unsigned long long) n->type);
	t->type_name = types[n->type].name;
	t->type = n->raw.number != 0 || types[n->type].numbers != 0 ? types[n->type].source : SOURCE_OTHER;
	if (t->type == SOURCE_OTHER)
		return true;
	if (n->raw.number != 0)
	{
		t->offset = n->raw.at;
		t->bytes = n->raw.length;
	}
	else if (n->listed.number == types[n->type].numbers)
	{
		t->offset = n->listed.at;
		t->bytes = n->listed.length;
	}
	return (!__builtin_mul_overflow(t->count, ggml_type_of(t->type)->bytes, &bytes) && bytes == t->bytes) ||
		   CORRUPT(w->err, "tensor %s has %llu bytes, which are not those of its shape and type", SOURCE_TEXT(t),
				   (unsigned long long) t->bytes);
}

static bool
take_tensor(wire *w, const field *message, tensor_source *s)
{
	char name[ONNX_NAME_MAX + 1] = "";
	source_tensor t = {.name = name, .file = w->file, .count = 1};
	uint64_t end = message->at + message->length;
	numbers n = {0};
	field f;

	if (message->type != WIRE_BYTES)
		return CORRUPT(w->err, "a tensor of the file is no message");
	for (w->at = message->at; w->at < end;)
	{
		uint64_t behind;

		if (!take_field(w, end, &f))
			return false;
		behind = w->at;
		if (!take_tensor_field(w, &f, &t, &n))
			return false;
		w->at = behind;
	}
	return place(w, &t, &n) && tensor_source_add(s, &t, w->err);
}

/* ---- the file ---- */

static bool
take_graph(wire *w, const field *message, tensor_source *s)
{
	uint64_t end = message->at + message->length;
	field f;

	for (w->at = message->at; w->at < end;)
	{
		if (!take_field(w, end, &f))
			return false;
		if (f.number == GRAPH_INITIALIZER && !take_tensor(w, &f, s))
			return false;
	}
	return true;
}

static bool
take_model(wire *w, tensor_source *s)
{
	field f, graph = {0};
	bool version = false;

	while (w->at < w->size)
	{
		if (!take_field(w, w->size, &f))
			return false;
		version = version || (f.number == MODEL_VERSION && f.type == WIRE_INTEGER);
		if (f.number != MODEL_GRAPH)
			continue;
		if (graph.number != 0 || f.type != WIRE_BYTES)
			return CORRUPT(w->err, "the file has not one graph");
		graph = f;
	}
	if (!version || graph.number == 0)
		return llm_fail(w->err, LLM_INVALID, "the file is not an ONNX file: it has no version or no graph");
	return take_graph(w, &graph, s);
}

bool
onnx_source(tensor_source *s, int32_t file, uint64_t size, llm_error *err)
{
	wire w = {.source = s, .file = file, .size = size, .err = err};
	bool ok;

	w.window = malloc(size < WINDOW_BYTES ? (size_t) size + 1 : WINDOW_BYTES);
	ok = w.window != NULL ? take_model(&w, s) : llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
	free(w.window);
	return ok;
}
