/*
 * test_kernels.c
 *	  Every operation's kernels against the CPU backend, forward and backward, on small networks of
 *	  odd sizes, over rows of several lengths, with batches smaller than their program.
 *
 * Without arguments the kernels are those of the emulator; with the path of llmapp_cuda.so they run on
 * the GPU.  Errors are normalised squared errors of single tensors.  Both sides round to float32 in
 * other orders, and the CPU's exponential is right to 1e-7, so errors are 1e-15 to 1e-13; where
 * gradients cancel they reach 1e-12.  With products of numbers rounded to bfloat16, whose relative error is
 * 2^-9, results are within 1e-4, and gradients at the far end of a network of several such products within 5e-4.
 */
#include "bench.h"

#define CAPACITY 40
#define LENGTH(x) ((int) (sizeof(x) / sizeof(*(x))))

static void
buckets(bench *b, int64_t rows, int64_t tokens, int64_t sources)
{
	b->bucket[AXIS_ROW] = rows;
	b->bucket[AXIS_TOKEN] = tokens;
	b->bucket[AXIS_SOURCE] = sources;
}

static int32_t
linear(bench *b, int32_t x, int64_t k, int64_t n, bool bias)
{
	int32_t w = parameter(b, n, k);

	return op_linear(b->g, x, w, bias ? parameter(b, n, 0) : TENSOR_NONE);
}

/* ---- rows of numbers ---- */

typedef struct rows_problem
{
	net_activation act;
	op_kind loss;
	float number;
	int64_t table_rows; /* of the bag */
	bool bf16;
	uint32_t seed;
} rows_problem;

/* (rows + 1) starts of up to 5 pairs each. */
static int32_t
bag_start(bench *b)
{
	int32_t *start = calloc(CAPACITY + 1, sizeof(int32_t));

	for (int i = 0; i < CAPACITY; i++)
		start[i + 1] = start[i] + next_below(6);
	return add_input(b, AXIS_NONE, TENSOR_I32, CAPACITY + 1, 0, start);
}

static int32_t
value_input(bench *b, int64_t n)
{
	float *x = malloc(n * sizeof(float));

	for (int64_t i = 0; i < n; i++)
		x[i] = next_normal();
	return add_input(b, AXIS_NONE, TENSOR_F32, n, 0, x);
}

static int32_t
record_loss(bench *b, const rows_problem *p, int32_t x, int32_t class, int32_t number, int32_t weight, bool gradient)
{
	switch (p->loss)
	{
		case OP_cross_entropy: return op_cross_entropy(b->g, x, class, weight, p->number, gradient);
		case OP_binary: return op_binary_cross_entropy(b->g, x, class, weight, p->number, gradient);
		case OP_mse: return op_mse(b->g, x, number, weight, gradient);
		default: return op_huber(b->g, x, number, weight, p->number, gradient);
	}
}

/* Dense numbers, embedded ones and a bag; two layers with norm, activation, dropout and a residual. */
static void
record_rows(bench *b, const void *problem)
{
	const rows_problem *p = problem;
	int outputs = p->loss == OP_binary ? 1 : 5;
	int32_t dense, embed, start, index, value, class, number, weight, x, y, part;

	*b = bench_new(CAPACITY, 1, 1);
	fixture_counter = p->seed;
	b->bf16 = p->bf16;
	b->limit = p->bf16 ? 1e-4 : 1e-11;
	dense = float_input(b, AXIS_ROW, 7);
	embed = index_input(b, AXIS_ROW, 0, 2, 9);
	start = bag_start(b);
	index = index_input(b, AXIS_NONE, CAPACITY * 5, 0, (int32_t) p->table_rows);
	value = value_input(b, CAPACITY * 5);
	class = index_input(b, AXIS_ROW, 0, 0, outputs > 1 ? outputs : 2);
	number = float_input(b, AXIS_ROW, outputs);
	weight = weight_input(b, AXIS_ROW);
	buckets(b, 33, 1, 1);
	add_batch(b, 33, NULL, NULL);
	add_batch(b, 13, NULL, NULL);
	add_batch(b, 1, NULL, NULL);
	part = op_columns(b->g, dense, 2, 3);
	x = op_concat(b->g, op_embed(b->g, embed, parameter(b, 9, 3)), dense);
	x = op_concat(b->g, x, part);
	x = linear(b, x, 16, 12, false);
	x = op_embed_bag(b->g, x, start, index, value, parameter(b, p->table_rows, 12), parameter(b, 12, 0));
	y = op_layer_norm(b->g, x, parameter(b, 12, 0), parameter(b, 12, 0), LAYER_NORM_EPSILON);
	y = op_dropout(b->g, op_act(b->g, y, p->act), 0.3f, 3);
	y = op_row_dropout(b->g, linear(b, y, 12, 12, true), 0.2f, 4);
	x = op_scale(b->g, op_add(b->g, x, y), 0.7f);
	x = linear(b, op_act(b->g, x, p->act), 12, outputs, true);
	record_loss(b, p, x, class, number, weight, true);
	graph_backward(b->g);
	if (p->loss == OP_cross_entropy)
		graph_keep(b->g, op_softmax(b->g, linear(b, dense, 7, 5, true)));
}

