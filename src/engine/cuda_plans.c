/*
 * cuda_plans.c
 *	  Plans of a network on a GPU.
 */
#include "cuda_plans.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 256
#define BUCKETS 4 /* most programs of a plan */

/* A plan made ready for batches of up to these rows by axis. */
typedef struct cuda_program
{
	llmapp_cuda_program *program;
	int64_t bucket[LLMAPP_CUDA_AXES];
} cuda_program;

typedef struct cuda_plan
{
	net_plan *p;
	bool reads[NET_INPUTS];
	cuda_program programs[BUCKETS]; /* the smallest last */
} cuda_plan;

struct cuda_plans
{
	const cuda_device *device;
	cuda_layout at;
	char *memory;  /* of the device */
	char *staging; /* pinned */
	int count;
	cuda_plan plans[CUDA_PLANS];
	const batch *staged; /* what inputs are those of, or NULL */
	int staged_plan;
	int32_t input_count;
	llmapp_cuda_input inputs[NET_INPUTS];
};

/* ---- memory ---- */

bool
cuda_place(size_t bytes, size_t *at, size_t *end)
{
	*at = *end;
	return !__builtin_add_overflow(bytes, (size_t) ALIGNMENT - 1, &bytes) &&
		   !__builtin_add_overflow(*end, bytes & ~(size_t) (ALIGNMENT - 1), end);
}

static bool
grow(const graph *g, int32_t tensor, size_t *most)
{
	size_t bytes;

	if (tensor == TENSOR_NONE)
		return true;
	if (!tensor_bytes(&g->tensors[tensor], &bytes))
		return false;
	if (*most < bytes)
		*most = bytes;
	return true;
}

/* Inputs that an operation reads; a plan that only predicts has targets that none does. */
static void
find_inputs(const graph *g, bool reads[NET_INPUTS])
{
	for (int32_t i = 0; i < g->node_count; i++)
		for (int j = 0; j < NODE_INPUTS; j++)
		{
			int32_t t = g->nodes[i].in[j];

			if (t != TENSOR_NONE && g->tensors[t].role == ROLE_INPUT)
				reads[g->tensors[t].slot] = true;
		}
}

/* The most that any plan has in an input, and in what is read of it. */
static bool
measure_plan(const net_plan *p, size_t input[NET_INPUTS], size_t *result)
{
	const graph *g = plan_graph(p->plan);
	bool reads[NET_INPUTS] = {false};
	bool ok = grow(g, p->loss, result) && grow(g, p->output, result) && grow(g, p->correct, result);

	find_inputs(g, reads);
	for (int32_t i = 0; i < p->statistic_count; i++)
		ok = ok && grow(g, p->statistic[i], result);
	for (int32_t i = 0; ok && i < g->tensor_count && g->tensors[i].role == ROLE_INPUT; i++)
		ok = !reads[g->tensors[i].slot] || grow(g, i, &input[g->tensors[i].slot]);
	return ok;
}

bool
cuda_lay_out(const net_plan *const *plans, int count, size_t device_own, size_t host_own, cuda_layout *at,
			 llm_error *err)
{
	size_t input[NET_INPUTS] = {0}, result = 0, arena = 0, own;
	bool ok = true;

	*at = (cuda_layout) {0};
	for (int i = 0; ok && i < count; i++)
	{
		ok = measure_plan(plans[i], input, &result);
		if (arena < plan_arena_bytes(plans[i]->plan))
			arena = plan_arena_bytes(plans[i]->plan);
	}
	ok = ok && cuda_place(device_own, &own, &at->device_bytes) && cuda_place(arena, &at->arena, &at->device_bytes) &&
		 cuda_place(host_own, &own, &at->host_bytes) && cuda_place(result, &at->result, &at->host_bytes);
	for (int32_t i = 0; ok && i < NET_INPUTS; i++)
		ok = cuda_place(input[i], &at->input[i], &at->device_bytes) &&
			 cuda_place(input[i], &at->staged[i], &at->device_bytes) &&
			 cuda_place(input[i], &at->pinned[i], &at->host_bytes);
	return ok || llm_fail(err, LLM_MEMORY, "network is too large");
}

cuda_plans *
cuda_plans_new(const cuda_device *d, net_plan *const *plans, int count, const cuda_layout *at, llm_error *err)
{
	cuda_plans *c = calloc(1, sizeof(cuda_plans));
	void *staging = NULL;

	if (!c)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	c->device = d;
	c->at = *at;
	c->count = count;
	for (int i = 0; i < count; i++)
	{
		c->plans[i].p = plans[i];
		find_inputs(plan_graph(plans[i]->plan), c->plans[i].reads);
	}
	c->memory = cuda_allocate(d, at->device_bytes, err);
	if (c->memory && cuda_ok(d, d->api->allocate_host(d->context, at->host_bytes, &staging), err))
	{
		c->staging = staging;
		return c;
	}
	cuda_plans_free(c);
	return NULL;
}

void
cuda_plans_free(cuda_plans *c)
{
	const llmapp_cuda_api *api;

	if (!c)
		return;
	api = c->device->api;
	(void) api->synchronize(c->device->context); /* inputs may be on their way that no run takes */
	for (int i = 0; i < c->count; i++)
		for (int k = 0; k < BUCKETS; k++)
			api->program_free(c->plans[i].programs[k].program);
	if (c->staging)
		(void) api->release_host(c->device->context, c->staging);
	if (c->memory)
		(void) api->release(c->device->context, c->memory);
	free(c);
}

