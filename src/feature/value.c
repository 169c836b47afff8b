/*
 * value.c
 *	  Values to and from the bytes of the raw training file.
 *
 * A value is one tag byte and its content:
 *	  TAG_NULL
 *	  TAG_INTEGER	zigzag varint, for whole numbers of 32 bits
 *	  TAG_NUMBER	8 bytes of the double
 *	  TAG_STRING	varint length, bytes
 *	  TAG_VECTOR	number of dimensions in 1 byte, a varint for each, zeros up to a multiple of 4 bytes
 *				from the start, floats
 * The file lives on one machine for one job, so numbers keep the machine's byte order.  Unpacked
 * strings and vectors point into the buffer, which must therefore be aligned to 4 bytes.
 */
#include "value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum value_tag
{
	TAG_NULL,
	TAG_INTEGER,
	TAG_NUMBER,
	TAG_STRING,
	TAG_VECTOR
};

#define VARINT_BYTES 5

/* Counts every byte, writes those that fit. */
typedef struct writer
{
	uint8_t *buffer;
	size_t capacity;
	size_t used;
} writer;

static void
put(writer *w, const void *data, size_t bytes)
{
	if (bytes > 0 && bytes <= w->capacity && w->used <= w->capacity - bytes)
		memcpy(w->buffer + w->used, data, bytes);
	w->used += bytes;
}

static void
put_byte(writer *w, uint8_t byte)
{
	put(w, &byte, 1);
}

static void
put_varint(writer *w, uint32_t number)
{
	for (; number >= 128; number >>= 7)
		put_byte(w, (uint8_t) (number | 128));
	put_byte(w, (uint8_t) number);
}

static void
put_number(writer *w, double number)
{
	int32_t whole = number >= INT32_MIN && number <= INT32_MAX ? (int32_t) number : 0;
	double back = whole;

	if (memcmp(&back, &number, sizeof(double)) == 0)
	{
		put_byte(w, TAG_INTEGER);
		put_varint(w, ((uint32_t) whole << 1) ^ (whole < 0 ? UINT32_MAX : 0));
	}
	else
	{
		put_byte(w, TAG_NUMBER);
		put(w, &number, sizeof(double));
	}
}

static void
put_vector(writer *w, const value *v)
{
	put_byte(w, TAG_VECTOR);
	put_byte(w, v->ndim > 1 ? (uint8_t) v->ndim : 1);
	if (v->ndim <= 1)
		put_varint(w, (uint32_t) v->length);
	for (int32_t i = 0; v->ndim > 1 && i < v->ndim; i++)
		put_varint(w, (uint32_t) v->dims[i]);
	while (w->used % sizeof(float) != 0)
		put_byte(w, 0);
	put(w, v->vector, v->length * sizeof(float));
}

size_t
value_pack(const value *values, int32_t count, uint8_t *buffer, size_t capacity)
{
	writer w = {buffer, capacity, 0};

	for (int32_t i = 0; i < count; i++)
	{
		const value *v = &values[i];

		switch (v->kind)
		{
			case VALUE_NULL: put_byte(&w, TAG_NULL); break;
			case VALUE_NUMBER: put_number(&w, v->number); break;
			case VALUE_STRING:
				put_byte(&w, TAG_STRING);
				put_varint(&w, (uint32_t) v->length);
				put(&w, v->string, v->length);
				break;
			case VALUE_VECTOR: put_vector(&w, v); break;
		}
	}
	return w.used;
}

typedef struct reader
{
	const uint8_t *buffer;
	size_t bytes;
	size_t used;
} reader;

static bool
get(reader *r, void *data, size_t bytes)
{
	if (bytes > r->bytes - r->used)
		return false;
	memcpy(data, r->buffer + r->used, bytes);
	r->used += bytes;
	return true;
}

static bool
get_varint(reader *r, uint32_t *number)
{
	uint64_t sum = 0;
	uint8_t byte;

	for (int i = 0; i < VARINT_BYTES; i++)
	{
		if (!get(r, &byte, 1))
			return false;
		sum |= (uint64_t) (byte & 127) << (7 * i);
		if (byte < 128)
		{
			*number = (uint32_t) sum;
			return sum <= UINT32_MAX;
		}
	}
	return false;
}

