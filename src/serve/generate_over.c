/*
 * generate_over.c
 *	  llm_generate_over(): texts for many prompts at once, as a window function.
 *
 * When the row at hand has no text yet, the arguments of up to ROWS_AHEAD rows from it on are
 * read ahead, and their texts are generated together: each pass through the network reads the
 * next token of up to TOGETHER texts, and the place of a text that has ended is taken by the next
 * one.  The rows that follow are then answered from memory.  Evaluating arguments may run any
 * code, so no text is begun before all of them were read.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "windowapi.h"

#include "../common.h"
#include "generation.h"

PG_FUNCTION_INFO_V1(llm_generate_over);

#define ROWS_AHEAD 32
#define TOGETHER 8 /* with more, numbers would depend on what is generated beside: generator.h */

/* Texts of the rows [first, first + rows) of a partition. */
typedef struct Ahead
{
	int64 first;
	int32 rows;
	text *texts[ROWS_AHEAD]; /* NULL: the prompt was NULL */
	MemoryContext cxt;       /* of the texts */
} Ahead;

/* How to copy the arguments. */
typedef struct ArgumentTypes
{
	int16 length[GENERATE_ARGS];
	bool by_value[GENERATE_ARGS];
} ArgumentTypes;

static ArgumentTypes
TypesOfArguments(FunctionCallInfo fcinfo)
{
	ArgumentTypes types;

	for (int i = 0; i < GENERATE_ARGS; i++)
		get_typlenbyval(get_fn_expr_argtype(fcinfo->flinfo, i), &types.length[i], &types.by_value[i]);
	return types;
}

/* Arguments of a row, counted from the current one, copied into the current memory context; false behind the last. */
static bool
ReadArguments(WindowObject window, const ArgumentTypes *types, int32 row, NullableDatum *args)
{
	bool outside;

	for (int i = GENERATE_PROMPT; i < GENERATE_ARGS; i++)
	{
		Datum value = WinGetFuncArgInPartition(window, i, row, WINDOW_SEEK_CURRENT, false, &args[i].isnull, &outside);

		if (outside)
			return false;
		args[i].value = args[i].isnull ? 0 : datumCopy(value, types->by_value[i], types->length[i]);
	}
	return true;
}

/* A generation for each row from the current one on, NULL for a NULL prompt; their number. */
static int32
ReadAhead(FunctionCallInfo fcinfo, WindowObject window, LanguageCall *call, Generation **rows)
{
	ArgumentTypes types = TypesOfArguments(fcinfo);
	NullableDatum args[GENERATE_ARGS];
	int32 count;

	for (count = 0; count < ROWS_AHEAD; count++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!ReadArguments(window, &types, count, args))
			break;
		rows[count] = args[GENERATE_PROMPT].isnull ? NULL : NewGeneration(call, args);
	}
	return count;
}

/* One token more for each of the texts, none of which has ended. */
static void
NextTokens(LanguageCall *call, Generation **texts, int32 count)
{
	Generation *group[TOGETHER];
	int32 sequences[TOGETHER], ids[TOGETHER], n = 0;
	llm_error err = {0};

	CHECK_FOR_INTERRUPTS();
	for (int32 i = 0; i < count; i++)
	{
		if (!ReadsOneToken(texts[i]))
		{
			NextToken(texts[i], NULL);
			continue;
		}
		sequences[n] = texts[i]->sequence;
		ids[n] = LastToken(texts[i]);
		group[n++] = texts[i];
	}
	if (n > 0 && !generator_step(call->generator, sequences, ids, n, &err))
		ThrowError(&err);
	for (int32 i = 0; i < n; i++)
		MakeToken(group[i], NULL);
}

/* Generate texts to their ends. */
static void
GenerateTogether(LanguageCall *call, Generation **texts, int32 count)
{
	Generation *at_work[TOGETHER];
	int32 positions = 1, places, next = 0, working = 0;

	for (int32 i = 0; i < count; i++)
		positions = Max(positions, GenerationPositions(texts[i]));
	places = RequireSequences(call, Min(count, TOGETHER), positions);
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

/* Generate the texts of the rows and keep them. */
static void
GenerateAhead(LanguageCall *call, Ahead *ahead, Generation **rows)
{
	Generation *texts[ROWS_AHEAD];
	int32 count = 0;
	instr_time start;
	MemoryContext old;

	INSTR_TIME_SET_CURRENT(start);
	for (int32 i = 0; i < ahead->rows; i++)
		if (rows[i] != NULL)
			texts[count++] = rows[i];
	if (count > 0)
		GenerateTogether(call, texts, count);
	old = MemoryContextSwitchTo(ahead->cxt);
	for (int32 i = 0; i < ahead->rows; i++)
		ahead->texts[i] = rows[i] == NULL ? NULL : GeneratedText(rows[i]);
	MemoryContextSwitchTo(old);
	MeterRows(&call->meter, count, NanosecondsSince(start));
}

/* Fill `ahead` from the current row on. */
static void
FillAhead(FunctionCallInfo fcinfo, WindowObject window, Oid relid, Ahead *ahead)
{
	Generation *rows[ROWS_AHEAD];
	MemoryContext scratch, old;
	LanguageCall *call;

	if (!get_fn_expr_arg_stable(fcinfo->flinfo, GENERATE_MODEL))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("the model of llm_generate_over() must be the same for all rows"),
						errhint("Use llm_generate() where it differs from row to row.")));
	if (ahead->cxt == NULL)
		ahead->cxt =
			AllocSetContextCreate(GetMemoryChunkContext(ahead), "llmapp texts of a window", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(ahead->cxt);
	scratch = AllocSetContextCreate(ahead->cxt, "llmapp generations of a window", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scratch);
	call = OpenLanguageCall(fcinfo, relid);
	ahead->first = WinGetCurrentPosition(window);
	ahead->rows = ReadAhead(fcinfo, window, call, rows);
	GenerateAhead(call, ahead, rows);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

/* The arguments of llm_generate(). */
Datum
llm_generate_over(PG_FUNCTION_ARGS)
{
	WindowObject window = PG_WINDOW_OBJECT();
	Ahead *ahead = WinGetPartitionLocalMemory(window, sizeof(Ahead));
	int64 at = WinGetCurrentPosition(window);
	bool isnull;
	Oid relid = DatumGetObjectId(WinGetFuncArgCurrent(window, GENERATE_MODEL, &isnull));
	text *result;

	if (isnull)
		PG_RETURN_NULL();
	if (at >= ahead->first + ahead->rows)
		FillAhead(fcinfo, window, relid, ahead);
	WinSetMarkPosition(window, at);
	result = ahead->texts[at - ahead->first];
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}
