/*
 * encode.c
 *	  One row of values to the numbers a network reads.  The path of every prediction.
 *
 * Nothing is allocated and nothing is remembered between rows: what a row becomes depends on the
 * encoder and the row alone.  See encoder.h for the two steps.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "encoder.h"
#include "text.h"
#include "value.h"

#define SECONDS_PER_DAY 86400
#define TIME_MAX 1e13 /* beyond PostgreSQL's last timestamp, in seconds */
#define PI 3.14159265358979323846
#define WIDEN_BLOCK 16 /* elements */

const double time_period[TIME_PARTS] = {24, 7, 31, 12};

/* Day of month and month (0 = January) by the proleptic Gregorian calendar, in eras of 400 years from March. */
static void
civil(int64_t days, int *day, int *month)
{
	int64_t shifted = days + 719468;
	int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
	int in_era = (int) (shifted - era * 146097);
	int year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	int in_year = in_era - (365 * year + year / 4 - year / 100);
	int from_march = (5 * in_year + 2) / 153;

	*day = in_year - (153 * from_march + 2) / 5;
	*month = (from_march + 2) % 12;
}

void
time_parts(double seconds, double part[TIME_PARTS])
{
	double bounded = seconds > TIME_MAX ? TIME_MAX : seconds < -TIME_MAX ? -TIME_MAX : seconds;
	double days = floor(bounded / SECONDS_PER_DAY);
	int weekday = (int) (((int64_t) days + 4) % 7);
	int day, month;

	civil((int64_t) days, &day, &month);
	part[PART_HOUR] = (bounded - days * SECONDS_PER_DAY) / 3600;
	part[PART_WEEKDAY] = weekday < 0 ? weekday + 7 : weekday; /* 0 = Sunday */
	part[PART_DAY] = day;
	part[PART_MONTH] = month;
}

/* The number of a value within the range of training where it is infinite; NaN when there is none. */
static double
bounded_number(const encoding *c, const value *v)
{
	if (v->kind != VALUE_NUMBER || isnan(v->number))
		return NAN;
	return v->number > NUMBER_MAX ? c->high : v->number < -NUMBER_MAX ? c->low : v->number;
}

static void
compact_time(const encoding *c, const value *v, float *out)
{
	double x = bounded_number(c, v);
	double part[TIME_PARTS];

	*out++ = standard_clamp((x - c->center) * c->inverse);
	if (!isnan(x))
		time_parts(x, part);
	for (int i = 0; i < TIME_PARTS; i++)
	{
		double angle;

		if (!c->parts[i])
			continue;
		angle = isnan(x) ? NAN : 2 * PI * part[i] / time_period[i];
		*out++ = (float) sin(angle);
		*out++ = (float) cos(angle);
	}
}

/* All NaN for a missing vector; a missing element is its mean. */
static bool
compact_vector(const encoding *c, const value *v, float *out, llm_error *err)
{
	bool missing = value_missing(v);

	if (!missing && (v->kind != VALUE_VECTOR || v->length != c->length))
		return llm_fail(err, LLM_INVALID, "column \"%s\" has %d elements, the model was trained with %d",
						c->column.name, v->kind == VALUE_VECTOR ? v->length : 1, c->length);
	for (int32_t i = 0; i < c->length; i++)
	{
		double x = missing ? NAN : v->vector[i];

		out[i] = missing ? NAN : isnan(x) ? 0 : standard_clamp((x - c->means[i]) * c->inverses[i]);
	}
	return true;
}

/* "28 x 28" */
static const char *
shape_text(int32_t ndim, const int32_t *dims, char *text, size_t size)
{
	int used = 0;

	for (int32_t i = 0; i < ndim; i++)
		used += snprintf(text + used, size - used, "%s%d", i > 0 ? " x " : "", dims[i]);
	return text;
}

#define SHAPE_TEXT(ndim, dims) shape_text((ndim), (dims), (char[64]) {0}, 64)

