/*
 * schema.c
 *	  Compile a JSON Schema: alternatives, and the values of each type.
 *
 * Parts that are referred to, and items of arrays, are rules of their own, compiled one after the
 * other, so that the depth of recursion here is that of properties and alternatives alone.
 */
#include "schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema_compiler.h"

#define SCHEMA_DEPTH_MAX 64

static void
compile_alternatives(schema_compiler *c, const json_t *schema, const char *key, int32_t from, int32_t to)
{
	const json_t *list = json_object_get(schema, key);
	size_t count = json_array_size(list);
	char step[40];

	if (count == 0)
		schema_refuse(c, "\"%s\" is not an array of schemas", key);
	for (size_t i = 0; strcmp(key, "oneOf") == 0 && i < count; i++)
		for (size_t k = i + 1; k < count && !schema_failed(c); k++)
			if (!schema_disjoint(c, json_array_get(list, i), json_array_get(list, k), 0))
			{
				schema_refuse(c, "a value may satisfy both alternatives %zu and %zu of \"oneOf\"", i + 1, k + 1);
				llm_hint(&c->g->err, "Use anyOf, or give them a required property with different values of const.");
			}
	for (size_t i = 0; i < count && !schema_failed(c); i++)
	{
		snprintf(step, sizeof(step), "/%s/%zu", key, i);
		schema_value(c, json_array_get(list, i), step, from, to);
	}
}

static void
compile_type(schema_compiler *c, const json_t *schema, int type, int32_t from, int32_t to)
{
	switch (type)
	{
		case TYPE_OBJECT: schema_object(c, schema, from, to); break;
		case TYPE_ARRAY: schema_array(c, schema, from, to); break;
		case TYPE_STRING: schema_string(c, schema, from, to); break;
		case TYPE_NUMBER: schema_number(c, schema, true, from, to); break;
		case TYPE_INTEGER: schema_number(c, schema, false, from, to); break;
		case TYPE_BOOLEAN:
			grammar_text(c->g, from, "true", 4, to);
			grammar_text(c->g, from, "false", 5, to);
			break;
		case TYPE_NULL: grammar_text(c->g, from, "null", 4, to); break;
	}
}

static void
compile_keywords(schema_compiler *c, const json_t *schema, int32_t from, int32_t to)
{
	const char *alone;
	keyword_kind kind;
	int types;

	if (!schema_keywords(c, schema, &alone, &kind))
		return;
	if (alone != NULL && strcmp(alone, "$ref") == 0)
	{
		const json_t *target = schema_resolve(c, schema);

		if (target != NULL)
			grammar_call(c->g, from, schema_rule_of(c, target, json_string_value(json_object_get(schema, "$ref"))),
						 to);
	}
	else if (kind == KEYWORD_ALTERNATIVE)
		compile_alternatives(c, schema, alone, from, to);
	else if (!schema_types(c, schema, &types))
		return;
	else if (alone != NULL)
		schema_choices(c, schema, types, from, to);
	else if (types == TYPE_ANY && json_object_get(schema, "type") == NULL && schema != c->anything)
		grammar_call(c->g, from, schema_rule_of(c, c->anything, c->where), to);
	else
		for (int type = 1; type <= TYPE_NULL; type *= 2)
			if ((types & type) && !(type == TYPE_INTEGER && (types & TYPE_NUMBER)))
				compile_type(c, schema, type, from, to);
}

static void
compile_value(schema_compiler *c, const json_t *schema, int32_t from, int32_t to)
{
	if (schema_failed(c))
		return;
	if (json_is_true(schema) || schema == c->anything)
		grammar_call(c->g, from, schema_rule_of(c, c->anything, c->where), to);
	else if (!json_is_object(schema))
		schema_refuse(c, json_is_false(schema) ? "the schema is false there, so no value satisfies it"
											   : "a schema is neither an object nor true");
	else if (++c->depth > SCHEMA_DEPTH_MAX)
		schema_refuse(c, "the schema has more than %d levels", SCHEMA_DEPTH_MAX);
	else
		compile_keywords(c, schema, from, to);
	c->depth -= json_is_object(schema);
}

/* Rules that were asked for, and those that they ask for. */
static void
compile_rules(schema_compiler *c)
{
	for (; c->rules_done < c->rule_count && !schema_failed(c); c->rules_done++)
	{
		schema_rule r = c->rules[c->rules_done];

		c->depth = 0;
		memcpy(c->where, r.where, sizeof(c->where));
		if (r.schema == c->anything)
			compile_keywords(c, r.schema, c->g->rules[r.rule].start, c->g->rules[r.rule].end);
		else
			compile_value(c, r.schema, c->g->rules[r.rule].start, c->g->rules[r.rule].end);
	}
}

grammar *
schema_grammar(const json_t *schema, llm_error *err)
{
	grammar *g = grammar_new(err);
	schema_compiler c = {.g = g, .root = schema, .compile = compile_value, .character = -1};
	json_t *any = json_object();
	bool ok;

	if (g == NULL || any == NULL)
	{
		grammar_free(g);
		json_decref(any);
		llm_fail(err, LLM_MEMORY, "out of memory for a schema");
		return NULL;
	}
	c.anything = any;
	schema_rule_of(&c, schema, "");
	compile_rules(&c);
	ok = grammar_finish(g, err);
	json_decref(any);
	free(c.rules);
	free(c.ranges);
	if (ok)
		return g;
	grammar_free(g);
	return NULL;
}