static bool
get_integer(reader *r, value *v)
{
	uint32_t zigzag;

	v->kind = VALUE_NUMBER;
	if (!get_varint(r, &zigzag))
		return false;
	v->number = (int32_t) ((zigzag >> 1) ^ (0 - (zigzag & 1)));
	return true;
}

static bool
get_number(reader *r, value *v)
{
	v->kind = VALUE_NUMBER;
	return get(r, &v->number, sizeof(double));
}

static bool
get_string(reader *r, value *v)
{
	uint32_t length;

	v->kind = VALUE_STRING;
	if (!get_varint(r, &length) || length > INT32_MAX || length > r->bytes - r->used)
		return false;
	v->length = (int32_t) length;
	v->string = (const char *) r->buffer + r->used;
	r->used += length;
	return true;
}

/* The shape of a vector; its length is the product. */
static bool
get_dims(reader *r, value *v)
{
	uint8_t ndim;
	uint64_t length = 1;

	if (!get(r, &ndim, 1) || ndim < 1 || ndim > VALUE_MAX_DIMS)
		return false;
	v->ndim = ndim;
	for (int32_t i = 0; i < ndim; i++)
	{
		uint32_t dim;

		if (!get_varint(r, &dim) || dim > INT32_MAX)
			return false;
		v->dims[i] = (int32_t) dim;
		length *= dim;
		if (length > INT32_MAX)
			return false;
	}
	v->length = (int32_t) length;
	return true;
}

static bool
get_vector(reader *r, value *v)
{
	uint32_t length;
	uint8_t zero;

	v->kind = VALUE_VECTOR;
	if (!get_dims(r, v))
		return false;
	length = (uint32_t) v->length;
	while (r->used % sizeof(float) != 0)
		if (!get(r, &zero, 1) || zero != 0)
			return false;
	if (length > (r->bytes - r->used) / sizeof(float))
		return false;
	v->vector = (const float *) (const void *) (r->buffer + r->used);
	r->used += length * sizeof(float);
	return true;
}

static bool
get_value(reader *r, value *v)
{
	uint8_t tag;

	memset(v, 0, sizeof(value));
	if (!get(r, &tag, 1))
		return false;
	switch (tag)
	{
		case TAG_NULL: return true;
		case TAG_INTEGER: return get_integer(r, v);
		case TAG_NUMBER: return get_number(r, v);
		case TAG_STRING: return get_string(r, v);
		case TAG_VECTOR: return get_vector(r, v);
	}
	return false;
}

bool
value_unpack(const uint8_t *buffer, size_t bytes, value *values, int32_t count, llm_error *err)
{
	reader r = {buffer, bytes, 0};

	if ((uintptr_t) buffer % sizeof(float) != 0)
		return llm_fail(err, LLM_INVALID, "a row of the training file must be aligned to 4 bytes");
	for (int32_t i = 0; i < count; i++)
		if (!get_value(&r, &values[i]))
			return llm_fail(err, LLM_CORRUPT, "value %d of a row of the training file is damaged", i + 1);
	if (r.used != bytes)
		return llm_fail(err, LLM_CORRUPT, "a row of the training file is %zu bytes longer than its values",
						bytes - r.used);
	return true;
}

/* float8out and float4out write the fewest digits that read back equal; whole numbers without exponent. */
void
number_text(double number, bool single, char *text)
{
	int digits = single ? 6 : 15;
	int most = single ? 9 : 17;

	if (number == floor(number) && fabs(number) < 1e18)
	{
		snprintf(text, NUMBER_TEXT_BYTES, "%.0f", number == 0 ? 0.0 : number);
		return;
	}
	for (; digits <= most; digits++)
	{
		snprintf(text, NUMBER_TEXT_BYTES, "%.*g", digits, number);
		if (single ? strtof(text, NULL) == (float) number : strtod(text, NULL) == number)
			return;
	}
}

const char *
value_text(const value *v, bool single, char *buffer, int32_t *length)
{
	if (v->kind == VALUE_STRING)
	{
		*length = v->length;
		return v->string;
	}
	number_text(v->number, single, buffer);
	*length = (int32_t) strlen(buffer);
	return buffer;
}
