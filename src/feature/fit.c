/*
 * fit.c
 *	  From the statistics of the training rows to an encoder.
 *
 * Numbers: centred on the median and scaled by the interquartile range, squashed smoothly, and
 * beside that piecewise-linear bins between quantiles (Gorishniy et al., "On embeddings for
 * numerical features in tabular deep learning", 2022), which let the first layer bend.  A linear
 * model gets the plain standardised number, so that its coefficients mean what they always mean.
 * Categories: one-hot up to one_hot_max, beyond that a learned embedding.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "judge.h"
#include "text.h"

#define BINS_MAX_FITTED 32
#define BINS_MIN_FITTED 8 /* fewer say too little */
#define ROWS_PER_BIN 128
#define IQR_OF_NORMAL 1.349 /* interquartile range of the standard normal distribution */
#define TEXT_ROWS_MIN 5     /* rows in which an n-gram must occur */
#define TEXT_ROWS_MIN_WIDE 2
#define TEXT_LENGTH_WIDE 30
#define TEXT_ROWS_RICH 5000 /* texts from which on more than words can be learned */
#define CATEGORY_ROWS_MIN 2 /* of an embedded category; rarer ones share a slot */

struct fitter
{
	int32_t count;       /* columns */
	encoder *encoder;    /* columns only, until fitter_finish() */
	column_stats *stats; /* (count) */
	llm_error *errors;   /* (count + 1) of the columns and the targets */
	tally *targets;
	bool whole_targets; /* all are integers >= 0 */
	double target_max;
	int64_t rows;
	fit_options options;
};

static void
fitter_free(fitter *f)
{
	if (f == NULL)
		return;
	for (int32_t i = 0; f->stats && i < f->count; i++)
		stats_free(&f->stats[i]);
	free(f->stats);
	free(f->errors);
	tally_free(f->targets);
	encoder_free(f->encoder);
	free(f);
}

static bool
options_valid(int32_t count, const fit_options *options, llm_error *err)
{
	if (count < 1 || count > COLUMNS_MAX)
		return llm_fail(err, LLM_INVALID, "%d input columns, 1 to %d are possible", count, COLUMNS_MAX);
	if (options->text_buckets < 2 || options->text_buckets > BUCKETS_MAX || options->one_hot_max < 0)
		return llm_fail(err, LLM_INVALID, "text_buckets must be from 2 to %d", BUCKETS_MAX);
	return true;
}

