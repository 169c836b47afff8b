/*
 * seeds.c
 *	  Writes the first inputs of a fuzz target: seeds NAME DIRECTORY.
 */
#include "../../src/manifest/manifest.h"
#include "../../src/format/gguf_writer.h"
#include "../../src/format/params.h"
#include "../../src/manifest/import_params.h"
#include "../../src/text/steps.h"
#include "../../src/text/tokenizer_build.h"
#include "../../src/text/tokenizer_gguf.h"
#include "../../src/text/tokenizer_train.h"
#include "feature_sample.h"
#include "character_map.h"
#include "image_sample.h"
#include "tensor_sample.h"

static bool
write_seed(const char *directory, const char *name, const void *bytes, size_t size)
{
	char path[512];
	FILE *file;
	bool ok;

	snprintf(path, sizeof(path), "%s/seed-%s", directory, name);
	file = fopen(path, "wb");
	if (file == NULL)
		return false;
	ok = fwrite(bytes, 1, size, file) == size;
	return fclose(file) == 0 && ok;
}

static bool
write_json(const char *directory, const char *name, json_t *json)
{
	char *text = json_text(json);
	bool ok = write_seed(directory, name, text, strlen(text));

	free(text);
	json_decref(json);
	return ok;
}

static const char *const digest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

static json_t *
language_manifest(const net *n, const encoder *e, const target *t)
{
	return manifest_build("gpt", "generation", n, e, t, 128, digest, json_object(), json_object(), json_array(),
						  json_object());
}

/* The same kept apart from a base: one tensor of 8 by 8 is adapted. */
static json_t *
adapter_manifest(const net *n, const encoder *e, const target *t)
{
	json_t *json = language_manifest(n, e, t);

	json_object_set_new(json, "adapter",
						json_pack("{s:s, s:i, s:s, s:i, s:f, s:[s], s:[s], s:i, s:s}", "base", "base", "version", 1,
								  "base_sha256", digest, "rank", 2, "alpha", 16.0, "adapted",
								  "layers.0.attn.out.weight", "own", "norm.bias", "bytes", 192, "sha256", digest));
	return json;
}

/* Of a language model. */
static bool
language_seed(const char *directory)
{
	net_config config = {.loss = LOSS_CROSS_ENTROPY,
						 .shape = {.outputs = 1, .token_target = true, .vocab = 30, .context = 8}};
	column body = {.name = "body", .sql_type = "text", .kind = COLUMN_TEXT};
	llm_error err = {.code = LLM_OK};
	target_fitter *fitter = target_fitter_new(TARGET_TEXT, &body, 1, &err);
	encoder *e = encoder_none(&err);
	target *t;
	net *n;
	bool ok;

	if (fitter == NULL || e == NULL || !transformer_family("gpt", &config.text) ||
		!target_fitter_add(fitter, NULL, &err))
		return false;
	config.text.vocab = 30;
	config.text.context = config.text.width = 8;
	config.text.depth = config.text.heads = config.text.kv_heads = 1;
	config.text.head_dim = config.text.ffn = 8;
	t = target_fitter_finish(fitter, &err);
	n = net_new(&config, &err);
	ok = n != NULL && t != NULL && write_json(directory, "manifest-language", language_manifest(n, e, t)) &&
		 write_json(directory, "manifest-adapter", adapter_manifest(n, e, t));
	config.loss = LOSS_CONTRASTIVE;
	config.shape.token_target = false;
	config.dense_count = 1;
	config.dense[0] = (net_dense) {4, true, ACT_TANH};
	ok = ok && write_json(directory, "network-embedding", network_json(&config));
	net_free(n);
	target_free(t);
	encoder_free(e);
	return ok;
}

/* An encoder of a text that is read byte by byte. */
static bool
token_seed(const char *directory)
{
	column body = {.name = "body", .sql_type = "text", .kind = COLUMN_TEXT, .tokens = true};
	special_text end = {"<end>", SPECIAL_END};
	llm_error err = {.code = LLM_OK};
	size_t bytes;
	void *block = byte_tokenizer(&end, 1, &bytes, &err);
	tokenizer *t = block ? tokenizer_open(block, bytes, &err) : NULL;
	encoder *e = encoder_of_text(&body, &err);
	bool ok = t && e && encoder_set_tokenizer(e, t, tokenizer_size(t), 16, &err) &&
			  write_json(directory, "encoder-tokens", encoder_json(e));

	encoder_free(e);
	tokenizer_free(t);
	free(block);
	return ok;
}

/* A whole manifest, and its parts. */
static bool
manifest_seeds(const sample *s, const char *directory)
{
	net_config config = {
		.embed_dim = 2, .hidden_count = 1, .hidden = {4}, .loss = LOSS_CROSS_ENTROPY, .huber_delta = 1};
	llm_error err = {.code = LLM_OK};
	net *n;
	bool ok;

	encoder_shape(s->encoder, &config.shape);
	target_shape(s->target, &config.shape);
	n = net_new(&config, &err);
	if (n == NULL)
		return false;
	ok = write_json(directory, "manifest",
					manifest_build("mlp", "classification", n, s->encoder, s->target, 0,
								   "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", json_object(),
								   json_object(), json_array(), json_object())) &&
		 write_json(directory, "encoder", encoder_json(s->encoder)) &&
		 write_json(directory, "target", target_json(s->target)) &&
		 write_json(directory, "network", network_json(&config));
	net_free(n);
	config.image[0] = 1;
	config.image[1] = config.image[2] = 1;
	net_default_cnn(&config);
	return ok && write_json(directory, "network-layers", network_json(&config)) && language_seed(directory) &&
		   token_seed(directory);
}

