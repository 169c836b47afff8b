/*
 * tally.c
 *	  Counts of distinct values in bounded memory.
 */
#include "tally.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

#define REGISTER_BITS 12 /* 2^12 = TALLY_REGISTERS */

tally *
tally_new(int32_t max_count, size_t max_bytes)
{
	tally *t = calloc(1, sizeof(tally));

	if (t == NULL)
		return NULL;
	t->values = strings_new(max_count, max_bytes);
	if (t->values != NULL)
		return t;
	free(t);
	return NULL;
}

void
tally_free(tally *t)
{
	if (t == NULL)
		return;
	strings_free(t->values);
	free(t->entries);
	free(t);
}

static void
note_hash(tally *t, uint64_t hash)
{
	uint64_t rest = hash << REGISTER_BITS | UINT64_C(1) << (REGISTER_BITS - 1);
	uint8_t rank = (uint8_t) (1 + __builtin_clzll(rest));

	if (t->registers[hash >> (64 - REGISTER_BITS)] < rank)
		t->registers[hash >> (64 - REGISTER_BITS)] = rank;
}

static bool
grow(tally *t)
{
	int32_t capacity = t->capacity ? t->capacity * 2 : 16;
	tally_entry *entries = realloc(t->entries, capacity * sizeof(tally_entry));

	if (entries == NULL)
		return false;
	t->entries = entries;
	t->capacity = capacity;
	return true;
}

static bool
count_value(tally *t, const void *bytes, size_t length, uint64_t hash, double target)
{
	int32_t known = t->values->count;
	int32_t i;

	if (known == t->capacity && !grow(t))
		return false;
	i = strings_put_hashed(t->values, bytes, length, hash);
	if (i == STRINGS_NO_MEMORY)
		return false;
	if (i == STRINGS_FULL || i == known)
		note_hash(t, hash);
	if (i == STRINGS_FULL)
	{
		t->overflow++;
		return true;
	}
	if (i == known)
		t->entries[i] = (tally_entry) {.target = target};
	t->entries[i].rows++;
	t->entries[i].agree += t->entries[i].target == target;
	return true;
}

bool
tally_add_string(tally *t, const char *text, size_t length, double target)
{
	t->rows++;
	return count_value(t, text, length, hash_of(text, length), target);
}

bool
tally_add_number(tally *t, double number, double target)
{
	uint64_t hash;

	if (number == 0)
		number = 0; /* minus zero is zero */
	memcpy(&hash, &number, sizeof(hash));
	hash = hash_end(hash);
	t->rows++;
	if (t->overflow > 0)
	{
		note_hash(t, hash);
		t->overflow++;
		return true;
	}
	return count_value(t, &number, sizeof(double), hash, target);
}

double
tally_distinct(const tally *t)
{
	double sum = 0;

	if (t->overflow == 0)
		return t->values->count;
	for (int i = 0; i < TALLY_REGISTERS; i++)
		sum += ldexp(1, -t->registers[i]);
	/* More than TALLY_REGISTERS distinct values are certain here, so small-range correction is not needed. */
	sum = 0.7213 / (1 + 1.079 / TALLY_REGISTERS) * TALLY_REGISTERS * TALLY_REGISTERS / sum;
	return fmin(fmax(sum, t->values->count), t->rows);
}

int64_t
tally_most(const tally *t)
{
	int64_t most = 0;

	for (int32_t i = 0; i < t->values->count; i++)
		if (t->entries[i].rows > most)
			most = t->entries[i].rows;
	return most;
}

int64_t
tally_agree(const tally *t)
{
	int64_t agree = 0;

	for (int32_t i = 0; i < t->values->count; i++)
		agree += t->entries[i].agree;
	return agree;
}
