/*
 * fuzz_text.c
 *	  Any bytes as free text: n-grams, an encoder fitted on them, and rows encoded with it.
 *
 * Lines are the values of one column.  Direct encoding and the way through a record must agree.
 */
#include "feature_sample.h"
#include "../../src/feature/text.h"

#define LINES_MAX 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
try_grams(const char *text, int32_t length, int32_t buckets, int32_t max)
{
	static gram_set set;
	bool *seen = calloc(buckets, 1);

	memset(&set, 0, sizeof(set));
	set.buckets = buckets;
	set.max = max;
	text_grams(&set, text, length);
	if (set.count < 0 || set.count > max)
		abort();
	for (int32_t i = 0; i < set.count; i++)
	{
		if (set.row[i] < 0 || set.row[i] >= buckets || set.times[i] < 1 || seen[set.row[i]])
			abort();
		seen[set.row[i]] = true;
	}
	free(seen);
}

static int
split_lines(const char *text, size_t size, value *lines)
{
	int count = 0;

	for (size_t start = 0; start < size && count < LINES_MAX; count++)
	{
		const char *end = memchr(text + start, '\n', size - start);
		size_t length = end ? (size_t) (end - text) - start : size - start;

		lines[count] =
			length > 0 ? (value) {.kind = VALUE_STRING, .string = text + start, .length = (int32_t) length} : NOTHING;
		start += length + 1;
	}
	return count;
}

/* The encoding of a row must not depend on the way it took. */
static void
compare_ways(const encoder *e, const value *lines, int count)
{
	column number = COLUMN("y", "real", COLUMN_NUMBER);
	llm_error err = {.code = LLM_OK};
	target_fitter *f = target_fitter_new(TARGET_NUMBER, &number, 1, &err);
	value y[2] = {NUMBER(1), NUMBER(2)};
	target *t =
		target_fitter_add(f, &y[0], &err) && target_fitter_add(f, &y[1], &err) ? target_fitter_finish(f, &err) : NULL;
	batch_shape shape = {0};
	batch *direct, *stored;
	size_t capacity = encoder_record(e, t, lines, y, 1, NULL, 0, &err);
	uint8_t *record = malloc(capacity);

	encoder_shape(e, &shape);
	target_shape(t, &shape);
	direct = batch_new(&shape, 1, &err);
	stored = batch_new(&shape, 1, &err);
	for (int i = 0; i < count; i++)
	{
		size_t bytes;

		direct->rows = stored->rows = 0;
		if (!encoder_row(e, &lines[i], direct, &err))
			abort();
		bytes = encoder_record(e, t, &lines[i], y, 1, record, capacity, &err);
		if (bytes == 0 || bytes > capacity || !batch_add_record(e, t, record, bytes, stored, &err) ||
			!batches_equal(direct, stored))
			abort();
	}
	free(record);
	batch_free(direct);
	batch_free(stored);
	target_free(t);
}

static void
try_column(const value *lines, int count, column_kind kind, const fit_options *options)
{
	column text = COLUMN("note", "text", kind);
	finding *findings = NULL;
	llm_error err = {.code = LLM_OK};
	fitter *f = fitter_new(&text, 1, options, &err);
	encoder *e;
	encoder *again;
	json_t *json;

	for (int i = 0; i < count; i++)
		if (!fitter_add_rows(f, (const value *[1]) {&lines[i]}, (double[1]) {i % 2}, 1, NULL, &err))
			abort();
	e = fitter_finish(f, &findings, &err);
	finding_free(findings);
	if (e == NULL) /* every column was dropped */
		return;
	compare_ways(e, lines, count);
	json = encoder_json(e);
	again = encoder_from_json(json, &err);
	if (again == NULL)
		abort();
	json_decref(json);
	encoder_free(again);
	encoder_free(e);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	value lines[LINES_MAX];
	fit_options options = {.seed = 1};
	char *text;
	int count;

	if (size < 3)
		return 0;
	options.linear = data[0] & 1;
	options.one_hot_max = 1 + data[1] % 16;
	options.text_buckets = 256 << data[2] % 4;
	text = malloc(size - 3 + 1); /* of exact size when not empty */
	memcpy(text, data + 3, size - 3);
	try_grams(text, (int32_t) (size - 3), options.text_buckets, 1 + data[0] * 8);
	(void) text_is_token(text, (int32_t) (size - 3));
	count = split_lines(text, size - 3, lines);
	try_column(lines, count, data[0] & 2 ? COLUMN_CATEGORY : COLUMN_TEXT, &options);
	free(text);
	return 0;
}
