/*
 * common.c
 *	  Settings, names of the extension's own objects, and errors and memory of code
 *	  that knows nothing of PostgreSQL.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "common.h"
#include "format/json.h"

char *llmapp_device = NULL;
int llmapp_threads = 0;
int llmapp_train_memory = 1024 * 1024;
int llmapp_gpu_memory = 0;
int llmapp_max_gpu_jobs = 1;
char *llmapp_inference_device = NULL;
int llmapp_gpu_queue_timeout = 1000;
int llmapp_cache_size = 4096;
int llmapp_max_jobs = 2;
int llmapp_checkpoint_interval = 60;
bool llmapp_progress_notices = true;
bool llmapp_batch_predictions = true;
char *llmapp_databases = NULL;

/* Accept auto, cpu, cuda and cuda:N. */
static bool
CheckDevice(char **value, void **extra, GucSource source)
{
	const char *device = *value;

	if (strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0 || strcmp(device, "cuda") == 0)
		return true;
	if (strncmp(device, "cuda:", 5) == 0 && device[5] != '\0' &&
		strspn(device + 5, "0123456789") == strlen(device + 5))
		return true;
	GUC_check_errhint("Use auto, cpu, cuda or cuda:N.");
	return false;
}

static bool
CheckInferenceDevice(char **value, void **extra, GucSource source)
{
	if (strcmp(*value, "off") == 0 || CheckDevice(value, extra, source))
		return true;
	GUC_check_errhint("Use auto, off, cpu, cuda or cuda:N.");
	return false;
}

