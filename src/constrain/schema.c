/*
 * schema.c
 *	  Compile a JSON Schema: keywords, references, alternatives.
 *
 * Parts that are referred to, and items of arrays, are rules of their own, compiled one after the
 * other, so that the depth of recursion here is that of properties and alternatives alone.  A
 * keyword that this file does not know is refused, since a text that ignores it may not satisfy
 * the schema.
 */
#include "schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_DEPTH_MAX 64
#define REFERENCES_MAX 64 /* one leading to the next */

typedef enum keyword_kind
{
	KEYWORD_NOTE,        /* says nothing about values */
	KEYWORD_CONSTRAINT,  /* of values of some types */
	KEYWORD_TYPE,        /* type */
	KEYWORD_ALTERNATIVE, /* stands alone, but for notes */
	KEYWORD_CHOICE       /* values one by one: stands alone, but for notes and types */
} keyword_kind;

static const struct
{
	const char *name;
	keyword_kind kind;
	int types; /* that it is about */
} keywords[] = {
	{"type", KEYWORD_TYPE, 0},
	{"properties", KEYWORD_CONSTRAINT, TYPE_OBJECT},
	{"required", KEYWORD_CONSTRAINT, TYPE_OBJECT},
	{"additionalProperties", KEYWORD_CONSTRAINT, TYPE_OBJECT},
	{"items", KEYWORD_CONSTRAINT, TYPE_ARRAY},
	{"prefixItems", KEYWORD_CONSTRAINT, TYPE_ARRAY},
	{"minItems", KEYWORD_CONSTRAINT, TYPE_ARRAY},
	{"maxItems", KEYWORD_CONSTRAINT, TYPE_ARRAY},
	{"minLength", KEYWORD_CONSTRAINT, TYPE_STRING},
	{"maxLength", KEYWORD_CONSTRAINT, TYPE_STRING},
	{"pattern", KEYWORD_CONSTRAINT, TYPE_STRING},
	{"format", KEYWORD_CONSTRAINT, TYPE_STRING},
	{"minimum", KEYWORD_CONSTRAINT, TYPE_NUMBER},
	{"maximum", KEYWORD_CONSTRAINT, TYPE_NUMBER},
	{"exclusiveMinimum", KEYWORD_CONSTRAINT, TYPE_NUMBER},
	{"exclusiveMaximum", KEYWORD_CONSTRAINT, TYPE_NUMBER},
	{"enum", KEYWORD_CHOICE, 0},
	{"const", KEYWORD_CHOICE, 0},
	{"anyOf", KEYWORD_ALTERNATIVE, 0},
	{"oneOf", KEYWORD_ALTERNATIVE, 0},
	{"$ref", KEYWORD_ALTERNATIVE, 0},
	{"$defs", KEYWORD_NOTE, 0},
	{"definitions", KEYWORD_NOTE, 0},
	{"$schema", KEYWORD_NOTE, 0},
	{"$id", KEYWORD_NOTE, 0},
	{"$comment", KEYWORD_NOTE, 0},
	{"title", KEYWORD_NOTE, 0},
	{"description", KEYWORD_NOTE, 0},
	{"default", KEYWORD_NOTE, 0},
	{"examples", KEYWORD_NOTE, 0},
	{"deprecated", KEYWORD_NOTE, 0},
	{"readOnly", KEYWORD_NOTE, 0},
	{"writeOnly", KEYWORD_NOTE, 0},
};

#define KEYWORDS (sizeof(keywords) / sizeof(keywords[0]))

static const struct
{
	const char *name;
	int type;
} types_by_name[] = {
	{"object", TYPE_OBJECT},   {"array", TYPE_ARRAY},     {"string", TYPE_STRING}, {"number", TYPE_NUMBER},
	{"integer", TYPE_INTEGER}, {"boolean", TYPE_BOOLEAN}, {"null", TYPE_NULL},
};

#define TYPES (sizeof(types_by_name) / sizeof(types_by_name[0]))

bool
schema_refuse(schema_compiler *c, const char *format, ...)
{
	char message[200];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	if (c->g->err.code == LLM_OK)
	{
		llm_fail(&c->g->err, LLM_INVALID, "%s", message);
		llm_detail(&c->g->err, "It stands at \"%s\" of the schema.", c->where[0] ? c->where : "/");
	}
	return false;
}

