/*
 * test_tensor.c
 *	  Shapes, type modifiers, text and binary form of tensors.
 */
#include <float.h>
#include <stdlib.h>

#include "test.h"

#include "../../src/format/tensor_text.h"
#include "../../src/format/tensor_wire.h"

/* Code of a shape, after checking that the code reads back as the shape. */
static int32_t
code_of(int32_t ndim, const int32_t *dims)
{
	int32_t again[TENSOR_MAX_DIMS];
	int32_t code = tensor_shape_encode(ndim, dims);

	if (code >= 0)
	{
		CHECK_INT(tensor_shape_decode(code, again), ndim);
		CHECK_BYTES(again, dims, ndim * sizeof(int32_t));
	}
	return code;
}

/* Every shape at the edge of what a modifier promises has a code. */
static void
test_modifier_bounds(void)
{
	for (int32_t a = 1; a <= TENSOR_MAX_ELEMENTS; a += 1 + a / 7)
	{
		CHECK(code_of(1, (int32_t[]) {a}) >= 0);
		CHECK(code_of(2, (int32_t[]) {a, TENSOR_MAX_ELEMENTS / a}) >= 0);
		for (int32_t b = 1; b <= (1 << 22) / a; b += 1 + b / 3)
		{
			CHECK(code_of(3, (int32_t[]) {a, b, (1 << 22) / a / b}) >= 0);
			for (int32_t c = 1; (int64_t) a * b * c <= 1 << 18; c += 1 + c / 2)
				CHECK(code_of(4, (int32_t[]) {a, b, c, (1 << 18) / a / b / c}) >= 0);
		}
	}
	CHECK_INT(code_of(3, (int32_t[]) {64, 512, 512}), -1);
	CHECK_INT(code_of(4, (int32_t[]) {16, 16, 16, 4096}), -1);
}

/* Codes without a shape are refused; all others are their shape's only code. */
static void
test_modifier_codes(void)
{
	int32_t dims[TENSOR_MAX_DIMS];

	CHECK_INT(tensor_shape_decode(-1, dims), 0);
	CHECK_INT(tensor_shape_decode(INT32_MIN, dims), 0);
	CHECK_INT(tensor_shape_decode(INT32_MAX, dims), 0);
	for (int64_t code = 0; code <= INT32_MAX; code += 104729)
	{
		int32_t ndim = tensor_shape_decode((int32_t) code, dims);

		if (ndim > 0)
			CHECK_INT(tensor_shape_encode(ndim, dims), code);
	}
}

static void
test_count(void)
{
	int32_t count = 0;

	CHECK_INT(tensor_count(2, (int32_t[]) {3, 4}, &count), TENSOR_OK);
	CHECK_INT(count, 12);
	CHECK_INT(tensor_count(0, (int32_t[]) {1}, &count), TENSOR_NO_DIMS);
	CHECK_INT(tensor_count(5, (int32_t[]) {1, 1, 1, 1, 1}, &count), TENSOR_TOO_DEEP);
	CHECK_INT(tensor_count(2, (int32_t[]) {INT32_MAX, 0}, &count), TENSOR_EMPTY);
	CHECK_INT(tensor_count(1, (int32_t[]) {INT32_MIN}, &count), TENSOR_EMPTY);
	CHECK_INT(tensor_count(4, (int32_t[]) {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX}, &count), TENSOR_TOO_MANY);
	CHECK_INT(tensor_count(2, (int32_t[]) {65536, 65536}, &count), TENSOR_TOO_MANY);
}

static void
test_numbers(void)
{
	float value = 0;

	CHECK_INT(tensor_text_number("3.4028235e38", &value), TENSOR_OK);
	CHECK(value == FLT_MAX);
	CHECK_INT(tensor_text_number("3.4028236e38", &value), TENSOR_OUT_OF_RANGE);
	CHECK_INT(tensor_text_number("1e-45", &value), TENSOR_OK);
	CHECK(value > 0);
	CHECK_INT(tensor_text_number("1e-400", &value), TENSOR_OK);
	CHECK(value == 0);
	CHECK_INT(tensor_text_number("", &value), TENSOR_BAD_NUMBER);
	CHECK_INT(tensor_text_number("1 ", &value), TENSOR_BAD_NUMBER);
	CHECK_INT(tensor_text_number("0x1p3", &value), TENSOR_BAD_NUMBER);
	CHECK_INT(tensor_text_number("-NAN", &value), TENSOR_NOT_FINITE);
	CHECK_INT(tensor_text_number("nan(1)", &value), TENSOR_BAD_NUMBER);
	CHECK_INT(tensor_text_number("+Infinity", &value), TENSOR_NOT_FINITE);
}

/* A text read number by number gives what it gives at once, and stops where it does not fit. */
static void
test_portions(void)
{
	tensor_text reader;
	float values[8];
	int32_t count;

	tensor_text_start(&reader, "[[1,2,3],[4,5,6]] ");
	for (int32_t i = 0; i < 6; i++)
	{
		CHECK_INT(tensor_text_read(&reader, values + i, 1, &count), TENSOR_OK);
		CHECK_INT(count, 1);
		CHECK(values[i] == (float) (i + 1));
	}
	CHECK_INT(tensor_text_read(&reader, values + 6, 1, &count), TENSOR_OK);
	CHECK_INT(count, 0);
	CHECK_INT(reader.nest.ndim, 2);
	CHECK_INT(reader.nest.dims[0], 2);
	CHECK_INT(reader.nest.dims[1], 3);
	tensor_text_start(&reader, "[1,2");
	CHECK_INT(tensor_text_read(&reader, values, 8, &count), TENSOR_UNCLOSED);
	CHECK_INT(count, 2);
	CHECK_STR(reader.cursor, "");
	CHECK_INT(tensor_text_bound("[[1,2],[3,4]]"), 4);
}

static void
test_wire(void)
{
	int32_t dims[TENSOR_MAX_DIMS] = {2, 3};
	float values[6] = {1, -2, 3.5f, 0, FLT_MAX, FLT_MIN};
	float again[6];
	uint8_t bytes[64];
	size_t size = tensor_wire_size(2, 6);
	int32_t ndim, count;

	tensor_wire_write(2, dims, values, 6, bytes);
	for (size_t length = 0; length < sizeof(bytes); length++)
		CHECK_INT(tensor_wire_shape(bytes, length, &ndim, dims, &count) == TENSOR_OK, length == size);
	CHECK_INT(tensor_wire_shape(bytes, size, &ndim, dims, &count), TENSOR_OK);
	CHECK_INT(tensor_wire_values(bytes, ndim, count, again), TENSOR_OK);
	CHECK_BYTES(values, again, sizeof(values));
	memset(bytes + size - 4, 0xff, 4);
	CHECK_INT(tensor_wire_values(bytes, ndim, count, again), TENSOR_NOT_FINITE);
}

int
main(void)
{
	test_modifier_bounds();
	test_modifier_codes();
	test_count();
	test_numbers();
	test_portions();
	test_wire();
	return test_summary();
}
