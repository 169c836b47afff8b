/*
 * test_predictors.c
 *	  Predictions and embeddings on the device beside those of the CPU, of every kind of network, and what is refused.
 *
 * Without arguments the device is the emulator; with the path of llmapp_cuda.so it is the GPU.
 */
#include "../../src/engine/cuda.h"
#include "../../src/engine/embedder.h"
#include "../../src/engine/generator.h"
#include "../../tests/unit/net_check.h"
#include "on_gpu.h"

#define ROWS 40
#define MANY_ROWS 300 /* with programs for 300 and 75 */
#define LIMIT 1e-10   /* of normalised squared errors */

static void
check_same(const char *name, const float *got, const float *expected, int64_t count)
{
	double error = 0, norm = 0;
	char text[128];

	for (int64_t i = 0; i < count; i++)
	{
		error += pow((double) got[i] - expected[i], 2);
		norm += pow(expected[i], 2);
	}
	snprintf(text, sizeof(text), "%s: error %.2g", name, error / norm);
	test_check(norm > 0 && error <= LIMIT * norm, text, __FILE__, __LINE__);
}

static float *
some_weights(const net *n)
{
	float *w = aligned_alloc(64, net_weight_bytes(n));

	fixture_counter = 0;
	random_weights(n, w, 0.3f);
	return w;
}

/* ---- predictions ---- */

static net_config
image_network(void)
{
	net_config c = small_config(LOSS_CROSS_ENTROPY);

	memcpy(c.image, (int32_t[]) {2, 7, 6}, sizeof(c.image));
	c.hidden_count = 0;
	c.shape.dense = 2 * 7 * 6 + 3;
	net_default_cnn(&c);
	return c;
}

/* What a transformer makes of a text, beside columns. */
static net_config
text_network(const char *family, text_pool pool)
{
	net_config c = small_config(LOSS_CROSS_ENTROPY), text = small_transformer(family, 53, 30);

	c.shape.vocab = text.shape.vocab;
	c.shape.context = text.shape.context;
	c.text = text.text;
	c.text.headless = true;
	c.pool = pool;
	return c;
}

static net_config
several(net_config c, int32_t members)
{
	c.members = members;
	return c;
}

/* Variances of batch norm are among the weights. */
static void
make_positive(const net *n, float *w)
{
	for (int32_t i = 0; i < net_tensor_count(n); i++)
		if (strstr(net_tensor(n, i)->name, "running_var"))
			for (size_t j = 0; j < net_tensor(n, i)->count; j++)
				w[net_tensor(n, i)->offset + j] = 1;
}

static void
test_predictions(const char *name, net_config config, int64_t most)
{
	const int64_t rows[] = {most, 1, most / 2, 0, most};
	llm_error err = {0};
	net *n = net_new(&config, &err);
	float *w = some_weights(n);
	predictor *cpu, *gpu;

	make_positive(n, w);
	cpu = predictor_new(n, w, most, NULL, &err);
	gpu = predictor_new(n, w, most, device, &err);
	check_no_error(&err);
	for (int i = 0; cpu && gpu && i < 5; i++)
	{
		const float *expected, *got;

		fixture_counter = 100 + i;
		fill_batch(predictor_batch(cpu), rows[i]);
		fixture_counter = 100 + i;
		fill_batch(predictor_batch(gpu), rows[i]);
		expected = predictor_run(cpu, &err);
		got = predictor_run(gpu, &err);
		check_no_error(&err);
		if (expected && got && rows[i] > 0)
			check_same(name, got, expected, rows[i] * config.shape.outputs);
	}
	predictor_free(cpu);
	predictor_free(gpu);
	net_free(n);
	free(w);
}

static bool
stop(void *arg)
{
	return *(bool *) arg;
}

static void
test_predictor_limits(void)
{
	net_config config = text_network("bert", POOL_MEAN), language = small_transformer("gpt", 53, 11);
	llm_error err = {0};
	net *n = net_new(&config, &err), *writer = net_new(&language, &err);
	float *w = some_weights(n);
	predictor *p = predictor_new(n, w, ROWS, device, &err);
	bool stopped = true;
	size_t bytes;

	CHECK(predictor_device_memory(n, ROWS, &bytes, &err) && bytes > net_weight_bytes(n));
	CHECK(bytes <= predictor_device_bytes(p) && predictor_device_bytes(p) < 100 * bytes);
	fill_batch(predictor_batch(p), ROWS);
	predictor_set_poll(p, stop, &stopped);
	CHECK(!predictor_run(p, &err) && err.code == LLM_CANCELLED);
	stopped = false;
	err.code = LLM_OK;
	CHECK(predictor_run(p, &err));
	predictor_batch(p)->token[3] = 53;
	CHECK(!predictor_run(p, &err) && err.code == LLM_INVALID);
	CHECK(!predictor_device_memory(writer, ROWS, &bytes, &err) && err.code == LLM_INVALID);
	CHECK(!predictor_new(writer, w, ROWS, device, &err) && err.code == LLM_INVALID);
	predictor_free(p);
	net_free(n);
	net_free(writer);
	free(w);
}

