/*
 * bench_gpt2.h
 *	  Files, and the tokenizer of GPT-2 from its merges.
 */
#ifndef LLMAPP_BENCH_GPT2_H
#define LLMAPP_BENCH_GPT2_H

#include "bench.h"
#include "../../src/text/tokenizer_build.h"
#include "../../src/text/unicode.h"

typedef struct file
{
	char *bytes;
	size_t size;
} file;

static inline file
read_file(const char *name)
{
	FILE *f = fopen(name, "rb");
	file all = {malloc((size_t) 64 << 20), 0};

	if (f == NULL)
	{
		fprintf(stderr, "cannot read %s\n", name);
		exit(1);
	}
	all.size = fread(all.bytes, 1, (size_t) 64 << 20, f);
	fclose(f);
	return all;
}

/* GPT-2's tokens follow from its merges: the bytes in the order of its alphabet, then what merges make. */
static inline void *
gpt2_block(file merges, size_t *bytes)
{
	tokenizer_options options = {
		.kind = TOKENIZER_BPE, .pretokenizer = PRETOKENIZER_GPT2, .spelling = SPELLING_BYTE_ALPHABET};
	llm_error err = {0};
	tokenizer_builder *b = tokenizer_builder_new(&options, &err);
	char *end = merges.bytes + merges.size, whole[1024];
	void *block;

	for (int32_t c = 33; c < 256 + 68; c++)
		for (int byte = 0; byte < 256; byte++)
			if (byte_alphabet((uint8_t) byte) == c)
				tokenizer_builder_token(b, whole, utf8_write(c, (uint8_t *) whole), TOKEN_NORMAL, 0, &err);
	for (char *line = memchr(merges.bytes, '\n', merges.size) + 1; line < end;)
	{
		char *next = memchr(line, '\n', end - line), *space = memchr(line, ' ', end - line);

		memcpy(whole, line, space - line);
		memcpy(whole + (space - line), space + 1, next - space - 1);
		tokenizer_builder_token(b, whole, next - line - 1, TOKEN_NORMAL, 0, &err);
		tokenizer_builder_merge(b, line, space - line, space + 1, next - space - 1, &err);
		line = next + 1;
	}
	block = tokenizer_builder_finish(b, bytes, &err);
	check(&err);
	tokenizer_builder_free(b);
	return block;
}

#endif /* LLMAPP_BENCH_GPT2_H */
