/*
 * test_checkpoint.c
 *	  Tiny checkpoints of each family beside the transformers library: logits of every token, the text
 *	  that it writes, embeddings, outputs of classifiers; from its own files and from GGUF files.
 *
 * The files are made by golden/make_checkpoints.py, which says what they hold, in double precision.
 * Rounding of float32 through two layers keeps a normalised mean squared error below 1e-10; another
 * formula does not.
 */
#include <stdlib.h>

#include "../../src/checkpoint/checkpoint.h"
#include "../../src/engine/generator.h"
#include "../../src/engine/transformer.h"
#include "../../src/format/safetensors.h"
#include "net_check.h"

#define LIMIT 1e-10
#define GOLDEN "golden."
#define SEPARATOR 3

/* A file, and what of it is the checkpoint's. */
typedef struct sample
{
	uint8_t *bytes;
	size_t size;
	safetensors *file;
	tensor_source tensors;
	json_t *gguf; /* metadata, of GGUF files */
	const char *changed_file;
	const char *changed; /* what stands in that file instead; NULL: there is none */
} sample;

static bool
read_memory(void *arg, int32_t file, uint64_t offset, void *out, size_t bytes, llm_error *err)
{
	const sample *s = arg;

	if (offset > s->size || bytes > s->size - offset)
		return llm_fail(err, LLM_CORRUPT, "beyond the end");
	memcpy(out, s->bytes + offset, bytes);
	return true;
}

/* All tensors but golden ones and `without`. */
static void
take_tensors(sample *s, const char *without)
{
	tensor_source all = {0};
	llm_error err = {0};

	CHECK(safetensors_source(s->file, 0, &all, &err));
	for (int32_t i = 0; i < all.count; i++)
		if (strncmp(all.tensors[i].name, GOLDEN, strlen(GOLDEN)) != 0 &&
			!(without && strcmp(all.tensors[i].name, without) == 0))
			CHECK(tensor_source_add(&s->tensors, &all.tensors[i], &err));
	CHECK(tensor_source_sort(&s->tensors, &err));
	s->tensors.read = read_memory;
	s->tensors.arg = s;
	tensor_source_clear(&all);
}

static bool
open_sample(const char *name, sample *s)
{
	llm_error err = {0};
	char path[4096];
	FILE *f;
	long size;

	memset(s, 0, sizeof(*s));
	snprintf(path, sizeof(path), "%.*sgolden/checkpoints/%s.safetensors",
			 (int) (strrchr(__FILE__, '/') ? strrchr(__FILE__, '/') + 1 - __FILE__ : 0), __FILE__, name);
	f = fopen(path, "rb");
	if (!CHECK(f != NULL))
		return false;
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	s->bytes = malloc(size);
	s->size = fread(s->bytes, 1, size, f);
	fclose(f);
	s->file = safetensors_open(s->bytes, s->size, &err);
	if (!CHECK(s->file != NULL))
		return false;
	if (safetensors_metadata(s->file, "gguf"))
		s->gguf = json_loads(safetensors_metadata(s->file, "gguf"), 0, NULL);
	return true;
}

static void
close_sample(sample *s)
{
	tensor_source_clear(&s->tensors);
	safetensors_close(s->file);
	json_decref(s->gguf);
	free(s->bytes);
}

/* ---- the checkpoint of a sample ---- */

static bool
metadata_number(void *arg, const char *key, double *out)
{
	const json_t *value = json_object_get(((sample *) arg)->gguf, key);

	*out = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
	return json_is_number(value) || json_is_boolean(value);
}

static const char *
metadata_string(void *arg, const char *key)
{
	return json_string_value(json_object_get(((sample *) arg)->gguf, key));
}

static bool
metadata_has(void *arg, const char *key)
{
	return json_object_get(((sample *) arg)->gguf, key) != NULL;
}

static checkpoint_text
text_of(const sample *s, const char *name)
{
	bool changed = s->changed_file && strcmp(s->changed_file, name) == 0;
	const char *text = changed ? s->changed : safetensors_metadata(s->file, name);

	return (checkpoint_text) {text, text ? strlen(text) : 0};
}

