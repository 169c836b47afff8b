/*
 * test_feature_json.c
 *	  Encoders through JSON: the same bytes afterwards, and an error naming the key for everything wrong.
 */
#include "feature_sample.h"

static encoder *
read_text(const char *text, llm_error *err)
{
	json_t *json = json_parse(text, strlen(text), err);
	encoder *e = json ? encoder_from_json(json, err) : NULL;

	json_decref(json);
	return e;
}

static char *
text_of(const encoder *e)
{
	json_t *json = encoder_json(e);
	char *text = json_text(json);

	json_decref(json);
	return text;
}

static void
test_round_trip(const sample *s)
{
	llm_error err = {.code = LLM_OK};
	char *text = text_of(s->encoder);
	encoder *e = read_text(text, &err);
	char *again;
	batch *a = encoder_batch(s->encoder, SAMPLE_ROWS);
	batch *b;

	CHECK_STR(err.message, "");
	if (!CHECK(e != NULL))
		return;
	again = text_of(e);
	CHECK_STR(again, text);
	CHECK_INT(encoder_column_count(e), SAMPLE_COLUMNS);
	CHECK(!encoder_column_used(e, 8));
	CHECK_STR(encoder_column(e, 2)->sql_type, "timestamp with time zone");
	b = encoder_batch(e, SAMPLE_ROWS);
	for (int r = 0; r < SAMPLE_ROWS; r++)
		CHECK(encoder_row(s->encoder, s->rows + r * SAMPLE_COLUMNS, a, &err) &&
			  encoder_row(e, s->rows + r * SAMPLE_COLUMNS, b, &err));
	CHECK(batches_equal(a, b));
	CHECK(a->shape.embed_columns == 1 && a->shape.bag_rows > 8 && a->shape.dense > 20);
	batch_free(a);
	batch_free(b);
	encoder_free(e);
	free(text);
	free(again);
}

/* Column i of a fresh copy of the sample's JSON, for a test to break. */
static json_t *
broken(const json_t *whole, int column, json_t **copy)
{
	*copy = json_deep_copy(whole);
	return json_array_get(json_object_get(*copy, "columns"), column);
}

/* Setting key of column to the JSON in text (NULL: removing it) must fail with a message naming it. */
static void
expect_corrupt(const json_t *whole, int column, const char *key, const char *text)
{
	llm_error err = {.code = LLM_OK};
	json_t *copy;
	json_t *o = broken(whole, column, &copy);
	encoder *e;
	char quoted[64];

	if (text == NULL)
		json_object_del(o, key);
	else
		json_object_set_new(o, key, json_parse(text, strlen(text), &err));
	e = encoder_from_json(copy, &err);
	snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	if (!CHECK(e == NULL && err.code == LLM_CORRUPT && strstr(err.message, quoted) != NULL))
		fprintf(stderr, "  column %d, %s = %s: %s\n", column, key, text ? text : "(none)", err.message);
	encoder_free(e);
	json_decref(copy);
}

static const struct
{
	int column;
	const char *key;
	const char *text;
} wrong[] = {
	{0, "name", NULL},
	{0, "name", "3"},
	{0, "name", "{\"hex\":\"6100\"}"},
	{0, "name", "\"paid\""},
	{0, "type", NULL},
	{0, "kind", "\"colour\""},
	{0, "kind", "1"},
	{0, "integer", "0"},
	{0, "encoding", NULL},
	{0, "encoding", "\"fourier\""},
	{0, "encoding", "\"vector\""},
	{0, "missing", NULL},
	{0, "missing", "1"},
	{0, "center", "\"0\""},
	{0, "center", "1e101"},
	{0, "scale", "0"},
	{0, "scale", "-1"},
	{0, "scale", "1e-310"},
	{0, "low", "1e200"},
	{0, "high", "-1e99"},
	{0, "squash", NULL},
	{0, "edges", NULL},
	{0, "edges", "[1]"},
	{0, "edges", "[1,2]"},
	{0, "edges", "[1,2,2]"},
	{0, "edges", "[1,2,\"3\"]"},
	{0, "edges", "[1,2,1e101]"},
	{0, "edges", "{}"},
	{2, "parts", NULL},
	{2, "parts", "[\"minute\"]"},
	{2, "parts", "[\"hour\",\"hour\"]"},
	{2, "parts", "[1]"},
	{2, "parts", "[\"hour\",\"day\",\"month\",\"weekday\",\"hour\"]"},
	{2, "encoding", "\"number\""},
	{3, "missing", NULL},
	{3, "rare", "null"},
	{3, "categories", NULL},
	{3, "categories", "[1]"},
	{3, "categories", "[\"a\",\"a\"]"},
	{3, "categories", "[{\"hex\":\"E9\"}]"},
	{3, "categories", "[{\"hex\":\"e\"}]"},
	{4, "categories", "\"a\""},
	{4, "encoding", "\"time\""},
	{5, "missing", NULL},
	{5, "buckets", NULL},
	{5, "buckets", "1"},
	{5, "buckets", "2000000"},
	{5, "pairs", "0"},
	{5, "pairs", "100000"},
	{5, "rarity", NULL},
	{5, "rarity", "\"00\""},
	{5, "rarity", "7"},
	{6, "missing", NULL},
	{6, "squash", NULL},
	{6, "means", "[]"},
	{6, "means", NULL},
	{6, "means", "[1,2,true,4]"},
	{6, "scales", "[1,2,3]"},
	{6, "scales", "[1,2,3,-4]"},
	{6, "scales", "[1,2,3,1e200]"},
	{9, "shape", NULL},
	{9, "shape", "[2,3]"},
	{9, "shape", "[2,3,2,1]"},
	{9, "shape", "[2,0,2]"},
	{9, "shape", "[2,3,\"2\"]"},
	{9, "shape", "[2,100000,100000]"},
	{9, "means", "[1]"},
	{9, "scales", "[1,-1]"},
};

