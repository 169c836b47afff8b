/*
 * source.c
 *	  What a training or evaluation reads: a relation or one SELECT, and the part that
 *	  each of its columns plays.
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
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "../llmapp.h"
#include "../model/input.h"
#include "training.h"

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

TupleDesc
DescribeSource(const char *query)
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
	return ExecCleanTypeFromTL(plan->planTree->targetlist);
}

/* ---- the part of each column ---- */

/* Index of a column: exact name first, then the only one that differs in case; -1. */
static int
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

static char *
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

static const char *
AttributeName(TupleDesc tupdesc, int i)
{
	return NameStr(TupleDescAttr(tupdesc, i)->attname);
}

static column
AttributeColumn(TupleDesc tupdesc, int i)
{
	Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);

	return MakeColumn(NameStr(attribute->attname), attribute->atttypid, attribute->atttypmod);
}

/* One name, or several separated by commas; one column may have a comma in its name. */
static void
AssignTargets(SourceRoles *roles, TupleDesc tupdesc, const char *target)
{
	List *names;
	ListCell *cell;

	if (target == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the target is missing"),
						errhint("Name the column to predict, target => 'column'; the source has: %s.",
								ColumnNames(tupdesc))));
	if (FindColumn(tupdesc, target) >= 0 || !SplitIdentifierString(pstrdup(target), ',', &names) || names == NIL)
		names = list_make1((char *) target);
	roles->target_columns = palloc0(list_length(names) * sizeof(column));
	roles->target_attributes = palloc0(list_length(names) * sizeof(int));
	foreach(cell, names)
	{
		int i = RequireColumn(tupdesc, lfirst(cell), "the target");

		for (int k = 0; k < roles->targets; k++)
			if (roles->target_attributes[k] == i)
				ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN),
								errmsg("target column \"%s\" is named twice", AttributeName(tupdesc, i))));
		roles->target_attributes[roles->targets] = i;
		roles->target_columns[roles->targets++] = AttributeColumn(tupdesc, i);
	}
}

/* A column with a task of its own, which therefore is not an input. */
static int
AssignSpecial(TupleDesc tupdesc, const char *name, const char *parameter, column_kind kind, const char *wanted)
{
	int i;
	ValueReader reader;

	if (name == NULL)
		return -1;
	i = RequireColumn(tupdesc, name, psprintf("parameter \"%s\"", parameter));
	if (!InitValueReader(&reader, TupleDescAttr(tupdesc, i)->atttypid) || reader.kind != kind)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" is of type %s, parameter \"%s\" needs %s", AttributeName(tupdesc, i),
							   format_type_be(TupleDescAttr(tupdesc, i)->atttypid), parameter, wanted)));
	return i;
}

/* Any type whose values are numbers or strings. */
static int
AssignGroup(TupleDesc tupdesc, const char *name)
{
	int i;
	ValueReader reader;

	if (name == NULL)
		return -1;
	i = RequireColumn(tupdesc, name, "parameter \"group_column\"");
	if (!InitValueReader(&reader, TupleDescAttr(tupdesc, i)->atttypid) || reader.kind == COLUMN_VECTOR)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of type %s cannot group rows", AttributeName(tupdesc, i),
							   format_type_be(TupleDescAttr(tupdesc, i)->atttypid)),
						errhint("Convert it to text in the source.")));
	return i;
}

static int
AssignTime(TupleDesc tupdesc, const char *name)
{
	int i;

	if (name == NULL)
		return -1;
	i = RequireColumn(tupdesc, name, "parameter \"time_column\"");
	if (!OidIsValid(lookup_type_cache(TupleDescAttr(tupdesc, i)->atttypid, TYPECACHE_LT_OPR)->lt_opr))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of type %s has no order", AttributeName(tupdesc, i),
							   format_type_be(TupleDescAttr(tupdesc, i)->atttypid)),
						errdetail("Parameter \"time_column\" needs one.")));
	return i;
}

