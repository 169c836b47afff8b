/*
 * bench_transformer.c
 *	  How fast GPTs train and write.
 *
 * Usage: bench_transformer [threads [SHAPE]]	prints "SHAPE.step SECONDS", where the CPU has it "SHAPE.bf16 SECONDS" of
 * a step in that precision, for one thread also "SHAPE.prompt SECONDS", of a prompt of half the context,
 * "SHAPE.token SECONDS", of one more token behind a quarter of it, and "SHAPE.weights" of the network.  Of the longest
 * rows, gpt2_1024.plain and gpt2_1024.recompute, without and with layers that are computed again: .step as above,
 * .planned MB that trainer_memory() expects, .peak MB that the process had.
 */
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#include "../../src/engine/bf16.h"
#include "../../src/engine/generator.h"
#include "../../src/engine/net_record.h"

typedef struct shape
{
	const char *name;
	int32_t vocab, context, width, depth, heads, rows;
} shape;

/* nanoGPT's demonstration on a CPU, and GPT-2 with 124 million weights on short, longer and its longest rows. */
static const shape shapes[] = {{"demo", 65, 64, 128, 4, 4, 12},
							   {"gpt2", 50257, 64, 768, 12, 12, 4},
							   {"gpt2_256", 50257, 256, 768, 12, 12, 4},
							   {"gpt2_1024", 50257, 1024, 768, 12, 12, 1}};

static const shape *const longest = &shapes[3];

static void
fill_tokens(batch *b, const shape *s)
{
	uint32_t bits[4];

	b->rows = s->rows;
	for (int32_t i = 0; i < s->rows * s->context; i++)
	{
		philox(1, 0, 0, (uint32_t) i, bits);
		b->token[i] = (int32_t) (bits[0] % (uint32_t) s->vocab);
		b->token_target[i] = (int32_t) (bits[1] % (uint32_t) s->vocab);
		b->token_weight[i] = 1;
	}
	for (int32_t i = 0; i <= s->rows; i++)
		b->token_start[i] = i * s->context;
}

static net *
network(const shape *s)
{
	net_config c = {.shape = {.outputs = 1, .token_target = true, .vocab = s->vocab, .context = s->context}};
	llm_error err = {0};
	net *n;

	transformer_family("gpt", &c.text);
	c.text.vocab = s->vocab;
	c.text.context = s->context;
	c.text.width = s->width;
	c.text.depth = s->depth;
	c.text.heads = c.text.kv_heads = s->heads;
	c.text.head_dim = s->width / s->heads;
	c.text.ffn = 4 * s->width;
	n = net_new(&c, &err);
	check(&err);
	return n;
}

typedef struct writing
{
	generator *g;
	const int32_t *ids;
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
measure_writing(const net *n, const shape *s)
{
	float *weights = aligned_alloc(64, net_weight_bytes(n));
	int32_t *ids = calloc(s->context, sizeof(int32_t));
	llm_error err = {0};
	writing a = {.ids = ids, .count = s->context / 2};

	memset(weights, 0, net_weight_bytes(n));
	net_initialise(n, 1, weights, NULL, NULL, NULL);
	a.g = generator_new(n, weights, 1, s->context, 0, &err);
	check(&err);
	printf("%s.prompt %.4g\n", s->name, median_time(1, append, &a));
	a.kept = s->context / 4;
	a.count = 1;
	printf("%s.token %.4g\n", s->name, median_time(1, append, &a));
	printf("%s.weights %.4g\n", s->name, net_weight_bytes(n) / 4.0);
	generator_free(a.g);
	free(ids);
	free(weights);
}

static train_config
config_of(int threads)
{
	return (train_config) {.optimizer = OPT_ADAMW,
						   .learning_rate = 1e-3,
						   .weight_decay = 0.1,
						   .beta1 = 0.9,
						   .beta2 = 0.99,
						   .epsilon = 1e-8,
						   .clip_norm = 1,
						   .total_steps = 1000000,
						   .threads = threads};
}

static double
train_time(const net *n, const shape *s, const train_config *c, int threads)
{
	llm_error err = {0};
	training a = {trainer_new(n, c, s->rows, &err), batch_new(&net_get_config(n)->shape, s->rows, &err)};
	double time;

	check(&err);
	fill_tokens(a.b, s);
	time = median_time(threads, train_step, &a);
	trainer_free(a.t);
	batch_free(a.b);
	return time;
}

static void
measure(const shape *s, int threads)
{
	net *n = network(s);
	train_config c = config_of(threads);

	printf("%s.step %.4g\n", s->name, train_time(n, s, &c, threads));
	c.precision = PRECISION_BF16;
	if (bf16_supported())
		printf("%s.bf16 %.4g\n", s->name, train_time(n, s, &c, threads));
	if (threads == 1)
		measure_writing(n, s);
	fflush(stdout);
	net_free(n);
}

/* In a process of its own, whose memory is that of the training. */
static void
measure_memory(const shape *s, int threads, bool recompute)
{
	net *n = network(s);
	train_config c = config_of(threads);
	llm_error err = {0};
	const char *way = recompute ? "recompute" : "plain";
	struct rusage used;
	size_t bytes;
	double time;

	if (fork() != 0)
	{
		wait(NULL);
		net_free(n);
		return;
	}
	c.recompute = recompute;
	trainer_memory(n, &c, s->rows, &bytes, &err);
	check(&err);
	time = train_time(n, s, &c, threads);
	getrusage(RUSAGE_SELF, &used);
	printf("%s.%s.step %.4g\n", s->name, way, time);
	printf("%s.%s.planned %.0f\n", s->name, way, bytes / 1048576.0);
	printf("%s.%s.peak %.0f\n", s->name, way, used.ru_maxrss / 1024.0);
	exit(0);
}

int
main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (argc < 3 || strcmp(argv[2], shapes[i].name) == 0)
			measure(&shapes[i], argc > 1 ? atoi(argv[1]) : 1);
	for (int i = 0; i < 2; i++)
		if (argc < 3 || strcmp(argv[2], longest->name) == 0)
			measure_memory(longest, argc > 1 ? atoi(argv[1]) : 1, i);
	return 0;
}
