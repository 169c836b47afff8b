/*
 * fuzz_manifest.c
 *	  Any bytes as a manifest, and as each part of one: an error, or something that works.
 *
 * What is accepted must write the same JSON again and encode rows within the batch.
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/feature/encoder.h"
#include "../../src/manifest/manifest.h"
#include "../../src/text/tokenizer_train.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_CONTEXT 4096 /* of a column of tokens: a batch has room for all of it */

static float zeros[IMAGE_MAX];

/* A column of tokens is read by one token for each byte, where it knows as many; false where it does not. */
static bool
bind_tokens(encoder *e)
{
	static tokenizer *t;
	special_text end = {"<end>", SPECIAL_END};
	llm_error err = {.code = LLM_OK};
	size_t bytes;

	if (!encoder_has_tokens(e))
		return true;
	if (t == NULL)
		t = tokenizer_open(byte_tokenizer(&end, 1, &bytes, &err), bytes, &err);
	return encoder_context(e) <= MAX_CONTEXT &&
		   encoder_set_tokenizer(e, t, tokenizer_size(t), encoder_context(e), &err);
}

static value
some_value(const encoding *c, int turn)
{
	value v = {.kind = VALUE_NULL};

	if (turn == 0)
		return v;
	if (c->kind == ENCODING_VECTOR || c->kind == ENCODING_IMAGE)
		return (value) {.kind = VALUE_VECTOR, .vector = zeros, .length = c->length};
	if (c->column.kind == COLUMN_TEXT || c->column.kind == COLUMN_CATEGORY)
		return (value) {.kind = VALUE_STRING, .string = "late delivery, red", .length = 18};
	return (value) {.kind = VALUE_NUMBER, .number = turn == 1 ? 1e300 : 17.25};
}

/* Floats are finite and indexes in range. */
static void
check_batch(const batch *b)
{
	const batch_shape *s = &b->shape;

	for (int64_t i = 0; i < b->rows * s->dense; i++)
		if (!(b->dense[i] >= -1e16f && b->dense[i] <= 1e16f))
			abort();
	for (int64_t i = 0; i < b->rows * s->embed_columns; i++)
		if (b->embed[i] < 0 || b->embed[i] >= s->embed_rows)
			abort();
	for (int32_t i = 0; s->context > 0 && i < b->token_start[b->rows]; i++)
		if (b->token[i] < 0 || b->token[i] >= s->vocab)
			abort();
	for (int64_t i = 0; s->bag_rows > 0 && i < b->bag_start[b->rows]; i++)
		if (b->bag_index[i] < 0 || b->bag_index[i] >= s->bag_rows)
			abort();
}

static void
encode_rows(const encoder *e)
{
	llm_error err = {.code = LLM_OK};
	batch_shape shape = {.outputs = 1};
	value *row = calloc(e->count, sizeof(value));
	batch *b;

	encoder_shape(e, &shape);
	b = batch_new(&shape, 3, &err);
	for (int turn = 0; b && row && turn < 3; turn++)
	{
		for (int32_t i = 0; i < e->count; i++)
			row[i] = some_value(&e->encodings[i], turn);
		if (!encoder_row(e, row, b, &err))
			abort();
	}
	if (b)
		check_batch(b);
	batch_free(b);
	free(row);
}

static void
same_json(json_t *a, json_t *b)
{
	char *x = json_text(a);
	char *y = json_text(b);

	if (x && y && strcmp(x, y) != 0)
		abort();
	free(x);
	free(y);
}

static void
try_encoder(const json_t *json)
{
	llm_error err = {.code = LLM_OK};
	encoder *e = encoder_from_json(json, &err);
	json_t *first, *second;
	encoder *again;

	if (e == NULL)
	{
		if (err.code == LLM_OK)
			abort();
		return;
	}
	if (bind_tokens(e))
		encode_rows(e);
	first = encoder_json(e);
	again = encoder_from_json(first, &err);
	if (again == NULL)
		abort();
	second = encoder_json(again);
	same_json(first, second);
	json_decref(first);
	json_decref(second);
	encoder_free(e);
	encoder_free(again);
}

static void
try_target(const json_t *json)
{
	llm_error err = {.code = LLM_OK};
	target *t = target_from_json(json, &err);

	for (int32_t i = 0; t && t->kind == TARGET_CLASS && i < t->class_count; i++)
	{
		value label = {.kind = VALUE_STRING, .string = t->classes[i], .length = (int32_t) strlen(t->classes[i])};

		if (target_class_of(t, &label) != i)
			abort();
	}
	target_free(t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	llm_error err = {.code = LLM_OK};
	net_config config;
	json_t *json;
	manifest *m = manifest_parse((const char *) data, size, &err);

	if ((m == NULL) == (err.code == LLM_OK))
		abort();
	manifest_free(m);
	err.code = LLM_OK;
	json = json_parse((const char *) data, size, &err);
	if (json == NULL)
		return 0;
	network_from_json(json, &config, &err);
	try_encoder(json);
	try_target(json);
	json_decref(json);
	return 0;
}
