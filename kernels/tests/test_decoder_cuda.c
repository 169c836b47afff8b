/*
 * test_decoder_cuda.c
 *	  Language models decoded on the device beside a generator on the CPU: families and types of weights, prompts in
 *	  chunks, texts that share a page, short memory, a device that fails.
 *
 * Without arguments the device is the emulator; with the path of llmapp_cuda.so it is the GPU.  Errors are normalised
 * squared errors of logits.  In float32 they are those of sums in another order.  Weights in other types are the same
 * numbers on both sides, so up to 8 rows, which the device multiplies in float32, are as close as float32 to a generator
 * that has the decoded weights.  More rows are rounded to bf16, a relative error of up to 2^-9 of each number, or with f16 to
 * tf32, and keys and values to f16, up to 2^-11: a few of these behind each other leave 1e-4, or 1e-6.  A generator that has
 * the kept weights rounds its own rows to 8 bits with q8_0 and q4_0, 1 / 254 of the largest of a block: 1e-3.
 */
#include "../../src/engine/cuda.h"
#include "../../src/engine/decoder.h"
#include "../../src/engine/generator.h"
#include "../../tests/unit/net_check.h"
#include "on_gpu.h"

#define VOCAB 64
#define CONTEXT 150
#define TEXTS 4
#define TEXT_PAGES ((CONTEXT + DECODER_PAGE - 1) / DECODER_PAGE)
#define PAGES (TEXTS * TEXT_PAGES + 2)
#define EXACT 1e-10
#define ORDERS 3

extern void emulate_set_order(int order) __attribute__((weak));
extern void emulate_fail(const char *kind, int count) __attribute__((weak));
extern size_t emulate_allocated(void) __attribute__((weak));

static double worst;

typedef struct model
{
	const char *name;
	net *n;       /* with weights as they are kept */
	net *decoded; /* in float32 */
	void *kept;
	float *weights; /* what kept ones are */
	int32_t ids[TEXTS][CONTEXT];
	int32_t pages[TEXTS][TEXT_PAGES];
} model;

static model
make_model(const char *name, const net_config *c, weight_type type)
{
	llm_error err = {0};
	model m = {.name = name, .n = net_new(c, &err), .decoded = net_new(c, &err)};

	check_no_error(&err);
	m.weights = aligned_alloc(64, net_weight_bytes(m.n));
	random_weights(m.n, m.weights, 0.3f);
	net_keep_all(m.n, type);
	m.kept = calloc(1, net_kept_bytes(m.n));
	CHECK(net_encode(m.n, m.weights, m.kept, &err));
	for (int32_t i = 0; i < net_tensor_count(m.n); i++)
		net_decode_tensor(m.n, i, 0, net_tensor(m.n, i)->count, m.kept, m.weights + net_tensor(m.n, i)->offset);
	for (int i = 0; i < TEXTS; i++)
		for (int j = 0; j < CONTEXT; j++)
			m.ids[i][j] = next_below(VOCAB);
	for (int i = 0; i < TEXTS * TEXT_PAGES; i++)
		m.pages[i % TEXTS][i / TEXTS] = (i * 5 + 1) % PAGES;
	return m;
}

static void
free_model(model *m)
{
	net_free(m->n);
	net_free(m->decoded);
	free(m->kept);
	free(m->weights);
}

static decoder_text
text_of(const model *m, int i, int32_t first, int32_t count)
{
	return (decoder_text) {m->pages[i], m->ids[i] + first, first, count, true};
}

static decoder *
make_decoder(const model *m, int32_t tokens)
{
	llm_error err = {0};
	decoder *d = decoder_new(m->n, m->kept, &(decoder_shape) {PAGES, tokens, TEXTS}, device, &err);

	check_no_error(&err);
	return d;
}

/* Few rows in every order of threads, which makes the same bytes. */
static bool
run(decoder *d, const decoder_text *texts, int count)
{
	llm_error err = {0};
	float first[TEXTS][VOCAB];
	int32_t rows = 0;

	for (int i = 0; i < count; i++)
		rows += texts[i].count;
	for (int order = 0; order < (rows <= 16 ? ORDERS : 1); order++)
	{
		if (emulate_set_order)
			emulate_set_order(order);
		if (!decoder_run(d, texts, count, &err))
		{
			check_no_error(&err);
			return false;
		}
		for (int i = 0; i < count; i++)
		{
			if (order == 0 && texts[i].wanted)
				memcpy(first[i], decoder_logits(d, i), sizeof(first[i]));
			if (texts[i].wanted)
				CHECK_BYTES((const char *) decoder_logits(d, i), first[i], sizeof(first[i]));
		}
	}
	return true;
}

