/*
 * source.c
 *	  What a job or an evaluation reads: a relation or one SELECT.
 *
 * Everything runs as the current user.  A query is accepted when it is a single
 * statement that only reads; whether the user may read it is checked here once, so that
 * a job does not start in vain, and again by the executor when the job runs.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "../common.h"
#include "source.h"

/* ---- names that are nearly right ---- */

/* Keep name in *nearest when it is closer to wanted than what is there; *distance starts at what is still near. */
static void
KeepNearest(const char *wanted, const char *name, const char **nearest, int *distance)
{
	int d;

	if (strlen(wanted) >= NAMEDATALEN || strlen(name) >= NAMEDATALEN)
		return;
	d = varstr_levenshtein_less_equal(wanted, strlen(wanted), name, strlen(name), 1, 1, 1, *distance, true);
	if (d < *distance)
	{
		*nearest = name;
		*distance = d;
	}
}

static int
NearDistance(const char *wanted)
{
	return 2 + Min(strlen(wanted), NAMEDATALEN) / 4;
}

/* A readable relation whose name is near, or NULL. */
static char *
NearestRelation(const RangeVar *wanted)
{
	Oid types[1] = {TEXTOID};
	Datum values[1] = {wanted->schemaname ? CStringGetTextDatum(wanted->schemaname) : (Datum) 0};
	char nulls[2] = {wanted->schemaname ? ' ' : 'n', '\0'};
	const char *nearest = NULL;
	int distance = NearDistance(wanted->relname);
	MemoryContext cxt = CurrentMemoryContext;
	char *result = NULL;

	SPI_connect();
	SPI_execute_with_args("SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_class c"
						  " JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
						  " WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,m,f,p}')"
						  " AND CASE WHEN $1 IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)"
						  " ELSE n.nspname OPERATOR(pg_catalog.=) $1 END"
						  " AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT')",
						  1, types, values, nulls, true, 100000);
	for (uint64 i = 0; i < SPI_processed; i++)
		KeepNearest(wanted->relname, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1), &nearest,
					&distance);
	if (nearest != NULL)
		result = MemoryContextStrdup(cxt, nearest);
	SPI_finish();
	return result;
}

/* ---- from a source to a query ---- */

static void
ThrowNoRelation(const RangeVar *wanted)
{
	char *nearest = NearestRelation(wanted);

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("relation \"%s\" does not exist",
					wanted->schemaname ? psprintf("%s.%s", wanted->schemaname, wanted->relname) : wanted->relname),
			 nearest ? errhint("Did you mean %s?", quote_qualified_identifier(wanted->schemaname, nearest))
					 : errhint("A source is the name of a table or view, or one SELECT.")));
}

static char *
RelationQuery(List *names)
{
	List *parts = NIL;
	ListCell *cell;
	RangeVar *wanted;
	Oid relid;
	char relkind;

	foreach(cell, names)
		parts = lappend(parts, makeString((char *) lfirst(cell)));
	wanted = makeRangeVarFromNameList(parts);
	relid = RangeVarGetRelid(wanted, NoLock, true);
	if (!OidIsValid(relid))
		ThrowNoRelation(wanted);
	relkind = get_rel_relkind(relid);
	if (strchr("rvmfp", relkind) == NULL)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" has no rows to read", wanted->relname),
						errhint("A source is the name of a table or view, or one SELECT.")));
	return psprintf("SELECT * FROM %s",
					quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid)));
}

/* Make the position of an error one in the source, not in the statement that called us. */
static void
SourceContext(void *arg)
{
	int position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery((const char *) arg);
	}
	else
		errcontext("source \"%s\"", (const char *) arg);
}

static void
ThrowNotOneSelect(const char *problem)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", problem),
		 errhint("A source is the name of a table or view, or one SELECT, such as 'SELECT a, b FROM c WHERE d'.")));
}

static RawStmt *
ParseSource(const char *source)
{
	ErrorContextCallback callback = {error_context_stack, SourceContext, (void *) source};
	List *statements;

	error_context_stack = &callback;
	statements = pg_parse_query(source);
	error_context_stack = callback.previous;
	if (statements == NIL)
		ThrowNotOneSelect("the source is empty");
	if (list_length(statements) > 1)
		ThrowNotOneSelect(psprintf("the source has %d statements", list_length(statements)));
	if (!IsA(linitial_node(RawStmt, statements)->stmt, SelectStmt))
		ThrowNotOneSelect("the source is not a SELECT");
	return linitial_node(RawStmt, statements);
}

