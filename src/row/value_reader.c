/*
 * value_reader.c
 *	  SQL values to the values of src/feature, by their type.
 *
 * Numbers cost no allocation; strings point into the detoasted datum or into what an
 * output function made.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "../compat.h"
#include "value_reader.h"

#define UNIX_TO_POSTGRES_DAYS (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)

bool
IsNumberType(Oid typid)
{
	switch (typid)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID: return true;
		default: return false;
	}
}

/* Arrays of numbers, tensor, and base types with an implicit cast to real[] (pgvector's vector). */
static bool
InitVectorReader(ValueReader *reader)
{
	Oid elemtype = get_element_type(reader->basetype);
	Oid cast;

	reader->kind = COLUMN_VECTOR;
	if (OidIsValid(elemtype))
	{
		reader->elemtype = getBaseType(elemtype);
		get_typlenbyvalalign(reader->elemtype, &reader->elemlen, &reader->elembyval, &reader->elemalign);
		return IsNumberType(reader->elemtype);
	}
	/* Only superusers make base types, so this runs nobody's code unasked. */
	if (get_typtype(reader->basetype) != TYPTYPE_BASE ||
		find_coercion_pathway(FLOAT4ARRAYOID, reader->basetype, COERCION_IMPLICIT, &cast) != COERCION_PATH_FUNC)
		return false;
	fmgr_info(cast, &reader->output);
	reader->elemtype = InvalidOid;
	return true;
}

static bool
InitTextFormReader(ValueReader *reader)
{
	Oid output;
	bool varlena;
	char category;
	bool preferred;

	switch (get_typtype(reader->basetype))
	{
		case TYPTYPE_COMPOSITE:
		case TYPTYPE_PSEUDO: return false;
		default: break;
	}
	if (OidIsValid(get_element_type(reader->basetype)))
		return false;
	get_type_category_preferred(reader->basetype, &category, &preferred);
	reader->kind = category == TYPCATEGORY_STRING ? COLUMN_TEXT : COLUMN_CATEGORY;
	getTypeOutputInfo(reader->basetype, &output, &varlena);
	fmgr_info(output, &reader->output);
	return true;
}

bool
InitValueReader(ValueReader *reader, Oid typid)
{
	memset(reader, 0, sizeof(*reader));
	reader->typid = typid;
	reader->basetype = getBaseType(typid);
	switch (reader->basetype)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
		case INTERVALOID:
		case TIMEOID: reader->kind = COLUMN_NUMBER; return true;
		case BOOLOID: reader->kind = COLUMN_BOOLEAN; return true;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID: reader->kind = COLUMN_TIME; return true;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID: reader->kind = COLUMN_TEXT; return true;
		case JSONBOID:
		case JSONOID: reader->kind = COLUMN_JSON; return true;
		case BYTEAOID:
		case MONEYOID: /* its text form is no number and depends on lc_monetary */ return false;
		default: return InitVectorReader(reader) || InitTextFormReader(reader);
	}
}

void
SetNumber(value *result, double number)
{
	result->kind = isfinite(number) ? VALUE_NUMBER : VALUE_NULL;
	result->number = number;
}

void
SetString(value *result, const char *string, Size length)
{
	result->kind = VALUE_STRING;
	result->string = string;
	result->length = (int32) length;
}

void
ConvertToUtf8(value *v)
{
	const char *utf8 = v->kind == VALUE_STRING ? pg_server_to_any(v->string, v->length, PG_UTF8) : NULL;

	if (utf8 != NULL && utf8 != v->string)
		SetString(v, utf8, strlen(utf8));
}

double
NumericToDouble(Datum datum)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, datum));
}

/* As extract(epoch FROM interval) counts them. */
static double
IntervalSeconds(const Interval *span)
{
#ifdef INTERVAL_NOT_FINITE
	if (INTERVAL_NOT_FINITE(span))
		return NAN;
#endif
	return span->time / 1e6 + SECS_PER_DAY * (DAYS_PER_YEAR * (span->month / MONTHS_PER_YEAR) +
											  (double) DAYS_PER_MONTH * (span->month % MONTHS_PER_YEAR) + span->day);
}

static double
DateSeconds(DateADT date)
{
	return DATE_NOT_FINITE(date) ? NAN : ((double) date + UNIX_TO_POSTGRES_DAYS) * SECS_PER_DAY;
}

static double
TimestampSeconds(Timestamp at)
{
	return TIMESTAMP_NOT_FINITE(at) ? NAN : at / 1e6 + (double) UNIX_TO_POSTGRES_DAYS * SECS_PER_DAY;
}

/* A number of one of the types of IsNumberType(). */
static double
ElementNumber(Oid typid, Datum datum)
{
	switch (typid)
	{
		case INT2OID: return DatumGetInt16(datum);
		case INT4OID: return DatumGetInt32(datum);
		case INT8OID: return (double) DatumGetInt64(datum);
		case FLOAT4OID: return DatumGetFloat4(datum);
		case FLOAT8OID: return DatumGetFloat8(datum);
		default: return NumericToDouble(datum);
	}
}

