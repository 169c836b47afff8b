/*
 * tokenizer_source.h
 *	  What the readers of tokenizer files collect, before the block is built from it.
 *
 * Texts are not copied: they lie in the files, in parsed JSON that the source owns, or in memory
 * that it keeps.  Tokens come in any order and are known by their ids.
 */
#ifndef LLMAPP_TOKENIZER_SOURCE_H
#define LLMAPP_TOKENIZER_SOURCE_H

#include "../format/json.h"
#include "steps.h"
#include "tokenizer_build.h"
#include "tokenizer_file.h"

typedef struct source_token
{
	const char *text; /* NULL: no token has this id */
	uint32_t length;
	token_type type;
	uint8_t added;   /* enum added_flag */
	bool vocabulary; /* of the model, not only added */
	double score;
} source_token;

typedef struct source_merge
{
	const char *left, *right;
	uint32_t left_length, right_length;
} source_merge;

typedef struct source_step
{
	int kind; /* enum step_kind */
	const char *first, *second;
} source_step;

#define SOURCE_DOCUMENTS 8
#define SOURCE_FRAME_MAX 16 /* items of one frame */

typedef struct source_frame
{
	frame_item item[SOURCE_FRAME_MAX];
	int32_t count;
} source_frame;

typedef struct tokenizer_source
{
	tokenizer_options options;
	source_token *token;
	int32_t tokens; /* ids are below; some may have no token */
	int32_t capacity;
	size_t expected; /* about how many there will be, set by a reader before it adds any */
	source_merge *merge;
	int32_t merges;
	bool merge_by_score;
	source_step step[STEPS_MAX];
	int32_t steps;
	bool space_marks; /* a space is U+2581 by the time that a text is encoded */
	char *character_map;
	size_t character_map_bytes;
	source_frame one, two;
	int32_t special[SPECIAL_TOKENS];
	json_t *document[SOURCE_DOCUMENTS]; /* parsed files */
	int documents;
	const json_t *config; /* tokenizer_config.json, an empty object if there is none */
	char *kept;           /* other memory that texts lie in */
} tokenizer_source;

extern void source_free(tokenizer_source *s);

/* Parse a file, which the source keeps.  LLM_CORRUPT with its name. */
extern const json_t *source_parse(tokenizer_source *s, const char *name, file_bytes file, llm_error *err);

/* A token of the model. */
extern bool source_token_put(tokenizer_source *s, int64_t id, const char *text, size_t length, token_type type,
							 double score, llm_error *err);
/* A token that is cut out of text; one of the model with this id must have the same text. */
extern bool source_token_add(tokenizer_source *s, int64_t id, const char *text, size_t length, bool special,
							 uint8_t flags, llm_error *err);
/* Id of a text, or -1. */
extern int32_t source_find(const tokenizer_source *s, const char *text, size_t length);

/* Room for merges, which the caller sets. */
extern bool source_merges_reserve(tokenizer_source *s, size_t count, llm_error *err);
extern bool source_step_add(tokenizer_source *s, int kind, const char *first, const char *second, llm_error *err);
extern bool source_frame_add(source_frame *frame, int32_t id, int64_t type, llm_error *err);
/* Frames of tokens by their texts, NULL: none: first A last, and first A last middle B last with types. */
extern bool source_frame_around(tokenizer_source *s, const char *first, const char *middle, const char *last,
								bool typed, llm_error *err);

/* The block of tokenizer_open(). */
extern void *source_build(tokenizer_source *s, size_t *block_bytes, llm_error *err);

/* ---- the readers ---- */

extern bool tokenizer_json_read(tokenizer_source *s, const json_t *json, llm_error *err);
/* normalizer and pre_tokenizer of tokenizer.json: tokenizer_json_text.c */
extern bool tokenizer_json_text(tokenizer_source *s, const json_t *json, llm_error *err);
extern bool vocabulary_txt_read(tokenizer_source *s, file_bytes file, llm_error *err);
extern bool vocabulary_json_read(tokenizer_source *s, const json_t *vocabulary, file_bytes merges, llm_error *err);
extern bool sentencepiece_read(tokenizer_source *s, file_bytes file, llm_error *err);

/* ---- what they share ---- */

/* "the tokenizer has WHAT NAME, which is not supported" with a hint; false. */
extern bool source_unsupported(llm_error *err, const char *what, const char *name, const char *supported);
/* Is every key of the object one of these, of which the last is NULL?  LLM_INVALID naming the one that is not. */
extern bool source_keys(const json_t *object, const char *what, const char *const *known, llm_error *err);
/* A member that is a boolean, or absent or null: then `otherwise`.  LLM_CORRUPT for another type. */
extern bool source_bool(const json_t *object, const char *key, bool otherwise, bool *out, llm_error *err);
/* How a token that was added is found, from the object that describes it. */
extern bool source_added_flags(const json_t *object, uint8_t *flags, bool *special, llm_error *err);
/* tokenizer_class without "Fast" at its end, "" where there is none; false, with an error, for no string. */
extern bool source_class(const json_t *config, char *name, size_t size, llm_error *err);

#endif /* LLMAPP_TOKENIZER_SOURCE_H */
