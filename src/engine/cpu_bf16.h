/*
 * cpu_bf16.h
 *	  Linear layers whose products are of numbers rounded to bf16.
 */
#ifndef LLMAPP_CPU_BF16_H
#define LLMAPP_CPU_BF16_H

#include "cpu_step.h"

/* Have a linear layer's step, prepared otherwise, multiply rounded numbers. */
extern void prepare_linear_bf16(step *s, const graph *g, const node *n);
extern void prepare_linear_dx_bf16(step *s, const graph *g, const node *n);
extern void prepare_linear_dw_bf16(step *s, const graph *g, const node *n);

#endif /* LLMAPP_CPU_BF16_H */
