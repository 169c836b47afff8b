/*
 * source.h
 *	  What a job or an evaluation reads: a relation or one SELECT.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_SOURCE_H
#define LLMAPP_SOURCE_H

#include "access/tupdesc.h"

/*
 * The SELECT that a source means: a relation becomes SELECT * FROM schema.name, a text must
 * be one SELECT, VALUES, WITH or TABLE and is returned without what surrounds it.  palloc'd.
 */
extern char *SourceQuery(const char *source);
/* Columns of a checked query, which the current user may run and a worker can. */
extern TupleDesc DescribeSource(const char *query);
/* Rows that the planner expects of such a query. */
extern double EstimateSource(const char *query);

/* Index of a column: exact name first, then the only one that differs in case; -1. */
extern int FindColumn(TupleDesc tupdesc, const char *name);
/* The same, or ERROR; role: what it was named as, "the target" or "parameter \"exclude\"". */
extern int RequireColumn(TupleDesc tupdesc, const char *name, const char *role);
extern char *ColumnNames(TupleDesc tupdesc); /* for a hint; palloc'd */

#endif /* LLMAPP_SOURCE_H */
