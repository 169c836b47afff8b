/*
 * normalise.c
 *	  What happens to a text before it is cut: composed characters, spaces that mark words.
 *
 * SentencePiece writes a space as U+2581; here tokens hold the space itself, so that a U+2581 of
 * the text is a space, too.
 */
#include "normalise.h"

#include <string.h>

#include "unicode.h"

#define PART_BYTES 65536

bool
text_check_length(const text_buffer *text, llm_error *err)
{
	return text->size <= TOKENIZER_TEXT_MAX || llm_fail(err, LLM_INVALID, "a text is too long to encode");
}

/* May NFC change the text?  Nothing below U+0300 does, of which 0xCC is the first byte. */
bool
text_maybe_decomposed(const uint8_t *text, size_t length)
{
	const uint8_t *end = text + length;

	for (int32_t bytes = 1; text < end; text += bytes)
	{
		bytes = 1;
		if (*text >= 0xCC && (char_class(utf8_read(text, end, &bytes)) & CHAR_COMPOSES))
			return true;
	}
	return false;
}

static bool
compose_part(tokenizer *t, bool compose, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	const uint8_t *end = text + length;
	int32_t *c = tokenizer_scratch(t, (length + 1) * DECOMPOSED_MAX * sizeof(int32_t), err);
	int64_t count = 0;

	if (c == NULL)
		return false;
	for (int32_t bytes; text < end; text += bytes)
	{
		int32_t one = utf8_read(text, end, &bytes);

		count += unicode_decompose(one, c + count);
	}
	unicode_sort_marks(c, count);
	if (compose)
		count = unicode_compose(c, count);
	if (!text_buffer_reserve(out, (size_t) count * UTF8_BYTES_MAX, err))
		return false;
	for (int64_t i = 0; i < count; i++)
		out->size += utf8_write(c[i], (uint8_t *) out->bytes + out->size);
	return true;
}

/* In parts, which saves memory; nothing composes with an ASCII character behind it. */
bool
text_compose(tokenizer *t, bool compose, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	for (size_t start = 0, end; start < length; start = end)
	{
		end = length - start > PART_BYTES ? start + PART_BYTES : length;
		while (end < length && text[end] >= 0x80)
			end++;
		if (!compose_part(t, compose, text + start, end - start, out, err) || !text_check_length(out, err))
			return false;
	}
	return true;
}

/* A unit of the trie; beyond its end a unit that no byte leads to. */
static uint32_t
map_unit(const tokenizer *t, uint32_t at)
{
	uint32_t unit = UINT32_MAX;

	if (at < t->map_units)
		memcpy(&unit, t->character_map + sizeof(uint32_t) * (1 + (size_t) at), sizeof(unit));
	return unit;
}

/*
 * The trie is a double array as the library darts-clone writes it (Yata, 2011): a unit has the
 * byte that leads to it in bits 0 to 7, whether a value follows in bit 8, and from bit 10 on where
 * the next are, in units of 256 if bit 9 is set.
 */
size_t
character_map_find(const tokenizer *t, const uint8_t *text, size_t left, bool longest, const char **by)
{
	uint64_t bytes = t->header->part[SECTION_CHARACTER_MAP].count,
			 texts = sizeof(uint32_t) * (1 + (uint64_t) t->map_units);
	uint32_t unit = map_unit(t, 0), at = 0;
	size_t taken = 0;

	for (size_t i = 0; i < left; i++)
	{
		at ^= (unit >> 10) << ((unit & 0x200) >> 6);
		at ^= text[i];
		unit = map_unit(t, at);
		if ((unit & 0x800000FF) != text[i])
			break;
		if (unit & 0x100)
		{
			uint64_t value = map_unit(t, at ^ ((unit >> 10) << ((unit & 0x200) >> 6))) & INT32_MAX;

			if (value >= bytes - texts)
				break;
			*by = (const char *) t->character_map + texts + value;
			taken = i + 1;
			if (!longest)
				break;
		}
	}
	return taken;
}

/* ---- SentencePiece ---- */

/* What stands at text in its normal form: bytes taken; *by and *length are what becomes of them. */
static size_t
sentence_part(const tokenizer *t, const uint8_t *text, size_t left, const char **by, size_t *length)
{
	size_t taken = *text != ' ' ? added_at(t, &t->normalised, text, left) : 0;
	int32_t bytes;

	*by = (const char *) text;
	*length = taken;
	if (taken == 0 && t->character_map != NULL)
	{
		taken = character_map_find(t, text, left, true, by);
		*length = taken > 0 ? strlen(*by) : 0;
	}
	if (taken == 0)
	{
		utf8_read(text, text + left, &bytes);
		taken = *length = (size_t) bytes;
	}
	return taken;
}

