/*
 * vocabulary.h
 *	  The tokens of a tokenizer as a tree of bytes, to ask of all of them at once what a text may go
 *	  on with.
 *
 * Nodes lie in preorder: the first node below one is the next, and `skip` is the first that is not
 * below it.  So a walk that leaves out what cannot be is one pass over the array.
 */
#ifndef LLMAPP_VOCABULARY_H
#define LLMAPP_VOCABULARY_H

#include "../text/tokenizer.h"

typedef struct vocabulary_node
{
	int32_t skip;   /* number of the node behind this one's tree */
	int32_t token;  /* that ends here, -1: none; same[token] is the next one with this text */
	uint16_t depth; /* bytes from the root, whose children have depth 1 */
	uint8_t byte;
} vocabulary_node;

typedef struct vocabulary
{
	vocabulary_node *nodes;
	int32_t node_count;
	int32_t *same; /* (size) -1: no more */
	int32_t size;  /* tokens, and more ids that the network may have are none */
	int32_t longest;
	bool usable[256]; /* bytes that are in some token */
	bool complete;    /* each of the 256 bytes is a token */
	bool drops_space; /* a text loses the space of its first token */
} vocabulary;

/*
 * Of the tokens that stand for text.  LLM_INVALID for a tokenizer whose tokens' text depends on
 * what is before them (WordPiece), LLM_MEMORY.  The tokenizer is not needed afterwards.
 */
extern vocabulary *vocabulary_new(const tokenizer *t, llm_error *err);
extern void vocabulary_free(vocabulary *v); /* v may be NULL */

#endif /* LLMAPP_VOCABULARY_H */
