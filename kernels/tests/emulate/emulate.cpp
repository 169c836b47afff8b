/*
 * emulate.cpp
 *	  Fibers, barriers, shared memory and the runtime's functions of cuda_runtime.h here.
 *
 * Each thread of a block has a stack that lives as long as the program.  The scheduler lets every
 * thread that can run do so until it waits or ends, in the order asked for, and releases a warp or a
 * block when all of it waits.  A kernel that lacks a barrier so makes other bytes in one of the orders.
 */
#include "cuda_runtime.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#define MAX_THREADS 1024
#define STACK_BYTES (128 << 10)
#define SHARED_BYTES (232448) /* of an H100 */
#define SHARED_UNASKED 49152
#define SITES 64
#define CANARY 64 /* bytes behind each array, checked */

emulate_index threadIdx, blockIdx, blockDim, gridDim;

typedef enum thread_state
{
	READY,
	AT_WARP,
	AT_BLOCK,
	DONE
} thread_state;

typedef struct fiber
{
	ucontext_t entry;
	jmp_buf at;
	thread_state state;
	unsigned parity;
} fiber;

static fiber fibers[MAX_THREADS];
static unsigned fibers_made;
static jmp_buf scheduler;
static ucontext_t maker;
static const std::function<void()> *body;
static unsigned char slots[MAX_THREADS / 32][2][32][64];
static int order_kind;
static std::vector<unsigned> order;

[[noreturn]] static void
fail(const char *what)
{
	fprintf(stderr, "emulated GPU: %s (block %u of %u, %u threads)\n", what, blockIdx.x, gridDim.x, blockDim.x);
	_exit(70);
}

/* ---- shared memory ---- */

static unsigned char *shared;
static size_t shared_used, shared_rest_bytes;

static struct
{
	const void *site;
	size_t at, bytes;
} sites[SITES];
static int site_count;

static void
begin_shared(size_t rest_bytes)
{
	if (!shared)
		shared = (unsigned char *) aligned_alloc(256, SHARED_BYTES + SITES * 2 * CANARY);
	memset(shared, 0xff,
		   shared_used + rest_bytes + 4 * CANARY < SHARED_BYTES ? shared_used + rest_bytes + 4 * CANARY
																: SHARED_BYTES);
	site_count = 0;
	shared_rest_bytes = rest_bytes;
	shared_used = (rest_bytes + 63) / 64 * 64 + CANARY;
	if (rest_bytes > SHARED_BYTES)
		fail("more shared memory than there is");
	memset(shared + rest_bytes, 0xa5, shared_used - rest_bytes);
}

void *
emulate_shared(const void *site, size_t bytes)
{
	for (int i = 0; i < site_count; i++)
		if (sites[i].site == site)
			return shared + sites[i].at;
	if (site_count == SITES || shared_used + bytes + CANARY > SHARED_BYTES)
		fail("more shared memory than there is");
	sites[site_count++] = {site, shared_used, bytes};
	shared_used += (bytes + 63) / 64 * 64 + CANARY;
	memset(shared + sites[site_count - 1].at, 0xff, bytes);
	memset(shared + sites[site_count - 1].at + bytes, 0xa5, shared_used - sites[site_count - 1].at - bytes);
	return shared + sites[site_count - 1].at;
}

void *
emulate_shared_rest(void)
{
	return shared;
}

static void
check_canary(size_t from)
{
	for (int i = 0; i < CANARY; i++)
		if (shared[from + i] != 0xa5)
			fail("write beyond shared memory");
}

static void
end_shared(void)
{
	check_canary(shared_rest_bytes);
	for (int i = 0; i < site_count; i++)
		check_canary(sites[i].at + sites[i].bytes);
}

/* ---- fibers ---- */

static fiber *
self(void)
{
	return &fibers[threadIdx.x];
}

static void
wait_as(thread_state state)
{
	fiber *f = self();

	f->state = state;
	if (_setjmp(f->at) == 0)
		_longjmp(scheduler, 1);
}

