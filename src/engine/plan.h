/*
 * plan.h
 *	  A graph made ready to run: every tensor has its place in one arena, every operation
 *	  is a step with addresses.
 *
 * Use: plan_new() takes the graph over; plan_arena_bytes() is the memory a run needs, and
 * plans that never run at the same time may share it; plan_attach() fixes addresses;
 * plan_bind() gives inputs; plan_run() as often as wanted, without allocating.
 */
#ifndef LLMAPP_PLAN_H
#define LLMAPP_PLAN_H

#include "backend.h"

typedef struct plan plan;

/* offsets: of each parameter slot, in floats from the start of the weights.  Frees g on failure too. */
extern plan *plan_new(graph *g, const backend *b, const size_t *offsets, llm_error *err);
extern void plan_free(plan *p);
extern size_t plan_arena_bytes(const plan *p); /* multiple of 64 */
extern void plan_attach(plan *p, void *arena, const float *weights);
extern void plan_bind(plan *p, int32_t slot, const void *data); /* cheap when nothing changed */
/* LLM_CANCELLED when r->poll asked to stop. */
extern bool plan_run(const plan *p, const run_args *r, llm_error *err);

/* For callers that read results, and for tests. */
extern const graph *plan_graph(const plan *p);
extern const step *plan_step(const plan *p, int32_t node); /* inputs are those that were bound */
extern void *plan_address(const plan *p, int32_t tensor);
/* Bytes [*begin, *end) of the arena and steps [*first, *last] in which they belong to the tensor; false: not in the arena. */
extern bool plan_place(const plan *p, int32_t tensor, size_t *begin, size_t *end, int32_t *first, int32_t *last);

#endif /* LLMAPP_PLAN_H */
