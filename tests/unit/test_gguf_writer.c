/*
 * test_gguf_writer.c
 *	  GGUF files that are written and read again, and what is not written.
 */
#include "../../src/format/gguf_writer.h"
#include "gguf_helper.h"

static bool
take_bytes(void *arg, const void *from, size_t count, llm_error *err)
{
	if (count > sizeof(bytes) - size)
		return llm_fail(err, LLM_UNAVAILABLE, "the disk is full");
	if (count > 0)
		memcpy(bytes + size, from, count);
	size += count;
	return true;
}

static const source_type written[] = {SOURCE_F32, SOURCE_F16, SOURCE_BF16, SOURCE_Q8_0, SOURCE_Q4_0};
static const char *const names[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};

static gguf_writer *
plan_file(llm_error *err)
{
	gguf_writer *w = gguf_writer_new(err);

	gguf_writer_string(w, "general.architecture", "llama", 5);
	gguf_writer_u32(w, "u32", 7);
	gguf_writer_f32(w, "f32", -0.5f);
	gguf_writer_bool(w, "bool", true);
	gguf_writer_i32s(w, "i32s", (int32_t[]) {-1, 2}, 2);
	gguf_writer_f32s(w, "f32s", (float[]) {0.5f}, 1);
	gguf_writer_strings(w, "strings", 2);
	gguf_writer_element(w, "a\0b", 3);
	gguf_writer_element(w, "", 0);
	CHECK(gguf_writer_tensor(w, "none", SOURCE_F32, 2, (int64_t[]) {0, 5}, err));
	for (int i = 0; i < 5; i++)
		CHECK(gguf_writer_tensor(w, names[i], written[i], 2, (int64_t[]) {3, 32}, err));
	CHECK(gguf_writer_tensor(w, "scalar", SOURCE_F32, 0, NULL, err));
	return w;
}

static void
check_written(void)
{
	llm_error err = {0};
	tensor_source s = {.read = read_bytes};
	gguf *g = gguf_open(read_bytes, NULL, 0, claimed, &err);
	gguf_strings strings;
	double *many, d;
	size_t count;
	int64_t n;
	bool yes;

	if (!CHECK(g != NULL))
		return;
	CHECK(gguf_read_int(g, "u32", 7, 7, &n, &err) && gguf_read_number(g, "f32", -0.5, -0.5, &d, &err));
	CHECK(gguf_read_bool(g, "bool", &yes, &err) && yes);
	CHECK(gguf_read_numbers(g, "i32s", 2, 2, -1, 2, &many, &count, &err) && many[0] == -1);
	free(many);
	CHECK(gguf_read_numbers(g, "f32s", 1, 1, 0.5, 0.5, &many, &count, &err));
	free(many);
	CHECK(gguf_read_strings(g, "strings", 2, &strings, &err) && strings.count == 2);
	CHECK(memcmp(gguf_string_at(&strings, 0, &count), "a\0b", 4) == 0 && count == 3);
	CHECK(gguf_source(g, &s, &err) && tensor_source_sort(&s, &err));
	CHECK_INT(s.count, 7);
	for (int i = 0; i < 5; i++)
		check_tensor(&s, names[i], written[i], (float[]) {0, 0, 0.02f, 0.04f, 1}[i]);
	CHECK_INT(tensor_source_find(&s, "none")->count, 0);
	CHECK_INT(tensor_source_find(&s, "scalar")->ndim, 0);
	CHECK_STR(err.message, "");
	tensor_source_clear(&s);
	gguf_close(g);
}

static void
test_written(void)
{
	llm_error err = {0};
	gguf_writer *w = plan_file(&err);
	float numbers[96];
	uint64_t total;

	for (int i = 0; i < 96; i++)
		numbers[i] = (float) i / 8 - 4;
	size = 0;
	CHECK(gguf_writer_begin(w, take_bytes, NULL, &total, &err));
	for (int i = 0; i < 5; i++)
		CHECK(gguf_writer_numbers(w, numbers, 32, &err) && gguf_writer_numbers(w, numbers + 32, 64, &err));
	CHECK(!gguf_writer_done(w) && !gguf_writer_numbers(w, numbers, 2, &err));
	CHECK_INT(err.code, LLM_INVALID);
	err.code = LLM_OK;
	CHECK(gguf_writer_numbers(w, numbers, 1, &err) && gguf_writer_done(w));
	CHECK(!gguf_writer_numbers(w, numbers, 1, &(llm_error) {0}));
	gguf_writer_free(w);
	CHECK_INT(size, total);
	claimed = size;
	check_written();
}

static void
test_refused(void)
{
	llm_error err = {0};
	gguf_writer *w = gguf_writer_new(&err);
	uint64_t total;
	char name[65];

	memset(name, 'a', 64);
	name[64] = '\0';
	CHECK(!gguf_writer_tensor(w, name, SOURCE_F32, 0, NULL, &(llm_error) {0}));
	CHECK(!gguf_writer_tensor(w, "", SOURCE_F32, 0, NULL, &(llm_error) {0}));
	CHECK(!gguf_writer_tensor(w, "a", SOURCE_Q6_K, 1, (int64_t[]) {256}, &(llm_error) {0}));
	CHECK(!gguf_writer_tensor(w, "a", SOURCE_OTHER, 0, NULL, &(llm_error) {0}));
	CHECK(!gguf_writer_tensor(w, "a", SOURCE_Q8_0, 2, (int64_t[]) {32, 31}, &(llm_error) {0}));
	CHECK(!gguf_writer_tensor(w, "a", SOURCE_F32, 5, (int64_t[]) {1, 1, 1, 1, 1}, &(llm_error) {0}));
	CHECK(!gguf_writer_tensor(w, "a", SOURCE_F32, 2, (int64_t[]) {INT64_MAX, 4}, &err));
	CHECK_STR(err.message, "tensor \"a\" has a shape that cannot be written as F32");
	err.code = LLM_OK;
	size = sizeof(bytes) - 10;
	CHECK(!gguf_writer_begin(w, take_bytes, NULL, &total, &err));
	CHECK_STR(err.message, "the disk is full");
	gguf_writer_free(w);
}

int
main(void)
{
	test_written();
	test_refused();
	return test_summary();
}
