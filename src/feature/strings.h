/*
 * strings.h
 *	  A set of distinct byte strings numbered in the order of arrival.
 *
 * Bounded in number and bytes, because the strings come from tables and model files.
 * Lookup is open addressing at a load of at most one half.
 */
#ifndef LLMAPP_STRINGS_H
#define LLMAPP_STRINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STRINGS_FULL (-1) /* a bound is reached (or keys made to collide) */
#define STRINGS_NO_MEMORY (-2)

typedef struct strings
{
	int32_t count;
	int32_t max_count;
	size_t max_bytes; /* < 4 GiB */
	char *bytes;      /* all strings, each followed by a zero byte */
	size_t byte_count;
	size_t byte_capacity;
	uint32_t *start;  /* (count): offset in bytes */
	uint32_t *length; /* (count) */
	uint64_t *hash;   /* (count) */
	int32_t capacity; /* of the three above */
	uint32_t *slot;   /* (mask + 1): index + 1, 0 = empty */
	uint32_t mask;
} strings;

extern strings *strings_new(int32_t max_count, size_t max_bytes); /* NULL: out of memory */
extern void strings_free(strings *s);
/* Index of a string, -1 when it is not there. */
extern int32_t strings_find(const strings *s, const char *text, size_t length);
/* Index of a string that is there now, or STRINGS_FULL or STRINGS_NO_MEMORY. */
extern int32_t strings_put(strings *s, const char *text, size_t length);
/* The same with a hash of the caller's own, for sets in which strings_find() is never used. */
extern int32_t strings_put_hashed(strings *s, const char *text, size_t length, uint64_t hash);
extern const char *strings_at(const strings *s, int32_t index);

#endif /* LLMAPP_STRINGS_H */
