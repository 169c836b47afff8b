/*
 * samples.c
 *	  Encoded rows, windows of tokens, or pairs of texts, in batches.
 *
 * What is masked depends on seed, epoch and the number of the window alone, so that a reading
 * that goes on in the middle masks the same tokens.
 */
#include "postgres.h"

#include "../common.h"
#include "../engine/philox.h"
#include "samples.h"

typedef enum SampleKind
{
	SAMPLE_ROW,
	SAMPLE_WINDOW,
	SAMPLE_MASKED,
	SAMPLE_PAIR,
	SAMPLE_TWINS
} SampleKind;

struct Samples
{
	SampleKind kind;
	Records *records; /* of rows and pairs */
	TokenFile *tokens;
	int32 context;        /* most tokens of a sample */
	int32 source_context; /* of a pair, 0: the prompt is in front of the completion */
	int32 end;            /* token between prompt and completion, and behind that */
	int32 mask;
	int32 vocabulary;
	int32 *window; /* (context + 1) */
	/* the current reading, of masked tokens */
	uint64 seed;
	uint64 epoch;
	int64 position; /* samples so far */
};

#define MASKED_SHARE 0.15f
#define HIDDEN_SHARE 0.8f /* of those; half of the rest become other tokens */
#define MASK_STREAM 0x4D41534Bu

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

	samples->kind = SAMPLE_WINDOW;
	samples->tokens = tokens;
	samples->context = context;
	samples->window = palloc((context + 1) * sizeof(int32));
	return samples;
}

Samples *
SamplesOfMaskedTokens(TokenFile *tokens, int32 context, int32 mask, int32 vocabulary)
{
	Samples *samples = SamplesOfTokens(tokens, context);

	samples->kind = SAMPLE_MASKED;
	samples->mask = mask;
	samples->vocabulary = vocabulary;
	return samples;
}

Samples *
SamplesOfPairs(Records *records, int32 context, int32 source_context, int32 end)
{
	Samples *samples = SamplesOfRecords(records);

	samples->kind = SAMPLE_PAIR;
	samples->context = context;
	samples->source_context = source_context;
	samples->end = end;
	return samples;
}

Samples *
SamplesOfTwins(Records *records, int32 context, int32 end)
{
	Samples *samples = SamplesOfPairs(records, context, 0, end);

	samples->kind = SAMPLE_TWINS;
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
	samples->seed = seed;
	samples->epoch = epoch;
	samples->position = 0;
	if (samples->records != NULL)
		StartReading(samples->records, shuffle, seed, epoch);
	else
		StartWindows(samples->tokens, samples->context, shuffle, seed, epoch);
}

