/*
 * gguf.h
 *	  Read GGUF files, versions 2 and 3: metadata and tensors of a model in one file.
 *
 *	"GGUF" u32 version u64 tensors u64 keys | keys | tensors | padding | data     (little-endian)
 *	key: string, u32 type, value;  tensor: string, u32 ndim, u64 dims, u32 type, u64 offset;
 *	string: u64 length, bytes;  array: u32 type, u64 count, elements
 *
 * Source: docs/gguf.md of github.com/ggml-org/ggml.  Dims come fastest first there, here row-major.
 * Each tensor begins at a multiple of "general.alignment", right behind the one before.
 */
#ifndef LLMAPP_GGUF_H
#define LLMAPP_GGUF_H

#include "tensor_source.h"

#define GGUF_HEAD_MAX (128 << 20) /* bytes before the data */
#define GGUF_ITEMS_MAX 65536      /* keys; tensors */
#define GGUF_NAME_BYTES 64        /* of a tensor, with the zero byte */
#define GGUF_DIMS_MAX 4

typedef enum gguf_type
{
	GGUF_U8,
	GGUF_I8,
	GGUF_U16,
	GGUF_I16,
	GGUF_U32,
	GGUF_I32,
	GGUF_F32,
	GGUF_BOOL,
	GGUF_STRING,
	GGUF_ARRAY,
	GGUF_U64,
	GGUF_I64,
	GGUF_F64
} gguf_type;

typedef struct gguf gguf;

/*
 * Read what lies before the data of a file of `size` bytes, and check it all: afterwards every
 * tensor is known to lie within the file.  Memory grows with what is read, not with what the file
 * claims.  NULL: LLM_INVALID for what is no GGUF file of these versions, LLM_CORRUPT for one that is
 * damaged, LLM_MEMORY, or what the reader fails with.
 */
extern gguf *gguf_open(source_reader read, void *arg, int32_t file, uint64_t size, llm_error *err);
extern void gguf_close(gguf *g);
/* Add the tensors to a source.  LLM_CORRUPT for too many, LLM_MEMORY. */
extern bool gguf_source(const gguf *g, tensor_source *s, llm_error *err);

extern int32_t gguf_key_count(const gguf *g);
extern const char *gguf_key(const gguf *g, int32_t i); /* in the order of strcmp() */
extern bool gguf_has(const gguf *g, const char *key);

/*
 * Values by key, of the type asked for and in range, or LLM_CORRUPT naming the key.  Integers may be
 * of any width.  A number may be an integer and is finite.  What is returned belongs to the file.
 */
extern bool gguf_read_int(const gguf *g, const char *key, int64_t low, int64_t high, int64_t *out, llm_error *err);
extern bool gguf_read_number(const gguf *g, const char *key, double low, double high, double *out, llm_error *err);
extern bool gguf_read_bool(const gguf *g, const char *key, bool *out, llm_error *err);
/* Bytes with a zero byte behind; may be any, zero bytes too. */
extern bool gguf_read_string(const gguf *g, const char *key, const char **out, size_t *length, llm_error *err);

/* An array of numbers or truth values; or one number, as an array of one.  *out is malloc'd. */
extern bool gguf_read_numbers(const gguf *g, const char *key, size_t min, size_t max, double low, double high,
							  double **out, size_t *count, llm_error *err);

/* An array of at most `max` strings. */
typedef struct gguf_strings
{
	const gguf *file;
	size_t first; /* among all of the file */
	size_t count;
} gguf_strings;

extern bool gguf_read_strings(const gguf *g, const char *key, size_t max, gguf_strings *out, llm_error *err);
extern const char *gguf_string_at(const gguf_strings *s, size_t i, size_t *length); /* as gguf_read_string() */

#endif /* LLMAPP_GGUF_H */
