/*
 * device.h
 *	  The GPUs of this server, as a session sees them.
 *
 * A session never opens CUDA: it may fork, and a driver that fails must not take it along.  It asks a child
 * process, which opens the library, answers and ends.  So does the worker of a job before it opens one device
 * itself (gpu.c).  Include after postgres.h.
 */
#ifndef LLMAPP_JOB_DEVICE_H
#define LLMAPP_JOB_DEVICE_H

#include "../engine/cuda.h"

typedef struct GpuList
{
	int count;                                                                     /* 0: none can be used */
	llmapp_cuda_device list[CUDA_DEVICES];                                         /* by number */
	char reason[sizeof((llm_error) {0}.message) + sizeof((llm_error) {0}.detail)]; /* why there is none */
} GpuList;

#define LEAST_CAPABILITY 8 /* major number */

/* Of llmapp_cuda.so, beside the library that this code is in; palloc'd.  NULL: it is not installed. */
extern char *GpuLibrary(void);
/* By asking a child process. */
extern void AskForGpus(GpuList *gpus);
/* cuda is -1, any; cuda:N is N; -2: another device. */
extern int GpuNumber(const char *device);
/* The device that a job on this one, or on none (NULL), asks for; ERROR when there is no such GPU.  palloc'd. */
extern char *ResolveDevice(const char *device);

#endif /* LLMAPP_JOB_DEVICE_H */
