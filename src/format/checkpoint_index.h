/*
 * checkpoint_index.h
 *	  The index of a checkpoint of several files: model.safetensors.index.json.
 *
 *	{"metadata": {...}, "weight_map": {"name of a tensor": "name of a file", ...}}
 *
 * Source: "Sharded checkpoints" in the documentation of transformers.
 */
#ifndef LLMAPP_CHECKPOINT_INDEX_H
#define LLMAPP_CHECKPOINT_INDEX_H

#include "tensor_source.h"

#define CHECKPOINT_INDEX_MAX (64 << 20) /* bytes of JSON */
#define CHECKPOINT_FILES_MAX 4096

typedef struct checkpoint_index checkpoint_index;

/*
 * Every file name is one of a file beside the index: without a separator, a control character or a dot
 * in front, and ending with ".safetensors".  NULL: LLM_CORRUPT, LLM_MEMORY.
 */
extern checkpoint_index *checkpoint_index_parse(const char *text, size_t length, llm_error *err);
extern void checkpoint_index_free(checkpoint_index *x);
extern int32_t checkpoint_index_count(const checkpoint_index *x);               /* of files */
extern const char *checkpoint_index_file(const checkpoint_index *x, int32_t i); /* in the order of strcmp() */

/*
 * Of the tensors of all files, sorted, whose numbers are those of checkpoint_index_file(): is each tensor
 * that the index names in the file that it names?  LLM_CORRUPT.
 */
extern bool checkpoint_index_check(const checkpoint_index *x, const tensor_source *s, llm_error *err);

#endif /* LLMAPP_CHECKPOINT_INDEX_H */
