/*
 * tokenizer_bulk.c
 *	  Many texts, or long ones, to tokens by several threads.
 *
 * Texts are cut into pieces where that changes no token.  Pieces are taken in waves: each thread
 * claims the next piece, encodes it with a tokenizer of its own and appends to a list of its own;
 * behind the wave the ids are put in the order of the texts.  A piece that is as long as a wave is
 * one by itself, encoded by the thread that polls.
 */
#include "tokenizer_bulk.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../engine/pool.h"
#include "tokenizer_block.h"

#define PIECE_BYTES ((size_t) 32 << 10)
#define WAVE_BYTES ((size_t) 1 << 20)
#define WAVE_PIECES 1024

typedef struct piece
{
	text_span span;
	int64_t text; /* its number */
	bool last;    /* of the text */
	int32_t lane;
	int64_t first; /* place of its ids in the lane's list, and how many */
	int64_t count;
} piece;

/* What one thread at a time works with. */
typedef struct lane
{
	tokenizer *tokenizer;
	token_list tokens;
	llm_error err;
} lane;

struct bulk_tokenizer
{
	int32_t threads;
	pool *pool;
	lane *lanes; /* (threads) */
	piece pieces[WAVE_PIECES];
	int32_t piece_count;
	_Atomic int32_t next; /* piece that nobody has claimed */
	_Atomic bool stopped;
	pthread_t owner; /* the thread that may ask poll */
	llm_poll poll;
	void *poll_arg;
};

/* llm_poll of all threads. */
static bool
is_stopped(void *arg)
{
	bulk_tokenizer *b = arg;

	if (b->poll != NULL && pthread_equal(pthread_self(), b->owner) && b->poll(b->poll_arg))
		atomic_store(&b->stopped, true);
	return atomic_load(&b->stopped);
}

static bool
open_lanes(bulk_tokenizer *b, const void *block, size_t bytes, llm_error *err)
{
	b->lanes = calloc(b->threads, sizeof(lane));
	if (b->lanes == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while opening a tokenizer");
	for (int32_t i = 0; i < b->threads; i++)
	{
		b->lanes[i].tokenizer = tokenizer_open(block, bytes, err);
		if (b->lanes[i].tokenizer == NULL)
			return false;
		tokenizer_set_poll(b->lanes[i].tokenizer, is_stopped, b);
	}
	b->pool = pool_new(b->threads, err);
	return b->pool != NULL;
}

bulk_tokenizer *
bulk_tokenizer_new(const void *block, size_t bytes, int32_t threads, llm_poll poll, void *poll_arg, llm_error *err)
{
	bulk_tokenizer *b = calloc(1, sizeof(bulk_tokenizer));

	if (b == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory while opening a tokenizer");
		return NULL;
	}
	b->threads = threads;
	b->poll = poll;
	b->poll_arg = poll_arg;
	if (open_lanes(b, block, bytes, err))
		return b;
	bulk_tokenizer_free(b);
	return NULL;
}

void
bulk_tokenizer_free(bulk_tokenizer *b)
{
	if (b == NULL)
		return;
	atomic_store(&b->stopped, true);
	pool_free(b->pool);
	for (int32_t i = 0; b->lanes != NULL && i < b->threads; i++)
	{
		tokenizer_free(b->lanes[i].tokenizer);
		free(b->lanes[i].tokens.id);
	}
	free(b->lanes);
	free(b);
}

/* The pieces of the next wave, from byte *at of text *text on. */
static void
take_pieces(bulk_tokenizer *b, const text_span *texts, int64_t count, int64_t *text, size_t *at)
{
	size_t bytes = 0;

	b->piece_count = 0;
	while (*text < count && b->piece_count < WAVE_PIECES && bytes < WAVE_BYTES)
	{
		text_span left = {texts[*text].text + *at, texts[*text].length - *at};

		left.length = tokenizer_cut(b->lanes[0].tokenizer, left.text, left.length, PIECE_BYTES);
		if (left.length >= WAVE_BYTES && b->piece_count > 0)
			return;
		bytes += left.length;
		*at += left.length;
		b->pieces[b->piece_count++] = (piece) {.span = left, .text = *text, .last = *at == texts[*text].length};
		if (*at == texts[*text].length)
		{
			*at = 0;
			(*text)++;
		}
	}
}

static void
run_lane(void *arg, int64_t number)
{
	bulk_tokenizer *b = arg;
	lane *l = &b->lanes[number];
	int32_t i;

	while (l->err.code == LLM_OK && !is_stopped(b) && (i = atomic_fetch_add(&b->next, 1)) < b->piece_count)
	{
		piece *p = &b->pieces[i];

		p->lane = (int32_t) number;
		p->first = l->tokens.count;
		if (tokenizer_encode(l->tokenizer, p->span.text, p->span.length, false, &l->tokens, &l->err))
			p->count = l->tokens.count - p->first;
	}
}

static bool
encode_pieces(bulk_tokenizer *b, llm_error *err)
{
	int32_t lanes = b->piece_count < b->threads ? b->piece_count : b->threads;

	for (int32_t i = 0; i < lanes; i++)
	{
		b->lanes[i].tokens.count = 0;
		b->lanes[i].err.code = LLM_OK;
	}
	atomic_store(&b->next, 0);
	pool_run(b->pool, run_lane, b, lanes, is_stopped, b);
	if (atomic_load(&b->stopped))
		return llm_fail(err, LLM_CANCELLED, "encoding texts was cancelled");
	for (int32_t i = 0; i < lanes; i++)
		if (b->lanes[i].err.code != LLM_OK)
		{
			*err = b->lanes[i].err;
			return false;
		}
	return true;
}

static bool
append_pieces(const bulk_tokenizer *b, token_list *out, int64_t *end, llm_error *err)
{
	for (int32_t i = 0; i < b->piece_count; i++)
	{
		const piece *p = &b->pieces[i];

		if (!token_list_reserve(out, p->count, err))
			return false;
		if (p->count > 0)
			memcpy(out->id + out->count, b->lanes[p->lane].tokens.id + p->first, p->count * sizeof(int32_t));
		out->count += p->count;
		if (p->last)
			end[p->text] = out->count;
	}
	return true;
}

bool
bulk_tokenizer_encode(bulk_tokenizer *b, const text_span *texts, int64_t count, token_list *out, int64_t *end,
					  llm_error *err)
{
	int64_t before = out->count, text = 0;
	size_t at = 0;

	b->owner = pthread_self();
	atomic_store(&b->stopped, false);
	while (text < count)
	{
		take_pieces(b, texts, count, &text, &at);
		if (!encode_pieces(b, err) || !append_pieces(b, out, end, err))
		{
			out->count = before;
			return false;
		}
	}
	return true;
}
