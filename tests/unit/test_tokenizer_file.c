/*
 * test_tokenizer_file.c
 *	  Tokenizers from the files of other libraries: ids and frames are theirs, for every text.
 *
 * The files and the digests of what the libraries give are made by golden/make_tokenizers.py, which
 * says how, the same as GGUF files by golden/make_gguf_tokenizers.py; another folder of the same form can be given as an argument, and names in it.
 */
#include "../../src/text/tokenizer_file.h"
#include "../../src/text/tokenizer_gguf.h"
#include "../../src/text/tokenizer_write.h"

#include "tokenizer_helper.h"

#define FRAMED 100
#define MOST 24
#define TEXTS_MAX (1 << 20)

typedef struct texts
{
	char *bytes;
	const char *text[TEXTS_MAX];
	size_t length[TEXTS_MAX];
	int count;
} texts;

static texts all;
static const char *folder; /* NULL: golden/tokenizers beside this file */

/* A file of a folder, NULL where there is none; to be freed. */
static char *
read_file(const char *name, const char *file, size_t *size)
{
	char path[4096];
	char *bytes = NULL;
	FILE *f;

	if (folder != NULL)
		snprintf(path, sizeof(path), "%s/%s/%s", folder, name, file);
	else
		snprintf(path, sizeof(path), "%.*sgolden/tokenizers/%s/%s",
				 (int) (strrchr(__FILE__, '/') ? strrchr(__FILE__, '/') + 1 - __FILE__ : 0), __FILE__, name, file);
	f = fopen(path, "rb");
	*size = 0;
	if (f == NULL)
		return NULL;
	fseek(f, 0, SEEK_END);
	*size = (size_t) ftell(f);
	rewind(f);
	bytes = malloc(*size + 1);
	bytes[*size] = '\0';
	CHECK(fread(bytes, 1, *size, f) == *size);
	fclose(f);
	return bytes;
}

static void
read_texts(void)
{
	size_t size, at = 0;

	all.bytes = read_file(".", "texts.bin", &size);
	CHECK(all.bytes != NULL);
	while (all.bytes != NULL && at + 2 <= size && all.count < TEXTS_MAX)
	{
		size_t length = (uint8_t) all.bytes[at] | (size_t) (uint8_t) all.bytes[at + 1] << 8;

		all.text[all.count] = all.bytes + at + 2;
		all.length[all.count++] = length;
		at += 2 + length;
	}
}

/* FNV-1a of 32 bits over numbers as bytes. */
static uint32_t
digest(uint32_t value, const int32_t *numbers, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		for (int shift = 0; shift < 32; shift += 8)
			value = (value ^ ((uint32_t) numbers[i] >> shift & 0xFF)) * 0x01000193;
	return value;
}

#define DIGEST_START 0x811C9DC5

static void
print_text(const char *name, int i, const token_list *ids)
{
	fprintf(stderr, "%s: text %d \"", name, i);
	for (size_t k = 0; k < all.length[i]; k++)
		fprintf(stderr, (uint8_t) all.text[i][k] < 32 ? "\\x%02x" : "%c", (uint8_t) all.text[i][k]);
	fprintf(stderr, "\" became");
	for (int64_t k = 0; k < ids->count; k++)
		fprintf(stderr, " %d", ids->id[k]);
	fprintf(stderr, "\n");
}

static int
check_ids(tokenizer *t, const char *name, const uint32_t *expected, bool special, bool expected_all)
{
	token_list ids = {0};
	int equal = 0;

	for (int i = 0; i < all.count; i++)
	{
		llm_error err = {0};
		bool same;

		ids.count = 0;
		CHECK(tokenizer_encode(t, all.text[i], all.length[i], special, &ids, &err));
		same = digest(DIGEST_START, ids.id, ids.count) == expected[i];
		equal += same;
		if (!same && expected_all && i - equal < 5)
			print_text(name, i, &ids);
	}
	free(ids.id);
	return equal;
}

