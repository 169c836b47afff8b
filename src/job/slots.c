/*
 * slots.c
 *	  Shared memory of the jobs: who runs, how far it is, who waits for a place.
 *
 * The area is small, so it fits into the spare part of shared memory when llmapp is not
 * preloaded; the first process that needs it creates it.  One LWLock protects all of it
 * and is held for a few instructions only.
 *
 * llmapp.max_jobs is enforced here, when a slot is taken.  No wake-up is lost: finding no
 * slot and being noted as waiting is one step under the lock, and whoever frees a slot
 * looks at the notes afterwards.
 *
 * A job is alive while its worker has a slot or the job's session lock, an advisory lock
 * whose fourth field no SQL function can produce.  The query of a training may give up all
 * advisory locks of its session, but not the slot.  A crash of the server frees both.
 */
#include "postgres.h"

#include <math.h>
#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "slots.h"

#define JOB_LOCK_CLASS 0x4c4d /* fourth field of the lock's tag; pg_advisory_lock() uses 1 and 2 */

typedef struct JobShared
{
	int tranche;
	LWLock lock;
	int patient; /* workers that stay until a slot is free */
	int waiting_count;
	WaitingJob waiting[JOB_SLOTS]; /* at most one per database, the longest waiting first */
	JobSlot slots[JOB_SLOTS];
} JobShared;

static JobShared *shared = NULL;
static JobSlot *my_slot = NULL;
static bool is_patient = false;

static Size
SharedBytes(void)
{
	return MAXALIGN(sizeof(JobShared));
}

void
RequestJobMemory(void)
{
	RequestSharedMemory(SharedBytes);
}

void
AttachJobMemory(void)
{
	bool found;
	JobShared *area;

	if (shared != NULL)
		return;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	area = ShmemInitStruct("llmapp jobs", sizeof(JobShared), &found);
	if (!found)
	{
		memset(area, 0, sizeof(JobShared));
		area->tranche = LWLockNewTrancheId();
		LWLockInitialize(&area->lock, area->tranche);
	}
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(area->tranche, "llmapp jobs");
	shared = area;
}

/* ---- slots ---- */

static JobSlot *
SlotOf(Oid database, int64 job)
{
	for (int i = 0; i < JOB_SLOTS; i++)
		if (shared->slots[i].job == job && shared->slots[i].database == database)
			return &shared->slots[i];
	return NULL;
}

static int
CountFree(void)
{
	int used = 0;

	for (int i = 0; i < JOB_SLOTS; i++)
		used += shared->slots[i].job != 0;
	return Max(llmapp_max_jobs - used, 0);
}

static void
FillSlot(JobSlot *slot, int64 job)
{
	memset(slot, 0, sizeof(JobSlot));
	slot->job = job;
	slot->database = MyDatabaseId;
	slot->owner = GetUserId();
	slot->pid = MyProcPid;
	slot->phase_started = GetCurrentTimestamp();
	my_slot = slot;
}

/* The note of a database is its newest word: it may name a job that has ended, never miss one that waits. */
static void
AddWaiting(const WaitingJob *waiting)
{
	int i = 0;

	while (i < shared->waiting_count && shared->waiting[i].database != waiting->database)
		i++;
	if (i == JOB_SLOTS)
		return; /* so many databases: this one goes on at its next job's end */
	shared->waiting[i] = *waiting;
	shared->waiting_count = Max(shared->waiting_count, i + 1);
}

static void
SetPatient(bool patient)
{
	if (patient != is_patient)
		shared->patient += patient ? 1 : -1;
	is_patient = patient;
}

SlotResult
AcquireSlot(int64 job, bool patient)
{
	WaitingJob waiting = {job, MyDatabaseId, GetUserId()};
	SlotResult result = SLOT_FULL;
	JobSlot *free;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	free = SlotOf(InvalidOid, 0);
	if (SlotOf(MyDatabaseId, job) != NULL)
		result = SLOT_DUPLICATE;
	else if (free != NULL && CountFree() > (patient ? 0 : shared->patient))
	{
		FillSlot(free, job);
		SetPatient(false);
		result = SLOT_ACQUIRED;
	}
	else if (patient)
		SetPatient(true);
	else
		AddWaiting(&waiting);
	LWLockRelease(&shared->lock);
	return result;
}

void
ReleaseSlot(void)
{
	if (shared == NULL || (my_slot == NULL && !is_patient))
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	SetPatient(false);
	if (my_slot != NULL)
		memset(my_slot, 0, sizeof(JobSlot));
	my_slot = NULL;
	LWLockRelease(&shared->lock);
}

bool
TakeGpu(int number)
{
	int users = 0;
	bool taken;

	if (my_slot == NULL)
		return false;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < JOB_SLOTS; i++)
		users += shared->slots[i].job != 0 && shared->slots[i].gpu == number + 1;
	taken = users < llmapp_max_gpu_jobs;
	if (taken)
		my_slot->gpu = number + 1;
	LWLockRelease(&shared->lock);
	return taken;
}

