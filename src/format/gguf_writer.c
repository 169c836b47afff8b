/*
 * gguf_writer.c
 *	  Write GGUF files.
 *
 * Keys and tensors are collected as the bytes that they will be in the file.  A buffer that has
 * failed to grow stays failed, and is asked about once.
 */
#include "gguf_writer.h"

#include <stdlib.h>
#include <string.h>

#include "ggml_blocks.h"

#define VERSION 3
#define ALIGNMENT 32      /* the default of the format, which needs no key */
#define PIECE_BYTES 16384 /* of numbers, encoded at once */

typedef struct buffer
{
	uint8_t *bytes;
	size_t count, capacity;
	bool failed;
} buffer;

typedef struct planned
{
	const ggml_type *type;
	size_t count;
} planned;

struct gguf_writer
{
	buffer keys, infos;
	uint64_t key_count;
	planned *tensors; /* (tensor_count) */
	size_t tensor_count;
	uint64_t data_bytes; /* of all tensors with their padding */

	gguf_sink sink;
	void *arg;
	size_t turn; /* the tensor that is written, */
	size_t done; /* and how many of its numbers are */
};

/* ---- bytes ---- */

static void
put(buffer *b, const void *bytes, size_t count)
{
	if (b->failed)
		return;
	if (count > b->capacity - b->count)
	{
		size_t capacity = 2 * b->capacity + count;
		uint8_t *grown = realloc(b->bytes, capacity);

		if (grown == NULL)
		{
			b->failed = true;
			return;
		}
		b->bytes = grown;
		b->capacity = capacity;
	}
	if (count > 0)
		memcpy(b->bytes + b->count, bytes, count);
	b->count += count;
}

static void
put_number(buffer *b, uint64_t number, size_t bytes)
{
	uint8_t out[sizeof(number)];

	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t) (number >> (8 * i));
	put(b, out, bytes);
}

static void
put_float(buffer *b, float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	put_number(b, bits, sizeof(bits));
}

static void
put_string(buffer *b, const char *bytes, size_t length)
{
	put_number(b, length, sizeof(uint64_t));
	put(b, bytes, length);
}

/* ---- keys ---- */

