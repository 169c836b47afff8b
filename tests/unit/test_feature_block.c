/*
 * test_feature_block.c
 *	  Blocks of rows: the same for any number of threads, refused when damaged.
 */
#include "feature_sample.h"

#define VALUES (SAMPLE_COLUMNS + 1)
#define THREADS 3

/* All rows of the sample as they lie in the training file; returns their bytes. */
static size_t
pack_block(const sample *s, uint8_t **block)
{
	size_t used = 0;

	*block = NULL;
	for (int r = 0; r < SAMPLE_ROWS; r++)
	{
		value row[VALUES];
		uint32_t bytes;

		memcpy(row, s->rows + r * SAMPLE_COLUMNS, SAMPLE_COLUMNS * sizeof(value));
		row[SAMPLE_COLUMNS] = s->label[r];
		bytes = (uint32_t) value_pack(row, VALUES, NULL, 0);
		*block = realloc(*block, used + BLOCK_ROW_BYTES(bytes));
		memset(*block + used, 0, BLOCK_ROW_BYTES(bytes));
		memcpy(*block + used, &bytes, sizeof(bytes));
		value_pack(row, VALUES, *block + used + sizeof(bytes), bytes);
		used += BLOCK_ROW_BYTES(bytes);
	}
	return used;
}

static void
test_encode(const sample *s, row_block *b, pool *p)
{
	llm_error err = {.code = LLM_OK};
	size_t capacity = encoder_record(s->encoder, s->target, s->rows, s->label, 1, NULL, 0, &err);
	uint8_t *expected = malloc(capacity);
	float weights[SAMPLE_ROWS];

	for (int r = 0; r < SAMPLE_ROWS; r++)
		weights[r] = r % 7 == 3 ? -1 : 0.5f + r % 3;
	CHECK(row_block_encode(b, s->encoder, s->target, weights, p, &err));
	for (int r = 0; r < SAMPLE_ROWS; r++)
	{
		size_t bytes = encoder_record(s->encoder, s->target, s->rows + r * SAMPLE_COLUMNS, &s->label[r],
									  weights[r] < 0 ? 0 : weights[r], expected, capacity, &err);
		uint32_t got;
		const uint8_t *record = row_block_record(b, r, &got);

		CHECK_INT(got, weights[r] < 0 ? 0 : bytes);
		CHECK(memcmp(record, expected, got) == 0);
	}
	free(expected);
}

/* An unknown label in the middle is the error of all. */
static void
test_first_error(const sample *s, row_block *b, pool *p)
{
	llm_error err = {.code = LLM_OK};
	float weights[SAMPLE_ROWS] = {0};
	value *label = (value *) row_block_row(b, SAMPLE_ROWS / 2) + SAMPLE_COLUMNS;

	*label = STRING("other");
	CHECK(!row_block_encode(b, s->encoder, s->target, weights, p, &err));
	CHECK_STR(err.message, "column \"label\" has a label that no training row had");
}

static char *
fitted(const row_block *b, pool *p)
{
	llm_error err = {.code = LLM_OK};
	fitter *f = fitter_new(sample_columns, SAMPLE_COLUMNS, &default_options, &err);
	const value *rows[SAMPLE_ROWS];
	double targets[SAMPLE_ROWS];
	finding *findings;
	encoder *e;
	json_t *json;
	char *text;

	for (int r = 0; r < SAMPLE_ROWS; r++)
	{
		rows[r] = row_block_row(b, r);
		targets[r] = r % 3;
	}
	for (int begin = 0; begin < SAMPLE_ROWS; begin += 300)
		CHECK(fitter_add_rows(f, rows + begin, targets + begin, SAMPLE_ROWS - begin < 300 ? SAMPLE_ROWS - begin : 300,
							  p, &err));
	e = fitter_finish(f, &findings, &err);
	json = encoder_json(e);
	text = json_dumps(json, JSON_SORT_KEYS);
	json_decref(json);
	finding_free(findings);
	encoder_free(e);
	return text;
}

static void
test_threads(const sample *s, pool *p)
{
	llm_error err = {.code = LLM_OK};
	row_block *b = row_block_new(VALUES, &err);
	uint8_t *block;
	size_t size = pack_block(s, &block);
	char *one, *many;

	CHECK(row_block_unpack(b, block, size, p, &err));
	CHECK_INT(row_block_count(b), SAMPLE_ROWS);
	one = fitted(b, NULL);
	many = fitted(b, p);
	CHECK_STR(one, many);
	test_encode(s, b, NULL);
	test_encode(s, b, p);
	test_first_error(s, b, p);
	free(one);
	free(many);
	free(block);
	row_block_free(b);
}

static void
test_damaged(const sample *s)
{
	row_block *b;
	uint8_t *block;
	llm_error err = {.code = LLM_OK};
	size_t size = pack_block(s, &block);

	b = row_block_new(VALUES, &err);
	CHECK(!row_block_unpack(b, block, size - 4, NULL, &err));
	CHECK_INT(err.code, LLM_CORRUPT);
	err.code = LLM_OK;
	block[4] = 99; /* the first value is of no kind */
	CHECK(!row_block_unpack(b, block, size, NULL, &err));
	CHECK_INT(err.code, LLM_CORRUPT);
	err.code = LLM_OK;
	CHECK(row_block_unpack(b, block, 0, NULL, &err));
	CHECK_INT(row_block_count(b), 0);
	free(block);
	row_block_free(b);
}

int
main(void)
{
	sample *s = sample_new(true);
	llm_error err = {.code = LLM_OK};
	pool *p = pool_new(THREADS, &err);

	test_threads(s, p);
	test_damaged(s);
	pool_free(p);
	sample_free(s);
	return test_summary();
}
