/*
 * start.c
 *	  Starting workers: of one job, of what a wake-up has to do, and of the queue.
 *
 * A worker is told in bgw_extra what it is for; worker.c is what it does then.  Where the server has
 * no place for one the caller is told, and a job that is queued stays so until another ends.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "slots.h"
#include "worker.h"

#define RESTART_SECONDS 5

void
DescribeProcess(BackgroundWorker *worker, const char *name, const char *function)
{
	memset(worker, 0, sizeof(*worker));
	snprintf(worker->bgw_name, BGW_MAXLEN, "%s", name);
	snprintf(worker->bgw_type, BGW_MAXLEN, "%s", name);
	snprintf(worker->bgw_library_name, BGW_MAXLEN, "llmapp");
	snprintf(worker->bgw_function_name, BGW_MAXLEN, "%s", function);
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = RESTART_SECONDS;
}

static void
DescribeWorker(BackgroundWorker *worker, const WorkerStart *start)
{
	DescribeProcess(worker, "llmapp job", "llmapp_job_worker");
	worker->bgw_flags |= BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	StaticAssertStmt(sizeof(WorkerStart) <= BGW_EXTRALEN, "start does not fit");
	memcpy(worker->bgw_extra, start, sizeof(*start));
}

static bool
StartWorkerIn(Oid database, Oid owner, int64 job)
{
	WorkerStart start = {.database = database, .owner = owner, .job = job, .submission = DSM_HANDLE_INVALID};
	BackgroundWorker worker;

	DescribeWorker(&worker, &start);
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

bool
StartWorker(int64 job, Oid owner)
{
	return StartWorkerIn(MyDatabaseId, owner, job);
}

bool
StartWorkerFor(const char *kind, Oid object, Oid owner)
{
	WorkerStart start = {
		.database = MyDatabaseId, .owner = owner, .submission = DSM_HANDLE_INVALID, .object = object};
	BackgroundWorker worker;

	strlcpy(start.kind, kind, sizeof(start.kind));
	DescribeWorker(&worker, &start);
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

BackgroundWorkerHandle *
StartSubmission(dsm_handle segment)
{
	WorkerStart start = {.database = MyDatabaseId, .owner = GetUserId(), .submission = segment};
	BackgroundWorkerHandle *handle = NULL;
	BackgroundWorker worker;

	DescribeWorker(&worker, &start);
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

/* Note the oldest queued job of this database after a given one. */
static void
NoteNext(int64 after)
{
	WaitingJob next = {.database = MyDatabaseId};
	MemoryContext old = BeginShortTransaction();

	if (JobTableExists())
		next.job = NextQueuedJob(after, &next.owner);
	EndShortTransaction(old);
	if (next.job != 0)
		NoteWaiting(&next);
}

/*
 * The oldest queued job of this database is noted behind those of other databases, and
 * free slots go to the notes in their order.  Every worker does this when it has claimed
 * its job and when it ends, so a database that waits always has a note.
 */
void
StartQueuedJobs(void)
{
	WaitingJob waiting;

	NoteNext(0);
	for (int free = FreeSlots(); free > 0 && TakeWaiting(&waiting); free--)
	{
		if (!StartWorkerIn(waiting.database, waiting.owner, waiting.job))
		{
			NoteWaiting(&waiting);
			return;
		}
		if (waiting.database == MyDatabaseId)
			NoteNext(waiting.job);
	}
}
