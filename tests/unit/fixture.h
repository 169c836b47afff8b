/*
 * fixture.h
 *	  Networks and batches of random numbers for the tests of the engine.
 */
#ifndef LLMAPP_FIXTURE_H
#define LLMAPP_FIXTURE_H

#include <stdlib.h>

#include "../../src/engine/net.h"
#include "../../src/engine/philox.h"
#include "test.h"

/* A stream of numbers in [0, 1), the same in every run. */
static uint32_t fixture_counter;

static inline float
next_uniform(void)
{
	uint32_t bits[4];

	philox(42, 0, 0, fixture_counter++, bits);
	return philox_uniform(bits[0]);
}

static inline float
next_normal(void)
{
	float sum = 0;

	for (int i = 0; i < 12; i++)
		sum += next_uniform();
	return sum - 6;
}

/* Dense, embedded and bag inputs; two hidden layers of equal width. */
static inline net_config
small_config(net_loss loss)
{
	net_config c = {
		.shape = {.dense = 7, .embed_columns = 2, .embed_rows = 9, .bag_rows = 11, .bag_max = 3, .outputs = 1},
		.embed_dim = 3,
		.hidden_count = 2,
		.hidden = {12, 12},
		.activation = ACT_GELU,
		.loss = loss,
		.huber_delta = 0.7f,
	};

	c.shape.outputs = loss == LOSS_CROSS_ENTROPY ? 5 : loss == LOSS_BINARY ? 1 : 2;
	c.shape.class_target = loss == LOSS_CROSS_ENTROPY || loss == LOSS_BINARY;
	return c;
}

static inline train_config
small_training(int32_t threads)
{
	return (train_config) {
		.optimizer = OPT_ADAMW,
		.learning_rate = 1e-2,
		.weight_decay = 1e-2,
		.beta1 = 0.9,
		.beta2 = 0.999,
		.epsilon = 1e-8,
		.momentum = 0.9,
		.clip_norm = 1,
		.schedule = SCHEDULE_COSINE,
		.warmup_steps = 3,
		.total_steps = 100,
		.ema_decay = 0.9,
		.seed = 7,
		.threads = threads,
	};
}

static inline int32_t
next_below(int32_t limit)
{
	return (int32_t) (next_uniform() * limit) % limit;
}

static inline void
fill_batch(batch *b, int64_t rows)
{
	const batch_shape *s = &b->shape;

	b->rows = rows;
	for (int64_t i = 0; i < rows * s->dense; i++)
		b->dense[i] = next_normal();
	for (int64_t i = 0; i < rows * s->embed_columns; i++)
		b->embed[i] = next_below(s->embed_rows);
	for (int64_t i = 0; i < rows; i++)
	{
		int32_t at = b->bag_start[i];

		for (int32_t j = 0; s->bag_rows > 0 && j < (i == 1 ? 0 : 1 + next_below(s->bag_max)); j++, at++)
		{
			b->bag_index[at] = next_below(s->bag_rows);
			b->bag_value[at] = next_normal();
		}
		b->bag_start[i + 1] = at;
		if (s->class_target)
			b->target_class[i] = next_below(s->outputs > 1 ? s->outputs : 2);
		else
			for (int32_t j = 0; j < s->outputs; j++)
				b->target_number[i * s->outputs + j] = next_normal();
		b->weight[i] = 0.2f + next_uniform();
	}
	for (int64_t i = 0; i < rows && s->vocab > 0; i++)
	{
		b->token_start[i + 1] = b->token_start[i] + 1 + next_below(s->context);
		for (int32_t k = b->token_start[i]; k < b->token_start[i + 1]; k++)
			b->token[k] = next_below(s->vocab);
	}
}

/* Report an error that a test did not expect. */
static inline void
check_no_error(const llm_error *err)
{
	if (err->code != LLM_OK)
		fprintf(stderr, "error: %s\n", err->message);
	CHECK_INT(err->code, LLM_OK);
}

#endif /* LLMAPP_FIXTURE_H */
