/*
 * window.c
 *	  llm_predict_over(): many rows at once, as a window function.
 *
 * When the row at hand has no prediction yet, the inputs of up to MODEL_BULK_ROWS rows from it
 * on are read ahead and go through the network together; the rows that follow are then
 * answered from memory.  Evaluating an input may run any code, also another call for the same
 * model, so all inputs are copied first and the model's batch is filled and run afterwards.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "windowapi.h"

#include "../common.h"
#include "predict.h"

PG_FUNCTION_INFO_V1(llm_predict_over);

/* Predictions of the rows [first, first + rows) of a partition. */
typedef struct Ahead
{
	int64 first;
	int32 rows;
	bool nulls[MODEL_BULK_ROWS];   /* the input was NULL */
	int32 places[MODEL_BULK_ROWS]; /* of the others: which row of out */
	float *out;                    /* (MODEL_BULK_ROWS, outputs), in `cxt` */
	int32 outputs;
	MemoryContext cxt;
} Ahead;

/* Inputs from the current row on, copied into the current memory context; sets rows and nulls. */
static void
ReadAhead(WindowObject window, Ahead *ahead, Oid type, int32 most, Datum *inputs)
{
	int16 length;
	bool by_value;

	get_typlenbyval(type, &length, &by_value);
	for (ahead->rows = 0; ahead->rows < most; ahead->rows++)
	{
		int32 i = ahead->rows;
		bool outside;

		CHECK_FOR_INTERRUPTS();
		inputs[i] = WinGetFuncArgInPartition(window, 1, i, WINDOW_SEEK_CURRENT, false, &ahead->nulls[i], &outside);
		if (outside)
			break;
		if (!ahead->nulls[i])
			inputs[i] = datumCopy(inputs[i], by_value, length);
	}
}

/* Predict the rows read ahead. */
static void
PredictAhead(PredictCall *call, Ahead *ahead, const Datum *inputs)
{
	predictor *p = ModelBulkPredictor(call->model);
	batch *b = predictor_batch(p);
	int32 outputs = call->model->manifest->target->outputs;
	instr_time start;

	INSTR_TIME_SET_CURRENT(start);
	predictor_set_poll(p, InterruptRequested, NULL);
	b->rows = 0;
	for (int32 i = 0; i < ahead->rows; i++)
	{
		if (ahead->nulls[i])
			continue;
		ahead->places[i] = (int32) b->rows;
		EncodePredictRow(call, inputs[i], b);
	}
	if (ahead->out == NULL || ahead->outputs != outputs)
		ahead->out = MemoryContextAlloc(ahead->cxt, sizeof(float) * MODEL_BULK_ROWS * outputs);
	ahead->outputs = outputs;
	if (b->rows > 0)
		memcpy(ahead->out, RunPredictor(call, p), sizeof(float) * b->rows * outputs);
	MeterRows(&call->meter, b->rows, NanosecondsSince(start));
}

/* Fill `ahead` from the current row on. */
static void
FillAhead(FunctionCallInfo fcinfo, WindowObject window, PredictCall *call, Oid relid, Ahead *ahead)
{
	Datum inputs[MODEL_BULK_ROWS];
	MemoryContext old;

	if (!get_fn_expr_arg_stable(fcinfo->flinfo, 0))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("the model of llm_predict_over() must be the same for all rows"),
						errhint("Use llm_predict() where it differs from row to row.")));
	old = MemoryContextSwitchTo(call->row_cxt);
	OpenPredictModel(call, relid);
	ReadAhead(window, ahead, call->input_type, ModelBulkRows(call->model), inputs);
	PredictAhead(call, ahead, inputs);
	ahead->first = WinGetCurrentPosition(window);
	MemoryContextSwitchTo(old);
	MemoryContextReset(call->row_cxt);
}

Datum
llm_predict_over(PG_FUNCTION_ARGS)
{
	WindowObject window = PG_WINDOW_OBJECT();
	PredictCall *call = GetPredictCall(fcinfo, 1);
	Ahead *ahead = WinGetPartitionLocalMemory(window, sizeof(Ahead));
	int64 at = WinGetCurrentPosition(window);
	bool isnull;
	Oid relid = DatumGetObjectId(WinGetFuncArgCurrent(window, 0, &isnull));

	if (isnull)
		PG_RETURN_NULL();
	if (at >= ahead->first + ahead->rows || ahead->rows == 0)
	{
		if (ahead->cxt == NULL)
			ahead->cxt = GetMemoryChunkContext(ahead);
		FillAhead(fcinfo, window, call, relid, ahead);
	}
	WinSetMarkPosition(window, at);
	if (ahead->nulls[at - ahead->first])
		PG_RETURN_NULL();
	return PredictionDatum(call, ahead->out + (int64) ahead->places[at - ahead->first] * ahead->outputs, TEXTOID);
}
