/*
 * automaton.h
 *	  A grammar as a deterministic automaton that is made while it is used.
 *
 * A state of the automaton is the set of all places in the grammar where the text may stand: a
 * state of a rule, and the frames of the rules around it.  Equal sets are one state, and what
 * follows a byte is looked up the second time.  Frames are shared, too.
 *
 * Places from which the text could not be ended with GRAMMAR_DEPTH_MAX frames are left out, so
 * each state can be ended, and the distance of each is exact.
 */
#ifndef LLMAPP_AUTOMATON_H
#define LLMAPP_AUTOMATON_H

#include "grammar.h"

#define AUTOMATON_DEAD 0  /* the state after a byte that is not allowed */
#define AUTOMATON_START 1 /* of a text */

typedef struct automaton automaton;

/* The grammar must be measured, with these usable bytes, and stay while the automaton lives. */
extern automaton *automaton_new(const grammar *g, const bool usable[256], llm_error *err);
extern void automaton_free(automaton *a); /* a may be NULL */

/* The state after one byte more, or -1: LLM_MEMORY. */
extern int32_t automaton_step(automaton *a, int32_t state, uint8_t byte, llm_error *err);
/* Bytes to the end of the text at least; 0: it may end here.  GRAMMAR_FAR of AUTOMATON_DEAD. */
extern int64_t automaton_distance(const automaton *a, int32_t state);
/* May the text go on? */
extern bool automaton_goes_on(const automaton *a, int32_t state);
/*
 * The first byte of one of the shortest ways to the end, always the same one; the state is neither dead nor at distance
 * 0.  After it the distance is one less.
 */
extern uint8_t automaton_nearest(const automaton *a, int32_t state);

extern int32_t automaton_states(const automaton *a); /* numbers are below this */
/* Memory in use; automaton_reset() gives it back, and all states but the first two become invalid. */
extern size_t automaton_bytes(const automaton *a);
extern bool automaton_reset(automaton *a, llm_error *err);

#endif /* LLMAPP_AUTOMATON_H */
