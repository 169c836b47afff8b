/*
 * samples.h
 *	  What a network learns from or is judged by, in batches: encoded rows, or windows of the
 *	  tokens of texts.
 *
 * Use: StartSamples(), then FillBatch() until it returns false, as often as wanted.  Include
 * after postgres.h.
 */
#ifndef LLMAPP_SAMPLES_H
#define LLMAPP_SAMPLES_H

#include "record_file.h"
#include "token_file.h"

typedef struct Samples
{
	Records *records; /* NULL: windows of tokens */
	TokenFile *tokens;
	int32 context; /* tokens of a window */
	int32 *window; /* (context + 1) */
} Samples;

extern Samples *SamplesOfRecords(Records *records);
extern Samples *SamplesOfTokens(TokenFile *tokens, int32 context);
extern int64 CountSamples(const Samples *samples);
/* A shuffled reading depends on seed and epoch. */
extern void StartSamples(Samples *samples, bool shuffle, uint64 seed, uint64 epoch);
extern void SkipSamples(Samples *samples, int64 count);
/* At most `rows` samples into b; false when there are none left. */
extern bool FillBatch(Samples *samples, const encoder *e, const target *t, int64 rows, batch *b);

#endif /* LLMAPP_SAMPLES_H */
