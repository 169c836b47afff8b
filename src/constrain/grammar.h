/*
 * grammar.h
 *	  What texts are allowed: rules of states, with edges that take a byte, nothing, or a whole rule.
 *
 * Intended use:
 *	 1. grammar_new(), then grammar_rule() for each rule; rule 0 is the text itself.  Fragments are
 *		built between two states, from where a rule begins to where it ends.
 *	 2. grammar_finish() says whether anything went wrong on the way; functions before it return
 *		nothing to check.
 *	 3. grammar_measure() gives each state how far the end of its rule is, for an alphabet.
 *
 * A rule's end has no edges.  Rules may call each other and themselves.
 */
#ifndef LLMAPP_GRAMMAR_H
#define LLMAPP_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../engine/error.h"

#define GRAMMAR_STATES_MAX 200000
#define GRAMMAR_DEPTH_MAX 100 /* rules within each other while a text is made */
#define GRAMMAR_FAR INT32_MAX /* distance where the end cannot be reached */

typedef enum edge_kind
{
	EDGE_BYTES, /* one byte of [low, high] */
	EDGE_EMPTY,
	EDGE_RULE /* what the rule allows */
} edge_kind;

typedef struct grammar_edge
{
	int32_t next; /* of the same state, -1: the last */
	int32_t from;
	int32_t to;
	int32_t rule;
	uint8_t kind;
	uint8_t low;
	uint8_t high;
} grammar_edge;

typedef struct grammar_state
{
	int32_t edge;     /* first one, -1: none */
	int32_t distance; /* bytes to the end of the rule, at least */
	int32_t height;   /* rules within each other on that way */
	bool end;         /* of its rule */
} grammar_state;

typedef struct grammar_rule_ends
{
	int32_t start;
	int32_t end;
} grammar_rule_ends;

typedef struct grammar
{
	grammar_state *states;
	grammar_edge *edges;
	grammar_rule_ends *rules;
	int32_t state_count, edge_count, rule_count;
	int32_t state_room, edge_room, rule_room;
	llm_error err; /* of building */
} grammar;

extern grammar *grammar_new(llm_error *err);
extern void grammar_free(grammar *g); /* g may be NULL */

extern int32_t grammar_rule(grammar *g); /* a new one, its number */
extern int32_t grammar_state_new(grammar *g);
extern void grammar_bytes(grammar *g, int32_t from, int low, int high, int32_t to);
extern void grammar_empty(grammar *g, int32_t from, int32_t to);
extern void grammar_call(grammar *g, int32_t from, int32_t rule, int32_t to);
extern void grammar_text(grammar *g, int32_t from, const char *bytes, size_t length, int32_t to);
/* One of several texts; such that begin alike share states.  The array is sorted. */
extern void grammar_texts(grammar *g, int32_t from, char **texts, int32_t count, int32_t to);

/* False when building failed, LLM_MEMORY. */
extern bool grammar_finish(const grammar *g, llm_error *err);

/*
 * Distances and heights, where only the usable bytes may stand in a text (Knuth, "A generalization
 * of Dijkstra's algorithm", 1977).
 */
extern bool grammar_measure(grammar *g, const bool usable[256], llm_error *err);

#endif /* LLMAPP_GRAMMAR_H */
