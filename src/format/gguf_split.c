/*
 * gguf_split.c
 *	  Which part of a model a GGUF file is, and what the others are called.
 */
#include "gguf_split.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS 5
#define MIDDLE "-of-"
#define SUFFIX ".gguf"
#define TAIL_BYTES (1 + DIGITS + sizeof(MIDDLE) - 1 + DIGITS + sizeof(SUFFIX) - 1)

bool
gguf_read_split(const gguf *g, gguf_split *out, llm_error *err)
{
	int64_t count = 1, number = 0, tensors = -1;

	if (gguf_has(g, "split.count") &&
		(!gguf_read_int(g, "split.count", 0, GGUF_PARTS_MAX, &count, err) ||
		 (count > 0 && !gguf_read_int(g, "split.no", 0, count - 1, &number, err)) ||
		 (gguf_has(g, "split.tensors.count") &&
		  !gguf_read_int(g, "split.tensors.count", 0, SOURCE_MAX_TENSORS, &tensors, err))))
		return false;
	*out = (gguf_split) {(int32_t) number, count > 0 ? (int32_t) count : 1, tensors};
	return true;
}

/* "-00001-of-00003.gguf" */
static bool
read_tail(const char *name, long *number, long *count)
{
	size_t length = strlen(name);
	const char *tail = name + length - TAIL_BYTES;

	if (length <= TAIL_BYTES || tail[0] != '-' || memcmp(tail + 1 + DIGITS, MIDDLE, sizeof(MIDDLE) - 1) != 0 ||
		strcmp(name + length - (sizeof(SUFFIX) - 1), SUFFIX) != 0)
		return false;
	for (int i = 0; i < DIGITS; i++)
		if (!isdigit((unsigned char) tail[1 + i]) || !isdigit((unsigned char) tail[DIGITS + sizeof(MIDDLE) + i]))
			return false;
	*number = strtol(tail + 1, NULL, 10);
	*count = strtol(tail + DIGITS + sizeof(MIDDLE), NULL, 10);
	return true;
}

bool
gguf_names_first_part(const char *name)
{
	long number, count;

	return read_tail(name, &number, &count) && number == 1;
}

char *
gguf_part_name(const char *name, int32_t number, int32_t count, llm_error *err)
{
	long own, named;
	size_t length = strlen(name), stem = length > TAIL_BYTES ? length - TAIL_BYTES : 0;
	char *out;

	if (!read_tail(name, &own, &named) || named != count || own < 1 || own > named)
	{
		llm_fail(err, LLM_INVALID, "the file is one of %d parts, and its name does not say so", count);
		llm_hint(err, "Name all parts as they were, the first one NAME-00001-of-%05d.gguf.", count);
		return NULL;
	}
	out = malloc(length + 1);
	if (out == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory while reading the file");
	else
		snprintf(out, length + 1, "%.*s-%05d" MIDDLE "%05d" SUFFIX, (int) stem, name, number + 1, count);
	return out;
}