static void
test_rows(void)
{
	const rows_problem problems[] = {
		{ACT_RELU, OP_cross_entropy, 0, 11, false},
		{ACT_GELU, OP_cross_entropy, 0.1f, 300, false},
		{ACT_GELU_TANH, OP_binary, 0.1f, 5000, false, 1000},
		{ACT_SILU, OP_mse, 0, 70000, false},
		{ACT_TANH, OP_huber, 0.4f, 5, false},
		{ACT_SIGMOID, OP_binary, 0, 1, false},
		{ACT_IDENTITY, OP_huber, 2, 40, false},
		{ACT_GELU, OP_cross_entropy, 0, 11, true},
	};

	for (int i = 0; i < LENGTH(problems); i++)
	{
		char name[32];

		snprintf(name, sizeof(name), "rows %d", i);
		compare(name, record_rows, &problems[i]);
	}
}

/* Sums over rows have parts of some hundred rows, and norms and losses other numbers of threads for wide rows. */
#define MANY 1100

static void
record_many(bench *b, const void *problem)
{
	const int *width = problem;
	int32_t x, target, weight;

	*b = bench_new(MANY, 1, 1);
	x = float_input(b, AXIS_ROW, 3);
	target = index_input(b, AXIS_ROW, 0, 0, *width);
	weight = weight_input(b, AXIS_ROW);
	buckets(b, *width > 100 ? 9 : MANY, 1, 1);
	add_batch(b, *width > 100 ? 7 : 1037, NULL, NULL);
	x = linear(b, x, 3, *width, true);
	x = op_layer_norm(b->g, x, parameter(b, *width, 0), parameter(b, *width, 0), LAYER_NORM_EPSILON);
	x = op_rms_norm(b->g, x, parameter(b, *width, 0), 1e-5f);
	op_cross_entropy(b->g, x, target, weight, 0.1f, true);
	graph_backward(b->g);
}

static void
test_many(void)
{
	const int widths[] = {37, 300, 2500};

	for (int i = 0; i < LENGTH(widths); i++)
		compare("many", record_many, &widths[i]);
}

/* ---- images ---- */

typedef struct image_problem
{
	window2d convolution, pool;
	bool bias, group, mean;
	net_activation act;
	image_augment augment;
} image_problem;