static bool
record_seeds(const sample *s, const char *directory)
{
	static uint8_t buffer[1 << 16];
	llm_error err = {.code = LLM_OK};
	bool ok = true;

	for (int r = 0; ok && r < 4; r++)
	{
		const value *row = s->rows + r * SAMPLE_COLUMNS;
		char name[32];

		snprintf(name, sizeof(name), "values-%d", r);
		ok = write_seed(directory, name, buffer, value_pack(row, SAMPLE_COLUMNS, buffer, sizeof(buffer)));
		snprintf(name, sizeof(name), "record-%d", r);
		ok = ok &&
			 write_seed(directory, name, buffer,
						encoder_record(s->encoder, s->target, row, &s->label[r], 1, buffer, sizeof(buffer), &err));
	}
	return ok;
}

/* A picture after the three bytes that say what is wanted of it. */
static bool
image_seed(const char *directory, const char *name, sample_file file)
{
	uint8_t *bytes = malloc(file.size + 3);
	bool ok;

	memcpy(bytes, (uint8_t[]) {5, 0, 1}, 3);
	memcpy(bytes + 3, file.bytes, file.size);
	ok = write_seed(directory, name, bytes, file.size + 3);
	free(bytes);
	free(file.bytes);
	return ok;
}

static bool
text_seed(const char *directory, const char *name, const char *text)
{
	return image_seed(directory, name, (sample_file) {(uint8_t *) strdup(text), strlen(text)});
}

static bool
image_seeds(const char *directory)
{
	static const png_color palette[] = {{255, 0, 0}, {0, 255, 0}};
	uint8_t rows[12 * 12 * 8];
	sample_png kinds[] = {
		{12, 12, PNG_COLOR_TYPE_GRAY, 1},
		{12, 12, PNG_COLOR_TYPE_GRAY, 16, true},
		{12, 12, PNG_COLOR_TYPE_RGB, 8},
		{12, 12, PNG_COLOR_TYPE_RGB, 16, .transparent = &(png_color_16) {.red = 7}},
		{12, 12, PNG_COLOR_TYPE_RGB_ALPHA, 8, true},
		{12, 12, PNG_COLOR_TYPE_GRAY_ALPHA, 16},
		{12, 12, PNG_COLOR_TYPE_PALETTE, 1, .palette = palette, .colors = 2, .alpha = (uint8_t[]) {9}, .alphas = 1},
	};
	bool ok = true;

	for (size_t i = 0; i < sizeof(rows); i++)
		rows[i] = (uint8_t) (i * i / 7);
	for (int i = 0; ok && i < (int) (sizeof(kinds) / sizeof(kinds[0])); i++)
	{
		char name[32];

		snprintf(name, sizeof(name), "png-%d", i);
		ok = image_seed(directory, name, sample_png_file(&kinds[i], rows));
	}
	return ok && image_seed(directory, "jpeg", sample_jpeg_file(12, 12, JCS_RGB, 80, false, rows)) &&
		   image_seed(directory, "jpeg-progressive", sample_jpeg_file(12, 12, JCS_RGB, 80, true, rows)) &&
		   image_seed(directory, "jpeg-grey", sample_jpeg_file(12, 12, JCS_GRAYSCALE, 80, false, rows)) &&
		   image_seed(directory, "jpeg-cmyk", sample_jpeg_file(12, 12, JCS_CMYK, 80, false, rows)) &&
		   text_seed(directory, "pgm-text", "P2\n# comment\n2 2\n4\n0 1 2 4\n") &&
		   text_seed(directory, "ppm-text", "P3 2 1 1000 0 1 2 1000 999 5") &&
		   text_seed(directory, "pgm", "P5 3 2 255\nabcdef") && text_seed(directory, "ppm", "P6 1 1 65535 abcdef");
}

/* Settings of each type, and all of them with their defaults. */
static bool
params_seeds(const char *directory)
{
	static const char some[] =
		"{\"epochs\": 3, \"hidden\": [8, 4], \"validation\": \"held\", \"exclude\": [\"a\"], "
		"\"class_weight\": {\"yes\": 2}, \"activation\": \"relu\", \"layer_norm\": true, \"warmup\": 0.1}";
	int32_t count;
	const param_info *table = params_table(&count);
	llm_error err = {.code = LLM_OK};
	json_t *all = json_object();

	for (int32_t i = 0; i < count; i++)
		if (strcmp(table[i].fallback, "null") != 0)
		{
			char text[256];
			json_t *pair;

			snprintf(text, sizeof(text), "{\"%s\": %s}", table[i].name, table[i].fallback);
			pair = json_parse(text, strlen(text), &err);
			json_object_update(all, pair);
			json_decref(pair);
		}
	return write_json(directory, "all", all) && write_seed(directory, "some", some, strlen(some)) &&
		   write_seed(directory, "none", "{}", 2);
}