static checkpoint *
make_checkpoint(sample *s, const char *params, const char *config, llm_error *err)
{
	json_t *json = params ? json_loads(params, 0, NULL) : NULL;
	checkpoint_metadata m = {metadata_number, metadata_string, metadata_has, s};
	checkpoint_files files = {
		.config = text_of(s, "config.json"),
		.generation_config = text_of(s, "generation_config.json"),
		.modules = text_of(s, "modules.json"),
		.pooling = text_of(s, "1_Pooling/config.json"),
		.sentence_config = text_of(s, "sentence_bert_config.json"),
		.separator = SEPARATOR,
	};
	checkpoint_folders folders;
	checkpoint *c;

	(void) checkpoint_dense_folders(&files.modules, &folders, &(llm_error) {0});
	for (int32_t i = 0; i < folders.count; i++)
	{
		char name[128];

		snprintf(name, sizeof(name), "%s/config.json", folders.name[i]);
		files.dense[i] = text_of(s, name);
	}
	if (config)
		files.config = (checkpoint_text) {config, strlen(config)};
	c = s->gguf ? checkpoint_new_gguf(&m, &s->tensors, SEPARATOR, json, err)
				: checkpoint_new(&files, &s->tensors, json, err);
	json_decref(json);
	return c;
}

/* Row by row is what all at once is. */
static float *
read_weights(const checkpoint *c)
{
	float *weights = aligned_alloc(64, net_weight_bytes(c->net));
	llm_error err = {0};

	memset(weights, 0, net_weight_bytes(c->net));
	CHECK(checkpoint_read_all(c, weights, NULL, NULL, &err));
	check_no_error(&err);
	for (int32_t i = 0; i < net_tensor_count(c->net); i++)
	{
		const net_tensor_info *info = net_tensor(c->net, i);
		int64_t columns = info->count / info->dims[0];
		float *row = malloc(columns * sizeof(float));

		for (int64_t k = 0; k < info->dims[0]; k++)
		{
			CHECK(checkpoint_read(c, i, k, 1, row, NULL, NULL, &err));
			CHECK_BYTES(row, weights + info->offset + k * columns, columns * sizeof(float));
		}
		free(row);
	}
	return weights;
}

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

/*
 * A file of a sample with one value changed, a missing one where json is NULL; of modules.json that of the module
 * before the last Dense.  NULL: key is.
 */
static char *
change_file(const sample *s, const char *file, const char *key, const char *json)
{
	json_t *all = json_loads(safetensors_metadata(s->file, file), 0, NULL);
	json_t *config = json_is_array(all) ? json_array_get(all, 3) : all;
	char *text;

	if (json)
		json_object_set_new(config, key, json_loads(json, JSON_DECODE_ANY, NULL));
	else if (key)
		json_object_del(config, key);
	text = key ? json_dumps(all, 0) : NULL;
	json_decref(all);
	return text;
}

static char *
changed_config(const sample *s, const char *key, const char *json)
{
	return change_file(s, "config.json", key, json);
}

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

/* ---- what is refused ---- */

static void
check_refusal(sample *s, const char *params, const char *config, const char *message)
{
	llm_error err = {0};
	checkpoint *c = make_checkpoint(s, params, config, &err);

	CHECK(c == NULL && err.code != LLM_OK);
	if (!CHECK(strstr(err.message, message) != NULL || strstr(err.detail, message) != NULL))
		fprintf(stderr, "not \"%s\" but: %s; %s\n", message, err.message, err.detail);
	checkpoint_free(c);
}

