/*
 * schema.c
 *	  JSON Schemas of a call of a language function.
 *
 * What is made of a schema is kept for the next text of the call: most calls have one schema for
 * all rows.  It is freed when neither the call nor a text uses it, whichever ends last.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "../common.h"
#include "schema.h"

typedef struct SharedSchema
{
	Jsonb *schema;
	constraint *constraint;
	int users;
} SharedSchema;

static void
ReleaseSchema(void *arg)
{
	SharedSchema *shared = arg;

	if (--shared->users > 0)
		return;
	constraint_free(shared->constraint);
	free(shared->schema);
	free(shared);
}

/* One user more, until the memory context is reset. */
static void
HoldSchema(SharedSchema *shared, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);

	shared->users++;
	OWN(shared, ReleaseSchema);
	MemoryContextSwitchTo(old);
}

static void
RequireVocabulary(LanguageCall *call)
{
	MemoryContext old;
	llm_error err = {0};

	if (call->vocabulary != NULL)
		return;
	old = MemoryContextSwitchTo(call->model_cxt);
	call->vocabulary = vocabulary_new(call->tokenizer, &err);
	if (call->vocabulary == NULL)
		ThrowError(&err);
	OWN(call->vocabulary, vocabulary_free);
	MemoryContextSwitchTo(old);
}

/* Allocated outside of memory contexts, as its users' ones end in any order. */
static SharedSchema *
NewSharedSchema(LanguageCall *call, Jsonb *schema)
{
	SharedSchema *shared = calloc(1, sizeof(SharedSchema));
	json_t *json = JsonOfJsonb(JsonbPGetDatum(schema));
	llm_error err = {0};

	if (shared != NULL)
		shared->schema = malloc(VARSIZE(schema));
	if (shared == NULL || shared->schema == NULL)
	{
		free(shared);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	memcpy(shared->schema, schema, VARSIZE(schema));
	shared->constraint = constraint_new(json, call->vocabulary, net_get_config(call->net)->text.vocab, &err);
	if (shared->constraint == NULL)
	{
		free(shared->schema);
		free(shared);
		ThrowError(&err);
	}
	constraint_set_poll(shared->constraint, InterruptRequested, NULL);
	return shared;
}

constraint *
UseSchema(LanguageCall *call, Jsonb *schema)
{
	SharedSchema *shared = call->schema;

	RequireVocabulary(call);
	if (shared == NULL || VARSIZE(shared->schema) != VARSIZE(schema) ||
		memcmp(shared->schema, schema, VARSIZE(schema)) != 0)
	{
		shared = NewSharedSchema(call, schema);
		if (call->schema_cxt == NULL)
			call->schema_cxt =
				AllocSetContextCreate(call->model_cxt, "llmapp schema of a call", ALLOCSET_SMALL_SIZES);
		MemoryContextReset(call->schema_cxt);
		HoldSchema(shared, call->schema_cxt);
		call->schema = shared;
	}
	HoldSchema(shared, CurrentMemoryContext);
	return shared->constraint;
}
