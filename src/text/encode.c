/*
 * encode.c
 *	  What all kinds of tokenizer share: cutting out added tokens, cutting long texts, decoding.
 */
#include <string.h>

#include "normalise.h"
#include "steps.h"
#include "unicode.h"

/* ---- the two kinds that need no more than this ---- */

static bool
encode_bytes(tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err)
{
	if (!token_list_reserve(out, (int64_t) length, err))
		return false;
	for (size_t i = 0; i < length; i++)
		if (t->byte[text[i]] >= 0)
			out->id[out->count++] = t->byte[text[i]];
		else if (!encode_missing(t, text + i, 1, out, err) || !token_list_reserve(out, (int64_t) (length - i), err))
			return false;
	return true;
}

static bool
encode_characters(tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err)
{
	const uint8_t *end = text + length;
	int32_t bytes;

	for (; text < end; text += bytes)
	{
		int32_t id;

		if (!encode_goes_on(t, err))
			return false;
		utf8_read(text, end, &bytes);
		id = token_find(t, token_hash(text, bytes), "", 0, text, bytes, TYPES_NORMAL);
		if (id < 0 && !encode_missing(t, text, bytes, out, err))
			return false;
		if (id >= 0 && !token_list_reserve(out, 1, err))
			return false;
		if (id >= 0)
			out->id[out->count++] = id;
	}
	return true;
}

typedef bool (*encode_text)(tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err);

static const encode_text encoders[TOKENIZER_KINDS] = {
	[TOKENIZER_BYTES] = encode_bytes,     [TOKENIZER_CHARACTERS] = encode_characters,
	[TOKENIZER_BPE] = bpe_encode,         [TOKENIZER_WORDPIECE] = wordpiece_encode,
	[TOKENIZER_UNIGRAM] = unigram_encode,
};

/* ---- from text to tokens: added ones are cut out, what is between them is encoded ---- */

/* A text in which no more is looked for. */
static bool
encode_piece(tokenizer *t, bool starts, const uint8_t *text, size_t length, token_list *out, llm_error *err)
{
	const uint32_t changes = FLAG_NFC | FLAG_PREFIX_SPACE | FLAG_SPACES_ONCE | FLAG_SPACE_MARKS;
	const block_header *h = t->header;
	bool cut = h->kind == TOKENIZER_BPE || h->kind == TOKENIZER_UNIGRAM;

	if (t->step_count > 0)
	{
		if (!steps_run(t, t->cut_step, t->step_count, starts, &text, &length, err))
			return false;
	}
	else if (cut && (t->character_map != NULL || (h->flags & changes)))
	{
		if (!text_normalise(t, text, length, err))
			return false;
		text = (const uint8_t *) t->normal.bytes;
		length = t->normal.size;
	}
	return length == 0 || encoders[h->kind](t, text, length, out, err);
}

typedef bool (*encode_between)(tokenizer *t, bool starts, const uint8_t *text, size_t length, bool special,
							   token_list *out, llm_error *err);

/* The tokens of a set where they stand, and what `between` makes of the rest. */
static bool
encode_around(tokenizer *t, const added_set *set, bool starts, const uint8_t *text, size_t length, bool special,
			  encode_between between, token_list *out, llm_error *err)
{
	added_cursor at = {0, 0};
	added_match match;

	while (added_next(t, set, text, length, special, &at, &match))
	{
		if (match.start > at.done &&
			!between(t, starts && at.done == 0, text + at.done, match.start - at.done, special, out, err))
			return false;
		if (!token_list_append(out, match.id, err))
			return false;
		at.done = match.end;
	}
	return at.done >= length ||
		   between(t, starts && at.done == 0, text + at.done, length - at.done, special, out, err);
}

static bool
encode_normal(tokenizer *t, bool starts, const uint8_t *text, size_t length, bool special, token_list *out,
			  llm_error *err)
{
	return encode_piece(t, starts, text, length, out, err);
}

/* Text without tokens that are looked for as it comes. */
static bool
encode_raw(tokenizer *t, bool starts, const uint8_t *text, size_t length, bool special, token_list *out,
		   llm_error *err)
{
	if (!steps_run(t, 0, t->cut_step, starts, &text, &length, err))
		return false;
	if (!added_any(&t->normalised, special))
		return encode_piece(t, starts, text, length, out, err);
	t->whole.size = 0;
	if (!text_buffer_add(&t->whole, text, length, err))
		return false;
	return encode_around(t, &t->normalised, starts, (const uint8_t *) t->whole.bytes, length, special, encode_normal,
						 out, err);
}