/* Files beside the configuration; key NULL: the file is not there. */
static void
test_refused_dense(void)
{
	static const struct
	{
		const char *file, *key, *json, *message;
	} cases[] = {
		{"3_Dense/config.json", NULL, NULL, "module Dense, 3_Dense/config.json, is missing"},
		{"3_Dense/config.json", "in_features", "16", "of 16, where 40 come in"},
		{"3_Dense/config.json", "in_features", NULL, "of 0, where 40 come in"},
		{"4_Dense/config.json", "out_features", "13", "another shape"},
		{"3_Dense/config.json", "out_features", "0", "\"out_features\" of the configuration is 0"},
		{"3_Dense/config.json", "bias", "false", "have no place"},
		{"2_Dense/config.json", "bias", "true", "tensor 2_Dense/linear.bias is missing"},
		{"3_Dense/config.json", "activation_function", "\"torch.nn.modules.activation.Mish\"", "activation.Mish"},
		{"3_Dense/config.json", "activation_function", "\"my.Tanh\"", "my.Tanh"},
		{"3_Dense/config.json", "activation_function", "7", "\"activation_function\" of the configuration is 7"},
		{"3_Dense/config.json", "use_residual", "true", "use_residual"},
		{"3_Dense/config.json", "module_input_name", "\"token_embeddings\"", "module_input_name"},
		{"3_Dense/config.json", "scale", "2", "\"scale\""},
		{"modules.json", "path", "\"../2_Dense\"", "which is no folder of the model"},
		{"modules.json", "path", "\"\"", "which is no folder of the model"},
		{"modules.json", "path", "\"2_Dense\"", "the same folder \"2_Dense\""},
		{"modules.json", "type", "\"models.Normalize\"",
		 "module Dense of the sentence transformer is not supported at"},
		{"modules.json", "type", "\"models.LSTM\"", "module LSTM"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		sample s;
		char *text;

		if (!open_sample("bert-dense", &s))
			continue;
		take_tensors(&s, NULL);
		text = change_file(&s, cases[i].file, cases[i].key, cases[i].json);
		s.changed_file = cases[i].file;
		s.changed = text;
		check_refusal(&s, NULL, NULL, cases[i].message);
		free(text);
		close_sample(&s);
	}
}

static void
test_refused_values(void)
{
	static const struct
	{
		const char *sample, *params, *key, *json, *message;
	} cases[] = {
		{"gpt2", NULL, "n_embd", NULL, "the configuration has no \"n_embd\""},
		{"gpt2", NULL, "n_embd", "-1", "\"n_embd\" of the configuration is -1, which is not supported"},
		{"gpt2", NULL, "n_embd", "\"16\"", "\"n_embd\" of the configuration is \"16\""},
		{"gpt2", NULL, "n_embd", "12", "another shape"},
		{"gpt2", NULL, "n_head", "3", "3 heads of the configuration do not divide its width 16"},
		{"gpt2", NULL, "n_head", "0", "no heads"},
		{"gpt2", NULL, "activation_function", "\"quick_gelu\"", "quick_gelu"},
		{"gpt2", NULL, "scale_attn_by_inverse_layer_idx", "true", "scale_attn_by_inverse_layer_idx"},
		{"gpt2", NULL, "model_type", "\"mamba\"", "a family that is not supported"},
		{"gpt2", NULL, "model_type", NULL, "missing, a family"},
		{"gpt2", NULL, "architectures", NULL, "does not say what the network is for"},
		{"gpt2", NULL, "architectures", "[\"GPT2DoubleHeads\"]", "GPT2DoubleHeads"},
		{"gpt2", NULL, "new_trick", "0.5", "\"new_trick\" of the configuration is not known for family gpt2"},
		{"gpt2", "{\"task\": \"masked_lm\"}", "vocab_size", "40", "has no task \"masked_lm\""},
		{"gpt2", "{\"context\": 81}", "vocab_size", "40", "parameter \"context\""},
		{"gpt2", NULL, "n_layer", "3", "h.2.ln_1.weight"},
		{"gpt2", NULL, "n_layer", "1", "have no place"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"longrope\", \"factor\": 4}", "\"rope_type\""},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"factor\": 0.5}", "incomplete"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"beta_fast\": 1}", "incomplete"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"factor\": \"4\"}", "\"factor\""},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"attention_factor\": 0}", "attention_factor"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"attention_factor\": 200}", "rope_attention"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"truncate\": 1}", "truncate"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"low_freq_factor\": 1}", "low_freq_factor"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"yarn\", \"short_factor\": [1]}", "short_factor"},
		{"llama3", NULL, "rope_parameters", "{\"rope_type\": \"llama3\", \"factor\": 4}", "incomplete"},
		{"llama3", NULL, "rope_parameters", "{\"mscale\": 1}", "\"mscale\""},
		{"llama3", NULL, "rope_parameters", "7", "rope_parameters"},
		{"llama3", NULL, "attention_bias", "true", "attention_bias"},
		{"llama3", NULL, "num_key_value_heads", "3", "kv_heads 3 does not divide heads 4"},
		{"llama3", NULL, "head_dim", "7", "heads of even width"},
		{"gemma2", NULL, "layer_types",
		 "[\"sliding_attention\", \"full_attention\", \"full_attention\", \"sliding_attention\"]", "layer_types"},
		{"gemma2", NULL, "layer_types", "[\"sliding_attention\"]", "layer_types"},
		{"gemma2", NULL, "layer_types", "7", "layer_types"},
		{"gemma2", NULL, "layer_types",
		 "[\"sliding_attention\", \"full_attention\", \"sliding_attention\", \"chunked_attention\"]", "layer_types"},
		{"gemma2", NULL, "sliding_window", "null", "sliding_window"},
		{"gemma2", NULL, "attn_logit_softcapping", "-1", "attn_logit_softcapping"},
		{"gemma2", NULL, "final_logit_softcapping", "1e-9", "logit_cap"},
		{"gemma2", NULL, "query_pre_attn_scalar", "8.5", "query_pre_attn_scalar"},
		{"gemma3", NULL, "use_bidirectional_attention", "true", "use_bidirectional_attention"},
		{"gemma3", NULL, "rope_parameters", "{\"rope_theta\": 10000}", "rope_parameters"},
		{"gemma3", NULL, "rope_parameters",
		 "{\"full_attention\": {}, \"sliding_attention\": {\"rope_type\": \"linear\", \"factor\": 2}}", "rope_type"},
		{"gemma3", NULL, "rope_parameters",
		 "{\"full_attention\": {\"partial_rotary_factor\": 0.5}, \"sliding_attention\": {}}",
		 "partial_rotary_factor"},
		{"gemma3", NULL, "rope_parameters", "{\"full_attention\": {}, \"sliding_attention\": {\"rope_theta\": 0.5}}",
		 "rope_local_base_freq"},
		{"gemma3-images", NULL, "audio_config", "{\"layers\": 2}", "audio_config"},
		{"bert", NULL, "position_embedding_type", "\"relative_key\"", "relative_key"},
		{"bert", NULL, "is_decoder", "true", "is_decoder"},
		{"roberta", NULL, "hidden_act", "\"relu\"", "\"hidden_act\" of the configuration is \"relu\""},
		{"bert-classes", NULL, "problem_type", "\"multi_label_classification\"", "problem_type"},
		{"bert-classes", NULL, "id2label", "{\"0\": \"a\", \"2\": \"b\", \"1\": 7}", "id2label"},
		{"bert-classes", NULL, "id2label", "{\"0\": \"a\"}", "another shape"},
		{"bert-score", NULL, "sentence_transformers", "{\"activation_fn\": \"torch.nn.ReLU\"}", "activation_fn"},
		{"bert-score", NULL, "sbert_ce_default_activation_function", "\"torch.nn.ReLU\"", "activation_fn"},
		{"t5", NULL, "feed_forward_proj", "\"gated-mish\"", "feed_forward_proj"},
		{"bert-embedding", "{\"pool\": \"max\"}", "vocab_size", "40", "parameter \"pool\""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		sample s;
		char *config;

		if (!open_sample(cases[i].sample, &s))
			continue;
		take_tensors(&s, NULL);
		config = changed_config(&s, cases[i].key, cases[i].json);
		check_refusal(&s, cases[i].params, config, cases[i].message);
		free(config);
		close_sample(&s);
	}
}

