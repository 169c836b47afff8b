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

/*
 * Gelu in the steps of older graphs: x / sqrt(2), Erf, + 1, * x, * 0.5.  Is one of the inputs such a step?  Then the
 * node takes the next one, the last of which makes the layer.
 */
extern bool is_gelu_step(const translator *t);
extern bool translate_gelu_step(translator *t);
/* What input 0 of an activation makes goes through this function. */
extern bool put_activation(translator *t, made v, const char *function);

/* Those of weights, windows, norms and sums, activations, and those that change shapes alone; NULL names end them. */
extern const onnx_op onnx_layer_ops[], onnx_activation_ops[], onnx_shape_ops[];

#endif /* LLMAPP_ONNX_OPS_H */