/* A small image, two columns and a table beside it, and networks that have every kind of layer. */
static bool
layers_seeds(const char *directory)
{
	static const char *const networks[] = {
		"[{\"type\":\"conv2d\",\"name\":\"stem\",\"channels\":4,\"kernel\":[5,3],\"bias\":false},{\"type\":\"batch_"
		"norm\"},"
		"{\"type\":\"activation\",\"function\":\"relu\"},{\"type\":\"conv2d\",\"channels\":4,\"kernel\":3,"
		"\"padding\":1},"
		"{\"type\":\"group_norm\",\"groups\":2},{\"type\":\"add\",\"inputs\":[5,\"stem\"]},{\"type\":\"max_pool\"},"
		"{\"type\":\"avg_pool\",\"kernel\":3,\"stride\":2,\"padding\":[1,1]},{\"type\":\"layer_norm\"},"
		"{\"type\":\"flatten\",\"name\":\"flat\"},{\"type\":\"global_avg_pool\",\"input\":3},"
		"{\"type\":\"concat\",\"inputs\":[\"flat\",11]},{\"type\":\"dropout\",\"rate\":0.5},"
		"{\"type\":\"concat\",\"inputs\":[13,\"columns\"]},{\"type\":\"linear\",\"width\":8}]",
		"[{\"type\":\"linear\",\"width\":8,\"input\":\"columns\"},{\"type\":\"activation\",\"function\":\"gelu\"},"
		"{\"type\":\"global_avg_pool\",\"input\":\"image\"},{\"type\":\"concat\",\"inputs\":[2,3]}]",
	};
	static const uint8_t head[] = {2, 9, 7, 1, 2, 65, 0, 2};
	bool ok = true;

	for (int i = 0; ok && i < (int) (sizeof(networks) / sizeof(networks[0])); i++)
	{
		uint8_t bytes[2048];
		size_t length = strlen(networks[i]);
		char name[16];

		memcpy(bytes, head, sizeof(head));
		memcpy(bytes + sizeof(head), networks[i], length);
		snprintf(name, sizeof(name), "network-%d", i);
		ok = write_seed(directory, name, bytes, sizeof(head) + length);
	}
	return ok;
}

/* Text after a first byte that says how it is read in parts; two shapes and their numbers as bytes. */
static bool
numbers_seeds(const char *directory)
{
	static const uint8_t wire[] = {128, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 63, 128, 0, 0, 192, 0, 0, 0};

	return write_seed(directory, "text", "\005[[1,2.5e3,-7],[0.125, +3 ,1e-40]]", 34) &&
		   write_seed(directory, "text-deep", "\001[[[[1],[2]]]]", 14) &&
		   write_seed(directory, "wire", wire, sizeof(wire));
}

/* Categories and free text, behind the three bytes that choose options. */
static bool
lines_seeds(const sample *s, const char *directory)
{
	char text[8192];

	for (int column = 0; column < 2; column++)
	{
		int length = snprintf(text, sizeof(text), "%c%c%c", column, 4, 1);
		char name[16];

		for (int r = 0; r < 60; r++)
			length += snprintf(text + length, sizeof(text) - length, "%s\n", s->text[r][column]);
		snprintf(name, sizeof(name), "column-%d", column);
		if (!write_seed(directory, name, text, length))
			return false;
	}
	return true;
}

/* A file of metadata and the tensors of the sample. */
static bool
write_tensors(const char *directory, const char *name, const char *key, const char *text)
{
	json_t *metadata = json_pack("{s:s}", key, text);
	size_t size;
	uint8_t *file = sample_tensor_file(SAMPLE_TENSORS, metadata, &size);
	bool ok = write_seed(directory, name, file, size);

	free(file);
	json_decref(metadata);
	return ok;
}

/* The model of the sample's parameters as an exported file has it: no counters, the last layer by our name. */
static bool
manifest_tensors(const char *directory)
{
	llm_error err = {.code = LLM_OK};
	json_t *params = json_parse(sample_params, strlen(sample_params), &err);
	import_plan *plan = import_plan_new(params, &err);
	exchange x;
	tensor_file f;
	json_t *model, *metadata;
	char *text;
	float *weights;
	uint8_t *bytes;
	bool ok;

	if (plan == NULL || !exchange_init(&x, plan->net, ORDER_PYTORCH, &err))
		return false;
	model = manifest_build(plan->architecture, plan->task, plan->net, plan->encoder, plan->target, 0,
						   "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", json_object(),
						   json_object(), json_array(), json_object());
	text = json_text(model);
	json_decref(model);
	metadata = json_pack("{s:s, s:s}", "format", "pt", "llmapp", text);
	weights = calloc(1, net_weight_bytes(plan->net));
	ok = tensor_file_plan(&f, &x, metadata, &err);
	bytes = malloc(f.bytes);
	ok = ok && tensor_file_write(&f, &x, weights, bytes, NULL, NULL, &err) &&
		 write_seed(directory, "manifest", bytes, f.bytes);
	tensor_file_free(&f);
	free(bytes);
	free(weights);
	free(text);
	json_decref(metadata);
	json_decref(params);
	import_plan_free(plan);
	return ok;
}

static bool
tensor_seeds(const char *directory)
{
	static const char tiny[] = "\x4c\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F16\",\"shape\":[1,1],\"data_offsets\":[0,2]},"
							   "\"__metadata__\":{}}  \0\x3c";

	sample_fill();
	return write_tensors(directory, "plain", "format", "pt") &&
		   write_tensors(directory, "params", "params", sample_params) && manifest_tensors(directory) &&
		   write_seed(directory, "tiny", tiny, sizeof(tiny) - 1);
}

typedef struct seed_file
{
	uint8_t bytes[32768];
	size_t count;
} seed_file;

