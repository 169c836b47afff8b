/*
 * evaluate_pairs.c
 *	  Quality of a model of prompts and completions on the pairs of a source.
 *
 * A pair is judged twice: how well the model foresees the completion and its end, given the prompt, as
 * in training (train/samples.c); and what it writes for the prompt by itself, always the most probable
 * token, beside the completion.  Pairs in which one is NULL are skipped.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "../metrics/text_metrics.h"
#include "../row/source.h"
#include "../common.h"
#include "evaluate.h"
#include "generation.h"
#include "predict.h"

#define PAIRS_AT_ONCE 32 /* rows of a fetch, whose texts are generated together */

typedef struct PairSource
{
	LanguageCall *call;
	TupleDesc desc;
	TextColumn prompt, completion;
	MemoryContext batch_cxt;
	TokenScore sums;
	int64 bytes; /* of the completions, UTF-8 */
	text_scores scores;
} PairSource;

static void
BindPair(void *arg, TupleDesc desc)
{
	PairSource *s = arg;
	const manifest *m = s->call->model->manifest;

	s->desc = desc;
	s->prompt = BindTextColumn(desc, RequireColumn(desc, encoder_column(m->encoder, 0)->name, "the prompt"));
	s->completion = BindTextColumn(desc, RequireColumn(desc, m->target->names[0], "the completion"));
}

/* As much as a decoder leaves room for behind a long prompt. */
static int32
LongestCompletion(const LanguageCall *call)
{
	return net_get_config(call->net)->text.source_context > 0 ? call->context - 1 : Max(call->context / 2, 1);
}

/* The text that the model writes for a prompt, not yet begun. */
static Generation *
GenerationFor(LanguageCall *call, const value *prompt)
{
	NullableDatum args[GENERATE_ARGS];

	for (int i = 0; i < GENERATE_ARGS; i++)
		args[i].isnull = true;
	args[GENERATE_PROMPT].value = PointerGetDatum(cstring_to_text_with_len(prompt->string, (int) prompt->length));
	args[GENERATE_PROMPT].isnull = false;
	args[GENERATE_MAX_TOKENS].value = Int32GetDatum(LongestCompletion(call));
	args[GENERATE_MAX_TOKENS].isnull = false;
	return NewGeneration(call, args);
}

/* How well the completion, as much of it as fits, and its end are foreseen behind what the generation reads. */
static void
ScoreCompletion(PairSource *s, const Generation *gen, const value *completion)
{
	LanguageCall *call = s->call;
	int32 before = (int32) gen->tokens.count, count, all;
	int32 *ids = palloc(call->context * sizeof(int32));
	float *logprob = palloc(call->context * sizeof(float));
	bool *best = palloc(call->context * sizeof(bool));
	generator *g;
	llm_error err = {0};

	EncodeUtf8(call, completion->string, completion->length, &call->tokens);
	count = (int32) Min(call->tokens.count, call->context - before - 1);
	all = before + count + 1;
	memcpy(ids, gen->tokens.id, before * sizeof(int32));
	memcpy(ids + before, call->tokens.id, count * sizeof(int32));
	ids[all - 1] = gen->end;
	g = RequireGenerator(call, all);
	if (gen->source.count > 0 && !generator_source(g, 0, gen->source.id, (int32) gen->source.count, &err))
		ThrowError(&err);
	if (!generator_score(g, ids, all, logprob, best, &err))
		ThrowError(&err);
	for (int32 i = before - 1; i < all - 1; i++)
	{
		s->sums.loss -= logprob[i];
		s->sums.right += best[i];
	}
	s->sums.tokens += count + 1;
	s->bytes += completion->length;
}

/* Compare what was written with the completions, which are UTF-8. */
static void
CompareTexts(PairSource *s, Generation *const *texts, const value *completions, int32 count)
{
	llm_error err = {0};

	for (int32 i = 0; i < count; i++)
	{
		const text_buffer *written = &texts[i]->text;

		if (!text_scores_add(&s->scores, written->bytes, text_complete(written->bytes, written->size),
							 completions[i].string, completions[i].length, InterruptRequested, NULL, &err))
			ThrowError(&err);
	}
}

static void
JudgePairs(void *arg, SPITupleTable *tuples, uint64 rows)
{
	PairSource *s = arg;
	MemoryContext old = MemoryContextSwitchTo(s->batch_cxt);
	Generation *texts[PAIRS_AT_ONCE];
	value completions[PAIRS_AT_ONCE], prompt;
	int32 count = 0;
	instr_time start;

	INSTR_TIME_SET_CURRENT(start);
	for (uint64 i = 0; i < rows; i++)
	{
		value *completion = &completions[count];

		CHECK_FOR_INTERRUPTS();
		if (!ReadTextColumn(&s->prompt, s->desc, tuples->vals[i], &prompt) ||
			!ReadTextColumn(&s->completion, s->desc, tuples->vals[i], completion))
			continue;
		ConvertToUtf8(completion);
		texts[count] = GenerationFor(s->call, &prompt);
		ScoreCompletion(s, texts[count], completion);
		count++;
	}
	GenerateTogether(s->call, texts, count);
	CompareTexts(s, texts, completions, count);
	MemoryContextSwitchTo(old);
	MemoryContextReset(s->batch_cxt);
	MeterRows(&s->call->meter, (int64) count, NanosecondsSince(start));
}

json_t *
EvaluatePairs(const Model *model, const char *source, MemoryContext cxt)
{
	PairSource s = {.call = NewLanguageCall(cxt)};
	SourceVisitor visitor = {.arg = &s, .columns = BindPair, .rows = JudgePairs};
	json_t *metrics;
	text_metrics m;

	OpenLanguageModel(s.call, model->relid);
	s.batch_cxt = AllocSetContextCreate(cxt, "llmapp pairs of a source", ALLOCSET_DEFAULT_SIZES);
	VisitSource(source, PAIRS_AT_ONCE, cxt, &visitor);
	metrics = TokenMetrics(s.call, &s.sums, s.bytes);
	m = text_scores_result(&s.scores);
	if (m.n > 0)
		json_object_update_new(metrics, json_pack("{s:f, s:f, s:f, s:f}", "bleu", m.bleu, "rouge_l", m.rouge_l,
												  "exact_match", m.exact_match, "token_f1", m.token_f1));
	return json_pack("{s:o}", "metrics", metrics);
}
