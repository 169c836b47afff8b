/*
 * roc.c
 *	  Receiver operating characteristics from scores seen row by row.
 *
 * A score table starts with every score of every row, (rows, labels), and the label each
 * row has.  When METRICS_EXACT_ROWS or METRICS_EXACT_SCORES would be exceeded, all of it is
 * moved to counters, (labels, bins, 2): rows without and with the label by log odds in
 * [-32, 32], where float probabilities end at about -88 and 16.6.
 */
#include "roc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"

#define ODDS_LIMIT 32.0
#define BINS_MAX 65536
#define BINS_MIN 64
#define BINS_ALL_LABELS (4 * 1024 * 1024)

struct score_table
{
	int32_t labels;
	int64_t rows;
	int64_t capacity;
	float *scores;     /* (capacity, labels); NULL once counted in bins */
	int32_t *positive; /* (capacity) */
	int32_t bin_count;
	int64_t *bins; /* (labels, bin_count, 2); NULL while scores are exact */
};

/* A score and whether its row has the label. */
typedef struct ranked
{
	double score;
	bool positive;
} ranked;

score_table *
scores_new(int32_t labels, llm_error *err)
{
	score_table *s = calloc(1, sizeof(*s));

	if (s == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory for scores");
		return NULL;
	}
	s->labels = labels;
	s->bin_count = BINS_MAX;
	while (s->bin_count > BINS_MIN && (int64_t) s->bin_count * labels > BINS_ALL_LABELS)
		s->bin_count /= 2;
	return s;
}

void
scores_free(score_table *s)
{
	if (s == NULL)
		return;
	free(s->scores);
	free(s->positive);
	free(s->bins);
	free(s);
}

/* Bin of a probability; what is not a number counts as 0. */
static int32_t
score_bin(const score_table *s, float score)
{
	double odds;

	if (!(score > 0))
		return 0;
	if (score >= 1)
		return s->bin_count - 1;
	odds = log(score / (1.0 - score));
	odds = fmin(fmax(odds, -ODDS_LIMIT), ODDS_LIMIT);
	return (int32_t) fmin((odds + ODDS_LIMIT) / (2 * ODDS_LIMIT) * s->bin_count, s->bin_count - 1);
}

/* Lowest probability that bin b holds; bin_count gives the end of the last. */
static double
bin_threshold(const score_table *s, int32_t b)
{
	double odds = 2 * ODDS_LIMIT * b / s->bin_count - ODDS_LIMIT;

	return b == 0 ? 0 : b == s->bin_count ? 1 : 1 / (1 + exp(-odds));
}

static void
count_row(score_table *s, const float *scores, int32_t positive)
{
	for (int32_t label = 0; label < s->labels; label++)
	{
		int64_t bin = (int64_t) label * s->bin_count + score_bin(s, scores[label]);

		s->bins[bin * 2 + (label == positive)]++;
	}
}

