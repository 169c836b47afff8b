/*
 * constraint.h
 *	  Which tokens a text may go on with so that it satisfies a JSON Schema when it ends.
 *
 * Intended use:
 *	 1. vocabulary_new() once for a tokenizer, constraint_new() once for a schema.
 *	 2. constraint_next() before each token of each text; the sampler then chooses among the tokens
 *		that it allows.  The text is complete when it says that nothing may follow.
 *
 * A text is never left without a way to its end: tokens from which the rest could not be written
 * with the tokens that are left are not allowed.  So every text of at least constraint_shortest()
 * tokens at most parses.
 *
 * The mask of a state is computed by one walk through the vocabulary and kept, so that a text that
 * stays within a string or repeats its form costs a copy for each token.
 */
#ifndef LLMAPP_CONSTRAINT_H
#define LLMAPP_CONSTRAINT_H

#include "../format/json.h"
#include "vocabulary.h"

typedef struct constraint constraint;

/* Where a text stands; begins as zeros, and belongs to one constraint. */
typedef struct constraint_place
{
	uint64_t epoch;
	size_t read; /* bytes of the text */
	int32_t state;
} constraint_place;

/*
 * vocab: ids of the network, at least those of the vocabulary, which must stay.  LLM_INVALID for a
 * schema that is not supported, that nothing satisfies, or that the vocabulary cannot write.
 */
extern constraint *constraint_new(const json_t *schema, const vocabulary *v, int32_t vocab, llm_error *err);
extern void constraint_free(constraint *c); /* c may be NULL */
extern void constraint_set_poll(constraint *c, llm_poll poll, void *arg);

/* Tokens that suffice for a text. */
extern int64_t constraint_shortest(const constraint *c);

/*
 * What may follow a text of at most `left` tokens more, which was allowed so far: allowed (vocab
 * bits, (vocab + 63) / 64 words) gets the tokens, and `end`, unless it is -1, when the text may end.
 * *more is false when only the end may follow.  LLM_MEMORY, LLM_CANCELLED, and LLM_INVALID for a
 * text that was not allowed.
 */
extern bool constraint_next(constraint *c, constraint_place *at, const char *text, size_t size, int64_t left,
							int32_t end, uint64_t *allowed, bool *more, llm_error *err);

#endif /* LLMAPP_CONSTRAINT_H */
