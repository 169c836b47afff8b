/*
 * device.h
 *	  What all kernels are written with: launches, shared memory, sums over a block, activations.
 *
 * The same sources compile with nvcc and, for tests, with a plain C++ compiler against
 * tests/emulate/cuda_runtime.h, so launches and shared memory go through macros.  Every block has a
 * multiple of 32 threads and no thread leaves before a barrier that others reach.  Sums have one order,
 * that of the data's shape: no atomics on floats, no dependence on the number of multiprocessors.
 */
#ifndef LLMAPP_CUDA_DEVICE_H
#define LLMAPP_CUDA_DEVICE_H

#include <cuda_runtime.h>
#include <math.h>

#include "launch.h"

#define WARP 32
#define ALL_LANES 0xffffffffu
#define BLOCK 256 /* threads of elementwise kernels */

#ifdef __CUDACC__
#define LAUNCH(l, kernel, grid, threads, bytes, ...) \
	do \
	{ \
		if (launch_begins(l, (const void *) (kernel), grid, bytes)) \
		{ \
			(kernel)<<<(unsigned) (grid), (unsigned) (threads), bytes, (l)->stream>>>(__VA_ARGS__); \
			launch_ends(l); \
		} \
	} while (0)
#define SHARED(type, name, count) __shared__ type name[count]
/* The block's dynamic memory; once in a kernel. */
#define SHARED_REST(type, name) \
	extern __shared__ __align__(16) unsigned char shared_rest[]; \
	type *name = reinterpret_cast<type *>(shared_rest)
#else
#define LAUNCH(l, kernel, grid, threads, bytes, ...) \
	do \
	{ \
		if (launch_begins(l, NULL, grid, bytes)) \
		{ \
			emulate_launch((l)->stream, (unsigned) (grid), (unsigned) (threads), bytes, (kernel), __VA_ARGS__); \
			launch_ends(l); \
		} \
	} while (0)