static void
test_all_predictions(void)
{
	net_config c;

	test_predictions("classes", small_config(LOSS_CROSS_ENTROPY), ROWS);
	test_predictions("many rows", small_config(LOSS_CROSS_ENTROPY), MANY_ROWS);
	test_predictions("two classes", small_config(LOSS_BINARY), ROWS);
	test_predictions("numbers", small_config(LOSS_HUBER), ROWS);
	test_predictions("mean of three", several(small_config(LOSS_CROSS_ENTROPY), 3), ROWS);
	c = small_config(LOSS_MSE);
	c.shape.dense = c.shape.embed_columns = c.shape.embed_rows = c.hidden_count = 0;
	test_predictions("a bag alone", c, ROWS);
	test_predictions("an image", image_network(), ROWS);
	test_predictions("means of two images", several(image_network(), 2), ROWS);
	test_predictions("a text, bert", text_network("bert", POOL_MEAN), ROWS);
	test_predictions("a text, llama", text_network("llama", POOL_LAST), ROWS);
	test_predictor_limits();
}

/* ---- embeddings ---- */

#define TEXTS 20
#define TOKENS 1200 /* with programs for 1200 and 300 */

static net_config
embedding_network(const char *family)
{
	net_config c = small_transformer(family, 53, 60);

	c.text.width = 32; /* which types of weights allow */
	c.text.ffn = 64;
	return c;
}

/* The encoder of T5 alone, and layers behind the pool. */
static net_config
dense_network(const char *family)
{
	net_config c = embedding_network(family);

	c.loss = LOSS_CONTRASTIVE;
	c.text.headless = c.text.bidirectional = true;
	c.text.encoder_depth = c.text.source_context = c.shape.source_context = 0;
	c.shape.token_target = false;
	c.dense_count = 2;
	c.dense[0] = (net_dense) {64, true, ACT_TANH};
	c.dense[1] = (net_dense) {20, false, ACT_IDENTITY};
	return c;
}

/* Weights as they are kept, and as what is kept decodes to. */
static void
round_weights(const net *n, float *w, void *kept)
{
	llm_error err = {0};

	memset(kept, 0, net_kept_bytes(n));
	CHECK(net_encode(n, w, kept, &err));
	for (int32_t i = 0; i < net_tensor_count(n); i++)
		net_decode_tensor(n, i, 0, net_tensor(n, i)->count, kept, w + net_tensor(n, i)->offset);
}

static void
compare_embeddings(const char *name, const net *n, embedder *e, generator *g, text_pool pool, int32_t count,
				   int32_t longest)
{
	int32_t counts[TEXTS], ids[TEXTS * 60], width = net_embedding_width(net_get_config(n));
	float got[TEXTS * 32], expected[TEXTS * 32];
	llm_error err = {0};

	for (int32_t i = 0; i < count; i++)
		counts[i] = i == 1 ? longest : 1 + next_below(longest);
	for (int32_t i = 0; i < TEXTS * 60; i++)
		ids[i] = next_below(53);
	CHECK(generator_embed_many(g, counts, count, ids, pool, expected, &err));
	CHECK(embedder_run(e, counts, count, ids, got, &err));
	check_no_error(&err);
	check_same(name, got, expected, count * width);
}

static void
test_embeddings(const char *name, net_config config, text_pool pool, weight_type type)
{
	llm_error err = {0};
	net *n = net_new(&config, &err), *plain = net_new(&config, &err);
	float *w = some_weights(n);
	void *kept = aligned_alloc(64, net_weight_bytes(n));
	embedder *e;
	generator *g;

	net_keep_all(n, type);
	CHECK(net_kept_type(n) == type);
	round_weights(n, w, kept);
	e = embedder_new(n, kept, pool, TEXTS, TOKENS, device, &err);
	memset(kept, 0xff, net_kept_bytes(n)); /* they are not needed any more */
	g = generator_new(plain, w, TEXTS, 60, config.text.source_context, &err);
	check_no_error(&err);
	if (e && g)
	{
		compare_embeddings(name, n, e, g, pool, TEXTS, 60);
		compare_embeddings(name, n, e, g, pool, 5, 60);
		compare_embeddings(name, n, e, g, pool, 2, 3);
	}
	embedder_free(e);
	generator_free(g);
	free(kept);
	free(w);
	net_free(n);
	net_free(plain);
}

