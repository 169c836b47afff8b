/*
 * onnx.h
 *	  Read an ONNX file: the weights of its graph, and the graph.
 *
 * Source: onnx/onnx.proto of github.com/onnx/onnx.  Numbers in files of their own are refused.
 */
#ifndef LLMAPP_ONNX_H
#define LLMAPP_ONNX_H

#include "json.h"
#include "tensor_source.h"

#define ONNX_HEAD_BYTES 8

/* May a file with these first bytes be one?  No safetensors and no GGUF file begins with them. */
extern bool onnx_begins(const uint8_t head[ONNX_HEAD_BYTES]);

/*
 * Add the initializers of a file of `size` bytes, and the tensors of its nodes Constant under the names of
 * their outputs, to a source whose reader is set.  Numbers are passed over, so little is read of a large
 * file.  Integers are SOURCE_OTHER, so are numbers that are not kept as such one behind the other.
 *
 * graph, an empty object, gets what the file says of its graph; NULL: that is passed over.
 *	"opset"     version of the operations, 0 when the file does not say
 *	"inputs"    [{"name", "type": number of TensorProto.DataType, 0: no tensor, "dims": [number, -1 for one that
 *	            is open, ...]}], without "dims" when there are none; initializers may be among them
 *	"outputs"   [name, ...]
 *	"nodes"     [{"name", "op", "inputs": [name, "" for none, ...], "outputs": the same, "attributes":
 *	            {name: integer, real, string, array of integers; null: of another kind}}, ...]; "domain"
 *	            is there when it is not ONNX's own
 *	"integers"  {name: [...]}: values of small tensors of integers and booleans
 *
 * LLM_INVALID for what cannot be an ONNX file, LLM_CORRUPT, LLM_MEMORY, or what the reader fails with; the
 * source is to be cleared then.
 */
extern bool onnx_source(tensor_source *s, int32_t file, uint64_t size, json_t *graph, llm_error *err);

#endif /* LLMAPP_ONNX_H */
