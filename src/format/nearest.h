/*
 * nearest.h
 *	  Which known name a misspelt one may have meant.
 */
#ifndef LLMAPP_NEAREST_H
#define LLMAPP_NEAREST_H

#include "json.h"

#define NAME_DISTANCE_NEAR 4 /* farther names are not worth proposing */

/* Edit distance (Levenshtein) of two names below 64 bytes; 1000 for longer ones. */
extern int name_distance(const char *a, const char *b);

/* Are all keys of the object among the known ones?  LLM_INVALID "unknown WHAT KEY", the nearest one as a hint. */
extern bool keys_known(const json_t *object, const char *what, const char *const *known, int count, llm_error *err);

#endif /* LLMAPP_NEAREST_H */
