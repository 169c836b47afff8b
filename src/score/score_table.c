/*
 * score_table.c
 *	  The table that a scoring job fills: found or created, and the SQL that reads and writes it.
 *
 * The table is its own checkpoint.  Its key is unique, and a source row counts as done when the
 * table has a prediction of the job's version for its key that is not older than the job.
 * That holds for any order of the source, needs no position that could differ from the rows,
 * and makes running a part twice harmless: the row is replaced, never repeated.
 *
 * Everything runs as the submitter, as plain SQL on his table: triggers, row security, defaults
 * and partitions of a table that he made himself work as in any INSERT.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

#include "../common.h"
#include "../row/column_type.h"
#include "scoring.h"
#include "../row/source.h"

static const char *const score_names[SCORE_COLUMNS] = {"prediction", "probability", "model_version", "predicted_at",
													   "error"};

static const char *
ColumnName(const ScoreTable *table, int i)
{
	return quote_identifier(NameStr(TupleDescAttr(table->desc, i)->attname));
}

static char *
TableName(const ScoreTable *table)
{
	return quote_qualified_identifier(table->spec->schema, table->spec->table);
}

/* ---- what a row of it is ---- */

static void
AddKeyColumn(ScoreTable *table, int i, TupleDesc source)
{
	Form_pg_attribute from;

	table->key[i] = RequireColumn(source, table->spec->key[i], "a column of the key");
	from = TupleDescAttr(source, table->key[i]);
	for (int k = 0; k < SCORE_COLUMNS; k++)
		if (strcmp(NameStr(from->attname), score_names[k]) == 0)
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN),
							errmsg("a column of the key cannot be named \"%s\"", score_names[k]),
							errdetail("The table has a column of that name for the result."),
							errhint("Give it another name in the source, as in SELECT %s AS source_%s.",
									score_names[k], score_names[k])));
	for (int k = 0; k < i; k++)
		if (table->key[k] == table->key[i])
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN),
							errmsg("column \"%s\" is twice in the key", NameStr(from->attname))));
	if (!OidIsValid(lookup_type_cache(from->atttypid, TYPECACHE_BTREE_OPFAMILY)->btree_opf))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of type %s cannot be part of a key", NameStr(from->attname),
							   format_type_be(from->atttypid)),
						errdetail("The type has no order, which a unique index needs."),
						errhint("Choose other columns, or convert it in the source: %s::text.",
								quote_identifier(NameStr(from->attname)))));
	TupleDescInitEntry(table->desc, i + 1, NameStr(from->attname), from->atttypid, from->atttypmod, 0);
	TupleDescInitEntryCollation(table->desc, i + 1, from->attcollation);
}

static void
DescribeRow(ScoreTable *table, TupleDesc source, Oid prediction)
{
	const Oid types[SCORE_COLUMNS] = {prediction, FLOAT8OID, INT4OID, TIMESTAMPTZOID, TEXTOID};
	int keys = table->spec->keys;

	table->key = palloc(keys * sizeof(int));
	table->desc = CreateTemplateTupleDesc(keys + SCORE_COLUMNS);
	for (int i = 0; i < keys; i++)
		AddKeyColumn(table, i, source);
	for (int i = 0; i < SCORE_COLUMNS; i++)
		TupleDescInitEntry(table->desc, keys + i + 1, score_names[i], types[i], -1, 0);
}

/* ---- a table that exists ---- */

/* "id bigint, prediction boolean, ..." */
static char *
ColumnList(const ScoreTable *table)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < table->desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(table->desc, i);

		appendStringInfo(&list, "%s%s %s", i > 0 ? ", " : "", ColumnName(table, i),
						 format_type_with_typemod(column->atttypid, column->atttypmod));
	}
	return list.data;
}

static char *
KeyList(const ScoreTable *table)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < table->spec->keys; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", ColumnName(table, i));
	return list.data;
}

static void
ThrowUnfit(const ScoreTable *table, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
					errmsg("table %s cannot take these predictions", TableName(table)), errdetail("%s", detail),
					errhint("It needs the columns %s, or name a table that does not exist.", ColumnList(table))));
}

