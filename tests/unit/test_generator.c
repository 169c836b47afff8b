/*
 * test_generator.c
 *	  Generation with kept keys and values: the same numbers as the graph that trains, however
 *	  tokens are given; lengths, ids and requests to stop.
 */
#include <stdlib.h>

#include "../../src/engine/generator.h"
#include "../../src/engine/transformer_record.h"
#include "net_check.h"

#define VOCAB 53
#define CONTEXT 200
#define SOURCES (CONTEXT + 3)

static net_config
transformer_of(const char *family, int32_t kv_heads)
{
	net_config c = small_transformer(family, VOCAB, CONTEXT);

	c.text.width = 20;
	c.text.depth = 3;
	c.text.kv_heads = kv_heads;
	c.text.ffn = 33;
	return c;
}

typedef struct model
{
	net *n;
	float *weights;
	int32_t ids[CONTEXT];
	int32_t source[SOURCES];
} model;

static model
make_model(const net_config *c)
{
	llm_error err = {0};
	model m = {.n = net_new(c, &err)};

	CHECK(m.n != NULL);
	m.weights = aligned_alloc(64, net_weight_bytes(m.n));
	random_weights(m.n, m.weights, 0.3f);
	for (int i = 0; i < CONTEXT; i++)
		m.ids[i] = next_below(VOCAB);
	for (int i = 0; i < SOURCES; i++)
		m.source[i] = next_below(VOCAB);
	return m;
}

static void
free_model(model *m)
{
	net_free(m->n);
	free(m->weights);
}

/* Losses of the first `count` tokens by the graph, behind the first `sources` tokens of the source. */
static void
graph_losses(const model *m, int32_t sources, int32_t count, float *losses)
{
	llm_error err = {0};
	batch *b = batch_new(&net_get_config(m->n)->shape, 1, &err);
	run_args run = {.simd = simd_best()};
	net_plan p;
	void *arena;

	CHECK(net_plan_new(&p, m->n, MODE_SCORE, 1, &err));
	arena = aligned_alloc(64, plan_arena_bytes(p.plan));
	b->rows = 1;
	b->token_start[1] = count;
	if (b->source)
	{
		b->source_start[1] = sources;
		memcpy(b->source, m->source, sources * sizeof(int32_t));
	}
	memcpy(b->token, m->ids, count * sizeof(int32_t));
	memcpy(b->token_target, m->ids + 1, count * sizeof(int32_t));
	for (int32_t i = 0; i < count; i++)
		b->token_weight[i] = 1;
	net_plan_bind(&p, b);
	net_rows(b, run.rows);
	plan_attach(p.plan, arena, m->weights);
	CHECK(plan_run(p.plan, &run, &err));
	memcpy(losses, plan_address(p.plan, p.loss), count * sizeof(float));
	net_plan_free(&p);
	batch_free(b);
	free(arena);
}

static double
loss_of(const float *logits, int32_t token)
{
	double sum = 0;

	for (int i = 0; i < VOCAB; i++)
		sum += exp((double) logits[i] - logits[token]);
	return log(sum);
}

static int32_t
largest_of(const float *logits)
{
	int32_t largest = 0;

	for (int32_t i = 1; i < VOCAB; i++)
		if (logits[i] > logits[largest])
			largest = i;
	return largest;
}

#define COUNT (CONTEXT - 1)

