/*
 * bench_decoder.c
 *	  How fast a GPU decodes: a network of GPT-2's shape (124 million parameters) with weights in each type, and 1, 8 and 64
 *	  texts of 512 tokens that go on token by token.
 *
 * Given the path of llmapp_cuda.so it prints, for each type and number of texts: tokens a second of a prompt, in chunks
 * of 512; milliseconds of a pass of one token for each text, the median of 64, logits copied and all; tokens a second of all
 * texts; and how many GB a second of weights, keys and values that is.
 */
#include <time.h>

#include "../../src/engine/cuda.h"
#include "../../src/engine/decoder.h"
#include "../../tests/unit/fixture.h"

#define PROMPT 512
#define STEPS 64
#define TEXTS 64
#define TEXT_PAGES ((PROMPT + STEPS) / DECODER_PAGE)

static net_config
gpt2(void)
{
	net_config c = {.shape = {.outputs = 1, .token_target = true, .vocab = 50257, .context = 1024}};

	CHECK(transformer_family("gpt", &c.text));
	c.text.vocab = c.shape.vocab;
	c.text.context = c.shape.context;
	c.text.width = 768;
	c.text.depth = 12;
	c.text.heads = c.text.kv_heads = 12;
	c.text.head_dim = 64;
	c.text.ffn = 3072;
	return c;
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int
compare_times(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return (x > y) - (x < y);
}

/* Weights of about the size of trained ones. */
static void *
make_weights(const net *n)
{
	float *x = malloc(net_weight_bytes(n));
	void *kept = calloc(1, net_kept_bytes(n));
	uint32_t state = 1;
	llm_error err = {0};

	for (size_t i = 0; i < net_weight_bytes(n) / sizeof(float); i++)
	{
		state = state * 1664525 + 1013904223;
		x[i] = ((state >> 8) / 16777216.0f - 0.5f) * 0.1f;
	}
	CHECK(net_encode(n, x, kept, &err));
	check_no_error(&err);
	free(x);
	return kept;
}

typedef struct texts
{
	int32_t ids[TEXTS][PROMPT + STEPS];
	int32_t pages[TEXTS][TEXT_PAGES];
} texts;

/* Seconds of the prompts of `count` texts, one after the other. */
static double
run_prompts(decoder *d, const texts *t, int count)
{
	double start = now();
	llm_error err = {0};

	for (int i = 0; i < count; i++)
		CHECK(decoder_run(d, &(decoder_text) {t->pages[i], t->ids[i], 0, PROMPT, true}, 1, &err));
	return now() - start;
}

static double
median_of_steps(decoder *d, const texts *t, int count)
{
	double times[STEPS];
	decoder_text list[TEXTS];
	llm_error err = {0};

	for (int step = 0; step < STEPS; step++)
	{
		double start = now();

		for (int i = 0; i < count; i++)
			list[i] = (decoder_text) {t->pages[i], &t->ids[i][PROMPT + step], PROMPT + step, 1, true};
		CHECK(decoder_run(d, list, count, &err));
		times[step] = now() - start;
	}
	qsort(times, STEPS, sizeof(*times), compare_times);
	return times[STEPS / 2];
}

static void
bench_type(cuda_device *device, net *n, weight_type type, const texts *t)
{
	static const int counts[] = {1, 8, 64};
	const transformer_config *c = &net_get_config(n)->text;
	llm_error err = {0};
	void *weights;
	decoder *d;

	net_keep_all(n, type);
	weights = make_weights(n);
	d = decoder_new(n, weights, &(decoder_shape) {TEXTS * TEXT_PAGES, PROMPT, TEXTS}, device, &err);
	check_no_error(&err);
	for (int i = 0; d && i < (int) (sizeof(counts) / sizeof(*counts)); i++)
	{
		int count = counts[i];
		double prompt, step, bytes;

		run_prompts(d, t, 1); /* programs are made */
		median_of_steps(d, t, count);
		prompt = run_prompts(d, t, count);
		step = median_of_steps(d, t, count);
		bytes = (double) net_kept_bytes(n) + 2.0 * count * (PROMPT + STEPS / 2) * c->depth * c->kv_heads *
												 c->head_dim * (type == WEIGHT_F32 ? 4 : 2);
		printf("%-5s %3d texts: prompts %8.0f tokens/s, pass %7.3f ms, %8.0f tokens/s, %6.0f GB/s\n",
			   weight_type_name(type), count, count * PROMPT / prompt, 1e3 * step, count / step, 1e-9 * bytes / step);
	}
	decoder_free(d);
	free(weights);
}

int
main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : NULL;
	llmapp_cuda_device list[CUDA_DEVICES];
	net_config config = gpt2();
	llm_error err = {0};
	int count = cuda_list(path, list, &err);
	cuda_device *device = count > 0 ? cuda_open(path, 0, list, &err) : NULL;
	texts *t = calloc(1, sizeof(texts));
	net *n;

	if (!device)
	{
		printf("no GPU: %s\n", err.message);
		return 0;
	}
	for (int i = 0; i < TEXTS; i++)
	{
		for (int j = 0; j < TEXT_PAGES; j++)
			t->pages[i][j] = j * TEXTS + i;
		for (int j = 0; j < PROMPT + STEPS; j++)
			t->ids[i][j] = (i * 7919 + j * 104729) % config.text.vocab;
	}
	n = net_new(&config, &err);
	check_no_error(&err);
	for (int type = 0; n && type < WEIGHT_TYPES; type++)
		bench_type(device, n, type, t);
	net_free(n);
	free(t);
	cuda_close(device);
	return test_summary();
}
