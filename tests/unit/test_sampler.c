/*
 * test_sampler.c
 *	  Which token comes next: greedy, cut-offs, penalty, shares of many draws.
 */
#include <math.h>
#include <string.h>

#include "../../src/engine/sampler.h"
#include "test.h"

#define DRAWS 20000

/* Probabilities 1/2, 1/4, 1/8, 1/16, 1/16 in another order. */
static const float logits[5] = {-2.0794415f, -0.6931472f, -2.7725887f, -1.3862944f, -2.7725887f};

static const sampler_config plain = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 7};

/* Shares of the tokens in many draws. */
static void
shares(const sampler_config *config, const int32_t *before, int32_t count, double share[5])
{
	llm_error err = {0};
	sampler *s = sampler_new(config, 5, &err);

	memset(share, 0, 5 * sizeof(double));
	for (int64_t i = 0; CHECK(s != NULL) && i < DRAWS; i++)
	{
		int32_t token = -1;

		if (!CHECK(sampler_next(s, logits, i, before, count, &token, NULL, &err)) || !CHECK(token >= 0 && token < 5))
			break;
		share[token] += 1.0 / DRAWS;
	}
	sampler_free(s);
}

static void
check_shares(const sampler_config *config, const int32_t *before, int32_t count, const double expected[5])
{
	double share[5];

	shares(config, before, count, share);
	for (int i = 0; i < 5; i++) /* five standard deviations */
		CHECK(fabs(share[i] - expected[i]) <= 5 * sqrt(expected[i] * (1 - expected[i]) / DRAWS));
}

static void
test_shares(void)
{
	sampler_config c = plain;
	double half = 0.25 + 0.0625 + 0.015625 + 2 * 0.00390625; /* squares of the probabilities */

	check_shares(&c, NULL, 0, (double[]) {.125, .5, .0625, .25, .0625});
	c.top_k = 2;
	check_shares(&c, NULL, 0, (double[]) {0, 2 / 3.0, 0, 1 / 3.0, 0});
	c.top_k = 0;
	c.top_p = 0.8;
	check_shares(&c, NULL, 0, (double[]) {1 / 7.0, 4 / 7.0, 0, 2 / 7.0, 0});
	c.top_p = 1;
	c.min_p = 0.3;
	check_shares(&c, NULL, 0, (double[]) {0, 2 / 3.0, 0, 1 / 3.0, 0});
	c.min_p = 0;
	c.temperature = 0.5;
	check_shares(&c, NULL, 0,
				 (double[]) {.015625 / half, .25 / half, .00390625 / half, .0625 / half, .00390625 / half});
	c.temperature = 1;
	c.repetition_penalty = 2; /* 1/2 becomes 1/4, however often the token was there */
	check_shares(&c, (int32_t[]) {1, 1}, 2, (double[]) {.125 / .75, .25 / .75, .0625 / .75, .25 / .75, .0625 / .75});
}

static void
test_greedy(void)
{
	sampler_config c = plain;
	llm_error err = {0};
	sampler *s;
	int32_t token;
	float logprob;

	c.temperature = 0;
	s = sampler_new(&c, 5, &err);
	CHECK(sampler_next(s, logits, 0, NULL, 0, &token, &logprob, &err));
	CHECK_INT(token, 1);
	CHECK(fabs(logprob - log(0.5)) < 1e-6);
	CHECK(!sampler_next(s, (float[]) {0, NAN, 0, 0, 0}, 0, NULL, 0, &token, &logprob, &err));
	CHECK_INT(err.code, LLM_INVALID);
	sampler_free(s);
}

/* The same seed gives the same tokens, another one others. */
static void
test_seed(void)
{
	sampler_config other = plain;
	llm_error err = {0};
	sampler *a = sampler_new(&plain, 5, &err), *b = sampler_new(&plain, 5, &err), *c;
	int differ = 0;

	other.seed = 8;
	c = sampler_new(&other, 5, &err);
	for (int64_t i = 0; i < 100; i++)
	{
		int32_t x, y, z;

		sampler_next(a, logits, i, NULL, 0, &x, NULL, &err);
		sampler_next(b, logits, i, NULL, 0, &y, NULL, &err);
		sampler_next(c, logits, i, NULL, 0, &z, NULL, &err);
		CHECK_INT(x, y);
		differ += x != z;
	}
	CHECK(differ > 20);
	sampler_free(a);
	sampler_free(b);
	sampler_free(c);
}

static void
test_settings(void)
{
	const sampler_config wrong[] = {{.temperature = -1, .top_p = 1, .repetition_penalty = 1},
									{.temperature = NAN, .top_p = 1, .repetition_penalty = 1},
									{.top_k = -1, .top_p = 1, .repetition_penalty = 1},
									{.top_p = 0, .repetition_penalty = 1},
									{.top_p = 1, .min_p = 1, .repetition_penalty = 1},
									{.top_p = 1, .repetition_penalty = 0.5}};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		llm_error err = {0};

		CHECK(sampler_new(&wrong[i], 5, &err) == NULL);
		CHECK_INT(err.code, LLM_INVALID);
	}
}

int
main(void)
{
	test_greedy();
	test_shares();
	test_seed();
	test_settings();
	return test_summary();
}
