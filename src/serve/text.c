/*
 * text.c
 *	  Texts as a model sees them that reads their tokens: llm_tokenize(), llm_detokenize(), llm_perplexity(),
 *	  llm_embed().
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "../common.h"
#include "../engine/embedder.h"
#include "language.h"

#define EMBEDDED_TOGETHER INFERENCE_TEXTS

PG_FUNCTION_INFO_V1(llm_tokenize);
PG_FUNCTION_INFO_V1(llm_detokenize);
PG_FUNCTION_INFO_V1(llm_perplexity);
PG_FUNCTION_INFO_V1(llm_embed);

/* A one-dimensional array without NULLs of 4-byte elements. */
static ArrayType *
NewArray(Oid type, const void *elements, int64 count)
{
	Size bytes = ARR_OVERHEAD_NONULLS(1) + mul_size(count, 4);
	ArrayType *array;

	if (count == 0)
		return construct_empty_array(type);
	if (!AllocSizeIsValid(bytes))
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the text has too many tokens for an array: " INT64_FORMAT, count)));
	array = palloc0(bytes);
	SET_VARSIZE(array, bytes);
	array->ndim = 1;
	array->elemtype = type;
	ARR_DIMS(array)[0] = (int) count;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), elements, count * 4);
	return array;
}

Datum
llm_tokenize(PG_FUNCTION_ARGS)
{
	LanguageCall *call = OpenTokenCall(fcinfo, PG_GETARG_OID(0));

	EncodeText(call, PG_GETARG_TEXT_PP(1), &call->tokens);
	PG_RETURN_ARRAYTYPE_P(NewArray(INT4OID, call->tokens.id, call->tokens.count));
}

Datum
llm_detokenize(PG_FUNCTION_ARGS)
{
	LanguageCall *call = OpenTokenCall(fcinfo, PG_GETARG_OID(0));
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(1);

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_ARRAY_ELEMENT_ERROR), errmsg("tokens are a list of numbers without NULL")));
	PG_RETURN_TEXT_P(
		TextOfTokens(call, (int32 *) ARR_DATA_PTR(array), ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array))));
}

TokenScore
ScoreTokens(LanguageCall *call)
{
	int64 count = call->tokens.count;
	int32 window = (int32) Min(count, call->context);
	int32 step = Max(window / 2, 1);
	TokenScore score = {0};
	generator *g;
	float *logprob;
	bool *best;

	if (window < 2)
		return score;
	g = RequireGenerator(call, window);
	logprob = palloc(window * sizeof(float));
	best = palloc(window * sizeof(bool));
	for (int64 begin = 0; score.tokens < count - 1; begin += step)
	{
		int32 here = (int32) Min(window, count - begin);
		llm_error err = {0};

		if (!generator_score(g, call->tokens.id + begin, here, logprob, best, &err))
			ThrowError(&err);
		for (int64 i = score.tokens - begin; i < here - 1; i++)
		{
			score.loss -= logprob[i];
			score.right += best[i];
		}
		score.tokens = begin + here - 1;
	}
	pfree(logprob);
	pfree(best);
	return score;
}

/* exp of the mean loss of the tokens behind the first; NULL for a text with fewer than two. */
Datum
llm_perplexity(PG_FUNCTION_ARGS)
{
	LanguageCall *call = OpenLanguageCall(fcinfo, PG_GETARG_OID(0));
	TokenScore score;
	instr_time start;

	INSTR_TIME_SET_CURRENT(start);
	EncodePrompt(call, PG_GETARG_TEXT_PP(1), &call->tokens);
	score = ScoreTokens(call);
	if (score.tokens == 0)
		PG_RETURN_NULL();
	MeterRows(&call->meter, 1, NanosecondsSince(start));
	PG_RETURN_FLOAT8(exp(score.loss / score.tokens));
}

static text_pool
ParsePool(const char *name)
{
	static const char *const names[] = {[POOL_MEAN] = "mean", [POOL_FIRST] = "first", [POOL_LAST] = "last"};

	for (int i = 0; i < (int) lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return (text_pool) i;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown pooling \"%s\"", name),
					errhint("Use mean, first or last.")));
}

static void
Normalise(float *x, int32 n)
{
	double squares = 0;

	for (int32 i = 0; i < n; i++)
		squares += (double) x[i] * x[i];
	for (int32 i = 0; i < n && squares > 0; i++)
		x[i] = (float) (x[i] / sqrt(squares));
}

/*
 * Does the model read a text within a frame?  One without a head, which predicts columns or compares
 * texts, has learned the first tokens of texts with the end behind them, unless its tokenizer has another.
 */
static bool
ReadsFramed(const LanguageCall *call)
{
	return net_get_config(call->net)->text.headless || tokenizer_has_frame(call->tokenizer, false);
}

int32
EmbeddingContext(const LanguageCall *call)
{
	int32 source = net_get_config(call->net)->text.source_context;

	return source > 0 ? Min(call->context, source) : call->context;
}

int32
EmbeddingRoom(LanguageCall *call)
{
	call->tokens.count = 0;
	if (ReadsFramed(call))
		EncodeWholeUtf8(call, "", 0, call->context, &call->tokens);
	return EmbeddingContext(call) - (int32) call->tokens.count;
}

/* Tokens of a text as the network reads them. */
static void
EncodeInput(LanguageCall *call, const char *utf8, Size length)
{
	if (ReadsFramed(call))
	{
		EncodeWholeUtf8(call, utf8, length, call->context, &call->tokens);
		return;
	}
	EncodeUtf8(call, utf8, length, &call->tokens);
	CheckContext(call, call->tokens.count, psprintf("Use a part of the text, as right(text, %d) is.", call->context));
}

