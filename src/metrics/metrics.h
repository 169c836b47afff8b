/*
 * metrics.h
 *	  Quality of predictions, for the held-out part of a training and for llm_evaluate().
 *
 * Plain C, no PostgreSQL.  Rows are added one by one; memory is bounded.
 *
 * Classes: n, accuracy, balanced_accuracy (mean recall of the classes that occur), precision,
 * recall, f1, roc_auc, log_loss (probabilities clipped to [1.2e-7, 1], natural logarithm).  For
 * two classes precision, recall, f1 and roc_auc are those of the positive class, otherwise the
 * plain mean over classes (one against the rest).  Precision of a class that is never predicted
 * and recall of one that never occurs are 0.  A label never seen in training is one more
 * class that is never predicted.
 * Numbers: n, rmse, mae, r2 in the target's own unit.  For several numbers these are their
 * plain means; several columns have their own beside them: rmse_NAME, mae_NAME, r2_NAME.
 * A metric that is undefined (AUC of one class, r2 of a constant) is absent.
 *
 * ROC and AUC are exact for up to 1,000,000 rows and METRICS_EXACT_SCORES scores (rows times
 * classes); beyond that scores are counted in bins of equal width in log odds (65,536 for two
 * classes, fewer for many).  Equal scores count half, as in the Mann-Whitney statistic.
 */
#ifndef LLMAPP_METRICS_H
#define LLMAPP_METRICS_H

#include "../feature/feature.h"

#define METRICS_EXACT_ROWS 1000000
#define METRICS_EXACT_SCORES (4 * 1024 * 1024)
#define METRICS_CONFUSION_CLASSES 256 /* most classes for which the confusion matrix is kept */
#define METRICS_ROC_POINTS 200        /* most points of one curve */
#define METRICS_ROC_LABELS 20         /* most curves in evaluation_json(): the labels with most rows */

/* Names of all metrics in the order in which they are shown; NULL ends. */
extern const char *const metric_names[];

/* ---- what one row's network output means ---- */

/* Index of the predicted class of a TARGET_CLASS; the first of equals. */
extern int32_t predicted_class(const target *t, const float *out);
/* Probability of one class. */
extern double class_probability(const target *t, const float *out, int32_t label);
/* Number i of a TARGET_NUMBER in its own unit. */
extern double predicted_number(const target *t, const float *out, int32_t i);

/* ---- many rows ---- */

typedef struct evaluation evaluation;

/* t must live as long as the evaluation. */
extern evaluation *evaluation_new(const target *t, llm_error *err);
extern void evaluation_free(evaluation *e);
/*
 * out: what trainer_predict()/predictor_run() gave for the row.  actual_class: class index, for
 * TARGET_CLASS (-1, a label never seen in training, counts as wrong); actual: numbers in the
 * target's own unit, for TARGET_NUMBER.
 */
extern bool evaluation_add(evaluation *e, const float *out, int32_t actual_class, const double *actual,
						   llm_error *err);
/*
 * {"metrics": {"accuracy": ..., ...}, "confusion": [[actual, predicted, count], ...],
 *	"roc": {class: [[threshold, tpr, fpr], ...]}}; the last two for classes only, which are numbers of
 * the target's.  A NULL actual in "confusion" is a label never seen in training.  Without rows "metrics" is {"n": 0}.
 */
extern json_t *evaluation_json(evaluation *e, llm_error *err);
/* Under which "roc" has the curve of a class. */
#define METRICS_CLASS_KEY 12
extern const char *evaluation_class_key(int32_t label, char key[METRICS_CLASS_KEY]);
/*
 * The curve of one label, [[threshold, tpr, fpr], ...] from (0, 0) to (1, 1): a row is called
 * positive when its probability is >= threshold.  The first threshold is NULL, above every
 * probability.  Empty when all or no rows have the label.  NULL: LLM_MEMORY.
 */
extern json_t *evaluation_roc(evaluation *e, int32_t label, llm_error *err);
/*
 * What evaluation_json() objects of several folds, in an array, say together, in the same form:
 * means of metrics and curves, sums of confusions, and besides "sd", the standard deviation of
 * each metric, and "folds", the metrics of each.  NULL: LLM_MEMORY.
 */
extern json_t *evaluation_mean(const json_t *folds, llm_error *err);
/*
 * The number by which versions and epochs are compared, lower is better: log_loss or rmse.
 * INFINITY without rows or when predictions are not finite.
 */
extern double evaluation_score(evaluation *e);

#endif /* LLMAPP_METRICS_H */
