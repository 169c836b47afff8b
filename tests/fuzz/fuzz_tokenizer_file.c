/*
 * fuzz_tokenizer_file.c
 *	  Any bytes as the files of a tokenizer, and text encoded with what comes of them.
 *
 * The input is files one after the other, each behind its place in tokenizer_files and its length
 * in two bytes; the last takes what is left.  A block that is made must open, and its ids exist.
 */
#include "try_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILES (sizeof(tokenizer_files) / sizeof(file_bytes))

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
	try_tokenizer(block, bytes, &info);
	for (size_t i = 0; i < FILES; i++)
		free(copies[i]);
	return 0;
}
