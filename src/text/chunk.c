/*
 * chunk.c
 *	  A long text in pieces that a model reads whole.
 *
 * Tokens of a part are not those of the whole text that lie in it, so every length is measured by
 * encoding the part.  How far a piece can reach is guessed from the bytes that a token took so far,
 * and two or three guesses come near enough; the cut lies before that anyway.
 */
#include "chunk.h"

#include <stdlib.h>

#include "unicode.h"

#define FIRST_GUESS 4   /* bytes of a token */
#define CLOSE_ENOUGH 16 /* a reach is good when it misses less than this part of the piece */

typedef struct chunker
{
	tokenizer *t;
	const uint8_t *text;
	size_t length;
	int32_t most;
	int32_t overlap;
	double token_bytes; /* as the last piece had them */
	token_list tokens;  /* of the part that was measured last */
} chunker;

/* ---- where a text can be cut ---- */

/* The better, the larger. */
typedef enum place
{
	PLACE_NONE, /* within what is seen as one character */
	PLACE_CHARACTER,
	PLACE_WORD,
	PLACE_SENTENCE,
	PLACE_PARAGRAPH
} place;

#define PLACES (PLACE_PARAGRAPH + 1)
#define ZERO_WIDTH_JOINER 0x200D

/* What lies before a position. */
typedef struct reading
{
	size_t at;
	bool space;    /* white space */
	int newlines;  /* in it */
	bool ended;    /* a sentence, before that */
	bool wide_end; /* by a character that no space follows */
	bool joined;   /* the next character belongs to the last one */
} reading;

static bool
is_one_of(int32_t c, const int32_t *list)
{
	while (*list != 0 && *list != c)
		list++;
	return *list != 0;
}

static void
pass_over(reading *r, int32_t c)
{
	static const int32_t ends[] = {'.', '!', '?', 0x61F, 0x6D4, 0x964, 0x2026, 0};
	static const int32_t wide_ends[] = {0x3002, 0xFF01, 0xFF1F, 0xFF61, 0};
	static const int32_t closing[] = {'"', '\'', ')', ']', '}', 0xBB, 0x2019, 0x201D, 0x300D, 0x300F, 0xFF09, 0};

	r->joined = c == ZERO_WIDTH_JOINER;
	if (char_class(c) & CHAR_SPACE)
	{
		r->newlines = (r->space ? r->newlines : 0) + (c == '\n');
		r->space = true;
		return;
	}
	r->space = false;
	if (is_one_of(c, closing))
		return;
	r->wide_end = is_one_of(c, wide_ends);
	r->ended = r->wide_end || is_one_of(c, ends);
}

/* What kind of place lies behind what was read and before character c. */
static place
place_before(const reading *r, int32_t c)
{
	if (r->joined || c == ZERO_WIDTH_JOINER || (char_class(c) & CHAR_NONSPACING))
		return PLACE_NONE;
	if (char_class(c) & CHAR_SPACE)
		return PLACE_CHARACTER;
	if (!r->space)
		return r->wide_end ? PLACE_SENTENCE : PLACE_CHARACTER;
	return r->newlines > 1 ? PLACE_PARAGRAPH : r->newlines == 1 || r->ended ? PLACE_SENTENCE : PLACE_WORD;
}

/* Read on by one character; the place behind it. */
static place
read_on(const chunker *c, reading *r)
{
	const uint8_t *end = c->text + c->length;
	int32_t bytes;

	pass_over(r, utf8_read(c->text + r->at, end, &bytes));
	r->at += bytes;
	return r->at == c->length ? PLACE_PARAGRAPH : place_before(r, utf8_read(c->text + r->at, end, &bytes));
}

/* The last place of the best kind in (from, to], reading from `begin`; `to` when there is none. */
static size_t
best_cut(const chunker *c, size_t begin, size_t from, size_t to)
{
	size_t last[PLACES] = {0};
	reading r = {.at = begin};

	while (r.at < to)
	{
		place p = read_on(c, &r);

		if (r.at > from && r.at <= to)
			last[p] = r.at;
	}
	for (place p = PLACE_PARAGRAPH; p > PLACE_NONE; p--)
		if (last[p] > 0)
			return last[p];
	return to;
}

/*
 * The first place at `from` or behind it, before `to`, where a word begins, or any character in a piece
 * that has no words; else `to`.
 */
static size_t
first_word(const chunker *c, size_t begin, size_t from, size_t to)
{
	size_t character = to;
	bool words = false;
	reading r = {.at = begin};

	while (r.at < to)
	{
		place p = read_on(c, &r);

		if (r.at >= to)
			break;
		words = words || p >= PLACE_WORD;
		if (r.at >= from && p >= PLACE_WORD)
			return r.at;
		if (r.at >= from && p == PLACE_CHARACTER && character == to)
			character = r.at;
	}
	return words ? to : character;
}

/* The next position, at `at` or behind it, where a character begins. */
static size_t
character_at(const chunker *c, size_t begin, size_t at)
{
	size_t from = at > begin + UTF8_BYTES_MAX ? at - UTF8_BYTES_MAX : begin;
	int32_t bytes;

	/* Continuation bytes that belong to nothing are characters; walking from any place finds the next beginning. */
	while (from < at && (c->text[from] & 0xC0) == 0x80)
		from++;
	while (from < at)
	{
		utf8_read(c->text + from, c->text + c->length, &bytes);
		from += bytes;
	}
	return from;
}

/* ---- how far a piece reaches ---- */

