/*
 * test_checkpoint_index.c
 *	  The index of a checkpoint of several files, and whether the files have what it says.
 */
#include "../../src/format/checkpoint_index.h"
#include "test.h"

static checkpoint_index *
parse(const char *text, llm_error *err)
{
	*err = (llm_error) {0};
	return checkpoint_index_parse(text, strlen(text), err);
}

static void
check_refused(const char *text, const char *message)
{
	llm_error err;
	checkpoint_index *x = parse(text, &err);

	CHECK(x == NULL);
	CHECK_INT(err.code, LLM_CORRUPT);
	if (!CHECK(strstr(err.message, message) != NULL))
		fprintf(stderr, "%s: %s\n", text, err.message);
	checkpoint_index_free(x);
}

static void
test_refused(void)
{
	static const char *const elsewhere[] = {"../a.safetensors",    "/etc/a.safetensors", "b/a.safetensors",
											"..\\\\a.safetensors", "C:a.safetensors",    ".a.safetensors",
											"...safetensors"};
	static const char *const no_name[] = {"", ".safetensors", "a.bin", "..", "a.safetensors.bin"};
	char text[512];

	check_refused("[]", "is not an object");
	check_refused("{", "invalid JSON");
	check_refused("{}", "key \"weight_map\" is missing");
	check_refused("{\"weight_map\":[]}", "is not an object");
	check_refused("{\"weight_map\":{}}", "names 0 tensors");
	check_refused("{\"weight_map\":{\"a\":1}}", "tensor \"a\" of the index is not given");
	check_refused("{\"weight_map\":{\"a\":\"a.safetensors\",\"a\":\"b.safetensors\"}}", "duplicate");
	check_refused("{\"weight_map\":{\"a\":\"a\\n.safetensors\"}}", "a control character");
	check_refused("{\"weight_map\":{\"a\":\"a\\u0000.safetensors\"}}", "invalid JSON");
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
	{
		sprintf(text, "{\"weight_map\":{\"a\":\"%s\"}}", elsewhere[i]);
		check_refused(text, "which may be in another folder");
	}
	for (size_t i = 0; i < sizeof(no_name) / sizeof(no_name[0]); i++)
	{
		sprintf(text, "{\"weight_map\":{\"a\":\"%s\"}}", no_name[i]);
		check_refused(text, "no name of a file");
	}
	memset(text, 'a', sizeof(text));
	sprintf(text + sizeof(text) - 20, ".safetensors\"}}");
	memcpy(text, "{\"weight_map\":{\"a\":\"", 20);
	check_refused(text, "no name of a file");
}

static bool
add(tensor_source *s, const char *name, int32_t file)
{
	llm_error err = {0};
	source_tensor t = {.name = (char *) name, .file = file, .count = 1, .bytes = 4, .type_name = "F32"};

	return tensor_source_add(s, &t, &err) && tensor_source_sort(s, &err);
}

static void
test_places(void)
{
	llm_error err;
	tensor_source s = {NULL};
	checkpoint_index *x =
		parse("{\"metadata\":{\"total_size\":12},\"weight_map\":{\"w\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\","
			  "\"b\":\"m-2.safetensors\"}}",
			  &err);

	if (!CHECK(x != NULL))
		return;
	CHECK_INT(checkpoint_index_count(x), 2);
	CHECK_STR(checkpoint_index_file(x, 0), "m-1.safetensors");
	CHECK_STR(checkpoint_index_file(x, 1), "m-2.safetensors");
	CHECK(add(&s, "a", 0) && add(&s, "b", 1) && add(&s, "more", 1));
	CHECK(!checkpoint_index_check(x, &s, &err));
	CHECK_STR(err.message, "no file has tensor \"w\" of the index");
	err = (llm_error) {0};
	CHECK(add(&s, "w", 0));
	CHECK(!checkpoint_index_check(x, &s, &err));
	CHECK_STR(err.message, "tensor \"w\" is not in file \"m-2.safetensors\", where the index has it");
	err = (llm_error) {0};
	for (int32_t i = 0; i < s.count; i++)
		if (strcmp(s.tensors[i].name, "w") == 0)
			s.tensors[i].file = 1;
	CHECK(checkpoint_index_check(x, &s, &err));
	s.tensors[0].file = 2;
	CHECK(!checkpoint_index_check(x, &s, &err));
	tensor_source_clear(&s);
	checkpoint_index_free(x);
}

int
main(void)
{
	test_refused();
	test_places();
	return test_summary();
}
