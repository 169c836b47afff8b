/*
 * quant.c
 *	  Weights in fewer bits: encoding, the kernels for any CPU, and the choice among all sets.
 */
#include "quant.h"

#include <math.h>
#include <string.h>

#define F16_MAX 65504.0f
#define SCRATCH_BLOCK (2 * QUANT_BLOCK) /* what prepared rows are padded to */

static const struct
{
	const char *name;
	size_t block, bytes; /* numbers of a block, bytes of it */
} types[WEIGHT_TYPES] = {
	[WEIGHT_F32] = {"f32", 1, 4},
	[WEIGHT_F16] = {"f16", 1, 2},
	[WEIGHT_BF16] = {"bf16", 1, 2},
	[WEIGHT_Q8_0] = {"q8_0", QUANT_BLOCK, 2 + QUANT_BLOCK},
	[WEIGHT_Q4_0] = {"q4_0", QUANT_BLOCK, 2 + QUANT_BLOCK / 2},
};

const char *
weight_type_name(weight_type t)
{
	return types[t].name;
}

bool
weight_type_parse(const char *name, weight_type *t)
{
	for (int i = 0; i < WEIGHT_TYPES; i++)
		if (strcmp(types[i].name, name) == 0)
		{
			*t = (weight_type) i;
			return true;
		}
	return false;
}

size_t
weight_bytes(weight_type t, size_t count)
{
	return count / types[t].block * types[t].bytes;
}

/* ---- numbers of 16 bits ---- */

static inline uint32_t
bits_of(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static inline float
float_of(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* Adding 2^13 times a number's power of two, or 2^-1 for denormals, leaves its first 11 bits, rounded to even. */
uint16_t
f16_of(float x)
{
	uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;

	if (magnitude > 0x7f800000)
		return (uint16_t) (sign | 0x7e00);
	if (magnitude >= 0x477ff000) /* rounds to 65536 */
		return (uint16_t) (sign | 0x7c00);
	if (magnitude < 0x38800000)
		return (uint16_t) (sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)));
	magnitude += 0xfff + (magnitude >> 13 & 1);
	return (uint16_t) (sign | ((magnitude >> 13) - (112 << 10)));
}