static bool
failed(const schema_compiler *c)
{
	return c->g->err.code != LLM_OK;
}

/* ---- rules ---- */

int32_t
schema_rule_of(schema_compiler *c, const json_t *schema, const char *where)
{
	schema_rule *made;

	if (json_is_true(schema))
		schema = c->anything;
	for (int32_t i = 0; i < c->rule_count; i++)
		if (c->rules[i].schema == schema)
			return c->rules[i].rule;
	if (c->rule_count == c->rule_room)
	{
		int32_t room = c->rule_room ? 2 * c->rule_room : 16;
		schema_rule *grown = realloc(c->rules, room * sizeof(schema_rule));

		if (grown == NULL)
		{
			llm_fail(&c->g->err, LLM_MEMORY, "out of memory for a schema");
			return 0;
		}
		c->rules = grown;
		c->rule_room = room;
	}
	made = &c->rules[c->rule_count++];
	made->schema = schema;
	made->rule = grammar_rule(c->g);
	snprintf(made->where, sizeof(made->where), "%s", where);
	return made->rule;
}

/* ---- references ---- */

/* The member that a part of a JSON pointer names; RFC 6901. */
static const json_t *
pointer_step(const json_t *from, const char *part, size_t length)
{
	char name[256];
	size_t n = 0;

	if (json_is_array(from))
		return json_array_get(from, strtoul(part, NULL, 10));
	for (size_t i = 0; i < length && n + 1 < sizeof(name); i++)
	{
		bool tilde = part[i] == '~' && i + 1 < length && (part[i + 1] == '0' || part[i + 1] == '1');

		name[n++] = tilde ? (part[++i] == '0' ? '~' : '/') : part[i];
	}
	name[n] = '\0';
	return json_object_get(from, name);
}

static const json_t *
find_reference(schema_compiler *c, const char *pointer)
{
	const json_t *at = c->root;

	for (const char *part = pointer[0] == '#' ? pointer + 1 : NULL; part != NULL && at != NULL && *part != '\0';)
	{
		size_t length;

		if (*part != '/')
			return NULL;
		length = strcspn(++part, "/");
		at = pointer_step(at, part, length);
		part += length;
	}
	return pointer[0] == '#' ? at : NULL;
}

const json_t *
schema_resolve(schema_compiler *c, const json_t *schema)
{
	for (int i = 0; json_is_object(schema) && json_object_get(schema, "$ref") != NULL; i++)
	{
		const json_t *pointer = json_object_get(schema, "$ref");

		schema = json_is_string(pointer) ? find_reference(c, json_string_value(pointer)) : NULL;
		if (schema == NULL)
			schema_refuse(c, "\"$ref\" \"%.100s\" leads nowhere in the schema",
						  json_is_string(pointer) ? json_string_value(pointer) : "");
		else if (i >= REFERENCES_MAX)
			schema_refuse(c, "\"$ref\" leads back to itself");
		if (failed(c))
			return NULL;
	}
	return schema;
}

/* ---- keywords ---- */

bool
schema_count(schema_compiler *c, const json_t *schema, const char *key, int64_t fallback, int64_t *out)
{
	const json_t *value = json_object_get(schema, key);
	bool whole = json_is_real(value) && json_real_value(value) == (double) (int64_t) json_real_value(value);

	*out = value == NULL ? fallback : whole ? (int64_t) json_real_value(value) : json_integer_value(value);
	if (value == NULL || ((whole || json_is_integer(value)) && *out >= 0 && *out <= GRAMMAR_STATES_MAX))
		return true;
	return schema_refuse(c, "\"%s\" is not a number from 0 to %d", key, GRAMMAR_STATES_MAX);
}

static bool
type_bit(schema_compiler *c, const json_t *name, int *types)
{
	for (size_t i = 0; i < TYPES && json_is_string(name); i++)
		if (strcmp(types_by_name[i].name, json_string_value(name)) == 0)
		{
			*types |= types_by_name[i].type;
			return true;
		}
	return schema_refuse(c, "\"type\" is not one of object, array, string, number, integer, boolean and null");
}

