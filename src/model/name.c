/*
 * name.c
 *	  From the name that a user gives a model to a schema and a table's name.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "../common.h"
#include "model.h"

/* First schema of the search path in which the user may create a table. */
static char *
CreationSchema(void)
{
	List *path = fetch_search_path(false);
	ListCell *cell;

	foreach(cell, path)
		if (!isAnyTempNamespace(lfirst_oid(cell)) && MayCreateInSchema(lfirst_oid(cell)))
			return get_namespace_name(lfirst_oid(cell));
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("no schema of the search path allows %s to create a model",
						   GetUserNameFromId(GetUserId(), false)),
					errhint("Name one, model => 'schema.name', or ask for GRANT CREATE ON SCHEMA.")));
}

static bool
IsModel(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_class) GETSTRUCT(tuple))->reloftype == LlmappTypeOid("model_part");
	ReleaseSysCache(tuple);
	return result;
}

void
ResolveModelName(const char *model, char **schema, char **name)
{
	List *names;
	RangeVar *wanted;
	Oid relid;

	if (!SplitIdentifierString(pstrdup(model), '.', &names) || names == NIL || list_length(names) > 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" is not a name for a model", model),
						errhint("A model is named like a table: 'name', 'schema.name' or '\"Any Name\"'.")));
	wanted = makeRangeVar(list_length(names) == 2 ? linitial(names) : NULL, llast(names), -1);
	relid = RangeVarGetRelid(wanted, NoLock, true);
	if (wanted->schemaname != NULL)
		*schema = wanted->schemaname;
	else if (OidIsValid(relid) && IsModel(relid))
		*schema = get_namespace_name(get_rel_namespace(relid));
	else
		*schema = CreationSchema();
	*name = wanted->relname;
	CheckModelName(*schema, *name);
}
