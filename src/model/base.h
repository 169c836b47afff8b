/*
 * base.h
 *	  Models that are kept apart from the base they were trained from.
 *
 * Such a version names number and checksum of the base's version; which table that is, a check
 * constraint of the model says that holds nothing but its regclass.  So PostgreSQL knows that one table
 * depends on the other: DROP of the base is refused, renaming it changes nothing, and pg_dump writes it first.
 */
#ifndef LLMAPP_BASE_H
#define LLMAPP_BASE_H

#include "nodes/pg_list.h"

#include "parts.h"

/* Constraints of a model that only name a base. */
extern int CountBaseChecks(Relation rel);

/*
 * Open the base of a version of `of`, by the same snapshot.  ERROR when there is none with the version and
 * checksum, or the owner of the model may not read it.  *base_manifest is freed with the current memory context.
 */
extern void OpenBase(ModelTable *base, const ModelTable *of, int32 version, const adapter *a,
					 manifest **base_manifest);
/* Tables of the base, of its base, ...; each of them checked. */
extern List *ListBases(const ModelTable *of, int32 version, const manifest *m);
/* ERROR unless the owner of each model may still read the next one. */
extern void RequireBasePrivileges(Oid relid, const List *bases);
/* ERROR when a version that is kept apart has this one as base. */
extern void RequireNoDependents(const ModelTable *base, int32 version);

/* ---- weights.c ---- */

/*
 * The weights of a version, 64-byte aligned, freed with the current memory context: mapped from its cache file, or
 * copied into private memory when files cannot be used.  ERROR when the rows of the model or its base are damaged.
 */
extern const void *LoadWeights(const ModelTable *table, int32 version, const manifest *m);

#endif /* LLMAPP_BASE_H */
