/*
 * wake.c
 *	  Work that arrives by changes of data: whoever commits one sees to it that a worker looks.
 *
 * An entry in shared memory says who answers for an object: a worker that runs, or one that was
 * started and has not begun.  `wanted` means that somebody will look after now; a commit that finds
 * it set has nothing to do, so any number of small transactions start one worker.
 *
 * No wake-up is lost.  A commit is visible before it looks at the entry.  The worker takes `wanted`
 * back before it looks at the data, so it either sees the change or is wanted again, and when it
 * stops, a look that is still wanted starts its successor.  What is not covered comes with the next
 * change: a transaction prepared for two-phase commit, a crash, a worker that cannot start or fails.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "wake.h"
#include "worker.h"

#define ANSWERS 64
#define START_MS 5000 /* a worker that has not begun after this time will not */

typedef struct Answer
{
	Oid database; /* InvalidOid: free */
	Oid object;
	int pid;             /* of the worker; 0: it has not begun, or failed */
	bool wanted;         /* somebody is to look */
	TimestampTz started; /* or failed */
} Answer;

typedef struct WakeShared
{
	slock_t lock; /* of all that follows; held for a few instructions */
	Answer answers[ANSWERS];
} WakeShared;

/* What this transaction gives work to. */
typedef struct WakeUp
{
	const char *kind;
	Oid object;
	Oid owner;
} WakeUp;

static WakeShared *shared = NULL;
static List *wake_ups = NIL; /* in TopTransactionContext */
static Answer *my_answer = NULL;
static const char *my_kind = NULL;
static bool given = false;
static bool failed = false;

static Size
SharedBytes(void)
{
	return MAXALIGN(sizeof(WakeShared));
}

void
RequestWakeMemory(void)
{
	RequestSharedMemory(SharedBytes);
}

static void
AttachWakeMemory(void)
{
	bool found;

	if (shared != NULL)
		return;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("llmapp wake-ups", sizeof(WakeShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(WakeShared));
		SpinLockInit(&shared->lock);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Under the lock: the entry of an object, made when there is none; NULL when there is no room. */
static Answer *
AnswerOf(Oid object)
{
	Answer *free = NULL;

	for (Answer *a = shared->answers; a < shared->answers + ANSWERS; a++)
	{
		if (a->database == MyDatabaseId && a->object == object)
			return a;
		if (a->database == InvalidOid && free == NULL)
			free = a;
	}
	if (free != NULL)
		*free = (Answer) {.database = MyDatabaseId, .object = object};
	return free;
}

/* ---- at the end of a transaction ---- */

/* Want a look; whether a worker must be started for it.  *pid: the one to be woken, or 0. */
static bool
WantLook(Oid object, int *pid)
{
	TimestampTz now = GetCurrentTimestamp();
	bool start = true;
	Answer *a;

	*pid = 0;
	SpinLockAcquire(&shared->lock);
	a = AnswerOf(object);
	if (a != NULL)
	{
		*pid = a->wanted ? 0 : a->pid;
		start = a->pid == 0 && (!a->wanted || a->started + START_MS * INT64CONST(1000) < now);
		a->wanted = true;
		if (start)
			a->started = now;
	}
	SpinLockRelease(&shared->lock);
	return start;
}

static void
ForgetAnswer(Oid object)
{
	Answer *a;

	SpinLockAcquire(&shared->lock);
	a = AnswerOf(object);
	if (a != NULL && a->pid == 0)
		a->database = InvalidOid;
	SpinLockRelease(&shared->lock);
}

/* After COMMIT: nothing here may ERROR. */
static void
WakeUpFor(const WakeUp *w)
{
	int pid;
	PGPROC *proc;

	if (WantLook(w->object, &pid) && !StartWorkerFor(w->kind, w->object, w->owner))
		ForgetAnswer(w->object);
	else if (pid != 0 && (proc = BackendPidGetProc(pid)) != NULL)
		SetLatch(&proc->procLatch);
}

static void
AtTransactionEnd(XactEvent event, void *arg)
{
	ListCell *cell;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_COMMIT)
		foreach(cell, wake_ups)
			WakeUpFor(lfirst(cell));
	wake_ups = NIL;
}

void
RegisterWakeUps(void)
{
	RegisterXactCallback(AtTransactionEnd, NULL);
}

/* One that a rolled back subtransaction asked for stays: looking in vain does no harm. */
void
WakeAtCommit(const char *kind, Oid object, Oid owner)
{
	MemoryContext old;
	WakeUp *w;
	ListCell *cell;

	foreach(cell, wake_ups)
		if (((WakeUp *) lfirst(cell))->object == object)
			return;
	AttachWakeMemory();
	old = MemoryContextSwitchTo(TopTransactionContext);
	w = palloc(sizeof(WakeUp));
	*w = (WakeUp) {kind, object, owner};
	wake_ups = lappend(wake_ups, w);
	MemoryContextSwitchTo(old);
}

/* ---- in the worker ---- */

void
AnswerFor(const char *kind, Oid object)
{
	AttachWakeMemory();
	SpinLockAcquire(&shared->lock);
	my_answer = AnswerOf(object);
	if (my_answer != NULL)
		my_answer->pid = MyProcPid;
	SpinLockRelease(&shared->lock);
	my_kind = kind;
	given = failed = false;
}

static void
SetWanted(Answer *a, bool wanted)
{
	SpinLockAcquire(&shared->lock);
	a->wanted = wanted;
	SpinLockRelease(&shared->lock);
}

void
BeginLook(void)
{
	if (my_answer != NULL)
		SetWanted(my_answer, false);
}

bool
HasBeenWoken(void)
{
	bool wanted;

	if (my_answer == NULL)
		return false;
	SpinLockAcquire(&shared->lock);
	wanted = my_answer->wanted;
	SpinLockRelease(&shared->lock);
	return wanted;
}

void
AnswerGiven(void)
{
	given = true;
}

void
AnswerFailed(void)
{
	failed = true;
}

void
StopAnswering(void)
{
	Oid object;
	bool start;

	if (my_answer == NULL)
		return;
	SpinLockAcquire(&shared->lock);
	object = my_answer->object;
	start = given && my_answer->wanted;
	my_answer->pid = 0;
	my_answer->wanted = true; /* kept, it keeps others from starting a worker */
	my_answer->started = GetCurrentTimestamp();
	if (!start && !failed)
		my_answer->database = InvalidOid;
	SpinLockRelease(&shared->lock);
	my_answer = NULL;
	if (start && !StartWorkerFor(my_kind, object, GetUserId()))
		ForgetAnswer(object);
}
