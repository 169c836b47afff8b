/*
 * try_tokenizer.h
 *	  What must hold of a tokenizer that was made of any bytes: its block opens, and the ids of a text exist.
 */
#ifndef LLMAPP_TRY_TOKENIZER_H
#define LLMAPP_TRY_TOKENIZER_H

#include <stdlib.h>
#include <string.h>

#include "../../src/text/tokenizer_file.h"
#include "fuzz.h"

/* Texts in which tokens of the seeds stand. */
static const char text[] = " ab  aba\xC3\xA9 \xE4\xB8\xAD[U]x!a\xCC\x81 <s>\xE2\x96\x81 12\n\n\xEF\xAC\x81</s>\xFF";

static inline void
try_text(tokenizer *t)
{
	llm_error err = {.code = LLM_OK};
	token_list ids = {0}, types = {0};
	text_buffer back = {0};

	REQUIRE(tokenizer_encode_framed(t, text, sizeof(text) - 1, text, 9, true, 0, &ids, &types, &err));
	REQUIRE(ids.count == types.count);
	for (int64_t i = 0; i < ids.count; i++)
		REQUIRE(ids.id[i] >= 0 && ids.id[i] < tokenizer_size(t));
	REQUIRE(tokenizer_decode(t, ids.id, ids.count, false, &back, &err));
	ids.count = types.count = 0;
	if (tokenizer_encode_framed(t, text, sizeof(text) - 1, NULL, 0, false, 7, &ids, &types, &err))
		REQUIRE(ids.count <= 7);
	free(ids.id);
	free(types.id);
	free(back.bytes);
}

/* Takes block and info; block NULL: there is none. */
static inline void
try_tokenizer(void *block, size_t bytes, tokenizer_file_info *info)
{
	llm_error err = {.code = LLM_OK};
	tokenizer *t = block ? tokenizer_open(block, bytes, &err) : NULL;

	REQUIRE(block == NULL || t != NULL || err.code == LLM_CORRUPT);
	if (t != NULL)
		try_text(t);
	tokenizer_free(t);
	tokenizer_file_info_free(info);
	free(block);
}

#endif /* LLMAPP_TRY_TOKENIZER_H */
