/*
 * describe.c
 *	  What the view llmapp.embedded_columns shows of a target: never an error, and counts only to who may read.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "../common.h"
#include "embed.h"

PG_FUNCTION_INFO_V1(llmapp_describe_embedding);

/* The first value of a query on a table, or NULL when the reader may not read it. */
static Datum
ReadFirst(Oid relid, const char *sql, bool *null)
{
	Datum value = (Datum) 0;

	*null = true;
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK ||
		SPI_execute(sql, true, 1) != SPI_OK_SELECT || SPI_processed == 0)
		return value;
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, null);
	return *null || get_typlen(SPI_gettypeid(SPI_tuptable->tupdesc, 1)) != -1 ? value
																			  : SPI_datumTransfer(value, false, -1);
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
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	values[6] = ReadFirst(b.queue, psprintf("SELECT pg_catalog.count(*) FROM %s", TableName(b.queue)), &nulls[6]);
	values[7] = ReadFirst(b.target,
						  psprintf("SELECT pg_catalog.count(*) FROM %s WHERE error IS NOT NULL", TableName(b.target)),
						  &nulls[7]);
	values[8] = ReadFirst(b.target,
						  psprintf("SELECT error FROM %s WHERE error IS NOT NULL ORDER BY updated_at DESC LIMIT 1",
								   TableName(b.target)),
						  &nulls[8]);
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
