/*
 * gguf_split.h
 *	  A GGUF model in several files: NAME-00001-of-00003.gguf holds all keys, each file some of the tensors.
 *
 * Keys of every part: split.no, from 0; split.count; split.tensors.count, of all parts.
 * Source: gguf-split of github.com/ggml-org/llama.cpp, whose names have parts from 1.
 */
#ifndef LLMAPP_GGUF_SPLIT_H
#define LLMAPP_GGUF_SPLIT_H

#include "gguf.h"

#define GGUF_PARTS_MAX 99999 /* as names have five digits */

typedef struct gguf_split
{
	int32_t number, count; /* from 0; 1 for a file that is whole */
	int64_t tensors;       /* of all parts; -1: the file does not say */
} gguf_split;

/* LLM_CORRUPT for numbers that no part has. */
extern bool gguf_read_split(const gguf *g, gguf_split *out, llm_error *err);

/* Is it the name of the first one of several parts? */
extern bool gguf_names_first_part(const char *name);
/*
 * The name of part `number`, from 0, of those that this name of any part belongs to; malloc'd.  NULL: LLM_INVALID for
 * a name that is not that of one of `count` parts, LLM_MEMORY.
 */
extern char *gguf_part_name(const char *name, int32_t number, int32_t count, llm_error *err);

#endif /* LLMAPP_GGUF_SPLIT_H */
