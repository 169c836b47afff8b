/*
 * tensor_wire.h
 *	  Binary form of a tensor on the network and in COPY BINARY.
 *
 * All big-endian: int16 rank, int16 flags (0), int32 length of each dimension, then the
 * elements as IEEE float.  What is read is checked as strictly as text.
 */
#ifndef LLMAPP_TENSOR_WIRE_H
#define LLMAPP_TENSOR_WIRE_H

#include <stddef.h>

#include "tensor_shape.h"

/* Bytes of a tensor with checked shape. */
extern size_t tensor_wire_size(int32_t ndim, int32_t count);

/* Shape of a message of `length` bytes, which must be exactly one tensor. */
extern tensor_status tensor_wire_shape(const uint8_t *bytes, size_t length, int32_t *ndim,
									   int32_t dims[TENSOR_MAX_DIMS], int32_t *count);
/* Elements of a message that tensor_wire_shape() accepted. */
extern tensor_status tensor_wire_values(const uint8_t *bytes, int32_t ndim, int32_t count, float *values);

/* Writes tensor_wire_size() bytes. */
extern void tensor_wire_write(int32_t ndim, const int32_t *dims, const float *values, int32_t count, uint8_t *bytes);

#endif /* LLMAPP_TENSOR_WIRE_H */
