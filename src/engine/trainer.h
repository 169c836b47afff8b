/*
 * trainer.h
 *	  What the files of the trainer share: its state, and the device on which its plans run.
 *
 * The state is always in this memory, too, so that it is filled, saved, restored and merged in one way; a GPU
 * has a copy at the same offsets.  After changes here, `changed` says what the GPU has to take over before
 * its next run; after its updates it is `ahead` until fetch().
 */
#ifndef LLMAPP_TRAINER_H
#define LLMAPP_TRAINER_H

#include "accumulate.h"
#include "net_record.h"
#include "optim.h"

/* What passes have given to the step at hand. */
typedef struct open_step
{
	int64_t passes, rows;
	int64_t unread; /* losses of the last pass that are not yet in loss_sum */
	double loss_sum, weight_sum;
} open_step;

/* What was changed here. */
enum
{
	CHANGED_WEIGHTS = 1, /* parameters and their average */
	CHANGED_STATE = 2,   /* all parts */
	CHANGED_MERGED = 4
};

struct trainer
{
	const net *n;
	train_config config;
	int64_t batch_rows, pass_rows; /* most of a step, and of a pass */
	net_tuning *tuning;
	net_plan train, score, predict;
	const struct trainer_device *device;
	struct cuda_training *cuda; /* NULL without config.gpu */
	void *arena;                /* of the CPU */
	size_t frozen_floats, part_floats;
	int32_t parts;
	float *weights;   /* (frozen_floats), and then trained ones */
	float *trained;   /* (parts, part_floats) behind frozen weights */
	float *average;   /* the last part, or NULL */
	float *merged;    /* the network's weights to publish, made when wanted; NULL where they are there anyway */
	bool merged_made; /* since weights changed */
	int changed;
	bool ahead;
	uint64_t frozen;   /* checksum */
	accumulator *sums; /* of the CPU; NULL: a step is one pass */
	optim *optim;
	run_args run;
	open_step open;
	int64_t steps;
	double learning_rate;
	double gradient_norm;
};

/* Bytes: of the state, of merged weights, of the largest plan, of sums over passes. */
typedef struct trainer_sizes
{
	size_t state, merged, arena, sums;
} trainer_sizes;

/* Where plans run. */
typedef struct trainer_device
{
	/* Memory for plans and what updates weights; published: the weights that scores are those of. */
	bool (*start)(trainer *t, const float *published, const trainer_sizes *z, llm_error *err);
	void (*stop)(trainer *t); /* also after a start that failed, or none */
	/* A plan on a batch that was checked. */
	bool (*run)(trainer *t, net_plan *p, const batch *b, llm_error *err);
	/* The first `count` numbers of a tensor of the plan that ran last, valid until the next call; or NULL. */
	const float *(*result)(trainer *t, const net_plan *p, int32_t tensor, int64_t count, llm_error *err);
	/* Add the pass that was run to the sums; of steps of several. */
	bool (*add_pass)(trainer *t, open_step *o, float weight, llm_error *err);
	/* Read losses, then update parameters, running statistics and average; nothing of it when not finite. */
	bool (*update)(trainer *t, open_step *o, double rate, double share, double *norm, llm_error *err);
	bool (*fetch)(trainer *t, llm_error *err); /* trainer_fetch() */
} trainer_device;

extern const trainer_device trainer_cpu, trainer_cuda;

/* What a GPU takes of its memory, and of this in place of an arena. */
extern bool trainer_cuda_memory(trainer *t, const trainer_sizes *z, size_t *device, size_t *host, llm_error *err);
extern size_t trainer_cuda_bytes(const struct cuda_training *c);
/* trainer_stage() of a batch that was checked */
extern bool trainer_cuda_stage(trainer *t, const batch *b, llm_error *err);

/* ---- trainer_steps.c: for devices ---- */

extern int64_t trainer_passes(const trainer *t); /* of the largest step */
/* Gradients of the training plan, tensor by tensor, malloc'd; addresses have a meaning once it is attached. */
extern optim_tensor *trainer_gradients(const trainer *t, int32_t *count, llm_error *err);
/* Add the first `count` numbers of a tensor of the plan that ran last, in their order. */
extern bool trainer_add_result(trainer *t, const net_plan *p, int32_t tensor, int64_t count, double *sum,
							   llm_error *err);
/* Add what is unread of the losses. */
extern bool trainer_read_losses(trainer *t, open_step *o, llm_error *err);
/* Whether to go on, or the error of a training that diverged. */
extern bool trainer_finite(const trainer *t, double norm, double loss_sum, llm_error *err);
/* Of the step that is about to be counted; running statistics are changed in t->weights. */
extern double trainer_average_decay(const trainer *t);
extern bool trainer_follow_statistics(trainer *t, llm_error *err);

#endif /* LLMAPP_TRAINER_H */
