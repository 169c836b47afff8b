/*
 * unigram.c
 *	  SentencePiece's unigram tokenizer: of all ways to cut a text the most probable (Kudo 2018).
 *
 * Viterbi from left to right over the bytes at which a character begins.  Of equally probable
 * ways the one found first stays.  Characters that are no token have the lowest score of all and
 * are joined with their like.
 */
#include <string.h>

#include "tokenizer_block.h"
#include "unicode.h"

/* The best way to the byte before which it stands. */
typedef struct way
{
	double score;
	uint32_t from; /* where its last token begins */
	int32_t id;    /* -1: unknown character */
} way;

#define UNREACHED UINT32_MAX
#define TOKEN_BYTES_MAX 512 /* of one that is looked for, so that time stays linear */

static void
improve(const tokenizer *t, way *w, double score, uint32_t from, int32_t id)
{
	if (t->header->flags & FLAG_FLOAT_SCORES)
		score = (float) score;
	if (w->from == UNREACHED || score > w->score)
		*w = (way) {score, from, id};
}

/* All tokens that begin at one character. */
static void
extend(const tokenizer *t, const uint8_t *text, uint32_t at, uint32_t length, way *ways)
{
	uint32_t longest = t->longest < TOKEN_BYTES_MAX ? t->longest : TOKEN_BYTES_MAX;
	uint32_t most = length - at < longest ? length - at : longest;
	uint64_t hash = HASH_START;
	bool alone = false; /* the character is a token */
	int32_t character;

	utf8_read(text + at, text + length, &character);
	for (uint32_t n = 1; n <= most; n++)
	{
		uint64_t whole;
		int32_t id;

		hash = hash_bytes(hash, text + at + n - 1, 1);
		if (n < (uint32_t) character || (at + n < length && (text[at + n] & 0xC0) == 0x80))
			continue;
		whole = hash_end(hash);
		id = token_find(t, whole, "", 0, text + at, n, TYPES_NORMAL);
		if (id >= 0)
			improve(t, &ways[at + n], ways[at].score + t->score[id], at, id);
		alone = alone || (id >= 0 && n == (uint32_t) character);
		if (!token_goes_on(t, whole))
			break;
	}
	if (!alone)
		improve(t, &ways[at + character], ways[at].score + t->unknown_score, at, -1);
}

/* Append tokens between two places of the best way, unknown characters in one piece. */
static bool
append_ways(const tokenizer *t, const uint8_t *text, uint32_t length, way *ways, token_list *out, llm_error *err)
{
	uint32_t at = length, next;

	/* Turn the way around: `from` of each place becomes where its token ends. */
	for (uint32_t end = length, ends = length; end > 0; end = at)
	{
		at = ways[end].from;
		ways[end].from = ends;
		ends = end;
		if (at == 0)
			ways[0].from = end;
	}
	for (at = 0; at < length; at = next)
	{
		next = ways[at].from;
		if (ways[next].id >= 0)
		{
			if (!token_list_reserve(out, 1, err))
				return false;
			out->id[out->count++] = ways[next].id;
			continue;
		}
		while (next < length && ways[ways[next].from].id < 0)
			next = ways[next].from;
		if (!encode_missing(t, text + at, next - at, out, err))
			return false;
	}
	return true;
}

static bool
encode_piece(tokenizer *t, const uint8_t *text, uint32_t length, token_list *out, llm_error *err)
{
	way *ways = tokenizer_scratch(t, ((size_t) length + 1) * sizeof(way), err);
	int32_t character;

	if (ways == NULL)
		return false;
	for (uint32_t i = 0; i <= length; i++)
		ways[i] = (way) {0, UNREACHED, -1};
	for (uint32_t at = 0; at < length; at += character)
	{
		utf8_read(text + at, text + length, &character);
		extend(t, text, at, length, ways);
	}
	return append_ways(t, text, length, ways, out, err);
}

bool
unigram_encode(tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err)
{
	bool marked = (t->header->flags & (FLAG_MARKED_WORDS | FLAG_FLOAT_SCORES)) == FLAG_MARKED_WORDS &&
				  t->header->pretokenizer == PRETOKENIZER_NONE;
	pretokenize next_piece = marked ? marked_word : pretokenizer_scanner((pretokenizer) t->header->pretokenizer);
	const uint8_t *end = text + length;
	bool ok = true;

	while (ok && text < end)
	{
		size_t piece = next_piece(text, end);

		ok = encode_goes_on(t, err) && encode_piece(t, text, (uint32_t) piece, out, err);
		text += piece;
	}
	return ok;
}