static bool
take_bytes(void *arg, const void *bytes, size_t count, llm_error *err)
{
	seed_file *file = arg;

	if (count > sizeof(file->bytes) - file->count)
		return llm_fail(err, LLM_MEMORY, "the seed is too large");
	if (count > 0)
		memcpy(file->bytes + file->count, bytes, count);
	file->count += count;
	return true;
}

/* A value of each form, and a tensor of each type that is written, or of no type but F32. */
static bool
gguf_seed(const char *directory, const char *name, bool all)
{
	static const source_type types[] = {SOURCE_F32, SOURCE_F16, SOURCE_BF16, SOURCE_Q8_0, SOURCE_Q4_0};
	static const float numbers[64] = {1, -2, 3};
	llm_error err = {.code = LLM_OK};
	gguf_writer *w = gguf_writer_new(&err);
	seed_file file = {.count = 0};
	int count = all ? 5 : 1;
	uint64_t bytes;
	bool ok = true;

	gguf_writer_u32(w, "general.alignment", 32);
	if (all)
	{
		gguf_writer_string(w, "general.architecture", "llama", 5);
		gguf_writer_f32(w, "f", 0.5f);
		gguf_writer_bool(w, "b", true);
		gguf_writer_i32s(w, "i", (int32_t[]) {1, -1}, 2);
		gguf_writer_f32s(w, "g", (float[]) {1}, 1);
		gguf_writer_strings(w, "s", 2);
		gguf_writer_element(w, "<s>", 3);
		gguf_writer_element(w, "", 0);
	}
	for (int i = 0; ok && i < count; i++)
		ok = gguf_writer_tensor(w, (char[]) {(char) ('a' + i), '\0'}, types[i], 2, (int64_t[]) {2, 32}, &err);
	ok = ok && gguf_writer_begin(w, take_bytes, &file, &bytes, &err);
	for (int i = 0; ok && i < count; i++)
		ok = gguf_writer_numbers(w, numbers, 64, &err);
	gguf_writer_free(w);
	return ok && write_seed(directory, name, file.bytes, file.count);
}

static bool
gguf_seeds(const char *directory)
{
	return gguf_seed(directory, "small", false) && gguf_seed(directory, "all", true);
}

#define GGUF_TOKENS 16

/* A tokenizer of each model that GGUF files have; types of tokens are those of llama.cpp. */
static const struct
{
	const char *model, *pre;
	const char *texts[GGUF_TOKENS];
	int32_t types[GGUF_TOKENS];
	const char *merges[GGUF_TOKENS];
	bool scores, map;
	const char *begin, *end; /* keys of the tokens 0 and 1 */
} gguf_tokenizers[] = {
	{"gpt2",
	 "gpt-2",
	 {"<s>", "</s>", "a", "b", "ab", "\xC4\xA0",
	  "\xC4\xA0"
	  "ab",
	  "x", "!"},
	 {3, 3, 1, 1, 1, 1, 1, 1, 1},
	 {"a b", "\xC4\xA0 ab"},
	 false,
	 false,
	 "bos",
	 "eos"},
	{"gpt2",
	 "llama-bpe",
	 {"<s>", "</s>", "a", "b", "ab", "[U]"},
	 {3, 3, 1, 1, 1, 4},
	 {"a b"},
	 false,
	 false,
	 "bos",
	 "eos"},
	{"gpt2", "qwen2", {"<s>", "</s>", "a", "b", "ab", "1"}, {3, 3, 1, 1, 1, 1}, {"a b"}, false, false, "bos", "eos"},
	{"llama",
	 NULL,
	 {"<unk>", "<s>", "</s>", "<0xFF>", "\xE2\x96\x81", "a", "b", "ab",
	  "\xE2\x96\x81"
	  "ab",
	  "[U]"},
	 {2, 3, 3, 6, 1, 1, 1, 1, 1, 4},
	 {NULL},
	 true,
	 false,
	 "unknown",
	 "bos"},
	{"t5",
	 NULL,
	 {"<unk>", "</s>", "\xE2\x96\x81", "a", "b", "ab", "1"},
	 {2, 3, 1, 1, 1, 1, 1},
	 {NULL},
	 true,
	 true,
	 "unknown",
	 "eos"},
	{"bert",
	 NULL,
	 {"[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]",
	  "\xE2\x96\x81"
	  "a",
	  "b",
	  "\xE2\x96\x81"
	  "ab",
	  "ba"},
	 {3, 3, 3, 3, 3, 1, 1, 1, 1},
	 {NULL},
	 false,
	 false,
	 "unknown",
	 "padding"},
};

static void
put_list(gguf_writer *w, const char *key, const char *const *texts)
{
	size_t count = 0;

	while (count < GGUF_TOKENS && texts[count] != NULL)
		count++;
	gguf_writer_strings(w, key, count);
	for (size_t i = 0; i < count; i++)
		gguf_writer_element(w, texts[i], strlen(texts[i]));
}

