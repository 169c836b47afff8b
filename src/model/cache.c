/*
 * cache.c
 *	  Weight files: one copy of a version's weights in memory for all sessions.
 *
 * The table is the truth; a file holds the same bytes behind one header, so that it can be
 * mapped.  A file is written under another name, checked against the manifest's SHA-256
 * while it is written, then synced and renamed; after that nobody writes to it or shortens it, since
 * that would end every process that has it mapped.  A process that maps it adds up its CRC, which
 * costs as much as reading the weights once; a SHA-256 would cost several times that.  A file with another
 * header, size or CRC is replaced by renaming over it.  Whatever the file system refuses ends in
 * private memory.
 * On a standby the files are its own; nothing here needs a transaction number.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "storage/lock.h"
#include "utils/memutils.h"

#include "../common.h"
#include "cache.h"

#define HEADER_BYTES 4096
#define CACHE_MAGIC "llmapp weights"
#define CACHE_FORMAT 2
#define PIECE_BYTES (16 * 1024 * 1024) /* between two looks for interrupts */

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
	pg_crc32c crc;     /* of the weights behind the header */
	uint32 unused;     /* 0 */
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
FilePath(Oid relid, int32 version)
{
	return psprintf(CACHE_DIR "/" CACHE_FILE_FORMAT, MyDatabaseId, relid, version);
}

/* Where weights are; lives in the memory context that owns them. */
typedef struct Weights
{
	MemoryContextCallback release;
	const float *data;
	void *memory; /* to be freed, or the start of the mapping */
	Size mapped;  /* bytes of the mapping; 0: private memory */
} Weights;

/* ---- map ---- */

/*
 * The file is regular, of exactly the expected size, and starts with the expected header, whose
 * CRC is filled in.
 */
static bool
FileFits(int fd, FileHeader *expected)
{
	struct stat st;
	FileHeader found;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64) st.st_size != HEADER_BYTES + expected->bytes ||
		pread(fd, &found, sizeof(found), 0) != sizeof(found))
		return false;
	expected->crc = found.crc;
	return memcmp(&found, expected, sizeof(found)) == 0;
}

static pg_crc32c
AddToCrc(pg_crc32c crc, const char *bytes, Size length)
{
	for (Size done = 0; done < length; done += PIECE_BYTES)
	{
		CHECK_FOR_INTERRUPTS();
		COMP_CRC32C(crc, bytes + done, Min(length - done, PIECE_BYTES));
	}
	return crc;
}

/* Whether what is mapped is what was written; a disk or a stray write may have changed it since. */
static bool
IsWhole(const Weights *weights, const FileHeader *header)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	crc = AddToCrc(crc, (const char *) weights->data, header->bytes);
	FIN_CRC32C(crc);
	return EQ_CRC32C(crc, header->crc);
}

static void
Unmap(Weights *weights)
{
	(void) munmap(weights->memory, weights->mapped);
	weights->memory = NULL;
	weights->mapped = 0;
}

/* Map the file of a version and note its use; false when there is none that fits. */
static bool
MapFile(Weights *weights, const char *path, const manifest *m)
{
	FileHeader header;
	Size size = add_size(HEADER_BYTES, m->weight_bytes);
	void *memory = MAP_FAILED;
	int fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);

	if (fd < 0)
		return false;
	FillHeader(&header, m);
	if (FileFits(fd, &header))
	{
		memory = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
		(void) futimens(fd, NULL);
	}
	CloseTransientFile(fd);
	if (memory == MAP_FAILED)
		return false;
	weights->memory = memory;
	weights->mapped = size;
	weights->data = (const float *) ((char *) memory + HEADER_BYTES);
	if (IsWhole(weights, &header))
		return true;
	ereport(LOG, (errmsg("weight file \"%s\" is damaged", path), errdetail("The weights are read from the table.")));
	Unmap(weights);
	return false;
}

/* ---- write ---- */

typedef struct FileWriter
{
	int fd;
	int error; /* errno of the write that failed */
	pg_crc32c crc;
} FileWriter;

