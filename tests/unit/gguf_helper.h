/*
 * gguf_helper.h
 *	  A GGUF file in memory, and numbers that its tensors may have.
 */
#ifndef LLMAPP_GGUF_HELPER_H
#define LLMAPP_GGUF_HELPER_H

#include <stdlib.h>

#include "../../src/format/gguf.h"
#include "test.h"

static uint8_t bytes[1 << 16];
static size_t size;      /* bytes that are there */
static uint64_t claimed; /* size of the file; zeros are read behind what is there */
static uint64_t asked;   /* bytes read so far */

static inline bool
read_bytes(void *arg, int32_t file, uint64_t offset, void *out, size_t count, llm_error *err)
{
	CHECK_INT(file, 0);
	if (offset > claimed || count > claimed - offset)
		return llm_fail(err, LLM_CORRUPT, "read beyond the end of the file");
	asked += count;
	for (size_t i = 0; i < count; i++)
		((uint8_t *) out)[i] = offset + i < size ? bytes[offset + i] : 0;
	return true;
}

/* 3 x 32 numbers from -4 on, as far as the type has them; the first row for a.weight. */
static inline void
check_tensor(const tensor_source *s, const char *name, source_type type, float tolerance)
{
	const source_tensor *t = tensor_source_find(s, name);
	llm_error err = {0};
	float numbers[96];
	bool near = true;

	if (!CHECK(t != NULL))
		return;
	CHECK_INT(t->type, type);
	CHECK_INT(t->ndim, 2);
	CHECK_INT(t->dims[1], 32);
	CHECK(tensor_source_read(s, t, 0, t->count, numbers, &err));
	for (size_t i = 0; i < t->count; i++)
		near = near && fabsf(numbers[i] - ((float) i / 8 - 4)) <= tolerance;
	CHECK(near);
	CHECK(tensor_source_read(s, t, t->count - 32, 32, numbers, &err));
	CHECK(fabsf(numbers[31] - ((float) (t->count - 1) / 8 - 4)) <= tolerance);
	CHECK_STR(err.message, "");
}

#endif /* LLMAPP_GGUF_HELPER_H */
