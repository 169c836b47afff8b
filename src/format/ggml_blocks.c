/*
 * ggml_blocks.c
 *	  Decode and encode blocks of GGML.
 *
 * A block is a structure of bytes, so it has no padding and no alignment.  Loops run over 16 or 32
 * numbers that share scale and shift: compilers make vectors of them.  Products and sums are in
 * GGML's order, so that results are its own to the last bit.
 */
#include "ggml_blocks.h"

#include <math.h>
#include <string.h>

#include "../engine/quant.h"

#define SMALL 32  /* numbers in a block of the older types */
#define LARGE 256 /* in one of the K types */

typedef uint8_t half[2]; /* IEEE 754 binary16 */

typedef struct block_f32
{
	uint8_t bits[4];
} block_f32;

typedef struct block_f64
{
	uint8_t bits[8];
} block_f64;

typedef struct block_f16
{
	half h;
} block_f16;

typedef struct block_bf16
{
	uint8_t bits[2];
} block_bf16;

/* Nibbles: byte i has number i below and number i + 16 above. */
typedef struct block_q4_0
{
	half d;
	uint8_t q[16];
} block_q4_0;

typedef struct block_q4_1
{
	half d, m;
	uint8_t q[16];
} block_q4_1;

typedef struct block_q5_0
{
	half d;
	uint8_t high[4]; /* bit i: the fifth bit of number i */
	uint8_t q[16];
} block_q5_0;

typedef struct block_q5_1
{
	half d, m;
	uint8_t high[4];
	uint8_t q[16];
} block_q5_1;

typedef struct block_q8_0
{
	half d;
	int8_t q[32];
} block_q8_0;

/* Below, q holds two bits of each number: 128 numbers in 32 bytes, the first 32 of them lowest. */
typedef struct block_q2_k
{
	uint8_t scales[16]; /* for 16 numbers each: scale below, minimum above */
	uint8_t q[64];
	half d, dmin;
} block_q2_k;

typedef struct block_q3_k
{
	uint8_t high[32]; /* bit g of byte i: the third bit of number 32 g + i */
	uint8_t q[64];
	uint8_t scales[12]; /* 16 of six bits */
	half d;
} block_q3_k;

typedef struct block_q4_k
{
	half d, dmin;
	uint8_t scales[12]; /* 8 scales and 8 minima of six bits, for 32 numbers each */
	uint8_t q[128];     /* nibbles: 64 numbers in 32 bytes */
} block_q4_k;

typedef struct block_q5_k
{
	half d, dmin;
	uint8_t scales[12];
	uint8_t high[32]; /* bit g of byte i: the fifth bit of number 32 g + i */
	uint8_t q[128];
} block_q5_k;

typedef struct block_q6_k
{
	uint8_t low[128]; /* nibbles: 128 numbers in 64 bytes */
	uint8_t high[64]; /* two bits of each: 128 numbers in 32 bytes */
	int8_t scales[16];
	half d;
} block_q6_k;

_Static_assert(sizeof(block_f32) == 4 && sizeof(block_f64) == 8, "plain numbers");
_Static_assert(sizeof(block_f16) == 2 && sizeof(block_bf16) == 2, "plain numbers of two bytes");
_Static_assert(sizeof(block_q4_0) == 18 && sizeof(block_q4_1) == 20, "four bits");
_Static_assert(sizeof(block_q5_0) == 22 && sizeof(block_q5_1) == 24, "five bits");
_Static_assert(sizeof(block_q8_0) == 34, "eight bits");
_Static_assert(sizeof(block_q2_k) == 84 && sizeof(block_q3_k) == 110, "K, two and three bits");
_Static_assert(sizeof(block_q4_k) == 144 && sizeof(block_q5_k) == 176, "K, four and five bits");
_Static_assert(sizeof(block_q6_k) == 210, "K, six bits");

/* ---- plain numbers ---- */

