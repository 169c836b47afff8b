/*
 * embed_column.c
 *	  llm_embed_column(): make a table of embeddings and what keeps it up to date, or bring it up to date.
 *
 * All objects are made as the caller, by plain DDL: what he may not do is refused by PostgreSQL.
 * The triggers are there, and the source locked against writers until the end of the transaction, before
 * the keys of its rows are queued, so no row is missed.  A later call queues what is not up to
 * date: rows of an older version or of other settings, rows with an error, and what is gone.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "../common.h"
#include "../job/wake.h"
#include "../job/worker.h"
#include "embed.h"

PG_FUNCTION_INFO_V1(llm_embed_column);

#define FUNCTION "llm_embed_column()"

/* What is asked for. */
typedef struct Wanted
{
	EmbedBinding binding;
	EmbedColumns columns;
	char *schema; /* of the target */
	char *name;
	int32 version; /* live, of the model */
} Wanted;

/* ---- the source ---- */

static void
RequireTable(Oid relid)
{
	char kind = get_rel_relkind(relid);

	if (kind == '\0')
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid)));
	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) ||
		get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("%s is not a table whose changes can be followed", TableName(relid)),
						errdetail("Triggers on a permanent table tell of changes."),
						errhint("Give the table that holds the texts; of a view, the table that it reads.")));
}

static AttrNumber
RequireTextColumn(Oid relid, const char *name)
{
	AttrNumber column = get_attnum(relid, name);
	char category;
	bool preferred;

	if (column <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("table %s has no column \"%s\"", TableName(relid), name),
				 errhint("SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0;",
						 quote_literal_cstr(TableName(relid)))));
	get_type_category_preferred(get_atttype(relid, column), &category, &preferred);
	if (category != TYPCATEGORY_STRING)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of type %s holds no texts", name, format_type_be(get_atttype(relid, column))),
				 errhint("Embed a column of type text, such as one GENERATED ALWAYS AS (...) STORED.")));
	return column;
}

static void
RequireKey(Oid relid, EmbedColumns *columns)
{
	columns->key = PrimaryKey(relid, &columns->keys);
	if (columns->keys == 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table %s has no primary key", TableName(relid)),
						errdetail("Each embedding is stored with the key of its row."),
						errhint("ALTER TABLE %s ADD PRIMARY KEY (...);", TableName(relid))));
	if (columns->keys + 1 > INDEX_MAX_KEYS)
		ereport(ERROR, (errcode(ERRCODE_TOO_MANY_COLUMNS), errmsg("the primary key has too many columns")));
	for (int i = 0; i < columns->keys; i++)
	{
		const char *name = get_attname(relid, columns->key[i], false);

		if (columns->key[i] == columns->column)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("column \"%s\" is part of the primary key", name),
					 errhint("Embed a copy: ALTER TABLE %s ADD COLUMN content text GENERATED ALWAYS AS (%s) STORED;",
							 TableName(relid), quote_identifier(name))));
		for (int k = 0; k < EMBED_COLUMNS; k++)
			if (strcmp(name, embed_names[k]) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("a column of the key cannot be named \"%s\"", name),
						 errdetail("The table of the embeddings has a column of that name."),
						 errhint("ALTER TABLE %s RENAME COLUMN %s TO source_%s;", TableName(relid), name, name)));
	}
}

/* ---- arguments ---- */

/* Schema and name of the target, and which one it is if it exists. */
static void
FindTarget(Wanted *w, const char *text)
{
	List *names;
	RangeVar *wanted;
	Oid relid, schema;

	if (!SplitIdentifierString(pstrdup(text), '.', &names) || names == NIL || list_length(names) > 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" is not a name for a table", text),
						errhint("Use 'name', 'schema.name' or '\"Any Name\"'.")));
	wanted = makeRangeVar(list_length(names) == 2 ? linitial(names) : NULL, llast(names), -1);
	relid = RangeVarGetRelid(wanted, NoLock, true);
	schema = OidIsValid(relid) ? get_rel_namespace(relid) : RangeVarGetCreationNamespace(wanted);
	if (isAnyTempNamespace(schema))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("a temporary table cannot be kept up to date"),
						errdetail("A job runs in another session, which does not see it."),
						errhint("Use 'schema.name' with another schema.")));
	w->schema = get_namespace_name(schema);
	w->name = wanted->relname;
	w->binding.target = relid;
}

/* The model must be able to embed pieces of this size. */
static void
CheckModel(Wanted *w)
{
	LanguageCall *call = NewLanguageCall(CurrentMemoryContext);
	ChunkOptions options = w->binding.options;

	OpenTokenModel(call, w->binding.model);
	ResolveChunkOptions(call, &options);
	w->version = call->model->version;
}

/* ---- making it ---- */

