/*
 * schema_objects.c
 *	  Objects and arrays.
 *
 * Behind an object's brace the text stands in one of two states: nothing was written yet, or
 * something was, so that a comma must come first.  Each property leads from both to the second;
 * one that is not required may be passed over.
 */
#include "schema_compiler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "characters.h"

/* A comma or colon, and at most one space. */
static void
add_mark(grammar *g, int32_t from, int mark, int32_t to)
{
	int32_t behind = grammar_state_new(g);

	grammar_bytes(g, from, mark, mark, behind);
	grammar_bytes(g, behind, ' ', ' ', to);
	grammar_empty(g, behind, to);
}

/* ---- objects ---- */

typedef struct object_builder
{
	schema_compiler *c;
	const json_t *schema;
	const json_t *properties;
	const json_t *additional; /* what members that are not listed satisfy, NULL: there are none */
	int32_t nothing;          /* state where nothing was written yet, -1: something had to be */
	int32_t something;        /* -1: not yet */
	char **names;             /* of properties that were added, and their number */
	int32_t count;
} object_builder;

/* A state from which the next member is written, without its comma. */
static int32_t
next_member(object_builder *o)
{
	int32_t member = grammar_state_new(o->c->g);

	if (o->nothing >= 0)
		grammar_empty(o->c->g, o->nothing, member);
	if (o->something >= 0)
		add_mark(o->c->g, o->something, ',', member);
	return member;
}

static void
add_key(grammar *g, int32_t from, const char *name, int32_t to)
{
	json_t *string = json_string(name);
	char *text = string ? json_text(string) : NULL;
	int32_t key = grammar_state_new(g);

	if (text == NULL)
		llm_fail(&g->err, LLM_MEMORY, "out of memory for a schema");
	else
		grammar_text(g, from, text, strlen(text), key);
	add_mark(g, key, ':', to);
	free(text);
	json_decref(string);
}

static bool
was_added(const object_builder *o, const char *name)
{
	for (int32_t i = 0; i < o->count; i++)
		if (strcmp(o->names[i], name) == 0)
			return true;
	return false;
}

static void
add_property(object_builder *o, const char *name, const json_t *value, bool required)
{
	grammar *g = o->c->g;
	int32_t member = next_member(o), start = grammar_state_new(g), end = grammar_state_new(g);
	char step[120];

	o->names[o->count] = strdup(name);
	if (o->names[o->count] == NULL)
	{
		llm_fail(&g->err, LLM_MEMORY, "out of memory for a schema");
		return;
	}
	o->count++;
	add_key(g, member, name, start);
	snprintf(step, sizeof(step), "/properties/%s", name);
	schema_value(o->c, value, step, start, end);
	if (required)
		o->nothing = -1;
	else if (o->something >= 0)
		grammar_empty(g, o->something, end);
	o->something = end;
}

