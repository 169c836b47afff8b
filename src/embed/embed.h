/*
 * embed.h
 *	  Embeddings of a table's text column, kept up to date: what its files share.
 *
 * Everything about it is in objects of the user's, which follow renames and survive a dump:
 *	- the target, a table whose rows are pieces of the source's texts.  What it is made of is said by
 *	  its constraint CHECK (llmapp.embeds(source, model, queue, max_tokens, overlap)), which only its
 *	  owner can have written;
 *	- two triggers on the source, which know the target by their condition, and by their columns
 *	  (UPDATE OF column, key ...) which column is embedded and which are the key;
 *	- the queue, a table with the keys of rows whose embeddings are to be made anew.  A row of NULLs
 *	  stands for the source as a whole: what is no longer there goes from the target.
 *
 * embed_column.c creates them; changes.c is the trigger; embedding.c the job that empties the queue, as the
 * owner of the target; statements.c its SQL; binding.c reads all of the above; describe.c shows it.
 * Include after postgres.h.
 */
#ifndef LLMAPP_EMBED_H
#define LLMAPP_EMBED_H

#include "commands/trigger.h"
#include "executor/spi.h"

#include "../job/job.h"
#include "../serve/chunk.h"

#define EMBED_KIND "embed"

extern bool RunEmbedding(const ClaimedJob *claimed); /* does jobs of kind "embed" */
extern int64 FindEmbeddingJob(Oid target);
/*
 * The target's job of the current user, queued unless it runs.  Unless a user called for it: 0 when it is paused, or
 * somebody else is about to queue it.
 */
extern int64 QueueEmbeddingJob(Oid target, Oid model, bool called, bool *runs);

/* What a target is made of. */
typedef struct EmbedBinding
{
	Oid target;
	Oid source;
	Oid model;
	Oid queue;
	ChunkOptions options;
	char *constraint; /* its name */
} EmbedBinding;

/* Where it stands in the source, by the trigger. */
typedef struct EmbedColumns
{
	AttrNumber column;
	int keys;
	AttrNumber *key; /* (keys), in the order of the target's */
} EmbedColumns;

/* False when the target, which may be gone, is made of nothing. */
extern bool ReadBinding(Oid target, EmbedBinding *binding);
/* False when the source has no trigger for the target. */
extern bool ReadColumns(const EmbedBinding *binding, EmbedColumns *columns);
/* The target that a trigger of ours names; InvalidOid for any other trigger. */
extern Oid TriggerTarget(const Trigger *trigger);
/* Columns of the primary key in its order, as many as *count says; 0 without one. */
extern AttrNumber *PrimaryKey(Oid relid, int *count);
extern char *TableName(Oid relid); /* quoted and qualified */
extern char *ColumnName(Oid relid, AttrNumber column);
/* "a, b" of columns, each behind a prefix such as "s."; of the first ones when columns is NULL. */
extern char *ColumnList(Oid relid, const AttrNumber *columns, int count, const char *prefix);

/* The statements of one batch, prepared. */
typedef struct EmbedStatements
{
	SPIPlanPtr take;   /* $1: how many; keys, each once */
	SPIPlanPtr read;   /* $1 ...: key; the text */
	SPIPlanPtr remove; /* $1 ...: key */
	SPIPlanPtr insert; /* $1 ...: key, then what EMBED_* says */
	SPIPlanPtr sweep;
} EmbedStatements;

/* Columns of a target behind those of the key. */
enum
{
	EMBED_CHUNK,
	EMBED_START,
	EMBED_LENGTH,
	EMBED_CONTENT,
	EMBED_EMBEDDING,
	EMBED_VERSION,
	EMBED_AT,
	EMBED_ERROR,
	EMBED_COLUMNS
};

extern const char *const embed_names[EMBED_COLUMNS];
extern const char *const embed_types[EMBED_COLUMNS];

/* Within SPI; they live until SPI_finish(). */
extern void PrepareStatements(const EmbedBinding *binding, const EmbedColumns *columns, EmbedStatements *out);
/* "t.id = s.id AND ...", for WHERE */
extern char *KeyClause(const EmbedBinding *binding, const EmbedColumns *columns, const char *left, const char *right);
/* Within SPI: let DROP of the target take the queue with it, which a dump does not keep. */
extern void TieQueue(const EmbedBinding *binding);
/* Run SQL as the current user; ERROR unless it returns `expected`. */
extern void ExecuteSql(const char *sql, int expected);

#endif /* LLMAPP_EMBED_H */
