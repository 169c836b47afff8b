/*
 * checkpoint.c
 *	  The state of a training on disk, so that it survives its worker and the server.
 *
 * One file per job in $PGDATA/llmapp: a header and the parts of the checkpoint.
 * It is written under another name, synced and renamed, so a reader finds the old one or
 * the new one.  The name starts with pgsql_tmp, so base backups leave it out.  Reading
 * trusts nothing: magic, sizes and checksum must be right, otherwise the training starts
 * from its beginning.
 *
 * A state may have gigabytes, so it is summed, written, synced and read in pieces, between
 * which an interrupt is served; what was written by then is removed.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "../common.h"
#include "checkpoint.h"

#define CHECKPOINT_MAGIC UINT64CONST(0x32304b43504d4c4c) /* LLMPCK02 in little-endian memory */
#define PIECE_BYTES (16 * 1024 * 1024)
#define LEAST_PIECE (256 * 1024)
#define PIECE_SECONDS 0.1 /* of writing and syncing a piece, at most, where the disk allows */

typedef struct CheckpointHeader
{
	uint64 magic;
	uint64 header_bytes;
	uint64 fingerprint;
	uint64 part_bytes[CHECKPOINT_PARTS];
	TrainingState state;
	pg_crc32c crc; /* of header (with this field 0) and all parts */
	uint32 unused; /* 0 */
} CheckpointHeader;

static pg_crc32c
AddToCrc(pg_crc32c crc, const void *data, Size bytes)
{
	for (Size done = 0; done < bytes; done += PIECE_BYTES)
	{
		CHECK_FOR_INTERRUPTS();
		COMP_CRC32C(crc, (const char *) data + done, Min(bytes - done, PIECE_BYTES));
	}
	return crc;
}

static pg_crc32c
CheckpointCrc(CheckpointHeader header, const Checkpoint *checkpoint)
{
	pg_crc32c crc;

	header.crc = 0;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, &header, sizeof(header));
	for (int i = 0; i < CHECKPOINT_PARTS; i++)
		crc = AddToCrc(crc, checkpoint->parts[i].data, checkpoint->parts[i].bytes);
	FIN_CRC32C(crc);
	return crc;
}

static CheckpointHeader
MakeHeader(const Checkpoint *checkpoint)
{
	CheckpointHeader header;

	memset(&header, 0, sizeof(header));
	header.magic = CHECKPOINT_MAGIC;
	header.header_bytes = sizeof(header);
	header.fingerprint = checkpoint->fingerprint;
	for (int i = 0; i < CHECKPOINT_PARTS; i++)
		header.part_bytes[i] = checkpoint->parts[i].bytes;
	header.state = checkpoint->state;
	header.crc = CheckpointCrc(header, checkpoint);
	return header;
}

static void
ThrowFile(const char *verb, const char *path)
{
	bool full = errno == ENOSPC;

	ereport(ERROR,
			(errcode_for_file_access(), errmsg("could not %s file \"%s\": %m", verb, path),
			 full ? errhint("Make room on the disk; llm_resume() then goes on from the last checkpoint.") : 0));
}

typedef struct Writer
{
	int fd;
	const char *path;
	Size piece; /* bytes between interrupts, which follow from how fast the disk is */
} Writer;

/* At most a piece, on the disk: the last sync shall have little to do.  Returns bytes. */
static Size
WritePiece(const Writer *w, const void *data, Size bytes)
{
	ssize_t written;

	do
	{
		errno = 0;
		written = write(w->fd, data, Min(bytes, w->piece));
	} while (written < 0 && errno == EINTR);
	if (written <= 0)
	{
		if (errno == 0)
			errno = ENOSPC;
		ThrowFile("write", w->path);
	}
	if (written == w->piece && pg_fdatasync(w->fd) != 0)
		ThrowFile("fsync", w->path);
	return written;
}

