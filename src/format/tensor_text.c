/*
 * tensor_text.c
 *	  Reader of the text form of a tensor.
 *
 * One loop over tokens; nesting is counted, not recursed into.  Nothing is allocated.
 */
#include "tensor_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* White space; written out because strspn() costs as much as reading a number. */
static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Bytes that end a number. */
static bool
is_delimiter(char c)
{
	return c == ',' || c == ']' || c == '[' || c == '\0' || is_space(c);
}

static const char *
skip_digits(const char *s)
{
	while (*s >= '0' && *s <= '9')
		s++;
	return s;
}

/* Length of the decimal number at s, 0 when there is none. */
static size_t
number_length(const char *s)
{
	const char *start = s;
	const char *whole, *end;

	whole = s + (*s == '+' || *s == '-');
	end = skip_digits(whole);
	if (*end == '.')
		end = skip_digits(end + 1);
	if (end == whole || (end == whole + 1 && *whole == '.'))
		return 0;
	if (*end == 'e' || *end == 'E')
	{
		const char *exponent = end + 1;

		exponent += *exponent == '+' || *exponent == '-';
		end = skip_digits(exponent);
		if (end == exponent)
			return 0;
	}
	return end - start;
}

/* True for the words strtof and SQL know for what is not finite. */
static bool
is_not_finite(const char *s, size_t length)
{
	static const char *const words[] = {"nan", "inf", "infinity"};

	if (length > 0 && (*s == '+' || *s == '-'))
		s++, length--;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (length == strlen(words[i]) && strncasecmp(s, words[i], length) == 0)
			return true;
	return false;
}

/* The number that takes all of the token at s; *length is that of the token when there is one. */
static tensor_status
read_number(const char *s, float *value, size_t *length)
{
	size_t end = number_length(s);

	if (end == 0 || !is_delimiter(s[end]))
	{
		while (!is_delimiter(s[end]))
			end++;
		return is_not_finite(s, end) ? TENSOR_NOT_FINITE : TENSOR_BAD_NUMBER;
	}
	*length = end;
	*value = strtof(s, NULL);
	return isfinite(*value) ? TENSOR_OK : TENSOR_OUT_OF_RANGE;
}

tensor_status
tensor_text_number(const char *text, float *value)
{
	size_t length = 0;
	tensor_status status = read_number(text, value, &length);

	return status == TENSOR_OK && text[length] != '\0' ? TENSOR_BAD_NUMBER : status;
}

int32_t
tensor_text_bound(const char *text)
{
	int32_t bound = 1;

	for (; bound < TENSOR_MAX_ELEMENTS && (text = strchr(text, ',')) != NULL; text++)
		bound++;
	return bound;
}

void
tensor_text_start(tensor_text *reader, const char *text)
{
	memset(reader, 0, sizeof(*reader));
	reader->cursor = text;
}

/* Take "[", "," or "]"; the cursor moves only when it fits. */
static tensor_status
read_punctuation(tensor_text *reader)
{
	char c = *reader->cursor;
	tensor_nest *nest = &reader->nest;
	tensor_status status = TENSOR_OK;

	if (c == '[')
		status = reader->after_element ? TENSOR_NO_COMMA : tensor_nest_open(nest);
	else if (nest->depth == 0)
		status = TENSOR_NO_LIST;
	else if (!reader->after_element && (c == ',' || nest->filled[nest->depth - 1] > 0))
		status = TENSOR_NO_VALUE;
	else if (c == ']')
		status = tensor_nest_close(nest);
	if (status != TENSOR_OK)
		return status;
	reader->after_element = c == ']';
	reader->cursor++;
	return TENSOR_OK;
}

/* Take one number. */
static tensor_status
read_element(tensor_text *reader, float *value)
{
	size_t length;
	tensor_status status;

	if (reader->nest.depth == 0)
		return TENSOR_NO_LIST;
	if (reader->after_element)
		return TENSOR_NO_COMMA;
	status = read_number(reader->cursor, value, &length);
	if (status == TENSOR_OK)
		status = tensor_nest_value(&reader->nest);
	if (status != TENSOR_OK)
		return status;
	reader->after_element = true;
	reader->cursor += length;
	return TENSOR_OK;
}

tensor_status
tensor_text_read(tensor_text *reader, float *values, int32_t capacity, int32_t *count)
{
	tensor_status status = TENSOR_OK;
	bool complete;

	*count = 0;
	while (*count < capacity)
	{
		while (is_space(*reader->cursor))
			reader->cursor++;
		complete = reader->nest.depth == 0 && reader->after_element;
		if (*reader->cursor == '\0')
		{
			if (complete)
				return TENSOR_OK;
			return reader->nest.depth > 0 ? TENSOR_UNCLOSED : TENSOR_NO_LIST;
		}
		if (complete)
			return TENSOR_JUNK;
		if (*reader->cursor == ',' || *reader->cursor == '[' || *reader->cursor == ']')
			status = read_punctuation(reader);
		else
		{
			status = read_element(reader, &values[*count]);
			*count += status == TENSOR_OK;
		}
		if (status != TENSOR_OK)
			return status;
	}
	return TENSOR_OK;
}
