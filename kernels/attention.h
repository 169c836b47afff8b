/*
 * attention.h
 *	  What the float32 and the bf16 kernels of attention share: where queries, keys and values lie, and
 *	  which tiles of which rows there are.
 *
 * Rows of a batch lie end to end and differ in length from run to run, so a small kernel lists the
 * tiles of rows; grids have a block for each tile that the bucket can hold, and those beyond the list
 * end at once.
 */
#ifndef LLMAPP_CUDA_ATTENTION_H
#define LLMAPP_CUDA_ATTENTION_H

#include "device.h"

#define ATTENTION_MAX_DIM 256

typedef struct attention_args
{
	int heads, kv_heads, n; /* n: of a head */
	int causal, buckets, distance;
	float scale;
	const int32_t *start, *kv_start; /* (rows + 1) */
	const float *q, *k, *v;          /* of token 0, head 0 */
	int64_t q_step, kv_step;         /* floats from token to token */
	const float *bias;               /* (buckets, heads) or NULL */
	float *out, *log_sum;            /* (tokens, heads n), (tokens, heads) */
	/* of the gradient */
	const float *dout, *delta; /* delta (tokens, heads): sum of dout out */
	float *dq, *dk, *dv;
	float *dbias; /* (rows, buckets heads) or NULL */
	int accumulate_q, accumulate_kv;
} attention_args;

/* `size` queries, or keys, of a row from `first` on, counted in the row. */
typedef struct attention_tile
{
	int32_t row, first;
} attention_tile;

/* tiles[0].row: how many follow. */
static __device__ inline bool
tile_at(const attention_tile *tiles, int64_t i, attention_tile *tile)
{
	if (i >= tiles[0].row)
		return false;
	*tile = tiles[1 + i];
	return true;
}

extern int64_t most_tiles(int64_t tokens, int64_t rows, int size);
extern attention_tile *list_tiles(launch *l, const int32_t *start, int64_t tokens, int size);

/* attention_bf16.cu: whether heads of this size have such a kernel, and the kernels. */
extern bool attention_bf16_fits(const llmapp_cuda_step *s);
extern void attention_bf16(launch *l, const attention_args *a, int64_t tokens);
extern void attention_bf16_grad(launch *l, const attention_args *a, int64_t tokens, int64_t kv_tokens);

/* Bucket of a relative position, key - query, below buckets: relative_bucket() of cpu_attention.c. */
static __device__ inline int
relative_bucket(int causal, int all, int most, int64_t distance)
{
	int buckets = causal ? all : all / 2, first = !causal && distance > 0 ? buckets : 0, exact = buckets / 2, far;
	int64_t n = causal ? (distance < 0 ? -distance : 0) : distance < 0 ? -distance : distance;

	if (n < exact)
		return first + (int) n;
	far = exact + (int) (logf((float) n / exact) / logf((float) most / exact) * (buckets - exact));
	return first + (far < buckets ? far : buckets - 1);
}

#endif /* LLMAPP_CUDA_ATTENTION_H */
