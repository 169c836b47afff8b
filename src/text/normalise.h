/*
 * normalise.h
 *	  What happens to a text before it is cut into tokens.
 */
#ifndef LLMAPP_NORMALISE_H
#define LLMAPP_NORMALISE_H

#include <string.h>

#include "tokenizer_block.h"
#include "unicode.h"

/*
 * The text as the tokenizer's flags want it, into t->normal; length > 0.  The text must not lie
 * there itself.
 */
extern bool text_normalise(tokenizer *t, const uint8_t *text, size_t length, llm_error *err);

/* ---- parts of it, each appended to out ---- */

/* What replaces characters can be longer than they are: LLM_INVALID beyond TOKENIZER_TEXT_MAX. */
extern bool text_check_length(const text_buffer *text, llm_error *err);
/* May NFC change the text? */
extern bool text_maybe_decomposed(const uint8_t *text, size_t length);
/* NFC, or NFD without `compose`. */
extern bool text_compose(tokenizer *t, bool compose, const uint8_t *text, size_t length, text_buffer *out,
						 llm_error *err);
/* SentencePiece's: the character map, then spaces as the flags want them; added tokens stay as they are. */
extern bool text_sentence(tokenizer *t, const uint8_t *text, size_t length, text_buffer *out, llm_error *err);
/*
 * The longest, or shortest, beginning of text that the tokenizer's map replaces: its length, or 0,
 * and by what.
 */
extern size_t character_map_find(const tokenizer *t, const uint8_t *text, size_t left, bool longest, const char **by);

/* Does U+2581 stand at text? */
static inline bool
is_space_mark(const uint8_t *text, size_t left)
{
	return left >= SPACE_MARK_BYTES && memcmp(text, SPACE_MARK, SPACE_MARK_BYTES) == 0;
}

/* Does a grapheme cluster that has come to `before` go on with c? */
extern bool cluster_goes_on(int32_t before, int32_t c);

/* ---- BERT's classes of characters: wordpiece.c ---- */

extern bool bert_drops(int32_t c); /* control characters, not white space */
extern bool bert_nonspacing(int32_t c);
extern bool bert_ideograph(int32_t c); /* words of their own */

#endif /* LLMAPP_NORMALISE_H */
