/*
 * pool.c
 *	  Threads that share tiles.
 *
 * One 64-bit word holds the number of the job (high half) and how many of its tiles are
 * unclaimed (low half); a thread claims a tile by lowering it with compare-and-swap.  A
 * claim proves that the job is unfinished, hence that its description in the pool is
 * stable.  Idle workers spin for some tens of microseconds, the usual gap between two
 * steps, then sleep on a condition variable.
 */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SPINS 4000

struct pool
{
	int32_t workers;
	pthread_t *threads;
	_Atomic uint64_t unclaimed; /* job << 32 | tiles */
	_Atomic int64_t unfinished; /* tiles claimed or not */
	pool_tile run;
	void *arg;
	int64_t tiles;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	_Atomic int32_t sleepers;
	_Atomic bool quit;
};

static inline void
pause_cpu(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

/* Claim and run one tile; false when none is left. */
static bool
run_one(pool *p)
{
	uint64_t seen = atomic_load(&p->unclaimed);

	while ((uint32_t) seen != 0)
		if (atomic_compare_exchange_weak(&p->unclaimed, &seen, seen - 1))
		{
			p->run(p->arg, p->tiles - (uint32_t) seen);
			atomic_fetch_sub(&p->unfinished, 1);
			return true;
		}
	return false;
}

static void
sleep_until_work(pool *p)
{
	pthread_mutex_lock(&p->mutex);
	atomic_fetch_add(&p->sleepers, 1);
	while ((uint32_t) atomic_load(&p->unclaimed) == 0 && !atomic_load(&p->quit))
		pthread_cond_wait(&p->wake, &p->mutex);
	atomic_fetch_sub(&p->sleepers, 1);
	pthread_mutex_unlock(&p->mutex);
}

static void *
worker_main(void *arg)
{
	pool *p = arg;
	int idle = 0;

	while (!atomic_load(&p->quit))
	{
		if (run_one(p))
			idle = 0;
		else if (++idle < SPINS)
			pause_cpu();
		else
		{
			sleep_until_work(p);
			idle = 0;
		}
	}
	return NULL;
}

static bool
start_workers(pool *p, int32_t workers, llm_error *err)
{
	sigset_t all, old;
	int rc = 0;

	p->threads = calloc(workers ? workers : 1, sizeof(pthread_t));
	if (!p->threads)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (p->workers < workers && (rc = pthread_create(&p->threads[p->workers], NULL, worker_main, p)) == 0)
		p->workers++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
	{
		llm_fail(err, LLM_MEMORY, "could not start thread: %s", strerror(rc));
		return llm_hint(err, "Lower the number of threads.");
	}
	return true;
}

pool *
pool_new(int32_t threads, llm_error *err)
{
	pool *p = calloc(1, sizeof(pool));

	if (!p)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&p->mutex, NULL);
	pthread_cond_init(&p->wake, NULL);
	if (!start_workers(p, threads - 1, err))
	{
		pool_free(p);
		return NULL;
	}
	return p;
}

static void
wake_all(pool *p)
{
	pthread_mutex_lock(&p->mutex);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->mutex);
}

void
pool_free(pool *p)
{
	if (!p)
		return;
	atomic_store(&p->quit, true);
	wake_all(p);
	for (int32_t i = 0; i < p->workers; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->mutex);
	free(p->threads);
	free(p);
}

/* Take back the unclaimed tiles. */
static void
drop_unclaimed(pool *p)
{
	uint64_t seen = atomic_load(&p->unclaimed);

	while (!atomic_compare_exchange_weak(&p->unclaimed, &seen, seen & ~(uint64_t) UINT32_MAX))
		;
	atomic_fetch_sub(&p->unfinished, (uint32_t) seen);
}

static bool
run_alone(pool_tile run, void *arg, int64_t tiles, llm_poll poll, void *poll_arg)
{
	for (int64_t i = 0; i < tiles; i++)
	{
		if (poll && poll(poll_arg))
			return false;
		run(arg, i);
	}
	return true;
}

bool
pool_run(pool *p, pool_tile run, void *arg, int64_t tiles, llm_poll poll, void *poll_arg)
{
	uint64_t job;
	bool stopped = false;

	if (!p || p->workers == 0 || tiles < 2)
		return run_alone(run, arg, tiles, poll, poll_arg);
	p->run = run;
	p->arg = arg;
	p->tiles = tiles;
	atomic_store(&p->unfinished, tiles);
	job = (atomic_load(&p->unclaimed) >> 32) + 1;
	atomic_store(&p->unclaimed, job << 32 | (uint64_t) tiles);
	if (atomic_load(&p->sleepers) > 0)
		wake_all(p);
	do
		if (poll && poll(poll_arg))
		{
			stopped = true;
			drop_unclaimed(p);
		}
	while (run_one(p));
	for (int spins = 0; atomic_load(&p->unfinished) > 0; spins++)
		if (spins < SPINS)
			pause_cpu();
		else
			sched_yield();
	return !stopped;
}