static void
fiber_main(unsigned i)
{
	fiber *f = &fibers[i];

	if (_setjmp(f->at) == 0)
		swapcontext(&f->entry, &maker);
	for (;;)
	{
		(*body)();
		wait_as(DONE);
	}
}

static void
make_fibers(unsigned count)
{
	for (; fibers_made < count; fibers_made++)
	{
		fiber *f = &fibers[fibers_made];

		getcontext(&f->entry);
		f->entry.uc_stack.ss_sp = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		f->entry.uc_stack.ss_size = STACK_BYTES;
		if (f->entry.uc_stack.ss_sp == MAP_FAILED)
			fail("no memory for stacks");
		makecontext(&f->entry, (void (*)()) fiber_main, 1, fibers_made);
		swapcontext(&maker, &f->entry);
	}
}

void
__syncthreads(void)
{
	wait_as(AT_BLOCK);
}

void
__syncwarp(unsigned mask)
{
	wait_as(AT_WARP);
}

/* Two sets of slots, so that a lane may go on to the next exchange while others still read. */
const unsigned char (*emulate_exchange(const void *value, size_t bytes))[64]
{
	unsigned warp = threadIdx.x / 32, parity = self()->parity ^= 1;

	memcpy(slots[warp][parity][threadIdx.x % 32], value, bytes);
	wait_as(AT_WARP);
	return slots[warp][parity];
}

/* Of the threads at [begin, end) of the order, those that can run; returns whether there were any. */
static bool
run_threads(unsigned begin, unsigned end)
{
	static unsigned i; /* survives the jumps */
	static bool ran;

	ran = false;
	for (i = begin; i < end; i++)
	{
		fiber *f = &fibers[order[i]];

		if (f->state != READY)
			continue;
		threadIdx.x = order[i];
		ran = true;
		if (_setjmp(scheduler) == 0)
			_longjmp(f->at, 1);
	}
	return ran;
}

/* All of [begin, end) wait in the same way. */
static bool
all_wait(unsigned begin, unsigned end, thread_state state)
{
	for (unsigned i = begin; i < end; i++)
		if (fibers[i].state != state)
			return false;
	return true;
}

static void
release(unsigned begin, unsigned end)
{
	for (unsigned i = begin; i < end; i++)
		fibers[i].state = READY;
}

static void
release_warps(void)
{
	for (unsigned w = 0; w < blockDim.x; w += 32)
		if (all_wait(w, w + 32, AT_WARP))
			release(w, w + 32);
}

/*
 * In order, a warp runs as far as it can before the next one does, to the block's barrier, so that what it does
 * too early shows; shuffled, all warps go on in step.
 */
static void
run_block(size_t bytes)
{
	unsigned group = order_kind == 2 ? blockDim.x : 32;
	bool ran;

	begin_shared(bytes);
	for (unsigned t = 0; t < blockDim.x; t++)
	{
		fibers[t].state = READY;
		fibers[t].parity = 0;
	}
	do
	{
		ran = false;
		for (unsigned begin = 0; begin < blockDim.x; begin += group)
			while (run_threads(begin, begin + group))
			{
				ran = true;
				release_warps();
			}
		if (all_wait(0, blockDim.x, AT_BLOCK))
			release(0, blockDim.x);
	} while (ran);
	if (!all_wait(0, blockDim.x, DONE))
		fail("threads wait for others that do not come");
	end_shared();
}

static uint32_t order_state;

static void
set_order(std::vector<unsigned> *to, unsigned count)
{
	to->resize(count);
	for (unsigned i = 0; i < count; i++)
		(*to)[i] = order_kind == 1 ? count - 1 - i : i;
	for (unsigned i = count; order_kind == 2 && i > 1; i--)
	{
		order_state = order_state * 1664525 + 1013904223;
		std::swap((*to)[i - 1], (*to)[(order_state >> 8) % i]);
	}
}

void
emulate_set_order(int kind)
{
	order_kind = kind;
}

