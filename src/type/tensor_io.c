/*
 * tensor_io.c
 *	  Text and binary input and output of tensor, and its shape modifier tensor(2,3).
 *
 * Input functions check the modifier themselves, since COPY passes it to them; all other
 * assignments go through the cast tensor(tensor, integer, boolean).  Output writes the
 * shortest decimal that reads back as the same float.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/array.h"

#include "../format/tensor_wire.h"
#include "tensor.h"
#include "tensor_error.h"

PG_FUNCTION_INFO_V1(tensor_in);
PG_FUNCTION_INFO_V1(tensor_out);
PG_FUNCTION_INFO_V1(tensor_to_json);
PG_FUNCTION_INFO_V1(tensor_recv);
PG_FUNCTION_INFO_V1(tensor_send);
PG_FUNCTION_INFO_V1(tensor_typmod_in);
PG_FUNCTION_INFO_V1(tensor_typmod_out);
PG_FUNCTION_INFO_V1(tensor);

/* Elements handled between two looks for a cancel request. */
#define PORTION 65536

/* ERROR unless the shape is the one that the modifier asks for. */
static void
RequireModifier(const Tensor *tensor, int32 typmod)
{
	int32 dims[TENSOR_MAX_DIMS];
	int ndim;
	int32 count;

	if (typmod < 0)
		return;
	ndim = tensor_shape_decode(typmod, dims);
	if (ndim == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%d is no type modifier of type tensor", typmod)));
	if (ndim == tensor->ndim && memcmp(dims, tensor->dims, ndim * sizeof(int32)) == 0)
		return;
	RequireShape(ndim, dims, &count);
	ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
					errmsg("value of shape (%s) does not fit type tensor(%s)", ShapeText(tensor->ndim, tensor->dims),
						   ShapeText(ndim, dims)),
					count == TensorElementCount(tensor)
						? errhint("Change the shape with llm_reshape(value, '{%s}').", ShapeText(ndim, dims))
						: 0));
}

/* Read all numbers of a text; returns their count.  capacity is more than the text can hold. */
static int32
ReadNumbers(tensor_text *reader, const char *text, float *values, int32 capacity)
{
	int32 total = 0;
	int32 count;

	do
	{
		tensor_status status = tensor_text_read(reader, values + total, Min(PORTION, capacity - total), &count);

		if (status != TENSOR_OK)
			ThrowTensorText(status, text, reader);
		total += count;
		CHECK_FOR_INTERRUPTS();
	} while (count == PORTION);
	return total;
}

Datum
tensor_in(PG_FUNCTION_ARGS)
{
	char *text = PG_GETARG_CSTRING(0);
	int32 typmod = PG_GETARG_INT32(2);
	int32 capacity = tensor_text_bound(text) + 1;
	float *values = palloc(capacity * sizeof(float));
	tensor_text reader;
	int32 count;
	Tensor *tensor;

	tensor_text_start(&reader, text);
	count = ReadNumbers(&reader, text, values, capacity);
	tensor = MakeTensor(reader.nest.ndim, reader.nest.dims);
	memcpy(TensorData(tensor), values, count * sizeof(float));
	pfree(values);
	RequireModifier(tensor, typmod);
	PG_RETURN_TENSOR_P(tensor);
}

/* Dimensions, counted from the last, whose lists begin (or end) at element i; ndim for the first element. */
static int
ListsAt(const Tensor *tensor, int32 i)
{
	int lists = 0;

	for (int d = tensor->ndim - 1; d >= 0 && i % tensor->dims[d] == 0; d--)
	{
		i /= tensor->dims[d];
		lists++;
	}
	return lists;
}

static void
AppendRepeated(StringInfo out, char c, int times)
{
	while (times-- > 0)
		appendStringInfoCharMacro(out, c);
}

