/*
 * cache.c
 *	  Weight files: one copy of a version's weights in memory for all sessions.
 *
 * The table is the truth; a file holds the same bytes behind one header, so that it can be
 * mapped.  A file is written under another name, checked against the manifest's SHA-256
 * while it is written, then synced and renamed; after that nobody writes to it or shortens it, since
 * that would end every process that has it mapped.  Its time of change is set to one that its
 * checksum says, so whatever is written to it later shows, for the price of a stat().  A file with
 * another checksum, size or time is replaced by renaming over it.  Its time of access says when it was
 * last used.  Whatever the file system refuses ends in private memory.
 * On a standby the files are its own; nothing here needs a transaction number.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/lock.h"
#include "utils/memutils.h"

#include "../common.h"
#include "cache.h"

#define HEADER_BYTES 4096
#define CACHE_MAGIC "llmapp weights"
#define CACHE_FORMAT 1
#define STAMP_FIRST 946684800 /* 2000-01-01 */
#define STAMP_SECONDS 500000000

/* Fourth field of advisory lock tags that stand for the making of a file. */
#define FILE_LOCK_CLASS 0x4C57

/* First bytes of a file; zeros follow up to HEADER_BYTES. */
typedef struct FileHeader
{
	char magic[16];
	uint32 format;
	uint32 byte_order; /* 0x01020304 as this machine writes it */
	uint64 bytes;      /* of weights behind the header */
	char sha256[72];   /* hex, then zeros */
} FileHeader;

static void
FillHeader(FileHeader *header, const manifest *m)
{
	memset(header, 0, sizeof(FileHeader));
	strlcpy(header->magic, CACHE_MAGIC, sizeof(header->magic));
	header->format = CACHE_FORMAT;
	header->byte_order = 0x01020304;
	header->bytes = m->weight_bytes;
	strlcpy(header->sha256, m->sha256, sizeof(header->sha256));
}

static char *
FilePath(Oid database, Oid relid, int32 version)
{
	return psprintf(CACHE_DIR "/" CACHE_FILE_FORMAT, database, relid, version);
}

/* ---- map ---- */

/* The time of change of the file with these weights: some day long before the file was made. */
static time_t
StampOf(const FileHeader *header)
{
	char digits[9];

	strlcpy(digits, header->sha256, sizeof(digits));
	return STAMP_FIRST + strtoul(digits, NULL, 16) % STAMP_SECONDS;
}

/* The file is regular, of exactly the expected size, starts with the expected header and was not written to since. */
static bool
FileFits(int fd, const char *path, const FileHeader *expected)
{
	struct stat st;
	FileHeader found;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64) st.st_size != HEADER_BYTES + expected->bytes ||
		pread(fd, &found, sizeof(found), 0) != sizeof(found) || memcmp(&found, expected, sizeof(found)) != 0)
		return false;
	if (st.st_mtim.tv_sec == StampOf(expected) && st.st_mtim.tv_nsec == 0)
		return true;
	ereport(LOG,
			(errmsg("weight file \"%s\" was written to by something else", path), errdetail("It is made again.")));
	return false;
}

/* Map the file of a version and note its use; false when there is none that fits. */
static bool
MapFile(WeightFile *file, const char *path, const manifest *m)
{
	FileHeader header;
	Size size = add_size(HEADER_BYTES, m->weight_bytes);
	void *memory = MAP_FAILED;
	int fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);

	if (fd < 0)
		return false;
	FillHeader(&header, m);
	if (FileFits(fd, path, &header))
	{
		memory = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
		(void) futimens(fd, (struct timespec[]) {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}});
	}
	CloseTransientFile(fd);
	if (memory == MAP_FAILED)
		return false;
	file->memory = memory;
	file->bytes = size;
	file->weights = (const char *) memory + HEADER_BYTES;
	return true;
}

/* ---- write ---- */

typedef struct FileWriter
{
	int fd;
	int error; /* errno of the write that failed */
} FileWriter;

