/*
 * binding.c
 *	  What a target is made of, read from its constraint, its key and the trigger of its source.
 *
 * The constraint is what counts: the owner of the target wrote it, as whom texts are read and
 * embeddings written.  A trigger is believed only as far as it stands on the table that the
 * constraint names.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "../common.h"
#include "embed.h"

#define BINDING_FUNCTION "embeds"
#define TRIGGER_FUNCTION "embed_changes"
#define BINDING_ARGUMENTS 5

static bool
IsOurFunction(Oid function, const char *name)
{
	char *found = get_func_name(function);

	return found != NULL && strcmp(found, name) == 0 &&
		   get_func_namespace(function) == get_namespace_oid(LLMAPP_SCHEMA, true);
}

/* ---- the constraint ---- */

static bool
ParseBinding(const char *expression, EmbedBinding *binding)
{
	const FuncExpr *call = stringToNode(expression);
	Datum values[BINDING_ARGUMENTS];

	if (!IsA(call, FuncExpr) || list_length(call->args) != BINDING_ARGUMENTS ||
		!IsOurFunction(call->funcid, BINDING_FUNCTION))
		return false;
	for (int i = 0; i < BINDING_ARGUMENTS; i++)
	{
		const Const *value = list_nth(call->args, i);

		if (!IsA(value, Const) || (value->constisnull && i != 3))
			return false;
		values[i] = value->constisnull ? Int32GetDatum(0) : value->constvalue;
	}
	binding->source = DatumGetObjectId(values[0]);
	binding->model = DatumGetObjectId(values[1]);
	binding->queue = DatumGetObjectId(values[2]);
	binding->options = (ChunkOptions) {DatumGetInt32(values[3]), DatumGetInt32(values[4])};
	return true;
}

bool
ReadBinding(Oid target, EmbedBinding *binding)
{
	Relation rel = try_relation_open(target, AccessShareLock);
	const TupleConstr *constr = rel ? RelationGetDescr(rel)->constr : NULL;
	bool found = false;

	*binding = (EmbedBinding) {.target = target};
	for (int i = 0; constr != NULL && i < constr->num_check && !found; i++)
	{
		found = ParseBinding(constr->check[i].ccbin, binding);
		if (found)
			binding->constraint = pstrdup(constr->check[i].ccname);
	}
	if (rel != NULL)
		relation_close(rel, NoLock);
	return found;
}

/* ---- the trigger ---- */

Oid
TriggerTarget(const Trigger *trigger)
{
	if (trigger->tgqual == NULL || !IsOurFunction(trigger->tgfoid, TRIGGER_FUNCTION))
		return InvalidOid;
	return NamedTable(trigger->tgqual);
}

bool
ReadColumns(const EmbedBinding *binding, EmbedColumns *columns)
{
	Relation rel = try_relation_open(binding->source, AccessShareLock);
	const TriggerDesc *triggers = rel ? rel->trigdesc : NULL;
	bool found = false;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers && !found; i++)
	{
		const Trigger *t = &triggers->triggers[i];

		found = t->tgnattr > 1 && TriggerTarget(t) == binding->target;
		if (!found)
			continue;
		columns->column = t->tgattr[0];
		columns->keys = t->tgnattr - 1;
		columns->key = palloc(columns->keys * sizeof(AttrNumber));
		memcpy(columns->key, t->tgattr + 1, columns->keys * sizeof(AttrNumber));
	}
	if (rel != NULL)
		relation_close(rel, NoLock);
	return found;
}

/* ---- names ---- */

AttrNumber *
PrimaryKey(Oid relid, int *count)
{
	Relation rel = relation_open(relid, AccessShareLock);
	Oid index;
	Relation key;
	AttrNumber *columns = NULL;

	(void) RelationGetIndexList(rel); /* which finds it */
	index = rel->rd_pkindex;
	*count = 0;
	if (OidIsValid(index))
	{
		key = relation_open(index, AccessShareLock);
		*count = key->rd_index->indnkeyatts;
		columns = palloc(*count * sizeof(AttrNumber));
		memcpy(columns, key->rd_index->indkey.values, *count * sizeof(AttrNumber));
		relation_close(key, NoLock);
	}
	relation_close(rel, NoLock);
	return columns;
}

char *
TableName(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

char *
ColumnName(Oid relid, AttrNumber column)
{
	return pstrdup(quote_identifier(get_attname(relid, column, false)));
}

char *
ColumnList(Oid relid, const AttrNumber *columns, int count, const char *prefix)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < count; i++)
		appendStringInfo(&list, "%s%s%s", i > 0 ? ", " : "", prefix,
						 ColumnName(relid, columns ? columns[i] : (AttrNumber) (i + 1)));
	return list.data;
}
