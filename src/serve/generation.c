/*
 * generation.c
 *	  A text being generated, token after token.
 *
 * When the context is full, the generator starts again with its second half, so a text may
 * be longer than the context.  The token behind which texts end in training ends a generated
 * text, and stands for the beginning when the prompt is empty.  A model of pairs was trained with
 * it between prompt and completion (train/samples.c), and gets its prompts in that form.
 *
 * With a schema the tokens that may be next are found out after each token, so a text that is
 * complete ends without another pass through the network.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "../common.h"
#include "generation.h"
#include "schema.h"

#define MAX_TOKENS 1000000
#define TOGETHER 8 /* with more, numbers would depend on what is generated beside: generator.h */

/* ---- arguments ---- */

static double
NumberOr(NullableDatum arg, double fallback)
{
	return arg.isnull ? fallback : DatumGetFloat8(arg.value);
}

static int32
IntegerOr(NullableDatum arg, int32 fallback)
{
	return arg.isnull ? fallback : DatumGetInt32(arg.value);
}

static uint64
Seed(NullableDatum arg)
{
	uint64 seed;

	if (!arg.isnull)
		return (uint64) DatumGetInt64(arg.value);
	if (!pg_strong_random(&seed, sizeof(seed)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random seed")));
	return seed;
}

/* True when the beginning of a prompt that is too long is to be left out. */
static bool
TruncatesLeft(NullableDatum arg)
{
	char *name = arg.isnull ? "error" : TextDatumGetCString(arg.value);

	if (strcmp(name, "left") == 0)
		return true;
	if (strcmp(name, "error") == 0)
		return false;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown truncation \"%s\"", name),
					errhint("Use error or left.")));
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

static void
MakeSampler(Generation *gen, const NullableDatum *args)
{
	sampler_config config = {.temperature = NumberOr(args[GENERATE_TEMPERATURE], 0),
							 .top_k = IntegerOr(args[GENERATE_TOP_K], 0),
							 .top_p = NumberOr(args[GENERATE_TOP_P], 1),
							 .seed = Seed(args[GENERATE_SEED]),
							 .min_p = NumberOr(args[GENERATE_MIN_P], 0),
							 .repetition_penalty = NumberOr(args[GENERATE_REPETITION_PENALTY], 1)};
	llm_error err = {0};

	gen->sampler = sampler_new(&config, net_get_config(gen->call->net)->text.vocab, &err);
	if (gen->sampler == NULL)
		ThrowError(&err);
	OWN(gen->sampler, sampler_free);
}

static void
AppendToken(token_list *tokens, int32 id)
{
	llm_error err = {0};

	if (!token_list_append(tokens, id, &err))
		ThrowError(&err);
}

/* Keep the last tokens alone. */
static void
KeepLast(token_list *tokens, int64 most)
{
	if (tokens->count <= most)
		return;
	memmove(tokens->id, tokens->id + tokens->count - most, most * sizeof(int32));
	tokens->count = most;
}

/* At least one token and at most as many as the context has. */
static void
FitPrompt(Generation *gen, bool truncate_left)
{
	token_list *tokens = &gen->tokens;

	if (tokens->count == 0)
		AppendToken(tokens, Max(gen->end, 0));
	if (truncate_left)
		KeepLast(tokens, gen->call->context);
	CheckContext(gen->call, tokens->count, "Keep its last tokens alone: truncate => 'left'.");
}

/* The prompt of a model of pairs, of a long one as much as in training. */
static void
ReadPairPrompt(Generation *gen, text *prompt)
{
	int32 source_context = net_get_config(gen->call->net)->text.source_context;

	if (source_context > 0)
		EncodeWhole(gen->call, prompt, source_context, &gen->source);
	else
	{
		EncodeText(gen->call, prompt, &gen->tokens);
		KeepLast(&gen->tokens, gen->call->context - 1 - Min(gen->most, gen->call->context / 2));
	}
	AppendToken(&gen->tokens, gen->call->model->manifest->start >= 0 ? gen->call->model->manifest->start : gen->end);
}

/* ---- schemas ---- */

static void
SetSchema(Generation *gen, Jsonb *schema)
{
	int32 vocab = net_get_config(gen->call->net)->text.vocab;

	if (gen->stop_count > 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a text with a schema cannot end at a stop string"), errhint("Leave out stop.")));
	gen->constraint = UseSchema(gen->call, schema);
	if (constraint_shortest(gen->constraint) > gen->most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_tokens is %d, but a text that satisfies the schema needs " INT64_FORMAT, gen->most,
						constraint_shortest(gen->constraint)),
				 errhint("Use max_tokens => " INT64_FORMAT " or more.", constraint_shortest(gen->constraint))));
	gen->allowed = palloc0((vocab + 63) / 64 * sizeof(uint64));
	sampler_allow(gen->sampler, gen->allowed);
}

