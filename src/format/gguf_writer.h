/*
 * gguf_writer.h
 *	  Write a GGUF file of version 3, one piece after the other; see gguf.h for its form.
 *
 * First all keys and tensors, then gguf_writer_begin(), then the numbers of each tensor in the order
 * in which they were named.
 */
#ifndef LLMAPP_GGUF_WRITER_H
#define LLMAPP_GGUF_WRITER_H

#include "gguf.h"

/* Takes the next bytes of the file; false with its failure. */
typedef bool (*gguf_sink)(void *arg, const void *bytes, size_t count, llm_error *err);

typedef struct gguf_writer gguf_writer;

extern gguf_writer *gguf_writer_new(llm_error *err); /* NULL: LLM_MEMORY */
extern void gguf_writer_free(gguf_writer *w);

/* Keys are not repeated.  What fails for want of memory is reported by gguf_writer_begin(). */
extern void gguf_writer_u32(gguf_writer *w, const char *key, uint32_t value);
extern void gguf_writer_f32(gguf_writer *w, const char *key, float value);
extern void gguf_writer_bool(gguf_writer *w, const char *key, bool value);
extern void gguf_writer_string(gguf_writer *w, const char *key, const char *bytes, size_t length);
extern void gguf_writer_i32s(gguf_writer *w, const char *key, const int32_t *values, size_t count);
extern void gguf_writer_f32s(gguf_writer *w, const char *key, const float *values, size_t count);
extern void gguf_writer_bytes(gguf_writer *w, const char *key, const uint8_t *values, size_t count);
/* An array of strings whose elements follow, each by gguf_writer_element(). */
extern void gguf_writer_strings(gguf_writer *w, const char *key, size_t count);
extern void gguf_writer_element(gguf_writer *w, const char *bytes, size_t length);

/*
 * A tensor of at most GGUF_DIMS_MAX row-major dims.  LLM_INVALID for a name or shape that GGUF does not
 * have, or a type that is not written (see ggml_type.encode); LLM_MEMORY.
 */
extern bool gguf_writer_tensor(gguf_writer *w, const char *name, source_type type, int32_t ndim, const int64_t *dims,
							   llm_error *err);

/* Write all that lies before the data; *bytes is the size that the file will have. */
extern bool gguf_writer_begin(gguf_writer *w, gguf_sink sink, void *arg, uint64_t *bytes, llm_error *err);
/*
 * The next finite numbers of the tensor whose turn it is, of a quantised one whole blocks; padding is
 * written behind its last ones.  LLM_INVALID for more than it has.
 */
extern bool gguf_writer_numbers(gguf_writer *w, const float *numbers, size_t count, llm_error *err);
/* The same of blocks as they are in the file. */
extern bool gguf_writer_blocks(gguf_writer *w, const void *blocks, size_t count, llm_error *err);
extern bool gguf_writer_done(const gguf_writer *w); /* all numbers are written */

#endif /* LLMAPP_GGUF_WRITER_H */
