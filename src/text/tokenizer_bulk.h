/*
 * tokenizer_bulk.h
 *	  Many texts, or long ones, to tokens by several threads.
 *
 * The tokens and their order are those of one thread.
 */
#ifndef LLMAPP_TOKENIZER_BULK_H
#define LLMAPP_TOKENIZER_BULK_H

#include "tokenizer.h"

typedef struct text_span
{
	const char *text;
	size_t length;
} text_span;

typedef struct bulk_tokenizer bulk_tokenizer;

/*
 * The block is that of tokenizer_open(), whose errors it gives.  threads - 1 are started; only the
 * thread that calls bulk_tokenizer_encode() asks poll, which may be NULL.
 */
extern bulk_tokenizer *bulk_tokenizer_new(const void *block, size_t bytes, int32_t threads, llm_poll poll,
										  void *poll_arg, llm_error *err);
extern void bulk_tokenizer_free(bulk_tokenizer *b); /* joins; b may be NULL */

/*
 * Append the ids of texts as tokenizer_encode() does without parse_special, and with its errors;
 * end (count) is how many ids *out has behind each text.
 */
extern bool bulk_tokenizer_encode(bulk_tokenizer *b, const text_span *texts, int64_t count, token_list *out,
								  int64_t *end, llm_error *err);

#endif /* LLMAPP_TOKENIZER_BULK_H */