/* Two convolutions, the second around a residual; batch, running or group norm; a pool. */
static void
record_images(bench *b, const void *problem)
{
	const image_problem *p = problem;
	const window2d same = {{3, 3}, {1, 1}, {1, 1}};
	int64_t kernel[2] = {p->convolution.kernel[0], p->convolution.kernel[1]};
	int32_t dense, target, weight, x, y, statistics, w;
	int64_t columns;

	*b = bench_new(CAPACITY, 1, 1);
	b->spread = 0.2f;
	dense = float_input(b, AXIS_ROW, 2 * 9 * 7 + 3);
	target = index_input(b, AXIS_ROW, 0, 0, 4);
	weight = weight_input(b, AXIS_ROW);
	buckets(b, 21, 1, 1);
	add_batch(b, 21, NULL, NULL);
	add_batch(b, 3, NULL, NULL);
	x = op_image(b->g, dense, 2, 9, 7, &p->augment);
	w = parameter_of(b, 4, (int64_t[]) {kernel[0], kernel[1], 2, 6});
	x = op_conv2d(b->g, x, w, p->bias ? parameter(b, 6, 0) : TENSOR_NONE, &p->convolution);
	if (p->group)
		x = op_group_norm(b->g, x, parameter(b, 6, 0), parameter(b, 6, 0), 3, p->act);
	else
	{
		x = op_batch_norm(b->g, x, parameter(b, 6, 0), parameter(b, 6, 0), p->act, &statistics);
		graph_keep(b->g, statistics);
	}
	w = parameter_of(b, 4, (int64_t[]) {3, 3, 6, 6});
	y = op_conv2d(b->g, x, w, parameter(b, 6, 0), &same);
	x = op_add(b->g, x, y);
	x = p->mean ? op_avg_pool(b->g, x, &p->pool) : op_max_pool(b->g, x, &p->pool);
	columns = x == TENSOR_NONE ? 1 : tensor_columns(&b->g->tensors[x]);
	x = linear(b, op_flatten(b->g, x), columns, 4, true);
	op_cross_entropy(b->g, x, target, weight, 0, true);
	graph_backward(b->g);
	if (!p->group)
	{
		int32_t mean = graph_statistic(b->g, b->params, 1, (int64_t[]) {3}), variance;

		for (int i = 0; i < 2; i++, b->params++)
		{
			b->offsets[b->params] = b->floats;
			for (int j = 0; j < 3; j++)
				b->weights[b->floats + j] = next_uniform();
			b->floats += 16;
		}
		variance = graph_statistic(b->g, b->params - 1, 1, (int64_t[]) {3});
		y = op_columns(b->g, dense, 126, 3);
		graph_keep(b->g, op_running_norm(b->g, y, parameter(b, 3, 0), parameter(b, 3, 0), mean, variance, p->act));
	}
}

static void
test_images(void)
{
	const image_problem problems[] = {
		{{{3, 3}, {1, 1}, {1, 1}}, {{2, 2}, {2, 2}, {0, 0}}, false, false, false, ACT_RELU, {0, false, 0}},
		{{{5, 3}, {2, 1}, {2, 0}}, {{3, 3}, {1, 2}, {1, 1}}, false, false, true, ACT_GELU, {2, true, 0.3f}},
		{{{1, 1}, {1, 1}, {0, 0}}, {{3, 2}, {2, 1}, {1, 0}}, true, true, false, ACT_TANH, {1, false, 0}},
		{{{2, 4}, {3, 2}, {1, 3}}, {{2, 2}, {1, 1}, {1, 1}}, true, true, true, ACT_SILU, {0, true, 0}},
	};

	for (int i = 0; i < LENGTH(problems); i++)
	{
		char name[32];

		snprintf(name, sizeof(name), "images %d", i);
		compare(name, record_images, &problems[i]);
	}
}

/* ---- texts ---- */

#define TEXT_ROWS 8
#define TEXT_TOKENS 200
#define TEXT_SOURCES 100

static const int32_t token_start[TEXT_ROWS + 1] = {0, 3, 3, 4, 41, 106, 106, 139, 171};
static const int32_t source_start[TEXT_ROWS + 1] = {0, 5, 38, 38, 43, 76, 80, 81, 90};

typedef struct text_problem
{
	attention_shape s;
	bool cross, rms, head_norm, tied;
	rotary_shape rotary;
	net_activation glu;
	text_pool pool;
	bool bf16;
} text_problem;

static int32_t
text_norm(bench *b, const text_problem *p, int32_t x, int width)
{
	int32_t gain = parameter(b, width, 0);

	return p->rms ? op_rms_norm(b->g, x, gain, 1e-5f)
				  : op_layer_norm(b->g, x, gain, parameter(b, width, 0), LAYER_NORM_EPSILON);
}

static int32_t
text_attention(bench *b, const text_problem *p, int32_t x, int32_t start, int32_t source, int32_t kv_start, int width)
{
	const attention_shape *s = &p->s;
	int64_t q = s->heads * s->head_dim, kv = 2 * s->kv_heads * s->head_dim;
	int32_t qkv, bias = s->buckets ? parameter(b, s->buckets, s->heads) : TENSOR_NONE;

	if (p->cross)
	{
		int32_t queries = linear(b, x, width, q, true);

		return op_cross_attention(b->g, queries, linear(b, source, width, kv, false), start, kv_start, s);
	}
	qkv = linear(b, x, width, q + kv, true);
	if (p->head_norm)
	{
		int32_t gain = parameter(b, s->head_dim, 0);

		qkv = op_head_norm(b->g, qkv, gain, parameter(b, s->head_dim, 0), 1e-5f, s);
	}
	if (p->rotary.dim)
		qkv = op_rotary(b->g, qkv, start, op_rotary_table(b->g, start, 70, &p->rotary), s);
	return op_attention(b->g, qkv, start, bias, s);
}

