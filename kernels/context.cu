/*
 * context.cu
 *	  Devices, memory, copies and errors: what of the interface is no operation.
 *
 * Errors of CUDA's are of two kinds.  Most concern one call; those of the table below mean that the
 * process's context on the device is gone, and every later call says so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"

#define LEAST_MAJOR 8 /* bf16 and asynchronous copies begin there */

static void
say(char *text, size_t bytes, const char *what)
{
	if (bytes > 0)
		snprintf(text, bytes, "%s", what);
}

int
context_fail(llmapp_cuda_context *c, int code, const char *what)
{
	say(c->text, sizeof(c->text), what);
	c->lost |= code == LLMAPP_CUDA_LOST;
	return code;
}

static const cudaError_t sticky_errors[] = {
	cudaErrorIllegalAddress,
	cudaErrorLaunchTimeout,
	cudaErrorAssert,
	cudaErrorHardwareStackError,
	cudaErrorIllegalInstruction,
	cudaErrorMisalignedAddress,
	cudaErrorInvalidAddressSpace,
	cudaErrorInvalidPc,
	cudaErrorLaunchFailure,
	cudaErrorECCUncorrectable,
	cudaErrorUnknown,
};

int
context_check(llmapp_cuda_context *c, cudaError_t error)
{
	if (error == cudaSuccess)
		return LLMAPP_CUDA_OK;
	cudaGetLastError(); /* what is not sticky is told once */
	if (error == cudaErrorMemoryAllocation)
		return context_fail(c, LLMAPP_CUDA_MEMORY, "not enough memory on the GPU");
	for (size_t i = 0; i < sizeof(sticky_errors) / sizeof(*sticky_errors); i++)
		if (error == sticky_errors[i])
			return context_fail(c, LLMAPP_CUDA_LOST, cudaGetErrorString(error));
	return context_fail(c, LLMAPP_CUDA_FAILED, cudaGetErrorString(error));
}

int
context_enter(llmapp_cuda_context *c)
{
	if (c->lost)
		return LLMAPP_CUDA_LOST;
	return context_check(c, cudaSetDevice(c->device));
}

/* ---- devices ---- */

static void
describe(const cudaDeviceProp *p, int device, llmapp_cuda_device *d)
{
	size_t free = 0, total = 0;

	*d = (llmapp_cuda_device) {};
	say(d->name, sizeof(d->name), p->name);
	d->major = p->major;
	d->minor = p->minor;
	d->processors = p->multiProcessorCount;
	d->memory = p->totalGlobalMem;
	if (cudaSetDevice(device) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess)
		d->memory_free = free;
}

static int
devices(llmapp_cuda_device *list, int room, int *count, char *text, size_t text_bytes)
{
	cudaError_t error = cudaGetDeviceCount(count);
	bool usable = false;

	if (error != cudaSuccess || *count == 0)
	{
		cudaGetLastError();
		*count = 0;
		say(text, text_bytes, error == cudaSuccess ? "no GPU" : cudaGetErrorString(error));
		return LLMAPP_CUDA_UNAVAILABLE;
	}
	for (int i = 0; i < *count; i++)
	{
		cudaDeviceProp p;

		if (cudaGetDeviceProperties(&p, i) != cudaSuccess)
			continue;
		usable |= p.major >= LEAST_MAJOR;
		if (i < room)
			describe(&p, i, &list[i]);
	}
	if (usable)
		return LLMAPP_CUDA_OK;
	say(text, text_bytes, "no GPU of compute capability 8.0 or above");
	return LLMAPP_CUDA_UNAVAILABLE;
}

static void
context_close(llmapp_cuda_context *c)
{
	if (!c)
		return;
	if (!c->lost && cudaSetDevice(c->device) == cudaSuccess)
	{
		cudaStreamSynchronize(c->copies);
		cudaStreamSynchronize(c->stream);
		gemm_device_free(c->gemms);
		cudaEventDestroy(c->staged);
		cudaEventDestroy(c->taken);
		cudaStreamDestroy(c->copies);
		cudaStreamDestroy(c->stream);
	}
	free(c);
}

