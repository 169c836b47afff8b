/*
 * feature_helper.h
 *	  Short ways to write values and columns in the tests of src/feature.
 */
#ifndef LLMAPP_FEATURE_HELPER_H
#define LLMAPP_FEATURE_HELPER_H

#include <stdlib.h>
#include <string.h>

#include "../../src/feature/feature.h"
#include "test.h"

#define NUMBER(x) ((value) {.kind = VALUE_NUMBER, .number = (x)})
#define STRING(s) ((value) {.kind = VALUE_STRING, .string = (s), .length = (int32_t) strlen(s)})
#define VECTOR(v, n) ((value) {.kind = VALUE_VECTOR, .vector = (v), .length = (n)})
#define IMAGE(v, c, h, w) \
	((value) {.kind = VALUE_VECTOR, .vector = (v), .length = (c) * (h) * (w), .ndim = 3, .dims = {(c), (h), (w)}})
#define NOTHING ((value) {.kind = VALUE_NULL})
#define COLUMN(n, t, k) \
	{ \
		.name = (n), .sql_type = (t), .kind = (k) \
	}

static const fit_options default_options = {.one_hot_max = 64, .text_buckets = 1024, .seed = 1};
static const fit_options linear_options = {.linear = true, .one_hot_max = 64, .text_buckets = 1024, .seed = 1};

static inline bool
fitter_add(fitter *f, const value *row, double target, llm_error *err)
{
	return fitter_add_rows(f, &row, &target, 1, NULL, err);
}

/* Fit rows of count values; target[r] or 0. */
static inline encoder *
fit_rows(const column *columns, int32_t count, const fit_options *options, const value *rows, int64_t n,
		 const double *target, finding **findings, llm_error *err)
{
	fitter *f = fitter_new(columns, count, options, err);
	finding *own = NULL;
	encoder *e;

	for (int64_t r = 0; f && r < n; r++)
		if (!fitter_add(f, rows + r * count, target ? target[r] : (double) (r % 2), err))
			return NULL;
	e = f ? fitter_finish(f, &own, err) : NULL;
	if (findings)
		*findings = own;
	else
		finding_free(own);
	return e;
}

static inline const finding *
find_finding(const finding *list, const char *column, const char *kind)
{
	for (; list; list = list->next)
		if (strcmp(list->column, column) == 0 && strcmp(list->kind, kind) == 0)
			return list;
	return NULL;
}

/* A batch for an encoder alone. */
static inline batch *
encoder_batch(const encoder *e, int64_t capacity)
{
	llm_error err = {.code = LLM_OK};
	batch_shape shape = {.outputs = 1};

	encoder_shape(e, &shape);
	return batch_new(&shape, capacity, &err);
}

/* By member: what lies between them is not set. */
static inline bool
shapes_equal(const batch_shape *a, const batch_shape *b)
{
	return a->dense == b->dense && a->embed_columns == b->embed_columns && a->embed_rows == b->embed_rows &&
		   a->bag_rows == b->bag_rows && a->bag_max == b->bag_max && a->outputs == b->outputs &&
		   a->class_target == b->class_target;
}

/* Same shape, rows and numbers? */
static inline bool
batches_equal(const batch *a, const batch *b)
{
	const batch_shape *s = &a->shape;
	size_t pairs;

	if (!shapes_equal(s, &b->shape) || a->rows != b->rows)
		return false;
	if (s->dense > 0 && memcmp(a->dense, b->dense, a->rows * s->dense * sizeof(float)) != 0)
		return false;
	if (s->embed_columns > 0 && memcmp(a->embed, b->embed, a->rows * s->embed_columns * sizeof(int32_t)) != 0)
		return false;
	if (s->bag_rows == 0)
		return true;
	pairs = a->bag_start[a->rows];
	return memcmp(a->bag_start, b->bag_start, (a->rows + 1) * sizeof(int32_t)) == 0 &&
		   memcmp(a->bag_index, b->bag_index, pairs * sizeof(int32_t)) == 0 &&
		   memcmp(a->bag_value, b->bag_value, pairs * sizeof(float)) == 0;
}

#endif /* LLMAPP_FEATURE_HELPER_H */
