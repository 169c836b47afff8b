/*
 * test_feature_target.c
 *	  Classes, numbers, and what cannot be predicted.
 */
#include "feature_helper.h"

static target *
fit_target(target_kind kind, const column *columns, int32_t count, const value *rows, int32_t n, llm_error *err)
{
	target_fitter *f = target_fitter_new(kind, columns, count, err);

	for (int32_t r = 0; f && r < n; r++)
		CHECK(target_fitter_add(f, rows + r * count, err));
	return f ? target_fitter_finish(f, err) : NULL;
}

static target *
round_trip(const target *t, llm_error *err)
{
	json_t *json = target_json(t);
	char *text = json_text(json);
	json_t *read = json_parse(text, strlen(text), err);
	target *back = read ? target_from_json(read, err) : NULL;

	CHECK_STR(err->code ? err->message : "", "");
	json_decref(json);
	json_decref(read);
	free(text);
	return back;
}

static void
test_classes(void)
{
	column c = COLUMN("label", "text", COLUMN_TEXT);
	value rows[] = {STRING("pear"), STRING("Apple"), STRING("pear"), STRING("fig \xE9")};
	value unseen = STRING("kiwi");
	value nothing = NOTHING;
	llm_error err = {.code = LLM_OK};
	target *t = fit_target(TARGET_CLASS, &c, 1, rows, 4, &err);
	target *back = round_trip(t, &err);
	batch_shape shape;

	for (int i = 0; i < 2; i++, t = back)
	{
		CHECK_INT(t->class_count, 3);
		CHECK_INT(t->outputs, 3);
		CHECK_STR(t->classes[0], "Apple");
		CHECK_STR(t->classes[1], "fig \xE9"); /* not UTF-8: stored as hexadecimal digits */
		CHECK_STR(t->classes[2], "pear");
		CHECK_INT(t->class_rows[2], 2);
		CHECK_INT(target_class_of(t, &rows[1]), 0);
		CHECK_INT(target_class_of(t, &rows[0]), 2);
		CHECK_INT(target_class_of(t, &unseen), -1);
		CHECK_INT(target_class_of(t, &nothing), -1);
		target_shape(t, &shape);
		CHECK_INT(shape.outputs, 3);
		CHECK(shape.class_target);
		target_free(t);
	}
}

static void
test_labels(void)
{
	column number = COLUMN("n", "integer", COLUMN_NUMBER);
	column single = COLUMN("n", "real", COLUMN_NUMBER);
	column boolean = COLUMN("b", "boolean", COLUMN_BOOLEAN);
	value rows[] = {NUMBER(10), NUMBER(9), NUMBER(-1), NUMBER(100)};
	value reals[] = {NUMBER((float) 0.1), NUMBER((float) 1e20)};
	value flags[] = {NUMBER(1), NUMBER(0)};
	llm_error err = {.code = LLM_OK};
	target *t = fit_target(TARGET_CLASS, &number, 1, rows, 4, &err);

	CHECK_STR(t->classes[0], "-1");
	CHECK_STR(t->classes[1], "9");
	CHECK_STR(t->classes[2], "10");
	CHECK_STR(t->classes[3], "100");
	CHECK_INT(target_class_of(t, &rows[0]), 2);
	target_free(t);
	t = fit_target(TARGET_CLASS, &single, 1, reals, 2, &err);
	CHECK_STR(t->classes[0], "0.1");
	CHECK_STR(t->classes[1], "1e+20");
	CHECK_INT(t->outputs, 1);
	target_free(t);
	t = fit_target(TARGET_CLASS, &boolean, 1, flags, 2, &err);
	CHECK_STR(t->classes[0], "false");
	CHECK_STR(t->classes[1], "true");
	CHECK_INT(target_class_of(t, &flags[0]), 1);
	target_free(t);
}

static void
test_numbers(void)
{
	column c[2] = {COLUMN("y", "real", COLUMN_NUMBER), COLUMN("z", "real", COLUMN_NUMBER)};
	column v = COLUMN("v", "real[]", COLUMN_VECTOR);
	float first[] = {1, 2, 3}, second[] = {3, 2, 7};
	value rows[] = {NUMBER(1), NUMBER(10), NUMBER(3), NUMBER(30)};
	value vectors[] = {VECTOR(first, 3), VECTOR(second, 3)};
	llm_error err = {.code = LLM_OK};
	target *t = fit_target(TARGET_NUMBER, c, 2, rows, 2, &err);
	target *back = round_trip(t, &err);

	for (int i = 0; i < 2; i++, t = back)
	{
		CHECK_INT(t->outputs, 2);
		CHECK_STR(t->names[1], "z");
		CHECK_NEAR(t->mean[0], 2, 0);
		CHECK_NEAR(t->scale[0], 1, 0);
		CHECK_NEAR(t->mean[1], 20, 0);
		CHECK_NEAR(t->scale[1], 10, 0);
		target_free(t);
	}
	t = fit_target(TARGET_NUMBER, &v, 1, vectors, 2, &err);
	CHECK_INT(t->outputs, 3);
	CHECK_NEAR(t->mean[2], 5, 0);
	CHECK_NEAR(t->scale[1], 1, 0); /* constant */
	target_free(t);
}