/* At once, in pieces, token by token: sums of 20 to 60 terms in float, three layers deep, so 1e-4 is far above rounding. */
static void
check_against_graph(const net_config *c)
{
	llm_error err = {0};
	model m = make_model(c);
	generator *g = generator_new(m.n, m.weights, 2, CONTEXT, 0, &err);
	float losses[COUNT], logprob[COUNT];
	bool best[COUNT];
	int32_t pieces[] = {1, 7, 130, 1, 2, 9};
	int32_t at = 0, one = 1;

	if (!CHECK(g != NULL))
		return;
	graph_losses(&m, 0, COUNT, losses);
	CHECK(generator_append(g, 0, m.ids, COUNT, &err));
	CHECK(fabs(loss_of(generator_logits(g, 0), m.ids[COUNT]) - losses[COUNT - 1]) < 1e-4);
	for (int i = 0; i < 6; i++)
	{
		CHECK(generator_append(g, 1, m.ids + at, pieces[i], &err));
		at += pieces[i];
		CHECK_INT(generator_length(g, 1), at);
		CHECK(fabs(loss_of(generator_logits(g, 1), m.ids[at]) - losses[at - 1]) < 1e-4);
	}
	for (; at < COUNT; at++)
	{
		CHECK(generator_step(g, &one, &m.ids[at], 1, &err));
		CHECK(fabs(loss_of(generator_logits(g, 1), m.ids[at + 1]) - losses[at]) < 1e-4);
	}
	generator_truncate(g, 1, 10);
	CHECK(generator_append(g, 1, m.ids + 10, 1, &err));
	CHECK(fabs(loss_of(generator_logits(g, 1), m.ids[11]) - losses[10]) < 1e-4);
	CHECK(generator_score(g, m.ids, COUNT + 1, logprob, best, &err));
	generator_truncate(g, 1, 0);
	for (int i = 0; i < COUNT; i++)
	{
		CHECK(fabs(logprob[i] + losses[i]) < 1e-4);
		CHECK(generator_append(g, 1, m.ids + i, 1, &err));
		CHECK_INT(best[i], largest_of(generator_logits(g, 1)) == m.ids[i + 1]);
	}
	generator_free(g);
	free_model(&m);
}

static void
test_families(void)
{
	net_config c = transformer_of("gpt", 4);

	check_against_graph(&c);
	c.text.tied = false;
	check_against_graph(&c);
	c = transformer_of("llama", 2);
	check_against_graph(&c);
	c.text.qk_norm = c.text.qkv_bias = true;
	check_against_graph(&c);
	use_windows(&c, 5);
	check_against_graph(&c);
	c = transformer_of("gpt", 2);
	c.text.post_norm = true;
	check_against_graph(&c);
	c = transformer_of("t5", 2);
	c.text.encoder_depth = c.text.source_context = c.shape.source_context = 0;
	check_against_graph(&c);
	c = transformer_of("llama", 2);
	c.text.parallel = c.text.embed_scale = true;
	c.text.rotary_dim = 2;
	c.text.rope_factor = 4;
	check_against_graph(&c);
	c.text.rope_low = 1;
	c.text.rope_high = 8;
	c.text.rope_context = 50;
	check_against_graph(&c);
}

/* Eight sequences together have the bytes that each has alone. */
static void
test_together(void)
{
	net_config c = transformer_of("llama", 1);
	llm_error err = {0};
	model m = make_model(&c);
	generator *together = generator_new(m.n, m.weights, 8, 40, 0, &err),
			  *alone = generator_new(m.n, m.weights, 1, 40, 0, &err);
	int32_t sequences[8], ids[8], zero = 0;

	for (int i = 0; i < 8; i++)
	{
		sequences[i] = 7 - i;
		CHECK(generator_append(together, i, m.ids + i, 3 + i, &err));
	}
	for (int i = 0; i < 8; i++)
		ids[i] = m.ids[50 + i];
	CHECK(generator_step(together, sequences, ids, 8, &err));
	for (int i = 0; i < 8; i++)
	{
		int s = sequences[i];

		generator_truncate(alone, 0, 0);
		CHECK(generator_append(alone, 0, m.ids + s, 3 + s, &err));
		CHECK(generator_step(alone, &zero, &ids[i], 1, &err));
		CHECK(memcmp(generator_logits(alone, 0), generator_logits(together, s), VOCAB * sizeof(float)) == 0);
	}
	generator_free(together);
	generator_free(alone);
	free_model(&m);
}