bool
tokenizer_encode(tokenizer *t, const char *text, size_t length, bool parse_special, token_list *out, llm_error *err)
{
	int64_t before = out->count;

	if (length > TOKENIZER_TEXT_MAX)
		return llm_fail(err, LLM_INVALID, "a text of %zu bytes is too long to encode", length);
	if (encode_around(t, &t->raw, true, (const uint8_t *) text, length, parse_special, encode_raw, out, err))
		return true;
	out->count = before;
	return false;
}

bool
tokenizer_encode_marked(tokenizer *t, const char *text, const char *marks, size_t length, token_list *out,
						llm_error *err)
{
	bool ok;

	t->marked = (const uint8_t *) text;
	t->marks = marks;
	ok = tokenizer_encode(t, text, length, true, out, err);
	t->marks = NULL;
	return ok;
}

/* ---- cutting long texts ---- */

/* Does a character that is no space end right before text[at]? */
static bool
ends_visibly(const uint8_t *text, size_t at)
{
	size_t back = 1;
	int32_t bytes, c;

	while (back < UTF8_BYTES_MAX && back < at && (text[at - back] & 0xC0) == 0x80)
		back++;
	c = utf8_read(text + at - back, text + at, &bytes);
	return bytes == (int32_t) back && (char_class(c) & CHAR_SPACE) == 0;
}

/*
 * Words begin where white space of ASCII stands behind something else, whatever comes
 * before or after: see gpt2_piece().  Other rules, and what changes a text first, look further.
 */
size_t
tokenizer_cut(const tokenizer *t, const char *text, size_t length, size_t wanted)
{
	const block_header *h = t->header;
	bool words = h->kind == TOKENIZER_BPE && h->pretokenizer == PRETOKENIZER_GPT2 &&
				 (h->flags & (FLAG_CHARACTERS | FLAG_NFC | FLAG_PREFIX_SPACE | FLAG_SPACES_ONCE)) == 0 &&
				 t->character_map == NULL;

	if (t->raw.always || t->normalised.always || t->step_count > 0 ||
		(!words && h->kind != TOKENIZER_BYTES && h->kind != TOKENIZER_CHARACTERS))
		return length;
	for (size_t i = wanted > 0 ? wanted : 1; i < length; i++)
		if ((text[i] == ' ' || (text[i] >= '\t' && text[i] <= '\r')) && ends_visibly((const uint8_t *) text, i))
			return i;
	return length;
}

/* ---- decoding ---- */

static bool
decode_wordpiece(const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	size_t mark = strlen(CONTINUATION);

	if (length > mark && memcmp(text, CONTINUATION, mark) == 0)
		return text_buffer_add(out, text + mark, length - mark, err);
	return (out->size == 0 || text_buffer_add(out, " ", 1, err)) && text_buffer_add(out, text, length, err);
}

static bool
decode_token(const tokenizer *t, int32_t id, text_buffer *out, llm_error *err)
{
	const uint8_t *text = t->text + t->start[id];
	size_t length = token_length(t, id);

	if (t->header->kind == TOKENIZER_WORDPIECE)
		return decode_wordpiece(text, length, out, err);
	if ((t->header->flags & FLAG_PREFIX_SPACE) && out->size == 0 && length > 0 && text[0] == ' ')
		return text_buffer_add(out, text + 1, length - 1, err);
	return text_buffer_add(out, text, length, err);
}

bool
tokenizer_decode(const tokenizer *t, const int32_t *ids, int64_t count, bool keep_special, text_buffer *out,
				 llm_error *err)
{
	for (int64_t i = 0; i < count; i++)
	{
		if (ids[i] < 0 || ids[i] >= t->header->size)
			return llm_fail(err, LLM_INVALID, "token %d does not exist, the tokenizer has %d", ids[i],
							t->header->size);
		if ((keep_special || t->type[ids[i]] != TOKEN_SPECIAL) && !decode_token(t, ids[i], out, err))
			return false;
	}
	return true;
}

size_t
text_complete(const char *text, size_t length)
{
	const uint8_t *bytes = (const uint8_t *) text;
	size_t back = 1;

	/* Where the last sequence begins, at most three bytes before the end. */
	while (back < UTF8_BYTES_MAX && back < length && (bytes[length - back] & 0xC0) == 0x80)
		back++;
	if (length == 0 || back > length)
		return length;
	if (bytes[length - back] >= 0xC2 && bytes[length - back] < 0xF5)
	{
		uint8_t first = bytes[length - back];
		size_t whole = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;

		return back < whole ? length - back : length;
	}
	return length;
}