/* Against what follows `length` tokens of text i by a generator in one go. */
static void
compare(generator *g, const model *m, int i, int32_t length, const float *logits, double limit)
{
	llm_error err = {0};
	double error = 0, norm = 0;
	int32_t vocab = net_get_config(m->n)->text.vocab;
	const float *expected;
	char text[96];

	generator_truncate(g, 0, 0);
	if (!CHECK(generator_append(g, 0, m->ids[i], length, &err)))
		return;
	expected = generator_logits(g, 0);
	for (int32_t j = 0; j < vocab; j++)
	{
		error += pow((double) logits[j] - expected[j], 2);
		norm += pow(expected[j], 2);
	}
	if (error / norm > worst)
		worst = error / norm;
	snprintf(text, sizeof(text), "%s, %d tokens: error %.2g", m->name, length, error / norm);
	test_check(error <= limit * norm, text, __FILE__, __LINE__);
}

/* Texts in these chunks, in the same pass as far as there are rows. */
static void
compare_passes(const model *m, generator *g, const int32_t (*chunks)[TEXTS], int passes, int32_t tokens, double limit)
{
	decoder *d = make_decoder(m, tokens);
	int32_t length[TEXTS] = {0};

	worst = 0;
	for (int p = 0; d && p < passes; p++)
	{
		decoder_text texts[TEXTS];
		int which[TEXTS], count = 0;

		for (int i = 0; i < TEXTS; i++)
			if (chunks[p][i] > 0)
			{
				texts[count] = text_of(m, i, length[i], chunks[p][i]);
				texts[count].wanted = (p + i) % 3 > 0 || p == passes - 1;
				which[count++] = i;
				length[i] += chunks[p][i];
			}
		if (!run(d, texts, count))
			break;
		for (int i = 0; i < count; i++)
			if (texts[i].wanted)
				compare(g, m, which[i], length[which[i]], decoder_logits(d, i), limit);
	}
	printf("%-28s error %.2g\n", m->name, worst);
	decoder_free(d);
}

/* Chunks that end in a page and at its end; single tokens beside them; passes of many buckets. */
static const int32_t mixed[][TEXTS] = {{1, 0, 0, 0},  {8, 3, 0, 0}, {55, 1, 2, 1}, {1, 60, 1, 0},
									   {0, 1, 65, 1}, {1, 1, 1, 1}, {0, 18, 0, 0}};
/* At most 8 tokens. */
static const int32_t few[][TEXTS] = {{5, 3, 0, 0}, {8, 0, 0, 0}, {1, 1, 1, 1}, {0, 4, 3, 1}, {1, 0, 0, 0}};

#define PASSES(chunks) (chunks), (int) (sizeof(chunks) / sizeof(*(chunks)))

static void
test_exact(const char *name, const net_config *c)
{
	model m = make_model(name, c, WEIGHT_F32);
	llm_error err = {0};
	generator *g = generator_new(m.n, m.kept, 1, CONTEXT, 0, &err);

	check_no_error(&err);
	compare_passes(&m, g, PASSES(mixed), 100, EXACT);
	generator_free(g);
	free_model(&m);
}

/* GPT, Llama with grouped heads and their norms, layers whose halves are parallel, norms behind layers, T5's decoder. */
static void
test_families(void)
{
	net_config c = small_transformer("gpt", VOCAB, CONTEXT);

	test_exact("gpt", &c);
	c.text.tied = false;
	c.text.embed_scale = true;
	c.text.width = 31;
	c.text.ffn = 33;
	test_exact("gpt of odd sizes", &c);
	c.text.post_norm = true;
	test_exact("gpt with norms behind", &c);
	c = small_transformer("llama", VOCAB, CONTEXT);
	c.text.kv_heads = 2;
	c.text.qk_norm = c.text.qkv_bias = true;
	test_exact("llama", &c);
	c.text.rope_factor = 4;
	c.text.rope_low = 1;
	c.text.rope_high = 8;
	c.text.rope_context = 50;
	c.text.heads = 6;
	c.text.kv_heads = 1;
	c.text.head_dim = 80;
	test_exact("llama of one kv head", &c);
	c.text.rope_yarn = c.text.rope_whole = true;
	c.text.rope_attention = 1.2f;
	test_exact("llama with positions scaled by YaRN", &c);
	c = small_transformer("gpt", VOCAB, CONTEXT);
	c.text.parallel = c.text.rotary = true;
	c.text.rope_theta = 10000;
	c.text.rotary_dim = 2;
	test_exact("parallel halves", &c);
	c = small_transformer("t5", VOCAB, CONTEXT);
	c.text.encoder_depth = c.text.source_context = c.shape.source_context = 0;
	test_exact("t5", &c);
}

