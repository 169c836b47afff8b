/*
 * tokenizer_build.h
 *	  Make the stored form of a tokenizer from its tokens, and of BPE its merges.
 *
 * For importers of other programs' files and for training.  Tokens get ids in the order in which
 * they are added.  Each function returns false after a failure; later calls do nothing, so that
 * only tokenizer_builder_finish() has to be checked.
 */
#ifndef LLMAPP_TOKENIZER_BUILD_H
#define LLMAPP_TOKENIZER_BUILD_H

#include "tokenizer.h"

/* How the texts of tokens and merges are written in the source. */
typedef enum token_spelling
{
	SPELLING_PLAIN,
	SPELLING_BYTE_ALPHABET, /* GPT-2: a printable character for each byte, see byte_alphabet() */
	SPELLING_SPACE_MARK     /* SentencePiece: U+2581 for a space, <0x0A> for TOKEN_BYTE */
} token_spelling;

typedef struct tokenizer_options
{
	tokenizer_kind kind;
	pretokenizer pretokenizer; /* of BPE */
	uint32_t flags;            /* enum tokenizer_flag */
	token_spelling spelling;
} tokenizer_options;

typedef struct tokenizer_builder tokenizer_builder;

extern tokenizer_builder *tokenizer_builder_new(const tokenizer_options *options, llm_error *err);
extern void tokenizer_builder_free(tokenizer_builder *b); /* b may be NULL */

/*
 * Add a token; the texts are copied.  score is the logarithm of its probability (unigram), or
 * any number that is higher for what is merged first (BPE without a list of merges).  Of tokens
 * with one text the first is used.  TOKEN_SPECIAL and TOKEN_ADDED are never spelled.
 */
extern bool tokenizer_builder_token(tokenizer_builder *b, const char *text, size_t length, token_type type,
									double score, llm_error *err);
/* Add a token whose text is that of two others, one after the other; SPELLING_PLAIN only. */
extern bool tokenizer_builder_join(tokenizer_builder *b, int32_t left, int32_t right, llm_error *err);
/* How the token just added, special or added, is found: enum added_flag. */
extern bool tokenizer_builder_added(tokenizer_builder *b, uint8_t flags);
extern bool tokenizer_builder_special(tokenizer_builder *b, special_token name, int32_t id, llm_error *err);
/* Add the next merge by the texts of its halves; LLM_INVALID when one or the result is no token. */
extern bool tokenizer_builder_merge(tokenizer_builder *b, const char *left, size_t left_length, const char *right,
									size_t right_length, llm_error *err);
/* The same by ids. */
extern bool tokenizer_builder_merge_ids(tokenizer_builder *b, int32_t left, int32_t right, int32_t id,
										llm_error *err);
/*
 * All pairs of tokens that make a token, in the order of its score: what SentencePiece's BPE
 * does, and tiktoken with minus the rank.  In place of a list of merges, after all tokens.
 */
extern bool tokenizer_builder_merge_by_score(tokenizer_builder *b, llm_error *err);

/* SentencePiece's precompiled_charsmap: what characters of a text are replaced by first.  Checked by tokenizer_open(). */
extern bool tokenizer_builder_character_map(tokenizer_builder *b, const void *bytes, size_t length, llm_error *err);

/* The next step; see steps.h for kinds and their texts, which may be NULL.  LLM_INVALID when there are too many. */
extern bool tokenizer_builder_step(tokenizer_builder *b, int kind, const char *first, const char *second,
								   llm_error *err);
/* The frame of one text, then of two, of FRAME_ITEMS_MAX items together; either may have none. */
extern bool tokenizer_builder_frame(tokenizer_builder *b, const frame_item *one, int32_t ones, const frame_item *two,
									int32_t twos, llm_error *err);

/* The block, aligned to TOKENIZER_ALIGNMENT, to be released with free(); NULL on failure. */
extern void *tokenizer_builder_finish(tokenizer_builder *b, size_t *bytes, llm_error *err);

/* The code point that GPT-2's files write for a byte. */
extern int32_t byte_alphabet(uint8_t byte);

#endif /* LLMAPP_TOKENIZER_BUILD_H */