bool
image_of_shape(const char *column, int32_t ndim, const int32_t *dims, int32_t image[3], llm_error *err)
{
	double numbers = 1;

	if (ndim != 2 && ndim != 3)
	{
		llm_fail(err, LLM_INVALID, "column \"%s\" is no image: it has %d dimension%s", column, ndim < 1 ? 1 : ndim,
				 ndim <= 1 ? "" : "s");
		return llm_hint(err, "An image is a tensor (height, width) or (channels, height, width): "
							 "llm_image(file), or llm_reshape(value, '{1, 28, 28}').");
	}
	image[0] = ndim == 3 ? dims[0] : 1;
	image[1] = dims[ndim - 2];
	image[2] = dims[ndim - 1];
	for (int i = 0; i < 3; i++)
		numbers *= image[i];
	if (numbers < 1 || numbers > IMAGE_MAX)
	{
		llm_fail(err, LLM_INVALID, "column \"%s\" has images of %s numbers, 1 to %d are possible", column,
				 SHAPE_TEXT(ndim, dims), IMAGE_MAX);
		return llm_hint(err, "Make them smaller: llm_image(file, width, height).");
	}
	if (image[2] <= 4 && image[0] > 4)
	{
		llm_fail(err, LLM_INVALID, "column \"%s\" has images of shape %s, which looks like (height, width, channels)",
				 column, SHAPE_TEXT(ndim, dims));
		return llm_hint(err, "An image is a tensor (channels, height, width), as llm_image() makes it.");
	}
	return true;
}

/* Numbers without a shape are taken as they come. */
static bool
check_image(const encoding *c, const value *v, llm_error *err)
{
	int32_t image[3];

	if (v->ndim <= 1 && v->length == c->length)
		return true;
	if (!image_of_shape(c->column.name, v->ndim, v->dims, image, err))
		return false;
	return memcmp(image, c->image, sizeof(image)) == 0 ||
		   (llm_fail(err, LLM_INVALID, "column \"%s\" has an image of %s, the model was trained with %s",
					 c->column.name, SHAPE_TEXT(3, image), SHAPE_TEXT(3, c->image)),
			llm_hint(err, "llm_image(file, %d, %d, %d) makes it fit.", c->image[2], c->image[1], c->image[0]));
}

/* NaN where a pixel is missing, or all of the image. */
static bool
compact_image(const encoding *c, const value *v, float *out, llm_error *err)
{
	int32_t pixels = c->image[1] * c->image[2];
	bool missing = value_missing(v) || v->kind != VALUE_VECTOR;

	if (!missing && !check_image(c, v, err))
		return false;
	for (int32_t i = 0; i < c->image[0]; i++)
	{
		float mean = (float) c->means[i], inverse = c->inverses[i];

		for (int32_t p = i * pixels; p < (i + 1) * pixels; p++)
		{
			float z = missing ? NAN : (v->vector[p] - mean) * inverse;

			out[p] = z > STANDARD_MAX ? STANDARD_MAX : z < -STANDARD_MAX ? -STANDARD_MAX : z;
		}
	}
	return true;
}

int32_t
category_slot(const encoding *c, const value *v)
{
	char buffer[NUMBER_TEXT_BYTES];
	int32_t length;
	const char *text;
	int32_t slot;

	if (value_missing(v))
		return c->null_slot >= 0 ? c->null_slot : c->other_slot;
	if (v->kind == VALUE_VECTOR)
		return c->other_slot;
	text = value_text(v, false, buffer, &length);
	slot = strings_find(c->categories, text, length);
	return slot >= 0 ? slot : c->other_slot;
}

void
encoder_count_gaps(const encoder *e, const value *row, int64_t *missing, int64_t *unknown)
{
	for (int32_t i = 0; i < e->count; i++)
	{
		const encoding *c = &e->encodings[i];
		char buffer[NUMBER_TEXT_BYTES];
		int32_t length;
		const char *text;

		if (c->kind == ENCODING_DROPPED)
			continue;
		missing[i] += value_missing(&row[i]);
		if (unknown == NULL || (c->kind != ENCODING_ONE_HOT && c->kind != ENCODING_EMBED) || value_missing(&row[i]))
			continue;
		text = row[i].kind == VALUE_VECTOR ? NULL : value_text(&row[i], false, buffer, &length);
		unknown[i] += text == NULL || strings_find(c->categories, text, length) < 0;
	}
}

