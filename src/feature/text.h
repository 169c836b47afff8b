/*
 * text.h
 *	  Free text to counted, hashed n-grams.
 *
 * The n-grams of a text are its words, pairs of neighbouring words, runs of four characters
 * inside a word with its boundaries, and for scripts written without spaces one to three
 * neighbouring characters.  ASCII is lowercased; a multibyte character is never split; bytes that
 * are not UTF-8 count as characters of their own.  Changing any of this changes what models mean.
 */
#ifndef LLMAPP_TEXT_H
#define LLMAPP_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#define TEXT_BYTES_MAX 65536 /* what lies behind is not read */
#define TEXT_PAIRS_MAX 2048  /* distinct n-grams of one text */
#define TEXT_SLOTS (2 * TEXT_PAIRS_MAX)

/* The distinct rows that a text's n-grams fall on, in order of first appearance. */
typedef struct gram_set
{
	const int32_t *row_of; /* (buckets) row of a bucket, -1 = not counted; NULL: the bucket itself */
	int32_t buckets;
	int32_t max; /* <= TEXT_PAIRS_MAX; further rows are ignored */
	int32_t count;
	int32_t row[TEXT_PAIRS_MAX];
	int32_t times[TEXT_PAIRS_MAX];
	uint16_t slot[TEXT_SLOTS]; /* index + 1, 0 = empty */
} gram_set;

/* Words fall on the first half of the buckets, all other n-grams on the rest. */
static inline int32_t
text_word_buckets(int32_t buckets)
{
	return buckets / 2;
}

extern void text_grams(gram_set *set, const char *text, int32_t length);

/* True when text consists of ASCII without white space: a code, a name, an identifier. */
extern bool text_is_token(const char *text, int32_t length);

#endif /* LLMAPP_TEXT_H */
