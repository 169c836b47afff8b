/*
 * stat.c
 *	  How often and how long models predict: llmapp.stat_models.
 *
 * Three levels, so that a row costs one addition and one comparison.  A call site counts in its
 * UseMeter and looks at the clock for the first EXACT_ROWS rows and then for one of SAMPLE_ROWS,
 * which stands for those before it.  What it counted goes to the ModelUse of this process when
 * the statement's memory is released, and from there to shared memory when the transaction ends,
 * or every PUBLISH_ROWS rows.
 *
 * Shared memory holds STAT_MODELS models; one more takes the place of the one that was used
 * longest ago.  Its lock is shared for adding, which is atomic, and exclusive only for taking a
 * place.  It fits into the spare part of shared memory when llmapp is not preloaded; when even
 * that is full, nothing is counted and predictions go on.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "../common.h"
#include "stat.h"

#define STAT_MODELS 128
#define EXACT_ROWS 8
#define SAMPLE_ROWS 32
#define PUBLISH_ROWS 65536

PG_FUNCTION_INFO_V1(llmapp_model_statistics);
PG_FUNCTION_INFO_V1(llmapp_stat_models_reset);

/* A model in shared memory; relid and database are written under the exclusive lock only. */
typedef struct ModelStat
{
	Oid database;
	Oid relid; /* InvalidOid: free */
	TimestampTz since;
	pg_atomic_uint64 used; /* time of the last addition */
	pg_atomic_uint64 calls;
	pg_atomic_uint64 rows;
	pg_atomic_uint64 served;
	pg_atomic_uint64 ns;
} ModelStat;

typedef struct StatShared
{
	int tranche;
	LWLock lock;
	ModelStat models[STAT_MODELS];
} StatShared;

struct ModelUse
{
	Oid relid;  /* hash key */
	bool dirty; /* in the list below */
	ModelUse *next;
	int64 calls;
	int64 rows;
	int64 served;
	double ns;
};

static StatShared *shared = NULL;
static PredictionCounts made = {0};
static bool unavailable = false; /* shared memory is full */
static HTAB *uses = NULL;
static ModelUse *dirty = NULL;

/* ---- shared memory ---- */

static Size
SharedBytes(void)
{
	return MAXALIGN(sizeof(StatShared));
}

void
RequestStatMemory(void)
{
	RequestSharedMemory(SharedBytes);
}

static void
InitShared(StatShared *area)
{
	memset(area, 0, sizeof(StatShared));
	area->tranche = LWLockNewTrancheId();
	LWLockInitialize(&area->lock, area->tranche);
	for (int i = 0; i < STAT_MODELS; i++)
	{
		pg_atomic_init_u64(&area->models[i].used, 0);
		pg_atomic_init_u64(&area->models[i].calls, 0);
		pg_atomic_init_u64(&area->models[i].rows, 0);
		pg_atomic_init_u64(&area->models[i].served, 0);
		pg_atomic_init_u64(&area->models[i].ns, 0);
	}
}

/* False when there is no room, which must not be an error of a prediction. */
static bool
AttachStatMemory(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	StatShared *volatile area = NULL;
	bool found = true;

	if (shared != NULL || unavailable)
		return shared != NULL;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	PG_TRY();
	{
		area = ShmemInitStruct("llmapp statistics", sizeof(StatShared), &found);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS(); /* raising the error forgot that the lock holds them */
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
		unavailable = true;
	}
	PG_END_TRY();
	if (!found)
		InitShared(area);
	LWLockRelease(AddinShmemInitLock);
	if (area != NULL)
		LWLockRegisterTranche(area->tranche, "llmapp statistics");
	shared = area;
	return shared != NULL;
}

static ModelStat *
FindStat(Oid relid)
{
	for (int i = 0; i < STAT_MODELS; i++)
		if (shared->models[i].relid == relid && shared->models[i].database == MyDatabaseId)
			return &shared->models[i];
	return NULL;
}

static void
ClearStat(ModelStat *stat)
{
	pg_atomic_write_u64(&stat->calls, 0);
	pg_atomic_write_u64(&stat->rows, 0);
	pg_atomic_write_u64(&stat->served, 0);
	pg_atomic_write_u64(&stat->ns, 0);
	stat->since = GetCurrentTimestamp();
}

/* A place for a model that has none; under the exclusive lock. */
static ModelStat *
TakeStat(Oid relid)
{
	ModelStat *oldest = &shared->models[0];

	for (int i = 1; i < STAT_MODELS; i++) /* one that is free was never used */
		if (pg_atomic_read_u64(&shared->models[i].used) < pg_atomic_read_u64(&oldest->used))
			oldest = &shared->models[i];
	oldest->database = MyDatabaseId;
	oldest->relid = relid;
	ClearStat(oldest);
	return oldest;
}

static void
Publish(ModelUse *use)
{
	ModelStat *stat;

	LWLockAcquire(&shared->lock, LW_SHARED);
	stat = FindStat(use->relid);
	if (stat == NULL)
	{
		LWLockRelease(&shared->lock);
		LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
		stat = FindStat(use->relid);
		if (stat == NULL)
			stat = TakeStat(use->relid);
	}
	pg_atomic_fetch_add_u64(&stat->calls, use->calls);
	pg_atomic_fetch_add_u64(&stat->rows, use->rows);
	pg_atomic_fetch_add_u64(&stat->served, use->served);
	pg_atomic_fetch_add_u64(&stat->ns, (int64) use->ns);
	pg_atomic_write_u64(&stat->used, GetCurrentTimestamp());
	LWLockRelease(&shared->lock);
	use->calls = use->rows = use->served = 0;
	use->ns = 0;
}

