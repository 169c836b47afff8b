/*
 * tensor_ops.c
 *	  Comparison and hash of tensors: DISTINCT, GROUP BY, ORDER BY, joins, indexes.
 *
 * Order: by rank, then by the lengths from the first, then by the elements in row-major
 * order.  It is total because elements are never NaN.  -0 and 0 are equal everywhere, so
 * the hash of both is that of 0.
 */
#include "postgres.h"

#include <math.h>

#include "access/detoast.h"
#include "common/hashfn.h"

#include "tensor.h"

PG_FUNCTION_INFO_V1(tensor_eq);
PG_FUNCTION_INFO_V1(tensor_ne);
PG_FUNCTION_INFO_V1(tensor_lt);
PG_FUNCTION_INFO_V1(tensor_le);
PG_FUNCTION_INFO_V1(tensor_gt);
PG_FUNCTION_INFO_V1(tensor_ge);
PG_FUNCTION_INFO_V1(tensor_cmp);
PG_FUNCTION_INFO_V1(tensor_hash);
PG_FUNCTION_INFO_V1(tensor_hash_extended);

static int
CompareShapes(const Tensor *a, const Tensor *b)
{
	if (a->ndim != b->ndim)
		return a->ndim < b->ndim ? -1 : 1;
	for (int i = 0; i < a->ndim; i++)
		if (a->dims[i] != b->dims[i])
			return a->dims[i] < b->dims[i] ? -1 : 1;
	return 0;
}

/* Below, at or above 0 as a is before, equal to or after b. */
static int
CompareTensors(const Tensor *a, const Tensor *b)
{
	int order = CompareShapes(a, b);
	const float *x = TensorData(a);
	const float *y = TensorData(b);
	int32 count;

	if (order != 0)
		return order;
	count = TensorElementCount(a);
	for (int32 i = 0; i < count; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

/* Compare the arguments of a comparison function and free what was detoasted for it. */
static int
CompareArguments(FunctionCallInfo fcinfo)
{
	Tensor *a = PG_GETARG_TENSOR_P(0);
	Tensor *b = PG_GETARG_TENSOR_P(1);
	int order = CompareTensors(a, b);

	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return order;
}

/* Tensors of different size differ: no need to fetch what lies out of line. */
static bool
ArgumentsAreEqual(FunctionCallInfo fcinfo)
{
	return toast_raw_datum_size(PG_GETARG_DATUM(0)) == toast_raw_datum_size(PG_GETARG_DATUM(1)) &&
		   CompareArguments(fcinfo) == 0;
}

Datum
tensor_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(ArgumentsAreEqual(fcinfo));
}

Datum
tensor_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!ArgumentsAreEqual(fcinfo));
}

Datum
tensor_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(CompareArguments(fcinfo) < 0);
}

Datum
tensor_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(CompareArguments(fcinfo) <= 0);
}

Datum
tensor_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(CompareArguments(fcinfo) > 0);
}

Datum
tensor_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(CompareArguments(fcinfo) >= 0);
}

Datum
tensor_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(CompareArguments(fcinfo));
}

/* A tensor whose bytes are equal whenever values are: the same one unless it holds -0. */
static const Tensor *
WithoutNegativeZero(const Tensor *tensor)
{
	const float *values = TensorData(tensor);
	int32 count = TensorElementCount(tensor);
	int32 i = 0;
	Tensor *copy;

	while (i < count && !(values[i] == 0 && signbit(values[i])))
		i++;
	if (i == count)
		return tensor;
	copy = MakeTensor(tensor->ndim, tensor->dims);
	for (i = 0; i < count; i++)
		TensorData(copy)[i] = values[i] == 0 ? 0 : values[i];
	return copy;
}

/* What is hashed: all but the varlena header. */
#define HASHED_BYTES(tensor) ((const unsigned char *) &(tensor)->ndim)
#define HASHED_LENGTH(tensor) (VARSIZE(tensor) - offsetof(Tensor, ndim))

Datum
tensor_hash(PG_FUNCTION_ARGS)
{
	Tensor *tensor = PG_GETARG_TENSOR_P(0);
	const Tensor *hashed = WithoutNegativeZero(tensor);
	Datum hash = hash_any(HASHED_BYTES(hashed), HASHED_LENGTH(hashed));

	PG_FREE_IF_COPY(tensor, 0);
	return hash;
}

Datum
tensor_hash_extended(PG_FUNCTION_ARGS)
{
	Tensor *tensor = PG_GETARG_TENSOR_P(0);
	const Tensor *hashed = WithoutNegativeZero(tensor);
	Datum hash = hash_any_extended(HASHED_BYTES(hashed), HASHED_LENGTH(hashed), PG_GETARG_INT64(1));

	PG_FREE_IF_COPY(tensor, 0);
	return hash;
}
