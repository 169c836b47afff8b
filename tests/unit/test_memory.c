/*
 * test_memory.c
 *	  Every allocation fails once: no crash, no leak, and never half a result.
 *
 * malloc and its relatives are replaced for the whole program, jansson included.  Each story runs
 * undisturbed first; then again with its first allocation failing, its second, and so on, once
 * with all later ones failing too.  It must report failure or yield what it yielded undisturbed.
 * Needs the allocator's inner names, which glibc exports.
 */
#include <errno.h>
#include <stdatomic.h>

#include "../../src/engine/generator.h"
#include "../../src/manifest/manifest.h"
#include "../../src/format/checkpoint_index.h"
#include "../../src/format/gguf_writer.h"
#include "../../src/format/params.h"
#include "../../src/format/safetensors.h"
#include "../../src/metrics/metrics.h"
#include "../../src/text/tokenizer_bulk.h"
#include "../../src/text/tokenizer_train.h"
#include "feature_sample.h"
#include "net_check.h"

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *pointer);

static atomic_long allocations; /* asked for so far */
static atomic_long live;
static long fail_from = -1; /* number of the first that fails; -1: none */
static bool fail_all;       /* and all later ones */

static bool
fails(void)
{
	long number = atomic_fetch_add(&allocations, 1);

	return fail_from >= 0 && (number == fail_from || (fail_all && number > fail_from));
}

static void *
counted(void *pointer)
{
	if (pointer)
		atomic_fetch_add(&live, 1);
	else
		errno = ENOMEM;
	return pointer;
}

void *
malloc(size_t size)
{
	return counted(fails() ? NULL : __libc_malloc(size));
}

void *
calloc(size_t count, size_t size)
{
	return counted(fails() ? NULL : __libc_calloc(count, size));
}

void *
realloc(void *old, size_t size)
{
	if (old == NULL)
		return malloc(size);
	return fails() ? NULL : __libc_realloc(old, size);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
	return counted(fails() ? NULL : __libc_memalign(alignment, size));
}

int
posix_memalign(void **pointer, size_t alignment, size_t size)
{
	*pointer = aligned_alloc(alignment, size);
	return *pointer ? 0 : ENOMEM;
}

void
free(void *pointer)
{
	if (pointer)
		atomic_fetch_sub(&live, 1);
	__libc_free(pointer);
}

/* What a story yields: enough to tell a whole result from half of one. */
static char result[1 << 20];

static bool
yield_json(json_t *json)
{
	char *text = json ? json_text(json) : NULL;
	bool ok = text != NULL && strlen(text) < sizeof(result);

	if (ok)
		strcpy(result, text);
	free(text);
	json_decref(json);
	return ok;
}

typedef bool (*story)(llm_error *err);

static sample *s;
static net *network;
static char *manifest_text;

static bool
settings_story(llm_error *err)
{
	static const char text[] = "{\"epochs\": 3, \"hidden\": [8, 4], \"exclude\": [\"a\", \"b\"], \"class_weight\": "
							   "{\"x\": 2}, \"deploy\": \"never\"}";
	train_params *p = params_resolve("mlp", text, sizeof(text) - 1, err);
	bool ok = p != NULL;

	if (ok)
	{
		params_choose(p, 1000);
		ok = yield_json(params_json(p));
	}
	params_free(p);
	return ok;
}

static bool
encoder_story(llm_error *err)
{
	json_t *json = yield_json(encoder_json(s->encoder)) ? json_parse(result, strlen(result), err) : NULL;
	encoder *e = json ? encoder_from_json(json, err) : NULL;
	bool ok = e != NULL && yield_json(encoder_json(e));

	json_decref(json);
	encoder_free(e);
	return ok;
}

static bool
target_story(llm_error *err)
{
	json_t *json = yield_json(target_json(s->target)) ? json_parse(result, strlen(result), err) : NULL;
	target *t = json ? target_from_json(json, err) : NULL;
	bool ok = t != NULL && yield_json(target_json(t));

	json_decref(json);
	target_free(t);
	return ok;
}

