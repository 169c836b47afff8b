/*
 * generate.c
 *	  llm_generate(), llm_generate_stream(): text that goes on where a prompt ends.
 *
 * When the context is full, the generator starts again with its second half, so a text may
 * be longer than the context.  The token behind which texts end in training ends a generated
 * text, and stands for the beginning when the prompt is empty.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "mb/pg_wchar.h"

#include "../common.h"
#include "../engine/sampler.h"
#include "language.h"

PG_FUNCTION_INFO_V1(llm_generate);
PG_FUNCTION_INFO_V1(llm_generate_stream);

#define MAX_TOKENS 1000000

/* A text being generated. */
typedef struct Generation
{
	LanguageCall *call;
	generator *generator;
	sampler *sampler;
	int32 end;    /* token that ends the text, or -1 */
	int32 most;   /* tokens to generate at most */
	int32 made;   /* so far */
	Size given;   /* bytes of call->text that were given out */
	char **stops; /* UTF-8 */
	int stop_count;
	bool done;
} Generation;

/* ---- arguments ---- */

static double
NumberArgument(FunctionCallInfo fcinfo, int n, double fallback)
{
	return PG_ARGISNULL(n) ? fallback : PG_GETARG_FLOAT8(n);
}

static uint64
SeedArgument(FunctionCallInfo fcinfo, int n)
{
	uint64 seed;

	if (!PG_ARGISNULL(n))
		return (uint64) PG_GETARG_INT64(n);
	if (!pg_strong_random(&seed, sizeof(seed)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random seed")));
	return seed;
}

static void
ReadStops(Generation *gen, ArrayType *array)
{
	Datum *elements;
	bool *nulls;
	int count;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	gen->stops = palloc(Max(count, 1) * sizeof(char *));
	for (int i = 0; i < count; i++)
	{
		char *stop = nulls[i] ? "" : TextDatumGetCString(elements[i]);

		if (*stop == '\0')
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a stop string is empty or NULL"),
							errhint("Leave it out of the array.")));
		gen->stops[gen->stop_count++] = pg_server_to_any(stop, strlen(stop), PG_UTF8);
	}
}

/* ---- one token after the other ---- */

static void
Extend(Generation *gen, const int32 *ids, int32 count)
{
	llm_error err = {0};

	if (!generator_append(gen->generator, 0, ids, count, &err))
		ThrowError(&err);
}

/* The prompt goes through the network; the context holds at least the next token, too. */
static void
Prefill(Generation *gen, text *prompt)
{
	LanguageCall *call = gen->call;
	int64 need;
	llm_error err = {0};

	EncodeText(call, prompt);
	if (call->tokens.count == 0)
	{
		int32 first = gen->end >= 0 ? gen->end : 0;

		if (!token_list_append(&call->tokens, first, &err))
			ThrowError(&err);
	}
	CheckContext(call, call->tokens.count);
	need = Min(call->context, call->tokens.count + gen->most);
	gen->generator = RequireGenerator(call, (int32) need);
	Extend(gen, call->tokens.id, (int32) call->tokens.count);
}

static Generation *
StartGeneration(FunctionCallInfo fcinfo, LanguageCall *call)
{
	Generation *gen = palloc0(sizeof(Generation));
	sampler_config config = {.temperature = NumberArgument(fcinfo, 3, 0),
							 .top_k = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4),
							 .top_p = NumberArgument(fcinfo, 5, 1),
							 .seed = SeedArgument(fcinfo, 7),
							 .min_p = NumberArgument(fcinfo, 8, 0),
							 .repetition_penalty = NumberArgument(fcinfo, 9, 1)};
	llm_error err = {0};

	gen->call = call;
	gen->most = PG_ARGISNULL(2) ? 128 : PG_GETARG_INT32(2);
	if (gen->most < 1 || gen->most > MAX_TOKENS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("max_tokens is %d, outside 1 to %d", gen->most, MAX_TOKENS)));
	gen->end = tokenizer_special(call->tokenizer, SPECIAL_END);
	gen->sampler = sampler_new(&config, net_get_config(call->net)->text.vocab, &err);
	if (gen->sampler == NULL)
		ThrowError(&err);
	OWN(gen->sampler, sampler_free);
	if (!PG_ARGISNULL(6))
		ReadStops(gen, PG_GETARG_ARRAYTYPE_P(6));
	call->text.size = 0;
	Prefill(gen, PG_GETARG_TEXT_PP(1));
	return gen;
}

