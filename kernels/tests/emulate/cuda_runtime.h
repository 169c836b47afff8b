/*
 * cuda_runtime.h
 *	  Stands in for the CUDA toolkit's header, so that kernels run on a machine without a GPU: blocks
 *	  one after the other, the threads of a block as fibers that switch at barriers and warp operations.
 *
 * For tests only.  Threads of a block, and blocks of a grid, run in an order that emulate_set_order()
 * gives: a kernel that lacks a barrier, or whose blocks depend on each other, makes other bytes in
 * another order.  Shared memory begins as NaN in each block.  A barrier that some threads never
 * reach ends the program with the kernel's name.  A captured graph is a list of calls with the arguments of the
 * capture, as CUDA's is.
 *
 * Streams do nothing before somebody waits for it, the host or another stream's work; after emulate_hurry(1) those
 * beside the first do their work at once, but for what they wait for.  So a wait that is missing on
 * either side of an exchange between streams, or between one and the host, gives other numbers in one of the two.
 */
#ifndef EMULATE_CUDA_RUNTIME_H
#define EMULATE_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

typedef struct __align__(16) float4
{
	float x, y, z, w;
}
float4;

typedef struct __align__(8) uint2
{
	unsigned x, y;
}
uint2;

typedef struct emulate_index
{
	unsigned x;
} emulate_index;

extern emulate_index threadIdx, blockIdx, blockDim, gridDim;

/* ---- inside kernels ---- */

extern void *emulate_shared(const void *site, size_t bytes); /* one array for each site and block */
extern void *emulate_shared_rest(void);
extern void __syncthreads(void);
extern void __syncwarp(unsigned mask = 0xffffffffu);
/* Deposits bytes (at most 64) and, when all lanes of the warp have, gives what lanes deposited. */
extern const unsigned char (*emulate_exchange(const void *value, size_t bytes))[64];

template <typename T>
static inline T
__shfl_sync(unsigned mask, T value, int lane)
{
	T result;

	memcpy(&result, emulate_exchange(&value, sizeof(T))[lane & 31], sizeof(T));
	return result;
}

template <typename T>
static inline T
__shfl_xor_sync(unsigned mask, T value, int lanes)
{
	return __shfl_sync(mask, value, (int) (threadIdx.x % 32) ^ lanes);
}

template <typename T>
static inline T
__shfl_up_sync(unsigned mask, T value, unsigned lanes)
{
	unsigned lane = threadIdx.x % 32;

	return __shfl_sync(mask, value, lane >= lanes ? lane - lanes : lane);
}

static inline unsigned
__ballot_sync(unsigned mask, int predicate)
{
	const unsigned char(*all)[64] = emulate_exchange(&predicate, sizeof(predicate));
	unsigned bits = 0;

	for (int i = 0; i < 32; i++)
	{
		int set;

		memcpy(&set, all[i], sizeof(set));
		bits |= (unsigned) (set != 0) << i;
	}
	return bits;
}

static inline int
__popc(unsigned x)
{
	return __builtin_popcount(x);
}

static inline float
__uint_as_float(unsigned x)
{
	float f;

	memcpy(&f, &x, sizeof(f));
	return f;
}

static inline unsigned
__float_as_uint(float f)
{
	unsigned x;

	memcpy(&x, &f, sizeof(x));
	return x;
}

/* ---- launches ---- */

typedef struct emulate_stream *cudaStream_t;
typedef struct emulate_event *cudaEvent_t;

extern void emulate_enqueue(cudaStream_t s, const std::function<void()> &call);
extern void emulate_grid(unsigned grid, unsigned threads, size_t bytes, const std::function<void()> &thread);

template <typename K, typename... A>
static inline void
emulate_launch(cudaStream_t s, unsigned grid, unsigned threads, size_t bytes, K *kernel, A... args)
{
	emulate_enqueue(s, [=]() { emulate_grid(grid, threads, bytes, [=]() { kernel(args...); }); });
}

/* 0 ascending, 1 descending, 2 shuffled */
extern "C" void emulate_set_order(int order);
extern "C" void emulate_hurry(int others);
/* The count-th allocation ("memory") or run of a graph ("lost") from now on fails; 0: none. */
extern "C" void emulate_fail(const char *kind, int count);
/* Bytes that are allocated, of a device or pinned. */
extern "C" size_t emulate_allocated(void);

/* ---- the runtime's functions that kernels' host code calls ---- */

typedef enum cudaError_t
{
	cudaSuccess,
	cudaErrorInvalidValue = 1,
	cudaErrorMemoryAllocation = 2,
	cudaErrorInitializationError = 3,
	cudaErrorInsufficientDriver = 35,
	cudaErrorNoDevice = 100,
	cudaErrorInvalidDevice = 101,
	cudaErrorECCUncorrectable = 214,
	cudaErrorIllegalAddress = 700,
	cudaErrorLaunchTimeout = 702,
	cudaErrorAssert = 710,
	cudaErrorHardwareStackError = 714,
	cudaErrorIllegalInstruction = 715,
	cudaErrorMisalignedAddress = 716,
	cudaErrorInvalidAddressSpace = 717,
	cudaErrorInvalidPc = 718,
	cudaErrorLaunchFailure = 719,
	cudaErrorUnknown = 999
} cudaError_t;

typedef struct cudaDeviceProp
{
	char name[256];
	int major, minor, multiProcessorCount;
	size_t totalGlobalMem;
} cudaDeviceProp;

typedef enum cudaMemcpyKind
{
	cudaMemcpyHostToDevice,
	cudaMemcpyDeviceToHost,
	cudaMemcpyDeviceToDevice
} cudaMemcpyKind;

enum
{
	cudaStreamNonBlocking,
	cudaEventDisableTiming,
	cudaStreamCaptureModeThreadLocal,
	cudaFuncAttributeMaxDynamicSharedMemorySize
};

typedef struct emulate_graph *cudaGraph_t;
typedef struct emulate_graph *cudaGraphExec_t;

extern cudaError_t cudaGetLastError(void);
extern const char *cudaGetErrorString(cudaError_t error);
extern cudaError_t cudaGetDeviceCount(int *count);
extern cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
extern cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
extern cudaError_t cudaSetDevice(int device);
extern cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
extern cudaError_t cudaStreamDestroy(cudaStream_t s);
extern cudaError_t cudaStreamSynchronize(cudaStream_t s);
extern cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
extern cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
extern cudaError_t cudaEventDestroy(cudaEvent_t e);
extern cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
extern cudaError_t cudaEventSynchronize(cudaEvent_t e);
extern cudaError_t cudaMalloc(void **memory, size_t bytes);
extern cudaError_t cudaFree(void *memory);
extern cudaError_t cudaMallocHost(void **memory, size_t bytes);
extern cudaError_t cudaFreeHost(void *memory);
extern cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s);
extern cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t s);
extern cudaError_t cudaFuncSetAttribute(const void *kernel, int attribute, int value);
extern cudaError_t cudaStreamBeginCapture(cudaStream_t s, int mode);
extern cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph);
extern cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags);
extern cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s);
extern cudaError_t cudaGraphDestroy(cudaGraph_t graph);
extern cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

#endif /* EMULATE_CUDA_RUNTIME_H */
