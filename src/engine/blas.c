/*
 * blas.c
 *	  Open OpenBLAS, and multiply matrices with or without it.
 *
 * OPENBLAS_NUM_THREADS is set only while the library initialises, so that it starts no
 * threads: calls then run in the calling thread and may run in several at once.  All
 * signals are blocked meanwhile, in case it starts one anyway.  OPENBLAS_CORETYPE is set, too, unless it is:
 * a processor younger than the library is taken for one of the oldest, many times slower than it is.
 *
 * Each product takes a buffer, which OpenBLAS keeps for the next one.  When there is no memory for
 * it, OpenBLAS asks for ever.  So we ask whether there is, and have it take the buffers, beforehand.
 */
#include "blas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Of one buffer, on every processor: 128 MB and what aligns them. */
#define BUFFER_BYTES ((size_t) 130 << 20)

#define MAX_BUFFERS 64

/* Values of enum CBLAS_ORDER and CBLAS_TRANSPOSE (reference CBLAS). */
#define CBLAS_ROW_MAJOR 101
#define CBLAS_NO_TRANS 111
#define CBLAS_TRANS 112

typedef void (*sgemm_function)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a,
							   int lda, const float *b, int ldb, float beta, float *c, int ldc);

static pthread_once_t open_once = PTHREAD_ONCE_INIT;
static sgemm_function sgemm;
static void *(*take_buffer)(int place); /* with the other, NULL where OpenBLAS does not show them */
static void (*give_buffer)(void *buffer);
static int32_t buffers; /* that OpenBLAS has */
static bool refused;    /* it is there, but there was no memory for its first buffer */
static char name[160] = "built-in";

static bool
have_memory(size_t bytes)
{
	void *probe = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return probe != MAP_FAILED && munmap(probe, bytes) == 0;
}

/* Products can run in so many threads at once; further ones take a buffer when they need it. */
static bool
take_buffers(int32_t threads)
{
	void *taken[MAX_BUFFERS];
	int32_t count = threads < MAX_BUFFERS ? threads : MAX_BUFFERS;

	if (count <= buffers)
		return true;
	if (!have_memory((count - buffers) * BUFFER_BYTES))
		return false;
	for (int32_t i = 0; take_buffer && give_buffer && i < count; i++)
		taken[i] = take_buffer(0);
	for (int32_t i = 0; take_buffer && give_buffer && i < count; i++)
		give_buffer(taken[i]);
	buffers = count;
	return true;
}

static void
load_library(void)
{
	void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
	void (*set_threads)(int);
	char *(*get_config)(void);
	sgemm_function found;

	if (!library)
		return;
	*(void **) &found = dlsym(library, "cblas_sgemm");
	*(void **) &set_threads = dlsym(library, "openblas_set_num_threads");
	*(void **) &get_config = dlsym(library, "openblas_get_config");
	if (!found || !set_threads)
	{
		dlclose(library);
		return;
	}
	*(void **) &take_buffer = dlsym(library, "blas_memory_alloc");
	*(void **) &give_buffer = dlsym(library, "blas_memory_free");
	set_threads(1);
	refused = !take_buffers(1);
	if (refused)
		return;
	snprintf(name, sizeof(name), "openblas %s", get_config ? get_config() : "");
	sgemm = found;
}

/* Kernels by what the processor can do, as OpenBLAS names them; NULL: it is to find out. */
static const char *
core_type(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
		__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
		__builtin_cpu_supports("avx512vl"))
		return "SkylakeX";
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return "Haswell";
#endif
	return NULL;
}

/* Set a variable; what it was, malloc'd, for restore(). */
static char *
replace(const char *variable, const char *value)
{
	const char *present = getenv(variable);
	char *before = present ? strdup(present) : NULL;

	setenv(variable, value, 1);
	return before;
}

static void
restore(const char *variable, char *before)
{
	if (before)
		setenv(variable, before, 1);
	else
		unsetenv(variable);
	free(before);
}

