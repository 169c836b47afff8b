/*
 * base.c
 *	  Which table is the base of a version that is kept apart from it.
 *
 * What a reader needs is a privilege on the model; that its weights lie in two tables is the owner's
 * affair, who must be able to read both, as the owner of a view must.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "../common.h"
#include "base.h"

#define BASES_MAX 16 /* one on the other */

/* ---- constraints ---- */

/* Bases that the constraints of a table name. */
static List *
DeclaredBases(Relation rel)
{
	const TupleConstr *constr = RelationGetDescr(rel)->constr;
	List *bases = NIL;

	for (int i = 0; constr != NULL && i < constr->num_check; i++)
	{
		Oid base = NamedTable(constr->check[i].ccbin);

		if (OidIsValid(base))
			bases = lappend_oid(bases, base);
	}
	return bases;
}

int
CountBaseChecks(Relation rel)
{
	return list_length(DeclaredBases(rel));
}

static bool
Declares(Oid relid, Oid base)
{
	Relation rel = relation_open(relid, AccessShareLock);
	bool found = relid == base || list_member_oid(DeclaredBases(rel), base);

	relation_close(rel, AccessShareLock);
	return found;
}

/* ---- privileges ---- */

static bool
MayReadWeights(Oid relid, Oid user)
{
	bool missing = false;

	return pg_class_aclcheck_ext(relid, user, ACL_SELECT, &missing) == ACLCHECK_OK ||
		   (!missing && pg_attribute_aclcheck_ext(relid, PART_DATA, user, ACL_SELECT, &missing) == ACLCHECK_OK);
}

static void
RequireOwnerReads(Oid relid, Oid base)
{
	Oid owner = RelationOwner(relid);

	if (!OidIsValid(owner) || MayReadWeights(base, owner))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for model \"%s\"", ModelName(base)),
			 errdetail("It is the base of model \"%s\", whose owner needs SELECT on its column \"data\".",
					   ModelName(relid)),
			 errhint("GRANT SELECT (data) ON %s TO %s;",
					 DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(base))),
					 quote_identifier(GetUserNameFromId(owner, false)))));
}

void
RequireBasePrivileges(Oid relid, const List *bases)
{
	ListCell *cell;

	foreach(cell, bases)
	{
		RequireOwnerReads(relid, lfirst_oid(cell));
		relid = lfirst_oid(cell);
	}
}

/* ---- to depend on a base ---- */

void
RequireMayDepend(Oid relid, Oid base)
{
	if (!OidIsValid(relid) || relid == base)
		return;
	RequireOwnerReads(relid, base);
	if (!Declares(relid, base) && !has_privs_of_role(GetUserId(), RelationOwner(relid)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of model %s", ModelName(relid)),
				 errdetail("A version that is kept apart makes the table depend on that of its base."),
				 errhint("Use another name for the model, or \"lora_merge\": true.")));
}

void
DependOnBase(Oid relid, Oid base)
{
	char *name = get_rel_name(relid);
	char *schema = get_namespace_name(get_rel_namespace(relid));

	LockRelationOid(base, ShareUpdateExclusiveLock);
	if (!IsModelTable(base))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the base model no longer exists"),
						errdetail("What was added to it cannot be used without it.")));
	RequireMayDepend(relid, base);
	if (!Declares(relid, base))
	{
		char *sql =
			psprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s::pg_catalog.regclass IS NOT NULL)",
					 quote_qualified_identifier(schema, name),
					 quote_identifier(ChooseConstraintName(name, "base", "check", get_rel_namespace(relid), NIL)),
					 ModelNameLiteral(base));

		if (SPI_connect() != SPI_OK_CONNECT || SPI_execute(sql, false, 0) != SPI_OK_UTILITY ||
			SPI_finish() != SPI_OK_FINISH)
			elog(ERROR, "could not run: %s", sql);
	}
}

/* ---- to find it ---- */

/* Does this table have the version with these weights?  It stays open when it does. */
static bool
OpenIfBase(ModelTable *base, Oid relid, const adapter *a, manifest **base_manifest)
{
	RowIdentity identity;
	char *text;

	if (!IsModelTable(relid))
		return false;
	OpenModelTable(base, relid, AccessShareLock, SNAPSHOT_OF_STATEMENT);
	if (FindManifest(base, a->version, &identity, &text))
	{
		*base_manifest = ParseManifest(relid, a->version, text);
		if (strcmp((*base_manifest)->sha256, a->base_sha256) == 0)
			return true;
	}
	CloseModelTable(base, NoLock);
	return false;
}

