/*
 * sampler.c
 *	  Which token comes next.
 *
 * Candidates are pairs of token and weight exp((logit - largest) / temperature).  They are
 * sorted only when a setting cuts them off, and then only those whose weight can matter:
 * a token less probable than the best by a factor of 1e10 is left out.  Tokens that are not
 * allowed are no candidates.
 */
#include "sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "philox.h"

#define LEAST_WEIGHT 1e-10
#define SAMPLE_KEY UINT64_C(0x53616D706C654B79) /* keeps the engine's streams apart */

typedef struct candidate
{
	int32_t token;
	double weight;
} candidate;

struct sampler
{
	sampler_config config;
	int32_t vocab;
	float *logits;           /* (vocab) after the penalty; -infinity: not allowed */
	const uint64_t *allowed; /* bits, NULL: all tokens are */
	candidate *candidates;   /* (vocab) */
};

static bool
check_config(const sampler_config *c, llm_error *err)
{
	if (!(c->temperature >= 0 && c->temperature <= 100))
		return llm_fail(err, LLM_INVALID, "temperature is %g, outside 0 to 100", c->temperature);
	if (c->top_k < 0)
		return llm_fail(err, LLM_INVALID, "top_k is %d, but cannot be negative", c->top_k);
	if (!(c->top_p > 0 && c->top_p <= 1))
		return llm_fail(err, LLM_INVALID, "top_p is %g, but must be more than 0 and at most 1", c->top_p);
	if (!(c->min_p >= 0 && c->min_p < 1))
		return llm_fail(err, LLM_INVALID, "min_p is %g, but must be at least 0 and less than 1", c->min_p);
	if (!(c->repetition_penalty >= 1 && c->repetition_penalty <= 100))
		return llm_fail(err, LLM_INVALID, "repetition_penalty is %g, outside 1 to 100", c->repetition_penalty);
	return true;
}

sampler *
sampler_new(const sampler_config *config, int32_t vocab, llm_error *err)
{
	sampler *s;

	if (!check_config(config, err))
		return NULL;
	s = calloc(1, sizeof(sampler));
	if (s != NULL)
	{
		s->config = *config;
		s->vocab = vocab;
		s->logits = malloc(vocab * sizeof(float));
		s->candidates = malloc(vocab * sizeof(candidate));
	}
	if (s == NULL || s->logits == NULL || s->candidates == NULL)
	{
		sampler_free(s);
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	return s;
}

void
sampler_free(sampler *s)
{
	if (s == NULL)
		return;
	free(s->logits);
	free(s->candidates);
	free(s);
}

void
sampler_allow(sampler *s, const uint64_t *allowed)
{
	s->allowed = allowed;
}

static void
forbid(sampler *s)
{
	for (int32_t i = 0; i < s->vocab; i++)
		if ((s->allowed[i / 64] >> i % 64 & 1) == 0)
			s->logits[i] = -INFINITY;
}

/* Once for each token, however often it was there. */
static void
penalise(sampler *s, const float *logits, const int32_t *before, int64_t count)
{
	float penalty = (float) s->config.repetition_penalty;

	memcpy(s->logits, logits, s->vocab * sizeof(float));
	for (int64_t i = 0; i < count && penalty != 1; i++)
		s->logits[before[i]] = logits[before[i]] > 0 ? logits[before[i]] / penalty : logits[before[i]] * penalty;
}

/* The largest; false when one of them is not finite. */
static bool
find_largest(const float *logits, int32_t n, int32_t *largest)
{
	bool finite = true;

	*largest = 0;
	for (int32_t i = 0; i < n; i++)
	{
		finite &= isfinite(logits[i]) != 0;
		if (logits[i] > logits[*largest])
			*largest = i;
	}
	return finite;
}

static float
log_probability(const float *logits, int32_t n, int32_t largest, int32_t token)
{
	double sum = 1; /* of the largest */

	for (int32_t i = 0; i < n; i++)
		sum += i == largest ? 0 : exp((double) logits[i] - logits[largest]);
	return (float) (logits[token] - logits[largest] - log(sum));
}

static int
by_weight(const void *a, const void *b)
{
	const candidate *x = a, *y = b;

	if (x->weight != y->weight)
		return x->weight < y->weight ? 1 : -1;
	return x->token < y->token ? -1 : 1;
}

/* How many of the sorted candidates stay. */
static int32_t
cut_off(const sampler *s, int32_t count)
{
	const candidate *c = s->candidates;
	double total = 0, seen = 0;
	int32_t n = s->config.top_k > 0 && s->config.top_k < count ? s->config.top_k : count;
	int32_t kept = 0;

	for (int32_t i = 0; i < n; i++)
		total += c[i].weight;
	while (kept < n &&
		   (kept == 0 || (seen < s->config.top_p * total && c[kept].weight >= s->config.min_p * c[0].weight)))
		seen += c[kept++].weight;
	return kept;
}

/* Candidates by weight, and how many there are. */
static int32_t
collect(sampler *s, float largest)
{
	const sampler_config *c = &s->config;
	bool cut = c->top_k > 0 || c->top_p < 1 || c->min_p > 0;
	int32_t count = 0;

	for (int32_t i = 0; i < s->vocab; i++)
	{
		double weight = exp(((double) s->logits[i] - largest) / c->temperature);

		if (cut ? weight >= LEAST_WEIGHT : s->logits[i] > -INFINITY)
			s->candidates[count++] = (candidate) {i, weight};
	}
	if (!cut)
		return count;
	qsort(s->candidates, count, sizeof(candidate), by_weight);
	return cut_off(s, count);
}

static int32_t
draw(const sampler *s, int32_t count, int64_t position)
{
	double total = 0, at;
	uint32_t random[4];
	int32_t i = 0;

	for (int32_t k = 0; k < count; k++)
		total += s->candidates[k].weight;
	philox(s->config.seed ^ SAMPLE_KEY, (uint64_t) position, 0, 0, random);
	at = total * (((double) random[0] * 4294967296.0 + random[1]) / 18446744073709551616.0);
	while (i < count - 1 && at >= s->candidates[i].weight)
		at -= s->candidates[i++].weight;
	return s->candidates[i].token;
}

bool
sampler_next(sampler *s, const float *logits, int64_t position, const int32_t *before, int64_t before_count,
			 int32_t *token, float *logprob, llm_error *err)
{
	int32_t raw, largest;

	if (!find_largest(logits, s->vocab, &raw))
		return llm_fail(err, LLM_INVALID, "the model's output is not finite");
	penalise(s, logits, before, before_count);
	if (s->allowed != NULL)
		forbid(s);
	find_largest(s->logits, s->vocab, &largest);
	*token = s->config.temperature == 0 ? largest : draw(s, collect(s, s->logits[largest]), position);
	if (logprob != NULL)
		*logprob = log_probability(logits, s->vocab, raw, *token);
	return true;
}