/* Of a step of a sequence that has `at` tokens behind it now. */
static bool
predicts(const generator *g, int32_t sequence, const model *m, int32_t at, const float *losses)
{
	return CHECK(fabs(loss_of(generator_logits(g, sequence), m->ids[at]) - losses[at - 1]) < 1e-4);
}

/* Three sequences about sources of different lengths: in pieces, then all of them step by step; then scored. */
static void
check_sources_against_graph(const net_config *c)
{
	static float losses[3][COUNT];
	static const int32_t sources[3] = {1, 70, SOURCES}, pieces[3] = {1, 130, 9};
	llm_error err = {0};
	model m = make_model(c);
	generator *g = generator_new(m.n, m.weights, 3, CONTEXT, SOURCES, &err);
	float logprob[COUNT];

	if (!CHECK(g != NULL))
		return;
	for (int32_t i = 0; i < 3; i++)
	{
		graph_losses(&m, sources[i], COUNT, losses[i]);
		CHECK(generator_source(g, i, m.source, sources[i], &err));
		CHECK(generator_append(g, i, m.ids, pieces[i], &err));
		predicts(g, i, &m, pieces[i], losses[i]);
	}
	for (int32_t step = 0; pieces[1] + step < COUNT; step++)
	{
		int32_t sequences[3] = {2, 0, 1}, ids[3];

		for (int i = 0; i < 3; i++)
			ids[i] = m.ids[pieces[sequences[i]] + step];
		CHECK(generator_step(g, sequences, ids, 3, &err));
		for (int32_t i = 0; i < 3; i++)
			predicts(g, i, &m, pieces[i] + step + 1, losses[i]);
	}
	for (int i = 0; i < 3; i++)
	{
		CHECK(generator_source(g, 0, m.source, sources[i], &err));
		CHECK(generator_score(g, m.ids, COUNT + 1, logprob, NULL, &err));
		for (int k = 0; k < COUNT; k++)
			CHECK(fabs(logprob[k] + losses[i][k]) < 1e-4);
	}
	generator_truncate(g, 2, 4);
	CHECK(generator_append(g, 2, m.ids + 4, 1, &err));
	predicts(g, 2, &m, 5, losses[2]);
	generator_free(g);
	free_model(&m);
}

static void
test_sources(void)
{
	net_config c = transformer_of("t5", 2);

	check_sources_against_graph(&c);
	c.text.gated = c.text.qk_norm = true;
	c.text.activation = ACT_GELU_TANH;
	c.text.tied = c.text.head_scale = false;
	check_sources_against_graph(&c);
	c.text.bias = c.text.qkv_bias = c.text.post_norm = true;
	c.text.rms_norm = c.text.gated = false;
	check_sources_against_graph(&c);
}

/* Sequences about other sources leave the bytes of one as they are, also when one of them gets another. */
static void
test_sources_together(void)
{
	net_config c = transformer_of("t5", 4);
	llm_error err = {0};
	model m = make_model(&c);
	generator *together = generator_new(m.n, m.weights, 8, 20, 50, &err),
			  *alone = generator_new(m.n, m.weights, 1, 20, 50, &err);
	int32_t sequences[8], zero = 0;

	for (int32_t i = 0; i < 8; i++)
	{
		sequences[i] = i;
		CHECK(generator_source(together, i, m.source + i, 43 + i, &err));
		CHECK(generator_append(together, i, m.ids + i, 3 + i, &err));
	}
	CHECK(generator_source(together, 5, m.source + 60, 11, &err));
	CHECK_INT(generator_length(together, 5), 0);
	CHECK(generator_step(together, sequences, m.ids + 50, 8, &err));
	for (int32_t i = 0; i < 8; i++)
	{
		CHECK(generator_source(alone, 0, m.source + (i == 5 ? 60 : i), i == 5 ? 11 : 43 + i, &err));
		if (i != 5)
			CHECK(generator_append(alone, 0, m.ids + i, 3 + i, &err));
		CHECK(generator_step(alone, &zero, m.ids + 50 + i, 1, &err));
		CHECK(memcmp(generator_logits(alone, 0), generator_logits(together, i), VOCAB * sizeof(float)) == 0);
	}
	generator_free(together);
	generator_free(alone);
	free_model(&m);
}

