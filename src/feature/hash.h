/*
 * hash.h
 *	  64-bit hashes of bytes.
 *
 * Buckets of n-grams are part of a model, so theirs is the same on every machine: FNV-1a
 * (Fowler, Noll, Vo) followed by the 64-bit finaliser of MurmurHash3 (Appleby), because FNV
 * alone leaves the high bits of short keys poor.
 */
#ifndef LLMAPP_HASH_H
#define LLMAPP_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* Continue a running hash; hash_end() makes it usable. */
static inline uint64_t
hash_bytes(uint64_t hash, const void *data, size_t length)
{
	const uint8_t *byte = data;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static inline uint64_t
hash_end(uint64_t hash)
{
	hash = (hash ^ (hash >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	hash = (hash ^ (hash >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
	return hash ^ (hash >> 33);
}

/* For tables in memory only: eight bytes a step, in the machine's order. */
static inline uint64_t
hash_of(const void *data, size_t length)
{
	const uint8_t *byte = data;
	uint64_t hash = HASH_START ^ length;
	uint64_t word;

	for (; length >= sizeof(word); byte += sizeof(word), length -= sizeof(word))
	{
		memcpy(&word, byte, sizeof(word));
		hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 32;
	}
	word = 0;
	for (size_t i = 0; i < length; i++)
		word = word << 8 | byte[i];
	return hash_end(hash ^ word);
}

#endif /* LLMAPP_HASH_H */
