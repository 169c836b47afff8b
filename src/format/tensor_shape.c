/*
 * tensor_shape.c
 *	  Limits of a tensor's shape, the shape of nested lists, and the code of a shape.
 *
 * The code packs a shape into 31 bits.  Every length but the last is written as 2^e + m
 * with m < 2^e: the exponents choose a class, the m take e bits each, and the last length
 * takes what is left of the bits of its rank.  Classes are numbered without gaps by the
 * combinatorial number system over the running sums of exponents, so that rank 2 needs 25
 * classes instead of 32 and rank 4 1330 instead of 8000.
 */
#include "tensor_shape.h"

#include <float.h>
#include <math.h>

/* For each rank: bits of one class, and the first code.  The last code is below 2^31. */
static const struct
{
	int bits;
	int32_t base;
} ranks[TENSOR_MAX_DIMS + 1] = {
	{0, 0},
	{24, 0},                        /* 1 class */
	{24, 1 << 24},                  /* 25 classes */
	{22, 26 << 24},                 /* 276 classes */
	{18, (26 << 24) + (276 << 22)}, /* 1330 classes */
};

#define CODE_END ((26 << 24) + (276 << 22) + (1330 << 18))

tensor_status
tensor_count(int32_t ndim, const int32_t *dims, int32_t *count)
{
	int64_t product = 1;

	if (ndim < 1)
		return TENSOR_NO_DIMS;
	if (ndim > TENSOR_MAX_DIMS)
		return TENSOR_TOO_DEEP;
	for (int32_t i = 0; i < ndim; i++)
		if (dims[i] < 1)
			return TENSOR_EMPTY;
	for (int32_t i = 0; i < ndim; i++)
	{
		/* At most 2^24 * 2^31: no overflow. */
		product *= dims[i];
		if (product > TENSOR_MAX_ELEMENTS)
			return TENSOR_TOO_MANY;
	}
	*count = (int32_t) product;
	return TENSOR_OK;
}

tensor_status
tensor_check_finite(const float *values, int32_t count)
{
	/* No early exit: the loop vectorises, and almost every value is finite. */
	bool finite = true;

	for (int32_t i = 0; i < count; i++)
		finite &= fabsf(values[i]) <= FLT_MAX;
	return finite ? TENSOR_OK : TENSOR_NOT_FINITE;
}

tensor_status
tensor_nest_open(tensor_nest *nest)
{
	if (nest->depth == TENSOR_MAX_DIMS)
		return TENSOR_TOO_DEEP;
	if (nest->ndim > 0 && nest->depth == nest->ndim)
		return TENSOR_MIXED;
	if (nest->depth > 0)
		nest->filled[nest->depth - 1]++;
	nest->filled[nest->depth++] = 0;
	return TENSOR_OK;
}

tensor_status
tensor_nest_value(tensor_nest *nest)
{
	if (nest->depth == 0)
		return TENSOR_NO_LIST;
	if (nest->ndim == 0)
		nest->ndim = nest->depth;
	if (nest->depth != nest->ndim)
		return TENSOR_MIXED;
	if (nest->count == TENSOR_MAX_ELEMENTS)
		return TENSOR_TOO_MANY;
	nest->filled[nest->depth - 1]++;
	nest->count++;
	return TENSOR_OK;
}

tensor_status
tensor_nest_close(tensor_nest *nest)
{
	int32_t level = nest->depth - 1;

	if (level < 0)
		return TENSOR_NO_LIST;
	if (nest->filled[level] == 0)
		return TENSOR_EMPTY;
	nest->depth = level;
	if (nest->dims[level] == 0)
		nest->dims[level] = nest->filled[level];
	return nest->dims[level] == nest->filled[level] ? TENSOR_OK : TENSOR_RAGGED;
}

/* n over k, for n below 25 and k up to 3: small. */
static int32_t
choose(int32_t n, int32_t k)
{
	int32_t result = 1;

	for (int32_t i = 0; i < k; i++)
		result = result * (n - i) / (i + 1);
	return n < k ? 0 : result;
}

/* Floor of the logarithm to base 2. */
static int32_t
exponent_of(int32_t length)
{
	return 31 - __builtin_clz((unsigned) length);
}

int32_t
tensor_shape_encode(int32_t ndim, const int32_t *dims)
{
	int32_t bits = ranks[ndim].bits;
	int32_t sum = 0;
	int32_t class = 0;
	int32_t payload = 0;

	for (int32_t i = 0; i + 1 < ndim; i++)
	{
		int32_t e = exponent_of(dims[i]);

		sum += e;
		if (sum > bits)
			return -1;
		class += choose(sum + i, i + 1);
		payload = (payload << e) | (dims[i] - (1 << e));
	}
	if (dims[ndim - 1] > 1 << (bits - sum))
		return -1;
	payload = (payload << (bits - sum)) | (dims[ndim - 1] - 1);
	return ranks[ndim].base + (class << bits) + payload;
}

/* Running sums of exponents of a class, the inverse of the sum over choose() above. */
static void
class_sums(int32_t class, int32_t leading, int32_t bits, int32_t *sums)
{
	for (int32_t i = leading - 1; i >= 0; i--)
	{
		int32_t sum = bits;

		while (choose(sum + i, i + 1) > class)
			sum--;
		class -= choose(sum + i, i + 1);
		sums[i] = sum;
	}
}

int32_t
tensor_shape_decode(int32_t code, int32_t dims[TENSOR_MAX_DIMS])
{
	int32_t ndim = TENSOR_MAX_DIMS;
	int32_t sums[TENSOR_MAX_DIMS - 1];
	int32_t bits, left, count;

	if (code < 0 || code >= CODE_END)
		return 0;
	while (code < ranks[ndim].base)
		ndim--;
	code -= ranks[ndim].base;
	left = bits = ranks[ndim].bits;
	class_sums(code >> bits, ndim - 1, bits, sums);
	for (int32_t i = 0; i + 1 < ndim; i++)
	{
		int32_t e = sums[i] - (i > 0 ? sums[i - 1] : 0);

		left -= e;
		dims[i] = (1 << e) + ((code >> left) & ((1 << e) - 1));
	}
	dims[ndim - 1] = (code & ((1 << left) - 1)) + 1;
	return tensor_count(ndim, dims, &count) == TENSOR_OK ? ndim : 0;
}
