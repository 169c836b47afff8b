/*
 * decoder_steps.h
 *	  A pass of tokens on a GPU: the arrays that it uses, and its steps; for decoder_cuda.c.
 */
#ifndef LLMAPP_DECODER_STEPS_H
#define LLMAPP_DECODER_STEPS_H

#include "cuda.h"
#include "decoder.h"
#include "transformer.h"

/* Device memory; tokens and texts are those of the shape. */
typedef struct decoder_arrays
{
	char *weights;       /* as they are kept */
	char *keys, *values; /* (depth, pages, kv heads, DECODER_PAGE, head_dim), in f16 or float32 */
	float *angles;       /* (context, turned) */
	float *stream;       /* (tokens, width) */
	float *normed;       /* (tokens, width) */
	float *stats;        /* (tokens, 2), of norms */
	float *qkv;          /* (tokens, (heads + 2 kv heads) head_dim) */
	float *attended;     /* (tokens, heads head_dim) */
	float *up;           /* (tokens, ffn), gated (tokens, 2 ffn) */
	float *gated;        /* (tokens, ffn) */
	float *last;         /* (texts, width), of which logits are wanted */
	float *logits;       /* (texts, vocab) */
	char *panel;         /* weights decoded for a product */
	int64_t panel_bytes; /* or 0 */
	int32_t *id;         /* (tokens) */
	int32_t *position;   /* (tokens), of each in its text */
	int32_t *first;      /* (tokens), where the pages of its text begin */
	int32_t *wanted;     /* (texts), rows of the stream */
	int32_t *pages;      /* of one text behind those of another */
	bool half;           /* keys and values are f16 */
} decoder_arrays;

/* malloc'd, for programs of any buckets within the shape; NULL on failure. */
extern llmapp_cuda_step *decoder_steps(const llmapp_cuda_api *api, const net *n, const decoder_shape *s,
									   const decoder_arrays *a, int32_t *count, llm_error *err);

#endif /* LLMAPP_DECODER_STEPS_H */
