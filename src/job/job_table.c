/*
 * job_table.c
 *	  Reads and writes of llmapp.job: rows, their status, the queue.
 *
 * The tables belong to the owner of the extension; users reach them through views and
 * through this file.  Our SQL runs for a moment as that owner in a security-restricted
 * operation with a search path of our own, so that no object of a user is ever run with
 * the owner's rights; nothing of a user's runs in between.  An ERROR restores user and
 * search path when the transaction ends.
 *
 * Reads take the newest snapshot, because a job changes while a transaction of any
 * isolation level watches it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "mb/pg_wchar.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "job_table.h"
#include "slots.h"

#define CRASH_LIMIT 3 /* a job that took the server down so often is not resumed by itself */

PG_FUNCTION_INFO_V1(llmapp_job_status);

void
BeginAccessAs(OwnAccess *access, Oid owner)
{
	GetUserIdAndSecContext(&access->user, &access->context);
	SetUserIdAndSecContext(owner, access->context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	access->nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
}

void
BeginOwnAccess(OwnAccess *access)
{
	BeginAccessAs(access, LlmappOwner());
}

void
EndOwnAccess(const OwnAccess *access)
{
	SPI_finish();
	AtEOXact_GUC(false, access->nest_level);
	SetUserIdAndSecContext(access->user, access->context);
}

MemoryContext
BeginShortTransaction(void)
{
	MemoryContext old = CurrentMemoryContext;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactReadOnly = false; /* whatever defaults the query of a training has set */
	XactIsoLevel = XACT_READ_COMMITTED;
	PushActiveSnapshot(GetTransactionSnapshot());
	return old;
}

void
EndShortTransaction(MemoryContext old)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
}

uint64
ExecuteOwn(const char *sql, int expected, int count, Oid *types, Datum *values, const char *nulls)
{
	int result = SPI_execute_with_args(sql, count, types, values, nulls, false, 0);

	if (result != expected)
		elog(ERROR, "unexpected result %s of \"%s\"", SPI_result_code_string(result), sql);
	return SPI_processed;
}

/* Text of a column of the first row, in the caller's context; NULL for NULL. */
static char *
FirstText(int column, MemoryContext cxt)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);

	return value ? MemoryContextStrdup(cxt, value) : NULL;
}

static Datum
FirstDatum(int column)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);

	if (isnull)
		elog(ERROR, "column %d of a job is null", column);
	return value;
}

/* ---- rows ---- */

bool
JobTableExists(void)
{
	Oid schema = get_namespace_oid(LLMAPP_SCHEMA, true);

	return OidIsValid(schema) && OidIsValid(get_relname_relid("job", schema));
}

int64
InsertJob(const char *kind, const char *model, const char *device, const char *spec)
{
	Oid types[] = {OIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID};
	Datum values[] = {ObjectIdGetDatum(GetUserId()),   CStringGetTextDatum(kind),
					  CStringGetTextDatum(model),      CStringGetTextDatum(device),
					  CStringGetTextDatum(spec),       Int64GetDatum(GetSystemIdentifier()),
					  TimestampTzGetDatum(PgStartTime)};
	OwnAccess access;
	int64 job;

	BeginOwnAccess(&access);
	if (ExecuteOwn(
			"INSERT INTO llmapp.job (owner, kind, model, status, device, spec, system_identifier, server_started_at)"
			" VALUES ($1, $2, $3, 'queued', $4, $5::jsonb, $6, $7) RETURNING job",
			SPI_OK_INSERT_RETURNING, lengthof(types), types, values, NULL) != 1)
		elog(ERROR, "could not insert a job");
	job = DatumGetInt64(FirstDatum(1));
	EndOwnAccess(&access);
	return job;
}

