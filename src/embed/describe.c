/*
 * describe.c
 *	  What the view llmapp.embedded_columns shows of a target: never an error, and counts only to who may read.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "../common.h"
#include "../job/job_table.h"
#include "embed.h"

PG_FUNCTION_INFO_V1(llmapp_describe_embedding);

/*
 * Can counting its rows raise no error, and may the reader?  The table is somebody's, who may have made of
 * it what he likes, so it is read as its owner, whose code then has no other rights.
 */
static bool
IsCountable(Oid relid, Oid owner)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool plain = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		plain = form->relkind == RELKIND_RELATION && !form->relrowsecurity && form->relowner == owner &&
				form->relpersistence != RELPERSISTENCE_TEMP;
		ReleaseSysCache(tuple);
	}
	return plain && pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

static bool
HasColumn(Oid relid, const char *name, Oid type)
{
	AttrNumber column = get_attnum(relid, name);

	return column > 0 && get_atttype(relid, column) == type;
}

/* Count rows, and with last, a text or NULL for none, read another value. */
static void
CountRows(Oid relid, Oid owner, const char *where, const char *last, Datum *values, bool *nulls)
{
	MemoryContext cxt = CurrentMemoryContext;
	OwnAccess access;

	BeginAccessAs(&access, owner);
	ExecuteSql(psprintf("SELECT pg_catalog.count(*) FROM ONLY %s%s", TableName(relid), where), SPI_OK_SELECT);
	values[0] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &nulls[0]);
	if (last != NULL)
	{
		ExecuteSql(
			psprintf("SELECT %s FROM ONLY %s%s ORDER BY updated_at DESC LIMIT 1", last, TableName(relid), where),
			SPI_OK_SELECT);
		if (SPI_processed == 1)
			values[1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &nulls[1]);
		nulls[1] = nulls[1] || SPI_processed == 0;
		if (!nulls[1])
		{
			MemoryContext old = MemoryContextSwitchTo(cxt);

			values[1] = PointerGetDatum(DatumGetTextPCopy(values[1]));
			MemoryContextSwitchTo(old);
		}
	}
	EndOwnAccess(&access);
}

/* llmapp.describe_embedding(target): source, column_name, model, queue, max_tokens, overlap, pending, failed, last_error */
Datum
llmapp_describe_embedding(PG_FUNCTION_ARGS)
{
	TupleDesc desc;
	EmbedBinding b;
	EmbedColumns columns;
	Datum values[9] = {0};
	bool nulls[9] = {false};
	Oid owner;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the result is not a row");
	if (!ReadBinding(PG_GETARG_OID(0), &b))
		PG_RETURN_NULL();
	nulls[1] = !ReadColumns(&b, &columns);
	values[0] = ObjectIdGetDatum(b.source);
	values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(get_attname(b.source, columns.column, false));
	values[2] = ObjectIdGetDatum(b.model);
	values[3] = ObjectIdGetDatum(b.queue);
	values[4] = Int32GetDatum(b.options.max_tokens);
	nulls[4] = b.options.max_tokens == 0;
	values[5] = Int32GetDatum(b.options.overlap);
	owner = RelationOwner(b.target);
	nulls[6] = !IsCountable(b.queue, owner);
	if (!nulls[6])
		CountRows(b.queue, owner, "", NULL, &values[6], &nulls[6]);
	nulls[7] = nulls[8] = !IsCountable(b.target, owner) || !HasColumn(b.target, "error", TEXTOID) ||
						  !HasColumn(b.target, "updated_at", TIMESTAMPTZOID);
	if (!nulls[7])
		CountRows(b.target, owner, " WHERE error IS NOT NULL", "error", &values[7], &nulls[7]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
