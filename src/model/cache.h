/*
 * cache.h
 *	  Where the weights of an open version are: in a file that all sessions map, or in
 *	  memory of this process.
 */
#ifndef LLMAPP_CACHE_H
#define LLMAPP_CACHE_H

#include "parts.h"

/* Smaller weights are not worth a file. */
#define CACHE_BYTES_MIN (1024 * 1024)

/*
 * The weights of a version, 64-byte aligned, freed with the current memory context: mapped from its
 * cache file, which is made when it is missing, or copied into private memory when files cannot be
 * used.  ERROR when the model's rows are damaged.
 */
extern const float *LoadWeights(const ModelTable *table, int32 version, const manifest *m);

/* A sink of weights that go to one block of memory. */
typedef struct MemoryWriter
{
	char *next;
} MemoryWriter;

extern bool WriteToMemory(void *writer, const char *bytes, Size length);

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
