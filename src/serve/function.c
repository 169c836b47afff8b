/*
 * function.c
 *	  llm_create_function(): a model as a typed SQL function of its columns.
 *
 * The function is ordinary SQL whose body is parsed when it is created: it depends on the model,
 * follows its renames and promotions, is dumped by pg_dump, and finds llm_predict() whatever the
 * search path of its caller.
 *
 * It is SECURITY DEFINER, so that EXECUTE on it is all that a caller needs, as SELECT on a view
 * is: the right to predict with these columns can be given without the right to read the
 * model's manifest, which tells about the training rows.  It runs as its owner, who needs
 * SELECT on column meta of the model whenever it is called.  PUBLIC, which PostgreSQL lets
 * execute every new function, has to be granted it like everybody else.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "../common.h"
#include "../row/column_type.h"
#include "predict.h"

PG_FUNCTION_INFO_V1(llm_create_function);

/* The function to make. */
typedef struct NewFunction
{
	char *schema;
	char *name;
	int count;
	const column *arguments[FUNC_MAX_ARGS];
	Oid types[FUNC_MAX_ARGS];
	char *result; /* type, as SQL */
} NewFunction;

static void
SetName(NewFunction *f, const char *text)
{
	List *names;
	List *parts = NIL;
	ListCell *cell;

	if (!SplitIdentifierString(pstrdup(text), '.', &names) || names == NIL || list_length(names) > 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" is not a name for a function", text),
						errhint("Use 'name', 'schema.name' or '\"Any Name\"'.")));
	foreach(cell, names)
		parts = lappend(parts, makeString((char *) lfirst(cell)));
	f->schema = get_namespace_name(QualifiedNameGetCreationNamespace(parts, &f->name));
}

/* The columns that the model uses, in their order. */
static void
SetArguments(NewFunction *f, const Model *model)
{
	const encoder *e = model->manifest->encoder;

	for (int32 i = 0; i < encoder_column_count(e); i++)
	{
		if (!encoder_column_used(e, i))
			continue;
		if (f->count == FUNC_MAX_ARGS)
			ereport(ERROR,
					(errcode(ERRCODE_TOO_MANY_ARGUMENTS),
					 errmsg("model \"%s\" has more columns than a function can have arguments",
							get_rel_name(model->relid)),
					 errdetail("A function has at most %d arguments.", FUNC_MAX_ARGS),
					 errhint("Give llm_predict(%s, ...) a row or a jsonb object.", ModelLiteral(model->relid))));
		f->arguments[f->count] = encoder_column(e, i);
		f->types[f->count] = ColumnTypeOid(f->arguments[f->count]);
		f->count++;
	}
	f->result = TypeSql(TargetTypeOid(model->manifest->target));
}

/* schema.name(type, ...) */
static char *
Signature(const NewFunction *f)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "%s(", quote_qualified_identifier(f->schema, f->name));
	for (int i = 0; i < f->count; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", TypeSql(f->types[i]));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

/*
 * input.* is the whole row even when a column is named input.  The search path is fixed although
 * the body does not use it: whatever types do in their output functions must not depend on the caller.
 */
static char *
CreateStatement(const NewFunction *f, const Model *model, Oid predict)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE FUNCTION %s(", quote_qualified_identifier(f->schema, f->name));
	for (int i = 0; i < f->count; i++)
		appendStringInfo(&sql, "%s%s %s", i > 0 ? ", " : "", quote_identifier(f->arguments[i]->name),
						 TypeSql(f->types[i]));
	appendStringInfo(
		&sql,
		") RETURNS %s LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER COST 1000"
		" SET search_path = pg_catalog, pg_temp RETURN (SELECT %s(%s::pg_catalog.regclass, input.*, NULL::%s) FROM "
		"(SELECT ",
		f->result,
		quote_qualified_identifier(get_namespace_name(get_func_namespace(predict)), get_func_name(predict)),
		quote_literal_cstr(quote_qualified_identifier(get_namespace_name(get_rel_namespace(model->relid)),
													  get_rel_name(model->relid))),
		f->result);
	for (int i = 0; i < f->count; i++)
		appendStringInfo(&sql, "%s$%d AS %s", i > 0 ? ", " : "", i + 1, quote_identifier(f->arguments[i]->name));
	appendStringInfoString(&sql, ") AS input)");
	return sql.data;
}

static void
RunStatement(const char *sql)
{
	int result = SPI_execute(sql, false, 0);

	if (result != SPI_OK_UTILITY)
		elog(ERROR, "SPI_execute returned %s for: %s", SPI_result_code_string(result), sql);
}

/*
 * Others may be allowed to create functions in the schema of the extension, and one named
 * llm_predict that fits these types better would now run with the owner's rights.
 */
static void
RequireCall(Oid function, Oid predict)
{
	Oid types[3] = {OIDOID, OIDOID, OIDOID};
	Datum values[3] = {ObjectIdGetDatum(ProcedureRelationId), ObjectIdGetDatum(function), ObjectIdGetDatum(predict)};

	if (SPI_execute_with_args("SELECT FROM pg_catalog.pg_depend WHERE classid OPERATOR(pg_catalog.=) $1"
							  " AND objid OPERATOR(pg_catalog.=) $2 AND refclassid OPERATOR(pg_catalog.=) $1"
							  " AND refobjid OPERATOR(pg_catalog.=) $3",
							  lengthof(types), types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the dependencies of a function");
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_FUNCTION),
				 errmsg("another function named llm_predict in schema \"%s\" would be called",
						get_namespace_name(get_func_namespace(predict))),
				 errhint("SELECT oid::regprocedure, proowner::regrole FROM pg_proc WHERE proname = 'llm_predict';")));
}

static Oid
CreateFunction(const NewFunction *f, const Model *model, Oid predict)
{
	Oid function;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	RunStatement(CreateStatement(f, model, predict));
	function = LookupFuncName(list_make2(makeString(f->schema), makeString(f->name)), f->count, f->types, false);
	RequireCall(function, predict);
	RunStatement(psprintf("REVOKE ALL ON FUNCTION %s FROM PUBLIC", Signature(f)));
	RunStatement(
		psprintf("COMMENT ON FUNCTION %s IS 'prediction of a model; made by llm_create_function()'", Signature(f)));
	SPI_finish();
	return function;
}

/* llm_create_function(model, name): the function */
Datum
llm_create_function(PG_FUNCTION_ARGS)
{
	Oid arguments[3] = {REGCLASSOID, ANYOID, ANYELEMENTOID};
	char *schema = get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid));
	Oid predict = LookupFuncName(list_make2(makeString(schema), makeString("llm_predict")), 3, arguments, false);
	Model *model = OpenModel(PG_GETARG_OID(0), 0, CurrentMemoryContext);
	NewFunction *f = palloc0(sizeof(NewFunction));

	RequireRowModel(model);
	SetName(f, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	SetArguments(f, model);
	PG_RETURN_OID(CreateFunction(f, model, predict));
}
