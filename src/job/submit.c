/*
 * submit.c
 *	  Queue a job, or run one and wait for it.
 *
 * A queued job starts when the transaction commits (pending.c).  With wait => true the
 * call cannot commit, so the worker inserts the row itself and this session only waits;
 * see Submission in worker.h.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

#include "../common.h"
#include "slots.h"
#include "worker.h"

/* ---- checks ---- */

static void
RequireLogin(Oid role)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool may = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	char *name;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (may)
		return;
	name = GetUserNameFromId(role, false);
	ereport(ERROR, (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					errmsg("role \"%s\" cannot run a job because it is not permitted to log in", name),
					errdetail("A job runs in a session of its own, as the role that submits it."),
					errhint("RESET ROLE; and submit as a role that may log in, or ALTER ROLE %s LOGIN;",
							quote_identifier(name))));
}

/* The worker sees committed data only, and nothing that this transaction has locked. */
static void
RequireNoTransaction(const char *function)
{
	const char *name = pnstrdup(function, strcspn(function, "("));

	if (IsInTransactionBlock(true))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s(wait => true) cannot run inside a transaction block", name),
				 errhint("COMMIT; first, or leave out wait: the job starts at COMMIT, then SELECT llm_wait(job);")));
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("%s(wait => true) cannot run in a transaction that has written", name),
						errdetail("The job would not see what has been written."),
						errhint("Leave out wait: the job starts at COMMIT, then SELECT llm_wait(job);")));
	if (llmapp_max_jobs == 0)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("no job can run: llmapp.max_jobs is 0"),
						errhint("ALTER SYSTEM SET llmapp.max_jobs = 2; SELECT pg_reload_conf();")));
}

void
RequireSubmission(const char *function, const char *verb, bool wait)
{
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("cannot %s on a standby server", verb),
						errhint("Connect to the primary server; its models and tables arrive here by replication.")));
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	if (InSecurityRestrictedOperation())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("cannot submit a job within a security-restricted operation")));
	RequireLogin(GetUserId());
	if (wait)
		RequireNoTransaction(function);
}

/* ---- submit and wait ---- */

/* The description as text of the server's encoding; takes it over. */
static char *
SpecText(json_t *spec)
{
	char *text = spec ? json_text(spec) : NULL;
	char *copy;

	json_decref(spec);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	copy = pg_any_to_server(text, strlen(text), PG_UTF8);
	if (copy == text)
		copy = pstrdup(text);
	free(text);
	return copy;
}

static dsm_segment *
CreateSubmission(const JobRequest *request, const char *spec)
{
	Size bytes = strlen(spec) + 1;
	dsm_segment *segment = dsm_create(add_size(offsetof(Submission, spec), bytes), 0);
	Submission *s = dsm_segment_address(segment);

	memset(s, 0, offsetof(Submission, spec));
	pg_atomic_init_u64(&s->job, 0);
	pg_atomic_init_u32(&s->abandoned, 0);
	pg_atomic_init_u32(&s->failed, 0);
	strlcpy(s->kind, request->kind, sizeof(s->kind));
	strlcpy(s->model, request->model, sizeof(s->model));
	strlcpy(s->device, request->device, sizeof(s->device));
	s->spec_bytes = bytes;
	memcpy(s->spec, spec, bytes);
	return segment;
}

typedef struct Waited
{
	Submission *submission;
	BackgroundWorkerHandle *worker;
} Waited;

/* This session stops waiting, by an ERROR or because it ends: the job ends, too. */
static void
Abandon(int code, Datum arg)
{
	Waited *waited = (Waited *) DatumGetPointer(arg);
	int64 job = pg_atomic_read_u64(&waited->submission->job);
	pid_t pid;

	pg_atomic_write_u32(&waited->submission->abandoned, 1);
	pg_memory_barrier();
	if (job != 0 && RequestStop(job, STOP_CANCEL))
		return;
	if (GetBackgroundWorkerPid(waited->worker, &pid) == BGWH_STARTED)
		(void) kill(pid, SIGINT);
}

