/*
 * tokenizer_train.h
 *	  Learn a tokenizer from text: byte pair encoding, or the characters that occur.
 *
 * Text is added in documents of any size and order; what is learned depends on the counts alone,
 * not on the order, as long as memory suffices.  A document is read once, and not kept.
 */
#ifndef LLMAPP_TOKENIZER_TRAIN_H
#define LLMAPP_TOKENIZER_TRAIN_H

#include "../engine/net.h"
#include "tokenizer.h"

/* A special token to have: its text, 1 to 255 bytes, and what it is for (or -1). */
typedef struct special_text
{
	const char *text;
	int32_t name; /* special_token or -1 */
} special_text;

typedef struct bpe_trainer_options
{
	int32_t vocabulary; /* tokens in all: 256 bytes, merges, specials */
	pretokenizer pretokenizer;
	const special_text *specials; /* their texts in documents are passed over */
	int32_t special_count;
	int64_t min_count;     /* a pair that occurs less often is not merged; at least 1 */
	size_t max_word_bytes; /* of distinct words that are remembered, 0: 64 MiB; see bpe_trainer_add() */
	llm_poll poll;         /* ends counting and learning with LLM_CANCELLED; may be NULL */
	void *poll_arg;
} bpe_trainer_options;

typedef struct bpe_trainer bpe_trainer;

/* Options are copied, specials and their texts are not.  LLM_INVALID for a vocabulary below 256 + specials. */
extern bpe_trainer *bpe_trainer_new(const bpe_trainer_options *options, llm_error *err);
extern void bpe_trainer_free(bpe_trainer *t); /* t may be NULL */

/*
 * Count the words of a document.  When the distinct ones take more than max_word_bytes, the
 * rarest are forgotten until half of that is free (lossy counting, Manku and Motwani 2002), so
 * memory is bounded: up to 70 bytes for each word beside its own now, and in bpe_trainer_finish()
 * 25 for each byte of a word.  When poll asked to stop, some words of the document are counted.
 */
extern bool bpe_trainer_add(bpe_trainer *t, const char *text, size_t length, llm_error *err);
extern int64_t bpe_trainer_words(const bpe_trainer *t); /* distinct ones remembered */

/*
 * Learn the merges (Sennrich et al. 2016): each step joins the pair that occurs most often; of
 * equals the one whose left, then right text is the last in the order of bytes.  Ids are: the 256
 * bytes, the merges, the specials.  Fewer tokens than wanted come out when no pair is left.
 * A block as tokenizer_open() takes it, to be released with free(), or NULL: LLM_MEMORY or
 * LLM_CANCELLED.  The trainer stays as it was.
 */
extern void *bpe_trainer_finish(bpe_trainer *t, size_t *bytes, llm_error *err);

typedef struct character_trainer character_trainer;

/* vocabulary: tokens in all, the unknown one and specials included. */
extern character_trainer *character_trainer_new(int32_t vocabulary, const special_text *specials,
												int32_t special_count, llm_error *err);
extern void character_trainer_free(character_trainer *t); /* t may be NULL */
extern void character_trainer_add(character_trainer *t, const char *text, size_t length);
/*
 * The most frequent characters, of equals the first code point, in the order of code points;
 * then the unknown token (U+FFFD, unless a special is SPECIAL_UNKNOWN), then the specials.
 */
extern void *character_trainer_finish(character_trainer *t, size_t *bytes, llm_error *err);

/* Every byte is a token; then the specials. */
extern void *byte_tokenizer(const special_text *specials, int32_t special_count, size_t *bytes, llm_error *err);

#endif /* LLMAPP_TOKENIZER_TRAIN_H */
