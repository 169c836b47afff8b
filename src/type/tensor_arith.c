/*
 * tensor_arith.c
 *	  Arithmetic of tensors: + - * element by element, scaling by a number, the Euclidean
 *	  distance <-> and the negative inner product <#>.
 *
 * Both tensors must have one shape: nothing is broadcast.  Elements are computed in float
 * (scaling in double), distances in double.  A result beyond real is an error; one below
 * its smallest number is zero.
 */
#include "postgres.h"

#include <math.h>

#include "tensor.h"

PG_FUNCTION_INFO_V1(tensor_add);
PG_FUNCTION_INFO_V1(tensor_subtract);
PG_FUNCTION_INFO_V1(tensor_multiply);
PG_FUNCTION_INFO_V1(tensor_scale);
PG_FUNCTION_INFO_V1(tensor_scale_commuted);
PG_FUNCTION_INFO_V1(tensor_distance);
PG_FUNCTION_INFO_V1(tensor_negative_inner_product);

void
RequireSameShape(int ndim, const int32 *dims, int other_ndim, const int32 *other_dims)
{
	int32 count, other_count;

	if (ndim == other_ndim && memcmp(dims, other_dims, ndim * sizeof(int32)) == 0)
		return;
	RequireShape(ndim, dims, &count);
	RequireShape(other_ndim, other_dims, &other_count);
	ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
					errmsg("tensors of different shapes: (%s) and (%s)", ShapeText(ndim, dims),
						   ShapeText(other_ndim, other_dims)),
					count == other_count ? errhint("llm_reshape() gives a tensor another shape.") : 0));
}

void
RequireInRange(const Tensor *tensor)
{
	if (tensor_check_finite(TensorData(tensor), TensorElementCount(tensor)) != TENSOR_OK)
		ThrowTensorStatus(TENSOR_OUT_OF_RANGE);
}

typedef void (*Combiner)(const float *a, const float *b, float *result, int32 count);

static void
AddElements(const float *a, const float *b, float *result, int32 count)
{
	for (int32 i = 0; i < count; i++)
		result[i] = a[i] + b[i];
}

static void
SubtractElements(const float *a, const float *b, float *result, int32 count)
{
	for (int32 i = 0; i < count; i++)
		result[i] = a[i] - b[i];
}

static void
MultiplyElements(const float *a, const float *b, float *result, int32 count)
{
	for (int32 i = 0; i < count; i++)
		result[i] = a[i] * b[i];
}

static Datum
CombineArguments(FunctionCallInfo fcinfo, Combiner combine)
{
	Tensor *a = PG_GETARG_TENSOR_P(0);
	Tensor *b = PG_GETARG_TENSOR_P(1);
	Tensor *result;

	RequireSameShape(a->ndim, a->dims, b->ndim, b->dims);
	result = MakeTensor(a->ndim, a->dims);
	combine(TensorData(a), TensorData(b), TensorData(result), TensorElementCount(a));
	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	RequireInRange(result);
	PG_RETURN_TENSOR_P(result);
}

Datum
tensor_add(PG_FUNCTION_ARGS)
{
	return CombineArguments(fcinfo, AddElements);
}

Datum
tensor_subtract(PG_FUNCTION_ARGS)
{
	return CombineArguments(fcinfo, SubtractElements);
}

Datum
tensor_multiply(PG_FUNCTION_ARGS)
{
	return CombineArguments(fcinfo, MultiplyElements);
}

static Datum
ScaleTensor(const Tensor *tensor, double factor)
{
	Tensor *result = MakeTensor(tensor->ndim, tensor->dims);
	const float *from = TensorData(tensor);
	float *to = TensorData(result);
	int32 count = TensorElementCount(tensor);

	if (!isfinite(factor))
		ThrowTensorStatus(TENSOR_NOT_FINITE);
	for (int32 i = 0; i < count; i++)
		to[i] = (float) (from[i] * factor);
	RequireInRange(result);
	PG_RETURN_TENSOR_P(result);
}

Datum
tensor_scale(PG_FUNCTION_ARGS)
{
	return ScaleTensor(PG_GETARG_TENSOR_P(0), PG_GETARG_FLOAT8(1));
}

Datum
tensor_scale_commuted(PG_FUNCTION_ARGS)
{
	return ScaleTensor(PG_GETARG_TENSOR_P(1), PG_GETARG_FLOAT8(0));
}

/* Sums kept side by side, so that the loops vectorise without changing the order of additions. */
#define LANES 8

static double
SquaredDistance(const float *a, const float *b, int32 count)
{
	double lanes[LANES] = {0};
	double sum = 0;
	int32 i = 0;

	for (; i + LANES <= count; i += LANES)
		for (int k = 0; k < LANES; k++)
		{
			double difference = (double) a[i + k] - b[i + k];

			lanes[k] += difference * difference;
		}
	for (; i < count; i++)
		sum += ((double) a[i] - b[i]) * ((double) a[i] - b[i]);
	for (int k = 0; k < LANES; k++)
		sum += lanes[k];
	return sum;
}

static double
InnerProduct(const float *a, const float *b, int32 count)
{
	double lanes[LANES] = {0};
	double sum = 0;
	int32 i = 0;

	for (; i + LANES <= count; i += LANES)
		for (int k = 0; k < LANES; k++)
			lanes[k] += (double) a[i + k] * b[i + k];
	for (; i < count; i++)
		sum += (double) a[i] * b[i];
	for (int k = 0; k < LANES; k++)
		sum += lanes[k];
	return sum;
}

static double
MeasureArguments(FunctionCallInfo fcinfo, double (*measure)(const float *a, const float *b, int32 count))
{
	Tensor *a = PG_GETARG_TENSOR_P(0);
	Tensor *b = PG_GETARG_TENSOR_P(1);
	double result;

	RequireSameShape(a->ndim, a->dims, b->ndim, b->dims);
	result = measure(TensorData(a), TensorData(b), TensorElementCount(a));
	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return result;
}

Datum
tensor_distance(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(sqrt(MeasureArguments(fcinfo, SquaredDistance)));
}

Datum
tensor_negative_inner_product(PG_FUNCTION_ARGS)
{
	/* Not -x: that of 0 would be -0. */
	PG_RETURN_FLOAT8(0 - MeasureArguments(fcinfo, InnerProduct));
}
