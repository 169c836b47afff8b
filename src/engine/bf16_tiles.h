/*
 * bf16_tiles.h
 *	  Products of bfloat16 on tiles (AMX), many times as fast as float32.
 *
 * A sum starts at its bias and goes along k by two at a time, so a row depends on none beside it.
 */
#ifndef LLMAPP_BF16_TILES_H
#define LLMAPP_BF16_TILES_H

#include <stdbool.h>
#include <stdint.h>

/* By this CPU and kernel; the first call asks the kernel to let this process use tiles. */
extern bool tiles_supported(void);
/* dots_bf16() of bf16.h */
extern void tiles_bf16(const uint16_t *x, int64_t rows, int64_t k, const uint16_t *w, const float *bias, float *y,
					   int64_t ldy, int64_t n, void *panel);

#endif /* LLMAPP_BF16_TILES_H */
