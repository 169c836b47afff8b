/*
 * stats.h
 *	  What is remembered of one column while training rows go by.
 *
 * Memory does not grow with the number of rows: running moments, a random sample of numbers, a
 * tally of distinct values, counts of n-gram buckets.
 */
#ifndef LLMAPP_STATS_H
#define LLMAPP_STATS_H

#include "encoder.h"
#include "tally.h"

#define SAMPLE_MAX 16384     /* numbers kept for quantiles; all of them up to here */
#define NUMBERS_COUNTED 4096 /* distinct numbers counted exactly */

/* Running mean and sum of squared deviations (Welford). */
typedef struct moments
{
	int64_t count;
	double mean;
	double m2;
} moments;

typedef struct column_stats
{
	int64_t rows;
	int64_t missing;
	tally *values; /* all but vectors */

	/* numbers and times that are finite */
	int64_t numbers;      /* rows with a number, infinite ones too */
	moments x, y;         /* the number and the row's target */
	double xy;            /* sum of products of deviations */
	bool equals_target;   /* in every row with a number */
	bool rising, falling; /* strictly, in the order of rows */
	double last, low, high;
	double *sample; /* (sample_count) */
	int32_t sample_count;
	int32_t sample_capacity;
	int64_t sample_next;  /* of a full sample: the number that will be taken into it, */
	int32_t sample_place; /* and whose place it takes */
	double sample_weight; /* the largest of SAMPLE_MAX of all random keys so far, see algorithm L */
	bool sorted;          /* the sample, once rows are complete */

	/* times: bit i is set when hour, weekday, day or month i was seen */
	uint32_t parts_seen[TIME_PARTS];

	/* strings */
	int64_t strings;
	int64_t tokens; /* ASCII without white space */
	int64_t bytes;  /* of all strings */
	uint32_t
		*bucket_rows;  /* (buckets) rows in which an n-gram of the bucket occurs; those of texts in the tally last */
	int32_t grams_max; /* most distinct n-grams of one row */

	/* vectors */
	int32_t length;    /* 0 = none seen */
	int32_t image[3];  /* of an image column: channels, height, width */
	moments *elements; /* (length) */
} column_stats;

extern bool stats_init(column_stats *s, const column *c, int32_t text_buckets, llm_error *err);
extern void stats_free(column_stats *s);
/* position: of the column, keys the random choice of the sample together with seed. */
extern bool stats_add(column_stats *s, const column *c, const value *v, double target, uint64_t seed,
					  int32_t position, int32_t text_buckets, llm_error *err);

/*
 * Add the n-grams of the texts in the tally, which count once for all of their rows, to
 * bucket_rows.  Called once, when rows are complete and the column is a text after all.
 */
extern void stats_count_grams(column_stats *s, int32_t buckets);

extern void moments_add(moments *m, double x);
extern double moments_deviation(const moments *m);
/* Of number and target, 0 where either does not vary. */
extern double stats_correlation(const column_stats *s);
/* Quantiles 0/parts .. parts/parts of the sample, which gets sorted; linear between values. */
extern void stats_quantiles(column_stats *s, int32_t parts, double *out);

#endif /* LLMAPP_STATS_H */
