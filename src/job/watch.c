/*
 * watch.c
 *	  What the views llmapp.progress and llmapp.devices show.
 *
 * Neither raises an error for a reader without privileges, and neither opens a GPU: a session
 * that must not do so asks (device.h).
 */
#include "postgres.h"

#include <unistd.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "../engine/bf16.h"
#include "../engine/blas.h"
#include "../engine/simd.h"
#include "../common.h"
#include "device.h"
#include "slots.h"

PG_FUNCTION_INFO_V1(llmapp_running_jobs);
PG_FUNCTION_INFO_V1(llmapp_list_devices);

/* Seconds as an interval, or NULL when negative. */
static Datum
SecondsInterval(double seconds, bool *isnull)
{
	Interval *result = palloc0(sizeof(Interval));

	*isnull = seconds < 0;
	result->time = (TimeOffset) (Max(seconds, 0) * USECS_PER_SEC);
	return IntervalPGetDatum(result);
}

static void
PutSlot(ReturnSetInfo *result, const JobSlot *slot)
{
	char *bar = ProgressBar(slot);
	bool trains = strcmp(slot->phase, "training") == 0 && slot->done > 0;
	bool nulls[9] = {false};
	Datum values[9] = {Int64GetDatum(slot->job),
					   CStringGetTextDatum(slot->phase[0] ? slot->phase : "starting"),
					   Int64GetDatum(Max(slot->done, 0)),
					   Int64GetDatum(slot->total),
					   Int32GetDatum(slot->epoch),
					   Float8GetDatum(slot->loss),
					   Float8GetDatum(slot->per_second),
					   SecondsInterval(SecondsLeft(slot), &nulls[7]),
					   bar ? CStringGetTextDatum(bar) : (Datum) 0};

	nulls[3] = slot->total <= 0;
	nulls[4] = slot->epoch <= 0;
	nulls[5] = !trains;
	nulls[6] = slot->per_second <= 0;
	nulls[8] = bar == NULL;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* llmapp.running_jobs(): jobs of this database that the current user may see */
Datum
llmapp_running_jobs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	JobSlot slots[JOB_SLOTS];
	int count;

	InitMaterializedSRF(fcinfo, 0);
	AttachJobMemory();
	count = CopySlots(slots);
	for (int i = 0; i < count; i++)
		if (slots[i].database == MyDatabaseId && has_privs_of_role(GetUserId(), slots[i].owner))
			PutSlot(result, &slots[i]);
	return (Datum) 0;
}

/* ---- devices ---- */

/* The processor's name as the system tells it, or a plain word. */
static char *
ProcessorName(void)
{
	FILE *file = AllocateFile("/proc/cpuinfo", "r");
	char line[256];
	char *name = NULL;

	while (file != NULL && name == NULL && fgets(line, sizeof(line), file) != NULL)
	{
		char *colon = strchr(line, ':');

		if (colon == NULL || strncmp(line, "model name", 10) != 0)
			continue;
		colon[strcspn(colon, "\n")] = '\0';
		name = pstrdup(colon + 1 + strspn(colon + 1, " \t"));
	}
	if (file != NULL)
		FreeFile(file);
	return name ? name : pstrdup("processor");
}

/* A row of llmapp.devices; what is NULL or 0 is null there. */
typedef struct DeviceRow
{
	const char *device, *name;
	int threads;
	const char *kernels, *reason;
	uint64 memory, memory_free; /* bytes */
} DeviceRow;

static void
PutDevice(ReturnSetInfo *result, const DeviceRow *row)
{
	const char *texts[] = {row->device, row->name, row->kernels, row->reason};
	const int at[] = {0, 2, 4, 5};
	Datum values[8] = {[1] = BoolGetDatum(row->reason == NULL),
					   [3] = Int32GetDatum(row->threads),
					   [6] = Int64GetDatum((int64) row->memory),
					   [7] = Int64GetDatum((int64) row->memory_free)};
	bool nulls[8] = {[3] = row->threads == 0, [6] = row->memory == 0, [7] = row->memory == 0};

	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		nulls[at[i]] = texts[i] == NULL;
		if (texts[i] != NULL)
			values[at[i]] = CStringGetTextDatum(texts[i]);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
PutGpus(ReturnSetInfo *result)
{
	GpuList gpus;

	AskForGpus(&gpus);
	if (gpus.count == 0)
		PutDevice(result, &(DeviceRow) {.device = "cuda", .reason = psprintf("no GPU: %s", gpus.reason)});
	for (int i = 0; i < gpus.count; i++)
	{
		const llmapp_cuda_device *d = &gpus.list[i];

		PutDevice(result, &(DeviceRow) {.device = psprintf("cuda:%d", i),
										.name = d->name,
										.kernels = psprintf("compute capability %d.%d, %d multiprocessors", d->major,
															d->minor, d->processors),
										.reason = d->major < LEAST_CAPABILITY ? "compute capability below 8.0" : NULL,
										.memory = d->memory,
										.memory_free = d->memory_free});
	}
}

/* What the processor's arithmetic uses. */
static char *
Kernels(void)
{
	return psprintf("%s%s, %s", simd_best()->name, bf16_supported() ? ", bf16" : "",
					blas_open() ? "OpenBLAS" : "products of its own, as OpenBLAS cannot be opened");
}

/* llmapp.list_devices(): what can train here, or why it cannot */
Datum
llmapp_list_devices(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	PutDevice(result, &(DeviceRow) {.device = "cpu",
									.name = ProcessorName(),
									.threads = (int) sysconf(_SC_NPROCESSORS_ONLN),
									.kernels = Kernels()});
	PutGpus(result);
	return (Datum) 0;
}
