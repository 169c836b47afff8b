/*
 * samples.h
 *	  What a network learns from or is judged by, in batches: encoded rows, windows of the tokens
 *	  of texts, or pairs of texts, the second of which is to be written or to be recognised.
 *
 * Use: one of the functions that make samples; then StartSamples() and FillBatch() until it
 * returns false, as often as wanted.  Include after postgres.h.
 */
#ifndef LLMAPP_SAMPLES_H
#define LLMAPP_SAMPLES_H

#include "record_file.h"
#include "token_file.h"

typedef struct Samples Samples;

extern Samples *SamplesOfRecords(Records *records);
/* Each token of a window of `context` is to predict the next one. */
extern Samples *SamplesOfTokens(TokenFile *tokens, int32 context);
/* Some tokens of a window, most of them hidden behind the token `mask`, are to be predicted (Devlin et al. 2019). */
extern Samples *SamplesOfMaskedTokens(TokenFile *tokens, int32 context, int32 mask, int32 vocabulary);
/*
 * Records of AddPair(): the completion is to be predicted, by a decoder behind the prompt and
 * the token `end`, or where source_context is not 0 from the prompt as source.
 */
extern Samples *SamplesOfPairs(Records *records, int32 context, int32 source_context, int32 end);
/* Records of AddPair(): two rows each, the first tokens of a text with the token `end` behind them. */
extern Samples *SamplesOfTwins(Records *records, int32 context, int32 end);
/* Add a pair of prompt and completion. */
extern void AddPair(Records *records, const int32 *prompt, int32 prompt_count, const int32 *completion,
					int32 completion_count);

extern int64 CountSamples(const Samples *samples);
/* A shuffled reading depends on seed and epoch. */
extern void StartSamples(Samples *samples, bool shuffle, uint64 seed, uint64 epoch);
extern void SkipSamples(Samples *samples, int64 count);
/* At most `count` samples into b; false when there are none left. */
extern bool FillBatch(Samples *samples, const encoder *e, const target *t, int64 count, batch *b);

#endif /* LLMAPP_SAMPLES_H */
