/*
 * checkpoint.h
 *	  The state of a training on disk, so that it survives its worker and the server.
 *
 * A job trains one network after the other: one for each fold or trial, or just one.
 * Include after postgres.h.
 */
#ifndef LLMAPP_CHECKPOINT_H
#define LLMAPP_CHECKPOINT_H

#include "../job/job.h"

/* Where a training stands, beside the state of its trainer. */
typedef struct TrainingState
{
	/* of the job */
	int64 fit;           /* networks done */
	int64 earlier_steps; /* of those networks */
	double elapsed;      /* seconds of training, in all runs together */
	/* of the network that is trained now */
	double fit_started; /* elapsed seconds at its first step */
	int64 epoch;        /* from 0 */
	int64 batch;        /* done in this epoch */
	int64 step;         /* done in all */
	double loss_sum;    /* of the steps since the last reported loss */
	int64 loss_steps;
	double best_loss; /* on the held-out rows */
	int64 best_epoch; /* epochs done when it was reached; 0: none yet */
	int64 best_step;
} TrainingState;

typedef enum CheckpointPartKind
{
	PART_TRAINER, /* trainer_save() */
	PART_BEST,    /* weights of the best epoch */
	PART_HISTORY, /* what the networks done gave; trials.c knows its form */
	PART_RESULT,  /* weights of the best trial done, or of all folds done */
	CHECKPOINT_PARTS
} CheckpointPartKind;

typedef struct CheckpointPart
{
	void *data;
	Size bytes;
} CheckpointPart;

typedef struct Checkpoint
{
	uint64 fingerprint; /* of the rows */
	TrainingState state;
	CheckpointPart parts[CHECKPOINT_PARTS];
	double written_at; /* elapsed seconds; not stored */
} Checkpoint;

extern void WriteCheckpoint(int64 job, const Checkpoint *checkpoint);
/*
 * Fill in state and parts, palloc'd.  False, and nothing changed, when there is none that
 * fits the fingerprint; *problem then says why, or is NULL when there is no file.
 */
extern bool ReadCheckpoint(int64 job, Checkpoint *checkpoint, const char **problem);

#endif /* LLMAPP_CHECKPOINT_H */
