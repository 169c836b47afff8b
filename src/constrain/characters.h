/*
 * characters.h
 *	  Characters inside JSON strings, as fragments of a grammar.
 *
 * A string is UTF-8 (RFC 3629) without control characters.  Escapes are those of JSON but the one
 * of U+0000, which PostgreSQL cannot store, and those of surrogates, since every character can be
 * written as it is.
 */
#ifndef LLMAPP_CHARACTERS_H
#define LLMAPP_CHARACTERS_H

#include "grammar.h"

/* One character, written in any way; as it is; and as it is and not of ASCII. */
extern void add_character(grammar *g, int32_t from, int32_t to);
extern void add_wide_character(grammar *g, int32_t from, int32_t to);

/* A character of ASCII the way it has to be written; nothing where it cannot be. */
extern void add_ascii(grammar *g, int32_t from, int c, int32_t to);

/*
 * Behind the quotation mark that opens it: any string of characters as they are that is none of the
 * names, which are sorted, and the quotation mark that closes it.
 */
extern void add_other_string(grammar *g, int32_t from, char **names, int32_t count, int32_t to);

/*
 * Behind the quotation mark that opens it: what a regular expression matches from its beginning to
 * its end.  LLM_INVALID in g->err for what is not supported; see pattern.c.
 */
extern void add_pattern(grammar *g, int32_t from, const char *pattern, int32_t to);

#endif /* LLMAPP_CHARACTERS_H */
