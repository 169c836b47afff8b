/*
 * test_batch.c
 *	  Inputs that processes share: rows of several batches in one, and what is refused of what another process wrote.
 */
#include "net_check.h"

#define ROWS 7

/* Columns of every kind and a text. */
static const batch_shape shape = {.dense = 4,
								  .embed_columns = 2,
								  .embed_rows = 9,
								  .bag_rows = 11,
								  .bag_max = 3,
								  .outputs = 5,
								  .class_target = true,
								  .vocab = 13,
								  .context = 6};

static batch *
new_rows(int64_t rows)
{
	llm_error err = {0};
	batch *b = batch_new(&shape, ROWS, &err);

	fill_batch(b, rows);
	check_no_error(&err);
	return b;
}

/* Rows of memory that another process would have. */
static void *
share(batch *shared, const batch *b)
{
	void *memory = malloc(batch_input_bytes(&shape, ROWS));

	batch_map(shared, &shape, ROWS, memory);
	CHECK(batch_append(shared, b, b->rows) && shared->rows == b->rows);
	return memory;
}

#define SAME(a, b, count) CHECK(memcmp(a, b, (count) *4) == 0)

static void
test_append(void)
{
	batch *whole = new_rows(ROWS), *part = batch_new(&shape, ROWS, NULL), *joined = batch_new(&shape, ROWS, NULL),
		  shared;
	llm_error err = {0};

	for (int64_t begin = 0; begin < ROWS; begin += 3)
	{
		void *memory;

		copy_rows(part, whole, begin, 3);
		memory = share(&shared, part);
		CHECK(batch_append(joined, &shared, part->rows));
		free(memory);
	}
	CHECK(joined->rows == ROWS && batch_check(joined, &shape, ROWS, false, &err));
	SAME(joined->dense, whole->dense, ROWS * shape.dense);
	SAME(joined->embed, whole->embed, ROWS * shape.embed_columns);
	SAME(joined->bag_start, whole->bag_start, ROWS + 1);
	SAME(joined->bag_index, whole->bag_index, whole->bag_start[ROWS]);
	SAME(joined->bag_value, whole->bag_value, whole->bag_start[ROWS]);
	SAME(joined->token_start, whole->token_start, ROWS + 1);
	SAME(joined->token, whole->token, whole->token_start[ROWS]);
	CHECK(!batch_append(joined, whole, 1) && joined->rows == ROWS); /* no room */
	batch_free(whole);
	batch_free(part);
	batch_free(joined);
}

/* Refused, and b is as before. */
static void
check_not_appended(batch *b, const batch *from, int64_t rows)
{
	llm_error err = {0};

	CHECK(!batch_append(b, from, rows) && b->rows == 3);
	CHECK(batch_check(b, &shape, ROWS, false, &err));
}

static void
test_refused(void)
{
	batch *b = new_rows(3), *more = new_rows(3), shared;
	void *memory = share(&shared, more);
	llm_error err = {0};
	int32_t *starts[] = {shared.bag_start, shared.token_start};

	check_not_appended(b, &shared, -1);
	check_not_appended(b, &shared, ROWS + 1);
	check_not_appended(b, &shared, ROWS - 2);
	for (int i = 0; i < 2; i++)
	{
		int32_t kept[4];

		memcpy(kept, starts[i], sizeof(kept));
		starts[i][0] = 1;
		check_not_appended(b, &shared, 3);
		starts[i][0] = 0;
		starts[i][2] = starts[i][1] + 100;
		check_not_appended(b, &shared, 3);
		starts[i][2] = starts[i][1] - 1;
		check_not_appended(b, &shared, 3);
		starts[i][2] = INT32_MIN;
		check_not_appended(b, &shared, 3);
		memcpy(starts[i], kept, sizeof(kept));
	}
	shared.embed[1] = shape.embed_rows; /* left to the check */
	CHECK(batch_append(b, &shared, 3) && b->rows == 6);
	CHECK(!batch_check(b, &shape, ROWS, false, &err) && err.code == LLM_INVALID);
	free(memory);
	batch_free(b);
	batch_free(more);
}

int
main(void)
{
	test_append();
	test_refused();
	return test_summary();
}
