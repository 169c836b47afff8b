/*
 * test_feature.c
 *	  What each kind of column becomes, against numbers worked out by hand.
 */
#include <malloc.h>

#include "feature_helper.h"

static void
test_linear_number(void)
{
	column c = COLUMN("x", "double precision", COLUMN_NUMBER);
	value rows[] = {NUMBER(1), NUMBER(2), NUMBER(3), NUMBER(4), NUMBER(5), NOTHING};
	value probe[] = {NUMBER(3), NUMBER(5), NOTHING, NUMBER(NAN), NUMBER(INFINITY), NUMBER(-INFINITY), NUMBER(103)};
	llm_error err = {.code = LLM_OK};
	encoder *e = fit_rows(&c, 1, &linear_options, rows, 6, NULL, NULL, &err);
	batch *b = encoder_batch(e, 7);
	double d = sqrt(2); /* population standard deviation of 1..5 */
	double expected[][2] = {{0, 0}, {2 / d, 0}, {0, 1}, {0, 1}, {2 / d, 0}, {-2 / d, 0}, {100 / d, 0}};

	CHECK_INT(b->shape.dense, 2);
	CHECK_INT(b->shape.bag_rows, 0);
	for (int r = 0; r < 7; r++)
	{
		CHECK(encoder_row(e, &probe[r], b, &err));
		CHECK_NEAR(b->dense[2 * r], expected[r][0], 1e-5);
		CHECK_NEAR(b->dense[2 * r + 1], expected[r][1], 0);
	}
	CHECK(!encoder_row(e, &probe[0], b, &err));
	CHECK_STR(err.message, "the batch is full");
	batch_free(b);
	encoder_free(e);
}

/* 0 .. 4096: median 2048, quartiles 1024 and 3072, 32 bins of width 128. */
static void
test_number(void)
{
	column c = COLUMN("x", "double precision", COLUMN_NUMBER);
	value rows[4097];
	value probe[] = {NUMBER(2048), NUMBER(4096), NUMBER(-7), NUMBER(128 * 1.5), NOTHING, NUMBER(1e300)};
	llm_error err = {.code = LLM_OK};
	encoder *e;
	batch *b;
	double z = 1.349; /* the range is twice the interquartile range */

	for (int i = 0; i < 4097; i++)
		rows[i] = NUMBER(i);
	e = fit_rows(&c, 1, &default_options, rows, 4097, NULL, NULL, &err);
	b = encoder_batch(e, 6);
	CHECK_INT(b->shape.dense, 33);
	for (int r = 0; r < 6; r++)
		CHECK(encoder_row(e, &probe[r], b, &err));
	CHECK_NEAR(b->dense[0], 0, 0);
	CHECK_NEAR(b->dense[1 + 15], 1, 1e-5);
	CHECK_NEAR(b->dense[1 + 16], 0, 0);
	CHECK_NEAR(b->dense[33], z / sqrt(1 + z * z / 9), 1e-6);
	CHECK_NEAR(b->dense[33 + 32], 1, 1e-5);
	for (int i = 1; i <= 32; i++)
		CHECK_NEAR(b->dense[2 * 33 + i], 0, 0);
	CHECK_NEAR(b->dense[3 * 33 + 1], 1, 1e-5);
	CHECK_NEAR(b->dense[3 * 33 + 2], 0.5, 1e-5);
	CHECK_NEAR(b->dense[3 * 33 + 3], 0, 0);
	for (int i = 0; i < 33; i++)
		CHECK_NEAR(b->dense[4 * 33 + i], 0, 0);    /* no NULL in training: as the median, without bins */
	CHECK_NEAR(b->dense[5 * 33], b->dense[33], 0); /* beyond all bounds: the largest of training */
	batch_free(b);
	encoder_free(e);
}

/* 1024 rows make 8 bins, 1023 none; zeros and one other value leave no interquartile range. */
static void
test_bins_by_rows(void)
{
	column c[] = {COLUMN("x", "double precision", COLUMN_NUMBER), COLUMN("y", "integer", COLUMN_NUMBER)};
	value rows[2 * 1024];
	llm_error err = {.code = LLM_OK};

	for (int i = 0; i < 1024; i++)
	{
		rows[2 * i] = NUMBER(i * 0.5);
		rows[2 * i + 1] = NUMBER(i % 16 == 0 ? 10 : 0);
	}
	for (int n = 1023; n <= 1024; n++)
	{
		encoder *e = fit_rows(c, 2, &default_options, rows, n, NULL, NULL, &err);
		batch *b = encoder_batch(e, 1);
		double z = 10 / sqrt(100 * (1.0 / 16) * (15.0 / 16));

		CHECK_INT(b->shape.dense, n == 1024 ? 2 + 8 : 2);
		CHECK(encoder_row(e, rows, b, &err));
		CHECK_NEAR(b->dense[b->shape.dense - 1], z / sqrt(1 + z * z / 9), 1e-3);
		batch_free(b);
		encoder_free(e);
	}
}

