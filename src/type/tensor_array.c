/*
 * tensor_array.c
 *	  Casts between tensor and arrays of numbers.
 *
 * Arrays of any number type become tensors of the same shape; lower bounds do not matter.
 * NULL, NaN and infinity are refused, what is beyond real is an error, what is below its
 * precision rounds to the nearest, below its smallest number to zero.  Through real[] a
 * tensor reaches everything that takes arrays, vector of pgvector too.
 */
#include "postgres.h"

#include <math.h>

#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "../format/tensor_text.h"
#include "tensor.h"

PG_FUNCTION_INFO_V1(tensor_from_array);
PG_FUNCTION_INFO_V1(tensor_to_array);

#define PORTION 65536 /* elements between two looks for a cancel request */

static float
Float4ToElement(Datum datum)
{
	return DatumGetFloat4(datum);
}

static float
Float8ToElement(Datum datum)
{
	double number = DatumGetFloat8(datum);
	float element = (float) number;

	if (isinf(element) && !isinf(number))
		ThrowTensorStatus(TENSOR_OUT_OF_RANGE);
	return element;
}

static float
Int2ToElement(Datum datum)
{
	return DatumGetInt16(datum);
}

static float
Int4ToElement(Datum datum)
{
	return DatumGetInt32(datum);
}

static float
Int8ToElement(Datum datum)
{
	return DatumGetInt64(datum);
}

float
NumericToElement(Datum numeric)
{
	char *text = DatumGetCString(DirectFunctionCall1(numeric_out, numeric));
	float element;
	tensor_status status = tensor_text_number(text, &element);

	if (status != TENSOR_OK)
		ThrowTensorStatus(status);
	pfree(text);
	return element;
}

typedef float (*ElementReader)(Datum datum);

/* How to read an element of an array; the install script casts no other types. */
static ElementReader
ChooseReader(Oid type)
{
	static const struct
	{
		Oid type;
		ElementReader reader;
	} readers[] = {
		{FLOAT4OID, Float4ToElement}, {FLOAT8OID, Float8ToElement}, {INT2OID, Int2ToElement},
		{INT4OID, Int4ToElement},     {INT8OID, Int8ToElement},     {NUMERICOID, NumericToElement},
	};

	for (int i = 0; i < lengthof(readers); i++)
		if (readers[i].type == type)
			return readers[i].reader;
	elog(ERROR, "no tensor from an array of type %u", type);
}

/* Convert the elements of an array without NULL, of any type but real. */
static void
ReadElements(ArrayType *array, float *values, int32 count)
{
	Oid type = ARR_ELEMTYPE(array);
	ElementReader reader = ChooseReader(type);
	char *at = ARR_DATA_PTR(array);
	int16 length;
	bool by_value;
	char align;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	for (int32 i = 0; i < count; i++)
	{
		values[i] = reader(fetch_att(at, by_value, length));
		at = att_addlength_pointer(at, length, at);
		at = (char *) att_align_nominal(at, align);
		if (i % PORTION == 0)
			CHECK_FOR_INTERRUPTS();
	}
}

Datum
tensor_from_array(PG_FUNCTION_ARGS)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(0);
	Tensor *tensor;

	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a tensor cannot hold NULL"),
						errhint("Fill the gaps first, for example with array_replace(column_name, NULL, 0).")));
	/* An empty array has no dimensions. */
	if (ARR_NDIM(array) == 0)
		ThrowTensorStatus(TENSOR_EMPTY);
	tensor = MakeTensor(ARR_NDIM(array), ARR_DIMS(array));
	if (ARR_ELEMTYPE(array) == FLOAT4OID)
		memcpy(TensorData(tensor), ARR_DATA_PTR(array), TensorElementCount(tensor) * sizeof(float));
	else
		ReadElements(array, TensorData(tensor), TensorElementCount(tensor));
	CheckTensorFinite(tensor);
	PG_RETURN_TENSOR_P(tensor);
}

Datum
tensor_to_array(PG_FUNCTION_ARGS)
{
	Tensor *tensor = PG_GETARG_TENSOR_P(0);
	Size elements = TensorElementCount(tensor) * sizeof(float);
	Size size = ARR_OVERHEAD_NONULLS(tensor->ndim) + elements;
	ArrayType *array = (ArrayType *) palloc0(size);

	SET_VARSIZE(array, size);
	array->ndim = tensor->ndim;
	array->elemtype = FLOAT4OID;
	memcpy(ARR_DIMS(array), tensor->dims, tensor->ndim * sizeof(int32));
	for (int i = 0; i < tensor->ndim; i++)
		ARR_LBOUND(array)[i] = 1;
	memcpy(ARR_DATA_PTR(array), TensorData(tensor), elements);
	PG_RETURN_ARRAYTYPE_P(array);
}
