/*
 * test_feature_findings.c
 *	  What is noticed about columns, and which ones are not used.
 */
#include "feature_helper.h"

#define ROWS 100

/* Fit two columns of which the second, "other", is plain noise; returns whether the first is used. */
static bool
fit_beside_noise(column c, const value *values, const double *target, finding **findings)
{
	column columns[2] = {c, COLUMN("other", "real", COLUMN_NUMBER)};
	value rows[2 * ROWS];
	llm_error err = {.code = LLM_OK};
	encoder *e;
	bool used;

	for (int r = 0; r < ROWS; r++)
	{
		rows[2 * r] = values[r];
		rows[2 * r + 1] = NUMBER(r * 37 % 11 * 0.5);
	}
	e = fit_rows(columns, 2, &default_options, rows, ROWS, target, findings, &err);
	if (!CHECK(e != NULL))
		return false;
	CHECK(encoder_column_used(e, 1));
	CHECK_STR(encoder_column(e, 0)->name, c.name);
	used = encoder_column_used(e, 0);
	encoder_free(e);
	return used;
}

static void
expect(column c, const value *values, const double *target, const char *kind, bool used)
{
	finding *findings = NULL;

	CHECK(fit_beside_noise(c, values, target, &findings) == used);
	if (kind == NULL)
		CHECK(findings == NULL);
	else if (CHECK(find_finding(findings, c.name, kind) != NULL))
	{
		CHECK(find_finding(findings, c.name, kind)->dropped == !used);
		CHECK(strlen(find_finding(findings, c.name, kind)->message) > 20);
	}
	finding_free(findings);
}

static void
test_constant(void)
{
	value v[ROWS];

	for (int r = 0; r < ROWS; r++)
		v[r] = NUMBER(7);
	expect((column) COLUMN("x", "real", COLUMN_NUMBER), v, NULL, "constant", false);
	v[5] = NOTHING; /* present or missing says something */
	expect((column) COLUMN("x", "real", COLUMN_NUMBER), v, NULL, NULL, true);
	for (int r = 0; r < ROWS; r++)
		v[r] = NOTHING;
	expect((column) COLUMN("x", "real", COLUMN_NUMBER), v, NULL, "empty", false);
	for (int r = 0; r < ROWS; r++)
		v[r] = STRING("same");
	expect((column) COLUMN("x", "text", COLUMN_TEXT), v, NULL, "constant", false);
	for (int r = 0; r < ROWS; r++)
		v[r] = r < 5 ? NUMBER(r % 2) : NOTHING;
	expect((column) COLUMN("x", "real", COLUMN_NUMBER), v, NULL, "mostly_null", true);
}

static void
test_identifier(void)
{
	column id = {.name = "id", .sql_type = "integer", .kind = COLUMN_NUMBER, .integer = true};
	value v[ROWS];
	double trend[ROWS];
	char text[ROWS][64];

	for (int r = 0; r < ROWS; r++)
		v[r] = NUMBER(1000 + r * 977); /* rising */
	expect(id, v, NULL, "identifier", false);
	for (int r = 0; r < ROWS; r++)
		v[r] = NUMBER(r * 37 % ROWS); /* dense in any order */
	expect(id, v, NULL, "identifier", false);
	for (int r = 0; r < ROWS; r++)
	{
		v[r] = NUMBER(r * 37 % ROWS);
		trend[r] = 3.5 * v[r].number + r % 7;
	}
	expect(id, v, trend, NULL, true); /* it moves with the numeric target */
	for (int r = 0; r < ROWS; r++)
		v[r] = NUMBER(r * 7919 % 100003); /* all distinct, but scattered */
	expect(id, v, NULL, NULL, true);
	id.integer = false;
	for (int r = 0; r < ROWS; r++)
		v[r] = NUMBER(r);
	expect(id, v, NULL, NULL, true);
	for (int r = 0; r < ROWS; r++)
	{
		snprintf(text[r], sizeof(text[r]), "3f2504e0-4f89-11d3-9a0c-0305e82c%04d", r);
		v[r] = STRING(text[r]);
	}
	expect((column) COLUMN("u", "uuid", COLUMN_CATEGORY), v, NULL, "identifier", false);
	expect((column) COLUMN("u", "text", COLUMN_TEXT), v, NULL, "identifier", false);
}

static void
test_copies(void)
{
	value v[ROWS];
	double numbers[ROWS];

	for (int r = 0; r < ROWS; r++)
		v[r] = r % 2 ? STRING("yes") : STRING("no");
	expect((column) COLUMN("copy", "text", COLUMN_TEXT), v, NULL, "copies_target", true);
	v[50] = STRING("yes"); /* one of a hundred is too many */
	expect((column) COLUMN("copy", "text", COLUMN_TEXT), v, NULL, NULL, true);
	for (int r = 0; r < ROWS; r++)
	{
		numbers[r] = r * 37 % 64 * 0.25;
		v[r] = NUMBER(numbers[r] * 1.8 + 32);
	}
	expect((column) COLUMN("fahrenheit", "real", COLUMN_NUMBER), v, numbers, "copies_target", true);
	for (int r = 0; r < ROWS; r++)
		v[r] = NUMBER(numbers[r] + r % 5);
	expect((column) COLUMN("fahrenheit", "real", COLUMN_NUMBER), v, numbers, NULL, true);
}

static void
test_nothing_left(void)
{
	column c = {.name = "id", .sql_type = "integer", .kind = COLUMN_NUMBER, .integer = true};
	value rows[ROWS];
	double target[ROWS];
	finding *findings;
	llm_error err = {.code = LLM_OK};
	encoder *e;

	for (int r = 0; r < ROWS; r++)
		rows[r] = NUMBER(r);
	CHECK(fit_rows(&c, 1, &default_options, rows, ROWS, NULL, &findings, &err) == NULL);
	CHECK_INT(err.code, LLM_INVALID);
	CHECK_STR(err.message, "no column of the source can be used as an input");
	CHECK(strstr(err.detail, "\"id\"") != NULL);
	CHECK(err.hint[0] != '\0');
	/* The only column, and the target follows it. */
	for (int r = 0; r < ROWS; r++)
		target[r] = r >= 50;
	err.code = LLM_OK;
	e = fit_rows(&c, 1, &default_options, rows, ROWS, target, NULL, &err);
	CHECK(e != NULL && encoder_column_used(e, 0));
	encoder_free(e);
}

static void
test_dropped_need_not_be_there(void)
{
	column c[2] = {COLUMN("k", "real", COLUMN_NUMBER), COLUMN("x", "real", COLUMN_NUMBER)};
	value rows[] = {NUMBER(1), NUMBER(1), NUMBER(1), NUMBER(2)};
	value probe[] = {NOTHING, NUMBER(2)};
	llm_error err = {.code = LLM_OK};
	encoder *e = fit_rows(c, 2, &linear_options, rows, 2, NULL, NULL, &err);
	batch *b = encoder_batch(e, 1);

	CHECK(!encoder_column_used(e, 0));
	CHECK_INT(b->shape.dense, 1);
	CHECK(encoder_row(e, probe, b, &err));
	CHECK_NEAR(b->dense[0], 1, 0);
	batch_free(b);
	encoder_free(e);
}

int
main(void)
{
	test_constant();
	test_identifier();
	test_copies();
	test_nothing_left();
	test_dropped_need_not_be_there();
	return test_summary();
}
