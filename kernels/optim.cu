/*
 * optim.cu
 *	  One update of all parameters: gradient norm, clipping, AdamW or SGD, moving average.
 *
 * As optim.c: work is cut into fixed tiles over all tensors; the norm sums each tile in double, then the
 * tiles, in one order.  Clipping is decided on the device, so a step needs no wait.
 */
#include <math.h>
#include <stdlib.h>

#include "context.h"
#include "device.h"

#define TILE_FLOATS 16384

/* Rows [begin, end) of a compact gradient, elements of others. */
typedef struct optim_tile
{
	int32_t param, pad;
	int64_t begin, end;
} optim_tile;

/* What the norm decides. */
typedef struct decision
{
	float gradient_scale;
	int32_t finite;
} decision;

struct llmapp_cuda_optim
{
	llmapp_cuda_context *context;
	int64_t tiles;
	llmapp_cuda_param *params; /* device memory, in one block with what follows */
	optim_tile *tile;
	double *partial; /* (tiles) */
	decision *decided;
	void *memory;
};

/* ---- tiles ---- */

static int64_t
units_of(const llmapp_cuda_param *p)
{
	return p->used ? p->rows : p->rows * p->width;
}

static int64_t
units_per_tile(const llmapp_cuda_param *p)
{
	if (!p->used)
		return TILE_FLOATS;
	return p->width < TILE_FLOATS ? TILE_FLOATS / p->width : 1;
}

static int64_t
cut_tiles(const llmapp_cuda_param *params, int32_t count, optim_tile *tiles)
{
	int64_t n = 0;

	for (int32_t i = 0; i < count; i++)
	{
		int64_t units = units_of(&params[i]), size = units_per_tile(&params[i]);

		for (int64_t begin = 0; begin < units; begin += size, n++)
			if (tiles)
				tiles[n] = (optim_tile) {i, 0, begin, begin + size < units ? begin + size : units};
	}
	return n;
}

static size_t
rounded(size_t bytes)
{
	return (bytes + 255) / 256 * 256;
}

/* Where everything lies in one block of device memory; returns its size. */
static size_t
lay_out(llmapp_cuda_optim *o, int32_t count)
{
	char *at = (char *) o->memory;
	size_t params = rounded(count * sizeof(llmapp_cuda_param)), tiles = rounded(o->tiles * sizeof(optim_tile));
	size_t partial = rounded(o->tiles * sizeof(double));

	o->params = (llmapp_cuda_param *) at;
	o->tile = (optim_tile *) (at + params);
	o->partial = (double *) (at + params + tiles);
	o->decided = (decision *) (at + params + tiles + partial);
	return params + tiles + partial + rounded(sizeof(decision));
}

int
optim_new(llmapp_cuda_context *c, const llmapp_cuda_param *params, int32_t count, llmapp_cuda_optim **result)
{
	llmapp_cuda_optim *o = (llmapp_cuda_optim *) calloc(1, sizeof(llmapp_cuda_optim));
	optim_tile *tiles = NULL;
	int code = LLMAPP_CUDA_OK;

	*result = NULL;
	if (o)
	{
		o->context = c;
		o->tiles = cut_tiles(params, count, NULL);
		tiles = (optim_tile *) malloc((o->tiles + 1) * sizeof(optim_tile));
	}
	if (!tiles)
	{
		free(o);
		return context_fail(c, LLMAPP_CUDA_MEMORY, "out of memory");
	}
	cut_tiles(params, count, tiles);
	code = context_allocate(c, lay_out(o, count), &o->memory);
	lay_out(o, count);
	if (code == LLMAPP_CUDA_OK)
		code = context_check(c, cudaMemcpyAsync(o->params, params, count * sizeof(llmapp_cuda_param),
												cudaMemcpyHostToDevice, c->stream));
	if (code == LLMAPP_CUDA_OK)
		code = context_check(
			c, cudaMemcpyAsync(o->tile, tiles, o->tiles * sizeof(optim_tile), cudaMemcpyHostToDevice, c->stream));
	if (code == LLMAPP_CUDA_OK)
		code = context_check(c, cudaStreamSynchronize(c->stream));
	free(tiles);
	if (code == LLMAPP_CUDA_OK)
		*result = o;
	else
		optim_free(o);
	return code;
}

void
optim_free(llmapp_cuda_optim *o)
{
	if (o && context_enter(o->context) == LLMAPP_CUDA_OK)
	{
		cudaStreamSynchronize(o->context->stream);
		cudaFree(o->memory);
	}
	free(o);
}

/* ---- norm ---- */

/* Units of the tile that this step's gradient has. */
static __device__ inline int64_t
tile_end(const llmapp_cuda_param *p, const optim_tile *t)
{
	return p->used && t->end > p->used[0] ? p->used[0] : t->end;
}

