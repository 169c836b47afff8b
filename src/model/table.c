/*
 * table.c
 *	  Which relation is a model: name, creation, shape, privileges.
 *
 * The owner of a table decides what it is, so nothing but the catalogs is asked, and nothing
 * of the table is touched before it is known to be an ordinary, local table of our row type
 * whose rows can be found by its own primary key.  Row security, inheritance and partitions
 * would let two readers see two models under one name: they are refused.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/genam.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "../common.h"
#include "parts.h"

/* Fourth field of advisory lock tags that stand for the name of a model being created. */
#define NAME_LOCK_CLASS 0x4C4E

char *
ModelName(Oid relid)
{
	char *name = get_rel_name(relid);

	return name != NULL ? name : psprintf("%u", relid);
}

char *
ModelNameLiteral(Oid relid)
{
	return quote_literal_cstr(DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(relid))));
}

/* ---- shape ---- */

bool
IsModelTable(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool model = HeapTupleIsValid(tuple) && ((Form_pg_class) GETSTRUCT(tuple))->relkind == RELKIND_RELATION &&
				 ((Form_pg_class) GETSTRUCT(tuple))->reloftype == LlmappTypeOid("model_part");

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return model;
}

static void
ThrowNotAModel(Oid relid, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a model", ModelName(relid)),
			 errdetail("%s", detail), errhint("SELECT model FROM llmapp.models lists the models of this database.")));
}

/* The row type's columns, in its order and without dropped ones before them. */
static bool
HasModelColumns(TupleDesc desc)
{
	static const Oid types[PART_COLUMNS] = {INT4OID, INT4OID, TEXTOID, JSONBOID, BYTEAOID};

	if (desc->natts != PART_COLUMNS)
		return false;
	for (int i = 0; i < PART_COLUMNS; i++)
		if (TupleDescAttr(desc, i)->attisdropped || TupleDescAttr(desc, i)->atttypid != types[i])
			return false;
	return true;
}

/* Why a relation of our row type is not read as a model; NULL when it is sound. */
static const char *
FindUnsoundness(Relation rel)
{
	Form_pg_class form = rel->rd_rel;

	if (!HasModelColumns(RelationGetDescr(rel)))
		return "It has other columns than llmapp.model_part.";
	if (form->relrowsecurity)
		return "It has row security, so that readers would see different models.";
	if (form->relispartition || has_superclass(RelationGetRelid(rel)))
		return "It is a partition or inherits from another table.";
	if (form->relhassubclass && find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		return "Other tables inherit from it.";
	if (RELATION_IS_OTHER_TEMP(rel))
		return "It is a temporary table of another session.";
	if (RecoveryInProgress() && !RelationIsPermanent(rel))
		return "It is unlogged, so this standby does not have its rows.";
	return NULL;
}

/* The primary key (version, part), open; NULL when there is none that can be used. */
static Relation
OpenPrimaryKey(Relation rel)
{
	Relation index;
	Form_pg_index form;

	list_free(RelationGetIndexList(rel));
	if (!OidIsValid(rel->rd_pkindex))
		return NULL;
	index = index_open(rel->rd_pkindex, AccessShareLock);
	form = index->rd_index;
	if (form->indisvalid && form->indimmediate && form->indnkeyatts == 2 && form->indkey.values[0] == PART_VERSION &&
		form->indkey.values[1] == PART_NUMBER)
		return index;
	index_close(index, AccessShareLock);
	return NULL;
}

void
OpenModelTable(ModelTable *table, Oid relid, LOCKMODE lock, ModelSnapshot which)
{
	const char *reason;

	table->relid = relid;
	table->rel = try_relation_open(relid, lock);
	if (table->rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("model with OID %u does not exist", relid),
						errhint("SELECT model FROM llmapp.models lists the models of this database.")));
	if (table->rel->rd_rel->relkind != RELKIND_RELATION ||
		table->rel->rd_rel->reloftype != LlmappTypeOid("model_part"))
		ThrowNotAModel(relid, "A model is an ordinary table of type llmapp.model_part, as llm_train creates it.");
	reason = FindUnsoundness(table->rel);
	if (reason != NULL)
		ThrowNotAModel(relid, reason);
	table->index = OpenPrimaryKey(table->rel);
	if (table->index == NULL)
		ThrowNotAModel(relid, "It has no valid primary key (version, part).");
	table->snapshot = RegisterSnapshot(which == SNAPSHOT_LATEST ? GetLatestSnapshot()
									   : ActiveSnapshotSet()    ? GetActiveSnapshot()
																: GetTransactionSnapshot());
}

void
CloseModelTable(ModelTable *table, LOCKMODE lock)
{
	UnregisterSnapshot(table->snapshot);
	index_close(table->index, lock == NoLock ? NoLock : AccessShareLock);
	relation_close(table->rel, lock);
}

/* The lock is given up: writers would deadlock if they went from this one to a stronger one. */
void
RequireModelTable(Oid relid)
{
	ModelTable table;

	OpenModelTable(&table, relid, AccessShareLock, SNAPSHOT_OF_STATEMENT);
	CloseModelTable(&table, AccessShareLock);
}

/* ---- privileges ---- */

static void
RequireColumnSelect(Oid relid, AttrNumber column, const char *name, const char *what)
{
	Oid user = GetUserId();

	if (pg_class_aclcheck(relid, user, ACL_SELECT) == ACLCHECK_OK ||
		pg_attribute_aclcheck(relid, column, user, ACL_SELECT) == ACLCHECK_OK)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for model \"%s\"", ModelName(relid)),
			 errdetail("To %s one needs SELECT on its column \"%s\".", what, name),
			 errhint("GRANT SELECT (%s) ON %s TO %s;", name,
					 DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(relid))),
					 quote_identifier(GetUserNameFromId(user, false)))));
}

