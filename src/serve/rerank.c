/*
 * rerank.c
 *	  llm_rerank(): documents in the order in which they answer a query.
 *
 * A model that makes one number of two texts, or the probability of one of two classes, reads query
 * and document together (a cross-encoder).  Of any other model the texts' embeddings are compared, by
 * their cosine.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "../common.h"
#include "language.h"

PG_FUNCTION_INFO_V1(llm_rerank);

typedef struct Ranking
{
	LanguageCall *call;
	int32 count;
	const char **utf8; /* documents; NULL where the array has NULL */
	Size *lengths;
	double *scores;
	int32 *order; /* best first, those without text left out */
} Ranking;

static void
ReadDocuments(Ranking *r, ArrayType *array)
{
	Datum *elements;
	bool *nulls;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &r->count);
	r->utf8 = palloc0(Max(r->count, 1) * sizeof(char *));
	r->lengths = palloc0(Max(r->count, 1) * sizeof(Size));
	r->scores = palloc0(Max(r->count, 1) * sizeof(double));
	for (int32 i = 0; i < r->count; i++)
		if (!nulls[i])
			r->utf8[i] = Utf8(DatumGetTextPP(elements[i]), &r->lengths[i]);
}

/* ---- query and document together ---- */

static bool
ReadsPairs(const LanguageCall *call)
{
	const manifest *m = call->model->manifest;

	return net_predicts_rows(net_get_config(call->net)) && m->target->outputs == 1 &&
		   encoder_column_count(m->encoder) == 1 && tokenizer_has_frame(call->tokenizer, true);
}

static void
AddPair(const LanguageCall *call, batch *b, const char *query, Size query_length, const char *text, Size length)
{
	token_list list = {0};
	llm_error err = {0};
	bool ok = tokenizer_encode_framed(call->tokenizer, query, query_length, text, length, false, b->shape.context,
									  &list, NULL, &err);

	if (ok)
	{
		memcpy(b->token + b->token_start[b->rows], list.id, list.count * sizeof(int32));
		b->token_start[b->rows + 1] = b->token_start[b->rows] + (int32) list.count;
		b->rows++;
	}
	free(list.id);
	if (!ok)
		ThrowError(&err);
}

/* What the network makes of a pair: a number, or the probability of the second class. */
static double
ScoreOf(const target *t, float output)
{
	return t->kind == TARGET_NUMBER ? t->mean[0] + t->scale[0] * output : output;
}

static void
ScorePairs(Ranking *r, const char *query, Size length)
{
	Model *model = r->call->model;
	predictor *p = ModelBulkPredictor(model);
	batch *b = predictor_batch(p);
	int32 *which = palloc(ModelBulkRows(model) * sizeof(int32));

	predictor_set_poll(p, InterruptRequested, NULL);
	for (int32 i = 0; i < r->count;)
	{
		llm_error err = {0};
		const float *out;

		CHECK_FOR_INTERRUPTS();
		b->rows = 0;
		b->token_start[0] = 0;
		for (; i < r->count && b->rows < b->capacity; i++)
			if (r->utf8[i] != NULL)
			{
				which[b->rows] = i;
				AddPair(r->call, b, query, length, r->utf8[i], r->lengths[i]);
			}
		if (b->rows == 0)
			return;
		out = predictor_run(p, &err);
		if (out == NULL)
			ThrowError(&err);
		for (int64 row = 0; row < b->rows; row++)
			r->scores[which[row]] = ScoreOf(model->manifest->target, out[row]);
	}
}

/* ---- each by itself ---- */

static double
Dot(const float *a, const float *b, int32 n)
{
	double sum = 0;

	for (int32 i = 0; i < n; i++)
		sum += (double) a[i] * b[i];
	return sum;
}

static void
ScoreEmbeddings(Ranking *r, const char *query, Size length)
{
	int32 width = EmbeddingWidth(r->call), texts = 0;
	const char **utf8 = palloc((r->count + 1) * sizeof(char *));
	Size *lengths = palloc((r->count + 1) * sizeof(Size));
	float *out = MemoryContextAllocHuge(CurrentMemoryContext, mul_size(mul_size(r->count + 1, width), sizeof(float)));

	utf8[0] = query;
	lengths[0] = length;
	for (int32 i = 0; i < r->count; i++)
		if (r->utf8[i] != NULL)
		{
			utf8[++texts] = r->utf8[i];
			lengths[texts] = r->lengths[i];
		}
	EmbedTexts(r->call, utf8, lengths, texts + 1, out);
	texts = 0;
	for (int32 i = 0; i < r->count; i++)
		if (r->utf8[i] != NULL)
			r->scores[i] = Dot(out, out + (Size) ++texts * width, width);
}

/* ---- the answer ---- */

static int
ByScore(const void *a, const void *b, void *arg)
{
	const double *scores = arg;
	int32 x = *(const int32 *) a, y = *(const int32 *) b;

	if (scores[x] != scores[y])
		return scores[x] > scores[y] ? -1 : 1;
	return x < y ? -1 : x > y;
}

static int32
SortDocuments(Ranking *r)
{
	int32 ranked = 0;

	r->order = palloc(Max(r->count, 1) * sizeof(int32));
	for (int32 i = 0; i < r->count; i++)
		if (r->utf8[i] != NULL)
			r->order[ranked++] = i;
	qsort_arg(r->order, ranked, sizeof(int32), ByScore, r->scores);
	return ranked;
}

/* Documents are ranked by the number itself, for sigmoids of large ones are equal. */
static double
ShownScore(const Ranking *r, int32 which)
{
	return r->call->model->manifest->sigmoid ? 1 / (1 + exp(-r->scores[which])) : r->scores[which];
}

/* llm_rerank(model, query, documents, top) */
Datum
llm_rerank(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Ranking r = {NULL};
	const char *query;
	Size length;
	int32 ranked, top;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		return (Datum) 0;
	r.call = OpenTokenCall(fcinfo, PG_GETARG_OID(0));
	query = Utf8(PG_GETARG_TEXT_PP(1), &length);
	ReadDocuments(&r, PG_GETARG_ARRAYTYPE_P(2));
	top = PG_ARGISNULL(3) ? r.count : PG_GETARG_INT32(3);
	if (top < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("top is %d, below 0", top)));
	if (ReadsPairs(r.call))
		ScorePairs(&r, query, length);
	else
		ScoreEmbeddings(&r, query, length);
	ranked = SortDocuments(&r);
	for (int32 i = 0; i < Min(ranked, top); i++)
	{
		int32 which = r.order[i];
		Datum values[3] = {Int32GetDatum(which + 1), Float8GetDatum(ShownScore(&r, which)),
						   PointerGetDatum(TextOfBytes(r.utf8[which], r.lengths[which]))};
		bool nulls[3] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