void
LeaveGpu(void)
{
	if (my_slot == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	my_slot->gpu = 0;
	LWLockRelease(&shared->lock);
}

int
FreeSlots(void)
{
	int count;

	LWLockAcquire(&shared->lock, LW_SHARED);
	count = Max(CountFree() - shared->patient, 0);
	LWLockRelease(&shared->lock);
	return count;
}

bool
OthersWait(void)
{
	bool wait;

	LWLockAcquire(&shared->lock, LW_SHARED);
	wait = shared->waiting_count > 0 || shared->patient > 0;
	LWLockRelease(&shared->lock);
	return wait;
}

bool
FindSlot(int64 job, JobSlot *copy)
{
	JobSlot *slot;

	LWLockAcquire(&shared->lock, LW_SHARED);
	slot = SlotOf(MyDatabaseId, job);
	if (slot != NULL)
		*copy = *slot;
	LWLockRelease(&shared->lock);
	return slot != NULL;
}

int
CopySlots(JobSlot *copies)
{
	int count = 0;

	LWLockAcquire(&shared->lock, LW_SHARED);
	for (int i = 0; i < JOB_SLOTS; i++)
		if (shared->slots[i].job != 0)
			copies[count++] = shared->slots[i];
	LWLockRelease(&shared->lock);
	return count;
}

/*
 * A worker that loads rows may be deep in the executor and has nothing worth a checkpoint,
 * so there a pause interrupts it like a cancel; later it looks at the flag between steps.
 */
bool
RequestStop(int64 job, StopRequest request)
{
	JobSlot *slot;
	PGPROC *proc;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	slot = SlotOf(MyDatabaseId, job);
	if (slot != NULL)
	{
		slot->pause = request == STOP_PAUSE;
		if (request == STOP_CANCEL || (request == STOP_PAUSE && strcmp(slot->phase, "loading") == 0))
			(void) kill(slot->pid, SIGINT);
		else if ((proc = BackendPidGetProc(slot->pid)) != NULL)
			SetLatch(&proc->procLatch);
	}
	LWLockRelease(&shared->lock);
	return slot != NULL;
}

void
NoteWaiting(const WaitingJob *waiting)
{
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	AddWaiting(waiting);
	LWLockRelease(&shared->lock);
}

bool
TakeWaiting(WaitingJob *waiting)
{
	bool found;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	found = shared->waiting_count > 0;
	if (found)
	{
		*waiting = shared->waiting[0];
		shared->waiting_count--;
		memmove(shared->waiting, shared->waiting + 1, shared->waiting_count * sizeof(WaitingJob));
	}
	LWLockRelease(&shared->lock);
	return found;
}

/* ---- what the running job reports ---- */

void
SetSlotPhase(const char *phase, int64 total)
{
	if (my_slot == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	strlcpy(my_slot->phase, phase, sizeof(my_slot->phase));
	my_slot->phase_started = GetCurrentTimestamp();
	my_slot->first = my_slot->done = -1;
	my_slot->total = total;
	my_slot->per_second = 0;
	LWLockRelease(&shared->lock);
}

void
JobProgress(int64 done, double loss, double per_second, int32 epoch)
{
	if (my_slot == NULL)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	if (my_slot->first < 0)
	{
		my_slot->first = done;
		my_slot->phase_started = GetCurrentTimestamp();
	}
	my_slot->done = done;
	my_slot->loss = loss;
	my_slot->per_second = per_second;
	my_slot->epoch = epoch;
	LWLockRelease(&shared->lock);
}

bool
JobPauseRequested(void)
{
	return my_slot != NULL && ((volatile JobSlot *) my_slot)->pause;
}

/* ---- liveness ---- */

static LOCKTAG
JobLockTag(int64 job)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (job >> 32), (uint32) job, JOB_LOCK_CLASS);
	return tag;
}

/* Only JobIsAlive() of others can hold it, for microseconds: the slot keeps other workers away. */
void
LockJob(int64 job)
{
	LOCKTAG tag = JobLockTag(job);

	(void) LockAcquire(&tag, ExclusiveLock, true, false);
}

void
UnlockJob(int64 job)
{
	LOCKTAG tag = JobLockTag(job);

	if (LockIsHeldByMe(&tag, ExclusiveLock))
		(void) LockRelease(&tag, ExclusiveLock, true);
}

bool
JobIsAlive(int64 job)
{
	LOCKTAG tag = JobLockTag(job);
	JobSlot slot;

	if (FindSlot(job, &slot))
		return true;
	if (LockIsHeldByMe(&tag, ExclusiveLock))
		return true;
	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, ShareLock, false);
	return false;
}

/* ---- progress in words ---- */

double
SecondsLeft(const JobSlot *slot)
{
	double elapsed = (GetCurrentTimestamp() - slot->phase_started) / 1e6;

	if (slot->total <= 0 || slot->done <= slot->first || slot->done > slot->total)
		return -1;
	return elapsed * (slot->total - slot->done) / (slot->done - slot->first);
}

char *
ProgressBar(const JobSlot *slot)
{
	double share = slot->total > 0 ? (double) Max(slot->done, 0) / slot->total : 0;
	int marks = (int) (20 * Min(share, 1));
	char bar[] = "....................";

	if (slot->total <= 0)
		return NULL;
	memset(bar, '#', marks);
	return psprintf("[%s] %3d %%", bar, (int) (100 * Min(share, 1)));
}

char *
ProgressText(const JobSlot *slot)
{
	char *bar = ProgressBar(slot);
	double left = SecondsLeft(slot);
	char *text = psprintf("%s%s%s", slot->phase[0] ? slot->phase : "starting", bar ? " " : "", bar ? bar : "");

	if (bar == NULL && slot->done > 0)
		text = psprintf("%s " INT64_FORMAT " rows", text, slot->done);
	if (strcmp(slot->phase, "training") == 0 && slot->done > 0)
		text = psprintf("%s, loss %.4g", text, slot->loss);
	if (slot->per_second > 0)
		text = psprintf("%s, %.0f rows/s", text, slot->per_second);
	if (left >= 0)
		text = psprintf("%s, %d:%02d left", text, (int) Min(left / 60, 99999), (int) fmod(left, 60));
	return text;
}
