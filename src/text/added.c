/*
 * added.c
 *	  Tokens that are cut out of a text before all else.
 *
 * They are found from left to right, of those that begin at one place the longest.  The rules for
 * white space and words beside them are those of the library tokenizers.
 */
#include <string.h>

#include "tokenizer_block.h"
#include "unicode.h"

int32_t
added_find(const added_set *set, uint64_t hash, const uint8_t *text, uint32_t length)
{
	for (uint32_t at = (uint32_t) hash & set->mask; set->slot[at] != 0; at = (at + 1) & set->mask)
	{
		const added_token *a = &set->token[set->slot[at] - 1];

		if (a->length == length && memcmp(set->text.bytes + a->start, text, length) == 0)
			return (int32_t) set->slot[at] - 1;
	}
	return -1;
}

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
		found = set->length[n] ? added_find(set, hash_end(hash), text, n) : -1;
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
	return (char_class(c) & CHAR_SPACE) && !(c == ' ' && set == &t->normalised && t->marks_before_cut);
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
