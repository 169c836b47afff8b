/*
 * cpu_attention.h
 *	  Attention of one row of a batch, on pointers: for the operations and for generation.
 *
 * Every head of queries reads the keys and values of its group: heads / kv_heads heads share
 * one.  out = softmax(cap(scale q k^T) + bias) v without a matrix of all scores: keys are read in
 * blocks while the maximum and the sum of the softmax are carried along (Dao et al.,
 * FlashAttention), and the gradient makes the probabilities again from their logarithm.
 */
#ifndef LLMAPP_CPU_ATTENTION_H
#define LLMAPP_CPU_ATTENTION_H

#include "graph.h"
#include "simd.h"

#define ATTENTION_PAGE 64

/* Addresses are those of the row's first token, head 0. */
typedef struct attention_row
{
	int64_t queries, keys; /* tokens; causal: the last query sees all keys */
	const float *q, *k, *v;
	/* or keys and values in f16, for the result alone: of one head of a multiple of 32 numbers, kv_step == head_dim */
	const uint16_t *k_f16, *v_f16;
	const quant_kernels *quant; /* for those */
	int64_t q_step, kv_step;    /* floats from token to token */
	/* or keys and values in pages of ATTENTION_PAGE tokens, page_step numbers apart: which, in order of tokens; forward */
	const int32_t *pages;
	int64_t page_step;
	const float *bias; /* (buckets, heads), or NULL */
	float *out;        /* (queries, heads head_dim) */
	float *log_sum;    /* (queries, heads): logarithms of the softmax's sums */
	/* of the gradient */
	const float *dout; /* as out */
	float *dq, *dk, *dv;
	int64_t dq_step, dkv_step;
	float *dbias;                     /* (buckets, heads) = this row's part, or NULL */
	bool accumulate_q, accumulate_kv; /* dq; dk and dv: += */
} attention_row;

/* One head of queries. */
extern void attention_forward(const simd_kernels *simd, const attention_shape *s, const attention_row *r,
							  int32_t head);
/* The heads of queries that read kv_head: they share its gradient.  Others are not touched. */
extern void attention_backward(const simd_kernels *simd, const attention_shape *s, const attention_row *r,
							   int32_t kv_head);
/*
 * Cosines, then sines, by which queries and keys of positions from the first on are turned (Su et al., RoFormer):
 * (positions, dim), of no more than ATTENTION_MAX_DIM.
 */
extern void rotary_angles(const rotary_shape *r, int64_t first, int64_t positions, float *angles);
/* Bucket of a relative position, key - query (Raffel et al., T5); below buckets. */
extern int32_t relative_bucket(const attention_shape *s, int64_t distance);

#endif /* LLMAPP_CPU_ATTENTION_H */