static void
test_corrupt(const sample *s)
{
	json_t *whole = encoder_json(s->encoder);
	llm_error err = {.code = LLM_OK};
	encoder *none;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		expect_corrupt(whole, wrong[i].column, wrong[i].key, wrong[i].text);
	json_decref(whole);
	CHECK(read_text("{}", &err) == NULL);
	CHECK_STR(err.message, "key \"columns\" is missing");
	err.code = LLM_OK;
	none = read_text("{\"columns\":[]}", &err); /* of a language model; what reads rows is refused by its network */
	CHECK(none != NULL && encoder_column_count(none) == 0);
	encoder_free(none);
	CHECK(read_text("{\"columns\":[[]]}", &err) == NULL);
	CHECK_STR(err.message, "element 0 of \"columns\" is not an object");
}

/* A text column without kept buckets and without missing values would have no row in the table. */
static void
test_empty_tables(void)
{
	llm_error err = {.code = LLM_OK};

	CHECK(read_text("{\"columns\":[{\"name\":\"t\",\"type\":\"text\",\"kind\":\"text\",\"integer\":false,"
					"\"encoding\":\"text\",\"missing\":false,\"buckets\":8,\"pairs\":1,\"length\":1,\"rarity\":"
					"\"0000000000000000\"}]}",
					&err) == NULL);
	CHECK_STR(err.message, "\"rarity\" of column \"t\" is empty");
	err.code = LLM_OK;
	CHECK(read_text("{\"columns\":[{\"name\":\"t\",\"type\":\"text\",\"kind\":\"text\",\"integer\":false,"
					"\"encoding\":\"one_hot\",\"missing\":false,\"rare\":false,\"categories\":[]}]}",
					&err) == NULL);
	CHECK_STR(err.message, "\"categories\" of column \"t\" is empty");
}

/* Each part is legal, all together are not. */
static void
test_too_wide(void)
{
	llm_error err = {.code = LLM_OK};
	json_t *columns = json_array();
	json_t *whole = json_object();
	json_t *numbers = json_array();
	encoder *e;

	for (int i = 0; i < 65536; i++)
		json_array_append_new(numbers, json_integer(1));
	for (int i = 0; i < 17; i++)
	{
		char name[16];

		snprintf(name, sizeof(name), "v%d", i);
		json_array_append_new(columns,
							  json_pack("{s:s, s:s, s:s, s:b, s:s, s:b, s:b, s:O, s:O}", "name", name, "type",
										"real[]", "kind", "vector", "integer", 0, "encoding", "vector", "missing", 0,
										"squash", 1, "means", numbers, "scales", numbers));
	}
	json_object_set_new(whole, "columns", columns);
	e = encoder_from_json(whole, &err);
	CHECK(e == NULL);
	CHECK_INT(err.code, LLM_CORRUPT);
	CHECK(strstr(err.message, "\"v16\"") != NULL);
	json_decref(numbers);
	json_decref(whole);
}

/* More columns than a row of PostgreSQL may have. */
static void
test_limits_by_name(void)
{
	llm_error err = {.code = LLM_OK};
	json_t *columns = json_array();
	json_t *whole = json_object();

	for (int i = 0; i < 1665; i++)
		json_array_append_new(columns, json_object());
	json_object_set_new(whole, "columns", columns);
	CHECK(encoder_from_json(whole, &err) == NULL);
	CHECK_STR(err.message, "array \"columns\" has 1665 elements, at most 1664 are allowed");
	json_decref(whole);
}

int
main(void)
{
	sample *s = sample_new(true);

	test_round_trip(s);
	test_corrupt(s);
	test_empty_tables();
	test_too_wide();
	test_limits_by_name();
	sample_free(s);
	return test_summary();
}
