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
	const json_t *config, *generation_config, *modules, *pooling, *sentence_config, *settings, *params;
	const json_t *dense[NET_MAX_DENSE];
	checkpoint_folders folders; /* theirs */
	const tensor_source *tensors;
	bool gguf; /* config was made of metadata */
	int32_t separator;
	int32_t positions, first_position; /* rows of the checkpoint's table of positions, and which is the first */
	int32_t type_rows;                 /* of its table of types of tokens */
	llm_error *err;
} builder;

/* All are LLM_INVALID with the name of the value or tensor that is not supported. */

/* Family, and the transformer without its head. */
extern bool config_read(builder *b);
/* The values of the part of a network that reads texts, and those beside it, where files have them apart; else NULL. */
extern json_t *config_inner(const json_t *config);
/* Everything else of *c but net and recipes. */
extern bool task_read(builder *b);
/* What the network is for, by the user's word, its modules or its class; NULL: nobody says it. */
extern const char *task_wanted(const builder *b);
/* recipes, of c->net. */
extern bool recipe_make(builder *b);

/* The class of module i of a sentence transformer, without the package; NULL: there is none. */
extern const char *module_class(const json_t *modules, size_t i);
/* The next module Dense, behind those that config has. */
extern bool dense_read(builder *b);
/* The name of a tensor of dense layer i, kind ".weight" or ".bias"; false: there is no room for it. */
extern bool dense_tensor(const builder *b, int32_t i, const char *kind, char *name, size_t size);
extern bool dense_is_tensor(const builder *b, const char *name); /* of one of the folders */

/* The configuration of a GGUF file in the words of config.json, owned by the caller. */
extern json_t *gguf_config(const checkpoint_metadata *m, const tensor_source *tensors, llm_error *err);

/* ---- the way back ---- */

/* Tensors that a checkpoint of b->family has for the network, with names and shapes alone, into *out. */
extern bool recipe_names(builder *b, const net *n, tensor_source *out);
/* How the name of a class for a task ends; NULL: no class has it. */
extern const char *task_class(const char *task);
/* The configuration of module Dense i; NULL: none says its activation. */
extern json_t *dense_json(const net_config *config, int32_t i);
/* Metadata of a GGUF file for the network: keys that gguf_config() reads. */
extern json_t *gguf_values(const family *f, const transformer_config *text);

/* ---- values: null is as if there were none ---- */

extern const json_t *value_get(const json_t *object, const char *name);      /* NULL: none */
extern bool value_refuse(builder *b, const char *name, const json_t *value); /* fails; always false */
/* False when there is one of another type or out of range. */
extern bool value_integer(builder *b, const json_t *object, const char *name, int64_t low, int64_t high,
						  int32_t fallback, int32_t *out);
extern bool value_number(builder *b, const json_t *object, const char *name, double fallback,
						 double *out); /* in [0, 1e9] */
extern bool value_flag(builder *b, const json_t *object, const char *name, bool fallback, bool *out);
extern bool value_activation(builder *b, const char *name, net_activation *out); /* of config; else *out stays */
extern bool value_find_activation(const char *name, net_activation *out);        /* name may be NULL */
extern const char *value_activation_name(net_activation activation);             /* NULL: there is none */
extern json_t *value_json(float number);

/* What YaRN multiplies cosines and sines by where nothing else is said. */
extern double yarn_attention(double factor, double scale);

/* Is this one of the user's "ignore"? */
extern bool ignored_by_user(const builder *b, const char *name);

#endif /* LLMAPP_CHECKPOINT_BUILD_H */