static net_config
wide_llama(int32_t head_dim)
{
	net_config c = small_transformer("llama", VOCAB, CONTEXT);

	c.text.width = 64;
	c.text.head_dim = head_dim;
	c.text.kv_heads = 2;
	c.text.ffn = 96;
	return c;
}

/* Beside a generator with the decoded weights, few rows at a time and many; then beside one with the kept ones. */
static void
test_type(weight_type type, double limit)
{
	net_config whole = wide_llama(16), half = wide_llama(32);
	model m = make_model(weight_type_name(type), &whole, type);
	llm_error err = {0};
	generator *g = generator_new(m.decoded, m.weights, 1, CONTEXT, 0, &err);

	check_no_error(&err);
	compare_passes(&m, g, PASSES(few), 8, EXACT);
	generator_free(g);
	free_model(&m);
	m = make_model(weight_type_name(type), &half, type);
	g = generator_new(m.decoded, m.weights, 1, CONTEXT, 0, &err);
	check_no_error(&err);
	compare_passes(&m, g, mixed, 4, 100, limit);
	generator_free(g);
	g = generator_new(m.n, m.kept, 1, CONTEXT, 0, &err);
	check_no_error(&err);
	compare_passes(&m, g, PASSES(few), 8, 3e-3);
	generator_free(g);
	free_model(&m);
}

/* ---- pages ---- */

/* A text goes on differently behind the full page of another, which stays as it was; chunks are as the whole. */
static void
test_shared_page(void)
{
	net_config c = small_transformer("llama", VOCAB, CONTEXT);
	model m = make_model("shared page", &c, WEIGHT_F32);
	llm_error err = {0};
	decoder *d = make_decoder(&m, CONTEXT);
	generator *g = generator_new(m.n, m.kept, 1, CONTEXT, 0, &err);
	decoder_text t[3];

	memcpy(m.ids[1], m.ids[0], DECODER_PAGE * sizeof(int32_t));
	m.pages[1][0] = m.pages[0][0];
	t[0] = text_of(&m, 0, 0, 100);
	run(d, t, 1);
	t[0] = text_of(&m, 1, DECODER_PAGE, 3);
	t[1] = text_of(&m, 0, 100, 1);
	run(d, t, 2);
	compare(g, &m, 1, DECODER_PAGE + 3, decoder_logits(d, 0), EXACT);
	compare(g, &m, 0, 101, decoder_logits(d, 1), EXACT);
	/* the whole of a text, then the same in chunks into other pages */
	memcpy(m.ids[2], m.ids[3], sizeof(m.ids[2]));
	t[0] = text_of(&m, 3, 0, CONTEXT);
	run(d, t, 1);
	compare(g, &m, 3, CONTEXT, decoder_logits(d, 0), EXACT);
	for (int32_t at = 0, chunk = 1; at < CONTEXT;
		 at += chunk, chunk = at + 2 * chunk < CONTEXT ? 2 * chunk : CONTEXT - at)
	{
		t[0] = text_of(&m, 2, at, chunk);
		t[0].wanted = at + chunk == CONTEXT;
		run(d, t, 1);
	}
	compare(g, &m, 3, CONTEXT, decoder_logits(d, 0), EXACT);
	decoder_free(d);
	generator_free(g);
	free_model(&m);
}

/* Weights and angles that go to the device in several pieces, and rows of which none is wanted. */
static void
test_pieces(void)
{
	net_config c = small_transformer("llama", 9000, 40000);
	model m;
	llm_error err = {0};
	decoder *d;
	generator *g;
	decoder_text t;

	c.text.width = 64;
	c.text.head_dim = 8;
	m = make_model("pieces", &c, WEIGHT_F32);
	CHECK(net_kept_bytes(m.n) > 2 << 20);
	d = decoder_new(m.n, m.kept, &(decoder_shape) {PAGES, 4, 1}, device, &err);
	g = generator_new(m.n, m.kept, 1, CONTEXT, 0, &err);
	check_no_error(&err);
	t = text_of(&m, 0, 0, 4);
	t.wanted = false;
	CHECK(decoder_run(d, &t, 1, &err));
	t = text_of(&m, 0, 4, 1);
	CHECK(decoder_run(d, &t, 1, &err));
	compare(g, &m, 0, 5, decoder_logits(d, 0), EXACT);
	decoder_free(d);
	generator_free(g);
	free_model(&m);
}