/* A layer of a transformer, what stands for each row, and the logits of a vocabulary. */
static void
record_text(bench *b, const void *problem)
{
	const text_problem *p = problem;
	int width = 24, vocab = 61;
	int32_t start, kv_start, token, source, target, weight, row_weight, pooled_target, table, x, y, correct;

	*b = bench_new(TEXT_ROWS, TEXT_TOKENS, TEXT_SOURCES);
	b->spread = 0.3f;
	b->bf16 = p->bf16;
	b->limit = p->bf16 ? 5e-4 : p->s.buckets ? 1e-10 : 1e-11; /* the sum of slopes of a query is 0 */
	start = int_input(b, token_start, TEXT_ROWS + 1);
	kv_start = int_input(b, source_start, TEXT_ROWS + 1);
	token = index_input(b, AXIS_TOKEN, 0, 1, vocab);
	source = index_input(b, AXIS_SOURCE, 0, 1, vocab);
	target = index_input(b, AXIS_TOKEN, 0, 0, vocab);
	weight = weight_input(b, AXIS_TOKEN);
	row_weight = weight_input(b, AXIS_ROW);
	pooled_target = float_input(b, AXIS_ROW, 5);
	buckets(b, 8, 180, 95);
	add_batch(b, 8, token_start, source_start);
	add_batch(b, 4, token_start, source_start);
	add_batch(b, 3, token_start, source_start);
	table = parameter(b, vocab, width);
	x = op_embed(b->g, token, table);
	x = op_position(b->g, x, start, parameter(b, 70, width));
	x = op_add(b->g, x, op_embed(b->g, op_token_types(b->g, token, start, 7, 3), parameter(b, 3, width)));
	y = text_norm(b, p, x, width);
	y = text_attention(b, p, y, start, p->cross ? op_embed(b->g, source, table) : TENSOR_NONE, kv_start, width);
	x = op_add(b->g, x, linear(b, y, p->s.heads * p->s.head_dim, width, true));
	y = op_glu(b->g, linear(b, text_norm(b, p, x, width), width, 2 * 19, false), p->glu);
	x = op_add(b->g, x, linear(b, y, 19, width, true));
	x = text_norm(b, p, x, width);
	y = op_pool_tokens(b->g, x, start, p->pool);
	op_mse(b->g, linear(b, y, width, 5, true), pooled_target, row_weight, true);
	op_language_loss(b->g, x, p->tied ? table : parameter(b, vocab, width),
					 p->tied ? TENSOR_NONE : parameter(b, vocab, 0), 0, target, weight, true, &correct);
	graph_backward(b->g);
}

