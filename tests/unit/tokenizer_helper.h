/*
 * tokenizer_helper.h
 *	  What the tests of tokenizers share: files of real vocabularies, encoding in one call.
 *
 * Files lie in the folder that the environment variable LLMAPP_TEST_DATA names.  Where one is
 * missing, test_file() is NULL and says so once per file.
 */
#ifndef LLMAPP_TOKENIZER_HELPER_H
#define LLMAPP_TOKENIZER_HELPER_H

#include <stdlib.h>

#include "../../src/engine/philox.h"
#include "../../src/format/json.h"
#include "../../src/text/tokenizer_build.h"
#include "../../src/text/tokenizer_train.h"
#include "../../src/text/unicode.h"
#include "test.h"

/* A file, unpacked if it is packed, with a zero byte behind it; to be freed. */
static inline char *
test_file(const char *name, size_t *size)
{
	const char *folder = getenv("LLMAPP_TEST_DATA");
	text_buffer all = {0};
	char command[1024];
	FILE *pipe;

	*size = 0;
	snprintf(command, sizeof(command), "%s '%s/%s' 2>/dev/null", strstr(name, ".gz") ? "gzip -dc" : "cat",
			 folder ? folder : "", name);
	pipe = folder ? popen(command, "r") : NULL;
	for (size_t got = 1; pipe != NULL && got > 0;)
	{
		all.bytes = realloc(all.bytes, all.size + (1 << 20));
		got = fread(all.bytes + all.size, 1, (1 << 20) - 1, pipe);
		all.size += got;
	}
	if (pipe != NULL)
		pclose(pipe);
	if (all.size > 0)
		all.bytes[all.size] = '\0';
	else
	{
		free(all.bytes);
		all.bytes = NULL;
		fprintf(stderr, "skipped: %s (LLMAPP_TEST_DATA)\n", name);
	}
	*size = all.size;
	return all.bytes;
}

/* The line at *at without its end, NULL behind the last one; *at moves on.  The text is changed. */
static inline char *
next_line(char **at)
{
	char *line = *at, *end = *at ? strchr(*at, '\n') : NULL;

	if (line == NULL || *line == '\0')
		return NULL;
	*at = end ? end + 1 : NULL;
	if (end)
		*end = '\0';
	return line;
}

/* Add merges, one "LEFT RIGHT" a line. */
static inline void
add_merges(tokenizer_builder *b, char *lines, llm_error *err)
{
	for (char *line; (line = next_line(&lines)) != NULL;)
	{
		char *space = strchr(line, ' ');

		if (space != NULL && strncmp(line, "#version", 8) != 0)
			tokenizer_builder_merge(b, line, space - line, space + 1, strlen(space + 1), err);
	}
}

static inline tokenizer *
open_built(tokenizer_builder *b, void **block, llm_error *err)
{
	size_t bytes = 0;

	*block = b ? tokenizer_builder_finish(b, &bytes, err) : NULL;
	tokenizer_builder_free(b);
	return *block ? tokenizer_open(*block, bytes, err) : NULL;
}

/* GPT-2 from its published files, or NULL. */
static inline tokenizer *
open_gpt2(void **block)
{
	tokenizer_options options = {
		.kind = TOKENIZER_BPE, .pretokenizer = PRETOKENIZER_GPT2, .spelling = SPELLING_BYTE_ALPHABET};
	llm_error err = {0};
	size_t vocabulary_size, merges_size;
	char *vocabulary = test_file("tokenizers/gpt2_encoder.json.gz", &vocabulary_size);
	char *merges = test_file("tokenizers/gpt2_vocab.bpe.gz", &merges_size);
	json_t *json = vocabulary && merges ? json_parse(vocabulary, vocabulary_size, &err) : NULL;
	const char **text = calloc(json_object_size(json) + 1, sizeof(char *)), *key;
	tokenizer_builder *b = json ? tokenizer_builder_new(&options, &err) : NULL;
	tokenizer *t = NULL;
	json_t *id;

	json_object_foreach(json, key, id)
		text[json_integer_value(id)] = key;
	for (size_t i = 0; b != NULL && i < json_object_size(json); i++)
		tokenizer_builder_token(b, text[i], strlen(text[i]),
								text[i][0] == '<' && text[i][1] == '|' && text[i][2] ? TOKEN_SPECIAL : TOKEN_NORMAL,
								0, &err);
	if (b != NULL)
	{
		tokenizer_builder_special(b, SPECIAL_END, (int32_t) json_object_size(json) - 1, &err);
		add_merges(b, merges, &err);
		t = open_built(b, block, &err);
		CHECK_STR(err.message, "");
	}
	free(text);
	json_decref(json);
	free(vocabulary);
	free(merges);
	return t;
}

static inline token_list
encode(tokenizer *t, const char *text, size_t length, bool parse_special)
{
	token_list list = {0};
	llm_error err = {0};

	CHECK(tokenizer_encode(t, text, length, parse_special, &list, &err));
	return list;
}