/* Ids and types within the frame of one text, then of two. */
static int
check_frames(tokenizer *t, const char *name, const uint32_t *expected, bool special, bool expected_all)
{
	token_list ids = {0}, types = {0};
	int equal = 0;

	for (int i = 0; i < 2 * FRAMED; i++)
	{
		llm_error err = {0};
		int n = i / 2, second = i % 2;
		bool same;

		if (expected[i] == 0)
		{
			equal++;
			continue;
		}
		ids.count = types.count = 0;
		CHECK(tokenizer_encode_framed(t, all.text[n], all.length[n], second ? all.text[n + 1] : NULL,
									  second ? all.length[n + 1] : 0, special, second ? MOST : 0, &ids, &types,
									  &err));
		same = digest(digest(DIGEST_START, ids.id, ids.count), types.id, types.count) == expected[i];
		equal += same;
		if (!same && expected_all && i - equal < 3)
			print_text(name, n, &ids);
	}
	free(ids.id);
	free(types.id);
	return equal;
}

static const char *const file_names[] = {"tokenizer.json", "tokenizer.model", "vocab.txt",
										 "vocab.json",     "merges.txt",      "tokenizer_config.json"};

/* The tokenizer of a folder; info and block are to be freed. */
static tokenizer *
open_files(const char *name, void **block, tokenizer_file_info *info)
{
	tokenizer_files files = {0};
	file_bytes *const to[] = {&files.tokenizer_json, &files.tokenizer_model, &files.vocab_txt,
							  &files.vocab_json,     &files.merges_txt,      &files.tokenizer_config_json};
	llm_error err = {0};
	size_t bytes = 0;
	tokenizer *t;

	for (int i = 0; i < 6; i++)
		to[i]->bytes = read_file(name, file_names[i], &to[i]->size);
	*block = tokenizer_from_files(&files, info, &bytes, &err);
	t = *block ? tokenizer_open(*block, bytes, &err) : NULL;
	CHECK_STR(err.message, "");
	for (int i = 0; i < 6; i++)
		free((char *) to[i]->bytes);
	return t;
}

typedef struct gguf_bytes
{
	const char *bytes;
	size_t size;
} gguf_bytes;

static bool
read_gguf(void *arg, int32_t file, uint64_t offset, void *out, size_t count, llm_error *err)
{
	const gguf_bytes *g = arg;

	if (offset > g->size || count > g->size - offset)
		return llm_fail(err, LLM_CORRUPT, "read beyond the end of the file");
	memcpy(out, g->bytes + offset, count);
	return true;
}

/* That of a GGUF file. */
static tokenizer *
open_gguf(const gguf_bytes *file, void **block, tokenizer_file_info *info)
{
	llm_error err = {0};
	size_t bytes = 0;
	gguf *g = gguf_open(read_gguf, (void *) file, 0, file->size, &err);
	tokenizer *t;

	*block = g ? tokenizer_from_gguf(g, info, &bytes, &err) : NULL;
	t = *block ? tokenizer_open(*block, bytes, &err) : NULL;
	CHECK_STR(err.message, "");
	gguf_close(g);
	return t;
}

static void
check_family(const char *name, tokenizer *t, bool exact)
{
	size_t size, model_size;
	uint32_t *expected = (uint32_t *) read_file(name, "ids.bin", &size);
	char *model = read_file(name, "tokenizer.model", &model_size);
	bool special = model == NULL; /* SentencePiece finds none in texts */

	CHECK_INT(size, 4 * (all.count + 2 * FRAMED));
	if (t != NULL && size == 4u * (all.count + 2 * FRAMED))
	{
		int equal = check_ids(t, name, expected, special, exact),
			framed = check_frames(t, name, expected + all.count, special, exact);

		CHECK_INT(exact ? all.count : 1942, equal);
		CHECK_INT(exact ? 2 * FRAMED : 192, framed);
	}
	free(expected);
	free(model);
}

/* Written as tokenizer.json and read again, which has no words for all that SentencePiece does to white space. */
static void
check_written(const char *name, const tokenizer *t)
{
	llm_error err = {0};
	json_t *json = tokenizer_to_json(t, false, &err), *config = tokenizer_to_config(t, 512, "{{ 1 }}", &err);
	char *text = json ? json_text(json) : NULL, *config_text = config ? json_text(config) : NULL;
	tokenizer_files files = {.tokenizer_json = {text, text ? strlen(text) : 0},
							 .tokenizer_config_json = {config_text, config_text ? strlen(config_text) : 0}};
	tokenizer_file_info info = {0};
	size_t bytes;
	void *block = text && config_text ? tokenizer_from_files(&files, &info, &bytes, &err) : NULL;
	tokenizer *again = block ? tokenizer_open(block, bytes, &err) : NULL;

	CHECK_STR(err.message, "");
	if (CHECK(again != NULL))
	{
		CHECK_STR(info.chat_template, "{{ 1 }}");
		for (int i = SPECIAL_UNKNOWN; i < SPECIAL_TOKENS; i++)
			CHECK_INT(tokenizer_special(again, (special_token) i), tokenizer_special(t, (special_token) i));
		check_family(name, again, strcmp(name, "t5_model") != 0 && strcmp(name, "unknowns_model") != 0);
	}
	tokenizer_free(again);
	tokenizer_file_info_free(&info);
	free(block);
	free(text);
	free(config_text);
	json_decref(json);
	json_decref(config);
}

