/*
 * scheduler.h
 *	  Texts that come, grow and go, through one decoder: which of them take part in the next pass.
 *
 * Use: scheduler_open() a text, scheduler_give() it tokens, and call scheduler_pass() while scheduler_waits(); when
 * a text is scheduler_done(), its logits are there until the next pass.  Each pass takes the next token of every text
 * that goes on, and beside them prompts in pieces, the oldest first, so that a long prompt does not hold up others.
 * Texts that begin alike share full pages.  When pages run out, those of a text that waits for its owner are taken, then
 * of the youngest; such a text is computed again when its turn comes, which nobody notices but by the time.
 *
 * No function waits; the caller is one thread.
 */
#ifndef LLMAPP_SCHEDULER_H
#define LLMAPP_SCHEDULER_H

#include "decoder.h"

typedef struct scheduler scheduler;

/*
 * d has this shape, and pages for a text as long as the context at least.  piece: most tokens of prompts in a pass, at
 * least 1; texts: most that are open.
 */
extern scheduler *scheduler_new(decoder *d, const decoder_shape *shape, int32_t context, int32_t texts, int32_t piece,
								llm_error *err);
extern void scheduler_free(scheduler *s); /* leaves the decoder; s may be NULL */

extern int32_t scheduler_open(scheduler *s); /* a text without tokens, or -1: all are taken */
extern void scheduler_close(scheduler *s, int32_t text);
/*
 * Keep the first `keep` tokens of a text and append `count` >= 1.  LLM_INVALID when it has not so many, or the context
 * does not; the tokens themselves are the decoder's to check.
 */
extern bool scheduler_give(scheduler *s, int32_t text, int32_t keep, const int32_t *ids, int32_t count,
						   llm_error *err);

extern bool scheduler_waits(const scheduler *s); /* some text has tokens that were not computed */
/* After LLM_CANCELLED it can be run again; after other errors texts of it have no keys and values. */
extern bool scheduler_pass(scheduler *s, llm_error *err);
extern bool scheduler_done(const scheduler *s, int32_t text); /* by the last pass */
/* (vocab), of what follows a text that is done. */
extern const float *scheduler_logits(const scheduler *s, int32_t text);

/* Since scheduler_new(). */
typedef struct scheduler_counts
{
	int64_t passes;
	int64_t tokens;    /* computed */
	int64_t shared;    /* found in pages of others */
	int64_t preempted; /* texts whose pages were taken */
} scheduler_counts;

extern scheduler_counts scheduler_count(const scheduler *s);

#endif /* LLMAPP_SCHEDULER_H */