static void
test_text(void)
{
	const text_problem problems[] = {
		{{.heads = 4, .kv_heads = 4, .head_dim = 8, .causal = true, .scale = 0.35f}, .glu = ACT_GELU, .tied = true},
		{{.heads = 6, .kv_heads = 2, .head_dim = 10, .causal = true, .scale = 0.3f},
		 .rms = true,
		 .head_norm = true,
		 .rotary = {10, 10000},
		 .glu = ACT_SILU,
		 .pool = POOL_LAST},
		{{.heads = 3, .kv_heads = 3, .head_dim = 40, .scale = 0.16f}, .glu = ACT_GELU_TANH, .pool = POOL_FIRST},
		{{.heads = 2, .kv_heads = 1, .head_dim = 16, .scale = 0.5f, .buckets = 16, .distance = 40},
		 .rms = true,
		 .glu = ACT_RELU,
		 .tied = true},
		{{.heads = 2, .kv_heads = 2, .head_dim = 5, .causal = true, .scale = 1, .buckets = 8, .distance = 20},
		 .glu = ACT_TANH},
		{{.heads = 4, .kv_heads = 2, .head_dim = 12, .scale = 0.3f}, .cross = true, .glu = ACT_SIGMOID},
		{{.heads = 1, .kv_heads = 1, .head_dim = 130, .causal = true, .scale = 0.1f},
		 .rotary = {64, 100, .factor = 2},
		 .glu = ACT_IDENTITY},
		{{.heads = 4, .kv_heads = 2, .head_dim = 32, .causal = true, .scale = 0.18f},
		 .rotary = {20, 500000, .factor = 8, .low = 1, .high = 4, .context = 32},
		 .glu = ACT_SILU,
		 .tied = true,
		 .bf16 = true},
		{{.heads = 2, .kv_heads = 1, .head_dim = 64, .scale = 0.125f, .buckets = 16, .distance = 40},
		 .glu = ACT_GELU,
		 .bf16 = true},
		{{.heads = 2, .kv_heads = 2, .head_dim = 128, .scale = 0.09f}, .cross = true, .glu = ACT_GELU, .bf16 = true},
		{{.heads = 2, .kv_heads = 1, .head_dim = 128, .causal = true, .scale = 0.09f}, .glu = ACT_GELU, .bf16 = true},
	};

	for (int i = 0; i < LENGTH(problems); i++)
	{
		char name[32];

		snprintf(name, sizeof(name), "text %d", i);
		compare(name, record_text, &problems[i]);
	}
}

/* Chunks of the language loss, of which the last ones are beyond the tokens that count. */
static void
record_chunks(bench *b, const void *problem)
{
	const bool *few = problem;
	int tokens = 400, width = 3, vocab = 20000; /* chunks of 128 tokens */
	int32_t start[2] = {0, 390}, x, target, weight, correct;
	float *weights;

	*b = bench_new(1, tokens, 1);
	x = float_input(b, AXIS_TOKEN, width);
	target = index_input(b, AXIS_TOKEN, 0, 0, vocab);
	weight = weight_input(b, AXIS_TOKEN);
	weights = b->input[b->inputs - 1];
	for (int i = 0, n = 0; *few && i < tokens; i++)
		weights[i] = weights[i] > 0 && n++ >= 100 ? 0 : weights[i];
	buckets(b, 1, 390, 1);
	if (*few)
		b->bucket[AXIS_NONE] = 110;
	add_batch(b, 1, start, NULL);
	op_language_loss(b->g, x, parameter(b, vocab, width), parameter(b, vocab, 0), 0, target, weight, true, &correct);
	graph_backward(b->g);
}

static void
test_chunks(void)
{
	compare("all tokens count", record_chunks, &(bool) {false});
	compare("few tokens count", record_chunks, &(bool) {true});
}

/* Pairs of texts, some of which share a side. */
static void
record_pairs(bench *b, const void *problem)
{
	const int *capacity = problem;
	int32_t x = TENSOR_NONE, text, weight, correct;
	float *texts;

	*b = bench_new(*capacity, 1, 1);
	x = float_input(b, AXIS_ROW, 9);
	text = float_input(b, AXIS_ROW, 0);
	texts = b->input[b->inputs - 1];
	for (int i = 0; i < *capacity; i++)
		texts[i] = i % 7 == 0 ? 1 : i + 2;
	weight = weight_input(b, AXIS_ROW);
	buckets(b, *capacity, 1, 1);
	add_batch(b, *capacity, NULL, NULL);
	add_batch(b, 4, NULL, NULL);
	x = linear(b, x, 9, 17, true);
	op_contrastive_loss(b->g, x, text, weight, 0.2f, true, &correct);
	graph_backward(b->g);
}

static void
test_pairs(void)
{
	compare("pairs", record_pairs, &(int) {22});
	compare("many pairs", record_pairs, &(int) {150});
}

/* ---- all ---- */

static void
print_table(void)
{
	for (int i = 0; i < OP_COUNT; i++)
	{
		if (worst[i] >= 0)
			printf("%-20s error %.2g\n", op_table[i].name, worst[i]);
		else if (i != OP_conv2d_flip)
			test_check(false, op_table[i].name, __FILE__, __LINE__);
	}
}

int
main(int argc, char **argv)
{
	if (bench_open(argc, argv))
	{
		test_rows();
		test_many();
		test_images();
		test_text();
		test_chunks();
		test_pairs();
		print_table();
		api->close(device);
	}
	return test_summary();
}
