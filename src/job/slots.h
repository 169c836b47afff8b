/*
 * slots.h
 *	  Shared memory of the jobs: who runs, how far it is, who waits for a place.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_SLOTS_H
#define LLMAPP_SLOTS_H

#include "datatype/timestamp.h"

#include "job.h"

/* A running job.  All fields but pause are written by its worker only. */
typedef struct JobSlot
{
	int64 job; /* 0: free */
	Oid database;
	Oid owner;
	int pid;
	int gpu;        /* number from 1 of the GPU it uses; 0: none */
	bool pause;     /* somebody asked for a checkpoint and an end */
	char phase[16]; /* empty until the worker has claimed the job */
	TimestampTz phase_started;
	int64 first; /* done at the first report of the phase: what a checkpoint gave */
	int64 done;
	int64 total; /* 0: not known */
	double loss;
	double per_second;
	int32 epoch;
} JobSlot;

/* The next job of a database that found no free slot. */
typedef struct WaitingJob
{
	int64 job;
	Oid database;
	Oid owner;
} WaitingJob;

typedef enum SlotResult
{
	SLOT_ACQUIRED,
	SLOT_FULL,     /* llmapp.max_jobs are running */
	SLOT_DUPLICATE /* another worker has this job */
} SlotResult;

typedef enum StopRequest
{
	STOP_CANCEL,
	STOP_PAUSE,
	STOP_NOT_PAUSE /* take back a request to pause */
} StopRequest;

extern void RequestJobMemory(void); /* in the postmaster, when preloaded */
extern void AttachJobMemory(void);  /* before anything below in this process; may ERROR */

/*
 * Take a slot for this worker.  A patient worker stays and tries again, and has precedence
 * over others; an impatient one that finds no slot is noted as waiting, and whoever frees a
 * slot starts it again.
 */
extern SlotResult AcquireSlot(int64 job, bool patient);
/* A place on the GPU of this number, from 0, kept with the slot; false when llmapp.max_gpu_jobs are there. */
extern bool TakeGpu(int number);
extern void LeaveGpu(void);
extern void ReleaseSlot(void); /* also stops being patient; does nothing when there is no slot */
extern void SetSlotPhase(const char *phase, int64 total);
extern int FreeSlots(void);
extern bool OthersWait(void);                   /* for a slot, in any database */
extern bool FindSlot(int64 job, JobSlot *copy); /* of this database */
extern int CopySlots(JobSlot *copies);          /* all databases; copies has room for JOB_SLOTS */
/* Tell the job's worker; false when it has no slot. */
extern bool RequestStop(int64 job, StopRequest request);

extern void NoteWaiting(const WaitingJob *waiting); /* replaces its database's note */
extern bool TakeWaiting(WaitingJob *waiting);       /* the longest waiting one; false when none */

/* Liveness: the slot or the session lock of a job's worker. */
extern void LockJob(int64 job);
extern void UnlockJob(int64 job);
extern bool JobIsAlive(int64 job);

/* "training [########............]  40 %, loss 0.43, 0:12 left"; palloc'd. */
extern char *ProgressText(const JobSlot *slot);
extern char *ProgressBar(const JobSlot *slot);  /* palloc'd; NULL when the total is not known */
extern double SecondsLeft(const JobSlot *slot); /* negative: not known */

#endif /* LLMAPP_SLOTS_H */
