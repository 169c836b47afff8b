/*
 * fuzz_tokenizer_gguf.c
 *	  Any bytes as a GGUF file, its tokenizer, and text encoded with it.
 */
#include "../../src/text/tokenizer_gguf.h"
#include "try_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	input in = {data, size};
	gguf *g = gguf_open(read_input, &in, 0, size, &err);
	tokenizer_file_info info;
	size_t bytes = 0;
	void *block;

	if (g == NULL)
		return 0;
	block = tokenizer_from_gguf(g, &info, &bytes, &err);
	REQUIRE((block == NULL) == (err.code != LLM_OK));
	gguf_close(g);
	try_tokenizer(block, bytes, &info);
	return 0;
}
