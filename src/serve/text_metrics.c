/*
 * text_metrics.c
 *	  llm_text_metrics(prediction, reference): an aggregate over generated texts and those wanted.
 *
 * The state is the sums of metrics/text_metrics.h, of fixed size, which parallel workers hand
 * over as they are.
 */
#include "postgres.h"

#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"

#include "../common.h"
#include "../metrics/text_metrics.h"

PG_FUNCTION_INFO_V1(llm_text_metrics_accumulate);
PG_FUNCTION_INFO_V1(llm_text_metrics_combine);
PG_FUNCTION_INFO_V1(llm_text_metrics_serialize);
PG_FUNCTION_INFO_V1(llm_text_metrics_deserialize);
PG_FUNCTION_INFO_V1(llm_text_metrics_final);

/* The state of argument 0, a new one in the aggregate's memory when it is NULL. */
static text_scores *
GetScores(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("metrics of texts are computed by an aggregate only")));
	if (PG_ARGISNULL(0))
		return MemoryContextAllocZero(context, sizeof(text_scores));
	return (text_scores *) PG_GETARG_POINTER(0);
}

/* The text in UTF-8. */
static char *
Utf8OfText(text *t, Size *length)
{
	char *bytes = VARDATA_ANY(t), *utf8;

	*length = VARSIZE_ANY_EXHDR(t);
	utf8 = pg_server_to_any(bytes, (int) *length, PG_UTF8);
	if (utf8 != bytes)
		*length = strlen(utf8);
	return utf8;
}

/* llm_text_metrics_accumulate(internal, text, text): add a row. */
Datum
llm_text_metrics_accumulate(PG_FUNCTION_ARGS)
{
	text_scores *scores = GetScores(fcinfo);
	char *prediction, *reference;
	Size prediction_length, reference_length;
	llm_error err = {0};

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_POINTER(scores);
	prediction = Utf8OfText(PG_GETARG_TEXT_PP(1), &prediction_length);
	reference = Utf8OfText(PG_GETARG_TEXT_PP(2), &reference_length);
	if (!text_scores_add(scores, prediction, prediction_length, reference, reference_length, InterruptRequested, NULL,
						 &err))
		ThrowError(&err);
	PG_RETURN_POINTER(scores);
}

/* llm_text_metrics_combine(internal, internal): add what another process has summed. */
Datum
llm_text_metrics_combine(PG_FUNCTION_ARGS)
{
	text_scores *scores = GetScores(fcinfo);

	if (!PG_ARGISNULL(1))
		text_scores_merge(scores, (text_scores *) PG_GETARG_POINTER(1));
	PG_RETURN_POINTER(scores);
}

/* llm_text_metrics_serialize(internal): the state as bytes. */
Datum
llm_text_metrics_serialize(PG_FUNCTION_ARGS)
{
	bytea *bytes = palloc(VARHDRSZ + sizeof(text_scores));

	SET_VARSIZE(bytes, VARHDRSZ + sizeof(text_scores));
	memcpy(VARDATA(bytes), GetScores(fcinfo), sizeof(text_scores));
	PG_RETURN_BYTEA_P(bytes);
}

/* llm_text_metrics_deserialize(bytea, internal): what llm_text_metrics_serialize() of this server wrote. */
Datum
llm_text_metrics_deserialize(PG_FUNCTION_ARGS)
{
	bytea *bytes = PG_GETARG_BYTEA_PP(0);
	text_scores *scores = palloc(sizeof(text_scores));

	if (!AggCheckCallContext(fcinfo, NULL) || VARSIZE_ANY_EXHDR(bytes) != sizeof(text_scores))
		elog(ERROR, "not a state of llm_text_metrics()");
	memcpy(scores, VARDATA_ANY(bytes), sizeof(text_scores));
	PG_RETURN_POINTER(scores);
}

/* The fewest digits that read back equal. */
static char *
ShortestDecimal(double x)
{
	char *digits = palloc(DOUBLE_SHORTEST_DECIMAL_LEN);

	double_to_shortest_decimal_buf(x, digits);
	return digits;
}

/* llm_text_metrics_final(internal): {"n": ..., "bleu": ..., ...}, or {"n": 0}. */
Datum
llm_text_metrics_final(PG_FUNCTION_ARGS)
{
	text_metrics m = text_scores_result(GetScores(fcinfo));
	char *json = "{\"n\": 0}";

	if (m.n > 0)
		json = psprintf("{\"n\": " INT64_FORMAT
						", \"bleu\": %s, \"rouge_l\": %s, \"exact_match\": %s, \"token_f1\": %s}",
						(int64) m.n, ShortestDecimal(m.bleu), ShortestDecimal(m.rouge_l),
						ShortestDecimal(m.exact_match), ShortestDecimal(m.token_f1));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}
