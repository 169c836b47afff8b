/*
 * trials.h
 *	  Jobs that train several networks on one loaded data set: folds and searches.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_TRIALS_H
#define LLMAPP_TRIALS_H

#include "learn.h"

typedef struct TrainingRun
{
	int64 job;
	const TrainingSpec *spec;
	train_params *params;
	const Model *base;      /* NULL: from random weights */
	const Model *tokenizer; /* whose tokenizer is taken, or NULL */
	Dataset *data;
	Checkpoint checkpoint;
	bool resumed; /* the checkpoint was read and the network in it is not begun again yet */
} TrainingRun;

/* What is published. */
typedef struct Learned
{
	const train_params *params;
	const net *net;
	const float *weights;
	const net *matrices; /* numbers of which follow the weights, when they are kept apart; or NULL */
	json_t *evaluation;  /* as Evaluate() gives it */
	double score;
} Learned;

/* Settings that the rows decide, once the columns are fitted. */
extern void ChooseParams(TrainingRun *run, int64 training_rows);

/* How many networks trained to the end a search of so many trials takes as long as, about. */
extern double SearchWork(int32 trials);

/* Both return false after a checkpoint because the job is to pause. */

/* Cross-validation: each fold is held out of one network and judges it; their mean is published. */
extern bool TrainFolds(TrainingRun *run, Learned *learned);
/* Search: try settings out of ranges, give up early those that fall behind, publish the best. */
extern bool TrainTrials(TrainingRun *run, Learned *learned);

#endif /* LLMAPP_TRIALS_H */