static inline float
float_of(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline uint32_t
bits_of(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static inline uint32_t
two_bytes(const uint8_t *b)
{
	return (uint32_t) b[0] | (uint32_t) b[1] << 8;
}

static inline uint32_t
four_bytes(const uint8_t *b)
{
	return two_bytes(b) | two_bytes(b + 2) << 16;
}

static inline void
put_two(uint32_t bits, uint8_t *b)
{
	b[0] = (uint8_t) bits;
	b[1] = (uint8_t) (bits >> 8);
}

/* Without a branch.  Below 2^-14 a number is fraction * 2^-24, which is exact when added to 0.5. */
static inline float
number(const half h)
{
	uint32_t bits = two_bytes(h), sign = (bits & 0x8000) << 16, magnitude = bits & 0x7fff;
	uint32_t tiny = bits_of(float_of(0x3f000000 | (magnitude & 1023)) - 0.5f);
	uint32_t usual = (magnitude << 13) + (112u << 23);

	usual += magnitude >= 0x7c00 ? 112u << 23 : 0; /* infinity and NaN have the highest exponent there too */
	return float_of(sign | (magnitude < 0x400 ? tiny : usual));
}

static inline void
put_half(float f, half h)
{
	put_two(f16_of(f), h);
}

static inline void
f32(const block_f32 *b, float *out)
{
	*out = float_of(four_bytes(b->bits));
}

static inline void
f64(const block_f64 *b, float *out)
{
	uint64_t bits = four_bytes(b->bits) | (uint64_t) four_bytes(b->bits + 4) << 32;
	double d;

	memcpy(&d, &bits, sizeof(d));
	*out = (float) d;
}

static inline void
f16(const block_f16 *b, float *out)
{
	*out = number(b->h);
}

static inline void
bf16(const block_bf16 *b, float *out)
{
	*out = float_of(two_bytes(b->bits) << 16);
}

static inline void
to_f32(const float *numbers, block_f32 *b)
{
	put_two(bits_of(*numbers), b->bits);
	put_two(bits_of(*numbers) >> 16, b->bits + 2);
}

static inline void
to_f16(const float *numbers, block_f16 *b)
{
	put_half(*numbers, b->h);
}

/* To the nearest, ties to even; NaN becomes a quiet one. */
static inline void
to_bf16(const float *numbers, block_bf16 *b)
{
	uint32_t bits = bits_of(*numbers);

	if ((bits & 0x7fffffff) > 0x7f800000)
		put_two(bits >> 16 | 64, b->bits);
	else
		put_two((bits + 0x7fff + (bits >> 16 & 1)) >> 16, b->bits);
}

/* ---- blocks of 32 ---- */

static inline void
q4_0(const block_q4_0 *b, float *out)
{
	float d = number(b->d);

	for (int i = 0; i < 16; i++)
	{
		out[i] = d * (float) ((b->q[i] & 15) - 8);
		out[i + 16] = d * (float) ((b->q[i] >> 4) - 8);
	}
}

static inline void
q4_1(const block_q4_1 *b, float *out)
{
	float d = number(b->d), m = number(b->m);

	for (int i = 0; i < 16; i++)
	{
		out[i] = d * (float) (b->q[i] & 15) + m;
		out[i + 16] = d * (float) (b->q[i] >> 4) + m;
	}
}

/* Numbers of five bits, 0 .. 31. */
static inline void
five_bits(const uint8_t *q, const uint8_t *high, int32_t *out)
{
	uint32_t bits = four_bytes(high);

	for (int i = 0; i < 16; i++)
	{
		out[i] = (int32_t) ((q[i] & 15u) | (bits >> i & 1) << 4);
		out[i + 16] = (int32_t) (q[i] >> 4 | (bits >> (i + 16) & 1) << 4);
	}
}

static inline void
q5_0(const block_q5_0 *b, float *out)
{
	float d = number(b->d);
	int32_t q[SMALL];

	five_bits(b->q, b->high, q);
	for (int i = 0; i < SMALL; i++)
		out[i] = d * (float) (q[i] - 16);
}

static inline void
q5_1(const block_q5_1 *b, float *out)
{
	float d = number(b->d), m = number(b->m);
	int32_t q[SMALL];

	five_bits(b->q, b->high, q);
	for (int i = 0; i < SMALL; i++)
		out[i] = d * (float) q[i] + m;
}

static inline void
q8_0(const block_q8_0 *b, float *out)
{
	float d = number(b->d);

	for (int i = 0; i < SMALL; i++)
		out[i] = d * (float) b->q[i];
}

/* 1 / d, or 0 where that is no number: then d is 0 as a half too. */
static inline float
inverse(float d)
{
	return isfinite(1 / d) ? 1 / d : 0;
}

/* The number of the largest magnitude, the first of them, becomes -8. */
static inline void
to_q4_0(const float *numbers, block_q4_0 *b)
{
	float largest = 0, d, scale;

	for (int i = 0; i < SMALL; i++)
		if (fabsf(numbers[i]) > fabsf(largest))
			largest = numbers[i];
	d = largest / -8;
	scale = inverse(d);
	put_half(d, b->d);
	for (int i = 0; i < 16; i++)
	{
		int low = (int) (numbers[i] * scale + 8.5f), high = (int) (numbers[i + 16] * scale + 8.5f);

		b->q[i] = (uint8_t) ((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
	}
}

/* The number of the largest magnitude becomes 127; halves round away from 0. */
static inline void
to_q8_0(const float *numbers, block_q8_0 *b)
{
	float largest = 0, d, scale;

	for (int i = 0; i < SMALL; i++)
		largest = fabsf(numbers[i]) > largest ? fabsf(numbers[i]) : largest;
	d = largest / 127;
	scale = inverse(d);
	put_half(d, b->d);
	for (int i = 0; i < SMALL; i++)
	{
		float x = numbers[i] * scale, rest = x - (float) (int) x;

		b->q[i] = (int8_t) ((int) x + (rest >= 0.5f) - (rest <= -0.5f));
	}
}

/* ---- blocks of 256 ---- */

static inline void
q2_k(const block_q2_k *b, float *out)
{
	float d = number(b->d), dmin = number(b->dmin);

	for (int s = 0; s < 16; s++)
	{
		const uint8_t *q = b->q + s / 8 * 32 + s % 2 * 16;
		float scale = d * (float) (b->scales[s] & 15), minimum = dmin * (float) (b->scales[s] >> 4);
		int shift = s % 8 / 2 * 2;

		for (int i = 0; i < 16; i++)
			out[16 * s + i] = scale * (float) (q[i] >> shift & 3) - minimum;
	}
}

static inline void
q3_k(const block_q3_k *b, float *out)
{
	float d = number(b->d);

	for (int s = 0; s < 16; s++)
	{
		const uint8_t *q = b->q + s / 8 * 32 + s % 2 * 16, *high = b->high + s % 2 * 16;
		int low_bits = b->scales[s % 8] >> s / 8 * 4 & 15, high_bits = b->scales[8 + s % 4] >> s / 4 * 2 & 3;
		float scale = d * (float) ((low_bits | high_bits << 4) - 32);
		int shift = s % 8 / 2 * 2, group = s / 2;

		for (int i = 0; i < 16; i++)
			out[16 * s + i] = scale * (float) ((q[i] >> shift & 3) + (high[i] >> group & 1) * 4 - 4);
	}
}

/* Scale and minimum g of 8; those of the last four have their upper two bits beside the first four. */
static inline void
scale_and_minimum(const uint8_t *scales, int g, int *scale, int *minimum)
{
	if (g < 4)
	{
		*scale = scales[g] & 63;
		*minimum = scales[g + 4] & 63;
	}
	else
	{
		*scale = (scales[g + 4] & 15) | scales[g - 4] >> 6 << 4;
		*minimum = scales[g + 4] >> 4 | scales[g] >> 6 << 4;
	}
}

static inline void
q4_k(const block_q4_k *b, float *out)
{
	float d = number(b->d), dmin = number(b->dmin);

	for (int g = 0; g < 8; g++)
	{
		const uint8_t *q = b->q + g / 2 * 32;
		int shift = g % 2 * 4, scale, minimum;
		float ds, dm;

		scale_and_minimum(b->scales, g, &scale, &minimum);
		ds = d * (float) scale;
		dm = dmin * (float) minimum;
		for (int i = 0; i < 32; i++)
			out[32 * g + i] = ds * (float) (q[i] >> shift & 15) - dm;
	}
}

static inline void
q5_k(const block_q5_k *b, float *out)
{
	float d = number(b->d), dmin = number(b->dmin);

	for (int g = 0; g < 8; g++)
	{
		const uint8_t *q = b->q + g / 2 * 32;
		int shift = g % 2 * 4, scale, minimum;
		float ds, dm;

		scale_and_minimum(b->scales, g, &scale, &minimum);
		ds = d * (float) scale;
		dm = dmin * (float) minimum;
		for (int i = 0; i < 32; i++)
			out[32 * g + i] = ds * (float) ((q[i] >> shift & 15) | (b->high[i] >> g & 1) << 4) - dm;
	}
}

static inline void
q6_k(const block_q6_k *b, float *out)
{
	float d = number(b->d);

	for (int s = 0; s < 16; s++)
	{
		const uint8_t *low = b->low + s / 8 * 64 + s % 4 * 16, *high = b->high + s / 8 * 32 + s % 2 * 16;
		int low_shift = s % 8 / 4 * 4, high_shift = s % 8 / 2 * 2;
		float scale = d * (float) b->scales[s];

		for (int i = 0; i < 16; i++)
			out[16 * s + i] = scale * (float) (((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4) - 32);
	}
}

/* ---- all types ---- */

#define DECODER(type, length) \
	static void decode_##type(const void *blocks, size_t count, float *out) \
	{ \
		const block_##type *b = blocks; \
\
		for (size_t i = 0; i < count; i++) \
			type(b + i, out + i * (length)); \
	}

#define ENCODER(type, length) \
	static void encode_##type(const float *numbers, size_t count, void *blocks) \
	{ \
		block_##type *b = blocks; \
\
		for (size_t i = 0; i < count; i++) \
			to_##type(numbers + i * (length), b + i); \
	}

DECODER(f32, 1)
DECODER(f16, 1)
DECODER(bf16, 1)
DECODER(f64, 1)
DECODER(q4_0, SMALL)
DECODER(q4_1, SMALL)
DECODER(q5_0, SMALL)
DECODER(q5_1, SMALL)
DECODER(q8_0, SMALL)
DECODER(q2_k, LARGE)
DECODER(q3_k, LARGE)
DECODER(q4_k, LARGE)
DECODER(q5_k, LARGE)
DECODER(q6_k, LARGE)
ENCODER(f32, 1)
ENCODER(f16, 1)
ENCODER(bf16, 1)
ENCODER(q4_0, SMALL)
ENCODER(q8_0, SMALL)

#define READ(type, length) length, sizeof(block_##type), decode_##type
#define BOTH(type, length) READ(type, length), encode_##type

/* Numbers that are left out were given to types that no longer exist, or that no file has. */
static const ggml_type types[] = {
	{0, "F32", SOURCE_F32, BOTH(f32, 1)},
	{1, "F16", SOURCE_F16, BOTH(f16, 1)},
	{2, "Q4_0", SOURCE_Q4_0, BOTH(q4_0, SMALL)},
	{3, "Q4_1", SOURCE_Q4_1, READ(q4_1, SMALL)},
	{6, "Q5_0", SOURCE_Q5_0, READ(q5_0, SMALL)},
	{7, "Q5_1", SOURCE_Q5_1, READ(q5_1, SMALL)},
	{8, "Q8_0", SOURCE_Q8_0, BOTH(q8_0, SMALL)},
	{10, "Q2_K", SOURCE_Q2_K, READ(q2_k, LARGE)},
	{11, "Q3_K", SOURCE_Q3_K, READ(q3_k, LARGE)},
	{12, "Q4_K", SOURCE_Q4_K, READ(q4_k, LARGE)},
	{13, "Q5_K", SOURCE_Q5_K, READ(q5_k, LARGE)},
	{14, "Q6_K", SOURCE_Q6_K, READ(q6_k, LARGE)},
	{28, "F64", SOURCE_F64, READ(f64, 1)},
	{30, "BF16", SOURCE_BF16, BOTH(bf16, 1)},
	{24, "I8", SOURCE_OTHER, 1, 1},
	{25, "I16", SOURCE_OTHER, 1, 2},
	{26, "I32", SOURCE_OTHER, 1, 4},
	{27, "I64", SOURCE_OTHER, 1, 8},
	{16, "IQ2_XXS", SOURCE_OTHER, LARGE, 66},
	{17, "IQ2_XS", SOURCE_OTHER, LARGE, 74},
	{18, "IQ3_XXS", SOURCE_OTHER, LARGE, 98},
	{19, "IQ1_S", SOURCE_OTHER, LARGE, 50},
	{20, "IQ4_NL", SOURCE_OTHER, SMALL, 18},
	{21, "IQ3_S", SOURCE_OTHER, LARGE, 110},
	{22, "IQ2_S", SOURCE_OTHER, LARGE, 82},
	{23, "IQ4_XS", SOURCE_OTHER, LARGE, 136},
	{29, "IQ1_M", SOURCE_OTHER, LARGE, 56},
	{34, "TQ1_0", SOURCE_OTHER, LARGE, 54},
	{35, "TQ2_0", SOURCE_OTHER, LARGE, 66},
	{39, "MXFP4", SOURCE_OTHER, 32, 17},
	{40, "NVFP4", SOURCE_OTHER, 64, 36},
	{41, "Q1_0", SOURCE_OTHER, 128, 18},
};

#define TYPES (sizeof(types) / sizeof(types[0]))

const ggml_type *
ggml_type_numbered(uint32_t number)
{
	for (size_t i = 0; i < TYPES; i++)
		if (types[i].number == number)
			return &types[i];
	return NULL;
}

const ggml_type *
ggml_type_of(source_type source)
{
	for (size_t i = 0; source != SOURCE_OTHER && i < TYPES; i++)
		if (types[i].source == source)
			return &types[i];
	return NULL;
}