static void
put_tokenizer(gguf_writer *w, int n)
{
	static const float scores[GGUF_TOKENS] = {0, 0, 0, -1, -2, -3, -4, -5, -6, -7};
	const char *model = gguf_tokenizers[n].model, *pre = gguf_tokenizers[n].pre;
	int32_t count = 0;
	uint8_t map[MAP_BYTES];
	char key[64];

	while (count < GGUF_TOKENS && gguf_tokenizers[n].texts[count] != NULL)
		count++;
	gguf_writer_string(w, "tokenizer.ggml.model", model, strlen(model));
	if (pre != NULL)
		gguf_writer_string(w, "tokenizer.ggml.pre", pre, strlen(pre));
	put_list(w, "tokenizer.ggml.tokens", gguf_tokenizers[n].texts);
	gguf_writer_i32s(w, "tokenizer.ggml.token_type", gguf_tokenizers[n].types, count);
	if (gguf_tokenizers[n].scores)
		gguf_writer_f32s(w, "tokenizer.ggml.scores", scores, count);
	if (gguf_tokenizers[n].merges[0] != NULL)
		put_list(w, "tokenizer.ggml.merges", gguf_tokenizers[n].merges);
	for (int i = 0; i < 2; i++)
	{
		snprintf(key, sizeof(key), "tokenizer.ggml.%s_token_id",
				 i == 0 ? gguf_tokenizers[n].begin : gguf_tokenizers[n].end);
		gguf_writer_u32(w, key, i);
	}
	gguf_writer_bool(w, "tokenizer.ggml.add_space_prefix", true);
	gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", n % 2 == 0);
	gguf_writer_string(w, "tokenizer.chat_template", "{{ messages }}", 14);
	if (gguf_tokenizers[n].map)
		gguf_writer_bytes(w, "tokenizer.ggml.precompiled_charsmap", map, write_character_map(map));
}

static bool
give_bytes(void *arg, int32_t number, uint64_t offset, void *out, size_t count, llm_error *err)
{
	const seed_file *file = arg;

	if (offset > file->count || count > file->count - offset)
		return llm_fail(err, LLM_CORRUPT, "the seed ends");
	memcpy(out, file->bytes + offset, count);
	return true;
}

/* A seed that is refused at its first key would find nothing. */
static bool
is_tokenizer(seed_file *file)
{
	llm_error err = {.code = LLM_OK};
	gguf *g = gguf_open(give_bytes, file, 0, file->count, &err);
	tokenizer_file_info info = {0};
	size_t bytes;
	void *block = g ? tokenizer_from_gguf(g, &info, &bytes, &err) : NULL;

	if (block == NULL)
		fprintf(stderr, "%s\n", err.message);
	free(block);
	tokenizer_file_info_free(&info);
	gguf_close(g);
	return block != NULL;
}

static bool
gguf_tokenizer_seeds(const char *directory)
{
	bool ok = true;

	for (int n = 0; ok && n < (int) (sizeof(gguf_tokenizers) / sizeof(gguf_tokenizers[0])); n++)
	{
		llm_error err = {.code = LLM_OK};
		gguf_writer *w = gguf_writer_new(&err);
		seed_file file = {.count = 0};
		char name[16];
		uint64_t bytes;

		put_tokenizer(w, n);
		snprintf(name, sizeof(name), "%d", n);
		ok = gguf_writer_begin(w, take_bytes, &file, &bytes, &err) && is_tokenizer(&file) &&
			 write_seed(directory, name, file.bytes, file.count);
		gguf_writer_free(w);
	}
	return ok;
}

/* A graph of an operator, a tensor of two numbers as bytes and one of two as floats. */
/* A file beside the unit tests, see make_onnx.py there. */
static bool
onnx_seed(const char *directory, const char *name)
{
	static uint8_t bytes[8192];
	char path[512];
	size_t size;
	FILE *f;

	snprintf(path, sizeof(path), UNIT_GOLDEN "/onnx/%s.onnx", name);
	f = fopen(path, "rb");
	if (f == NULL)
		return false;
	size = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	return write_seed(directory, name, bytes, size);
}

static bool
onnx_seeds(const char *directory)
{
	static const char file[] = "\x08\x08\x12\x01p\x3a\x2d\x0a\x02op"
							   "\x2a\x13\x08\x02\x10\x01\x42\x03raw\x4a\x08\0\0\x80\x3f\0\0\0\x40"
							   "\x2a\x12\x0a\x01\x02\x10\x01\x22\x08\0\0\x80\x3f\0\0\0\x40\x42\x01w";

	static const char *const names[] = {"mlp", "mlp_17", "cnn", "cnn_dynamo", "binary", "table", "forms"};
	bool ok = write_seed(directory, "small", file, sizeof(file) - 1);

	for (size_t i = 0; ok && i < sizeof(names) / sizeof(names[0]); i++)
		ok = onnx_seed(directory, names[i]);
	return ok;
}

static bool
index_seeds(const char *directory)
{
	static const char text[] = "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"a\":\"m-1.safetensors\","
							   "\"b\":\"m-2.safetensors\",\"c\":\"m-1.safetensors\"}}";

	return write_seed(directory, "index", text, sizeof(text) - 1);
}

/* What files of a checkpoint say and the shapes of its tensors; see fuzz_pretrained.c. */
static bool
checkpoint_seed(const char *directory, const char *name)
{
	static const char *const parts[] = {"config.json",           "generation_config.json",    "modules.json",
										"1_Pooling/config.json", "sentence_bert_config.json", "2_Dense/config.json",
										"3_Dense/config.json",   "4_Dense/config.json",       "gguf"};
	static uint8_t bytes[1 << 17];
	json_t *all = json_object(), *tensors = json_object();
	llm_error err = {.code = LLM_OK};
	safetensors *file;
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), UNIT_GOLDEN "/checkpoints/%s.safetensors", name);
	f = fopen(path, "rb");
	if (f == NULL)
		return false;
	file = safetensors_open(bytes, fread(bytes, 1, sizeof(bytes), f), &err);
	fclose(f);
	for (size_t i = 0; file && i < sizeof(parts) / sizeof(parts[0]); i++)
		if (safetensors_metadata(file, parts[i]))
			json_object_set_new(all, parts[i], json_loads(safetensors_metadata(file, parts[i]), 0, NULL));
	for (int32_t i = 0; file && i < safetensors_count(file); i++)
	{
		const safetensor *t = safetensors_at(file, i);
		json_t *dims = json_array();

		for (int32_t k = 0; k < t->ndim; k++)
			json_array_append_new(dims, json_integer(t->dims[k]));
		if (strncmp(t->name, "golden.", 7) != 0)
			json_object_set(tensors, t->name, dims);
		json_decref(dims);
	}
	safetensors_close(file);
	json_object_set_new(all, "tensors", tensors);
	return write_json(directory, name, all) && file != NULL;
}

