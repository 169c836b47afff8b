/*
 * report.c
 *	  What a running job leaves: metrics, trials, a report, and how it ended.
 *
 * Metrics and the report are buffered and written in short transactions; what a job has
 * at its end is written together with the end.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "job_table.h"

#define METRIC_BUFFER 1024
#define FLUSH_INTERVAL_MS 1000

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
	(void) ExecuteOwn("INSERT INTO llmapp.job_metric (job, step, epoch, split, metric, value, at, trial, fold)"
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
	(void) ExecuteOwn("UPDATE llmapp.job SET report = report || $2::jsonb WHERE job = $1", SPI_OK_UPDATE,
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
	(void) ExecuteOwn("DELETE FROM llmapp.job_metric WHERE job = $1 AND step > $2", SPI_OK_DELETE, lengthof(types),
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
	(void) ExecuteOwn("INSERT INTO llmapp.job_trial (job, trial, fold, settings, metric, value, epochs, status)"
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
	(void) ExecuteOwn(
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
	if (ExecuteOwn("UPDATE llmapp.job SET status = 'succeeded', phase = NULL, model = $2, version = $3,"
				   " finished_at = clock_timestamp() WHERE job = $1 AND status = 'running'",
				   SPI_OK_UPDATE, lengthof(types), types, values, NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the row of job " INT64_FORMAT " is gone", recorded_job),
						errdetail("Its result is not published.")));
	EndOwnAccess(&access);
}

/*
 * A job that was not claimed yet may be changed by somebody at this moment, whose transaction can
 * last: that change counts, and a worker does not wait for it.
 */
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
	(void) ExecuteOwn(
		"UPDATE llmapp.job SET status = $3, phase = $4, sqlstate = $5, message = $6, detail = $7, hint = $8,"
		" finished_at = CASE WHEN $3 IN ('failed', 'cancelled') THEN clock_timestamp() END"
		" WHERE job = $1 AND status = $2 AND (status = 'running' OR job IN"
		"   (SELECT job FROM llmapp.job WHERE job = $1 AND status = $2 FOR UPDATE SKIP LOCKED))",
		SPI_OK_UPDATE, lengthof(types), types, values, nulls);
	EndOwnAccess(&access);
}
