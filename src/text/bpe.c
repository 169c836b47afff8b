/*
 * bpe.c
 *	  Byte pair encoding: the pair of lowest rank is merged first, the leftmost of equals.
 *
 * A short word is an array in which the lowest rank is searched again after each merge; a long
 * one is a linked list with a heap, so that a text without spaces takes no quadratic time.  Both
 * give the same tokens.  Words of a text repeat, so a small direct-mapped cache holds the tokens
 * of short ones.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_block.h"
#include "unicode.h"

#define SHORT_SYMBOLS 64
#define NO_RANK INT32_MAX

#define CACHE_WORDS 8192 /* power of two */
#define CACHED_BYTES 22
#define CACHED_TOKENS 10

/* One cache line. */
typedef struct cached_word
{
	uint8_t length; /* 0: empty */
	uint8_t count;
	uint8_t text[CACHED_BYTES];
	int32_t id[CACHED_TOKENS];
} cached_word;

typedef struct word_cache
{
	cached_word word[CACHE_WORDS];
} word_cache;

/* ---- short words ---- */

typedef struct short_word
{
	int32_t count;
	int32_t id[SHORT_SYMBOLS];
	int32_t rank[SHORT_SYMBOLS];   /* of the pair that begins here, NO_RANK at the last symbol */
	int32_t merged[SHORT_SYMBOLS]; /* what that pair becomes */
} short_word;

static inline void
rank_pair(const tokenizer *t, short_word *w, int32_t i)
{
	const merge_slot *slot = i + 1 < w->count ? merge_find(t, w->id[i], w->id[i + 1]) : NULL;

	w->rank[i] = slot ? slot->rank : NO_RANK;
	w->merged[i] = slot ? slot->id : -1;
}

static inline int32_t
lowest_rank(const short_word *w)
{
	int32_t best = 0;

	for (int32_t i = 1; i < w->count; i++)
		if (w->rank[i] < w->rank[best])
			best = i;
	return best;
}

static void
close_gap(short_word *w, int32_t gap)
{
	size_t behind = (size_t) (w->count - gap - 1) * sizeof(int32_t);

	memmove(w->id + gap, w->id + gap + 1, behind);
	memmove(w->rank + gap, w->rank + gap + 1, behind);
	memmove(w->merged + gap, w->merged + gap + 1, behind);
	w->count--;
}

static void
merge_short(const tokenizer *t, short_word *w)
{
	for (int32_t i = 0; i < w->count; i++)
		rank_pair(t, w, i);
	while (w->count > 1)
	{
		int32_t best = lowest_rank(w);

		if (w->rank[best] == NO_RANK)
			break;
		w->id[best] = w->merged[best];
		close_gap(w, best + 1);
		rank_pair(t, w, best);
		if (best > 0)
			rank_pair(t, w, best - 1);
	}
}

/* ---- long words ---- */

/* A symbol of a linked list; dead ones have rank NO_RANK. */
typedef struct symbol
{
	int32_t id;
	int32_t rank; /* of the pair that begins here */
	int32_t merged;
	int32_t previous;
	int32_t next; /* -1: the last */
} symbol;

/* Smallest first: rank in the high half, place in the low one, so that ties go to the left. */
typedef struct rank_heap
{
	uint64_t *item;
	int64_t count;
} rank_heap;

static void
heap_push(rank_heap *h, uint64_t item)
{
	int64_t at = h->count++;

	for (; at > 0 && h->item[(at - 1) / 2] > item; at = (at - 1) / 2)
		h->item[at] = h->item[(at - 1) / 2];
	h->item[at] = item;
}

static uint64_t
heap_pop(rank_heap *h)
{
	uint64_t top = h->item[0], last = h->item[--h->count];
	int64_t at = 0;

	for (int64_t child = 1; child < h->count; at = child, child = 2 * at + 1)
	{
		if (child + 1 < h->count && h->item[child + 1] < h->item[child])
			child++;
		if (h->item[child] >= last)
			break;
		h->item[at] = h->item[child];
	}
	h->item[at] = last;
	return top;
}

