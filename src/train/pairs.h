/*
 * pairs.h
 *	  Prompts and their completions, or texts that belong together, as tokens.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_PAIRS_H
#define LLMAPP_PAIRS_H

#include "corpus.h"

/*
 * Pairs of all rows as samples, of a dataset whose tokenizer is open and whose encoder reads the
 * prompt; counts the rows of both parts and chooses what params leaves open.  False when the job is
 * to pause.
 */
extern bool FitPairs(Dataset *d, train_params *params);

#endif /* LLMAPP_PAIRS_H */
