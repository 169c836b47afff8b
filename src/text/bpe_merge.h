/*
 * bpe_merge.h
 *	  Learn merges from counted words.
 */
#ifndef LLMAPP_BPE_MERGE_H
#define LLMAPP_BPE_MERGE_H

#include "../engine/net.h"

/* Distinct words, one after the other. */
typedef struct bpe_words
{
	const char *bytes;
	const uint32_t *start; /* (count) */
	const uint32_t *length;
	const int64_t *times; /* how often each occurs, > 0 */
	int32_t count;
} bpe_words;

typedef struct bpe_merge
{
	int32_t left;
	int32_t right;
	int32_t id; /* 256 .. for a new token, otherwise the one that has this text already */
} bpe_merge;

/*
 * Up to `tokens` new tokens; *merges is theirs in order, to be released with free(), and
 * *merge_count how many.  LLM_MEMORY or LLM_CANCELLED.
 */
extern bool bpe_learn(const bpe_words *words, int32_t tokens, int64_t min_count, bpe_merge **merges,
					  int32_t *merge_count, llm_poll poll, void *poll_arg, llm_error *err);

#endif /* LLMAPP_BPE_MERGE_H */
