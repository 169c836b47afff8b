/*
 * transformer_json.h
 *	  The configuration of a transformer to JSON and back: member "transformer" of "network".
 */
#ifndef LLMAPP_TRANSFORMER_JSON_H
#define LLMAPP_TRANSFORMER_JSON_H

#include "../engine/net.h"
#include "../format/json.h"

extern json_t *transformer_json(const transformer_config *c);
/* LLM_CORRUPT; whether sizes fit each other is for net_new() to say. */
extern bool transformer_from_json(const json_t *o, transformer_config *c, llm_error *err);

#endif /* LLMAPP_TRANSFORMER_JSON_H */
