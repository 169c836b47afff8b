/*
 * evaluate.c
 *	  llm_evaluate(), llm_confusion(), llm_roc(): quality of a model on rows with known targets.
 *
 * Without a source the results are those that training stored in the manifest.  Of a source up to
 * MODEL_BULK_ROWS rows are read at a time, which are one pass through the network.  Rows whose
 * target is NULL say nothing and are skipped.  Language models read texts: evaluate_text.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "../common.h"
#include "../metrics/metrics.h"
#include "evaluate.h"
#include "predict.h"

PG_FUNCTION_INFO_V1(llm_evaluate);
PG_FUNCTION_INFO_V1(llm_confusion);
PG_FUNCTION_INFO_V1(llm_roc);

/* One call: a model and its results, freed with the context. */
typedef struct Evaluation
{
	MemoryContext cxt;
	MemoryContextCallback callback;
	Model *model;
	evaluation *rows;      /* of a source; NULL for stored results */
	json_t *own;           /* results of rows */
	const json_t *results; /* as evaluation_json() gives them */
} Evaluation;

/* How the rows of a source are read. */
typedef struct SourceReader
{
	Evaluation *evaluation;
	TupleDesc desc;
	InputBinding *binding;
	int *attributes;      /* (columns of the target) attribute numbers */
	ValueReader *readers; /* (columns of the target) */
	int32 classes[MODEL_BULK_ROWS];
	double *numbers; /* (MODEL_BULK_ROWS, outputs) */
} SourceReader;

static void
FreeEvaluation(void *arg)
{
	Evaluation *e = arg;

	evaluation_free(e->rows);
	json_decref(e->own);
}

/* Find the target's columns in the source. */
static void
BindTarget(SourceReader *reader)
{
	const Model *model = reader->evaluation->model;
	const target *t = model->manifest->target;

	reader->attributes = palloc(sizeof(int) * t->columns);
	reader->readers = palloc0(sizeof(ValueReader) * t->columns);
	reader->numbers = palloc0(sizeof(double) * MODEL_BULK_ROWS * t->outputs);
	for (int32 i = 0; i < t->columns; i++)
	{
		int attribute = SPI_fnumber(reader->desc, t->names[i]);
		Oid type;

		if (attribute <= 0)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("column \"%s\" is missing from the source", t->names[i]),
							errdetail("Model \"%s\" predicts it; predictions are compared with its values.",
									  get_rel_name(model->relid)),
							errhint("Select the column in the source, or use llm_predict() for rows without it.")));
		type = TupleDescAttr(reader->desc, attribute - 1)->atttypid;
		if (!InitValueReader(&reader->readers[i], type))
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
							errmsg("column \"%s\" has type %s, which cannot be compared with predictions",
								   t->names[i], format_type_be(type)),
							errdetail("At training it had type %s.", t->sql_types[i])));
		reader->attributes[i] = attribute;
	}
}

/* Report a target value that is no number. */
static void
ThrowNotNumber(const SourceReader *reader, int32 i)
{
	const target *t = reader->evaluation->model->manifest->target;

	ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
					errmsg("column \"%s\" of type %s does not hold the numbers to compare with", t->names[i],
						   format_type_be(reader->readers[i].typid)),
					errdetail("At training it had type %s.", t->sql_types[i])));
}

/* Store the target of row `row` of a batch; false when it is NULL. */
static bool
ReadTarget(SourceReader *reader, HeapTuple tuple, int64 row)
{
	const target *t = reader->evaluation->model->manifest->target;

	for (int32 i = 0; i < t->columns; i++)
	{
		bool isnull;
		Datum datum = heap_getattr(tuple, reader->attributes[i], reader->desc, &isnull);
		value v;

		ReadValue(&reader->readers[i], datum, isnull, &v);
		if (v.kind == VALUE_NULL)
			return false;
		if (t->kind == TARGET_CLASS)
			reader->classes[row] = target_class_of(t, &v);
		else if (v.kind == VALUE_NUMBER && t->outputs == t->columns)
			reader->numbers[row * t->outputs + i] = v.number;
		else if (v.kind == VALUE_VECTOR && v.length == t->outputs)
			for (int32 k = 0; k < v.length; k++)
				reader->numbers[row * t->outputs + k] = v.vector[k];
		else
			ThrowNotNumber(reader, i);
	}
	return true;
}