static void
test_boolean(void)
{
	column c = COLUMN("b", "boolean", COLUMN_BOOLEAN);
	value rows[] = {NUMBER(0), NUMBER(1), NUMBER(0), NUMBER(1)};
	llm_error err = {.code = LLM_OK};
	encoder *e = fit_rows(&c, 1, &linear_options, rows, 4, NULL, NULL, &err);
	batch *b = encoder_batch(e, 2);

	CHECK_INT(b->shape.dense, 1);
	CHECK(encoder_row(e, &rows[0], b, &err) && encoder_row(e, &rows[1], b, &err));
	CHECK_NEAR(b->dense[0], -1, 0);
	CHECK_NEAR(b->dense[1], 1, 0);
	batch_free(b);
	encoder_free(e);
}

/* 2024-02-29 06:00 UTC is a Thursday; hours 6 and 18 differ, so do the days. */
static void
test_time(void)
{
	column c = COLUMN("t", "timestamp with time zone", COLUMN_TIME);
	double leap_day = 1709186400;
	value rows[] = {NUMBER(leap_day), NUMBER(leap_day + 12 * 3600), NUMBER(leap_day + 7 * 86400)};
	llm_error err = {.code = LLM_OK};
	encoder *e = fit_rows(&c, 1, &linear_options, rows, 3, NULL, NULL, &err);
	batch *b = encoder_batch(e, 3);
	double pi = 3.14159265358979323846;

	/* weekday is the same in all rows; hour, day of month and month are not */
	CHECK_INT(b->shape.dense, 1 + 2 * 3);
	for (int r = 0; r < 3; r++)
		CHECK(encoder_row(e, &rows[r], b, &err));
	CHECK_NEAR(b->dense[1], 1, 1e-6); /* 6 of 24 hours */
	CHECK_NEAR(b->dense[2], 0, 1e-6);
	CHECK_NEAR(b->dense[3], sin(2 * pi * 28 / 31), 1e-6); /* the 29th */
	CHECK_NEAR(b->dense[5], sin(2 * pi / 12), 1e-6);      /* February */
	CHECK_NEAR(b->dense[7 + 1], -1, 1e-6);
	CHECK_NEAR(b->dense[14 + 3], sin(2 * pi * 6 / 31), 1e-6); /* March 7th */
	CHECK_NEAR(b->dense[14 + 5], sin(2 * pi * 2 / 12), 1e-6);
	batch_free(b);
	encoder_free(e);
}

static void
test_one_hot(void)
{
	column c = COLUMN("colour", "text", COLUMN_TEXT);
	value rows[] = {STRING("red"), STRING("blue"), STRING("red"), STRING("blue"), STRING("red"), NOTHING};
	value probe[] = {STRING("red"), STRING("blue"), NOTHING, STRING("green")};
	llm_error err = {.code = LLM_OK};
	encoder *e = fit_rows(&c, 1, &default_options, rows, 6, NULL, NULL, &err);
	batch *b = encoder_batch(e, 4);

	CHECK_INT(b->shape.bag_rows, 3);
	CHECK_INT(b->shape.bag_max, 1);
	CHECK_INT(b->shape.dense, 0);
	for (int r = 0; r < 4; r++)
		CHECK(encoder_row(e, &probe[r], b, &err));
	CHECK_INT(b->bag_start[3], 3);
	CHECK_INT(b->bag_start[4], 3); /* never seen: nothing */
	for (int i = 0; i < 3; i++)
	{
		CHECK_INT(b->bag_index[i], i); /* most frequent first, NULL last */
		CHECK_NEAR(b->bag_value[i], 1, 0);
	}
	batch_free(b);
	encoder_free(e);
}