void
RequirePredictPrivilege(Oid relid)
{
	RequireColumnSelect(relid, PART_META, "meta", "predict with a model or read its description");
}

void
RequireWeightsPrivilege(Oid relid)
{
	RequireColumnSelect(relid, PART_DATA, "data", "read the weights of a model");
}

/* ---- names ---- */

static bool
NameIsTaken(Oid schema, const char *name)
{
	return OidIsValid(get_relname_relid(name, schema)) ||
		   SearchSysCacheExists2(TYPENAMENSP, CStringGetDatum(name), ObjectIdGetDatum(schema));
}

/* The first of name_model, name_model2, ... that is free in a schema; palloc'd. */
static char *
FreeName(Oid schema, const char *name)
{
	for (int i = 1;; i++)
	{
		char *suffix = i == 1 ? pstrdup("_model") : psprintf("_model%d", i);
		int room = NAMEDATALEN - 1 - (int) strlen(suffix);
		char *proposal = psprintf("%.*s%s", pg_mbcliplen(name, strlen(name), room), name, suffix);

		if (!NameIsTaken(schema, proposal))
			return proposal;
	}
}

/* ERROR for a relation or type that already has the name and is not a model. */
static void
ThrowNameTaken(Oid schema, const char *name)
{
	const char *nspname = get_namespace_name(schema);

	ereport(ERROR, (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("\"%s\" already exists and is not a model", name),
					errdetail("A model is a table and shares the name space of tables and types."),
					errhint("Choose another name for the model, such as %s.",
							quote_literal_cstr(quote_qualified_identifier(nspname, FreeName(schema, name))))));
}

/* The schema of a model's name, when a model may have that name there. */
static Oid
ModelSchema(const char *schema, const char *name)
{
	Oid namespace = InvalidOid;

	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR, (errcode(name[0] == '\0' ? ERRCODE_INVALID_NAME : ERRCODE_NAME_TOO_LONG),
						errmsg("name \"%s\" of a model is %s", name, name[0] == '\0' ? "empty" : "too long"),
						errdetail("The name of a model has 1 to %d bytes, as that of a table.", NAMEDATALEN - 1)));
	if (strcmp(schema, "pg_temp") != 0)
	namespace = get_namespace_oid(schema, false);
	if (!OidIsValid(namespace) || isAnyTempNamespace(namespace))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a model cannot be a temporary table"),
						errdetail("The worker that trains it would not see it.")));
	return namespace;
}

/* The current user must be able to add a version to a model and to make it live. */
static void
RequireWritePrivilege(Oid relid)
{
	AclMode needed = ACL_SELECT | ACL_INSERT | ACL_UPDATE;

	if (pg_class_aclmask(relid, GetUserId(), needed, ACLMASK_ALL) == needed)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for model \"%s\"", ModelName(relid)),
			 errdetail("To add a version one needs SELECT, INSERT and UPDATE on the table."),
			 errhint("GRANT SELECT, INSERT, UPDATE ON %s TO %s;",
					 DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(relid))),
					 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

Oid
CheckModelName(const char *schema, const char *name)
{
	Oid namespace = ModelSchema(schema, name);
	Oid relid = get_relname_relid(name, namespace);

	if (OidIsValid(relid))
	{
		if (!IsModelTable(relid))
			ThrowNameTaken(namespace, name);
		RequireModelTable(relid);
		RequireWritePrivilege(relid);
		return relid;
	}
	if (NameIsTaken(namespace, name))
		ThrowNameTaken(namespace, name);
	if (!MayCreateInSchema(namespace))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for schema %s", schema),
						errhint("GRANT CREATE ON SCHEMA %s TO %s;", quote_identifier(schema),
								quote_identifier(GetUserNameFromId(GetUserId(), false)))));
	return InvalidOid;
}

/* ---- creation ---- */

/* Wait for whoever is creating a relation of this name through us, until its transaction ends. */
static void
LockModelName(Oid namespace, const char *name)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, namespace, hash_bytes((const unsigned char *) name, strlen(name)),
						 NAME_LOCK_CLASS);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	AcceptInvalidationMessages();
}

static void
RunStatement(const char *sql)
{
	int result = SPI_execute(sql, false, 0);

	if (result != SPI_OK_UTILITY)
		elog(ERROR, "SPI_execute returned %s for: %s", SPI_result_code_string(result), sql);
}

static Oid
CreateModelTable(const char *schema, const char *name)
{
	const char *qualified = quote_qualified_identifier(schema, name);
	Oid relid;

	LockModelName(ModelSchema(schema, name), name);
	relid = CheckModelName(schema, name);
	if (OidIsValid(relid))
		return relid;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	RunStatement(psprintf("CREATE TABLE %s OF llmapp.model_part (PRIMARY KEY (version, part))", qualified));
	RunStatement(psprintf("ALTER TABLE %s ALTER COLUMN data SET STORAGE EXTERNAL", qualified));
	RunStatement(psprintf("COMMENT ON TABLE %s IS 'model of llmapp; see llmapp.models'", qualified));
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	return get_relname_relid(name, get_namespace_oid(schema, false));
}

Oid
EnsureModelTable(const char *schema, const char *name)
{
	Oid relid = CheckModelName(schema, name);

	if (!OidIsValid(relid))
		relid = CreateModelTable(schema, name);
	CommandCounterIncrement();
	return relid;
}
