/*
 * session.c
 *	  The session of a worker: its settings, and what interrupts it.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "utils/guc.h"

#include "../common.h"
#include "session.h"
#include "slots.h"

static volatile sig_atomic_t terminated = false;

/* ---- interrupts ---- */

void
HandleTermination(SIGNAL_ARGS)
{
	int saved = errno;

	terminated = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
	errno = saved;
}

/*
 * Barriers and requests to log memory must be served here, because a step may take long,
 * and must not look like a cancel.  With cancels held, serving them raises no ERROR, so
 * nothing jumps through the engine.
 */
bool
JobPoll(void *arg)
{
	if (!PostmasterIsAlive())
	{
		terminated = true;
		InterruptPending = true;
		QueryCancelPending = true;
	}
	if (InterruptPending)
	{
		HOLD_CANCEL_INTERRUPTS();
		CHECK_FOR_INTERRUPTS();
		RESUME_CANCEL_INTERRUPTS();
	}
	return QueryCancelPending || JobPauseRequested();
}

bool
EndsTheJob(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return sqlstate == ERRCODE_QUERY_CANCELED || category == ERRCODE_OPERATOR_INTERVENTION ||
		   category == ERRCODE_INSUFFICIENT_RESOURCES || category == ERRCODE_SYSTEM_ERROR ||
		   category == ERRCODE_INTERNAL_ERROR;
}

bool
JobTerminating(void)
{
	return terminated;
}

/* ---- the session ---- */

/*
 * Nothing that the role, the database or the query of the training has set may time the job
 * out, make its writes fail, or change the order in which rows arrive.
 *
 * Text is converted from and to the encoding of the client outside of transactions, too: so
 * client_encoding is UTF8, as llmapp's own text is.  The first call must be in a transaction, which
 * looks the conversion up.
 */
void
ConfigureSession(void)
{
	static const char *const settings[][2] = {
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"synchronize_seqscans", "off"},
		{"max_parallel_workers_per_gather", "0"},
		{"client_encoding", "UTF8"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		if (GetConfigOption(settings[i][0], true, false) != NULL) /* transaction_timeout is of version 17 */
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_SESSION);
}

void
JobPhase(const char *phase, int64 total)
{
	if (!IsTransactionState())
		ConfigureSession();
	SetSlotPhase(phase, total);
	CHECK_FOR_INTERRUPTS(); /* a pause that was sent to the phase before */
}