static json_t *
build_manifest(void)
{
	return manifest_build("mlp", "classification", network, s->encoder, s->target, 0,
						  "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", json_object(),
						  json_object(), json_array(), json_object());
}

static bool
write_story(llm_error *err)
{
	return yield_json(build_manifest());
}

static bool
read_story(llm_error *err)
{
	manifest *m = manifest_parse(manifest_text, strlen(manifest_text), err);
	bool ok = m != NULL;

	if (ok)
		snprintf(result, sizeof(result), "%zu %s %d %d %d", m->weight_bytes, m->sha256,
				 encoder_column_count(m->encoder), m->target->class_count, (int) json_object_size(m->json));
	manifest_free(m);
	return ok;
}

static bool
train(int32_t threads, llm_error *err)
{
	train_config c = small_training(threads);
	trainer *t = trainer_new(network, &c, 8, err);
	batch *b = t ? batch_new(&net_get_config(network)->shape, 8, err) : NULL;
	double loss = 0;
	bool ok = b != NULL;

	for (int r = 0; ok && r < 8; r++)
		ok = encoder_row(s->encoder, s->rows + r * SAMPLE_COLUMNS, b, err);
	for (int r = 0; ok && r < 8; r++)
	{
		b->target_class[r] = r % 3;
		b->weight[r] = 1;
	}
	for (int step = 0; ok && step < 3; step++)
		ok = trainer_step(t, b, &loss, err);
	if (ok)
		snprintf(result, sizeof(result), "%.17g %.9g", loss, trainer_weights(t)[5]);
	batch_free(b);
	trainer_free(t);
	return ok;
}

static bool
training_story(llm_error *err)
{
	return train(1, err);
}

static bool
threads_story(llm_error *err)
{
	return train(3, err);
}

/* Adapters of a small transformer whose layer is computed again; no step, as OpenBLAS does not check its allocations in small products. */
static bool
adapters_story(llm_error *err)
{
	net_config config = small_transformer("llama", 20, 6);
	train_config c = fast_training(1);
	const float *data;
	net *n;
	trainer *t;

	config.text.width = config.text.ffn = 8;
	config.text.depth = 1;
	c.lora_rank = 2;
	c.lora_alpha = 2;
	c.lora_targets = LORA_ALL;
	c.recompute = true;
	n = net_new(&config, err);
	t = n ? trainer_new(n, &c, 2, err) : NULL;
	if (t && trainer_adapters(t, &data))
		snprintf(result, sizeof(result), "%.9g", data[5]);
	trainer_free(t);
	net_free(n);
	return t != NULL;
}

static bool
prediction_story(llm_error *err)
{
	static _Alignas(64) float weights[1 << 20];
	predictor *p = predictor_new(network, weights, 4, NULL, err);
	const float *out = NULL;

	if (p != NULL && encoder_row(s->encoder, s->rows, predictor_batch(p), err))
		out = predictor_run(p, err);
	if (out != NULL)
		snprintf(result, sizeof(result), "%.9g %.9g", out[0], out[2]);
	predictor_free(p);
	return out != NULL;
}

/* A token behind a source, with zeros for weights. */
static bool
generation_story(llm_error *err)
{
	static _Alignas(64) float weights[1 << 14];
	net_config config = small_transformer("t5", 20, 6);
	int32_t token = 3;
	bool ok;
	net *n;
	generator *g;

	config.text.width = config.text.ffn = 8;
	config.text.depth = 1;
	n = net_new(&config, err);
	CHECK(n == NULL || net_weight_bytes(n) <= sizeof(weights));
	g = n ? generator_new(n, weights, 2, 6, 5, err) : NULL;
	ok = g && generator_source(g, 1, &token, 1, err) && generator_append(g, 1, &token, 1, err);
	if (ok)
		snprintf(result, sizeof(result), "%.9g", generator_logits(g, 1)[5]);
	generator_free(g);
	net_free(n);
	return ok;
}

