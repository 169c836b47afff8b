/*
 * metrics.h
 *	  Quality of predictions, for the held-out part of a training and for llm_evaluate().
 *
 * Plain C, no PostgreSQL.  Rows are added one by one; memory is bounded (scores beyond a million
 * rows are counted in fine bins, and metrics say so by their definition in docs/reference.md).
 */
#ifndef LLMAPP_METRICS_H
#define LLMAPP_METRICS_H


#include "../feature/feature.h"

typedef struct evaluation evaluation;

extern evaluation *evaluation_new(const target *t, llm_error *err);
extern void evaluation_free(evaluation *e);
/*
 * out: what trainer_predict()/predictor_run() gave for the row.  actual_class: class index, for
 * TARGET_CLASS (-1, a label never seen in training, counts as wrong); actual: numbers in the
 * target's own unit, for TARGET_NUMBER.
 */
extern bool evaluation_add(evaluation *e, const float *out, int32_t actual_class,
						   const double *actual, llm_error *err);
/*
 * {"metrics": {"accuracy": ..., ...}, "confusion": [[actual, predicted, count], ...],
 *	"roc": {label: [[threshold, tpr, fpr], ...]}}; roc has at most 200 points a label and is kept for
 * at most 20 labels.  Metrics are those of docs/reference.md; one that is undefined (AUC of one class) is absent.
 */
extern json_t *evaluation_json(evaluation *e, llm_error *err);
/* The number by which versions and epochs are compared, lower is better: log_loss or rmse. */
extern double evaluation_score(evaluation *e);

#endif							/* LLMAPP_METRICS_H */
