/*
 * transformer.h
 *	  Decoder transformers: their parameters and their forward pass.
 *
 * GPT-2 (Radford et al., "Language models are unsupervised multitask learners", 2019) and
 * Llama (Touvron et al., 2023) are rows of one table of flags; what they share is recorded by
 * the same code.  Norms come before attention and feed-forward layer, whose outputs are
 * added to the stream.
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
	int32_t out[2]; /* (width, heads head_dim) */
	int32_t ffn_norm[2];
	int32_t up[2]; /* (ffn, width), gated (2 ffn, width): gates first */
	int32_t down[2];
} transformer_layer;

typedef struct transformer_tensors
{
	int32_t embed;    /* (vocab, width) */
	int32_t position; /* (context, width) */
	int32_t norm[2];
	int32_t head; /* (vocab, width); that of embed when tied */
	transformer_layer layers[TRANSFORMER_MAX_DEPTH];
} transformer_tensors;

/* Numbers of tensors, in the order in which transformer_layout() appends them. */
extern void transformer_tensors_of(const transformer_config *c, transformer_tensors *t);

/* What the recorder reads and makes. */
typedef struct transformer_graph
{
	graph *g;
	const net *n;
	const net_tuning *tuning; /* NULL: all is trained */
	int32_t token, start;     /* inputs */
	bool training;
	int64_t dropouts; /* so far */
} transformer_graph;

/* The stream behind the last norm, (tokens, width); *head: the tensor that makes logits of it. */
extern int32_t transformer_record(transformer_graph *t, int32_t *head);

/* Heads and how they attend. */
extern attention_shape transformer_attention(const transformer_config *c);

#endif /* LLMAPP_TRANSFORMER_H */
