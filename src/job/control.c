/*
 * control.c
 *	  llm_wait(), llm_cancel(), llm_pause(), llm_resume().
 *
 * A job that runs is told through its slot; one that does not is changed in its row, which
 * takes effect when the transaction commits.  Allowed are the owner, members of that role
 * and superusers.  A job may change between looking and acting, so every call looks again
 * until it has acted on what it saw.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "../common.h"
#include "slots.h"
#include "worker.h"

#define POLL_MS 100
#define NOTICE_MS 2000
#define START_AGAIN_MS 1000 /* a job that is queued so long beside a free slot has lost its worker */
#define REACTION_MS 3000    /* how long a cancel or pause waits for its effect */

PG_FUNCTION_INFO_V1(llm_wait);
PG_FUNCTION_INFO_V1(llm_cancel);
PG_FUNCTION_INFO_V1(llm_pause);
PG_FUNCTION_INFO_V1(llm_resume);

static bool
Is(const JobRecord *record, const char *status)
{
	return strcmp(record->status, status) == 0;
}

/* The job, which the current user may control. */
static JobRecord *
RequireJob(int64 job, const char *function)
{
	JobRecord *record;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
						errmsg("cannot execute %s on a standby server", function),
						errhint("Connect to the primary server, where the job runs.")));
	PreventCommandIfParallelMode(function);
	AttachJobMemory();
	record = ReadJob(job);
	if (record == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("job " INT64_FORMAT " does not exist", job),
						errhint("SELECT job, model, status FROM llmapp.jobs;")));
	if (!has_privs_of_role(GetUserId(), record->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for job " INT64_FORMAT, job),
				 errdetail("It belongs to role \"%s\".", GetUserNameFromId(record->owner, true)
															 ? GetUserNameFromId(record->owner, true)
															 : "that was dropped")));
	return record;
}

static void
ThrowState(const JobRecord *record, const char *verb)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("job " INT64_FORMAT " cannot be %s: it has %s%s", record->job, verb,
						   Is(record, "cancelled") ? "been " : "", record->status),
					Is(record, "failed") && record->message ? errdetail("%s", record->message) : 0,
					errhint("SELECT llm_train(...) or SELECT llm_score(...) starts a new job.")));
}

/* For good: what embeds a column begins again with the next change. */
static bool
HasEnded(const JobRecord *record)
{
	return strcmp(record->kind, "embed") != 0 &&
		   (Is(record, "succeeded") || Is(record, "failed") || Is(record, "cancelled"));
}

/* Whether something is left to go on from: a scoring has its table, an embedding its queue. */
static bool
CanGoOn(const JobRecord *record)
{
	if (strcmp(record->kind, "embed") == 0)
		return true;
	if (Is(record, "failed"))
		return strcmp(record->kind, "score") == 0 || HasCheckpoint(record->job);
	return !Is(record, "succeeded") && !Is(record, "cancelled");
}

static void
Sleep(int milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* ---- wait ---- */

/* Will nothing happen to it any more unless somebody acts? */
static bool
HasStopped(const JobRecord *record)
{
	return record == NULL || !(Is(record, "queued") || Is(record, "running"));
}

static void
Notice(int64 job, const JobSlot *slot)
{
	if (slot == NULL)
		ereport(NOTICE, (errmsg("job " INT64_FORMAT " is queued", job)));
	else
		ereport(NOTICE, (errmsg("job " INT64_FORMAT ": %s", job, ProgressText(slot))));
}

/* As ReadJob(), in a memory context that is emptied for each look. */
static JobRecord *
Look(int64 job, MemoryContext looks)
{
	MemoryContext old;
	JobRecord *record;

	MemoryContextReset(looks);
	old = MemoryContextSwitchTo(looks);
	record = ReadJob(job);
	MemoryContextSwitchTo(old);
	return record;
}

/* True once in `milliseconds`. */
static bool
IsDue(TimestampTz *last, int milliseconds)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(*last, now, milliseconds))
		return false;
	*last = now;
	return true;
}

JobRecord *
AwaitJob(int64 job, TimestampTz deadline, BackgroundWorkerHandle *worker)
{
	MemoryContext looks = AllocSetContextCreate(CurrentMemoryContext, "llmapp wait", ALLOCSET_SMALL_SIZES);
	TimestampTz noticed = GetCurrentTimestamp();
	TimestampTz busy = noticed; /* when it ran or no slot was free; one that is being taken looks free for a moment */

	for (;;)
	{
		JobSlot slot;
		bool runs = FindSlot(job, &slot);
		JobRecord *record = runs ? NULL : Look(job, looks);

		if (!runs && HasStopped(record))
			return record;
		if (deadline != 0 && GetCurrentTimestamp() >= deadline)
			return runs ? ReadJob(job) : record;
		if (llmapp_progress_notices && IsDue(&noticed, NOTICE_MS))
			Notice(job, runs ? &slot : NULL);
		if (runs || FreeSlots() == 0)
			busy = GetCurrentTimestamp();
		else if (Is(record, "queued") && IsDue(&busy, START_AGAIN_MS))
			(void) StartWorker(job, record->owner);
		Sleep(POLL_MS);
	}
}

