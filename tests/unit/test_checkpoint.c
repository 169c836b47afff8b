/*
 * test_checkpoint.c
 *	  Tiny checkpoints of each family beside the transformers library: logits of every token, the text
 *	  that it writes, embeddings, outputs of classifiers; from its own files and from GGUF files.
 *
 * The files are made by golden/make_checkpoints.py, which says what they hold, in double precision.
 * Rounding of float32 through two layers keeps a normalised mean squared error below 1e-10; another
 * formula does not.
 */
#include "checkpoint_sample.h"

/* ---- golden numbers ---- */

static float *
golden(const sample *s, const char *name, size_t *count)
{
	char full[64];
	const safetensor *t;
	llm_error err = {0};
	float *numbers;

	snprintf(full, sizeof(full), GOLDEN "%s", name);
	t = safetensors_find(s->file, full);
	if (t == NULL)
		return NULL;
	numbers = malloc(t->count * sizeof(float));
	CHECK(safetensor_floats(t, 0, t->count, numbers, &err));
	if (count)
		*count = t->count;
	return numbers;
}

static int32_t *
golden_ids(const sample *s, const char *name, size_t *count)
{
	size_t n;
	float *numbers = golden(s, name, &n);
	int32_t *ids = malloc(n * sizeof(int32_t));

	for (size_t i = 0; i < n; i++)
		ids[i] = (int32_t) numbers[i];
	free(numbers);
	if (count)
		*count = n;
	return ids;
}

static bool
close_to(const char *name, const char *what, const float *got, const float *want, size_t count)
{
	double error = 0, size = 0;

	for (size_t i = 0; i < count; i++)
	{
		error += pow((double) got[i] - want[i], 2);
		size += pow(want[i], 2);
	}
	if (!(error <= LIMIT * size))
		fprintf(stderr, "%s: error of %s is %g\n", name, what, error / size);
	return error <= LIMIT * size;
}

/* A case with its network. */
typedef struct trial
{
	const char *name;
	sample file, gold; /* the same but for GGUF */
	checkpoint *c;
	float *weights;
	int32_t *start, *ids, *source_start, *sources;
	int32_t rows;
} trial;

/* ---- by the generator ---- */

static void
check_written(const trial *t, const float *logits)
{
	int32_t vocab = t->c->config.text.vocab;
	size_t count = t->start[t->rows];
	float *got = malloc(count * vocab * sizeof(float));
	llm_error err = {0};
	generator *g = generator_new(t->c->net, t->weights, 1, t->c->config.text.context,
								 t->sources ? t->c->config.text.source_context : 0, &err);

	for (int32_t r = 0; g && r < t->rows; r++)
	{
		generator_truncate(g, 0, 0);
		if (t->sources)
			CHECK(generator_source(g, 0, t->sources + t->source_start[r], t->source_start[r + 1] - t->source_start[r],
								   &err));
		for (int32_t i = t->start[r]; i < t->start[r + 1]; i++)
		{
			CHECK(generator_append(g, 0, t->ids + i, 1, &err));
			memcpy(got + (size_t) i * vocab, generator_logits(g, 0), vocab * sizeof(float));
		}
	}
	check_no_error(&err);
	CHECK(close_to(t->name, "logits", got, logits, count * vocab));
	generator_free(g);
	free(got);
}

static void
check_greedy(const trial *t)
{
	size_t count, steps;
	int32_t *prompt = golden_ids(&t->gold, "prompt", &count), *text = golden_ids(&t->gold, "greedy", &steps);
	int32_t vocab = t->c->config.text.vocab, same = 0;
	llm_error err = {0};
	generator *g = generator_new(t->c->net, t->weights, 1, t->c->config.text.context,
								 t->sources ? t->c->config.text.source_context : 0, &err);

	if (t->sources)
		CHECK(generator_source(g, 0, t->sources + t->source_start[1], t->source_start[2] - t->source_start[1], &err));
	CHECK(generator_append(g, 0, prompt, (int32_t) count, &err));
	for (size_t i = 0; i < steps; i++)
	{
		const float *logits = generator_logits(g, 0);
		int32_t best = 0;

		for (int32_t k = 1; k < vocab; k++)
			best = logits[k] > logits[best] ? k : best;
		same += best == text[i];
		if (best != text[i] || !CHECK(generator_append(g, 0, &best, 1, &err)))
			break;
	}
	CHECK_INT(same, steps);
	generator_free(g);
	free(prompt);
	free(text);
}

