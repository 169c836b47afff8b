/*
 * describe.c
 *	  What the views show of model tables: llm_describe_model(), llm_describe_versions().
 *
 * Anybody may select from the views, and any table of our row type is in them, so nothing
 * here may fail or wait: a locked table is skipped, whatever goes wrong while reading a table
 * or a manifest is caught in a subtransaction and becomes the text of column "problem", and
 * a reader without SELECT on column meta sees only what the catalogs tell everybody.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "parts.h"

PG_FUNCTION_INFO_V1(llm_describe_model);
PG_FUNCTION_INFO_V1(llm_describe_versions);

/* Facts of one version; in memory of the context current at the call, absent ones are NULL. */
typedef struct Facts
{
	char *problem; /* why it cannot be used; then only bytes may be known */
	char *task;
	char *architecture;
	char *target;  /* column names, separated by commas */
	char *metrics; /* these four are JSON */
	char *settings;
	char *findings;
	char *lineage;
	char *trained_at;
	int64 rows;  /* of the source; -1: not known */
	int64 job;   /* -1: not known */
	int64 bytes; /* of weights; -1: not known */
} Facts;

/* What is read under the protection of Guard(). */
typedef struct Reading
{
	Oid relid;
	int64 size; /* on disk; -1: not known */
	int32 live;
	int32 *versions;
	int count;
	int32 version; /* to read facts of */
	Facts facts;
} Reading;

/* ---- protection ---- */

static bool
IsRequestToStop(int sqlstate)
{
	return sqlstate == ERRCODE_QUERY_CANCELED || ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_OPERATOR_INTERVENTION;
}

/*
 * Do work that may fail.  Returns NULL, or the message of its error.  The subtransaction is
 * rolled back either way: it only read, and its locks go at once.
 */
static char *
Guard(void (*work)(Reading *), Reading *reading)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char *volatile problem = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(reading);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (IsRequestToStop(error->sqlerrcode))
			ReThrowError(error);
		problem = error->detail == NULL ? error->message : psprintf("%s: %s", error->message, error->detail);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return problem;
}

/* ---- reading ---- */

static char *
CopyJson(const json_t *json)
{
	char *text = json_text(json);
	char *copy;

	if (text == NULL)
		return NULL;
	copy = MemoryContextAllocExtended(CurrentMemoryContext, strlen(text) + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (copy != NULL)
		strcpy(copy, text);
	free(text);
	return copy;
}

static char *
TargetNames(const target *t)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int32 i = 0; i < t->columns; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", t->names[i]);
	return names.data;
}

static int64
LineageNumber(const json_t *lineage, const char *key)
{
	llm_error ignored = {0};
	int64_t number;

	return json_read_int(lineage, key, 0, INT64_MAX, &number, &ignored) ? number : -1;
}

static void
FillFacts(Facts *facts, const manifest *m)
{
	const json_t *lineage = json_object_get(m->json, "lineage");
	llm_error ignored = {0};
	const char *trained_at;

	facts->task = pstrdup(m->task);
	facts->architecture = pstrdup(m->architecture);
	facts->target = TargetNames(m->target);
	facts->metrics = CopyJson(json_object_get(json_object_get(m->json, "metrics"), "metrics"));
	facts->settings = CopyJson(json_object_get(m->json, "settings"));
	facts->findings = CopyJson(json_object_get(m->json, "findings"));
	facts->lineage = CopyJson(lineage);
	facts->rows = LineageNumber(lineage, "rows");
	facts->job = LineageNumber(lineage, "job");
	facts->bytes = (int64) manifest_stored_bytes(m);
	if (json_read_string(lineage, "trained_at", &trained_at, &ignored))
		facts->trained_at = pstrdup(trained_at);
}

/* The manifest is freed with a context of its own, at the end of the subtransaction at the latest. */
static void
ReadFacts(Reading *reading)
{
	MemoryContext result = CurrentMemoryContext;
	MemoryContext scratch =
		AllocSetContextCreate(CurTransactionContext, "llmapp description", ALLOCSET_DEFAULT_SIZES);
	ModelTable table;
	RowIdentity identity;
	char *text;
	manifest *m;

	MemoryContextSwitchTo(scratch);
	OpenModelTable(&table, reading->relid, AccessShareLock, SNAPSHOT_OF_STATEMENT);
	if (!FindManifest(&table, reading->version, &identity, &text))
		ThrowDamaged(reading->relid, reading->version, "It has no manifest.");
	CloseModelTable(&table, AccessShareLock);
	m = ParseManifest(reading->relid, reading->version, text);
	MemoryContextSwitchTo(result);
	FillFacts(&reading->facts, m);
	MemoryContextDelete(scratch);
}

static void
ReadVersions(Reading *reading)
{
	ModelTable table;

	OpenModelTable(&table, reading->relid, AccessShareLock, SNAPSHOT_OF_STATEMENT);
	reading->versions = ListVersions(&table, &reading->count);
	reading->live = ReadHead(&table);
	CloseModelTable(&table, AccessShareLock);
}

static void
ReadSize(Reading *reading)
{
	reading->size = DatumGetInt64(DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(reading->relid)));
}

static void
InitFacts(Facts *facts)
{
	memset(facts, 0, sizeof(Facts));
	facts->rows = facts->job = facts->bytes = -1;
}

/* The facts of one version, or why they are not known. */
static void
DescribeVersion(Reading *reading, int32 version)
{
	char *problem;

	reading->version = version;
	InitFacts(&reading->facts);
	problem = Guard(ReadFacts, reading);
	if (problem == NULL)
		return;
	InitFacts(&reading->facts);
	reading->facts.problem = problem;
}

/* ---- results ---- */

