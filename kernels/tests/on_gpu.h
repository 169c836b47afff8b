/*
 * on_gpu.h
 *	  Tests of what the engine runs on a GPU: the library that the first argument names, or the emulator that is linked.
 */
#ifndef LLMAPP_ON_GPU_H
#define LLMAPP_ON_GPU_H

#include "../../src/engine/cuda.h"
#include "../../tests/unit/test.h"

static cuda_device *device;

/* Open the first GPU and run the tests on it, or say that there is none; what main() returns. */
static inline int
test_on_gpu(int argc, char **argv, void (*tests)(const char *path, const llmapp_cuda_device *info))
{
	const char *path = argc > 1 ? argv[1] : NULL;
	llmapp_cuda_device list[CUDA_DEVICES];
	llm_error err = {0};
	int count = cuda_list(path, list, &err);

	device = count > 0 ? cuda_open(path, 0, list, &err) : NULL;
	if (!device)
		printf("no GPU: %s\n", err.message);
	else
	{
		tests(path, list);
		cuda_close(device);
	}
	return test_summary();
}

#endif /* LLMAPP_ON_GPU_H */
