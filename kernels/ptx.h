/*
 * ptx.h
 *	  Instructions that C has no word for, each with a plain equivalent where kernels are emulated.
 *
 * Fragments of mma.m16n8k16 lie in a warp as the PTX manual says (section on mma.m16n8k16 with .bf16):
 * with group = lane / 4 and pair = lane % 4 * 2,
 *	 a: {row group, columns pair, pair + 1}, {row group + 8, the same}, then both with columns + 8;
 *	 b: {rows pair, pair + 1 of column group}, then rows + 8;
 *	 c: {row group, columns pair, pair + 1}, {row group + 8, the same}.
 * The lower half of a register holds the lower column of a, or row of b.
 */
#ifndef LLMAPP_CUDA_PTX_H
#define LLMAPP_CUDA_PTX_H

#include "device.h"

/* To the nearest bfloat16, ties to even; numbers that are none stay so. */
static __device__ inline uint16_t
to_bf16(float x)
{
	unsigned bits = __float_as_uint(x);

	if ((bits & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t) ((bits >> 16) | 0x40);
	return (uint16_t) ((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

/* 10 bits behind the leading one, as tensor cores read a float32 that is to be a tf32; ties to even. */
static __device__ inline float
to_tf32(float x)
{
	unsigned bits = __float_as_uint(x);

	if ((bits & 0x7f800000u) == 0x7f800000u)
		return x;
	return __uint_as_float((bits + 0xfffu + ((bits >> 13) & 1)) & ~0x1fffu);
}

static __device__ inline float
from_bf16(uint16_t x)
{
	return __uint_as_float((unsigned) x << 16);
}

#ifdef __CUDACC__

static __device__ inline unsigned
pack_bf16(float low, float high)
{
	unsigned r;

	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
	return r;
}

static __device__ inline void
mma_m16n8k16_bf16(float c[4], const unsigned a[4], const unsigned b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
				 "{%0, %1, %2, %3};"
				 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
				 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/*
 * Four matrices of 8 x 8 from shared memory: lane i gives the address of row i % 8 of matrix i / 8, 16
 * bytes each, and gets of each matrix the two numbers of row lane / 4 from column lane % 4 * 2; of its
 * transpose with load_matrices_transposed().
 */
static __device__ inline void
load_matrices(unsigned r[4], const uint16_t *row)
{
	unsigned address = (unsigned) __cvta_generic_to_shared(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
				 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
				 : "r"(address)
				 : "memory");
}

static __device__ inline void
load_matrices_transposed(unsigned r[4], const uint16_t *row)
{
	unsigned address = (unsigned) __cvta_generic_to_shared(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
				 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
				 : "r"(address)
				 : "memory");
}

static __device__ inline float
from_half(uint16_t x)
{
	float r;

	asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
	return r;
}

/* To nearest even; what is too large is infinite. */
static __device__ inline uint16_t
to_half(float x)
{
	uint16_t r;

	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
	return r;
}

#else

static inline unsigned
pack_bf16(float low, float high)
{
	return to_bf16(low) | (unsigned) to_bf16(high) << 16;
}

static inline float
half_of(unsigned pair, int high)
{
	return from_bf16((uint16_t) (high ? pair >> 16 : pair & 0xffff));
}

static inline void
mma_m16n8k16_bf16(float c[4], const unsigned a[4], const unsigned b[2])
{
	unsigned mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]}, lane = threadIdx.x % 32;
	const unsigned char(*all)[64] = emulate_exchange(mine, sizeof(mine));
	double sum[4];

	for (int i = 0; i < 4; i++)
	{
		int row = lane / 4 + (i / 2) * 8, column = lane % 4 * 2 + i % 2;

		sum[i] = c[i];
		for (int k = 0; k < 16; k++)
		{
			unsigned of_a[6], of_b[6];

			memcpy(of_a, all[row % 8 * 4 + k % 8 / 2], sizeof(of_a));
			memcpy(of_b, all[column * 4 + k % 8 / 2], sizeof(of_b));
			sum[i] += (double) half_of(of_a[row / 8 + k / 8 * 2], k % 2) * half_of(of_b[4 + k / 8], k % 2);
		}
	}
	for (int i = 0; i < 4; i++)
		c[i] = (float) sum[i];
}

static inline void
load_matrices(unsigned r[4], const uint16_t *row)
{
	const unsigned char(*all)[64] = emulate_exchange(&row, sizeof(row));
	unsigned lane = threadIdx.x % 32;

	for (unsigned m = 0; m < 4; m++)
	{
		const uint16_t *from;

		memcpy(&from, all[m * 8 + lane / 4], sizeof(from));
		memcpy(&r[m], from + lane % 4 * 2, sizeof(r[m]));
	}
	__syncwarp();
}

static inline void
load_matrices_transposed(unsigned r[4], const uint16_t *row)
{
	const unsigned char(*all)[64] = emulate_exchange(&row, sizeof(row));
	unsigned lane = threadIdx.x % 32;

	for (unsigned m = 0; m < 4; m++)
	{
		const uint16_t *low, *high;

		memcpy(&low, all[m * 8 + lane % 4 * 2], sizeof(low));
		memcpy(&high, all[m * 8 + lane % 4 * 2 + 1], sizeof(high));
		r[m] = low[lane / 4] | (unsigned) high[lane / 4] << 16;
	}
	__syncwarp();
}

static inline float
from_half(uint16_t x)
{
	unsigned sign = (unsigned) (x & 0x8000) << 16, exponent = x >> 10 & 31, fraction = x & 0x3ff;

	if (exponent == 0)
		return (sign ? -1.0f : 1.0f) * ldexpf((float) fraction, -24);
	if (exponent == 31)
		return __uint_as_float(sign | 0x7f800000u | fraction << 13);
	return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}

static inline uint16_t
to_half(float x)
{
	uint16_t sign = (uint16_t) (__float_as_uint(x) >> 16 & 0x8000);
	float size = fabsf(x);
	int exponent;

	if (!(size < 65520)) /* halfway to 2^16 */
		return sign | (size != size ? 0x7e00 : 0x7c00);
	if (size < ldexpf(1, -14))
		return sign | (uint16_t) nearbyintf(ldexpf(size, 24));
	frexpf(size,
		   &exponent); /* size in [2^(exponent - 1), 2^exponent); the leading bit adds 1 to the stored exponent */
	return sign | (uint16_t) (((exponent + 13) << 10) + (int) nearbyintf(ldexpf(size, 11 - exponent)));
}

#endif

#endif /* LLMAPP_CUDA_PTX_H */
