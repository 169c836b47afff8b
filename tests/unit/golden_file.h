/*
 * golden_file.h
 *	  Files of expected numbers that lie in golden/ beside the tests.
 */
#ifndef LLMAPP_GOLDEN_FILE_H
#define LLMAPP_GOLDEN_FILE_H

#include <stdlib.h>

#include "test.h"

/* The bytes of a file, malloc'd; NULL, and a failed check, when it cannot be read. */
static inline void *
golden_file(const char *name, size_t *size)
{
	char path[4096];
	FILE *f;
	void *bytes = NULL;

	snprintf(path, sizeof(path), "%.*sgolden/%s",
			 (int) (strrchr(__FILE__, '/') ? strrchr(__FILE__, '/') + 1 - __FILE__ : 0), __FILE__, name);
	f = fopen(path, "rb");
	if (!CHECK(f != NULL))
		return NULL;
	fseek(f, 0, SEEK_END);
	*size = (size_t) ftell(f);
	rewind(f);
	bytes = malloc(*size);
	if (!CHECK(fread(bytes, 1, *size, f) == *size))
	{
		free(bytes);
		bytes = NULL;
	}
	fclose(f);
	return bytes;
}

#endif /* LLMAPP_GOLDEN_FILE_H */
