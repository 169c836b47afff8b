/*
 * hash.h
 *	  64-bit hash of bytes, the same on every machine: buckets of n-grams are part of a model.
 *
 * FNV-1a (Fowler, Noll, Vo) followed by the 64-bit finaliser of MurmurHash3 (Appleby), because
 * FNV alone leaves the high bits of short keys poor.
 */
#ifndef LLMAPP_HASH_H
#define LLMAPP_HASH_H

#include <stddef.h>
#include <stdint.h>

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

static inline uint64_t
hash_of(const void *data, size_t length)
{
	return hash_end(hash_bytes(HASH_START, data, length));
}

#endif /* LLMAPP_HASH_H */
