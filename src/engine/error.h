/*
 * error.h
 *	  How code that knows nothing of PostgreSQL reports failure.
 *
 * Every function that can fail takes an llm_error and returns false or NULL after
 * filling it.  The first failure wins; nothing here allocates, prints or jumps.
 * src/llmapp.h turns the structure into ereport().
 */
#ifndef LLMAPP_ERROR_H
#define LLMAPP_ERROR_H

#include <stdbool.h>

typedef enum llm_code
{
	LLM_OK = 0,
	LLM_INVALID,     /* the caller's argument or setting is wrong */
	LLM_CORRUPT,     /* bytes of a model or file are not what they claim to be */
	LLM_MEMORY,      /* an allocation failed or a limit would be exceeded */
	LLM_CANCELLED,   /* the poll function asked to stop */
	LLM_UNAVAILABLE, /* a library or device is not there */
	LLM_LOST         /* the device failed: this process can use it no more, another one may */
} llm_code;

typedef struct llm_error
{
	llm_code code;
	char message[256];
	char detail[512];
	char hint[256];
} llm_error;

/* Record a failure unless one is recorded already.  Always returns false. */
extern bool llm_fail(llm_error *err, llm_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Add DETAIL or HINT to the failure just recorded.  Both return false. */
extern bool llm_detail(llm_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern bool llm_hint(llm_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif /* LLMAPP_ERROR_H */
