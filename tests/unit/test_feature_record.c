/*
 * test_feature_record.c
 *	  Packed values and records: equal to the bit when read back, refused when damaged.
 */
#include "feature_sample.h"

static bool
same_value(const value *a, const value *b)
{
	if (a->kind != b->kind)
		return false;
	switch (a->kind)
	{
		case VALUE_NULL: return true;
		case VALUE_NUMBER: return memcmp(&a->number, &b->number, sizeof(double)) == 0;
		case VALUE_STRING: return a->length == b->length && memcmp(a->string, b->string, a->length) == 0;
		case VALUE_VECTOR:
			return a->length == b->length && memcmp(a->vector, b->vector, a->length * sizeof(float)) == 0;
	}
	return false;
}

static void
test_values(void)
{
	float v[] = {1.5f, -2, NAN};
	value values[] = {NOTHING,
					  NUMBER(0),
					  NUMBER(-0.0),
					  NUMBER(1),
					  NUMBER(-1),
					  NUMBER(2147483646.0),
					  NUMBER(-2147483646.0),
					  NUMBER(2147483648.0),
					  NUMBER(0.1),
					  NUMBER(NAN),
					  NUMBER(-INFINITY),
					  NUMBER(1e300),
					  STRING(""),
					  STRING("caf\xC3\xA9"),
					  VECTOR(v, 3),
					  VECTOR(v, 0),
					  STRING("end"),
					  NUMBER(2147483647.0),
					  NUMBER(-2147483648.0)};
	enum
	{
		COUNT = sizeof(values) / sizeof(values[0])
	};
	value back[COUNT];
	uint64_t words[64];
	uint8_t *buffer = (uint8_t *) words;
	llm_error err = {.code = LLM_OK};
	size_t bytes = value_pack(values, COUNT, NULL, 0);

	CHECK(bytes <= sizeof(words));
	CHECK_INT(value_pack(values, COUNT, buffer, sizeof(words)), bytes);
	CHECK(value_unpack(buffer, bytes, back, COUNT, &err));
	for (int i = 0; i < COUNT; i++)
		CHECK(same_value(&values[i], &back[i]));
	for (size_t cut = 0; cut < bytes; cut++)
	{
		uint8_t *part = malloc(cut + 1); /* exact, so that a read beyond is seen */

		memcpy(part, buffer, cut);
		err.code = LLM_OK;
		CHECK(!value_unpack(part, cut, back, COUNT, &err));
		CHECK_INT(err.code, LLM_CORRUPT);
		free(part);
	}
	err.code = LLM_OK;
	CHECK(!value_unpack(buffer, bytes, back, COUNT - 1, &err));
	CHECK_INT(err.code, LLM_CORRUPT);
	err.code = LLM_OK;
	CHECK(!value_unpack(buffer + 1, bytes - 1, back, COUNT, &err));
	CHECK_INT(err.code, LLM_INVALID);
	/* small numbers and short strings take little room */
	CHECK_INT(value_pack(&values[3], 1, NULL, 0), 2);
	CHECK_INT(value_pack(&values[16], 1, NULL, 0), 5);
	CHECK_INT(value_pack(&values[17], 2, NULL, 0), 12);
}

static void
test_records(const sample *s)
{
	batch *direct = sample_batch(s, SAMPLE_ROWS);
	batch *stored = sample_batch(s, SAMPLE_ROWS);
	llm_error err = {.code = LLM_OK};
	size_t capacity = encoder_record(s->encoder, s->target, s->rows, s->label, 1, NULL, 0, &err);
	uint8_t *buffer = malloc(capacity);

	for (int r = 0; r < SAMPLE_ROWS; r++)
	{
		const value *row = s->rows + r * SAMPLE_COLUMNS;
		size_t bytes = encoder_record(s->encoder, s->target, row, &s->label[r], 0.5f + r % 3, buffer, capacity, &err);

		CHECK(bytes > 0 && bytes <= capacity);
		CHECK(encoder_row(s->encoder, row, direct, &err));
		CHECK(batch_add_record(s->encoder, s->target, buffer, bytes, stored, &err));
		CHECK_INT(stored->target_class[r], target_class_of(s->target, &s->label[r]));
		CHECK_NEAR(stored->weight[r], 0.5f + r % 3, 0);
	}
	CHECK_STR(err.message, "");
	CHECK(batches_equal(direct, stored));
	free(buffer);
	batch_free(direct);
	batch_free(stored);
}

