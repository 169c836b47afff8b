/*
 * input.c
 *	  A row to predict: SQL values to the values of src/feature by column name.
 *
 * Training reads its columns with the same ReadValue(), so that a value means the same
 * number or string there and here.  What a manifest says about a column's type is hostile:
 * it picks among built-in types only and never names a type whose input function or
 * constraint could run somebody's code.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "../compat.h"
#include "input.h"

/* How a JSON member becomes the value that its column's own type would give. */
typedef struct StringParser
{
	FmgrInfo function; /* input function, for strings where the column is no string */
	Oid ioparam;
	ValueReader reader;
	bool single; /* the column is real: its numbers have that precision */
	bool padded; /* the column is character(n): blanks at the end do not count */
} StringParser;

typedef enum InputForm
{
	INPUT_RECORD,
	INPUT_JSON,
	INPUT_TEXT,
	INPUT_VECTOR
} InputForm;

struct InputBinding
{
	const encoder *e;
	MemoryContext cxt;
	InputForm form;
	int32 columns;         /* of the encoder */
	int32 used;            /* of them */
	int32 text;            /* the one that is read token by token, -1 for none */
	value *values;         /* (columns); NULL where a column is not used */
	ValueReader *readers;  /* (columns) for records, (1) for text and vectors */
	StringParser *parsers; /* (columns) for JSON */
	/* records: the row type bound to */
	uint64 identifier; /* of the row type and its state, 0 = none yet */
	TupleDesc tupdesc;
	int16 *attributes; /* (columns): index of the attribute, -1 when not used */
	Datum *datums;     /* (tupdesc->natts) */
	bool *nulls;
	/* vectors */
	bool spread; /* one number per column instead of one vector column */
};

/* ---- a row to predict: what may stand for a column ---- */

static bool
HasPrefix(const char *string, const char *prefix)
{
	return strncmp(string, prefix, strlen(prefix)) == 0;
}

/* The built-in type as which a string is read for a column of these kinds. */
static Oid
ColumnType(const column *c)
{
	switch (c->kind)
	{
		case COLUMN_BOOLEAN: return BOOLOID;
		case COLUMN_TIME:
			if (HasPrefix(c->sql_type, "date"))
				return DATEOID;
			return strstr(c->sql_type, "with time zone") != NULL ? TIMESTAMPTZOID : TIMESTAMPOID;
		case COLUMN_NUMBER:
			if (HasPrefix(c->sql_type, "interval"))
				return INTERVALOID;
			return HasPrefix(c->sql_type, "time") ? TIMEOID : FLOAT8OID;
		default: return InvalidOid;
	}
}

/* Whether values of this reader mean what the column's values meant at training. */
static bool
IsCompatible(const ValueReader *reader, const column *c)
{
	switch (c->kind)
	{
		case COLUMN_TEXT:
		case COLUMN_CATEGORY: return reader->kind == COLUMN_TEXT || reader->kind == COLUMN_CATEGORY;
		case COLUMN_NUMBER:
			if (reader->kind != COLUMN_NUMBER)
				return false;
			if (IsNumberType(reader->basetype))
				return ColumnType(c) == FLOAT8OID;
			return reader->basetype == ColumnType(c);
		default: return reader->kind == c->kind;
	}
}

/* Names of the columns that an input must have. */
static char *
NeededColumns(const encoder *e)
{
	StringInfoData names;
	int32 count = encoder_column_count(e);
	int listed = 0;

	initStringInfo(&names);
	for (int32 i = 0; i < count; i++)
	{
		if (!encoder_column_used(e, i))
			continue;
		if (++listed > 50)
		{
			appendStringInfoString(&names, ", ...");
			break;
		}
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", quote_identifier(encoder_column(e, i)->name));
	}
	return names.data;
}

static void
ThrowMissing(const encoder *e, const column *c)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("input has no column \"%s\"", c->name),
					errdetail("The model was trained with it, as %s.", c->sql_type),
					errhint("The model needs: %s.", NeededColumns(e))));
}

static void
ThrowRetyped(const column *c, const char *given)
{
	ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("column \"%s\" of the input is %s", c->name, given),
					errdetail("The model was trained with %s.", c->sql_type), errhint("Convert it in the query.")));
}