void
emulate_grid(unsigned grid, unsigned threads, size_t bytes, const std::function<void()> &thread)
{
	std::vector<unsigned> blocks;

	gridDim.x = grid;
	blockDim.x = threads;
	blockIdx.x = 0;
	if (threads == 0 || threads > MAX_THREADS || threads % 32 != 0)
		fail("impossible number of threads");
	make_fibers(threads);
	set_order(&blocks, grid);
	set_order(&order, threads);
	body = &thread;
	for (unsigned b : blocks)
	{
		blockIdx.x = b;
		run_block(bytes);
	}
}

/* ---- faults ---- */

static const char *failing = "";
static int failing_after;

void
emulate_fail(const char *kind, int count)
{
	failing = kind;
	failing_after = count;
}

/*
 * A file that LLMAPP_EMULATE_FAULT names may say "memory N" or "lost N": the N-th allocation of this process fails,
 * or the device at the N-th run of a graph.
 */
static bool
is_faulty(const char *kind, int *count)
{
	const char *path = getenv("LLMAPP_EMULATE_FAULT");
	FILE *file = path ? fopen(path, "r") : NULL;
	char word[16] = "";
	int at = 0;
	bool named = file && fscanf(file, "%15s %d", word, &at) == 2 && strcmp(word, kind) == 0;

	if (file)
		fclose(file);
	if (strcmp(failing, kind) == 0 && failing_after > 0 && --failing_after == 0)
		return true;
	return ++*count == at && named;
}

/* ---- the runtime ---- */

struct emulate_graph
{
	std::vector<std::function<void()>> calls;
};

/* Work that was enqueued is numbered from 0; an event is the number behind what it waits for. */
struct emulate_stream
{
	std::deque<std::function<void()>> work;
	uint64_t done;
	bool first;
};

struct emulate_event
{
	emulate_stream *stream; /* NULL before it is recorded */
	uint64_t end;
};

static std::vector<emulate_stream *> streams;
static bool others_hurry;

static emulate_graph *capturing;
static std::map<void *, size_t> allocated, pinned;
static int allocations; /* tried */

size_t
emulate_allocated(void)
{
	size_t bytes = 0;

	for (const std::map<void *, size_t> *m : {&allocated, &pinned})
		for (const std::pair<void *const, size_t> &a : *m)
			bytes += a.second;
	return bytes;
}

static uint64_t
end_of(const emulate_stream *s)
{
	return s->done + s->work.size();
}

static void
work_until(emulate_stream *s, uint64_t end)
{
	while (s->done < end)
	{
		std::function<void()> call = s->work.front();

		s->work.pop_front();
		s->done++;
		call();
	}
}

static void
work_all(void)
{
	for (emulate_stream *s : streams)
		work_until(s, end_of(s));
}

void
emulate_hurry(int others)
{
	others_hurry = others;
}

void
emulate_enqueue(cudaStream_t s, const std::function<void()> &call)
{
	if (capturing)
	{
		capturing->calls.push_back(call);
		return;
	}
	s->work.push_back(call);
	if (others_hurry && !s->first)
		work_until(s, end_of(s));
}

cudaError_t
cudaGetLastError(void)
{
	return cudaSuccess;
}

const char *
cudaGetErrorString(cudaError_t error)
{
	return error == cudaErrorMemoryAllocation ? "out of memory"
		   : error == cudaErrorLaunchFailure  ? "unspecified launch failure"
											  : "invalid argument";
}

cudaError_t
cudaGetDeviceCount(int *count)
{
	*count = 1;
	return cudaSuccess;
}

cudaError_t
cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
	*p = (cudaDeviceProp) {"emulated GPU", 8, 0, 4, (size_t) 1 << 30};
	return cudaSuccess;
}

cudaError_t
cudaMemGetInfo(size_t *free, size_t *total)
{
	*free = *total = (size_t) 1 << 30;
	return cudaSuccess;
}

cudaError_t
cudaSetDevice(int device)
{
	return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t
cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
	*s = new emulate_stream {{}, 0, streams.empty()};
	streams.push_back(*s);
	return cudaSuccess;
}

