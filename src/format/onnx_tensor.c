/*
 * onnx_tensor.c
 *	  One tensor of an ONNX file: its shape, and where in the file its numbers are.
 *
 * Numbers are left where they are, but for the few integers that say where other tensors go.
 */
#include "onnx_tensor.h"

#include <string.h>

#include "ggml_blocks.h"

#define TENSORS_MAX 4096 /* of integers that are kept; a graph has one or two for a node */

enum
{
	TENSOR_DIMS = 1,
	TENSOR_TYPE = 2,
	TENSOR_SEGMENT = 3,
	TENSOR_FLOATS = 4,
	TENSOR_INT32 = 5,
	TENSOR_INT64 = 7,
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
	int integer;      /* bytes of one in TENSOR_RAW, when its values are kept as integers */
} types[] = {
	[1] = {"FLOAT", SOURCE_F32, TENSOR_FLOATS},
	[2] = {"UINT8", SOURCE_OTHER},
	[3] = {"INT8", SOURCE_OTHER},
	[4] = {"UINT16", SOURCE_OTHER},
	[5] = {"INT16", SOURCE_OTHER},
	[6] = {"INT32", SOURCE_OTHER, 0, 4},
	[7] = {"INT64", SOURCE_OTHER, 0, 8},
	[8] = {"STRING", SOURCE_OTHER},
	[9] = {"BOOL", SOURCE_OTHER, 0, 1},
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

/* ---- its fields ---- */

static bool
take_dim(wire *w, source_tensor *t, uint64_t dim)
{
	if (t->ndim == SOURCE_MAX_DIMS)
		return WIRE_FAIL(w, "a tensor of the file has more than %d dimensions", SOURCE_MAX_DIMS);
	if (dim > INT64_MAX || __builtin_mul_overflow(t->count, (size_t) dim, &t->count))
		return WIRE_FAIL(w, "the shape of a tensor of the file is too large");
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
		return WIRE_FAIL(w, "a tensor of the file has dimensions that are no integers");
	for (w->at = f->at; w->at < f->at + f->length;)
		if (!wire_integer(w, f->at + f->length, &dim) || !take_dim(w, t, dim))
			return false;
	return true;
}

/* What the fields say of a tensor's numbers. */
typedef struct numbers
{
	uint64_t type;
	field raw, listed; /* number 0: not there */
	json_t *integers;  /* the first ONNX_INTEGERS_MAX and one more; NULL: out of memory */
} numbers;

static bool
take_numbers(wire *w, const field *f, field *out)
{
	if (out->number != 0 || f->type != WIRE_BYTES)
		return WIRE_FAIL(w, "a tensor of the file has its numbers in several pieces");
	*out = *f;
	return true;
}

static void
add_integer(numbers *n, uint64_t integer)
{
	if (json_array_size(n->integers) <= ONNX_INTEGERS_MAX)
		json_array_append_new(n->integers, json_integer((json_int_t) integer));
}

/* One of them, or all behind each other; of many the first ones. */
static bool
take_integers(wire *w, const field *f, numbers *n)
{
	uint64_t integer;

	if (f->type == WIRE_INTEGER)
		add_integer(n, f->value);
	if (f->type != WIRE_BYTES)
		return true;
	for (w->at = f->at; w->at < f->at + f->length && json_array_size(n->integers) <= ONNX_INTEGERS_MAX;)
	{
		if (!wire_integer(w, f->at + f->length, &integer))
			return false;
		add_integer(n, integer);
	}
	return true;
}

/* What is being read. */
typedef struct taken
{
	source_tensor t;
	numbers n;
	char name[ONNX_NAME_MAX + 1];
} taken;

static bool
take_field(wire *w, const field *f, void *arg)
{
	taken *k = arg;

	switch (f->number)
	{
		case TENSOR_DIMS: return take_dims(w, &k->t, f);
		case TENSOR_TYPE: k->n.type = f->value; return true;
		case TENSOR_NAME: return wire_name(w, f, "tensor", 1, ONNX_NAME_MAX, k->name);
		case TENSOR_RAW: return take_numbers(w, f, &k->n.raw);
		case TENSOR_FLOATS:
		case TENSOR_DOUBLES: return take_numbers(w, f, &k->n.listed);
		case TENSOR_INT32:
		case TENSOR_INT64: return take_integers(w, f, &k->n);
		case TENSOR_SEGMENT: return WIRE_FAIL(w, "a tensor of the file is a segment of one, which is not read");
		case TENSOR_LOCATION:
			if (f->value == 0)
				return true;
			llm_fail(w->err, LLM_INVALID, "numbers of the file are in another file, which is not read");
			return llm_hint(w->err, "Save the model as one file: in Python, onnx.save(onnx.load(path), new_path), or "
									"torch.onnx.export(..., external_data=False).");
		default: return true;
	}
}

/* Where the numbers are, which must be as many as the shape has. */
static bool
place(wire *w, source_tensor *t, const numbers *n)
{
	size_t bytes;

	if (n->type >= TYPES || types[n->type].name == NULL)
		return WIRE_FAIL(w, "tensor \"%s\" is of unknown type %llu", SHOWN(t->name), (unsigned long long) n->type);
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
		   WIRE_FAIL(w, "tensor %s has %llu bytes, which are not those of its shape and type", SOURCE_TEXT(t),
					 (unsigned long long) t->bytes);
}

/* ---- integers ---- */

static bool
take_raw_integers(wire *w, const taken *k)
{
	size_t bytes = (size_t) types[k->n.type].integer;

	if (k->n.raw.length != k->t.count * bytes)
		return WIRE_FAIL(w, "tensor %s has %llu bytes, which are not those of its shape and type", SOURCE_TEXT(&k->t),
						 (unsigned long long) k->n.raw.length);
	for (size_t i = 0; i < k->t.count; i++)
	{
		uint8_t raw[8];
		uint64_t integer = 0;

		if (!wire_bytes(w, k->n.raw.at + i * bytes, raw, bytes))
			return false;
		for (size_t b = 0; b < bytes; b++)
			integer |= (uint64_t) raw[b] << 8 * b;
		if (bytes == 4)
			integer = (uint64_t) (int32_t) integer;
		json_array_append_new(k->n.integers, json_integer((json_int_t) integer));
	}
	return true;
}

/* Few of them are kept; a long list is a table that no layer reads. */
static bool
keep_integers(wire *w, const taken *k, json_t *graph)
{
	if (types[k->n.type].integer == 0 || k->t.count > ONNX_INTEGERS_MAX ||
		json_object_size(json_object_get(graph, "integers")) == TENSORS_MAX)
		return true;
	if (k->n.raw.number != 0 && !take_raw_integers(w, k))
		return false;
	if (json_array_size(k->n.integers) != k->t.count)
		return WIRE_FAIL(w, "tensor %s has not as many numbers as its shape", SOURCE_TEXT(&k->t));
	return json_object_set(json_object_get(graph, "integers"), k->t.name, k->n.integers) == 0 ||
		   llm_fail(w->err, LLM_MEMORY, "out of memory for the graph");
}

/* ---- the tensor ---- */

static bool
take_tensor(wire *w, const field *message, const char *name, taken *k, const onnx_found *to)
{
	if (message->type != WIRE_BYTES)
		return WIRE_FAIL(w, "a tensor of the file is no message");
	if (!wire_each(w, message, take_field, k))
		return false;
	k->t.name = name != NULL ? (char *) name : k->name;
	if (k->t.name[0] == '\0')
		return WIRE_FAIL(w, "a tensor of the file has no name");
	return place(w, &k->t, &k->n) && tensor_source_add(to->source, &k->t, w->err) &&
		   (to->graph == NULL || keep_integers(w, k, to->graph));
}

bool
onnx_tensor(wire *w, const field *message, const char *name, const onnx_found *to)
{
	taken k = {.t = {.file = w->file, .count = 1}, .n = {.integers = json_array()}};
	bool ok = take_tensor(w, message, name, &k, to);

	json_decref(k.n.integers);
	return ok;
}