size_t
cuda_plans_bytes(const cuda_plans *c)
{
	size_t bytes = c->at.device_bytes;

	for (int i = 0; i < c->count; i++)
		for (int k = 0; k < BUCKETS && c->plans[i].programs[k].program; k++)
			bytes += c->device->api->program_bytes(c->plans[i].programs[k].program);
	return bytes;
}

void *
cuda_plans_device(const cuda_plans *c)
{
	return c->memory;
}

void *
cuda_plans_host(const cuda_plans *c)
{
	return c->staging;
}

/* ---- programs ---- */

/* Of the tokens that `parts` of a batch's hold, or of the rows where it has none; false when that is not worth one. */
static bool
set_bucket(const graph *g, int64_t parts, int64_t least, int64_t bucket[LLMAPP_CUDA_AXES])
{
	bool texts = g->capacity[AXIS_TOKEN] > 0 || g->capacity[AXIS_SOURCE] > 0;
	bool worth = parts == 1;

	_Static_assert(LLMAPP_CUDA_AXES == AXIS_COUNT, "axes are those of the engine");
	bucket[AXIS_NONE] = 0;
	for (int i = AXIS_ROW; i < AXIS_COUNT; i++)
	{
		bool whole = texts && i == AXIS_ROW;

		bucket[i] = whole ? g->capacity[i] : (g->capacity[i] + parts - 1) / parts;
		worth = worth || (!whole && least > 0 && bucket[i] >= least);
	}
	return worth;
}

bool
cuda_plans_make(cuda_plans *c, int i, const float *weights, int64_t least, llm_error *err)
{
	const llmapp_cuda_api *api = c->device->api;
	cuda_plan *to = &c->plans[i];
	const graph *g = plan_graph(to->p->plan);
	void *inputs[NET_INPUTS];
	llmapp_cuda_step *steps;
	bool ok;

	plan_attach(to->p->plan, c->memory + c->at.arena, weights);
	for (int32_t k = 0; k < NET_INPUTS; k++)
		inputs[k] = c->memory + c->at.input[k];
	steps = cuda_steps(api, to->p->plan, inputs, err);
	ok = steps != NULL;
	for (int64_t k = 0, parts = 1; ok && k < BUCKETS; k++, parts *= 4)
	{
		cuda_program *p = &to->programs[k];

		if (!set_bucket(g, parts, least, p->bucket))
			break;
		ok = cuda_ok(c->device, api->program_new(c->device->context, steps, g->node_count, p->bucket, &p->program),
					 err);
	}
	free(steps);
	return ok;
}

/* The smallest program that the rows fit. */
static llmapp_cuda_program *
choose_program(const cuda_plan *p, const int64_t rows[AXIS_COUNT])
{
	llmapp_cuda_program *chosen = p->programs[0].program;

	for (int k = 1; k < BUCKETS && p->programs[k].program; k++)
	{
		const int64_t *bucket = p->programs[k].bucket;

		if (rows[AXIS_ROW] <= bucket[AXIS_ROW] && rows[AXIS_TOKEN] <= bucket[AXIS_TOKEN] &&
			rows[AXIS_SOURCE] <= bucket[AXIS_SOURCE])
			chosen = p->programs[k].program;
	}
	return chosen;
}

/* ---- runs ---- */

/* Those that the plan reads. */
static void
list_inputs(cuda_plans *c, const cuda_plan *p, const batch *b)
{
	net_input inputs[NET_INPUTS];

	net_inputs(b, inputs);
	c->input_count = 0;
	for (int32_t i = 0; i < NET_INPUTS; i++)
		if (p->reads[i] && inputs[i].count > 0)
			c->inputs[c->input_count++] = (llmapp_cuda_input) {
				.host = inputs[i].data,
				.pinned = c->staging + c->at.pinned[i],
				.staged = c->memory + c->at.staged[i],
				.device = c->memory + c->at.input[i],
				.bytes = inputs[i].count * sizeof(float),
			};
}

bool
cuda_plans_stage(cuda_plans *c, int i, const batch *b, llm_error *err)
{
	const cuda_device *d = c->device;

	list_inputs(c, &c->plans[i], b);
	c->staged = NULL;
	if (!cuda_ok(d, d->api->stage(d->context, c->inputs, c->input_count), err))
		return false;
	c->staged = b;
	c->staged_plan = i;
	return true;
}

bool
cuda_plans_run(cuda_plans *c, int i, const batch *b, run_args *r, llm_error *err)
{
	const cuda_device *d = c->device;
	llmapp_cuda_batch args = {.seed = r->seed, .step = r->step};

	if (r->poll && r->poll(r->poll_arg))
		return llm_fail(err, LLM_CANCELLED, "canceled");
	net_rows(b, r->rows);
	memcpy(args.rows, r->rows, sizeof(args.rows));
	if ((c->staged != b || c->staged_plan != i) && !cuda_plans_stage(c, i, b, err))
		return false;
	c->staged = NULL;
	return cuda_ok(d, d->api->take(d->context, c->inputs, c->input_count), err) &&
		   cuda_ok(d, d->api->program_run(choose_program(&c->plans[i], r->rows), &args), err);
}

const float *
cuda_plans_result(const cuda_plans *c, int i, int32_t tensor, int64_t count, llm_error *err)
{
	void *to = c->staging + c->at.result;

	return cuda_copy_from(c->device, to, plan_address(c->plans[i].p->plan, tensor), count * sizeof(float), err)
			   ? to
			   : NULL;
}