/* Predict the rows in the bulk predictor's batch and count them. */
static void
CountBatch(SourceReader *reader)
{
	Evaluation *e = reader->evaluation;
	predictor *p = ModelBulkPredictor(e->model);
	batch *b = predictor_batch(p);
	int32 outputs = e->model->manifest->target->outputs;
	llm_error err = {0};
	const float *out;

	if (b->rows == 0)
		return;
	out = predictor_run(p, &err);
	if (out == NULL)
		ThrowError(&err);
	for (int64 row = 0; row < b->rows; row++)
		if (!evaluation_add(e->rows, out + row * outputs, reader->classes[row], reader->numbers + row * outputs,
							&err))
			ThrowError(&err);
}

/*
 * Encode what a fetch brought and count it.  Nothing here calls user code, which could
 * use the bulk predictor's batch for itself.
 */
static void
CountTuples(void *arg, SPITupleTable *tuples, uint64 count)
{
	SourceReader *reader = arg;
	Model *model = reader->evaluation->model;
	batch *b = predictor_batch(ModelBulkPredictor(model));
	llm_error err = {0};

	b->rows = 0;
	for (uint64 i = 0; i < count; i++)
	{
		HeapTuple tuple = tuples->vals[i];
		const value *values;

		CHECK_FOR_INTERRUPTS();
		if (!ReadTarget(reader, tuple, b->rows))
			continue;
		values = ReadInput(reader->binding, heap_copy_tuple_as_datum(tuple, reader->desc));
		if (!encoder_row(model->manifest->encoder, values, b, &err))
			ThrowError(&err);
	}
	CountBatch(reader);
}

/* Find in the rows what the model and its target need. */
static void
BindColumns(void *arg, TupleDesc desc)
{
	SourceReader *reader = arg;

	reader->desc = desc;
	BindTarget(reader);
	reader->binding = BindInput(reader->evaluation->model->manifest->encoder, RECORDOID, CurrentMemoryContext);
}

/* Run a model that predicts columns over a source. */
static json_t *
EvaluateRows(Evaluation *e, const char *source)
{
	SourceReader reader = {.evaluation = e};
	SourceVisitor visitor = {.arg = &reader, .columns = BindColumns, .rows = CountTuples};
	llm_error err = {0};
	json_t *results;

	e->rows = evaluation_new(e->model->manifest->target, &err);
	if (e->rows == NULL)
		ThrowError(&err);
	predictor_set_poll(ModelBulkPredictor(e->model), InterruptRequested, NULL);
	VisitSource(source, ModelBulkRows(e->model), e->cxt, &visitor);
	results = evaluation_json(e->rows, &err);
	if (results == NULL)
		ThrowError(&err);
	return results;
}

static void
EvaluateSource(Evaluation *e, const char *source)
{
	const manifest *m = e->model->manifest;

	e->own = m->target->kind != TARGET_TEXT   ? EvaluateRows(e, source)
			 : encoder_has_tokens(m->encoder) ? EvaluatePairs(e->model, source, e->cxt)
											  : EvaluateTexts(e->model, source, e->cxt);
	e->results = e->own;
}

/* Results that training stored; it marks those that are of the training rows for want of others. */
static void
ReadStoredResults(Evaluation *e)
{
	const char *rows;

	e->results = json_object_get(e->model->manifest->json, "metrics");
	rows = json_string_value(json_object_get(e->results, "rows"));
	if (rows == NULL || strcmp(rows, "held_out") != 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("no rows were held out when model \"%s\" was trained", get_rel_name(e->model->relid)),
						errhint("Name rows to evaluate it on, as in SELECT * FROM llm_evaluate(%s, 'some_table').",
								ModelLiteral(e->model->relid))));
}