static void
WriteAll(Writer *w, const void *data, Size bytes)
{
	for (Size done = 0; done < bytes;)
	{
		instr_time start, took;

		INSTR_TIME_SET_CURRENT(start);
		done += WritePiece(w, (const char *) data + done, bytes - done);
		INSTR_TIME_SET_CURRENT(took);
		INSTR_TIME_SUBTRACT(took, start);
		if (INSTR_TIME_GET_DOUBLE(took) > PIECE_SECONDS)
			w->piece = Max(w->piece / 2, LEAST_PIECE);
		else if (INSTR_TIME_GET_DOUBLE(took) < PIECE_SECONDS / 4)
			w->piece = Min(w->piece * 2, PIECE_BYTES);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
WriteFile(const char *path, const CheckpointHeader *header, const Checkpoint *checkpoint)
{
	Writer w = {OpenTransientFile(path, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY), path, LEAST_PIECE};

	if (w.fd < 0)
		ThrowFile("create", path);
	WriteAll(&w, header, sizeof(*header));
	for (int i = 0; i < CHECKPOINT_PARTS; i++)
		WriteAll(&w, checkpoint->parts[i].data, checkpoint->parts[i].bytes);
	if (pg_fsync(w.fd) != 0)
		ThrowFile("fsync", path);
	if (CloseTransientFile(w.fd) != 0)
		ThrowFile("close", path);
}

/* What was written of a checkpoint that fails gives its place back: the disk may be full. */
void
WriteCheckpoint(int64 job, const Checkpoint *checkpoint)
{
	CheckpointHeader header = MakeHeader(checkpoint);
	char path[MAXPGPATH];
	char temporary[MAXPGPATH + 4];

	CheckpointPath(job, path);
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	if (MakePGDirectory(LLMAPP_DIRECTORY) != 0 && errno != EEXIST)
		ThrowFile("create", LLMAPP_DIRECTORY);
	PG_TRY();
	{
		WriteFile(temporary, &header, checkpoint);
		durable_rename(temporary, path, ERROR);
	}
	PG_CATCH();
	{
		(void) unlink(temporary);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static bool
ReadAll(int fd, void *data, Size bytes)
{
	char *next = data;

	while (bytes > 0)
	{
		ssize_t got;

		CHECK_FOR_INTERRUPTS();
		got = read(fd, next, Min(bytes, PIECE_BYTES));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		next += got;
		bytes -= got;
	}
	return true;
}

/* What is wrong with a state that no training of ours writes, or NULL. */
static const char *
StateProblem(const TrainingState *state)
{
	if (state->fit < 0 || state->earlier_steps < 0 || !(state->fit_started >= 0) || state->epoch < 0 ||
		state->batch < 0 || state->step < 0 || state->loss_steps < 0 || state->best_epoch < 0 ||
		state->best_step < 0 || !(state->elapsed >= 0))
		return "the checkpoint is damaged";
	return NULL;
}

/* Sizes are believed when the file is exactly as long as they say. */
static bool
SizesFit(const CheckpointHeader *header, uint64 rest)
{
	for (int i = 0; i < CHECKPOINT_PARTS; i++)
	{
		if (header->part_bytes[i] > rest)
			return false;
		rest -= header->part_bytes[i];
	}
	return rest == 0;
}

static bool
ReadPart(int fd, CheckpointPart *part, Size bytes)
{
	part->bytes = bytes;
	part->data = MemoryContextAllocHuge(CurrentMemoryContext, Max(bytes, 1));
	return ReadAll(fd, part->data, bytes);
}

/* What hinders to go on from the open file, or NULL after filling in the checkpoint. */
static const char *
ReadParts(int fd, Checkpoint *checkpoint)
{
	CheckpointHeader header;
	struct stat status;

	if (fstat(fd, &status) != 0 || !ReadAll(fd, &header, sizeof(header)))
		return "the checkpoint cannot be read";
	if (header.magic != CHECKPOINT_MAGIC || header.header_bytes != sizeof(header))
		return "the checkpoint has another format";
	if (header.fingerprint != checkpoint->fingerprint)
		return "the rows have changed since the checkpoint";
	if (!SizesFit(&header, (uint64) status.st_size - sizeof(header)))
		return "the checkpoint is damaged";
	for (int i = 0; i < CHECKPOINT_PARTS; i++)
		if (!ReadPart(fd, &checkpoint->parts[i], header.part_bytes[i]))
			return "the checkpoint is damaged";
	if (!EQ_CRC32C(header.crc, CheckpointCrc(header, checkpoint)))
		return "the checkpoint is damaged";
	checkpoint->state = header.state;
	return StateProblem(&header.state);
}

bool
ReadCheckpoint(int64 job, Checkpoint *checkpoint, const char **problem)
{
	Checkpoint found = *checkpoint;
	char path[MAXPGPATH];
	int fd;

	CheckpointPath(job, path);
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	*problem = fd < 0 && errno != ENOENT ? "the checkpoint cannot be opened" : NULL;
	if (fd < 0)
		return false;
	*problem = ReadParts(fd, &found);
	CloseTransientFile(fd);
	if (*problem == NULL)
		*checkpoint = found;
	return *problem == NULL;
}
