/*
 * strings.c
 *	  A set of distinct byte strings: categories, labels, and values while they are counted.
 *
 * Bytes lie one after the other; three parallel arrays and the slots grow by doubling.  A chain
 * of more than MAX_PROBES slots is answered as "full": ordinary strings never make one, a model
 * file written to collide would otherwise cost quadratic time.
 */
#include "strings.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"

#define FIRST_CAPACITY 16
#define MAX_PROBES 1024

strings *
strings_new(int32_t max_count, size_t max_bytes)
{
	strings *s = calloc(1, sizeof(strings));

	if (s == NULL)
		return NULL;
	s->max_count = max_count;
	s->max_bytes = max_bytes < UINT32_MAX ? max_bytes : UINT32_MAX;
	return s;
}

void
strings_free(strings *s)
{
	if (s == NULL)
		return;
	free(s->bytes);
	free(s->start);
	free(s->length);
	free(s->hash);
	free(s->slot);
	free(s);
}

const char *
strings_at(const strings *s, int32_t index)
{
	return s->bytes + s->start[index];
}

/* Most strings are short: words of 8 or 4 bytes, the last one overlaps the one before. */
static inline bool
same_bytes(const char *a, const char *b, size_t length)
{
	uint64_t x, y;
	uint32_t u, v;

	if (length < sizeof(u))
	{
		for (size_t i = 0; i < length; i++)
			if (a[i] != b[i])
				return false;
		return true;
	}
	if (length < sizeof(x))
	{
		memcpy(&u, a, sizeof(u));
		memcpy(&v, b, sizeof(v));
		if (u != v)
			return false;
		memcpy(&u, a + length - sizeof(u), sizeof(u));
		memcpy(&v, b + length - sizeof(v), sizeof(v));
		return u == v;
	}
	for (size_t i = 0; i + sizeof(x) < length; i += sizeof(x))
	{
		memcpy(&x, a + i, sizeof(x));
		memcpy(&y, b + i, sizeof(y));
		if (x != y)
			return false;
	}
	memcpy(&x, a + length - sizeof(x), sizeof(x));
	memcpy(&y, b + length - sizeof(y), sizeof(y));
	return x == y;
}

/* Slot of the string, or the empty one where it belongs; -1 after too many probes. */
static int64_t
probe(const strings *s, uint64_t hash, const char *text, size_t length)
{
	uint32_t at = (uint32_t) hash & s->mask;

	for (int n = 0; n < MAX_PROBES; n++, at = (at + 1) & s->mask)
	{
		uint32_t i = s->slot[at];

		if (i == 0)
			return at;
		i--;
		if (s->hash[i] == hash && s->length[i] == length && same_bytes(s->bytes + s->start[i], text, length))
			return at;
	}
	return -1;
}

int32_t
strings_find(const strings *s, const char *text, size_t length)
{
	int64_t at;

	if (s->count == 0)
		return -1;
	at = probe(s, hash_of(text, length), text, length);
	return at < 0 ? -1 : (int32_t) s->slot[at] - 1;
}

/* Room for one more index: twice the arrays and four slots for each index. */
static bool
grow_index(strings *s)
{
	int32_t capacity = s->capacity ? s->capacity * 2 : FIRST_CAPACITY;
	size_t slots = (size_t) capacity * 2;
	uint32_t *start = realloc(s->start, capacity * sizeof(uint32_t));
	uint32_t *length;
	uint64_t *hash;
	uint32_t *slot;

	if (start)
		s->start = start;
	length = start ? realloc(s->length, capacity * sizeof(uint32_t)) : NULL;
	if (length)
		s->length = length;
	hash = length ? realloc(s->hash, capacity * sizeof(uint64_t)) : NULL;
	if (hash)
		s->hash = hash;
	slot = hash ? calloc(slots, sizeof(uint32_t)) : NULL;
	if (slot == NULL)
		return false;
	free(s->slot);
	s->slot = slot;
	s->mask = (uint32_t) slots - 1;
	s->capacity = capacity;
	for (int32_t i = 0; i < s->count; i++)
	{
		uint32_t at = (uint32_t) s->hash[i] & s->mask;

		while (s->slot[at] != 0)
			at = (at + 1) & s->mask;
		s->slot[at] = (uint32_t) i + 1;
	}
	return true;
}

static bool
grow_bytes(strings *s, size_t needed)
{
	size_t capacity = s->byte_capacity ? s->byte_capacity : 256;
	char *bytes;

	while (capacity < needed)
		capacity *= 2;
	if (capacity == s->byte_capacity)
		return true;
	bytes = realloc(s->bytes, capacity);
	if (bytes == NULL)
		return false;
	s->bytes = bytes;
	s->byte_capacity = capacity;
	return true;
}

int32_t
strings_put(strings *s, const char *text, size_t length)
{
	return strings_put_hashed(s, text, length, hash_of(text, length));
}

int32_t
strings_put_hashed(strings *s, const char *text, size_t length, uint64_t hash)
{
	int64_t at;

	if (s->count > 0)
	{
		at = probe(s, hash, text, length);
		if (at < 0)
			return STRINGS_FULL;
		if (s->slot[at] != 0)
			return (int32_t) s->slot[at] - 1;
	}
	if (s->count >= s->max_count || length >= s->max_bytes || s->byte_count + length + 1 > s->max_bytes)
		return STRINGS_FULL;
	if ((s->count == s->capacity && !grow_index(s)) || !grow_bytes(s, s->byte_count + length + 1))
		return STRINGS_NO_MEMORY;
	at = probe(s, hash, text, length);
	if (at < 0)
		return STRINGS_FULL;
	s->start[s->count] = (uint32_t) s->byte_count;
	s->length[s->count] = (uint32_t) length;
	s->hash[s->count] = hash;
	memcpy(s->bytes + s->byte_count, text, length);
	s->bytes[s->byte_count + length] = '\0';
	s->byte_count += length + 1;
	s->slot[at] = (uint32_t) s->count + 1;
	return s->count++;
}