static void
test_family(const char *name)
{
	tokenizer_file_info info = {0};
	gguf_bytes file;
	void *block;
	tokenizer *t = open_files(name, &block, &info);

	check_family(name, t, true);
	check_written(name, t);
	tokenizer_free(t);
	tokenizer_file_info_free(&info);
	free(block);
	file.bytes = read_file(name, "tokenizer.gguf", &file.size);
	if (file.bytes == NULL)
		return;
	t = open_gguf(&file, &block, &info);
	check_family(name, t, true);
	CHECK_STR(info.chat_template, strcmp(name, "bert") == 0 ? "{{ messages }}" : NULL);
	tokenizer_free(t);
	tokenizer_file_info_free(&info);
	free(block);
	free((char *) file.bytes);
}

/* ---- what is refused, and what is said beside the tokenizer ---- */

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<s>\":3},\"merges\":[\"a b\"]}"

/* The error that tokenizer.json gives, or "". */
static const char *
json_error(const char *json, const char *config)
{
	static llm_error err;
	tokenizer_files files = {.tokenizer_json = {json, strlen(json)},
							 .tokenizer_config_json = {config, config ? strlen(config) : 0}};
	tokenizer_file_info info;
	size_t bytes;
	void *block;

	err = (llm_error) {.code = LLM_OK};
	block = tokenizer_from_files(&files, &info, &bytes, &err);
	CHECK((block == NULL) == (err.code != LLM_OK));
	if (block != NULL)
		tokenizer_file_info_free(&info);
	free(block);
	return err.message;
}

