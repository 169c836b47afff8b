/*
 * json.c
 *	  Typed, bounded reading of JSON; what happens when memory ends.
 *
 * jansson reports a failed allocation to its caller, who builds objects of a hundred parts and
 * cannot look at each of them, and its parser even aborts after some.  So allocations go through
 * here: a failure is remembered, and whoever hands JSON on asks json_memory_failed() once.  While
 * text is parsed a reserve takes over at the first failure; no more than one buffer of text is
 * read then, for which the reserve suffices, and the parse fails.
 */
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RESERVE_BYTES (192 * 1024) /* for the values of one buffer of jansson's: 1024 arrays, 112 bytes each */
#define RESERVE_ALIGNMENT 16

static struct
{
	char *bytes; /* NULL: nothing is parsed */
	size_t size;
	size_t used;
} reserve;

static bool memory_failed;

static void *
allocate(size_t bytes)
{
	void *memory = malloc(bytes);

	if (memory != NULL)
		return memory;
	memory_failed = true;
	if (reserve.bytes == NULL || bytes > reserve.size - reserve.used)
		return NULL;
	memory = reserve.bytes + reserve.used;
	bytes = (bytes + RESERVE_ALIGNMENT - 1) / RESERVE_ALIGNMENT * RESERVE_ALIGNMENT;
	reserve.used = bytes < reserve.size - reserve.used ? reserve.used + bytes : reserve.size;
	return memory;
}

static void
release(void *memory)
{
	bool reserved =
		reserve.bytes != NULL && (char *) memory >= reserve.bytes && (char *) memory < reserve.bytes + reserve.size;

	if (!reserved)
		free(memory);
}

/* When the library is loaded, before anything is allocated by jansson. */
__attribute__((constructor)) static void
take_over_allocation(void)
{
	json_set_alloc_funcs(allocate, release);
}

void
json_fail_memory(void)
{
	memory_failed = true;
}

bool
json_memory_failed(void)
{
	bool failed = memory_failed;

	memory_failed = false;
	return failed;
}

json_t *
new_json_object(void)
{
	return json_pack("{}");
}

/* Text that is left to parse. */
typedef struct rest
{
	const char *text;
	size_t length;
} rest;

/* The next bytes for the parser; none any more after an allocation has failed. */
static size_t
next_bytes(void *buffer, size_t capacity, void *arg)
{
	rest *r = arg;
	size_t bytes = r->length < capacity ? r->length : capacity;

	if (memory_failed)
		return 0;
	memcpy(buffer, r->text, bytes);
	r->text += bytes;
	r->length -= bytes;
	return bytes;
}

/* The parser copies a string into a buffer that doubles. */
static size_t
longest_string(const char *text, size_t length)
{
	size_t longest = 0;

	for (size_t start = 0, i = 0; i <= length; i++)
		if (i == length || text[i] == '"')
		{
			longest = i - start > longest ? i - start : longest;
			start = i + 1;
		}
	return longest;
}

static json_t *
parse_with_reserve(const char *text, size_t length, size_t flags, json_error_t *why, bool *failed)
{
	rest r = {text, length};
	bool failed_before = memory_failed;
	json_t *json;

	memory_failed = false;
	json = json_load_callback(next_bytes, &r, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | flags, why);
	*failed = memory_failed;
	memory_failed = failed_before;
	if (!*failed)
		return json;
	json_decref(json); /* parts of it may lie in the reserve */
	return NULL;
}

static json_t *
parse(const char *text, size_t length, size_t flags, json_error_t *why, llm_error *err)
{
	bool failed = true;
	json_t *json = NULL;

	reserve.size = RESERVE_BYTES + 8 * longest_string(text, length);
	reserve.used = 0;
	reserve.bytes = malloc(reserve.size);
	if (reserve.bytes != NULL)
		json = parse_with_reserve(text, length, flags, why, &failed);
	free(reserve.bytes);
	reserve.bytes = NULL;
	if (failed)
		llm_fail(err, LLM_MEMORY, "out of memory while reading JSON");
	else if (json == NULL)
		llm_fail(err, LLM_CORRUPT, "invalid JSON at byte %d: %s", why->position, why->text);
	return json;
}

json_t *
json_parse(const char *text, size_t length, llm_error *err)
{
	return parse(text, length, 0, &(json_error_t) {.line = 0}, err);
}

json_t *
json_parse_large(const char *text, size_t length, llm_error *err)
{
	json_error_t why;
	llm_error first = {.code = LLM_OK};
	json_t *json = parse(text, length, 0, &why, &first);

	if (json == NULL && first.code == LLM_CORRUPT && json_error_code(&why) == json_error_numeric_overflow)
		return parse(text, length, JSON_DECODE_INT_AS_REAL, &why, err);
	if (json == NULL)
		*err = first;
	return json;
}

char *
json_text(const json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));

	if (!json_memory_failed())
		return text;
	free(text);
	return NULL;
}

/* Fetch a key and demand its type. */
static const json_t *
json_member(const json_t *object, const char *key, bool type_ok(const json_t *), const char *type, llm_error *err)
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

static bool
is_object(const json_t *j)
{
	return json_is_object(j);
}
static bool
is_array(const json_t *j)
{
	return json_is_array(j);
}
static bool
is_string(const json_t *j)
{
	return json_is_string(j);
}
static bool
is_integer(const json_t *j)
{
	return json_is_integer(j);
}
static bool
is_number(const json_t *j)
{
	return json_is_number(j);
}
static bool
is_boolean(const json_t *j)
{
	return json_is_boolean(j);
}

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
		return llm_fail(err, LLM_CORRUPT, "array \"%s\" has %zu elements, at most %zu are allowed", key,
						json_array_size(*out), max);
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
		return llm_fail(err, LLM_CORRUPT, "\"%s\" is %lld, outside %lld to %lld", key, (long long) *out,
						(long long) low, (long long) high);
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
		double number = json_number_value(element);

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
		int high = hex_digit(text[2 * i]);
		int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);

		if (low < 0)
			return false;
		((unsigned char *) bytes)[i] = (unsigned char) (high << 4 | low);
	}
	return text[2 * length] == '\0';
}

json_t *
json_bytes(const char *bytes, size_t length)
{
	json_t *json = json_stringn(bytes, length);
	char *hex;

	/* jansson refuses what is not UTF-8; a zero byte would be refused when read back. */
	if (json != NULL && memchr(bytes, 0, length) == NULL)
		return json;
	json_decref(json);
	hex = malloc(2 * length + 1);
	if (hex == NULL)
	{
		json_fail_memory();
		return NULL;
	}
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
	char *bytes;

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
	size_t length;
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
