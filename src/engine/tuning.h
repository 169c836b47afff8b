/*
 * tuning.h
 *	  Which part of a network is trained: all of it, or its last layers.
 *
 * Trained weights are the last ones: those from tuning_begin() on, so moments, averages and
 * checkpoints are blocks of that size.  What lies before is frozen and is recorded as
 * parameters without gradient; then the backward pass ends at the lowest trained layer, and
 * activations below are not kept for it.
 */
#ifndef LLMAPP_TUNING_H
#define LLMAPP_TUNING_H

#include "net.h"

typedef struct net_tuning
{
	const net *n;
	int32_t first; /* tensors before are frozen */
} net_tuning;

/* Checks what config says of fine-tuning; n must outlive the result. */
extern net_tuning *tuning_new(const net *n, const train_config *config, llm_error *err);
extern void tuning_free(net_tuning *t);

extern bool tuning_trains(const net_tuning *t, int32_t tensor);
/* Floats from the start of the weights: where trained ones begin and end, multiples of 16. */
extern size_t tuning_begin(const net_tuning *t);
extern size_t tuning_end(const net_tuning *t);

#endif /* LLMAPP_TUNING_H */