void
DefineSettings(void)
{
	if (process_shared_preload_libraries_in_progress)
		DefineCustomStringVariable(
			"llmapp.inference_device", "Where texts and rows of all sessions go through models together.",
			"auto (on all GPUs, if there are any), off, cpu, cuda or cuda:N.", &llmapp_inference_device, "auto",
			PGC_POSTMASTER, 0, CheckInferenceDevice, NULL, NULL);
	DefineCustomIntVariable("llmapp.gpu_queue_timeout", "Time to wait for an inference server.",
							"A session that none has taken by then computes alone.", &llmapp_gpu_queue_timeout, 1000,
							0, 3600 * 1000, PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"llmapp.device", "Device of trainings that name none; cpu also keeps texts and rows from inference servers.",
		"auto, cpu, cuda or cuda:N.", &llmapp_device, "auto", PGC_USERSET, 0, CheckDevice, NULL, NULL);
	DefineCustomIntVariable("llmapp.threads", "Threads of a job worker.",
							"0 means half the processors, at most 4. Results do not depend on it.", &llmapp_threads,
							0, 0, 256, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("llmapp.train_memory", "Memory that a training job may use.",
							"Rows beyond it are read from a temporary file; a model that needs more is refused.",
							&llmapp_train_memory, 1024 * 1024, 16 * 1024, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("llmapp.gpu_memory",
							"Memory of a GPU that a training job or an inference server may use.",
							"0 means what is free. A model that needs more is refused.", &llmapp_gpu_memory, 0, 0,
							MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("llmapp.max_gpu_jobs", "Jobs that use one GPU at the same time.",
							"Further ones wait for it.", &llmapp_max_gpu_jobs, 1, 1, JOB_SLOTS, PGC_SIGHUP, 0, NULL,
							NULL, NULL);
	DefineCustomIntVariable("llmapp.cache_size", "Size of the files that share weights between sessions.",
							"The least recently used files are removed beyond it.", &llmapp_cache_size, 4096, 0,
							1024 * 1024, PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("llmapp.max_jobs", "Jobs that run at the same time in the cluster.",
							"Each takes one of max_worker_processes; further jobs wait in the queue.",
							&llmapp_max_jobs, 2, 0, JOB_SLOTS, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("llmapp.checkpoint_interval", "Time between two checkpoints of a job.", NULL,
							&llmapp_checkpoint_interval, 60, 1, 86400, PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable("llmapp.progress_notices", "Report progress while llm_train or llm_wait waits.", NULL,
							 &llmapp_progress_notices, true, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("llmapp.batch_predictions", "Run llm_predict in a SELECT list for many rows at once.",
							 "Only with shared_preload_libraries, and where it pays.", &llmapp_batch_predictions,
							 true, PGC_USERSET, 0, NULL, NULL, NULL);
	if (process_shared_preload_libraries_in_progress)
		DefineCustomStringVariable("llmapp.databases", "Databases whose jobs the launcher resumes after a restart.",
								   "A comma-separated list.", &llmapp_databases, "postgres", PGC_POSTMASTER,
								   GUC_LIST_INPUT, NULL, NULL, NULL);
	MarkGUCPrefixReserved("llmapp");
}

/* SQLSTATE of a failure code. */
/* ---- shared memory ---- */

#define STRUCTURES 8

static Size (*structures[STRUCTURES])(void);
static int structure_count = 0;
static shmem_request_hook_type previous_request_hook = NULL;

static void
RequestAll(void)
{
	if (previous_request_hook)
		previous_request_hook();
	for (int i = 0; i < structure_count; i++)
		RequestAddinShmemSpace(structures[i]());
}

void
RequestSharedMemory(Size (*bytes)(void))
{
	if (structure_count == 0)
	{
		previous_request_hook = shmem_request_hook;
		shmem_request_hook = RequestAll;
	}
	Assert(structure_count < STRUCTURES);
	structures[structure_count++] = bytes;
}

static int
ErrorSqlState(llm_code code)
{
	switch (code)
	{
		case LLM_INVALID: return ERRCODE_INVALID_PARAMETER_VALUE;
		case LLM_CORRUPT: return ERRCODE_DATA_CORRUPTED;
		case LLM_MEMORY: return ERRCODE_OUT_OF_MEMORY;
		case LLM_CANCELLED: return ERRCODE_QUERY_CANCELED;
		case LLM_UNAVAILABLE: return ERRCODE_FEATURE_NOT_SUPPORTED;
		case LLM_LOST: return ERRCODE_DEVICE_LOST;
		case LLM_OK: break;
	}
	return ERRCODE_INTERNAL_ERROR;
}

void
ThrowError(const llm_error *err)
{
	if (err->code == LLM_CANCELLED)
		CHECK_FOR_INTERRUPTS();
	ereport(ERROR, (errcode(ErrorSqlState(err->code)), errmsg_internal("%s", err->message),
					err->detail[0] ? errdetail_internal("%s", err->detail) : 0,
					err->hint[0] ? errhint("%s", err->hint) : 0));
}

/* Report that the extension's objects are not in this database. */
static void
ThrowNotInstalled(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("\"%s.%s\" does not exist", LLMAPP_SCHEMA, name),
					errhint("Install the extension: CREATE EXTENSION llmapp;")));
}

Oid
LlmappRelationOid(const char *name)
{
	Oid schema = get_namespace_oid(LLMAPP_SCHEMA, true);
	Oid relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relid))
		ThrowNotInstalled(name);
	return relid;
}

Oid
LlmappTypeOid(const char *name)
{
	Oid schema = get_namespace_oid(LLMAPP_SCHEMA, true);
	Oid typid = InvalidOid;

	if (OidIsValid(schema))
		typid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(name), ObjectIdGetDatum(schema));
	if (!OidIsValid(typid))
		ThrowNotInstalled(name);
	return typid;
}

Oid
RelationOwner(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

Oid
LlmappOwner(void)
{
	Oid relid = LlmappRelationOid("job");
	Oid owner = RelationOwner(relid);

	if (!OidIsValid(owner))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	return owner;
}

Oid
NamedTable(const char *expression)
{
	const NullTest *test = stringToNode(expression);
	const Const *constant =
		IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL ? (const Const *) test->arg : NULL;

	if (constant == NULL || !IsA(constant, Const) || constant->consttype != REGCLASSOID || constant->constisnull)
		return InvalidOid;
	return DatumGetObjectId(constant->constvalue);
}

int32
ThreadCount(void)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (llmapp_threads > 0)
		return llmapp_threads;
	return processors < 4 ? 1 : processors > 8 ? 4 : processors / 2;
}

void
OwnObject(void *object, MemoryContextCallbackFunction release)
{
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));

	callback->func = release;
	callback->arg = object;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
}

bool
InterruptRequested(void *arg)
{
	return INTERRUPTS_CAN_BE_PROCESSED() && (QueryCancelPending || ProcDiePending);
}

json_t *
JsonOfJsonb(Datum jsonb)
{
	Jsonb *value = DatumGetJsonbP(jsonb);
	char *text = JsonbToCString(NULL, &value->root, VARSIZE(value));
	llm_error err = {0};
	json_t *json;

	text = pg_server_to_any(text, strlen(text), PG_UTF8);
	json = json_parse(text, strlen(text), &err);
	if (json == NULL)
		ThrowError(&err);
	OWN(json, json_decref);
	return json;
}

json_t *
JsonOfParams(Datum jsonb)
{
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(jsonb)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("params is not a JSON object")));
	return JsonOfJsonb(jsonb);
}
