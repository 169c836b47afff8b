/*
 * checkpoint.h
 *	  The state of a training on disk, so that it survives its worker and the server.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_CHECKPOINT_H
#define LLMAPP_CHECKPOINT_H

#include "job.h"

/* Where a training stands, beside the state of its trainer. */
typedef struct TrainingState
{
	int64		epoch;			/* from 0 */
	int64		batch;			/* done in this epoch */
	int64		step;			/* done in all */
	double		loss_sum;		/* of the steps since the last reported loss */
	int64		loss_steps;
	double		best_loss;		/* on the held-out rows */
	int64		best_epoch;		/* epochs done when it was reached; 0: none yet */
	int64		best_step;
	double		elapsed;		/* seconds of training, in all runs together */
} TrainingState;

/* A checkpoint's parts; sizes are those of the network that is trained. */
typedef struct Checkpoint
{
	uint64		fingerprint;	/* of the rows */
	TrainingState state;
	void	   *trainer_state;
	Size		trainer_bytes;
	float	   *best_weights;
	Size		best_bytes;
} Checkpoint;

extern void WriteCheckpoint(int64 job, const Checkpoint *checkpoint);
/*
 * Fill in state, trainer_state and best_weights.  False when there is none that fits
 * fingerprint and sizes; *problem then says why, or is NULL when there is no file.
 */
extern bool ReadCheckpoint(int64 job, Checkpoint *checkpoint, const char **problem);

#endif							/* LLMAPP_CHECKPOINT_H */
