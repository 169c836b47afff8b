/*
 * test_generator.c
 *	  Generation with kept keys and values: the same numbers as the graph that trains, however
 *	  tokens are given; lengths, ids and requests to stop.
 */
#include <stdlib.h>

#include "../../src/engine/generator.h"
#include "../../src/engine/transformer.h"
#include "net_check.h"

#define VOCAB 53
#define CONTEXT 200

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
		m.ids[i] = (int32_t) (next_uniform() * VOCAB);
	return m;
}

static void
free_model(model *m)
{
	net_free(m->n);
	free(m->weights);
}

/* Losses of the first `count` tokens by the graph. */
static void
graph_losses(const model *m, int32_t count, float *losses)
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
	generator *g = generator_new(m.n, m.weights, 2, CONTEXT, &err);
	float losses[COUNT], logprob[COUNT];
	bool best[COUNT];
	int32_t pieces[] = {1, 7, 130, 1, 2, 9};
	int32_t at = 0, one = 1;

	if (!CHECK(g != NULL))
		return;
	graph_losses(&m, COUNT, losses);
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
	c = transformer_of("gpt", 2);
	c.text.post_norm = true;
	check_against_graph(&c);
	c = transformer_of("t5", 2);
	c.text.encoder_depth = c.text.source_context = c.shape.source_context = 0;
	check_against_graph(&c);
}

/* Eight sequences together have the bytes that each has alone. */
static void
test_together(void)
{
	net_config c = transformer_of("llama", 1);
	llm_error err = {0};
	model m = make_model(&c);
	generator *together = generator_new(m.n, m.weights, 8, 40, &err),
			  *alone = generator_new(m.n, m.weights, 1, 40, &err);
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
	generator *g = generator_new(m.n, m.weights, 1, 20, &err);
	int32_t wrong = VOCAB, zero = 0;
	int calls = 0;

	CHECK(generator_new(other, m.weights, 1, 20, &err) == NULL && err.code == LLM_INVALID);
	err.code = LLM_OK;
	CHECK(generator_new(translator, m.weights, 1, 20, &err) == NULL && strstr(err.message, "encoder") != NULL);
	err.code = LLM_OK;
	CHECK(generator_new(m.n, m.weights, 1, CONTEXT + 1, &err) == NULL && err.code == LLM_INVALID);
	err.code = LLM_OK;
	CHECK(!generator_append(g, 0, m.ids, 21, &err));
	CHECK(strstr(err.message, "do not fit into a context of 20") != NULL);
	err.code = LLM_OK;
	CHECK(!generator_append(g, 0, &wrong, 1, &err) && err.code == LLM_INVALID);
	CHECK(generator_append(g, 0, m.ids, 20, &err));
	CHECK(!generator_step(g, &zero, m.ids, 1, &err));
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

/* The mean over tokens is that of the single ones. */
static void
test_embed(void)
{
	net_config c = transformer_of("llama", 4);
	llm_error err = {0};
	model m = make_model(&c);
	generator *g = generator_new(m.n, m.weights, 1, CONTEXT, &err);
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
test_bidirectional(void)
{
	net_config c = transformer_of("bert", 4);
	llm_error err = {0};
	model m = make_model(&c);
	generator *g = generator_new(m.n, m.weights, 1, CONTEXT, &err);
	float mean[20], expected[20], logprob[CONTEXT];
	int32_t lengths[] = {1, 5, 150, CONTEXT}, zero = 0;

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

int
main(void)
{
	test_families();
	test_together();
	test_refused();
	test_embed();
	test_bidirectional();
	return test_summary();
}
