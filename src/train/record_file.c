/*
 * record_file.c
 *	  Encoded rows of a training, in memory or in a temporary file, shuffled by epoch.
 *
 * Records are gathered in chunks of about 256 kB.  While all chunks fit into the budget
 * they stay in memory and an epoch is a permutation of all rows.  When they stop to fit,
 * all go to a temporary file, and an epoch takes the chunks in random order, as many at
 * a time as fit into what is left of the budget (a window), and shuffles the rows of
 * each window.  Permutations are made from counters, never from a generator's state.
 *
 * A chunk is a sequence of records, each behind its length in 4 bytes; records are
 * multiples of 4 bytes, so every one is aligned.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "../engine/philox.h"
#include "../common.h"
#include "record_file.h"

#define CHUNK_BYTES (256 * 1024)
#define MIN_WINDOW_BYTES (4 * 1024 * 1024)
#define ROW_OVERHEAD sizeof(uint8 *)                /* a place in the window's order */
#define PREFETCH_ROWS 8                             /* rows of a window lie in random places */
#define SHUFFLE_KEY UINT64CONST(0x53687566666c6521) /* keeps the engine's streams apart */

typedef struct Chunk
{
	uint8 *memory; /* NULL: in the file */
	int segment;   /* where in the file */
	off_t offset;
	uint32 bytes;
	uint32 rows;
} Chunk;

/* Random numbers of one permutation, four from each block. */
typedef struct Draw
{
	uint64 key;
	uint64 epoch;
	uint32 stream;
	uint32 block;
	uint32 numbers[4];
	int left;
} Draw;

struct Records
{
	MemoryContext cxt;
	Size *budget;
	Chunk *chunks;
	int64 count; /* of chunks */
	int64 room;
	int64 rows;
	BufFile *file; /* NULL: all in memory */
	/* the chunk that is being filled */
	uint8 *filling;
	Size capacity;
	Size used;
	uint32 filling_rows;
	/* the current reading */
	bool shuffle;
	uint64 seed;
	uint64 epoch;
	uint32 *order;             /* (count) of chunks */
	int64 next_chunk;          /* in order: first one behind the window */
	uint32 windows;            /* begun so far */
	MemoryContext window;      /* memory of the window */
	const uint8 **window_rows; /* (window_count) */
	int64 window_count;
	int64 window_next;
};

Records *
CreateRecords(Size *budget)
{
	Records *records = palloc0(sizeof(Records));

	records->cxt = CurrentMemoryContext;
	records->budget = budget;
	records->window = AllocSetContextCreate(CurrentMemoryContext, "llmapp window of records", ALLOCSET_DEFAULT_SIZES);
	records->capacity = CHUNK_BYTES;
	records->filling = palloc(records->capacity);
	records->room = 64;
	records->chunks = palloc(records->room * sizeof(Chunk));
	return records;
}

int64
CountRecords(const Records *records)
{
	return records->rows;
}

/* ---- writing ---- */

static void
WriteChunk(Records *records, Chunk *chunk, uint8 *bytes)
{
	BufFileTell(records->file, &chunk->segment, &chunk->offset);
	BufFileWrite(records->file, bytes, chunk->bytes);
}

/* A file that outlives transactions and is gone with the process. */
static BufFile *
CreateFile(MemoryContext cxt)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext old = MemoryContextSwitchTo(cxt);
	BufFile *file;

	CurrentResourceOwner = NULL;
	file = BufFileCreateTemp(true);
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(old);
	return file;
}

/* Memory is used up: move all chunks to a file and give their memory back. */
static void
Spill(Records *records)
{
	records->file = CreateFile(records->cxt);
	for (int64 i = 0; i < records->count; i++)
	{
		Chunk *chunk = &records->chunks[i];

		WriteChunk(records, chunk, chunk->memory);
		*records->budget += chunk->bytes + chunk->rows * ROW_OVERHEAD;
		pfree(chunk->memory);
		chunk->memory = NULL;
	}
}

static void
FinishChunk(Records *records)
{
	Chunk chunk = {.bytes = records->used, .rows = records->filling_rows};
	Size need = chunk.bytes + chunk.rows * ROW_OVERHEAD;

	if (chunk.rows == 0)
		return;
	if (records->count == records->room)
	{
		records->room *= 2;
		records->chunks = repalloc_huge(records->chunks, records->room * sizeof(Chunk));
	}
	if (records->file == NULL && *records->budget < need)
		Spill(records);
	if (records->file != NULL)
		WriteChunk(records, &chunk, records->filling);
	else
	{
		chunk.memory = MemoryContextAlloc(records->cxt, chunk.bytes);
		memcpy(chunk.memory, records->filling, chunk.bytes);
		*records->budget -= need;
	}
	records->chunks[records->count++] = chunk;
	records->used = 0;
	records->filling_rows = 0;
}

/* A new chunk, in which a record of so many bytes fits. */
static void
MakeRoom(Records *records, Size need)
{
	FinishChunk(records);
	if (need + sizeof(uint32) <= records->capacity)
		return;
	records->capacity = need + sizeof(uint32);
	records->filling = repalloc_huge(records->filling, records->capacity);
}

