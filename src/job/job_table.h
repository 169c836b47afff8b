/*
 * job_table.h
 *	  Every read and write of llmapp.job, and with report.c of llmapp.job_metric and
 *	  llmapp.job_trial.
 *
 * Callers are in a transaction, unless a comment says otherwise.  Include after postgres.h.
 */
#ifndef LLMAPP_JOB_TABLE_H
#define LLMAPP_JOB_TABLE_H

#include "job.h"

/* A row as committed now, whatever the isolation level; palloc'd. */
typedef struct JobRecord
{
	int64 job;
	Oid owner;
	char *kind;
	char *model;
	char *stored;       /* column status */
	const char *status; /* what it means now: see EffectiveStatus() */
	char *sqlstate;     /* this and the following may be NULL */
	char *message;
	char *detail;
	char *hint;
} JobRecord;

/* Run own SQL as the owner of the extension, with its own search path, in SPI. */
typedef struct OwnAccess
{
	Oid user;
	int context;
	int nest_level;
} OwnAccess;

extern void BeginOwnAccess(OwnAccess *access);
/* The same as another role that owns what is read or written. */
extern void BeginAccessAs(OwnAccess *access, Oid owner);
extern void EndOwnAccess(const OwnAccess *access); /* of either */
/* In between: run a statement that must return `expected` of SPI; the number of rows. */
extern uint64 ExecuteOwn(const char *sql, int expected, int count, Oid *types, Datum *values, const char *nulls);

/* A short transaction with a snapshot; ends in the memory context it began in. */
extern MemoryContext BeginShortTransaction(void);
extern void EndShortTransaction(MemoryContext old);

extern bool JobTableExists(void); /* or has the extension been dropped? */
extern int64 InsertJob(const char *kind, const char *model, const char *device, const char *spec);
extern JobRecord *ReadJob(int64 job); /* NULL when there is none */
/* The newest job of this kind and role, on this server, whose description names the object as "target"; or NULL. */
extern JobRecord *ReadJobOf(const char *kind, Oid target);
/* A running job whose worker is gone, and what another server queued or ran, is interrupted. */
extern const char *EffectiveStatus(int64 job, const char *stored, int64 system_identifier);
/* From a stored status to another; false when the row has changed meanwhile. */
extern bool ChangeStatus(int64 job, const char *from, const char *to);

/* Oldest queued job that can start; jobs whose owner cannot connect any more fail here.  job = 0: none. */
extern int64 NextQueuedJob(int64 after, Oid *owner);
/* A queued job becomes running; NULL when it is not queued any more or somebody is changing it. */
extern ClaimedJob *ClaimJob(int64 job);
/* After a restart: running jobs without worker become interrupted; those to go on with become queued. */
extern void RecoverJobs(void);

/* ---- report.c ---- */

/* The end of a run, with the metrics and reports it left; error may be NULL. */
extern void FinishJob(int64 job, const char *from, const char *to, const char *phase, const ErrorData *error);
extern void StartRecording(int64 job); /* in the worker: of which job it reports */

#endif /* LLMAPP_JOB_TABLE_H */
