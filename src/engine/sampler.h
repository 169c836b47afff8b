/*
 * sampler.h
 *	  Which token comes next: from the logits of a language model to one token.
 *
 * In this order: logits of tokens that were there before are made smaller by the
 * repetition penalty (Keskar et al., "CTRL", 2019), all are divided by the temperature,
 * then the top_k largest, those that together have the probability top_p (Holtzman et
 * al., "The curious case of neural text degeneration", 2019) and those that have at least
 * min_p of the largest probability stay.  The random number depends on the seed and the
 * position only, so a text can be made again.
 */
#ifndef LLMAPP_SAMPLER_H
#define LLMAPP_SAMPLER_H

#include <stdint.h>

#include "error.h"

typedef struct sampler_config
{
	double temperature;        /* 0: always the most probable token, the first of equals */
	int32_t top_k;             /* 0: all */
	double top_p;              /* (0, 1]; 1: all */
	double min_p;              /* [0, 1); 0: all */
	double repetition_penalty; /* >= 1; 1: none */
	uint64_t seed;
} sampler_config;

typedef struct sampler sampler;

/* Logits of `vocab` tokens.  LLM_INVALID names a setting that is out of range. */
extern sampler *sampler_new(const sampler_config *config, int32_t vocab, llm_error *err);
extern void sampler_free(sampler *s);
/* Only tokens whose bit is set, one at least, from now on, as it is then; it must stay.  NULL: all. */
extern void sampler_allow(sampler *s, const uint64_t *allowed);
/*
 * The token at this position of the text.  before: ids in [0, vocab) that the penalty is for.
 * *logprob (or NULL): natural logarithm of its probability by the model, before any of the
 * settings.  LLM_INVALID when logits are not finite.
 */
extern bool sampler_next(sampler *s, const float *logits, int64_t position, const int32_t *before,
						 int64_t before_count, int32_t *token, float *logprob, llm_error *err);

#endif /* LLMAPP_SAMPLER_H */
