/*
 * normalise.h
 *	  What happens to a text before it is cut into tokens.
 */
#ifndef LLMAPP_NORMALISE_H
#define LLMAPP_NORMALISE_H

#include "tokenizer_block.h"

/*
 * The text as the tokenizer's flags want it, into t->normal; length > 0.  The text must not lie
 * there itself.
 */
extern bool text_normalise(tokenizer *t, const uint8_t *text, size_t length, llm_error *err);

#endif /* LLMAPP_NORMALISE_H */
