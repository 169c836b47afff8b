/*
 * generator.h
 *	  Text by a transformer, token after token: what keys and values earlier tokens left is
 *	  kept, so each new token costs one pass through the network.
 *
 * A bidirectional network, or one without a head for tokens, has no next token: it can only embed or
 * label whole texts, and everything that appends, steps or scores refuses it with LLM_INVALID.
 *
 * A network with an encoder writes about a source that each sequence has: generator_source(), then
 * a first token, that with which targets began in training, by append or step.  The encoder
 * runs once, and what decoder layers read of it is kept.
 *
 * Several sequences live beside each other.  Everything is allocated by generator_new() and
 * works in the calling thread; OpenBLAS serves when more than 8 tokens go through at once.
 * A sequence's numbers do not depend on what goes through beside it while at most 8 tokens do:
 * each row of a matrix-vector product is computed alone.  Beyond, and between a prompt given at
 * once and token by token, they may differ by rounding.
 */
#ifndef LLMAPP_GENERATOR_H
#define LLMAPP_GENERATOR_H

#include "net.h"

typedef struct generator generator;

/* Bytes that generator_new() will allocate. */
extern bool generator_memory(const net *n, int32_t sequences, int32_t positions, int32_t sources, size_t *bytes,
							 llm_error *err);
/*
 * Room for `sequences` sequences of `positions` tokens, at most the network's context, each with a
 * source of `sources` tokens, at most the source context; 0 without an encoder.  weights: net_kept_bytes() bytes,
 * 64-byte aligned, kept by the caller, never written.  LLM_INVALID for a network that is no language model.
 */
extern generator *generator_new(const net *n, const void *weights, int32_t sequences, int32_t positions,
								int32_t sources, llm_error *err);
extern void generator_free(generator *g); /* g may be NULL */
extern void generator_set_poll(generator *g, llm_poll poll, void *arg);

extern int32_t generator_length(const generator *g, int32_t sequence);          /* tokens it has */
extern void generator_truncate(generator *g, int32_t sequence, int32_t length); /* >= 0; forget tokens behind */

/*
 * Begin a sequence anew, without tokens, with this source; or several different ones, with counts[i]
 * tokens for sequences[i], laid end to end.  After LLM_INVALID they are as before, after
 * LLM_CANCELLED they have neither tokens nor sources.
 */
extern bool generator_source(generator *g, int32_t sequence, const int32_t *ids, int32_t count, llm_error *err);
extern bool generator_source_many(generator *g, const int32_t *sequences, const int32_t *counts, int32_t count,
								  const int32_t *ids, llm_error *err);

/*
 * Append tokens to one sequence; to several different ones, counts[i] to sequences[i], laid end to
 * end, which for short prompts is faster than one by one; or one token each.  After a failure,
 * LLM_INVALID for an id, a sequence or a length out of range or a source that is missing and
 * LLM_CANCELLED, they are as long as before.
 */
extern bool generator_append(generator *g, int32_t sequence, const int32_t *ids, int32_t count, llm_error *err);
extern bool generator_append_many(generator *g, const int32_t *sequences, const int32_t *counts, int32_t count,
								  const int32_t *ids, llm_error *err);
extern bool generator_step(generator *g, const int32_t *sequences, const int32_t *ids, int32_t count, llm_error *err);
/* (vocab), of what follows a sequence of the last append or step, which succeeded; valid until the next call. */
extern const float *generator_logits(const generator *g, int32_t sequence);

/*
 * Begin sequence 0 anew with a text and give the logarithm of the probability of each of its
 * tokens but the first, (count - 1), given its source, and in `best`, unless it is NULL, whether none
 * is more probable; or what the network makes of it, (net_embedding_width()): the stream behind the last norm,
 * pooled, and through its dense layers.
 * After LLM_INVALID sequence 0 is as before, after LLM_CANCELLED it is empty.  A network with an encoder
 * embeds by its encoder, and leaves sequences alone.
 */
extern bool generator_score(generator *g, const int32_t *ids, int32_t count, float *logprob, bool *best,
							llm_error *err);
extern bool generator_embed(generator *g, const int32_t *ids, int32_t count, text_pool pool, float *out,
							llm_error *err);
/* The same of several texts, counts[i] tokens of the i-th, laid end to end, for sequences 0 and on. */
extern bool generator_embed_many(generator *g, const int32_t *counts, int32_t count, const int32_t *ids,
								 text_pool pool, float *out, llm_error *err);
/*
 * Begin sequence 0 anew with a text, and give what the head makes of its tokens at these positions, ascending:
 * (position_count, labels), logits; (position_count, vocab) of a network without labels, as for masked tokens.
 * positions NULL: all of them.  Fails as generator_embed().
 */
extern bool generator_label(generator *g, const int32_t *ids, int32_t count, const int32_t *positions,
							int32_t position_count, float *out, llm_error *err);

#endif /* LLMAPP_GENERATOR_H */