static void
ThrowNoBase(Oid relid, int32 version, const adapter *a)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("version %d of model \"%s\" lacks its base", version, ModelName(relid)),
			 errdetail("It was trained from version %d of model \"%s\" and holds only what training added; no table "
					   "that it depends on has this version with the same weights.",
					   a->version, pg_any_to_server(a->base, strlen(a->base), PG_UTF8)),
			 errhint("Restore the base, or drop the version: SELECT llm_drop_version(%s, %d);",
					 ModelNameLiteral(relid), version)));
}

void
OpenBase(ModelTable *base, const ModelTable *of, int32 version, const adapter *a, manifest **base_manifest)
{
	List *candidates = DeclaredBases(of->rel);
	ListCell *cell;

	if (a->version < version) /* an earlier version of the same model */
		candidates = lcons_oid(of->relid, candidates);
	foreach(cell, candidates)
	{
		if (!OpenIfBase(base, lfirst_oid(cell), a, base_manifest))
			continue;
		if (base->relid != of->relid)
			RequireOwnerReads(of->relid, base->relid);
		return;
	}
	ThrowNoBase(of->relid, version, a);
}

List *
ListBases(const ModelTable *of, int32 version, const manifest *m)
{
	MemoryContext result = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(result, "llmapp bases", ALLOCSET_DEFAULT_SIZES);
	List *bases = NIL;
	ModelTable tables[BASES_MAX + 1];

	tables[0] = *of;
	while (m->adapter != NULL)
	{
		int depth = list_length(bases);
		manifest *next;

		if (depth == BASES_MAX)
			ThrowDamaged(of->relid, version, "More than %d models stand on each other.", BASES_MAX);
		MemoryContextSwitchTo(scratch);
		OpenBase(&tables[depth + 1], &tables[depth], version, m->adapter, &next);
		MemoryContextSwitchTo(result);
		bases = lappend_oid(bases, tables[depth + 1].relid);
		version = m->adapter->version;
		m = next;
	}
	for (int i = list_length(bases); i > 0; i--)
		CloseModelTable(&tables[i], NoLock);
	MemoryContextDelete(scratch);
	return bases;
}

/* ---- to keep it ---- */

/* Tables whose constraints name this one, and itself. */
static List *
ListDependents(Oid relid)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	List *dependents = list_make1_oid(relid);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		HeapTuple constraint =
			form->classid == ConstraintRelationId ? SearchSysCache1(CONSTROID, ObjectIdGetDatum(form->objid)) : NULL;

		if (!HeapTupleIsValid(constraint))
			continue;
		dependents = list_append_unique_oid(dependents, ((Form_pg_constraint) GETSTRUCT(constraint))->conrelid);
		ReleaseSysCache(constraint);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return dependents;
}

/* A version of this table that stands on the one with these weights; 0: none. */
static int32
FindDependent(Oid relid, int32 base_version, const char *base_sha256)
{
	ModelTable table;
	int count;
	int32 *versions;
	int32 found = 0;

	OpenModelTable(&table, relid, AccessShareLock, SNAPSHOT_LATEST);
	versions = ListVersions(&table, &count);
	for (int i = 0; i < count && found == 0; i++)
	{
		RowIdentity identity;
		char *text;
		manifest *m;

		CHECK_FOR_INTERRUPTS();
		if (!FindManifest(&table, versions[i], &identity, &text))
			continue;
		m = TryParseManifest(text);
		if (m != NULL && m->adapter != NULL && m->adapter->version == base_version &&
			strcmp(m->adapter->base_sha256, base_sha256) == 0)
			found = versions[i];
		manifest_free(m);
	}
	CloseModelTable(&table, NoLock);
	return found;
}

/* Of a version that cannot be read, nothing can be made. */
void
RequireNoDependents(const ModelTable *base, int32 version)
{
	List *dependents = ListDependents(base->relid);
	RowIdentity identity;
	char *text;
	manifest *m = FindManifest(base, version, &identity, &text) ? TryParseManifest(text) : NULL;
	ListCell *cell;

	if (m == NULL)
		return;
	OWN(m, manifest_free);
	foreach(cell, dependents)
	{
		Oid relid = lfirst_oid(cell);
		int32 found = 0;

		if (relid == base->relid || (IsModelTable(relid) && MayReadWeights(base->relid, RelationOwner(relid))))
			found = FindDependent(relid, version, m->sha256);
		if (found > 0)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot drop version %d of model \"%s\" because another version depends on it", version,
							ModelName(base->relid)),
					 errdetail("Version %d of model \"%s\" was trained from it and holds only what that added.",
							   found, ModelName(relid)),
					 errhint("SELECT llm_drop_version(%s, %d);", ModelNameLiteral(relid), found)));
	}
}
