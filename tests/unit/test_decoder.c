/*
 * test_decoder.c
 *	  Many texts at once with keys and values in scattered pages: the numbers of a generator that has each
 *	  text alone.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/engine/decoder.h"
#include "../../src/engine/generator.h"
#include "net_check.h"

#define VOCAB 64
#define CONTEXT 300
#define TEXTS 5
#define TEXT_PAGES ((CONTEXT + DECODER_PAGE - 1) / DECODER_PAGE)
#define PAGES (TEXTS * TEXT_PAGES)

typedef struct model
{
	net *n;
	void *kept;
	int32_t ids[TEXTS][CONTEXT];
	int32_t pages[TEXTS][TEXT_PAGES];
} model;

/* Gemma is a Llama whose layers differ, with all that others have not. */
static net_config
config_of(const char *family)
{
	bool gemma = strcmp(family, "gemma") == 0;
	net_config c = small_transformer(gemma ? "llama" : family, VOCAB, CONTEXT);

	if (gemma)
	{
		c.text.window = 70;
		c.text.window_period = 2;
		c.text.window_theta = 100;
		c.text.query_dim = 20;
		c.text.score_cap = c.text.logit_cap = 1;
		c.text.qk_norm = c.text.added_norm = true;
	}
	return c;
}

/* Pages are dealt out at random. */
static model
make_model(const char *family, weight_type type)
{
	llm_error err = {0};
	net_config c = config_of(family);
	int32_t order[PAGES];
	float *weights;
	model m;

	c.text.width = 64;
	c.text.heads = 2;
	c.text.kv_heads = 1;
	c.text.head_dim = 32;
	c.text.ffn = 96;
	m.n = net_new(&c, &err);
	CHECK(m.n != NULL);
	weights = aligned_alloc(64, net_weight_bytes(m.n));
	random_weights(m.n, weights, 0.3f);
	net_keep_all(m.n, type);
	m.kept = aligned_alloc(64, net_kept_bytes(m.n));
	CHECK(net_encode(m.n, weights, m.kept, &err));
	free(weights);
	for (int i = 0; i < PAGES; i++)
		order[i] = i;
	for (int i = 0; i < PAGES; i++)
	{
		int other = next_below(PAGES), page = order[i];

		order[i] = order[other];
		order[other] = page;
	}
	memcpy(m.pages, order, sizeof(order));
	for (int i = 0; i < TEXTS; i++)
		for (int j = 0; j < CONTEXT; j++)
			m.ids[i][j] = next_below(VOCAB);
	return m;
}

static void
free_model(model *m)
{
	net_free(m->n);
	free(m->kept);
}

static decoder_text
text_of(const model *m, int i, int32_t first, int32_t count, bool wanted)
{
	return (decoder_text) {m->pages[i], m->ids[i] + first, first, count, wanted};
}

/* What follows `length` tokens of text i by a generator in one go. */
static bool
follows(generator *g, const model *m, int i, int32_t length, const float *logits, double limit)
{
	llm_error err = {0};

	generator_truncate(g, 0, 0);
	return generator_append(g, 0, m->ids[i], length, &err) &&
		   logits_nmse(logits, generator_logits(g, 0), VOCAB) <= limit;
}

/*
 * Prompts in chunks beside single tokens of other texts.  Rounding of float32 alone, as sums are cut differently; where
 * keys and values are rounded to f16 and rows of products to 8 bits, what differs in the last bit may be rounded the
 * other way.
 */
static void
check_passes(const char *family, weight_type type, double limit)
{
	static const int32_t chunks[] = {1, 9, 64, 3, 130, 1, 1, 65, 8, 2};
	llm_error err = {0};
	model m = make_model(family, type);
	decoder *d = decoder_new(m.n, m.kept, &(decoder_shape) {PAGES, 256, TEXTS}, NULL, &err);
	generator *g = generator_new(m.n, m.kept, 1, CONTEXT, 0, &err);
	int32_t length[TEXTS] = {0};

	if (!CHECK(d && g))
		return;
	for (int round = 0; round < 10; round++)
	{
		decoder_text texts[TEXTS];
		int32_t count = 0, which[TEXTS], room = 256;

		for (int i = 0; i < TEXTS; i++)
		{
			int32_t chunk = chunks[(round + 3 * i) % 10];

			if (next_below(4) == 0 || length[i] + chunk > CONTEXT || chunk > room)
				continue;
			texts[count] = text_of(&m, i, length[i], chunk, next_below(3) > 0);
			which[count++] = i;
			length[i] += chunk;
			room -= chunk;
		}
		if (count == 0)
			continue;
		CHECK(decoder_run(d, texts, count, &err));
		for (int i = 0; i < count; i++)
			if (texts[i].wanted)
				CHECK(follows(g, &m, which[i], length[which[i]], decoder_logits(d, i), limit));
	}
	decoder_free(d);
	generator_free(g);
	free_model(&m);
}

