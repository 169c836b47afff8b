/*
 * evaluate.h
 *	  What evaluations of rows, texts and pairs share: how the rows of a source are read.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_EVALUATE_H
#define LLMAPP_EVALUATE_H

#include "executor/spi.h"

#include "../model/model.h"
#include "../row/value_reader.h"
#include "language.h"

typedef struct SourceVisitor
{
	void *arg;
	void (*columns)(void *arg, TupleDesc desc); /* once, before rows; desc is as long-lived as cxt */
	/* What a fetch brought; the current memory context is reset afterwards. */
	void (*rows)(void *arg, SPITupleTable *tuples, uint64 count);
} SourceVisitor;

/*
 * Read a source by a cursor as the caller, read-only, up to `most` rows at a time; ERROR for a source
 * that does more than read.  columns() runs in cxt.
 */
extern void VisitSource(const char *source, int64 most, MemoryContext cxt, const SourceVisitor *visitor);

/* A column of the source that holds texts. */
typedef struct TextColumn
{
	int attribute; /* from 1 */
	ValueReader reader;
} TextColumn;

/* Column number `found`, from 0; ERROR when it is no text. */
extern TextColumn BindTextColumn(TupleDesc desc, int found);
/* In the server's encoding; false for NULL. */
extern bool ReadTextColumn(TextColumn *column, TupleDesc desc, HeapTuple tuple, value *v);

/*
 * {"metrics": {"n", "accuracy", "loss", "perplexity", "bits_per_byte"}} of a language model over the texts
 * of a source, {"n": 0} without any token to foresee; to be released by the caller.
 */
extern json_t *EvaluateTexts(const Model *model, const char *source, MemoryContext cxt);
/* The same of a model of pairs over prompts and completions, with "bleu", "rouge_l", "exact_match", "token_f1". */
extern json_t *EvaluatePairs(const Model *model, const char *source, MemoryContext cxt);

/* "n", "accuracy", "loss", "perplexity", and "bits_per_byte" of so many bytes unless they are 0. */
extern json_t *TokenMetrics(const LanguageCall *call, const TokenScore *sums, int64 bytes);

#endif /* LLMAPP_EVALUATE_H */