cudaError_t
cudaStreamDestroy(cudaStream_t s)
{
	work_all();
	streams.erase(std::find(streams.begin(), streams.end(), s));
	delete s;
	return cudaSuccess;
}

cudaError_t
cudaStreamSynchronize(cudaStream_t s)
{
	if (capturing)
		return cudaErrorInvalidValue;
	work_until(s, end_of(s));
	return cudaSuccess;
}

cudaError_t
cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags)
{
	emulate_stream *other = e->stream;
	uint64_t end = e->end;

	if (other)
		emulate_enqueue(s, [=]() { work_until(other, end); });
	return cudaSuccess;
}

cudaError_t
cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
	*e = new emulate_event {NULL, 0};
	return cudaSuccess;
}

cudaError_t
cudaEventDestroy(cudaEvent_t e)
{
	delete e;
	return cudaSuccess;
}

cudaError_t
cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
	*e = {s, end_of(s)};
	return cudaSuccess;
}

cudaError_t
cudaEventSynchronize(cudaEvent_t e)
{
	if (e->stream)
		work_until(e->stream, e->end);
	return cudaSuccess;
}

/* Memory ends where a page begins that nobody may touch. */
cudaError_t
cudaMalloc(void **memory, size_t bytes)
{
	size_t page = 4096, room = (bytes + page - 1) / page * page, kept = (bytes + 63) / 64 * 64;
	char *base;

	if (capturing || bytes > (size_t) 1 << 30 || is_faulty("memory", &allocations))
		return cudaErrorMemoryAllocation;
	base = (char *) mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return cudaErrorMemoryAllocation;
	mprotect(base + room, page, PROT_NONE);
	memset(base, 0xff, room);
	*memory = base + room - kept;
	allocated[*memory] = room + page;
	return cudaSuccess;
}

cudaError_t
cudaFree(void *memory)
{
	std::map<void *, size_t>::iterator at = allocated.find(memory);
	char *base = (char *) ((uintptr_t) memory / 4096 * 4096);

	work_all();
	if (memory == NULL)
		return cudaSuccess;
	if (at == allocated.end())
		return cudaErrorInvalidValue;
	munmap(base, at->second);
	allocated.erase(at);
	return cudaSuccess;
}

cudaError_t
cudaMallocHost(void **memory, size_t bytes)
{
	*memory = is_faulty("memory", &allocations) ? NULL : malloc(bytes);
	if (!*memory)
		return cudaErrorMemoryAllocation;
	pinned[*memory] = bytes;
	return cudaSuccess;
}

cudaError_t
cudaFreeHost(void *memory)
{
	work_all();
	pinned.erase(memory);
	free(memory);
	return cudaSuccess;
}

cudaError_t
cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s)
{
	emulate_enqueue(s, [=]() { memmove(to, from, bytes); });
	return cudaSuccess;
}

cudaError_t
cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t s)
{
	emulate_enqueue(s, [=]() { memset(to, value, bytes); });
	return cudaSuccess;
}

cudaError_t
cudaFuncSetAttribute(const void *kernel, int attribute, int value)
{
	return value <= SHARED_BYTES ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t
cudaStreamBeginCapture(cudaStream_t s, int mode)
{
	capturing = new emulate_graph;
	return cudaSuccess;
}

cudaError_t
cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
	*graph = capturing;
	capturing = NULL;
	return cudaSuccess;
}

cudaError_t
cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
	*exec = new emulate_graph(*graph);
	return cudaSuccess;
}

cudaError_t
cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
	static int calls;

	if (is_faulty("lost", &calls))
		return cudaErrorLaunchFailure;
	for (const std::function<void()> &call : exec->calls)
		emulate_enqueue(s, call);
	return cudaSuccess;
}

cudaError_t
cudaGraphDestroy(cudaGraph_t graph)
{
	delete graph;
	return cudaSuccess;
}

cudaError_t
cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	delete exec;
	return cudaSuccess;
}