/* Find out what may be next; the text is done when nothing may. */
static void
AllowTokens(Generation *gen)
{
	int32 end = gen->end >= 0 ? gen->end : gen->turn_end;
	llm_error err = {0};
	bool more;

	if (gen->constraint == NULL || gen->done)
		return;
	if (!constraint_next(gen->constraint, &gen->place, gen->text.bytes, gen->text.size, gen->most - gen->made, end,
						 gen->allowed, &more, &err))
		ThrowError(&err);
	if (gen->turn_end >= 0 && (gen->allowed[end / 64] >> end % 64 & 1))
		gen->allowed[gen->turn_end / 64] |= UINT64CONST(1) << gen->turn_end % 64;
	gen->done = !more;
}

/* ---- a new text ---- */

static void
FreeLists(void *arg)
{
	Generation *gen = arg;

	free(gen->source.id);
	free(gen->tokens.id);
	free(gen->text.bytes);
}

/* All but its prompt. */
static Generation *
BeginGeneration(LanguageCall *call, const NullableDatum *args, int32 turn_end)
{
	Generation *gen = palloc0(sizeof(Generation));

	OWN(gen, FreeLists);
	gen->call = call;
	gen->most = IntegerOr(args[GENERATE_MAX_TOKENS], 128);
	if (gen->most < 1 || gen->most > MAX_TOKENS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("max_tokens is %d, outside 1 to %d", gen->most, MAX_TOKENS)));
	gen->end = tokenizer_special(call->tokenizer, SPECIAL_END);
	gen->turn_end = turn_end;
	MakeSampler(gen, args);
	if (!args[GENERATE_STOP].isnull)
		ReadStops(gen, DatumGetArrayTypeP(args[GENERATE_STOP].value));
	if (!args[GENERATE_SCHEMA].isnull)
		SetSchema(gen, DatumGetJsonbP(args[GENERATE_SCHEMA].value));
	return gen;
}

Generation *
NewGeneration(LanguageCall *call, const NullableDatum *args)
{
	Generation *gen = BeginGeneration(call, args, -1);
	text *prompt = DatumGetTextPP(args[GENERATE_PROMPT].value);

	if (encoder_has_tokens(call->model->manifest->encoder))
		ReadPairPrompt(gen, prompt);
	else
	{
		EncodePrompt(call, prompt, &gen->tokens);
		FitPrompt(gen, TruncatesLeft(args[GENERATE_TRUNCATE]));
	}
	AllowTokens(gen);
	return gen;
}

Generation *
NewGenerationOf(LanguageCall *call, const NullableDatum *args, const token_list *prompt, int32 turn_end)
{
	Generation *gen = BeginGeneration(call, args, turn_end);

	for (int64 i = 0; i < prompt->count; i++)
		AppendToken(&gen->tokens, prompt->id[i]);
	FitPrompt(gen, TruncatesLeft(args[GENERATE_TRUNCATE]));
	AllowTokens(gen);
	return gen;
}

int32
GenerationPositions(const Generation *gen)
{
	return (int32) Min(gen->call->context, gen->tokens.count - gen->made + gen->most);
}

/* ---- one token after the other ---- */

/* Which tokens the network sees: all, or, when that are more than fit, as many as half the context. */
static void
PlaceWindow(Generation *gen)
{
	const LanguageCall *call = gen->call;

	if (gen->tokens.count - gen->begin > call->context)
	{
		gen->begin = gen->tokens.count - Max(call->context / 2, 1);
		gen->fed = 0;
	}
	if (gen->writer != call->writers)
		gen->fed = 0;
	gen->writer = call->writers;
}

static const int32 *
Unread(const Generation *gen, int32 *count)
{
	*count = (int32) (gen->tokens.count - gen->begin - gen->fed);
	return gen->tokens.id + gen->begin + gen->fed;
}

/* The network of this session reads what it has not yet. */
static void
FeedGenerator(Generation *gen)
{
	generator *g = gen->call->generator;
	llm_error err = {0};
	const int32 *ids;
	int32 count;

	PlaceWindow(gen);
	ids = Unread(gen, &count);
	if (gen->fed == 0)
		generator_truncate(g, gen->sequence, 0);
	if (gen->made == 0 && gen->source.count > 0 &&
		!generator_source(g, gen->sequence, gen->source.id, (int32) gen->source.count, &err))
		ThrowError(&err);
	if (!generator_append(g, gen->sequence, ids, count, &err))
		ThrowError(&err);
	gen->fed += count;
}

