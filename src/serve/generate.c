/*
 * generate.c
 *	  llm_generate(), llm_generate_stream(): text that goes on where a prompt ends.
 */
#include "postgres.h"

#include "funcapi.h"

#include "generation.h"

PG_FUNCTION_INFO_V1(llm_generate);
PG_FUNCTION_INFO_V1(llm_generate_stream);

/* A generation alone in the call's generator. */
static Generation *
StartGeneration(LanguageCall *call, FunctionCallInfo fcinfo)
{
	Generation *gen = NewGeneration(call, fcinfo->args);

	RequireTexts(call, 1, GenerationPositions(gen));
	return gen;
}

/*
 * llm_generate(model, prompt, max_tokens, temperature, top_k, top_p, stop, seed, min_p, repetition_penalty,
 * truncate, schema)
 */
Datum
llm_generate(PG_FUNCTION_ARGS)
{
	LanguageCall *call;
	Generation *gen;
	instr_time start;

	if (PG_ARGISNULL(GENERATE_MODEL) || PG_ARGISNULL(GENERATE_PROMPT))
		PG_RETURN_NULL();
	INSTR_TIME_SET_CURRENT(start);
	call = OpenLanguageCall(fcinfo, PG_GETARG_OID(GENERATE_MODEL));
	gen = StartGeneration(call, fcinfo);
	while (NextToken(gen, NULL))
		continue;
	MeterTexts(call, 1, NanosecondsSince(start));
	PG_RETURN_TEXT_P(GeneratedText(gen));
}

/* Text that is complete and was not given out yet; all of it behind the last token. */
static text *
NewText(Generation *gen)
{
	const text_buffer *buffer = &gen->text;
	Size size = gen->done ? buffer->size : text_complete(buffer->bytes, buffer->size);
	text *result = TextOfBytes(buffer->bytes + gen->given, size - gen->given);

	gen->given = size;
	return result;
}

/* The same arguments; one row for each token as soon as it is made. */
Datum
llm_generate_stream(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;
	Generation *gen;
	Datum values[3];
	bool nulls[3] = {false, false, false};
	float logprob;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;
		LanguageCall *call;

		context = SRF_FIRSTCALL_INIT();
		if (PG_ARGISNULL(GENERATE_MODEL) || PG_ARGISNULL(GENERATE_PROMPT))
			SRF_RETURN_DONE(context);
		old = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &context->tuple_desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		context->tuple_desc = BlessTupleDesc(context->tuple_desc);
		call = NewLanguageCall(context->multi_call_memory_ctx);
		OpenLanguageModel(call, PG_GETARG_OID(GENERATE_MODEL));
		context->user_fctx = StartGeneration(call, fcinfo);
		MemoryContextSwitchTo(old);
	}
	context = SRF_PERCALL_SETUP();
	gen = context->user_fctx;
	if (gen == NULL || !NextToken(gen, &logprob))
		SRF_RETURN_DONE(context);
	values[0] = Int32GetDatum(gen->made);
	values[1] = PointerGetDatum(NewText(gen));
	values[2] = Float8GetDatum(logprob);
	SRF_RETURN_NEXT(context, HeapTupleGetDatum(heap_form_tuple(context->tuple_desc, values, nulls)));
}
