/*
 * stats.c
 *	  Running statistics of one column.
 *
 * The sample is Li's algorithm L ("Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))",
 * 1994), which draws how many numbers to pass over.  Its random numbers depend only on seed, column and
 * row number, so the same rows in the same order give the same encoder.
 */
#include "stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../engine/philox.h"
#include "text.h"
#include "value.h"

bool
stats_init(column_stats *s, const column *c, int32_t text_buckets, llm_error *err)
{
	bool numbers = c->kind == COLUMN_NUMBER || c->kind == COLUMN_TIME || c->kind == COLUMN_BOOLEAN;

	memset(s, 0, sizeof(column_stats));
	s->equals_target = s->rising = s->falling = true;
	s->low = INFINITY;
	s->high = -INFINITY;
	if (c->kind == COLUMN_VECTOR)
		return true;
	s->values = tally_new(numbers ? NUMBERS_COUNTED : CATEGORIES_MAX,
						  numbers ? NUMBERS_COUNTED * (sizeof(double) + 1) : CATEGORY_BYTES_MAX);
	if (c->kind == COLUMN_TEXT)
		s->bucket_rows = calloc(text_buckets, sizeof(uint32_t));
	return (s->values != NULL && (c->kind != COLUMN_TEXT || s->bucket_rows != NULL)) ||
		   llm_fail(err, LLM_MEMORY, "out of memory for column \"%s\"", c->name);
}

void
stats_free(column_stats *s)
{
	tally_free(s->values);
	free(s->sample);
	free(s->bucket_rows);
	free(s->elements);
}

void
moments_add(moments *m, double x)
{
	double step = x - m->mean;

	m->count++;
	m->mean += step / m->count;
	m->m2 += step * (x - m->mean);
}

double
moments_deviation(const moments *m)
{
	return m->count > 0 ? sqrt(m->m2 / m->count) : 0;
}

double
stats_correlation(const column_stats *s)
{
	double scale = sqrt(s->x.m2) * sqrt(s->y.m2);

	return scale > 0 ? s->xy / scale : 0;
}

/* Within (0, 1). */
static double
uniform(uint32_t bits)
{
	return (bits + 0.5) * 0x1p-32;
}

/* Draw which number, behind number `at`, takes whose place in the full sample. */
static void
draw_next(column_stats *s, int64_t at, uint64_t seed, int32_t position)
{
	uint32_t out[4];

	philox(seed, (uint64_t) at, (uint32_t) position, 0, out);
	s->sample_weight *= exp(log(uniform(out[0])) / SAMPLE_MAX);
	s->sample_next = at + 1 + (int64_t) fmin(log(uniform(out[1])) / log1p(-s->sample_weight), 1e18);
	s->sample_place = (int32_t) (out[2] % SAMPLE_MAX);
}

static bool
sample_add(column_stats *s, double x, uint64_t seed, int32_t position)
{
	int64_t at = s->x.count - 1; /* x is counted already */

	if (at == SAMPLE_MAX)
	{
		s->sample_weight = 1;
		draw_next(s, at - 1, seed, position);
	}
	if (at >= SAMPLE_MAX)
	{
		if (at == s->sample_next)
		{
			s->sample[s->sample_place] = x;
			draw_next(s, at, seed, position);
		}
		return true;
	}
	if (s->sample_count == s->sample_capacity)
	{
		int32_t capacity = s->sample_capacity ? s->sample_capacity * 2 : 64;
		double *sample = realloc(s->sample, capacity * sizeof(double));

		if (sample == NULL)
			return false;
		s->sample = sample;
		s->sample_capacity = capacity;
	}
	s->sample[s->sample_count++] = x;
	return true;
}

static void
add_parts(column_stats *s, double seconds)
{
	double part[TIME_PARTS];

	time_parts(seconds, part);
	for (int i = 0; i < TIME_PARTS; i++)
		s->parts_seen[i] |= UINT32_C(1) << (int) part[i];
}

static bool
add_number(column_stats *s, const column *c, double x, double target, uint64_t seed, int32_t position)
{
	double step;

	s->numbers++;
	s->equals_target = s->equals_target && x == target;
	if (fabs(x) > NUMBER_MAX)
		return true;
	if (s->x.count > 0)
	{
		s->rising = s->rising && x > s->last;
		s->falling = s->falling && x < s->last;
	}
	s->last = x;
	s->low = x < s->low ? x : s->low;
	s->high = x > s->high ? x : s->high;
	step = x - s->x.mean;
	moments_add(&s->x, x);
	moments_add(&s->y, target);
	s->xy += step * (target - s->y.mean);
	if (c->kind == COLUMN_TIME)
		add_parts(s, x);
	return sample_add(s, x, seed, position) && (c->kind == COLUMN_JSON || tally_add_number(s->values, x, target));
}

/* The n-grams of a text that stands in so many rows. */
static void
add_grams(column_stats *s, const char *text, int32_t length, int32_t buckets, int64_t rows)
{
	gram_set set;

	set.row_of = NULL;
	set.buckets = buckets;
	set.max = TEXT_PAIRS_MAX;
	text_grams(&set, text, length);
	for (int32_t i = 0; i < set.count; i++)
	{
		uint32_t *count = &s->bucket_rows[set.row[i]];

		*count = rows < UINT32_MAX - *count ? *count + (uint32_t) rows : UINT32_MAX;
	}
	if (set.count > s->grams_max)
		s->grams_max = set.count;
}

