/*
 * gpu.c
 *	  The GPU of this job: chosen and opened by its worker, or why it runs on the CPU.
 *
 * A worker does one job, so there is one device.  What there is, a child process says; once a device was opened, the
 * process must not fork; after an error that lost it, the job ends, and with it the process.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#include "../common.h"
#include "device.h"
#include "gpu.h"
#include "job.h"
#include "slots.h"

#define RETRY_MS 100
#define FREE_SHARE 0.95 /* of what is free: the driver takes some for itself */
/* Multiplications below which a job that is no training would rather not open a driver and copy weights. */
#define LEAST_WORK 1e12

static cuda_device *gpu = NULL;
static bool declined = false;
static bool is_auto = false;
static Size scratch = 0; /* of operations */

static void
CloseGpu(void *arg)
{
	cuda_close(arg);
	gpu = NULL;
	LeaveGpu();
}

static void
ReportDevice(const char *reason)
{
	json_t *report = json_pack("{s:s}", "used", DeviceName());

	if (JobGpu() != NULL)
		json_object_set_new(report, "name", json_string(gpu->info.name));
	if (reason != NULL)
		json_object_set_new(report, "reason", json_string(reason));
	JobReport("device", report);
}

/* Take a place on one of the GPUs of this number, or any; -1: all are taken, or none can be used. */
static int
TakePlace(const GpuList *gpus, int number)
{
	for (int i = 0; i < gpus->count; i++)
		if ((number < 0 || i == number) && gpus->list[i].major >= LEAST_CAPABILITY && TakeGpu(i))
			return i;
	return -1;
}

/* False when the job is to pause. */
static bool
AwaitPlace(const GpuList *gpus, int number, int *taken)
{
	while ((*taken = TakePlace(gpus, number)) < 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, RETRY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (JobPauseRequested())
			return false;
	}
	return true;
}

static void
OpenGpu(const char *path, const GpuList *gpus, int number, llm_error *err)
{
	gpu = cuda_open(path, number, &gpus->list[number], err);
	if (gpu == NULL)
		LeaveGpu();
	else
		OWN(gpu, CloseGpu);
}

/* NULL, or why it is the CPU. */
static const char *
TryGpu(const char *path, const GpuList *gpus)
{
	int number = TakePlace(gpus, -1);
	llm_error err = {0};

	if (number < 0)
		return "all GPUs are in use, see llmapp.max_gpu_jobs";
	OpenGpu(path, gpus, number, &err);
	return gpu == NULL ? pstrdup(err.message) : NULL;
}

static bool
RequireGpu(const char *path, const GpuList *gpus, int number)
{
	llm_error err = {0};
	int taken;

	if (number >= gpus->count)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("there is no GPU cuda:%d", number)));
	if (!AwaitPlace(gpus, number, &taken))
		return false;
	OpenGpu(path, gpus, taken, &err);
	if (gpu == NULL)
		ThrowError(&err);
	return true;
}

bool
ChooseDevice(const char *device, const char *against_auto)
{
	char *path = GpuLibrary();
	const char *reason = path == NULL ? "llmapp_cuda.so is not installed" : NULL;
	GpuList gpus = {0};

	if (device == NULL || strcmp(device, "cpu") == 0)
		return true;
	is_auto = strcmp(device, "auto") == 0;
	if (is_auto && reason == NULL)
		reason = against_auto;
	if (reason == NULL)
	{
		AskForGpus(&gpus);
		reason = gpus.count == 0 ? pstrdup(gpus.reason) : NULL;
	}
	if (reason != NULL && !is_auto)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("device \"%s\" is not available", device),
						errdetail_internal("%s.", reason),
						errhint("Use device => 'auto' or 'cpu'; see SELECT * FROM llmapp.devices;")));
	if (reason == NULL && is_auto)
		reason = TryGpu(path, &gpus);
	else if (reason == NULL && !RequireGpu(path, &gpus, GpuNumber(device)))
		return false;
	ReportDevice(reason);
	return true;
}

cuda_device *
JobGpu(void)
{
	return declined ? NULL : gpu;
}

const char *
TooLittleForGpu(double multiplications)
{
	return multiplications < LEAST_WORK ? "the work is too little for a GPU" : NULL;
}

Size
GpuMemory(void)
{
	Size limit = (Size) (FREE_SHARE * gpu->info.memory_free);

	if (llmapp_gpu_memory > 0)
		limit = Min(limit, (Size) llmapp_gpu_memory * 1024);
	return limit > scratch ? limit - scratch : 0;
}

void
LeaveGpuScratch(Size bytes)
{
	scratch = Max(scratch, bytes);
}

void
LackGpuMemory(const char *what, Size bytes, const char *hint)
{
	char *problem = psprintf("%s needs %zu MB of GPU memory, it may use %zu MB", what, bytes / (1024 * 1024) + 1,
							 GpuMemory() / (1024 * 1024));

	if (!is_auto)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg_internal("%s", problem),
						errdetail("%s has %zu MB free; llmapp.gpu_memory is %s.", DeviceName(),
								  (Size) gpu->info.memory_free / (1024 * 1024),
								  GetConfigOption("llmapp.gpu_memory", false, false)),
						hint ? errhint("%s", hint)
							 : errhint("SET llmapp.gpu_memory = '%zuMB'; or use device => 'cpu'.",
									   bytes / (1024 * 1024) + 1)));
	declined = true;
	ReportDevice(problem);
}

const char *
DeviceName(void)
{
	return JobGpu() != NULL ? psprintf("cuda:%d", gpu->number) : "cpu";
}
