/*
 * quant_panels.h
 *	  Products of many rows with weights in blocks by bytes, on CPUs that add products of four bytes at once.
 *
 * As for few rows, x is rounded to signed bytes block by block and sums of bytes are whole numbers; but bytes stand for
 * what is between the smallest and the largest number of a block, so that activations, most of which are on one side of
 * 0, lose half as much.  A row depends on none beside it.
 */
#ifndef LLMAPP_QUANT_PANELS_H
#define LLMAPP_QUANT_PANELS_H

#include "quant.h"

#define QUANT_PANEL_BYTES 1280 /* of a block of each of 32 rows of weights */

/* A block of a row of x. */
typedef struct quant_block
{
	int8_t q[QUANT_BLOCK]; /* (x - middle) / scale, to nearest */
	int32_t start;         /* their sum times what stored numbers are too large by, negative */
	float middle, scale;   /* of the smallest and the largest number; what is between them / 254 */
} quant_block;

extern bool panels_supported(weight_type t); /* by this CPU */
/* `count` numbers of x, whole blocks, for weights of the type. */
extern void panels_round(weight_type t, const float *x, int64_t count, quant_block *out);
/*
 * y[r ldy + j] = bias[j] + x[r] . w[j]: rows of x and n rows of w, each of k numbers; bias may be NULL.  `panel` is
 * memory of k / QUANT_BLOCK times QUANT_PANEL_BYTES, 64-byte aligned.
 */
extern void panels_multiply(weight_type t, const quant_block *x, int64_t rows, int64_t k, const void *w,
							const float *bias, float *y, int64_t ldy, int64_t n, void *panel);

#endif /* LLMAPP_QUANT_PANELS_H */
