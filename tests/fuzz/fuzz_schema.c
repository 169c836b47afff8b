/*
 * fuzz_schema.c
 *	  Any bytes as a JSON Schema, and a text that follows it.
 *
 * The text is made of tokens of one byte, chosen by the bytes of the input; it must parse within the
 * number of tokens that it may have.
 */
#include <stdlib.h>

#include "../../src/constrain/constraint.h"
#include "../../src/text/tokenizer_train.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TOKENS_MAX 300

static vocabulary *
byte_vocabulary(void)
{
	llm_error err = {.code = LLM_OK};
	size_t bytes;
	void *block = byte_tokenizer(NULL, 0, &bytes, &err);
	tokenizer *t = tokenizer_open(block, bytes, &err);
	vocabulary *v = t ? vocabulary_new(t, &err) : NULL;

	REQUIRE(v != NULL);
	tokenizer_free(t);
	free(block);
	return v;
}

/* The allowed byte that comes next behind a wanted one. */
static int
choose(const uint64_t *allowed, uint8_t wanted)
{
	for (int i = 0; i < 256; i++)
	{
		int byte = (wanted + i) % 256;

		if (allowed[byte / 64] >> byte % 64 & 1)
			return byte;
	}
	return -1;
}

static void
write_text(constraint *c, const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	constraint_place at = {0};
	char text[TOKENS_MAX];
	uint64_t allowed[4];
	size_t length = 0;
	bool more = true;
	json_t *json;

	for (;; length++)
	{
		int byte;

		if (!constraint_next(c, &at, text, length, TOKENS_MAX - (int64_t) length, -1, allowed, &more, &err))
		{
			REQUIRE(err.code == LLM_MEMORY);
			return;
		}
		if (!more || length == TOKENS_MAX)
			break;
		byte = choose(allowed, data[length * 7 % size]);
		REQUIRE(byte >= 0);
		text[length] = (char) byte;
	}
	json = json_loadb(text, length, JSON_DECODE_ANY, NULL);
	REQUIRE(json != NULL);
	json_decref(json);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static vocabulary *v;
	llm_error err = {.code = LLM_OK};
	json_t *schema;
	constraint *c;

	if (v == NULL)
		v = byte_vocabulary();
	schema = json_parse((const char *) data, size, &err);
	if (schema == NULL)
		return 0;
	c = constraint_new(schema, v, v->size, &err);
	REQUIRE((c == NULL) == (err.code != LLM_OK));
	if (c != NULL && constraint_shortest(c) <= TOKENS_MAX)
		write_text(c, data, size);
	constraint_free(c);
	json_decref(schema);
	return 0;
}