static void
open_library(void)
{
	const char *core = getenv("OPENBLAS_CORETYPE") ? NULL : core_type();
	char *threads = replace("OPENBLAS_NUM_THREADS", "1");
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (core)
		setenv("OPENBLAS_CORETYPE", core, 1);
	load_library();
	if (core)
		unsetenv("OPENBLAS_CORETYPE");
	restore("OPENBLAS_NUM_THREADS", threads);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

bool
blas_open(void)
{
	pthread_once(&open_once, open_library);
	return sgemm != NULL;
}

bool
blas_reserve(int32_t threads, llm_error *err)
{
	if (!refused && (sgemm == NULL || take_buffers(threads)))
		return true;
	llm_fail(err, LLM_MEMORY, "out of memory: OpenBLAS needs %zu MB for each of %d threads", BUFFER_BYTES >> 20,
			 threads);
	return llm_hint(err, "Lower the number of threads.");
}

const char *
blas_name(void)
{
	return name;
}

void
gemm(const simd_kernels *simd, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float *a,
	 int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
	if (sgemm)
		sgemm(CBLAS_ROW_MAJOR, transpose_a ? CBLAS_TRANS : CBLAS_NO_TRANS, transpose_b ? CBLAS_TRANS : CBLAS_NO_TRANS,
			  (int) m, (int) n, (int) k, 1.0f, a, (int) lda, b, (int) ldb, beta, c, (int) ldc);
	else
		gemm_builtin(simd, transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

/* ---- built-in product: packed panels on the stack, tiles of 6 x 2 vectors ---- */

#define TILE_ROWS 6
#define BLOCK_M 48  /* rows of a packed at once, multiple of TILE_ROWS */
#define BLOCK_N 128 /* columns of b packed at once, multiple of every tile width */
#define BLOCK_K 128

#define MIN(a, b) ((a) < (b) ? (a) : (b))

typedef struct panels
{
	float a[BLOCK_M * BLOCK_K]; /* per 6 rows: (k, 6), zero-padded */
	float b[BLOCK_N * BLOCK_K]; /* per tile width: (k, width), zero-padded */
} panels;

static void
pack(float *out, int64_t group, int64_t count, int64_t k, const float *x, int64_t step_item, int64_t step_k)
{
	for (int64_t g = 0; g < count; g += group)
		for (int64_t p = 0; p < k; p++)
			for (int64_t i = 0; i < group; i++)
				*out++ = g + i < count ? x[(g + i) * step_item + p * step_k] : 0;
}

/* One tile, through a buffer where it sticks out of c. */
static void
one_tile(const simd_kernels *simd, int64_t k, const float *a, const float *b, float beta, float *c, int64_t ldc,
		 int64_t m, int64_t n)
{
	float buffer[TILE_ROWS * 32];
	int64_t width = 2 * simd->lanes;

	if (m >= TILE_ROWS && n >= width)
	{
		simd->gemm_tile(k, a, b, beta, c, ldc);
		return;
	}
	simd->gemm_tile(k, a, b, 0, buffer, width);
	for (int64_t i = 0; i < MIN(m, TILE_ROWS); i++)
		for (int64_t j = 0; j < MIN(n, width); j++)
			c[i * ldc + j] = (beta == 0 ? 0 : c[i * ldc + j]) + buffer[i * width + j];
}

static void
multiply_panels(const simd_kernels *simd, const panels *p, int64_t m, int64_t n, int64_t k, float beta, float *c,
				int64_t ldc)
{
	int64_t width = 2 * simd->lanes;

	for (int64_t j = 0; j < n; j += width)
		for (int64_t i = 0; i < m; i += TILE_ROWS)
			one_tile(simd, k, p->a + i * k, p->b + j * k, beta, c + i * ldc + j, ldc, m - i, n - j);
}

void
gemm_builtin(const simd_kernels *simd, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
			 const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
	panels p;
	int64_t a_row = transpose_a ? 1 : lda, a_k = transpose_a ? lda : 1, b_column = transpose_b ? ldb : 1,
			b_k = transpose_b ? 1 : ldb;

	for (int64_t j = 0; j < n; j += BLOCK_N)
		for (int64_t q = 0; q < k; q += BLOCK_K)
		{
			int64_t nn = MIN(BLOCK_N, n - j), kk = MIN(BLOCK_K, k - q);

			pack(p.b, 2 * simd->lanes, nn, kk, b + j * b_column + q * b_k, b_column, b_k);
			for (int64_t i = 0; i < m; i += BLOCK_M)
			{
				int64_t mm = MIN(BLOCK_M, m - i);

				pack(p.a, TILE_ROWS, mm, kk, a + i * a_row + q * a_k, a_row, a_k);
				multiply_panels(simd, &p, mm, nn, kk, q == 0 ? beta : 1, c + i * ldc + j, ldc);
			}
		}
}
