/*
 * output_files.c
 *	  New files on the server.
 *
 * Nothing that is there is written over: folders and files must be new.  Others may read them, as what COPY
 * writes.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/fd.h"

#include "../compat.h"
#include "output_files.h"

#define WRITE_BYTES ((Size) 1 << 20) /* between two looks for a cancel */
#define FOLDER_MODE 0755
#define FILE_MODE 0644

struct OutputFiles
{
	char *path;
	List *files, *folders; /* paths of what was made, the last one first */
	char *open;            /* path of the file that is open, or NULL */
	int fd;
	int64 bytes;
};

OutputFiles *
BeginOutput(const char *path)
{
	OutputFiles *f = palloc0(sizeof(OutputFiles));

	f->path = pstrdup(path);
	return f;
}

static char *
PathOf(const OutputFiles *f, const char *name)
{
	return name ? psprintf("%s/%s", f->path, name) : pstrdup(f->path);
}

pg_noreturn static void
ThrowMaking(const char *path)
{
	bool exists = errno == EEXIST;

	ereport(ERROR, (errcode_for_file_access(), errmsg("could not create \"%s\": %m", path),
					exists ? errhint("Name a path at which there is nothing yet.")
						   : errdetail("The path is one of the server, written as the user that runs it.")));
}

void
MakeOutputFolder(OutputFiles *f, const char *name)
{
	char *path = PathOf(f, name);

	if (mkdir(path, FOLDER_MODE) != 0)
		ThrowMaking(path);
	f->folders = lcons(path, f->folders);
	if (chmod(path, FOLDER_MODE) != 0)
		ThrowMaking(path);
}

void
OpenOutput(OutputFiles *f, const char *name)
{
	char *path = PathOf(f, name);

	f->fd = OpenTransientFilePerm(path, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY, FILE_MODE);
	if (f->fd < 0)
		ThrowMaking(path);
	f->files = lcons(path, f->files);
	f->open = path;
	if (fchmod(f->fd, FILE_MODE) != 0)
		ThrowMaking(path);
}

bool
WriteOutput(void *arg, const void *bytes, size_t count, llm_error *err)
{
	OutputFiles *f = arg;
	const char *next = bytes;

	f->bytes += (int64) count;
	while (count > 0)
	{
		ssize_t written;

		CHECK_FOR_INTERRUPTS();
		errno = 0;
		written = write(f->fd, next, Min(count, WRITE_BYTES));
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
		{
			errno = errno == 0 ? ENOSPC : errno;
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", f->open)));
		}
		next += written;
		count -= (size_t) written;
	}
	return true;
}

void
CloseOutput(OutputFiles *f)
{
	if (pg_fsync(f->fd) != 0 || CloseTransientFile(f->fd) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", f->open)));
	f->open = NULL;
}

int64
EndOutput(OutputFiles *f)
{
	ListCell *cell;

	foreach(cell, f->folders)
		fsync_fname(lfirst(cell), true);
	return f->bytes;
}

void
RemoveOutput(OutputFiles *f)
{
	ListCell *cell;

	foreach(cell, f->files)
		(void) unlink(lfirst(cell));
	foreach(cell, f->folders)
		(void) rmdir(lfirst(cell));
}
