/*
 * tensor_wire.c
 *	  Read and write the binary form of a tensor.
 */
#include "tensor_wire.h"

#include <string.h>

#define WIRE_HEADER 4 /* rank and flags */

static uint16_t
read_u16(const uint8_t *bytes)
{
	return (uint16_t) (bytes[0] << 8 | bytes[1]);
}

static uint32_t
read_u32(const uint8_t *bytes)
{
	return (uint32_t) bytes[0] << 24 | (uint32_t) bytes[1] << 16 | (uint32_t) bytes[2] << 8 | bytes[3];
}

static void
write_u16(uint8_t *bytes, uint16_t value)
{
	bytes[0] = (uint8_t) (value >> 8);
	bytes[1] = (uint8_t) value;
}

static void
write_u32(uint8_t *bytes, uint32_t value)
{
	write_u16(bytes, (uint16_t) (value >> 16));
	write_u16(bytes + 2, (uint16_t) value);
}

size_t
tensor_wire_size(int32_t ndim, int32_t count)
{
	return WIRE_HEADER + 4 * (size_t) ndim + 4 * (size_t) count;
}

tensor_status
tensor_wire_shape(const uint8_t *bytes, size_t length, int32_t *ndim, int32_t dims[TENSOR_MAX_DIMS], int32_t *count)
{
	tensor_status status;

	if (length < WIRE_HEADER)
		return TENSOR_BAD_LENGTH;
	*ndim = (int16_t) read_u16(bytes);
	if (read_u16(bytes + 2) != 0)
		return TENSOR_BAD_FLAGS;
	if (*ndim < 1)
		return TENSOR_NO_DIMS;
	if (*ndim > TENSOR_MAX_DIMS)
		return TENSOR_TOO_DEEP;
	if (length < tensor_wire_size(*ndim, 0))
		return TENSOR_BAD_LENGTH;
	for (int32_t i = 0; i < *ndim; i++)
		dims[i] = (int32_t) read_u32(bytes + WIRE_HEADER + 4 * i);
	status = tensor_count(*ndim, dims, count);
	if (status != TENSOR_OK)
		return status;
	return length == tensor_wire_size(*ndim, *count) ? TENSOR_OK : TENSOR_BAD_LENGTH;
}

tensor_status
tensor_wire_values(const uint8_t *bytes, int32_t ndim, int32_t count, float *values)
{
	bytes += tensor_wire_size(ndim, 0);
	for (int32_t i = 0; i < count; i++)
	{
		uint32_t bits = read_u32(bytes + 4 * (size_t) i);

		memcpy(&values[i], &bits, sizeof(bits));
	}
	return tensor_check_finite(values, count);
}

void
tensor_wire_write(int32_t ndim, const int32_t *dims, const float *values, int32_t count, uint8_t *bytes)
{
	write_u16(bytes, (uint16_t) ndim);
	write_u16(bytes + 2, 0);
	bytes += WIRE_HEADER;
	for (int32_t i = 0; i < ndim; i++, bytes += 4)
		write_u32(bytes, (uint32_t) dims[i]);
	for (int32_t i = 0; i < count; i++, bytes += 4)
	{
		uint32_t bits;

		memcpy(&bits, &values[i], sizeof(bits));
		write_u32(bytes, bits);
	}
}
