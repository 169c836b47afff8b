/*
 * chunk.c
 *	  llm_chunk(): a long text in pieces that a model reads whole.
 *
 * Cutting works on UTF-8; positions are counted in characters of the server's encoding, so that
 * substr() of the text is the piece.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "../common.h"
#include "../text/chunk.h"
#include "chunk.h"

PG_FUNCTION_INFO_V1(llm_chunk);

ChunkOptions
ChunkArguments(FunctionCallInfo fcinfo, int max_tokens, int overlap)
{
	ChunkOptions options = {PG_ARGISNULL(max_tokens) ? 0 : PG_GETARG_INT32(max_tokens),
							PG_ARGISNULL(overlap) ? 0 : PG_GETARG_INT32(overlap)};

	if (!PG_ARGISNULL(max_tokens) && options.max_tokens < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("max_tokens must be at least 1, not %d", options.max_tokens),
						errhint("Leave max_tokens out for as many as the model reads.")));
	if (options.overlap < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("overlap must be at least 0, not %d", options.overlap)));
	return options;
}

void
ResolveChunkOptions(LanguageCall *call, ChunkOptions *options)
{
	int32 room = EmbeddingRoom(call);

	if (options->max_tokens > room)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("max_tokens must be at most %d, not %d", room, options->max_tokens),
						errdetail("Model \"%s\" reads no more of a text.", get_rel_name(call->model->relid)),
						errhint("Leave max_tokens out for as many as the model reads.")));
	if (options->max_tokens == 0)
		options->max_tokens = room;
	if (options->overlap >= options->max_tokens)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("overlap must be less than %d, not %d", options->max_tokens, options->overlap),
						errdetail("A piece has at most %d tokens, and must go on where the one before ended.",
								  options->max_tokens)));
}

/* Bytes of UTF-8 in the server's encoding; they may be the same bytes. */
static const char *
ServerText(const char *utf8, Size bytes, Size *size)
{
	const char *server = pg_any_to_server(utf8, (int) bytes, PG_UTF8);

	*size = server == utf8 ? bytes : strlen(server);
	return server;
}

static int32
CountCharacters(const char *utf8, Size bytes)
{
	Size size;
	const char *server = ServerText(utf8, bytes, &size);
	int32 count = pg_mbstrlen_with_len(server, (int) size);

	if (server != utf8)
		pfree(unconstify(char *, server));
	return count;
}

text *
PieceText(const TextPiece *piece)
{
	Size size;
	const char *server = ServerText(piece->utf8, piece->bytes, &size);

	return cstring_to_text_with_len(server, (int) size);
}

static void
ReleasePieces(void *arg)
{
	free(((piece_list *) arg)->piece);
}

TextPiece *
ChunkText(LanguageCall *call, text *input, const ChunkOptions *options, int64 *count)
{
	Size length;
	const char *utf8 = Utf8(input, &length);
	piece_list *cut = palloc0(sizeof(piece_list));
	llm_error err = {0};
	TextPiece *pieces;

	OwnObject(cut, ReleasePieces);
	if (!text_chunk(call->tokenizer, utf8, length, options->max_tokens, options->overlap, cut, &err))
		ThrowError(&err);
	pieces = MemoryContextAllocHuge(CurrentMemoryContext, mul_size(Max(cut->count, 1), sizeof(TextPiece)));
	for (int64 i = 0; i < cut->count; i++)
	{
		const text_piece *p = &cut->piece[i];
		const text_piece *before = i > 0 ? p - 1 : NULL;

		CHECK_FOR_INTERRUPTS();
		pieces[i].start = before == NULL
							  ? 1
							  : pieces[i - 1].start + CountCharacters(utf8 + before->start, p->start - before->start);
		pieces[i].length = CountCharacters(utf8 + p->start, p->length);
		pieces[i].tokens = p->tokens;
		pieces[i].utf8 = utf8 + p->start;
		pieces[i].bytes = p->length;
	}
	*count = cut->count;
	return pieces;
}

/* llm_chunk(model, input, max_tokens, overlap) */
Datum
llm_chunk(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ChunkOptions options;
	LanguageCall *call;
	TextPiece *pieces;
	int64 count;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	call = OpenTokenCall(fcinfo, PG_GETARG_OID(0));
	options = ChunkArguments(fcinfo, 2, 3);
	ResolveChunkOptions(call, &options);
	pieces = ChunkText(call, PG_GETARG_TEXT_PP(1), &options, &count);
	for (int64 i = 0; i < count; i++)
	{
		Datum values[5] = {Int32GetDatum((int32) i + 1), Int32GetDatum(pieces[i].start),
						   Int32GetDatum(pieces[i].length), Int32GetDatum(pieces[i].tokens),
						   PointerGetDatum(PieceText(&pieces[i]))};
		bool nulls[5] = {false};

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		pfree(DatumGetPointer(values[4]));
	}
	return (Datum) 0;
}
