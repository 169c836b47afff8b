/*
 * tokenizer_write.h
 *	  A tokenizer as the files of other libraries: tokenizer.json, and the keys of a GGUF file.
 *
 * Ids of a text are those that it has here.  What a file cannot say is LLM_INVALID; the exception is what
 * SentencePiece does to white space, which is written as transformers writes it, and differs from it
 * in texts with spaces at their ends or in a row.
 */
#ifndef LLMAPP_TOKENIZER_WRITE_H
#define LLMAPP_TOKENIZER_WRITE_H

#include "../format/gguf_writer.h"
#include "../format/json.h"
#include "tokenizer.h"

/*
 * tokenizer.json, to be released with json_decref().  whole: the network reads texts as a whole, so that one without
 * a frame has SPECIAL_END behind it, see tokenizer_encode_input().  NULL: LLM_INVALID, LLM_MEMORY.
 */
extern json_t *tokenizer_to_json(const tokenizer *t, bool whole, llm_error *err);

/* tokenizer_config.json: the tokens that have a role, and the chat template, which may be NULL. */
extern json_t *tokenizer_to_config(const tokenizer *t, int32_t context, const char *chat_template, llm_error *err);

/* Keys tokenizer.ggml.*, for a network with `vocab` ids: what has no token is padded. */
extern bool tokenizer_to_gguf(const tokenizer *t, bool whole, int32_t vocab, gguf_writer *w, llm_error *err);

/* ---- what both forms share ---- */

/*
 * A token as files spell it, into *out: in the alphabet of bytes, with marks for spaces, a byte as <0x0A>; a name of
 * its own for one without a text, or with that of an earlier one.
 */
extern bool tokenizer_spelled(const tokenizer *t, int32_t id, text_buffer *out, llm_error *err);

typedef struct tokenizer_merge
{
	int32_t rank, left, right, id;
} tokenizer_merge;

/* Merges by their ranks, malloc'd; NULL: LLM_MEMORY. */
extern tokenizer_merge *tokenizer_merges(const tokenizer *t, int32_t *count, llm_error *err);

#endif /* LLMAPP_TOKENIZER_WRITE_H */