static bool
fitter_init(fitter *f, const column *columns, int32_t count, llm_error *err)
{
	f->count = count;
	f->whole_targets = true;
	f->encoder = encoder_new(columns, count);
	f->targets = tally_new(CATEGORIES_MAX, CATEGORIES_MAX * (sizeof(double) + 1));
	f->stats = f->encoder ? calloc(count, sizeof(column_stats)) : NULL;
	f->errors = calloc(count + 1, sizeof(llm_error));
	if (f->targets == NULL || f->stats == NULL || f->errors == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for %d input columns", count);
	for (int32_t i = 0; i < count; i++)
		if (!stats_init(&f->stats[i], &columns[i], f->options.text_buckets, err))
			return false;
	return true;
}

fitter *
fitter_new(const column *columns, int32_t count, const fit_options *options, llm_error *err)
{
	fitter *f;

	if (!options_valid(count, options, err))
		return NULL;
	f = calloc(1, sizeof(fitter));
	if (f == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory for %d input columns", count);
		return NULL;
	}
	f->options = *options;
	if (!fitter_init(f, columns, count, err))
	{
		fitter_free(f);
		return NULL;
	}
	return f;
}

static void
add_targets(fitter *f, const double *targets, int32_t count, llm_error *err)
{
	for (int32_t r = 0; r < count; r++)
	{
		f->whole_targets = f->whole_targets && targets[r] >= 0 && targets[r] == floor(targets[r]);
		f->target_max = targets[r] > f->target_max ? targets[r] : f->target_max;
		if (!tally_add_number(f->targets, targets[r], 0))
			llm_fail(err, LLM_MEMORY, "out of memory for the target");
	}
}

typedef struct fit_args
{
	fitter *f;
	const value *const *rows;
	const double *targets;
	int32_t count;
} fit_args;

/* A tile is a column; one more tallies the targets. */
static void
fit_tile(void *arg, int64_t tile)
{
	const fit_args *a = arg;
	fitter *f = a->f;
	int32_t i = (int32_t) tile;

	if (i == f->count)
		add_targets(f, a->targets, a->count, &f->errors[i]);
	for (int32_t r = 0; i < f->count && r < a->count; r++)
		if (!stats_add(&f->stats[i], &f->encoder->encodings[i].column, &a->rows[r][i], a->targets[r], f->options.seed,
					   i, f->options.text_buckets, &f->errors[i]))
			return;
}

bool
fitter_add_rows(fitter *f, const value *const *rows, const double *targets, int32_t count, pool *p, llm_error *err)
{
	fit_args a = {f, rows, targets, count};

	f->rows += count;
	pool_run(p, fit_tile, &a, f->count + 1, NULL, NULL);
	for (int32_t i = 0; i <= f->count; i++)
		if (f->errors[i].code != LLM_OK)
		{
			*err = f->errors[i];
			return false;
		}
	return true;
}

/* ---- one encoding ---- */

/* Distinct quantiles as edges of the bins; fewer than two bins say no more than the number itself. */
static bool
fit_bins(encoding *c, column_stats *s)
{
	double quantiles[BINS_MAX_FITTED + 1];
	int64_t most = s->rows / ROWS_PER_BIN;
	int32_t parts = most < BINS_MAX_FITTED ? (int32_t) most : BINS_MAX_FITTED;
	int32_t count = 0;

	if (parts < BINS_MIN_FITTED)
		return true;
	stats_quantiles(s, parts, quantiles);
	for (int32_t i = 0; i <= parts; i++)
		if (count == 0 || quantiles[i] > quantiles[count - 1])
			quantiles[count++] = quantiles[i];
	if (count < 3)
		return true;
	c->edges = malloc(count * sizeof(double));
	if (c->edges == NULL)
		return false;
	memcpy(c->edges, quantiles, count * sizeof(double));
	c->bins = count - 1;
	return true;
}

static bool
fit_number(encoding *c, column_stats *s, bool linear)
{
	double deviation = moments_deviation(&s->x);
	bool robust = !linear && c->column.kind != COLUMN_BOOLEAN;
	double quartile[5] = {0};

	c->indicator = s->missing > 0;
	c->center = s->x.mean;
	c->scale = deviation;
	c->squash = !linear;
	c->low = s->x.count > 0 ? s->low : 0;
	c->high = s->x.count > 0 ? s->high : 0;
	if (robust && s->x.count > 0)
	{
		stats_quantiles(s, 4, quartile);
		c->center = quartile[2];
		if (quartile[3] > quartile[1])
			c->scale = (quartile[3] - quartile[1]) / IQR_OF_NORMAL;
	}
	if (c->scale < SCALE_MIN)
		c->scale = 1;
	return !robust || s->x.count == 0 || fit_bins(c, s);
}

static bool
fit_time(encoding *c, column_stats *s, bool linear)
{
	for (int i = 0; i < TIME_PARTS; i++)
		c->parts[i] = (s->parts_seen[i] & (s->parts_seen[i] - 1)) != 0; /* more than one bit */
	return fit_number(c, s, linear);
}

static bool
fit_vector(encoding *c, const column_stats *s, bool linear)
{
	c->length = s->length;
	c->indicator = s->missing > 0;
	c->squash = !linear;
	c->means = malloc(s->length * sizeof(double));
	c->scales = malloc(s->length * sizeof(double));
	if (c->means == NULL || c->scales == NULL)
		return false;
	for (int32_t i = 0; i < s->length; i++)
	{
		c->means[i] = s->elements[i].mean;
		c->scales[i] = moments_deviation(&s->elements[i]);
	}
	return true;
}

/* Mean and deviation of each channel from those of its pixels. */
static bool
fit_image(encoding *c, const column_stats *s)
{
	int32_t channels = s->image[0], pixels = s->image[1] * s->image[2];

	c->kind = ENCODING_IMAGE;
	c->length = s->length;
	memcpy(c->image, s->image, sizeof(c->image));
	c->means = calloc(channels, sizeof(double));
	c->scales = calloc(channels, sizeof(double));
	if (c->means == NULL || c->scales == NULL)
		return false;
	for (int32_t i = 0; i < channels; i++)
	{
		const moments *m = s->elements + (size_t) i * pixels;
		double count = 0, squares = 0;

		for (int32_t p = 0; p < pixels; p++)
		{
			count += m[p].count;
			c->means[i] += m[p].mean * m[p].count;
		}
		c->means[i] /= fmax(count, 1);
		for (int32_t p = 0; p < pixels; p++)
			squares += m[p].m2 + m[p].count * (m[p].mean - c->means[i]) * (m[p].mean - c->means[i]);
		c->scales[i] = sqrt(squares / fmax(count, 1));
	}
	return true;
}

/* A category and its place in the tally. */
typedef struct ranked
{
	const char *text;
	uint32_t length;
	int64_t rows;
} ranked;

/* Most frequent first, then by bytes, so that order of rows does not matter. */
static int
by_rows(const void *a, const void *b)
{
	const ranked *x = a;
	const ranked *y = b;
	int order = (x->rows < y->rows) - (x->rows > y->rows);

	if (order == 0)
		order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
	return order != 0 ? order : (x->length > y->length) - (x->length < y->length);
}

static ranked *
rank_categories(const tally *t)
{
	ranked *rank = calloc(t->values->count + 1, sizeof(ranked));

	for (int32_t i = 0; rank && i < t->values->count; i++)
		rank[i] = (ranked) {strings_at(t->values, i), t->values->length[i], t->entries[i].rows};
	if (rank)
		qsort(rank, t->values->count, sizeof(ranked), by_rows);
	return rank;
}

static bool
fit_category(encoding *c, const column_stats *s, const fit_options *options)
{
	const tally *t = s->values;
	bool embed = !options->linear && t->values->count > options->one_hot_max;
	int64_t least = t->values->count > options->one_hot_max ? CATEGORY_ROWS_MIN : 1;
	ranked *rank = rank_categories(t);
	bool rare = t->overflow > 0;
	bool ok = true;

	c->categories = strings_new(CATEGORIES_MAX, CATEGORY_BYTES_MAX);
	if (rank == NULL || c->categories == NULL)
	{
		free(rank);
		return false;
	}
	for (int32_t i = 0; ok && i < t->values->count; i++)
	{
		if (rank[i].rows < least)
			rare = true;
		else
			ok = strings_put(c->categories, rank[i].text, rank[i].length) >= 0;
	}
	free(rank);
	c->kind = embed ? ENCODING_EMBED : ENCODING_ONE_HOT;
	encoding_slots(c, s->missing > 0, rare);
	return ok;
}

/*
 * Keep buckets whose n-grams occur in enough rows, but not in all; of few texts only those of words.
 * A weight of the output that no hidden layer shares may be that of a rare n-gram, and has to grow
 * large in few steps, so its numbers are large.
 */
static bool
fit_text(encoding *c, column_stats *s, int32_t buckets, bool wide)
{
	int64_t texts = s->rows - s->missing;
	int32_t least = wide ? TEXT_ROWS_MIN_WIDE : TEXT_ROWS_MIN;
	int32_t used = texts < TEXT_ROWS_RICH ? text_word_buckets(buckets) : buckets;

	stats_count_grams(s, buckets);
	c->buckets = buckets;
	c->text_length = wide ? TEXT_LENGTH_WIDE : 1;
	c->row_of = malloc(buckets * sizeof(int32_t));
	c->rarity = malloc(buckets);
	if (c->row_of == NULL || c->rarity == NULL)
		return false;
	for (int32_t i = 0; i < buckets; i++)
	{
		int64_t rows = s->bucket_rows[i];

		c->row_of[i] = -1;
		if (i >= used || rows < least || rows == texts)
			continue;
		c->rarity[c->kept] = TEXT_RARITY_ONE;
		if (wide)
			c->rarity[c->kept] = (uint8_t) fmin(TEXT_RARITY_ONE * (1 + log((double) texts / rows)), UINT8_MAX);
		c->row_of[i] = c->kept++;
	}
	c->pairs_max = s->grams_max > 0 ? s->grams_max : 1;
	encoding_slots(c, s->missing > 0, false);
	return true;
}

static bool
fit_encoding(fitter *f, int32_t i)
{
	encoding *c = &f->encoder->encodings[i];
	column_stats *s = &f->stats[i];
	bool linear = f->options.linear;

	switch (c->column.kind)
	{
		case COLUMN_NUMBER:
		case COLUMN_BOOLEAN: c->kind = ENCODING_NUMBER; return fit_number(c, s, linear);
		case COLUMN_TIME: c->kind = ENCODING_TIME; return fit_time(c, s, linear);
		case COLUMN_VECTOR:
			if (c->column.image)
				return fit_image(c, s);
			c->kind = ENCODING_VECTOR;
			return fit_vector(c, s, linear);
		case COLUMN_CATEGORY: return fit_category(c, s, &f->options);
		case COLUMN_TEXT:
			c->kind = ENCODING_TEXT;
			if (c->column.tokens && !f->options.ngrams)
				return true;
			if (!c->column.tokens && text_is_category(s))
				return fit_category(c, s, &f->options);
			return fit_text(c, s, f->options.text_buckets, f->options.wide);
		case COLUMN_JSON:
			if (s->strings > 0)
				return fit_category(c, s, &f->options);
			c->kind = ENCODING_NUMBER;
			return fit_number(c, s, linear);
	}
	return false;
}

/* ---- all columns ---- */

/* How many columns could be used, were identifiers always dropped; used[i] says which. */
static int32_t
count_usable(const fitter *f, const judge_context *context, bool *used)
{
	int32_t count = 0;

	for (int32_t i = 0; i < f->count; i++)
	{
		const column *c = &f->encoder->encodings[i].column;

		used[i] =
			c->tokens || (!column_is_constant(c, &f->stats[i]) && !column_is_identifier(c, &f->stats[i], context));
		count += used[i];
	}
	return count;
}

/* A text none of whose n-grams is frequent enough has nothing to say. */
static bool
drop_rare_text(encoding *c, finding_list *list, llm_error *err)
{
	if (c->kind != ENCODING_TEXT || c->column.tokens || c->kept > 0 || c->null_slot >= 0)
		return true;
	c->kind = ENCODING_DROPPED;
	return finding_add(list, &c->column, "rare_words", true, err,
					   "no word occurs in %d training rows; the column is not used", TEXT_ROWS_MIN);
}

static bool
fit_column(fitter *f, int32_t i, const judge_context *context, finding_list *list, llm_error *err)
{
	encoding *c = &f->encoder->encodings[i];
	bool dropped;

	if (!judge_column(&c->column, &f->stats[i], context, list, &dropped, err))
		return false;
	if (dropped)
		return true;
	if (!fit_encoding(f, i))
		return llm_fail(err, LLM_MEMORY, "out of memory for column \"%s\"", c->column.name);
	return drop_rare_text(c, list, err);
}

static bool
fit_columns(fitter *f, finding_list *list, llm_error *err)
{
	judge_context context = {.rows = f->rows,
							 /* Class indices are dense; a class may be missing where rows were held out. */
							 .class_target = f->whole_targets && f->targets->overflow == 0 &&
											 f->target_max + 1 <= 2.0 * f->targets->values->count,
							 .majority = tally_most(f->targets)};
	bool *used = calloc(f->count, sizeof(bool));
	int32_t usable = used ? count_usable(f, &context, used) : 0;
	bool ok = used != NULL || llm_fail(err, LLM_MEMORY, "out of memory for %d input columns", f->count);

	for (int32_t i = 0; ok && i < f->count; i++)
	{
		context.only_column = usable - used[i] == 0;
		ok = fit_column(f, i, &context, list, err);
	}
	free(used);
	return ok;
}

static bool
any_used(const encoder *e)
{
	for (int32_t i = 0; i < e->count; i++)
		if (encoder_column_used(e, i))
			return true;
	return false;
}

static bool
nothing_left(const finding *f, llm_error *err)
{
	llm_fail(err, LLM_INVALID, "no column of the source can be used as an input");
	if (f != NULL)
		llm_detail(err, "Column \"%s\": %s.", f->column, f->message);
	return llm_hint(err, "Select columns whose values vary from row to row and repeat or can be measured.");
}

encoder *
fitter_finish(fitter *f, finding **findings, llm_error *err)
{
	finding_list list = {.first = NULL};
	encoder *e = NULL;

	list.end = &list.first;
	if (f->rows == 0)
	{
		llm_fail(err, LLM_INVALID, "there are no training rows");
		llm_hint(err, "Check that the source returns rows whose target is not NULL.");
	}
	else if (fit_columns(f, &list, err) && (any_used(f->encoder) || nothing_left(list.first, err)) &&
			 encoder_layout(f->encoder, LLM_INVALID, err))
	{
		e = f->encoder;
		f->encoder = NULL;
	}
	if (e == NULL)
	{
		finding_free(list.first);
		list.first = NULL;
	}
	*findings = list.first;
	fitter_free(f);
	return e;
}