/* ---- records ---- */

/* Index of the attribute with this name, or -1. */
static int16
AttributeIndex(TupleDesc tupdesc, const char *name)
{
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
			return (int16) i;
	}
	return -1;
}

static void
BindAttribute(InputBinding *binding, int32 i)
{
	const column *c = encoder_column(binding->e, i);
	Oid typid;

	binding->attributes[i] = -1;
	if (!encoder_column_used(binding->e, i))
		return;
	binding->attributes[i] = AttributeIndex(binding->tupdesc, c->name);
	if (binding->attributes[i] < 0)
		ThrowMissing(binding->e, c);
	typid = TupleDescAttr(binding->tupdesc, binding->attributes[i])->atttypid;
	if (!InitValueReader(&binding->readers[i], typid) || !IsCompatible(&binding->readers[i], c))
		ThrowRetyped(c, psprintf("of type %s", format_type_be(typid)));
}

/* Find the model's columns in a row type that was not met before. */
static void
BindRowType(InputBinding *binding, Oid typid, int32 typmod, uint64 identifier)
{
	MemoryContext old = MemoryContextSwitchTo(binding->cxt);
	TupleDesc previous = binding->tupdesc;

	binding->identifier = 0;
	binding->tupdesc = lookup_rowtype_tupdesc_copy(typid, typmod);
	if (previous != NULL)
	{
		FreeTupleDesc(previous);
		pfree(binding->datums);
		pfree(binding->nulls);
	}
	binding->datums = palloc(Max(binding->tupdesc->natts, 1) * sizeof(Datum));
	binding->nulls = palloc(Max(binding->tupdesc->natts, 1) * sizeof(bool));
	for (int32 i = 0; i < binding->columns; i++)
		BindAttribute(binding, i);
	binding->identifier = identifier;
	MemoryContextSwitchTo(old);
}

static void
ReadRecord(InputBinding *binding, Datum input)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(input);
	Oid typid = HeapTupleHeaderGetTypeId(header);
	int32 typmod = HeapTupleHeaderGetTypMod(header);
	uint64 identifier = assign_record_type_identifier(typid, typmod);
	HeapTupleData tuple;

	if (identifier != binding->identifier)
		BindRowType(binding, typid, typmod, identifier);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, binding->tupdesc, binding->datums, binding->nulls);
	for (int32 i = 0; i < binding->columns; i++)
	{
		int16 a = binding->attributes[i];

		if (a >= 0)
			ReadValue(&binding->readers[i], binding->datums[a], binding->nulls[a], &binding->values[i]);
	}
}

/* ---- JSON objects ---- */

/* Name the column when a string is not what its type reads. */
static void
StringContext(void *arg)
{
	errcontext("column \"%s\" of the input", ((const column *) arg)->name);
}

static void
ParseString(StringParser *parser, const column *c, const JsonbValue *json, value *result)
{
	ErrorContextCallback callback = {error_context_stack, StringContext, (void *) c};
	char *text = pnstrdup(json->val.string.val, json->val.string.len);

	error_context_stack = &callback;
	ReadValue(&parser->reader, InputFunctionCall(&parser->function, text, parser->ioparam, -1), false, result);
	error_context_stack = callback.previous;
}

/* Numbers of a JSON array, inner arrays in order; false when it holds anything else but null. */
static bool
ReadJsonVector(JsonbContainer *container, value *result)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue json;
	int32 room = 16;
	float *numbers = palloc(room * sizeof(float));
	double numbers_expected = 1;

	result->length = result->ndim = 0;
	while ((token = JsonbIteratorNext(&it, &json, false)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_ARRAY && result->length == 0 && result->ndim < VALUE_MAX_DIMS)
			result->dims[result->ndim++] = json.val.array.nElems;
		if (token == WJB_BEGIN_ARRAY || token == WJB_END_ARRAY)
			continue;
		if (token != WJB_ELEM || (json.type != jbvNumeric && json.type != jbvNull))
			return false;
		if (result->length == room)
		{
			room *= 2;
			numbers = repalloc(numbers, room * sizeof(float));
		}
		numbers[result->length++] =
			json.type == jbvNull ? NAN : (float) NumericToDouble(NumericGetDatum(json.val.numeric));
	}
	for (int i = 0; i < result->ndim; i++)
		numbers_expected *= result->dims[i];
	result->kind = VALUE_VECTOR;
	result->vector = numbers;
	return numbers_expected == result->length;
}

