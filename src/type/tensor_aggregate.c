/*
 * tensor_aggregate.c
 *	  sum(tensor) and avg(tensor), element by element.
 *
 * The state holds sums in double and grows no further after the first row.  Parallel
 * workers hand it over as bytes of the same machine.  A final function never changes the
 * state: windows go on adding to it.
 */
#include "postgres.h"

#include "tensor.h"

PG_FUNCTION_INFO_V1(tensor_accumulate);
PG_FUNCTION_INFO_V1(tensor_combine);
PG_FUNCTION_INFO_V1(tensor_serialize);
PG_FUNCTION_INFO_V1(tensor_deserialize);
PG_FUNCTION_INFO_V1(tensor_sum);
PG_FUNCTION_INFO_V1(tensor_avg);

typedef struct TensorSums
{
	int64 rows; /* that were not NULL, at least 1 */
	int32 ndim;
	int32 elements;
	int32 dims[TENSOR_MAX_DIMS];
	double sums[FLEXIBLE_ARRAY_MEMBER];
} TensorSums;

#define SUMS_SIZE(elements) (offsetof(TensorSums, sums) + (Size) (elements) * sizeof(double))

/* The aggregate's memory, which lives as long as its group. */
static MemoryContext
StateContext(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("sums of tensors are computed by aggregates only")));
	return context;
}

static TensorSums *
StartSums(MemoryContext context, const Tensor *tensor)
{
	int32 elements = TensorElementCount(tensor);
	TensorSums *state = MemoryContextAllocZero(context, SUMS_SIZE(elements));

	state->ndim = tensor->ndim;
	state->elements = elements;
	memcpy(state->dims, tensor->dims, tensor->ndim * sizeof(int32));
	return state;
}

/* tensor_accumulate(internal, tensor): add a row. */
Datum
tensor_accumulate(PG_FUNCTION_ARGS)
{
	MemoryContext context = StateContext(fcinfo);
	TensorSums *state = PG_ARGISNULL(0) ? NULL : (TensorSums *) PG_GETARG_POINTER(0);
	Tensor *tensor;
	const float *values;

	if (PG_ARGISNULL(1))
	{
		if (state == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(state);
	}
	tensor = PG_GETARG_TENSOR_P(1);
	if (state == NULL)
		state = StartSums(context, tensor);
	RequireSameShape(state->ndim, state->dims, tensor->ndim, tensor->dims);
	values = TensorData(tensor);
	for (int32 i = 0; i < state->elements; i++)
		state->sums[i] += values[i];
	state->rows++;
	PG_RETURN_POINTER(state);
}

static void
AddSums(TensorSums *state, const TensorSums *more)
{
	RequireSameShape(state->ndim, state->dims, more->ndim, more->dims);
	for (int32 i = 0; i < state->elements; i++)
		state->sums[i] += more->sums[i];
	state->rows += more->rows;
}

/* tensor_combine(internal, internal): add what another process has summed. */
Datum
tensor_combine(PG_FUNCTION_ARGS)
{
	MemoryContext context = StateContext(fcinfo);
	TensorSums *state = PG_ARGISNULL(0) ? NULL : (TensorSums *) PG_GETARG_POINTER(0);
	const TensorSums *more = PG_ARGISNULL(1) ? NULL : (TensorSums *) PG_GETARG_POINTER(1);

	if (more != NULL && state == NULL)
	{
		state = MemoryContextAlloc(context, SUMS_SIZE(more->elements));
		memcpy(state, more, SUMS_SIZE(more->elements));
	}
	else if (more != NULL)
		AddSums(state, more);
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

/* tensor_serialize(internal): the state as bytes. */
Datum
tensor_serialize(PG_FUNCTION_ARGS)
{
	const TensorSums *state;
	Size size;
	bytea *bytes;

	StateContext(fcinfo);
	state = (TensorSums *) PG_GETARG_POINTER(0);
	size = SUMS_SIZE(state->elements);
	bytes = (bytea *) palloc(VARHDRSZ + size);
	SET_VARSIZE(bytes, VARHDRSZ + size);
	memcpy(VARDATA(bytes), state, size);
	PG_RETURN_BYTEA_P(bytes);
}

/* tensor_deserialize(bytea, internal): what tensor_serialize() of this server wrote. */
Datum
tensor_deserialize(PG_FUNCTION_ARGS)
{
	bytea *bytes;
	TensorSums *state;

	StateContext(fcinfo);
	bytes = PG_GETARG_BYTEA_PP(0);
	state = (TensorSums *) palloc(VARSIZE_ANY_EXHDR(bytes));
	memcpy(state, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	PG_RETURN_POINTER(state);
}

/* The sums divided, as tensor; ERROR when one is beyond real. */
static Datum
FinishSums(const TensorSums *state, double divisor)
{
	Tensor *result = MakeTensor(state->ndim, state->dims);
	float *values = TensorData(result);

	for (int32 i = 0; i < state->elements; i++)
		values[i] = (float) (state->sums[i] / divisor);
	RequireInRange(result);
	PG_RETURN_TENSOR_P(result);
}

Datum
tensor_sum(PG_FUNCTION_ARGS)
{
	StateContext(fcinfo);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	return FinishSums((TensorSums *) PG_GETARG_POINTER(0), 1);
}

Datum
tensor_avg(PG_FUNCTION_ARGS)
{
	const TensorSums *state;

	StateContext(fcinfo);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = (TensorSums *) PG_GETARG_POINTER(0);
	return FinishSums(state, state->rows);
}
