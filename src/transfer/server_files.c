/*
 * server_files.c
 *	  The files of a checkpoint on the server.
 *
 * Sizes are those at opening.  A file that others shorten or change meanwhile gives an error or other
 * numbers, never a signal: nothing is mapped.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "../common.h"
#include "../model/parts.h"
#include "server_files.h"

#define MOST_FILES 512
#define READ_BYTES ((Size) 1 << 20) /* between two looks for a cancel */

typedef struct ServerFile
{
	char *name;
	int fd;
	uint64 bytes;
} ServerFile;

struct ServerFiles
{
	char *path; /* of the folder, or of the one in which the file is */
	bool folder;
	int32 count;
	ServerFile files[MOST_FILES];
};

/* ---- opening ---- */

static void
RequireReader(const char *function)
{
	if (has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to read files of the server"),
			 errdetail("%s reads them as roles with privileges of pg_read_server_files.", function),
			 errhint("GRANT pg_read_server_files TO %s;", quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

static void
RequireAbsolute(const char *path)
{
	if (!is_absolute_path(path))
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" is not an absolute path", path),
						errhint("Name a folder or file of the server as '/folder/name'.")));
}

void
RequireWriter(const char *path, const char *function)
{
	if (!has_privs_of_role(GetUserId(), ROLE_PG_WRITE_SERVER_FILES))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to write files of the server"),
			 errdetail("%s writes them as roles with privileges of pg_write_server_files.", function),
			 errhint("GRANT pg_write_server_files TO %s;", quote_identifier(GetUserNameFromId(GetUserId(), false)))));
	RequireAbsolute(path);
}

/* Whether the path is a folder. */
static bool
LookAt(const char *path)
{
	struct stat st;

	RequireAbsolute(path);
	if (stat(path, &st) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not look at \"%s\": %m", path),
						errdetail("The path is read on the server, as the user that runs it.")));
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is neither a folder nor a file", path)));
	return S_ISDIR(st.st_mode);
}

void
RequireServerPath(const char *path, const char *function)
{
	RequireReader(function);
	(void) LookAt(path);
}

/* Open a file, unless it is not there; whatever else is there, a pipe above all, is not waited for. */
static int32
OpenFile(ServerFiles *f, const char *path, const char *name)
{
	ServerFile *file = &f->files[f->count];
	struct stat st;

	if (f->count == MOST_FILES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the checkpoint has more than %d files", MOST_FILES)));
	file->fd = OpenTransientFile(path, O_RDONLY | PG_BINARY | O_NONBLOCK);
	if (file->fd < 0 && errno == ENOENT)
		return -1;
	if (file->fd < 0 || fstat(file->fd, &st) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a file", path)));
	file->bytes = (uint64) st.st_size;
	file->name = pstrdup(name);
	return f->count++;
}

ServerFiles *
OpenServerPath(const char *path, const char *function)
{
	ServerFiles *f = palloc0(sizeof(ServerFiles));
	const char *name = last_dir_separator(path);

	RequireReader(function);
	f->folder = LookAt(path);
	f->path = f->folder || !name ? pstrdup(path) : pnstrdup(path, name - path);
	if (!f->folder && OpenFile(f, path, name ? name + 1 : path) < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	return f;
}

void
CloseServerFiles(ServerFiles *f)
{
	for (int32 i = 0; i < f->count; i++)
		CloseTransientFile(f->files[i].fd);
}

const char *
SingleFile(const ServerFiles *f)
{
	return f->folder ? NULL : f->files[0].name;
}

int32
FindServerFile(ServerFiles *f, const char *name)
{
	for (int32 i = 0; i < f->count; i++)
		if (strcmp(f->files[i].name, name) == 0)
			return i;
	return OpenFile(f, psprintf("%s/%s", f->path, name), name);
}

List *
ServerFileNames(const ServerFiles *f)
{
	DIR *folder = AllocateDir(f->path);
	struct dirent *entry;
	List *names = NIL;

	while ((entry = ReadDir(folder, f->path)) != NULL)
		names = lappend(names, pstrdup(entry->d_name));
	FreeDir(folder);
	return names;
}

const char *
ServerFileName(const ServerFiles *f, int32 file)
{
	return f->files[file].name;
}

uint64
ServerFileBytes(const ServerFiles *f, int32 file)
{
	return f->files[file].bytes;
}

/* ---- reading ---- */

bool
ReadServerBytes(void *arg, int32 file, uint64_t offset, void *out, size_t bytes, llm_error *err)
{
	const ServerFiles *f = arg;
	char *next = out;

	while (bytes > 0)
	{
		ssize_t got;

		if (InterruptRequested(NULL))
			return llm_fail(err, LLM_CANCELLED, "canceled");
		got = pread(f->files[file].fd, next, Min(bytes, READ_BYTES), (off_t) offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return llm_fail(err, LLM_UNAVAILABLE, "could not read file \"%s\": %s", f->files[file].name,
							strerror(errno));
		if (got == 0)
			return llm_fail(err, LLM_CORRUPT, "file \"%s\" ends before byte %llu", f->files[file].name,
							(unsigned long long) offset + bytes);
		next += got;
		offset += (uint64_t) got;
		bytes -= (size_t) got;
	}
	return true;
}

char *
ReadServerFile(ServerFiles *f, const char *name, Size most, Size *bytes)
{
	int32 file = FindServerFile(f, name);
	llm_error err = {0};
	char *text;

	*bytes = 0;
	if (file < 0)
		return NULL;
	if (f->files[file].bytes > most)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("file \"%s\" is too large", name),
						errdetail("It has %llu bytes, at most %zu are read.",
								  (unsigned long long) f->files[file].bytes, most)));
	*bytes = (Size) f->files[file].bytes;
	text = palloc(*bytes + 1);
	text[*bytes] = '\0';
	if (!ReadServerBytes(f, file, 0, text, *bytes, &err))
		ThrowError(&err);
	return text;
}

/* ---- where a model came from ---- */

static void
HashFile(const ServerFiles *f, int32 file, char *hex)
{
	pg_cryptohash_ctx *hash = BeginHash();
	char *buffer = palloc(READ_BYTES);
	llm_error err = {0};

	for (uint64 done = 0; done < f->files[file].bytes;)
	{
		Size length = Min(f->files[file].bytes - done, READ_BYTES);

		if (!ReadServerBytes(unconstify(ServerFiles *, f), file, done, buffer, length, &err))
			ThrowError(&err);
		HashBytes(hash, buffer, length);
		done += length;
	}
	EndHash(hash, hex);
	pfree(buffer);
}

json_t *
ServerFilesJson(const ServerFiles *f)
{
	json_t *list = json_array();

	OWN(list, json_decref);
	for (int32 i = 0; i < f->count; i++)
	{
		const char *name = pg_server_to_any(f->files[i].name, strlen(f->files[i].name), PG_UTF8);
		char sha256[65];

		HashFile(f, i, sha256);
		json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "name", name, "bytes",
											  (json_int_t) f->files[i].bytes, "sha256", sha256));
	}
	return json_incref(list);
}