/* All elements of an array in storage order; a NULL element is NaN. */
static void
ReadArray(const ValueReader *reader, Datum datum, value *result)
{
	ArrayType *array = DatumGetArrayTypeP(datum);
	Oid elemtype = OidIsValid(reader->elemtype) ? reader->elemtype : FLOAT4OID;
	int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	Datum *elements;
	bool *nulls;
	float *numbers;

	result->kind = VALUE_VECTOR;
	result->length = count;
	result->ndim = ARR_NDIM(array) <= VALUE_MAX_DIMS ? ARR_NDIM(array) : 0;
	memcpy(result->dims, ARR_DIMS(array), result->ndim * sizeof(int));
	if (elemtype == FLOAT4OID && !ARR_HASNULL(array))
	{
		result->vector = (const float *) ARR_DATA_PTR(array);
		return;
	}
	if (elemtype == FLOAT4OID)
		deconstruct_array(array, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT, &elements, &nulls, &count);
	else
		deconstruct_array(array, elemtype, reader->elemlen, reader->elembyval, reader->elemalign, &elements, &nulls,
						  &count);
	numbers = palloc(Max(count, 1) * sizeof(float));
	for (int i = 0; i < count; i++)
		numbers[i] = nulls[i] ? NAN : (float) ElementNumber(elemtype, elements[i]);
	result->vector = numbers;
}

void
SetJsonScalar(value *result, const JsonbValue *scalar)
{
	switch (scalar->type)
	{
		case jbvNull: result->kind = VALUE_NULL; break;
		case jbvNumeric: SetNumber(result, NumericToDouble(NumericGetDatum(scalar->val.numeric))); break;
		case jbvBool: SetString(result, scalar->val.boolean ? "true" : "false", scalar->val.boolean ? 4 : 5); break;
		case jbvString: SetString(result, scalar->val.string.val, scalar->val.string.len); break;
		case jbvBinary:
		{
			char *text = JsonbToCString(NULL, scalar->val.binary.data, scalar->val.binary.len);

			SetString(result, text, strlen(text));
			break;
		}
		default: elog(ERROR, "unexpected JSON value of type %d", (int) scalar->type);
	}
}

/* A scalar as itself, anything else as its text. */
static void
ReadJsonb(Datum datum, value *result)
{
	Jsonb *json = DatumGetJsonbP(datum);
	JsonbValue scalar;

	if (!JsonbExtractScalar(&json->root, &scalar))
	{
		scalar.type = jbvBinary;
		scalar.val.binary.data = &json->root;
		scalar.val.binary.len = VARSIZE(json);
	}
	SetJsonScalar(result, &scalar);
}

/* Everything that is no plain number. */
static void
ReadOther(ValueReader *reader, Datum datum, value *result)
{
	struct varlena *packed;
	char *string;

	switch (reader->basetype)
	{
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			packed = PG_DETOAST_DATUM_PACKED(datum);
			SetString(result, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
			if (reader->basetype == BPCHAROID)
				result->length = bpchartruelen((char *) result->string, result->length);
			return;
		case NAMEOID:
			string = NameStr(*DatumGetName(datum));
			SetString(result, string, strlen(string));
			return;
		case JSONBOID: ReadJsonb(datum, result); return;
		case JSONOID:
			ReadJsonb(DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(datum))), result);
			return;
		default: break;
	}
	if (reader->kind != COLUMN_VECTOR)
	{
		string = OutputFunctionCall(&reader->output, datum);
		SetString(result, string, strlen(string));
	}
	else if (OidIsValid(reader->elemtype))
		ReadArray(reader, datum, result);
	else /* a cast function takes type modifier and explicitness when it wants them */
		ReadArray(reader, FunctionCall3(&reader->output, datum, Int32GetDatum(-1), BoolGetDatum(false)), result);
}

void
ReadValue(ValueReader *reader, Datum datum, bool isnull, value *result)
{
	if (isnull)
	{
		result->kind = VALUE_NULL;
		return;
	}
	switch (reader->basetype)
	{
		case INT2OID: SetNumber(result, DatumGetInt16(datum)); break;
		case INT4OID: SetNumber(result, DatumGetInt32(datum)); break;
		case INT8OID: SetNumber(result, (double) DatumGetInt64(datum)); break;
		case FLOAT4OID: SetNumber(result, DatumGetFloat4(datum)); break;
		case FLOAT8OID: SetNumber(result, DatumGetFloat8(datum)); break;
		case NUMERICOID: SetNumber(result, NumericToDouble(datum)); break;
		case BOOLOID: SetNumber(result, DatumGetBool(datum) ? 1 : 0); break;
		case DATEOID: SetNumber(result, DateSeconds(DatumGetDateADT(datum))); break;
		case TIMESTAMPOID:
		case TIMESTAMPTZOID: SetNumber(result, TimestampSeconds(DatumGetTimestamp(datum))); break;
		case TIMEOID: SetNumber(result, DatumGetTimeADT(datum) / 1e6); break;
		case INTERVALOID: SetNumber(result, IntervalSeconds(DatumGetIntervalP(datum))); break;
		default: ReadOther(reader, datum, result); break;
	}
}

column
MakeColumn(const char *name, Oid typid, int32 typmod)
{
	ValueReader reader;
	column made;
	Oid basetype = getBaseTypeAndTypmod(typid, &typmod);

	if (!InitValueReader(&reader, typid))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of type %s cannot be used by a model", name, format_type_be(typid)),
				 errhint("Convert it in the source, or leave it out: params => '{\"exclude\": [\"%s\"]}'", name)));
	made.name = pstrdup(name);
	made.sql_type = format_type_with_typemod(basetype, typmod);
	made.kind = reader.kind;
	made.image = made.tokens = false;
	made.integer = basetype == INT2OID || basetype == INT4OID || basetype == INT8OID;
	return made;
}
