/*
 * language.c
 *	  What the language functions share: model, tokenizer and generator of a call site.
 *
 * The tokenizer is used where it lies, behind the mapped weights.  A generator's memory
 * grows with the texts it was asked for, and is the session's own.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "../common.h"
#include "language.h"

#define GENERATOR_BYTES ((Size) 2 << 30)
#define POSITION_STEP 64 /* generators have room for a multiple, so that few are made */

/* What tokenizer.h says, as malloc'ed memory outlives contexts. */
static void
ReleaseCall(void *arg)
{
	LanguageCall *call = arg;

	EndUse(&call->meter);
	free(call->tokens.id);
	free(call->batch.id);
	free(call->text.bytes);
}

LanguageCall *
NewLanguageCall(MemoryContext cxt)
{
	LanguageCall *call = MemoryContextAllocZero(cxt, sizeof(LanguageCall));

	call->model_cxt = AllocSetContextCreate(cxt, "llmapp model of a call", ALLOCSET_SMALL_SIZES);
	call->generator_cxt = AllocSetContextCreate(cxt, "llmapp generator of a call", ALLOCSET_SMALL_SIZES);
	call->release.func = ReleaseCall;
	call->release.arg = call;
	MemoryContextRegisterResetCallback(cxt, &call->release);
	return call;
}

static void
CloseGenerator(LanguageCall *call)
{
	call->generator = NULL;
	call->inference = NULL;
	call->sequences = call->positions = 0;
	call->writers++;
	MemoryContextReset(call->generator_cxt);
}

static void
OpenCallTokenizer(LanguageCall *call)
{
	Size size;
	const void *block = ModelTokenizer(call->model, &size);

	call->tokenizer = OpenTokenizer(block, size, InterruptRequested);
	if (tokenizer_size(call->tokenizer) > net_get_config(call->net)->text.vocab)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED), errmsg("model \"%s\" is damaged", get_rel_name(call->model->relid)),
				 errdetail("Its tokenizer has %d tokens, its network %d.", tokenizer_size(call->tokenizer),
						   net_get_config(call->net)->text.vocab)));
}

static void
OpenTokens(LanguageCall *call, Oid relid, void (*require)(const Model *))
{
	MemoryContext old;
	Model *model;

	if (call->model != NULL && call->model->relid == relid && ModelIsCurrent(call->model))
		return;
	call->model = NULL;
	call->embedder = NULL;
	call->vocabulary = NULL;
	call->schema = NULL;
	call->schema_cxt = NULL;
	call->alone = call->embeds_alone = false;
	call->embeddings = NULL;
	CloseGenerator(call);
	MemoryContextReset(call->model_cxt);
	old = MemoryContextSwitchTo(call->model_cxt);
	model = OpenModel(relid, 0, call->model_cxt);
	require(model);
	call->net = model->manifest->net;
	call->context = net_get_config(call->net)->text.context;
	call->model = model;
	OpenCallTokenizer(call);
	MemoryContextSwitchTo(old);
	StartUse(&call->meter, relid);
}

void
OpenLanguageModel(LanguageCall *call, Oid relid)
{
	OpenTokens(call, relid, RequireLanguageModel);
}

void
OpenTokenModel(LanguageCall *call, Oid relid)
{
	OpenTokens(call, relid, RequireTokenModel);
}

static LanguageCall *
CallOfSite(FunctionCallInfo fcinfo)
{
	if (fcinfo->flinfo->fn_extra == NULL)
		fcinfo->flinfo->fn_extra = NewLanguageCall(fcinfo->flinfo->fn_mcxt);
	return fcinfo->flinfo->fn_extra;
}

LanguageCall *
OpenLanguageCall(FunctionCallInfo fcinfo, Oid relid)
{
	LanguageCall *call = CallOfSite(fcinfo);

	OpenTokens(call, relid, RequireLanguageModel);
	return call;
}

