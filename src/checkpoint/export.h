/*
 * export.h
 *	  A network as a checkpoint of a family: its configuration, its tensors, and what rows of theirs are of ours.
 *
 * What is to be written is read back before anything is: the configuration must make the same network, and
 * the recipes of its tensors, turned around, say what they hold.  So there is one set of tables (family.c)
 * for both ways.
 */
#ifndef LLMAPP_CHECKPOINT_EXPORT_H
#define LLMAPP_CHECKPOINT_EXPORT_H

#include "checkpoint.h"

typedef struct export_request
{
	const net *net;
	const char *architecture, *task; /* of the manifest */
	const char *const *labels;       /* of classes, or of tokens, (label_count) */
	int32_t label_count;
	int32_t separator, begin, pad; /* ids of tokens, -1: none */
	const int32_t *ends;           /* of which each ends a text, ascending, (end_count) */
	int32_t end_count;
	int32_t start; /* token before the first one that is generated, of a network with an encoder; -1: none */
	/* Of the tokenizer, which is one of the ends in a GGUF file; -1: none. */
	int32_t end;
	bool sigmoid; /* of a network with one number: a score is its sigmoid */
	bool gguf;
} export_request;

typedef struct checkpoint_export
{
	const char *family;
	json_t *config;  /* config.json, or keys and values of a GGUF file, owned */
	json_t *modules; /* of sentence-transformers for an embedding, and 1_Pooling/config.json; else NULL */
	json_t *pooling;
	checkpoint_folders
		folders; /* of modules Dense, with their config.json; the names of their tensors begin with them */
	json_t *dense[NET_MAX_DENSE];
	tensor_source source;    /* the checkpoint's tensors by name, with their shapes and no files */
	checkpoint *checkpoint;  /* what reading all this makes */
	int32_t *owner;          /* (source.count): tensor of the network whose numbers it holds; -1: zeros */
	const export_request *r; /* the caller's */
} checkpoint_export;

/*
 * The n-th family of the architecture, from 0: what a checkpoint of it would be.  Its network may still be another
 * one: compare checkpoint->config.  NULL: LLM_INVALID for what the family does not have, LLM_MEMORY; or, with
 * err->code LLM_OK, for no such family.
 */
extern checkpoint_export *checkpoint_export_new(const export_request *r, int32_t n, llm_error *err);
extern void checkpoint_export_free(checkpoint_export *e); /* e may be NULL */

/* Numbers of a tensor of the network: whole blocks of its type. */
typedef void (*export_reader)(void *arg, int32_t tensor, size_t begin, size_t count, float *out);

/* Is the tensor the transpose of the network's? */
extern bool checkpoint_export_transposed(const checkpoint_export *e, int32_t i);
/* The row of the network's tensor that is row `row` of tensor i, one that is not transposed; -1: zeros. */
extern int64_t checkpoint_export_row(const checkpoint_export *e, int32_t i, int64_t row, const checkpoint_piece **p);
/*
 * Rows of tensor i of the checkpoint, as float32.  Of a transposed one first is a multiple of 32, and count, too,
 * but for the last rows.
 */
extern void checkpoint_export_read(const checkpoint_export *e, int32_t i, int64_t first, int64_t count,
								   export_reader read, void *arg, float *out);
/* Does a checkpoint have the numbers of a tensor of the network?  Others must be 0. */
extern bool checkpoint_export_has(const checkpoint_export *e, int32_t tensor);

#endif /* LLMAPP_CHECKPOINT_EXPORT_H */
