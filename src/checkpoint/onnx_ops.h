/*
 * onnx_ops.h
 *	  The operations of ONNX that layers have.
 */
#ifndef LLMAPP_ONNX_OPS_H
#define LLMAPP_ONNX_OPS_H

#include "onnx_values.h"

typedef struct onnx_op
{
	const char *name, *attributes; /* those that are known, "a, b" */
	bool (*translate)(translator *t);
} onnx_op;

/* Those of weights, windows, norms and activations, and those that change shapes alone; NULL names end them. */
extern const onnx_op onnx_layer_ops[], onnx_shape_ops[];

#endif /* LLMAPP_ONNX_OPS_H */
