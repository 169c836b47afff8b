/*
 * feature_sample.h
 *	  A small training set with every kind of column, for tests of records and JSON.
 */
#ifndef LLMAPP_FEATURE_SAMPLE_H
#define LLMAPP_FEATURE_SAMPLE_H

#include "feature_helper.h"

#define SAMPLE_COLUMNS 10
#define SAMPLE_ROWS 1100

static const column sample_columns[SAMPLE_COLUMNS] = {COLUMN("amount", "numeric", COLUMN_NUMBER),
													  COLUMN("paid", "boolean", COLUMN_BOOLEAN),
													  COLUMN("at", "timestamp with time zone", COLUMN_TIME),
													  COLUMN("colour", "text", COLUMN_TEXT),
													  COLUMN("shop", "text", COLUMN_CATEGORY),
													  COLUMN("note", "text", COLUMN_TEXT),
													  COLUMN("pixels", "real[]", COLUMN_VECTOR),
													  COLUMN("extra", "jsonb", COLUMN_JSON),
													  COLUMN("same", "integer", COLUMN_NUMBER),
													  COLUMN("picture", "tensor", COLUMN_VECTOR)};

typedef struct sample
{
	value rows[SAMPLE_ROWS * SAMPLE_COLUMNS];
	char text[SAMPLE_ROWS][2][96];
	float pixels[SAMPLE_ROWS][4];
	float picture[SAMPLE_ROWS][2 * 3 * 2];
	value label[SAMPLE_ROWS];
	encoder *encoder;
	target *target;
} sample;

static inline void
sample_row(sample *s, int r)
{
	static const char *const colours[] = {"red", "gr\xC3\xBCn", "\xE8\x93\x9D", "caf\xE9"};
	static const char *const notes[] = {"late delivery", "good price and quick", "\xE5\xBE\x88\xE5\xA5\xBD",
										"never again"};
	value *v = s->rows + r * SAMPLE_COLUMNS;

	snprintf(s->text[r][0], sizeof(s->text[r][0]), "shop %d", r * r % 150);
	snprintf(s->text[r][1], sizeof(s->text[r][1]), "%s, %s no %d", notes[r % 4], notes[r / 3 % 4], r);
	for (int i = 0; i < 4; i++)
		s->pixels[r][i] = (float) (r * (i + 1) % 17) / 3;
	v[0] = r % 10 == 3 ? NOTHING : NUMBER(sqrt(r) * 12.5 - 100);
	v[1] = NUMBER(r % 3 == 0);
	v[2] = NUMBER(1.7e9 + r * 5000.0);
	v[3] = r % 20 == 7 ? NOTHING : STRING(colours[r % 7 % 4]);
	v[4] = STRING(s->text[r][0]);
	v[5] = r % 50 == 9 ? NOTHING : STRING(s->text[r][1]);
	v[6] = r % 30 == 2 ? NOTHING : VECTOR(s->pixels[r], 4);
	v[7] = r % 4 == 1 ? STRING("n/a") : NUMBER(r % 5);
	v[8] = NUMBER(1);
	for (int i = 0; i < 12; i++)
		s->picture[r][i] = (float) (r * (i + 5) % 23) / 22;
	v[9] = r % 40 == 6 ? NOTHING : IMAGE(s->picture[r], 2, 3, 2);
	s->label[r] = STRING(colours[r % 5 % 3]);
}

/* Rows, an encoder with embedding, and a target of three classes.  image: the picture is one, not just numbers. */
static inline sample *
sample_new(bool image)
{
	column columns[SAMPLE_COLUMNS];
	sample *s = calloc(1, sizeof(sample));
	column label = COLUMN("label", "text", COLUMN_TEXT);
	fit_options options = default_options;
	llm_error err = {.code = LLM_OK};
	target_fitter *f = target_fitter_new(TARGET_CLASS, &label, 1, &err);

	for (int r = 0; r < SAMPLE_ROWS; r++)
	{
		sample_row(s, r);
		target_fitter_add(f, &s->label[r], &err);
	}
	memcpy(columns, sample_columns, sizeof(columns));
	columns[SAMPLE_COLUMNS - 1].image = image;
	options.one_hot_max = 20;
	s->target = target_fitter_finish(f, &err);
	s->encoder = fit_rows(columns, SAMPLE_COLUMNS, &options, s->rows, SAMPLE_ROWS, NULL, NULL, &err);
	CHECK_STR(err.message, "");
	return s;
}

static inline void
sample_free(sample *s)
{
	encoder_free(s->encoder);
	target_free(s->target);
	free(s);
}

static inline batch *
sample_batch(const sample *s, int64_t capacity)
{
	llm_error err = {.code = LLM_OK};
	batch_shape shape;

	encoder_shape(s->encoder, &shape);
	target_shape(s->target, &shape);
	return batch_new(&shape, capacity, &err);
}

#endif /* LLMAPP_FEATURE_SAMPLE_H */