static bool
evaluation_story(llm_error *err)
{
	evaluation *e = evaluation_new(s->target, err);
	bool ok = e != NULL;

	for (int r = 0; ok && r < 50; r++)
		ok = evaluation_add(e, (float[]) {0.2f + (r % 3) * 0.1f, 0.5f, 0.3f - (r % 3) * 0.1f}, r % 4 - 1, NULL, err);
	ok = ok && yield_json(evaluation_json(e, err));
	evaluation_free(e);
	return ok;
}

/* Tokens of a text and their text again. */
static bool
yield_tokens(void *block, size_t bytes, llm_error *err)
{
	static const char text[] = "the cat sat on the mat, \xE4\xB8\xAD"
							   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	tokenizer *t = block ? tokenizer_open(block, bytes, err) : NULL;
	token_list list = {0};
	text_buffer back = {0};
	bulk_tokenizer *bulk = t ? bulk_tokenizer_new(block, bytes, 1, NULL, NULL, err) : NULL;
	int64_t end;
	bool ok = bulk && tokenizer_encode(t, text, strlen(text), true, &list, err) &&
			  tokenizer_decode(t, list.id, list.count, true, &back, err) &&
			  bulk_tokenizer_encode(bulk, &(text_span) {text, strlen(text)}, 1, &list, &end, err);

	if (ok)
		snprintf(result, sizeof(result), "%d %d %.*s", (int) list.count, list.id[0], (int) back.size, back.bytes);
	free(list.id);
	free(back.bytes);
	bulk_tokenizer_free(bulk);
	tokenizer_free(t);
	free(block);
	return ok;
}

static bool
byte_pairs_story(llm_error *err)
{
	const special_text end = {"<end>", SPECIAL_END};
	bpe_trainer_options options = {
		.vocabulary = 270, .pretokenizer = PRETOKENIZER_GPT2, .specials = &end, .special_count = 1};
	bpe_trainer *t = bpe_trainer_new(&options, err);
	size_t bytes = 0;
	bool ok = t && bpe_trainer_add(t, "the cat, the mat, the aaaaaaaa", 30, err);
	void *block = ok ? bpe_trainer_finish(t, &bytes, err) : NULL;

	bpe_trainer_free(t);
	return yield_tokens(block, bytes, err);
}

static bool
characters_story(llm_error *err)
{
	character_trainer *t = character_trainer_new(20, NULL, 0, err);
	size_t bytes = 0;
	void *block = NULL;

	if (t != NULL)
	{
		character_trainer_add(t, "the cat, the mat", 16);
		block = character_trainer_finish(t, &bytes, err);
	}
	character_trainer_free(t);
	return yield_tokens(block, bytes, err);
}

/* A file in memory. */
static struct
{
	uint8_t bytes[4096];
	size_t count;
} file;

static bool
write_file(void *arg, const void *bytes, size_t count, llm_error *err)
{
	if (count > 0)
		memcpy(file.bytes + file.count, bytes, count);
	file.count += count;
	return true;
}

static bool
read_file(void *arg, int32_t number, uint64_t offset, void *out, size_t count, llm_error *err)
{
	memcpy(out, file.bytes + offset, count);
	return true;
}

/* Of the file's tensor "b": its last number. */
static bool
yield_number(tensor_source *source, llm_error *err)
{
	const source_tensor *t = tensor_source_find(source, "b");
	float numbers[32];
	bool ok = t != NULL && tensor_source_read(source, t, 0, 32, numbers, err);

	if (ok)
		snprintf(result, sizeof(result), "%d %.9g", source->count, numbers[31]);
	return ok;
}

static bool
write_gguf(llm_error *err)
{
	gguf_writer *w = gguf_writer_new(err);
	float numbers[32] = {[31] = 7};
	uint64_t bytes;
	bool ok = w != NULL;

	if (ok)
	{
		gguf_writer_u32(w, "u", 1);
		gguf_writer_strings(w, "s", 1);
		gguf_writer_element(w, "x", 1);
	}
	ok = ok && gguf_writer_tensor(w, "a", SOURCE_F32, 0, NULL, err) &&
		 gguf_writer_tensor(w, "b", SOURCE_Q8_0, 1, (int64_t[]) {32}, err) &&
		 gguf_writer_begin(w, write_file, NULL, &bytes, err) && gguf_writer_numbers(w, numbers, 1, err) &&
		 gguf_writer_numbers(w, numbers, 32, err);
	gguf_writer_free(w);
	return ok;
}