static void
check_labelled(const trial *t, const float *logits)
{
	int32_t outputs = transformer_outputs(&t->c->config.text);
	size_t count = t->start[t->rows];
	float *got = malloc(count * outputs * sizeof(float));
	llm_error err = {0};
	generator *g = generator_new(t->c->net, t->weights, 1, t->c->config.text.context, 0, &err);
	int32_t some[] = {2, 7};

	for (int32_t r = 0; r < t->rows; r++)
	{
		int32_t length = t->start[r + 1] - t->start[r];

		CHECK(generator_label(g, t->ids + t->start[r], length, NULL, length, got + (size_t) t->start[r] * outputs,
							  &err));
	}
	check_no_error(&err);
	CHECK(close_to(t->name, "logits of tokens", got, logits, count * outputs));
	CHECK(generator_label(g, t->ids, t->start[1], some, 2, got, &err));
	CHECK(close_to(t->name, "logits of one token", got + outputs, logits + (size_t) 7 * outputs, outputs));
	some[1] = 2;
	CHECK(!generator_label(g, t->ids, t->start[1], some, 2, got, &err) && err.code == LLM_INVALID);
	generator_free(g);
	free(got);
}

static void
check_embedded(const trial *t, const float *embedding)
{
	int32_t width = net_embedding_width(&t->c->config);
	float *got = malloc((size_t) t->rows * width * sizeof(float));
	llm_error err = {0};
	generator *g = generator_new(t->c->net, t->weights, 1, t->c->config.text.context, 0, &err);

	for (int32_t r = 0; r < t->rows; r++)
	{
		float *x = got + (size_t) r * width;
		const float *want = embedding + (size_t) r * width;
		double length = 0, dot = 0, other = 0;

		CHECK(generator_embed(g, t->ids + t->start[r], t->start[r + 1] - t->start[r], t->c->config.pool, x, &err));
		for (int32_t i = 0; i < width; i++)
		{
			length += (double) x[i] * x[i];
			dot += (double) x[i] * want[i];
			other += (double) want[i] * want[i];
		}
		CHECK(dot / sqrt(length * other) >= 0.999999);
		for (int32_t i = 0; t->c->normalised && i < width; i++)
			x[i] /= sqrtf((float) length);
	}
	check_no_error(&err);
	CHECK(close_to(t->name, "embeddings", got, embedding, (size_t) t->rows * width));
	generator_free(g);
	free(got);
}

/* ---- by the graph that trains ---- */

static batch *
batch_of(const trial *t)
{
	llm_error err = {0};
	batch *b = batch_new(&t->c->config.shape, t->rows, &err);

	b->rows = t->rows;
	memcpy(b->token_start, t->start, (t->rows + 1) * sizeof(int32_t));
	memcpy(b->token, t->ids, t->start[t->rows] * sizeof(int32_t));
	if (t->sources)
	{
		memcpy(b->source_start, t->source_start, (t->rows + 1) * sizeof(int32_t));
		memcpy(b->source, t->sources, t->source_start[t->rows] * sizeof(int32_t));
	}
	return b;
}

static double
loss_of(const float *logits, int32_t outputs, int32_t target)
{
	double sum = 0;

	for (int32_t k = 0; k < outputs; k++)
		sum += exp((double) logits[k] - logits[target]);
	return log(sum);
}

