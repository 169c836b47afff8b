/*
 * version.h
 *	  From a finished training to a published version of its model.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_VERSION_H
#define LLMAPP_VERSION_H

#include "../model/model.h"
#include "checkpoint.h"
#include "dataset.h"

typedef struct TrainedNetwork
{
	int64 job;
	const TrainingSpec *spec;
	const train_params *params;
	const Dataset *data;
	const net *net;
	const float *weights; /* matrices of low rank behind them, when they are kept apart */
	const net *matrices;  /* NULL: they are not */
	const TrainingState *state;
	json_t *evaluation; /* evaluation_json() */
	double score;       /* evaluation_score() */
	const Model *base;  /* that the training started from, or NULL */
} TrainedNetwork;

/*
 * In one transaction: create the model if it is new, add the version, make it live as the
 * deploy policy says, and tell the job.  Takes over trained->evaluation.
 */
extern void PublishTraining(const TrainedNetwork *trained);

#endif /* LLMAPP_VERSION_H */