Datum
tensor_out(PG_FUNCTION_ARGS)
{
	Tensor *tensor = PG_GETARG_TENSOR_P(0);
	const float *values = TensorData(tensor);
	int32 count = TensorElementCount(tensor);
	StringInfoData out;

	initStringInfo(&out);
	for (int32 i = 0; i < count; i++)
	{
		int lists = ListsAt(tensor, i);

		if (i > 0)
		{
			AppendRepeated(&out, ']', lists);
			appendStringInfoCharMacro(&out, ',');
		}
		AppendRepeated(&out, '[', lists);
		enlargeStringInfo(&out, FLOAT_SHORTEST_DECIMAL_LEN);
		out.len += float_to_shortest_decimal_bufn(values[i], out.data + out.len);
		if (i % PORTION == 0)
			CHECK_FOR_INTERRUPTS();
	}
	AppendRepeated(&out, ']', tensor->ndim);
	appendStringInfoCharMacro(&out, '\0');
	PG_RETURN_CSTRING(out.data);
}

/* The text form is nested JSON arrays; with this cast to_jsonb() and row_to_json() know it. */
Datum
tensor_to_json(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(DatumGetCString(tensor_out(fcinfo))));
}

Datum
tensor_recv(PG_FUNCTION_ARGS)
{
	StringInfo message = (StringInfo) PG_GETARG_POINTER(0);
	int32 typmod = PG_GETARG_INT32(2);
	int length = message->len - message->cursor;
	const uint8 *bytes = (const uint8 *) pq_getmsgbytes(message, length);
	int32 dims[TENSOR_MAX_DIMS];
	int32 ndim, count;
	tensor_status status = tensor_wire_shape(bytes, length, &ndim, dims, &count);
	Tensor *tensor;

	if (status != TENSOR_OK)
		ThrowTensorStatus(status);
	tensor = MakeTensor(ndim, dims);
	status = tensor_wire_values(bytes, ndim, count, TensorData(tensor));
	if (status != TENSOR_OK)
		ThrowTensorStatus(status);
	RequireModifier(tensor, typmod);
	PG_RETURN_TENSOR_P(tensor);
}

Datum
tensor_send(PG_FUNCTION_ARGS)
{
	Tensor *tensor = PG_GETARG_TENSOR_P(0);
	int32 count = TensorElementCount(tensor);
	Size size = tensor_wire_size(tensor->ndim, count);
	bytea *result = (bytea *) palloc(VARHDRSZ + size);

	SET_VARSIZE(result, VARHDRSZ + size);
	tensor_wire_write(tensor->ndim, tensor->dims, TensorData(tensor), count, (uint8 *) VARDATA(result));
	PG_RETURN_BYTEA_P(result);
}

/* Lengths in parentheses to a modifier. */
Datum
tensor_typmod_in(PG_FUNCTION_ARGS)
{
	int ndim;
	int32 *dims = ArrayGetIntegerTypmods(PG_GETARG_ARRAYTYPE_P(0), &ndim);
	int32 count, typmod;

	RequireShape(ndim, dims, &count);
	typmod = tensor_shape_encode(ndim, dims);
	if (typmod < 0)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("shape (%s) is too large for a type modifier", ShapeText(ndim, dims)),
						errdetail("A modifier holds every shape of one or two dimensions, of three up to 4194304 "
								  "elements, of four up to 262144."),
						errhint("Declare the column as tensor and add CHECK (llm_shape(column_name) = '{%s}').",
								ShapeText(ndim, dims))));
	PG_RETURN_INT32(typmod);
}

Datum
tensor_typmod_out(PG_FUNCTION_ARGS)
{
	int32 dims[TENSOR_MAX_DIMS];
	int ndim = tensor_shape_decode(PG_GETARG_INT32(0), dims);

	PG_RETURN_CSTRING(ndim > 0 ? psprintf("(%s)", ShapeText(ndim, dims)) : pstrdup(""));
}

/* tensor(tensor, integer, boolean): the cast that holds a value to the modifier of its column. */
Datum
tensor(PG_FUNCTION_ARGS)
{
	RequireModifier(DatumGetTensorHeader(PG_GETARG_DATUM(0)), PG_GETARG_INT32(1));
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}
