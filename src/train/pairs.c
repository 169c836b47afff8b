/*
 * pairs.c
 *	  Prompts and their completions as tokens.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "../common.h"
#include "pairs.h"

#define LONGEST_SHARE 0.99 /* of the pairs are read whole, as far as the context may grow */
#define LONGEST_COUNTED 1024
#define RECORD_SHARE 4 /* of llmapp.train_memory */

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
	token_list prompt;
	token_list completion;
	Lengths sources;
	Lengths samples; /* what a network reads and writes in one row */
	int64 tokens;    /* of the training pairs */
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

static void
FreeWriter(void *arg)
{
	PairWriter *w = arg;

	free(w->prompt.id);
	free(w->completion.id);
}

/* The next text as tokens; false when there is none. */
static bool
ReadTokens(Dataset *d, token_list *list, int64 *bytes, bool *held_out)
{
	llm_error err = {0};
	const char *text;
	Size length;

	list->count = 0;
	if (!NextText(d, &text, &length, held_out))
		return false;
	if (!tokenizer_encode(d->corpus->tokenizer, text, length, false, list, &err))
		ThrowError(&err);
	if (list->count > PG_INT16_MAX * (int64) PG_INT16_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a text has too many tokens for a pair")));
	*bytes = length;
	return true;
}

static void
AddToPart(PairWriter *w, bool held_out, int64 bytes, bool encoder_reads)
{
	Dataset *d = w->d;

	AddPair(held_out ? w->held_out : w->training, w->prompt.id, (int32) w->prompt.count, w->completion.id,
			(int32) w->completion.count);
	d->held_out_rows += held_out;
	d->training_rows += !held_out;
	if (held_out)
	{
		d->corpus->held_out_bytes += bytes;
		return;
	}
	w->tokens += w->prompt.count + w->completion.count;
	CountLength(&w->sources, w->prompt.count);
	CountLength(&w->samples, w->completion.count + (encoder_reads ? 0 : w->prompt.count + 1));
}

/* Every pair into its part; false when the job is to pause. */
static bool
WritePairs(PairWriter *w, bool encoder_reads)
{
	Dataset *d = w->d;
	int64 bytes;
	bool held_out;

	d->training_rows = d->held_out_rows = 0;
	StartPass(d);
	while (ReadTokens(d, &w->prompt, &bytes, &held_out))
	{
		(void) ReadTokens(d, &w->completion, &bytes, &held_out);
		AddToPart(w, held_out, bytes, encoder_reads);
		JobProgress(d->training_rows + d->held_out_rows, 0, 0, 0);
		if (JobPauseRequested())
			return false;
	}
	FinishRecords(w->training);
	FinishRecords(w->held_out);
	return true;
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
}

bool
FitPairs(Dataset *d, train_params *params)
{
	bool encoder_reads = params->architecture->bit == ARCH_T5;
	int32 end = tokenizer_special(d->corpus->tokenizer, SPECIAL_END);
	PairWriter *w = palloc0(sizeof(PairWriter));
	int32 source;
	llm_error err = {0};

	OWN(w, FreeWriter);
	d->budget = (Size) llmapp_train_memory * 1024 / RECORD_SHARE;
	w->d = d;
	w->training = CreateRecords(&d->budget);
	w->held_out = CreateRecords(&d->budget);
	if (!WritePairs(w, encoder_reads))
		return false;
	CheckPairs(d, end);
	params_choose_context(params, LongestOf(&w->samples), LongestOf(&w->sources));
	params_choose_transformer(params, w->tokens);
	source = encoder_reads ? params->source_context : 0;
	if (!encoder_set_tokenizer(d->encoder, d->corpus->tokenizer, encoder_reads ? source : params->context, &err))
		ThrowError(&err);
	d->training = SamplesOfPairs(w->training, params->context, source, end);
	d->held_out = SamplesOfPairs(w->held_out, params->context, source, end);
	return true;
}
