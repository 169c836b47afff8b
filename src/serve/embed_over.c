/*
 * embed_over.c
 *	  llm_embed_over(): embeddings of many texts at once, as a window function.
 *
 * When the row at hand has no embedding yet, the texts of up to ROWS_AHEAD rows from it on are read
 * ahead and embedded together.  The rows that follow are then answered from memory.  Evaluating a
 * text may run any code, so none is embedded before all of them were read.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "windowapi.h"

#include "../common.h"
#include "language.h"

PG_FUNCTION_INFO_V1(llm_embed_over);

#define ROWS_AHEAD 64

/* Embeddings of the rows [first, first + rows) of a partition. */
typedef struct Ahead
{
	int64 first;
	int32 rows;
	ArrayType *embeddings[ROWS_AHEAD]; /* NULL: there was no text, or no token in it */
	MemoryContext cxt;                 /* of the embeddings */
} Ahead;

/* The texts of the rows from the current one on, copied, NULL for NULL; their number. */
static int32
ReadTexts(WindowObject window, text **texts)
{
	int32 count;

	for (count = 0; count < ROWS_AHEAD; count++)
	{
		bool isnull, outside;
		Datum value = WinGetFuncArgInPartition(window, 1, count, WINDOW_SEEK_CURRENT, false, &isnull, &outside);

		CHECK_FOR_INTERRUPTS();
		if (outside)
			break;
		texts[count] = isnull ? NULL : (text *) PG_DETOAST_DATUM_COPY(value);
	}
	return count;
}

/* Embed the texts of ahead->rows rows. */
static void
EmbedAhead(LanguageCall *call, Ahead *ahead, text **texts)
{
	const char *utf8[ROWS_AHEAD];
	Size lengths[ROWS_AHEAD];
	int32 row[ROWS_AHEAD], count = 0, width = EmbeddingWidth(call);
	float *out = palloc(sizeof(float) * ROWS_AHEAD * width);
	MemoryContext old;

	for (int32 i = 0; i < ahead->rows; i++)
	{
		ahead->embeddings[i] = NULL;
		if (texts[i] == NULL)
			continue;
		utf8[count] = Utf8(texts[i], &lengths[count]);
		row[count] = i;
		count += HasTokens(call, utf8[count], lengths[count]);
	}
	EmbedTexts(call, utf8, lengths, count, out);
	old = MemoryContextSwitchTo(ahead->cxt);
	for (int32 i = 0; i < count; i++)
		ahead->embeddings[row[i]] = EmbeddingArray(call, out + (Size) i * width);
	MemoryContextSwitchTo(old);
}

/* Fill `ahead` from the current row on. */
static void
FillAhead(FunctionCallInfo fcinfo, WindowObject window, Oid relid, Ahead *ahead)
{
	text *texts[ROWS_AHEAD];
	MemoryContext scratch, old;

	if (!get_fn_expr_arg_stable(fcinfo->flinfo, 0))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("the model of llm_embed_over() must be the same for all rows"),
						errhint("Use llm_embed() where it differs from row to row.")));
	if (ahead->cxt == NULL)
		ahead->cxt = AllocSetContextCreate(GetMemoryChunkContext(ahead), "llmapp embeddings of a window",
										   ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(ahead->cxt);
	ahead->rows = 0;
	scratch = AllocSetContextCreate(ahead->cxt, "llmapp texts of a window", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scratch);
	ahead->first = WinGetCurrentPosition(window);
	ahead->rows = ReadTexts(window, texts);
	EmbedAhead(OpenTokenCall(fcinfo, relid), ahead, texts);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

/* llm_embed_over(model, input) */
Datum
llm_embed_over(PG_FUNCTION_ARGS)
{
	WindowObject window = PG_WINDOW_OBJECT();
	Ahead *ahead = WinGetPartitionLocalMemory(window, sizeof(Ahead));
	int64 at = WinGetCurrentPosition(window);
	bool isnull;
	Oid relid = DatumGetObjectId(WinGetFuncArgCurrent(window, 0, &isnull));
	ArrayType *embedding;

	if (isnull)
		PG_RETURN_NULL();
	if (at >= ahead->first + ahead->rows)
		FillAhead(fcinfo, window, relid, ahead);
	WinSetMarkPosition(window, at);
	embedding = ahead->embeddings[at - ahead->first];
	if (embedding == NULL)
		PG_RETURN_NULL();
	PG_RETURN_ARRAYTYPE_P(embedding);
}