static void
expect_error(const char *message, bool ok, const llm_error *err)
{
	CHECK(!ok);
	CHECK_INT(err->code, LLM_INVALID);
	CHECK(strstr(err->message, message) != NULL);
	CHECK(err->hint[0] != '\0');
}

static void
test_refused(void)
{
	column c[2] = {COLUMN("y", "text", COLUMN_TEXT), COLUMN("z", "text", COLUMN_TEXT)};
	value same[] = {STRING("a"), STRING("a")};
	value infinite = NUMBER(INFINITY);
	llm_error err = {.code = LLM_OK};
	target_fitter *f;
	bool ok = true;
	int added = 0;

	expect_error("same value", fit_target(TARGET_CLASS, c, 1, same, 2, &err) != NULL, &err);
	err = (llm_error) {.code = LLM_OK};
	expect_error("no training row", fit_target(TARGET_CLASS, c, 1, same, 0, &err) != NULL, &err);
	err = (llm_error) {.code = LLM_OK};
	expect_error("2 target columns", target_fitter_new(TARGET_CLASS, c, 2, &err) != NULL, &err);
	err = (llm_error) {.code = LLM_OK};
	f = target_fitter_new(TARGET_NUMBER, c, 1, &err);
	expect_error("finite numbers", target_fitter_add(f, &infinite, &err), &err);
	err = (llm_error) {.code = LLM_OK};
	CHECK(target_fitter_finish(f, &err) == NULL);

	err = (llm_error) {.code = LLM_OK};
	f = target_fitter_new(TARGET_CLASS, c, 1, &err);
	for (; ok && added < 70000; added += ok)
	{
		value v = NUMBER(added);

		ok = target_fitter_add(f, &v, &err);
	}
	CHECK_INT(added, 65536);
	expect_error("more than 65536 classes", ok, &err);
	err = (llm_error) {.code = LLM_OK};
	target_free(target_fitter_finish(f, &err));
}

static void
test_corrupt(void)
{
	static const char *const bad[][2] = {
		{"{}", "\"kind\" is missing"},
		{"{\"kind\":\"x\",\"columns\":[]}", "\"kind\" of the target"},
		{"{\"kind\":\"class\",\"columns\":[]}", "\"columns\""},
		{"{\"kind\":\"class\",\"columns\":[1]}", "element 0 of \"columns\""},
		{"{\"kind\":\"class\",\"columns\":[{\"name\":1}]}", "\"name\""},
		{"{\"kind\":\"class\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"classes\":[\"a\"],\"class_rows\":[1]}",
		 "1 \"classes\""},
		{"{\"kind\":\"class\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"classes\":[\"a\",\"b\"],\"class_rows\":"
		 "[1]}",
		 "\"class_rows\""},
		{"{\"kind\":\"class\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"classes\":[\"a\",\"b\"],\"class_rows\":"
		 "[1,-1]}",
		 "element 1 of \"class_rows\""},
		{"{\"kind\":\"class\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"classes\":[\"b\",\"a\"],\"class_rows\":"
		 "[1,1]}",
		 "out of order"},
		{"{\"kind\":\"class\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"classes\":[\"a\",\"a\"],\"class_rows\":"
		 "[1,1]}",
		 "repeated"},
		{"{\"kind\":\"class\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"classes\":[\"10\",\"9\"],\"class_"
		 "rows\":[1,1]}",
		 "out of order"},
		{"{\"kind\":\"class\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"classes\":[\"a\",{\"hex\":\"zz\"}],"
		 "\"class_rows\":[1,1]}",
		 "hexadecimal"},
		{"{\"kind\":\"class\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"classes\":[\"a\",{\"hex\":\"6200\"}],"
		 "\"class_rows\":[1,1]}",
		 "zero byte"},
		{"{\"kind\":\"number\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"means\":[]}", "\"means\""},
		{"{\"kind\":\"number\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"means\":[1],\"scales\":[0]}",
		 "\"scales\""},
		{"{\"kind\":\"number\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"means\":[1],\"scales\":[1,1]}",
		 "\"scales\""},
		{"{\"kind\":\"number\",\"columns\":[{\"name\":\"y\",\"type\":\"t\"}],\"means\":[1e200],\"scales\":[1]}",
		 "\"means\""},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		llm_error err = {.code = LLM_OK};
		json_t *json = json_parse(bad[i][0], strlen(bad[i][0]), &err);

		CHECK(json != NULL);
		CHECK(target_from_json(json, &err) == NULL);
		CHECK_INT(err.code, LLM_CORRUPT);
		if (!CHECK(strstr(err.message, bad[i][1]) != NULL))
			fprintf(stderr, "  %s: %s\n", bad[i][0], err.message);
		json_decref(json);
	}
}

int
main(void)
{
	test_classes();
	test_labels();
	test_numbers();
	test_refused();
	test_corrupt();
	return test_summary();
}
