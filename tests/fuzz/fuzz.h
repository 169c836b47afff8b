/*
 * fuzz.h
 *	  What fuzz targets share: conditions that must hold, and any bytes as a file that is read by pieces.
 */
#ifndef LLMAPP_FUZZ_H
#define LLMAPP_FUZZ_H

#include <stdlib.h>
#include <string.h>

#include "../../src/engine/error.h"

#define REQUIRE(cond) \
	do \
	{ \
		if (!(cond)) \
			abort(); \
	} while (0)

typedef struct input
{
	const uint8_t *data;
	size_t size;
} input;

/* A source_reader; arg is an input. */
static inline bool
read_input(void *arg, int32_t file, uint64_t offset, void *out, size_t bytes, llm_error *err)
{
	const input *in = arg;

	REQUIRE(file == 0 && offset <= in->size && bytes <= in->size - offset);
	if (bytes > 0)
		memcpy(out, in->data + offset, bytes);
	return true;
}

#endif /* LLMAPP_FUZZ_H */
