/*
 * adapter.h
 *	  A version that is kept apart from its base: which tensors it stores, and how the others are made.
 *
 * The manifest of such a version describes network and weights whole, as that of any other.  Its member
 * "adapter" says what is stored instead of these bytes:
 *
 *	{ "base": name, "version": n, "base_sha256": "hex" of that version's weights, "rank": r, "alpha": x,
 *	  "adapted": [names of tensors], "own": [names], "bytes": n, "sha256": "hex" of what is stored }
 *
 * Of an adapted tensor W two matrices are stored, A (rank, inputs) and B (outputs, rank): it is the
 * base's W + alpha / rank B A.  Own tensors are stored as they are.  All others, and the tokenizer, are
 * those of the base.  What is stored lies in the order of the network's tensors, each matrix padded with
 * zeros to a multiple of 16 floats.
 */
#ifndef LLMAPP_ADAPTER_H
#define LLMAPP_ADAPTER_H

#include "../engine/net.h"
#include "../format/json.h"

typedef enum tensor_origin
{
	ORIGIN_BASE,
	ORIGIN_ADAPTED,
	ORIGIN_OWN
} tensor_origin;

typedef struct tensor_place
{
	tensor_origin origin;
	size_t stored; /* floats from the start of what is stored: its numbers, or those of A */
	size_t b;      /* the same of B */
} tensor_place;

typedef struct adapter
{
	const net *n;         /* must outlive this */
	tensor_place *places; /* one per tensor */
	char *base;           /* name that it had, for messages */
	int32_t version;      /* of the base */
	char base_sha256[65];
	int32_t rank; /* 0: nothing is adapted */
	float alpha;
	size_t bytes; /* stored */
	char sha256[65];
} adapter;

/*
 * What is to be stored of a network that was trained from a base, whose weights are as net_encode() makes them:
 * matrices is trainer_adapters(), or NULL.
 * Names, version and checksums are left to the caller.  NULL: LLM_MEMORY.
 */
extern adapter *adapter_new(const net *n, const float *weights, const net *base, const void *base_weights,
							const net *matrices, int32_t rank, float alpha, llm_error *err);
extern void adapter_free(adapter *a);
/* Fill `stored`, a->bytes of them. */
extern void adapter_store(const adapter *a, const float *weights, const net *matrices, const float *numbers,
						  float *stored);

extern bool adapter_set_base(adapter *a, const char *name, int32_t version, const char *sha256, llm_error *err);
extern json_t *adapter_json(const adapter *a);
/* NULL: LLM_CORRUPT or LLM_MEMORY. */
extern adapter *adapter_from_json(const json_t *json, const net *n, llm_error *err);

/* The weights of the network, made of both parts, which must outlive this. */
typedef struct adapter_view adapter_view;

/* NULL: LLM_CORRUPT when the base lacks a tensor, or LLM_MEMORY. */
extern adapter_view *adapter_open(const adapter *a, const float *stored, const net *base, const void *base_weights,
								  llm_error *err);
extern void adapter_close(adapter_view *v);
/* `count` floats of the network's weights, from a position on. */
extern void adapter_read(const adapter_view *v, size_t begin, size_t count, float *out);

#endif /* LLMAPP_ADAPTER_H */
