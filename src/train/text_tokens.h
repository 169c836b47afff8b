/*
 * text_tokens.h
 *	  The texts of a pass over the loaded rows as tokens, made by several threads.
 *
 * Use: StartTextTokens(), NextTextTokens() until it returns false, EndTextTokens().  Include after
 * postgres.h.
 */
#ifndef LLMAPP_TEXT_TOKENS_H
#define LLMAPP_TEXT_TOKENS_H

#include "corpus.h"

typedef struct TextTokens TextTokens;

/* Begin a pass with the tokenizer of d->corpus; nobody else may call NextText() until the end. */
extern TextTokens *StartTextTokens(Dataset *d);
/* Tokens of the next text, until the next call; false when there is none or the job is to pause. */
extern bool NextTextTokens(TextTokens *t, const int32 **ids, int64 *count, bool *held_out);
/* End the threads; false when the pass is not complete because the job is to pause. */
extern bool EndTextTokens(TextTokens *t);

/* How many bytes of text tokens of this corpus stand for. */
extern int64 TokenBytes(const Corpus *c, const int32 *ids, int64 count);

#endif /* LLMAPP_TEXT_TOKENS_H */
