/*
 * fuzz_onnx.c
 *	  Any bytes as an ONNX file.
 *
 * Of what is accepted, every tensor lies within the file and can be read.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/format/onnx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond) \
	do \
	{ \
		if (!(cond)) \
			abort(); \
	} while (0)

typedef struct input
{
	const uint8_t *data;
	size_t size;
} input;

static bool
read_input(void *arg, int32_t file, uint64_t offset, void *out, size_t bytes, llm_error *err)
{
	const input *in = arg;

	REQUIRE(file == 0 && offset <= in->size && bytes <= in->size - offset);
	memcpy(out, in->data + offset, bytes);
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	input in = {data, size};
	tensor_source s = {.read = read_input, .arg = &in};
	llm_error err = {.code = LLM_OK};
	bool ok = onnx_source(&s, 0, size, NULL, &err) && tensor_source_sort(&s, &err);

	REQUIRE(ok == (err.code == LLM_OK));
	for (int32_t i = 0; ok && i < s.count; i++)
	{
		const source_tensor *t = &s.tensors[i];
		float number;

		REQUIRE(t->offset <= size && t->bytes <= size - t->offset && tensor_source_find(&s, t->name) == t);
		if (t->type != SOURCE_OTHER && t->count > 0)
			REQUIRE(tensor_source_read(&s, t, t->count - 1, 1, &number, &err));
	}
	tensor_source_clear(&s);
	return 0;
}
