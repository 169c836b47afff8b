/*
 * philox.h
 *	  Counter-based random numbers: Philox 4x32 with 10 rounds (Salmon et al., "Parallel
 *	  random numbers: as easy as 1, 2, 3", 2011).
 *
 * A number depends only on (seed, step, tensor, position), so any thread can make any
 * part of a stream and a resumed run needs no generator state.
 */
#ifndef LLMAPP_PHILOX_H
#define LLMAPP_PHILOX_H

#include <stdint.h>

#define PHILOX_MULTIPLIER0 0xD2511F53u
#define PHILOX_MULTIPLIER1 0xCD9E8D57u
#define PHILOX_WEYL0 0x9E3779B9u
#define PHILOX_WEYL1 0xBB67AE85u
#define PHILOX_ROUNDS 10

/*
 * Four numbers.  block counts groups of four within the stream (up to 2^32), stream is
 * the tensor, step the training step; seed is the key.
 */
static inline void
philox(uint64_t seed, uint64_t step, uint32_t stream, uint32_t block, uint32_t out[4])
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

/* Uniform in [0, 1) with 24 bits. */
static inline float
philox_uniform(uint32_t bits)
{
	return (float) (bits >> 8) * (1.0f / 16777216.0f);
}

#endif /* LLMAPP_PHILOX_H */
