/*
 * fuzz_gguf.c
 *	  Any bytes as a GGUF file.
 *
 * Of what is accepted, every tensor lies within the file and apart from the others, and every value
 * and number that can be asked for is there.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/format/ggml_blocks.h"
#include "../../src/format/gguf_split.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BLOCK_MAX 256 /* numbers */

static void
check_strings(const gguf_strings *s)
{
	for (size_t i = 0; i < s->count; i++)
	{
		size_t length;
		const char *text = gguf_string_at(s, i, &length);

		REQUIRE(text[length] == '\0' && strlen(text) <= length);
	}
}

/* Each key has one of the forms that can be read. */
static void
check_keys(const gguf *g)
{
	for (int32_t i = 0; i < gguf_key_count(g); i++)
	{
		const char *key = gguf_key(g, i), *text;
		llm_error err = {.code = LLM_OK};
		gguf_strings strings;
		double number, *numbers;
		size_t count, length;
		int64_t integer;
		bool yes;

		REQUIRE(gguf_has(g, key) && (i == 0 || strcmp(gguf_key(g, i - 1), key) < 0));
		if (gguf_read_int(g, key, -100, INT64_MAX, &integer, &err))
			REQUIRE(integer >= -100);
		else if (gguf_read_number(g, key, 0, 1e300, &number, &err))
			REQUIRE(number >= 0);
		else if (gguf_read_bool(g, key, &yes, &err))
			REQUIRE(yes == 0 || yes == 1);
		else if (gguf_read_string(g, key, &text, &length, &err))
			REQUIRE(text[length] == '\0');
		else if (gguf_read_strings(g, key, SIZE_MAX, &strings, &err))
			check_strings(&strings);
		if (gguf_read_numbers(g, key, 0, 1000, -1e300, 1e300, &numbers, &count, &err))
			REQUIRE(count <= 1000);
		free(numbers);
	}
}

static void
check_tensors(const gguf *g, input *in)
{
	tensor_source s = {.read = read_input, .arg = in};
	llm_error err = {.code = LLM_OK};
	uint64_t total = 0;
	float numbers[BLOCK_MAX];

	REQUIRE(gguf_source(g, &s, &err) && tensor_source_sort(&s, &err));
	for (int32_t i = 0; i < s.count; i++)
	{
		const source_tensor *t = &s.tensors[i];
		const ggml_type *type = ggml_type_of(t->type);

		REQUIRE(tensor_source_find(&s, t->name) == t && t->ndim <= GGUF_DIMS_MAX);
		REQUIRE(t->offset <= in->size && t->bytes <= in->size - t->offset);
		total += t->bytes;
		if (type == NULL)
			continue;
		REQUIRE(t->bytes == t->count / type->length * type->bytes);
		if (t->count > 0)
			REQUIRE(tensor_source_read(&s, t, t->count - type->length, type->length, numbers, &err));
	}
	REQUIRE(total <= in->size);
	tensor_source_clear(&s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	input in = {data, size};
	gguf *g = gguf_open(read_input, &in, 0, size, &err);
	gguf_split split;

	REQUIRE((g == NULL) == (err.code != LLM_OK));
	if (g == NULL)
		return 0;
	check_keys(g);
	if (gguf_read_split(g, &split, &err))
		REQUIRE(split.number >= 0 && split.number < split.count && split.count <= GGUF_PARTS_MAX);
	check_tensors(g, &in);
	gguf_close(g);
	return 0;
}