/* Those of "required", in its order. */
static bool
add_required(object_builder *o, const json_t *required)
{
	for (size_t i = 0; i < json_array_size(required); i++)
	{
		const char *name = json_string_value(json_array_get(required, i));
		const json_t *value = name ? json_object_get(o->properties, name) : NULL;

		if (name == NULL)
			return schema_refuse(o->c, "an element of \"required\" is not a string");
		if (value == NULL)
			value = json_object_get(o->schema, "additionalProperties") ? o->additional : o->c->anything;
		if (value == NULL)
			return schema_refuse(o->c, "\"required\" names \"%.60s\", which \"additionalProperties\" forbids", name);
		if (!was_added(o, name))
			add_property(o, name, value, true);
	}
	return true;
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Any number of members with other names. */
static void
add_additional(object_builder *o)
{
	grammar *g = o->c->g;
	int32_t member, open = grammar_state_new(g), key = grammar_state_new(g), value = grammar_state_new(g);

	if (o->something < 0)
		o->something = grammar_state_new(g);
	member = next_member(o);
	qsort(o->names, o->count, sizeof(char *), by_text);
	grammar_bytes(g, member, '"', '"', open);
	add_other_string(g, open, o->names, o->count, key);
	add_mark(g, key, ':', value);
	schema_value(o->c, o->additional, "/additionalProperties", value, o->something);
}

static void
add_members(object_builder *o)
{
	const json_t *required = json_object_get(o->schema, "required");
	const char *name;
	json_t *value;

	if (required != NULL && !json_is_array(required))
		schema_refuse(o->c, "\"required\" is not an array");
	else if (o->properties != NULL && !json_is_object(o->properties))
		schema_refuse(o->c, "\"properties\" is not an object");
	else if (!add_required(o, required))
		return;
	json_object_foreach((json_t *) o->properties, name, value)
		if (!was_added(o, name) && o->c->g->err.code == LLM_OK)
			add_property(o, name, value, false);
	if (o->additional != NULL && o->c->g->err.code == LLM_OK)
		add_additional(o);
}

/* What is not said about other members: any where none are listed, otherwise none. */
static const json_t *
additional_schema(schema_compiler *c, const json_t *schema)
{
	const json_t *additional = json_object_get(schema, "additionalProperties");

	if (additional == NULL)
		return json_object_get(schema, "properties") || json_object_get(schema, "required") ? NULL : c->anything;
	return json_is_false(additional) ? NULL : additional;
}

void
schema_object(schema_compiler *c, const json_t *schema, int32_t from, int32_t to)
{
	object_builder o = {.c = c,
						.schema = schema,
						.properties = json_object_get(schema, "properties"),
						.additional = additional_schema(c, schema),
						.nothing = grammar_state_new(c->g),
						.something = -1};
	size_t most = json_object_size(o.properties) + json_array_size(json_object_get(schema, "required"));

	o.names = calloc(most + 1, sizeof(char *));
	grammar_bytes(c->g, from, '{', '{', o.nothing);
	if (o.names == NULL)
		llm_fail(&c->g->err, LLM_MEMORY, "out of memory for a schema");
	else
		add_members(&o);
	if (o.nothing >= 0)
		grammar_bytes(c->g, o.nothing, '}', '}', to);
	if (o.something >= 0)
		grammar_bytes(c->g, o.something, '}', '}', to);
	for (int32_t i = 0; i < o.count; i++)
		free(o.names[i]);
	free(o.names);
}

/* ---- arrays ---- */

typedef struct array_items
{
	const json_t *prefix; /* what the first ones satisfy, */
	const json_t *items;  /* and all others; NULL: there are no others */
	int64_t least;
	int64_t most; /* -1: any number */
} array_items;

static bool
read_items(schema_compiler *c, const json_t *schema, array_items *a)
{
	int64_t prefix;

	a->prefix = json_object_get(schema, "prefixItems");
	a->items = json_object_get(schema, "items");
	prefix = (int64_t) json_array_size(a->prefix);
	if (a->prefix != NULL && prefix == 0)
		return schema_refuse(c, "\"prefixItems\" is not an array of schemas");
	if (!schema_count(c, schema, "minItems", 0, &a->least) || !schema_count(c, schema, "maxItems", -1, &a->most))
		return false;
	if (a->items == NULL)
		a->items = prefix > 0 && a->least <= prefix ? NULL : c->anything;
	else if (json_is_false(a->items))
		a->items = NULL;
	if (a->items == NULL && (a->most < 0 || a->most > prefix))
		a->most = prefix;
	if (a->most >= 0 && a->most < a->least)
		return schema_refuse(c, "the array has at most %lld items, but \"minItems\" is %lld", (long long) a->most,
							 (long long) a->least);
	return true;
}

static void
add_item(schema_compiler *c, const array_items *a, int64_t at, int32_t from, int32_t to)
{
	const json_t *item = json_array_get(a->prefix, (size_t) at);
	char where[SCHEMA_WHERE_MAX];

	snprintf(where, sizeof(where), "%.*s/%s", SCHEMA_WHERE_MAX - 20, c->where, item ? "prefixItems" : "items");
	grammar_call(c->g, from, schema_rule_of(c, item ? item : a->items, where), to);
}

void
schema_array(schema_compiler *c, const json_t *schema, int32_t from, int32_t to)
{
	grammar *g = c->g;
	array_items a;
	int64_t apart; /* items that have states of their own; all others share the last one's */
	int32_t at = grammar_state_new(g);

	if (!read_items(c, schema, &a))
		return;
	apart = a.least > (int64_t) json_array_size(a.prefix) ? a.least : (int64_t) json_array_size(a.prefix);
	apart = a.most >= 0 ? a.most : apart > 0 ? apart : 1;
	grammar_bytes(g, from, '[', '[', at);
	for (int64_t i = 0; i < apart && g->err.code == LLM_OK; i++)
	{
		int32_t item = i == 0 ? at : grammar_state_new(g), next = grammar_state_new(g);

		if (i >= a.least)
			grammar_bytes(g, at, ']', ']', to);
		if (i > 0)
			add_mark(g, at, ',', item);
		add_item(c, &a, i, item, next);
		at = next;
	}
	grammar_bytes(g, at, ']', ']', to);
	if (a.most < 0)
	{
		int32_t item = grammar_state_new(g);

		add_mark(g, at, ',', item);
		add_item(c, &a, apart, item, at);
	}
}
