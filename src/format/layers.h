/*
 * layers.h
 *	  A network's layers as users and manifests write them: a JSON array of objects, each
 *	  {"type": ..., ...}.
 *
 *	type              keys (those without a default are required)
 *	linear            width, bias = true
 *	conv2d            channels, kernel, stride = 1, padding = (kernel - 1) / 2, bias = true
 *	max_pool          kernel = 2, stride = kernel, padding = 0
 *	avg_pool          the same
 *	group_norm        groups
 *	activation        function
 *	dropout           rate
 *	global_avg_pool, batch_norm, layer_norm, flatten
 *	add, concat       inputs: two
 *
 * kernel, stride and padding are a number, or [height, width].  Every layer may have a
 * name, and all but add and concat an input: the name or number (from 1) of an earlier
 * layer, "image" or "columns"; without it, the layer before, and for the first the image
 * when there is one.  A linear layer for the output follows the last by itself.
 */
#ifndef LLMAPP_LAYERS_H
#define LLMAPP_LAYERS_H

#include "../engine/net.h"
#include "json.h"

/*
 * Set layers and layer_count of config, which has its image already.  LLM_INVALID with the
 * layer, the key and what is legal; whether shapes fit is for net_new() to say.
 */
extern bool layers_from_json(const json_t *layers, net_config *config, llm_error *err);
/* Of layers that are valid: does any of them need an image? */
extern bool layers_read_image(const json_t *layers);
/* The same with every key; NULL when out of memory. */
extern json_t *layers_json(const net_config *config);

#endif /* LLMAPP_LAYERS_H */
