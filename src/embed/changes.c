/*
 * changes.c
 *	  The trigger of a source: keys of changed rows go to the queue of a target.
 *
 * Whoever may write the source need not have any right on the queue: it is written as the owner of
 * the target, for a moment and in a security-restricted operation, as a foreign key's table is.
 * That owner has named this source in the constraint of the target, which is checked here, so
 * nobody else can make a trigger that writes to it.
 */
#include "postgres.h"

#include "catalog/partition.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "../common.h"
#include "../job/job_table.h"
#include "../job/wake.h"
#include "embed.h"

PG_FUNCTION_INFO_V1(llmapp_embed_changes);

/* State of a statement, in fn_extra. */
typedef struct Changes
{
	Oid target;
	Oid owner;
	SPIPlanPtr insert; /* NULL: the target is not made of this table any more */
	MemoryContextCallback release;
} Changes;

static void
ReleaseChanges(void *arg)
{
	Changes *changes = arg;

	if (changes->insert != NULL)
		SPI_freeplan(changes->insert);
}

/* Within SPI and as the owner. */
static SPIPlanPtr
PrepareInsert(const EmbedBinding *binding, const EmbedColumns *columns)
{
	Oid *types = palloc(columns->keys * sizeof(Oid));
	StringInfoData sql;
	SPIPlanPtr plan;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (%s) VALUES (", TableName(binding->queue),
					 ColumnList(binding->queue, NULL, columns->keys, ""));
	for (int i = 0; i < columns->keys; i++)
	{
		types[i] = get_atttype(binding->source, columns->key[i]);
		appendStringInfo(&sql, "%s$%d", i > 0 ? ", " : "", i + 1);
	}
	appendStringInfoChar(&sql, ')');
	plan = SPI_prepare(sql.data, columns->keys, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare %s: %s", sql.data, SPI_result_code_string(SPI_result));
	return plan;
}

/* Does the target's constraint name the table on which the trigger stands, or its parent? */
static bool
IsSource(const EmbedBinding *binding, Relation rel)
{
	if (binding->source == RelationGetRelid(rel))
		return true;
	return rel->rd_rel->relispartition &&
		   list_member_oid(get_partition_ancestors(RelationGetRelid(rel)), binding->source);
}

static Changes *
OpenChanges(FunctionCallInfo fcinfo, const TriggerData *t)
{
	Changes *changes = fcinfo->flinfo->fn_extra;
	EmbedBinding binding;
	EmbedColumns columns;

	if (changes != NULL)
		return changes;
	changes = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Changes));
	changes->release.func = ReleaseChanges;
	changes->release.arg = changes;
	MemoryContextRegisterResetCallback(fcinfo->flinfo->fn_mcxt, &changes->release);
	fcinfo->flinfo->fn_extra = changes;
	changes->target = TriggerTarget(t->tg_trigger);
	if (OidIsValid(changes->target) && ReadBinding(changes->target, &binding) && IsSource(&binding, t->tg_relation) &&
		ReadColumns(&binding, &columns))
	{
		OwnAccess access;

		changes->owner = RelationOwner(changes->target);
		BeginAccessAs(&access, changes->owner);
		changes->insert = PrepareInsert(&binding, &columns);
		EndOwnAccess(&access);
	}
	return changes;
}

/* Of tuple NULL: the whole source. */
static void
Enqueue(const Changes *changes, const TriggerData *t, HeapTuple tuple)
{
	int keys = SPI_getargcount(changes->insert);
	Datum *values = palloc0(keys * sizeof(Datum));
	char *nulls = palloc(keys + 1);
	OwnAccess access;

	for (int i = 0; i < keys; i++)
	{
		bool null = true;

		if (tuple != NULL)
			values[i] = heap_getattr(tuple, t->tg_trigger->tgattr[i + 1], RelationGetDescr(t->tg_relation), &null);
		nulls[i] = null ? 'n' : ' ';
	}
	BeginAccessAs(&access, changes->owner);
	if (SPI_execute_plan(changes->insert, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not queue a changed row");
	EndOwnAccess(&access);
}

/* Is one of these columns of the trigger another than it was?  0 is the text, the key follows. */
static bool
HasChanged(const TriggerData *t, int first, int count)
{
	TupleDesc desc = RelationGetDescr(t->tg_relation);

	for (int i = first; i < first + count; i++)
	{
		AttrNumber column = t->tg_trigger->tgattr[i];
		Form_pg_attribute a = TupleDescAttr(desc, column - 1);
		bool old_null, new_null;
		Datum old_value = heap_getattr(t->tg_trigtuple, column, desc, &old_null);
		Datum new_value = heap_getattr(t->tg_newtuple, column, desc, &new_null);

		if (old_null != new_null || (!old_null && !datum_image_eq(old_value, new_value, a->attbyval, a->attlen)))
			return true;
	}
	return false;
}

/* The triggers of a source; see llm_embed_column() for how they are made. */
Datum
llmapp_embed_changes(PG_FUNCTION_ARGS)
{
	const TriggerData *t = (const TriggerData *) fcinfo->context;
	Changes *changes;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(t->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("llmapp.embed_changes() is for triggers that llm_embed_column() makes")));
	changes = OpenChanges(fcinfo, t);
	if (changes->insert == NULL)
		return PointerGetDatum(NULL);
	if (!TRIGGER_FIRED_FOR_ROW(t->tg_event))
		Enqueue(changes, t, NULL);
	else if (!TRIGGER_FIRED_BY_UPDATE(t->tg_event))
		Enqueue(changes, t, t->tg_trigtuple);
	else if (HasChanged(t, 0, t->tg_trigger->tgnattr))
	{
		if (HasChanged(t, 1, t->tg_trigger->tgnattr - 1))
			Enqueue(changes, t, t->tg_trigtuple);
		Enqueue(changes, t, t->tg_newtuple);
	}
	else
		return PointerGetDatum(NULL);
	WakeAtCommit(EMBED_KIND, changes->target, changes->owner);
	return PointerGetDatum(NULL);
}