/* Column of the relation with this name, or 0. */
static AttrNumber
FindAttribute(Relation rel, const char *name)
{
	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(rel), i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
			return attribute->attnum;
	}
	return 0;
}

/* The column of a table that takes column i of our rows; predictions may also be kept as text. */
static AttrNumber
RequireAttribute(ScoreTable *table, Relation rel, int i)
{
	Form_pg_attribute wanted = TupleDescAttr(table->desc, i);
	AttrNumber number = FindAttribute(rel, NameStr(wanted->attname));
	Form_pg_attribute found;

	if (number == 0)
		ThrowUnfit(table, psprintf("It has no column \"%s\".", NameStr(wanted->attname)));
	found = TupleDescAttr(RelationGetDescr(rel), number - 1);
	if (found->attgenerated)
		ThrowUnfit(table, psprintf("Its column \"%s\" is generated.", NameStr(wanted->attname)));
	if (found->atttypid == TEXTOID && i == table->spec->keys + SCORE_PREDICTION)
		TupleDescInitEntry(table->desc, i + 1, NameStr(wanted->attname), TEXTOID, -1, 0);
	else if (found->atttypid != wanted->atttypid)
		ThrowUnfit(table, psprintf("Its column \"%s\" is of type %s.", NameStr(wanted->attname),
								   format_type_be(found->atttypid)));
	return number;
}

/* A column that is not ours must not need a value. */
static void
CheckOtherColumns(const ScoreTable *table, Relation rel, const Bitmapset *ours)
{
	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(rel), i);

		if (!attribute->attisdropped && attribute->attnotnull && !attribute->atthasdef && !attribute->attidentity &&
			!bms_is_member(attribute->attnum, ours))
			ThrowUnfit(table,
					   psprintf("Its column \"%s\" is NOT NULL and has no default.", NameStr(attribute->attname)));
	}
}

/* Whether an index makes exactly these columns unique, so that ON CONFLICT can use it. */
static bool
IsUniqueOn(Oid index, const Bitmapset *columns)
{
	Relation rel = index_open(index, AccessShareLock);
	Form_pg_index form = rel->rd_index;
	Bitmapset *found = NULL;
	bool unique = form->indisunique && form->indimmediate && form->indisvalid &&
				  RelationGetIndexPredicate(rel) == NIL && RelationGetIndexExpressions(rel) == NIL;

	for (int i = 0; unique && i < form->indnkeyatts; i++)
		found = bms_add_member(found, form->indkey.values[i]);
	index_close(rel, AccessShareLock);
	return unique && bms_equal(found, columns);
}

static void
CheckUnique(const ScoreTable *table, Relation rel, const Bitmapset *key)
{
	ListCell *cell;

	foreach(cell, RelationGetIndexList(rel))
		if (IsUniqueOn(lfirst_oid(cell), key))
			return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					errmsg("table %s has no unique index on the key (%s)", TableName(table), KeyList(table)),
					errdetail("By its key a prediction replaces an older one, and a job knows what it has done."),
					errhint("ALTER TABLE %s ADD UNIQUE (%s);", TableName(table), KeyList(table))));
}

static void
CheckKind(const ScoreTable *table, Relation rel)
{
	AclMode needed = ACL_SELECT | ACL_INSERT | ACL_UPDATE;
	char kind = rel->rd_rel->relkind;

	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) ||
		rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("%s is not a table that a job can fill", TableName(table)),
						errhint("Name a table that does not exist; it is created.")));
	if (pg_class_aclmask(table->relid, GetUserId(), needed, ACLMASK_ALL) != needed)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for table %s", TableName(table)),
				 errdetail("Filling it needs SELECT, INSERT and UPDATE."),
				 errhint("GRANT SELECT, INSERT, UPDATE ON %s TO %s;", TableName(table),
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

static void
CheckTable(ScoreTable *table)
{
	Relation rel = relation_open(table->relid, AccessShareLock);
	Bitmapset *key = NULL;
	Bitmapset *ours = NULL;

	CheckKind(table, rel);
	for (int i = 0; i < table->desc->natts; i++)
	{
		AttrNumber number = RequireAttribute(table, rel, i);

		ours = bms_add_member(ours, number);
		if (i < table->spec->keys)
			key = bms_add_member(key, number);
	}
	CheckOtherColumns(table, rel, ours);
	CheckUnique(table, rel, key);
	relation_close(rel, NoLock);
}

ScoreTable *
FindScoreTable(const ScoringSpec *spec, TupleDesc source, const target *t)
{
	ScoreTable *table = palloc0(sizeof(ScoreTable));
	Oid schema = get_namespace_oid(spec->schema, false);

	table->spec = spec;
	table->relid = get_relname_relid(spec->table, schema);
	DescribeRow(table, source, TargetTypeOid(t));
	if (OidIsValid(table->relid))
		CheckTable(table);
	else if (!MayCreateInSchema(schema))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for schema %s", spec->schema),
				 errhint("Name a table in a schema of yours: into_table => 'schema.name'.")));
	return table;
}