static void
test_embedding(void)
{
	column c = COLUMN("shop", "text", COLUMN_CATEGORY);
	fit_options options = {.one_hot_max = 2, .text_buckets = 256};
	value rows[] = {STRING("a"), STRING("a"), STRING("b"), STRING("b"), STRING("b"), STRING("c")};
	value probe[] = {STRING("b"), STRING("a"), STRING("c"), STRING("x"), NOTHING};
	int32_t expected[] = {0, 1, 2, 2, 2};
	llm_error err = {.code = LLM_OK};
	encoder *e = fit_rows(&c, 1, &options, rows, 6, NULL, NULL, &err);
	batch *b = encoder_batch(e, 5);

	CHECK_INT(b->shape.embed_columns, 1);
	CHECK_INT(b->shape.embed_rows, 3); /* b, a, and one for the rare c and whatever comes */
	CHECK_INT(b->shape.bag_rows, 0);
	for (int r = 0; r < 5; r++)
	{
		CHECK(encoder_row(e, &probe[r], b, &err));
		CHECK_INT(b->embed[r], expected[r]);
	}
	batch_free(b);
	encoder_free(e);
}

/* One-hot or embedding is a matter of one_hot_max, category or free text is not. */
static void
test_small_one_hot_max(void)
{
	column c = COLUMN("colour", "text", COLUMN_TEXT);
	fit_options options = {.one_hot_max = 1, .text_buckets = 256};
	value rows[] = {STRING("red"), STRING("blue"), STRING("red"), STRING("blue"), STRING("red")};
	llm_error err = {.code = LLM_OK};
	encoder *e = fit_rows(&c, 1, &options, rows, 5, NULL, NULL, &err);
	batch *b = encoder_batch(e, 1);

	CHECK_INT(b->shape.embed_columns, 1);
	CHECK_INT(b->shape.embed_rows, 3);
	batch_free(b);
	encoder_free(e);
	options.linear = true; /* a linear model has a coefficient for each category */
	e = fit_rows(&c, 1, &options, rows, 5, NULL, NULL, &err);
	b = encoder_batch(e, 1);
	CHECK_INT(b->shape.embed_columns, 0);
	CHECK_INT(b->shape.bag_rows, 2);
	batch_free(b);
	encoder_free(e);
}

static void
test_vector(void)
{
	column c = COLUMN("v", "real[]", COLUMN_VECTOR);
	float first[] = {1, 5, 0}, second[] = {3, 5, 4}, hole[] = {3, 5, NAN}, shorter[] = {1, 2};
	value rows[] = {VECTOR(first, 3), VECTOR(second, 3), NOTHING};
	value gap = VECTOR(hole, 3);
	value short_one = VECTOR(shorter, 2);
	llm_error err = {.code = LLM_OK};
	encoder *e = fit_rows(&c, 1, &linear_options, rows, 3, NULL, NULL, &err);
	batch *b = encoder_batch(e, 4);
	float expected[] = {-1, 0, -1, 0, 1, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0};

	CHECK_INT(b->shape.dense, 4);
	for (int r = 0; r < 3; r++)
		CHECK(encoder_row(e, &rows[r], b, &err));
	CHECK(encoder_row(e, &gap, b, &err));
	for (int i = 0; i < 16; i++)
		CHECK_NEAR(b->dense[i], expected[i], 0);
	b->rows = 0;
	CHECK(!encoder_row(e, &short_one, b, &err));
	CHECK_INT(err.code, LLM_INVALID);
	CHECK_STR(err.message, "column \"v\" has 2 elements, the model was trained with 3");
	CHECK_INT(b->rows, 0);
	batch_free(b);
	encoder_free(e);
}

/* Standardised by channel, before all other numbers; a missing image is the mean. */
static void
test_image(void)
{
	column columns[] = {COLUMN("n", "integer", COLUMN_NUMBER),
						{.name = "p", .sql_type = "tensor", .kind = COLUMN_VECTOR, .image = true}};
	float first[] = {0, 1, 2, 3, 10, 10}, second[] = {4, 5, 6, 7, 30, 30}, hole[] = {3.5f, NAN, 2, 3, 10, 10};
	value rows[] = {NUMBER(1), IMAGE(first, 3, 1, 2), NUMBER(3), IMAGE(second, 3, 1, 2)};
	value gap[] = {NUMBER(1), IMAGE(hole, 3, 1, 2)}, nothing[] = {NUMBER(3), NOTHING};
	value flat[] = {NUMBER(1), VECTOR(first, 6)};
	llm_error err = {.code = LLM_OK};
	encoder *e = fit_rows(columns, 2, &linear_options, rows, 2, NULL, NULL, &err);
	batch *b = encoder_batch(e, 5);
	float deviation = sqrtf(4.25f), step = sqrtf(4.25f);
	float expected[] = {-2.5f / deviation, -1.5f / deviation, -2.5f / step, -1.5f / step, -1, -1, -1};
	int32_t image[3];

	encoder_image(e, image);
	CHECK(image[0] == 3 && image[1] == 1 && image[2] == 2);
	CHECK_INT(b->shape.dense, 7);
	CHECK(encoder_row(e, rows, b, &err) && encoder_row(e, gap, b, &err) && encoder_row(e, nothing, b, &err) &&
		  encoder_row(e, flat, b, &err));
	for (int i = 0; i < 7; i++)
	{
		CHECK_NEAR(b->dense[i], expected[i], 1e-6);
		CHECK(b->dense[21 + i] == b->dense[i]);
		CHECK_NEAR(b->dense[14 + i], i < 6 ? 0 : 1, 0);
	}
	CHECK_NEAR(b->dense[8], 0, 0); /* a missing pixel */
	batch_free(b);
	encoder_free(e);
}