/* llm_wait(job, timeout): the status once the job has ended or stopped, or at the timeout */
Datum
llm_wait(PG_FUNCTION_ARGS)
{
	TimestampTz deadline = 0;
	JobRecord *record;
	int64 job;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	job = PG_GETARG_INT64(0);
	(void) RequireJob(job, "llm_wait()");
	if (StartsAtCommit(job))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("job " INT64_FORMAT " starts when this transaction commits", job),
						errhint("COMMIT; SELECT llm_wait(" INT64_FORMAT ");", job)));
	if (!PG_ARGISNULL(1))
		deadline = DatumGetTimestampTz(DirectFunctionCall2(
			timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()), PG_GETARG_DATUM(1)));
	record = AwaitJob(job, deadline, NULL);
	if (record == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(record->status));
}

/* ---- cancel, pause, resume ---- */

/*
 * Tell the worker and wait a moment for what it does; NULL when it has no slot, or ended before it
 * had claimed the job, which is then to be changed in its row.
 */
static JobRecord *
StopRunning(int64 job, StopRequest request)
{
	JobSlot slot;
	TimestampTz start = GetCurrentTimestamp();
	JobRecord *record;

	if (!RequestStop(job, request))
		return NULL;
	while (FindSlot(job, &slot) && !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), REACTION_MS))
		Sleep(10);
	record = ReadJob(job);
	return record != NULL && Is(record, "queued") ? NULL : record;
}

static bool
Change(const JobRecord *record, const char *to, const char *function)
{
	PreventCommandIfReadOnly(function);
	return ChangeStatus(record->job, record->stored, to);
}

/* llm_cancel(job): the status after it */
Datum
llm_cancel(PG_FUNCTION_ARGS)
{
	int64 job = PG_GETARG_INT64(0);

	for (;;)
	{
		JobRecord *record = RequireJob(job, "llm_cancel()");
		JobRecord *stopped = StopRunning(job, STOP_CANCEL);

		if (stopped != NULL)
			PG_RETURN_TEXT_P(cstring_to_text(stopped->status));
		if (Is(record, "succeeded") || Is(record, "failed") || Is(record, "cancelled"))
			PG_RETURN_TEXT_P(cstring_to_text(record->status));
		if (!Is(record, "running") && Change(record, "cancelled", "llm_cancel()"))
		{
			StartAtAbort(job, record->owner);
			RemoveCheckpoint(job);
			PG_RETURN_TEXT_P(cstring_to_text("cancelled"));
		}
		Sleep(10);
	}
}

/* llm_pause(job): the status after it */
Datum
llm_pause(PG_FUNCTION_ARGS)
{
	int64 job = PG_GETARG_INT64(0);

	for (;;)
	{
		JobRecord *record = RequireJob(job, "llm_pause()");
		JobRecord *stopped = StopRunning(job, STOP_PAUSE);

		if (stopped != NULL)
			PG_RETURN_TEXT_P(cstring_to_text(stopped->status));
		if (HasEnded(record))
			ThrowState(record, "paused");
		if (Is(record, "paused"))
			PG_RETURN_TEXT_P(cstring_to_text("paused"));
		if (!Is(record, "running") && Change(record, "paused", "llm_pause()"))
		{
			StartAtAbort(job, record->owner);
			PG_RETURN_TEXT_P(cstring_to_text("paused"));
		}
		Sleep(10);
	}
}

/* llm_resume(job): the status after it, which COMMIT makes true */
Datum
llm_resume(PG_FUNCTION_ARGS)
{
	int64 job = PG_GETARG_INT64(0);

	for (;;)
	{
		JobRecord *record = RequireJob(job, "llm_resume()");

		if (!CanGoOn(record))
			ThrowState(record, "resumed");
		if (Is(record, "running") && RequestStop(job, STOP_NOT_PAUSE))
			PG_RETURN_TEXT_P(cstring_to_text("running"));
		if (!Is(record, "running") && Change(record, "queued", "llm_resume()"))
		{
			StartAtCommit(job, record->owner);
			PG_RETURN_TEXT_P(cstring_to_text("queued"));
		}
		Sleep(10);
	}
}
