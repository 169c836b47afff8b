/*
 * record.c
 *	  Rows of the training file: encoded once, widened each epoch.
 *
 * A record is a sequence of 4-byte words in the machine's byte order:
 *	  weight			float >= 0
 *	  target			class index, or (outputs) standardised floats
 *	  narrow			(narrow) floats, NaN = missing
 *	  embed				(embed_columns) rows of the embedding table
 *	  ones, pairs		how many follow; only when there is a bag
 *	  index				(ones + pairs) rows of the bag's table
 *	  value				(pairs) floats; the ones have value 1
 *	  tokens			(rest) ids, only when there is a column of tokens
 * Reading believes nothing: sizes, ranges and finiteness are checked.
 */
#include <math.h>
#include <string.h>

#include "encoder.h"
#include "target.h"
#include "value.h"

#define WORD sizeof(uint32_t)

static int32_t
target_words(const target *t)
{
	return t->kind == TARGET_CLASS ? 1 : t->outputs;
}

/* Words of a record with this many words in its bag. */
static size_t
record_words(const encoder *e, const target *t, size_t bag)
{
	return 1 + (size_t) target_words(t) + e->narrow + e->shape.embed_columns + (e->shape.bag_rows > 0 ? 2 + bag : 0);
}

static bool
write_target(const target *t, const value *values, uint8_t *words, llm_error *err)
{
	int32_t class;
	float number;

	if (t->kind == TARGET_CLASS)
	{
		class = target_class_of(t, values);
		if (class < 0)
			return llm_fail(err, LLM_INVALID, "column \"%s\" has a label that no training row had", t->names[0]);
		memcpy(words, &class, WORD);
		return true;
	}
	for (int32_t i = 0; i < t->outputs; i++)
	{
		if (!target_number_of(t, values, i, &number, err))
			return false;
		memcpy(words + i * WORD, &number, WORD);
	}
	return true;
}

/* Close the gap between indices and values, which were written bag_max words behind; returns words used. */
static size_t
write_bag(const encoder *e, const compact_row *row, uint8_t *words)
{
	int32_t ones = 0;
	int32_t pairs;

	while (ones < row->pairs && row->bag_value[ones] == 1)
		ones++;
	pairs = row->pairs - ones;
	memcpy(words, &ones, WORD);
	memcpy(words + WORD, &pairs, WORD);
	memmove(words + (2 + row->pairs) * WORD, row->bag_value + ones, pairs * WORD);
	return (size_t) row->pairs + pairs;
}

size_t
encoder_record(const encoder *e, const target *t, const value *row, const value *target_values, float weight,
			   uint8_t *buffer, size_t capacity, llm_error *err)
{
	size_t before = record_words(e, t, 2 * (size_t) e->shape.bag_max);
	size_t most = (before + e->shape.context) * WORD;
	uint8_t *narrow, *embed, *bag;
	compact_row out = {.tokens = 0};
	size_t words;

	if (capacity < most)
		return most;
	if ((uintptr_t) buffer % WORD != 0 || !(weight >= 0) || isinf(weight))
	{
		llm_fail(err, LLM_INVALID,
				 (uintptr_t) buffer % WORD != 0 ? "a record must be aligned to 4 bytes"
												: "the weight of a row must be a number of zero or more");
		return 0;
	}
	out.token = (int32_t *) (void *) (buffer + before * WORD);
	narrow = buffer + (1 + target_words(t)) * WORD;
	embed = narrow + e->narrow * WORD;
	bag = embed + e->shape.embed_columns * WORD;
	out.narrow = (float *) (void *) narrow;
	out.embed = (int32_t *) (void *) embed;
	out.bag_index = (int32_t *) (void *) (bag + 2 * WORD);
	out.bag_value = (float *) (void *) (bag + (2 + (size_t) e->shape.bag_max) * WORD);
	memcpy(buffer, &weight, WORD);
	if (!write_target(t, target_values, buffer + WORD, err) || !encode_compact(e, row, &out, err))
		return 0;
	words = record_words(e, t, e->shape.bag_rows > 0 ? write_bag(e, &out, bag) : 0);
	memmove(buffer + words * WORD, out.token, out.tokens * WORD);
	return (words + out.tokens) * WORD;
}

static bool
damaged(llm_error *err, const char *what)
{
	return llm_fail(err, LLM_CORRUPT, "a record of the training file is damaged: %s", what);
}

static bool
read_weight_target(const target *t, const uint8_t *words, batch *b, llm_error *err)
{
	int32_t class;
	float number;

	memcpy(&b->weight[b->rows], words, WORD);
	if (!(b->weight[b->rows] >= 0) || isinf(b->weight[b->rows]))
		return damaged(err, "weight");
	words += WORD;
	if (t->kind == TARGET_CLASS)
	{
		memcpy(&class, words, WORD);
		b->target_class[b->rows] = class;
		return (class >= 0 && class < t->class_count) || damaged(err, "class");
	}
	for (int32_t i = 0; i < t->outputs; i++)
	{
		memcpy(&number, words + i * WORD, WORD);
		if (!isfinite(number))
			return damaged(err, "target");
		b->target_number[b->rows * t->outputs + i] = number;
	}
	return true;
}

