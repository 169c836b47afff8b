/*
 * plan.c
 *	  Lifetimes, places in the arena, and replay.
 *
 * A tensor lives from the step that first writes it to the last that reads or writes it.
 * Tensors that take over the memory of an input form one place.  Places are laid out
 * largest first, each at the lowest address free during its life.  Gradients with
 * several writers: the first stores, later ones add.
 */
#include "plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64
/* About 20 microseconds, far above the cost of sharing a tile; and 20 milliseconds, within a poll's patience. */
#define TILE_COST 1.5e6
#define MAX_TILE_COST 1.5e9

/* Memory of one or more tensors. */
typedef struct place
{
	int32_t owner;       /* tensor whose place this is; TENSOR_NONE: not in the arena */
	int32_t first, last; /* steps */
	size_t bytes;        /* multiple of ALIGNMENT */
	size_t offset;
} place;

struct plan
{
	graph *g;
	place *places;        /* (tensors); valid where owner is the tensor itself */
	size_t *param_offset; /* (tensors) floats */
	step *steps;          /* (nodes) */
	size_t arena_bytes;
	char *arena;
	const float *weights;
	const void **bound; /* (tensors) data of inputs */
};

static void
extend(place *p, int32_t step)
{
	if (p->first < 0)
		p->first = step;
	if (p->last < step)
		p->last = step;
}

static void
find_lifetimes(plan *p)
{
	const graph *g = p->g;

	for (int32_t t = 0; t < g->tensor_count; t++)
		p->places[t] = (place) {.owner = TENSOR_NONE, .first = -1, .last = -1};
	for (int32_t i = 0; i < g->node_count; i++)
	{
		const node *n = &g->nodes[i];

		for (int j = 0; j < NODE_INPUTS; j++)
			if (n->in[j] != TENSOR_NONE)
				extend(&p->places[n->in[j]], i);
		for (int j = 0; j < NODE_OUTPUTS; j++)
			if (n->out[j] != TENSOR_NONE)
				extend(&p->places[n->out[j]], i);
	}
}

static bool
size_places(plan *p, llm_error *err)
{
	for (int32_t t = 0; t < p->g->tensor_count; t++)
	{
		const tensor *x = &p->g->tensors[t];
		place *at = &p->places[t];

		if (x->role == ROLE_INPUT || x->role == ROLE_PARAM || at->first < 0)
			continue;
		at->owner = t;
		if (x->keep)
			at->last = p->g->node_count;
		if (!tensor_bytes(x, &at->bytes) || __builtin_add_overflow(at->bytes, (size_t) ALIGNMENT - 1, &at->bytes))
			return llm_fail(err, LLM_MEMORY, "network is too large");
		at->bytes &= ~(size_t) (ALIGNMENT - 1);
	}
	return true;
}

/* Let the output of step i take over input 0, when that dies here and the output is born here. */
static void
share_place(plan *p, int32_t i)
{
	const node *n = &p->g->nodes[i];
	int which = op_table[n->op].inplace;
	int32_t out = which < 0 ? TENSOR_NONE : n->out[which];
	place *from, *to;

	if (out == TENSOR_NONE || n->in[0] == TENSOR_NONE || p->places[n->in[0]].owner == TENSOR_NONE)
		return;
	from = &p->places[p->places[n->in[0]].owner];
	to = &p->places[out];
	if (from->last != i || to->owner != out || to->first != i || to->bytes != from->bytes || out == n->in[0])
		return;
	from->last = to->last;
	to->owner = from->owner;
}

static int
by_size(const void *a, const void *b)
{
	const place *x = *(place *const *) a, *y = *(place *const *) b;

	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? 1 : -1;
	return x->owner < y->owner ? -1 : x->owner > y->owner;
}

static int
by_offset(const void *a, const void *b)
{
	size_t x = (*(place *const *) a)->offset, y = (*(place *const *) b)->offset;

	return x < y ? -1 : x > y;
}

