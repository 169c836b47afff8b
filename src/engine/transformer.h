/*
 * transformer.h
 *	  Transformers: their families and their parameters; transformer_record.h has the forward pass.
 *
 * GPT-2 (Radford et al., "Language models are unsupervised multitask learners", 2019), Llama
 * (Touvron et al., 2023), BERT (Devlin et al., 2018) and T5 (Raffel et al., 2019) are rows of one
 * table of flags; what they share is recorded by the same code.  What attention and feed-forward
 * layer make is added to the stream; norms come before them or after the addition.  BERT's types of
 * tokens follow from a separator between the texts of a pair; that of a single text can be added to
 * its positions.
 */
#ifndef LLMAPP_TRANSFORMER_H
#define LLMAPP_TRANSFORMER_H

#include "net_record.h"

/* LLM_INVALID or LLM_MEMORY with a message that names the setting. */
extern bool transformer_check(const net_config *c, llm_error *err);
/* Append the tensors of the checked configuration to n. */
extern bool transformer_layout(net *n, llm_error *err);

/* Parameters of one layer by their numbers; TENSOR_NONE: the layer has none. */
typedef struct transformer_layer
{
	int32_t attn_norm[2]; /* weight, bias */
	int32_t qkv[2];       /* ((heads + 2 kv_heads) head_dim, width): queries, keys, values */
	int32_t q_norm, k_norm;
	int32_t out[2];        /* (width, heads head_dim) */
	int32_t attn_added[2]; /* norm of what is added to the stream */
	/* behind an encoder */
	int32_t cross_norm[2];
	int32_t cross_q[2];  /* (heads head_dim, width) */
	int32_t cross_kv[2]; /* (2 kv_heads head_dim, width), of the encoder's stream: keys, values */
	int32_t cross_out[2];
	int32_t ffn_norm[2];
	int32_t up[2]; /* (ffn, width), gated (2 ffn, width): gates first */
	int32_t down[2];
	int32_t ffn_added[2]; /* as attn_added */
} transformer_layer;

typedef struct transformer_stack
{
	int32_t depth;
	transformer_layer layers[TRANSFORMER_MAX_DEPTH];
	int32_t norm[2];  /* behind the last layer; post_norm: behind embeddings */
	int32_t relative; /* (buckets, heads), for all layers */
} transformer_stack;

typedef struct transformer_tensors
{
	int32_t embed;                           /* (vocab, width) */
	int32_t position;                        /* (context, width) */
	int32_t types;                           /* (types, width) */
	transformer_stack encoder;               /* depth 0: there is none */
	transformer_stack stack;                 /* what makes logits; a decoder when there is an encoder */
	int32_t head;                            /* (transformer_outputs(), width); that of embed when tied */
	int32_t transform[2], transform_norm[2]; /* head_transform: (width, width) */
	int32_t head_bias;                       /* (transformer_outputs()) */
} transformer_tensors;

/* Numbers of tensors, in the order in which transformer_layout() appends them. */
extern void transformer_tensors_of(const transformer_config *c, transformer_tensors *t);

/* Heads of a layer and how they attend, by whether it has the window; those of an encoder are not causal. */
extern attention_shape transformer_attention(const transformer_config *c, bool window);
extern rotary_shape transformer_rotary(const transformer_config *c, bool window);
/* What of it the GPU backend has no steps for, for a message; NULL: nothing. */
extern const char *transformer_beyond_gpu(const transformer_config *c);

static inline bool
transformer_has_window(const transformer_config *c, int32_t layer)
{
	return c->window > 0 && (c->window_period == 0 || (layer + 1) % c->window_period != 0);
}

/* Of so many layers that follow each other the last one has no window; 1: none has one. */
static inline int32_t
transformer_period(const transformer_config *c)
{
	return c->window == 0 ? 1 : c->window_period > 0 ? c->window_period : c->depth + 1;
}

/* Of the logits of a language model. */
static inline float
transformer_logit_cap(const transformer_config *c)
{
	return c->labels > 0 ? 0 : c->logit_cap;
}

/* Numbers that the head makes of a token. */
static inline int32_t
transformer_outputs(const transformer_config *c)
{
	return c->labels > 0 ? c->labels : c->vocab;
}

#endif /* LLMAPP_TRANSFORMER_H */