static bool
measure(chunker *c, size_t begin, size_t end, int64_t *tokens, llm_error *err)
{
	c->tokens.count = 0;
	if (!tokenizer_encode(c->t, (const char *) c->text + begin, end - begin, false, &c->tokens, err))
		return false;
	*tokens = c->tokens.count;
	return true;
}

/* Where, between what fits and what does not, the limit may lie. */
static size_t
guess(const chunker *c, size_t begin, size_t fits, int64_t fits_tokens, size_t fails, int64_t fails_tokens, int round)
{
	double left = (double) (c->most - fits_tokens), bytes;

	if (fails > c->length) /* not known */
		bytes = fits > begin ? left * (fits - begin) / (fits_tokens > 0 ? fits_tokens : 1) + (fits - begin) / 8.0
							 : left * c->token_bytes;
	else if (round % 3 == 2)
		bytes = (fails - fits) / 2.0;
	else
		bytes = (fails - fits) * (left + 0.5) / (double) (fails_tokens - fits_tokens);
	bytes = bytes < 1 ? 1 : bytes;
	return bytes < (double) (fails - fits) ? fits + (size_t) bytes : fails - 1;
}

/* An end, near the greatest, with which a piece that begins there has at most c->most tokens; begin when none has. */
static bool
reach(chunker *c, size_t begin, size_t *end, llm_error *err)
{
	size_t fits = begin, fails = c->length + 1;
	int64_t fits_tokens = 0, fails_tokens = 0;

	for (int round = 0; fits < c->length; round++)
	{
		size_t at;
		int64_t tokens;

		if (fails - fits < 2 || (fails <= c->length && fails - fits <= (fits - begin) / CLOSE_ENOUGH))
			break;
		at = character_at(c, begin, guess(c, begin, fits, fits_tokens, fails, fails_tokens, round));
		if (at >= fails) /* the guess lies in the last character before it */
			at = character_at(c, begin, fits + 1);
		if (at >= fails)
			break;
		if (!measure(c, begin, at, &tokens, err))
			return false;
		if (tokens > c->most)
		{
			fails = at;
			fails_tokens = tokens;
			continue;
		}
		fits = at;
		fits_tokens = tokens;
	}
	*end = fits;
	return true;
}

/* Cut a piece that begins at p->start and ends behind `behind`; p->length stays 0 when none does. */
static bool
cut_piece(chunker *c, text_piece *p, size_t behind, llm_error *err)
{
	size_t to;

	if (!reach(c, p->start, &to, err))
		return false;
	while (to > behind)
	{
		size_t half = p->start + (to - p->start) / 2;
		size_t end = to == c->length ? to : best_cut(c, p->start, half > behind ? half : behind, to);
		int64_t tokens;

		if (!measure(c, p->start, end, &tokens, err))
			return false;
		if (tokens <= c->most)
		{
			p->length = end - p->start;
			p->tokens = (int32_t) tokens;
			return true;
		}
		to = character_at(c, p->start, half); /* a shorter part that has more tokens: rare */
		if (to >= end)
			break;
	}
	return true;
}

/* ---- all of it ---- */

/* Where the piece behind this one begins. */
static bool
next_start(chunker *c, const text_piece *p, size_t *start, llm_error *err)
{
	size_t end = p->start + p->length;
	size_t back = (size_t) ((double) p->length * c->overlap / (p->tokens > 0 ? p->tokens : 1));
	int64_t tokens = c->overlap + 1;

	if (back >= p->length)
		back = p->length - 1;
	while (tokens > c->overlap && back > 0)
	{
		*start = first_word(c, p->start, end - back, end);
		if (!measure(c, *start, end, &tokens, err))
			return false;
		back = (end - *start) / 2;
	}
	if (tokens > c->overlap)
		*start = end;
	return true;
}

static bool
append_piece(piece_list *list, const text_piece *p, llm_error *err)
{
	if (list->count == list->capacity)
	{
		int64_t capacity = list->capacity ? 2 * list->capacity : 16;
		text_piece *piece = realloc(list->piece, capacity * sizeof(text_piece));

		if (piece == NULL)
			return llm_fail(err, LLM_MEMORY, "out of memory for %lld pieces of a text", (long long) capacity);
		list->piece = piece;
		list->capacity = capacity;
	}
	list->piece[list->count++] = *p;
	return true;
}

static bool
chunk_all(chunker *c, piece_list *out, llm_error *err)
{
	size_t end = 0;

	for (text_piece p = {0}; end < c->length; p.length = 0)
	{
		if (!cut_piece(c, &p, end, err))
			return false;
		if (p.length == 0 && p.start < end) /* what is repeated leaves no room for more */
		{
			p.start = end;
			if (!cut_piece(c, &p, end, err))
				return false;
		}
		if (p.length == 0)
			return llm_fail(err, LLM_INVALID, "a character takes more than %d tokens", c->most) ||
				   llm_hint(err, "Use more max_tokens.");
		if (!append_piece(out, &p, err))
			return false;
		end = p.start + p.length;
		if (p.tokens > 0)
			c->token_bytes = (double) p.length / p.tokens;
		if (end < c->length && !next_start(c, &p, &p.start, err))
			return false;
	}
	return true;
}

bool
text_chunk(tokenizer *t, const char *text, size_t length, int32_t most, int32_t overlap, piece_list *out,
		   llm_error *err)
{
	chunker c = {.t = t,
				 .text = (const uint8_t *) text,
				 .length = length,
				 .most = most,
				 .overlap = overlap,
				 .token_bytes = FIRST_GUESS};
	bool ok;

	out->count = 0;
	ok = chunk_all(&c, out, err);
	free(c.tokens.id);
	return ok;
}
