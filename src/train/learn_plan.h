/*
 * learn_plan.h
 *	  What a network of a training will be: its layers, its steps, the memory that it takes.
 *
 * All memory belongs to the memory context that is current at PlanLearning().  Include after
 * postgres.h.
 */
#ifndef LLMAPP_LEARN_PLAN_H
#define LLMAPP_LEARN_PLAN_H

#include "../model/model.h"
#include "checkpoint.h"
#include "dataset.h"

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

/* The network and what depends on the number of rows; data is fitted. */
extern Learning *PlanLearning(int64 job, train_params *params, const Model *base, Dataset *data,
							  Checkpoint *checkpoint);
/* Choose pass_samples and whether layers are computed again, once more when batch_samples were changed. */
extern void PlanPasses(Learning *l);
/* The network that predicts the mean of so many of this form. */
extern net *CreateEnsemble(const Learning *l, int32 members);
/* Before StartLearning(): learn for this share of the epochs only, with a schedule as long as that. */
extern void ShortenLearning(Learning *l, double share);
/* Rows of a step and of a pass, of which a sample may have two. */
extern int64 BatchRows(const Learning *l);
extern int64 PassRows(const Learning *l);
/* Bytes that it takes, without records. */
extern Size LearningMemory(const Learning *l);
/* Of the GPU where it is one's, without scratch of its operations. */
extern Size LearningDeviceMemory(const Learning *l);
/* ERROR when the most that any network takes is more than a job may use; otherwise what is left for records. */
extern Size RecordMemory(const Learning *l, Size most);

#endif /* LLMAPP_LEARN_PLAN_H */