LanguageCall *
OpenTokenCall(FunctionCallInfo fcinfo, Oid relid)
{
	LanguageCall *call = CallOfSite(fcinfo);

	OpenTokens(call, relid, RequireTokenModel);
	return call;
}

LanguageCall *
OpenLabelCall(FunctionCallInfo fcinfo, Oid relid)
{
	LanguageCall *call = CallOfSite(fcinfo);

	OpenTokens(call, relid, RequireLabelModel);
	return call;
}

const char *
Utf8(text *input, Size *length)
{
	char *bytes = VARDATA_ANY(input);
	char *utf8 = pg_server_to_any(bytes, VARSIZE_ANY_EXHDR(input), PG_UTF8);

	*length = utf8 == bytes ? VARSIZE_ANY_EXHDR(input) : strlen(utf8);
	return utf8;
}

void
EncodeUtf8(LanguageCall *call, const char *utf8, Size length, token_list *out)
{
	llm_error err = {0};

	out->count = 0;
	if (!tokenizer_encode(call->tokenizer, utf8, length, false, out, &err))
		ThrowError(&err);
}

void
EncodeText(LanguageCall *call, text *input, token_list *out)
{
	Size length;
	const char *utf8 = Utf8(input, &length);

	EncodeUtf8(call, utf8, length, out);
}

void
EncodePromptUtf8(LanguageCall *call, const char *utf8, Size length, token_list *out)
{
	llm_error err = {0};

	out->count = 0;
	if (!tokenizer_encode_begun(call->tokenizer, utf8, length, false, out, &err))
		ThrowError(&err);
}

void
EncodePrompt(LanguageCall *call, text *input, token_list *out)
{
	Size length;
	const char *utf8 = Utf8(input, &length);

	EncodePromptUtf8(call, utf8, length, out);
}

void
EncodeWhole(LanguageCall *call, text *input, int32 most, token_list *out)
{
	Size length;
	const char *utf8 = Utf8(input, &length);

	EncodeWholeUtf8(call, utf8, length, most, out);
}

void
EncodeWholeUtf8(LanguageCall *call, const char *utf8, Size length, int32 most, token_list *out)
{
	llm_error err = {0};

	out->count = 0;
	if (!tokenizer_encode_input(call->tokenizer, utf8, length, most, out, &err))
		ThrowError(&err);
}

/* Tokens that the encoder may be given; 0 of decoders. */
static int32
SourceRoom(const LanguageCall *call)
{
	return net_get_config(call->net)->text.source_context;
}

/* As many of the sequences wanted as a generator may spend memory on; ERROR when there is not enough for one. */
static int32
AffordedSequences(const LanguageCall *call, int32 wanted, int32 positions)
{
	for (;; wanted /= 2)
	{
		llm_error err = {0};
		size_t bytes;

		if (!generator_memory(call->net, wanted, positions, SourceRoom(call), &bytes, &err))
			ThrowError(&err);
		if (bytes <= GENERATOR_BYTES)
			return wanted;
		if (wanted == 1)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
							errmsg("a text of %d tokens needs %zu MB of memory with model \"%s\"", positions,
								   bytes / (1024 * 1024), get_rel_name(call->model->relid)),
							errdetail("At most %zu MB are used.", GENERATOR_BYTES / (1024 * 1024)),
							errhint("Use a shorter text or fewer max_tokens.")));
	}
}

static void
MakeGenerator(LanguageCall *call, int32 sequences, int32 positions)
{
	MemoryContext old;
	llm_error err = {0};

	CloseGenerator(call);
	old = MemoryContextSwitchTo(call->generator_cxt);
	call->generator = generator_new(call->net, call->model->weights, sequences, positions, SourceRoom(call), &err);
	if (call->generator == NULL)
		ThrowError(&err);
	OWN(call->generator, generator_free);
	MemoryContextSwitchTo(old);
	generator_set_poll(call->generator, InterruptRequested, NULL);
	call->sequences = sequences;
	call->positions = positions;
}