static void
PublishAll(void)
{
	for (; dirty != NULL; dirty = dirty->next)
	{
		dirty->dirty = false;
		Publish(dirty);
	}
}

static void
AtTransactionEnd(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE ||
		event == XACT_EVENT_PARALLEL_COMMIT || event == XACT_EVENT_PARALLEL_ABORT)
		PublishAll();
}

/* ---- counting ---- */

static ModelUse *
GetUse(Oid relid)
{
	ModelUse *use;
	bool found;

	if (uses == NULL)
	{
		HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(ModelUse)};

		uses = hash_create("llmapp use of models", 16, &control, HASH_ELEM | HASH_BLOBS);
		RegisterXactCallback(AtTransactionEnd, NULL);
	}
	use = hash_search(uses, &relid, HASH_ENTER, &found);
	if (!found)
		*use = (ModelUse) {.relid = relid};
	return use;
}

/* Nothing here may fail: it runs while memory is released. */
void
FlushUse(UseMeter *meter)
{
	ModelUse *use = meter->use;

	if (use == NULL || (!meter->started && meter->rows == 0))
		return;
	use->calls += meter->started && !IsParallelWorker();
	use->rows += meter->rows;
	made.rows += meter->rows;
	use->ns += meter->ns + (meter->rows - meter->timed) * meter->row_ns;
	meter->started = false;
	meter->rows = meter->timed = 0;
	meter->ns = 0;
	if (!use->dirty)
	{
		use->dirty = true;
		use->next = dirty;
		dirty = use;
	}
}

void
EndUse(UseMeter *meter)
{
	FlushUse(meter);
	meter->use = NULL;
}

void
StartUse(UseMeter *meter, Oid relid)
{
	if (meter->use != NULL && meter->use->relid == relid)
		return;
	EndUse(meter);
	memset(meter, 0, sizeof(UseMeter));
	if (AttachStatMemory())
	{
		meter->use = GetUse(relid);
		meter->started = true;
	}
	else
		meter->time_at = PG_INT64_MAX;
}

double
NanosecondsSince(instr_time start)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_DOUBLE(now) * 1e9;
}

void
MeterTime(UseMeter *meter, double ns)
{
	meter->rows++;
	if (meter->use == NULL)
		return;
	meter->ns += ns * (meter->rows - meter->timed);
	meter->timed = meter->rows;
	meter->row_ns = ns;
	meter->time_at = meter->rows < EXACT_ROWS ? meter->rows : meter->rows + SAMPLE_ROWS - 1;
	if (meter->rows >= PUBLISH_ROWS)
	{
		FlushUse(meter);
		meter->time_at = SAMPLE_ROWS;
		PublishAll();
	}
}

void
MeterRows(UseMeter *meter, int64 rows, double ns)
{
	if (meter->use == NULL)
		return;
	meter->rows += rows;
	meter->timed += rows;
	meter->ns += ns;
	if (meter->rows >= PUBLISH_ROWS)
	{
		FlushUse(meter);
		PublishAll();
	}
}

void
MeterServed(UseMeter *meter, int64 rows)
{
	if (meter->use == NULL)
		return;
	meter->use->served += rows;
	made.served += rows;
}

PredictionCounts
PredictionsMade(void)
{
	return made;
}

/* ---- views ---- */

/* Owners of a model and members of that role see and reset it. */
static bool
MaySee(Oid relid)
{
	Oid owner = RelationOwner(relid);

	return OidIsValid(owner) && has_privs_of_role(GetUserId(), owner);
}

/* Copies of the models of this database; catalogs must not be read under the lock. */
static int
CopyStats(ModelStat *copies)
{
	int count = 0;

	LWLockAcquire(&shared->lock, LW_SHARED);
	for (int i = 0; i < STAT_MODELS; i++)
		if (OidIsValid(shared->models[i].relid) && shared->models[i].database == MyDatabaseId)
			copies[count++] = shared->models[i];
	LWLockRelease(&shared->lock);
	return count;
}

/* llmapp.model_statistics(): models of this database that the current user may see */
Datum
llmapp_model_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ModelStat *stats = palloc(sizeof(ModelStat) * STAT_MODELS);
	int count;

	InitMaterializedSRF(fcinfo, 0);
	count = AttachStatMemory() ? CopyStats(stats) : 0;
	for (int i = 0; i < count; i++)
	{
		Datum values[6] = {ObjectIdGetDatum(stats[i].relid),
						   Int64GetDatum(pg_atomic_read_u64(&stats[i].calls)),
						   Int64GetDatum(pg_atomic_read_u64(&stats[i].rows)),
						   Int64GetDatum(pg_atomic_read_u64(&stats[i].served)),
						   Float8GetDatum(pg_atomic_read_u64(&stats[i].ns) / 1e6),
						   TimestampTzGetDatum(stats[i].since)};
		bool nulls[6] = {false};

		if (MaySee(stats[i].relid))
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* llmapp.stat_models_reset(): begin again with the models that the current user sees */
Datum
llmapp_stat_models_reset(PG_FUNCTION_ARGS)
{
	ModelStat *stats = palloc(sizeof(ModelStat) * STAT_MODELS);
	int count = AttachStatMemory() ? CopyStats(stats) : 0;

	for (int i = 0; i < count; i++)
	{
		ModelStat *stat;

		if (!MaySee(stats[i].relid))
			continue;
		LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
		stat = FindStat(stats[i].relid);
		if (stat != NULL)
			ClearStat(stat);
		LWLockRelease(&shared->lock);
	}
	PG_RETURN_VOID();
}
