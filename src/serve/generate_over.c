/*
 * generate_over.c
 *	  llm_generate_over(): texts for many prompts at once, as a window function.
 *
 * When the row at hand has no text yet, the arguments of up to ROWS_AHEAD rows from it on are
 * read ahead, and their texts are generated together.  The rows that follow are then answered from
 * memory.  Evaluating arguments may run any code, so no text is begun before all of them were read.
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
	GenerateTogether(call, texts, count);
	old = MemoryContextSwitchTo(ahead->cxt);
	for (int32 i = 0; i < ahead->rows; i++)
		ahead->texts[i] = rows[i] == NULL ? NULL : GeneratedText(rows[i]);
	MemoryContextSwitchTo(old);
	MeterTexts(call, count, NanosecondsSince(start));
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