/* ---- memory, stops, and a device that fails ---- */

static bool
is_short_of_memory(const llm_error *err)
{
	return err->code == LLM_MEMORY && strstr(err->message, "out of memory on GPU cuda:0") &&
		   strstr(err->hint, "fewer");
}

/* Each allocation fails in turn, those of programs too, which are made when they are needed. */
static void
test_memory(void)
{
	net_config c = wide_llama(32);
	model m = make_model("memory", &c, WEIGHT_Q8_0);
	decoder_shape shape = {PAGES, 16, TEXTS};
	size_t before = emulate_allocated ? emulate_allocated() : 0, bytes;
	decoder_text t = text_of(&m, 0, 0, 16);
	llm_error err = {0};
	decoder *d = NULL;
	int failed = 0;

	for (int n = 1; emulate_fail && !d; n++)
	{
		err = (llm_error) {0};
		emulate_fail("memory", n);
		d = decoder_new(m.n, m.kept, &shape, device, &err);
		if (!d)
		{
			failed++;
			CHECK(is_short_of_memory(&err));
			CHECK(emulate_allocated() == before);
		}
	}
	CHECK_INT(failed, emulate_fail ? 2 : 0);
	if (!d)
		d = make_decoder(&m, 16);
	CHECK(decoder_memory(m.n, &shape, true, &bytes, &err) && bytes > net_kept_bytes(m.n));
	if (emulate_fail)
	{
		CHECK(emulate_allocated() - before >= bytes);
		emulate_fail("memory", 1);
		CHECK(!decoder_run(d, &t, 1, &err) && is_short_of_memory(&err));
	}
	err = (llm_error) {0};
	CHECK(decoder_run(d, &t, 1, &err));
	decoder_free(d);
	CHECK(!emulate_allocated || emulate_allocated() == before);
	shape.pages = INT32_MAX;
	CHECK(!decoder_new(m.n, m.kept, &shape, device, &err) && is_short_of_memory(&err));
	free_model(&m);
}

static bool
stop(void *arg)
{
	return *(bool *) arg;
}

static void
test_stop(void)
{
	net_config c = small_transformer("gpt", VOCAB, CONTEXT), t5 = small_transformer("t5", VOCAB, CONTEXT);
	model m = make_model("stop", &c, WEIGHT_F32), with_encoder = make_model("encoder", &t5, WEIGHT_F32);
	decoder *d = make_decoder(&m, 16);
	decoder_text t = text_of(&m, 0, 0, 3);
	llm_error err = {0};
	bool stopped = true;

	decoder_set_poll(d, stop, &stopped);
	CHECK(!decoder_run(d, &t, 1, &err) && err.code == LLM_CANCELLED);
	stopped = false;
	err = (llm_error) {0};
	CHECK(decoder_run(d, &t, 1, &err));
	decoder_free(d);
	CHECK(!decoder_new(with_encoder.n, with_encoder.kept, &(decoder_shape) {PAGES, 16, 1}, device, &err) &&
		  err.code == LLM_INVALID);
	free_model(&m);
	free_model(&with_encoder);
}

/* The last of all, as the device is of no more use to this process. */
static void
test_lost(void)
{
	net_config c = small_transformer("gpt", VOCAB, CONTEXT);
	model m = make_model("lost", &c, WEIGHT_F32);
	decoder *d = make_decoder(&m, 16);
	decoder_text t = text_of(&m, 0, 0, 3);
	llm_error err = {0};

	emulate_fail("lost", 1);
	CHECK(!decoder_run(d, &t, 1, &err) && err.code == LLM_LOST && strstr(err.message, "cuda:0 failed"));
	err = (llm_error) {0};
	CHECK(!decoder_run(d, &t, 1, &err) && err.code == LLM_LOST);
	decoder_free(d);
	free_model(&m);
}

static void
run_tests(const char *path, const llmapp_cuda_device *info)
{
	test_families();
	test_type(WEIGHT_F16, 3e-6);
	test_type(WEIGHT_BF16, 3e-4);
	test_type(WEIGHT_Q8_0, 3e-4);
	test_type(WEIGHT_Q4_0, 3e-4);
	test_shared_page();
	test_pieces();
	test_memory();
	test_stop();
	if (emulate_fail)
		test_lost();
}

int
main(int argc, char **argv)
{
	return test_on_gpu(argc, argv, run_tests);
}
