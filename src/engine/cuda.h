/*
 * cuda.h
 *	  The CUDA backend as the engine uses it: the library opened, a device, steps of a plan for it.
 *
 * A process that opens a device must not fork afterwards, and whoever forks must not have opened one.
 * Errors: LLM_UNAVAILABLE (no library, driver or device), LLM_MEMORY (not enough on the device), LLM_LOST
 * (the device failed, and this process can use it no more), LLM_INVALID.
 */
#ifndef LLMAPP_CUDA_DEVICE_H
#define LLMAPP_CUDA_DEVICE_H

#include "../../kernels/llmapp_cuda.h"
#include "plan.h"

typedef struct cuda_device
{
	const llmapp_cuda_api *api;
	llmapp_cuda_context *context;
	int number;
	llmapp_cuda_device info; /* before it was opened */
} cuda_device;

#define CUDA_DEVICES 16

/*
 * The library at `path`, which runs code in this process: never a path that a client names.  NULL path: the
 * functions that are linked into this program.
 */
extern const llmapp_cuda_api *cuda_library(const char *path, llm_error *err);
/*
 * Devices in list (CUDA_DEVICES), at least one; their number, 0 on failure.  Asking takes some memory of every
 * device until the process ends, so one that is to work does not ask: info of cuda_open() comes from another.
 */
extern int cuda_list(const char *path, llmapp_cuda_device *list, llm_error *err);
extern cuda_device *cuda_open(const char *path, int number, const llmapp_cuda_device *info, llm_error *err);
extern void cuda_close(cuda_device *d); /* what was made of it is freed before */

/* Whether a function of the backend succeeded; records why not. */
extern bool cuda_ok(const cuda_device *d, int code, llm_error *err);
/* Device memory, NULL on failure. */
extern void *cuda_allocate(const cuda_device *d, size_t bytes, llm_error *err);
/* Enqueued: `from` stays as it is until the next wait.  The second waits.  0 bytes: nothing is done. */
extern bool cuda_copy_to(const cuda_device *d, void *to, const void *from, size_t bytes, llm_error *err);
extern bool cuda_copy_from(const cuda_device *d, void *to, const void *from, size_t bytes, llm_error *err);

/*
 * A plan that was attached to device memory, as steps; malloc'd.  inputs: device memory by slot, of at least
 * each input's bytes.  NULL and LLM_UNAVAILABLE when the backend lacks an operation.
 */
extern llmapp_cuda_step *cuda_steps(const llmapp_cuda_api *api, const plan *p, void *const *inputs, llm_error *err);

#endif /* LLMAPP_CUDA_DEVICE_H */
