/*
 * tensor_json.c
 *	  Casts between tensor and jsonb: nested arrays of numbers.
 *
 * Numbers go to jsonb as the shortest decimal that reads back as the same float, so a
 * tensor survives the way there and back.
 */
#include "postgres.h"

#include "common/shortest_dec.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "tensor.h"

PG_FUNCTION_INFO_V1(tensor_from_jsonb);
PG_FUNCTION_INFO_V1(tensor_to_jsonb);

#define PORTION 16384 /* elements between two looks for a cancel request */

static void
ThrowJsonKind(const char *kind)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("cannot cast jsonb with %s to type tensor", kind),
			 errhint("Nested arrays of numbers are a tensor, as in '[[1,2],[3,4]]'::jsonb::tensor.")));
}

/* Raise what keeps a scalar from being an element. */
static void
ThrowJsonScalar(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a tensor cannot hold null")));
			break;
		case jbvBool: ThrowJsonKind("a boolean"); break;
		default: ThrowJsonKind("a string");
	}
}

/* Take one step of the iteration into the shape, and into values when it is a number. */
static tensor_status
TakeToken(JsonbIteratorToken token, const JsonbValue *value, tensor_nest *nest, float *values)
{
	tensor_status status = TENSOR_OK;

	switch (token)
	{
		case WJB_BEGIN_ARRAY:
			if (value->val.array.rawScalar)
				ThrowJsonKind("a scalar");
			status = tensor_nest_open(nest);
			break;
		case WJB_END_ARRAY: status = tensor_nest_close(nest); break;
		case WJB_ELEM:
			if (value->type != jbvNumeric)
				ThrowJsonScalar(value);
			status = tensor_nest_value(nest);
			if (status == TENSOR_OK)
				values[nest->count - 1] = NumericToElement(NumericGetDatum(value->val.numeric));
			break;
		default: ThrowJsonKind("an object");
	}
	return status;
}

Datum
tensor_from_jsonb(PG_FUNCTION_ARGS)
{
	Jsonb *json = PG_GETARG_JSONB_P(0);
	JsonbIterator *iterator = JsonbIteratorInit(&json->root);
	tensor_nest nest = {0};
	/* Every element has a JEntry. */
	float *values = palloc(Min(VARSIZE(json) / sizeof(JEntry), TENSOR_MAX_ELEMENTS) * sizeof(float));
	JsonbValue value;
	JsonbIteratorToken token;
	Tensor *tensor;

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		tensor_status status = TakeToken(token, &value, &nest, values);

		if (status != TENSOR_OK)
			ThrowTensorStatus(status);
		if (nest.count % PORTION == 0)
			CHECK_FOR_INTERRUPTS();
	}
	tensor = MakeTensor(nest.ndim, nest.dims);
	memcpy(TensorData(tensor), values, nest.count * sizeof(float));
	pfree(values);
	PG_RETURN_TENSOR_P(tensor);
}

/* The numeric with the fewest digits that reads back as this float. */
static JsonbValue
ElementToJson(float element)
{
	char text[FLOAT_SHORTEST_DECIMAL_LEN];
	JsonbValue value;

	float_to_shortest_decimal_buf(element, text);
	value.type = jbvNumeric;
	value.val.numeric = DatumGetNumeric(
		DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	return value;
}

Datum
tensor_to_jsonb(PG_FUNCTION_ARGS)
{
	Tensor *tensor = PG_GETARG_TENSOR_P(0);
	const float *values = TensorData(tensor);
	int32 count = TensorElementCount(tensor);
	JsonbParseState *state = NULL;
	JsonbValue *result = NULL;
	int32 open[TENSOR_MAX_DIMS] = {0}; /* elements so far in the open list of each level */
	int depth = 0;

	for (int32 i = 0; i < count; i++)
	{
		JsonbValue element = ElementToJson(values[i]);

		while (depth < tensor->ndim)
		{
			pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
			open[depth++] = 0;
		}
		pushJsonbValue(&state, WJB_ELEM, &element);
		while (depth > 0 && ++open[depth - 1] == tensor->dims[depth - 1])
		{
			result = pushJsonbValue(&state, WJB_END_ARRAY, NULL);
			depth--;
		}
		if (i % PORTION == 0)
			CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_JSONB_P(JsonbValueToJsonb(result));
}