#define SHARED(type, name, count) \
	static char name##_site; \
	type *const name = (type *) emulate_shared(&name##_site, (count) * sizeof(type))
#define SHARED_REST(type, name) type *const name = (type *) emulate_shared_rest()
#endif

/* Number of this thread of all, and how many there are: a grid walks over any number of elements. */
#define FOR_ELEMENTS(i, n) \
	for (int64_t i = blockIdx.x * (int64_t) blockDim.x + threadIdx.x; i < (n); i += (int64_t) gridDim.x * blockDim.x)

/* Elements of a row by one block. */
#define FOR_COLUMNS(j, n) for (int64_t j = threadIdx.x; j < (n); j += blockDim.x)

/* Threads for one row of n elements by one block. */
static inline unsigned
row_threads(int64_t n)
{
	return n <= 256 ? 32 : n <= 2048 ? 128 : 512;
}

/* Blocks that cover n elements, not more than fill any device. */
static inline unsigned
element_blocks(int64_t n)
{
	int64_t blocks = (n + BLOCK - 1) / BLOCK;

	return (unsigned) (blocks < 4096 ? blocks : 4096);
}

static __device__ inline float
put(float *y, float value, int accumulate)
{
	return *y = accumulate ? *y + value : value;
}

/* ---- sums over warps and blocks; every thread gets the result ---- */

static __device__ inline float
warp_sum(float x)
{
	for (int step = 16; step > 0; step /= 2)
		x += __shfl_xor_sync(ALL_LANES, x, step);
	return x;
}

static __device__ inline double
warp_sum(double x)
{
	for (int step = 16; step > 0; step /= 2)
		x += __shfl_xor_sync(ALL_LANES, x, step);
	return x;
}

static __device__ inline float
warp_max(float x)
{
	for (int step = 16; step > 0; step /= 2)
		x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
	return x;
}

template <typename T>
static __device__ inline T
block_sum(T x)
{
	SHARED(T, parts, 32);
	T total = 0;

	x = warp_sum(x);
	__syncthreads(); /* an earlier sum's readers are done */
	if (threadIdx.x % WARP == 0)
		parts[threadIdx.x / WARP] = x;
	__syncthreads();
	for (unsigned w = 0; w < blockDim.x / WARP; w++)
		total += parts[w];
	return total;
}

static __device__ inline float
block_max(float x)
{
	SHARED(float, parts, 32);

	x = warp_max(x);
	__syncthreads();
	if (threadIdx.x % WARP == 0)
		parts[threadIdx.x / WARP] = x;
	__syncthreads();
	x = parts[0];
	for (unsigned w = 1; w < blockDim.x / WARP; w++)
		x = fmaxf(x, parts[w]);
	return x;
}

/* How many threads before this one have the flag set; *total: of the block. */
static __device__ inline int
block_offset(bool flag, int *total)
{
	SHARED(int, counts, 32);
	unsigned lane = threadIdx.x % WARP, bits = __ballot_sync(ALL_LANES, flag);
	int before = __popc(bits & ((1u << lane) - 1));

	__syncthreads();
	if (lane == 0)
		counts[threadIdx.x / WARP] = __popc(bits);
	__syncthreads();
	*total = 0;
	for (unsigned w = 0; w < blockDim.x / WARP; w++)
	{
		before += w < threadIdx.x / WARP ? counts[w] : 0;
		*total += counts[w];
	}
	return before;
}

/* ---- activations; numbers as net_activation of net.h ---- */

enum
{
	ACT_IDENTITY,
	ACT_RELU,
	ACT_GELU,
	ACT_GELU_TANH,
	ACT_SILU,
	ACT_TANH,
	ACT_SIGMOID
};

#define GELU_TWO_SQRT_2_PI 1.59576912f /* 2 sqrt(2 / pi) */
#define GELU_CUBIC 0.044715f

static __device__ inline float
sigmoid(float x)
{
	return 1 / (1 + expf(-x));
}

static __device__ inline float
act_value(int kind, float x)
{
	switch (kind)
	{
		case ACT_RELU: return x < 0 ? 0 : x;
		case ACT_GELU: return 0.5f * x * erfcf(-0.70710678f * x);
		case ACT_GELU_TANH: /* (1 + tanh(u)) / 2 = sigmoid(2u) */
			return x * sigmoid(GELU_TWO_SQRT_2_PI * x * (1 + GELU_CUBIC * x * x));
		case ACT_SILU: return x * sigmoid(x);
		case ACT_TANH: return tanhf(x);
		case ACT_SIGMOID: return sigmoid(x);
		default: return x;
	}
}

/* f'(x) from ref, which is x for gelu, gelu_tanh and silu, else f(x). */
static __device__ inline float
act_slope(int kind, float ref)
{
	float s;

	switch (kind)
	{
		case ACT_RELU: return ref > 0 ? 1 : 0;
		case ACT_GELU: return 0.5f * erfcf(-0.70710678f * ref) + ref * expf(-0.5f * ref * ref) * 0.398942280f;
		case ACT_GELU_TANH:
			s = sigmoid(GELU_TWO_SQRT_2_PI * ref * (1 + GELU_CUBIC * ref * ref));
			return s + ref * s * (1 - s) * GELU_TWO_SQRT_2_PI * (1 + 3 * GELU_CUBIC * ref * ref);
		case ACT_SILU: s = sigmoid(ref); return s + ref * s * (1 - s);
		case ACT_TANH: return 1 - ref * ref;
		case ACT_SIGMOID: return ref * (1 - ref);
		default: return 1;
	}
}

static __device__ inline bool
slope_by_input(int kind)
{
	return kind == ACT_GELU || kind == ACT_GELU_TANH || kind == ACT_SILU;
}

/* ---- random numbers of philox.h ---- */

static __device__ inline void
philox_block(uint64_t seed, uint64_t step, uint32_t stream, uint32_t block, uint32_t out[4])
{
	uint32_t c0 = block, c1 = stream, c2 = (uint32_t) step, c3 = (uint32_t) (step >> 32), k0 = (uint32_t) seed,
			 k1 = (uint32_t) (seed >> 32);

	for (int i = 0; i < PHILOX_ROUNDS; i++)
	{
		uint64_t p0 = (uint64_t) PHILOX_MULTIPLIER0 * c0;
		uint64_t p1 = (uint64_t) PHILOX_MULTIPLIER1 * c2;

		c0 = (uint32_t) (p1 >> 32) ^ c1 ^ k0;
		c1 = (uint32_t) p1;
		c2 = (uint32_t) (p0 >> 32) ^ c3 ^ k1;
		c3 = (uint32_t) p0;
		k0 += PHILOX_WEYL0;
		k1 += PHILOX_WEYL1;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

/* ---- tokens of rows ---- */

/* The row that token t belongs to: the last that starts at or before it. */
static __device__ inline int64_t
row_of_token(const int32_t *start, int64_t rows, int64_t t)
{
	int64_t low = 0, high = rows - 1;

	while (low < high)
	{
		int64_t middle = (low + high + 1) / 2;

		if (start[middle] <= t)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

#endif /* LLMAPP_CUDA_DEVICE_H */