static bool
WriteBytes(void *arg, const char *bytes, Size length)
{
	FileWriter *writer = arg;

	while (length > 0)
	{
		ssize_t written;

		errno = 0;
		written = write(writer->fd, bytes, length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
		{
			writer->error = errno != 0 ? errno : ENOSPC;
			return false;
		}
		bytes += written;
		length -= written;
	}
	return true;
}

static bool
WriteHeader(FileWriter *writer, const manifest *m)
{
	union
	{
		FileHeader header;
		char bytes[HEADER_BYTES];
	} page;

	memset(&page, 0, sizeof(page));
	FillHeader(&page.header, m);
	return WriteBytes(writer, page.bytes, HEADER_BYTES);
}

static bool
Stamp(FileWriter *writer, const manifest *m)
{
	FileHeader header;

	FillHeader(&header, m);
	if (futimens(writer->fd, (struct timespec[]) {{.tv_nsec = UTIME_NOW}, {.tv_sec = StampOf(&header)}}) == 0)
		return true;
	writer->error = errno;
	return false;
}

/* Whose file it is, and where its bytes come from. */
typedef struct Content
{
	const ModelTable *table;
	int32 version;
	const manifest *m;
	WeightGiver give;
} Content;

/* Header and weights into a new file; false with errno when the file system refuses. */
static bool
WriteFile(const char *path, const Content *c)
{
	FileWriter writer = {.fd =
							 OpenTransientFilePerm(path, O_RDWR | O_CREAT | O_EXCL | PG_BINARY, pg_file_create_mode)};
	bool written;

	if (writer.fd < 0)
		return false;
	written = WriteHeader(&writer, c->m) && c->give(c->table, c->version, c->m, WriteBytes, &writer) &&
			  Stamp(&writer, c->m);
	if (CloseTransientFile(writer.fd) != 0 && written)
		return false;
	errno = writer.error;
	return written;
}

/* Say in the server's log why weights are not shared. */
static void
ReportRefusal(const char *path)
{
	ereport(LOG, (errcode_for_file_access(), errmsg("could not write weight file \"%s\": %m", path),
				  errdetail("The session keeps the weights in its own memory.")));
}

/* Make the file of a version, synced to disk; false when the file system refuses. */
static bool
CreateFile(const char *path, const Content *c)
{
	char *temporary = psprintf("%s.%d", path, MyProcPid);
	volatile bool created = false;

	if (MakePGDirectory(CACHE_DIR) != 0 && errno != EEXIST)
	{
		ReportRefusal(path);
		return false;
	}
	MakeRoomInCache(HEADER_BYTES + c->m->weight_bytes);
	(void) unlink(temporary);
	PG_TRY();
	{
		created = WriteFile(temporary, c);
		if (!created)
			ReportRefusal(path);
		else
			created = durable_rename(temporary, path, LOG) == 0;
	}
	PG_FINALLY();
	{
		if (!created)
			(void) unlink(temporary);
	}
	PG_END_TRY();
	return created;
}

bool
MapWeightFile(WeightFile *file, const ModelTable *table, int32 version, const manifest *m, WeightGiver give)
{
	uint64 limit = (uint64) llmapp_cache_size * 1024 * 1024;
	Content content = {table, version, m, give};
	LOCKTAG tag;
	char *path;
	bool mapped;

	if (m->weight_bytes < CACHE_BYTES_MIN || m->weight_bytes > limit)
		return false;
	path = FilePath(MyDatabaseId, table->relid, version);
	if (MapFile(file, path, m))
		return true;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, table->relid, (uint32) version, FILE_LOCK_CLASS);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	mapped = MapFile(file, path, m) || (CreateFile(path, &content) && MapFile(file, path, m));
	LockRelease(&tag, ExclusiveLock, false);
	return mapped;
}

bool
MapExistingWeightFile(WeightFile *file, Oid database, Oid relid, int32 version, const manifest *m)
{
	return MapFile(file, FilePath(database, relid, version), m);
}

void
ForgetWeights(Oid relid, int32 version)
{
	(void) unlink(FilePath(MyDatabaseId, relid, version));
}