static bool
WriteBytes(FileWriter *writer, const char *bytes, Size length)
{
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
WriteWeights(void *arg, const char *bytes, Size length)
{
	FileWriter *writer = arg;

	writer->crc = AddToCrc(writer->crc, bytes, length);
	return WriteBytes(writer, bytes, length);
}

/* Behind the weights, whose CRC it holds, though it stands before them. */
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
	FIN_CRC32C(writer->crc);
	page.header.crc = writer->crc;
	if (lseek(writer->fd, 0, SEEK_SET) == 0)
		return WriteBytes(writer, page.bytes, HEADER_BYTES);
	writer->error = errno;
	return false;
}

/* Header and weights into a new file; false with errno when the file system refuses. */
static bool
WriteFile(const char *path, const ModelTable *table, int32 version, const manifest *m)
{
	FileWriter writer = {.fd =
							 OpenTransientFilePerm(path, O_RDWR | O_CREAT | O_EXCL | PG_BINARY, pg_file_create_mode)};
	bool written;

	if (writer.fd < 0)
		return false;
	INIT_CRC32C(writer.crc);
	if (lseek(writer.fd, HEADER_BYTES, SEEK_SET) != HEADER_BYTES)
		writer.error = errno;
	written = writer.error == 0 && ReadWeights(table, version, m, WriteWeights, &writer) && WriteHeader(&writer, m);
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
CreateFile(const char *path, const ModelTable *table, int32 version, const manifest *m)
{
	char *temporary = psprintf("%s.%d", path, MyProcPid);
	volatile bool created = false;

	if (MakePGDirectory(CACHE_DIR) != 0 && errno != EEXIST)
	{
		ReportRefusal(path);
		return false;
	}
	MakeRoomInCache(HEADER_BYTES + m->weight_bytes);
	(void) unlink(temporary);
	PG_TRY();
	{
		created = WriteFile(temporary, table, version, m);
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

/*
 * Map the file of a version, making it first if needed.  A lock lets one session write while
 * others that need the same file wait for it.
 */
static bool
MapOrCreateFile(Weights *weights, const ModelTable *table, int32 version, const manifest *m)
{
	char *path = FilePath(table->relid, version);
	LOCKTAG tag;
	bool mapped;

	if (MapFile(weights, path, m))
		return true;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, table->relid, (uint32) version, FILE_LOCK_CLASS);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	mapped = MapFile(weights, path, m) || (CreateFile(path, table, version, m) && MapFile(weights, path, m));
	LockRelease(&tag, ExclusiveLock, false);
	return mapped;
}

/* ---- private memory ---- */

typedef struct MemoryWriter
{
	char *next;
} MemoryWriter;

static bool
CopyBytes(void *arg, const char *bytes, Size length)
{
	MemoryWriter *writer = arg;

	memcpy(writer->next, bytes, length);
	writer->next += length;
	return true;
}

static void
CopyWeights(Weights *weights, const ModelTable *table, int32 version, const manifest *m)
{
	MemoryWriter writer;

	if (posix_memalign(&weights->memory, 64, m->weight_bytes) != 0)
	{
		weights->memory = NULL;
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("out of memory for the weights of model \"%s\"", ModelName(table->relid)),
						errdetail("They have %zu bytes.", m->weight_bytes)));
	}
	weights->data = weights->memory;
	writer.next = weights->memory;
	(void) ReadWeights(table, version, m, CopyBytes, &writer);
}

static void
ReleaseWeights(void *arg)
{
	Weights *weights = arg;

	if (weights->mapped > 0)
		Unmap(weights);
	else
		free(weights->memory);
}

const float *
LoadWeights(const ModelTable *table, int32 version, const manifest *m)
{
	uint64 limit = (uint64) llmapp_cache_size * 1024 * 1024;
	Weights *weights = palloc0(sizeof(Weights));

	weights->release.func = ReleaseWeights;
	weights->release.arg = weights;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &weights->release);
	if (m->weight_bytes < CACHE_BYTES_MIN || m->weight_bytes > limit || !MapOrCreateFile(weights, table, version, m))
		CopyWeights(weights, table, version, m);
	return weights->data;
}

void
ForgetWeights(Oid relid, int32 version)
{
	(void) unlink(FilePath(relid, version));
}
