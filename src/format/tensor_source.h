/*
 * tensor_source.h
 *	  The tensors of a checkpoint, whatever its files are: what readers of safetensors and GGUF files
 *	  find, and what an import reads piece by piece.
 *
 * A reader looks at the head of a file only, and checks that the file is as large as its tensors
 * need; numbers come through tensor_source_read(), so memory does not grow with the model.  Names
 * and places are those of hostile files: unique, and within their file, is all that can be relied on.
 */
#ifndef LLMAPP_TENSOR_SOURCE_H
#define LLMAPP_TENSOR_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../engine/error.h"

#define SOURCE_MAX_DIMS 8
#define SOURCE_MAX_TENSORS (1 << 20) /* of all files */
#define SOURCE_TEXT_BYTES 160        /* of source_text() */

/* How numbers are written; the quantised ones are blocks of GGML along the last dimension. */
typedef enum source_type
{
	SOURCE_F32,
	SOURCE_F16,
	SOURCE_BF16,
	SOURCE_F64,
	SOURCE_Q4_0,
	SOURCE_Q4_1,
	SOURCE_Q5_0,
	SOURCE_Q5_1,
	SOURCE_Q8_0,
	SOURCE_Q2_K,
	SOURCE_Q3_K,
	SOURCE_Q4_K,
	SOURCE_Q5_K,
	SOURCE_Q6_K,
	SOURCE_OTHER /* integers and the like: there, and of no use as weights */
} source_type;

typedef struct source_tensor
{
	char *name; /* UTF-8 without a zero byte */
	source_type type;
	int32_t ndim;                  /* 0: one number */
	int64_t dims[SOURCE_MAX_DIMS]; /* row-major, as PyTorch has them; the last one is contiguous */
	size_t count;                  /* product of dims */
	int32_t file;
	uint64_t offset, bytes; /* in that file */
	const char *type_name;  /* for messages, of static storage: "F16", "Q4_K", "I64" */
} source_tensor;

/* Bytes of a file; false with LLM_UNAVAILABLE, LLM_CORRUPT for a file that ends before, or LLM_CANCELLED. */
typedef bool (*source_reader)(void *arg, int32_t file, uint64_t offset, void *out, size_t bytes, llm_error *err);

typedef struct tensor_source
{
	source_tensor *tensors; /* (count), by name once sorted */
	int32_t count;
	source_reader read;
	void *arg;
} tensor_source;

/*
 * For readers of files: add a tensor, whose name is copied; and order them when the last one is there.
 * LLM_CORRUPT when there are too many or two have the same name, LLM_MEMORY.
 */
extern bool tensor_source_add(tensor_source *s, const source_tensor *t, llm_error *err);
extern bool tensor_source_sort(tensor_source *s, llm_error *err);
extern void tensor_source_clear(tensor_source *s); /* what it holds */

/* NULL: not there.  Sorted tensors only. */
extern const source_tensor *tensor_source_find(const tensor_source *s, const char *name);

/*
 * Numbers first .. first + count - 1 as float32, of a quantised tensor whole blocks.  Reads in pieces of
 * some MiB at most.  LLM_INVALID for a type that is no number, LLM_MEMORY, or what the reader fails with.
 */
extern bool tensor_source_read(const tensor_source *s, const source_tensor *t, size_t first, size_t count, float *out,
							   llm_error *err);

/* A name for messages, shortened, as printable ASCII; text is returned. */
extern const char *source_shown(const char *name, char text[64]);
#define SHOWN(name) source_shown((name), (char[64]) {0})

/* "name F32 (2, 3)" for messages, printable ASCII; text has SOURCE_TEXT_BYTES and is returned. */
extern const char *source_text(const char *name, const char *type, const int64_t *dims, int32_t ndim, char *text);
#define SOURCE_TEXT(t) source_text((t)->name, (t)->type_name, (t)->dims, (t)->ndim, (char[SOURCE_TEXT_BYTES]) {0})

#endif /* LLMAPP_TENSOR_SOURCE_H */
