/*
 * output.c
 *	  From a network's output to an SQL value of the type a caller wants.
 *
 * A label is converted once, when it is first predicted, and handed out from then on.  Numbers
 * go straight into the built-in number types; every other type reads their text through
 * its input function.  Text casts to the type of the target's column: the shortest number that
 * reads back equal, a whole number for integer columns, a time or interval for seconds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include <math.h>

#include "../common.h"
#include "../metrics/metrics.h"
#include "output.h"

/* Longest text of one number, time or interval. */
#define NUMBER_BYTES 128

/* How the number of a target column is written as text. */
typedef enum ColumnForm
{
	FORM_NUMBER,
	FORM_WHOLE,
	FORM_TIME,
	FORM_INTERVAL
} ColumnForm;

struct Output
{
	const target *target;
	Oid typid;
	MemoryContext cxt;
	bool is_text;      /* text and varchar: no input function needed */
	bool is_array;     /* several numbers are written {1,2}, not [1,2] */
	ColumnForm *forms; /* (columns) */
	FmgrInfo input;
	Oid ioparam;
	Datum *labels; /* (class_count), valid where made is set */
	bool *made;
};

/* By the type's name, as format_type() wrote it at training. */
static ColumnForm
FormOfType(const char *type)
{
	if (strcmp(type, "integer") == 0 || strcmp(type, "bigint") == 0 || strcmp(type, "smallint") == 0)
		return FORM_WHOLE;
	if (strncmp(type, "time ", 5) == 0 || strncmp(type, "time(", 5) == 0)
		return FORM_TIME;
	return strncmp(type, "interval", 8) == 0 ? FORM_INTERVAL : FORM_NUMBER;
}

Output *
MakeOutput(const target *t, Oid typid, MemoryContext cxt)
{
	Output *output = MemoryContextAllocZero(cxt, sizeof(Output));
	Oid input;

	output->target = t;
	output->typid = typid;
	output->cxt = cxt;
	output->is_text = typid == TEXTOID || typid == VARCHAROID;
	output->is_array = OidIsValid(get_element_type(getBaseType(typid)));
	getTypeInputInfo(typid, &input, &output->ioparam);
	fmgr_info_cxt(input, &output->input, cxt);
	if (t->kind == TARGET_CLASS)
	{
		output->labels = MemoryContextAllocZero(cxt, sizeof(Datum) * t->class_count);
		output->made = MemoryContextAllocZero(cxt, sizeof(bool) * t->class_count);
	}
	output->forms = MemoryContextAllocZero(cxt, sizeof(ColumnForm) * t->columns);
	for (int32 i = 0; i < t->columns; i++)
		output->forms[i] = FormOfType(t->sql_types[i]);
	return output;
}

/* Value of the output's type that its input function reads from text. */
static Datum
ReadText(Output *output, const char *text)
{
	if (output->is_text)
		return CStringGetTextDatum(text);
	return InputFunctionCall(&output->input, unconstify(char *, text), output->ioparam, -1);
}

static Datum
LabelDatum(Output *output, int32 label)
{
	if (!output->made[label])
	{
		MemoryContext old = MemoryContextSwitchTo(output->cxt);

		output->labels[label] = ReadText(output, output->target->classes[label]);
		output->made[label] = true;
		MemoryContextSwitchTo(old);
	}
	return output->labels[label];
}

/* Text of a time of day or a span of so many seconds, within what the types hold. */
static char *
SecondsText(double seconds, ColumnForm form)
{
	if (isnan(seconds))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("the predicted time is not a number")));
	if (form == FORM_TIME)
	{
		TimeADT time = (TimeADT) rint(Min(Max(seconds, 0), SECS_PER_DAY) * USECS_PER_SEC);

		return DatumGetCString(DirectFunctionCall1(time_out, TimeADTGetDatum(time)));
	}
	seconds = Min(Max(seconds, -1e11), 1e11);
	return DatumGetCString(DirectFunctionCall1(
		interval_out, DirectFunctionCall7(make_interval, 0, 0, 0, 0, 0, 0, Float8GetDatum(seconds))));
}