static bool
checkpoint_seeds(const char *directory)
{
	static const char *const names[] = {
		"gpt2",          "gpt_neox",        "llama3",     "llama-linear",       "qwen3",
		"bert-classes",  "roberta",         "t5",         "distilbert-classes", "bert-embedding",
		"bert-labels",   "t5-distant-gguf", "gemma-gguf", "llama3-tied-gguf",   "gpt_neox-gguf",
		"bert-dense",    "t5-dense",        "qwen3-yarn", "qwen2-yarn-gguf",    "gemma3",
		"gemma3-images", "gemma2-gguf"};
	bool ok = true;

	for (size_t i = 0; ok && i < sizeof(names) / sizeof(names[0]); i++)
		ok = checkpoint_seed(directory, names[i]);
	return ok;
}

/* A block behind a text that has its tokens and more; see fuzz_tokenizer.c. */
static bool
tokenizer_seed(const char *directory, const char *name, const void *block, size_t bytes)
{
	static const char text[] = " ab  aba\xC3\xA9 \xE4\xB8\xAD[U]x!a\xCC\x81";
	size_t length = strlen(text);
	uint8_t *all = malloc(2 + length + bytes);
	bool ok;

	all[0] = (uint8_t) length;
	all[1] = 0;
	memcpy(all + 2, text, length);
	memcpy(all + 2 + length, block, bytes);
	ok = write_seed(directory, name, all, 2 + length + bytes);
	free(all);
	return ok;
}

/* A few steps, a token that is cut out between them, and frames. */
static void
add_steps(tokenizer_builder *b, llm_error *err)
{
	static const frame_item frame[] = {{0, 0}, {FRAME_FIRST, 0}, {FRAME_SECOND, 1}};

	tokenizer_builder_token(b, "A ", 2, TOKEN_ADDED, 0, err);
	tokenizer_builder_added(b, ADDED_NORMALISED | ADDED_LEFT);
	tokenizer_builder_step(b, STEP_LOWER, NULL, NULL, err);
	tokenizer_builder_step(b, STEP_REPLACE, "!", "ab", err);
	tokenizer_builder_step(b, STEP_CUT, NULL, NULL, err);
	tokenizer_builder_step(b, STEP_WORDS, NULL, NULL, err);
	tokenizer_builder_frame(b, frame, 2, frame + 1, 2, err);
}

/* Each kind with the flags that it knows. */
static bool
tokenizer_seeds(const char *directory)
{
	static const tokenizer_options kinds[] = {
		{TOKENIZER_BYTES},
		{TOKENIZER_CHARACTERS},
		{TOKENIZER_BPE, PRETOKENIZER_GPT2},
		{TOKENIZER_BPE, PRETOKENIZER_LLAMA3, FLAG_IGNORE_MERGES},
		{TOKENIZER_BPE, PRETOKENIZER_QWEN2, FLAG_NFC},
		{TOKENIZER_BPE, PRETOKENIZER_NONE, FLAG_CHARACTERS | FLAG_BYTE_FALLBACK | FLAG_PREFIX_SPACE},
		{TOKENIZER_WORDPIECE, PRETOKENIZER_NONE,
		 FLAG_CLEAN_TEXT | FLAG_SPLIT_CJK | FLAG_STRIP_ACCENTS | FLAG_LOWERCASE},
		{TOKENIZER_UNIGRAM, PRETOKENIZER_NONE, FLAG_PREFIX_SPACE | FLAG_SPACES_ONCE},
		{TOKENIZER_UNIGRAM, PRETOKENIZER_NONE, FLAG_BYTE_FALLBACK},
	};
	static uint8_t map[MAP_BYTES];
	static const char *const texts[] = {"a", "b", "ab", " a", "ba", "##b", "aba", "\xC3\xA9", " ", "!"};
	bool ok = true;

	for (size_t k = 0; ok && k < sizeof(kinds) / sizeof(kinds[0]); k++)
	{
		llm_error err = {.code = LLM_OK};
		tokenizer_builder *b = tokenizer_builder_new(&kinds[k], &err);
		char name[32];
		size_t bytes;
		void *block;

		tokenizer_builder_token(b, "[U]", 3, TOKEN_SPECIAL, 0, &err);
		tokenizer_builder_special(b, SPECIAL_UNKNOWN, 0, &err);
		for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
			tokenizer_builder_token(b, texts[i], strlen(texts[i]), TOKEN_NORMAL, -(double) i, &err);
		tokenizer_builder_token(b, "\xC3", 1, TOKEN_BYTE, 0, &err);
		tokenizer_builder_merge(b, "a", 1, "b", 1, &err);
		tokenizer_builder_merge(b, "ab", 2, "a", 1, &err);
		if (kinds[k].kind == TOKENIZER_UNIGRAM && kinds[k].flags & FLAG_BYTE_FALLBACK)
			tokenizer_builder_character_map(b, map, write_character_map(map), &err);
		if (k % 2 == 1)
			add_steps(b, &err);
		block = tokenizer_builder_finish(b, &bytes, &err);
		snprintf(name, sizeof(name), "tokenizer-%zu", k);
		ok = block != NULL && tokenizer_seed(directory, name, block, bytes);
		free(block);
		tokenizer_builder_free(b);
	}
	return ok && write_seed(directory, "learn", "\xFF\x00the cat sat on the mat, that c", 33);
}

