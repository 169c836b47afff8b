/*
 * error.c
 *	  Fill an llm_error.
 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

bool
llm_fail(llm_error *err, llm_code code, const char *format, ...)
{
	va_list args;

	if (err->code != LLM_OK)
		return false;
	err->code = code;
	err->detail[0] = err->hint[0] = '\0';
	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	return false;
}

bool
llm_detail(llm_error *err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(err->detail, sizeof(err->detail), format, args);
	va_end(args);
	return false;
}

bool
llm_hint(llm_error *err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(err->hint, sizeof(err->hint), format, args);
	va_end(args);
	return false;
}