static float
worst_difference(const float *a, const float *b, int count)
{
	float worst = 0;

	for (int i = 0; i < count; i++)
		worst = fmaxf(worst, fabsf(a[i] - b[i]));
	return worst;
}

/* Sources in one call against each alone: three passes of 203 rows, for a source is not cut in two. */
static void
test_sources_at_once(void)
{
	net_config c = transformer_of("t5", 2);
	llm_error err = {0};
	model m = make_model(&c);
	generator *together = generator_new(m.n, m.weights, 5, 20, SOURCES, &err),
			  *alone = generator_new(m.n, m.weights, 5, 20, SOURCES, &err);
	int32_t sequences[4] = {3, 0, 4, 1}, counts[4] = {100, 103, 7, SOURCES - 6}, twice[2] = {2, 2}, offset = 0;
	int32_t ids[3 * SOURCES];

	for (int i = 0; i < 3 * SOURCES; i++)
		ids[i] = next_below(VOCAB);
	CHECK(generator_source(together, 2, ids, 5, &err) && generator_append(together, 2, m.ids, 3, &err));
	CHECK(generator_source_many(together, sequences, counts, 4, ids, &err));
	CHECK(generator_step(together, sequences, m.ids, 4, &err));
	for (int i = 0; i < 4; i++)
	{
		CHECK(generator_source(alone, sequences[i], ids + offset, counts[i], &err));
		CHECK(generator_append(alone, sequences[i], m.ids + i, 1, &err));
		CHECK(worst_difference(generator_logits(alone, sequences[i]), generator_logits(together, sequences[i]),
							   VOCAB) < 1e-4f);
		offset += counts[i];
	}
	CHECK_INT(generator_length(together, 2), 3);
	CHECK(!generator_source_many(together, twice, counts, 2, ids, &err) && err.code == LLM_INVALID);
	CHECK_INT(generator_length(together, 2), 3);
	generator_free(together);
	generator_free(alone);
	free_model(&m);
}

/* Prompts in one call against each alone: to the bit while they go through the kernels of few rows. */
static void
check_prompts(const net_config *c, const int32_t counts[4], bool to_the_bit)
{
	int32_t sources = c->text.encoder_depth > 0 ? SOURCES : 0, sequences[4] = {3, 0, 4, 1}, offset = 0;
	llm_error err = {0};
	model m = make_model(c);
	generator *together = generator_new(m.n, m.weights, 5, CONTEXT, sources, &err),
			  *alone = generator_new(m.n, m.weights, 5, CONTEXT, sources, &err);

	for (int32_t i = 0; i < 5 && sources > 0; i++)
	{
		CHECK(generator_source(together, i, m.source + i, 9 + i, &err));
		CHECK(generator_source(alone, i, m.source + i, 9 + i, &err));
	}
	CHECK(generator_append(together, 4, m.ids, 5, &err) && generator_append(alone, 4, m.ids, 5, &err));
	CHECK(generator_append_many(together, sequences, counts, 4, m.ids, &err));
	for (int i = 0; i < 4; i++)
	{
		const float *logits = generator_logits(together, sequences[i]);

		CHECK(generator_append(alone, sequences[i], m.ids + offset, counts[i], &err));
		CHECK_INT(generator_length(together, sequences[i]), generator_length(alone, sequences[i]));
		CHECK(worst_difference(generator_logits(alone, sequences[i]), logits, VOCAB) <= (to_the_bit ? 0 : 1e-4f));
		offset += counts[i];
	}
	CHECK_INT(generator_length(together, 2), 0);
	generator_free(together);
	generator_free(alone);
	free_model(&m);
}

