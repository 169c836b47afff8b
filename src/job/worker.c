/*
 * worker.c
 *	  The life of one worker.
 *
 * connect as the job's owner -> take a slot -> lock the job -> claim its row -> run -> write
 * the end -> unlock, free the slot -> start what is queued.
 *
 * Several workers may have been started for one job; the slot lets one of them have it, and
 * its claim fails unless the row is still queued, so what was cancelled or deleted
 * meanwhile is not run.  SIGINT cancels the job.  SIGTERM, from a shutdown or
 * pg_terminate_backend(), interrupts it in the same way, but it can be resumed.  The end
 * is written after either; when even that fails, or the process is killed, the lock is
 * free, and a row that says running then means interrupted.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/pmsignal.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

#include "../common.h"
#include "session.h"
#include "slots.h"
#include "wake.h"
#include "worker.h"

#define SLOT_RETRY_MS 50
#define FINISH_ATTEMPTS 3 /* writing the end may itself be interrupted */
#define STACK_BYTES (512 * 1024)
#define RESERVE_BYTES (1024 * 1024)

/* What jobs do. */
#define MOST_KINDS 8
static struct JobKind
{
	const char *name;     /* column kind of llmapp.job */
	const char *activity; /* in pg_stat_activity, before the model */
	JobRunner run;
	JobFinder find; /* NULL: never started for an object */
} job_kinds[MOST_KINDS];
static int job_kind_count = 0;

static void *end_reserve = NULL; /* memory that is given back for the writing of a failed job's end */

typedef struct JobRun
{
	int64 job;
	bool patient; /* somebody waits: stay until a slot is free */
	bool locked;
	bool claimed;
} JobRun;

PGDLLEXPORT void llmapp_job_worker(Datum arg);

void
DefineJobKind(const char *kind, const char *activity, JobRunner run, JobFinder find)
{
	Assert(job_kind_count < MOST_KINDS);
	job_kinds[job_kind_count++] = (struct JobKind) {kind, activity, run, find};
}

/* ---- one job ---- */

static bool
IsQueued(int64 job)
{
	MemoryContext old = BeginShortTransaction();
	JobRecord *record = ReadJob(job);
	bool queued = record != NULL && strcmp(record->stored, "queued") == 0;

	EndShortTransaction(old);
	return queued;
}

/* False when the job is another worker's, must wait in the queue, or is not queued any more. */
static bool
TakeSlot(const JobRun *run)
{
	for (;;)
	{
		SlotResult result = AcquireSlot(run->job, run->patient);

		if (result == SLOT_ACQUIRED)
			return true;
		if ((result == SLOT_FULL && !run->patient) || !IsQueued(run->job))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, SLOT_RETRY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* In the current memory context; NULL when the job is not to be run. */
static ClaimedJob *
Claim(JobRun *run)
{
	MemoryContext old = BeginShortTransaction();
	ClaimedJob *claimed;

	MemoryContextSwitchTo(old);
	claimed = ClaimJob(run->job);
	run->claimed = claimed != NULL;
	EndShortTransaction(old);
	return claimed;
}

static const struct JobKind *
RequireKind(const char *name)
{
	for (int i = 0; i < job_kind_count; i++)
		if (strcmp(job_kinds[i].name, name) == 0)
			return &job_kinds[i];
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("this version of llmapp does not know jobs of kind \"%s\"", name)));
}

/* What a role that no longer exists makes fail says so in many ways; say it in one. */
static void
NameDroppedOwner(ErrorData *error)
{
	if (SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(GetUserId())))
		return;
	error->sqlerrcode = ERRCODE_UNDEFINED_OBJECT;
	error->detail = error->message;
	error->message = "the role that owns the job has been dropped";
	error->hint = NULL;
}

/* Nothing is left to write when the extension has been dropped. */
static void
Finish(const JobRun *run, const char *status, const char *phase, ErrorData *error)
{
	MemoryContext old = BeginShortTransaction();

	if (error != NULL && strcmp(status, "failed") == 0)
		NameDroppedOwner(error);
	if (JobTableExists())
		FinishJob(run->job, run->claimed ? "running" : "queued", status, phase, error);
	EndShortTransaction(old);
	if (strcmp(status, "cancelled") == 0)
		RemoveCheckpoint(run->job);
}

static void
Work(JobRun *run)
{
	const struct JobKind *kind;
	ClaimedJob *claimed;

	if (!TakeSlot(run))
		return;
	LockJob(run->job);
	run->locked = true;
	claimed = Claim(run);
	if (claimed == NULL)
		return;
	StartRecording(run->job);
	kind = RequireKind(claimed->kind);
	pgstat_report_activity(STATE_RUNNING, psprintf("%s model %s", kind->activity, claimed->model));
	StartQueuedJobs();
	if (kind->run(claimed))
		JobFlushMetrics();
	else
		Finish(run, "paused", NULL, NULL);
}

/* The status that an error means, and for ends that were asked for the words. */
static const char *
FailureStatus(int64 job, ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_DEVICE_LOST)
	{
		error->hint = psprintf("SELECT llm_resume(" INT64_FORMAT ");", job);
		return "interrupted";
	}
	if (error->sqlerrcode != ERRCODE_QUERY_CANCELED && !JobTerminating())
		return "failed";
	if (JobTerminating())
	{
		error->sqlerrcode = ERRCODE_ADMIN_SHUTDOWN;
		error->message = "the worker was terminated by a shutdown or an administrator";
		error->detail = NULL;
		error->hint = psprintf("SELECT llm_resume(" INT64_FORMAT ");", job);
		return "interrupted";
	}
	return JobPauseRequested() ? "paused" : "cancelled";
}

