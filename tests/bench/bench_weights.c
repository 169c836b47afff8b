/*
 * bench_weights.c
 *	  How fast language models read and write with their weights kept in each type, on one thread.
 *
 * Usage: bench_weights [SHAPE [TYPE]]	prints "SHAPE.TYPE.token SECONDS", of one more token behind PROMPT of them, ".prompt
 * SECONDS", of so many tokens, and ".read", the gigabytes of weights that a token reads.
 */
#include "bench.h"

#include "../../src/engine/generator.h"

#define CONTEXT 512
#define PROMPT 128

typedef struct shape
{
	const char *name;
	int32_t vocab, width, depth, heads, kv_heads, head_dim, ffn;
} shape;

/* Llamas: of 124 million weights with GPT-2's vocabulary, and as Qwen3 0.6B and Llama 3.2 1B are. */
static const shape shapes[] = {{"124m", 50257, 768, 12, 12, 12, 64, 2048},
							   {"0.6b", 151936, 1024, 28, 16, 8, 128, 3072},
							   {"1b", 128256, 2048, 16, 32, 8, 64, 8192}};

static net *
network(const shape *s, weight_type type)
{
	net_config c = {.shape = {.outputs = 1, .token_target = true, .vocab = s->vocab, .context = CONTEXT}};
	llm_error err = {0};
	net *n;

	transformer_family("llama", &c.text);
	c.text.vocab = s->vocab;
	c.text.context = CONTEXT;
	c.text.width = s->width;
	c.text.depth = s->depth;
	c.text.heads = s->heads;
	c.text.kv_heads = s->kv_heads;
	c.text.head_dim = s->head_dim;
	c.text.ffn = s->ffn;
	n = net_new(&c, &err);
	check(&err);
	net_keep_all(n, type);
	return n;
}

#define SAME ((size_t) 1 << 20) /* numbers that repeat: their values do not matter */

static void *
random_weights(const net *n)
{
	char *kept = aligned_alloc(64, net_kept_bytes(n));
	float *numbers = malloc(SAME * sizeof(float));
	llm_error err = {0};
	uint32_t bits[4];

	for (size_t i = 0; i < SAME; i++)
	{
		philox(1, 0, 0, (uint32_t) i, bits);
		numbers[i] = 0.04f * philox_uniform(bits[0]) - 0.02f;
	}
	for (int32_t t = 0; t < net_tensor_count(n); t++)
	{
		const net_tensor_info *info = net_tensor(n, t);
		size_t first = info->count < SAME ? info->count : SAME;

		net_encode_tensor(n, t, 0, first, numbers, kept, &err);
		for (size_t i = first; i < info->count; i += SAME)
			memcpy(kept + info->place + weight_bytes(info->type, i), kept + info->place,
				   weight_bytes(info->type, info->count - i < SAME ? info->count - i : SAME));
	}
	check(&err);
	free(numbers);
	return kept;
}

typedef struct writing
{
	generator *g;
	int32_t ids[PROMPT];
	int32_t kept, count; /* tokens that stay, and that are appended */
} writing;

static void
append(void *arg)
{
	writing *a = arg;
	llm_error err = {0};

	generator_truncate(a->g, 0, a->kept);
	generator_append(a->g, 0, a->ids, a->count, &err);
	check(&err);
}

static void
measure(const shape *s, weight_type type)
{
	net *n = network(s, type);
	void *weights = random_weights(n);
	writing a = {.count = PROMPT};
	llm_error err = {0};
	const char *name = weight_type_name(type);

	for (int i = 0; i < PROMPT; i++)
		a.ids[i] = i * 37 % s->vocab;
	a.g = generator_new(n, weights, 1, CONTEXT, 0, &err);
	check(&err);
	printf("%s.%s.prompt %.4g\n", s->name, name, median_time(1, append, &a));
	a.kept = PROMPT;
	a.count = 1;
	printf("%s.%s.token %.4g\n", s->name, name, median_time(1, append, &a));
	printf("%s.%s.read %.4g\n", s->name, name, 1e-9 * net_kept_bytes(n));
	fflush(stdout);
	generator_free(a.g);
	free(weights);
	net_free(n);
}

int
main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		for (int t = 0; t < WEIGHT_TYPES; t++)
			if ((argc < 2 || strcmp(argv[1], shapes[i].name) == 0) &&
				(argc < 3 || strcmp(argv[2], weight_type_name((weight_type) t)) == 0))
				measure(&shapes[i], (weight_type) t);
	return 0;
}
