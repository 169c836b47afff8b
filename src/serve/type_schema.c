/*
 * type_schema.c
 *	  llm_schema(): the JSON Schema of a type, from the catalog.
 *
 * A member that may be NULL may be null; one of a NOT NULL column or domain may not.  All members
 * are required, in the order of the columns, and a column's comment is its description.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "commands/comment.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "../common.h"
#include "schema.h"

PG_FUNCTION_INFO_V1(llm_schema);

/* What is known of a base type: its schema without braces and null. */
static const struct
{
	Oid type;
	const char *name; /* JSON's type */
	const char *rest;
} base_types[] = {
	{BOOLOID, "boolean", ""},
	{INT2OID, "integer", ", \"minimum\": -32768, \"maximum\": 32767"},
	{INT4OID, "integer", ", \"minimum\": -2147483648, \"maximum\": 2147483647"},
	{INT8OID, "integer", ""},
	{FLOAT4OID, "number", ""},
	{FLOAT8OID, "number", ""},
	{NUMERICOID, "number", ""},
	{TEXTOID, "string", ""},
	{VARCHAROID, "string", ""},
	{BPCHAROID, "string", ""},
	{NAMEOID, "string", ", \"maxLength\": 15"}, /* of 63 bytes, each character has at most four */
	{DATEOID, "string", ", \"format\": \"date\""},
	{TIMEOID, "string", ", \"format\": \"time\""},
	{TIMETZOID, "string", ", \"format\": \"time\""},
	{TIMESTAMPOID, "string", ", \"format\": \"date-time\""},
	{TIMESTAMPTZOID, "string", ", \"format\": \"date-time\""},
	{UUIDOID, "string", ", \"format\": \"uuid\""},
};

static void AddType(StringInfo out, Oid type, int32 typmod, bool nullable, const char *description);

static void
AddDescription(StringInfo out, const char *description)
{
	if (description == NULL)
		return;
	appendStringInfoString(out, ", \"description\": ");
	escape_json(out, description);
}

/* "type" alone, or with null. */
static void
AddTypeName(StringInfo out, const char *name, bool nullable)
{
	appendStringInfo(out, nullable ? "{\"type\": [\"%s\", \"null\"]" : "{\"type\": \"%s\"", name);
}

/* What the type modifier says about lengths and digits. */
static void
AddTypmod(StringInfo out, Oid type, int32 typmod)
{
	int32 digits;

	if (typmod < (int32) VARHDRSZ)
		return;
	if (type == VARCHAROID || type == BPCHAROID)
		appendStringInfo(out, ", \"maxLength\": %d", typmod - VARHDRSZ);
	if (type != NUMERICOID)
		return;
	digits = ((typmod - VARHDRSZ) >> 16 & 0xFFFF) - ((typmod - VARHDRSZ) & 0x7FF);
	if (digits >= 1 && digits <= 15)
		appendStringInfo(out, ", \"minimum\": -%.*s, \"maximum\": %.*s", digits, "999999999999999", digits,
						 "999999999999999");
}

static bool
AddBaseType(StringInfo out, Oid type, int32 typmod, bool nullable, const char *description)
{
	for (int i = 0; i < lengthof(base_types); i++)
	{
		if (base_types[i].type != type)
			continue;
		AddTypeName(out, base_types[i].name, nullable);
		appendStringInfoString(out, base_types[i].rest);
		AddTypmod(out, type, typmod);
		AddDescription(out, description);
		appendStringInfoChar(out, '}');
		return true;
	}
	return false;
}

static int
BySortOrder(const void *a, const void *b)
{
	float4 x = ((Form_pg_enum) GETSTRUCT(*(const HeapTuple *) a))->enumsortorder;
	float4 y = ((Form_pg_enum) GETSTRUCT(*(const HeapTuple *) b))->enumsortorder;

	return x < y ? -1 : x > y;
}

