/*
 * test_template.c
 *	  Chat templates: the prompts that transformers makes of them, marks, and limits.
 *
 * golden/make_templates.py writes what is compared with.
 */
#include <libgen.h>
#include <stdlib.h>

#include "../../src/text/template.h"
#include "test.h"

/* 26 July 2024, 15:04:05, as the golden file was made. */
static const struct tm now = {.tm_year = 124,
							  .tm_mon = 6,
							  .tm_mday = 26,
							  .tm_hour = 15,
							  .tm_min = 4,
							  .tm_sec = 5,
							  .tm_wday = 5,
							  .tm_yday = 207};

/* The prompt with a zero byte behind it, or NULL; to be freed, as are *marks. */
static char *
render(const char *source, const json_t *given, const json_t *own, char **marks, llm_error *err)
{
	chat_template *t = template_parse(source, strlen(source), err);
	text_buffer text = {0}, marked = {0};
	bool ok = t != NULL && template_render(t, given, own, &now, &text, &marked, err);

	template_free(t);
	*marks = NULL;
	if (ok)
	{
		text.bytes = realloc(text.bytes, text.size + 1);
		text.bytes[text.size] = '\0';
		marked.bytes = realloc(marked.bytes, marked.size + 1);
		marked.bytes[marked.size] = '\0';
		*marks = marked.bytes;
		return text.bytes;
	}
	free(text.bytes);
	free(marked.bytes);
	return NULL;
}

/* ---- what transformers makes ---- */

static void
check_case(const char *name, const char *source, const json_t *given, const json_t *own, const char *expected)
{
	llm_error err = {0};
	char *marks, *text = render(source, given, own, &marks, &err);

	if (!CHECK_STR(text, expected))
		fprintf(stderr, "template %s: %s\n", name, err.message);
	CHECK((text == NULL) == (err.code != LLM_OK));
	free(text);
	free(marks);
}

static void
test_golden(const char *program)
{
	char path[1024], folder[1024];
	json_t *tests, *test, *one;
	size_t i, k;
	json_error_t why;

	snprintf(folder, sizeof(folder), "%s", program);
	snprintf(path, sizeof(path), "%.900s/../golden/templates.json", dirname(folder));
	tests = json_load_file(path, 0, &why);
	CHECK(json_array_size(tests) > 30);
	json_array_foreach(tests, i, test)
		json_array_foreach(json_object_get(test, "cases"), k, one)
			check_case(json_string_value(json_object_get(test, "name")),
					   json_string_value(json_object_get(test, "template")), json_object_get(one, "given"),
					   json_object_get(one, "own"), json_string_value(json_object_get(one, "text")));
	json_decref(tests);
}

/* ---- marks ---- */

/* Marks as text: 'x' for a byte that came from the messages, '.' for one of the template. */
static void
check_marks(const char *source, const char *expected_text, const char *expected_marks)
{
	json_t *given = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", " a<s>b ");
	llm_error err = {0};
	char *marks, *text = render(source, given, NULL, &marks, &err);

	CHECK_STR(err.message, "");
	CHECK_STR(text, expected_text);
	for (size_t i = 0; text != NULL && i < strlen(text); i++)
		marks[i] = marks[i] ? 'x' : '.';
	CHECK_STR(marks, expected_marks);
	free(text);
	free(marks);
	json_decref(given);
}

