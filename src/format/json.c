/*
 * json.c
 *	  Typed, bounded reading of JSON.
 */
#include "json.h"

#include <math.h>
#include <string.h>

json_t *
new_json_object(void)
{
	return json_pack("{}");
}

json_t *
json_parse(const char *text, size_t length, llm_error *err)
{
	json_error_t why;
	json_t	   *json = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);

	if (json == NULL)
	{
		if (json_error_code(&why) == json_error_out_of_memory)
			llm_fail(err, LLM_MEMORY, "out of memory while reading JSON");
		else
			llm_fail(err, LLM_CORRUPT, "invalid JSON at byte %d: %s", why.position, why.text);
	}
	return json;
}

char *
json_text(const json_t *json)
{
	return json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
}

/* Fetch a key and demand its type. */
static const json_t *
json_member(const json_t *object, const char *key, bool type_ok(const json_t *), const char *type,
			llm_error *err)
{
	const json_t *value = json_object_get(object, key);

	if (value == NULL)
		llm_fail(err, LLM_CORRUPT, "key \"%s\" is missing", key);
	else if (!type_ok(value))
		llm_fail(err, LLM_CORRUPT, "key \"%s\" is not %s", key, type);
	else
		return value;
	return NULL;
}

static bool is_object(const json_t *j) { return json_is_object(j); }
static bool is_array(const json_t *j) { return json_is_array(j); }
static bool is_string(const json_t *j) { return json_is_string(j); }
static bool is_integer(const json_t *j) { return json_is_integer(j); }
static bool is_number(const json_t *j) { return json_is_number(j); }
static bool is_boolean(const json_t *j) { return json_is_boolean(j); }

bool
json_read_object(const json_t *object, const char *key, const json_t **out, llm_error *err)
{
	*out = json_member(object, key, is_object, "an object", err);
	return *out != NULL;
}

bool
json_read_array(const json_t *object, const char *key, size_t max, const json_t **out, llm_error *err)
{
	*out = json_member(object, key, is_array, "an array", err);
	if (*out == NULL)
		return false;
	if (json_array_size(*out) > max)
		return llm_fail(err, LLM_CORRUPT, "array \"%s\" has %zu elements, at most %zu are allowed",
						key, json_array_size(*out), max);
	return true;
}

bool
json_read_string(const json_t *object, const char *key, const char **out, llm_error *err)
{
	const json_t *value = json_member(object, key, is_string, "a string", err);

	if (value == NULL)
		return false;
	*out = json_string_value(value);
	if (strlen(*out) != json_string_length(value))
		return llm_fail(err, LLM_CORRUPT, "string \"%s\" contains a zero byte", key);
	return true;
}

bool
json_read_int(const json_t *object, const char *key, int64_t low, int64_t high, int64_t *out, llm_error *err)
{
	const json_t *value = json_member(object, key, is_integer, "an integer", err);

	if (value == NULL)
		return false;
	*out = json_integer_value(value);
	if (*out < low || *out > high)
		return llm_fail(err, LLM_CORRUPT, "\"%s\" is %lld, outside %lld to %lld", key,
						(long long) *out, (long long) low, (long long) high);
	return true;
}

bool
json_read_number(const json_t *object, const char *key, double low, double high, double *out, llm_error *err)
{
	const json_t *value = json_member(object, key, is_number, "a number", err);

	if (value == NULL)
		return false;
	*out = json_number_value(value);
	if (!isfinite(*out) || *out < low || *out > high)
		return llm_fail(err, LLM_CORRUPT, "\"%s\" is %g, outside %g to %g", key, *out, low, high);
	return true;
}

bool
json_read_bool(const json_t *object, const char *key, bool *out, llm_error *err)
{
	const json_t *value = json_member(object, key, is_boolean, "true or false", err);

	if (value == NULL)
		return false;
	*out = json_is_true(value);
	return true;
}