static int
open_device(llmapp_cuda_context *c)
{
	cudaDeviceProp p;
	const char *what = "";
	int code = context_check(c, cudaGetDeviceProperties(&p, c->device));

	if (code == LLMAPP_CUDA_OK && p.major < LEAST_MAJOR)
		return context_fail(c, LLMAPP_CUDA_UNAVAILABLE, "the GPU's compute capability is below 8.0");
	if (code == LLMAPP_CUDA_OK)
		code = context_enter(c);
	if (code == LLMAPP_CUDA_OK)
		code = context_check(c, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
	if (code == LLMAPP_CUDA_OK)
		code = context_check(c, cudaStreamCreateWithFlags(&c->copies, cudaStreamNonBlocking));
	if (code == LLMAPP_CUDA_OK)
		code = context_check(c, cudaEventCreateWithFlags(&c->staged, cudaEventDisableTiming));
	if (code == LLMAPP_CUDA_OK)
		code = context_check(c, cudaEventCreateWithFlags(&c->taken, cudaEventDisableTiming));
	if (code == LLMAPP_CUDA_OK && !(c->gemms = gemm_device_new(&what)))
		code = context_fail(c, LLMAPP_CUDA_UNAVAILABLE, what);
	return code;
}

static int
context_open(int device, llmapp_cuda_context **result, char *text, size_t text_bytes)
{
	llmapp_cuda_context *c;
	int count, code = devices(NULL, 0, &count, text, text_bytes);

	*result = NULL;
	if (code != LLMAPP_CUDA_OK)
		return code;
	if (device < 0 || device >= count)
	{
		say(text, text_bytes, "there is no GPU of this number");
		return LLMAPP_CUDA_INVALID;
	}
	c = (llmapp_cuda_context *) calloc(1, sizeof(llmapp_cuda_context));
	if (!c)
	{
		say(text, text_bytes, "out of memory");
		return LLMAPP_CUDA_MEMORY;
	}
	c->device = device;
	code = open_device(c);
	if (code == LLMAPP_CUDA_OK)
	{
		*result = c;
		return code;
	}
	say(text, text_bytes, c->text);
	context_close(c);
	return code;
}

static const char *
context_error(const llmapp_cuda_context *c)
{
	return c->text;
}

/* ---- memory ---- */

int
context_allocate(llmapp_cuda_context *c, size_t bytes, void **memory)
{
	int code = context_enter(c);

	*memory = NULL;
	return code != LLMAPP_CUDA_OK ? code : context_check(c, cudaMalloc(memory, bytes > 0 ? bytes : 1));
}

static int
context_release(llmapp_cuda_context *c, void *memory)
{
	int code = context_enter(c);

	return code != LLMAPP_CUDA_OK ? code : context_check(c, cudaFree(memory));
}

static int
allocate_host(llmapp_cuda_context *c, size_t bytes, void **memory)
{
	int code = context_enter(c);

	*memory = NULL;
	return code != LLMAPP_CUDA_OK ? code : context_check(c, cudaMallocHost(memory, bytes > 0 ? bytes : 1));
}

static int
release_host(llmapp_cuda_context *c, void *memory)
{
	int code = context_enter(c);

	return code != LLMAPP_CUDA_OK ? code : context_check(c, cudaFreeHost(memory));
}

/* Behind all that was enqueued on a stream. */
static int
wait_for(llmapp_cuda_context *c, cudaStream_t stream)
{
	int code = context_enter(c);

	return code != LLMAPP_CUDA_OK ? code : context_check(c, cudaStreamSynchronize(stream));
}

static int
synchronize(llmapp_cuda_context *c)
{
	int code = wait_for(c, c->copies);

	return code == LLMAPP_CUDA_OK ? wait_for(c, c->stream) : code;
}

static int
copy_to(llmapp_cuda_context *c, void *device, const void *host, size_t bytes)
{
	int code = context_enter(c);

	return code != LLMAPP_CUDA_OK
			   ? code
			   : context_check(c, cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, c->stream));
}

static int
copy_from(llmapp_cuda_context *c, void *host, const void *device, size_t bytes)
{
	int code = context_enter(c);

	if (code == LLMAPP_CUDA_OK)
		code = context_check(c, cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, c->stream));
	return code == LLMAPP_CUDA_OK ? wait_for(c, c->stream) : code;
}

static int
clear(llmapp_cuda_context *c, void *device, size_t bytes)
{
	int code = context_enter(c);

	return code != LLMAPP_CUDA_OK ? code : context_check(c, cudaMemsetAsync(device, 0, bytes, c->stream));
}

/* ---- inputs ---- */

/* The pinned memory is free when the copies before have read it, the staging area when what was taken last has. */
static int
stage(llmapp_cuda_context *c, const llmapp_cuda_input *inputs, int32_t count)
{
	int code = context_enter(c);

	if (code == LLMAPP_CUDA_OK)
		code = context_check(c, cudaEventSynchronize(c->staged));
	if (code == LLMAPP_CUDA_OK)
		code = context_check(c, cudaStreamWaitEvent(c->copies, c->taken, 0));
	for (int32_t i = 0; i < count && code == LLMAPP_CUDA_OK; i++)
	{
		const llmapp_cuda_input *in = &inputs[i];

		memcpy(in->pinned, in->host, in->bytes);
		code =
			context_check(c, cudaMemcpyAsync(in->staged, in->pinned, in->bytes, cudaMemcpyHostToDevice, c->copies));
	}
	return code == LLMAPP_CUDA_OK ? context_check(c, cudaEventRecord(c->staged, c->copies)) : code;
}

static int
take(llmapp_cuda_context *c, const llmapp_cuda_input *inputs, int32_t count)
{
	int code = context_enter(c);

	if (code == LLMAPP_CUDA_OK)
		code = context_check(c, cudaStreamWaitEvent(c->stream, c->staged, 0));
	for (int32_t i = 0; i < count && code == LLMAPP_CUDA_OK; i++)
	{
		const llmapp_cuda_input *in = &inputs[i];

		code =
			context_check(c, cudaMemcpyAsync(in->device, in->staged, in->bytes, cudaMemcpyDeviceToDevice, c->stream));
	}
	return code == LLMAPP_CUDA_OK ? context_check(c, cudaEventRecord(c->taken, c->stream)) : code;
}

/* ---- the table ---- */

const llmapp_cuda_api *
llmapp_cuda_get(uint32_t version, size_t api_size, size_t step_size, char *text, size_t text_bytes)
{
	static const llmapp_cuda_api api = {
		sizeof(llmapp_cuda_api),
		devices,
		context_open,
		context_close,
		context_error,
		op_number,
		context_allocate,
		context_release,
		allocate_host,
		release_host,
		copy_to,
		copy_from,
		clear,
		stage,
		take,
		synchronize,
		program_new,
		program_free,
		program_bytes,
		program_run,
		optim_new,
		optim_free,
		optim_run,
		sum_add,
	};

	if (version == LLMAPP_CUDA_VERSION && api_size == sizeof(llmapp_cuda_api) &&
		step_size == sizeof(llmapp_cuda_step))
		return &api;
	say(text, text_bytes, "llmapp_cuda.so is of another version");
	return NULL;
}
