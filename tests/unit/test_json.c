/*
 * test_json.c
 *	  Typed, bounded reading of JSON.
 */
#include <stdlib.h>

#include "../../src/format/json.h"
#include "test.h"

static const char *const sample = "{\"o\":{},\"a\":[1,2,3],\"s\":\"text\",\"i\":5,\"n\":1.5,\"b\":true,\"z\":null}";

static void
test_parse(void)
{
	static const char *const bad[] = {"",         "{",   "{\"a\":1,\"a\":2}", "[1,]", "{} {}",
									  "\"\xff\"", "nul", "\"\\u0000\""};
	llm_error err = {.code = LLM_OK};
	json_t *json;
	char *text;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		err.code = LLM_OK;
		CHECK(json_parse(bad[i], strlen(bad[i]), &err) == NULL);
		CHECK_INT(err.code, LLM_CORRUPT);
	}
	err.code = LLM_OK;
	json = json_parse(sample, strlen(sample), &err);
	text = json_text(json);
	CHECK_STR(text, sample);
	free(text);
	json_decref(json);
}

static void
test_doubles(void)
{
	double numbers[] = {0.1, 1.0 / 3, -2.5e-300, 1e100, 123456789.123456789, 5e-324, 1};
	json_t *array = json_array();
	json_t *back;
	llm_error err = {.code = LLM_OK};
	char *text;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		json_array_append_new(array, json_real(numbers[i]));
	text = json_text(array);
	back = json_parse(text, strlen(text), &err);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		CHECK(json_number_value(json_array_get(back, i)) == numbers[i]);
	free(text);
	json_decref(array);
	json_decref(back);
}

/* A failed reading leaves this message. */
static void
expect(bool ok, llm_error *err, const char *message)
{
	CHECK(!ok);
	CHECK_INT(err->code, LLM_CORRUPT);
	CHECK_STR(err->message, message);
	err->code = LLM_OK;
}

static void
test_members(void)
{
	llm_error err = {.code = LLM_OK};
	json_t *json = json_parse(sample, strlen(sample), &err);
	const json_t *part;
	const char *string;
	int64_t integer;
	double number;
	bool flag;

	CHECK(json_read_object(json, "o", &part, &err));
	CHECK(json_read_array(json, "a", 3, &part, &err));
	CHECK(json_read_string(json, "s", &string, &err));
	CHECK_STR(string, "text");
	CHECK(json_read_int(json, "i", 5, 5, &integer, &err));
	CHECK_INT(integer, 5);
	CHECK(json_read_number(json, "n", 0, 2, &number, &err) && json_read_number(json, "i", 0, 9, &number, &err));
	CHECK(json_read_bool(json, "b", &flag, &err) && flag);

	expect(json_read_object(json, "x", &part, &err), &err, "key \"x\" is missing");
	expect(json_read_object(json, "a", &part, &err), &err, "key \"a\" is not an object");
	expect(json_read_array(json, "a", 2, &part, &err), &err, "array \"a\" has 3 elements, at most 2 are allowed");
	expect(json_read_array(json, "o", 2, &part, &err), &err, "key \"o\" is not an array");
	expect(json_read_string(json, "z", &string, &err), &err, "key \"z\" is not a string");
	expect(json_read_int(json, "n", 0, 9, &integer, &err), &err, "key \"n\" is not an integer");
	expect(json_read_int(json, "i", 6, 9, &integer, &err), &err, "\"i\" is 5, outside 6 to 9");
	expect(json_read_number(json, "b", 0, 9, &number, &err), &err, "key \"b\" is not a number");
	expect(json_read_number(json, "n", 2, 9, &number, &err), &err, "\"n\" is 1.5, outside 2 to 9");
	expect(json_read_bool(json, "i", &flag, &err), &err, "key \"i\" is not true or false");
	json_decref(json);
}

static void
test_numbers(void)
{
	llm_error err = {.code = LLM_OK};
	json_t *json = json_parse(sample, strlen(sample), &err);
	double *numbers = NULL;
	int32_t count;

	CHECK(json_read_numbers(json, "a", 3, 3, 1, 3, &numbers, &count, &err));
	CHECK_INT(count, 3);
	CHECK_NEAR(numbers[2], 3, 0);
	free(numbers);
	expect(json_read_numbers(json, "a", 4, 9, 0, 9, &numbers, &count, &err), &err,
		   "array \"a\" has 3 elements, at least 4 are needed");
	expect(json_read_numbers(json, "a", 0, 2, 0, 9, &numbers, &count, &err), &err,
		   "array \"a\" has 3 elements, at most 2 are allowed");
	expect(json_read_numbers(json, "a", 0, 3, 0, 2, &numbers, &count, &err), &err,
		   "element 2 of \"a\" is not a number from 0 to 2");
	json_decref(json);
}

/* Bytes in any encoding come back as they were. */
static void
test_bytes(void)
{
	static const char *const cases[] = {"", "plain", "gr\xC3\xBCn", "caf\xE9", "\xFF\x01\"\\"};
	llm_error err = {.code = LLM_OK};
	json_t *holder = json_object();
	char *name;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		json_t *json = json_bytes(cases[i], strlen(cases[i]));
		char *text = json_text(json);
		json_t *back = json_parse(text, strlen(text), &err);
		size_t length = 0;
		char *bytes = json_take_bytes(back, "k", 16, &length, &err);

		CHECK_INT(length, strlen(cases[i]));
		CHECK_STR(bytes, cases[i]);
		free(bytes);
		free(text);
		json_decref(json);
		json_decref(back);
	}
	json_object_set_new(holder, "name", json_bytes("a\0b", 3));
	expect(json_read_name(holder, "name", 16, &name, &err), &err, "string \"name\" contains a zero byte");
	expect(json_read_name(holder, "other", 16, &name, &err), &err, "key \"other\" is missing");
	json_object_set_new(holder, "name", json_string("four"));
	expect(json_read_name(holder, "name", 3, &name, &err), &err, "\"name\" has 4 bytes, at most 3 are allowed");
	json_object_set_new(holder, "name", json_pack("{s:s}", "hex", "0g"));
	expect(json_read_name(holder, "name", 3, &name, &err), &err, "\"name\" is not a string of hexadecimal digits");
	json_object_set_new(holder, "name", json_pack("{s:i}", "hex", 3));
	expect(json_read_name(holder, "name", 3, &name, &err), &err, "\"name\" is not a string");
	json_decref(holder);
}

int
main(void)
{
	test_parse();
	test_doubles();
	test_members();
	test_numbers();
	test_bytes();
	return test_summary();
}
