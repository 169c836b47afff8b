/*
 * unicode.h
 *	  UTF-8, and properties of code points from the Unicode Character Database.
 *
 * A byte that does not belong to valid UTF-8 (RFC 3629: no surrogates, no overlong forms) is an
 * item of its own: INVALID_BYTE + its value, of no class.  Written back it is that byte again.
 */
#ifndef LLMAPP_UNICODE_H
#define LLMAPP_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INVALID_BYTE 0x110000
#define REPLACEMENT_CHARACTER 0xFFFD
#define UTF8_BYTES_MAX 4
#define DECOMPOSED_MAX 4 /* code points of the longest full canonical decomposition */

enum char_class
{
	CHAR_LETTER = 1,      /* L */
	CHAR_NUMBER = 2,      /* N */
	CHAR_SPACE = 4,       /* White_Space */
	CHAR_PUNCTUATION = 8, /* P */
	CHAR_NONSPACING = 16, /* Mn */
	CHAR_CONTROL = 32,    /* Cc, Cf, Co: control, format, private use */
	CHAR_COMPOSES = 64,   /* a text that has none is in NFC */
};

enum char_role
{
	ROLE_MARK = 1,      /* M, as StripAccents of the library tokenizers knows it */
	ROLE_EXTENDS = 2,   /* goes on with a grapheme cluster: Extend, SpacingMark, ZWJ (UAX #29) */
	ROLE_PREPENDED = 4, /* goes before a cluster: Prepend */
	ROLE_CONTROL = 8,   /* a cluster of its own: Control, CR, LF */
	ROLE_WORD = 16,     /* of a word (UTS #18): Alphabetic, M, Nd, Pc, Join_Control */
	ROLE_NEWER = 32     /* Mn, P or Cf only since BERT's tables were made, which are of Unicode 8 */
};

/* Two stages: the number of a code point's block of 128, then its place in that block. */
extern const uint8_t unicode_class_block[], unicode_class[];
extern const uint8_t unicode_role_block[], unicode_role[];
extern const uint8_t unicode_lower_block[];
extern const int32_t unicode_lower[];
extern const uint8_t unicode_combining_block[], unicode_combining[];
extern const uint8_t unicode_decomposition_block[];
extern const uint16_t unicode_decomposition[];
extern const int32_t unicode_decomposed[]; /* runs: length, then code points */
extern const int32_t unicode_composite_count;
extern const int32_t unicode_composite[][3]; /* first, second, composite; sorted */

#define UNICODE_LOOKUP(table, c) table[(size_t) table##_block[(c) >> 7] << 7 | ((c) &127)]

/* Bits of enum char_class; c may be an invalid byte. */
static inline uint8_t
char_class(int32_t c)
{
	return c < INVALID_BYTE ? UNICODE_LOOKUP(unicode_class, c) : 0;
}

/* Bits of enum char_role; c may be an invalid byte. */
static inline uint8_t
char_role(int32_t c)
{
	return c < INVALID_BYTE ? UNICODE_LOOKUP(unicode_role, c) : 0;
}

/* Simple lowercase mapping. */
static inline int32_t
char_lower(int32_t c)
{
	return c < INVALID_BYTE ? c + UNICODE_LOOKUP(unicode_lower, c) : c;
}

/* The code point at `text`, of which `end - text` > 0 bytes may be read; *length: bytes it takes. */
static inline int32_t
utf8_read(const uint8_t *text, const uint8_t *end, int32_t *length)
{
	uint32_t c = text[0], left = (uint32_t) (end - text < UTF8_BYTES_MAX ? end - text : UTF8_BYTES_MAX);

	*length = 1;
	if (c < 0x80)
		return (int32_t) c;
	if (c >= 0xC2 && c < 0xE0 && left >= 2 && (text[1] & 0xC0) == 0x80)
	{
		*length = 2;
		return (int32_t) ((c & 0x1F) << 6 | (text[1] & 0x3F));
	}
	if (c >= 0xE0 && c < 0xF0 && left >= 3 && (text[1] & 0xC0) == 0x80 && (text[2] & 0xC0) == 0x80)
	{
		uint32_t wide = (c & 0x0F) << 12 | (text[1] & 0x3Fu) << 6 | (text[2] & 0x3F);

		if (wide >= 0x800 && (wide < 0xD800 || wide >= 0xE000))
		{
			*length = 3;
			return (int32_t) wide;
		}
	}
	if (c >= 0xF0 && c < 0xF5 && left >= 4 && (text[1] & 0xC0) == 0x80 && (text[2] & 0xC0) == 0x80 &&
		(text[3] & 0xC0) == 0x80)
	{
		uint32_t wide = (c & 0x07) << 18 | (text[1] & 0x3Fu) << 12 | (text[2] & 0x3Fu) << 6 | (text[3] & 0x3F);

		if (wide >= 0x10000 && wide < INVALID_BYTE)
		{
			*length = 4;
			return (int32_t) wide;
		}
	}
	return INVALID_BYTE + (int32_t) c;
}

/* Write a code point or an invalid byte; returns bytes written, at most UTF8_BYTES_MAX. */
extern int32_t utf8_write(int32_t c, uint8_t *out);

/*
 * Full canonical decomposition of one code point, out: DECOMPOSED_MAX of them; returns how many.
 * Marks of a sequence still have to be put in order, which unicode_sort_marks() does.
 */
extern int32_t unicode_decompose(int32_t c, int32_t *out);
/* Canonical order of marks, in place. */
extern void unicode_sort_marks(int32_t *c, int64_t n);
/* Canonical composition of a decomposed, ordered sequence, in place; returns how many are left (NFC, UAX #15). */
extern int64_t unicode_compose(int32_t *c, int64_t n);

#endif /* LLMAPP_UNICODE_H */