static void
push_pair(const tokenizer *t, symbol *s, int32_t at, rank_heap *heap)
{
	const merge_slot *slot = s[at].next >= 0 ? merge_find(t, s[at].id, s[s[at].next].id) : NULL;

	s[at].rank = slot ? slot->rank : NO_RANK;
	s[at].merged = slot ? slot->id : -1;
	if (slot)
		heap_push(heap, (uint64_t) slot->rank << 32 | (uint32_t) at);
}

/* Room in the heap for each first pair and two more for each merge. */
#define LONG_SYMBOL_BYTES (sizeof(symbol) + 3 * sizeof(uint64_t))

static bool
merge_long(tokenizer *t, symbol *s, int32_t count, uint64_t *heap_room, llm_error *err)
{
	rank_heap heap = {heap_room, 0};

	for (int32_t i = 0; i < count; i++)
	{
		s[i].previous = i - 1;
		s[i].next = i + 1 < count ? i + 1 : -1;
	}
	for (int32_t i = 0; i < count; i++)
	{
		if (!encode_goes_on(t, err))
			return false;
		push_pair(t, s, i, &heap);
	}
	while (heap.count > 0)
	{
		uint64_t item = heap_pop(&heap);
		int32_t at = (int32_t) (uint32_t) item, gone = s[at].next;

		if (!encode_goes_on(t, err))
			return false;
		/* Pairs that have changed since are still in the heap. */
		if (s[at].rank != (int32_t) (item >> 32) || gone < 0)
			continue;
		s[at].id = s[at].merged;
		s[at].next = s[gone].next;
		s[gone].rank = NO_RANK;
		if (s[at].next >= 0)
			s[s[at].next].previous = at;
		push_pair(t, s, at, &heap);
		if (s[at].previous >= 0)
			push_pair(t, s, s[at].previous, &heap);
	}
	return true;
}

/* ---- words of bytes ---- */

static bool
append(token_list *out, const int32_t *id, int64_t count, llm_error *err)
{
	if (!token_list_reserve(out, count, err))
		return false;
	if (count > 0)
		memcpy(out->id + out->count, id, count * sizeof(int32_t));
	out->count += count;
	return true;
}

static int32_t
byte_symbol(const tokenizer *t, uint8_t byte)
{
	return t->byte[byte] >= 0 ? t->byte[byte] : t->header->special[SPECIAL_UNKNOWN];
}

static bool
encode_short(const tokenizer *t, const uint8_t *word, size_t length, token_list *out, llm_error *err)
{
	short_word w;

	w.count = 0;
	for (size_t i = 0; i < length; i++)
	{
		int32_t id = byte_symbol(t, word[i]);

		if (id >= 0)
			w.id[w.count++] = id;
	}
	merge_short(t, &w);
	return append(out, w.id, w.count, err);
}

/* Merge `count` symbols whose ids are set, in scratch memory, and append what is left. */
static bool
finish_long(tokenizer *t, symbol *s, int32_t count, size_t room, token_list *out, llm_error *err)
{
	if (count == 0)
		return true;
	if (!merge_long(t, s, count, (uint64_t *) (s + (room + (room & 1))), err) || !token_list_reserve(out, count, err))
		return false;
	for (int32_t i = 0; i >= 0; i = s[i].next)
		out->id[out->count++] = s[i].id;
	return true;
}

static symbol *
long_room(tokenizer *t, size_t symbols, llm_error *err)
{
	return tokenizer_scratch(t, (symbols + 1) * LONG_SYMBOL_BYTES, err);
}

static bool
encode_long(tokenizer *t, const uint8_t *word, size_t length, token_list *out, llm_error *err)
{
	symbol *s = long_room(t, length, err);
	int32_t count = 0;

	if (s == NULL)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		s[count].id = byte_symbol(t, word[i]);
		count += s[count].id >= 0;
	}
	return finish_long(t, s, count, length, out, err);
}