/* Text of number i of a row, in `buffer` of NUMBER_BYTES; returns its length. */
static int
NumberText(const Output *output, const float *out, int32 i, char *buffer)
{
	double number = predicted_number(output->target, out, i);
	ColumnForm form = output->forms[Min(i, output->target->columns - 1)];

	if (form == FORM_NUMBER)
		return double_to_shortest_decimal_buf(number, buffer);
	if (form != FORM_WHOLE)
		return strlcpy(buffer, SecondsText(number, form), NUMBER_BYTES);
	/* Not by way of the shortest form: that of a large number has an exponent, which integers do not read. */
	if (fabs(number) < 1e18)
		return pg_lltoa((int64) rint(number), buffer);
	return snprintf(buffer, NUMBER_BYTES, "%.0f", number);
}

/* One number as a value of the output's type. */
static Datum
NumberDatum(Output *output, const float *out)
{
	double number = predicted_number(output->target, out, 0);
	char text[NUMBER_BYTES];

	switch (output->typid)
	{
		case FLOAT8OID: return Float8GetDatum(number);
		case FLOAT4OID: return DirectFunctionCall1(dtof, Float8GetDatum(number));
		case NUMERICOID: return DirectFunctionCall1(float8_numeric, Float8GetDatum(number));
		case INT2OID: return DirectFunctionCall1(dtoi2, Float8GetDatum(number));
		case INT4OID: return DirectFunctionCall1(dtoi4, Float8GetDatum(number));
		case INT8OID: return DirectFunctionCall1(dtoi8, Float8GetDatum(number));
		case TEXTOID:
		case VARCHAROID: return PointerGetDatum(cstring_to_text_with_len(text, NumberText(output, out, 0, text)));
		default: NumberText(output, out, 0, text); return ReadText(output, text);
	}
}

/* An array of one of the two float types. */
static Datum
FloatArrayDatum(Output *output, const float *out, Oid element)
{
	int32 count = output->target->outputs;
	Datum *elements = palloc(sizeof(Datum) * count);

	for (int32 i = 0; i < count; i++)
	{
		double number = predicted_number(output->target, out, i);

		elements[i] =
			element == FLOAT8OID ? Float8GetDatum(number) : DirectFunctionCall1(dtof, Float8GetDatum(number));
	}
	if (element == FLOAT8OID)
		return PointerGetDatum(
			construct_array(elements, count, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	return PointerGetDatum(construct_array(elements, count, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
}

/* Several numbers: an array, or the text of one. */
static Datum
NumbersDatum(Output *output, const float *out)
{
	StringInfoData text;
	char number[NUMBER_BYTES];

	if (output->typid == FLOAT4ARRAYOID)
		return FloatArrayDatum(output, out, FLOAT4OID);
	if (output->typid == FLOAT8ARRAYOID)
		return FloatArrayDatum(output, out, FLOAT8OID);
	initStringInfo(&text);
	for (int32 i = 0; i < output->target->outputs; i++)
	{
		bool quote = output->forms[Min(i, output->target->columns - 1)] > FORM_WHOLE;

		NumberText(output, out, i, number);
		appendStringInfoChar(&text, i > 0 ? ',' : output->is_array ? '{' : '[');
		appendStringInfo(&text, quote ? "\"%s\"" : "%s", number);
	}
	appendStringInfoChar(&text, output->is_array ? '}' : ']');
	return ReadText(output, text.data);
}

Datum
OutputDatum(Output *output, const float *out)
{
	if (output->target->kind == TARGET_CLASS)
		return LabelDatum(output, predicted_class(output->target, out));
	if (output->target->outputs == 1)
		return NumberDatum(output, out);
	return NumbersDatum(output, out);
}