/* The second and third cross the end of a pass, which reads up to 128 tokens, with a source up to SOURCES. */
static void
test_prompts(void)
{
	static const int32_t few[4] = {2, 1, 3, 2}, many[4] = {100, 29, 12, 59}, one_long[4] = {1, 190, 1, 8};
	net_config families[] = {transformer_of("gpt", 4), transformer_of("llama", 2), transformer_of("t5", 2)};

	for (int i = 0; i < 3; i++)
	{
		check_prompts(&families[i], few, true);
		check_prompts(&families[i], many, false);
		check_prompts(&families[i], one_long, false);
	}
}

/* Keys and values of a source for each of 3 layers and 5 sequences; longer ones need longer passes, too. */
static void
test_source_memory(void)
{
	net_config c = transformer_of("t5", 2);
	llm_error err = {0};
	net *n = net_new(&c, &err);
	size_t few, more, most;

	CHECK(generator_memory(n, 5, 10, 32, &few, &err) && generator_memory(n, 5, 10, 64, &more, &err));
	CHECK_INT(more - few, 3 * 5 * 32 * 2 * (2 * 6) * sizeof(float));
	CHECK(generator_memory(n, 5, 10, SOURCES, &most, &err));
	CHECK(most - more > 3 * 5 * (SOURCES - 64) * 2 * (2 * 6) * sizeof(float));
	CHECK(!generator_memory(n, 5, 10, SOURCES + 1, &most, &err) && err.code == LLM_INVALID);
	net_free(n);
}

static bool
stop_at_third(void *arg)
{
	return ++*(int *) arg == 3;
}

static void
test_refused(void)
{
	net_config c = transformer_of("gpt", 4), columns = small_config(LOSS_BINARY), encoder = transformer_of("t5", 4);
	llm_error err = {0};
	model m = make_model(&c);
	net *other = net_new(&columns, &err), *translator = net_new(&encoder, &err);
	generator *g = generator_new(m.n, m.weights, 1, 20, 0, &err);
	int32_t wrong = VOCAB, zero = 0;
	int calls = 0;

	CHECK(generator_new(other, m.weights, 1, 20, 0, &err) == NULL && err.code == LLM_INVALID);
	err.code = LLM_OK;
	CHECK(generator_new(translator, m.weights, 1, 20, 0, &err) == NULL && strstr(err.message, "encoder") != NULL);
	err.code = LLM_OK;
	CHECK(generator_new(m.n, m.weights, 1, 20, 5, &err) == NULL && err.code == LLM_INVALID);
	err.code = LLM_OK;
	CHECK(generator_new(m.n, m.weights, 1, CONTEXT + 1, 0, &err) == NULL && err.code == LLM_INVALID);
	err.code = LLM_OK;
	CHECK(!generator_append(g, 0, m.ids, 21, &err));
	CHECK(strstr(err.message, "do not fit into a context of 20") != NULL);
	err.code = LLM_OK;
	CHECK(!generator_append(g, 0, &wrong, 1, &err) && err.code == LLM_INVALID);
	CHECK(generator_append(g, 0, m.ids, 20, &err));
	CHECK(!generator_step(g, &zero, m.ids, 1, &err));
	err.code = LLM_OK;
	CHECK(!generator_source(g, 0, m.source, 3, &err) && strstr(err.message, "no encoder") != NULL);
	generator_truncate(g, 0, 5);
	generator_set_poll(g, stop_at_third, &calls);
	err.code = LLM_OK;
	CHECK(!generator_append(g, 0, m.ids, 3, &err) && err.code == LLM_CANCELLED);
	CHECK_INT(generator_length(g, 0), 5);
	generator_free(g);
	net_free(other);
	net_free(translator);
	free_model(&m);
}

