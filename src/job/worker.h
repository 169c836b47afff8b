/*
 * worker.h
 *	  Starting workers, now or when a transaction ends, and the submission that one
 *	  takes from a session that waits for it.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_WORKER_H
#define LLMAPP_WORKER_H

#include "fmgr.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"

#include "job.h"
#include "job_table.h"

/* A process of this library without a database, from when the server takes writes on, that is started again after a failure. */
extern void DescribeProcess(BackgroundWorker *worker, const char *name, const char *function);

/*
 * In dynamic shared memory: what a call with wait => true hands to its worker, which inserts
 * the job's row itself because the session's transaction has not ended.
 */
typedef struct Submission
{
	pg_atomic_uint64 job;       /* set by the worker once the row is committed */
	pg_atomic_uint32 abandoned; /* set by a session that stopped waiting */
	pg_atomic_uint32 failed;    /* set by a worker that could not insert; the error follows */
	int sqlstate;
	char message[512];
	char kind[NAMEDATALEN];
	char model[2 * NAMEDATALEN * 2 + 8]; /* quoted and qualified */
	char device[NAMEDATALEN];
	Size spec_bytes;
	char spec[FLEXIBLE_ARRAY_MEMBER]; /* JSON with its zero byte */
} Submission;

/* What a worker is told at its start, in bgw_extra. */
typedef struct WorkerStart
{
	Oid database;
	Oid owner;
	int64 job; /* 0: in the submission, or to be found */
	dsm_handle submission;
	Oid object; /* for which a job of a kind is to be found */
	char kind[16];
} WorkerStart;

/* ---- start.c: nothing here raises an ERROR unless said so, it is used after COMMIT ---- */

/* Start the worker of a queued job, in this database; false when the server has no place for one. */
extern bool StartWorker(int64 job, Oid owner);
/* Start one that finds out which job of this kind there is to do for an object; as StartWorker(). */
extern bool StartWorkerFor(const char *kind, Oid object, Oid owner);
/* The same for a submission in shared memory; NULL when there is no place.  May ERROR. */
extern BackgroundWorkerHandle *StartSubmission(dsm_handle segment);
/* Start as many queued jobs as there are free slots; outside a transaction.  May ERROR. */
extern void StartQueuedJobs(void);

/* ---- submit.c ---- */

/* What can be submitted; every field but model, device and spec is a literal. */
typedef struct JobRequest
{
	const char *kind;     /* as in DefineJobKind() */
	const char *function; /* llm_train() */
	const char *verb;     /* train */
	const char *model;    /* quoted and qualified */
	const char *device;
	json_t *spec; /* taken over */
} JobRequest;

/* ERROR when no job can be submitted here and now, whatever it is. */
extern void RequireSubmission(const char *function, const char *verb, bool wait);
/* Queue a job for COMMIT, or with wait run it and return when it has succeeded; its number. */
extern int64 SubmitJob(const JobRequest *request, bool wait);
/* An argument of a call as text; NULL for NULL, and ERROR with RequireText(). */
extern char *TextArgument(FunctionCallInfo fcinfo, int n);
extern char *RequireText(FunctionCallInfo fcinfo, int n, const char *function, const char *name);

/* A string of a job's description, in UTF-8 there and in the server's encoding here; NULL is null. */
extern void SetSpecText(json_t *object, const char *key, const char *string);
extern char *GetSpecText(const json_t *object, const char *key);

/* ---- pending.c ---- */

extern void RegisterPendingStarts(void); /* at module load */
/* Start the job's worker when the transaction commits; not when it or this subtransaction is rolled back. */
extern void StartAtCommit(int64 job, Oid owner);
/* A queued job has been changed: start its worker when that is rolled back. */
extern void StartAtAbort(int64 job, Oid owner);
extern bool StartsAtCommit(int64 job);

/* ---- control.c ---- */

/*
 * Wait until the job has ended, or until `deadline` (0: for ever), with a NOTICE of its
 * progress every two seconds; worker may be NULL.
 */
extern JobRecord *AwaitJob(int64 job, TimestampTz deadline, BackgroundWorkerHandle *worker);

#endif /* LLMAPP_WORKER_H */
