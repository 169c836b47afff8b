/*
 * schema.h
 *	  JSON Schemas that texts follow, shared by the texts of a call; and those of SQL's types.
 *
 * Include after postgres.h.
 */
#ifndef LLMAPP_SERVE_SCHEMA_H
#define LLMAPP_SERVE_SCHEMA_H

#include "utils/jsonb.h"

#include "../constrain/constraint.h"
#include "language.h"

/* The constraint of a schema, valid until the current memory context is reset; ERROR when it is not supported. */
extern constraint *UseSchema(LanguageCall *call, Jsonb *schema);

/* The schema of JSON that becomes a value of the type; ERROR for a type of which no JSON is known. */
extern Jsonb *SchemaOfType(Oid type, int32 typmod);

#endif /* LLMAPP_SERVE_SCHEMA_H */
