/*
 * unicode.c
 *	  UTF-8 written, and the canonical normal forms of Unicode Standard Annex 15.
 */
#include "unicode.h"

#include <string.h>

#define HANGUL_BASE 0xAC00
#define HANGUL_COUNT 11172
#define LEAD_BASE 0x1100
#define LEAD_COUNT 19
#define VOWEL_BASE 0x1161
#define VOWEL_COUNT 21
#define TRAIL_BASE 0x11A7 /* trail 0: none */
#define TRAIL_COUNT 28

int32_t
utf8_write(int32_t c, uint8_t *out)
{
	if (c < 0x80 || c >= INVALID_BYTE)
	{
		out[0] = (uint8_t) (c < 0x80 ? c : c - INVALID_BYTE);
		return 1;
	}
	if (c < 0x800)
	{
		out[0] = (uint8_t) (0xC0 | c >> 6);
		out[1] = (uint8_t) (0x80 | (c & 0x3F));
		return 2;
	}
	if (c < 0x10000)
	{
		out[0] = (uint8_t) (0xE0 | c >> 12);
		out[1] = (uint8_t) (0x80 | (c >> 6 & 0x3F));
		out[2] = (uint8_t) (0x80 | (c & 0x3F));
		return 3;
	}
	out[0] = (uint8_t) (0xF0 | c >> 18);
	out[1] = (uint8_t) (0x80 | (c >> 12 & 0x3F));
	out[2] = (uint8_t) (0x80 | (c >> 6 & 0x3F));
	out[3] = (uint8_t) (0x80 | (c & 0x3F));
	return 4;
}

/* Zero for what is not a mark. */
static uint8_t
combining_class(int32_t c)
{
	return c < INVALID_BYTE ? UNICODE_LOOKUP(unicode_combining, c) : 0;
}

static int32_t
decompose_hangul(int32_t syllable, int32_t *out)
{
	int32_t trail = syllable % TRAIL_COUNT;

	out[0] = LEAD_BASE + syllable / (VOWEL_COUNT * TRAIL_COUNT);
	out[1] = VOWEL_BASE + syllable % (VOWEL_COUNT * TRAIL_COUNT) / TRAIL_COUNT;
	out[2] = TRAIL_BASE + trail;
	return trail ? 3 : 2;
}

int32_t
unicode_decompose(int32_t c, int32_t *out)
{
	const int32_t *run;

	if (c >= HANGUL_BASE && c < HANGUL_BASE + HANGUL_COUNT)
		return decompose_hangul(c - HANGUL_BASE, out);
	run = unicode_decomposed + (c < INVALID_BYTE ? UNICODE_LOOKUP(unicode_decomposition, c) : 0);
	if (run == unicode_decomposed)
	{
		out[0] = c;
		return 1;
	}
	memcpy(out, run + 1, run[0] * sizeof(int32_t));
	return run[0];
}

/* An ordinary text has few marks in a row; long runs are cut so that sorting stays linear (UAX #15, stream-safe). */
#define MARKS_MAX 256

void
unicode_sort_marks(int32_t *c, int64_t n)
{
	int64_t start = 0;

	for (int64_t i = 0; i < n; i++)
	{
		uint8_t mark = combining_class(c[i]);
		int32_t moved = c[i];
		int64_t at = i;

		if (mark == 0 || i - start >= MARKS_MAX)
		{
			start = i;
			continue;
		}
		for (; at > start && combining_class(c[at - 1]) > mark; at--)
			c[at] = c[at - 1];
		c[at] = moved;
	}
}

static int32_t
compose_pair(int32_t first, int32_t second)
{
	int32_t low = 0, high = unicode_composite_count;
	int32_t lead = first - LEAD_BASE, vowel = second - VOWEL_BASE, syllable = first - HANGUL_BASE;

	if (lead >= 0 && lead < LEAD_COUNT && vowel >= 0 && vowel < VOWEL_COUNT)
		return HANGUL_BASE + (lead * VOWEL_COUNT + vowel) * TRAIL_COUNT;
	if (syllable >= 0 && syllable < HANGUL_COUNT && syllable % TRAIL_COUNT == 0 && second > TRAIL_BASE &&
		second < TRAIL_BASE + TRAIL_COUNT)
		return first + second - TRAIL_BASE;
	while (low < high)
	{
		int32_t middle = (low + high) / 2;
		const int32_t *row = unicode_composite[middle];

		if (row[0] == first && row[1] == second)
			return row[2];
		if (row[0] < first || (row[0] == first && row[1] < second))
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

int64_t
unicode_compose(int32_t *c, int64_t n)
{
	int64_t starter = -1, out = 0;
	uint8_t last = 0; /* class of what stands before, 0 right behind the starter */

	for (int64_t i = 0; i < n; i++)
	{
		uint8_t mark = combining_class(c[i]);
		bool blocked = starter < 0 || (starter + 1 < out && last >= mark);
		int32_t composite = blocked ? -1 : compose_pair(c[starter], c[i]);

		if (composite >= 0)
		{
			c[starter] = composite;
			continue;
		}
		if (mark == 0)
			starter = out;
		last = mark;
		c[out++] = c[i];
	}
	return out;
}
