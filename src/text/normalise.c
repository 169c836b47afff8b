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

/* Texts of ASCII are composed, most others are Latin-1 and the like, below the first mark. */
static bool
maybe_decomposed(const uint8_t *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (text[i] >= 0xCC)
			return true;
	return false;
}

/* NFC of text, appended to out. */
static bool
compose(tokenizer *t, const uint8_t *text, size_t length, text_buffer *out, llm_error *err)
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
	text_buffer *out = &t->normal;

	out->size = 0;
	if ((t->header->flags & FLAG_NFC) && maybe_decomposed(text, length))
		return compose(t, text, length, out, err);
	if (t->header->flags & (FLAG_PREFIX_SPACE | FLAG_SPACES_ONCE))
		return mark_spaces(t, text, length, out, err);
	return text_buffer_add(out, text, length, err);
}
