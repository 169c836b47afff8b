/*
 * schema.h
 *	  From a JSON Schema (draft 2020-12) to a grammar of texts that satisfy it.
 *
 * Every text of the grammar is JSON and satisfies the schema; not every JSON text that does is in
 * it.  White space is at most one space behind a colon or comma.  Members of an object come in the
 * order of "required", then in that of "properties"; those that are not listed only where
 * "additionalProperties" says so, or no "properties" are given.  Numbers have no exponent, integers
 * at most 18 digits, others at most 15 before and behind the point.
 */
#ifndef LLMAPP_SCHEMA_H
#define LLMAPP_SCHEMA_H

#include "../format/json.h"
#include "grammar.h"

/* LLM_INVALID names a keyword that is not supported, or what in it is wrong, and where it stands. */
extern grammar *schema_grammar(const json_t *schema, llm_error *err);

#endif /* LLMAPP_SCHEMA_H */
