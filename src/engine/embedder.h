/*
 * embedder.h
 *	  Embeddings of whole texts on a GPU: what generator_embed_many() computes on the CPU.
 *
 * Tokens of many texts go through the network end to end, without padding, in one pass.
 */
#ifndef LLMAPP_EMBEDDER_H
#define LLMAPP_EMBEDDER_H

#include "net.h"

typedef struct embedder embedder;

/* Bytes on the device, without scratch of its operations. */
extern bool embedder_device_memory(const net *n, int32_t texts, int32_t tokens, size_t *bytes, llm_error *err);
/*
 * For passes of up to so many texts with so many tokens in all.  weights: net_kept_bytes() bytes, which are decoded
 * to float32 on their way to the device and not needed afterwards; n and the device are, as long as the embedder.
 * LLM_INVALID for a network that reads no texts.
 */
extern embedder *embedder_new(const net *n, const void *weights, text_pool pool, int32_t texts, int32_t tokens,
							  struct cuda_device *device, llm_error *err);
extern void embedder_free(embedder *e); /* e may be NULL */
extern void embedder_set_poll(embedder *e, llm_poll poll, void *arg);
extern size_t embedder_device_bytes(const embedder *e); /* with that scratch */
/*
 * counts[i] tokens of the i-th text, laid end to end in ids: out (count, net_embedding_width()).  LLM_INVALID for
 * more than there is room for, an empty text, one that is longer than the context, or an id out of range; LLM_CANCELLED.
 */
extern bool embedder_run(embedder *e, const int32_t *counts, int32_t count, const int32_t *ids, float *out,
						 llm_error *err);

#endif /* LLMAPP_EMBEDDER_H */