/* ---- words of characters ---- */

/* Bytes of the characters at text that are no token: of the first, or with the flag of all in a row. */
static size_t
missing_run(const tokenizer *t, const uint8_t *text, const uint8_t *end)
{
	const uint8_t *at = text;
	int32_t bytes, id = -1;

	while (at < end && id < 0 && (at == text || (t->header->flags & FLAG_FUSE_UNKNOWN)))
	{
		utf8_read(at, end, &bytes);
		id = token_find(t, token_hash(at, bytes), "", 0, at, bytes, TYPES_NORMAL);
		at += id < 0 ? bytes : 0;
	}
	return (size_t) (at - text);
}

/*
 * Symbols are the characters that are tokens; the others become tokens by encode_missing(), and
 * a pair never crosses them.
 */
static bool
encode_characters(tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err)
{
	symbol *s = long_room(t, length, err);
	const uint8_t *end = text + length;
	int32_t count = 0, bytes;

	for (; s != NULL && text < end; text += bytes)
	{
		int32_t id;

		utf8_read(text, end, &bytes);
		id = token_find(t, token_hash(text, bytes), "", 0, text, bytes, TYPES_NORMAL);
		if (id >= 0)
		{
			s[count++].id = id;
			continue;
		}
		bytes = (int32_t) missing_run(t, text, end);
		if (!finish_long(t, s, count, length, out, err) || !encode_missing(t, text, bytes, out, err))
			return false;
		count = 0;
	}
	return s != NULL && finish_long(t, s, count, length, out, err);
}

/* ---- all words of a text ---- */

static bool
encode_word(tokenizer *t, const uint8_t *word, size_t length, token_list *out, llm_error *err)
{
	if (t->header->flags & FLAG_IGNORE_MERGES)
	{
		int32_t id = token_find(t, token_hash(word, length), "", 0, word, length, TYPES_NORMAL);

		if (id >= 0)
			return append(out, &id, 1, err);
	}
	if (t->header->flags & FLAG_CHARACTERS)
		return encode_characters(t, word, length, out, err);
	return length <= SHORT_SYMBOLS ? encode_short(t, word, length, out, err) : encode_long(t, word, length, out, err);
}

static bool
encode_cached(tokenizer *t, const uint8_t *word, size_t length, token_list *out, llm_error *err)
{
	cached_word *c = &t->cache->word[hash_of(word, length) & (CACHE_WORDS - 1)];
	int64_t before = out->count, count;

	if (c->length == length && memcmp(c->text, word, length) == 0)
		return append(out, c->id, c->count, err);
	if (!encode_word(t, word, length, out, err))
		return false;
	count = out->count - before;
	if (count > 0 &&
		count <= CACHED_TOKENS) /* bytes that no token has make none, in a list that may have no memory yet */
	{
		c->length = (uint8_t) length;
		c->count = (uint8_t) count;
		memcpy(c->text, word, length);
		memcpy(c->id, out->id + before, count * sizeof(int32_t));
	}
	return true;
}

bool
bpe_encode(tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err)
{
	bool marked = (t->header->flags & FLAG_CHARACTERS) && (t->header->flags & FLAG_MARKED_WORDS) &&
				  t->header->pretokenizer == PRETOKENIZER_NONE;
	pretokenize next_word = marked ? marked_word : pretokenizer_scanner((pretokenizer) t->header->pretokenizer);
	const uint8_t *end = text + length;
	bool ok = true;

	if (t->cache == NULL)
		t->cache = calloc(1, sizeof(word_cache));
	if (t->cache == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while encoding text");
	while (ok && text < end)
	{
		size_t word = next_word(text, end);

		ok = encode_goes_on(t, err) &&
			 (word <= CACHED_BYTES ? encode_cached(t, text, word, out, err) : encode_word(t, text, word, out, err));
		text += word;
	}
	return ok;
}