/* Does text become exactly these ids?  Prints both when not. */
static inline bool
encodes_to(tokenizer *t, const char *text, size_t length, bool parse_special, const int32_t *ids, int64_t count)
{
	token_list list = encode(t, text, length, parse_special);
	bool equal = list.count == count && (count == 0 || memcmp(list.id, ids, count * sizeof(int32_t)) == 0);

	if (!equal)
	{
		fprintf(stderr, "\"%.*s\" became", (int) length, text);
		for (int64_t i = 0; i < list.count; i++)
			fprintf(stderr, " %d", list.id[i]);
		fprintf(stderr, "\nexpected");
		for (int64_t i = 0; i < count; i++)
			fprintf(stderr, " %d", ids[i]);
		fprintf(stderr, "\n");
	}
	free(list.id);
	return equal;
}

#define CHECK_IDS(t, text, ...) \
	CHECK(encodes_to(t, text, strlen(text), false, (int32_t[]) {__VA_ARGS__}, \
					 sizeof((int32_t[]) {__VA_ARGS__}) / sizeof(int32_t)))

/* Does the text come back from its ids, whole and token by token? */
static inline bool
round_trips(tokenizer *t, const char *text, size_t length)
{
	token_list list = encode(t, text, length, false);
	text_buffer whole = {0}, parts = {0};
	llm_error err = {0};
	bool ok = tokenizer_decode(t, list.id, list.count, true, &whole, &err);

	for (int64_t i = 0; ok && i < list.count; i++)
		ok = tokenizer_decode(t, &list.id[i], 1, true, &parts, &err);
	ok = ok && whole.size == length && parts.size == length &&
		 (length == 0 || memcmp(whole.bytes, text, length) == 0) &&
		 (length == 0 || memcmp(parts.bytes, text, length) == 0);
	free(list.id);
	free(whole.bytes);
	free(parts.bytes);
	return ok;
}

/* Texts of llama.cpp's vectors lie between these lines, ids one line a text. */
#define VECTOR_SEPARATOR "\n__ggml_vocab_test__\n"

static inline int
check_vectors(tokenizer *t, const char *input, const char *output)
{
	size_t input_size, output_size;
	char *texts = test_file(input, &input_size), *ids = test_file(output, &output_size), *lines = ids;
	int equal = 0;

	for (char *text = texts, *line; text != NULL && lines != NULL && *lines != '\0';)
	{
		char *end = strstr(text, VECTOR_SEPARATOR);
		int32_t expected[4096];
		int64_t count = 0;

		line = lines;
		lines = strchr(lines, '\n');
		if (lines != NULL)
			*lines++ = '\0';
		for (char *next; count < 4096; line = next, count++)
		{
			expected[count] = (int32_t) strtol(line, &next, 10);
			if (next == line)
				break;
		}
		equal += encodes_to(t, text, end ? (size_t) (end - text) : strlen(text), false, expected, count);
		text = end ? end + strlen(VECTOR_SEPARATOR) : NULL;
	}
	free(texts);
	free(ids);
	return equal;
}

static uint32_t random_counter;

/* The same numbers in every run. */
static inline uint32_t
next_random(uint32_t below)
{
	uint32_t bits[4];

	philox(7, 0, 0, random_counter++, bits);
	return bits[0] % below;
}

/* Code points of all planes, ASCII and white space more often than their share. */
static inline size_t
random_text(char *out, size_t most)
{
	size_t size = 0;

	while (size + UTF8_BYTES_MAX <= most)
	{
		static const int32_t limits[] = {0x80, 0x80, 0x250, 0x3100, 0xA000, INVALID_BYTE};
		int32_t c = (int32_t) next_random((uint32_t) limits[next_random(6)]);

		if (next_random(5) == 0)
			c = " \n\t'\r 0s"[next_random(8)];
		if (c < 0xD800 || c >= 0xE000)
			size += (size_t) utf8_write(c, (uint8_t *) out + size);
	}
	return size;
}

typedef struct entry
{
	const char *text;
	token_type type;
	double score;
} entry;

/* Tokens in the order of their ids; the first is the unknown one if it is special. */
static inline void *
build(const tokenizer_options *options, const entry *entries, int count, const char *merges, size_t *bytes)
{
	llm_error err = {0};
	tokenizer_builder *b = tokenizer_builder_new(options, &err);
	char *lines = strdup(merges ? merges : "");
	void *block;

	for (int i = 0; i < count; i++)
		tokenizer_builder_token(b, entries[i].text, strlen(entries[i].text), entries[i].type, entries[i].score, &err);
	if (entries[0].type == TOKEN_SPECIAL)
		tokenizer_builder_special(b, SPECIAL_UNKNOWN, 0, &err);
	add_merges(b, lines, &err);
	free(lines);
	block = tokenizer_builder_finish(b, bytes, &err);
	tokenizer_builder_free(b);
	CHECK_STR(err.message, "");
	return block;
}

#define BUILD(options, entries, merges, bytes) \
	build(options, entries, sizeof(entries) / sizeof(entries[0]), merges, bytes)

static inline tokenizer *
open_block(const void *block, size_t bytes)
{
	llm_error err = {0};
	tokenizer *t = tokenizer_open(block, bytes, &err);

	CHECK_STR(err.message, "");
	return t;
}

#endif /* LLMAPP_TOKENIZER_HELPER_H */