/* The lowest offset where `next` overlaps none of the placed that live at the same time. */
static size_t
lowest_offset(const place *next, place *const *placed, int32_t count)
{
	size_t offset = 0;

	for (int32_t i = 0; i < count; i++)
	{
		const place *other = placed[i];

		if (other->last < next->first || next->last < other->first)
			continue;
		if (offset + next->bytes <= other->offset)
			break;
		if (other->offset + other->bytes > offset)
			offset = other->offset + other->bytes;
	}
	return offset;
}

static bool
pack_arena(plan *p, llm_error *err)
{
	int32_t count = 0;
	size_t total = 0;
	place **order = malloc((p->g->tensor_count + 1) * sizeof(place *));

	if (!order)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	for (int32_t t = 0; t < p->g->tensor_count; t++)
		if (p->places[t].owner == t)
		{
			order[count++] = &p->places[t];
			if (__builtin_add_overflow(total, p->places[t].bytes, &total))
			{
				free(order);
				return llm_fail(err, LLM_MEMORY, "network is too large");
			}
		}
	qsort(order, count, sizeof(place *), by_size);
	for (int32_t i = 0; i < count; i++)
	{
		place *next = order[i];

		next->offset = lowest_offset(next, order, i);
		if (next->offset + next->bytes > p->arena_bytes)
			p->arena_bytes = next->offset + next->bytes;
		qsort(order, i + 1, sizeof(place *), by_offset);
	}
	free(order);
	return true;
}

/* Fixed tiles: by the cost of a unit alone, never by the number of threads. */
static void
fix_grain(step *s)
{
	double units = s->cost > 0 ? TILE_COST / s->cost : 1e9;

	if (units < s->panel)
		units = fmin(s->panel, MAX_TILE_COST / s->cost);
	s->grain = units < 1 ? 1 : units > 1e9 ? (int64_t) 1e9 : (int64_t) units;
	if (s->grain > 16)
		s->grain &= ~(int64_t) 15;
}

static void
make_steps(plan *p, const backend *b)
{
	for (int32_t i = 0; i < p->g->node_count; i++)
	{
		const node *n = &p->g->nodes[i];
		step *s = &p->steps[i];

		s->run = b->kernels[n->op].run;
		s->attr = n->attr;
		s->axis = node_axis(p->g, n);
		b->kernels[n->op].prepare(s, p->g, n);
		fix_grain(s);
		for (int j = 0; j < NODE_OUTPUTS; j++)
			if (n->out[j] != TENSOR_NONE && p->g->tensors[n->out[j]].role == ROLE_GRADIENT)
				for (int32_t k = 0; k < i && !s->accumulate[j]; k++)
					for (int l = 0; l < NODE_OUTPUTS; l++)
						if (p->g->nodes[k].out[l] == n->out[j])
							s->accumulate[j] = true;
	}
}

