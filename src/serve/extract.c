/*
 * extract.c
 *	  llm_extract(): what a text says, as a value of a type of SQL.
 *
 * The type's JSON Schema holds the model to JSON that jsonb_to_record() can read; what it cannot
 * say, such as CHECK constraints of domains, is checked there.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "../common.h"
#include "chat.h"
#include "schema.h"

PG_FUNCTION_INFO_V1(llm_extract);

enum
{
	EXTRACT_MODEL,
	EXTRACT_INPUT,
	EXTRACT_TYPE,
	EXTRACT_INSTRUCTION,
	EXTRACT_MAX_TOKENS,
	EXTRACT_TEMPERATURE,
	EXTRACT_SEED,
	EXTRACT_TEMPLATE
};

static const char instruction_by_default[] = "Write what the text says as JSON that satisfies the schema.";

/* The one message: what to do, the schema unless the model was trained for one kind of text, and the text. */
static json_t *
MessageOf(FunctionCallInfo fcinfo, const LanguageCall *call, Jsonb *schema)
{
	bool trained = encoder_has_tokens(call->model->manifest->encoder) && PG_ARGISNULL(EXTRACT_TEMPLATE);
	char *input = text_to_cstring(PG_GETARG_TEXT_PP(EXTRACT_INPUT));
	StringInfoData content;
	json_t *messages;
	char *utf8;

	initStringInfo(&content);
	if (!PG_ARGISNULL(EXTRACT_INSTRUCTION))
		appendStringInfo(&content, "%s\n\n", text_to_cstring(PG_GETARG_TEXT_PP(EXTRACT_INSTRUCTION)));
	else if (!trained)
		appendStringInfo(&content, "%s\n\n", instruction_by_default);
	if (!trained)
		appendStringInfo(&content, "Schema: %s\n\nText: ", JsonbToCString(NULL, &schema->root, VARSIZE(schema)));
	appendStringInfoString(&content, input);
	utf8 = pg_server_to_any(content.data, content.len, PG_UTF8);
	messages = json_pack("[{s:s, s:s}]", "role", "user", "content", utf8);
	if (messages == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	OWN(messages, json_decref);
	return messages;
}

static Generation *
StartExtraction(FunctionCallInfo fcinfo, LanguageCall *call, Jsonb *schema)
{
	NullableDatum args[GENERATE_ARGS];
	Conversation c = {.messages = MessageOf(fcinfo, call, schema),
					  .template = PG_ARGISNULL(EXTRACT_TEMPLATE) ? NULL : PG_GETARG_TEXT_PP(EXTRACT_TEMPLATE)};

	for (int i = 0; i < GENERATE_ARGS; i++)
		args[i] = (NullableDatum) {.isnull = true};
	args[GENERATE_MAX_TOKENS] = fcinfo->args[EXTRACT_MAX_TOKENS];
	args[GENERATE_TEMPERATURE] = fcinfo->args[EXTRACT_TEMPERATURE];
	args[GENERATE_SEED] = fcinfo->args[EXTRACT_SEED];
	args[GENERATE_SCHEMA] = (NullableDatum) {.value = JsonbPGetDatum(schema)};
	return NewChat(call, args, &c);
}

/* JSON as a value of a type, in the caller's memory context. */
static Datum
ValueOfJson(text *json, Oid type, bool *isnull)
{
	char *name = format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY);
	char *query = psprintf("SELECT v FROM pg_catalog.jsonb_to_record(pg_catalog.jsonb_build_object('v', "
						   "$1::pg_catalog.jsonb)) AS r(v %s)",
						   name);
	Oid types[1] = {TEXTOID};
	Datum values[1] = {PointerGetDatum(json)};
	int16 length;
	bool by_value;
	Datum result;

	get_typlenbyval(type, &length, &by_value);
	SPI_connect();
	if (SPI_execute_with_args(query, 1, types, values, NULL, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not convert JSON to %s", name);
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
	if (!*isnull)
		result = SPI_datumTransfer(result, by_value, length);
	SPI_finish();
	return result;
}

/* llm_extract(model, input, as_type, instruction, max_tokens, temperature, seed, template) */
Datum
llm_extract(PG_FUNCTION_ARGS)
{
	Oid type = get_fn_expr_argtype(fcinfo->flinfo, EXTRACT_TYPE);
	LanguageCall *call;
	Generation *gen;
	instr_time start;
	bool isnull;
	Datum result;

	if (PG_ARGISNULL(EXTRACT_MODEL) || PG_ARGISNULL(EXTRACT_INPUT))
		PG_RETURN_NULL();
	INSTR_TIME_SET_CURRENT(start);
	call = OpenLanguageCall(fcinfo, PG_GETARG_OID(EXTRACT_MODEL));
	gen = StartExtraction(fcinfo, call, SchemaOfType(type, -1));
	GenerateTogether(call, &gen, 1);
	MeterTexts(call, 1, NanosecondsSince(start));
	result = ValueOfJson(GeneratedText(gen), type, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	return result;
}