/* Leave the failed transaction, and what a backend's main loop would release besides. */
static void
Recover(void)
{
	AbortOutOfAnyTransaction();
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	QueryCancelPending = false;
}

/* Write the end; one more cancel or a failing metric must not leave the job without one. */
static void
FinishFailed(const JobRun *run, ErrorData *error, MemoryContext cxt)
{
	JobSlot slot = {0};
	const char *status = FailureStatus(run->job, error);
	const char *phase = FindSlot(run->job, &slot) && slot.phase[0] && run->claimed ? slot.phase : NULL;
	bool paused = strcmp(status, "paused") == 0;

	if (strcmp(status, "failed") == 0)
		AnswerFailed();
	for (volatile int attempt = 0; attempt < FINISH_ATTEMPTS; attempt++)
	{
		PG_TRY();
		{
			if (attempt > 0)
				StartRecording(run->job); /* without what was buffered */
			Finish(run, status, phase, paused ? NULL : error);
			attempt = FINISH_ATTEMPTS;
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(cxt);
			HOLD_INTERRUPTS();
			EmitErrorReport();
			FlushErrorState();
			Recover();
			RESUME_INTERRUPTS();
		}
		PG_END_TRY();
	}
}

static void
JobContext(void *arg)
{
	errcontext("job " INT64_FORMAT, ((JobRun *) arg)->job);
}

/* What a failed job has in memory gives way to what the writing of its end needs. */
static void
RunJob(JobRun *run)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "llmapp job", ALLOCSET_DEFAULT_SIZES);
	MemoryContext end_cxt = AllocSetContextCreate(TopMemoryContext, "llmapp end of a job", ALLOCSET_DEFAULT_SIZES);
	ErrorContextCallback context = {.previous = error_context_stack, .callback = JobContext, .arg = run};

	error_context_stack = &context;
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		Work(run);
	}
	PG_CATCH();
	{
		ErrorData *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(end_cxt);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
			EmitErrorReport();
		FlushErrorState();
		Recover();
		MemoryContextDelete(cxt);
		free(end_reserve);
		RESUME_INTERRUPTS();
		FinishFailed(run, error, end_cxt);
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	if (run->locked)
		UnlockJob(run->job);
	ReleaseSlot();
	MemoryContextSwitchTo(TopMemoryContext);
}

/* ---- the process ---- */

/* Insert the job of a session that waits; false when that session is gone or is told why not. */
static bool
AcceptSubmission(dsm_handle handle, JobRun *run)
{
	dsm_segment *segment = dsm_attach(handle);
	Submission *submission = segment ? dsm_segment_address(segment) : NULL;
	MemoryContext old;

	if (submission == NULL || pg_atomic_read_u32(&submission->abandoned))
		return false;
	PG_TRY();
	{
		old = BeginShortTransaction();
		run->job = InsertJob(submission->kind, submission->model, submission->device, submission->spec);
		EndShortTransaction(old);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		submission->sqlstate = error->sqlerrcode;
		strlcpy(submission->message, error->message, sizeof(submission->message));
		pg_write_barrier();
		pg_atomic_write_u32(&submission->failed, 1);
		PG_RE_THROW();
	}
	PG_END_TRY();
	run->patient = true;
	pg_write_barrier();
	pg_atomic_write_u64(&submission->job, run->job);
	pg_memory_barrier();
	if (pg_atomic_read_u32(&submission->abandoned)) /* too early for a signal to reach us */
		InterruptPending = QueryCancelPending = true;
	return true;
}

/* Which job there is to run; 0: none. */
static int64
FindJob(const WorkerStart *start)
{
	MemoryContext old;
	int64 job;

	if (!OidIsValid(start->object))
		return start->job;
	old = BeginShortTransaction();
	job = JobTableExists() ? RequireKind(start->kind)->find(start->object) : 0;
	EndShortTransaction(old);
	return job;
}

static void
LeaveSlot(int code, Datum arg)
{
	ReleaseSlot();
	StopAnswering();
}

static pg_noinline void
GrowStack(void)
{
	char stack[STACK_BYTES];

	explicit_bzero(stack, sizeof(stack)); /* which a compiler does not leave out */
}

/*
 * A stack that cannot grow because memory has ended is a crash of the whole server.  Jobs are what
 * brings memory to its end, so the stack grows before they begin: after asking whether it can.
 */
static void
ReserveMemory(void)
{
	void *stack = malloc(2 * STACK_BYTES);

	end_reserve = malloc(RESERVE_BYTES);
	if (stack == NULL || end_reserve == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("There is none for a job to begin with.")));
	free(stack);
	GrowStack();
}

void
llmapp_job_worker(Datum arg)
{
	WorkerStart start;
	JobRun run = {0};

	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
	pqsignal(SIGTERM, HandleTermination);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(start.database, start.owner, 0);
	AttachJobMemory();
	before_shmem_exit(LeaveSlot, 0);
	StartTransactionCommand();
	ConfigureSession();
	CommitTransactionCommand();
	ReserveMemory();
	if (start.submission == DSM_HANDLE_INVALID)
		run.job = FindJob(&start);
	else if (!AcceptSubmission(start.submission, &run))
		run.job = 0;
	if (run.job != 0)
	{
		pgstat_report_appname(psprintf("llmapp job " INT64_FORMAT, run.job));
		RunJob(&run);
		pgstat_report_stat(true);
	}
	pqsignal(SIGINT, SIG_IGN); /* a cancel that came too late must not hold up the queue */
	QueryCancelPending = JobTerminating();
	StartQueuedJobs();
	StopAnswering();
}