/* Every truncation and every changed byte: an error or a row within bounds, never anything else. */
static void
test_damaged(const sample *s)
{
	batch *b = sample_batch(s, 2);
	llm_error err = {.code = LLM_OK};
	size_t capacity = encoder_record(s->encoder, s->target, s->rows, s->label, 1, NULL, 0, &err);
	uint8_t *buffer = malloc(capacity);
	size_t bytes = encoder_record(s->encoder, s->target, s->rows, s->label, 1, buffer, capacity, &err);

	for (size_t cut = 0; cut < bytes; cut++)
	{
		uint8_t *part = malloc(cut + 1);

		memcpy(part, buffer, cut);
		err.code = LLM_OK;
		CHECK(!batch_add_record(s->encoder, s->target, part, cut, b, &err));
		CHECK_INT(err.code, LLM_CORRUPT);
		free(part);
	}
	CHECK_INT(b->rows, 0);
	for (size_t i = 0; i < bytes; i++)
		for (int change = 1; change < 256; change <<= 1)
		{
			buffer[i] ^= (uint8_t) change;
			err.code = LLM_OK;
			b->rows = 1;
			b->bag_start[1] = 0;
			if (batch_add_record(s->encoder, s->target, buffer, bytes, b, &err))
			{
				for (int32_t c = 0; c < b->shape.embed_columns; c++)
					CHECK(b->embed[b->shape.embed_columns + c] >= 0 &&
						  b->embed[b->shape.embed_columns + c] < b->shape.embed_rows);
				for (int32_t p = 0; p < b->bag_start[2]; p++)
					CHECK(b->bag_index[p] >= 0 && b->bag_index[p] < b->shape.bag_rows);
				for (int32_t d = 0; d < b->shape.dense; d++)
					CHECK(isfinite(b->dense[b->shape.dense + d]));
			}
			buffer[i] ^= (uint8_t) change;
		}
	free(buffer);
	batch_free(b);
}

static void
test_refused(const sample *s)
{
	llm_error err = {.code = LLM_OK};
	size_t capacity = encoder_record(s->encoder, s->target, s->rows, s->label, 1, NULL, 0, &err);
	uint8_t *buffer = malloc(capacity);
	value unseen = STRING("violet");

	CHECK_INT(encoder_record(s->encoder, s->target, s->rows, &unseen, 1, buffer, capacity, &err), 0);
	CHECK_STR(err.message, "column \"label\" has a label that no training row had");
	err.code = LLM_OK;
	CHECK_INT(encoder_record(s->encoder, s->target, s->rows, s->label, -1, buffer, capacity, &err), 0);
	CHECK_INT(err.code, LLM_INVALID);
	err.code = LLM_OK;
	CHECK_INT(encoder_record(s->encoder, s->target, s->rows, s->label, NAN, buffer, capacity, &err), 0);
	free(buffer);
}

/* A numeric target in a record is standardised. */
static void
test_number_target(void)
{
	column x = COLUMN("x", "real", COLUMN_NUMBER);
	column y = COLUMN("y", "real", COLUMN_NUMBER);
	value rows[] = {NUMBER(1), NUMBER(5)};
	llm_error err = {.code = LLM_OK};
	target_fitter *f = target_fitter_new(TARGET_NUMBER, &y, 1, &err);
	encoder *e = fit_rows(&x, 1, &linear_options, rows, 2, NULL, NULL, &err);
	target *t;
	batch_shape shape;
	batch *b;
	float record[16];
	size_t bytes;

	target_fitter_add(f, &rows[0], &err);
	target_fitter_add(f, &rows[1], &err);
	t = target_fitter_finish(f, &err);
	encoder_shape(e, &shape);
	target_shape(t, &shape);
	b = batch_new(&shape, 1, &err);
	bytes = encoder_record(e, t, &rows[1], &rows[1], 2, (uint8_t *) record, sizeof(record), &err);
	CHECK_INT(bytes, 3 * sizeof(float)); /* weight, target, number */
	CHECK(batch_add_record(e, t, (uint8_t *) record, bytes, b, &err));
	CHECK_NEAR(b->target_number[0], 1, 0);
	CHECK_NEAR(b->dense[0], 1, 0);
	CHECK_NEAR(b->weight[0], 2, 0);
	batch_free(b);
	target_free(t);
	encoder_free(e);
}

int
main(void)
{
	sample *s = sample_new(true);

	test_values();
	test_records(s);
	test_damaged(s);
	test_refused(s);
	test_number_target();
	sample_free(s);
	return test_summary();
}
