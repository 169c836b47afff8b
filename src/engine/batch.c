/*
 * batch.c
 *	  Memory of a batch, and the check that lets kernels trust its indexes.
 */
#include "batch.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CAPACITY ((int64_t) 1 << 24)

/* Zeroed, 64-byte aligned; NULL for no elements (and on failure). */
static void *
new_array(int64_t rows, int64_t columns, bool *ok)
{
	size_t bytes;
	void *array;

	if (columns == 0)
		return NULL;
	if (__builtin_mul_overflow((size_t) rows, (size_t) columns, &bytes) ||
		__builtin_mul_overflow(bytes, (size_t) 4, &bytes) || __builtin_add_overflow(bytes, (size_t) 63, &bytes) ||
		bytes > INT64_MAX)
	{
		*ok = false;
		return NULL;
	}
	bytes &= ~(size_t) 63;
	array = aligned_alloc(64, bytes);
	if (array)
		memset(array, 0, bytes);
	else
		*ok = false;
	return array;
}

static bool
check_shape(const batch_shape *s, int64_t capacity, llm_error *err)
{
	if (s->dense < 0 || s->embed_columns < 0 || s->embed_rows < 0 || s->bag_rows < 0 || s->bag_max < 0 ||
		s->vocab < 0 || s->context < 0 || (s->vocab > 0) != (s->context > 0) || s->source_context < 0 ||
		(s->source_context > 0 && s->vocab == 0) || s->outputs < 1 || (s->embed_columns > 0) != (s->embed_rows > 0) ||
		(s->bag_rows > 0) != (s->bag_max > 0))
		return llm_fail(err, LLM_INVALID, "batch has an impossible shape");
	if (capacity < 1 || capacity > MAX_CAPACITY)
		return llm_fail(err, LLM_INVALID, "batch size %lld is not between 1 and %lld", (long long) capacity,
						(long long) MAX_CAPACITY);
	if (s->context > INT32_MAX / capacity || s->source_context > INT32_MAX / capacity)
		return llm_fail(err, LLM_MEMORY, "batch of %lld rows with up to %d tokens each is too large",
						(long long) capacity, s->context > s->source_context ? s->context : s->source_context);
	if ((int64_t) s->bag_max > INT32_MAX / capacity)
		return llm_fail(err, LLM_MEMORY, "batch of %lld rows with up to %d features each is too large",
						(long long) capacity, s->bag_max);
	return true;
}

batch *
batch_new(const batch_shape *shape, int64_t capacity, llm_error *err)
{
	batch *b;
	bool ok = true;

	if (!check_shape(shape, capacity, err))
		return NULL;
	b = calloc(1, sizeof(batch));
	if (b)
	{
		b->shape = *shape;
		b->capacity = capacity;
		b->dense = new_array(capacity, shape->dense, &ok);
		b->embed = new_array(capacity, shape->embed_columns, &ok);
		b->bag_start = new_array(capacity + 1, 1, &ok);
		b->bag_index = new_array(capacity, shape->bag_max, &ok);
		b->bag_value = new_array(capacity, shape->bag_max, &ok);
		b->target_class = new_array(capacity, shape->class_target, &ok);
		b->target_number = new_array(capacity, shape->class_target ? 0 : shape->outputs, &ok);
		b->weight = new_array(capacity, 1, &ok);
		b->token_start = new_array(capacity + 1, shape->context > 0, &ok);
		b->token = new_array(capacity, shape->context, &ok);
		b->token_target = new_array(capacity, shape->token_target ? shape->context : 0, &ok);
		b->token_weight = new_array(capacity, shape->token_target ? shape->context : 0, &ok);
		b->source_start = new_array(capacity + 1, shape->source_context > 0, &ok);
		b->source = new_array(capacity, shape->source_context, &ok);
	}
	if (!b || !ok)
	{
		batch_free(b);
		llm_fail(err, LLM_MEMORY, "out of memory for a batch of %lld rows", (long long) capacity);
		return NULL;
	}
	return b;
}