/* One that shares its first page goes on differently and leaves it as it was; up to eight rows change no bit. */
static void
test_shared_page(void)
{
	llm_error err = {0};
	model m = make_model("llama", WEIGHT_F32);
	decoder *d = decoder_new(m.n, m.kept, &(decoder_shape) {PAGES, 128, TEXTS}, NULL, &err);
	generator *g = generator_new(m.n, m.kept, 1, CONTEXT, 0, &err);
	decoder_text both[2];
	float alone[VOCAB];

	if (!CHECK(d && g))
		return;
	memcpy(m.ids[1], m.ids[0], DECODER_PAGE * sizeof(int32_t));
	m.pages[1][0] = m.pages[0][0];
	both[0] = text_of(&m, 0, 0, 100, false);
	CHECK(decoder_run(d, both, 1, &err));
	both[0] = text_of(&m, 1, DECODER_PAGE, 3, true);
	CHECK(decoder_run(d, both, 1, &err));
	CHECK(follows(g, &m, 1, DECODER_PAGE + 3, decoder_logits(d, 0), 1e-10));
	memcpy(alone, decoder_logits(d, 0), sizeof(alone));
	both[1] = text_of(&m, 0, 100, 1, true);
	CHECK(decoder_run(d, both, 2, &err));
	CHECK(memcmp(alone, decoder_logits(d, 0), sizeof(alone)) == 0);
	CHECK(follows(g, &m, 0, 101, decoder_logits(d, 1), 1e-10));
	decoder_free(d);
	generator_free(g);
	free_model(&m);
}

static bool
stop_now(void *arg)
{
	return *(bool *) arg;
}

static void
test_refused(void)
{
	llm_error err = {0};
	model m = make_model("gpt", WEIGHT_F32), bert = make_model("bert", WEIGHT_F32);
	decoder_shape shape = {PAGES, 16, 2};
	decoder *d = decoder_new(m.n, m.kept, &shape, NULL, &err);
	int32_t far[1] = {PAGES}, token[1] = {VOCAB};
	decoder_text t = text_of(&m, 0, 0, 16, true), texts[3] = {t, t, t};
	bool stop = true;

	if (!CHECK(d != NULL))
		return;
	CHECK(!decoder_run(d, texts, 2, &err) && err.code == LLM_INVALID);
	CHECK(!decoder_run(d, texts, 3, &err) && err.code == LLM_INVALID);
	texts[0].count = 0;
	CHECK(!decoder_run(d, texts, 1, &err) && err.code == LLM_INVALID);
	texts[0] = t;
	texts[0].first = CONTEXT - 15;
	CHECK(!decoder_run(d, texts, 1, &err) && err.code == LLM_INVALID);
	texts[0] = t;
	texts[0].pages = far;
	CHECK(!decoder_run(d, texts, 1, &err) && err.code == LLM_INVALID);
	texts[0] = t;
	texts[0].ids = token;
	texts[0].count = 1;
	CHECK(!decoder_run(d, texts, 1, &err) && err.code == LLM_INVALID);
	err = (llm_error) {0};
	decoder_set_poll(d, stop_now, &stop);
	CHECK(!decoder_run(d, &t, 1, &err) && err.code == LLM_CANCELLED);
	stop = false;
	CHECK(decoder_run(d, &t, 1, &err));
	err = (llm_error) {0};
	CHECK(decoder_new(bert.n, bert.kept, &shape, NULL, &err) == NULL && err.code == LLM_INVALID);
	decoder_free(d);
	free_model(&m);
	free_model(&bert);
}

/* Each is refused for a GPU alone. */
static void
test_beyond_gpu(void)
{
	const decoder_shape shape = {.pages = 4, .tokens = 8, .texts = 2};
	const char *const messages[] = {"attention with a window", "caps of scores", "caps of scores", "norms of what"};

	for (int i = 0; i < 4; i++)
	{
		net_config c = small_transformer("llama", VOCAB, CONTEXT);
		llm_error err = {0};
		size_t bytes;
		net *n;

		c.text.window = i == 0 ? 9 : 0;
		c.text.score_cap = i == 1;
		c.text.logit_cap = i == 2;
		c.text.added_norm = i == 3;
		n = net_new(&c, &err);
		CHECK(decoder_memory(n, &shape, false, &bytes, &err));
		CHECK(!decoder_memory(n, &shape, true, &bytes, &err) && err.code == LLM_UNAVAILABLE);
		CHECK(strstr(err.message, messages[i]) != NULL);
		net_free(n);
	}
}

int
main(void)
{
	check_passes("gpt", WEIGHT_F32, 1e-10);
	check_passes("gemma", WEIGHT_F32, 1e-10);
	check_passes("gemma", WEIGHT_BF16, 1e-4);
	check_passes("llama", WEIGHT_F32, 1e-10);
	check_passes("llama", WEIGHT_BF16, 1e-4);
	check_passes("llama", WEIGHT_Q8_0, 1e-3);
	check_passes("gpt", WEIGHT_Q4_0, 1e-3);
	test_shared_page();
	test_refused();
	test_beyond_gpu();
	return test_summary();
}