static __global__ void
square_tile(const llmapp_cuda_param *params, const optim_tile *tiles, double *partial)
{
	optim_tile t = tiles[blockIdx.x];
	const llmapp_cuda_param *p = &params[t.param];
	int64_t unit = p->used ? p->width : 1, count = (tile_end(p, &t) - t.begin) * unit;
	double sum = 0;

	FOR_COLUMNS(i, count)
	{
		float g = p->gradient[t.begin * unit + i];

		sum += (double) g * g;
	}
	sum = block_sum(sum);
	if (threadIdx.x == 0)
		partial[blockIdx.x] = sum;
}

/* One block. */
static __global__ void
decide(int64_t tiles, const double *partial, double share, double clip_norm, double *norm, decision *d)
{
	double sum = 0;

	FOR_COLUMNS(i, tiles)
	sum += partial[i];
	sum = share * sqrt(block_sum(sum));
	if (threadIdx.x == 0)
	{
		*norm = sum;
		d->finite = isfinite(sum);
		d->gradient_scale = (float) (share * (clip_norm > 0 && sum > clip_norm ? clip_norm / sum : 1));
	}
}

/* ---- update ---- */

/* adamw_scalars of simd.h, but for the scale; sgd has beta1 = momentum and a rate. */
typedef struct update_scalars
{
	float learning_rate, decay, beta1, beta2, epsilon, correction1, correction2;
	int adamw;
} update_scalars;

static __device__ inline void
update_one(const update_scalars &s, float scale, float decay, float g, float *w, float *m, float *v)
{
	g *= scale;
	if (s.adamw)
	{
		float m1 = *m = s.beta1 * *m + (1.0f - s.beta1) * g;
		float v1 = *v = s.beta2 * *v + (1.0f - s.beta2) * g * g;

		*w = *w * decay - s.learning_rate * s.correction1 * m1 / (sqrtf(v1 * s.correction2) + s.epsilon);
	}
	else
	{
		*m = s.beta1 * *m + g;
		*w = decay * *w - s.learning_rate * *m;
	}
}

static __global__ void
update_tile(const llmapp_cuda_param *params, const optim_tile *tiles, const decision *d, update_scalars s,
			float *weights, float *m, float *v)
{
	optim_tile t = tiles[blockIdx.x];
	const llmapp_cuda_param *p = &params[t.param];
	int64_t unit = p->used ? p->width : 1, count = (tile_end(p, &t) - t.begin) * unit;
	float decay = p->decay ? s.decay : 1;

	if (!d->finite)
		return;
	FOR_COLUMNS(i, count)
	{
		int64_t from = t.begin * unit + i;
		int64_t to = p->offset + (p->used ? p->used[1 + from / p->width] * p->width + from % p->width : from);

		update_one(s, d->gradient_scale, decay, p->gradient[from], weights + to, m + to, s.adamw ? v + to : NULL);
	}
}

static __global__ void
average_elements(int64_t n, const decision *d, float decay, const float *w, float *mean)
{
	FOR_ELEMENTS(i, d->finite ? n : 0)
	mean[i] += (1.0f - decay) * (w[i] - mean[i]);
}

static update_scalars
scalars_of(const llmapp_cuda_update *u)
{
	return (update_scalars) {
		(float) u->learning_rate,
		(float) (1 - u->learning_rate * u->weight_decay),
		(float) (u->adamw ? u->beta1 : u->momentum),
		(float) u->beta2,
		(float) u->epsilon,
		(float) (1 / (1 - pow(u->beta1, (double) u->step))),
		(float) (1 / (1 - pow(u->beta2, (double) u->step))),
		u->adamw,
	};
}

int
optim_run(llmapp_cuda_optim *o, const llmapp_cuda_update *u, double *norm)
{
	launch l = {};
	int code = context_enter(o->context);

	if (code != LLMAPP_CUDA_OK)
		return code;
	l.stream = o->context->stream;
	LAUNCH(&l, square_tile, o->tiles, BLOCK, 0, o->params, o->tile, o->partial);
	LAUNCH(&l, decide, 1, 1024, 0, o->tiles, o->partial, u->share, u->clip_norm, norm, o->decided);
	LAUNCH(&l, update_tile, o->tiles, BLOCK, 0, o->params, o->tile, o->decided, scalars_of(u), u->weights,
		   u->moments[0], u->moments[1]);
	if (u->average)
		LAUNCH(&l, average_elements, element_blocks(u->floats), BLOCK, 0, u->floats, o->decided, (float) u->ema_decay,
			   u->weights, u->average);
	return context_check(o->context, l.error);
}