void
batch_free(batch *b)
{
	if (!b)
		return;
	free(b->dense);
	free(b->embed);
	free(b->bag_start);
	free(b->bag_index);
	free(b->bag_value);
	free(b->target_class);
	free(b->target_number);
	free(b->weight);
	free(b->token_start);
	free(b->token);
	free(b->token_target);
	free(b->token_weight);
	free(b->source_start);
	free(b->source);
	free(b);
}

/* Negative numbers are above every limit when read as unsigned. */
static bool
all_below(const int32_t *x, int64_t count, int32_t limit)
{
	uint32_t outside = 0;

	for (int64_t i = 0; i < count; i++)
		outside |= (uint32_t) x[i] >= (uint32_t) limit;
	return !outside;
}

static bool
same_shape(const batch_shape *a, const batch_shape *b)
{
	return a->dense == b->dense && a->embed_columns == b->embed_columns && a->embed_rows == b->embed_rows &&
		   a->bag_rows == b->bag_rows && a->bag_max == b->bag_max && a->outputs == b->outputs &&
		   a->class_target == b->class_target && a->token_target == b->token_target && a->vocab == b->vocab &&
		   a->context == b->context && a->source_context == b->source_context && a->labels == b->labels;
}

static bool
check_bag(const batch *b, llm_error *err)
{
	uint32_t longest = (uint32_t) b->shape.bag_max;
	bool wrong = b->bag_start[0] != 0;

	/* unsigned, so that a start below its predecessor is too long as well */
	for (int64_t i = 0; i < b->rows; i++)
		wrong |= (uint32_t) b->bag_start[i + 1] - (uint32_t) b->bag_start[i] > longest;
	if (wrong)
		return llm_fail(err, LLM_INVALID, "batch has a row with more than %d features", b->shape.bag_max);
	if (!all_below(b->bag_index, b->bag_start[b->rows], b->shape.bag_rows))
		return llm_fail(err, LLM_INVALID, "batch has a feature index out of range");
	return true;
}

static bool
check_tokens(const batch *b, const int32_t *start, const int32_t *token, int32_t context, llm_error *err)
{
	bool wrong = start[0] != 0;

	for (int64_t i = 0; i < b->rows; i++) /* at least one, so 0 is taken for too many */
		wrong |= (uint32_t) start[i + 1] - (uint32_t) start[i] - 1 >= (uint32_t) context;
	if (wrong)
		return llm_fail(err, LLM_INVALID, "batch has a row without tokens or with more than %d", context);
	return all_below(token, start[b->rows], b->shape.vocab) ||
		   llm_fail(err, LLM_INVALID, "batch has a token out of range");
}

static bool
check_token_targets(const batch *b, llm_error *err)
{
	int32_t limit = b->shape.labels > 0 ? b->shape.labels : b->shape.vocab;

	return all_below(b->token_target, b->token_start[b->rows], limit) ||
		   llm_fail(err, LLM_INVALID, "batch has a target of a token out of range");
}

bool
batch_check(const batch *b, const batch_shape *shape, int64_t max_rows, bool targets, llm_error *err)
{
	int32_t classes = shape->outputs > 1 ? shape->outputs : 2;

	if (!same_shape(&b->shape, shape))
		return llm_fail(err, LLM_INVALID, "batch has another shape than the network");
	if (b->rows < 0 || b->rows > max_rows || b->rows > b->capacity)
		return llm_fail(err, LLM_INVALID, "batch has %lld rows, at most %lld fit", (long long) b->rows,
						(long long) max_rows);
	if (shape->bag_rows > 0 && !check_bag(b, err))
		return false;
	if (shape->context > 0 && !check_tokens(b, b->token_start, b->token, shape->context, err))
		return false;
	if (shape->source_context > 0 && !check_tokens(b, b->source_start, b->source, shape->source_context, err))
		return false;
	if (targets && shape->token_target && !check_token_targets(b, err))
		return false;
	if (!all_below(b->embed, b->rows * shape->embed_columns, shape->embed_rows))
		return llm_fail(err, LLM_INVALID, "batch has an embedding index out of range");
	if (targets && shape->class_target && !all_below(b->target_class, b->rows, classes))
		return llm_fail(err, LLM_INVALID, "batch has a class out of range");
	return true;
}