bool
HasTokens(LanguageCall *call, const char *utf8, Size length)
{
	if (ReadsFramed(call))
		return true;
	EncodeUtf8(call, utf8, length, &call->tokens);
	return call->tokens.count > 0;
}

int32
EmbeddingWidth(const LanguageCall *call)
{
	return net_embedding_width(net_get_config(call->net));
}

ArrayType *
EmbeddingArray(const LanguageCall *call, const float *embedding)
{
	return NewArray(FLOAT4OID, embedding, EmbeddingWidth(call));
}

/* Their tokens into call->batch, of as many texts as have at most so many tokens together, at least one; how many. */
static int32
EncodeSome(LanguageCall *call, const char *const *utf8, const Size *lengths, int32 count, int64 most, int32 *counts)
{
	llm_error err = {0};

	call->batch.count = 0;
	for (int32 i = 0; i < count; i++)
	{
		EncodeInput(call, utf8[i], lengths[i]);
		if (i > 0 && call->batch.count + call->tokens.count > most)
			return i;
		counts[i] = (int32) call->tokens.count;
		for (int32 k = 0; k < counts[i]; k++)
			if (!token_list_append(&call->batch, call->tokens.id[k], &err))
				ThrowError(&err);
	}
	return count;
}

/* By the generator: as many of them as there is memory for; how many. */
static int32
EmbedHere(LanguageCall *call, const int32 *counts, int32 count, float *out, llm_error *err)
{
	int32 longest = 1;

	for (int32 i = 0; i < count; i++)
		longest = Max(longest, counts[i]);
	count = Min(count, RequireSequences(call, EMBEDDED_TOGETHER, longest));
	return generator_embed_many(call->generator, counts, count, call->batch.id, net_get_config(call->net)->pool, out,
								err)
			   ? count
			   : 0;
}

/* By a server on a GPU, pooled as the model is; false when there is none. */
static bool
EmbedAtServer(LanguageCall *call, const int32 *counts, int32 count, const int32 *ids, float *out)
{
	Size width = EmbeddingWidth(call);

	if (call->embeddings == NULL && !call->embeds_alone)
		call->embeddings = OpenInference(call->model, INFERENCE_EMBED, INFERENCE_TEXTS, call->model_cxt);
	call->embeds_alone = call->embeddings == NULL;
	if (call->embeds_alone)
		return false;
	for (int32 i = 0; i < count; ids += counts[i++])
		GiveTokens(call->embeddings, i, 0, ids, counts[i]);
	if (!AwaitResults(call->embeddings))
	{
		call->embeds_alone = true;
		call->embeddings = NULL;
		return false;
	}
	for (int32 i = 0; i < count; i++)
		memcpy(out + i * width, InferenceResult(call->embeddings, i), width * sizeof(float));
	MeterServed(&call->meter, count);
	return true;
}

/* As many of them as share a pass; how many. */
static int32
EmbedSome(LanguageCall *call, const char *const *utf8, const Size *lengths, int32 count, float *out)
{
	int32 most = call->embedder ? call->embedder_texts : EMBEDDED_TOGETHER, width = EmbeddingWidth(call);
	int32 *counts = palloc(most * sizeof(int32));
	llm_error err = {0};

	count = EncodeSome(call, utf8, lengths, Min(count, most), call->embedder ? call->embedder_tokens : PG_INT64_MAX,
					   counts);
	if (call->embedder == NULL)
	{
		if (!EmbedAtServer(call, counts, count, call->batch.id, out))
			count = EmbedHere(call, counts, count, out, &err);
	}
	else if (!embedder_run(call->embedder, counts, count, call->batch.id, out, &err))
		count = 0;
	if (count == 0)
		ThrowError(&err);
	for (int32 i = 0; i < count; i++)
		Normalise(out + (Size) i * width, width);
	pfree(counts);
	return count;
}

void
EmbedTexts(LanguageCall *call, const char *const *utf8, const Size *lengths, int32 count, float *out)
{
	instr_time start;

	INSTR_TIME_SET_CURRENT(start);
	for (int32 done = 0; done < count;)
		done += EmbedSome(call, utf8 + done, lengths + done, count - done, out + (Size) done * EmbeddingWidth(call));
	MeterRows(&call->meter, count, NanosecondsSince(start));
}

/* llm_embed(model, input, pool, normalise); pool NULL: that of the model; NULL for a text without tokens */
Datum
llm_embed(PG_FUNCTION_ARGS)
{
	LanguageCall *call;
	text_pool pool;
	int32 width, count;
	float *out;
	const char *utf8;
	Size length;
	llm_error err = {0};
	instr_time start;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	call = OpenTokenCall(fcinfo, PG_GETARG_OID(0));
	pool = PG_ARGISNULL(2) ? net_get_config(call->net)->pool : ParsePool(text_to_cstring(PG_GETARG_TEXT_PP(2)));
	width = EmbeddingWidth(call);
	out = palloc(width * sizeof(float));
	INSTR_TIME_SET_CURRENT(start);
	utf8 = Utf8(PG_GETARG_TEXT_PP(1), &length);
	EncodeInput(call, utf8, length);
	if (call->tokens.count == 0)
		PG_RETURN_NULL();
	count = (int32) call->tokens.count;
	if (!(pool == net_get_config(call->net)->pool && EmbedAtServer(call, &count, 1, call->tokens.id, out)) &&
		!generator_embed(RequireGenerator(call, count), call->tokens.id, count, pool, out, &err))
		ThrowError(&err);
	if (PG_GETARG_BOOL(3))
		Normalise(out, width);
	MeterRows(&call->meter, 1, NanosecondsSince(start));
	PG_RETURN_ARRAYTYPE_P(EmbeddingArray(call, out));
}