static void
check_texts_refused(embedder *e, const int32_t *counts, int32_t count, const int32_t *ids, const char *message)
{
	float out[TEXTS * 32];
	llm_error err = {0};

	CHECK(!embedder_run(e, counts, count, ids, out, &err) && err.code == LLM_INVALID);
	CHECK(strstr(err.message, message) != NULL);
}

static void
test_embedder_limits(void)
{
	net_config config = embedding_network("bert"), columns = small_config(LOSS_MSE);
	llm_error err = {0};
	net *n = net_new(&config, &err), *other = net_new(&columns, &err);
	float *w = some_weights(n), out[32];
	embedder *e = embedder_new(n, w, POOL_FIRST, 2, 70, device, &err);
	int32_t many[3] = {1, 1, 1}, empty[2] = {3, 0}, longer[1] = {61}, more[2] = {60, 11}, ids[71] = {0};
	bool stopped = true;
	size_t bytes;

	CHECK(embedder_device_memory(n, 2, 70, &bytes, &err) && bytes <= embedder_device_bytes(e));
	check_texts_refused(e, many, 3, ids, "3 texts are not between 1 and 2");
	check_texts_refused(e, many, 0, ids, "0 texts");
	check_texts_refused(e, empty, 2, ids, "0 tokens do not fit");
	check_texts_refused(e, longer, 1, ids, "61 tokens do not fit into a context of 60");
	check_texts_refused(e, more, 2, ids, "more than 70 tokens");
	ids[1] = 53;
	check_texts_refused(e, empty, 1, ids, "token 53 is not between 0 and 52");
	ids[1] = -1;
	check_texts_refused(e, empty, 1, ids, "token -1");
	embedder_set_poll(e, stop, &stopped);
	CHECK(!embedder_run(e, many, 1, ids, out, &err) && err.code == LLM_CANCELLED);
	stopped = false;
	err.code = LLM_OK;
	CHECK(embedder_run(e, many, 1, ids, out, &err));
	CHECK(!embedder_new(other, w, POOL_FIRST, 2, 70, device, &err) && err.code == LLM_INVALID);
	CHECK(!embedder_new(n, w, POOL_FIRST, 0, 70, device, &err));
	CHECK(!embedder_device_memory(other, 2, 70, &bytes, &err));
	embedder_free(e);
	free(w);
	net_free(n);
	net_free(other);
}

/* Tables of positions are made by the device, which does not know this scaling. */
static void
test_yarn_refused(void)
{
	net_config config = embedding_network("llama");
	llm_error err = {0};
	net *n;
	float *w;

	config.text.rope_factor = 4;
	config.text.rope_low = 1;
	config.text.rope_high = 32;
	config.text.rope_context = 15;
	config.text.rope_yarn = true;
	n = net_new(&config, &err);
	w = some_weights(n);
	CHECK(!embedder_new(n, w, POOL_MEAN, 2, 70, device, &err) && err.code == LLM_UNAVAILABLE);
	CHECK(strstr(err.message, "YaRN") != NULL && err.hint[0] != '\0');
	free(w);
	net_free(n);
}

static void
test_all_embeddings(void)
{
	net_config c = embedding_network("bert");

	test_embeddings("bert, mean", c, POOL_MEAN, WEIGHT_F32);
	test_embeddings("bert, first", c, POOL_FIRST, WEIGHT_BF16);
	c.text.types = 2;
	c.text.separator = 9;
	test_embeddings("bert with types", c, POOL_MEAN, WEIGHT_Q8_0);
	c = embedding_network("llama");
	c.text.kv_heads = 2;
	test_embeddings("llama, last", c, POOL_LAST, WEIGHT_Q4_0);
	test_embeddings("gpt, mean", embedding_network("gpt"), POOL_MEAN, WEIGHT_F16);
	test_embeddings("t5, mean", embedding_network("t5"), POOL_MEAN, WEIGHT_F32);
	c = embedding_network("t5");
	test_embeddings("t5, last", c, POOL_LAST, WEIGHT_BF16);
	test_embeddings("bert with dense layers", dense_network("bert"), POOL_MEAN, WEIGHT_Q8_0);
	test_embeddings("encoder of t5 with dense layers", dense_network("t5"), POOL_MEAN, WEIGHT_F32);
	test_embedder_limits();
	test_yarn_refused();
}

static void
run_tests(const char *path, const llmapp_cuda_device *info)
{
	test_all_predictions();
	test_all_embeddings();
}

int
main(int argc, char **argv)
{
	return test_on_gpu(argc, argv, run_tests);
}
