/*
 * duplicates.c
 *	  Which rows have been there before.
 *
 * A set of 64-bit hashes with open addressing and linear probing, 8 bytes a slot, at most
 * two thirds full.  Two different rows are taken for the same with probability 2^-64: among
 * n rows the chance of any mistake is below n^2 / 2^65, 3e-8 for a million rows and 3e-4
 * for a hundred million.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "duplicates.h"

#define FIRST_SLOTS 4096 /* a power of two, as all sizes */

struct SeenRows
{
	MemoryContext cxt;
	Size limit;    /* bytes of the slots, old and new ones while they grow */
	uint64 *slots; /* 0: free; NULL: memory was used up */
	uint64 count;  /* of slots */
	uint64 used;
	int64 repeated;
};

static uint64 *
AllocateSlots(MemoryContext cxt, uint64 count)
{
	return MemoryContextAllocExtended(cxt, count * sizeof(uint64), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

SeenRows *
CreateSeenRows(Size limit)
{
	SeenRows *seen = palloc0(sizeof(SeenRows));

	seen->cxt = CurrentMemoryContext;
	seen->limit = limit;
	seen->count = FIRST_SLOTS;
	seen->slots = AllocateSlots(seen->cxt, seen->count);
	return seen;
}

void
FreeSeenRows(SeenRows *seen)
{
	if (seen->slots != NULL)
		pfree(seen->slots);
	pfree(seen);
}

/* The slot that holds the hash, or the free one where it belongs. */
static uint64 *
FindSlot(uint64 *slots, uint64 count, uint64 hash)
{
	uint64 i = hash & (count - 1);

	while (slots[i] != 0 && slots[i] != hash)
		i = (i + 1) & (count - 1);
	return &slots[i];
}

/* Twice as many slots; none when that passes the limit. */
static void
Grow(SeenRows *seen)
{
	uint64 count = seen->count * 2;
	uint64 *slots = NULL;

	if ((seen->count + count) * sizeof(uint64) <= seen->limit)
		slots = AllocateSlots(seen->cxt, count);
	for (uint64 i = 0; slots != NULL && i < seen->count; i++)
		if (seen->slots[i] != 0)
			*FindSlot(slots, count, seen->slots[i]) = seen->slots[i];
	pfree(seen->slots);
	seen->slots = slots;
	seen->count = count;
}

bool
SeenBefore(SeenRows *seen, uint64 hash)
{
	uint64 *slot;

	if (seen->slots != NULL && seen->used >= seen->count / 3 * 2)
		Grow(seen);
	if (seen->slots == NULL)
		return false;
	hash += hash == 0; /* 0 means free */
	slot = FindSlot(seen->slots, seen->count, hash);
	if (*slot == hash)
	{
		seen->repeated++;
		return true;
	}
	*slot = hash;
	seen->used++;
	return false;
}

int64
CountRepeated(const SeenRows *seen)
{
	return seen->slots == NULL ? -1 : seen->repeated;
}