/* From exact scores to counters. */
static bool
count_in_bins(score_table *s, llm_error *err)
{
	s->bins = calloc((size_t) s->labels * s->bin_count * 2, sizeof(int64_t));
	if (s->bins == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for score bins");
	for (int64_t row = 0; row < s->rows; row++)
		count_row(s, s->scores + row * s->labels, s->positive[row]);
	free(s->scores);
	free(s->positive);
	s->scores = NULL;
	s->positive = NULL;
	return true;
}

/* Room for one more exact row. */
static bool
reserve_row(score_table *s, llm_error *err)
{
	int64_t capacity = s->capacity == 0 ? 64 : s->capacity * 2;
	void *moved;

	if (s->rows < s->capacity)
		return true;
	moved = realloc(s->scores, (size_t) capacity * s->labels * sizeof(float));
	if (moved == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for scores");
	s->scores = moved;
	moved = realloc(s->positive, (size_t) capacity * sizeof(int32_t));
	if (moved == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for scores");
	s->positive = moved;
	s->capacity = capacity;
	return true;
}

bool
scores_add(score_table *s, const float *scores, int32_t positive, llm_error *err)
{
	if (s->bins == NULL && (s->rows >= METRICS_EXACT_ROWS || (s->rows + 1) * s->labels > METRICS_EXACT_SCORES) &&
		!count_in_bins(s, err))
		return false;
	if (s->bins != NULL)
		count_row(s, scores, positive);
	else
	{
		if (!reserve_row(s, err))
			return false;
		memcpy(s->scores + s->rows * s->labels, scores, s->labels * sizeof(float));
		s->positive[s->rows] = positive;
	}
	s->rows++;
	return true;
}

/* Add rows called positive from this threshold on; equal thresholds are one step. */
static void
add_step(roc_curve *curve, double threshold, int64_t positives, int64_t negatives)
{
	curve->positives += positives;
	curve->negatives += negatives;
	if (curve->count == 0 || curve->steps[curve->count - 1].threshold != threshold)
		curve->steps[curve->count++].threshold = threshold;
	curve->steps[curve->count - 1].true_positives = curve->positives;
	curve->steps[curve->count - 1].false_positives = curve->negatives;
}

static int
by_score_descending(const void *a, const void *b)
{
	double x = ((const ranked *) a)->score;
	double y = ((const ranked *) b)->score;

	return (x < y) - (x > y);
}

static bool
exact_steps(const score_table *s, int32_t label, bool complement, roc_curve *curve, llm_error *err)
{
	ranked *rows = malloc((size_t) (s->rows + 1) * sizeof(ranked));

	if (rows == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for a ROC curve");
	for (int64_t row = 0; row < s->rows; row++)
	{
		double score = s->scores[row * s->labels + label];

		if (isnan(score))
			score = 0;
		rows[row].score = complement ? 1 - score : score;
		rows[row].positive = (s->positive[row] == label) != complement;
	}
	qsort(rows, s->rows, sizeof(ranked), by_score_descending);
	for (int64_t row = 0; row < s->rows; row++)
		add_step(curve, rows[row].score, rows[row].positive, !rows[row].positive);
	free(rows);
	return true;
}

static void
bin_steps(const score_table *s, int32_t label, bool complement, roc_curve *curve)
{
	const int64_t *bins = s->bins + (size_t) label * s->bin_count * 2;

	for (int32_t i = 0; i < s->bin_count; i++)
	{
		int32_t b = complement ? i : s->bin_count - 1 - i;
		double threshold = complement ? 1 - bin_threshold(s, b + 1) : bin_threshold(s, b);

		if (bins[b * 2] + bins[b * 2 + 1] > 0)
			add_step(curve, threshold, bins[b * 2 + !complement], bins[b * 2 + complement]);
	}
}

bool
roc_compute(const score_table *s, int32_t label, bool complement, roc_curve *curve, llm_error *err)
{
	int64_t most = s->bins != NULL ? s->bin_count : s->rows;

	memset(curve, 0, sizeof(*curve));
	curve->steps = malloc((size_t) (most + 1) * sizeof(roc_step));
	if (curve->steps == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for a ROC curve");
	if (s->bins != NULL)
		bin_steps(s, label, complement, curve);
	else if (!exact_steps(s, label, complement, curve, err))
	{
		roc_free(curve);
		return false;
	}
	return true;
}

void
roc_free(roc_curve *curve)
{
	free(curve->steps);
	curve->steps = NULL;
}

bool
roc_defined(const roc_curve *curve)
{
	return curve->positives > 0 && curve->negatives > 0;
}

double
roc_area(const roc_curve *curve)
{
	double area = 0;
	roc_step last = {0};

	for (int64_t i = 0; i < curve->count; i++)
	{
		roc_step step = curve->steps[i];

		area += (double) (step.false_positives - last.false_positives) *
				((double) step.true_positives + last.true_positives) / 2;
		last = step;
	}
	return area / ((double) curve->positives * curve->negatives);
}
