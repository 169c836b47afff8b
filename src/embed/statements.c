/*
 * statements.c
 *	  The SQL by which a job takes keys from the queue, reads texts and writes embeddings.
 *
 * Plain SQL on the user's tables, as the owner of the target: privileges, row security, triggers and
 * constraints work as in any other.  Operators are named in full, so the role's search path does not matter.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

#include "../common.h"
#include "embed.h"

const char *const embed_names[EMBED_COLUMNS] = {"chunk",     "start",         "length",     "content",
												"embedding", "model_version", "updated_at", "error"};
const char *const embed_types[EMBED_COLUMNS] = {"integer", "integer", "integer",     "text",
												"real[]",  "integer", "timestamptz", "text"};

static const Oid embed_type_oids[EMBED_COLUMNS] = {INT4OID,        INT4OID, INT4OID,        TEXTOID,
												   FLOAT4ARRAYOID, INT4OID, TIMESTAMPTZOID, TEXTOID};

void
ExecuteSql(const char *sql, int expected)
{
	int result = SPI_execute(sql, false, 0);

	if (result != expected)
		elog(ERROR, "%s returned %s", sql, SPI_result_code_string(result));
}

void
TieQueue(const EmbedBinding *binding)
{
	ObjectAddress queue = {RelationRelationId, binding->queue, 0};
	ObjectAddress target = {RelationRelationId, binding->target, 0};

	ExecuteSql(psprintf("SELECT FROM pg_catalog.pg_depend WHERE classid OPERATOR(pg_catalog.=) %u"
						" AND objid OPERATOR(pg_catalog.=) %u AND refclassid OPERATOR(pg_catalog.=) %u"
						" AND refobjid OPERATOR(pg_catalog.=) %u AND deptype OPERATOR(pg_catalog.=) 'a'",
						RelationRelationId, binding->queue, RelationRelationId, binding->target),
			   SPI_OK_SELECT);
	if (SPI_processed == 0 && binding->queue != binding->target &&
		RelationOwner(binding->queue) == RelationOwner(binding->target))
		recordDependencyOn(&queue, &target, DEPENDENCY_AUTO);
}

/* Columns of the target's primary key, which ends with the number of the chunk. */
static AttrNumber *
TargetKey(const EmbedBinding *binding, const EmbedColumns *columns)
{
	int count;
	AttrNumber *key = PrimaryKey(binding->target, &count);

	if (count != columns->keys + 1)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the primary key of table %s is not that of table %s with \"%s\" behind it",
							   TableName(binding->target), TableName(binding->source), embed_names[EMBED_CHUNK]),
						errhint("DROP TABLE %s CASCADE; and SELECT llm_embed_column(...) again.",
								TableName(binding->target))));
	return key;
}

static void
AppendEquality(StringInfo sql, const char *left, Oid left_type, const char *right, Oid right_type)
{
	if (sql->len > 0)
		appendStringInfoString(sql, " AND ");
	generate_operator_clause(sql, left, left_type, lookup_type_cache(left_type, TYPECACHE_EQ_OPR)->eq_opr, right,
							 right_type);
}

char *
KeyClause(const EmbedBinding *binding, const EmbedColumns *columns, const char *left, const char *right)
{
	AttrNumber *target = TargetKey(binding, columns);
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < columns->keys; i++)
		AppendEquality(&sql, psprintf("%s%s", left, ColumnName(binding->target, target[i])),
					   get_atttype(binding->target, target[i]),
					   psprintf("%s%s", right, ColumnName(binding->source, columns->key[i])),
					   get_atttype(binding->source, columns->key[i]));
	return sql.data;
}

/* "a = $1 AND b = $2", of columns of a table */
static char *
ParameterClause(Oid relid, const AttrNumber *key, int keys)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < keys; i++)
		AppendEquality(&sql, ColumnName(relid, key[i]), get_atttype(relid, key[i]), psprintf("$%d", i + 1),
					   get_atttype(relid, key[i]));
	return sql.data;
}

static SPIPlanPtr
Prepare(const char *sql, int count, Oid *types)
{
	SPIPlanPtr plan = SPI_prepare(sql, count, types);

	if (plan == NULL)
		elog(ERROR, "could not prepare %s: %s", sql, SPI_result_code_string(SPI_result));
	return plan;
}

static char *
InsertSql(const EmbedBinding *binding, const AttrNumber *key, int keys)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (%s", TableName(binding->target),
					 ColumnList(binding->target, key, keys, ""));
	for (int i = 0; i < EMBED_COLUMNS; i++)
		appendStringInfo(&sql, ", %s", embed_names[i]);
	appendStringInfoString(&sql, ") VALUES (");
	for (int i = 0; i < keys + EMBED_COLUMNS; i++)
		appendStringInfo(&sql, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

void
PrepareStatements(const EmbedBinding *binding, const EmbedColumns *columns, EmbedStatements *out)
{
	int keys = columns->keys;
	AttrNumber *target = TargetKey(binding, columns);
	Oid *types = palloc((keys + EMBED_COLUMNS) * sizeof(Oid));
	const char *queue = TableName(binding->queue);
	char *queued = ColumnList(binding->queue, NULL, keys, "");

	for (int i = 0; i < keys; i++)
		types[i] = get_atttype(binding->source, columns->key[i]);
	memcpy(types + keys, embed_type_oids, sizeof(embed_type_oids));
	out->take = Prepare(psprintf("WITH taken AS (DELETE FROM %s WHERE ctid OPERATOR(pg_catalog.=) ANY"
								 " (ARRAY(SELECT ctid FROM %s LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING %s)"
								 " SELECT DISTINCT %s FROM taken",
								 queue, queue, queued, queued),
						1, &(Oid) {INT8OID});
	out->read =
		Prepare(psprintf("SELECT %s::pg_catalog.text FROM %s WHERE %s", ColumnName(binding->source, columns->column),
						 TableName(binding->source), ParameterClause(binding->source, columns->key, keys)),
				keys, types);
	out->remove = Prepare(psprintf("DELETE FROM %s WHERE %s", TableName(binding->target),
								   ParameterClause(binding->target, target, keys)),
						  keys, types);
	out->insert = Prepare(InsertSql(binding, target, keys), keys + EMBED_COLUMNS, types);
	out->sweep = Prepare(psprintf("DELETE FROM %s AS t WHERE NOT EXISTS (SELECT FROM %s AS s WHERE %s)",
								  TableName(binding->target), TableName(binding->source),
								  KeyClause(binding, columns, "t.", "s.")),
						 0, NULL);
}