static bool
fails(bool done, const char *message, llm_error *err)
{
	bool failed = !done && err->code == LLM_INVALID && strstr(err->message, message) != NULL;

	err->code = LLM_OK;
	return failed;
}

/* One prompt that is refused or canceled leaves all sequences as they were. */
static void
test_prompts_refused(void)
{
	net_config c = transformer_of("gpt", 4);
	llm_error err = {0};
	model m = make_model(&c);
	generator *g = generator_new(m.n, m.weights, 3, 100, 0, &err);
	int32_t sequences[4] = {2, 0, 1, 3}, twice[2] = {1, 1}, counts[4] = {60, 90, 3, 1};
	int32_t none[2] = {3, 0}, longer[2] = {3, 101}, wrong[2] = {1, VOCAB};

	CHECK(fails(generator_append_many(g, sequences, counts, 0, m.ids, &err), "0 sequences", &err));
	CHECK(fails(generator_append_many(g, sequences, counts, 4, m.ids, &err), "4 sequences", &err));
	CHECK(fails(generator_append_many(g, twice, counts, 2, m.ids, &err), "sequence 1 is given twice", &err));
	CHECK(fails(generator_append_many(g, sequences, none, 2, m.ids, &err), "0 tokens more", &err));
	CHECK(fails(generator_append_many(g, sequences, longer, 2, m.ids, &err), "101 tokens more", &err));
	CHECK(fails(generator_step(g, sequences, wrong, 2, &err), "token 53", &err));
	for (int before = 0; before < 7; before++) /* two passes through three layers, and logits */
	{
		int calls = 2 - before;

		generator_set_poll(g, stop_at_third, &calls);
		CHECK(!generator_append_many(g, sequences, counts, 3, m.ids, &err) && err.code == LLM_CANCELLED);
		err.code = LLM_OK;
		for (int i = 0; i < 3; i++)
			CHECK_INT(generator_length(g, i), 0);
	}
	generator_set_poll(g, NULL, NULL);
	CHECK(generator_append_many(g, sequences, counts, 3, m.ids, &err));
	CHECK_INT(generator_length(g, 2) * 10000 + generator_length(g, 0) * 100 + generator_length(g, 1), 609003);
	generator_free(g);
	free_model(&m);
}

/* Nothing is written without a source; what is refused changes nothing, and a canceled one leaves none. */
static void
test_source_refused(void)
{
	net_config c = transformer_of("t5", 4);
	llm_error err = {0};
	model m = make_model(&c);
	generator *g = generator_new(m.n, m.weights, 2, 20, 30, &err);
	int32_t wrong[2] = {3, -1}, both[2] = {0, 1};
	float logprob[20];

	CHECK(fails(generator_append(g, 0, m.ids, 3, &err), "sequence 0 has no source", &err));
	CHECK(fails(generator_score(g, m.ids, 3, logprob, NULL, &err), "sequence 0 has no source", &err));
	CHECK(generator_source(g, 0, m.source, 30, &err) && generator_append(g, 0, m.ids, 3, &err));
	CHECK(fails(generator_step(g, both, m.ids, 2, &err), "sequence 1 has no source", &err));
	CHECK(fails(generator_source(g, 0, m.source, 31, &err), "does not fit into 30", &err));
	CHECK(fails(generator_source(g, 0, m.source, 0, &err), "does not fit into 30", &err));
	CHECK(fails(generator_source(g, 0, wrong, 2, &err), "token -1", &err));
	CHECK(fails(generator_source(g, 2, m.source, 2, &err), "sequence 2", &err));
	CHECK_INT(generator_length(g, 0), 3);
	CHECK(generator_append(g, 0, m.ids, 1, &err) && generator_source(g, 1, m.source, 5, &err));
	for (int before = 0; before < 5; before++) /* two layers encode, three keep */
	{
		int calls = 2 - before;

		generator_set_poll(g, stop_at_third, &calls);
		CHECK(!generator_source(g, 1, m.source, 5, &err) && err.code == LLM_CANCELLED);
		generator_set_poll(g, NULL, NULL);
		err.code = LLM_OK;
		CHECK(fails(generator_append(g, 1, m.ids, 1, &err), "sequence 1 has no source", &err));
	}
	CHECK(generator_source(g, 1, m.source, 5, &err) && generator_append(g, 1, m.ids, 1, &err));
	CHECK_INT(generator_length(g, 0), 4);
	generator_free(g);
	free_model(&m);
}

