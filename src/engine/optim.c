/*
 * optim.c
 *	  Multi-tensor optimizer steps in fixed tiles.
 */
#include "optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TILE_FLOATS 16384

/* Rows [begin, end) of a tensor's gradient, or elements when the tensor is dense. */
typedef struct optim_tile
{
	int32_t tensor;
	int64_t begin, end;
} optim_tile;

struct optim
{
	int32_t tensor_count;
	optim_tensor *tensors;
	int64_t tile_count;
	optim_tile *tiles;
	double *partial;          /* (tiles) sums of squares */
	const simd_kernels *simd; /* of the pass in progress */
	const optim_update *update;
	adamw_scalars scalars;
};

/* Tile units: rows of compact tensors, elements of others. */
static int64_t
units_of(const optim_tensor *t)
{
	return t->used ? t->rows : t->rows * t->width;
}

static int64_t
units_per_tile(const optim_tensor *t)
{
	if (!t->used)
		return TILE_FLOATS;
	return t->width < TILE_FLOATS ? TILE_FLOATS / t->width : 1;
}

static int64_t
cut_tiles(const optim_tensor *tensors, int32_t count, optim_tile *tiles)
{
	int64_t n = 0;

	for (int32_t i = 0; i < count; i++)
	{
		int64_t units = units_of(&tensors[i]), size = units_per_tile(&tensors[i]);

		for (int64_t begin = 0; begin < units; begin += size, n++)
			if (tiles)
				tiles[n] = (optim_tile) {i, begin, begin + size < units ? begin + size : units};
	}
	return n;
}

optim *
optim_new(const optim_tensor *tensors, int32_t count, llm_error *err)
{
	optim *o = calloc(1, sizeof(optim));

	if (o)
	{
		o->tile_count = cut_tiles(tensors, count, NULL);
		o->tensors = malloc((count + 1) * sizeof(optim_tensor));
		o->tiles = malloc((o->tile_count + 1) * sizeof(optim_tile));
		o->partial = malloc((o->tile_count + 1) * sizeof(double));
	}
	if (!o || !o->tensors || !o->tiles || !o->partial)
	{
		optim_free(o);
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	o->tensor_count = count;
	memcpy(o->tensors, tensors, count * sizeof(optim_tensor));
	cut_tiles(tensors, count, o->tiles);
	return o;
}

void
optim_free(optim *o)
{
	if (!o)
		return;
	free(o->tensors);
	free(o->tiles);
	free(o->partial);
	free(o);
}

/* End of a tile in this step: a compact gradient may have fewer rows. */
static int64_t
tile_end(const optim_tensor *t, const optim_tile *tile)
{
	return t->used && tile->end > t->used[0] ? t->used[0] : tile->end;
}

static void
norm_tile(void *arg, int64_t i)
{
	optim *o = arg;
	const optim_tile *tile = &o->tiles[i];
	const optim_tensor *t = &o->tensors[tile->tensor];
	int64_t unit = t->used ? t->width : 1;
	int64_t count = (tile_end(t, tile) - tile->begin) * unit;

	o->partial[i] = count > 0 ? o->simd->sum_squares(t->gradient + tile->begin * unit, count) : 0;
}

double
optim_norm(optim *o, const simd_kernels *simd, pool *p)
{
	double total = 0;

	o->simd = simd;
	pool_run(p, norm_tile, o, o->tile_count, NULL, NULL);
	for (int64_t i = 0; i < o->tile_count; i++)
		total += o->partial[i];
	return sqrt(total);
}

/* n elements at `at` (floats into weights and moments). */
static void
update_run(const optim *o, const optim_tensor *t, size_t at, const float *gradient, int64_t n)
{
	const optim_update *u = o->update;
	adamw_scalars s = o->scalars;

	if (!t->decay)
		s.decay = 1;
	if (u->config->optimizer == OPT_ADAMW)
		o->simd->adamw(u->weights + at, gradient, u->moments[0] + at, u->moments[1] + at, &s, n);
	else
		o->simd->sgd(u->weights + at, gradient, u->moments[0] + at, (float) u->config->momentum, s.gradient_scale,
					 s.learning_rate, s.decay, n);
}

static void
update_tile(void *arg, int64_t i)
{
	const optim *o = arg;
	const optim_tile *tile = &o->tiles[i];
	const optim_tensor *t = &o->tensors[tile->tensor];
	int64_t end = tile_end(t, tile);

	if (!t->used)
		update_run(o, t, t->offset + tile->begin, t->gradient + tile->begin, end - tile->begin);
	else
		for (int64_t row = tile->begin; row < end; row++)
			update_run(o, t, t->offset + t->used[1 + row] * t->width, t->gradient + row * t->width, t->width);
}

void
optim_apply(optim *o, const optim_update *u, const simd_kernels *simd, pool *p)
{
	const train_config *c = u->config;

	o->simd = simd;
	o->update = u;
	o->scalars = (adamw_scalars) {
		.learning_rate = (float) u->learning_rate,
		.decay = (float) (1 - u->learning_rate * c->weight_decay),
		.beta1 = (float) c->beta1,
		.beta2 = (float) c->beta2,
		.epsilon = (float) c->epsilon,
		.correction1 = (float) (1 / (1 - pow(c->beta1, (double) u->step))),
		.correction2 = (float) (1 / (1 - pow(c->beta2, (double) u->step))),
		.gradient_scale = (float) u->gradient_scale,
	};
	pool_run(p, update_tile, o, o->tile_count, NULL, NULL);
}