static void
PutText(Datum *value, bool *isnull, const char *text)
{
	*isnull = text == NULL;
	if (text != NULL)
		*value = CStringGetTextDatum(text);
}

static void
PutInt64(Datum *value, bool *isnull, int64 number)
{
	*isnull = number < 0;
	if (number >= 0)
		*value = Int64GetDatum(number);
}

/* Conversions of what a manifest says, done under Guard(). */
typedef struct Conversion
{
	Reading reading; /* first: what Guard() passes on */
	PGFunction function;
	const char *text;
	Datum result;
} Conversion;

static void
Convert(Reading *reading)
{
	Conversion *c = (Conversion *) reading;

	if (c->function == jsonb_in)
		c->result = DirectFunctionCall1(jsonb_in, CStringGetDatum(c->text));
	else
		c->result = DirectFunctionCall3(c->function, CStringGetDatum(c->text), ObjectIdGetDatum(InvalidOid),
										Int32GetDatum(-1));
}

/* A value of another type from its text; NULL when it is not one. */
static void
PutConverted(Datum *value, bool *isnull, PGFunction function, const char *text)
{
	Conversion c = {.function = function, .text = text};

	*isnull = text == NULL || Guard(Convert, &c.reading) != NULL;
	if (!*isnull)
		*value = c.result;
}

/* False, too, when the table has been dropped meanwhile. */
static bool
MayPredict(Oid relid)
{
	Oid user = GetUserId();
	bool missing = false;

	return pg_class_aclcheck_ext(relid, user, ACL_SELECT, &missing) == ACLCHECK_OK ||
		   (!missing && pg_attribute_aclcheck_ext(relid, PART_META, user, ACL_SELECT, &missing) == ACLCHECK_OK);
}

/* Facts of a model's live version, when the reader may know them. */
static void
DescribeLive(Reading *reading)
{
	char *problem = Guard(ReadVersions, reading);

	if (problem != NULL)
		reading->facts.problem = problem;
	else if (reading->live > 0)
		DescribeVersion(reading, reading->live);
}

/*
 * One row: task, architecture, target, live_version, versions, size, trained_at, rows, metrics,
 * may_predict, problem.
 */
Datum
llm_describe_model(PG_FUNCTION_ARGS)
{
	Reading reading = {.relid = PG_GETARG_OID(0), .size = -1};
	Facts *facts = &reading.facts;
	bool may_predict = MayPredict(reading.relid);
	Datum values[11] = {0};
	bool nulls[11];
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	memset(nulls, true, sizeof(nulls));
	InitFacts(facts);
	if (!ConditionalLockRelationOid(reading.relid, AccessShareLock))
		facts->problem = "The table is locked.";
	else
	{
		(void) Guard(ReadSize, &reading);
		if (may_predict)
			DescribeLive(&reading);
		UnlockRelationOid(reading.relid, AccessShareLock);
	}
	PutText(&values[0], &nulls[0], facts->task);
	PutText(&values[1], &nulls[1], facts->architecture);
	PutText(&values[2], &nulls[2], facts->target);
	if (reading.versions != NULL)
	{
		values[3] = Int32GetDatum(reading.live);
		nulls[3] = reading.live == 0;
		values[4] = Int32GetDatum(reading.count);
		nulls[4] = false;
	}
	PutInt64(&values[5], &nulls[5], reading.size);
	PutConverted(&values[6], &nulls[6], timestamptz_in, facts->trained_at);
	PutInt64(&values[7], &nulls[7], facts->rows);
	PutConverted(&values[8], &nulls[8], jsonb_in, facts->metrics);
	values[9] = BoolGetDatum(may_predict);
	nulls[9] = false;
	PutText(&values[10], &nulls[10], facts->problem);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static void
PutVersion(ReturnSetInfo *result, const Reading *reading)
{
	const Facts *facts = &reading->facts;
	Datum values[14] = {0};
	bool nulls[14] = {false};

	values[0] = Int32GetDatum(reading->version);
	values[1] = BoolGetDatum(reading->version == reading->live);
	PutText(&values[2], &nulls[2], facts->task);
	PutText(&values[3], &nulls[3], facts->architecture);
	PutText(&values[4], &nulls[4], facts->target);
	PutConverted(&values[5], &nulls[5], timestamptz_in, facts->trained_at);
	PutInt64(&values[6], &nulls[6], facts->rows);
	PutConverted(&values[7], &nulls[7], jsonb_in, facts->metrics);
	PutInt64(&values[8], &nulls[8], facts->bytes);
	PutInt64(&values[9], &nulls[9], facts->job);
	PutConverted(&values[10], &nulls[10], jsonb_in, facts->settings);
	PutConverted(&values[11], &nulls[11], jsonb_in, facts->findings);
	PutConverted(&values[12], &nulls[12], jsonb_in, facts->lineage);
	PutText(&values[13], &nulls[13], facts->problem);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* One row per version that the reader may know of; none for a table that cannot be read. */
Datum
llm_describe_versions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Reading reading = {.relid = PG_GETARG_OID(0)};
	MemoryContext row_cxt;

	InitMaterializedSRF(fcinfo, 0);
	if (!MayPredict(reading.relid) || !ConditionalLockRelationOid(reading.relid, AccessShareLock))
		return (Datum) 0;
	if (Guard(ReadVersions, &reading) != NULL && reading.versions == NULL)
		reading.count = 0;
	row_cxt = AllocSetContextCreate(CurrentMemoryContext, "llmapp version description", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < reading.count; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(row_cxt);

		DescribeVersion(&reading, reading.versions[i]);
		PutVersion(result, &reading);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_cxt);
	}
	UnlockRelationOid(reading.relid, AccessShareLock);
	return (Datum) 0;
}
