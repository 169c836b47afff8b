/*
 * predict.c
 *	  llm_predict(), llm_probability(), llm_probabilities(): one row at a time.
 *
 * The first row of a call site opens the model and binds the input's type to its columns; each
 * further row costs a check that the model is still current, reading the values, encoding
 * them and one pass through the network.  No user code runs between filling the model's batch
 * and running it, so calls for the same model may be nested.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "../common.h"
#include "../metrics/metrics.h"
#include "predict.h"
#include "support.h"

/*
 * From so many multiplications on, some milliseconds of a processor, a call asks a server: the exchange costs two
 * wake-ups of processes, copies of inputs and results, and a few launches, some tenths of a millisecond in all.
 */
#define SERVED_WORK 1e8

/* What a reset keeps: enough for rows read ahead, which would otherwise be paged in anew each time. */
#define ROW_BYTES (128 * 1024)

PG_FUNCTION_INFO_V1(llm_predict);
PG_FUNCTION_INFO_V1(llm_predict_as);
PG_FUNCTION_INFO_V1(llm_probability);
PG_FUNCTION_INFO_V1(llm_probabilities);

static void
ReleaseCall(void *arg)
{
	EndUse(&((PredictCall *) arg)->meter);
}

PredictCall *
GetPredictCall(FunctionCallInfo fcinfo, int input)
{
	PredictCall *call = fcinfo->flinfo->fn_extra;
	MemoryContext cxt = fcinfo->flinfo->fn_mcxt;
	Oid type;

	if (likely(call != NULL))
		return call;
	type = get_fn_expr_argtype(fcinfo->flinfo, input);
	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_INDETERMINATE_DATATYPE), errmsg("could not determine the type of the input")));
	call = MemoryContextAllocZero(cxt, sizeof(PredictCall));
	call->input_type = type;
	call->model_cxt = AllocSetContextCreate(cxt, "llmapp model of a call", ALLOCSET_SMALL_SIZES);
	call->row_cxt = AllocSetContextCreate(cxt, "llmapp row of a call", 0, ROW_BYTES, ALLOCSET_DEFAULT_MAXSIZE);
	call->label = -1;
	call->release.func = ReleaseCall;
	call->release.arg = call;
	MemoryContextRegisterResetCallback(cxt, &call->release);
	fcinfo->flinfo->fn_extra = call;
	return call;
}

/* Raise the failure in call->error and leave that empty. */
static void
ThrowCallError(PredictCall *call)
{
	llm_error error = call->error;

	memset(&call->error, 0, sizeof(llm_error));
	ThrowError(&error);
}

/* Whether a string is the whole input: the model uses one column, and it holds text. */
static bool
TakesText(const encoder *e)
{
	int32 used = 0;
	bool text = false;

	for (int32 i = 0; i < encoder_column_count(e); i++)
		if (encoder_column_used(e, i))
		{
			column_kind kind = encoder_column(e, i)->kind;

			used++;
			text = kind == COLUMN_TEXT || kind == COLUMN_CATEGORY;
		}
	return used == 1 && text;
}

/* Type as which inputs are read: json is read as jsonb, and so are strings unless the model takes text. */
static Oid
EffectiveInputType(PredictCall *call, const encoder *e)
{
	Oid base = getBaseType(call->input_type);

	bool string = base == UNKNOWNOID || base == TEXTOID || base == VARCHAROID || base == BPCHAROID;

	call->read_json = false;
	if (string && TakesText(e))
		return TEXTOID;
	if (!string && base != JSONOID)
		return call->input_type;
	call->read_json = true;
	return JSONBOID;
}

static void
OpenCall(PredictCall *call, Oid relid)
{
	MemoryContext old;
	Model *model;

	call->model = NULL;
	call->output = NULL;
	call->label = -1;
	call->server = NULL;
	call->alone = false;
	MemoryContextReset(call->model_cxt);
	old = MemoryContextSwitchTo(call->model_cxt);
	model = OpenModel(relid, 0, call->model_cxt);
	RequireRowModel(model);
	call->binding =
		BindInput(model->manifest->encoder, EffectiveInputType(call, model->manifest->encoder), call->model_cxt);
	predictor_set_poll(model->predictor, InterruptRequested, NULL);
	RememberModel(model);
	call->row_work = net_multiplications(model->manifest->net);
	MemoryContextSwitchTo(old);
	StartUse(&call->meter, relid);
	call->model = model;
}

