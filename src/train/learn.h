/*
 * learn.h
 *	  One network of a training: planned, trained epoch by epoch, scored.
 *
 * Use: PlanLearning(), LearningMemory(), StartLearning(), RunLearning(), Evaluate().  All
 * memory, threads included, belongs to the memory context that is current at each call.
 * Include after postgres.h.
 */
#ifndef LLMAPP_LEARN_H
#define LLMAPP_LEARN_H

#include "../model/model.h"
#include "checkpoint.h"
#include "dataset.h"

typedef enum LearnEnd
{
	LEARN_FINISHED,
	LEARN_PAUSED,  /* the job is to pause; the checkpoint is written */
	LEARN_DIVERGED /* only with may_diverge, otherwise this is an ERROR */
} LearnEnd;

typedef struct Learning
{
	/* given */
	int64 job;
	train_params *params;
	const Model *base; /* NULL: from random weights */
	Dataset *data;
	Checkpoint *checkpoint; /* of the job */
	/* planned; may be changed until RunLearning() */
	int64 job_steps; /* steps of all networks of the job, for its progress */
	double deadline; /* elapsed seconds of the job at which to end, 0: none */
	bool may_diverge;
	net *net;
	train_config config;
	int64 batch_samples; /* of a step */
	int64 pass_samples;  /* of it that are computed at once */
	int64 batches;       /* of an epoch */
	/* own */
	trainer *trainer;
	batch *batch;
	float *out;              /* (rows of a pass, outputs) */
	int64 report_every;      /* steps */
	double checkpoint_every; /* seconds */
	TimestampTz started;     /* this run of the network */
	double elapsed_before;   /* seconds of the job until then */
} Learning;

/* Threads of a job: llmapp.threads, or the number that 0 stands for. */
extern int32 ThreadCount(void);

/* The network and what depends on the number of rows; data is fitted. */
extern Learning *PlanLearning(int64 job, train_params *params, const Model *base, Dataset *data,
							  Checkpoint *checkpoint);
/* Choose pass_samples, once more when batch_samples were changed. */
extern void PlanPasses(Learning *l);
/* The network that predicts the mean of so many of this form. */
extern net *CreateEnsemble(const Learning *l, int32 members);
/* Before StartLearning(): learn for this share of the epochs only, with a schedule as long as that. */
extern void ShortenLearning(Learning *l, double share);
/* Bytes that it takes, without records. */
extern Size LearningMemory(const Learning *l);
/* ERROR when the most that any network takes is more than a job may use; otherwise what is left for records. */
extern Size RecordMemory(const Learning *l, Size most);
/* Make the trainer; go on from the checkpoint when resumed, otherwise begin.  False when the job is to pause. */
extern bool StartLearning(Learning *l, bool resumed);
extern LearnEnd RunLearning(Learning *l);
/* Weights of the best epoch, or the last ones when no epoch was judged. */
extern const float *LearnedWeights(Learning *l);
/*
 * evaluation_json() of these weights on the held-out rows, or on the training rows when
 * there are none ("rows" says which), and evaluation_score().
 */
extern json_t *Evaluate(Learning *l, const float *weights, double *score);

#endif /* LLMAPP_LEARN_H */
