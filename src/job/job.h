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
 * Who does what: submit.c checks a call and queues it, pending.c starts it at COMMIT;
 * start.c starts workers, worker.c is the life of one, session.c its settings and interrupts;
 * slots.c is shared memory; job_table.c is the rows, report.c what a running job adds to them;
 * control.c is cancel, pause, resume and wait; wake.c starts jobs that changes of data give work
 * to; launcher.c goes on after a restart.  What a job does is not known here: src/train and
 * src/score define the kinds of jobs.
 * Include after postgres.h.
 */
#ifndef LLMAPP_JOB_H
#define LLMAPP_JOB_H

#include "datatype/timestamp.h"

#include "../format/json.h"

extern void InitJobs(void); /* at module load: callbacks, and the launcher when preloaded */

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

/*
 * The job that works on an object, made or queued again in this transaction; 0: there is nothing to do.
 * Called in a worker that was started by a wake-up (wake.c), connected as the owner that it names.
 */
typedef int64 (*JobFinder)(Oid object);

/*
 * At module load: jobs of this kind are done by this function; activity stands before the model in
 * pg_stat_activity.  find is NULL where jobs are only started by their number.
 */
extern void DefineJobKind(const char *kind, const char *activity, JobRunner run, JobFinder find);

#define LLMAPP_DIRECTORY "llmapp"                  /* in the data directory */
extern void CheckpointPath(int64 job, char *path); /* of this database; path has MAXPGPATH bytes */
extern bool HasCheckpoint(int64 job);              /* of this database */
extern void RemoveCheckpoint(int64 job);           /* of this database; no error when absent */

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
/* Errors that are not about one row's values: a request to stop, a lack of memory or space, damage. */
extern bool EndsTheJob(int sqlstate);
/* llm_poll for the engine: true when an interrupt or a pause request is pending. */
extern bool JobPoll(void *arg);

#endif /* LLMAPP_JOB_H */
