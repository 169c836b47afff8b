/*
 * text.c
 *	  Cut text into words and n-grams and count them by hash bucket.
 *
 * One pass over the bytes.  A word is collected, lowercased, in a buffer on the stack; longer
 * words are cut at a character boundary.  Nothing is allocated.
 */
#include "text.h"

#include <string.h>

#include "hash.h"

#define WORD_BYTES 128  /* of one word, with its two boundary marks */
#define WORD_GRAM 4     /* characters of an n-gram inside a word */
#define IDEOGRAM_GRAM 3 /* longest n-gram of ideograms */
#define BOUNDARY ' '

/* First bytes of the hashed keys keep kinds of n-grams apart. */
#define KIND_WORD "w"
#define KIND_PAIR "p"
#define KIND_INSIDE "c"
#define KIND_IDEOGRAM "i"

typedef enum char_class
{
	CHAR_SPACE,
	CHAR_WORD,
	CHAR_IDEOGRAM
} char_class;

/* Where the scan stands. */
typedef struct scan
{
	gram_set *set;
	char word[WORD_BYTES]; /* boundary mark, then characters */
	int32_t used;
	int32_t start[WORD_BYTES]; /* offset of each character in word */
	int32_t chars;
	uint64_t previous;                   /* hash of the word before, 0 = none */
	const char *ideogram[IDEOGRAM_GRAM]; /* starts of the last characters of the run, newest last */
	int32_t run;                         /* how many of them are valid */
} scan;

/* Buckets first .. first + count - 1 are those of this kind of n-gram. */
static void
count_gram(gram_set *set, int32_t first, int32_t count, uint64_t hash)
{
	int32_t bucket = first + (int32_t) (((hash >> 32) * (uint64_t) count) >> 32);
	int32_t row = set->row_of ? set->row_of[bucket] : bucket;
	uint32_t at = ((uint32_t) row * UINT32_C(0x9E3779B1)) >> 16 & (TEXT_SLOTS - 1);

	if (row < 0)
		return;
	while (set->slot[at] != 0)
	{
		if (set->row[set->slot[at] - 1] == row)
		{
			set->times[set->slot[at] - 1]++;
			return;
		}
		at = (at + 1) & (TEXT_SLOTS - 1);
	}
	if (set->count >= set->max)
		return;
	set->row[set->count] = row;
	set->times[set->count] = 1;
	set->slot[at] = (uint16_t) ++set->count;
}

static void
count_word(gram_set *set, uint64_t hash)
{
	count_gram(set, 0, text_word_buckets(set->buckets), hash);
}

static void
count_other(gram_set *set, uint64_t hash)
{
	int32_t first = text_word_buckets(set->buckets);

	count_gram(set, first, set->buckets - first, hash);
}

static uint64_t
gram_hash(const char *kind, const char *bytes, size_t length)
{
	return hash_end(hash_bytes(hash_bytes(HASH_START, kind, 1), bytes, length));
}

/* Decode the character at text; its bytes are returned.  An invalid sequence is one byte. */
static int32_t
decode(const unsigned char *text, int32_t left, uint32_t *point)
{
	static const uint32_t lowest[5] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char first = text[0];
	int32_t bytes = first < 0x80                    ? 1
					: first >= 0xC2 && first < 0xE0 ? 2
					: first >= 0xE0 && first < 0xF0 ? 3
					: first >= 0xF0 && first < 0xF5 ? 4
													: 1;

	*point = first;
	if (bytes == 1 || bytes > left)
		return 1;
	*point = first & (0xFF >> (bytes + 1));
	for (int32_t i = 1; i < bytes; i++)
	{
		if ((text[i] & 0xC0) != 0x80)
		{
			*point = first;
			return 1;
		}
		*point = *point << 6 | (text[i] & 0x3F);
	}
	if (*point < lowest[bytes] || *point > 0x10FFFF)
	{
		*point = first;
		return 1;
	}
	return bytes;
}

/* Scripts without spaces between words: kana and Chinese characters, Thai, Lao, Khmer, Myanmar. */
static bool
is_ideogram(uint32_t p)
{
	return (p >= 0x3040 && p <= 0x30FF) || (p >= 0x3400 && p <= 0x4DBF) || (p >= 0x4E00 && p <= 0x9FFF) ||
		   (p >= 0xF900 && p <= 0xFAFF) || (p >= 0x20000 && p <= 0x3FFFF) || (p >= 0x0E00 && p <= 0x0EFF) ||
		   (p >= 0x1000 && p <= 0x109F) || (p >= 0x1780 && p <= 0x17FF);
}

