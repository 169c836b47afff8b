/*
 * family.h
 *	  Families of checkpoints as rows of tables: which values of a configuration there are, and which
 *	  tensor of the network is which of the checkpoint.
 *
 * A name of ours is that of a tensor of the network without its last part, ".weight" or ".bias", which is
 * then that of theirs, too; or a whole name, for one whose parts differ.  * stands for the number of a
 * layer.  Theirs are alternatives "a|b", of which the first that is there counts, of parts "q+k+v", whose
 * rows follow each other.  A family's prefix comes before them, unless the checkpoint does without or the
 * name begins with ^.
 */
#ifndef LLMAPP_CHECKPOINT_FAMILY_H
#define LLMAPP_CHECKPOINT_FAMILY_H

#include <stddef.h>
#include <stdint.h>

#include "../engine/net.h"

typedef enum key_kind
{
	KEY_INTEGER, /* these five into transformer_config, at offset */
	KEY_NUMBER,
	KEY_FLAG,
	KEY_ACTIVATION,
	KEY_CAP,    /* as KEY_NUMBER, but null is 0 */
	KEY_ONLY,   /* has this value, as JSON, or null, or is not there */
	KEY_SPECIAL /* is read by code of its own */
} key_kind;

typedef struct config_key
{
	const char *name;
	key_kind kind;
	size_t offset;
	double fallback;  /* where it is not there or null; NAN: it must be */
	const char *only; /* JSON */
} config_key;

/* What rows of a tensor of ours are of theirs, beside the same. */
#define NAME_TRANSPOSED 1 /* those of the transpose, of weights */
#define NAME_BY_HEAD 2    /* queries, keys and values of a head beside each other */
#define NAME_NEIGHBOURS 4 /* of queries and keys: positions turn neighbours, and not halves of a head */
#define NAME_FREE_BIAS 8  /* the bias may be missing, and is 0 then */

typedef struct tensor_name
{
	const char *ours, *theirs;
	uint32_t flags;
} tensor_name;

/* What a task adds to a family: names, and how many hidden layers are before a classifier's outputs. */
typedef struct task_names
{
	const tensor_name *names;  /* ends with ours NULL; NULL: the family has no such task */
	int32_t hidden;            /* 0 or 1 */
	net_activation activation; /* behind it */
} task_names;

typedef struct family
{
	const char *model_type;   /* of config.json */
	const char *architecture; /* transformer_family() */
	const char *gguf;         /* general.architecture, or NULL */
	const char *class_name; /* how names of its classes begin; NULL: it is not written, as another one is the same */
	const char *language;   /* how that of its language model ends; with ^ it is that whole name */
	const config_key *keys; /* ends with name NULL */
	const char *inner;      /* object of the configuration that has those of the part that reads texts, or NULL */
	const char *prefix;     /* of names; alternatives "a|b" */
	const tensor_name *names; /* ends with ours NULL, as do the others */
	const tensor_name *gguf_names;
	task_names masked, classes, labels;
	const char *const *ignored; /* tensors that may be there, as patterns; ends with NULL */
	bool tied;                  /* unless the configuration says something else */
	bool qkv_bias;              /* flags of transformer_config that the architecture's do not say */
	bool qk_norm;
	bool rotary;
	bool embed_scale;
	bool added_norm;
	bool norms_plus_one;   /* gains of norms are kept less 1 */
	int32_t window_period; /* of layers with a window, unless the configuration says another one; 0: all are alike */
	float rope_theta, window_theta; /* those of files that do not say; 0: 10000, and layers have the same */
	int32_t wide_depth; /* layers of the size whose query_dim is width / heads, which GGUF files do not say */
	bool pad_positions; /* positions begin behind the id of padding */
	bool encoder_alone; /* of a family whose networks have a decoder, too: it embeds texts */
	text_pool pool;     /* of what stands for a text that is classified */
} family;

extern const family *family_find(const char *model_type);
extern const family *family_find_encoder(const char *model_type); /* NULL: it has no decoder that could be left out */
extern const family *family_find_gguf(const char *architecture);
/* The next one whose networks are of an architecture, behind `last` or, of NULL, the first; NULL: no more. */
extern const family *family_next(const char *architecture, const family *last);
extern const char *family_list(char *text, size_t size); /* of model types, for messages; text is returned */

/* Values of any configuration that do not change what a network computes, as patterns; ends with NULL. */
extern const char *const family_harmless[];

/* Does text match a pattern, where * stands for anything? */
extern bool pattern_matches(const char *pattern, const char *text);

#endif /* LLMAPP_CHECKPOINT_FAMILY_H */