gguf_writer *
gguf_writer_new(llm_error *err)
{
	gguf_writer *w = calloc(1, sizeof(gguf_writer));

	if (w == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory while laying out the file");
	return w;
}

void
gguf_writer_free(gguf_writer *w)
{
	if (w == NULL)
		return;
	free(w->keys.bytes);
	free(w->infos.bytes);
	free(w->tensors);
	free(w);
}

static void
put_key(gguf_writer *w, const char *key, gguf_type type)
{
	put_string(&w->keys, key, strlen(key));
	put_number(&w->keys, type, sizeof(uint32_t));
	w->key_count++;
}

static void
put_array(gguf_writer *w, const char *key, gguf_type type, size_t count)
{
	put_key(w, key, GGUF_ARRAY);
	put_number(&w->keys, type, sizeof(uint32_t));
	put_number(&w->keys, count, sizeof(uint64_t));
}

void
gguf_writer_u32(gguf_writer *w, const char *key, uint32_t value)
{
	put_key(w, key, GGUF_U32);
	put_number(&w->keys, value, sizeof(value));
}

void
gguf_writer_f32(gguf_writer *w, const char *key, float value)
{
	put_key(w, key, GGUF_F32);
	put_float(&w->keys, value);
}

void
gguf_writer_bool(gguf_writer *w, const char *key, bool value)
{
	put_key(w, key, GGUF_BOOL);
	put_number(&w->keys, value, 1);
}

void
gguf_writer_string(gguf_writer *w, const char *key, const char *bytes, size_t length)
{
	put_key(w, key, GGUF_STRING);
	put_string(&w->keys, bytes, length);
}

void
gguf_writer_i32s(gguf_writer *w, const char *key, const int32_t *values, size_t count)
{
	put_array(w, key, GGUF_I32, count);
	for (size_t i = 0; i < count; i++)
		put_number(&w->keys, (uint32_t) values[i], sizeof(values[i]));
}

void
gguf_writer_f32s(gguf_writer *w, const char *key, const float *values, size_t count)
{
	put_array(w, key, GGUF_F32, count);
	for (size_t i = 0; i < count; i++)
		put_float(&w->keys, values[i]);
}

void
gguf_writer_bytes(gguf_writer *w, const char *key, const uint8_t *values, size_t count)
{
	put_array(w, key, GGUF_U8, count);
	put(&w->keys, values, count);
}

void
gguf_writer_strings(gguf_writer *w, const char *key, size_t count)
{
	put_array(w, key, GGUF_STRING, count);
}

void
gguf_writer_element(gguf_writer *w, const char *bytes, size_t length)
{
	put_string(&w->keys, bytes, length);
}

/* ---- tensors ---- */

static uint64_t
padded(uint64_t bytes)
{
	return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Numbers of a tensor and their bytes, of a shape that is made of whole blocks. */
static bool
measure(const ggml_type *type, int32_t ndim, const int64_t *dims, size_t *count, size_t *bytes)
{
	*count = 1;
	for (int32_t i = 0; i < ndim; i++)
		if (dims[i] < 0 || __builtin_mul_overflow(*count, (size_t) dims[i], count))
			return false;
	return (ndim > 0 ? dims[ndim - 1] : 1) % (int64_t) type->length == 0 &&
		   !__builtin_mul_overflow(*count / type->length, type->bytes, bytes) && *bytes <= INT64_MAX;
}

static bool
plan(gguf_writer *w, planned t, llm_error *err)
{
	planned *tensors = realloc(w->tensors, (w->tensor_count + 1) * sizeof(planned));

	if (tensors == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while laying out the file");
	w->tensors = tensors;
	w->tensors[w->tensor_count++] = t;
	return true;
}

bool
gguf_writer_tensor(gguf_writer *w, const char *name, source_type source, int32_t ndim, const int64_t *dims,
				   llm_error *err)
{
	const ggml_type *type = ggml_type_of(source);
	size_t count, bytes;

	if (strlen(name) < 1 || strlen(name) >= GGUF_NAME_BYTES)
		return llm_fail(err, LLM_INVALID, "the name \"%s\" is not one of 1 to %d bytes, which a GGUF file needs",
						SHOWN(name), GGUF_NAME_BYTES - 1);
	if (type == NULL || type->encode == NULL)
		return llm_fail(err, LLM_INVALID, "tensor \"%s\" is of a type that is not written", SHOWN(name));
	if (ndim < 0 || ndim > GGUF_DIMS_MAX || !measure(type, ndim, dims, &count, &bytes))
		return llm_fail(err, LLM_INVALID, "tensor \"%s\" has a shape that cannot be written as %s", SHOWN(name),
						type->name);
	put_string(&w->infos, name, strlen(name));
	put_number(&w->infos, (uint32_t) ndim, sizeof(uint32_t));
	for (int32_t i = ndim - 1; i >= 0; i--)
		put_number(&w->infos, (uint64_t) dims[i], sizeof(uint64_t));
	put_number(&w->infos, type->number, sizeof(uint32_t));
	put_number(&w->infos, w->data_bytes, sizeof(uint64_t));
	w->data_bytes += padded(bytes);
	return plan(w, (planned) {type, count}, err);
}

/* ---- the file ---- */

static bool
write_padding(gguf_writer *w, uint64_t bytes, llm_error *err)
{
	static const uint8_t zeros[ALIGNMENT];

	return w->sink(w->arg, zeros, (size_t) (padded(bytes) - bytes), err);
}

/* On to the next tensor that has numbers left. */
static bool
pass_over(gguf_writer *w, llm_error *err)
{
	while (w->turn < w->tensor_count && w->done == w->tensors[w->turn].count)
	{
		const planned *t = &w->tensors[w->turn];

		if (!write_padding(w, t->count / t->type->length * t->type->bytes, err))
			return false;
		w->turn++;
		w->done = 0;
	}
	return true;
}

bool
gguf_writer_begin(gguf_writer *w, gguf_sink sink, void *arg, uint64_t *bytes, llm_error *err)
{
	buffer start = {NULL};
	uint64_t head;
	bool ok;

	put(&start, "GGUF", 4);
	put_number(&start, VERSION, sizeof(uint32_t));
	put_number(&start, w->tensor_count, sizeof(uint64_t));
	put_number(&start, w->key_count, sizeof(uint64_t));
	head = start.count + w->keys.count + w->infos.count;
	*bytes = padded(head) + w->data_bytes;
	w->sink = sink;
	w->arg = arg;
	if (start.failed || w->keys.failed || w->infos.failed)
		ok = llm_fail(err, LLM_MEMORY, "out of memory while laying out the file");
	else
		ok = sink(arg, start.bytes, start.count, err) && sink(arg, w->keys.bytes, w->keys.count, err) &&
			 sink(arg, w->infos.bytes, w->infos.count, err) && write_padding(w, head, err) && pass_over(w, err);
	free(start.bytes);
	return ok;
}

/* The tensor that the next numbers belong to; NULL: it lacks fewer. */
static const planned *
take_turn(gguf_writer *w, size_t count, llm_error *err)
{
	const planned *t = &w->tensors[w->turn];

	if (!gguf_writer_done(w) && count <= t->count - w->done && count % t->type->length == 0)
	{
		w->done += count;
		return t;
	}
	llm_fail(err, LLM_INVALID, "%zu numbers are written to a tensor of the file that lacks others", count);
	return NULL;
}

bool
gguf_writer_blocks(gguf_writer *w, const void *blocks, size_t count, llm_error *err)
{
	const planned *t =
		count > 0 && !gguf_writer_done(w) ? take_turn(w, count * w->tensors[w->turn].type->length, err) : NULL;

	return t != NULL && w->sink(w->arg, blocks, count * t->type->bytes, err) && pass_over(w, err);
}

bool
gguf_writer_numbers(gguf_writer *w, const float *numbers, size_t count, llm_error *err)
{
	const planned *t;
	uint8_t bytes[PIECE_BYTES];

	if (count == 0)
		return true;
	t = take_turn(w, count, err);
	if (t == NULL)
		return false;
	for (size_t blocks = count / t->type->length; blocks > 0;)
	{
		size_t now = PIECE_BYTES / t->type->bytes < blocks ? PIECE_BYTES / t->type->bytes : blocks;

		t->type->encode(numbers, now, bytes);
		if (!w->sink(w->arg, bytes, now * t->type->bytes, err))
			return false;
		numbers += now * t->type->length;
		blocks -= now;
	}
	return pass_over(w, err);
}

bool
gguf_writer_done(const gguf_writer *w)
{
	return w->turn == w->tensor_count;
}
