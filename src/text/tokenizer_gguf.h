/*
 * tokenizer_gguf.h
 *	  Make the stored form of a tokenizer from the metadata of a GGUF file, keys tokenizer.*.
 *
 * Ids are those of the model's own library wherever the file says all that it does.  What the file does
 * not say is as the programs that read such files have it: WordPiece makes a text lower-case unless a
 * token has a capital letter, and tokens that were added take no white space with them.
 */
#ifndef LLMAPP_TOKENIZER_GGUF_H
#define LLMAPP_TOKENIZER_GGUF_H

#include "../format/gguf.h"
#include "tokenizer_file.h"

/*
 * The block of tokenizer_open(), to be released with free(); of info only chat_template is set.  NULL with
 * LLM_CORRUPT for values that are not what they should be, LLM_INVALID for what is not supported, or LLM_MEMORY.
 */
extern void *tokenizer_from_gguf(const gguf *g, tokenizer_file_info *info, size_t *block_bytes, llm_error *err);

#endif /* LLMAPP_TOKENIZER_GGUF_H */