/* Losses of made-up targets, all rows at once. */
static void
check_losses(const trial *t, const float *logits)
{
	int32_t outputs = transformer_outputs(&t->c->config.text), count = t->start[t->rows];
	float *want = malloc(count * sizeof(float));
	llm_error err = {0};
	run_args run = {.simd = simd_best()};
	batch *b = batch_of(t);
	net_plan p;
	void *arena;

	for (int32_t i = 0; i < count; i++)
	{
		b->token_target[i] = (i * 7 + 3) % outputs;
		b->token_weight[i] = 1;
		want[i] = (float) loss_of(logits + (size_t) i * outputs, outputs, b->token_target[i]);
	}
	CHECK(batch_check(b, &t->c->config.shape, t->rows, true, &err));
	if (CHECK(net_plan_new(&p, t->c->net, MODE_TRAIN, t->rows, &err)))
	{
		arena = aligned_alloc(64, plan_arena_bytes(p.plan));
		net_plan_bind(&p, b);
		net_rows(b, run.rows);
		plan_attach(p.plan, arena, t->weights);
		CHECK(plan_run(p.plan, &run, &err));
		CHECK(close_to(t->name, "losses", plan_address(p.plan, p.loss), want, count));
		net_plan_free(&p);
		free(arena);
	}
	check_no_error(&err);
	batch_free(b);
	free(want);
}

/* Probabilities, or numbers, of rows together. */
static void
check_outputs(const trial *t, const float *logits)
{
	const batch_shape *s = &t->c->config.shape;
	int32_t labels = t->c->label_count > 0 ? t->c->label_count : s->outputs;
	llm_error err = {0};
	predictor *p = predictor_new(t->c->net, t->weights, t->rows, NULL, &err);
	batch *b = predictor_batch(p), *filled = batch_of(t);
	float want[64];
	const float *got;

	b->rows = t->rows;
	memcpy(b->token_start, filled->token_start, (t->rows + 1) * sizeof(int32_t));
	memcpy(b->token, filled->token, t->start[t->rows] * sizeof(int32_t));
	got = predictor_run(p, &err);
	check_no_error(&err);
	for (int32_t r = 0; r < t->rows; r++)
		for (int32_t k = 0; k < s->outputs; k++)
			want[r * s->outputs + k] = !s->class_target
										   ? logits[r * labels + k]
										   : (float) exp(-loss_of(logits + r * labels, labels, labels == 2 ? 1 : k));
	CHECK(close_to(t->name, "outputs", got, want, t->rows * s->outputs));
	predictor_free(p);
	batch_free(filled);
}

/* ---- cases ---- */

static bool
open_trial(trial *t, const char *name, const char *golden_name, const char *params)
{
	llm_error err = {0};
	size_t count;

	*t = (trial) {.name = name};
	if (!open_sample(name, &t->file) || !open_sample(golden_name, &t->gold))
		return false;
	take_tensors(&t->file, NULL);
	t->c = make_checkpoint(&t->file, params, NULL, &err);
	check_no_error(&err);
	if (t->c == NULL)
	{
		fprintf(stderr, "%s: %s %s\n", name, err.detail, err.hint);
		return false;
	}
	t->weights = read_weights(t->c);
	t->start = golden_ids(&t->gold, "start", &count);
	t->rows = (int32_t) count - 1;
	t->ids = golden_ids(&t->gold, "tokens", NULL);
	if (t->c->config.text.encoder_depth > 0)
	{
		t->source_start = golden_ids(&t->gold, "source_start", NULL);
		t->sources = golden_ids(&t->gold, "source", NULL);
	}
	return true;
}

static void
close_trial(trial *t)
{
	checkpoint_free(t->c);
	close_sample(&t->file);
	close_sample(&t->gold);
	free(t->weights);
	free(t->start);
	free(t->ids);
	free(t->source_start);
	free(t->sources);
}

