/*
 * safetensors.h
 *	  Read and write safetensors files: named tensors behind a JSON header.
 *
 *	8 bytes: N, little-endian | N bytes: JSON, may end with spaces | data
 *	{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
 *	 "__metadata__": {"key": "string", ...}}                 (offsets in bytes, from the data on)
 *
 * Source of the format and of what is refused: README and safetensors/src/tensor.rs of
 * github.com/huggingface/safetensors.  Tensors fill the data without holes or overlaps, row-major,
 * little-endian.  Some writers do not pad the header, so tensors may start at any byte: data is
 * read byte by byte and never as an array of numbers.
 */
#ifndef LLMAPP_SAFETENSORS_H
#define LLMAPP_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "json.h"
#include "tensor_source.h"

#define SAFETENSORS_HEADER_MAX 100000000 /* bytes of JSON, as the reference reader's limit */
#define SAFETENSORS_TENSORS_MAX 65536
#define SAFETENSORS_DIMS_MAX SOURCE_MAX_DIMS
#define SAFETENSORS_TEXT_BYTES SOURCE_TEXT_BYTES /* of safetensor_text() */

typedef struct safetensors safetensors;

/* One tensor; name, dtype and data belong to the file. */
typedef struct safetensor
{
	const char *name;  /* UTF-8 without a zero byte */
	const char *dtype; /* "F32", ... */
	int32_t ndim;      /* 0 (one number) .. SAFETENSORS_DIMS_MAX */
	int64_t dims[SAFETENSORS_DIMS_MAX];
	size_t count;        /* product of dims */
	uint64_t offset;     /* in the file */
	const uint8_t *data; /* NULL unless the file is held in memory */
	size_t bytes;
} safetensor;

/*
 * Check the whole file but the values.  bytes must stay as long as the result is used.  NULL:
 * LLM_INVALID for what cannot be a safetensors file at all, LLM_CORRUPT for one that is damaged,
 * LLM_MEMORY.
 */
extern safetensors *safetensors_open(const void *bytes, size_t size, llm_error *err);
/* The same of a file of `size` bytes, of which only the header is read; or what the reader fails with. */
extern safetensors *safetensors_open_header(source_reader read, void *arg, int32_t file, uint64_t size,
											llm_error *err);
/* Add the tensors to a source, as those of this file.  LLM_CORRUPT for too many, LLM_MEMORY. */
extern bool safetensors_source(const safetensors *header, int32_t file, tensor_source *s, llm_error *err);
extern void safetensors_close(safetensors *file);
extern int32_t safetensors_count(const safetensors *file);
extern const safetensor *safetensors_at(const safetensors *file, int32_t i); /* in the order of their data */
extern const safetensor *safetensors_find(const safetensors *file, const char *name);
extern const char *safetensors_metadata(const safetensors *file, const char *key); /* NULL: not there */

/* "name F32 (2, 3)" for messages, printable ASCII; text has SAFETENSORS_TEXT_BYTES and is returned. */
extern const char *safetensor_text(const safetensor *t, char *text);

/* Numbers first .. first + count - 1 from memory to float32, F64 rounded.  LLM_INVALID for other types than these. */
extern bool safetensor_floats(const safetensor *t, size_t first, size_t count, float *out, llm_error *err);

/* A tensor to write, of SOURCE_F32 (0), SOURCE_F16 or SOURCE_BF16. */
typedef struct safetensors_entry
{
	const char *name;
	int32_t ndim;
	int64_t dims[SAFETENSORS_DIMS_MAX];
	int32_t id;    /* the caller's, to know it again in the file's order */
	size_t offset; /* set: bytes from the start of the file, a multiple of those of a number */
	source_type type;
} safetensors_entry;

/*
 * Lay out a file: sort the entries, those of four bytes a number first, then by name; set their
 * offsets, and return the bytes before the data, malloc'd, a multiple of 8.  metadata is an object of
 * strings or NULL.  NULL: LLM_MEMORY, also for a header beyond the limit.
 */
extern uint8_t *safetensors_header(safetensors_entry *entries, int32_t count, const json_t *metadata,
								   size_t *header_bytes, size_t *file_bytes, llm_error *err);
/* float32 to the bytes of a file. */
extern void safetensors_put(source_type type, const float *numbers, size_t count, uint8_t *out);

#endif /* LLMAPP_SAFETENSORS_H */
