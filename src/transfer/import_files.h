/*
 * import_files.h
 *	  What an import finds in the files of a checkpoint: its network, its tensors, its tokenizer; or in an ONNX file.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_IMPORT_FILES_H
#define LLMAPP_IMPORT_FILES_H

#include "../checkpoint/checkpoint.h"
#include "../text/tokenizer.h"
#include "server_files.h"

/* Everything belongs to the memory context in which it was opened. */
typedef struct ImportFiles
{
	ServerFiles *files;   /* of text */
	ServerFiles *weights; /* of tensors */
	tensor_source source;
	void *tokenizer_block;
	Size tokenizer_size;
	tokenizer *tokenizer;
	char *chat_template; /* UTF-8; NULL: none */
	checkpoint *checkpoint;
	json_t *graph; /* of an ONNX file, which has no tokenizer and no checkpoint; NULL: it is none */
} ImportFiles;

/* ERROR naming the file, value or tensor that is missing or not understood.  params: see checkpoint_new(). */
extern ImportFiles *OpenImportFiles(const char *path, const json_t *params);
/* Lineage: ServerFilesJson() of all. */
extern json_t *ImportFilesJson(const ImportFiles *f);

#endif /* LLMAPP_IMPORT_FILES_H */
