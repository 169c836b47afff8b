/*
 * schema_keywords.c
 *	  Keywords of a schema: which there are, what they are about, how they stand beside each other.
 *
 * A keyword that is not listed here is refused, since a text that ignores it may not satisfy the
 * schema.
 */
#include "schema_compiler.h"

#include <string.h>

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

bool
schema_keywords(schema_compiler *c, const json_t *schema, const char **alone, keyword_kind *kind)
{
	const char *key;
	json_t *value;

	*alone = NULL;
	*kind = KEYWORD_NOTE;
	json_object_foreach((json_t *) schema, key, value)
	{
		int k = keyword_number(key);

		if (k < 0)
			return schema_refuse(c, "the schema has \"%.60s\", which is not supported", key);
		if (keywords[k].kind >= KEYWORD_ALTERNATIVE)
		{
			*alone = keywords[k].name;
			*kind = keywords[k].kind;
		}
	}
	if (*alone == NULL)
		return true;
	json_object_foreach((json_t *) schema, key, value)
		if (strcmp(key, *alone) != 0 && !check_beside(c, *alone, *kind, key, keywords[keyword_number(key)].kind))
			return false;
	return true;
}
