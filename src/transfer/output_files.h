/*
 * output_files.h
 *	  New files on the server, which are there as a whole or, after an error, not at all.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_OUTPUT_FILES_H
#define LLMAPP_OUTPUT_FILES_H

#include "../engine/error.h"

typedef struct OutputFiles OutputFiles;

/* For the path of a folder or file that is not there yet; belongs to the current memory context and transaction. */
extern OutputFiles *BeginOutput(const char *path);
/* Make the folder that the path is, or one within it. */
extern void MakeOutputFolder(OutputFiles *f, const char *name);
/* Begin a file within the folder; of NULL, the one that the path is. */
extern void OpenOutput(OutputFiles *f, const char *name);
/* gguf_sink: the next bytes.  ERROR, which is one of cancel, too, and never false. */
extern bool WriteOutput(void *arg, const void *bytes, size_t count, llm_error *err);
/* End the file: it is on the disk. */
extern void CloseOutput(OutputFiles *f);
/* Bytes of all files; to be called last. */
extern int64 EndOutput(OutputFiles *f);
/* Remove what was made. */
extern void RemoveOutput(OutputFiles *f);

#endif /* LLMAPP_OUTPUT_FILES_H */