static void
AddEnum(StringInfo out, Oid type, bool nullable, const char *description)
{
	CatCList *list = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(type));
	HeapTuple *labels = palloc((list->n_members + 1) * sizeof(HeapTuple));

	for (int i = 0; i < list->n_members; i++)
		labels[i] = &list->members[i]->tuple;
	qsort(labels, list->n_members, sizeof(HeapTuple), BySortOrder);
	appendStringInfoString(out, "{\"enum\": [");
	for (int i = 0; i < list->n_members; i++)
	{
		appendStringInfoString(out, i > 0 ? ", " : "");
		escape_json(out, NameStr(((Form_pg_enum) GETSTRUCT(labels[i]))->enumlabel));
	}
	if (nullable)
		appendStringInfoString(out, list->n_members > 0 ? ", null" : "null");
	appendStringInfoChar(out, ']');
	AddDescription(out, description);
	appendStringInfoChar(out, '}');
	ReleaseCatCacheList(list);
}

static bool
IsMember(Form_pg_attribute a)
{
	return !a->attisdropped && a->attgenerated == '\0';
}

static void
AddMember(StringInfo out, Oid relid, Form_pg_attribute a)
{
	escape_json(out, NameStr(a->attname));
	appendStringInfoString(out, ": ");
	AddType(out, a->atttypid, a->atttypmod, !a->attnotnull, GetComment(relid, RelationRelationId, a->attnum));
}

static void
AddComposite(StringInfo out, Oid type, bool nullable, const char *description)
{
	TupleDesc desc = lookup_rowtype_tupdesc(type, -1);
	Oid relid = get_typ_typrelid(type);
	const char *separator = "";

	AddTypeName(out, "object", nullable);
	appendStringInfoString(out, ", \"properties\": {");
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute a = TupleDescAttr(desc, i);

		if (!IsMember(a))
			continue;
		appendStringInfoString(out, separator);
		AddMember(out, relid, a);
		separator = ", ";
	}
	appendStringInfoString(out, "}, \"required\": [");
	separator = "";
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute a = TupleDescAttr(desc, i);

		if (!IsMember(a))
			continue;
		appendStringInfoString(out, separator);
		escape_json(out, NameStr(a->attname));
		separator = ", ";
	}
	appendStringInfoString(out, "], \"additionalProperties\": false");
	AddDescription(out, description);
	appendStringInfoChar(out, '}');
	ReleaseTupleDesc(desc);
}

static void
AddArray(StringInfo out, Oid element, int32 typmod, bool nullable, const char *description)
{
	AddTypeName(out, "array", nullable);
	appendStringInfoString(out, ", \"items\": ");
	AddType(out, element, typmod, false, NULL);
	AddDescription(out, description);
	appendStringInfoChar(out, '}');
}

static bool
DomainAllowsNull(Oid type)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	bool allows;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	allows = !((Form_pg_type) GETSTRUCT(tuple))->typnotnull;
	ReleaseSysCache(tuple);
	return allows;
}

static void
AddType(StringInfo out, Oid type, int32 typmod, bool nullable, const char *description)
{
	Oid element = get_element_type(type);

	check_stack_depth();
	if (AddBaseType(out, type, typmod, nullable, description))
		return;
	if (type == JSONOID || type == JSONBOID)
	{
		appendStringInfoString(out, "{\"title\": \"JSON\"");
		AddDescription(out, description);
		appendStringInfoChar(out, '}');
	}
	else if (OidIsValid(element))
		AddArray(out, element, typmod, nullable, description);
	else if (get_typtype(type) == TYPTYPE_DOMAIN)
	{
		int32 base_typmod = typmod;
		Oid base = getBaseTypeAndTypmod(type, &base_typmod);

		AddType(out, base, base_typmod, nullable && DomainAllowsNull(type), description);
	}
	else if (get_typtype(type) == TYPTYPE_ENUM)
		AddEnum(out, type, nullable, description);
	else if (type_is_rowtype(type) && type != RECORDOID)
		AddComposite(out, type, nullable, description);
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("there is no JSON Schema for type %s", format_type_be(type)),
				 errhint("Use a type with columns of text, and cast them to %s afterwards.", format_type_be(type))));
}

Jsonb *
SchemaOfType(Oid type, int32 typmod)
{
	StringInfoData out;

	initStringInfo(&out);
	AddType(&out, type, typmod, false, NULL);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(out.data)));
}

/* llm_schema(as_type): only the type of the argument counts. */
Datum
llm_schema(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(SchemaOfType(get_fn_expr_argtype(fcinfo->flinfo, 0), -1));
}
