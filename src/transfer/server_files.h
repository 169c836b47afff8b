/*
 * server_files.h
 *	  The files of a checkpoint on the server: one file, or those of a folder.
 *
 * Paths are read as COPY reads them: by roles that have the privileges of pg_read_server_files, as the
 * server's operating-system user.  Only regular files are opened, until they are closed or the
 * transaction is rolled back.
 * Include after postgres.h.
 */
#ifndef LLMAPP_SERVER_FILES_H
#define LLMAPP_SERVER_FILES_H

#include "nodes/pg_list.h"

#include "../format/json.h"
#include "../format/tensor_source.h"

typedef struct ServerFiles ServerFiles;

/* ERROR unless the current user may read files of the server and this is one, or a folder. */
extern void RequireServerPath(const char *path, const char *function);
/* The same; the result belongs to the current memory context and transaction. */
extern ServerFiles *OpenServerPath(const char *path, const char *function);

extern void CloseServerFiles(ServerFiles *f); /* their names and sizes stay */

/* ERROR unless the current user may write files of the server and the path is an absolute one. */
extern void RequireWriter(const char *path, const char *function);

/* Name of the file that the path is; NULL: it is a folder. */
extern const char *SingleFile(const ServerFiles *f);
/* Number of a file of the folder, or beside the file; -1 when there is none of this name, which is no path. */
extern int32 FindServerFile(ServerFiles *f, const char *name);
extern List *ServerFileNames(const ServerFiles *f); /* all that there are, opened or not; palloc'd */
extern const char *ServerFileName(const ServerFiles *f, int32 file);
extern uint64 ServerFileBytes(const ServerFiles *f, int32 file);
/* All of a file, with a zero byte behind it, palloc'd; NULL when the folder lacks it.  ERROR beyond `most` bytes. */
extern char *ReadServerFile(ServerFiles *f, const char *name, Size most, Size *bytes);
/* source_reader; arg is a ServerFiles.  LLM_CANCELLED when the session is to end its statement. */
extern bool ReadServerBytes(void *arg, int32 file, uint64_t offset, void *out, size_t bytes, llm_error *err);

/* Lineage: [{"name", "bytes", "sha256"}] of all files that were opened. */
extern json_t *ServerFilesJson(const ServerFiles *f);

#endif /* LLMAPP_SERVER_FILES_H */
