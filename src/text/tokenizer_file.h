/*
 * tokenizer_file.h
 *	  Make the stored form of a tokenizer from the files that models are published with.
 *
 * Read are tokenizer.json of the library tokenizers; vocab.txt of BERT; vocab.json and merges.txt
 * of GPT-2; tokenizer.model of SentencePiece; and what transformers keeps beside them.  Ids are
 * those that these libraries give, for each text.  What is in a file but cannot be done exactly is
 * refused by its name.  Truncation and padding that are kept in tokenizer.json are left out: they
 * are settings of a call.
 */
#ifndef LLMAPP_TOKENIZER_FILE_H
#define LLMAPP_TOKENIZER_FILE_H

#include "tokenizer.h"

typedef struct file_bytes
{
	const char *bytes; /* NULL: there is no such file */
	size_t size;
} file_bytes;

/* The first that is there of tokenizer_json, tokenizer_model, vocab_txt and vocab_json is read. */
typedef struct tokenizer_files
{
	file_bytes tokenizer_json;
	file_bytes tokenizer_model; /* also named spiece.model, sentencepiece.bpe.model */
	file_bytes vocab_txt;
	file_bytes vocab_json;
	file_bytes merges_txt; /* with vocab_json */
	file_bytes tokenizer_config_json;
	file_bytes special_tokens_map_json;
	file_bytes added_tokens_json; /* where there is no tokenizer.json */
	file_bytes chat_template;     /* chat_template.jinja, comes before the one in tokenizer_config_json */
	/* Of sentence-transformers: its do_lower_case makes texts lower-case before all else. */
	file_bytes sentence_bert_config_json;
} tokenizer_files;

/* What else the files say; release with tokenizer_file_info_free(). */
typedef struct tokenizer_file_info
{
	int64_t max_length;  /* tokens of a text with its frame, 0: the files do not say */
	char *chat_template; /* UTF-8, NULL: none; of several the one named "default", or the first */
	char *class_name;    /* tokenizer_class of transformers, NULL: none */
} tokenizer_file_info;

/*
 * The block of tokenizer_open(), to be released with free(); NULL with LLM_CORRUPT for bytes that
 * are not what they should be, LLM_INVALID for what is not supported, or LLM_MEMORY.
 */
extern void *tokenizer_from_files(const tokenizer_files *files, tokenizer_file_info *info, size_t *block_bytes,
								  llm_error *err);
extern void tokenizer_file_info_free(tokenizer_file_info *info);

#endif /* LLMAPP_TOKENIZER_FILE_H */