/* Values that stand in many files and change nothing. */
static void
test_harmless_values(void)
{
	static const struct
	{
		const char *sample, *values;
	} cases[] = {
		{"gpt2",
		 "{\"n_ctx\": 80, \"task_specific_params\": {\"text-generation\": {\"do_sample\": true}}, \"n_special\": 0,"
		 " \"predict_special_tokens\": true, \"gradient_checkpointing\": false, \"_num_labels\": 1, "
		 "\"pruned_heads\": {}}"},
		{"bert", "{\"directionality\": \"bidi\", \"pooler_fc_size\": 768, \"pooler_type\": \"first_token_transform\","
				 " \"position_embedding_type\": \"absolute\", \"output_past\": true, \"classifier_dropout\": null}"},
		{"distilbert-classes",
		 "{\"finetuning_task\": \"sst-2\", \"tie_weights_\": true, \"sinusoidal_pos_embds\": true,"
		 " \"transformers_version\": \"4.10.0\"}"},
		{"llama3",
		 "{\"is_llama_config\": true, \"rope_interleaved\": false, \"pretraining_tp\": 1, \"rope_scaling\": null,"
		 " \"transformers.js_config\": {\"dtype\": \"q4\"}, \"sliding_window\": null}"},
		{"qwen2", "{\"use_mrope\": false, \"max_window_layers\": 21, \"torch_dtype\": \"bfloat16\"}"},
		{"gemma2",
		 "{\"hidden_act\": \"gelu_pytorch_tanh\", \"cache_implementation\": \"hybrid\", \"attention_bias\": false,"
		 " \"attention_dropout\": 0.0, \"rope_theta\": 10000.0, \"use_bidirectional_attention\": null}"},
		{"gemma3",
		 "{\"_sliding_window_pattern\": 6, \"use_bidirectional_attention\": false, \"rope_scaling\": null,"
		 " \"cache_implementation\": \"hybrid\", \"rope_local_base_freq\": 50.0, \"attention_bias\": false}"},
		{"gemma3-images",
		 "{\"initializer_range\": 0.02, \"transformers_version\": \"4.50.0\", \"boi_token_index\": 255999,"
		 " \"eoi_token_index\": 256000, \"eos_token_id\": [1, 106], \"torch_dtype\": \"bfloat16\"}"},
		{"t5", "{\"n_positions\": 512, \"output_past\": true, \"d_kv\": 6, \"initializer_factor\": 1.0}"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		llm_error err = {0};
		json_t *config, *values;
		checkpoint *c;
		char *text;
		sample s;

		if (!open_sample(cases[i].sample, &s))
			continue;
		take_tensors(&s, NULL);
		config = json_loads(safetensors_metadata(s.file, "config.json"), 0, NULL);
		values = json_loads(cases[i].values, 0, NULL);
		CHECK(values != NULL && json_object_update(config, values) == 0);
		text = json_dumps(config, 0);
		c = make_checkpoint(&s, NULL, text, &err);
		check_no_error(&err);
		checkpoint_free(c);
		free(text);
		json_decref(values);
		json_decref(config);
		close_sample(&s);
	}
}

/* The tensor of this name in a sample's source. */
static source_tensor *
tensor_named(sample *s, const char *name)
{
	const source_tensor *t = tensor_source_find(&s->tensors, name);

	CHECK(t != NULL);
	return &s->tensors.tensors[t - s->tensors.tensors];
}

static void
test_refused_metadata(void)
{
	static const struct
	{
		const char *key, *json, *message;
	} cases[] = {
		{"qwen2.rope.scaling.type", "\"longrope\"", "\"qwen2.rope.scaling.type\""},
		{"qwen2.rope.scaling.factor", "\"4\"", "\"qwen2.rope.scaling.factor\""},
		{"qwen2.rope.scaling.factor", "0.5", "incomplete"},
		{"qwen2.rope.scaling.attn_factor", "1.1", "\"qwen2.rope.scaling.attn_factor\""},
		{"qwen2.rope.scaling.yarn_ext_factor", "0", "\"qwen2.rope.scaling.yarn_ext_factor\""},
		{"qwen2.rope.scaling.yarn_log_multiplier", "0.1", "\"qwen2.rope.scaling.yarn_log_multiplier\""},
		{"qwen2.rope.scaling.original_context_length", "0", "original_max_position_embeddings"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		sample s;

		if (!open_sample("qwen2-yarn-gguf", &s))
			continue;
		take_tensors(&s, NULL);
		json_object_set_new(s.gguf, cases[i].key, json_loads(cases[i].json, JSON_DECODE_ANY, NULL));
		check_refusal(&s, NULL, NULL, cases[i].message);
		close_sample(&s);
	}
}

/* Of another task, what is behind the pool does not matter. */
static void
test_left_out(void)
{
	source_tensor extra = {.name = "2_Dense/linear.weight", .ndim = 1, .dims = {1}, .count = 1, .type_name = "F32"};
	llm_error err = {0};
	checkpoint *c;
	sample s;

	if (!open_sample("bert", &s))
		return;
	take_tensors(&s, NULL);
	CHECK(tensor_source_add(&s.tensors, &extra, &err) && tensor_source_sort(&s.tensors, &err));
	s.changed_file = "modules.json";
	s.changed = "[{\"type\": \"modules.Dense\", \"path\": \"2_Dense\"}]";
	c = make_checkpoint(&s, "{\"task\": \"masked_lm\"}", NULL, &err);
	check_no_error(&err);
	CHECK(c != NULL && c->config.dense_count == 0);
	checkpoint_free(c);
	s.changed = NULL;
	check_refusal(&s, "{\"task\": \"masked_lm\"}", NULL, "2_Dense/linear.weight");
	close_sample(&s);
}

static void
test_refused_tensors(void)
{
	source_tensor extra = {.name = "lm_head.extra", .ndim = 1, .dims = {1}, .count = 1, .type_name = "F32"};
	llm_error err = {0};
	checkpoint *c;
	sample s;

	if (!open_sample("gpt2", &s))
		return;
	take_tensors(&s, "h.1.mlp.c_proj.bias");
	check_refusal(&s, NULL, NULL, "tensor h.1.mlp.c_proj.bias is missing");
	tensor_source_clear(&s.tensors);
	s.tensors = (tensor_source) {0};
	take_tensors(&s, NULL);
	tensor_named(&s, "h.0.mlp.c_fc.weight")->dims[0] = 24; /* as if it were not turned */
	check_refusal(&s, NULL, NULL, "h.0.mlp.c_fc.weight");
	tensor_named(&s, "h.0.mlp.c_fc.weight")->dims[0] = 16;
	CHECK(tensor_source_add(&s.tensors, &extra, &err) && tensor_source_sort(&s.tensors, &err));
	check_refusal(&s, NULL, NULL, "lm_head.extra");
	c = make_checkpoint(&s, "{\"ignore\": [\"lm_head.*\"]}", NULL, &err);
	CHECK(c != NULL);
	checkpoint_free(c);
	close_sample(&s);
}

static bool
stop(void *arg)
{
	return true;
}

static void
test_cancelled(void)
{
	llm_error err = {0};
	trial t;

	if (open_trial(&t, "gpt2", "gpt2", NULL))
	{
		float row[64];

		CHECK(!checkpoint_read(t.c, 0, 0, 1, row, stop, NULL, &err) && err.code == LLM_CANCELLED);
		err.code = LLM_OK;
		CHECK(!checkpoint_read(t.c, 0, 39, 2, row, NULL, NULL, &err) && err.code == LLM_INVALID);
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
	test_harmless_values();
	test_refused_values();
	test_refused_dense();
	test_refused_tensors();
	test_left_out();
	test_refused_metadata();
	test_cancelled();
	return test_summary();
}
