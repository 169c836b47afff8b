/*
 * checkpoint.h
 *	  Public checkpoints as networks: what a directory of Hugging Face's libraries or the metadata of a
 *	  GGUF file say about the network, and how each of its tensors is made of the checkpoint's.
 *
 * Use: checkpoint_new() or checkpoint_new_gguf(); for a classifier, a target of `labels` and
 * checkpoint_set_classes(); then checkpoint_read() for each tensor of net_tensor(), rows at a time.
 *
 * All or nothing: a value of the configuration that changes what the network computes and is not known,
 * a tensor that is missing, left over or of another shape is an error that names it; parameter
 * "ignore" says which of them do not matter.  Numbers are what the transformers library computes with,
 * in float32.  Families are rows of a table (family.c); what is read and refused of each is in
 * docs/reference.md.
 */
#ifndef LLMAPP_CHECKPOINT_H
#define LLMAPP_CHECKPOINT_H

#include "../engine/net.h"
#include "../format/json.h"
#include "../format/tensor_source.h"

#define CHECKPOINT_MAX_ENDS 16
#define CHECKPOINT_FOLDER_BYTES 64

/* A file of JSON; text NULL: there is none. */
typedef struct checkpoint_text
{
	const char *text;
	size_t length;
} checkpoint_text;

typedef struct checkpoint_files
{
	checkpoint_text config;            /* config.json */
	checkpoint_text generation_config; /* generation_config.json */
	/*
	 * Of sentence-transformers: modules.json, 1_Pooling/config.json, sentence_bert_config.json,
	 * config_sentence_transformers.json
	 */
	checkpoint_text modules, pooling, sentence_config, settings;
	checkpoint_text dense[NET_MAX_DENSE]; /* config.json of checkpoint_dense_folders() */
	/*
	 * Of the tokenizer, between the two texts of a pair, as [SEP]; -1: it has none.  What is behind it in a
	 * row has the second type of tokens, where the network has types.
	 */
	int32_t separator;
} checkpoint_files;

typedef struct checkpoint_folders
{
	int32_t count;
	char name[NET_MAX_DENSE][CHECKPOINT_FOLDER_BYTES];
} checkpoint_folders;

/*
 * Folders of the modules Dense in modules.json, each of one name.  checkpoint_new() reads their tensors as those of
 * its source that have the name of their folder and a slash before their own.
 */
extern bool checkpoint_dense_folders(const checkpoint_text *modules, checkpoint_folders *out, llm_error *err);
/* What stands behind the folder and the slash in the name of a tensor; NULL: it is of another folder, or of none. */
extern const char *checkpoint_name_in(const char *folder, const char *name);

/* Metadata of a GGUF file; false or NULL where there is no such key or it is of another type. */
typedef struct checkpoint_metadata
{
	bool (*number)(void *arg, const char *key, double *out); /* any integer, float or bool */
	const char *(*string)(void *arg, const char *key);
	bool (*has)(void *arg, const char *key); /* of any type */
	void *arg;
} checkpoint_metadata;

/*
 * Rows of one tensor of the network, from rows of one of the checkpoint: row to + i, for i in [0, rows),
 * is factor * (row from + i * step) + shift, added to what earlier pieces made where `add`.  Rows are those of
 * the first dimension; of a vector, its numbers.  What no piece makes is 0.
 */
typedef struct checkpoint_piece
{
	int32_t source; /* number in tensor_source.tensors */
	int64_t from, step;
	int64_t to, rows;
	bool transpose; /* rows are those of the transposed tensor: Conv1D holds (inputs, outputs) */
	bool add;
	float factor, shift;
} checkpoint_piece;

typedef struct checkpoint_recipe
{
	int32_t count;
	checkpoint_piece *pieces;
} checkpoint_recipe;

typedef struct checkpoint
{
	const char *family;       /* as transformers calls it: "gpt2", "llama", "qwen3", "bert", ... */
	const char *architecture; /* of the manifest: gpt, llama, bert, t5 */
	/*
	 * Of the manifest: generation, masked_lm, embedding, classification or regression; or
	 * token_classification, of each token, where net_config.text.labels is the number of labels.
	 */
	const char *task;
	net_config config; /* pool is that of the checkpoint */
	net *net;
	bool normalised; /* an embedding is divided by its length */
	bool sigmoid;    /* of a network with one number: scores are its sigmoid */
	/* Of classes, in the order of the checkpoint's outputs; NULL: none. */
	int32_t label_count;
	char **labels;
	int32_t max_tokens; /* of a text with special tokens, what the checkpoint was made for; <= context */
	/* Ids of tokens, -1: none. */
	int32_t end_count;
	int32_t ends[CHECKPOINT_MAX_ENDS]; /* of which each ends a text */
	int32_t begin, pad, decoder_start;

	const tensor_source *source;
	checkpoint_recipe *recipes; /* (net_tensor_count()) */
} checkpoint;

/*
 * files and params are read and not kept; tensors must stay.  params, NULL or an object:
 *	"task"     in place of that of the configuration: a head that is not needed is left out
 *	"context"  most tokens, at most that of the checkpoint: learned positions behind are left out
 *	"pool"     "mean", "first" or "last", of embeddings
 *	"ignore"   names of values of the configuration and of tensors that do not matter, * for any part
 * other members are the caller's.  NULL: LLM_INVALID for what is not supported, LLM_CORRUPT for what
 * contradicts itself, LLM_MEMORY.
 */
extern checkpoint *checkpoint_new(const checkpoint_files *files, const tensor_source *tensors, const json_t *params,
								  llm_error *err);
/* The same from a GGUF file; separator as in checkpoint_files. */
extern checkpoint *checkpoint_new_gguf(const checkpoint_metadata *metadata, const tensor_source *tensors,
									   int32_t separator, const json_t *params, llm_error *err);
extern void checkpoint_free(checkpoint *c); /* c may be NULL */

/*
 * Outputs of a classifier in another order: class i of a target is labels[order[i]], (label_count).  Of two
 * labels the network has one output, the difference of both: how much more likely class 1 is.
 */
extern void checkpoint_set_classes(checkpoint *c, const int32_t *order);

/*
 * Rows first .. first + count - 1 of tensor i of the network, row-major float32.  Reads what it needs of the
 * checkpoint in pieces of some MiB; rows of a transposed tensor read all of it, so take many at a time.
 * LLM_CANCELLED, or as tensor_source_read() fails.
 */
extern bool checkpoint_read(const checkpoint *c, int32_t i, int64_t first, int64_t count, float *out, llm_poll poll,
							void *arg, llm_error *err);
/* All tensors, each at its place: net_weight_bytes(), zero before. */
extern bool checkpoint_read_all(const checkpoint *c, float *weights, llm_poll poll, void *arg, llm_error *err);

/*
 * Is this mean loss of tokens of a plain text, as generator_score() gives it, what a language model has that
 * was read right?  LLM_CORRUPT for one that is not below that of guessing, or is no number.
 */
extern bool checkpoint_judge(const checkpoint *c, double loss, llm_error *err);

#endif /* LLMAPP_CHECKPOINT_H */