/* The mean over tokens is that of the single ones. */
static void
test_embed(void)
{
	net_config c = transformer_of("llama", 4);
	llm_error err = {0};
	model m = make_model(&c);
	generator *g = generator_new(m.n, m.weights, 1, CONTEXT, 0, &err);
	float mean[20], last[20], sum[20] = {0};

	CHECK(generator_embed(g, m.ids, 150, POOL_MEAN, mean, &err));
	for (int i = 1; i <= 150; i++)
	{
		CHECK(generator_embed(g, m.ids, i, POOL_LAST, last, &err));
		for (int k = 0; k < 20; k++)
			sum[k] += last[k] / 150;
	}
	for (int k = 0; k < 20; k++)
		CHECK(fabsf(sum[k] - mean[k]) < 1e-4f);
	generator_free(g);
	free_model(&m);
}

/* What an encoder embeds is read by its own layers alone, and sequences stay as they are. */
static void
test_embed_source(void)
{
	net_config c = transformer_of("t5", 4);
	llm_error err = {0};
	model m = make_model(&c);
	generator *g = generator_new(m.n, m.weights, 1, 20, 150, &err);
	float first[20], mean[20], other[20];

	CHECK(generator_source(g, 0, m.source, 9, &err) && generator_append(g, 0, m.ids, 3, &err));
	CHECK(generator_embed(g, m.source, 150, POOL_FIRST, first, &err));
	CHECK(generator_embed(g, m.source, 149, POOL_FIRST, other, &err));
	CHECK(memcmp(first, other, sizeof(first)) != 0); /* the first token sees the last */
	CHECK(generator_embed(g, m.source, 1, POOL_FIRST, first, &err));
	CHECK(generator_embed(g, m.source, 1, POOL_MEAN, mean, &err));
	CHECK(memcmp(first, mean, sizeof(first)) == 0);
	CHECK(!generator_embed(g, m.source, 151, POOL_MEAN, mean, &err) && err.code == LLM_INVALID);
	CHECK_INT(generator_length(g, 0), 3);
	generator_free(g);
	free_model(&m);
}

/* The mean of the stream over the first `count` tokens by the graph. */
static void
graph_embed(const model *m, int32_t count, float *out)
{
	enum
	{
		TOKEN,
		START
	};
	llm_error err = {0};
	graph *g = graph_new(1, &err);
	transformer_graph t = {.g = g, .n = m->n};
	int32_t start[2] = {0, count}, pooled;
	size_t offsets[NET_MAX_TENSORS];
	run_args run = {.rows = {[AXIS_ROW] = 1, [AXIS_TOKEN] = count}, .simd = simd_best()};
	void *arena;
	plan *p;

	g->capacity[AXIS_TOKEN] = CONTEXT;
	t.token = graph_input(g, TOKEN, TENSOR_I32, AXIS_TOKEN, 0, 1);
	t.start = graph_input(g, START, TENSOR_I32, AXIS_NONE, 2, 0);
	pooled = op_pool_tokens(g, transformer_record(&t), t.start, POOL_MEAN);
	graph_keep(g, pooled);
	for (int32_t i = 0; i < net_tensor_count(m->n); i++)
		offsets[i] = net_tensor(m->n, i)->offset;
	p = plan_new(g, &backend_cpu, offsets, &err);
	if (!CHECK(p != NULL))
		return;
	arena = aligned_alloc(64, plan_arena_bytes(p));
	plan_bind(p, TOKEN, m->ids);
	plan_bind(p, START, start);
	plan_attach(p, arena, m->weights);
	CHECK(plan_run(p, &run, &err));
	memcpy(out, plan_address(p, pooled), net_get_config(m->n)->text.width * sizeof(float));
	plan_free(p);
	free(arena);
}

