/*
 * fuzz_record.c
 *	  Any bytes as packed values and as a record of the training file.
 *
 * Values that unpack must pack to values that encode equally, directly and through a record.
 */
#include "feature_sample.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sample *s;
static batch *direct;
static batch *stored;
static uint8_t *record;
static size_t record_capacity;

static void
start(void)
{
	llm_error err = {.code = LLM_OK};

	s = sample_new(true);
	direct = sample_batch(s, 1);
	stored = sample_batch(s, 1);
	record_capacity = encoder_record(s->encoder, s->target, s->rows, s->label, 1, NULL, 0, &err);
	record = malloc(record_capacity);
}

static void
try_record(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};

	stored->rows = 0;
	if (batch_add_record(s->encoder, s->target, data, size, stored, &err) != (err.code == LLM_OK))
		abort();
}

static void
try_values(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	value row[SAMPLE_COLUMNS];
	size_t bytes;

	if (!value_unpack(data, size, row, SAMPLE_COLUMNS, &err))
	{
		if (err.code != LLM_CORRUPT)
			abort();
		return;
	}
	/* Varints may be longer than needed in what was read, never in what we write. */
	if (value_pack(row, SAMPLE_COLUMNS, NULL, 0) > size)
		abort();
	direct->rows = stored->rows = 0;
	if (!encoder_row(s->encoder, row, direct, &err))
		return;
	bytes = encoder_record(s->encoder, s->target, row, s->label, 1, record, record_capacity, &err);
	if (!batch_add_record(s->encoder, s->target, record, bytes, stored, &err) || !batches_equal(direct, stored))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size + 1); /* aligned, and of exact size when not empty */

	if (s == NULL)
		start();
	memcpy(copy, data, size);
	try_record(copy, size);
	try_values(copy, size);
	free(copy);
	return 0;
}