static bool
read_narrow(const encoder *e, const uint8_t *words, float *dense, llm_error *err)
{
	float *narrow = dense + (e->shape.dense - e->narrow);

	memcpy(narrow, words, e->narrow * WORD);
	for (int32_t i = 0; i < e->narrow; i++)
		if (fabsf(narrow[i]) > STANDARD_MAX)
			return damaged(err, "number");
	encode_widen(e, dense);
	return true;
}

static bool
read_embed(const encoder *e, const uint8_t *words, int32_t *embed, llm_error *err)
{
	for (int32_t i = 0; i < e->shape.embed_columns; i++)
	{
		memcpy(&embed[i], words + i * WORD, WORD);
		if (embed[i] < 0 || embed[i] >= e->shape.embed_rows)
			return damaged(err, "category");
	}
	return true;
}

/* words points at the pairs' index; counts were checked. */
static bool
read_bag(const encoder *e, const uint8_t *words, int32_t ones, int32_t pairs, batch *b, llm_error *err)
{
	int32_t start = b->rows == 0 ? 0 : b->bag_start[b->rows];
	int32_t *index = b->bag_index + start;
	float *number = b->bag_value + start;

	memcpy(index, words, (ones + pairs) * WORD);
	memcpy(number + ones, words + (ones + pairs) * WORD, pairs * WORD);
	for (int32_t i = 0; i < ones; i++)
		number[i] = 1;
	for (int32_t i = 0; i < ones + pairs; i++)
		if (index[i] < 0 || index[i] >= e->shape.bag_rows || !isfinite(number[i]))
			return damaged(err, "n-gram");
	b->bag_start[b->rows] = start;
	b->bag_start[b->rows + 1] = start + ones + pairs;
	return true;
}

/* Counts of the bag and of tokens; false when they do not fit the record's size. */
static bool
read_counts(const encoder *e, const target *t, const uint8_t *record, size_t bytes, int32_t *ones, int32_t *pairs,
			int32_t *tokens)
{
	size_t base = record_words(e, t, 0);
	size_t fixed;

	*ones = *pairs = 0;
	if (bytes < base * WORD)
		return false;
	if (e->shape.bag_rows > 0)
	{
		memcpy(ones, record + (base - 2) * WORD, WORD);
		memcpy(pairs, record + (base - 1) * WORD, WORD);
		if (*ones < 0 || *pairs < 0 || (int64_t) *ones + *pairs > e->shape.bag_max)
			return false;
	}
	fixed = (base + *ones + 2 * (size_t) *pairs) * WORD;
	*tokens = 0;
	if (e->tokens < 0 || bytes <= fixed || bytes % WORD != 0)
		return e->tokens < 0 && bytes == fixed;
	*tokens = (int32_t) ((bytes - fixed) / WORD);
	return (bytes - fixed) / WORD <= (size_t) e->shape.context;
}

static bool
read_tokens(const encoder *e, const uint8_t *words, int32_t count, batch *b, llm_error *err)
{
	int32_t start = b->rows == 0 ? 0 : b->token_start[b->rows];

	memcpy(b->token + start, words, count * WORD);
	for (int32_t i = start; i < start + count; i++)
		if ((uint32_t) b->token[i] >= (uint32_t) e->shape.vocab)
			return damaged(err, "token");
	b->token_start[b->rows] = start;
	b->token_start[b->rows + 1] = start + count;
	return true;
}

bool
batch_add_record(const encoder *e, const target *t, const uint8_t *record, size_t bytes, batch *b, llm_error *err)
{
	const uint8_t *narrow, *embed, *bag;
	int32_t ones, pairs, tokens;

	if (!batch_accepts(e, b, err))
		return false;
	if (b->shape.class_target != (t->kind == TARGET_CLASS) || b->shape.outputs != t->outputs)
		return llm_fail(err, LLM_INVALID, "the batch has another shape than the target");
	if (!read_counts(e, t, record, bytes, &ones, &pairs, &tokens))
		return damaged(err, "size");
	narrow = record + (1 + target_words(t)) * WORD;
	embed = narrow + e->narrow * WORD;
	bag = embed + e->shape.embed_columns * WORD;
	if (!read_weight_target(t, record, b, err) ||
		(e->narrow > 0 && !read_narrow(e, narrow, b->dense + b->rows * e->shape.dense, err)) ||
		(e->shape.embed_columns > 0 && !read_embed(e, embed, b->embed + b->rows * e->shape.embed_columns, err)))
		return false;
	if (e->shape.bag_rows > 0 && !read_bag(e, bag + 2 * WORD, ones, pairs, b, err))
		return false;
	if (tokens > 0 && !read_tokens(e, record + bytes - tokens * WORD, tokens, b, err))
		return false;
	b->rows++;
	return true;
}
