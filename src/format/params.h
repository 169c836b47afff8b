/*
 * params.h
 *	  The settings of a training: one table that validates them, resolves defaults and
 *	  describes them to llm_params() and the documentation.
 *
 * The JSON comes from a user: unknown keys, wrong types and values out of range are
 * LLM_INVALID with the nearest key or the legal range.  Plain C, no PostgreSQL.
 */
#ifndef LLMAPP_PARAMS_H
#define LLMAPP_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "../engine/error.h"
#include "../engine/net.h"
#include "architecture.h"
#include "json.h"

#define PARAMS_MAX_FOLDS NET_MAX_MEMBERS /* each is a member of the network that is published */
#define PARAMS_AUTO_FOLDS 5

typedef enum param_type
{
	PARAM_INTEGER,
	PARAM_NUMBER,
	PARAM_BOOLEAN,
	PARAM_STRING,
	PARAM_INTEGERS,
	PARAM_NAMES,
	PARAM_ANY /* several JSON types are legal; the row's description says which */
} param_type;

/* One row of the table (params.def). */
typedef struct param_info
{
	const char *name;
	param_type type;
	const char *fallback;    /* JSON text of the default; "null" means chosen from the data */
	double minimum, maximum; /* of numbers, and of the elements of lists */
	const char *choices;     /* legal strings, separated by '|', or NULL */
	uint32_t architectures;  /* ARCH_ bits of those for which it has a meaning */
	const char *description;
} param_info;

typedef enum param_source
{
	SOURCE_DEFAULT,
	SOURCE_USER,
	SOURCE_AUTO,
	SOURCE_SEARCH
} param_source;

/* Resolved settings.  Fields stand in the order of params.def. */
typedef struct train_params
{
	const architecture_info *architecture;
	/* the run */
	int64_t epochs; /* >= 1 */
	int64_t steps;  /* 0 = by epochs */
	int64_t batch_size;
	double learning_rate;
	train_optimizer optimizer;
	double momentum;
	train_schedule schedule;
	double warmup; /* fraction of all steps */
	double weight_decay;
	double clip_norm;
	double dropout;
	double label_smoothing;
	double ema_decay;
	train_precision precision;
	uint64_t seed;
	double max_seconds;      /* 0 = no limit */
	double checkpoint_every; /* seconds; < 0: llmapp.checkpoint_interval */
	/* the data */
	double validation;       /* fraction, 0 = none, when validation_column is NULL */
	char *validation_column; /* boolean column of the source, true = held out */
	char *time_column;       /* the last fraction by this column is held out */
	int32_t folds;           /* 0 or >= 2; 0 while it is open */
	char *group_column;      /* rows of one value are held out together, or NULL */
	bool deduplicate;
	int32_t trials;
	json_t *ranges;         /* key -> range, or NULL: nothing is searched.  Fields of these keys hold defaults */
	int32_t early_stopping; /* epochs without improvement, 0 = off */
	bool class_weight_balanced;
	json_t *class_weight; /* object label -> weight, or NULL */
	char *weight_column;  /* row weights, or NULL */
	char **exclude;       /* columns not to use */
	int32_t exclude_count;
	int32_t one_hot_max;
	int32_t embed_dim;
	int32_t text_buckets;
	/* the network */
	int32_t hidden[NET_MAX_HIDDEN];
	int32_t hidden_count;
	net_activation activation;
	bool layer_norm;
	bool residual;
	json_t *layers;        /* of ARCH_LAYERS, valid by itself; otherwise NULL */
	char *image_column;    /* or NULL */
	image_augment augment; /* shift -1: not chosen yet */
	/* a transformer; 0: not chosen yet */
	int32_t depth, heads, kv_heads, ffn_dim, context, vocab_size;
	char *tokenizer;      /* bpe, characters or bytes */
	char *text_column;    /* or NULL */
	char *prompt_column;  /* or NULL */
	int32_t train_layers; /* 0: all */
	int32_t lora_rank;    /* 0: none */
	double lora_alpha;
	uint32_t lora_targets; /* LORA_ bits */
	bool lora_merge;
	int32_t source_context; /* 0: not chosen yet */
	bool ngrams;
	text_pool pool;
	bool loss_given; /* false: by task */
	net_loss loss;
	double huber_delta;
	int64_t micro_batch;  /* rows of a pass; 0: by memory */
	bool recompute_given; /* false: by memory */
	bool recompute;
	weight_type weights; /* that a version keeps */
	char *deploy;        /* if_better, always, never */

	param_source *sources; /* one per row of the table */
	json_t *resolved;      /* object key -> value, complete */
} train_params;

extern const param_info *params_table(int32_t *count); /* of all architectures */
/* Row of the table that has a meaning for one of these architectures, or -1. */
extern int32_t params_index(const char *name, uint32_t architectures);
/* Where the setting of this name came from; it has a meaning for p. */
extern param_source *params_source(const train_params *p, const char *key);

/* Check and resolve.  json is an object, length bytes of UTF-8.  NULL on error. */
extern train_params *params_resolve(const char *architecture, const char *json, size_t length, llm_error *err);
/*
 * Choose folds for an mlp when the user named no way of holding rows out, and rows are few, but enough.
 * possible: a caller may know that folds cannot be drawn.
 */
extern void params_choose_folds(train_params *p, int64_t rows, bool possible);
/* Choose what the user left open and depends on the number of training rows; after the folds. */
extern void params_choose(train_params *p, int64_t training_rows);
/* Note what memory decided: the rows of a pass, and whether layers are computed again. */
extern void params_choose_memory(train_params *p, int64_t rows, bool recompute);
/*
 * What depends on the size of the texts, in bytes before the tokenizer is made; and on the number of
 * tokens to learn from afterwards.
 */
extern void params_choose_vocabulary(train_params *p, int64_t bytes);
extern void params_choose_transformer(train_params *p, int64_t tokens);
/* Before it, what depends on the most tokens of a sample, and of its source, but for the longest hundredth. */
extern void params_choose_context(train_params *p, int32_t longest, int32_t longest_source);
/*
 * The same for a network on rows with a text: rows to learn from, most tokens of all but the longest
 * hundredth, and whether it starts from a base.
 */
extern void params_choose_text(train_params *p, int64_t rows, int32_t longest, bool tuned);
/* The same for what depends on the size of the image: channels, height, width. */
extern void params_choose_image(train_params *p, const int32_t image[3]);
/*
 * The settings of one trial (from 0) of a search, after params_choose(): those in ranges are
 * drawn, or in trial 0 as they are in p where that lies in the range.  NULL: LLM_MEMORY.
 */
extern train_params *params_trial(const train_params *p, int32_t trial, llm_error *err);
/* {"key": value, ...} of what a trial drew. */
extern json_t *params_drawn(const train_params *p);
extern void params_free(train_params *p);

/* {"key": {"value": ..., "source": "user"}, ...}: what llmapp.model_settings shows. */
extern json_t *params_json(const train_params *p);

#endif /* LLMAPP_PARAMS_H */