void
SkipSamples(Samples *samples, int64 count)
{
	samples->position += count;
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

/* Where the next row's tokens go; room for them is there. */
static int32
FirstToken(const batch *b)
{
	return b->rows == 0 ? 0 : b->token_start[b->rows];
}

static void
EndRow(batch *b, int32 first, int32 count)
{
	b->token_start[b->rows] = first;
	b->token_start[++b->rows] = first + count;
}

/* Every token of a window is followed by the next one, the last by that behind the window. */
static bool
AddWindow(Samples *samples, batch *b)
{
	int32 count = NextWindow(samples->tokens, samples->window) - 1;
	int32 first = FirstToken(b);

	if (count < 0)
		return false;
	memcpy(b->token + first, samples->window, count * sizeof(int32));
	memcpy(b->token_target + first, samples->window + 1, count * sizeof(int32));
	for (int32 i = 0; i < count; i++)
		b->token_weight[first + i] = 1;
	EndRow(b, first, count);
	return true;
}

/* The token that is shown in place of this one, which is to be predicted. */
static int32
HideToken(const Samples *samples, int32 token, const uint32 bits[4])
{
	float choice = philox_uniform(bits[1]);

	if (choice < HIDDEN_SHARE)
		return samples->mask;
	return choice < (1 + HIDDEN_SHARE) / 2 ? (int32) (bits[2] % (uint32) samples->vocabulary) : token;
}

static bool
AddMaskedWindow(Samples *samples, batch *b)
{
	int32 count = NextWindow(samples->tokens, samples->window) - 1;
	int32 first = FirstToken(b);
	uint64 place = samples->epoch << 40 ^ (uint64) samples->position++;

	if (count < 0)
		return false;
	for (int32 i = 0; i < count; i++)
	{
		int32 token = samples->window[i];
		uint32 bits[4];
		bool hidden;

		philox(samples->seed, place, MASK_STREAM, (uint32) i, bits);
		hidden = philox_uniform(bits[0]) < MASKED_SHARE;
		b->token[first + i] = hidden ? HideToken(samples, token, bits) : token;
		b->token_target[first + i] = token;
		b->token_weight[first + i] = hidden;
	}
	EndRow(b, first, count);
	return true;
}

/* ---- pairs ---- */

/* A record: how many tokens the prompt has, then those, then the completion's. */
void
AddPair(Records *records, const int32 *prompt, int32 prompt_count, const int32 *completion, int32 completion_count)
{
	Size count = 1 + (Size) prompt_count + completion_count;
	int32 *record = palloc(count * sizeof(int32));

	record[0] = prompt_count;
	memcpy(record + 1, prompt, prompt_count * sizeof(int32));
	memcpy(record + 1 + prompt_count, completion, completion_count * sizeof(int32));
	AddRecord(records, record, count * sizeof(int32));
	pfree(record);
}

/* The completion behind a token that starts it; all of it and the end are to be predicted.  Returns tokens. */
static int32
PutCompletion(const Samples *samples, const int32 *completion, int32 count, int32 at, batch *b)
{
	b->token[at] = samples->end;
	memcpy(b->token + at + 1, completion, count * sizeof(int32));
	memcpy(b->token_target + at, completion, count * sizeof(int32));
	b->token_target[at + count] = samples->end;
	for (int32 i = 0; i <= count; i++)
		b->token_weight[at + i] = 1;
	return count + 1;
}

/* Of a long prompt its last tokens, behind which the completion follows. */
static void
PutDecoderPair(const Samples *samples, const int32 *prompt, int32 prompt_count, const int32 *completion, int32 count,
			   batch *b)
{
	int32 first = FirstToken(b);
	int32 kept = Min(count, samples->context - 1 - Min(prompt_count, samples->context / 2));
	int32 shown = Min(prompt_count, samples->context - 1 - kept);

	memcpy(b->token + first, prompt + prompt_count - shown, shown * sizeof(int32));
	for (int32 i = first; i < first + shown; i++)
	{
		b->token_target[i] = 0;
		b->token_weight[i] = 0;
	}
	EndRow(b, first, shown + PutCompletion(samples, completion, kept, first + shown, b));
}

/* Of a long prompt the encoder reads the first tokens. */
static void
PutSourcePair(const Samples *samples, const int32 *prompt, int32 prompt_count, const int32 *completion, int32 count,
			  batch *b)
{
	int32 source = b->rows == 0 ? 0 : b->source_start[b->rows];
	int32 read = Min(prompt_count, samples->source_context - 1);
	int32 first = FirstToken(b);

	memcpy(b->source + source, prompt, read * sizeof(int32));
	b->source[source + read] = samples->end;
	b->source_start[b->rows] = source;
	b->source_start[b->rows + 1] = source + read + 1;
	EndRow(b, first, PutCompletion(samples, completion, Min(count, samples->context - 1), first, b));
}

/* The first row of its side that has its tokens. */
static int64
FirstAlike(const batch *b, int64 row)
{
	const int32 *tokens = b->token + b->token_start[row];
	int32 count = b->token_start[row + 1] - b->token_start[row];
	int64 other = row % 2;

	while (b->token_start[other + 1] - b->token_start[other] != count ||
		   memcmp(b->token + b->token_start[other], tokens, count * sizeof(int32)) != 0)
		other += 2;
	return other;
}

static void
PutText(const Samples *samples, const int32 *text, int32 count, batch *b)
{
	int32 first = FirstToken(b);
	int32 read = Min(count, samples->context - 1);

	memcpy(b->token + first, text, read * sizeof(int32));
	b->token[first + read] = samples->end;
	b->weight[b->rows] = 1;
	EndRow(b, first, read + 1);
	b->target_number[b->rows - 1] = FirstAlike(b, b->rows - 1);
}

static void
PutTwins(const Samples *samples, const int32 *prompt, int32 prompt_count, const int32 *completion, int32 count,
		 batch *b)
{
	PutText(samples, prompt, prompt_count, b);
	PutText(samples, completion, count, b);
}

static bool
NextPair(Samples *samples, batch *b)
{
	uint32 bytes;
	const int32 *record = (const int32 *) NextRecord(samples->records, &bytes);
	int32 prompts, completions;

	if (record == NULL)
		return false;
	prompts = record[0];
	completions = bytes / sizeof(int32) - 1 - prompts;
	(samples->kind == SAMPLE_TWINS ? PutTwins
	 : samples->source_context > 0
		 ? PutSourcePair
		 : PutDecoderPair)(samples, record + 1, prompts, record + 1 + prompts, completions, b);
	return true;
}

static bool
AddSample(Samples *samples, const encoder *e, const target *t, batch *b)
{
	switch (samples->kind)
	{
		case SAMPLE_ROW: return AddRow(samples, e, t, b);
		case SAMPLE_WINDOW: return AddWindow(samples, b);
		case SAMPLE_MASKED: return AddMaskedWindow(samples, b);
		case SAMPLE_PAIR:
		case SAMPLE_TWINS: return NextPair(samples, b);
	}
	return false;
}

bool
FillBatch(Samples *samples, const encoder *e, const target *t, int64 count, batch *b)
{
	b->rows = 0;
	while (count-- > 0 && AddSample(samples, e, t, b))
		continue;
	return b->rows > 0;
}