bool
schema_types(schema_compiler *c, const json_t *schema, int *types)
{
	const json_t *type = json_object_get(schema, "type");

	*types = 0;
	for (size_t i = 0; type == NULL && i < KEYWORDS; i++)
		if (json_object_get(schema, keywords[i].name) != NULL)
			*types |= keywords[i].types;
	for (size_t i = 0; i < json_array_size(type); i++)
		if (!type_bit(c, json_array_get(type, i), types))
			return false;
	if (type == NULL && *types == 0)
		*types = TYPE_ANY;
	return type == NULL || json_array_size(type) > 0 || type_bit(c, type, types);
}

/* How a keyword of the schema may stand beside the others, given the one that rules it out. */
static bool
check_beside(schema_compiler *c, const char *alone, keyword_kind kind, const char *key, keyword_kind other)
{
	if (kind == KEYWORD_ALTERNATIVE ? other == KEYWORD_NOTE : other == KEYWORD_NOTE || other == KEYWORD_TYPE)
		return true;
	return schema_refuse(c, "the schema has \"%s\" beside \"%s\", which is not supported", key, alone);
}

static int
keyword_number(const char *key)
{
	for (size_t i = 0; i < KEYWORDS; i++)
		if (strcmp(keywords[i].name, key) == 0)
			return (int) i;
	return -1;
}

/* The keyword that stands alone in the schema, or NULL; false when one is not known or does not fit beside it. */
static bool
check_keywords(schema_compiler *c, const json_t *schema, const char **alone)
{
	const char *key;
	json_t *value;

	*alone = NULL;
	json_object_foreach((json_t *) schema, key, value)
	{
		int k = keyword_number(key);

		if (k < 0)
			return schema_refuse(c, "the schema has \"%.60s\", which is not supported", key);
		if (keywords[k].kind >= KEYWORD_ALTERNATIVE)
			*alone = keywords[k].name;
	}
	if (*alone == NULL)
		return true;
	json_object_foreach((json_t *) schema, key, value)
		if (strcmp(key, *alone) != 0 &&
			!check_beside(c, *alone, keywords[keyword_number(*alone)].kind, key, keywords[keyword_number(key)].kind))
			return false;
	return true;
}

/* ---- values ---- */

static void
compile_alternatives(schema_compiler *c, const json_t *schema, const char *key, int32_t from, int32_t to)
{
	const json_t *list = json_object_get(schema, key);
	size_t count = json_array_size(list);
	char step[40];

	if (count == 0)
		schema_refuse(c, "\"%s\" is not an array of schemas", key);
	for (size_t i = 0; strcmp(key, "oneOf") == 0 && i < count; i++)
		for (size_t k = i + 1; k < count && !failed(c); k++)
			if (!schema_disjoint(c, json_array_get(list, i), json_array_get(list, k), 0))
			{
				schema_refuse(c, "a value may satisfy both alternatives %zu and %zu of \"oneOf\"", i + 1, k + 1);
				llm_hint(&c->g->err, "Use anyOf, or give them a required property with different values of const.");
			}
	for (size_t i = 0; i < count && !failed(c); i++)
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
	int types;

	if (!check_keywords(c, schema, &alone))
		return;
	if (alone != NULL && strcmp(alone, "$ref") == 0)
	{
		const json_t *target = schema_resolve(c, schema);

		if (target != NULL)
			grammar_call(c->g, from, schema_rule_of(c, target, json_string_value(json_object_get(schema, "$ref"))),
						 to);
	}
	else if (alone != NULL && keywords[keyword_number(alone)].kind == KEYWORD_ALTERNATIVE)
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
	if (failed(c))
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

void
schema_value(schema_compiler *c, const json_t *schema, const char *step, int32_t from, int32_t to)
{
	size_t length = strlen(c->where);

	snprintf(c->where + length, sizeof(c->where) - length, "%s", step);
	compile_value(c, schema, from, to);
	c->where[length] = '\0';
}

/* Rules that were asked for, and those that they ask for. */
static void
compile_rules(schema_compiler *c)
{
	for (; c->rules_done < c->rule_count && !failed(c); c->rules_done++)
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
	schema_compiler c = {.g = g, .root = schema, .character = -1};
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