/* Mark the columns that are not inputs; the target cannot be left out. */
static bool *
TakenColumns(const SourceRoles *roles, TupleDesc tupdesc, const train_params *params)
{
	bool *taken = palloc0(Max(tupdesc->natts, 1) * sizeof(bool));

	for (int32 i = 0; i < params->exclude_count; i++)
		taken[RequireColumn(tupdesc, params->exclude[i], "parameter \"exclude\"")] = true;
	if (roles->validation >= 0)
		taken[roles->validation] = true;
	if (roles->weight >= 0)
		taken[roles->weight] = true;
	if (roles->group >= 0)
		taken[roles->group] = true;
	for (int32 i = 0; i < roles->targets; i++)
	{
		if (taken[roles->target_attributes[i]])
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("column \"%s\" is the target and cannot be excluded or have another use",
								   roles->target_columns[i].name)));
		taken[roles->target_attributes[i]] = true;
	}
	return taken;
}

/* All columns without another use, in their order. */
static void
AssignInputs(SourceRoles *roles, TupleDesc tupdesc, const bool *taken)
{
	for (int i = 0; i < tupdesc->natts; i++)
	{
		if (taken[i])
			continue;
		for (int32 k = 0; k < roles->inputs; k++)
			if (strcmp(roles->columns[k].name, AttributeName(tupdesc, i)) == 0)
				ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN),
								errmsg("the source has two columns \"%s\"", roles->columns[k].name),
								errhint("Give one another name with AS, or leave it out of the SELECT.")));
		roles->attributes[roles->inputs] = i;
		roles->columns[roles->inputs++] = AttributeColumn(tupdesc, i);
	}
	if (roles->inputs == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the source has no column to learn from"),
						errhint("Select at least one column beside the target.")));
}

/* The columns of the model to start from, in its order. */
static void
AssignBaseInputs(SourceRoles *roles, TupleDesc tupdesc, const bool *taken, const encoder *base)
{
	for (int32 i = 0; i < encoder_column_count(base); i++)
	{
		const column *c = encoder_column(base, i);
		int a = FindColumn(tupdesc, c->name);

		roles->columns[i] = *c;
		roles->attributes[i] = -1;
		roles->inputs++;
		if (!encoder_column_used(base, i))
			continue;
		if (a < 0 || taken[a])
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("the source has no column \"%s\", which the base model needs", c->name),
							errhint("Columns of the source: %s.", ColumnNames(tupdesc))));
		if (AttributeColumn(tupdesc, a).kind != c->kind)
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
							errmsg("column \"%s\" is of type %s, the base model was trained with %s", c->name,
								   format_type_be(TupleDescAttr(tupdesc, a)->atttypid), c->sql_type)));
		roles->attributes[i] = a;
	}
}

SourceRoles *
AssignRoles(TupleDesc tupdesc, const char *target, const train_params *params, const encoder *base)
{
	SourceRoles *roles = palloc0(sizeof(SourceRoles));
	int most = Max(tupdesc->natts, base ? encoder_column_count(base) : 0);
	bool *taken;

	roles->columns = palloc0(Max(most, 1) * sizeof(column));
	roles->attributes = palloc0(Max(most, 1) * sizeof(int));
	AssignTargets(roles, tupdesc, target);
	roles->validation = AssignSpecial(tupdesc, params->validation_column, "validation", COLUMN_BOOLEAN, "boolean");
	roles->weight = AssignSpecial(tupdesc, params->weight_column, "weight_column", COLUMN_NUMBER, "a number");
	roles->group = AssignGroup(tupdesc, params->group_column);
	roles->time = AssignTime(tupdesc, params->time_column);
	taken = TakenColumns(roles, tupdesc, params);
	if (base != NULL)
		AssignBaseInputs(roles, tupdesc, taken, base);
	else
		AssignInputs(roles, tupdesc, taken);
	return roles;
}
