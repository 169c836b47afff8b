/*
 * onnx.h
 *	  Read the weights of an ONNX file: the initializers of its graph.
 *
 * Source: onnx/onnx.proto of github.com/onnx/onnx, and "Encoding" in the documentation of Protocol
 * Buffers.  Operators are passed over, so are weights in them; numbers in files of their own are
 * refused.
 */
#ifndef LLMAPP_ONNX_H
#define LLMAPP_ONNX_H

#include "tensor_source.h"

#define ONNX_NAME_MAX 1024 /* bytes of a tensor's name */

/*
 * Add the initializers of a file of `size` bytes to a source whose reader is set.  Numbers are passed
 * over, so little is read of a large file.  Integers are SOURCE_OTHER, so are numbers that are not
 * kept as such one behind the other.  LLM_INVALID for what cannot be an ONNX file, LLM_CORRUPT,
 * LLM_MEMORY, or what the reader fails with; the source is to be cleared then.
 */
extern bool onnx_source(tensor_source *s, int32_t file, uint64_t size, llm_error *err);

#endif /* LLMAPP_ONNX_H */