/* Everything that there is to compare. */
static void
check_trial(const trial *t)
{
	float *logits = golden(&t->gold, "logits", NULL), *outputs = golden(&t->gold, "outputs", NULL);
	float *embedding = golden(&t->gold, "embedding", NULL);

	if (strcmp(t->c->task, "generation") == 0)
	{
		check_written(t, logits);
		check_greedy(t);
		check_losses(t, logits);
	}
	else if (t->c->config.shape.token_target)
	{
		check_labelled(t, logits);
		check_losses(t, logits);
	}
	else if (strcmp(t->c->task, "embedding") == 0)
		check_embedded(t, embedding);
	else
		check_outputs(t, outputs);
	free(logits);
	free(outputs);
	free(embedding);
}

static void
test_case(const char *name, const char *golden_name, const char *params)
{
	trial t;

	if (open_trial(&t, name, golden_name, params))
		check_trial(&t);
	close_trial(&t);
}

static void
test_families(void)
{
	static const char *const names[] = {
		"gpt2",
		"gpt_neox",
		"gpt_neox-serial",
		"llama3",
		"llama3-tied",
		"llama-linear",
		"mistral",
		"mistral-window",
		"qwen2",
		"qwen3",
		"gemma",
		"gemma2",
		"gemma3",
		"gemma3-images",
		"llama-classes",
		"bert",
		"bert-classes",
		"bert-score",
		"bert-labels",
		"roberta",
		"roberta-classes",
		"bert-embedding",
		"distilbert",
		"t5",
		"distilbert-classes",
		"t5_1.1",
		"distilbert-labels",
		"t5-distant",
		"xlm-roberta-embedding",
		"xlm-roberta-labels",
		"gpt2-labels",
		"bert-dense",
		"t5-dense",
		"qwen2-yarn",
		"qwen3-yarn",
		"llama-yarn",
	};
	static const char *const ggufs[] = {"gpt2",   "qwen2",  "gpt_neox",       "llama3-tied", "qwen3",     "gemma",
										"gemma2", "gemma3", "bert-embedding", "t5-distant",  "qwen2-yarn"};
	static const char *const writers[] = {"gpt2",  "gpt_neox", "llama3", "qwen2",
										  "qwen3", "gemma",    "gemma2", "gemma3"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		test_case(names[i], names[i], NULL);
	for (size_t i = 0; i < sizeof(ggufs) / sizeof(ggufs[0]); i++)
	{
		char name[64];

		snprintf(name, sizeof(name), "%s-gguf", ggufs[i]);
		test_case(name, ggufs[i], NULL);
	}
	for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++)
		test_case(writers[i], writers[i], "{\"task\": \"embedding\"}");
}

/* ---- what is said beside the network ---- */

