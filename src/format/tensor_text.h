/*
 * tensor_text.h
 *	  Read the text form of a tensor: nested lists of numbers, [[1,2],[3,4]].
 *
 * Reads in portions, so that the caller can look for cancellation between them.  White
 * space may stand between any two tokens.  Numbers are decimal, with optional sign,
 * fraction and exponent; they round to the nearest float, below the smallest one to zero.
 * Decimal points are read by strtof: LC_NUMERIC must be a locale that writes "." (in a
 * PostgreSQL server it is "C").
 */
#ifndef LLMAPP_TENSOR_TEXT_H
#define LLMAPP_TENSOR_TEXT_H

#include "tensor_shape.h"

typedef struct tensor_text
{
	const char *cursor; /* next byte; after a failure, the byte that does not fit */
	bool after_element; /* "," or "]" is due */
	tensor_nest nest;   /* the shape, complete at the end */
} tensor_text;

/* Start on NUL-terminated text that outlives the reader. */
extern void tensor_text_start(tensor_text *reader, const char *text);

/* The next numbers, at most capacity; *count below capacity means that the text ended well. */
extern tensor_status tensor_text_read(tensor_text *reader, float *values, int32_t capacity, int32_t *count);

/* Numbers that text can hold at most. */
extern int32_t tensor_text_bound(const char *text);

/* One number that takes all of NUL-terminated text. */
extern tensor_status tensor_text_number(const char *text, float *value);

#endif /* LLMAPP_TENSOR_TEXT_H */