void
AddRecord(Records *records, const void *bytes, uint32 count)
{
	if (records->capacity - records->used < sizeof(uint32) + count)
		MakeRoom(records, count);
	memcpy(records->filling + records->used, &count, sizeof(count));
	memcpy(records->filling + records->used + sizeof(count), bytes, count);
	records->used += sizeof(count) + count;
	records->filling_rows++;
	records->rows++;
}

void
FinishRecords(Records *records)
{
	FinishChunk(records);
	pfree(records->filling);
	records->filling = NULL;
	records->order = MemoryContextAllocHuge(records->cxt, Max(records->count, 1) * sizeof(uint32));
}

/* ---- reading ---- */

/* Uniform in [0, bound). */
static uint32
DrawBelow(Draw *draw, uint32 bound)
{
	if (draw->left == 0)
	{
		philox(draw->key, draw->epoch, draw->stream, draw->block++, draw->numbers);
		draw->left = 4;
	}
	return ((uint64) draw->numbers[--draw->left] * bound) >> 32;
}

void
StartReading(Records *records, bool shuffle, uint64 seed, uint64 epoch)
{
	Draw draw = {.key = seed ^ SHUFFLE_KEY, .epoch = epoch};

	records->shuffle = shuffle;
	records->seed = seed;
	records->epoch = epoch;
	for (int64 i = 0; i < records->count; i++)
		records->order[i] = i;
	for (int64 i = records->count - 1; shuffle && i > 0; i--)
	{
		uint32 k = DrawBelow(&draw, i + 1);
		uint32 chunk = records->order[i];

		records->order[i] = records->order[k];
		records->order[k] = chunk;
	}
	records->next_chunk = 0;
	records->windows = 0;
	records->window_count = records->window_next = 0;
}

/* Chunks of the next window end before this place in the order; *rows they hold. */
static int64
WindowEnd(const Records *records, int64 *rows)
{
	Size room = records->file == NULL ? SIZE_MAX : Max(*records->budget, MIN_WINDOW_BYTES);
	int64 i = records->next_chunk;

	*rows = 0;
	for (; i < records->count; i++)
	{
		const Chunk *chunk = &records->chunks[records->order[i]];
		Size need = chunk->bytes + chunk->rows * ROW_OVERHEAD;

		if (need > room && i > records->next_chunk)
			break;
		room -= Min(room, need);
		*rows += chunk->rows;
	}
	return i;
}

static const uint8 *
ChunkBytes(Records *records, const Chunk *chunk)
{
	uint8 *bytes;

	if (chunk->memory != NULL)
		return chunk->memory;
	bytes = MemoryContextAllocHuge(records->window, chunk->bytes);
	if (BufFileSeek(records->file, chunk->segment, chunk->offset, SEEK_SET) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not seek in the temporary file of a training")));
	BufFileReadOrFail(records->file, bytes, chunk->bytes);
	return bytes;
}

static void
ShuffleWindow(Records *records)
{
	Draw draw = {.key = records->seed ^ SHUFFLE_KEY, .epoch = records->epoch, .stream = records->windows};

	for (int64 i = records->window_count - 1; i > 0; i--)
	{
		uint32 k = DrawBelow(&draw, i + 1);
		const uint8 *row = records->window_rows[i];

		records->window_rows[i] = records->window_rows[k];
		records->window_rows[k] = row;
	}
}

static void
LoadWindow(Records *records)
{
	int64 rows;
	int64 end = WindowEnd(records, &rows);

	MemoryContextReset(records->window);
	records->window_rows = MemoryContextAllocHuge(records->window, Max(rows, 1) * sizeof(uint8 *));
	records->window_count = records->window_next = 0;
	for (; records->next_chunk < end; records->next_chunk++)
	{
		const Chunk *chunk = &records->chunks[records->order[records->next_chunk]];
		const uint8 *row = ChunkBytes(records, chunk);

		CHECK_FOR_INTERRUPTS();
		for (uint32 i = 0; i < chunk->rows; i++)
		{
			records->window_rows[records->window_count++] = row;
			row += sizeof(uint32) + *(const uint32 *) row;
		}
	}
	records->windows++;
	if (records->shuffle)
		ShuffleWindow(records);
}

void
SkipRecords(Records *records, int64 count)
{
	while (count > 0 && (records->window_next < records->window_count || records->next_chunk < records->count))
	{
		int64 rows;
		int64 end = WindowEnd(records, &rows);

		if (records->window_next < records->window_count)
		{
			int64 here = Min(count, records->window_count - records->window_next);

			records->window_next += here;
			count -= here;
		}
		else if (rows <= count)
		{
			records->next_chunk = end;
			records->windows++;
			count -= rows;
		}
		else
			LoadWindow(records);
	}
}

const uint8 *
NextRecord(Records *records, uint32 *bytes)
{
	const uint8 *row;

	if (records->window_next == records->window_count)
	{
		if (records->next_chunk == records->count)
		{
			MemoryContextReset(records->window);
			return NULL;
		}
		LoadWindow(records);
	}
	row = records->window_rows[records->window_next++];
	if (records->window_next + PREFETCH_ROWS < records->window_count)
		__builtin_prefetch(records->window_rows[records->window_next + PREFETCH_ROWS]);
	*bytes = *(const uint32 *) row;
	return row + sizeof(uint32);
}