/* "llmapp.embeds('docs', 'model', 'queue', 100, 0)" */
static char *
BindingSql(const EmbedBinding *b)
{
	char *max_tokens = b->options.max_tokens > 0 ? psprintf("%d", b->options.max_tokens) : "NULL::pg_catalog.int4";

	return psprintf(
		"llmapp.embeds(%s::pg_catalog.regclass, %s::pg_catalog.regclass, %s::pg_catalog.regclass, %s, %d)",
		quote_literal_cstr(TableName(b->source)), quote_literal_cstr(TableName(b->model)),
		quote_literal_cstr(TableName(b->queue)), max_tokens, b->options.overlap);
}

static Oid
NewTable(const char *schema, const char *name)
{
	CommandCounterIncrement();
	return get_relname_relid(name, get_namespace_oid(schema, false));
}

static void
CreateQueue(Wanted *w)
{
	Oid schema = get_namespace_oid(w->schema, false);
	char *name = ChooseRelationName(w->name, NULL, "queue", schema, false);
	const char *quoted = quote_qualified_identifier(w->schema, name);

	ExecuteSql(psprintf("CREATE TABLE %s AS SELECT %s FROM %s WITH NO DATA", quoted,
						ColumnList(w->binding.source, w->columns.key, w->columns.keys, ""),
						TableName(w->binding.source)),
			   SPI_OK_UTILITY);
	/* Who publishes all tables must be able to delete from it. */
	ExecuteSql(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", quoted), SPI_OK_UTILITY);
	ExecuteSql(psprintf("COMMENT ON TABLE %s IS 'keys of changed rows, written by a trigger and taken out by a job "
						"of llm_embed_column(); a row of NULLs stands for all that are gone'",
						quoted),
			   SPI_OK_UTILITY);
	w->binding.queue = NewTable(w->schema, name);
}

static void
CreateTarget(Wanted *w)
{
	const char *quoted = quote_qualified_identifier(w->schema, w->name);
	char *keys = ColumnList(w->binding.source, w->columns.key, w->columns.keys, "");
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s AS SELECT %s", quoted, keys);
	for (int i = 0; i < EMBED_COLUMNS; i++)
		appendStringInfo(&sql, ", NULL::pg_catalog.%s AS %s",
						 strcmp(embed_types[i], "real[]") == 0    ? "float4[]"
						 : strcmp(embed_types[i], "integer") == 0 ? "int4"
																  : embed_types[i],
						 embed_names[i]);
	appendStringInfo(&sql, " FROM %s WITH NO DATA", TableName(w->binding.source));
	ExecuteSql(sql.data, SPI_OK_UTILITY);
	ExecuteSql(psprintf("ALTER TABLE %s ADD PRIMARY KEY (%s, %s), ALTER COLUMN %s SET STORAGE EXTERNAL,"
						" ADD CONSTRAINT %s CHECK (%s)",
						quoted, keys, embed_names[EMBED_CHUNK], embed_names[EMBED_EMBEDDING],
						quote_identifier(
							ChooseConstraintName(w->name, NULL, "embeds", get_namespace_oid(w->schema, false), NIL)),
						BindingSql(&w->binding)),
			   SPI_OK_UTILITY);
	ExecuteSql(psprintf("CREATE INDEX ON %s (%s) WHERE %s IS NOT NULL", quoted, embed_names[EMBED_AT],
						embed_names[EMBED_ERROR]),
			   SPI_OK_UTILITY);
	w->binding.target = NewTable(w->schema, w->name);
	TieQueue(&w->binding);
}

/* A name that no trigger of the source has. */
static char *
ChooseTriggerName(Oid source, const char *name, const char *label)
{
	for (int i = 0;; i++)
	{
		char *chosen = makeObjectName(name, NULL, i == 0 ? label : psprintf("%s%d", label, i));

		if (!OidIsValid(get_trigger_oid(source, chosen, true)))
			return chosen;
	}
}

static void
CreateTriggers(const Wanted *w)
{
	const char *source = TableName(w->binding.source);
	const char *target = quote_literal_cstr(TableName(w->binding.target));
	const char *tail =
		psprintf("WHEN (%s::pg_catalog.regclass IS NOT NULL) EXECUTE FUNCTION llmapp.embed_changes()", target);

	ExecuteSql(psprintf("CREATE TRIGGER %s AFTER INSERT OR UPDATE OF %s, %s OR DELETE ON %s FOR EACH ROW %s",
						quote_identifier(ChooseTriggerName(w->binding.source, w->name, "embed")),
						ColumnName(w->binding.source, w->columns.column),
						ColumnList(w->binding.source, w->columns.key, w->columns.keys, ""), source, tail),
			   SPI_OK_UTILITY);
	ExecuteSql(psprintf("CREATE TRIGGER %s AFTER TRUNCATE ON %s FOR EACH STATEMENT %s",
						quote_identifier(ChooseTriggerName(w->binding.source, w->name, "truncate")), source, tail),
			   SPI_OK_UTILITY);
	CommandCounterIncrement();
}

/* ---- filling the queue ---- */

/* Rows committed until now are seen, whatever the isolation level. */
static void
QueueRows(const Wanted *w, bool all)
{
	StringInfoData sql;
	SPIPlanPtr plan;
	Snapshot snapshot;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (%s) SELECT %s FROM %s AS s WHERE s.%s IS NOT NULL",
					 TableName(w->binding.queue), ColumnList(w->binding.queue, NULL, w->columns.keys, ""),
					 ColumnList(w->binding.source, w->columns.key, w->columns.keys, "s."),
					 TableName(w->binding.source), ColumnName(w->binding.source, w->columns.column));
	if (!all)
		appendStringInfo(&sql,
						 " AND NOT EXISTS (SELECT FROM %s AS t WHERE %s AND t.model_version OPERATOR(pg_catalog.=) %d"
						 " AND t.error IS NULL)",
						 TableName(w->binding.target), KeyClause(&w->binding, &w->columns, "t.", "s."), w->version);
	plan = SPI_prepare(sql.data, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "could not prepare %s: %s", sql.data, SPI_result_code_string(SPI_result));
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (SPI_execute_snapshot(plan, NULL, NULL, snapshot, InvalidSnapshot, false, true, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not queue the rows of %s", TableName(w->binding.source));
	UnregisterSnapshot(snapshot);
	ExecuteSql(psprintf("INSERT INTO %s DEFAULT VALUES", TableName(w->binding.queue)), SPI_OK_INSERT);
}

/* ---- a target that exists ---- */

/* Take over what it is made of; true when all its rows are to be made anew. */
static bool
Rebind(Wanted *w)
{
	EmbedBinding old;
	EmbedColumns columns;
	const char *target = TableName(w->binding.target);
	bool differs;

	if (!ReadBinding(w->binding.target, &old))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("table %s exists and holds no embeddings", target),
						errhint("Name a table that does not exist; it is created.")));
	if (RelationOwner(w->binding.target) != GetUserId())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of table %s", target),
						errdetail("Embeddings are made as the owner of their table."),
						errhint("SET ROLE %s;",
								quote_identifier(GetUserNameFromId(RelationOwner(w->binding.target), false)))));
	if (old.source != w->binding.source || !ReadColumns(&old, &columns) || columns.column != w->columns.column)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE), errmsg("table %s holds the embeddings of another column", target),
				 errhint("Name another table, or DROP TABLE %s CASCADE;", target)));
	w->columns = columns;
	w->binding.queue = old.queue;
	differs = old.model != w->binding.model || old.options.max_tokens != w->binding.options.max_tokens ||
			  old.options.overlap != w->binding.options.overlap;
	if (differs)
		ExecuteSql(psprintf("ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %s CHECK (%s)", target,
							quote_identifier(old.constraint), quote_identifier(old.constraint),
							BindingSql(&w->binding)),
				   SPI_OK_UTILITY);
	return differs;
}

