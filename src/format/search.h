/*
 * search.h
 *	  Ranges inside params, and the settings that a trial draws from them.
 *
 * {"min": a, "max": b} for numbers, with "log": true for an even draw of the logarithm;
 * {"choices": [...]} for anything.  A draw depends on seed, trial and setting alone.
 * Plain C, no PostgreSQL.
 */
#ifndef LLMAPP_SEARCH_H
#define LLMAPP_SEARCH_H

#include "params.h"

/* May the setting be searched?  Those may not that decide what the rows become, or what the loss measures. */
extern bool search_allowed(const char *name);
/* The form of a range; the values in it are for the caller to check. */
extern bool search_check(const param_info *info, const json_t *range, llm_error *err);
/* Whether a value lies in a range that was checked. */
extern bool search_holds(const json_t *range, const json_t *value);
/* A new value; position tells settings apart.  NULL: out of memory. */
extern json_t *search_draw(const param_info *info, const json_t *range, uint64_t seed, int32_t trial,
						   int32_t position);

#endif /* LLMAPP_SEARCH_H */
