/*
 * added.c
 *	  Tokens that are cut out of a text before all else.
 *
 * They are found from left to right, of those that begin at one place the longest.  Most look for
 * their text as it comes; some (ADDED_NORMALISED) for its normal form in the normal form of the
 * text, which is what the steps of the tokenizer make of it.  The rules for white space and words
 * beside them are those of the library tokenizers.
 */
#include <stdlib.h>
#include <string.h>

#include "steps.h"
#include "unicode.h"

/* ---- making the sets ---- */

/* A token of one byte may be followed by anything. */
static void
add_beginning(added_set *set, const uint8_t *text, uint32_t length)
{
	uint64_t *row = set->begins + text[0] * 4;

	if (length > 1)
		row[text[1] >> 6] |= UINT64_C(1) << (text[1] & 63);
	else
		memset(row, 0xFF, 4 * sizeof(uint64_t));
}

/* Number of the token with this text, or -1. */
static int32_t
find_text(const added_set *set, uint64_t hash, const uint8_t *text, uint32_t length)
{
	for (uint32_t at = (uint32_t) hash & set->mask; set->slot[at] != 0; at = (at + 1) & set->mask)
	{
		const added_token *a = &set->token[set->slot[at] - 1];

		if (a->length == length && memcmp(set->text.bytes + a->start, text, length) == 0)
			return (int32_t) set->slot[at] - 1;
	}
	return -1;
}

/* Of tokens with one text the first stays. */
static bool
add_text(added_set *set, int32_t id, const uint8_t *text, size_t length, bool special, llm_error *err)
{
	uint64_t hash = token_hash(text, length);
	uint32_t at = (uint32_t) hash, probes = 0;

	if (length == 0)
		return true;
	if (length > ADDED_LENGTH_MAX)
		return llm_fail(err, LLM_CORRUPT, "the tokenizer of the model is damaged: a special token is too long");
	if (find_text(set, hash, text, (uint32_t) length) >= 0)
		return true;
	if (!text_buffer_add(&set->text, text, length, err))
		return false;
	for (at &= set->mask; set->slot[at] != 0 && probes < PROBES; probes++)
		at = (at + 1) & set->mask;
	if (probes == PROBES)
		return llm_fail(err, LLM_CORRUPT,
						"the tokenizer of the model is damaged: special tokens are made to collide");
	set->token[set->count] = (added_token) {(uint32_t) (set->text.size - length), (uint32_t) length, id};
	set->slot[at] = (uint32_t) ++set->count;
	set->always = set->always || !special;
	set->length[length] = true;
	if (length > set->longest)
		set->longest = (uint32_t) length;
	add_beginning(set, text, (uint32_t) length);
	return true;
}

/* A word of SentencePiece is stored with spaces for U+2581, but looked for as its file writes it. */
static bool
source_text(const tokenizer *t, int32_t id, text_buffer *out, llm_error *err)
{
	const uint8_t *text = t->text + t->start[id];
	uint32_t length = token_length(t, id);
	bool marks = t->type[id] == TOKEN_ADDED_WORD && (t->header->flags & FLAG_SPACE_MARKS);
	bool ok = true;

	out->size = 0;
	for (uint32_t i = 0; ok && i < length; i++)
		ok = marks && text[i] == ' ' ? text_buffer_add(out, SPACE_MARK, SPACE_MARK_BYTES, err)
									 : text_buffer_add(out, text + i, 1, err);
	return ok;
}

static bool
is_added(const tokenizer *t, int32_t id, bool special)
{
	return special ? t->type[id] == TOKEN_SPECIAL : t->type[id] == TOKEN_ADDED || t->type[id] == TOKEN_ADDED_WORD;
}

static bool
add_token(tokenizer *t, int32_t id, bool special, text_buffer *source, llm_error *err)
{
	bool normalised = t->added != NULL && (t->added[id] & ADDED_NORMALISED);
	const uint8_t *text;
	size_t length;

	if (!is_added(t, id, special))
		return true;
	if (normalised && steps_are_sentence(t))
		return add_text(&t->normalised, id, t->text + t->start[id], token_length(t, id), special, err);
	if (!source_text(t, id, source, err))
		return false;
	text = (const uint8_t *) source->bytes;
	length = source->size;
	if (!normalised || t->step_count == 0)
		return add_text(normalised ? &t->normalised : &t->raw, id, text, length, special, err);
	return steps_run(t, 0, t->cut_step, true, &text, &length, err) &&
		   add_text(&t->normalised, id, text, length, special, err);
}

static bool
make_room(added_set *set, int32_t count, llm_error *err)
{
	uint32_t slots = 8;

	while (slots < (uint32_t) count * 4)
		slots *= 2;
	set->mask = slots - 1;
	set->slot = calloc(slots, sizeof(uint32_t));
	set->token = calloc(count + 1, sizeof(added_token));
	return (set->slot != NULL && set->token != NULL) ||
		   llm_fail(err, LLM_MEMORY, "out of memory while opening a tokenizer");
}

