/*
 * exchange.h
 *	  A network's tensors in the shapes and orders of other libraries.
 *
 * The engine keeps images as (height, width, channels) and convolutions as (kernel height,
 * kernel width, in, out).  PyTorch has images as (channels, height, width), convolutions as
 * (out, in, kernel height, kernel width) and linear layers as (out, in); so a linear layer
 * behind a flattened image reads the same numbers in another order.  TensorFlow has images and
 * convolutions as the engine and linear layers as (in, out).
 */
#ifndef LLMAPP_EXCHANGE_H
#define LLMAPP_EXCHANGE_H

#include "net.h"

typedef enum tensor_order
{
	ORDER_PYTORCH,
	ORDER_TENSORFLOW
} tensor_order;

/* A network seen by another library; valid as long as the network. */
typedef struct exchange
{
	const net *n;
	tensor_order order;
	/* By layer: the layer whose flattening or joining put its numbers into another order, -1 for none. */
	int32_t reordered[NET_MAX_LAYERS + 1];
} exchange;

/* LLM_INVALID where a layer would need its inputs in the other library's order. */
extern bool exchange_init(exchange *x, const net *n, tensor_order order, llm_error *err);

/* The usual name of tensor i: the network's own, but "running_var" as PyTorch has it. */
#define EXCHANGE_NAME_BYTES 64
extern const char *exchange_name(const net *n, int32_t i, char name[EXCHANGE_NAME_BYTES]);

/* Shape of tensor i there; returns the number of dimensions, 1 .. 4. */
extern int32_t exchange_shape(const exchange *x, int32_t i, int64_t dims[4]);

/*
 * Copy tensor i, net_tensor(n, i)->count numbers, from the other library's order to the
 * engine's or back.  poll may be NULL.  LLM_CANCELLED, LLM_MEMORY.
 */
extern bool exchange_read(const exchange *x, int32_t i, const float *outside, float *inside, llm_poll poll, void *arg,
						  llm_error *err);
extern bool exchange_write(const exchange *x, int32_t i, const float *inside, float *outside, llm_poll poll,
						   void *arg, llm_error *err);

#endif /* LLMAPP_EXCHANGE_H */
