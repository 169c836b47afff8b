/*
 * launcher.c
 *	  After a restart: go on with what was running or queued.
 *
 * Only with shared_preload_libraries.  A process can connect to one database in its life,
 * so the launcher connects to none and starts, for each database of llmapp.databases, a
 * visitor that marks the jobs that a crash left running, queues those that were
 * interrupted, starts what is queued, and ends.  A database that does not exist, does not
 * accept connections or has no llmapp costs its visitor, nothing else.
 *
 * The launcher visits all databases at its start and after every reload of the settings,
 * which may have raised llmapp.max_jobs; in between the workers start one another.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/varlena.h"
#include "utils/wait_event.h"

#include "../common.h"
#include "slots.h"
#include "wake.h"
#include "worker.h"

PGDLLEXPORT void llmapp_launcher(Datum arg);
PGDLLEXPORT void llmapp_visitor(Datum arg);

static void
RegisterLauncher(void)
{
	BackgroundWorker worker;

	DescribeProcess(&worker, "llmapp launcher", "llmapp_launcher");
	RegisterBackgroundWorker(&worker);
}

/* ---- the visitor of one database ---- */

void
llmapp_visitor(Datum arg)
{
	MemoryContext old;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(MyBgworkerEntry->bgw_extra, NULL, 0);
	AttachJobMemory();
	pgstat_report_activity(STATE_RUNNING, "resuming jobs");
	old = BeginShortTransaction();
	if (JobTableExists())
		RecoverJobs();
	EndShortTransaction(old);
	StartQueuedJobs();
}

/* ---- the launcher ---- */

static void
Visit(const char *database)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	DescribeProcess(&worker, "llmapp visitor", "llmapp_visitor");
	worker.bgw_flags |= BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_extra, database, BGW_EXTRALEN);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		ereport(WARNING, (errmsg("could not look after the jobs of database \"%s\"", database),
						  errdetail("All of max_worker_processes are in use.")));
		return;
	}
	(void) WaitForBackgroundWorkerShutdown(handle);
	pfree(handle);
}

static void
VisitAll(void)
{
	char *list = pstrdup(llmapp_databases);
	List *names;
	ListCell *cell;

	if (!SplitIdentifierString(list, ',', &names))
		ereport(WARNING, (errmsg("llmapp.databases is not a list of names")));
	foreach(cell, names)
		Visit(lfirst(cell));
	list_free(names);
	pfree(list);
}

void
llmapp_launcher(Datum arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGUSR1, procsignal_sigusr1_handler); /* the end of a visitor */
	BackgroundWorkerUnblockSignals();
	VisitAll();
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending) /* perhaps since the last visit, which took the latch's wake-up */
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			VisitAll();
			continue;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

void
InitJobs(void)
{
	RegisterPendingStarts();
	RegisterWakeUps();
	if (process_shared_preload_libraries_in_progress)
	{
		RequestJobMemory();
		RequestWakeMemory();
		RegisterLauncher();
	}
}
