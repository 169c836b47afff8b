/*
 * parts.h
 *	  The rows of a model table, for the files of src/model.
 *
 * A ModelTable is a relation that has passed every check of table.c, locked, with a
 * registered snapshot.  Rows are found by the primary key; what they hold was written by
 * the table's owner and is believed only where a function here says so.
 */
#ifndef LLMAPP_PARTS_H
#define LLMAPP_PARTS_H

#include "common/cryptohash.h"
#include "storage/itemptr.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "../compat.h"
#include "model.h"

/* Columns of llmapp.model_part. */
#define PART_VERSION 1
#define PART_NUMBER 2
#define PART_KIND 3
#define PART_META 4
#define PART_DATA 5
#define PART_COLUMNS 5

typedef struct ModelTable
{
	Oid relid;
	Relation rel;
	Relation index; /* primary key (version, part) */
	Snapshot snapshot;
} ModelTable;

/*
 * Which row a manifest came from.  Equal identities mean the same row with the same bytes: one
 * command of one transaction does not write two rows to one place of one file.
 */
typedef struct RowIdentity
{
	Oid filenode;
	ItemPointerData tid;
	TransactionId xmin;
	uint32 cid;
} RowIdentity;

typedef enum ModelSnapshot
{
	SNAPSHOT_OF_STATEMENT, /* what readers go by */
	SNAPSHOT_LATEST        /* what writers go by, once they hold the lock */
} ModelSnapshot;

/* By its row type alone; false when there is no such relation. */
extern bool IsModelTable(Oid relid);
/* ERROR unless a sound model table.  The snapshot is taken after the lock. */
extern void OpenModelTable(ModelTable *table, Oid relid, LOCKMODE lock, ModelSnapshot which);
/* Ends reading; `lock` is the one to give up now, NoLock to keep it until the transaction ends. */
extern void CloseModelTable(ModelTable *table, LOCKMODE lock);

/* Raise "model is damaged" with a DETAIL about one version (0: about the model). */
pg_noreturn extern void ThrowDamaged(Oid relid, int32 version, const char *format, ...) pg_attribute_printf(3, 4);
pg_noreturn extern void ThrowNoVersion(Oid relid, int32 version);

/* Version that the head row names; 0 when there is no head row. */
extern int32 ReadHead(const ModelTable *table);
/* Largest version of any row; 0 when there is none. */
extern int32 LastVersion(const ModelTable *table);
/* Versions that have a manifest row, in order; palloc'd. */
extern int32 *ListVersions(const ModelTable *table, int *count);
/* False when the version has no part 0.  *text is palloc'd JSON; text may be NULL. */
extern bool FindManifest(const ModelTable *table, int32 version, RowIdentity *identity, char **text);
/* Freed with the current memory context; ERROR when it is not sound. */
extern manifest *ParseManifest(Oid relid, int32 version, const char *text);

/* NULL when it is not sound; freed by the caller. */
extern manifest *TryParseManifest(const char *text);

/* SHA-256 of bytes that come one after the other; hex as HashWeights(). */
extern pg_cryptohash_ctx *BeginHash(void);
extern void HashBytes(pg_cryptohash_ctx *hash, const void *bytes, Size size);
extern void EndHash(pg_cryptohash_ctx *hash, char *hex);

/* Takes the next bytes of the weights, at most MODEL_PART_BYTES; false asks to stop. */
typedef bool (*PartSink)(void *arg, const char *bytes, Size length);

/*
 * Give what the rows hold of the weights to `sink` in order.  When true is returned, their number and checksum were
 * those of the manifest; false when the sink wanted no more; ERROR when they are damaged.
 */
extern bool ReadWeights(const ModelTable *table, int32 version, const manifest *m, PartSink sink, void *arg);

/* Name of a model for messages, and as a literal for hints; palloc'd. */
extern char *ModelName(Oid relid);
extern char *ModelNameLiteral(Oid relid);

#endif /* LLMAPP_PARTS_H */
