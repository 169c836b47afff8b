/*
 * learn.h
 *	  One network of a training: trained epoch by epoch, scored.
 *
 * Use: PlanLearning(), LearningMemory(), StartLearning(), RunLearning(), Evaluate().  All
 * memory, threads included, belongs to the memory context that is current at each call.
 * Include after postgres.h.
 */
#ifndef LLMAPP_LEARN_H
#define LLMAPP_LEARN_H

#include "learn_plan.h"

typedef enum LearnEnd
{
	LEARN_FINISHED,
	LEARN_PAUSED,  /* the job is to pause; the checkpoint is written */
	LEARN_DIVERGED /* only with may_diverge, otherwise this is an ERROR */
} LearnEnd;

/* Make the trainer; go on from the checkpoint when resumed, otherwise begin.  False when the job is to pause. */
extern bool StartLearning(Learning *l, bool resumed);
extern LearnEnd RunLearning(Learning *l);
/* Weights of the best epoch, or the last ones when no epoch was judged; behind them numbers of LearnedMatrices(). */
extern const float *LearnedWeights(Learning *l);
/* The directory of trainer_adapters() when they are to be kept apart from the weights of the base; or NULL. */
extern const net *LearnedMatrices(const Learning *l);
/*
 * evaluation_json() of these weights on the held-out rows, or on the training rows when
 * there are none ("rows" says which), and evaluation_score().
 */
extern json_t *Evaluate(Learning *l, const float *weights, double *score);

#endif /* LLMAPP_LEARN_H */