/* Files of tokenizers, each behind its place and length; see fuzz_tokenizer_file.c. */
static bool
files_seed(const char *directory, const char *name, const char *const files[][2], int count)
{
	char all[8192];
	size_t size = 0;

	for (int i = 0; i < count; i++)
	{
		size_t length = strlen(files[i][1]);

		all[size++] = files[i][0][0];
		all[size++] = (char) (length & 0xFF);
		all[size++] = (char) (length >> 8);
		memcpy(all + size, files[i][1], length);
		size += length;
	}
	return write_seed(directory, name, all, size);
}

#define TOKENIZER_JSON "\x00"
#define TOKENIZER_MODEL "\x01"
#define VOCAB_TXT "\x02"
#define VOCAB_JSON "\x03"
#define MERGES_TXT "\x04"
#define CONFIG_JSON "\x05"

static const char *const tokenizer_json[] = {
	"{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true,\"normalized\":false,\"lstrip\":true},{\"id\":"
	"5,"
	"\"content\":\"aba\",\"single_word\":true,\"rstrip\":true}],\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{"
	"\"type\":"
	"\"ByteLevel\",\"add_prefix_space\":true},\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[\"b\",1],"
	"\"cls\":"
	"[\"<s>\",3]},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":"
	"2,\"\xC4\xA0\":4},"
	"\"merges\":[\"a b\"],\"ignore_merges\":true}}",
	"{\"added_tokens\":[{\"id\":0,\"content\":\"[U]\",\"special\":true},{\"id\":4,\"content\":\"AB\"}],"
	"\"normalizer\":{\"type\":"
	"\"BertNormalizer\",\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
	"\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"[U]\",\"type_id\":0}"
	"},{\"Sequence\":"
	"{\"id\":\"A\",\"type_id\":0}}],\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"Sequence\":{\"id\":"
	"\"B\",\"type_id\":1}}],"
	"\"special_tokens\":{\"[U]\":{\"id\":\"[U]\",\"ids\":[0],\"tokens\":[\"[U]\"]}}},\"model\":{\"unk_token\":\"[U]"
	"\",\"vocab\":{"
	"\"[U]\":0,\"a\":1,\"##b\":2,\"!\":3},\"max_input_chars_per_word\":100}}",
	"{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"StripAccents\"},{"
	"\"type\":\"Lowercase\"},"
	"{\"type\":\"Strip\",\"strip_left\":true},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" "
	"\"},{\"type\":"
	"\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"ab\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\","
	"\"pretokenizers\":[{"
	"\"type\":\"WhitespaceSplit\"},{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\"}]},\"decoder\":{\"type\":"
	"\"Metaspace\"},"
	"\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":true,\"vocab\":[[\"<unk>\",0],[\"\xE2\x96\x81\",-"
	"1],[\"a\",-2],"
	"[\"ab\",-3.5],[\"<0xC3>\",-9]]}}",
	"{\"added_tokens\":[{\"id\":3,\"content\":\"\xE2\x96\x81\xE2\x96\x81\",\"normalized\":false}],\"normalizer\":{"
	"\"type\":\"Sequence\","
	"\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{"
	"\"String\":\" \"},"
	"\"content\":\"\xE2\x96\x81\"}]},\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\" "
	"\"},\"behavior\":"
	"\"MergedWithPrevious\",\"invert\":false},\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,"
	"\"byte_fallback\":true,"
	"\"vocab\":{\"<unk>\":0,\"a\":1,\"\xE2\x96\x81\":2,\"\xE2\x96\x81\xE2\x96\x81\":3,\"<0xC3>\":4},\"merges\":[["
	"\"\xE2\x96\x81\","
	"\"\xE2\x96\x81\"]]}}",
};

/* Pieces <unk>, <s>, "_a", "b", <0xC3> and "ab" with types, a trainer and a normalizer; no byte is zero. */
#define SENTENCEPIECE(type) \
	"\x0A\x09\x0A\x05<unk>\x18\x02\x0A\x07\x0A\x03<s>\x18\x03\x0A\x0B\x0A\x04\xE2\x96\x81" \
	"a\x15\x01\x01\x80\xBF\x0A\x03\x0A\x01" \
	"b\x0A\x0A\x0A\x06<0xC3>\x18\x06\x0A\x06\x0A\x02" \
	"ab\x18\x04\x12\x05\x18" type "\x98\x02\x01\x1A\x04\x18\x01\x20\x01"

