/*
 * block.c
 *	  Many rows of the raw training file at once, by several threads.
 *
 * Rows are shared out in tiles of neighbours.  Nothing is shared between rows but the encoder, which
 * only a column of tokens writes to; then one thread encodes.
 */
#include <stdlib.h>
#include <string.h>

#include "encoder.h"

#define TILES 16 /* at most, for any number of threads */

/* Records of neighbouring rows. */
typedef struct tile
{
	uint8_t *bytes;
	size_t used;
	size_t capacity;
	llm_error err;
} tile;

struct row_block
{
	int32_t columns;
	int32_t count;
	int32_t capacity;       /* rows */
	int32_t tile_rows;      /* of each tile but the last */
	const uint8_t **start;  /* (capacity) of the row's length */
	value *values;          /* (capacity, columns) */
	size_t *record;         /* (capacity) place in the bytes of the tile */
	uint32_t *record_bytes; /* (capacity) */
	tile tiles[TILES];
	/* of the run */
	const encoder *encoder;
	const target *target;
	const float *weights;
};

row_block *
row_block_new(int32_t columns, llm_error *err)
{
	row_block *b = calloc(1, sizeof(row_block));

	if (b == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory for rows");
	else
		b->columns = columns;
	return b;
}

void
row_block_free(row_block *b)
{
	if (b == NULL)
		return;
	for (int i = 0; i < TILES; i++)
		free(b->tiles[i].bytes);
	free(b->start);
	free(b->values);
	free(b->record);
	free(b->record_bytes);
	free(b);
}

int32_t
row_block_count(const row_block *b)
{
	return b->count;
}

const value *
row_block_row(const row_block *b, int32_t i)
{
	return b->values + (size_t) i * b->columns;
}

static bool
grow(void *pointer, size_t bytes)
{
	void *grown = realloc(*(void **) pointer, bytes);

	if (grown != NULL)
		*(void **) pointer = grown;
	return grown != NULL;
}

static bool
reserve(row_block *b, llm_error *err)
{
	int32_t capacity = b->capacity ? b->capacity * 2 : 64;

	if (b->count < b->capacity)
		return true;
	if (!grow(&b->start, capacity * sizeof(uint8_t *)) ||
		!grow(&b->values, (size_t) capacity * b->columns * sizeof(value)) ||
		!grow(&b->record, capacity * sizeof(size_t)) || !grow(&b->record_bytes, capacity * sizeof(uint32_t)))
		return llm_fail(err, LLM_MEMORY, "out of memory for rows");
	b->capacity = capacity;
	return true;
}

/* Run a function for each tile; the first error in the order of rows is that of all. */
static bool
run_tiles(row_block *b, pool_tile run, pool *p, llm_error *err)
{
	int32_t tiles;

	b->tile_rows = (b->count + TILES - 1) / TILES;
	tiles = b->tile_rows > 0 ? (b->count + b->tile_rows - 1) / b->tile_rows : 0;
	for (int32_t i = 0; i < tiles; i++)
		b->tiles[i].err.code = LLM_OK;
	pool_run(p, run, b, tiles, NULL, NULL);
	for (int32_t i = 0; i < tiles; i++)
		if (b->tiles[i].err.code != LLM_OK)
		{
			*err = b->tiles[i].err;
			return false;
		}
	return true;
}

/* The row behind the last one of a tile. */
static int32_t
tile_end(const row_block *b, int64_t number)
{
	int64_t end = (number + 1) * b->tile_rows;

	return end < b->count ? (int32_t) end : b->count;
}

static uint32_t
row_length(const uint8_t *start)
{
	uint32_t length;

	memcpy(&length, start, sizeof(length));
	return length;
}

static void
unpack_tile(void *arg, int64_t number)
{
	row_block *b = arg;

	for (int32_t i = (int32_t) number * b->tile_rows; i < tile_end(b, number); i++)
		if (!value_unpack(b->start[i] + sizeof(uint32_t), row_length(b->start[i]),
						  b->values + (size_t) i * b->columns, b->columns, &b->tiles[number].err))
			return;
}

bool
row_block_unpack(row_block *b, const uint8_t *bytes, size_t size, pool *p, llm_error *err)
{
	size_t at = 0;

	b->count = 0;
	while (at < size)
	{
		if (size - at < sizeof(uint32_t) || size - at < BLOCK_ROW_BYTES(row_length(bytes + at)))
			return llm_fail(err, LLM_CORRUPT, "a row of the training file is longer than its block");
		if (!reserve(b, err))
			return false;
		b->start[b->count++] = bytes + at;
		at += BLOCK_ROW_BYTES(row_length(bytes + at));
	}
	return run_tiles(b, unpack_tile, p, err);
}

/* Encode row i behind the records of its tile. */
static bool
encode_row(row_block *b, int32_t i, tile *t)
{
	const value *row = row_block_row(b, i);
	const value *targets = row + b->encoder->count;

	for (;;)
	{
		size_t room = t->capacity - t->used;
		size_t need =
			encoder_record(b->encoder, b->target, row, targets, b->weights[i], t->bytes + t->used, room, &t->err);

		if (need == 0)
			return false;
		if (need <= room)
		{
			b->record[i] = t->used;
			b->record_bytes[i] = (uint32_t) need;
			t->used += need;
			return true;
		}
		if (!grow(&t->bytes, t->used + 2 * need))
			return llm_fail(&t->err, LLM_MEMORY, "out of memory for records");
		t->capacity = t->used + 2 * need;
	}
}

static void
encode_tile(void *arg, int64_t number)
{
	row_block *b = arg;
	tile *t = &b->tiles[number];

	t->used = 0;
	for (int32_t i = (int32_t) number * b->tile_rows; i < tile_end(b, number); i++)
	{
		b->record_bytes[i] = 0;
		if (b->weights[i] >= 0 && !encode_row(b, i, t))
			return;
	}
}

bool
row_block_encode(row_block *b, const encoder *e, const target *t, const float *weights, pool *p, llm_error *err)
{
	b->encoder = e;
	b->target = t;
	b->weights = weights;
	return run_tiles(b, encode_tile, encoder_has_tokens(e) ? NULL : p, err);
}

const uint8_t *
row_block_record(const row_block *b, int32_t i, uint32_t *bytes)
{
	*bytes = b->record_bytes[i];
	return b->tiles[i / b->tile_rows].bytes + b->record[i];
}
