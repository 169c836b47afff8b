/*
 * kept.h
 *	  Weights as versions keep them, llmapp_cuda_kept, read four numbers at a time.
 *
 * Blocks of q8_0 and q4_0 lie at multiples of 2 bytes, everything else at multiples of what is read.
 */
#ifndef LLMAPP_CUDA_KEPT_H
#define LLMAPP_CUDA_KEPT_H

#include "device.h"
#include "ptx.h"

#define KEPT_BLOCK 32
#define Q8_BYTES 34
#define Q4_BYTES 18

/* Of a number of f32, f16 and bf16, or of whole blocks. */
static inline int64_t
kept_bytes(int type, int64_t count)
{
	switch (type)
	{
		case LLMAPP_CUDA_F32: return 4 * count;
		case LLMAPP_CUDA_Q8_0: return count / KEPT_BLOCK * Q8_BYTES;
		case LLMAPP_CUDA_Q4_0: return count / KEPT_BLOCK * Q4_BYTES;
		default: return 2 * count;
	}
}

/* Numbers i .. i + 3, i a multiple of 4. */
template <int TYPE>
static __device__ inline void
kept_four(const void *w, int64_t i, float x[4])
{
	if (TYPE == LLMAPP_CUDA_F32)
	{
		float4 v = *(const float4 *) ((const float *) w + i);

		x[0] = v.x;
		x[1] = v.y;
		x[2] = v.z;
		x[3] = v.w;
	}
	else if (TYPE == LLMAPP_CUDA_F16 || TYPE == LLMAPP_CUDA_BF16)
	{
		uint2 v = *(const uint2 *) ((const uint16_t *) w + i);

		for (int j = 0; j < 4; j++)
		{
			uint16_t word = (uint16_t) ((j < 2 ? v.x : v.y) >> j % 2 * 16);

			x[j] = TYPE == LLMAPP_CUDA_F16 ? from_half(word) : from_bf16(word);
		}
	}
	else
	{
		bool nibbles = TYPE == LLMAPP_CUDA_Q4_0;
		const uint16_t *block =
			(const uint16_t *) ((const char *) w + i / KEPT_BLOCK * (nibbles ? Q4_BYTES : Q8_BYTES));
		int at = (int) (i % KEPT_BLOCK);
		const uint16_t *from = block + 1 + (nibbles ? at % 16 : at) / 2;
		unsigned bytes = (from[0] | (unsigned) from[1] << 16) >> (nibbles && at >= 16 ? 4 : 0);
		float d = from_half(block[0]);

		for (int j = 0; j < 4; j++)
			x[j] = d * (nibbles ? (int) (bytes >> 8 * j & 15) - 8 : (signed char) (bytes >> 8 * j & 255));
	}
}

static __device__ inline float
kept_one(int type, const void *w, int64_t i)
{
	float x[4];

	switch (type)
	{
		case LLMAPP_CUDA_F32: return ((const float *) w)[i];
		case LLMAPP_CUDA_F16: kept_four<LLMAPP_CUDA_F16>(w, i & ~3, x); break;
		case LLMAPP_CUDA_BF16: kept_four<LLMAPP_CUDA_BF16>(w, i & ~3, x); break;
		case LLMAPP_CUDA_Q8_0: kept_four<LLMAPP_CUDA_Q8_0>(w, i & ~3, x); break;
		default: kept_four<LLMAPP_CUDA_Q4_0>(w, i & ~3, x);
	}
	return x[i & 3];
}

#endif /* LLMAPP_CUDA_KEPT_H */
