/*
 * job.h
 *	  Jobs: submit, run in a background worker, watch, stop, resume.
 *
 * States: queued -> running -> succeeded | failed | cancelled; running -> paused or
 * interrupted -> queued.  Phases of running: loading, then training, evaluating and saving,
 * or scoring.
 * A running job is alive exactly while its worker holds the job's session lock; a slot
 * in shared memory shows its progress and takes requests to pause.
 *
 * Who does what: submit.c checks a call and queues it; worker.c is the life of one
 * worker; slots.c is shared memory; record.c is every read and write of llmapp.job,
 * llmapp.job_metric and llmapp.job_trial; control.c is cancel, pause, resume and wait; launcher.c goes on
 * after a restart.  A kind of job is a row of the table in worker.c: its name and the function
 * that does it.  prepare.c (with source.c) checks what a training is asked to do; training.c
 * is the work itself, with dataset.c, split.c, duplicates.c and records.c for the rows, learn.c for
 * one network, trials.c for several, checkpoint.c and version.c.  score.c and
 * scoring.c are the same for llm_score().
 * Include after postgres.h.
 */
#ifndef LLMAPP_JOB_H
#define LLMAPP_JOB_H

#include "datatype/timestamp.h"

#include "../format/json.h"

#define JOB_SLOTS 32 /* most jobs running at once in a cluster */

extern void InitJobs(void); /* at module load: callbacks, and the launcher when preloaded */

/* What a training job was asked to do; every name resolved, so that session settings do not matter. */
typedef struct TrainingSpec
{
	char *schema; /* of the model table */
	char *model;
	char *query;        /* one SELECT; a relation became SELECT * FROM schema.name */
	char *target;       /* column names, comma-separated as given; NULL when the task needs none */
	char *task;         /* classification or regression; NULL: by the values of an integer target */
	char *architecture; /* mlp */
	char *params;       /* the user's JSON, already validated by params_resolve() */
	Oid base;           /* model table to start from, or InvalidOid */
	char *device;       /* cpu (resolved) */
	char *search_path;  /* of the submitter, for the query */
	char *timezone;
	char *datestyle;
	int32 threads; /* the submitter's settings, as in llmapp.h */
	int32 train_memory;
	int32 checkpoint_interval;
} TrainingSpec;

/* ---- prepare.c, source.c, training.c: used by submit.c, worker.c and src/serve ---- */

/*
 * The SELECT that a source means: a relation becomes SELECT * FROM schema.name, a text must
 * be one SELECT, VALUES, WITH or TABLE and is returned without what surrounds it.  palloc'd.
 */
extern char *SourceQuery(const char *source);

/*
 * Check everything that can be checked before a job starts, as the submitter: the
 * source is a relation or one read-only SELECT that can be planned, the target columns exist,
 * task and architecture fit, params resolve, the model name is free or a writable model, memory for the
 * network suffices where known.  palloc'd; ERROR otherwise.
 */
extern TrainingSpec *PrepareTraining(const char *model, const char *source, const char *target, const char *task,
									 const char *architecture, const char *params, Oid base, const char *device);
extern json_t *TrainingSpecJson(const TrainingSpec *spec); /* for column job.spec */
extern TrainingSpec *TrainingSpecFromJson(const char *text, Size length);

/* What the worker has claimed; palloc'd. */
typedef struct ClaimedJob
{
	int64 job;
	char *kind;
	char *model;  /* as llmapp.jobs shows it */
	char *spec;   /* JSON of this kind */
	char *report; /* JSON: what earlier runs reported */
	TimestampTz submitted_at;
} ClaimedJob;

/*
 * Do a job: called in the worker, connected as the submitter, outside a transaction.  Ends
 * normally after JobSucceeded(), by ereport(ERROR), or by returning false because
 * JobPauseRequested(), with all that is needed to go on saved.  Goes on from there when called again.
 */
typedef bool (*JobRunner)(const ClaimedJob *claimed);

extern bool RunTraining(const ClaimedJob *claimed);
extern bool RunScoring(const ClaimedJob *claimed);
extern bool HasCheckpoint(int64 job);    /* of this database */
extern void RemoveCheckpoint(int64 job); /* of this database; no error when absent */

/* ---- what a running job tells the world (worker only; record.c and slots.c) ---- */

extern void JobPhase(const char *phase, int64 total); /* rows or steps to do, 0 = not known */
extern void JobProgress(int64 done, double loss, double per_second, int32 epoch); /* shared memory only: cheap */
/* Buffered; flushed with short transactions of its own, at most once a second, and at the end. */
extern void JobMetric(int64 step, double epoch, const char *split, const char *metric, double value);
extern void JobFlushMetrics(void);
extern void JobForgetMetricsAfter(int64 step); /* resuming from a checkpoint of that step */
/* From here on metrics belong to this trial and fold, both from 1; 0: to none. */
extern void JobSetTrial(int32 trial, int32 fold);
/* Insert or replace the row of that trial and fold.  Settings are copied; value NAN: none yet. */
extern void JobTrial(const json_t *settings, const char *metric, double value, int64 epochs, const char *status);
/* Resuming: forget the rows of this trial from this fold on, of its fold 0, and of trials behind it. */
extern void JobForgetTrials(int32 trial, int32 fold);
/* Add {"key": value} to the job's report (steals value): findings, rows read, rows dropped ... */
extern void JobReport(const char *key, json_t *value);
/* Done, with this version of this model made or used (quoted and qualified); in the caller's transaction. */
extern void JobSucceeded(const char *model, int32 version);
extern bool JobPauseRequested(void);
extern bool JobTerminating(void); /* the interrupt that is pending ends this run, not the job: it can be resumed */
/* llm_poll for the engine: true when an interrupt or a pause request is pending. */
extern bool JobPoll(void *arg);

#endif /* LLMAPP_JOB_H */