void
stats_count_grams(column_stats *s, int32_t buckets)
{
	for (int32_t i = 0; i < s->values->values->count; i++)
		add_grams(s, strings_at(s->values->values, i), (int32_t) s->values->values->length[i], buckets,
				  s->values->entries[i].rows);
}

static bool
add_string(column_stats *s, const column *c, const value *v, double target, int32_t text_buckets)
{
	char buffer[NUMBER_TEXT_BYTES];
	int32_t length;
	const char *text = value_text(v, false, buffer, &length);
	int64_t overflow = s->values->overflow;

	s->strings += v->kind == VALUE_STRING;
	s->tokens += text_is_token(text, length);
	s->bytes += length;
	if (!tally_add_string(s->values, text, length, target))
		return false;
	if (c->kind == COLUMN_TEXT && s->values->overflow > overflow)
		add_grams(s, text, length, text_buckets, 1);
	return true;
}

/* The first vector decides what all of them must be. */
static bool
start_vector(column_stats *s, const column *c, const value *v, llm_error *err)
{
	if (c->image && !image_of_shape(c->name, v->ndim, v->dims, s->image, err))
		return false;
	if (!c->image && (v->length < 1 || v->length > VECTOR_MAX))
		return llm_fail(err, LLM_INVALID, "column \"%s\" has %d elements, 1 to %d are possible", c->name, v->length,
						VECTOR_MAX);
	s->elements = calloc(v->length, sizeof(moments));
	if (s->elements == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for column \"%s\"", c->name);
	s->length = v->length;
	return true;
}

static bool
same_image(const column_stats *s, const column *c, const value *v, llm_error *err)
{
	int32_t image[3];

	if (!image_of_shape(c->name, v->ndim, v->dims, image, err))
		return false;
	if (memcmp(image, s->image, sizeof(image)) == 0)
		return true;
	llm_fail(err, LLM_INVALID, "column \"%s\" has an image of %d x %d x %d in one row and of %d x %d x %d in another",
			 c->name, s->image[0], s->image[1], s->image[2], image[0], image[1], image[2]);
	return llm_hint(err, "Give all of them one size: llm_image(file, %d, %d, %d).", s->image[2], s->image[1],
					s->image[0]);
}

static bool
add_vector(column_stats *s, const column *c, const value *v, llm_error *err)
{
	if (s->length == 0 && !start_vector(s, c, v, err))
		return false;
	if (c->image && !same_image(s, c, v, err))
		return false;
	if (v->length != s->length)
	{
		llm_fail(err, LLM_INVALID, "column \"%s\" has %d elements in one row and %d in another", c->name, s->length,
				 v->length);
		return llm_hint(err,
						"Give all values one length, or leave the column out: params => '{\"exclude\": [\"%s\"]}'.",
						c->name);
	}
	for (int32_t i = 0; i < s->length; i++)
		if (isfinite(v->vector[i]))
			moments_add(&s->elements[i], v->vector[i]);
	return true;
}

/* Does a column of this kind hold this kind of value?  Others count as missing. */
static bool
fits(column_kind column, value_kind value)
{
	if (column == COLUMN_VECTOR)
		return value == VALUE_VECTOR;
	if (column == COLUMN_NUMBER || column == COLUMN_BOOLEAN || column == COLUMN_TIME)
		return value == VALUE_NUMBER;
	return value == VALUE_NUMBER || value == VALUE_STRING;
}

bool
stats_add(column_stats *s, const column *c, const value *v, double target, uint64_t seed, int32_t position,
		  int32_t text_buckets, llm_error *err)
{
	bool ok = true;

	s->rows++;
	if (value_missing(v) || !fits(c->kind, v->kind))
	{
		s->missing++;
		return true;
	}
	if (c->kind == COLUMN_VECTOR)
		return add_vector(s, c, v, err);
	if (v->kind == VALUE_NUMBER &&
		(c->kind == COLUMN_NUMBER || c->kind == COLUMN_BOOLEAN || c->kind == COLUMN_TIME || c->kind == COLUMN_JSON))
		ok = add_number(s, c, v->number, target, seed, position);
	if (ok && (c->kind == COLUMN_CATEGORY || c->kind == COLUMN_TEXT || c->kind == COLUMN_JSON))
		ok = add_string(s, c, v, target, text_buckets);
	return ok || llm_fail(err, LLM_MEMORY, "out of memory for column \"%s\"", c->name);
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

void
stats_quantiles(column_stats *s, int32_t parts, double *out)
{
	if (!s->sorted)
		qsort(s->sample, s->sample_count, sizeof(double), by_value);
	s->sorted = true;
	for (int32_t i = 0; i <= parts; i++)
	{
		double at = (double) i / parts * (s->sample_count - 1);
		int32_t low = (int32_t) at;
		int32_t high = low + (low + 1 < s->sample_count);

		out[i] = s->sample[low] + (at - low) * (s->sample[high] - s->sample[low]);
	}
}