/* The value of one key as the column takes it; false when it does not fit. */
static bool
ReadJsonMember(StringParser *parser, const column *c, const JsonbValue *json, value *result)
{
	result->kind = VALUE_NULL;
	if (json->type == jbvNull)
		return true;
	switch (c->kind)
	{
		case COLUMN_JSON: SetJsonScalar(result, json); return true;
		case COLUMN_TEXT:
		case COLUMN_CATEGORY:
			if (json->type != jbvString)
				return false;
			SetString(result, json->val.string.val, json->val.string.len);
			if (parser->padded)
				result->length = bpchartruelen((char *) result->string, result->length);
			return true;
		case COLUMN_VECTOR: return json->type == jbvBinary && ReadJsonVector(json->val.binary.data, result);
		default: break;
	}
	if (json->type == jbvString)
		ParseString(parser, c, json, result);
	else if (json->type == jbvBool && c->kind == COLUMN_BOOLEAN)
		SetNumber(result, json->val.boolean ? 1 : 0);
	else if (json->type == jbvNumeric && c->kind == COLUMN_NUMBER)
		SetNumber(result, NumericToDouble(NumericGetDatum(json->val.numeric)));
	else
		return false;
	if (parser->single && result->kind == VALUE_NUMBER)
		SetNumber(result, (float) result->number);
	return true;
}

static const char *
JsonTypeText(const JsonbValue *json)
{
	switch (json->type)
	{
		case jbvString: return "a JSON string";
		case jbvNumeric: return "a JSON number";
		case jbvBool: return "a JSON boolean";
		default: return "a JSON array or object";
	}
}

static void
ReadJsonObject(InputBinding *binding, Datum input)
{
	Jsonb *json = DatumGetJsonbP(input);

	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("input is not a JSON object"),
						errhint("The model needs the keys: %s.", NeededColumns(binding->e))));
	for (int32 i = 0; i < binding->columns; i++)
	{
		const column *c = encoder_column(binding->e, i);
		JsonbValue member;

		if (!encoder_column_used(binding->e, i))
			continue;
		if (getKeyJsonValueFromContainer(&json->root, c->name, strlen(c->name), &member) == NULL)
			ThrowMissing(binding->e, c);
		if (!ReadJsonMember(&binding->parsers[i], c, &member, &binding->values[i]))
			ThrowRetyped(c, JsonTypeText(&member));
	}
}

static void
BindJson(InputBinding *binding)
{
	binding->parsers = palloc0(Max(binding->columns, 1) * sizeof(StringParser));
	for (int32 i = 0; i < binding->columns; i++)
	{
		const column *c = encoder_column(binding->e, i);
		Oid typid = ColumnType(c);
		Oid function;

		binding->parsers[i].single = c->kind == COLUMN_NUMBER && strcmp(c->sql_type, "real") == 0;
		binding->parsers[i].padded = c->kind == COLUMN_TEXT && HasPrefix(c->sql_type, "character") &&
									 !HasPrefix(c->sql_type, "character varying");
		if (!OidIsValid(typid))
			continue;
		getTypeInputInfo(typid, &function, &binding->parsers[i].ioparam);
		fmgr_info(function, &binding->parsers[i].function);
		InitValueReader(&binding->parsers[i].reader, typid);
	}
}

/* ---- text and vectors ---- */

/* The only used column, when there is exactly one. */
static int32
OnlyColumn(const InputBinding *binding)
{
	if (binding->used == 1)
		for (int32 i = 0; i < binding->columns; i++)
			if (encoder_column_used(binding->e, i))
				return i;
	return -1;
}

static void
ThrowUnfit(const InputBinding *binding, const char *given, const char *needed)
{
	ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("the model cannot be given %s", given),
					errdetail("It needs %s, and this one has: %s.", needed, NeededColumns(binding->e)),
					errhint("Give a row or a JSON object with these columns.")));
}

