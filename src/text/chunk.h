/*
 * chunk.h
 *	  A long text in pieces that a model reads whole.
 *
 * Where a text may be cut, from the best place to the worst: behind a paragraph, behind a sentence
 * or line, behind a word with the white space that follows it, behind a character.  A piece ends at
 * the last place of the best kind in the second half of what would fit, so pieces are half full at
 * least.  A piece's tokens are counted as those of a text of its own, because that is how it is read.
 */
#ifndef LLMAPP_CHUNK_H
#define LLMAPP_CHUNK_H

#include "tokenizer.h"

typedef struct text_piece
{
	size_t start; /* bytes */
	size_t length;
	int32_t tokens;
} text_piece;

/* Grows as needed; start from zeros, release with free(list.piece). */
typedef struct piece_list
{
	text_piece *piece;
	int64_t count;
	int64_t capacity;
} piece_list;

/*
 * Cut UTF-8 into pieces of at most `most` > 0 tokens, in place of what the list holds; an empty text has none.
 * Each but the first begins at a word within the last `overlap` tokens, 0 <= overlap < most, of the
 * one before, or at its end.  Without overlap the pieces are the text.  LLM_INVALID for a character
 * that takes more than `most` tokens, and all that tokenizer_encode() raises.
 */
extern bool text_chunk(tokenizer *t, const char *text, size_t length, int32_t most, int32_t overlap, piece_list *out,
					   llm_error *err);

#endif /* LLMAPP_CHUNK_H */