/*
 * Results of a call f(model, source, ...), in memory that is released with the caller's
 * context; NULL for a NULL model.  labels: ERROR for a model that predicts numbers.
 */
static Evaluation *
EvaluateCall(FunctionCallInfo fcinfo, bool labels)
{
	MemoryContext cxt;
	Evaluation *e;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return NULL;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp evaluation", ALLOCSET_DEFAULT_SIZES);
	e = MemoryContextAllocZero(cxt, sizeof(Evaluation));
	e->cxt = cxt;
	e->model = OpenModel(PG_GETARG_OID(0), 0, cxt);
	e->callback.func = FreeEvaluation;
	e->callback.arg = e;
	MemoryContextRegisterResetCallback(cxt, &e->callback);
	if (labels)
	{
		RequireRowModel(e->model);
		RequireClasses(e->model);
	}
	if (PG_ARGISNULL(1))
		ReadStoredResults(e);
	else
		EvaluateSource(e, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	return e;
}

/* Report stored results that are not what evaluation_json() writes. */
static void
ThrowCorrupt(const Evaluation *e)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("stored results of model \"%s\" are damaged", get_rel_name(e->model->relid)),
					errhint("Train the model again, or name rows to evaluate it on.")));
}

static void
PutRow(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
PutMetric(FunctionCallInfo fcinfo, const Evaluation *e, const char *name, const json_t *metric)
{
	Datum values[2] = {CStringGetTextDatum(name), Float8GetDatum(json_number_value(metric))};
	bool nulls[2] = {false, false};

	if (!json_is_number(metric))
		ThrowCorrupt(e);
	PutRow(fcinfo, values, nulls);
}

static bool
IsMetricName(const char *name)
{
	for (int i = 0; metric_names[i] != NULL; i++)
		if (strcmp(metric_names[i], name) == 0)
			return true;
	return false;
}

/* A manifest stored as jsonb has lost the order of its keys: the common metrics come first in theirs. */
Datum
llm_evaluate(PG_FUNCTION_ARGS)
{
	Evaluation *e = EvaluateCall(fcinfo, false);
	json_t *metrics;
	json_t *metric;
	const char *name;

	if (e == NULL)
		return (Datum) 0;
	metrics = json_object_get(e->results, "metrics");
	for (int i = 0; metric_names[i] != NULL; i++)
		if ((metric = json_object_get(metrics, metric_names[i])) != NULL)
			PutMetric(fcinfo, e, metric_names[i], metric);
	json_object_foreach(metrics, name, metric)
		if (!IsMetricName(name))
			PutMetric(fcinfo, e, name, metric);
	MemoryContextDelete(e->cxt);
	return (Datum) 0;
}

/* The matrix, or ERROR when there is none. */
static const json_t *
RequireConfusion(const Evaluation *e)
{
	const json_t *cells = json_object_get(e->results, "confusion");
	const target *t = e->model->manifest->target;

	if (cells == NULL && t->class_count > METRICS_CONFUSION_CLASSES)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("model \"%s\" has %d labels, too many for a confusion matrix", get_rel_name(e->model->relid),
						t->class_count),
				 errdetail("It is kept for at most %d labels.", METRICS_CONFUSION_CLASSES),
				 errhint("Count with SELECT target, llm_predict(%s, t), count(*) FROM some_table AS t GROUP BY 1, 2.",
						 ModelLiteral(e->model->relid))));
	if (!json_is_array(cells))
		ThrowCorrupt(e);
	return cells;
}

/* The label in a cell; NULL when there is none. */
static const char *
CellClass(const Evaluation *e, const json_t *cell, int place)
{
	const target *t = e->model->manifest->target;
	const json_t *class = json_array_get(cell, place);

	if (!json_is_integer(class) || json_integer_value(class) < 0 || json_integer_value(class) >= t->class_count)
		return NULL;
	return t->classes[json_integer_value(class)];
}