plan *
plan_new(graph *g, const backend *b, const size_t *offsets, llm_error *err)
{
	plan *p = calloc(1, sizeof(plan));
	bool ok = p && graph_ok(g, err);

	if (!p)
	{
		graph_free(g);
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	p->g = g;
	p->places = calloc(g->tensor_count + 1, sizeof(place));
	p->param_offset = calloc(g->tensor_count + 1, sizeof(size_t));
	p->bound = calloc(g->tensor_count + 1, sizeof(void *));
	p->steps = calloc(g->node_count + 1, sizeof(step));
	if (!p->places || !p->param_offset || !p->bound || !p->steps)
		ok = llm_fail(err, LLM_MEMORY, "out of memory");
	if (ok)
	{
		find_lifetimes(p);
		ok = size_places(p, err);
	}
	for (int32_t i = 0; ok && i < g->node_count; i++)
		share_place(p, i);
	ok = ok && pack_arena(p, err);
	if (!ok)
	{
		plan_free(p);
		return NULL;
	}
	for (int32_t t = 0; t < g->tensor_count; t++)
		if (g->tensors[t].role == ROLE_PARAM)
			p->param_offset[t] = offsets[g->tensors[t].slot];
	make_steps(p, b);
	return p;
}

void
plan_free(plan *p)
{
	if (!p)
		return;
	graph_free(p->g);
	free(p->places);
	free(p->param_offset);
	free(p->bound);
	free(p->steps);
	free(p);
}

size_t
plan_arena_bytes(const plan *p)
{
	return p->arena_bytes;
}

const graph *
plan_graph(const plan *p)
{
	return p->g;
}

const step *
plan_step(const plan *p, int32_t node)
{
	return &p->steps[node];
}

void *
plan_address(const plan *p, int32_t t)
{
	const tensor *x;

	if (t == TENSOR_NONE)
		return NULL;
	x = &p->g->tensors[t];
	if (x->role == ROLE_PARAM)
		return (void *) (p->weights + p->param_offset[t]);
	if (x->role == ROLE_INPUT)
		return (void *) p->bound[t];
	return p->places[t].owner == TENSOR_NONE ? NULL : p->arena + p->places[p->places[t].owner].offset;
}

bool
plan_place(const plan *p, int32_t t, size_t *begin, size_t *end, int32_t *first, int32_t *last)
{
	const place *at;

	if (p->places[t].owner == TENSOR_NONE)
		return false;
	at = &p->places[p->places[t].owner];
	*begin = at->offset;
	*end = at->offset + at->bytes;
	*first = at->first;
	*last = at->last;
	return true;
}

void
plan_attach(plan *p, void *arena, const float *weights)
{
	p->arena = arena;
	p->weights = weights;
	for (int32_t i = 0; i < p->g->node_count; i++)
	{
		for (int j = 0; j < NODE_INPUTS; j++)
			p->steps[i].in[j] = plan_address(p, p->g->nodes[i].in[j]);
		for (int j = 0; j < NODE_OUTPUTS; j++)
			p->steps[i].out[j] = plan_address(p, p->g->nodes[i].out[j]);
	}
}

void
plan_bind(plan *p, int32_t slot, const void *data)
{
	const graph *g = p->g;

	for (int32_t t = 0; t < g->tensor_count && g->tensors[t].role == ROLE_INPUT; t++)
	{
		if (g->tensors[t].slot != slot || p->bound[t] == data)
			continue;
		p->bound[t] = data;
		for (int32_t i = 0; i < g->node_count; i++)
			for (int j = 0; j < NODE_INPUTS; j++)
				if (g->nodes[i].in[j] == t)
					p->steps[i].in[j] = (void *) data;
	}
}

/* ---- replay ---- */

typedef struct tile_args
{
	const step *s;
	const run_args *r;
	int64_t units;
} tile_args;

static void
run_tile(void *arg, int64_t tile)
{
	const tile_args *a = arg;
	int64_t begin = tile * a->s->grain;
	int64_t end = begin + a->s->grain < a->units ? begin + a->s->grain : a->units;

	a->s->run(a->s, a->r, begin, end);
}

static int64_t
units_of(const step *s, const run_args *r)
{
	if (s->by_axis == AXIS_NONE)
		return s->units;
	return r->rows[s->by_axis] * (s->units > 0 ? s->units : 1);
}

bool
plan_run(const plan *p, const run_args *r, llm_error *err)
{
	for (const step *s = p->steps; s < p->steps + p->g->node_count; s++)
	{
		tile_args a = {s, r, units_of(s, r)};

		if (r->poll && r->poll(r->poll_arg))
			return llm_fail(err, LLM_CANCELLED, "canceled");
		if (a.units <= s->grain)
			s->run(s, r, 0, a.units);
		else if (!pool_run(r->pool, run_tile, &a, (a.units + s->grain - 1) / s->grain, r->poll, r->poll_arg))
			return llm_fail(err, LLM_CANCELLED, "canceled");
	}
	return true;
}
