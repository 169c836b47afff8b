/*
 * cache_dir.c
 *	  Keep the folder of weight files small: what is of no use goes, then what was not
 *	  used for longest.
 *
 * Only names that a weight file or its writer gives are touched.  Removing a file that others
 * have mapped is safe: they keep it until they close it.  Concurrent cleaners may remove the
 * same files; everything here is best effort.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/procarray.h"
#include "utils/syscache.h"

#include "../common.h"
#include "cache.h"

typedef struct CacheFile
{
	char *path;
	uint64 bytes;
	struct timespec used;
} CacheFile;

typedef struct CacheFiles
{
	CacheFile *files;
	int count;
	int capacity;
	uint64 bytes; /* of all */
} CacheFiles;

/* What the name of a file says. */
typedef struct FileName
{
	Oid database;
	Oid relid;
	int32 version;
	int writer; /* process that is writing it, 0 when it is complete */
} FileName;

static bool
ParseFileName(const char *name, FileName *parsed)
{
	char again[MAXPGPATH];

	parsed->writer = 0;
	if (sscanf(name, CACHE_FILE_FORMAT ".%d", &parsed->database, &parsed->relid, &parsed->version, &parsed->writer) <
		3)
		return false;
	snprintf(again, sizeof(again), CACHE_FILE_FORMAT, parsed->database, parsed->relid, parsed->version);
	if (parsed->writer != 0)
		snprintf(again + strlen(again), sizeof(again) - strlen(again), ".%d", parsed->writer);
	return strcmp(again, name) == 0;
}

/* Its writer, its database or, in this database, its model is gone. */
static bool
IsUseless(const FileName *name)
{
	if (name->writer != 0)
		return BackendPidGetProc(name->writer) == NULL;
	if (name->database == MyDatabaseId)
		return !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(name->relid));
	return !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(name->database));
}

static void
AddFile(CacheFiles *list, char *path, const struct stat *st)
{
	if (list->count == list->capacity)
	{
		list->capacity = list->capacity == 0 ? 64 : list->capacity * 2;
		list->files = list->files == NULL ? palloc(list->capacity * sizeof(CacheFile))
										  : repalloc(list->files, list->capacity * sizeof(CacheFile));
	}
	list->files[list->count++] = (CacheFile) {path, (uint64) st->st_size, st->st_atim};
	list->bytes += (uint64) st->st_size;
}

/* List complete files that are of use, removing those that are not. */
static void
ListFiles(CacheFiles *list)
{
	DIR *dir = AllocateDir(CACHE_DIR);
	struct dirent *entry;

	while (dir != NULL && (entry = ReadDirExtended(dir, CACHE_DIR, LOG)) != NULL)
	{
		FileName name;
		struct stat st;
		char *path;

		if (!ParseFileName(entry->d_name, &name))
			continue;
		path = psprintf(CACHE_DIR "/%s", entry->d_name);
		if (IsUseless(&name))
			(void) unlink(path);
		else if (name.writer == 0 && lstat(path, &st) == 0 && S_ISREG(st.st_mode))
			AddFile(list, path, &st);
	}
	if (dir != NULL)
		FreeDir(dir);
}

static int
LessRecentlyUsed(const void *a, const void *b)
{
	const CacheFile *x = a;
	const CacheFile *y = b;

	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	return x->used.tv_nsec < y->used.tv_nsec ? -1 : x->used.tv_nsec > y->used.tv_nsec;
}

void
MakeRoomInCache(uint64 bytes)
{
	uint64 limit = (uint64) llmapp_cache_size * 1024 * 1024;
	CacheFiles list = {0};

	ListFiles(&list);
	if (list.count > 1)
		qsort(list.files, list.count, sizeof(CacheFile), LessRecentlyUsed);
	for (int i = 0; i < list.count && list.bytes + bytes > limit; i++)
	{
		(void) unlink(list.files[i].path);
		list.bytes -= list.files[i].bytes;
	}
}
