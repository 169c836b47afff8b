/*
 * pending.c
 *	  Start workers at the end of the transaction.
 *
 * The worker of a queued job must not start before its row is visible and never when the
 * row has been rolled back.  So a job waits in a list of this transaction; the entry goes
 * with the subtransaction that made it, and what is left at COMMIT is started then.
 * Nothing at that point may raise an ERROR: a job whose worker cannot be started stays
 * queued.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "../common.h"
#include "slots.h"
#include "worker.h"

typedef struct PendingStart
{
	int64 job;
	Oid owner;
	SubTransactionId subtransaction;
	bool at_commit; /* forgotten when rolled back */
	bool at_abort;  /* forgotten unless rolled back */
} PendingStart;

static List *pending = NIL; /* in TopTransactionContext */

static void
AddPending(int64 job, Oid owner, bool at_commit)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	PendingStart *start = palloc(sizeof(PendingStart));

	*start = (PendingStart) {job, owner, GetCurrentSubTransactionId(), at_commit, !at_commit};
	pending = lappend(pending, start);
	MemoryContextSwitchTo(old);
}

void
StartAtCommit(int64 job, Oid owner)
{
	AddPending(job, owner, true);
}

void
StartAtAbort(int64 job, Oid owner)
{
	AddPending(job, owner, false);
}

bool
StartsAtCommit(int64 job)
{
	ListCell *cell;

	foreach(cell, pending)
		if (((PendingStart *) lfirst(cell))->job == job && ((PendingStart *) lfirst(cell))->at_commit)
			return true;
	return false;
}

/* A slot may be free that an earlier entry will take: its worker has not begun. */
static void
StartPending(bool committed)
{
	int free = pending != NIL ? FreeSlots() : 0;
	ListCell *cell;

	foreach(cell, pending)
	{
		PendingStart *start = lfirst(cell);

		if (!(committed ? start->at_commit : start->at_abort))
			continue;
		if (free > 0 && StartWorker(start->job, start->owner))
			free--;
		else
			NoteWaiting(&(WaitingJob) {start->job, MyDatabaseId, start->owner});
	}
	pending = NIL;
}

static void
AtTransactionEnd(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		StartPending(event == XACT_EVENT_COMMIT);
	else if (event == XACT_EVENT_PRE_PREPARE && pending != NIL)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot PREPARE a transaction that has submitted or changed jobs"),
						errhint("End it with COMMIT, or submit jobs in a transaction of their own.")));
}

/* What a subtransaction did is undone: its starts are forgotten, its changes have to be started at any end. */
static void
AtSubtransactionEnd(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	ListCell *cell;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(cell, pending)
	{
		PendingStart *start = lfirst(cell);

		if (start->subtransaction != mine)
			continue;
		start->subtransaction = parent;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			start->at_commit = start->at_abort;
	}
}

void
RegisterPendingStarts(void)
{
	RegisterXactCallback(AtTransactionEnd, NULL);
	RegisterSubXactCallback(AtSubtransactionEnd, NULL);
}
