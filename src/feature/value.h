/*
 * value.h
 *	  What the files of this folder share about single values.
 */
#ifndef LLMAPP_VALUE_H
#define LLMAPP_VALUE_H

#include <math.h>

#include "feature.h"

#define NUMBER_TEXT_BYTES 40

/* The number as PostgreSQL writes it; single: it came from a float4. */
extern void number_text(double number, bool single, char *text);

/* A string or a number as text; buffer has NUMBER_TEXT_BYTES. */
extern const char *value_text(const value *v, bool single, char *buffer, int32_t *length);

/* NULL, NaN, and a vector where one value is expected, are missing. */
static inline bool
value_missing(const value *v)
{
	return v->kind == VALUE_NULL || (v->kind == VALUE_NUMBER && isnan(v->number));
}

#endif /* LLMAPP_VALUE_H */
