/*
 * tuning.h
 *	  Which part of a network is trained: all of it, its last layers, or adapters of low rank.
 *
 * An adapter (Hu et al., "LoRA: low-rank adaptation of large language models", 2021) adds to a
 * linear layer y = x W^T + b what its two matrices make: alpha / rank (x A^T) B^T, with A (rank,
 * inputs) random and B (outputs, rank) zero at first.  Merged, it is W + alpha / rank B A.
 *
 * The numbers of adapters lie behind the network's weights; together they are the parameters.
 * Trained ones are the last of them: those from tuning_begin() on, so moments, averages and
 * checkpoints are blocks of that size.  What lies before is frozen and is recorded as
 * parameters without gradient; then the backward pass ends at the lowest trained layer, and
 * activations below are not kept for it.
 */
#ifndef LLMAPP_TUNING_H
#define LLMAPP_TUNING_H

#include "graph.h"
#include "pool.h"
#include "simd.h"

#define LORA_RANK_MAX 1024

typedef struct net_tuning net_tuning;

/* Checks what config says of fine-tuning; n must outlive the result. */
extern net_tuning *tuning_new(const net *n, const train_config *config, llm_error *err);
extern void tuning_free(net_tuning *t);

/* Floats from the start of the parameters: where trained ones begin and end, multiples of 16. */
extern size_t tuning_begin(const net_tuning *t);
extern size_t tuning_end(const net_tuning *t);
/* The directory of the adapters, A and B in turn, with offsets from the end of the network's weights; or NULL. */
extern const net *tuning_adapters(const net_tuning *t);

/* For recording.  Slots of adapters follow those of the network. */
extern bool tuning_trains(const net_tuning *t, int32_t tensor); /* of the network */
extern size_t tuning_offset(const net_tuning *t, int32_t slot); /* from the start of the parameters */
extern int32_t tuning_slots(const net_tuning *t);
/* y = x W^T + b and what the adapter of the tensor W adds, if it has one. */
extern int32_t tuning_record(const net_tuning *t, graph *g, int32_t weight, int32_t x, int32_t y);

/* For values; adapters points to their numbers. */
extern bool tuning_initialise(const net_tuning *t, uint64_t seed, float *adapters, pool *p, llm_poll poll,
							  void *poll_arg);
extern void tuning_clear(const net_tuning *t, float *adapters); /* they add nothing */
/* Add what adapters do to the weights of the network: the same bytes on every machine, as lora_add() gives them. */
extern void tuning_merge(const net_tuning *t, const float *adapters, float *weights, const simd_kernels *simd,
						 pool *p);

/* For one row or a part of it: y (n) = x + scale b a, with b (rank) of the row and a (rank, inputs) at its first column. */
extern float lora_scale(float alpha, int32_t rank);
extern void lora_add(const simd_kernels *simd, const float *x, float scale, const float *b, int64_t rank,
					 const float *a, int64_t inputs, float *y, int64_t n);

#endif /* LLMAPP_TUNING_H */