/* Texts longer than a decoder's pass; what is not embedding is refused. */
static void
test_bidirectional(int32_t types)
{
	net_config c = transformer_of("bert", 4);
	llm_error err = {0};
	model m;
	generator *g;
	float mean[20], expected[20], logprob[CONTEXT];
	int32_t lengths[] = {1, 5, 150, CONTEXT}, zero = 0;

	c.text.types = types;
	c.text.separator = 9;
	m = make_model(&c);
	g = generator_new(m.n, m.weights, 1, CONTEXT, 0, &err);
	for (int i = 0; i < 4; i++)
	{
		CHECK(generator_embed(g, m.ids, lengths[i], POOL_MEAN, mean, &err));
		graph_embed(&m, lengths[i], expected);
		for (int k = 0; k < 20; k++)
			CHECK(fabsf(mean[k] - expected[k]) < 1e-5f);
	}
	generator_truncate(g, 0, 0);
	CHECK(!generator_append(g, 0, m.ids, 3, &err) && err.code == LLM_INVALID);
	CHECK(strstr(err.message, "embeds texts") != NULL);
	err.code = LLM_OK;
	CHECK(!generator_step(g, &zero, m.ids, 1, &err) && err.code == LLM_INVALID);
	err.code = LLM_OK;
	CHECK(!generator_score(g, m.ids, 3, logprob, NULL, &err) && err.code == LLM_INVALID);
	CHECK_INT(generator_length(g, 0), 0);
	generator_free(g);
	free_model(&m);
}

/* Texts that share passes embed as each alone, whatever reads them. */
static void
test_embed_many(const char *family)
{
	net_config c = transformer_of(family, 4);
	llm_error err = {0};
	model m = make_model(&c);
	int32_t counts[] = {1, 90, 7, 95, 3}, out_of_range[] = {5, 0}, at = 0;
	generator *g = generator_new(m.n, m.weights, 5, 128, strcmp(family, "t5") == 0 ? 128 : 0, &err);
	float together[5][20], alone[20];

	for (text_pool pool = POOL_MEAN; pool <= POOL_LAST; pool++)
	{
		CHECK(generator_embed_many(g, counts, 5, m.ids, pool, together[0], &err));
		at = 0;
		for (int i = 0; i < 5; at += counts[i++])
		{
			CHECK(generator_embed(g, m.ids + at, counts[i], pool, alone, &err));
			for (int k = 0; k < 20; k++)
				CHECK(fabsf(together[i][k] - alone[k]) < 1e-5f);
		}
	}
	CHECK(!generator_embed_many(g, out_of_range, 2, m.ids, POOL_MEAN, together[0], &err) && err.code == LLM_INVALID);
	err.code = LLM_OK;
	CHECK(!generator_embed_many(g, counts, 6, m.ids, POOL_MEAN, together[0], &err) && err.code == LLM_INVALID);
	generator_free(g);
	free_model(&m);
}

int
main(void)
{
	test_families();
	test_together();
	test_sources();
	test_sources_together();
	test_sources_at_once();
	test_prompts();
	test_source_memory();
	test_refused();
	test_prompts_refused();
	test_source_refused();
	test_embed();
	test_embed_source();
	test_bidirectional(0);
	test_bidirectional(3);
	test_embed_many("bert");
	test_embed_many("llama");
	test_embed_many("t5");
	return test_summary();
}
