/*
 * training.h
 *	  What jobs share that read a source, and the roles of its columns in a training.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_TRAINING_H
#define LLMAPP_TRAINING_H

#include "access/tupdesc.h"
#include "utils/palloc.h"

#include "../feature/feature.h"
#include "../format/manifest.h"
#include "../format/params.h"
#include "job.h"

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
} SourceRoles;

/* Columns of a checked query, which the current user may run and a worker can. */
extern TupleDesc DescribeSource(const char *query);
/* Index of a column of the source; role: what it was named as, "the target" or "parameter \"exclude\"". */
extern int RequireColumn(TupleDesc tupdesc, const char *name, const char *role);
/* base: the encoder of the model to start from, or NULL. */
extern SourceRoles *AssignRoles(TupleDesc tupdesc, const char *target, const train_params *params,
								const encoder *base);
/* classification, regression, or NULL when the values of an integer target decide. */
extern const char *ResolveTask(const char *task, const SourceRoles *roles);
/* ERROR when settings were given that the task has no use for. */
extern void CheckTaskSettings(const char *task, const train_params *params);

/* Settings that decide the shape of a network, which a base model has fixed; NULL ends. */
extern const char *const base_settings[];
/* ERROR unless the base model predicts the same columns. */
extern void CheckBaseTarget(const manifest *base, const SourceRoles *roles, const char *task);

/* The device a job runs on when the user asked for this one, or for none (NULL); palloc'd. */
extern char *ResolveDevice(const char *device);

/* A string of a job's description, in UTF-8 there and in the server's encoding here; NULL is null. */
extern void SetSpecText(json_t *object, const char *key, const char *string);
extern char *GetSpecText(const json_t *object, const char *key);

/* Free an object of PostgreSQL-free code together with the current memory context. */
extern void OwnObject(void *object, MemoryContextCallbackFunction release);
#define OWN(object, release) OwnObject((object), (MemoryContextCallbackFunction) (release))

/* Settings, freed with the current memory context; ERROR when they are wrong. */
extern train_params *ResolveParams(const char *architecture, const char *json);

#endif /* LLMAPP_TRAINING_H */
