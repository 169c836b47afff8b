/*
 * schema_compiler.c
 *	  What all files of the compiler need: refusals that name their place, rules of parts, references.
 */
#include "schema_compiler.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REFERENCES_MAX 64 /* one leading to the next */

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

void
schema_value(schema_compiler *c, const json_t *schema, const char *step, int32_t from, int32_t to)
{
	size_t length = strlen(c->where);

	snprintf(c->where + length, sizeof(c->where) - length, "%s", step);
	c->compile(c, schema, from, to);
	c->where[length] = '\0';
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
		if (schema_failed(c))
			return NULL;
	}
	return schema;
}
