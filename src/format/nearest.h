/*
 * nearest.h
 *	  Which known name a misspelt one may have meant.
 */
#ifndef LLMAPP_NEAREST_H
#define LLMAPP_NEAREST_H

#define NAME_DISTANCE_NEAR 4 /* farther names are not worth proposing */

/* Edit distance (Levenshtein) of two names below 64 bytes; 1000 for longer ones. */
extern int name_distance(const char *a, const char *b);

#endif /* LLMAPP_NEAREST_H */
