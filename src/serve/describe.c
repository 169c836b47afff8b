/*
 * describe.c
 *	  What can be trained and with which settings: llm_architectures(), llm_params().
 *
 * Both read the tables that training itself uses.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "../format/params.h"
#include "../common.h"

PG_FUNCTION_INFO_V1(llm_architectures);
PG_FUNCTION_INFO_V1(llm_params);

static const char *const param_type_names[] = {
	[PARAM_INTEGER] = "integer",
	[PARAM_NUMBER] = "number",
	[PARAM_BOOLEAN] = "boolean",
	[PARAM_STRING] = "string",
	[PARAM_INTEGERS] = "array of integers",
	[PARAM_NAMES] = "array of strings",
	[PARAM_ANY] = "see description",
};

Datum
llm_architectures(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int32_t count;
	const architecture_info *architectures = architecture_table(&count);

	InitMaterializedSRF(fcinfo, 0);
	for (int32_t i = 0; i < count; i++)
	{
		Datum values[3] = {CStringGetTextDatum(architectures[i].name), CStringGetTextDatum(architectures[i].tasks),
						   CStringGetTextDatum(architectures[i].description)};
		bool nulls[3] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* Legal values of a setting in words, or NULL. */
static char *
ParamRange(const param_info *info)
{
	if (info->choices != NULL)
		return pstrdup(info->choices);
	if (info->maximum > info->minimum)
		return psprintf("%.16g to %.16g", info->minimum, info->maximum);
	return NULL;
}

Datum
llm_params(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const architecture_info *architecture = architecture_find(name);
	int32_t count;
	const param_info *table = params_table(&count);

	if (architecture == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown architecture \"%s\"", name),
						errhint("See SELECT * FROM llm_architectures();")));
	InitMaterializedSRF(fcinfo, 0);
	for (int32_t i = 0; i < count; i++)
	{
		char *range = ParamRange(&table[i]);
		Datum values[5] = {CStringGetTextDatum(table[i].name), CStringGetTextDatum(param_type_names[table[i].type]),
						   CStringGetTextDatum(table[i].fallback),
						   range == NULL ? (Datum) 0 : CStringGetTextDatum(range),
						   CStringGetTextDatum(table[i].description)};
		bool nulls[5] = {false, false, strcmp(table[i].fallback, "null") == 0, range == NULL, false};

		if (table[i].architectures & architecture->bit)
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