static void
test_refused(void)
{
	static const struct
	{
		const char *json, *message;
	} cases[] = {
		{"{" MODEL "}", ""},
		{"{\"future\":1," MODEL "}", "the tokenizer has a setting \"future\" in tokenizer.json, which is not known"},
		{"{\"normalizer\":{\"type\":\"NFKC\"}," MODEL "}",
		 "the tokenizer has a normalizer \"NFKC\", which is not supported"},
		{"{\"normalizer\":{\"type\":\"NFC\",\"mode\":1}," MODEL "}",
		 "the tokenizer has a setting \"mode\" in normalizer, which is not known"},
		{"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x+\"},\"behavior\":\"Isolated\"}," MODEL
		 "}",
		 "the tokenizer has a Split by \"x+\", which is not supported"},
		{"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Punctuation\"},{\"type\":"
		 "\"ByteLevel\"}]}," MODEL "}",
		 "the tokenizer has a pre_tokenizer \"Punctuation ByteLevel\", which is not supported"},
		{"{\"post_processor\":{\"type\":\"Odd\"}," MODEL "}",
		 "the tokenizer has a post_processor \"Odd\", which is not supported"},
		{"{\"decoder\":{\"type\":\"CTC\"}," MODEL "}", "the tokenizer has a decoder \"CTC\", which is not supported"},
		{"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}",
		 "the tokenizer has a model \"WordLevel\", which is not supported"},
		{"{\"model\":{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{},\"merges\":[]}}",
		 "the tokenizer has a setting of its model \"dropout\", which is not supported"},
		{"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
		 "two tokens of the tokenizer have the number 0"},
		{"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":9999999},\"merges\":[]}}",
		 "a token of the tokenizer has the number 9999999, which is out of range"},
		{"{\"added_tokens\":[{\"id\":0,\"content\":\"x\"}]," MODEL "}",
		 "two tokens of the tokenizer have the number 0"},
		{"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}}",
		 "merge 1 of the tokenizer is not a pair of texts"},
		{"[]", "tokenizer.json is not a JSON object"},
		{"{", "invalid JSON at byte 1: string or '}' expected near end of file"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_STR(json_error(cases[i].json, NULL), cases[i].message);
}

static void
test_models_refused(void)
{
	static const struct
	{
		const char *bytes;
		size_t size;
		const char *message;
	} cases[] = {
		{"", 0, "tokenizer.model is not a model of SentencePiece, or is damaged"},
		{"\x0A\x7F", 2, "tokenizer.model is not a model of SentencePiece, or is damaged"},
		{"\x0A\x03\x0A\x01"
		 "a\x12\x02\x18\x03",
		 9, "the tokenizer has a SentencePiece model of the type \"word\", which is not supported"},
		{"\x0A\x05\x0A\x01"
		 "a\x18\x09",
		 7, "tokenizer.model is not a model of SentencePiece, or is damaged"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		tokenizer_files files = {.tokenizer_model = {cases[i].bytes, cases[i].size}};
		tokenizer_file_info info;
		llm_error err = {0};
		size_t bytes;

		CHECK(tokenizer_from_files(&files, &info, &bytes, &err) == NULL);
		CHECK_STR(err.message, cases[i].message);
	}
}

static void
test_info(void)
{
	tokenizer_file_info info;
	void *block;
	tokenizer *t = open_files("gpt2_lists", &block, &info);

	CHECK_INT(info.max_length, 1024);
	CHECK_STR(info.chat_template, "d");
	CHECK_STR(info.class_name, "GPT2Tokenizer");
	CHECK(tokenizer_has_frame(t, false) && tokenizer_has_frame(t, true));
	CHECK_INT(tokenizer_special(t, SPECIAL_END), 0);
	tokenizer_free(t);
	tokenizer_file_info_free(&info);
	free(block);
	t = open_files("gpt2", &block, &info);
	CHECK_INT(info.max_length, 0);
	CHECK_STR(info.chat_template, NULL);
	CHECK(!tokenizer_has_frame(t, false));
	CHECK(round_trips(t, "a text\n  of 12 words", 20));
	tokenizer_free(t);
	tokenizer_file_info_free(&info);
	free(block);
	CHECK_STR(json_error("{" MODEL "}", "{\"add_bos_token\":1}"), "key \"add_bos_token\" is not true or false");
	CHECK_STR(json_error("{" MODEL "}", "{\"chat_template\":5}"),
			  "chat_template of tokenizer_config.json is not a text");
}

/* A frame never becomes shorter, and what does not fit is cut at the end of the longer text. */
static void
test_cut(void)
{
	tokenizer_file_info info;
	void *block;
	tokenizer *t = open_files("bert", &block, &info);
	token_list ids = {0}, types = {0};
	llm_error err = {0};

	CHECK(tokenizer_encode_framed(t, "a a a a a a", 11, NULL, 0, false, 4, &ids, &types, &err));
	CHECK_INT(ids.count, 4);
	CHECK_INT(ids.id[0], tokenizer_special(t, SPECIAL_CLASS));
	CHECK_INT(ids.id[3], tokenizer_special(t, SPECIAL_SEPARATOR));
	ids.count = types.count = 0;
	CHECK(tokenizer_encode_framed(t, "a a a a a a", 11, "a", 1, false, 6, &ids, &types, &err));
	CHECK_INT(ids.count, 6);
	CHECK_INT(types.id[3], 0);
	CHECK_INT(types.id[4], 1);
	CHECK(!tokenizer_encode_framed(t, "a", 1, NULL, 0, false, 1, &ids, &types, &err));
	CHECK_STR(err.message, "the tokens around a text are 2, more than the 1 that are allowed");
	CHECK_INT(ids.count, 6);
	free(ids.id);
	free(types.id);
	tokenizer_free(t);
	tokenizer_file_info_free(&info);
	free(block);
}

/* Bytes that are no token and have none in their place make no ids, in a list without memory, too. */
static void
test_no_tokens(void)
{
	static const char json[] = "{" MODEL "}";
	tokenizer_files files = {.tokenizer_json = {json, sizeof(json) - 1}};
	tokenizer_file_info info;
	llm_error err = {0};
	size_t bytes;
	void *block = tokenizer_from_files(&files, &info, &bytes, &err);
	tokenizer *t = tokenizer_open(block, bytes, &err);
	token_list ids = {0};

	if (!CHECK(t != NULL))
		exit(1);
	for (int again = 0; again < 2; again++)
	{
		CHECK(tokenizer_encode(t, "xyz", 3, false, &ids, &err));
		CHECK_INT(ids.count, 0);
	}
	CHECK(tokenizer_encode(t, "xabz", 4, false, &ids, &err));
	CHECK_INT(ids.count, 1);
	CHECK_INT(ids.id[0], 2);
	free(ids.id);
	tokenizer_free(t);
	tokenizer_file_info_free(&info);
	free(block);
}

/* ---- what sentence-transformers adds ---- */

/* Ids are those of the library tokenizers with Lowercase in front of what the file says. */
static void
test_lower_case(void)
{
	static const char text[] = "Hello WORLD \xC3\x89t\xC3\xA9 \xC4\xB0x ABC 12";
	static const char settings[] = "{\"max_seq_length\": 16, \"do_lower_case\": true}";
	static const struct
	{
		const char *name;
		int32_t ids[32], count;
	} cases[] = {
		{"roberta",
		 {0,   75,  318, 305, 224, 90, 82,  85, 79, 71,  224, 338, 87,
		  338, 224, 76,  140, 233, 91, 269, 69, 70, 369, 21,  2},
		 25},
		{"xlmr",
		 {0, 3, 69, 53, 406, 406, 31, 3, 2, 31, 415, 406, 2, 3, 2, 27, 2, 3, 416, 2, 6, 403, 2, 3, 68, 1},
		 26},
		{"bert_cased", {2, 38, 155, 151, 1, 55, 98, 117, 1, 1, 10, 91, 3}, 13},
		{"bert", {2, 27, 140, 135, 1, 25, 65, 66, 1, 1, 455, 3}, 12},
		{"t5", {3, 69, 53, 406, 406, 31, 3, 2, 31, 415, 406, 2, 3, 2, 27, 2, 3, 416, 2, 6, 403, 2, 3, 68, 1}, 25},
		{"llama3",
		 {0,   73,  316, 303, 222, 88, 80,  83, 77, 69,  222, 336, 85,
		  336, 222, 74,  138, 231, 89, 267, 67, 68, 222, 18,  19},
		 25},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		tokenizer_files files = {.sentence_bert_config_json = {settings, sizeof(settings) - 1}};
		tokenizer_file_info info;
		token_list ids = {0}, types = {0};
		llm_error err = {0};
		size_t bytes = 0;
		tokenizer *t;
		void *block;

		files.tokenizer_json.bytes = read_file(cases[i].name, "tokenizer.json", &files.tokenizer_json.size);
		block = tokenizer_from_files(&files, &info, &bytes, &err);
		t = block ? tokenizer_open(block, bytes, &err) : NULL;
		if (CHECK(t != NULL) &&
			CHECK(tokenizer_encode_framed(t, text, sizeof(text) - 1, NULL, 0, true, 0, &ids, &types, &err)))
			if (!CHECK(ids.count == cases[i].count && memcmp(ids.id, cases[i].ids, ids.count * sizeof(int32_t)) == 0))
				for (int64_t k = 0; k < ids.count; k++)
					fprintf(stderr, "%s %d\n", cases[i].name, ids.id[k]);
		CHECK_STR(err.message, "");
		free(ids.id);
		free(types.id);
		tokenizer_free(t);
		if (block != NULL)
			tokenizer_file_info_free(&info);
		free(block);
		free((char *) files.tokenizer_json.bytes);
	}
}

int
main(int argc, char **argv)
{
	static const char *const families[] = {
		"gpt2",     "gpt2_lists",  "neox",       "roberta",    "roberta_lists", "llama3",   "qwen2",         "digits",
		"prefixed", "bert",        "bert_added", "bert_cased", "bert_txt",      "t5",       "t5_model",      "xlmr",
		"llama2",   "llama_model", "mistral",    "gemma",      "gemma_model",   "unknowns", "unknowns_model"};
	int count = argc > 2 ? argc - 2 : (int) (sizeof(families) / sizeof(families[0]));

	if (argc > 1)
		folder = argv[1];
	read_texts();
	for (int i = 0; i < count; i++)
		test_family(argc > 2 ? argv[i + 2] : families[i]);
	if (argc == 1)
	{
		test_refused();
		test_models_refused();
		test_info();
		test_cut();
		test_no_tokens();
		test_lower_case();
	}
	free(all.bytes);
	return test_summary();
}