static void
test_image_refused(void)
{
	column c = {.name = "p", .sql_type = "tensor", .kind = COLUMN_VECTOR, .image = true};
	float pixels[24] = {0};
	struct
	{
		value rows[2];
		const char *message;
	} cases[] = {
		{{VECTOR(pixels, 24)}, "column \"p\" is no image: it has 1 dimension"},
		{{IMAGE(pixels, 6, 4, 1)},
		 "column \"p\" has images of shape 6 x 4 x 1, which looks like (height, width, channels)"},
		{{IMAGE(pixels, 0, 4, 1)}, "column \"p\" has images of 0 x 4 x 1 numbers, 1 to 524288 are possible"},
		{{IMAGE(pixels, 3, 1000, 1000)},
		 "column \"p\" has images of 3 x 1000 x 1000 numbers, 1 to 524288 are possible"},
		{{IMAGE(pixels, 1, 4, 6), IMAGE(pixels, 1, 6, 4)},
		 "column \"p\" has an image of 1 x 4 x 6 in one row and of 1 x 6 x 4 in another"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		llm_error err = {.code = LLM_OK};

		CHECK(fit_rows(&c, 1, &linear_options, cases[i].rows, 2, NULL, NULL, &err) == NULL);
		CHECK_INT(err.code, LLM_INVALID);
		CHECK_STR(err.message, cases[i].message);
		CHECK(err.hint[0] != '\0');
	}
}

static void
test_json_column(void)
{
	column c = COLUMN("j", "jsonb", COLUMN_JSON);
	value numbers[] = {NUMBER(1), NUMBER(3), NOTHING};
	value mixed[] = {NUMBER(1.5), STRING("high"), STRING("high"), NUMBER(1.5)};
	value odd = STRING("high");
	llm_error err = {.code = LLM_OK};
	encoder *e = fit_rows(&c, 1, &linear_options, numbers, 3, NULL, NULL, &err);
	batch *b = encoder_batch(e, 4);

	CHECK_INT(b->shape.dense, 2);
	CHECK(encoder_row(e, &numbers[1], b, &err) && encoder_row(e, &odd, b, &err));
	CHECK_NEAR(b->dense[0], 1, 0);
	CHECK_NEAR(b->dense[3], 1, 0); /* a string is no number: missing */
	batch_free(b);
	encoder_free(e);

	e = fit_rows(&c, 1, &linear_options, mixed, 4, NULL, NULL, &err);
	b = encoder_batch(e, 4);
	CHECK_INT(b->shape.bag_rows, 2);
	CHECK(encoder_row(e, &mixed[0], b, &err) && encoder_row(e, &mixed[1], b, &err));
	CHECK(b->bag_index[0] != b->bag_index[1]);
	batch_free(b);
	encoder_free(e);
}

/* The encoding of a row does not depend on the rows around it. */
static void
test_rows_are_independent(void)
{
	column c[] = {COLUMN("x", "real", COLUMN_NUMBER), COLUMN("t", "text", COLUMN_TEXT),
				  COLUMN("k", "text", COLUMN_CATEGORY)};
	const char *words[] = {"the quick brown fox", "jumps over the lazy dog", "the dog sleeps", "a fox jumps"};
	value rows[3 * 200];
	char name[200][32];
	llm_error err = {.code = LLM_OK};
	encoder *e;
	batch *all, *one;

	for (int r = 0; r < 200; r++)
	{
		snprintf(name[r], sizeof(name[r]), "%s %d", words[r % 4], r);
		rows[3 * r] = NUMBER(r * 0.37);
		rows[3 * r + 1] = STRING(name[r]);
		rows[3 * r + 2] = STRING(words[r % 3]);
	}
	e = fit_rows(c, 3, &default_options, rows, 200, NULL, NULL, &err);
	all = encoder_batch(e, 200);
	one = encoder_batch(e, 1);
	for (int r = 0; r < 200; r++)
		CHECK(encoder_row(e, rows + 3 * r, all, &err));
	for (int r = 0; r < 200; r++)
	{
		int32_t pairs = all->bag_start[r + 1] - all->bag_start[r];

		one->rows = 0;
		CHECK(encoder_row(e, rows + 3 * r, one, &err));
		CHECK_BYTES(one->dense, all->dense + r * all->shape.dense, all->shape.dense * sizeof(float));
		CHECK_INT(one->bag_start[1], pairs);
		CHECK_BYTES(one->bag_index, all->bag_index + all->bag_start[r], pairs * sizeof(int32_t));
		CHECK_BYTES(one->bag_value, all->bag_value + all->bag_start[r], pairs * sizeof(float));
	}
	batch_free(all);
	batch_free(one);
	encoder_free(e);
}

static void
test_refused(void)
{
	column c = COLUMN("v", "real[]", COLUMN_VECTOR);
	float numbers[3] = {1, 2, 3};
	value rows[] = {VECTOR(numbers, 3), VECTOR(numbers, 2)};
	fitter *f;
	finding *findings;
	llm_error err = {.code = LLM_OK};

	CHECK(fitter_new(&c, 0, &default_options, &err) == NULL);
	CHECK_INT(err.code, LLM_INVALID);
	err.code = LLM_OK;
	f = fitter_new(&c, 1, &default_options, &err);
	CHECK(fitter_add(f, &rows[0], 0, &err));
	CHECK(!fitter_add(f, &rows[1], 0, &err));
	CHECK_STR(err.message, "column \"v\" has 3 elements in one row and 2 in another");
	err.code = LLM_OK;
	CHECK(fitter_finish(f, &findings, &err) == NULL);
	CHECK_INT(err.code, LLM_INVALID);
	CHECK(findings == NULL);
	err.code = LLM_OK;
	CHECK(fitter_finish(fitter_new(&c, 1, &default_options, &err), &findings, &err) == NULL);
	CHECK_STR(err.message, "there are no training rows");
}

/* Bytes in use; zero under a sanitizer, which has an allocator of its own. */
static size_t
memory_used(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/* A million rows: no more memory than four hundred thousand, and the same encoder each time. */
static void
test_many_rows(void)
{
	column c[] = {COLUMN("x", "double precision", COLUMN_NUMBER), COLUMN("k", "text", COLUMN_CATEGORY)};
	char *texts[2];

	for (int turn = 0; turn < 2; turn++)
	{
		llm_error err = {.code = LLM_OK};
		fitter *f = fitter_new(c, 2, &default_options, &err);
		finding *findings;
		encoder *e;
		json_t *json;
		size_t used = 0;

		for (int r = 0; r < 1000000; r++)
		{
			char key[16];
			value row[2] = {NUMBER((r * 7919LL) % 1000003), STRING(key)};

			snprintf(key, sizeof(key), "k%d", r * 31 % 300000);
			row[1].length = (int32_t) strlen(key);
			fitter_add(f, row, r % 2, &err);
			if (r == 400000)
				used = memory_used();
		}
		CHECK_INT(memory_used(), used);
		CHECK(used < 32 << 20);
		e = fitter_finish(f, &findings, &err);
		CHECK(find_finding(findings, "k", "high_cardinality") != NULL);
		json = encoder_json(e);
		texts[turn] = json_text(json);
		json_decref(json);
		finding_free(findings);
		if (turn == 0)
		{
			value row[2] = {NUMBER(500001), STRING("k0")};
			batch *b = encoder_batch(e, 1);

			CHECK(encoder_row(e, row, b, &err));
			CHECK_NEAR(b->dense[0], 0, 0.03); /* the median of 0 .. 1000002, from the sample */
			CHECK(b->shape.embed_rows <= 65537);
			batch_free(b);
		}
		encoder_free(e);
	}
	CHECK_STR(texts[0], texts[1]);
	free(texts[0]);
	free(texts[1]);
}

int
main(void)
{
	test_linear_number();
	test_number();
	test_bins_by_rows();
	test_boolean();
	test_time();
	test_one_hot();
	test_embedding();
	test_small_one_hot_max();
	test_vector();
	test_image();
	test_image_refused();
	test_json_column();
	test_rows_are_independent();
	test_refused();
	test_many_rows();
	return test_summary();
}
