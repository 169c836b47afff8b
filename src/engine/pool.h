/*
 * pool.h
 *	  Threads that share the tiles of one step at a time.
 *
 * The thread that calls pool_run() works too, and is the only one to poll.  Which thread
 * runs which tile varies; tiles must not depend on each other.  Workers are created with
 * all signals blocked, so signals reach the owner's thread only.
 */
#ifndef LLMAPP_POOL_H
#define LLMAPP_POOL_H

#include "net.h"

typedef struct pool pool;
typedef void (*pool_tile)(void *arg, int64_t tile);

/* threads - 1 workers are started; threads >= 1. */
extern pool *pool_new(int32_t threads, llm_error *err);
extern void pool_free(pool *p); /* joins; p may be NULL */
/*
 * Run tiles 0 .. tiles - 1, at most 2^31 - 1.  False when poll asked to stop: tiles begun
 * are finished, the rest is not run.  p may be NULL (one thread), poll may be NULL.
 */
extern bool pool_run(pool *p, pool_tile run, void *arg, int64_t tiles, llm_poll poll, void *poll_arg);

#endif /* LLMAPP_POOL_H */