static bool
is_punctuation(uint32_t p)
{
	return (p >= 0x80 && p <= 0xBF) || p == 0xD7 || p == 0xF7 || (p >= 0x2000 && p <= 0x206F) ||
		   (p >= 0x3000 && p <= 0x303F) || (p >= 0xFF00 && p <= 0xFF0F) || (p >= 0xFF1A && p <= 0xFF20) ||
		   (p >= 0xFF3B && p <= 0xFF40) || (p >= 0xFF5B && p <= 0xFF65) || p == 0xFEFF;
}

static char_class
classify(uint32_t point, int32_t bytes)
{
	if (point < 0x80)
		return (point >= 'a' && point <= 'z') || (point >= 'A' && point <= 'Z') || (point >= '0' && point <= '9')
				   ? CHAR_WORD
				   : CHAR_SPACE;
	if (bytes == 1) /* not UTF-8: some letter of an 8-bit encoding */
		return CHAR_WORD;
	return is_ideogram(point) ? CHAR_IDEOGRAM : is_punctuation(point) ? CHAR_SPACE : CHAR_WORD;
}

/* Count the collected word, its pair with the one before, and what is inside it. */
static void
end_word(scan *s)
{
	uint64_t hash;

	if (s->chars == 0)
		return;
	hash = gram_hash(KIND_WORD, s->word + 1, s->used - 1);
	count_word(s->set, hash);
	if (s->previous != 0)
		count_other(s->set, hash_end(hash_bytes(HASH_START, KIND_PAIR, 1) ^ hash ^ s->previous * 31));
	s->previous = hash;

	/* Characters -1 and chars are the boundary marks. */
	s->word[s->used] = BOUNDARY;
	s->start[s->chars] = s->used;
	s->start[s->chars + 1] = s->used + 1;
	for (int32_t first = -1; first + WORD_GRAM <= s->chars + 1; first++)
	{
		int32_t from = first < 0 ? 0 : s->start[first];

		if (s->chars > WORD_GRAM - 2) /* a shorter word is its own n-gram */
			count_other(s->set, gram_hash(KIND_INSIDE, s->word + from, s->start[first + WORD_GRAM] - from));
	}
	s->chars = 0;
	s->used = 1;
}

static void
add_to_word(scan *s, const char *bytes, int32_t count)
{
	/* Two bytes and two starts are kept for the closing mark. */
	if (s->used + count + 2 > WORD_BYTES)
		end_word(s);
	s->start[s->chars++] = s->used;
	for (int32_t i = 0; i < count; i++)
	{
		char c = bytes[i];

		s->word[s->used++] = c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
	}
}

/* Count the n-grams that end with this character.  One and two of them are the words of these scripts. */
static void
add_ideogram(scan *s, const char *bytes, int32_t count)
{
	if (s->run == IDEOGRAM_GRAM)
		memmove(s->ideogram, s->ideogram + 1, sizeof(s->ideogram[0]) * (IDEOGRAM_GRAM - 1));
	else
		s->run++;
	s->ideogram[s->run - 1] = bytes;
	for (int32_t i = 0; i < s->run; i++)
	{
		uint64_t hash = gram_hash(KIND_IDEOGRAM, s->ideogram[i], bytes + count - s->ideogram[i]);

		if (s->run - i < IDEOGRAM_GRAM)
			count_word(s->set, hash);
		else
			count_other(s->set, hash);
	}
}

void
text_grams(gram_set *set, const char *text, int32_t length)
{
	scan s = {.set = set, .word = {BOUNDARY}, .used = 1};
	int32_t bytes;

	set->count = 0;
	memset(set->slot, 0, sizeof(set->slot));
	if (length > TEXT_BYTES_MAX)
		length = TEXT_BYTES_MAX;
	for (int32_t at = 0; at < length; at += bytes)
	{
		uint32_t point;
		char_class class;

		bytes = decode((const unsigned char *) text + at, length - at, &point);
		class = classify(point, bytes);
		if (class != CHAR_WORD)
			end_word(&s);
		if (class == CHAR_IDEOGRAM)
		{
			s.previous = 0;
			add_ideogram(&s, text + at, bytes);
			continue;
		}
		s.run = 0;
		if (class == CHAR_WORD)
			add_to_word(&s, text + at, bytes);
	}
	end_word(&s);
}

bool
text_is_token(const char *text, int32_t length)
{
	for (int32_t i = 0; i < length; i++)
		if ((unsigned char) text[i] >= 0x80 || text[i] == ' ' || (text[i] >= '\t' && text[i] <= '\r'))
			return false;
	return true;
}
