/*
 * samples.c
 *	  Encoded rows or windows of tokens, in batches.
 */
#include "postgres.h"

#include "../common.h"
#include "samples.h"

Samples *
SamplesOfRecords(Records *records)
{
	Samples *samples = palloc0(sizeof(Samples));

	samples->records = records;
	return samples;
}

Samples *
SamplesOfTokens(TokenFile *tokens, int32 context)
{
	Samples *samples = palloc0(sizeof(Samples));

	samples->tokens = tokens;
	samples->context = context;
	samples->window = palloc((context + 1) * sizeof(int32));
	return samples;
}

int64
CountSamples(const Samples *samples)
{
	return samples->records != NULL ? CountRecords(samples->records)
									: CountWindows(samples->tokens, samples->context);
}

void
StartSamples(Samples *samples, bool shuffle, uint64 seed, uint64 epoch)
{
	if (samples->records != NULL)
		StartReading(samples->records, shuffle, seed, epoch);
	else
		StartWindows(samples->tokens, samples->context, shuffle, seed, epoch);
}

void
SkipSamples(Samples *samples, int64 count)
{
	if (samples->records != NULL)
		SkipRecords(samples->records, count);
	else
		SkipWindows(samples->tokens, count);
}

static bool
AddRow(Samples *samples, const encoder *e, const target *t, batch *b)
{
	llm_error err = {0};
	uint32 bytes;
	const uint8 *record = NextRecord(samples->records, &bytes);

	if (record != NULL && !batch_add_record(e, t, record, bytes, b, &err))
		ThrowError(&err);
	return record != NULL;
}

/* Every token of a window is followed by the next one, the last by that behind the window. */
static bool
AddWindow(Samples *samples, batch *b)
{
	int32 count = NextWindow(samples->tokens, samples->window) - 1;
	int32 first = b->rows == 0 ? 0 : b->token_start[b->rows];

	if (count < 0)
		return false;
	memcpy(b->token + first, samples->window, count * sizeof(int32));
	memcpy(b->token_target + first, samples->window + 1, count * sizeof(int32));
	for (int32 i = 0; i < count; i++)
		b->token_weight[first + i] = 1;
	b->token_start[b->rows] = first;
	b->token_start[++b->rows] = first + count;
	return true;
}

bool
FillBatch(Samples *samples, const encoder *e, const target *t, int64 rows, batch *b)
{
	b->rows = 0;
	while (b->rows < rows && (samples->records != NULL ? AddRow(samples, e, t, b) : AddWindow(samples, b)))
		continue;
	return b->rows > 0;
}