static bool
gguf_story(llm_error *err)
{
	tensor_source source = {.read = read_file};
	gguf *g;
	bool ok;

	file.count = 0;
	g = write_gguf(err) ? gguf_open(read_file, NULL, 0, file.count, err) : NULL;
	ok = g != NULL && gguf_source(g, &source, err) && tensor_source_sort(&source, err) && yield_number(&source, err);
	tensor_source_clear(&source);
	gguf_close(g);
	return ok;
}

static bool
safetensors_story(llm_error *err)
{
	safetensors_entry entry = {"b", 1, {32}, .type = SOURCE_F16};
	tensor_source source = {.read = read_file};
	size_t bytes;
	uint8_t *start = safetensors_header(&entry, 1, NULL, &bytes, &file.count, err);
	safetensors *header = NULL;
	bool ok;

	memset(file.bytes, 0, sizeof(file.bytes));
	if (start != NULL)
	{
		memcpy(file.bytes, start, bytes);
		header = safetensors_open_header(read_file, NULL, 0, file.count, err);
	}
	free(start);
	ok = header != NULL && safetensors_source(header, 0, &source, err) && tensor_source_sort(&source, err) &&
		 yield_number(&source, err);
	tensor_source_clear(&source);
	safetensors_close(header);
	return ok;
}

static bool
index_story(llm_error *err)
{
	static const char text[] = "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}";
	checkpoint_index *x = checkpoint_index_parse(text, sizeof(text) - 1, err);

	if (x != NULL)
		snprintf(result, sizeof(result), "%d %s", checkpoint_index_count(x), checkpoint_index_file(x, 1));
	checkpoint_index_free(x);
	return x != NULL;
}

static void
tell(const char *name, story run, bool all)
{
	static char expected[sizeof(result)];
	llm_error err = {0};
	long begin, count;

	fail_from = -1;
	run(&err); /* what is opened once stays open */
	begin = live;
	allocations = 0;
	CHECK(run(&err));
	count = allocations;
	strcpy(expected, result);
	for (long n = 0; n < count; n++)
	{
		bool ok;

		err = (llm_error) {0};
		allocations = 0;
		fail_from = n;
		fail_all = all;
		result[0] = '\0';
		ok = run(&err);
		fail_from = -1;
		if (live != begin || (ok && strcmp(result, expected) != 0) || (err.code != LLM_OK && err.code != LLM_MEMORY))
		{
			fprintf(stderr, "%s, allocation %ld of %ld fails: %ld left over, %s, error %d %s\n", name, n, count,
					live - begin,
					!ok                             ? "failed"
					: strcmp(result, expected) == 0 ? "right"
													: "half a result",
					err.code, err.message);
			CHECK(!"a failed allocation is handled");
			begin = live;
		}
		else
			CHECK(true);
	}
}

#define TELL(name) (tell(#name, name##_story, false), tell(#name, name##_story, true))

int
main(void)
{
	net_config config = {
		.embed_dim = 2, .hidden_count = 1, .hidden = {4}, .loss = LOSS_CROSS_ENTROPY, .huber_delta = 1};
	llm_error err = {0};
	json_t *json;

	s = sample_new(false);
	encoder_shape(s->encoder, &config.shape);
	target_shape(s->target, &config.shape);
	network = net_new(&config, &err);
	check_no_error(&err);
	json = build_manifest();
	manifest_text = json_text(json);
	json_decref(json);
	TELL(settings);
	TELL(encoder);
	TELL(target);
	TELL(write);
	TELL(read);
	TELL(training);
	TELL(threads);
	TELL(adapters);
	TELL(prediction);
	TELL(generation);
	TELL(evaluation);
	TELL(byte_pairs);
	TELL(characters);
	TELL(gguf);
	TELL(safetensors);
	TELL(index);
	free(manifest_text);
	net_free(network);
	sample_free(s);
	return test_summary();
}