char *
ModelLiteral(Oid relid)
{
	return quote_literal_cstr(DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(relid))));
}

/* A string as the JSON object it must be. */
static Datum
JsonInput(PredictCall *call, Datum input)
{
	char *string = call->input_type == UNKNOWNOID ? DatumGetCString(input) : TextDatumGetCString(input);
	const char *first = string + strspn(string, " \t\r\n");

	if (*first != '{')
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("input is neither a row nor a JSON object"),
				 errdetail("Model \"%s\" was given \"%s\".", get_rel_name(call->model->relid),
						   pnstrdup(string, pg_mbcliplen(string, strlen(string), 40))),
				 errhint("Pass a row of a table, as in SELECT llm_predict(%s, t) FROM some_table AS t, or jsonb.",
						 ModelLiteral(call->model->relid))));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(string));
}

/* The input as the type it was bound with. */
static Datum
InputDatum(PredictCall *call, Datum input)
{
	if (call->read_json)
		return JsonInput(call, input);
	if (call->input_type == UNKNOWNOID)
		return CStringGetTextDatum(DatumGetCString(input));
	return input;
}

void
OpenPredictModel(PredictCall *call, Oid relid)
{
	if (call->model == NULL || call->model->relid != relid || !ModelIsCurrent(call->model))
		OpenCall(call, relid);
}

void
EncodePredictRow(PredictCall *call, Datum input, batch *b)
{
	const value *values = ReadInput(call->binding, InputDatum(call, input));

	if (!encoder_row(call->model->manifest->encoder, values, b, &call->error))
		ThrowCallError(call);
}

/* About so many multiplications are to be done for the rows; of texts by their tokens. */
static double
WorkOf(const PredictCall *call, const batch *b)
{
	double rows = b->shape.context > 0 ? b->token_start[b->rows] / (double) b->shape.context : b->rows;

	return rows * call->row_work;
}

/* By a server on a GPU; NULL when there is none, or it is not worth the way. */
static const float *
PredictAtServer(PredictCall *call, const batch *b)
{
	if (call->alone || WorkOf(call, b) < SERVED_WORK)
		return NULL;
	if (call->server == NULL)
		call->server = OpenInference(call->model, INFERENCE_PREDICT, (int32) b->capacity, call->model_cxt);
	call->alone = call->server == NULL;
	if (call->alone)
		return NULL;
	GiveRows(call->server, b);
	call->alone = !AwaitResults(call->server);
	if (call->alone)
		return NULL;
	MeterServed(&call->meter, b->rows);
	return InferenceResult(call->server, 0);
}

const float *
RunPredictor(PredictCall *call, predictor *p)
{
	const float *out = PredictAtServer(call, predictor_batch(p));

	if (out == NULL)
		out = predictor_run(p, &call->error);
	if (out == NULL)
		ThrowCallError(call);
	return out;
}

static inline const float *
RunRow(PredictCall *call, Oid relid, Datum input)
{
	MemoryContext old;
	const float *out;
	batch *b;

	CHECK_FOR_INTERRUPTS();
	OpenPredictModel(call, relid);
	old = MemoryContextSwitchTo(call->row_cxt);
	b = predictor_batch(call->model->predictor);
	b->rows = 0;
	EncodePredictRow(call, input, b);
	out = RunPredictor(call, call->model->predictor);
	MemoryContextSwitchTo(old);
	MemoryContextReset(call->row_cxt);
	return out;
}

const float *
PredictRow(PredictCall *call, Oid relid, Datum input)
{
	const float *out;
	instr_time start;

	if (likely(!MeterWantsTime(&call->meter)))
	{
		out = RunRow(call, relid, input);
		MeterRow(&call->meter);
		return out;
	}
	INSTR_TIME_SET_CURRENT(start);
	out = RunRow(call, relid, input);
	MeterTime(&call->meter, NanosecondsSince(start));
	return out;
}

Datum
PredictionDatum(PredictCall *call, const float *out, Oid type)
{
	if (call->output == NULL || call->output_type != type)
	{
		call->output = MakeOutput(call->model->manifest->target, type, call->model_cxt);
		call->output_type = type;
	}
	return OutputDatum(call->output, out);
}