/* Run a SELECT with the newest snapshot; the number of rows. */
static uint64
SelectNewest(const char *sql, int count, Oid *types, Datum *values)
{
	SPIPlanPtr plan = SPI_prepare(sql, count, types);

	if (plan == NULL || SPI_execute_snapshot(plan, values, NULL, GetLatestSnapshot(), InvalidSnapshot, true, false,
											 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", sql);
	return SPI_processed;
}

JobRecord *
ReadJob(int64 job)
{
	MemoryContext cxt = CurrentMemoryContext;
	JobRecord *record = NULL;
	OwnAccess access;
	int64 system_identifier;

	BeginOwnAccess(&access);
	if (SelectNewest("SELECT owner, system_identifier, model, status, sqlstate, message, detail, hint, kind"
					 " FROM llmapp.job WHERE job = $1",
					 1, &(Oid) {INT8OID}, &(Datum) {Int64GetDatum(job)}) == 1)
	{
		record = MemoryContextAllocZero(cxt, sizeof(JobRecord));
		record->job = job;
		record->owner = DatumGetObjectId(FirstDatum(1));
		system_identifier = DatumGetInt64(FirstDatum(2));
		record->model = FirstText(3, cxt);
		record->stored = FirstText(4, cxt);
		record->sqlstate = FirstText(5, cxt);
		record->message = FirstText(6, cxt);
		record->detail = FirstText(7, cxt);
		record->hint = FirstText(8, cxt);
		record->kind = FirstText(9, cxt);
	}
	EndOwnAccess(&access);
	if (record != NULL)
		record->status = EffectiveStatus(job, record->stored, system_identifier);
	return record;
}

JobRecord *
ReadJobOf(const char *kind, Oid target)
{
	Oid types[] = {TEXTOID, TEXTOID, OIDOID, INT8OID};
	Datum values[] = {CStringGetTextDatum(kind), CStringGetTextDatum(psprintf("%u", target)),
					  ObjectIdGetDatum(GetUserId()), Int64GetDatum(GetSystemIdentifier())};
	OwnAccess access;
	int64 job = 0;

	BeginOwnAccess(&access);
	if (SelectNewest("SELECT job FROM llmapp.job WHERE kind = $1 AND spec ->> 'target' = $2 AND owner = $3"
					 " AND system_identifier = $4 ORDER BY job DESC LIMIT 1",
					 lengthof(types), types, values) == 1)
		job = DatumGetInt64(FirstDatum(1));
	EndOwnAccess(&access);
	return job == 0 ? NULL : ReadJob(job);
}

static char *
NewestStatus(int64 job)
{
	MemoryContext cxt = CurrentMemoryContext;
	char *status = NULL;
	OwnAccess access;

	BeginOwnAccess(&access);
	if (SelectNewest("SELECT status FROM llmapp.job WHERE job = $1", 1, &(Oid) {INT8OID},
					 &(Datum) {Int64GetDatum(job)}) == 1)
		status = FirstText(1, cxt);
	EndOwnAccess(&access);
	return status;
}

/*
 * A worker writes its last status before it gives up its lock.  So when the lock is free
 * and the newest row still says running, nobody will change it; an older row may say so
 * of a job that has ended since.
 */
const char *
EffectiveStatus(int64 job, const char *stored, int64 system_identifier)
{
	bool running = strcmp(stored, "running") == 0;
	char *newest;

	if (RecoveryInProgress() || (!running && strcmp(stored, "queued") != 0))
		return stored;
	if (system_identifier != (int64) GetSystemIdentifier())
		return "interrupted";
	if (!running || JobIsAlive(job))
		return stored;
	newest = NewestStatus(job);
	return newest == NULL || strcmp(newest, "running") == 0 ? "interrupted" : newest;
}

/* For view llmapp.jobs: (job, status, system_identifier). */
Datum
llmapp_job_status(PG_FUNCTION_ARGS)
{
	AttachJobMemory();
	PG_RETURN_TEXT_P(cstring_to_text(
		EffectiveStatus(PG_GETARG_INT64(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_INT64(2))));
}

static bool
UpdateStatus(int64 job, const char *from, const char *to)
{
	Oid types[] = {INT8OID, TEXTOID, TEXTOID, INT8OID};
	Datum values[] = {Int64GetDatum(job), CStringGetTextDatum(from), CStringGetTextDatum(to),
					  Int64GetDatum(GetSystemIdentifier())};
	OwnAccess access;
	bool changed;

	BeginOwnAccess(&access);
	changed = ExecuteOwn("UPDATE llmapp.job SET status = $3, system_identifier = $4, crashes = 0, sqlstate = NULL,"
						 " message = NULL, detail = NULL, hint = NULL,"
						 " finished_at = CASE WHEN $3 = 'cancelled' THEN clock_timestamp() END"
						 " WHERE job = $1 AND status = $2",
						 SPI_OK_UPDATE, lengthof(types), types, values, NULL) == 1;
	EndOwnAccess(&access);
	return changed;
}

/*
 * An UPDATE that waited for another one and then finds that its row is none any more has locked the row all
 * the same.  A transaction that kept this lock while it waits for the job's worker would keep that from
 * writing the job's end, so the lock is given up with a subtransaction.
 */
bool
ChangeStatus(int64 job, const char *from, const char *to)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	bool changed;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	changed = UpdateStatus(job, from, to);
	if (changed)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return changed;
}

/* ---- the queue ---- */

/* A job whose owner cannot connect would die at its start and hold up those behind it. */
static void
FailUnstartable(void)
{
	(void) ExecuteOwn(
		"UPDATE llmapp.job AS j SET status = 'failed', finished_at = clock_timestamp(), sqlstate = '28000',"
		" message = 'the owner of the job cannot connect to the database any more',"
		" hint = 'A job runs as its owner, who needs LOGIN and CONNECT on the database.'"
		" WHERE job IN (SELECT job FROM llmapp.job WHERE status = 'queued' AND NOT EXISTS"
		"   (SELECT FROM pg_roles AS r WHERE r.oid = owner AND r.rolcanlogin"
		"      AND has_database_privilege(r.oid, current_database(), 'CONNECT')) FOR UPDATE SKIP LOCKED)",
		SPI_OK_UPDATE, 0, NULL, NULL, NULL);
}

int64
NextQueuedJob(int64 after, Oid *owner)
{
	Oid types[] = {INT8OID, INT8OID};
	Datum values[] = {Int64GetDatum(after), Int64GetDatum(GetSystemIdentifier())};
	OwnAccess access;
	int64 job = 0;

	BeginOwnAccess(&access);
	FailUnstartable();
	if (ExecuteOwn("SELECT job, owner FROM llmapp.job WHERE status = 'queued' AND job > $1 AND system_identifier = $2"
				   " ORDER BY job LIMIT 1 FOR UPDATE SKIP LOCKED",
				   SPI_OK_SELECT, lengthof(types), types, values, NULL) == 1)
	{
		job = DatumGetInt64(FirstDatum(1));
		*owner = DatumGetObjectId(FirstDatum(2));
	}
	EndOwnAccess(&access);
	return job;
}

ClaimedJob *
ClaimJob(int64 job)
{
	Oid types[] = {INT8OID, OIDOID, TIMESTAMPTZOID};
	Datum values[] = {Int64GetDatum(job), ObjectIdGetDatum(GetUserId()), TimestampTzGetDatum(PgStartTime)};
	MemoryContext cxt = CurrentMemoryContext;
	OwnAccess access;
	ClaimedJob *claimed = NULL;

	BeginOwnAccess(&access);
	if (ExecuteOwn("UPDATE llmapp.job SET status = 'running', phase = NULL, server_started_at = $3,"
				   " started_at = coalesce(started_at, clock_timestamp()), finished_at = NULL"
				   " WHERE job = (SELECT job FROM llmapp.job WHERE job = $1 AND owner = $2 AND status = 'queued'"
				   "              FOR UPDATE SKIP LOCKED) RETURNING submitted_at, kind, model, spec, report",
				   SPI_OK_UPDATE_RETURNING, lengthof(types), types, values, NULL) == 1)
	{
		claimed = MemoryContextAlloc(cxt, sizeof(ClaimedJob));
		claimed->job = job;
		claimed->submitted_at = DatumGetTimestampTz(FirstDatum(1));
		claimed->kind = FirstText(2, cxt);
		claimed->model = FirstText(3, cxt);
		claimed->spec = FirstText(4, cxt);
		claimed->report = FirstText(5, cxt);
	}
	EndOwnAccess(&access);
	return claimed;
}

void
RecoverJobs(void)
{
	Oid types[] = {INT8OID, INT4OID};
	Datum values[] = {Int64GetDatum(GetSystemIdentifier()), Int32GetDatum(CRASH_LIMIT)};
	OwnAccess access;

	BeginOwnAccess(&access);
	(void) ExecuteOwn(
		"UPDATE llmapp.job SET status = 'interrupted', crashes = crashes + 1,"
		" message = 'the server ended while the job ran',"
		" hint = format('SELECT llm_resume(%s);', job)"
		" WHERE status = 'running' AND llmapp.job_status(job, status, system_identifier) = 'interrupted'",
		SPI_OK_UPDATE, 0, NULL, NULL, NULL);
	(void) ExecuteOwn(
		"UPDATE llmapp.job SET status = 'queued', sqlstate = NULL, message = NULL, detail = NULL, hint = NULL"
		" WHERE status = 'interrupted' AND system_identifier = $1 AND crashes < $2",
		SPI_OK_UPDATE, lengthof(types), types, values, NULL);
	EndOwnAccess(&access);
}