/* The number of the job, once its row is there. */
static int64
AwaitSubmission(const Waited *waited)
{
	for (;;)
	{
		pid_t pid;
		bool stopped = GetBackgroundWorkerPid(waited->worker, &pid) == BGWH_STOPPED;
		int64 job = pg_atomic_read_u64(&waited->submission->job);

		if (job != 0)
			return job;
		if (pg_atomic_read_u32(&waited->submission->failed))
			ereport(ERROR, (errcode(waited->submission->sqlstate), errmsg_internal("%s", waited->submission->message),
							errcontext("start of the job")));
		if (stopped)
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
							errmsg("the worker of the job ended before the job began"),
							errhint("The log of the server has the reason; a role's or database's CONNECTION LIMIT "
									"is a common one.")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Raise the error of a job that has not succeeded as if it were our own. */
static void
RequireSuccess(int64 job, const JobRecord *record)
{
	const char *state = record && record->sqlstate ? record->sqlstate : NULL;
	bool resumable;

	if (record != NULL && strcmp(record->status, "succeeded") == 0)
		return;
	if (record == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the row of job " INT64_FORMAT " is gone", job)));
	resumable = strcmp(record->status, "paused") == 0 || strcmp(record->status, "interrupted") == 0;
	if (resumable || state == NULL || strlen(state) != 5)
		ereport(ERROR, (errcode(resumable ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_QUERY_CANCELED),
						errmsg("job " INT64_FORMAT " was %s", job, record->status),
						record->message ? errdetail("%s.", record->message) : 0,
						resumable ? errhint("SELECT llm_resume(" INT64_FORMAT ");", job) : 0));
	ereport(ERROR, (errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])),
					errmsg_internal("%s", record->message ? record->message : record->status),
					record->detail ? errdetail_internal("%s", record->detail) : 0,
					record->hint ? errhint("%s", record->hint) : 0, errcontext("job " INT64_FORMAT, job)));
}

static int64
RunAndWait(const JobRequest *request, const char *spec)
{
	dsm_segment *segment = CreateSubmission(request, spec);
	Waited waited = {dsm_segment_address(segment), StartSubmission(dsm_segment_handle(segment))};
	volatile int64 job = 0;
	JobRecord *volatile record = NULL;

	if (waited.worker == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("no worker is free for the job"),
				 errdetail("All of max_worker_processes are in use."),
				 errhint("Try again later, raise max_worker_processes, or leave out wait: the job is queued then.")));
	PG_ENSURE_ERROR_CLEANUP(Abandon, PointerGetDatum(&waited));
	{
		job = AwaitSubmission(&waited);
		record = AwaitJob(job, 0, waited.worker);
	}
	PG_END_ENSURE_ERROR_CLEANUP(Abandon, PointerGetDatum(&waited));
	RequireSuccess(job, record);
	dsm_detach(segment);
	return job;
}

int64
SubmitJob(const JobRequest *request, bool wait)
{
	char *spec = SpecText(request->spec);
	int64 job;

	AttachJobMemory();
	if (wait)
		return RunAndWait(request, spec);
	job = InsertJob(request->kind, request->model, request->device, spec);
	StartAtCommit(job, GetUserId());
	return job;
}

/* ---- arguments of calls that submit ---- */

char *
TextArgument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

char *
RequireText(FunctionCallInfo fcinfo, int n, const char *function, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" of %s must not be null", name, function)));
	return TextArgument(fcinfo, n);
}

/* ---- texts of a description ---- */

void
SetSpecText(json_t *object, const char *key, const char *string)
{
	json_object_set_new(object, key,
						string ? json_string(pg_server_to_any(string, strlen(string), PG_UTF8)) : json_null());
}

char *
GetSpecText(const json_t *object, const char *key)
{
	const char *string = json_string_value(json_object_get(object, key));

	return string ? pstrdup(pg_any_to_server(string, strlen(string), PG_UTF8)) : NULL;
}