static void
test_marks(void)
{
	check_marks("<s>{{ messages[0].content }}</s>", "<s> a<s>b </s>", "...xxxxxxx....");
	check_marks("<s>{{ '[' + messages[0].content | trim ~ ']' }}", "<s>[a<s>b]", "....xxxxx.");
	check_marks("{{ messages[0].content.replace('s', '<s>').upper() }}", " A<<S>>B ", "xxx...xxx");
	check_marks("{{ messages[0].content.split('<') | join('|') }}", " a|s>b ", "xx.xxxx");
	check_marks("{{ messages[0].content[1:3] }}{{ messages[0].content | tojson }}", "a<\" a<s>b \"", "xx.xxxxxxx.");
	check_marks("{% set x %}<s>{{ messages[0].content }}{% endset %}{{ x | trim }}", "<s> a<s>b", "...xxxxxx");
	check_marks("{% macro m(t) %}({{ t }}){% endmacro %}{{ m(messages[0]['content'] | title) }}", "( A<S>B )",
				".xxxxxxx.");
	check_marks("{{ messages[0] | tojson }}", "{\"role\": \"user\", \"content\": \" a<s>b \"}",
				"..xxxx....xxxx....xxxxxxx....xxxxxxx..");
	check_marks("{{ messages[0].content[::-1] }}{{ messages[0].content | list | first }}", " b>s<a  ", "xxxxxxxx");
}

/* ---- errors and limits ---- */

static void
check_error(const char *source, const char *message)
{
	llm_error err = {0};
	char *marks, *text = render(source, NULL, NULL, &marks, &err);

	CHECK(text == NULL);
	CHECK_STR(err.message, message);
	free(text);
	free(marks);
}

static void
test_errors(void)
{
	check_error("a\n{{ x.y }}", "line 2 of the chat template: \"x\" is undefined");
	check_error("{% include 'x' %}", "line 1 of the chat template: the statement \"include\" is not supported");
	check_error("\n\n{{ 'a' | xmlattr }}", "line 3 of the chat template: the filter \"xmlattr\" is not supported");
	check_error("{{ 'a' is odd_one }}", "line 1 of the chat template: the test \"odd_one\" is not supported");
	check_error("{{ cycler(1) }}", "line 1 of the chat template: \"cycler\" is not supported, or undefined");
	check_error("{{ raise_exception('Only two roles') }}", "line 1 of the chat template: Only two roles");
	check_error("{% if x %}\n{% for y in z %}", "line 2 of the chat template: endfor is missing");
	check_error("{{ [1] }}", "line 1 of the chat template: a list is no text; tojson can write lists and dicts");
	check_error("{# no end", "line 1 of the chat template: a comment does not end");
	check_error("{{ 99999999999999999999 }}", "line 1 of the chat template: \"99999999999999999999\" is no number");
	check_error("{{ 9223372036854775807 + 1 }}", "line 1 of the chat template: a number is too large");
	check_error("{% for x in range(1000000000) %}{% endfor %}",
				"line 1 of the chat template: a range is larger than 100000");
	check_error("{% set t = 'x' * 1000000 %}{% for a in range(1000) %}{% if 'y' in t %}{% endif %}{% endfor %}",
				"line 1 of the chat template: the template takes more than 50000000 steps");
	check_error("{% set ns = namespace(t='x') %}{% for i in range(40) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
				"a chat template needs more than 256 MB of memory");
	check_error("{% set ns = namespace(l=[]) %}{% for i in range(100) %}{% set ns.l = [ns.l] %}{% endfor %}",
				"line 1 of the chat template: a value has more than 64 levels");
	check_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
				"line 1 of the chat template: more than 400 steps within each other");
}

/* Constructs within each other, many times. */
static void
test_depth(void)
{
	static const char *const parts[] = {
		"(", "[", "-", "not ", "{% if 1 %}", "{% for x in [1] %}", "{{ 1 if ", "1 if 1 else ", "a.", "1 + ", "m("};
	static char source[200000];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
	{
		llm_error err = {0};
		chat_template *t;
		char *marks;

		strcpy(source, parts[i][0] == '{' ? "" : "{{ ");
		for (int n = 0; n < 10000; n++)
			memcpy(source + strlen(source), parts[i], strlen(parts[i]) + 1);
		strcat(source, parts[i][0] == '{' ? "" : "1 }}");
		t = template_parse(source, strlen(source), &err);
		if (t != NULL)
			CHECK(render(source, NULL, NULL, &marks, &err) == NULL || i == 3);
		template_free(t);
	}
}

int
main(int argc, char **argv)
{
	test_golden(argv[0]);
	test_marks();
	test_errors();
	test_depth();
	return test_summary();
}
