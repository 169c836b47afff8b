/*
 * net_layers.h
 *	  A network as a list of layers, each with the shape of what it reads and makes.
 */
#ifndef LLMAPP_NET_LAYERS_H
#define LLMAPP_NET_LAYERS_H

#include "net.h"

/* Of one row: (height, width, channels), or (channels) when vector. */
typedef struct layer_shape
{
	bool vector;
	int64_t height, width, channels; /* a vector's height and width are 1 */
} layer_shape;

typedef struct layer_plan
{
	net_layer layer;
	layer_shape shape;      /* of what it makes */
	int64_t inputs;         /* numbers it reads, of the first layer it reads */
	int64_t channels;       /* of those */
	int32_t readers;        /* layers that read it */
	bool bag;               /* linear: reads the bag, too */
	double multiplications; /* for one row, about */
} layer_plan;

/*
 * The layers of a checked configuration, with the output layer as the last.  plan has room
 * for NET_MAX_LAYERS + 1.  Returns how many, 0 on failure: LLM_INVALID where layers do
 * not fit each other, LLM_MEMORY where they are too large.
 */
extern int32_t layers_plan(const net_config *config, layer_plan *plan, llm_error *err);

#endif /* LLMAPP_NET_LAYERS_H */