/* ---- a new table ---- */

static void
AppendColumn(StringInfo sql, const ScoreTable *table, int i)
{
	Form_pg_attribute column = TupleDescAttr(table->desc, i);
	bits16 flags = FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY;

	appendStringInfo(sql, "%s %s", ColumnName(table, i),
					 format_type_extended(column->atttypid, column->atttypmod, flags));
	if (OidIsValid(column->attcollation) && column->attcollation != get_typcollation(column->atttypid))
		appendStringInfo(sql, " COLLATE %s", generate_collation_name(column->attcollation));
	if (i == table->spec->keys + SCORE_VERSION || i == table->spec->keys + SCORE_AT)
		appendStringInfoString(sql, " NOT NULL");
	appendStringInfoString(sql, ", ");
}

static void
RunUtility(const char *sql)
{
	int result = SPI_execute(sql, false, 0);

	if (result != SPI_OK_UTILITY)
		elog(ERROR, "SPI_execute returned %s for: %s", SPI_result_code_string(result), sql);
}

void
CreateScoreTable(ScoreTable *table)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", TableName(table));
	for (int i = 0; i < table->desc->natts; i++)
		AppendColumn(&sql, table, i);
	appendStringInfo(&sql, "PRIMARY KEY (%s))", KeyList(table));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	RunUtility(sql.data);
	RunUtility(psprintf("COMMENT ON TABLE %s IS 'predictions of llm_score()'", TableName(table)));
	SPI_finish();
}

/* ---- reading and writing ---- */

char *
PendingQuery(const ScoreTable *table, TupleDesc source)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT source.* FROM (%s\n) AS source WHERE NOT EXISTS (SELECT FROM %s AS done WHERE ",
					 table->spec->query, TableName(table));
	for (int i = 0; i < table->spec->keys; i++)
	{
		Oid type = TupleDescAttr(source, table->key[i])->atttypid;
		const char *name = ColumnName(table, i);

		generate_operator_clause(&sql, psprintf("done.%s", name), type,
								 lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr, psprintf("source.%s", name),
								 type);
		appendStringInfoString(&sql, " AND ");
	}
	appendStringInfoString(&sql, "done.model_version OPERATOR(pg_catalog.=) $1"
								 " AND done.predicted_at OPERATOR(pg_catalog.>=) $2)");
	return sql.data;
}

char *
InsertStatement(const ScoreTable *table, const char *from)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s AS t (%s", TableName(table), KeyList(table));
	for (int i = 0; i < SCORE_COLUMNS; i++)
		appendStringInfo(&sql, ", %s", score_names[i]);
	appendStringInfo(&sql, ") SELECT * FROM %s ON CONFLICT (%s) DO UPDATE SET ", from, KeyList(table));
	for (int i = 0; i < SCORE_COLUMNS; i++)
		appendStringInfo(&sql, "%s%s = EXCLUDED.%s", i > 0 ? ", " : "", score_names[i], score_names[i]);
	appendStringInfoString(&sql, " WHERE t.model_version OPERATOR(pg_catalog.<>) $1"
								 " OR t.predicted_at OPERATOR(pg_catalog.<) $2");
	return sql.data;
}
