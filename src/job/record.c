/*
 * record.c
 *	  Every read and write of llmapp.job, llmapp.job_metric and llmapp.job_trial.
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

#include <math.h>

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
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "../llmapp.h"
#include "record.h"
#include "slots.h"

#define METRIC_BUFFER 1024
#define FLUSH_INTERVAL_MS 1000
#define CRASH_LIMIT 3 /* a job that took the server down so often is not resumed by itself */

PG_FUNCTION_INFO_V1(llmapp_job_status);

void
BeginOwnAccess(OwnAccess *access)
{
	Oid owner = LlmappOwner();

	GetUserIdAndSecContext(&access->user, &access->context);
	SetUserIdAndSecContext(owner, access->context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	access->nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
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

/* Run a statement that must return `expected`; the number of rows. */
static uint64
Execute(const char *sql, int expected, int count, Oid *types, Datum *values, const char *nulls)
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
	if (Execute(
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
SelectNewest(const char *sql, int64 job)
{
	Oid type = INT8OID;
	Datum value = Int64GetDatum(job);
	SPIPlanPtr plan = SPI_prepare(sql, 1, &type);

	if (plan == NULL || SPI_execute_snapshot(plan, &value, NULL, GetLatestSnapshot(), InvalidSnapshot, true, false,
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
					 job) == 1)
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

static char *
NewestStatus(int64 job)
{
	MemoryContext cxt = CurrentMemoryContext;
	char *status = NULL;
	OwnAccess access;

	BeginOwnAccess(&access);
	if (SelectNewest("SELECT status FROM llmapp.job WHERE job = $1", job) == 1)
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

bool
ChangeStatus(int64 job, const char *from, const char *to)
{
	Oid types[] = {INT8OID, TEXTOID, TEXTOID, INT8OID};
	Datum values[] = {Int64GetDatum(job), CStringGetTextDatum(from), CStringGetTextDatum(to),
					  Int64GetDatum(GetSystemIdentifier())};
	OwnAccess access;
	bool changed;

	BeginOwnAccess(&access);
	changed = Execute("UPDATE llmapp.job SET status = $3, system_identifier = $4, crashes = 0, sqlstate = NULL,"
					  " message = NULL, detail = NULL, hint = NULL,"
					  " finished_at = CASE WHEN $3 = 'cancelled' THEN clock_timestamp() END"
					  " WHERE job = $1 AND status = $2",
					  SPI_OK_UPDATE, lengthof(types), types, values, NULL) == 1;
	EndOwnAccess(&access);
	return changed;
}

/* ---- the queue ---- */

/* A job whose owner cannot connect would die at its start and hold up those behind it. */
static void
FailUnstartable(void)
{
	(void) Execute(
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
	if (Execute("SELECT job, owner FROM llmapp.job WHERE status = 'queued' AND job > $1 AND system_identifier = $2"
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
	if (Execute("UPDATE llmapp.job SET status = 'running', phase = NULL, server_started_at = $3,"
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
	(void) Execute("UPDATE llmapp.job SET status = 'interrupted', crashes = crashes + 1,"
				   " message = 'the server ended while the job ran',"
				   " hint = format('SELECT llm_resume(%s);', job)"
				   " WHERE status = 'running' AND llmapp.job_status(job, status, system_identifier) = 'interrupted'",
				   SPI_OK_UPDATE, 0, NULL, NULL, NULL);
	(void) Execute(
		"UPDATE llmapp.job SET status = 'queued', sqlstate = NULL, message = NULL, detail = NULL, hint = NULL"
		" WHERE status = 'interrupted' AND system_identifier = $1 AND crashes < $2",
		SPI_OK_UPDATE, lengthof(types), types, values, NULL);
	EndOwnAccess(&access);
}

/* ---- what a running job leaves: metrics and reports ---- */

typedef struct Metric
{
	int64 step;
	double epoch;
	const char *split; /* both literals of the caller */
	const char *metric;
	double value;
	TimestampTz at;
	int32 trial; /* 0: none */
	int32 fold;
} Metric;

static int64 recorded_job = 0;
static Metric metrics[METRIC_BUFFER];
static int metric_count = 0;
static json_t *report = NULL;
static TimestampTz flushed_at = 0;
static int32 current_trial = 0;
static int32 current_fold = 0;

void
StartRecording(int64 job)
{
	recorded_job = job;
	metric_count = 0;
	JobSetTrial(0, 0);
	json_decref(report);
	report = NULL;
}

/* One array for each column: one statement whatever the number of rows. */
static void
WriteMetrics(void)
{
	Oid types[] = {INT8OID,        INT8ARRAYOID,        FLOAT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
				   FLOAT8ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID,   INT4ARRAYOID};
	Datum *columns[8];
	Datum values[9] = {Int64GetDatum(recorded_job)};
	Oid element[] = {INT8OID, FLOAT8OID, TEXTOID, TEXTOID, FLOAT8OID, TIMESTAMPTZOID, INT4OID, INT4OID};

	for (int c = 0; c < (int) lengthof(columns); c++)
		columns[c] = palloc(metric_count * sizeof(Datum));
	for (int i = 0; i < metric_count; i++)
	{
		columns[0][i] = Int64GetDatum(metrics[i].step);
		columns[1][i] = Float8GetDatum(metrics[i].epoch);
		columns[2][i] = CStringGetTextDatum(metrics[i].split);
		columns[3][i] = CStringGetTextDatum(metrics[i].metric);
		columns[4][i] = Float8GetDatum(metrics[i].value);
		columns[5][i] = TimestampTzGetDatum(metrics[i].at);
		columns[6][i] = Int32GetDatum(metrics[i].trial);
		columns[7][i] = Int32GetDatum(metrics[i].fold);
	}
	for (int c = 0; c < (int) lengthof(columns); c++)
	{
		int16 length;
		bool by_value;
		char align;

		get_typlenbyvalalign(element[c], &length, &by_value, &align);
		values[c + 1] =
			PointerGetDatum(construct_array(columns[c], metric_count, element[c], length, by_value, align));
	}
	(void) Execute("INSERT INTO llmapp.job_metric (job, step, epoch, split, metric, value, at, trial, fold)"
				   " SELECT $1, m.* FROM unnest($2, $3, $4, $5, $6, $7, $8, $9) AS m",
				   SPI_OK_INSERT, lengthof(types), types, values, NULL);
}

static void
WriteReport(void)
{
	Oid types[] = {INT8OID, TEXTOID};
	char *text = json_text(report);
	Datum values[2] = {Int64GetDatum(recorded_job)};

	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	values[1] = CStringGetTextDatum(pg_any_to_server(text, strlen(text), PG_UTF8));
	free(text);
	(void) Execute("UPDATE llmapp.job SET report = report || $2::jsonb WHERE job = $1", SPI_OK_UPDATE,
				   lengthof(types), types, values, NULL);
}

/* In an own access: write and forget what is buffered. */
static void
WriteBuffered(void)
{
	if (metric_count > 0)
		WriteMetrics();
	if (report != NULL)
		WriteReport();
	metric_count = 0;
	json_decref(report);
	report = NULL;
	flushed_at = GetCurrentTimestamp();
}

void
JobFlushMetrics(void)
{
	bool outside = !IsTransactionState();
	MemoryContext old = NULL;
	OwnAccess access;

	if (recorded_job == 0 || (metric_count == 0 && report == NULL))
		return;
	if (outside)
		old = BeginShortTransaction();
	BeginOwnAccess(&access);
	WriteBuffered();
	EndOwnAccess(&access);
	if (outside)
		EndShortTransaction(old);
}

void
JobMetric(int64 step, double epoch, const char *split, const char *metric, double value)
{
	if (recorded_job == 0)
		return;
	metrics[metric_count++] =
		(Metric) {step, epoch, split, metric, value, GetCurrentTimestamp(), current_trial, current_fold};
	if (metric_count == METRIC_BUFFER ||
		TimestampDifferenceExceeds(flushed_at, GetCurrentTimestamp(), FLUSH_INTERVAL_MS))
		JobFlushMetrics();
}

void
JobForgetMetricsAfter(int64 step)
{
	Oid types[] = {INT8OID, INT8OID};
	Datum values[] = {Int64GetDatum(recorded_job), Int64GetDatum(step)};
	MemoryContext old = BeginShortTransaction();
	OwnAccess access;

	BeginOwnAccess(&access);
	(void) Execute("DELETE FROM llmapp.job_metric WHERE job = $1 AND step > $2", SPI_OK_DELETE, lengthof(types),
				   types, values, NULL);
	EndOwnAccess(&access);
	EndShortTransaction(old);
}

/* ---- trials and folds ---- */

void
JobSetTrial(int32 trial, int32 fold)
{
	current_trial = trial;
	current_fold = fold;
}

void
JobTrial(const json_t *settings, const char *metric, double value, int64 epochs, const char *status)
{
	Oid types[] = {INT8OID, INT4OID, INT4OID, TEXTOID, TEXTOID, FLOAT8OID, INT8OID, TEXTOID};
	MemoryContext old = BeginShortTransaction();
	char *text = json_text(settings);
	Datum values[8] = {Int64GetDatum(recorded_job), Int32GetDatum(current_trial), Int32GetDatum(current_fold)};
	char nulls[] = "        ";
	OwnAccess access;

	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	values[3] = CStringGetTextDatum(pg_any_to_server(text, strlen(text), PG_UTF8));
	free(text);
	values[4] = CStringGetTextDatum(metric);
	values[5] = Float8GetDatum(value);
	nulls[5] = isfinite(value) ? ' ' : 'n';
	values[6] = Int64GetDatum(epochs);
	values[7] = CStringGetTextDatum(status);
	BeginOwnAccess(&access);
	(void) Execute("INSERT INTO llmapp.job_trial (job, trial, fold, settings, metric, value, epochs, status)"
				   " VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8) ON CONFLICT (job, trial, fold) DO UPDATE"
				   " SET value = excluded.value, epochs = excluded.epochs, status = excluded.status",
				   SPI_OK_INSERT, lengthof(types), types, values, nulls);
	EndOwnAccess(&access);
	EndShortTransaction(old);
}

void
JobForgetTrials(int32 trial, int32 fold)
{
	Oid types[] = {INT8OID, INT4OID, INT4OID};
	Datum values[] = {Int64GetDatum(recorded_job), Int32GetDatum(trial), Int32GetDatum(fold)};
	MemoryContext old = BeginShortTransaction();
	OwnAccess access;

	BeginOwnAccess(&access);
	(void) Execute(
		"DELETE FROM llmapp.job_trial WHERE job = $1 AND (trial > $2 OR trial = $2 AND (fold >= $3 OR fold = 0))",
		SPI_OK_DELETE, lengthof(types), types, values, NULL);
	EndOwnAccess(&access);
	EndShortTransaction(old);
}

void
JobReport(const char *key, json_t *value)
{
	if (report == NULL)
		report = json_object();
	if (report == NULL || json_object_set_new(report, key, value) != 0)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

/*
 * Result and success in one transaction: a job that has published is never run again, and
 * one that says succeeded has its model, metrics and report.
 */
void
JobSucceeded(const char *model, int32 version)
{
	Oid types[] = {INT8OID, TEXTOID, INT4OID};
	Datum values[] = {Int64GetDatum(recorded_job), CStringGetTextDatum(model), Int32GetDatum(version)};
	OwnAccess access;

	BeginOwnAccess(&access);
	WriteBuffered();
	if (Execute("UPDATE llmapp.job SET status = 'succeeded', phase = NULL, model = $2, version = $3,"
				" finished_at = clock_timestamp() WHERE job = $1 AND status = 'running'",
				SPI_OK_UPDATE, lengthof(types), types, values, NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the row of job " INT64_FORMAT " is gone", recorded_job),
						errdetail("Its result is not published.")));
	EndOwnAccess(&access);
}

void
FinishJob(int64 job, const char *from, const char *to, const char *phase, const ErrorData *error)
{
	Oid types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	const char *texts[] = {from,
						   to,
						   phase,
						   error ? unpack_sql_state(error->sqlerrcode) : NULL,
						   error ? error->message : NULL,
						   error ? error->detail : NULL,
						   error ? error->hint : NULL};
	Datum values[8] = {Int64GetDatum(job)};
	char nulls[8] = "       ";
	OwnAccess access;

	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		values[i + 1] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
		nulls[i + 1] = texts[i] ? ' ' : 'n';
	}
	BeginOwnAccess(&access);
	WriteBuffered();
	(void) Execute(
		"UPDATE llmapp.job SET status = $3, phase = $4, sqlstate = $5, message = $6, detail = $7, hint = $8,"
		" finished_at = CASE WHEN $3 IN ('failed', 'cancelled') THEN clock_timestamp() END"
		" WHERE job = $1 AND status = $2",
		SPI_OK_UPDATE, lengthof(types), types, values, nulls);
	EndOwnAccess(&access);
}
