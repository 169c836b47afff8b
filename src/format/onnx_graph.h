/*
 * onnx_graph.h
 *	  The graph of an ONNX file as JSON: nodes, inputs and outputs, as onnx.h describes it.
 */
#ifndef LLMAPP_ONNX_GRAPH_H
#define LLMAPP_ONNX_GRAPH_H

#include "onnx_tensor.h"

/* The message GraphProto.  to->graph NULL: tensors alone. */
extern bool onnx_graph(wire *w, const field *message, const onnx_found *to);

#endif /* LLMAPP_ONNX_GRAPH_H */
