/*
 * fuzz_tokenizer_file.c
 *	  Any bytes as the files of a tokenizer, and text encoded with what comes of them.
 *
 * The input is files one after the other, each behind its place in tokenizer_files and its length
 * in two bytes; the last takes what is left.  A block that is made must open, and its ids exist.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/text/tokenizer_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond) \
	do \
	{ \
		if (!(cond)) \
			abort(); \
	} while (0)

#define FILES (sizeof(tokenizer_files) / sizeof(file_bytes))

/* Texts in which tokens of the seeds stand. */
static const char text[] = " ab  aba\xC3\xA9 \xE4\xB8\xAD[U]x!a\xCC\x81 <s>\xE2\x96\x81 12\n\n\xEF\xAC\x81</s>\xFF";

static void
try_text(tokenizer *t)
{
	llm_error err = {.code = LLM_OK};
	token_list ids = {0}, types = {0};
	text_buffer back = {0};

	REQUIRE(tokenizer_encode_framed(t, text, sizeof(text) - 1, text, 9, true, 0, &ids, &types, &err));
	REQUIRE(ids.count == types.count);
	for (int64_t i = 0; i < ids.count; i++)
		REQUIRE(ids.id[i] >= 0 && ids.id[i] < tokenizer_size(t));
	REQUIRE(tokenizer_decode(t, ids.id, ids.count, false, &back, &err));
	ids.count = types.count = 0;
	if (tokenizer_encode_framed(t, text, sizeof(text) - 1, NULL, 0, false, 7, &ids, &types, &err))
		REQUIRE(ids.count <= 7);
	free(ids.id);
	free(types.id);
	free(back.bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	tokenizer_files files = {0};
	file_bytes *file = (file_bytes *) &files;
	char *copies[FILES] = {0};
	tokenizer_file_info info;
	size_t bytes;
	void *block;

	while (size > 3)
	{
		size_t place = data[0] % FILES, length = data[1] | (size_t) data[2] << 8;

		data += 3;
		size -= 3;
		length = length < size ? length : size;
		free(copies[place]);
		copies[place] = malloc(length + (length == 0)); /* of exact size, so that reading on is noticed */
		memcpy(copies[place], data, length);
		file[place] = (file_bytes) {copies[place], length};
		data += length;
		size -= length;
	}
	block = tokenizer_from_files(&files, &info, &bytes, &err);
	REQUIRE((block == NULL) == (err.code != LLM_OK));
	if (block != NULL)
	{
		tokenizer *t = tokenizer_open(block, bytes, &err);

		REQUIRE(t != NULL || err.code == LLM_CORRUPT);
		if (t != NULL)
			try_text(t);
		tokenizer_free(t);
		tokenizer_file_info_free(&info);
	}
	free(block);
	for (size_t i = 0; i < FILES; i++)
		free(copies[i]);
	return 0;
}