bool
added_sets_make(tokenizer *t, llm_error *err)
{
	text_buffer source = {0};
	int32_t raw = 0, normalised = 0;
	bool ok;

	for (int32_t id = 0; id < t->header->size; id++)
		if (is_added(t, id, false) || is_added(t, id, true))
		{
			bool normal = t->added != NULL && (t->added[id] & ADDED_NORMALISED);

			raw += !normal;
			normalised += normal;
		}
	ok = make_room(&t->raw, raw, err) && make_room(&t->normalised, normalised, err);
	for (int special = 1; ok && special >= 0; special--)
		for (int32_t id = 0; ok && id < t->header->size; id++)
			ok = add_token(t, id, special, &source, err);
	free(source.bytes);
	return ok;
}

static void
free_set(added_set *set)
{
	free(set->token);
	free(set->slot);
	free(set->text.bytes);
}

void
added_sets_free(tokenizer *t)
{
	free_set(&t->raw);
	free_set(&t->normalised);
}

/* ---- finding ---- */

bool
added_any(const added_set *set, bool special)
{
	return set->always || (special && set->count > 0);
}

static inline bool
begins(const added_set *set, uint8_t first, uint8_t second)
{
	return set->begins[first << 2 | second >> 6] >> (second & 63) & 1;
}

/* May a special token be found there?  With marks only as the text comes, in bytes that have none. */
static bool
may_be_special(const tokenizer *t, const added_set *set, const uint8_t *text, uint32_t length)
{
	return t->marks == NULL || (set == &t->raw && memchr(t->marks + (text - t->marked), 1, length) == NULL);
}

/* The longest at `text` that may be found, or -1. */
static int32_t
longest_at(const tokenizer *t, const added_set *set, const uint8_t *text, size_t left, bool special)
{
	uint64_t hash = HASH_START;
	int32_t longest = -1;

	for (uint32_t n = 1; n <= set->longest && n <= left; n++)
	{
		int32_t found;

		hash = hash_bytes(hash, text + n - 1, 1);
		found = set->length[n] ? find_text(set, hash_end(hash), text, n) : -1;
		if (found >= 0 &&
			(t->type[set->token[found].id] != TOKEN_SPECIAL || (special && may_be_special(t, set, text, n))))
			longest = found;
	}
	return longest;
}

size_t
added_at(const tokenizer *t, const added_set *set, const uint8_t *text, size_t left)
{
	int32_t found =
		set->always && left > 1 && begins(set, text[0], text[1]) ? longest_at(t, set, text, left, false) : -1;

	return found >= 0 ? set->token[found].length : 0;
}

/* The character that ends right before text[at]; at > 0. */
static int32_t
character_before(const uint8_t *text, size_t at, int32_t *bytes)
{
	size_t back = 1;
	int32_t c;

	while (back < UTF8_BYTES_MAX && back < at && (text[at - back] & 0xC0) == 0x80)
		back++;
	c = utf8_read(text + at - back, text + at, bytes);
	if (*bytes == (int32_t) back)
		return c;
	*bytes = 1;
	return INVALID_BYTE + text[at - 1];
}

static bool
is_alone(const uint8_t *text, size_t length, const added_match *m)
{
	int32_t bytes;

	return (m->start == 0 || !(char_role(character_before(text, m->start, &bytes)) & ROLE_WORD)) &&
		   (m->end == length || !(char_role(utf8_read(text + m->end, text + length, &bytes)) & ROLE_WORD));
}

/* White space that is still there; where words are marked already a space is a mark. */
static bool
takes(const tokenizer *t, const added_set *set, int32_t c)
{
	return (char_class(c) & CHAR_SPACE) && !(c == ' ' && set == &t->normalised && steps_mark_before_cut(t));
}

static void
take_space(const tokenizer *t, const added_set *set, const uint8_t *text, size_t length, size_t done, uint8_t flags,
		   added_match *m)
{
	int32_t bytes;

	while ((flags & ADDED_LEFT) && m->start > done && takes(t, set, character_before(text, m->start, &bytes)))
		m->start -= (size_t) bytes;
	while ((flags & ADDED_RIGHT) && m->end < length && takes(t, set, utf8_read(text + m->end, text + length, &bytes)))
		m->end += (size_t) bytes;
}

bool
added_next(const tokenizer *t, const added_set *set, const uint8_t *text, size_t length, bool special,
		   added_cursor *at, added_match *match)
{
	for (size_t i = at->search; added_any(set, special) && i < length; i++)
	{
		int32_t found = i + 1 == length || begins(set, text[i], text[i + 1])
							? longest_at(t, set, text + i, length - i, special)
							: -1;
		uint8_t flags;

		if (found < 0)
			continue;
		*match = (added_match) {i, i + set->token[found].length, set->token[found].id};
		flags = t->added ? t->added[match->id] : 0;
		at->search = match->end;
		if (!(flags & ADDED_ALONE) || is_alone(text, length, match))
		{
			take_space(t, set, text, length, at->done, flags, match);
			return true;
		}
		i = match->end - 1;
	}
	at->search = length;
	return false;
}
