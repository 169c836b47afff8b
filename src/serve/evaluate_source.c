/*
 * evaluate_source.c
 *	  The rows of a source, read in the session at hand with the privileges of the caller.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/memutils.h"
#include "utils/plancache.h"

#include "../row/source.h"
#include "evaluate.h"

/* Say what is wrong with a source that does more than read, before SPI refuses to run it. */
static void
RequireReadOnly(SPIPlanPtr plan)
{
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));
	ListCell *cell;

	foreach(cell, source->query_list)
	{
		Query *query = lfirst_node(Query, cell);

		if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->rowMarks != NIL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the source changes data or locks rows"),
							errhint("A source is the name of a table or view, or one SELECT that only reads.")));
	}
}

/* Open the source as the caller, for reading only. */
static Portal
OpenSource(const char *source)
{
	SPIPlanPtr plan = SPI_prepare(SourceQuery(source), 0, NULL);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	RequireReadOnly(plan);
	return SPI_cursor_open(NULL, plan, NULL, NULL, true);
}

void
VisitSource(const char *source, int64 most, MemoryContext cxt, const SourceVisitor *visitor)
{
	MemoryContext batch_cxt = AllocSetContextCreate(cxt, "llmapp rows of a source", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	Portal portal;
	SPITupleTable *tuples;
	uint64 count;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	portal = OpenSource(source);
	old = MemoryContextSwitchTo(cxt);
	visitor->columns(visitor->arg, BlessTupleDesc(CreateTupleDescCopy(portal->tupDesc)));
	do
	{
		MemoryContextSwitchTo(old);
		SPI_cursor_fetch(portal, true, most);
		tuples = SPI_tuptable;
		count = SPI_processed;
		MemoryContextSwitchTo(batch_cxt);
		visitor->rows(visitor->arg, tuples, count);
		MemoryContextReset(batch_cxt);
		SPI_freetuptable(tuples);
	} while (count > 0);
	MemoryContextSwitchTo(old);
	SPI_cursor_close(portal);
	SPI_finish();
	MemoryContextDelete(batch_cxt);
}