Datum
llm_predict(PG_FUNCTION_ARGS)
{
	PredictCall *call = GetPredictCall(fcinfo, 1);

	return PredictionDatum(call, PredictRow(call, PG_GETARG_OID(0), PG_GETARG_DATUM(1)), TEXTOID);
}

/* llm_predict(model, input, as_type): only the type of the third argument counts. */
Datum
llm_predict_as(PG_FUNCTION_ARGS)
{
	PredictCall *call;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	call = GetPredictCall(fcinfo, 1);
	return PredictionDatum(call, PredictRow(call, PG_GETARG_OID(0), PG_GETARG_DATUM(1)),
						   get_fn_expr_rettype(fcinfo->flinfo));
}

const target *
RequireClasses(const Model *model)
{
	if (model->manifest->target->kind != TARGET_CLASS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("model \"%s\" predicts numbers, not labels", get_rel_name(model->relid)),
						errhint("SELECT * FROM llm_evaluate(%s) shows how large its errors are.",
								ModelLiteral(model->relid))));
	return model->manifest->target;
}

int32
RequireLabel(const Model *model, const char *label)
{
	const target *t = RequireClasses(model);

	for (int32 i = 0; i < t->class_count; i++)
		if (strcmp(t->classes[i], label) == 0)
			return i;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("model \"%s\" has no label \"%s\"", get_rel_name(model->relid), label),
					errdetail("It has %d labels, among them \"%s\" and \"%s\".", t->class_count, t->classes[0],
							  t->classes[1]),
					errhint("SELECT DISTINCT actual FROM llm_confusion(%s) shows those of its held-out rows.",
							ModelLiteral(model->relid))));
}

/* Index of a label, remembered from row to row. */
static int32
CallLabel(PredictCall *call, text *label)
{
	if (call->label < 0 || VARSIZE_ANY_EXHDR(label) != VARSIZE_ANY_EXHDR(call->label_text) ||
		memcmp(VARDATA_ANY(label), VARDATA_ANY(call->label_text), VARSIZE_ANY_EXHDR(label)) != 0)
	{
		char *name = text_to_cstring(label);
		int32 index = RequireLabel(call->model, name);

		call->label_text = (text *) MemoryContextAlloc(call->model_cxt, VARHDRSZ + strlen(name));
		SET_VARSIZE(call->label_text, VARHDRSZ + strlen(name));
		memcpy(VARDATA(call->label_text), name, strlen(name));
		call->label = index;
		pfree(name);
	}
	return call->label;
}

Datum
llm_probability(PG_FUNCTION_ARGS)
{
	PredictCall *call;
	const target *t;
	const float *out;
	int32 label;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	call = GetPredictCall(fcinfo, 1);
	out = PredictRow(call, PG_GETARG_OID(0), PG_GETARG_DATUM(1));
	t = RequireClasses(call->model);
	if (!PG_ARGISNULL(2))
		label = CallLabel(call, PG_GETARG_TEXT_PP(2));
	else
		label = t->class_count == 2 ? 1 : predicted_class(t, out);
	PG_RETURN_FLOAT8(class_probability(t, out, label));
}

/* A class and its probability, to be sorted. */
typedef struct ClassProbability
{
	double probability;
	int32 label;
} ClassProbability;

static int
MoreProbable(const void *a, const void *b)
{
	const ClassProbability *x = a;
	const ClassProbability *y = b;

	if (x->probability != y->probability)
		return x->probability < y->probability ? 1 : -1;
	return x->label - y->label;
}

Datum
llm_probabilities(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PredictCall *call = GetPredictCall(fcinfo, 1);
	const float *out = PredictRow(call, PG_GETARG_OID(0), PG_GETARG_DATUM(1));
	const target *t = RequireClasses(call->model);
	ClassProbability *classes = palloc(sizeof(ClassProbability) * t->class_count);

	for (int32 i = 0; i < t->class_count; i++)
		classes[i] = (ClassProbability) {class_probability(t, out, i), i};
	qsort(classes, t->class_count, sizeof(ClassProbability), MoreProbable);
	InitMaterializedSRF(fcinfo, 0);
	for (int32 i = 0; i < t->class_count; i++)
	{
		Datum values[2] = {CStringGetTextDatum(t->classes[classes[i].label]), Float8GetDatum(classes[i].probability)};
		bool nulls[2] = {false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