char *
SourceQuery(const char *source)
{
	List *names;
	RawStmt *statement;

	if (SplitIdentifierString(pstrdup(source), '.', &names) && names != NIL && list_length(names) <= 3)
		return RelationQuery(names);
	statement = ParseSource(source);
	return statement->stmt_len == 0 ? pstrdup(source + statement->stmt_location)
									: pnstrdup(source + statement->stmt_location, statement->stmt_len);
}

/* ---- what a query reads ---- */

static void
CheckReadsOnly(const Query *query)
{
	ListCell *cell;

	if (query->commandType == CMD_UTILITY)
		ThrowNotOneSelect("the source is a SELECT INTO");
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE)
		ThrowNotOneSelect("the source changes data");
	if (query->rowMarks != NIL)
		ThrowNotOneSelect("the source locks rows");
	foreach(cell, query->rtable)
	{
		const RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_RELATION && get_rel_persistence(entry->relid) == RELPERSISTENCE_TEMP)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("the source reads the temporary table \"%s\"", get_rel_name(entry->relid)),
							errdetail("A job runs in another session, which does not see it."),
							errhint("Copy it first: CREATE TABLE name AS TABLE %s;",
									quote_identifier(get_rel_name(entry->relid)))));
	}
}

static bool
CheckReadsOnlyWalker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, CheckReadsOnlyWalker, context);
	CheckReadsOnly((Query *) node);
	return query_tree_walker((Query *) node, CheckReadsOnlyWalker, context, 0);
}

static PlannedStmt *
PlanSource(const char *query)
{
	ErrorContextCallback callback = {error_context_stack, SourceContext, (void *) query};
	RawStmt *statement = ParseSource(query);
	List *rewritten;
	PlannedStmt *plan;

	error_context_stack = &callback;
	rewritten = pg_analyze_and_rewrite_fixedparams(statement, query, NULL, 0, NULL);
	error_context_stack = callback.previous;
	if (list_length(rewritten) != 1)
		ThrowNotOneSelect("the source is not one SELECT");
	CheckReadsOnlyWalker(linitial(rewritten), NULL);
	plan = pg_plan_query(linitial_node(Query, rewritten), query, 0, NULL);
	CheckStatementPermissions(plan);
	return plan;
}

TupleDesc
DescribeSource(const char *query)
{
	return ExecCleanTypeFromTL(PlanSource(query)->planTree->targetlist);
}

double
EstimateSource(const char *query)
{
	return PlanSource(query)->planTree->plan_rows;
}

/* ---- its columns ---- */

int
FindColumn(TupleDesc tupdesc, const char *name)
{
	int found = -1;

	for (int i = 0; i < tupdesc->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(tupdesc, i)->attname), name) == 0)
			return i;
	for (int i = 0; i < tupdesc->natts; i++)
	{
		if (pg_strcasecmp(NameStr(TupleDescAttr(tupdesc, i)->attname), name) != 0)
			continue;
		if (found >= 0)
			return -1;
		found = i;
	}
	return found;
}

char *
ColumnNames(TupleDesc tupdesc)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < tupdesc->natts && i < 50; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(NameStr(TupleDescAttr(tupdesc, i)->attname)));
	if (tupdesc->natts > 50)
		appendStringInfoString(&names, ", ...");
	return names.data;
}

int
RequireColumn(TupleDesc tupdesc, const char *name, const char *role)
{
	int found = FindColumn(tupdesc, name);
	const char *nearest = NULL;
	int distance = NearDistance(name);

	if (found >= 0)
		return found;
	for (int i = 0; i < tupdesc->natts; i++)
		KeepNearest(name, NameStr(TupleDescAttr(tupdesc, i)->attname), &nearest, &distance);
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("the source has no column \"%s\"", name),
					errdetail("It was named as %s.", role),
					nearest ? errhint("Did you mean \"%s\"?", nearest)
							: errhint("Columns of the source: %s.", ColumnNames(tupdesc))));
}
