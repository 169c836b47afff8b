/*
 * layout.c
 *	  Make, lay out and free encoders.
 *
 * Both ways to an encoder, fitting and reading JSON, fill in the stored fields of each encoding
 * and call encoder_layout(), which derives the rest: so a stored encoder encodes like the fitted one.
 */
#include <stdlib.h>
#include <string.h>

#include "encoder.h"

static bool
copy_column(column *to, const column *from)
{
	*to = *from;
	to->name = strdup(from->name);
	to->sql_type = strdup(from->sql_type);
	return to->name != NULL && to->sql_type != NULL;
}

encoder *
encoder_new(const column *columns, int32_t count)
{
	encoder *e = calloc(1, sizeof(encoder));

	if (e == NULL)
		return NULL;
	e->encodings = calloc(count + 1, sizeof(encoding));
	if (e->encodings == NULL)
	{
		free(e);
		return NULL;
	}
	e->count = count;
	for (int32_t i = 0; i < count; i++)
	{
		e->encodings[i].null_slot = e->encodings[i].other_slot = -1;
		if (!copy_column(&e->encodings[i].column, &columns[i]))
		{
			encoder_free(e);
			return NULL;
		}
	}
	return e;
}

/* e with its layout, or NULL; NULL stands for one that there was no memory for. */
static encoder *
laid_out(encoder *e, llm_error *err)
{
	if (e == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory");
	else if (!encoder_layout(e, LLM_INVALID, err))
	{
		encoder_free(e);
		e = NULL;
	}
	return e;
}

encoder *
encoder_none(llm_error *err)
{
	return laid_out(encoder_new(NULL, 0), err);
}

encoder *
encoder_of_text(const column *c, llm_error *err)
{
	encoder *e = encoder_new(c, 1);

	if (e != NULL)
	{
		e->encodings[0].kind = ENCODING_TEXT;
		e->encodings[0].column.tokens = true;
	}
	return laid_out(e, err);
}

void
encoder_free(encoder *e)
{
	if (e == NULL)
		return;
	for (int32_t i = 0; i < e->count; i++)
	{
		encoding *c = &e->encodings[i];

		free(c->column.name);
		free(c->column.sql_type);
		free(c->edges);
		free(c->edge);
		free(c->edge_inverse);
		strings_free(c->categories);
		free(c->row_of);
		free(c->rarity);
		free(c->means);
		free(c->scales);
		free(c->inverses);
	}
	if (e->text != NULL)
		free(e->text->id);
	free(e->text);
	free(e->encodings);
	free(e);
}

void
encoder_shape(const encoder *e, batch_shape *shape)
{
	shape->dense = e->shape.dense;
	shape->embed_columns = e->shape.embed_columns;
	shape->embed_rows = e->shape.embed_rows;
	shape->bag_rows = e->shape.bag_rows;
	shape->bag_max = e->shape.bag_max;
	shape->vocab = e->shape.vocab;
	shape->context = e->shape.context;
	shape->source_context = 0;
}

void
encoder_image(const encoder *e, int32_t image[3])
{
	memset(image, 0, 3 * sizeof(int32_t));
	if (e->image >= 0)
		memcpy(image, e->encodings[e->image].image, 3 * sizeof(int32_t));
}

bool
encoder_has_tokens(const encoder *e)
{
	return e->tokens >= 0;
}

int32_t
encoder_context(const encoder *e)
{
	return e->shape.context;
}

bool
encoder_set_tokenizer(encoder *e, tokenizer *t, int32_t vocab, int32_t context, llm_error *err)
{
	encoding *c = &e->encodings[e->tokens];

	if (tokenizer_special(t, SPECIAL_END) < 0 && !tokenizer_has_frame(t, false))
		return llm_fail(err, LLM_CORRUPT, "the tokenizer has no token for the end of a text");
	if (tokenizer_size(t) > vocab || (c->context > 0 && (context != c->context || tokenizer_size(t) > c->vocab)))
		return llm_fail(err, LLM_CORRUPT, "the tokenizer has %d tokens, column \"%s\" has %d", tokenizer_size(t),
						c->column.name, c->vocab);
	if (c->context == 0)
	{
		e->shape.vocab = c->vocab = vocab;
		e->shape.context = c->context = context;
	}
	e->tokenizer = t;
	return true;
}

int32_t
encoder_column_count(const encoder *e)
{
	return e->count;
}

const column *
encoder_column(const encoder *e, int32_t i)
{
	return &e->encodings[i].column;
}

bool
encoder_column_used(const encoder *e, int32_t i)
{
	return e->encodings[i].kind != ENCODING_DROPPED;
}

void
encoding_slots(encoding *c, bool has_null, bool has_other)
{
	int32_t next = c->kind == ENCODING_TEXT ? c->kept : c->categories->count;

	c->null_slot = has_null ? next++ : -1;
	/* An embedded column needs a row for whatever comes. */
	c->other_slot = has_other || c->kind == ENCODING_EMBED ? next : -1;
}

/* Edges in units of z by the very arithmetic that makes z, so that a value on an edge is on it. */
static bool
derive_bins(encoding *c)
{
	c->edge = malloc(c->bins * sizeof(float));
	c->edge_inverse = malloc(c->bins * sizeof(float));
	if (c->edge == NULL || c->edge_inverse == NULL)
		return false;
	for (int32_t i = 0; i < c->bins; i++)
	{
		float low = standard_clamp((c->edges[i] - c->center) * c->inverse);
		float width = standard_clamp((c->edges[i + 1] - c->center) * c->inverse) - low;

		c->edge[i] = low;
		/* Edges too close for floats leave a step. */
		c->edge_inverse[i] = width > 1e-15f ? 1 / width : 1e15f;
	}
	return true;
}

int32_t
encoding_scales(const encoding *c)
{
	return c->kind == ENCODING_IMAGE ? c->image[0] : c->length;
}

static bool
derive_vector(encoding *c)
{
	c->inverses = malloc(encoding_scales(c) * sizeof(float));
	if (c->inverses == NULL)
		return false;
	for (int32_t i = 0; i < encoding_scales(c); i++)
		c->inverses[i] = c->scales[i] > 0 ? standard_clamp(1 / c->scales[i]) : 0;
	return true;
}

/* The parts of one encoding that need memory. */
static bool
derive(encoding *c)
{
	if (c->kind == ENCODING_NUMBER || c->kind == ENCODING_TIME)
	{
		c->inverse = 1 / c->scale;
		return c->bins == 0 || derive_bins(c);
	}
	return (c->kind != ENCODING_VECTOR && c->kind != ENCODING_IMAGE) || derive_vector(c);
}

static int32_t
part_count(const encoding *c)
{
	int32_t count = 0;

	for (int i = 0; i < TIME_PARTS; i++)
		count += c->parts[i];
	return count;
}

/* Sizes of one encoding. */
static void
measure(encoding *c)
{
	c->narrow_count = c->dense_count = c->rows = 0;
	switch (c->kind)
	{
		case ENCODING_DROPPED: break;
		case ENCODING_NUMBER:
			c->narrow_count = 1;
			c->dense_count = 1 + c->indicator + c->bins;
			break;
		case ENCODING_TIME:
			c->narrow_count = 1 + 2 * part_count(c);
			c->dense_count = c->narrow_count + c->indicator + c->bins;
			break;
		case ENCODING_VECTOR:
			c->narrow_count = c->length;
			c->dense_count = c->length + c->indicator;
			break;
		case ENCODING_IMAGE: c->narrow_count = c->dense_count = c->length; break;
		case ENCODING_ONE_HOT:
			c->pairs_max = 1;
			/* fall through */
		case ENCODING_EMBED: c->rows = c->categories->count + (c->null_slot >= 0) + (c->other_slot >= 0); break;
		case ENCODING_TEXT: c->rows = c->kept + (c->null_slot >= 0); break;
	}
}

/* Put one encoding behind those before it.  Each size is below 2^21, so sums checked each time cannot overflow. */
static bool
place(encoder *e, encoding *c)
{
	batch_shape *s = &e->shape;

	c->narrow = e->narrow;
	e->narrow += c->narrow_count;
	s->dense += c->dense_count;
	if (c->kind == ENCODING_EMBED)
	{
		c->embed_column = s->embed_columns++;
		c->first_row = s->embed_rows;
		s->embed_rows += c->rows;
	}
	else if (c->kind == ENCODING_ONE_HOT || c->kind == ENCODING_TEXT)
	{
		c->first_row = s->bag_rows;
		s->bag_rows += c->rows;
		s->bag_max += c->pairs_max;
		e->text_columns += c->kind == ENCODING_TEXT;
	}
	return s->dense <= DENSE_MAX && s->embed_rows <= EMBED_ROWS_MAX && s->bag_rows <= BAG_ROWS_MAX &&
		   s->bag_max <= BAG_PAIRS_MAX;
}

/* Set *found to i; it may have been set to no other before. */
static bool
claim(const encoder *e, int32_t i, int32_t *found, const char *what, llm_code code, llm_error *err)
{
	if (*found >= 0)
		return llm_fail(err, code, "columns \"%s\" and \"%s\" are both %s", e->encodings[*found].column.name,
						e->encodings[i].column.name, what);
	*found = i;
	return true;
}

/* Sets e->image and e->tokens. */
static bool
find_parts(encoder *e, llm_code code, llm_error *err)
{
	e->image = e->tokens = -1;
	for (int32_t i = 0; i < e->count; i++)
	{
		const encoding *c = &e->encodings[i];

		if (c->kind == ENCODING_IMAGE && !claim(e, i, &e->image, "images", code, err))
			return false;
		if (c->column.tokens && !claim(e, i, &e->tokens, "read token by token", code, err))
			return false;
	}
	if (e->tokens < 0)
		return true;
	e->shape.vocab = e->encodings[e->tokens].vocab;
	e->shape.context = e->encodings[e->tokens].context;
	e->text = calloc(1, sizeof(token_list));
	return e->text != NULL || llm_fail(err, LLM_MEMORY, "out of memory while laying out the inputs");
}

static bool
lay_out(encoder *e, encoding *c, llm_code code, llm_error *err)
{
	if (!derive(c))
		return llm_fail(err, LLM_MEMORY, "out of memory while laying out the inputs");
	measure(c);
	return place(e, c) ||
		   llm_fail(err, code, "the inputs up to column \"%s\" are wider than %d numbers or %d categories",
					c->column.name, DENSE_MAX, BAG_ROWS_MAX);
}

bool
encoder_layout(encoder *e, llm_code code, llm_error *err)
{
	e->simd = simd_best();
	if (!find_parts(e, code, err) || (e->image >= 0 && !lay_out(e, &e->encodings[e->image], code, err)))
		return false;
	for (int32_t i = 0; i < e->count; i++)
		if (i != e->image && !lay_out(e, &e->encodings[i], code, err))
			return false;
	if (e->count > 0 && e->tokens < 0 && e->shape.dense == 0 && e->shape.embed_columns == 0 && e->shape.bag_rows == 0)
		return llm_fail(err, code, "no column can be used as an input");
	return true;
}
