/*
 * pairs.c
 *	  Prompts and their completions, or texts that belong together, as tokens.
 */
#include "postgres.h"

#include "../common.h"
#include "pairs.h"
#include "text_tokens.h"

#define LONGEST_SHARE 0.99 /* of the pairs are read whole, as far as the context may grow */
#define LONGEST_COUNTED 1024
#define RECORD_SHARE 4 /* of llmapp.train_memory */
#define MOST_TOKENS (1 << 28)

/* How many training texts have how many tokens, those with more counted as LONGEST_COUNTED. */
typedef struct Lengths
{
	int64 count[LONGEST_COUNTED + 1];
	int64 texts;
} Lengths;

typedef struct PairWriter
{
	Dataset *d;
	Records *training;
	Records *held_out;
	bool encoder_reads; /* the prompt; otherwise it is in front of the completion */
	bool twins;         /* both are read alone, to be compared */
	int32 *prompt;      /* (room) */
	int64 room;
	int32 prompt_count;
	Lengths sources;
	Lengths samples; /* what a network reads and writes in one row */
} PairWriter;

static void
CountLength(Lengths *lengths, int64 tokens)
{
	lengths->count[Min(tokens, LONGEST_COUNTED)]++;
	lengths->texts++;
}

static int32
LongestOf(const Lengths *lengths)
{
	int64 seen = 0;
	int32 longest = 0;

	while (longest < LONGEST_COUNTED && (seen += lengths->count[longest]) < LONGEST_SHARE * lengths->texts)
		longest++;
	return longest;
}

/* Keep the tokens of a prompt until its completion is there. */
static void
KeepPrompt(PairWriter *w, const int32 *ids, int64 count)
{
	if (count > MOST_TOKENS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a prompt has " INT64_FORMAT " tokens, at most %d are possible", count, MOST_TOKENS)));
	if (count > w->room)
	{
		w->room = count;
		w->prompt = repalloc_huge(w->prompt, w->room * sizeof(int32));
	}
	memcpy(w->prompt, ids, count * sizeof(int32));
	w->prompt_count = (int32) count;
}

static void
AddToPart(PairWriter *w, const int32 *completion, int64 count, bool held_out)
{
	Dataset *d = w->d;

	AddPair(held_out ? w->held_out : w->training, w->prompt, w->prompt_count, completion,
			(int32) Min(count, MOST_TOKENS));
	d->held_out_rows += held_out;
	d->training_rows += !held_out;
	if (held_out)
	{
		d->corpus->held_out_bytes += TokenBytes(d->corpus, completion, count);
		return;
	}
	d->corpus->pair_tokens += w->prompt_count + count;
	CountLength(&w->sources, w->prompt_count);
	CountLength(&w->samples,
				w->twins ? Max(count, w->prompt_count) : count + (w->encoder_reads ? 0 : w->prompt_count + 1));
}

/* Every pair into its part; false when the job is to pause. */
static bool
WritePairs(PairWriter *w)
{
	Dataset *d = w->d;
	TextTokens *texts;
	const int32 *ids;
	int64 count;
	bool held_out;

	d->training_rows = d->held_out_rows = 0;
	texts = StartTextTokens(d);
	while (NextTextTokens(texts, &ids, &count, &held_out))
	{
		KeepPrompt(w, ids, count);
		if (NextTextTokens(texts, &ids, &count, &held_out))
			AddToPart(w, ids, count, held_out);
	}
	FinishRecords(w->training);
	FinishRecords(w->held_out);
	return EndTextTokens(texts);
}

static void
CheckPairs(const Dataset *d, int32 end)
{
	if (end < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the tokenizer of the base model has no token for the end of a text"),
						errhint("Train without base, or with a base model that llm_train made.")));
	if (d->training_rows == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there are no training rows"),
						errhint("Let \"validation\" leave some rows to learn from.")));
	if (d->training_rows < 2 && IsEmbeddingTask(d->task))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there is one training row, an embedding needs at least 2"),
						errdetail("It learns to tell the text that belongs to another from those that do not.")));
}

static Samples *
SamplesOf(const PairWriter *w, Records *records, const train_params *params, int32 end)
{
	if (w->twins)
		return SamplesOfTwins(records, params->context, end);
	return SamplesOfPairs(records, params->context, w->encoder_reads ? params->source_context : 0, end);
}

bool
FitPairs(Dataset *d, train_params *params)
{
	int32 end = tokenizer_special(d->corpus->tokenizer, SPECIAL_END);
	PairWriter *w = palloc0(sizeof(PairWriter));
	llm_error err = {0};

	w->twins = IsEmbeddingTask(d->task);
	w->encoder_reads = params->architecture->bit == ARCH_T5;
	w->room = 1024;
	w->prompt = palloc(w->room * sizeof(int32));
	d->budget = (Size) llmapp_train_memory * 1024 / RECORD_SHARE;
	w->d = d;
	w->training = CreateRecords(&d->budget);
	w->held_out = CreateRecords(&d->budget);
	if (!WritePairs(w))
		return false;
	CheckPairs(d, end);
	params_choose_context(params, LongestOf(&w->samples), LongestOf(&w->sources));
	params_choose_transformer(params, d->corpus->pair_tokens);
	if (!encoder_set_tokenizer(d->encoder, d->corpus->tokenizer, tokenizer_size(d->corpus->tokenizer),
							   w->encoder_reads ? params->source_context : params->context, &err))
		ThrowError(&err);
	d->training = SamplesOf(w, w->training, params, end);
	d->held_out = SamplesOf(w, w->held_out, params, end);
	return true;
}