static bool
tokenizer_file_seeds(const char *directory)
{
	static const char *const bert[][2] = {
		{VOCAB_TXT, "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\r\n!\n"},
		{CONFIG_JSON, "{\"do_lower_case\":false,\"tokenizer_class\":\"BertTokenizerFast\"}"}};
	static const char *const gpt2[][2] = {
		{VOCAB_JSON, "{\"a\":0,\"b\":1,\"ab\":2,\"<|endoftext|>\":3}"},
		{MERGES_TXT, "#version: 0.2\na b\n"},
		{CONFIG_JSON, "{\"add_eos_token\":true,\"chat_template\":[{\"name\":\"default\",\"template\":\"x\"}],"
					  "\"added_tokens_decoder\":{\"4\":{\"content\":\"[U]\",\"special\":true}}}"}};
	/* most bytes of a text have no token */
	static const char *const sparse[][2] = {{VOCAB_JSON, "{\"Avocabb\":1,\"ab\":2,\"<|endoftext|>\":3}"},
											{MERGES_TXT, "#version: [M}"}};
	static const char *const unigram[][2] = {{TOKENIZER_MODEL, SENTENCEPIECE("\x01")},
											 {CONFIG_JSON, "{\"tokenizer_class\":\"LlamaTokenizer\"}"}};
	static const char *const bpe[][2] = {{TOKENIZER_MODEL, SENTENCEPIECE("\x02")}};
	bool ok = files_seed(directory, "bert", bert, 2) && files_seed(directory, "gpt2", gpt2, 3) &&
			  files_seed(directory, "sparse", sparse, 2) && files_seed(directory, "unigram", unigram, 2) &&
			  files_seed(directory, "bpe", bpe, 1);

	for (size_t i = 0; ok && i < sizeof(tokenizer_json) / sizeof(tokenizer_json[0]); i++)
	{
		const char *const file[][2] = {{TOKENIZER_JSON, tokenizer_json[i]}};
		char name[32];

		snprintf(name, sizeof(name), "json-%zu", i);
		ok = files_seed(directory, name, file, 1);
	}
	return ok;
}

static bool
text_seeds(const char *directory, const char *const *texts, size_t count)
{
	bool ok = true;

	for (size_t i = 0; ok && i < count; i++)
	{
		char name[32];

		snprintf(name, sizeof(name), "%zu", i);
		ok = write_seed(directory, name, texts[i], strlen(texts[i]));
	}
	return ok;
}

static const char *const schemas[] = {
	"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":-3,\"maximum\":120},\"b\":{"
	"\"enum\":[\"x\",1,null]}},"
	"\"required\":[\"b\"],\"additionalProperties\":{\"type\":\"boolean\"}}",
	"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"number\"}],\"items\":{\"$ref\":\"#\"},\"minItems\":1,"
	"\"maxItems\":4}",
	"{\"anyOf\":[{\"$ref\":\"#/$defs/"
	"t\"},{\"const\":{\"k\":[1.5]}}],\"$defs\":{\"t\":{\"type\":[\"string\",\"null\"],\"minLength\":1,"
	"\"maxLength\":5}}}",
	"{\"oneOf\":[{\"format\":\"date-time\"},{\"type\":\"integer\",\"exclusiveMinimum\":3}]}",
	"{\"pattern\":\"^([a-c]{2,3}|\\\\d+)?x*[^y]$\"}",
	"{}",
};

static const char *const templates[] = {
	"{%- for m in messages if m.role != 'x' %}\n{{- bos_token + m['content'] | trim ~ eos_token }}\n{%- else %}a{% "
	"endfor -%}",
	"{% set ns = namespace(n=0) %}{% macro f(a, b=1) %}{{ a | tojson(indent=2) }}{% endmacro %}{% set ns.n = ns.n + "
	"1 %}"
	"{{ f(messages[::-1]) }}",
	"{% if messages[0].content is string and 'a' in 'abc' and not x is defined %}{{ 'a,b'.split(',') | join('-') }}"
	"{% elif 1 < 2 %}{{ 7 // 2 ** 2 }}{% else %}{# c #}{% endif %}",
	"{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first | replace('a', 'b') | "
	"upper }}"
	"{% for k, v in messages[2].more.items() %}{{ loop.index }}{{ k }}{% continue %}{% endfor %}{{ "
	"strftime_now('%d') }}",
};

int
main(int argc, char **argv)
{
	sample *s = sample_new(argc < 2 || strcmp(argv[1], "manifest") != 0);
	bool ok = true;

	if (argc == 3 && strcmp(argv[1], "manifest") == 0)
		ok = manifest_seeds(s, argv[2]);
	else if (argc == 3 && strcmp(argv[1], "record") == 0)
		ok = record_seeds(s, argv[2]);
	else if (argc == 3 && strcmp(argv[1], "image") == 0)
		ok = image_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "params") == 0)
		ok = params_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "safetensors") == 0)
		ok = tensor_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "gguf") == 0)
		ok = gguf_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "tokenizer_gguf") == 0)
		ok = gguf_tokenizer_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "onnx") == 0)
		ok = onnx_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "checkpoint_index") == 0)
		ok = index_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "text") == 0)
		ok = lines_seeds(s, argv[2]);
	else if (argc == 3 && strcmp(argv[1], "layers") == 0)
		ok = layers_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "tensor") == 0)
		ok = numbers_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "pretrained") == 0)
		ok = checkpoint_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "tokenizer") == 0)
		ok = tokenizer_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "tokenizer_file") == 0)
		ok = tokenizer_file_seeds(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "schema") == 0)
		ok = text_seeds(argv[2], schemas, sizeof(schemas) / sizeof(schemas[0]));
	else if (argc == 3 && strcmp(argv[1], "template") == 0)
		ok = text_seeds(argv[2], templates, sizeof(templates) / sizeof(templates[0]));
	sample_free(s);
	return ok ? 0 : 1;
}
