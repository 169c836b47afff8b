/*
 * roc.h
 *	  Receiver operating characteristics of one or many labels from scores seen row by row.
 *
 * Scores are kept as they are while they are few (METRICS_EXACT_*), and counted in bins of
 * equal width in log odds afterwards; a curve is computed from either.  Plain C.
 */
#ifndef LLMAPP_ROC_H
#define LLMAPP_ROC_H

#include <stdint.h>

#include "../engine/error.h"

typedef struct score_table score_table;

/* labels: scores of a row, each of which gets a curve of its own. */
extern score_table *scores_new(int32_t labels, llm_error *err);
extern void scores_free(score_table *s);
/* scores: (labels), probabilities; positive: the label that the row has, -1 for none of them. */
extern bool scores_add(score_table *s, const float *scores, int32_t positive, llm_error *err);

/* Rows called positive when the threshold is `threshold`: score >= threshold. */
typedef struct roc_step
{
	double threshold;
	int64_t true_positives;
	int64_t false_positives;
} roc_step;

typedef struct roc_curve
{
	int64_t count;     /* steps; the last one calls every row positive */
	int64_t positives; /* rows that have the label */
	int64_t negatives;
	roc_step *steps; /* (count), thresholds descending */
} roc_curve;

/*
 * The curve of one label, or of not having it (complement: scores become 1 - score).  The caller
 * frees it with roc_free().  LLM_MEMORY.
 */
extern bool roc_compute(const score_table *s, int32_t label, bool complement, roc_curve *curve, llm_error *err);
extern void roc_free(roc_curve *curve);
/* Both kinds of rows occur, without which there is no curve. */
extern bool roc_defined(const roc_curve *curve);
/* Area under the curve by trapezoids: equal scores count half. */
extern double roc_area(const roc_curve *curve);

#endif /* LLMAPP_ROC_H */