/* ---- inputs that processes share ---- */

typedef struct input_array
{
	size_t at; /* in batch: where its address is */
	int64_t columns;
	bool starts; /* one more than rows */
} input_array;

#define INPUT_ARRAYS 9

static void
list_arrays(const batch_shape *s, input_array arrays[INPUT_ARRAYS])
{
	const input_array all[INPUT_ARRAYS] = {
		{offsetof(batch, dense), s->dense},
		{offsetof(batch, embed), s->embed_columns},
		{offsetof(batch, bag_start), s->bag_rows > 0, true},
		{offsetof(batch, bag_index), s->bag_max},
		{offsetof(batch, bag_value), s->bag_max},
		{offsetof(batch, token_start), s->context > 0, true},
		{offsetof(batch, token), s->context},
		{offsetof(batch, source_start), s->source_context > 0, true},
		{offsetof(batch, source), s->source_context},
	};

	memcpy(arrays, all, sizeof(all));
}

static size_t
array_bytes(const input_array *a, int64_t capacity)
{
	return (size_t) (capacity + a->starts) * a->columns * 4;
}

size_t
batch_input_bytes(const batch_shape *shape, int64_t capacity)
{
	input_array arrays[INPUT_ARRAYS];
	size_t bytes = 0;

	list_arrays(shape, arrays);
	for (int i = 0; i < INPUT_ARRAYS; i++)
		bytes += array_bytes(&arrays[i], capacity);
	return bytes;
}

void
batch_map(batch *b, const batch_shape *shape, int64_t capacity, void *memory)
{
	input_array arrays[INPUT_ARRAYS];
	char *at = memory;

	*b = (batch) {.shape = *shape, .capacity = capacity};
	list_arrays(shape, arrays);
	for (int i = 0; i < INPUT_ARRAYS; i++)
	{
		*(void **) ((char *) b + arrays[i].at) = at;
		at += array_bytes(&arrays[i], capacity);
	}
}

/*
 * Starts of rows behind row `at`, moved to where its elements end; how many elements the rows have, -1 when one has too
 * many.  Each is read once, as another process may change it.
 */
static int64_t
append_starts(int32_t *to, int64_t at, const volatile int32_t *from, int64_t rows, int32_t longest)
{
	int32_t before = 0;

	to[0] = at == 0 ? 0 : to[0];
	if (from[0] != 0)
		return -1;
	for (int64_t i = 0; i < rows; i++)
	{
		int32_t end = from[i + 1];

		if ((uint32_t) end - (uint32_t) before > (uint32_t) longest)
			return -1;
		to[at + i + 1] = to[at] + end;
		before = end;
	}
	return before;
}

static void
append_array(void *to, int64_t at, const void *from, int64_t count)
{
	if (count > 0)
		memcpy((int32_t *) to + at, from, count * 4);
}

bool
batch_append(batch *b, const batch *from, int64_t rows)
{
	const batch_shape *s = &b->shape;
	int64_t at = b->rows, pairs = 0, tokens = 0, sources = 0;

	if (rows < 0 || rows > from->capacity || rows > b->capacity - at)
		return false;
	if (s->bag_rows > 0)
		pairs = append_starts(b->bag_start, at, from->bag_start, rows, s->bag_max);
	if (s->context > 0)
		tokens = append_starts(b->token_start, at, from->token_start, rows, s->context);
	if (s->source_context > 0)
		sources = append_starts(b->source_start, at, from->source_start, rows, s->source_context);
	if (pairs < 0 || tokens < 0 || sources < 0)
		return false;
	append_array(b->dense, at * s->dense, from->dense, rows * s->dense);
	append_array(b->embed, at * s->embed_columns, from->embed, rows * s->embed_columns);
	if (pairs > 0)
	{
		append_array(b->bag_index, b->bag_start[at], from->bag_index, pairs);
		append_array(b->bag_value, b->bag_start[at], from->bag_value, pairs);
	}
	if (tokens > 0)
		append_array(b->token, b->token_start[at], from->token, tokens);
	if (sources > 0)
		append_array(b->source, b->source_start[at], from->source, sources);
	b->rows += rows;
	return true;
}