static void
add_pair(compact_row *out, int32_t index, float number)
{
	out->bag_index[out->pairs] = index;
	out->bag_value[out->pairs] = number;
	out->pairs++;
}

/* (1 + ln(times)) times its rarity. */
static double
gram_weight(const encoding *c, const gram_set *set, int32_t i)
{
	return (1 + log(set->times[i])) * c->rarity[set->row[i]];
}

/* Weights of all n-grams, scaled to the length that texts have. */
static void
compact_text(const encoding *c, const value *v, compact_row *out)
{
	gram_set set;
	char buffer[NUMBER_TEXT_BYTES];
	int32_t length;
	const char *text;
	double norm = 0;

	if (c->rows == 0) /* tokens alone */
		return;
	if (value_missing(v) || v->kind == VALUE_VECTOR)
	{
		if (c->null_slot >= 0)
			add_pair(out, c->first_row + c->null_slot, 1);
		return;
	}
	set.row_of = c->row_of;
	set.buckets = c->buckets;
	set.max = c->pairs_max;
	text = value_text(v, false, buffer, &length);
	text_grams(&set, text, length);
	for (int32_t i = 0; i < set.count; i++)
	{
		double w = gram_weight(c, &set, i);

		norm += w * w;
	}
	norm = norm > 0 ? c->text_length / sqrt(norm) : 0;
	for (int32_t i = 0; i < set.count; i++)
		add_pair(out, c->first_row + set.row[i], (float) (gram_weight(c, &set, i) * norm));
}

static void
compact_category(const encoding *c, const value *v, compact_row *out)
{
	int32_t slot = category_slot(c, v);

	if (c->kind == ENCODING_EMBED)
		out->embed[c->embed_column] = c->first_row + slot;
	else if (slot >= 0)
		add_pair(out, c->first_row + slot, 1);
}

/* The first tokens of the text, and the token that ends it. */
static bool
compact_tokens(const encoder *e, const value *v, compact_row *out, llm_error *err)
{
	token_list *list = e->text;
	const char *text = v->kind == VALUE_STRING ? v->string : "";
	size_t length = v->kind == VALUE_STRING ? v->length : 0;

	list->count = 0;
	if (e->tokenizer == NULL)
		return llm_fail(err, LLM_INVALID, "the encoder has no tokenizer");
	if (!tokenizer_encode_input(e->tokenizer, text, length, e->shape.context, list, err))
		return false;
	out->tokens = (int32_t) list->count;
	memcpy(out->token, list->id, list->count * sizeof(int32_t));
	return true;
}

bool
encode_compact(const encoder *e, const value *row, compact_row *out, llm_error *err)
{
	out->pairs = 0;
	for (int32_t i = 0; i < e->count; i++)
	{
		const encoding *c = &e->encodings[i];

		switch (c->kind)
		{
			case ENCODING_DROPPED:
			case ENCODING_TEXT: break;
			case ENCODING_NUMBER:
				out->narrow[c->narrow] = standard_clamp((bounded_number(c, &row[i]) - c->center) * c->inverse);
				break;
			case ENCODING_TIME: compact_time(c, &row[i], out->narrow + c->narrow); break;
			case ENCODING_ONE_HOT:
			case ENCODING_EMBED: compact_category(c, &row[i], out); break;
			case ENCODING_VECTOR:
				if (!compact_vector(c, &row[i], out->narrow + c->narrow, err))
					return false;
				break;
			case ENCODING_IMAGE:
				if (!compact_image(c, &row[i], out->narrow + c->narrow, err))
					return false;
				break;
		}
	}
	/* Texts come last, so that pairs of value 1 stand in front in a record. */
	for (int32_t i = 0; e->text_columns > 0 && i < e->count; i++)
		if (e->encodings[i].kind == ENCODING_TEXT)
			compact_text(&e->encodings[i], &row[i], out);
	return e->tokens < 0 || compact_tokens(e, &row[e->tokens], out, err);
}

static float
squashed(const encoding *c, float z)
{
	float y = c->squash ? z / sqrtf(1 + z * z * (1.0f / 9)) : z;

	return isnan(y) ? 0 : y;
}

