/*
 * onnx_network.h
 *	  The graph of an ONNX file as layers, and which numbers of the file are which of theirs.
 *
 * Read are graphs of one input and one output that layers.h has words for; a table in onnx_network.c lists the
 * operations.  Rows are computed each for itself, so the first dimension, of any size, is that of the batch.
 * All or nothing: a node, an attribute or an initializer that cannot be taken over is an error that names it.
 * Numbers are what ONNX Runtime computes, in float32.
 */
#ifndef LLMAPP_ONNX_NETWORK_H
#define LLMAPP_ONNX_NETWORK_H

#include "../engine/net.h"
#include "../format/json.h"
#include "../format/tensor_source.h"

/* Of a layer's tensors. */
typedef enum layer_part
{
	PART_WEIGHT,
	PART_BIAS,
	PART_MEAN,
	PART_VARIANCE,
	LAYER_PARTS
} layer_part;

/* Numbers of one tensor in PyTorch's order: number i is scale * (number i / repeat of the file) + shift. */
typedef struct onnx_part
{
	const source_tensor *from; /* NULL: all are shift, but for what follows */
	double scale, shift;
	int64_t repeat;  /* 1 or more */
	int64_t columns; /* 0, or those of the matrix in the file, which is turned */
	bool identity;   /* 1 where row and column are equal, 0 elsewhere; from is NULL */
} onnx_part;

typedef struct onnx_network
{
	json_t *layers; /* as layers.h has them, the last one makes the outputs */
	int32_t ndim;   /* of the input: 1, or 3 for (channels, height, width) */
	int64_t dims[3];
	const char *task; /* "classification", "regression" */
	onnx_part parts[NET_MAX_LAYERS][LAYER_PARTS];
} onnx_network;

/*
 * graph: of onnx_source(); source, sorted, is used as long as the network.  task: what the user says, NULL when the
 * graph decides: classification behind a softmax or where `classes`, otherwise regression.  NULL: LLM_INVALID with
 * the node, LLM_CORRUPT, LLM_MEMORY.
 */
extern onnx_network *onnx_network_new(const json_t *graph, const tensor_source *source, const char *task,
									  bool classes, llm_error *err);
extern void onnx_network_free(onnx_network *n);

/*
 * All `count` numbers of a part of a layer, in PyTorch's order.  LLM_INVALID where they are not finite, or a variance
 * is negative; LLM_MEMORY, or what the reader of the source fails with.
 */
extern bool onnx_network_read(const onnx_network *n, const tensor_source *source, int32_t layer, layer_part part,
							  size_t count, float *out, llm_error *err);

#endif /* LLMAPP_ONNX_NETWORK_H */
