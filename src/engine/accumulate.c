/*
 * accumulate.c
 *	  Sums of gradients, tensor by tensor, in one block of memory.
 *
 * A tensor's tiles write to places of their own and passes are added in their order, so
 * sums do not depend on threads.
 */
#include "accumulate.h"

#include <stdlib.h>
#include <string.h>

#include "backend.h"

#define TILE_FLOATS 16384
#define ALIGNMENT 64

struct accumulator
{
	int32_t count;
	gradient_sum *sums;
	char *memory;
};

static int64_t
sum_rows(const optim_tensor *t, int64_t passes)
{
	if (t->table_rows == 0)
		return t->rows;
	return passes >= (t->table_rows + t->rows - 1) / t->rows ? t->table_rows : passes * t->rows;
}

static size_t
aligned(size_t bytes)
{
	return (bytes + ALIGNMENT - 1) & ~(size_t) (ALIGNMENT - 1);
}

/* No sum is larger than its parameter, which has been laid out in memory. */
static size_t
total_bytes(const optim_tensor *t, int64_t passes)
{
	return aligned(sum_rows(t, passes) * t->width * sizeof(float));
}

static size_t
used_bytes(const optim_tensor *t, int64_t passes)
{
	return t->table_rows == 0 ? 0 : aligned((1 + sum_rows(t, passes)) * sizeof(int32_t));
}

static size_t
place_bytes(const optim_tensor *t)
{
	return aligned(t->table_rows * sizeof(int32_t));
}

bool
accumulator_bytes(const optim_tensor *tensors, int32_t count, int64_t passes, size_t *bytes)
{
	*bytes = 0;
	for (int32_t i = 0; i < count; i++)
	{
		const optim_tensor *t = &tensors[i];

		if (__builtin_add_overflow(*bytes, total_bytes(t, passes) + used_bytes(t, passes) + place_bytes(t), bytes))
			return false;
	}
	return true;
}

/* Take the tensor's memory from `at`; returns what is behind it. */
static char *
place_sum(gradient_sum *s, optim_tensor *t, int64_t passes, char *at)
{
	*s = (gradient_sum) {.pass = *t, .total = (void *) at};
	at += total_bytes(t, passes);
	if (t->table_rows > 0)
	{
		s->used = (void *) at;
		at += used_bytes(t, passes);
		s->place = (void *) at;
		at += place_bytes(t);
	}
	t->rows = sum_rows(t, passes);
	t->gradient = s->total;
	t->used = s->used;
	return at;
}

void
accumulator_lay_out(gradient_sum *sums, optim_tensor *tensors, int32_t count, int64_t passes, void *memory)
{
	char *at = memory;

	for (int32_t i = 0; i < count; i++)
		at = place_sum(&sums[i], &tensors[i], passes, at);
}

accumulator *
accumulator_new(optim_tensor *tensors, int32_t count, int64_t passes, llm_error *err)
{
	accumulator *a = calloc(1, sizeof(accumulator));
	size_t bytes;

	if (a && accumulator_bytes(tensors, count, passes, &bytes))
	{
		a->sums = calloc(count + 1, sizeof(gradient_sum));
		a->memory = backend_cpu.allocate(bytes);
	}
	if (!a || !a->sums || !a->memory)
	{
		accumulator_free(a);
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	a->count = count;
	accumulator_lay_out(a->sums, tensors, count, passes, a->memory);
	for (int32_t i = 0; i < count; i++)
		if (a->sums[i].used)
		{
			a->sums[i].used[0] = 0;
			memset(a->sums[i].place, 0, a->sums[i].pass.table_rows * sizeof(int32_t));
		}
	return a;
}

void
accumulator_free(accumulator *a)
{
	if (!a)
		return;
	backend_cpu.release(a->memory);
	free(a->sums);
	free(a);
}

static void
forget_rows(gradient_sum *s)
{
	for (int32_t i = 1; i <= s->used[0]; i++)
		s->place[s->used[i]] = 0;
	s->used[0] = 0;
}

/* Rows that no pass used before start at zero. */
static void
place_rows(gradient_sum *s)
{
	for (int32_t i = 1; i <= s->pass.used[0]; i++)
	{
		int32_t row = s->pass.used[i];

		if (s->place[row] > 0)
			continue;
		memset(s->total + s->used[0] * s->pass.width, 0, s->pass.width * sizeof(float));
		s->used[++s->used[0]] = row;
		s->place[row] = s->used[0];
	}
}

typedef struct add_args
{
	const gradient_sum *s;
	float weight;
	bool first;
	const simd_kernels *simd;
	int64_t units, tile; /* rows of a compact gradient, numbers of others */
} add_args;

static void
add_tile(void *arg, int64_t i)
{
	const add_args *a = arg;
	const gradient_sum *s = a->s;
	int64_t begin = i * a->tile, width = s->pass.width;
	int64_t end = begin + a->tile < a->units ? begin + a->tile : a->units;

	if (s->used)
		for (int64_t row = begin; row < end; row++)
			a->simd->axpy(a->weight, s->pass.gradient + row * width,
						  s->total + (s->place[s->pass.used[1 + row]] - 1) * width, width);
	else
		(a->first ? a->simd->scale : a->simd->axpy)(a->weight, s->pass.gradient + begin, s->total + begin,
													end - begin);
}

void
accumulator_add(accumulator *a, float weight, bool first, const simd_kernels *simd, pool *p)
{
	for (int32_t i = 0; i < a->count; i++)
	{
		gradient_sum *s = &a->sums[i];
		add_args args = {s, weight, first, simd, s->pass.rows * s->pass.width, TILE_FLOATS};

		if (s->used)
		{
			if (first)
				forget_rows(s);
			place_rows(s);
			args.units = s->pass.used[0];
			args.tile = s->pass.width < TILE_FLOATS ? TILE_FLOATS / s->pass.width : 1;
		}
		pool_run(p, add_tile, &args, (args.units + args.tile - 1) / args.tile, NULL, NULL);
	}
}