/* The same of a server for several texts.  False when it is gone, and the session has a generator in its place. */
static bool
FeedServer(LanguageCall *call, Generation **texts, int32 n)
{
	if (call->inference == NULL)
		return false;
	for (int32 i = 0; i < n; i++)
	{
		Generation *gen = texts[i];
		const int32 *ids;
		int32 count;

		PlaceWindow(gen);
		ids = Unread(gen, &count);
		GiveTokens(call->inference, gen->sequence, gen->fed, ids, count);
		gen->fed += count;
	}
	if (AwaitResults(call->inference))
		return true;
	WriteAlone(call);
	return false;
}

static const float *
NextLogits(const Generation *gen)
{
	const LanguageCall *call = gen->call;

	return call->inference != NULL ? InferenceResult(call->inference, gen->sequence)
								   : generator_logits(call->generator, gen->sequence);
}

/* Where the text of the new token ends a stop string that begins in it or before; the text's size if nowhere. */
static Size
FindStop(const Generation *gen, Size before)
{
	const text_buffer *text = &gen->text;
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

static bool
EndsText(const Generation *gen, int32 id)
{
	const manifest *m = gen->call->model->manifest;

	for (int32 i = 0; i < m->end_count; i++)
		if (id == m->ends[i])
			return true;
	return id == gen->end || id == gen->turn_end;
}

/* From what the network says. */
static bool
MakeToken(Generation *gen, float *logprob)
{
	const float *logits = NextLogits(gen);
	Size before = gen->text.size, stop;
	llm_error err = {0};
	int32 id;

	if (!sampler_next(gen->sampler, logits, gen->made, gen->tokens.id, gen->tokens.count, &id, logprob, &err))
		ThrowError(&err);
	gen->done = EndsText(gen, id);
	if (gen->done)
		return false;
	DecodeToken(gen->call, id, &gen->text);
	AppendToken(&gen->tokens, id);
	gen->made++;
	stop = FindStop(gen, before);
	gen->done = stop < gen->text.size || gen->made == gen->most;
	gen->text.size = stop;
	AllowTokens(gen);
	return true;
}

bool
NextToken(Generation *gen, float *logprob)
{
	if (gen->done)
		return false;
	CHECK_FOR_INTERRUPTS();
	if (!FeedServer(gen->call, &gen, 1))
		FeedGenerator(gen);
	return MakeToken(gen, logprob);
}

/* ---- several texts ---- */

/* Those that are to read one token only, the last one made, read it in one pass; other texts one by one. */
static void
FeedTogether(LanguageCall *call, Generation **texts, int32 count)
{
	Generation *group[TOGETHER];
	int32 sequences[TOGETHER], ids[TOGETHER], n = 0;
	llm_error err = {0};

	for (int32 i = 0; i < count; i++)
	{
		const int32 *unread;
		int32 unread_count;

		PlaceWindow(texts[i]);
		unread = Unread(texts[i], &unread_count);
		if (texts[i]->fed == 0 || unread_count > 1)
		{
			FeedGenerator(texts[i]);
			MakeToken(texts[i], NULL);
			continue;
		}
		sequences[n] = texts[i]->sequence;
		ids[n] = unread[0];
		group[n++] = texts[i];
	}
	if (n > 0 && !generator_step(call->generator, sequences, ids, n, &err))
		ThrowError(&err);
	for (int32 i = 0; i < n; i++)
	{
		group[i]->fed++;
		MakeToken(group[i], NULL);
	}
}

/* One token more for each of the texts, none of which has ended. */
static void
NextTokens(LanguageCall *call, Generation **texts, int32 count)
{
	CHECK_FOR_INTERRUPTS();
	if (!FeedServer(call, texts, count))
		FeedTogether(call, texts, count);
	else
		for (int32 i = 0; i < count; i++)
			MakeToken(texts[i], NULL);
}

void
GenerateTogether(LanguageCall *call, Generation **texts, int32 count)
{
	Generation *at_work[TOGETHER];
	int32 positions = 1, places, next = 0, working = 0;

	if (count == 0)
		return;
	for (int32 i = 0; i < count; i++)
		positions = Max(positions, GenerationPositions(texts[i]));
	places = RequireTexts(call, Min(count, TOGETHER), positions);
	for (; next < places; next++)
	{
		at_work[working++] = texts[next];
		texts[next]->sequence = next;
	}
	while (working > 0)
	{
		NextTokens(call, at_work, working);
		for (int32 i = working - 1; i >= 0; i--)
		{
			if (!at_work[i]->done)
				continue;
			if (next < count)
			{
				texts[next]->sequence = at_work[i]->sequence;
				at_work[i] = texts[next++];
			}
			else
				at_work[i] = at_work[--working];
		}
	}
}

text *
GeneratedText(const Generation *gen)
{
	return TextOfBytes(gen->text.bytes, text_complete(gen->text.bytes, gen->text.size));
}