float
f16_value(uint16_t h)
{
	uint32_t sign = (uint32_t) (h & 0x8000) << 16, magnitude = h & 0x7fff;

	if (magnitude >= 0x7c00)
		return float_of(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
	if (magnitude < 0x400)
		return float_of(sign | bits_of((float) magnitude * 0x1p-24f));
	return float_of(sign | ((magnitude + (112 << 10)) << 13));
}

static inline uint16_t
bf16_of(float x)
{
	uint32_t bits = bits_of(x);

	return (uint16_t) ((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t
word_at(const void *p)
{
	uint16_t w;

	memcpy(&w, p, sizeof(w));
	return w;
}

static inline void
put_word(void *p, uint16_t w)
{
	memcpy(p, &w, sizeof(w));
}

/* ---- encoding ---- */

/* The number of a block that is farthest from 0. */
static float
extreme_of(const float *x)
{
	float extreme = 0;

	for (int i = 0; i < QUANT_BLOCK; i++)
		extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
	return extreme;
}

static void
encode_q8_0(const float *x, uint8_t *out)
{
	uint16_t scale = f16_of(fabsf(extreme_of(x)) / 127);
	float d = f16_value(scale), inverse = d > 0 ? 1 / d : 0;

	put_word(out, scale);
	for (int i = 0; i < QUANT_BLOCK; i++)
		out[2 + i] = (uint8_t) (int8_t) fmaxf(-127, fminf(127, rintf(x[i] * inverse)));
}

/* q + 8 for a scale. */
static void
round_q4(const float *x, float inverse, uint8_t *q)
{
	for (int i = 0; i < QUANT_BLOCK; i++)
		q[i] = (uint8_t) fmaxf(0, fminf(15, rintf(x[i] * inverse) + 8));
}

/* Sums over a block of x q and q q, q being 8 less than given. */
static void
fit_q4(const float *x, const uint8_t *q, float *xq, float *qq)
{
	*xq = *qq = 0;
	for (int i = 0; i < QUANT_BLOCK; i++)
	{
		float c = (float) q[i] - 8;

		*xq += x[i] * c;
		*qq += c * c;
	}
}

/*
 * The extreme number is -8 d, or somewhat nearer or farther: for each such scale q is rounded, and the scale that
 * then fits best, xq / qq, leaves a squared error that is smaller by xq^2 / qq than that of zeros.
 */
#define Q4_SCALES 9
#define Q4_STEP 0.25f

static void
encode_q4_0(const float *x, uint8_t *out)
{
	float extreme = extreme_of(x), best = 0, best_d = 0;
	uint8_t q[QUANT_BLOCK];
	uint16_t scale;

	for (int i = 0; i < Q4_SCALES && extreme != 0; i++)
	{
		float xq, qq;

		round_q4(x, -(8 + Q4_STEP * (i - Q4_SCALES / 2)) / extreme, q);
		fit_q4(x, q, &xq, &qq);
		if (qq > 0 && xq * xq / qq > best)
		{
			best = xq * xq / qq;
			best_d = xq / qq;
		}
	}
	scale = f16_of(best_d);
	put_word(out, scale);
	round_q4(x, f16_value(scale) != 0 ? 1 / f16_value(scale) : 0, q);
	for (int i = 0; i < QUANT_BLOCK / 2; i++)
		out[2 + i] = (uint8_t) (q[i] | q[i + QUANT_BLOCK / 2] << 4);
}

/* The largest number that can be encoded. */
static const float limits[WEIGHT_TYPES] = {
	[WEIGHT_F16] = F16_MAX,
	[WEIGHT_BF16] = 0x1.fep127f,
	[WEIGHT_Q8_0] = 127 * F16_MAX,
	[WEIGHT_Q4_0] = 7 * F16_MAX,
};

bool
weight_fits(weight_type t, const float *x, size_t count)
{
	bool fits = true;

	for (size_t i = 0; i < count && t != WEIGHT_F32; i++)
		fits &= fabsf(x[i]) <= limits[t];
	return fits;
}

bool
weight_encode(weight_type t, const float *x, size_t count, void *out)
{
	uint8_t *to = out;

	if (!weight_fits(t, x, count))
		return false;
	if (t == WEIGHT_F32)
		memcpy(out, x, count * sizeof(float));
	for (size_t i = 0; i < count && t != WEIGHT_F32; i += types[t].block, to += types[t].bytes)
		switch (t)
		{
			case WEIGHT_F16: put_word(to, f16_of(x[i])); break;
			case WEIGHT_BF16: put_word(to, bf16_of(x[i])); break;
			case WEIGHT_Q8_0: encode_q8_0(x + i, to); break;
			default: encode_q4_0(x + i, to);
		}
	return true;
}

/* ---- kernels for any CPU ---- */

static void
decode_f16(const void *w, int64_t count, float *x)
{
	for (int64_t i = 0; i < count; i++)
		x[i] = f16_value(word_at((const char *) w + 2 * i));
}

static void
decode_bf16(const void *w, int64_t count, float *x)
{
	for (int64_t i = 0; i < count; i++)
		x[i] = float_of((uint32_t) word_at((const char *) w + 2 * i) << 16);
}

/* The q of a block, q4_0's 8 too large. */
static inline int
q8_at(const uint8_t *block, int i)
{
	return (int8_t) block[2 + i];
}

static inline int
q4_at(const uint8_t *block, int i)
{
	return i < QUANT_BLOCK / 2 ? block[2 + i] & 15 : block[2 + i - QUANT_BLOCK / 2] >> 4;
}

static void
decode_q8_0(const void *w, int64_t count, float *x)
{
	const uint8_t *block = w;

	for (int64_t at = 0; at < count; at += QUANT_BLOCK, block += types[WEIGHT_Q8_0].bytes)
		for (int i = 0; i < QUANT_BLOCK; i++)
			x[at + i] = f16_value(word_at(block)) * (float) q8_at(block, i);
}

static void
decode_q4_0(const void *w, int64_t count, float *x)
{
	const uint8_t *block = w;

	for (int64_t at = 0; at < count; at += QUANT_BLOCK, block += types[WEIGHT_Q4_0].bytes)
		for (int i = 0; i < QUANT_BLOCK; i++)
			x[at + i] = f16_value(word_at(block)) * (float) (q4_at(block, i) - 8);
}

static void
round_block(const float *x, int32_t factor, int8_t *q, int32_t *start, float *scale)
{
	float d = fabsf(extreme_of(x)) / 127, inverse = d > 0 ? 1 / d : 0;

	for (int i = 0; i < QUANT_BLOCK; i++)
		q[i] = (int8_t) fmaxf(-127, fminf(127, rintf(x[i] * inverse)));
	for (int i = 0; i < QUANT_BLOCK / 4; i++)
	{
		start[i] = factor * (q[4 * i] + q[4 * i + 1] + q[4 * i + 2] + q[4 * i + 3]);
		scale[i] = d;
	}
}

static void
to_f16(const float *x, int64_t n, uint16_t *h)
{
	for (int64_t i = 0; i < n; i++)
		h[i] = f16_of(x[i]);
}

static void
add_f16_rows(const uint16_t *x, const float *p, int64_t rows, bool accumulate, float *y, int64_t n)
{
	if (!accumulate)
		memset(y, 0, (size_t) n * sizeof(float));
	for (int64_t r = 0; r < rows; r++)
		for (int64_t i = 0; i < n; i++)
			y[i] += p[r] * f16_value(x[r * n + i]);
}

/* Decoded block by block. */
static void
gemv_floats(weight_type t, const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	size_t row_bytes = weight_bytes(t, (size_t) x->k);
	float block[QUANT_BLOCK];

	for (int64_t j = 0; j < n; j++)
		for (int64_t r = 0; r < x->rows; r++)
		{
			const float *from = x->x + r * x->k;
			float sum = 0;

			for (int64_t at = 0; at < x->k; at += QUANT_BLOCK)
			{
				quant_portable.decode[t]((const char *) w + j * row_bytes + weight_bytes(t, (size_t) at), QUANT_BLOCK,
										 block);
				for (int i = 0; i < QUANT_BLOCK; i++)
					sum += from[at + i] * block[i];
			}
			y[r * ldy + j] = (bias ? bias[j] : 0) + sum;
		}
}

static void
gemv_f16(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	gemv_floats(WEIGHT_F16, x, w, bias, y, ldy, n);
}

static void
gemv_bf16(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	gemv_floats(WEIGHT_BF16, x, w, bias, y, ldy, n);
}

static int64_t
padded(int64_t k)
{
	return (k + SCRATCH_BLOCK - 1) / SCRATCH_BLOCK * SCRATCH_BLOCK;
}

/* Products of the bytes of a block are whole numbers. */
static inline void
gemv_blocks(weight_type t, int (*q_at)(const uint8_t *block, int i), int offset, const quant_rows *x, const void *w,
			const float *bias, float *y, int64_t ldy, int64_t n)
{
	const uint8_t *block = w;

	for (int64_t j = 0; j < n; j++, block += weight_bytes(t, (size_t) x->k))
		for (int64_t r = 0; r < x->rows; r++)
		{
			const int8_t *q = x->q + r * padded(x->k);
			const float *scale = x->scale + r * padded(x->k) / 4;
			float sum = 0;

			for (int64_t b = 0; b < x->k / QUANT_BLOCK; b++)
			{
				const uint8_t *at = block + b * types[t].bytes;
				int product = 0;

				for (int i = 0; i < QUANT_BLOCK; i++)
					product += (q_at(at, i) - offset) * q[b * QUANT_BLOCK + i];
				sum += (float) product * (f16_value(word_at(at)) * scale[b * (QUANT_BLOCK / 4)]);
			}
			y[r * ldy + j] = (bias ? bias[j] : 0) + sum;
		}
}

static void
gemv_q8_0(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	gemv_blocks(WEIGHT_Q8_0, q8_at, 0, x, w, bias, y, ldy, n);
}

static void
gemv_q4_0(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy, int64_t n)
{
	gemv_blocks(WEIGHT_Q4_0, q4_at, 8, x, w, bias, y, ldy, n);
}

static bool
portable_supported(void)
{
	return true;
}

const quant_kernels quant_portable = {
	.name = "portable",
	.supported = portable_supported,
	.decode = {NULL, decode_f16, decode_bf16, decode_q8_0, decode_q4_0},
	.round_block = round_block,
	.to_f16 = to_f16,
	.add_f16_rows = add_f16_rows,
	.gemv = {NULL, gemv_f16, gemv_bf16, gemv_q8_0, gemv_q4_0},
};

/* ---- the choice ---- */

static const quant_kernels *const all_kernels[] = {
#if defined(__x86_64__)
	&quant_avx512,
	&quant_avx2,
#endif
	&quant_portable,
};

const quant_kernels *const *
quant_all(int *count)
{
	*count = (int) (sizeof(all_kernels) / sizeof(all_kernels[0]));
	return all_kernels;
}

const quant_kernels *
quant_best(void)
{
	const quant_kernels *const *k = all_kernels;

	while (!(*k)->supported())
		k++;
	return *k;
}

/* ---- for all sets ---- */

size_t
quant_scratch_bytes(int64_t k)
{
	return QUANT_ROWS * 3 * (size_t) padded(k);
}

quant_rows
quant_prepare(const quant_kernels *kernels, weight_type t, const float *x, int64_t rows, int64_t k, void *scratch)
{
	int64_t width = padded(k);
	int8_t *q = scratch;
	int32_t *start = (void *) (q + rows * width);
	float *scale = (void *) (start + rows * width / 4);

	if (t == WEIGHT_F16 || t == WEIGHT_BF16)
		return (quant_rows) {rows, k, x, NULL, NULL, NULL};
	memset(scratch, 0, (size_t) (3 * rows * width));
	for (int64_t r = 0; r < rows; r++)
		for (int64_t i = 0; i < k; i += QUANT_BLOCK)
		{
			int64_t at = r * width + i;

			kernels->round_block(x + r * k + i, -quant_excess(t), q + at, start + at / 4, scale + at / 4);
		}
	return (quant_rows) {rows, k, x, q, start, scale};
}

void
weight_decode(weight_type t, const void *w, size_t begin, size_t count, float *x)
{
	const quant_kernels *kernels = quant_best();
	float block[QUANT_BLOCK] = {0};

	if (t == WEIGHT_F32)
		memcpy(x, (const float *) w + begin, count * sizeof(float));
	while (t != WEIGHT_F32 && count > 0)
	{
		size_t skip = begin % QUANT_BLOCK, whole = skip > 0 ? 0 : count / QUANT_BLOCK * QUANT_BLOCK;
		size_t part = whole > 0 ? whole : QUANT_BLOCK - skip < count ? QUANT_BLOCK - skip : count;
		const char *from = (const char *) w + weight_bytes(t, begin - skip);

		kernels->decode[t](from, whole > 0 ? (int64_t) whole : QUANT_BLOCK, whole > 0 ? x : block);
		if (whole == 0)
			memcpy(x, block + skip, part * sizeof(float));
		begin += part;
		x += part;
		count -= part;
	}
}