static void
test_surroundings(void)
{
	trial t;

	if (open_trial(&t, "llama3", "llama3", NULL))
	{
		CHECK_STR(t.c->family, "llama");
		CHECK_STR(t.c->architecture, "llama");
		CHECK_INT(t.c->end_count, 2);
		CHECK_INT(t.c->ends[1], 9);
		CHECK_INT(t.c->begin, 1);
		CHECK_INT(t.c->pad, -1);
		CHECK_INT(t.c->max_tokens, 80);
		CHECK(t.c->config.text.rope_factor == 8 && t.c->config.text.rope_context == 64);
	}
	close_trial(&t);
	if (open_trial(&t, "bert-embedding", "bert-embedding", NULL))
	{
		CHECK_INT(t.c->max_tokens, 32);
		CHECK(t.c->normalised && t.c->config.pool == POOL_MEAN);
		CHECK_INT(t.c->config.text.types, 0);
	}
	close_trial(&t);
	if (open_trial(&t, "bert-score", "bert-score", NULL))
	{
		CHECK_STR(t.c->task, "regression");
		CHECK(t.c->sigmoid && t.c->config.text.types == 2 && t.c->config.text.separator == SEPARATOR);
	}
	close_trial(&t);
	if (open_trial(&t, "mistral", "mistral", NULL))
		CHECK(t.c->config.text.context == 80 && t.c->config.text.window == 72);
	close_trial(&t);
	if (open_trial(&t, "gemma2", "gemma2", NULL))
		CHECK(t.c->config.text.window == 6 && t.c->config.text.window_period == 2);
	close_trial(&t);
	if (open_trial(&t, "gemma3", "gemma3", NULL))
		CHECK(t.c->config.text.window_period == 3 && t.c->config.text.window_theta == 50 &&
			  t.c->config.text.query_dim == 0);
	close_trial(&t);
	if (open_trial(&t, "gemma3-images", "gemma3-images", NULL))
	{
		CHECK_STR(t.c->family, "gemma3");
		CHECK(t.c->config.text.heads == 8 && t.c->config.text.kv_heads == 4 && t.c->config.text.query_dim == 20);
	}
	close_trial(&t);
	if (open_trial(&t, "qwen2", "qwen2", NULL))
		CHECK_INT(t.c->config.text.context, 80); /* a window that is not used */
	close_trial(&t);
	if (open_trial(&t, "roberta", "roberta", "{\"context\": 20}"))
		CHECK_INT(net_tensor(t.c->net, 1)->dims[0], 20);
	close_trial(&t);
	if (open_trial(&t, "t5", "t5", "{\"context\": 2000}"))
	{
		CHECK_INT(t.c->config.text.source_context, 2000);
		CHECK_INT(t.c->decoder_start, 0);
	}
	close_trial(&t);
	if (open_trial(&t, "qwen2-yarn", "qwen2-yarn", NULL))
	{
		const transformer_config *c = &t.c->config.text;

		CHECK(c->rope_yarn && c->rope_whole && c->rope_factor == 4 && c->rope_context == 20);
		CHECK(c->rope_high == 32 && c->rope_low == 1 && fabs(c->rope_attention - 1.138629436) < 1e-7);
	}
	close_trial(&t);
	if (open_trial(&t, "bert-dense", "bert-dense", NULL))
	{
		CHECK_INT(t.c->config.dense_count, 3);
		CHECK(t.c->config.dense[1].activation == ACT_GELU && t.c->config.dense[1].bias && !t.c->config.dense[0].bias);
		CHECK_STR(net_tensor(t.c->net, net_tensor_count(t.c->net) - 1)->name, "dense.2.bias");
	}
	close_trial(&t);
	if (open_trial(&t, "t5_1.1", "t5_1.1", "{\"task\": \"embedding\"}")) /* its decoder is left out */
		CHECK(t.c->config.text.bidirectional && t.c->config.text.encoder_depth == 0 && t.c->config.pool == POOL_MEAN);
	close_trial(&t);
	if (open_trial(&t, "bert-classes", "bert-classes", "{\"task\": \"embedding\", \"pool\": \"first\"}"))
		CHECK(t.c->label_count == 0 && t.c->config.pool == POOL_FIRST);
	close_trial(&t);
}

/* Tokens that end a text, of two files and of a GGUF file's keys: each once, ascending. */
static void
test_ends(void)
{
	static const struct
	{
		const char *sample, *key, *json;
	} cases[] = {
		{"gpt2", "eos_token_id", "[9, 3, 9, -1, 40, 7]"},
		{"qwen2-gguf", "tokenizer.ggml.eos_token_id", "9"},
	};
	static const int32_t expected[] = {3, 7, 9};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		llm_error err = {0};
		checkpoint *c;
		char *config = NULL;
		sample s;

		if (!open_sample(cases[i].sample, &s))
			continue;
		take_tensors(&s, NULL);
		if (s.gguf)
		{
			json_object_set_new(s.gguf, cases[i].key, json_loads(cases[i].json, JSON_DECODE_ANY, NULL));
			json_object_set_new(s.gguf, "tokenizer.ggml.eot_token_id", json_integer(3));
			json_object_set_new(s.gguf, "tokenizer.ggml.eom_token_id", json_integer(7));
		}
		else
			config = changed_config(&s, cases[i].key, cases[i].json);
		c = make_checkpoint(&s, NULL, config, &err);
		if (CHECK(c != NULL) && CHECK_INT(c->end_count, 3))
			for (int k = 0; k < 3; k++)
				CHECK_INT(c->ends[k], expected[k]);
		checkpoint_free(c);
		free(config);
		close_sample(&s);
	}
}

