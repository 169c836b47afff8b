/*
 * onnx_tensor.h
 *	  One tensor of an ONNX file, wherever it stands in it.
 */
#ifndef LLMAPP_ONNX_TENSOR_H
#define LLMAPP_ONNX_TENSOR_H

#include "json.h"
#include "onnx_wire.h"

#define ONNX_NAME_MAX 1024   /* bytes of a tensor's name */
#define ONNX_INTEGERS_MAX 64 /* of a tensor of integers that is kept as such */

/* Where what is found goes. */
typedef struct onnx_found
{
	tensor_source *source;
	json_t *graph; /* see onnx.h; NULL: not wanted */
} onnx_found;

/* A TensorProto, under this name instead of its own unless it is NULL. */
extern bool onnx_tensor(wire *w, const field *message, const char *name, const onnx_found *to);

#endif /* LLMAPP_ONNX_TENSOR_H */
