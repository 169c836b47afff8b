/*
 * normalise.c
 *	  What happens to a text before it is cut: composed characters, spaces that mark words.
 *
 * SentencePiece writes a space as U+2581; here tokens hold the space itself, so that a U+2581 of
 * the text is a space, too.
 */
#include <string.h>

#include "normalise.h"
#include "unicode.h"

static const char space_mark[] = "\xE2\x96\x81"; /* U+2581 */
#define SPACE_MARK_BYTES 3
#define PART_BYTES 65536

/* What replaces characters can be longer than they are. */
static bool
check_length(const text_buffer *text, llm_error *err)
{
	return text->size <= TOKENIZER_TEXT_MAX || llm_fail(err, LLM_INVALID, "a text is too long to encode");
}

/* May NFC change the text?  Nothing below U+0300 does, of which 0xCC is the first byte. */
static bool
maybe_decomposed(const uint8_t *text, size_t length)
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

/* NFC of text, appended to out. */
static bool
compose_part(tokenizer *t, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
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
	count = unicode_compose(c, count);
	if (!text_buffer_reserve(out, (size_t) count * UTF8_BYTES_MAX, err))
		return false;
	for (int64_t i = 0; i < count; i++)
		out->size += utf8_write(c[i], (uint8_t *) out->bytes + out->size);
	return true;
}

/* The same in parts, which saves memory; nothing composes with an ASCII character behind it. */
static bool
compose(tokenizer *t, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	for (size_t start = 0, end; start < length; start = end)
	{
		end = length - start > PART_BYTES ? start + PART_BYTES : length;
		while (end < length && text[end] >= 0x80)
			end++;
		if (!compose_part(t, text + start, end - start, out, err) || !check_length(out, err))
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
 * The longest beginning of text that is replaced: its length, or 0, and by what.  The trie is a
 * double array as the library darts-clone writes it (Yata, 2011): a unit has the byte that leads
 * to it in bits 0 to 7, whether a value follows in bit 8, and from bit 10 on where the next are,
 * in units of 256 if bit 9 is set.
 */
static size_t
map_lookup(const tokenizer *t, const uint8_t *text, size_t left, const char **by)
{
	uint64_t bytes = t->header->part[SECTION_CHARACTER_MAP].count,
			 texts = sizeof(uint32_t) * (1 + (uint64_t) t->map_units);
	uint32_t unit = map_unit(t, 0), at = 0;
	size_t longest = 0;

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
			longest = i + 1;
		}
	}
	return longest;
}

static bool
map_characters(const tokenizer *t, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	const uint8_t *end = text + length;

	while (text < end)
	{
		const char *by;
		size_t taken = map_lookup(t, text, end - text, &by);
		int32_t bytes;

		if (taken > 0 && !text_buffer_add(out, by, strlen(by), err))
			return false;
		if (taken == 0)
		{
			utf8_read(text, end, &bytes);
			taken = (size_t) bytes;
			if (!text_buffer_add(out, text, taken, err))
				return false;
		}
		if (!check_length(out, err))
			return false;
		text += taken;
	}
	return true;
}

static bool
is_mark(const uint8_t *text, size_t left)
{
	return left >= SPACE_MARK_BYTES && memcmp(text, space_mark, SPACE_MARK_BYTES) == 0;
}

/* The text with a space in front and marks as spaces, appended to out. */
static bool
mark_spaces(const tokenizer *t, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
{
	bool once = (t->header->flags & FLAG_SPACES_ONCE) != 0;
	bool space = once; /* the last thing written is a space, or nothing is */
	uint8_t *to;

	if (length == 0)
		return true;
	if (!text_buffer_reserve(out, length + 1, err))
		return false;
	to = (uint8_t *) out->bytes + out->size;
	if (t->header->flags & FLAG_PREFIX_SPACE)
		*to++ = ' ';
	for (size_t i = 0; i < length; i++)
	{
		bool mark = is_mark(text + i, length - i), is_space = mark || text[i] == ' ';

		if (!is_space || !once || !space)
			*to++ = is_space ? ' ' : text[i];
		space = is_space;
		i += mark ? SPACE_MARK_BYTES - 1 : 0;
	}
	out->size = to - (uint8_t *) out->bytes;
	if (once && out->size > 0 && out->bytes[out->size - 1] == ' ')
		out->size--;
	return true;
}

bool
text_normalise(tokenizer *t, const uint8_t *text, size_t length, llm_error *err)
{
	bool composed = (t->header->flags & FLAG_NFC) && maybe_decomposed(text, length);

	t->mapped.size = t->normal.size = 0;
	if (t->character_map != NULL ? !map_characters(t, text, length, &t->mapped, err)
								 : composed && !compose(t, text, length, &t->mapped, err))
		return false;
	if (t->character_map != NULL || composed)
	{
		text = (const uint8_t *) t->mapped.bytes;
		length = t->mapped.size;
	}
	if (t->header->flags & (FLAG_PREFIX_SPACE | FLAG_SPACES_ONCE))
		return mark_spaces(t, text, length, &t->normal, err);
	return text_buffer_add(&t->normal, text, length, err);
}
