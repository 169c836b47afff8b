/*
 * manifest.h
 *	  A model version's manifest: the JSON that says what the weights mean.
 *
 * The owner of a model table can write any bytes into it, so manifest_parse() believes
 * nothing: the network is laid out from the configuration, and the tensor directory
 * must be exactly that layout.
 *
 *	{ "format": 1, "architecture": a name of architecture_table(), "task": "classification", "regression",
 *	  "generation", "masked_lm", "token_classification" or "embedding",
 *	  "network": {...}, "columns": <encoder>, "target": <target>,
 *	  "tensors": [{"name", "dtype": "f32", or of matrices of a network on tokens alone "f16", "bf16", "q8_0" or
 *	  "q4_0", "shape": [..], "offset"}], (offset in bytes, of tensors one behind the other)
 *	  "weights": {"bytes": n, "tokenizer": n, "sha256": "hex"}, (bytes in all, and the last ones of them that are
 *	  a tokenizer, of transformers)
 *	  "settings": {key: {"value", "source"}}, "metrics": <evaluation>,
 *	  "findings": [...], "lineage": {"query", "rows", "training_rows", "validation_rows", "fingerprint",
 *	  "seed", "device", "extension_version", "job", "trained_at"},
 *	  "chat_template": of a language model, how messages become its prompt, if that is known (text/template.h),
 *	  "tokens": {"ends": [ids], "start": id, "labels": [names]}, where they are not as training has them,
 *	  "score": "sigmoid" or absent: what becomes of the one number of a pair of texts when they are ranked,
 *	  "adapter": {...} of a version that is kept apart from its base, see adapter.h }
 */
#ifndef LLMAPP_MANIFEST_H
#define LLMAPP_MANIFEST_H

#include <stddef.h>

#include "../engine/net.h"
#include "../feature/feature.h"
#include "../format/json.h"
#include "adapter.h"

#define MANIFEST_FORMAT 1
#define MANIFEST_ENDS_MAX 16

typedef struct manifest
{
	json_t *json;             /* all of it */
	const char *architecture; /* these two point into json */
	const char *task; /* classification, regression, generation, masked_lm, token_classification or embedding */
	const char *chat_template; /* into json, too; NULL: there is none */
	const json_t *labels;      /* strings, of tokens; NULL: the network has none */
	int32_t end_count;         /* tokens that end a text beside the tokenizer's SPECIAL_END */
	int32_t ends[MANIFEST_ENDS_MAX];
	bool sigmoid;  /* what llm_rerank() says of a pair is the sigmoid of the network's number */
	int32_t start; /* of a network with an encoder: token before the first of a text; -1: SPECIAL_END */
	net *net;      /* with the types that tensors are kept in */
	encoder *encoder;
	target *target;
	size_t weight_bytes;    /* == net_kept_bytes(net) + tokenizer_bytes */
	size_t tokenizer_bytes; /* behind the network's; 0 without a transformer */
	char sha256[65];        /* of all of them, hex */
	adapter *adapter;       /* what is stored instead of them; NULL: they are */
} manifest;

/* NULL: LLM_CORRUPT or LLM_MEMORY. */
extern manifest *manifest_parse(const char *text, size_t length, llm_error *err);
extern void manifest_free(manifest *m);

/* What the rows of the version hold, and its checksum: the weights, unless it is kept apart from its base. */
extern size_t manifest_stored_bytes(const manifest *m);
extern const char *manifest_stored_sha256(const manifest *m);

/*
 * A new manifest for weights, and the tokenizer behind them, with this checksum.  settings, metrics, findings and
 * lineage are taken over (stolen).  The caller owns the result.
 */
extern json_t *manifest_build(const char *architecture, const char *task, const net *n, const encoder *e,
							  const target *t, size_t tokenizer_bytes, const char *sha256, json_t *settings,
							  json_t *metrics, json_t *findings, json_t *lineage);

/*
 * Make it that of the same network kept in other types, with the tokenizer behind it, as a whole: members "tensors",
 * "weights" and "adapter".
 */
extern void manifest_keep(json_t *manifest, const net *n, size_t tokenizer_bytes, const char *sha256);

/* The "network" member alone, both ways. */
extern json_t *network_json(const net_config *config);
extern bool network_from_json(const json_t *json, net_config *config, llm_error *err);

#endif /* LLMAPP_MANIFEST_H */