/* The context is full: start again with the last tokens, half of it. */
static void
Slide(Generation *gen)
{
	LanguageCall *call = gen->call;
	int32 keep = Max(call->context / 2, 1);

	generator_truncate(gen->generator, 0, 0);
	Extend(gen, call->tokens.id + call->tokens.count - keep, keep);
}

/* Where the text of the new token ends a stop string that begins in it or before; the text's size if nowhere. */
static Size
FindStop(const Generation *gen, Size before)
{
	const text_buffer *text = &gen->call->text;
	Size found = text->size;

	for (int i = 0; i < gen->stop_count; i++)
	{
		Size length = strlen(gen->stops[i]);
		Size from = before >= length ? before - length + 1 : 0;

		for (Size at = from; at + length <= found; at++)
			if (memcmp(text->bytes + at, gen->stops[i], length) == 0)
			{
				found = at;
				break;
			}
	}
	return found;
}

/* The next token, its text added to call->text; false at the end. */
static bool
NextToken(Generation *gen, float *logprob)
{
	LanguageCall *call = gen->call;
	Size before = call->text.size, stop;
	llm_error err = {0};
	int32 id;

	if (gen->done || gen->made == gen->most)
		return false;
	CHECK_FOR_INTERRUPTS();
	if (!sampler_next(gen->sampler, generator_logits(gen->generator, 0), gen->made, call->tokens.id,
					  call->tokens.count, &id, logprob, &err))
		ThrowError(&err);
	if (id == gen->end)
		return false;
	DecodeToken(call, id);
	gen->made++;
	stop = FindStop(gen, before);
	gen->done = stop < call->text.size;
	call->text.size = stop;
	if (gen->done || gen->made == gen->most)
		return true;
	if (!token_list_append(&call->tokens, id, &err))
		ThrowError(&err);
	if (generator_length(gen->generator, 0) == call->context)
		Slide(gen);
	else
		Extend(gen, &id, 1);
	return true;
}

/* llm_generate(model, prompt, max_tokens, temperature, top_k, top_p, stop, seed, min_p, repetition_penalty) */
Datum
llm_generate(PG_FUNCTION_ARGS)
{
	LanguageCall *call;
	Generation *gen;
	instr_time start;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	INSTR_TIME_SET_CURRENT(start);
	call = OpenLanguageCall(fcinfo, PG_GETARG_OID(0));
	gen = StartGeneration(fcinfo, call);
	while (NextToken(gen, NULL))
		continue;
	MeterRows(&call->meter, 1, NanosecondsSince(start));
	PG_RETURN_TEXT_P(TextOfBytes(call->text.bytes, text_complete(call->text.bytes, call->text.size)));
}

/* Text that is complete and was not given out yet; all of it behind the last token. */
static text *
NewText(Generation *gen)
{
	const text_buffer *buffer = &gen->call->text;
	bool last = gen->done || gen->made == gen->most;
	Size size = last ? buffer->size : text_complete(buffer->bytes, buffer->size);
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
		if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
			SRF_RETURN_DONE(context);
		old = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &context->tuple_desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		context->tuple_desc = BlessTupleDesc(context->tuple_desc);
		call = NewLanguageCall(context->multi_call_memory_ctx);
		OpenLanguageModel(call, PG_GETARG_OID(0));
		context->user_fctx = StartGeneration(fcinfo, call);
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