static void
BindText(InputBinding *binding)
{
	int32 only = OnlyColumn(binding);
	column_kind kind = only < 0 ? COLUMN_NUMBER : encoder_column(binding->e, only)->kind;

	if (kind != COLUMN_TEXT && kind != COLUMN_CATEGORY)
		ThrowUnfit(binding, "a text", "a model of exactly one text column");
}

static void
BindVector(InputBinding *binding)
{
	int32 only = OnlyColumn(binding);

	binding->spread = only < 0 || encoder_column(binding->e, only)->kind != COLUMN_VECTOR;
	for (int32 i = 0; i < binding->columns && binding->spread; i++)
	{
		column_kind kind = encoder_column(binding->e, i)->kind;

		if (encoder_column_used(binding->e, i) && kind != COLUMN_NUMBER && kind != COLUMN_BOOLEAN)
			ThrowUnfit(binding, "an array of numbers", "a model of one vector column or of numeric columns only");
	}
}

/* One number per column: per used column, or per column with those that training left out. */
static void
SpreadVector(InputBinding *binding, const value *vector)
{
	bool all = vector->length == binding->columns;
	int32 next = 0;

	if (!all && vector->length != binding->used)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("input has %d numbers, the model needs %d", vector->length, binding->used),
						errhint("In this order: %s.", NeededColumns(binding->e))));
	for (int32 i = 0; i < binding->columns; i++)
		if (encoder_column_used(binding->e, i))
			SetNumber(&binding->values[i], vector->vector[all ? i : next++]);
}

/* ---- the interface ---- */

static InputForm
FormOfType(Oid typid, const ValueReader *reader, bool readable)
{
	if (typid == JSONBOID)
		return INPUT_JSON;
	if (type_is_rowtype(typid))
		return INPUT_RECORD;
	if (readable && reader->kind == COLUMN_TEXT)
		return INPUT_TEXT;
	if (readable && reader->kind == COLUMN_VECTOR)
		return INPUT_VECTOR;
	ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
					errmsg("a model cannot be given input of type %s", format_type_be(typid)),
					errhint("Give a row, a jsonb object, a text, a tensor or an array of numbers.")));
}

InputBinding *
BindInput(const encoder *e, Oid typid, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	InputBinding *binding = palloc0(sizeof(InputBinding));
	ValueReader reader;
	bool readable = InitValueReader(&reader, typid);

	binding->e = e;
	binding->cxt = cxt;
	binding->columns = encoder_column_count(e);
	binding->values = palloc0(Max(binding->columns, 1) * sizeof(value));
	binding->text = -1;
	for (int32 i = 0; i < binding->columns; i++)
	{
		binding->used += encoder_column_used(e, i);
		if (encoder_column(e, i)->tokens)
			binding->text = i;
	}
	binding->form = FormOfType(reader.basetype, &reader, readable);
	binding->readers = palloc0(Max(binding->columns, 1) * sizeof(ValueReader));
	binding->readers[0] = reader;
	if (binding->form == INPUT_RECORD)
		binding->attributes = palloc0(Max(binding->columns, 1) * sizeof(int16));
	else if (binding->form == INPUT_JSON)
		BindJson(binding);
	else if (binding->form == INPUT_TEXT)
		BindText(binding);
	else
		BindVector(binding);
	MemoryContextSwitchTo(old);
	return binding;
}

const value *
ReadInput(InputBinding *binding, Datum input)
{
	value single;

	switch (binding->form)
	{
		case INPUT_RECORD: ReadRecord(binding, input); break;
		case INPUT_JSON: ReadJsonObject(binding, input); break;
		case INPUT_TEXT: ReadValue(&binding->readers[0], input, false, &binding->values[OnlyColumn(binding)]); break;
		case INPUT_VECTOR:
			ReadValue(&binding->readers[0], input, false, &single);
			if (binding->spread)
				SpreadVector(binding, &single);
			else
				binding->values[OnlyColumn(binding)] = single;
			break;
	}
	if (binding->text >= 0)
		ConvertToUtf8(&binding->values[binding->text]);
	return binding->values;
}
