/*
 * corpus.h
 *	  The texts that a transformer reads: a tokenizer made of them, and of a language model their
 *	  tokens.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_CORPUS_H
#define LLMAPP_CORPUS_H

#include "../model/model.h"
#include "../text/tokenizer.h"
#include "dataset.h"

struct Corpus
{
	void *tokenizer_block; /* as a version holds it */
	Size tokenizer_size;
	tokenizer *tokenizer;
	TokenFile *training; /* of a language model */
	TokenFile *held_out;
	int64 pair_tokens;    /* of the training pairs, in their place */
	int64 held_out_bytes; /* of the text whose tokens are held out */
};

/*
 * Make the tokenizer of the training texts, or take that of base or giver, then the tokens of all texts;
 * counts the rows of both parts and chooses what params leaves open.  False when the job is to pause.
 */
extern bool FitCorpus(Dataset *d, train_params *params, const Model *base, const Model *giver);
/*
 * In place of FitDataset() for rows with a text: columns, target and tokenizer, and what params
 * leaves open.  False when the job is to pause.
 */
extern bool FitTextRows(Dataset *d, train_params *params, const Model *base, const Model *giver);

#endif /* LLMAPP_CORPUS_H */
