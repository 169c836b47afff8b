/*
 * fuzz_tensor.c
 *	  Readers of tensors: text in portions of any size, the binary form, type modifiers.
 *
 * The first byte chooses the reader.  Whatever is accepted must be a valid shape with
 * finite elements, and must come back equal when written and read again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/format/tensor_text.h"
#include "../../src/format/tensor_wire.h"
#include "fuzz.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold of every tensor that a reader accepts. */
static void
require_sound(int32_t ndim, const int32_t *dims, const float *values, int32_t count)
{
	int32_t product;

	REQUIRE(tensor_count(ndim, dims, &product) == TENSOR_OK && product == count);
	REQUIRE(tensor_check_finite(values, count) == TENSOR_OK);
}

/* Read a text in portions; the status of the whole. */
static tensor_status
read_text(const char *text, int32_t portion, tensor_text *reader, float *values, int32_t capacity)
{
	int32_t total = 0;

	tensor_text_start(reader, text);
	for (;;)
	{
		int32_t asked = capacity - total < portion ? capacity - total : portion;
		int32_t count;
		tensor_status status = tensor_text_read(reader, values + total, asked, &count);

		REQUIRE(count >= 0 && count <= asked);
		total += count;
		if (status != TENSOR_OK)
			return status;
		if (count < asked)
		{
			REQUIRE(total == reader->nest.count);
			return TENSOR_OK;
		}
		REQUIRE(total < capacity);
	}
}

/* Write with all digits and read again. */
static void
rewrite_text(const tensor_text *reader, const float *values)
{
	const tensor_nest *nest = &reader->nest;
	char *text = malloc((size_t) nest->count * 32 + 16);
	float *again = malloc(((size_t) nest->count + 1) * sizeof(float));
	size_t used = 0;
	tensor_text second;

	for (int32_t i = 0; i < nest->count; i++)
	{
		int32_t lists = 0;

		for (int32_t d = nest->ndim - 1, rest = i; d >= 0 && rest % nest->dims[d] == 0; d--, lists++)
			rest /= nest->dims[d];
		for (int32_t k = 0; i > 0 && k < lists; k++)
			text[used++] = ']';
		if (i > 0)
			text[used++] = ',';
		for (int32_t k = 0; k < lists; k++)
			text[used++] = '[';
		used += sprintf(text + used, "%.9g", values[i]);
	}
	for (int32_t k = 0; k < nest->ndim; k++)
		text[used++] = ']';
	text[used] = '\0';
	REQUIRE(read_text(text, nest->count + 1, &second, again, nest->count + 1) == TENSOR_OK);
	REQUIRE(second.nest.ndim == nest->ndim);
	REQUIRE(memcmp(second.nest.dims, nest->dims, sizeof(nest->dims)) == 0);
	REQUIRE(memcmp(again, values, (size_t) nest->count * sizeof(float)) == 0);
	free(text);
	free(again);
}

static void
fuzz_text(const uint8_t *data, size_t size, int32_t portion)
{
	char *text = malloc(size + 1);
	int32_t capacity;
	float *values;
	tensor_text whole, parts;
	tensor_status status;

	memcpy(text, data, size);
	text[size] = '\0';
	capacity = tensor_text_bound(text) + 1;
	values = malloc((size_t) capacity * sizeof(float));
	status = read_text(text, portion, &parts, values, capacity);
	REQUIRE(read_text(text, capacity, &whole, values, capacity) == status);
	REQUIRE(whole.cursor == parts.cursor && whole.cursor <= text + strlen(text));
	if (status == TENSOR_OK)
	{
		require_sound(whole.nest.ndim, whole.nest.dims, values, whole.nest.count);
		rewrite_text(&whole, values);
	}
	free(values);
	free(text);
}

static void
fuzz_wire(const uint8_t *data, size_t size)
{
	int32_t ndim, count;
	int32_t dims[TENSOR_MAX_DIMS];
	float *values;
	uint8_t *again;

	if (tensor_wire_shape(data, size, &ndim, dims, &count) != TENSOR_OK)
		return;
	REQUIRE(tensor_wire_size(ndim, count) == size);
	values = malloc((size_t) count * sizeof(float));
	if (tensor_wire_values(data, ndim, count, values) == TENSOR_OK)
	{
		require_sound(ndim, dims, values, count);
		again = malloc(size);
		tensor_wire_write(ndim, dims, values, count, again);
		REQUIRE(memcmp(again, data, size) == 0);
		free(again);
	}
	free(values);
}

static void
fuzz_modifier(const uint8_t *data, size_t size)
{
	int32_t code;
	int32_t dims[TENSOR_MAX_DIMS];
	int32_t count, ndim;

	if (size >= sizeof(code))
	{
		memcpy(&code, data, sizeof(code));
		ndim = tensor_shape_decode(code, dims);
		if (ndim > 0)
			REQUIRE(tensor_shape_encode(ndim, dims) == code);
	}
	if (size < 1 + sizeof(dims))
		return;
	ndim = data[0] % 8;
	memcpy(dims, data + 1, sizeof(dims));
	if (tensor_count(ndim, dims, &count) == TENSOR_OK)
	{
		int32_t again[TENSOR_MAX_DIMS];

		code = tensor_shape_encode(ndim, dims);
		REQUIRE(code >= 0 || (ndim == 3 && count > 1 << 22) || (ndim == 4 && count > 1 << 18));
		if (code >= 0)
			REQUIRE(tensor_shape_decode(code, again) == ndim && memcmp(dims, again, ndim * sizeof(int32_t)) == 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] < 128)
		fuzz_text(data + 1, size - 1, data[0] + 1);
	else if (data[0] < 192)
		fuzz_wire(data + 1, size - 1);
	else
		fuzz_modifier(data + 1, size - 1);
	return 0;
}