/* Append text with marks as spaces. */
static bool
add_marked(const char *text, size_t length, text_buffer *out, llm_error *err)
{
	for (size_t i = 0; i < length; i++)
	{
		bool mark = is_space_mark((const uint8_t *) text + i, length - i);

		if (!text_buffer_add(out, mark ? " " : text + i, 1, err))
			return false;
		i += mark ? SPACE_MARK_BYTES - 1 : 0;
	}
	return true;
}

bool
text_sentence(tokenizer *t, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	const uint8_t *end = text + length;
	bool once = (t->header->flags & FLAG_SPACES_ONCE) != 0;
	bool space = once; /* spaces that come now are superfluous */
	bool begun = false;

	for (size_t taken; text < end; text += taken)
	{
		const char *by;
		size_t size;

		taken = sentence_part(t, text, end - text, &by, &size);
		for (; space && size > 0 && *by == ' '; by++)
			size--;
		if (once && !begun && size == 0)
			continue;
		if (!begun && (t->header->flags & FLAG_PREFIX_SPACE) && !text_buffer_add(out, " ", 1, err))
			return false;
		begun = true;
		if (!add_marked(by, size, out, err) || !text_check_length(out, err))
			return false;
		space = once && (size > 0 ? by[size - 1] == ' ' : space);
	}
	while (once && out->size > 0 && out->bytes[out->size - 1] == ' ')
		out->size--;
	return true;
}

/* ---- all of it ---- */

bool
text_normalise(tokenizer *t, const uint8_t *text, size_t length, llm_error *err)
{
	bool composed = (t->header->flags & FLAG_NFC) && text_maybe_decomposed(text, length);

	t->mapped.size = t->normal.size = 0;
	if (composed)
	{
		if (!text_compose(t, true, text, length, &t->mapped, err))
			return false;
		text = (const uint8_t *) t->mapped.bytes;
		length = t->mapped.size;
	}
	if (t->character_map != NULL || (t->header->flags & (FLAG_PREFIX_SPACE | FLAG_SPACES_ONCE | FLAG_SPACE_MARKS)))
		return text_sentence(t, text, length, &t->normal, err);
	return text_buffer_add(&t->normal, text, length, err);
}

/* ---- grapheme clusters ---- */

enum hangul
{
	HANGUL_NONE,
	HANGUL_LEAD,
	HANGUL_VOWEL,
	HANGUL_TRAIL,
	HANGUL_OPEN, /* a syllable without trail */
	HANGUL_CLOSED
};

static enum hangul
hangul_type(int32_t c)
{
	if ((c >= 0x1100 && c <= 0x115F) || (c >= 0xA960 && c <= 0xA97C))
		return HANGUL_LEAD;
	if ((c >= 0x1160 && c <= 0x11A7) || (c >= 0xD7B0 && c <= 0xD7C6))
		return HANGUL_VOWEL;
	if ((c >= 0x11A8 && c <= 0x11FF) || (c >= 0xD7CB && c <= 0xD7FB))
		return HANGUL_TRAIL;
	if (c >= 0xAC00 && c <= 0xD7A3)
		return (c - 0xAC00) % 28 == 0 ? HANGUL_OPEN : HANGUL_CLOSED;
	return HANGUL_NONE;
}

bool
cluster_goes_on(int32_t before, int32_t c)
{
	enum hangul first = hangul_type(before), second = hangul_type(c);

	if (before == '\r' && c == '\n')
		return true;
	if ((char_role(before) | char_role(c)) & ROLE_CONTROL)
		return false;
	if ((char_role(c) & ROLE_EXTENDS) || (char_role(before) & ROLE_PREPENDED))
		return true;
	return (first == HANGUL_LEAD && second != HANGUL_NONE && second != HANGUL_TRAIL) ||
		   ((first == HANGUL_VOWEL || first == HANGUL_OPEN) && (second == HANGUL_VOWEL || second == HANGUL_TRAIL)) ||
		   ((first == HANGUL_TRAIL || first == HANGUL_CLOSED) && second == HANGUL_TRAIL);
}