/* z, indicator, bins: a missing value is zero everywhere but in the indicator. */
static float *
widen_number(const simd_kernels *simd, const encoding *c, float z, float *out)
{
	bool missing = isnan(z);

	*out++ = squashed(c, z);
	if (c->indicator)
		*out++ = missing;
	simd->bins(z, c->edge, c->edge_inverse, out, c->bins);
	return out + c->bins;
}

static float *
widen_time(const simd_kernels *simd, const encoding *c, const float *in, float *out)
{
	out = widen_number(simd, c, in[0], out);
	for (int32_t i = 1; i < c->narrow_count; i++)
		*out++ = isnan(in[i]) ? 0 : in[i];
	return out;
}

static float *
widen_vector(const encoding *c, const float *in, float *out)
{
	bool missing = isnan(in[0]);

	/* Through a buffer, so that the loop is one of vectors although input and output overlap. */
	for (int32_t i = 0; i < c->length; i += WIDEN_BLOCK)
	{
		int32_t count = c->length - i < WIDEN_BLOCK ? c->length - i : WIDEN_BLOCK;
		float block[WIDEN_BLOCK] = {0};

		memcpy(block, in + i, count * sizeof(float));
		for (int32_t j = 0; j < WIDEN_BLOCK; j++)
			block[j] = squashed(c, block[j]);
		memcpy(out + i, block, count * sizeof(float));
	}
	if (c->indicator)
		out[c->length] = missing;
	return out + c->length + c->indicator;
}

/*
 * Every float of the compact row becomes one or more, so what is written never passes what is
 * still to be read.
 */
void
encode_widen(const encoder *e, float *dense)
{
	const float *in = dense + (e->shape.dense - e->narrow);
	float *out = dense;

	for (int32_t i = 0; e->image >= 0 && i < e->encodings[e->image].length; i++)
		*out++ = isnan(in[i]) ? 0 : in[i];
	for (int32_t i = 0; i < e->count; i++)
	{
		const encoding *c = &e->encodings[i];

		if (c->kind == ENCODING_NUMBER)
			out = widen_number(e->simd, c, in[c->narrow], out);
		else if (c->kind == ENCODING_TIME)
			out = widen_time(e->simd, c, in + c->narrow, out);
		else if (c->kind == ENCODING_VECTOR)
			out = widen_vector(c, in + c->narrow, out);
	}
}

bool
encoder_row(const encoder *e, const value *row, batch *b, llm_error *err)
{
	int64_t r = b->rows;
	float *dense = NULL;
	compact_row out = {.narrow = NULL};

	if (!batch_accepts(e, b, err))
		return false;
	if (e->narrow > 0)
	{
		dense = b->dense + r * e->shape.dense;
		out.narrow = dense + (e->shape.dense - e->narrow);
	}
	if (e->shape.embed_columns > 0)
		out.embed = b->embed + r * e->shape.embed_columns;
	if (e->shape.bag_rows > 0)
	{
		if (r == 0)
			b->bag_start[0] = 0;
		out.bag_index = b->bag_index + b->bag_start[r];
		out.bag_value = b->bag_value + b->bag_start[r];
	}
	if (e->tokens >= 0)
	{
		b->token_start[0] = 0;
		out.token = b->token + b->token_start[r];
	}
	if (!encode_compact(e, row, &out, err))
		return false;
	if (e->narrow > 0)
		encode_widen(e, dense);
	if (e->shape.bag_rows > 0)
		b->bag_start[r + 1] = b->bag_start[r] + out.pairs;
	if (e->tokens >= 0)
		b->token_start[r + 1] = b->token_start[r] + out.tokens;
	b->rows++;
	return true;
}

bool
batch_accepts(const encoder *e, const batch *b, llm_error *err)
{
	const batch_shape *s = &b->shape;

	if (b->rows >= b->capacity)
		return llm_fail(err, LLM_INVALID, "the batch is full");
	if (s->dense != e->shape.dense || s->embed_columns != e->shape.embed_columns ||
		s->embed_rows != e->shape.embed_rows || s->bag_rows != e->shape.bag_rows || s->bag_max != e->shape.bag_max ||
		s->vocab != e->shape.vocab || s->context != e->shape.context)
		return llm_fail(err, LLM_INVALID, "the batch has another shape than the encoder's rows");
	return true;
}
