/*
 * cache.h
 *	  Weight files, each of which all sessions map.
 */
#ifndef LLMAPP_CACHE_H
#define LLMAPP_CACHE_H

#include "parts.h"

/* Smaller weights are not worth a file. */
#define CACHE_BYTES_MIN (1024 * 1024)

/* A file in memory, until munmap(). */
typedef struct WeightFile
{
	const void *weights; /* 64-byte aligned */
	void *memory;
	Size bytes;
} WeightFile;

/* Gives the weights of a version to a sink, piece by piece; false as soon as that refuses them. */
typedef bool (*WeightGiver)(const ModelTable *table, int32 version, const manifest *m, PartSink sink, void *arg);

/*
 * Map the file of a version.  When it is missing it is made of what is given, by one session, while others that need
 * it wait.  False when the weights are too small or too large for a file, or the file system refuses.
 */
extern bool MapWeightFile(WeightFile *file, const ModelTable *table, int32 version, const manifest *m,
						  WeightGiver give);

/* The same for a process without a database, when the file is there. */
extern bool MapExistingWeightFile(WeightFile *file, Oid database, Oid relid, int32 version, const manifest *m);

/* Remove the file of a version that is no more; sessions that have it open keep it. */
extern void ForgetWeights(Oid relid, int32 version);

/* ---- cache_dir.c ---- */

/* Relative to the data directory.  pgsql_tmp at the start of a name keeps a file out of base backups. */
#define CACHE_DIR "llmapp"
#define CACHE_FILE_FORMAT "pgsql_tmp.%u.%u.%d"

/*
 * Remove files of models and writers that are gone, then the least recently used ones until
 * `bytes` more fit into llmapp.cache_size.  Never raises an error for a file.
 */
extern void MakeRoomInCache(uint64 bytes);

#endif /* LLMAPP_CACHE_H */