static int32
RoomFor(const LanguageCall *call, int32 positions)
{
	return Min(call->context, (positions + POSITION_STEP - 1) / POSITION_STEP * POSITION_STEP);
}

int32
RequireSequences(LanguageCall *call, int32 wanted, int32 positions)
{
	int32 room = RoomFor(call, positions);
	int32 sequences = AffordedSequences(call, wanted, room);

	if (call->generator == NULL || call->positions < room || call->sequences < sequences)
		MakeGenerator(call, sequences, room);
	for (int32 i = 0; i < call->sequences; i++)
		generator_truncate(call->generator, i, 0);
	return sequences;
}

/* A server is given no more than a generator could take over. */
int32
RequireTexts(LanguageCall *call, int32 wanted, int32 positions)
{
	int32 room = RoomFor(call, positions);
	int32 texts = Min(AffordedSequences(call, wanted, room), INFERENCE_TEXTS);

	if (!call->alone && (call->inference == NULL || call->inference_texts < texts))
	{
		CloseGenerator(call);
		call->inference = OpenInference(call->model, INFERENCE_WRITE, texts, call->generator_cxt);
		call->inference_texts = texts;
		call->alone = call->inference == NULL;
	}
	if (call->alone)
		return RequireSequences(call, texts, positions);
	call->positions = Max(call->positions, room);
	return texts;
}

void
WriteAlone(LanguageCall *call)
{
	int32 texts = call->inference_texts, positions = call->positions;

	call->alone = true;
	CloseGenerator(call);
	RequireSequences(call, texts, positions);
}

void
MeterTexts(LanguageCall *call, int64 texts, double ns)
{
	MeterRows(&call->meter, texts, ns);
	if (call->inference != NULL)
		MeterServed(&call->meter, texts);
}

generator *
RequireGenerator(LanguageCall *call, int32 positions)
{
	RequireSequences(call, 1, positions);
	return call->generator;
}

void
DecodeToken(LanguageCall *call, int32 id, text_buffer *out)
{
	llm_error err = {0};

	if (id < tokenizer_size(call->tokenizer) && !tokenizer_decode(call->tokenizer, &id, 1, false, out, &err))
		ThrowError(&err);
}

text *
TextOfBytes(const char *bytes, Size size)
{
	static const char replacement[] = "\xEF\xBF\xBD";
	StringInfoData utf8;
	char *server;

	initStringInfo(&utf8);
	for (Size i = 0; i < size;)
	{
		int length = bytes[i] == '\0' ? 0 : pg_encoding_verifymbchar(PG_UTF8, bytes + i, (int) Min(size - i, 4));

		if (length > 0)
			appendBinaryStringInfo(&utf8, bytes + i, length);
		else
			appendStringInfoString(&utf8, replacement);
		i += Max(length, 1);
	}
	server = pg_any_to_server(utf8.data, utf8.len, PG_UTF8);
	return cstring_to_text_with_len(server, server == utf8.data ? utf8.len : strlen(server));
}

text *
TextOfTokens(LanguageCall *call, const int32 *ids, int64 count)
{
	llm_error err = {0};

	call->text.size = 0;
	if (!tokenizer_decode(call->tokenizer, ids, count, false, &call->text, &err))
		ThrowError(&err);
	return TextOfBytes(call->text.bytes, call->text.size);
}

void
CheckContext(const LanguageCall *call, int64 tokens, const char *hint)
{
	if (tokens <= call->context)
		return;
	ereport(ERROR, (errcode(ERRCODE_STRING_DATA_LENGTH_MISMATCH),
					errmsg("the text has " INT64_FORMAT " tokens, the context of model \"%s\" is %d", tokens,
						   get_rel_name(call->model->relid), call->context),
					errhint("%s", hint)));
}
