/*
 * json.c
 *	  Typed, bounded reading of JSON.
 */
#include "json.h"

#include <math.h>
#include <stdlib.h>
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

bool
json_read_numbers(const json_t *object, const char *key, size_t min, size_t max, double low, double high,
				  double **out, int32_t *count, llm_error *err)
{
	const json_t *array;

	if (!json_read_array(object, key, max, &array, err))
		return false;
	if (json_array_size(array) < min)
		return llm_fail(err, LLM_CORRUPT, "array \"%s\" has %zu elements, at least %zu are needed", key,
						json_array_size(array), min);
	*count = (int32_t) json_array_size(array);
	*out = malloc((*count + 1) * sizeof(double));
	if (*out == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while reading JSON");
	for (int32_t i = 0; i < *count; i++)
	{
		const json_t *element = json_array_get(array, i);
		double		number = json_number_value(element);

		if (!json_is_number(element) || !isfinite(number) || number < low || number > high)
		{
			free(*out);
			*out = NULL;
			return llm_fail(err, LLM_CORRUPT, "element %d of \"%s\" is not a number from %g to %g", i, key, low,
							high);
		}
		(*out)[i] = number;
	}
	return true;
}

void
json_hex(const void *bytes, size_t length, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < length; i++)
	{
		unsigned char byte = ((const unsigned char *) bytes)[i];

		*text++ = digits[byte >> 4];
		*text++ = digits[byte & 15];
	}
	*text = '\0';
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
json_unhex(const char *text, void *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		int			high = hex_digit(text[2 * i]);
		int			low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);

		if (low < 0)
			return false;
		((unsigned char *) bytes)[i] = (unsigned char) (high << 4 | low);
	}
	return text[2 * length] == '\0';
}

json_t *
json_bytes(const char *bytes, size_t length)
{
	json_t	   *json = json_stringn(bytes, length);
	char	   *hex;

	/* jansson refuses what is not UTF-8; a zero byte would be refused when read back. */
	if (json != NULL && memchr(bytes, 0, length) == NULL)
		return json;
	json_decref(json);
	hex = malloc(2 * length + 1);
	if (hex == NULL)
		return NULL;
	json_hex(bytes, length, hex);
	json = json_pack("{s:s}", "hex", hex);
	free(hex);
	return json;
}

char *
json_take_bytes(const json_t *value, const char *key, size_t max, size_t *length, llm_error *err)
{
	const json_t *hex = json_is_object(value) ? json_object_get(value, "hex") : NULL;
	const json_t *text = hex ? hex : value;
	char	   *bytes;

	if (!json_is_string(text))
	{
		llm_fail(err, LLM_CORRUPT, "\"%s\" is not a string", key);
		return NULL;
	}
	*length = hex ? json_string_length(text) / 2 : json_string_length(text);
	if (*length > max)
	{
		llm_fail(err, LLM_CORRUPT, "\"%s\" has %zu bytes, at most %zu are allowed", key, *length, max);
		return NULL;
	}
	bytes = malloc(*length + 1);
	if (bytes == NULL)
	{
		llm_fail(err, LLM_MEMORY, "out of memory while reading JSON");
		return NULL;
	}
	bytes[*length] = '\0';
	if (!hex)
		memcpy(bytes, json_string_value(text), *length);
	else if (!json_unhex(json_string_value(text), bytes, *length))
	{
		llm_fail(err, LLM_CORRUPT, "\"%s\" is not a string of hexadecimal digits", key);
		free(bytes);
		return NULL;
	}
	return bytes;
}

bool
json_read_name(const json_t *object, const char *key, size_t max, char **out, llm_error *err)
{
	size_t		length;
	const json_t *value = json_object_get(object, key);

	*out = NULL;
	if (value == NULL)
		return llm_fail(err, LLM_CORRUPT, "key \"%s\" is missing", key);
	*out = json_take_bytes(value, key, max, &length, err);
	if (*out == NULL)
		return false;
	if (strlen(*out) == length)
		return true;
	free(*out);
	*out = NULL;
	return llm_fail(err, LLM_CORRUPT, "string \"%s\" contains a zero byte", key);
}
