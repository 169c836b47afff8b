/*
 * token_file.c
 *	  Tokens in a temporary file, read in windows.
 *
 * Tokens take two bytes where the vocabulary allows, otherwise four.  The order of a
 * shuffled reading is a permutation computed number by number: a Feistel network on as many
 * bits as the count of windows needs (Luby and Rackoff, "How to construct pseudorandom
 * permutations", 1988), asked again while it leaves the range.  It needs no memory and no
 * state, however many windows there are.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/resowner.h"

#include "../common.h"
#include "../engine/philox.h"
#include "token_file.h"

#define ORDER_KEY UINT64CONST(0x57696E646F776B79) /* keeps the engine's streams apart */
#define ROUNDS 4
#define CUT_STREAM 1

struct TokenFile
{
	MemoryContext cxt;
	BufFile *file;
	int32 bytes; /* of a token */
	int64 tokens;
	/* the current reading */
	int32 length; /* of a window */
	bool shuffle;
	uint64 key;
	uint64 epoch;
	int64 cut;   /* tokens before the first window */
	int64 count; /* of windows */
	int64 next;
	int32 half_bits; /* of a number of the permutation */
	int64 at;        /* token behind the last one read, -1: elsewhere */
	int32 room;
	char *buffer; /* (room) tokens as they are in the file */
};

TokenFile *
CreateTokenFile(int32 vocabulary)
{
	TokenFile *file = palloc0(sizeof(TokenFile));
	ResourceOwner owner = CurrentResourceOwner;

	file->cxt = CurrentMemoryContext;
	file->bytes = vocabulary <= PG_UINT16_MAX + 1 ? sizeof(uint16) : sizeof(int32);
	file->at = -1;
	CurrentResourceOwner = NULL; /* the file outlives transactions */
	file->file = BufFileCreateTemp(true);
	CurrentResourceOwner = owner;
	return file;
}

void
CloseTokenFile(TokenFile *file)
{
	BufFileClose(file->file);
	file->file = NULL;
}

int64
CountTokens(const TokenFile *file)
{
	return file->tokens;
}

static void
MakeRoom(TokenFile *file, int32 count)
{
	if (count <= file->room)
		return;
	file->buffer = file->buffer == NULL ? MemoryContextAlloc(file->cxt, (Size) count * file->bytes)
										: repalloc_huge(file->buffer, (Size) count * file->bytes);
	file->room = count;
}

void
AppendTokens(TokenFile *file, const int32 *ids, int64 count)
{
	while (count > 0)
	{
		int32 some = (int32) Min(count, BLCKSZ);

		CHECK_FOR_INTERRUPTS();
		MakeRoom(file, some);
		for (int32 i = 0; i < some; i++)
			if (file->bytes == sizeof(uint16))
				((uint16 *) file->buffer)[i] = (uint16) ids[i];
			else
				((int32 *) file->buffer)[i] = ids[i];
		BufFileWrite(file->file, file->buffer, (Size) some * file->bytes);
		file->tokens += some;
		ids += some;
		count -= some;
	}
}

/* ---- windows ---- */

int64
CountWindows(const TokenFile *file, int32 length)
{
	return file->tokens < 2 ? 0 : (file->tokens - 2) / length + 1;
}

static uint64
Random(const TokenFile *file, uint32 stream, uint32 block)
{
	uint32 random[4];

	philox(file->key, file->epoch, stream, block, random);
	return (uint64) random[0] << 32 | random[1];
}

/* Each epoch cuts at other places: a random number of tokens, less than a window, is left out at the start. */
static void
CutWindows(TokenFile *file)
{
	file->cut = 0;
	file->count = CountWindows(file, file->length);
	if (!file->shuffle || (file->tokens - 1) / file->length < 2)
		return;
	file->cut = Random(file, CUT_STREAM, 0) % (uint64) file->length;
	file->count = (file->tokens - 1 - file->cut) / file->length;
}

void
StartWindows(TokenFile *file, int32 length, bool shuffle, uint64 seed, uint64 epoch)
{
	file->length = length;
	file->shuffle = shuffle;
	file->key = seed ^ ORDER_KEY;
	file->epoch = epoch;
	file->next = 0;
	CutWindows(file);
	file->half_bits = 1;
	while (file->count > INT64CONST(1) << (2 * file->half_bits))
		file->half_bits++;
	MakeRoom(file, length + 1);
}

void
SkipWindows(TokenFile *file, int64 count)
{
	file->next = Min(file->count, file->next + count);
}

/* The number that number i below count becomes. */
static int64
Permute(const TokenFile *file, int64 i)
{
	uint64 mask = (UINT64CONST(1) << file->half_bits) - 1;

	do
	{
		uint64 left = (uint64) i >> file->half_bits, right = (uint64) i & mask;

		for (uint32 round = 0; round < ROUNDS; round++)
		{
			uint64 next = left ^ (Random(file, 2 + round, (uint32) right) & mask);

			left = right;
			right = next;
		}
		i = (int64) (left << file->half_bits | right);
	} while (i >= file->count);
	return i;
}

/* Go to a token of the file. */
static void
Seek(TokenFile *file, int64 token)
{
	int64 byte = token * file->bytes;

	if (file->at == token)
		return;
	if (BufFileSeekBlock(file->file, byte / BLCKSZ) != 0 ||
		(byte % BLCKSZ != 0 && BufFileSeek(file->file, 0, byte % BLCKSZ, SEEK_CUR) != 0))
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not seek in the temporary file of a training")));
}

int32
NextWindow(TokenFile *file, int32 *ids)
{
	int64 first;
	int32 count;

	if (file->next == file->count)
		return 0;
	first = file->cut + file->length * (file->shuffle ? Permute(file, file->next) : file->next);
	file->next++;
	count = (int32) Min(file->length + 1, file->tokens - first);
	Seek(file, first);
	BufFileReadOrFail(file->file, file->buffer, (Size) count * file->bytes);
	file->at = first + count;
	for (int32 i = 0; i < count; i++)
		ids[i] = file->bytes == sizeof(uint16) ? ((uint16 *) file->buffer)[i] : ((int32 *) file->buffer)[i];
	return count;
}