/* Layers without and with windows in GGUF files: as their keys say, or as is usual. */
static void
test_gguf_windows(void)
{
	static const struct
	{
		const char *sample, *key, *json; /* NULL: none */
		int32_t window, period;
		float theta;
	} cases[] = {
		{"gemma2-gguf", "gemma2.attention.sliding_window", NULL, 4096, 2, 0},
		{"gemma2-gguf", "gemma2.attention.sliding_window_pattern", "4", 6, 4, 0},
		{"gemma3-gguf", "gemma3.attention.sliding_window", NULL, 0, 0, 0},
		{"gemma3-gguf", "gemma3.attention.sliding_window_pattern", NULL, 6, 0, 50},
		{"gemma3-gguf", "gemma3.rope.freq_base_swa", NULL, 6, 3, 10000},
		{"gemma2-gguf", "gemma2.rope.freq_base_swa", "500", -1},
		{"gemma2-gguf", "gemma2.attn_logit_softcapping", "-5", -1},
		{"gemma3-gguf", "gemma3.attention.sliding_window_pattern", "[true, true, false, true]", -1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		llm_error err = {0};
		checkpoint *c;
		sample s;

		if (!open_sample(cases[i].sample, &s))
			continue;
		take_tensors(&s, NULL);
		json_object_del(s.gguf, cases[i].key);
		if (cases[i].json)
			json_object_set_new(s.gguf, cases[i].key, json_loads(cases[i].json, JSON_DECODE_ANY, NULL));
		c = make_checkpoint(&s, NULL, NULL, &err);
		CHECK((c != NULL) == (cases[i].window >= 0));
		if (c != NULL)
		{
			CHECK_INT(c->config.text.window, cases[i].window);
			CHECK_INT(c->config.text.window_period, cases[i].period);
			CHECK(c->config.text.window_theta == cases[i].theta);
		}
		else
			CHECK(err.code == LLM_INVALID);
		checkpoint_free(c);
		close_sample(&s);
	}
}

/* Classes in the order of a target, which is not that of the file. */
static void
test_classes(void)
{
	const int32_t reversed[] = {1, 0}, turned[] = {2, 0, 1};
	trial t;

	if (open_trial(&t, "roberta-classes", "roberta-classes", NULL))
	{
		const net_tensor_info *last = net_tensor(t.c->net, net_tensor_count(t.c->net) - 1);
		float *again;

		CHECK_STR(t.c->labels[0], "positive");
		checkpoint_set_classes(t.c, reversed);
		again = read_weights(t.c);
		CHECK(last->count == 1 && again[last->offset] == -t.weights[last->offset]);
		free(again);
	}
	close_trial(&t);
	if (open_trial(&t, "bert-classes", "bert-classes", NULL))
	{
		const net_tensor_info *last = net_tensor(t.c->net, net_tensor_count(t.c->net) - 1);
		float *again;

		CHECK_STR(t.c->labels[2], "LABEL_2");
		checkpoint_set_classes(t.c, turned);
		again = read_weights(t.c);
		for (int i = 0; i < 3; i++)
			CHECK(again[last->offset + i] == t.weights[last->offset + turned[i]]);
		free(again);
	}
	close_trial(&t);
}

static void
test_judged(void)
{
	llm_error err = {0};
	trial t;

	if (open_trial(&t, "gpt2", "gpt2", NULL)) /* of 40 tokens; guessing gives 3.69 */
	{
		CHECK(checkpoint_judge(t.c, 2.5, &err) && checkpoint_judge(t.c, 0, &err));
		CHECK(!checkpoint_judge(t.c, 3.6, &err) && err.code == LLM_CORRUPT);
		CHECK(!checkpoint_judge(t.c, NAN, &err));
	}
	close_trial(&t);
}

int
main(void)
{
	test_families();
	test_surroundings();
	test_ends();
	test_gguf_windows();
	test_classes();
	test_judged();
	return test_summary();
}
