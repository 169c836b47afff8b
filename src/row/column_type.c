/*
 * column_type.c
 *	  The SQL type that a column of a model had at training, found again by its name.
 *
 * The name comes from a manifest, which the owner of the model can write, so it may name any
 * type at all.  Taken are types whose input runs nobody's code: base types, which only
 * superusers create, enums, and arrays of both.  A domain has constraints and a range type a
 * canonical function of its creator's, which must not run with the rights of whoever uses
 * the model; training stores the base type of a domain anyway.  Modifiers such as numeric(4,1)
 * are dropped: a prediction need not keep to the limits of the column.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "../compat.h"
#include "column_type.h"

static bool
IsHarmless(Oid typid)
{
	Oid element = get_element_type(typid);
	char kind = get_typtype(OidIsValid(element) ? element : typid);

	return kind == TYPTYPE_BASE || kind == TYPTYPE_ENUM;
}

static Oid
FindType(const char *name)
{
	Oid typid;
	int32 typmod;

	if (!ParseTypeName(name, &typid, &typmod) || !IsHarmless(typid))
		return TEXTOID;
	return typid;
}

Oid
ColumnTypeOid(const column *c)
{
	return FindType(c->sql_type);
}

Oid
TargetTypeOid(const target *t)
{
	return t->columns == 1 ? FindType(t->sql_types[0]) : FLOAT8ARRAYOID;
}

char *
TypeSql(Oid typid)
{
	return format_type_extended(typid, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}
