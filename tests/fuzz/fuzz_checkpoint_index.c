/*
 * fuzz_checkpoint_index.c
 *	  Any text as the index of a checkpoint of several files.
 *
 * What is accepted names files of one folder only, each once, in order.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/format/checkpoint_index.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_files(const checkpoint_index *x)
{
	for (int32_t i = 0; i < checkpoint_index_count(x); i++)
	{
		const char *name = checkpoint_index_file(x, i);

		REQUIRE(name[0] != '.' && strpbrk(name, "/\\") == NULL && strstr(name, ".safetensors") != NULL);
		REQUIRE(i == 0 || strcmp(checkpoint_index_file(x, i - 1), name) < 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static source_tensor tensors[] = {
		{"a", .file = 0}, {"b", .file = 1}, {"c", .file = 0}, {"d", .file = 2}}; /* sorted */
	tensor_source s = {.tensors = tensors, .count = 4};
	llm_error err = {.code = LLM_OK};
	checkpoint_index *x = checkpoint_index_parse((const char *) data, size, &err);

	REQUIRE((x == NULL) == (err.code != LLM_OK));
	if (x == NULL)
		return 0;
	REQUIRE(checkpoint_index_count(x) > 0);
	check_files(x);
	REQUIRE(checkpoint_index_check(x, &s, &err) == (err.code == LLM_OK));
	checkpoint_index_free(x);
	return 0;
}