Datum
llm_confusion(PG_FUNCTION_ARGS)
{
	Evaluation *e = EvaluateCall(fcinfo, true);
	const json_t *cells;
	const json_t *cell;
	size_t i;

	if (e == NULL)
		return (Datum) 0;
	cells = RequireConfusion(e);
	json_array_foreach(cells, i, cell)
	{
		const char *actual = CellClass(e, cell, 0);
		const char *predicted = CellClass(e, cell, 1);
		bool nulls[3] = {actual == NULL, false, false};
		Datum values[3] = {0};

		if (predicted == NULL || !json_is_integer(json_array_get(cell, 2)))
			ThrowCorrupt(e);
		values[0] = actual == NULL ? 0 : CStringGetTextDatum(actual);
		values[1] = CStringGetTextDatum(predicted);
		values[2] = Int64GetDatum(json_integer_value(json_array_get(cell, 2)));
		PutRow(fcinfo, values, nulls);
	}
	MemoryContextDelete(e->cxt);
	return (Datum) 0;
}

/* The label whose curve is asked for: the positive one of two when none is named. */
static int32
CurveLabel(FunctionCallInfo fcinfo, const Evaluation *e)
{
	const target *t = e->model->manifest->target;

	if (!PG_ARGISNULL(2))
		return RequireLabel(e->model, text_to_cstring(PG_GETARG_TEXT_PP(2)));
	if (t->class_count > 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("model \"%s\" has %d labels and as many curves", get_rel_name(e->model->relid),
							   t->class_count),
						errhint("Name one, as in SELECT * FROM llm_roc(%s, label => %s).",
								ModelLiteral(e->model->relid), quote_literal_cstr(t->classes[0]))));
	return 1;
}

/* Points of a label's curve; new ones belong to the evaluation. */
static const json_t *
RequireCurve(Evaluation *e, int32 label)
{
	const char *name = e->model->manifest->target->classes[label];
	char key[METRICS_CLASS_KEY];
	const json_t *points = json_object_get(json_object_get(e->results, "roc"), evaluation_class_key(label, key));
	llm_error err = {0};

	if (points == NULL && e->rows != NULL)
	{
		json_t *made = evaluation_roc(e->rows, label, &err);

		if (made == NULL)
			ThrowError(&err);
		json_object_set_new(json_object_get(e->own, "roc"), key, made);
		points = made;
	}
	if (points == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no curve of label \"%s\" was stored when model \"%s\" was trained", name,
						get_rel_name(e->model->relid)),
				 errdetail("Stored are the positive label of two, or the %d most frequent ones.", METRICS_ROC_LABELS),
				 errhint("Name rows, as in SELECT * FROM llm_roc(%s, 'some_table', %s).",
						 ModelLiteral(e->model->relid), quote_literal_cstr(name))));
	if (!json_is_array(points))
		ThrowCorrupt(e);
	return points;
}

Datum
llm_roc(PG_FUNCTION_ARGS)
{
	Evaluation *e = EvaluateCall(fcinfo, true);
	const json_t *points;
	const json_t *point;
	size_t i;

	if (e == NULL)
		return (Datum) 0;
	points = RequireCurve(e, CurveLabel(fcinfo, e));
	json_array_foreach(points, i, point)
	{
		const json_t *threshold = json_array_get(point, 0);
		bool nulls[3] = {false, false, false};
		Datum values[3];

		if (!json_is_number(json_array_get(point, 1)) || !json_is_number(json_array_get(point, 2)))
			ThrowCorrupt(e);
		values[0] = Float8GetDatum(json_is_null(threshold) ? get_float8_infinity() : json_number_value(threshold));
		values[1] = Float8GetDatum(json_number_value(json_array_get(point, 1)));
		values[2] = Float8GetDatum(json_number_value(json_array_get(point, 2)));
		PutRow(fcinfo, values, nulls);
	}
	MemoryContextDelete(e->cxt);
	return (Datum) 0;
}
