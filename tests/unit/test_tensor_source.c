/*
 * test_tensor_source.c
 *	  Tensors of files that exist only as a rule: lookup, pieces, ranges, failures of the reader.
 */
#include <stdlib.h>

#include "../../src/format/tensor_source.h"
#include "test.h"

#define LARGE (3 << 20) /* numbers */

static size_t largest_read;
static int32_t last_file;
static int reads_left = -1; /* before the reader fails */

/* Byte i of every file: the bytes of float32 numbers 0, 1, 2, ... */
static bool
read_rule(void *arg, int32_t file, uint64_t offset, void *out, size_t count, llm_error *err)
{
	if (reads_left == 0)
		return llm_fail(err, LLM_CANCELLED, "cancelled");
	reads_left--;
	largest_read = count > largest_read ? count : largest_read;
	last_file = file;
	for (size_t i = 0; i < count; i++)
	{
		float number = (float) ((offset + i) / 4);

		((uint8_t *) out)[i] = ((uint8_t *) &number)[(offset + i) % 4];
	}
	return true;
}

static bool
add(tensor_source *s, const char *name, source_type type, size_t count, uint64_t offset, llm_error *err)
{
	source_tensor t = {(char *) name, type, 1, {(int64_t) count}, count, 5, offset, 4 * count, "F32"};

	return tensor_source_add(s, &t, err);
}

static void
test_find(void)
{
	tensor_source s = {.read = read_rule};
	llm_error err = {0};
	char name[16];

	CHECK(tensor_source_find(&s, "a") == NULL);
	CHECK(tensor_source_sort(&s, &err));
	for (int i = 0; i < 100; i++)
	{
		sprintf(name, "t%d", i * 37 % 100);
		CHECK(add(&s, name, SOURCE_F32, 1, 4 * i, &err));
	}
	CHECK(tensor_source_sort(&s, &err));
	CHECK_INT(s.count, 100);
	for (int i = 0; i < 100; i++)
	{
		sprintf(name, "t%d", i * 37 % 100);
		CHECK_INT(tensor_source_find(&s, name)->offset, 4 * i);
	}
	CHECK(tensor_source_find(&s, "t") == NULL && tensor_source_find(&s, "t999") == NULL);
	CHECK(add(&s, "t7", SOURCE_F32, 1, 0, &err));
	CHECK(!tensor_source_sort(&s, &err));
	CHECK_INT(err.code, LLM_CORRUPT);
	CHECK_STR(err.message, "two tensors are named \"t7\"");
	tensor_source_clear(&s);
	CHECK(s.count == 0 && s.tensors == NULL);
}

static bool
counts_up(const float *numbers, size_t first, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (numbers[i] != (float) (first + i))
			return false;
	return true;
}

static void
test_read(void)
{
	tensor_source s = {.read = read_rule};
	llm_error err = {0};
	float *numbers = malloc(LARGE * sizeof(float));
	const source_tensor *t;

	CHECK(add(&s, "a", SOURCE_F32, LARGE, 400, &err) && tensor_source_sort(&s, &err));
	t = tensor_source_find(&s, "a");
	CHECK(tensor_source_read(&s, t, 0, LARGE, numbers, &err));
	CHECK(counts_up(numbers, 100, LARGE));
	CHECK(largest_read <= 4 << 20);
	CHECK_INT(last_file, 5);
	CHECK(tensor_source_read(&s, t, LARGE - 3, 3, numbers, &err) && counts_up(numbers, 100 + LARGE - 3, 3));
	CHECK(tensor_source_read(&s, t, LARGE, 0, numbers, &err));
	CHECK_STR(err.message, "");
	reads_left = 1;
	CHECK(!tensor_source_read(&s, t, 0, LARGE, numbers, &err));
	CHECK_INT(err.code, LLM_CANCELLED);
	reads_left = -1;
	free(numbers);
	tensor_source_clear(&s);
}

static void
check_refused(const tensor_source *s, const char *name, size_t first, size_t count, const char *message)
{
	llm_error err = {0};
	float numbers[64];

	CHECK(!tensor_source_read(s, tensor_source_find(s, name), first, count, numbers, &err));
	CHECK_INT(err.code, LLM_INVALID);
	CHECK(strstr(err.message, message) != NULL);
}

static void
test_refused(void)
{
	tensor_source s = {.read = read_rule};
	llm_error err = {0};

	CHECK(add(&s, "plain", SOURCE_F32, 10, 0, &err) && add(&s, "blocks", SOURCE_Q8_0, 64, 0, &err) &&
		  add(&s, "other", SOURCE_OTHER, 10, 0, &err) && tensor_source_sort(&s, &err));
	check_refused(&s, "plain", 0, 11, "tensor plain F32 (10) does not have numbers 0 to 10");
	check_refused(&s, "plain", 11, 0, "does not have");
	check_refused(&s, "plain", 5, SIZE_MAX - 2, "does not have");
	check_refused(&s, "plain", SIZE_MAX, 1, "does not have");
	check_refused(&s, "blocks", 0, 16, "is read in blocks of 32 numbers");
	check_refused(&s, "blocks", 16, 32, "is read in blocks of 32 numbers");
	check_refused(&s, "other", 0, 1, "cannot be read as numbers");
	tensor_source_clear(&s);
}

static void
test_text(void)
{
	source_tensor t = {
		.name = "gr\xC3\xBCn", .type_name = "Q4_K", .ndim = 8, .dims = {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX}};

	for (int i = 4; i < 8; i++)
		t.dims[i] = INT64_MAX;
	CHECK(strlen(SOURCE_TEXT(&t)) == SOURCE_TEXT_BYTES - 1);
	t.ndim = 2;
	t.dims[1] = 0;
	CHECK_STR(SOURCE_TEXT(&t), "gr??n Q4_K (9223372036854775807, 0)");
}

int
main(void)
{
	test_find();
	test_read();
	test_refused();
	test_text();
	return test_summary();
}
