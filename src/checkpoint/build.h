/*
 * build.h
 *	  A checkpoint while it is made: what the files of this folder hand to each other.
 */
#ifndef LLMAPP_CHECKPOINT_BUILD_H
#define LLMAPP_CHECKPOINT_BUILD_H

#include "checkpoint.h"
#include "family.h"

typedef struct builder
{
	checkpoint *c;
	const family *family;
	/* parsed; NULL: not there */
	const json_t *config, *generation_config, *modules, *pooling, *sentence_config, *params;
	const tensor_source *tensors;
	bool gguf; /* config was made of metadata */
	int32_t separator;
	int32_t positions, first_position; /* rows of the checkpoint's table of positions, and which is the first */
	int32_t type_rows;                 /* of its table of types of tokens */
	llm_error *err;
} builder;

/* Both are LLM_INVALID with the name of the value or tensor that is not supported. */

/* Everything of *c but net and recipes. */
extern bool config_read(builder *b);
/* recipes, of c->net. */
extern bool recipe_make(builder *b);

/* The configuration of a GGUF file in the words of config.json, owned by the caller. */
extern json_t *gguf_config(const checkpoint_metadata *m, const tensor_source *tensors, llm_error *err);

/* Is this one of the user's "ignore"? */
extern bool ignored_by_user(const builder *b, const char *name);

#endif /* LLMAPP_CHECKPOINT_BUILD_H */
