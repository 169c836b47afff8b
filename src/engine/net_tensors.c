/*
 * net_tensors.c
 *	  The parameters of a network: where each lies, and its value before training.
 */
#include "net_record.h"

#include <math.h>
#include <stdio.h>

#include "philox.h"

/* ---- places ---- */

bool
net_add_tensor(net *n, const char *name, int32_t ndim, const int64_t *dims, float deviation, float constant,
			   llm_error *err)
{
	net_tensor_info *t = &n->tensors[n->tensor_count];
	bool large = false;
	size_t padded;

	snprintf(t->name, sizeof(t->name), "%s", name);
	t->ndim = ndim;
	t->offset = n->weight_floats;
	t->layer = -1;
	t->type = WEIGHT_F32;
	t->place = t->offset * sizeof(float);
	t->count = 1;
	for (int32_t i = 0; i < ndim; i++)
	{
		t->dims[i] = dims[i];
		large |= __builtin_mul_overflow(t->count, (size_t) dims[i], &t->count);
	}
	if (large || t->count > ((size_t) 1 << 40) ||
		__builtin_add_overflow(n->weight_floats, padded = (t->count + 15) & ~(size_t) 15, &n->weight_floats))
		return llm_fail(err, LLM_MEMORY, "network is too large: tensor %s has more than 2^40 elements", t->name);
	n->deviation[n->tensor_count] = deviation;
	n->constant[n->tensor_count] = constant;
	n->tensor_count++;
	n->kept_bytes = n->weight_floats * sizeof(float);
	return true;
}

/* ---- initial values ---- */

/* No training step has this number, so initial values share no random numbers with dropout. */
#define INITIAL_STEP UINT64_MAX

/* Two normal numbers from two words (Box and Muller, 1958); the logarithm's argument is above 0. */
static void
normal_pair(uint32_t a, uint32_t b, float *out)
{
	double radius = sqrt(-2 * log((a + 0.5) / 4294967296.0));
	double angle = 2 * M_PI * (b / 4294967296.0);

	out[0] = (float) (radius * cos(angle));
	out[1] = (float) (radius * sin(angle));
}

#define INITIAL_TILE 65536 /* floats; a multiple of what philox() gives at once */

typedef struct initial_args
{
	const net *n;
	int32_t tensor;
	uint64_t seed;
	float *w; /* (count) of the tensor */
} initial_args;

static void
initial_tile(void *arg, int64_t tile)
{
	const initial_args *a = arg;
	float deviation = a->n->deviation[a->tensor];
	size_t begin = tile * INITIAL_TILE;
	size_t rest = a->n->tensors[a->tensor].count - begin;
	size_t end = begin + (rest < INITIAL_TILE ? rest : INITIAL_TILE);
	uint32_t bits[4];
	float normal[4];

	for (size_t j = begin; j < end; j++)
	{
		if (deviation == 0)
		{
			a->w[j] = a->n->constant[a->tensor];
			continue;
		}
		if (j % 4 == 0)
		{
			/* a stream has 2^34 numbers; larger tensors use more streams */
			philox(a->seed, INITIAL_STEP, (uint32_t) a->tensor + NET_MAX_TENSORS * (uint32_t) (j >> 34),
				   (uint32_t) (j / 4), bits);
			normal_pair(bits[0], bits[1], normal);
			normal_pair(bits[2], bits[3], normal + 2);
		}
		a->w[j] = deviation * normal[j % 4];
	}
}

bool
net_initialise(const net *n, uint64_t seed, float *weights, pool *p, llm_poll poll, void *poll_arg)
{
	for (int32_t i = 0; i < n->tensor_count; i++)
	{
		initial_args a = {n, i, seed, weights + n->tensors[i].offset};

		if (!pool_run(p, initial_tile, &a, (n->tensors[i].count + INITIAL_TILE - 1) / INITIAL_TILE, poll, poll_arg))
			return false;
	}
	return true;
}