static void
MakeOrRebind(Wanted *w)
{
	bool all = true;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (OidIsValid(w->binding.target))
		all = Rebind(w);
	else
	{
		CreateQueue(w);
		CreateTarget(w);
		CreateTriggers(w);
	}
	QueueRows(w, all);
	SPI_finish();
}

/* llm_embed_column(source, text_column, model, target, max_tokens, overlap) */
Datum
llm_embed_column(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"source", "text_column", "model", "target"};
	Wanted w = {0};
	int64 job;
	bool runs;

	for (int i = 0; i < (int) lengthof(names); i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument \"%s\" of " FUNCTION " must not be null", names[i])));
	RequireSubmission(FUNCTION, "embed a column", false);
	w.binding.source = PG_GETARG_OID(0);
	w.binding.model = PG_GETARG_OID(2);
	w.binding.options = ChunkArguments(fcinfo, 4, 5);
	RequireTable(w.binding.source);
	w.columns.column = RequireTextColumn(w.binding.source, TextArgument(fcinfo, 1));
	RequireKey(w.binding.source, &w.columns);
	FindTarget(&w, TextArgument(fcinfo, 3));
	CheckModel(&w);
	MakeOrRebind(&w);
	job = QueueEmbeddingJob(w.binding.target, w.binding.model, true, &runs);
	if (runs)
		WakeAtCommit(EMBED_KIND, w.binding.target, GetUserId());
	else
		StartAtCommit(job, GetUserId());
	PG_RETURN_INT64(job);
}
