/*
 * column_type.h
 *	  The SQL type that a column of a model had at training, found again by its name.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_COLUMN_TYPE_H
#define LLMAPP_COLUMN_TYPE_H

#include "../feature/feature.h"

/* Type of an input column; text when there is none that can be used. */
extern Oid ColumnTypeOid(const column *c);
/*
 * Type of a prediction as a whole: that of the target's column, an array of double precision for
 * several columns; text when there is none that can be used.
 */
extern Oid TargetTypeOid(const target *t);

/* A type as DDL names it whatever the search path, without modifier; palloc'd. */
extern char *TypeSql(Oid typid);

#endif /* LLMAPP_COLUMN_TYPE_H */
