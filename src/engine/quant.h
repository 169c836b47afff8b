/*
 * quant.h
 *	  Weights in fewer bits than float32: types, rows encoded and decoded, and products that read them as they are.
 *
 * q8_0 and q4_0 are blocks of 32 numbers of a row, as GGML has them: a scale d in f16, then 32 signed bytes q, each
 * q d; or 16 bytes whose low halves are the first 16 numbers and whose high halves the others, each (q - 8) d.  Rows
 * of all types but f32 are a multiple of 32 numbers long.  Numbers are little-endian.
 *
 * A set of kernels computes a row of a product alone, in one order, so its numbers depend neither on the rows beside
 * it nor on where the weights are cut.
 */
#ifndef LLMAPP_QUANT_H
#define LLMAPP_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum weight_type
{
	WEIGHT_F32,
	WEIGHT_F16,
	WEIGHT_BF16,
	WEIGHT_Q8_0,
	WEIGHT_Q4_0
} weight_type;

#define WEIGHT_TYPES (WEIGHT_Q4_0 + 1)
#define QUANT_BLOCK 32
#define QUANT_ROWS 8 /* most rows of a product by gemv */

extern const char *weight_type_name(weight_type t); /* "f32", "f16", "bf16", "q8_0", "q4_0" */
extern bool weight_type_parse(const char *name, weight_type *t);
extern size_t weight_bytes(weight_type t, size_t count); /* of whole blocks */

/* All of the numbers are finite and not too large for the type; float32 takes all. */
extern bool weight_fits(weight_type t, const float *x, size_t count);
/*
 * `count` numbers, whole blocks.  False, with nothing written, unless they fit.  Rounding is to nearest; of several scales of a q4_0 block the one with the least
 * squared error is taken.
 */
extern bool weight_encode(weight_type t, const float *x, size_t count, void *out);

/* Numbers in f16, to nearest even; beyond its range infinite. */
extern uint16_t f16_of(float x);
extern float f16_value(uint16_t h);

/* Rows that are to be multiplied, in the form that kernels for a type read. */
typedef struct quant_rows
{
	int64_t rows, k; /* at most QUANT_ROWS */
	const float *x;  /* (rows, k) */
	/* for q8_0 and q4_0: rounded to signed bytes by block, k up to a multiple of 64 with zeros behind */
	const int8_t *q; /* (rows, k) */
	const int32_t
		*start;         /* (rows, k / 4): sums of four of them times what stored numbers are too large by, negative */
	const float *scale; /* (rows, k / 4): of a block eight times */
} quant_rows;

/* What kernels that multiply bytes without a sign take those of a block to be too large by. */
static inline int32_t
quant_excess(weight_type t)
{
	return t == WEIGHT_Q8_0 ? 128 : 8;
}

/* Bytes of memory that quant_prepare() needs for rows of k numbers; 64-byte aligned. */
extern size_t quant_scratch_bytes(int64_t k);

typedef struct quant_kernels
{
	const char *name;
	bool (*supported)(void);
	/* `count` numbers, whole blocks, the same by every set; of f32 none is needed */
	void (*decode[WEIGHT_TYPES])(const void *w, int64_t count, float *x);
	/* one block: q = x / d to nearest, d the largest absolute value / 127; sums of four q times factor; d eight times */
	void (*round_block)(const float *x, int32_t factor, int8_t *q, int32_t *start, float *scale);
	/* of n numbers, a multiple of 32: into f16; and y = or += the sum of p[i] x[i] over rows of x in f16 */
	void (*to_f16)(const float *x, int64_t n, uint16_t *h);
	void (*add_f16_rows)(const uint16_t *x, const float *p, int64_t rows, bool accumulate, float *y, int64_t n);
	/* y[r ldy + j] = bias[j] + x[r] . w[j] of n rows of w, x prepared for the type; bias may be NULL */
	void (*gemv[WEIGHT_TYPES])(const quant_rows *x, const void *w, const float *bias, float *y, int64_t ldy,
							   int64_t n);
} quant_kernels;

extern const quant_kernels quant_portable;
#if defined(__x86_64__)
extern const quant_kernels quant_avx2;
extern const quant_kernels quant_avx512;
#endif

/* All sets in this build, fastest first; those not supported on this CPU included. */
extern const quant_kernels *const *quant_all(int *count);
extern const quant_kernels *quant_best(void);

/* x (rows, k) for products with weights of the type. */
extern quant_rows quant_prepare(const quant_kernels *kernels, weight_type t, const float *x, int64_t rows, int64_t k,
								void *scratch);

/* Numbers begin .. begin + count of a tensor of any type, which need not be whole blocks. */
extern void weight_decode(weight_type t, const void *w, size_t begin, size_t count, float *x);

#endif /* LLMAPP_QUANT_H */
