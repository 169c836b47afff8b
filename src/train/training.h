/*
 * training.h
 *	  What a training is asked to do, and the roles of its columns.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_TRAINING_H
#define LLMAPP_TRAINING_H

#include "access/tupdesc.h"
#include "utils/palloc.h"

#include "../feature/feature.h"
#include "../manifest/manifest.h"
#include "../format/params.h"
#include "../job/job.h"

/* What a training job was asked to do; every name resolved, so that session settings do not matter. */
typedef struct TrainingSpec
{
	char *schema; /* of the model table */
	char *model;
	char *query;        /* one SELECT; a relation became SELECT * FROM schema.name */
	char *target;       /* column names, comma-separated as given; NULL when the task needs none */
	char *task;         /* classification, regression, generation; NULL: by the values of an integer target */
	char *architecture; /* a name of architecture_table() */
	char *params;       /* the user's JSON, already validated by params_resolve() */
	Oid base;           /* model table to start from, or InvalidOid */
	Oid tokenizer;      /* model table whose tokenizer is taken, or InvalidOid */
	char *device;       /* auto, cpu, cuda, cuda:N: what was asked for */
	char *search_path;  /* of the submitter, for the query */
	char *timezone;
	char *datestyle;
	int32 threads; /* the submitter's settings, as in llmapp.h */
	int32 train_memory;
	int32 gpu_memory;
	int32 checkpoint_interval;
} TrainingSpec;

/*
 * Check what llm_train() is asked to do, model NULL: for no model; params and what follows may be NULL, as its
 * arguments.  schema: of the type tensor.
 */
extern TrainingSpec *PrepareTraining(const char *model, const char *source, const char *target, const char *task,
									 const char *architecture, const char *params, Oid base, const char *device,
									 Oid schema);
extern TrainingSpec *TrainingSpecFromJson(const char *text, Size length);
extern bool RunTraining(const ClaimedJob *claimed); /* does jobs of kind "train" */

/* What each column of the query is for. */
typedef struct SourceRoles
{
	int32 inputs;
	column *columns; /* (inputs) */
	int *attributes; /* (inputs) column of the query; -1: absent, and the base model does not use it */
	int32 targets;
	column *target_columns; /* (targets) */
	int *target_attributes; /* (targets) */
	int validation;         /* column that is true for held-out rows, or -1 */
	int weight;             /* column with the weight of a row, or -1 */
	int group;              /* column whose rows of one value stay together, or -1 */
	int time;               /* column that orders the rows, or -1 */
	bool learns_text;       /* the target is text, to be learned token by token */
	int prompt;             /* input that is the prompt of the target, or -1 */
	int text;               /* input or target whose tokens are read, counted through both, or -1 */
} SourceRoles;

/* Learns from texts token by token, and from no other column. */
extern bool IsTextTask(const char *task);
/* One of those, whose pairs of texts are to be recognised. */
extern bool IsEmbeddingTask(const char *task);
/* task may be NULL; base: the model to start from, or NULL. */
extern SourceRoles *AssignRoles(TupleDesc tupdesc, const char *target, const char *task, const train_params *params,
								const manifest *base);
/* A task of the architecture, or NULL when the values of an integer target decide. */
extern const char *ResolveTask(const char *task, const architecture_info *architecture, const SourceRoles *roles);
/* ERROR when settings were given that the task has no use for. */
extern void CheckTaskSettings(const char *task, const train_params *params);
/* params_json() without those. */
extern json_t *TaskSettings(const char *task, const train_params *params);

/* Settings that decide the shape of a network, which a base model has fixed; NULL ends. */
extern const char *const base_settings[];
extern const char *const base_row_settings[];       /* beside them when it predicts columns */
extern const char *const base_embedding_settings[]; /* or embeds texts */
/* A language model becomes one that predicts columns or embeds texts. */
extern bool ChangesTask(const manifest *base, const char *task);
/* ERROR unless the base model predicts the same columns. */
extern void CheckBaseTarget(const manifest *base, const SourceRoles *roles, const char *task);

/* Settings, freed with the current memory context; ERROR when they are wrong. */
extern train_params *ResolveParams(const char *architecture, const char *json);

#endif /* LLMAPP_TRAINING_H */
