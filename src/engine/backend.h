/*
 * backend.h
 *	  What a device provides: memory, and one kernel per operation.
 *
 * A backend is a column beside ops.def.  For every operation prepare() turns a node into
 * the numbers that its kernel reads and says how the work divides; run() computes units
 * [begin, end).  Units are rows of an axis of the batch, or a fixed number of parts
 * (columns, table rows), and every result belongs to exactly one unit, so neither the
 * number of threads nor the order of tiles changes a byte.
 */
#ifndef LLMAPP_BACKEND_H
#define LLMAPP_BACKEND_H

#include "graph.h"
#include "pool.h"
#include "simd.h"

/* What differs from run to run. */
typedef struct run_args
{
	int64_t rows[AXIS_COUNT]; /* of the batch by axis, <= capacity */
	uint64_t seed;            /* of dropout */
	uint64_t step;
	const simd_kernels *simd;
	pool *pool;    /* NULL = the calling thread only */
	llm_poll poll; /* may be NULL */
	void *poll_arg;
} run_args;

typedef struct step
{
	void (*run)(const struct step *s, const run_args *r, int64_t begin, int64_t end);
	void *in[NODE_INPUTS]; /* NULL where the node has none */
	void *out[NODE_OUTPUTS];
	int64_t size[8]; /* as the operation's prepare() says */
	op_attr attr;
	bool bf16;                     /* its products are of numbers rounded to bf16 */
	bool accumulate[NODE_OUTPUTS]; /* an earlier step wrote this output: add to it */
	tensor_axis axis;              /* node_axis() */
	tensor_axis by_axis;           /* units are the run's rows of this axis, times `units` if that is not 0 */
	int64_t units;                 /* AXIS_NONE: how many */
	double cost;                   /* of one unit, about floating-point operations of a matrix product */
	int64_t panel;                 /* units below which a tile wastes work; 0 = any number is fine */
	int64_t grain;                 /* units of a tile, by cost; fixed by the plan */
} step;

typedef struct op_kernel
{
	void (*prepare)(step *s, const graph *g, const node *n);
	void (*run)(const step *s, const run_args *r, int64_t begin, int64_t end);
} op_kernel;

typedef struct backend
{
	const char *name;
	void *(*allocate)(size_t bytes); /* 64-byte aligned, NULL on failure */
	void (*release)(void *memory);
	const op_kernel *kernels; /* (OP_COUNT) */
} backend;

extern const backend backend_cpu;

#endif /* LLMAPP_BACKEND_H */
