/*
 * wordpiece.c
 *	  BERT's tokenizer: words by white space and punctuation, then the longest pieces from the left.
 *
 * The steps are those of BERT's BasicTokenizer and of its descendants, each if the flags have it
 * and in this order: control characters go, ideographs become words of their own, accents go
 * (canonical decomposition without its Mn), letters become small.  All of them look at one
 * character only, so a word is collected in one pass.
 */
#include <string.h>

#include "normalise.h"

#define WORD_BYTES (WORDPIECE_CHARACTERS * UTF8_BYTES_MAX)

typedef struct word
{
	tokenizer *tokenizer;
	token_list *out;
	llm_error *err;
	int32_t characters; /* may be more than are kept */
	uint32_t length;
	uint8_t text[WORD_BYTES];
	bool failed;
} word;

static void
add_token(word *w, int32_t id)
{
	if (id < 0)
		return;
	if (token_list_reserve(w->out, 1, w->err))
		w->out->id[w->out->count++] = id;
	else
		w->failed = true;
}

/*
 * The longest piece that the word has from `start` on, or -1; *end is where it ends.  A running
 * hash gives those of all beginnings in one pass.
 */
static int32_t
longest_piece(const word *w, uint32_t start, uint32_t *end)
{
	const char *mark = start > 0 ? CONTINUATION : "";
	size_t mark_length = strlen(mark);
	uint64_t hash = hash_bytes(HASH_START, mark, mark_length), hashes[WORD_BYTES];
	uint32_t most = w->length - start;

	if (most + mark_length > w->tokenizer->longest)
		most = w->tokenizer->longest > mark_length ? (uint32_t) (w->tokenizer->longest - mark_length) : 0;
	for (uint32_t i = 0; i < most; i++)
		hashes[i] = hash = hash_bytes(hash, w->text + start + i, 1);
	for (uint32_t n = most; n > 0; n--)
	{
		int32_t id;

		if (start + n < w->length && (w->text[start + n] & 0xC0) == 0x80)
			continue;
		id = token_find(w->tokenizer, hash_end(hashes[n - 1]), mark, mark_length, w->text + start, n, TYPES_NORMAL);
		if (id >= 0)
		{
			*end = start + n;
			return id;
		}
	}
	return -1;
}

/* Append the pieces of the word, or the unknown token, and begin the next. */
static void
finish_word(word *w)
{
	int64_t before = w->out->count;
	bool known = w->characters <= WORDPIECE_CHARACTERS;

	for (uint32_t at = 0; known && at < w->length;)
	{
		int32_t id = longest_piece(w, at, &at);

		known = id >= 0;
		add_token(w, id);
	}
	if (!known)
	{
		w->out->count = before;
		add_token(w, w->tokenizer->header->special[SPECIAL_UNKNOWN]);
	}
	w->failed = w->failed || !encode_goes_on(w->tokenizer, w->err);
	w->characters = 0;
	w->length = 0;
}

static void
add_character(word *w, int32_t c)
{
	if (++w->characters <= WORDPIECE_CHARACTERS)
		w->length += utf8_write(c, w->text + w->length);
}

static void
add_alone(word *w, int32_t c)
{
	finish_word(w);
	add_character(w, c);
	finish_word(w);
}

/* Two characters have lost their class since Unicode 8. */
bool
bert_nonspacing(int32_t c)
{
	return ((char_class(c) & CHAR_NONSPACING) && !(char_role(c) & ROLE_NEWER)) || c == 0x1734;
}

static bool
is_punctuation(int32_t c)
{
	return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126) ||
		   ((char_class(c) & CHAR_PUNCTUATION) && !(char_role(c) & ROLE_NEWER)) || c == 0x166D;
}

/* The blocks that BERT takes for Chinese; kana and hangul are not among them. */
bool
bert_ideograph(int32_t c)
{
	return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0xF900 && c <= 0xFAFF) ||
		   (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2CEAF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* A character whose accents are gone already. */
static void
add_base(word *w, int32_t c, uint32_t flags)
{
	if (flags & FLAG_LOWERCASE)
	{
		if (c == 0x130 && w->characters < WORDPIECE_CHARACTERS) /* the one whose small form is two */
		{
			add_character(w, 'i');
			c = 0x307;
		}
		c = char_lower(c);
	}
	if (char_class(c) & CHAR_SPACE)
		finish_word(w);
	else if (is_punctuation(c))
		add_alone(w, c);
	else
		add_character(w, c);
}

static void
add_any(word *w, int32_t c, uint32_t flags)
{
	bool alone = (flags & FLAG_SPLIT_CJK) && bert_ideograph(c);
	int32_t part[DECOMPOSED_MAX], parts = 1;

	if (alone)
		finish_word(w);
	part[0] = c;
	if (flags & FLAG_STRIP_ACCENTS)
		parts = unicode_decompose(c, part);
	for (int32_t i = 0; i < parts; i++)
		if (!(flags & FLAG_STRIP_ACCENTS) || !bert_nonspacing(part[i]))
			add_base(w, part[i], flags);
	if (alone)
		finish_word(w);
}

bool
bert_drops(int32_t c)
{
	return c == 0 || c >= INVALID_BYTE || c == REPLACEMENT_CHARACTER ||
		   ((char_class(c) & CHAR_CONTROL) && !(char_role(c) & ROLE_NEWER) && c != '\t' && c != '\n' && c != '\r');
}

bool
wordpiece_encode(tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err)
{
	const uint8_t *end = text + length;
	uint32_t flags = t->header->flags;
	word w;

	w.tokenizer = t;
	w.out = out;
	w.err = err;
	w.characters = 0;
	w.length = 0;
	w.failed = false;
	for (int32_t bytes; text < end && !w.failed; text += bytes)
	{
		int32_t c = utf8_read(text, end, &bytes);

		if (!(flags & FLAG_CLEAN_TEXT) || !bert_drops(c))
			add_any(&w, c, flags);
	}
	finish_word(&w);
	return !w.failed;
}
