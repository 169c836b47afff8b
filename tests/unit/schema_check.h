/*
 * schema_check.h
 *	  Does a value satisfy a JSON Schema?  Written apart from src/constrain, to judge it.
 *
 * Of the keywords those that tests use; a pattern or format is not looked at.
 */
#ifndef LLMAPP_SCHEMA_CHECK_H
#define LLMAPP_SCHEMA_CHECK_H

#include <math.h>
#include <string.h>

#include "../../src/format/json.h"

static bool satisfies(const json_t *root, const json_t *schema, const json_t *value);

static inline bool
has_type(const json_t *value, const char *type)
{
	return (strcmp(type, "object") == 0 && json_is_object(value)) ||
		   (strcmp(type, "array") == 0 && json_is_array(value)) ||
		   (strcmp(type, "string") == 0 && json_is_string(value)) ||
		   (strcmp(type, "number") == 0 && json_is_number(value)) ||
		   (strcmp(type, "integer") == 0 && json_is_integer(value)) ||
		   (strcmp(type, "boolean") == 0 && json_is_boolean(value)) ||
		   (strcmp(type, "null") == 0 && json_is_null(value));
}

static inline bool
has_one_type(const json_t *value, const json_t *type)
{
	bool found = json_is_string(type) && has_type(value, json_string_value(type));

	for (size_t i = 0; i < json_array_size(type); i++)
		found |= has_type(value, json_string_value(json_array_get(type, i)));
	return type == NULL || found;
}

static inline bool
object_satisfies(const json_t *root, const json_t *schema, const json_t *value)
{
	const json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
	const json_t *additional = json_object_get(schema, "additionalProperties");
	const char *name;
	json_t *member;

	for (size_t i = 0; i < json_array_size(required); i++)
		if (json_object_get(value, json_string_value(json_array_get(required, i))) == NULL)
			return false;
	json_object_foreach((json_t *) value, name, member)
	{
		const json_t *own = json_object_get(properties, name);

		if (own != NULL ? !satisfies(root, own, member)
						: additional != NULL && (json_is_false(additional) || !satisfies(root, additional, member)))
			return false;
	}
	return true;
}

static inline bool
array_satisfies(const json_t *root, const json_t *schema, const json_t *value)
{
	const json_t *prefix = json_object_get(schema, "prefixItems"), *items = json_object_get(schema, "items");
	const json_t *least = json_object_get(schema, "minItems"), *most = json_object_get(schema, "maxItems");

	if ((least && json_array_size(value) < (size_t) json_integer_value(least)) ||
		(most && json_array_size(value) > (size_t) json_integer_value(most)))
		return false;
	for (size_t i = 0; i < json_array_size(value); i++)
	{
		const json_t *own = i < json_array_size(prefix) ? json_array_get(prefix, i) : items;

		if (own != NULL && (json_is_false(own) || !satisfies(root, own, json_array_get(value, i))))
			return false;
	}
	return true;
}

static inline size_t
characters_of(const json_t *string)
{
	size_t count = 0;

	for (const char *c = json_string_value(string); *c != '\0'; c++)
		count += (*c & 0xC0) != 0x80;
	return count;
}

static inline bool
scalar_satisfies(const json_t *schema, const json_t *value)
{
	const json_t *low = json_object_get(schema, "minimum"), *high = json_object_get(schema, "maximum");
	const json_t *above = json_object_get(schema, "exclusiveMinimum"),
				 *below = json_object_get(schema, "exclusiveMaximum");
	const json_t *least = json_object_get(schema, "minLength"), *most = json_object_get(schema, "maxLength");

	if (json_is_number(value) && ((low && json_number_value(value) < json_number_value(low)) ||
								  (high && json_number_value(value) > json_number_value(high)) ||
								  (above && json_number_value(value) <= json_number_value(above)) ||
								  (below && json_number_value(value) >= json_number_value(below))))
		return false;
	return !json_is_string(value) || ((!least || characters_of(value) >= (size_t) json_integer_value(least)) &&
									  (!most || characters_of(value) <= (size_t) json_integer_value(most)));
}

static inline size_t
satisfied_of(const json_t *root, const json_t *list, const json_t *value)
{
	size_t count = 0;

	for (size_t i = 0; i < json_array_size(list); i++)
		count += satisfies(root, json_array_get(list, i), value);
	return count;
}

static inline bool
is_listed(const json_t *list, const json_t *value)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (json_equal(json_array_get(list, i), value))
			return true;
	return list == NULL;
}

static bool
satisfies(const json_t *root, const json_t *schema, const json_t *value)
{
	const json_t *ref = json_object_get(schema, "$ref"), *one = json_object_get(schema, "const");
	const json_t *any = json_object_get(schema, "anyOf"), *exactly = json_object_get(schema, "oneOf");

	if (json_is_boolean(schema))
		return json_is_true(schema);
	if (ref != NULL)
		return satisfies(root,
						 strcmp(json_string_value(ref), "#") == 0
							 ? root
							 : json_object_get(json_object_get(root, "$defs"), json_string_value(ref) + 8),
						 value);
	return has_one_type(value, json_object_get(schema, "type")) && (one == NULL || json_equal(one, value)) &&
		   is_listed(json_object_get(schema, "enum"), value) && (any == NULL || satisfied_of(root, any, value) > 0) &&
		   (exactly == NULL || satisfied_of(root, exactly, value) == 1) && scalar_satisfies(schema, value) &&
		   (!json_is_object(value) || object_satisfies(root, schema, value)) &&
		   (!json_is_array(value) || array_satisfies(root, schema, value));
}

#endif /* LLMAPP_SCHEMA_CHECK_H */
