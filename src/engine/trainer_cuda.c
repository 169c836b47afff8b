/*
 * trainer_cuda.c
 *	  Steps of a training on a GPU.
 *
 * One block of device memory has the state at the offsets that it has in this memory, merged weights, the
 * arena of the plans, inputs of a batch and the norm of a step.  Each plan is a program of steps with
 * addresses in it.  Inputs go and results come through one block of pinned memory.  A step waits once, for
 * the norm of its gradient; its losses are there by then.  With batch norm it waits for their statistics, too,
 * which the moving average has to have.
 */
#include "trainer.h"

#include <stdlib.h>
#include <string.h>

#include "cuda.h"

#define ALIGNMENT 256
#define PLANS 3

/* Offsets into the two blocks, and their sizes. */
typedef struct memory_layout
{
	size_t merged, arena, norm, device_bytes;
	size_t result, host_norm, host_bytes;
	size_t input[NET_INPUTS], staged[NET_INPUTS]; /* valid where a plan has it */
} memory_layout;

/* A plan on the device. */
typedef struct cuda_program
{
	llmapp_cuda_program *program;
	bool reads[NET_INPUTS];
} cuda_program;

typedef struct cuda_training
{
	const cuda_device *device;
	memory_layout at;
	char *memory;  /* of the device */
	char *staging; /* pinned */
	cuda_program programs[PLANS];
	llmapp_cuda_optim *optim;
} cuda_training;

/* ---- memory ---- */

static int
list_plans(const trainer *t, const net_plan *plans[PLANS])
{
	plans[0] = &t->train;
	plans[1] = &t->score;
	plans[2] = &t->predict;
	return t->predict.plan ? 3 : 2;
}

/* Place so many bytes behind what *end counts; false on overflow. */
static bool
place(size_t bytes, size_t *at, size_t *end)
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

/* The most that any plan has in an input, and in what is read of it. */
static bool
measure_plan(const net_plan *p, size_t input[NET_INPUTS], size_t *result)
{
	const graph *g = plan_graph(p->plan);
	bool ok = grow(g, p->loss, result) && grow(g, p->output, result) && grow(g, p->correct, result);

	for (int32_t i = 0; i < p->statistic_count; i++)
		ok = ok && grow(g, p->statistic[i], result);
	for (int32_t i = 0; ok && i < g->tensor_count && g->tensors[i].role == ROLE_INPUT; i++)
		ok = grow(g, i, &input[g->tensors[i].slot]);
	return ok;
}

static bool
lay_out(const trainer *t, const trainer_sizes *z, memory_layout *at, llm_error *err)
{
	const net_plan *plans[PLANS];
	size_t input[NET_INPUTS] = {0}, result = 0, state;
	int count = list_plans(t, plans);
	bool ok = true;

	*at = (memory_layout) {0};
	for (int i = 0; ok && i < count; i++)
		ok = measure_plan(plans[i], input, &result);
	ok = ok && place(z->state, &state, &at->device_bytes) && place(z->merged, &at->merged, &at->device_bytes) &&
		 place(z->arena, &at->arena, &at->device_bytes) && place(sizeof(double), &at->norm, &at->device_bytes) &&
		 place(sizeof(double), &at->host_norm, &at->host_bytes) && place(result, &at->result, &at->host_bytes);
	for (int32_t i = 0; ok && i < NET_INPUTS; i++)
		ok = place(input[i], &at->input[i], &at->device_bytes) && place(input[i], &at->staged[i], &at->host_bytes);
	return ok || llm_fail(err, LLM_MEMORY, "network is too large");
}

bool
trainer_cuda_memory(const trainer *t, const trainer_sizes *z, size_t *device, size_t *host, llm_error *err)
{
	memory_layout at;
	bool ok = lay_out(t, z, &at, err);

	if (ok)
	{
		*device = at.device_bytes;
		*host = at.host_bytes;
	}
	return ok;
}

size_t
trainer_cuda_bytes(const cuda_training *c)
{
	size_t bytes = c->at.device_bytes;

	for (int i = 0; i < PLANS; i++)
		if (c->programs[i].program)
			bytes += c->device->api->program_bytes(c->programs[i].program);
	return bytes;
}

/* ---- construction ---- */

static bool
allocate(cuda_training *c, llm_error *err)
{
	void *staging = NULL;

	c->memory = cuda_allocate(c->device, c->at.device_bytes, err);
	if (!c->memory ||
		!cuda_ok(c->device, c->device->api->allocate_host(c->device->context, c->at.host_bytes, &staging), err))
		return false;
	c->staging = staging;
	return true;
}

static bool
make_program(const cuda_training *c, const plan *p, cuda_program *to, llm_error *err)
{
	const llmapp_cuda_api *api = c->device->api;
	const graph *g = plan_graph(p);
	int64_t bucket[LLMAPP_CUDA_AXES] = {0};
	void *inputs[NET_INPUTS];
	llmapp_cuda_step *steps;
	bool ok;

	_Static_assert(LLMAPP_CUDA_AXES == AXIS_COUNT, "axes are those of the engine");
	for (int32_t i = 0; i < NET_INPUTS; i++)
		inputs[i] = c->memory + c->at.input[i];
	for (int32_t i = 0; i < g->tensor_count && g->tensors[i].role == ROLE_INPUT; i++)
		to->reads[g->tensors[i].slot] = true;
	for (int i = AXIS_ROW; i < AXIS_COUNT; i++)
		bucket[i] = g->capacity[i];
	steps = cuda_steps(api, p, inputs, err);
	ok = steps &&
		 cuda_ok(c->device, api->program_new(c->device->context, steps, g->node_count, bucket, &to->program), err);
	free(steps);
	return ok;
}

static bool
make_optim(trainer *t, llm_error *err)
{
	cuda_training *c = t->cuda;
	int32_t count;
	optim_tensor *tensors = trainer_gradients(t, &count, err);
	llmapp_cuda_param *params = tensors ? calloc(count + 1, sizeof(llmapp_cuda_param)) : NULL;
	bool ok = params || llm_fail(err, LLM_MEMORY, "out of memory");

	for (int32_t i = 0; ok && i < count; i++)
		params[i] = (llmapp_cuda_param) {
			.offset = tensors[i].offset,
			.rows = tensors[i].rows,
			.width = tensors[i].width,
			.decay = tensors[i].decay,
			.gradient = tensors[i].gradient,
			.used = tensors[i].used,
		};
	ok = ok && cuda_ok(c->device, c->device->api->optim_new(c->device->context, params, count, &c->optim), err);
	free(params);
	free(tensors);
	return ok;
}

/* Where things are, by their offsets. */
static void *
on_device(const cuda_training *c, size_t offset)
{
	return c->memory + offset;
}

static void *
in_staging(const cuda_training *c, size_t offset)
{
	return c->staging + offset;
}

/* Where a number of this memory's state is on the device. */
static float *
twin(const trainer *t, const float *x)
{
	return on_device(t->cuda, (x - t->weights) * sizeof(float));
}

static bool
cuda_start(trainer *t, const float *published, const trainer_sizes *z, llm_error *err)
{
	cuda_training *c = t->cuda = calloc(1, sizeof(cuda_training));
	const net_plan *plans[PLANS];
	int count = list_plans(t, plans);

	if (!c)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	if (!(c->device = t->config.device))
		return llm_fail(err, LLM_UNAVAILABLE, "no GPU was opened");
	if (!lay_out(t, z, &c->at, err) || !allocate(c, err))
		return false;
	for (int i = 0; i < count; i++)
	{
		const float *weights = i == 0      ? twin(t, t->weights)
							   : t->merged ? on_device(c, c->at.merged)
										   : twin(t, published);

		plan_attach(plans[i]->plan, c->memory + c->at.arena, weights);
		if (!make_program(c, plans[i]->plan, &c->programs[i], err))
			return false;
	}
	return make_optim(t, err);
}

static void
cuda_stop(trainer *t)
{
	cuda_training *c = t->cuda;
	const llmapp_cuda_api *api;

	if (c && c->device)
	{
		api = c->device->api;
		api->optim_free(c->optim);
		for (int i = 0; i < PLANS; i++)
			api->program_free(c->programs[i].program);
		if (c->staging)
			(void) api->release_host(c->device->context, c->staging);
		if (c->memory)
			(void) api->release(c->device->context, c->memory);
	}
	free(c);
	t->cuda = NULL;
}

/* ---- copies ---- */

static bool
copy_to(const cuda_training *c, void *to, const void *from, size_t bytes, llm_error *err)
{
	return bytes == 0 || cuda_ok(c->device, c->device->api->copy_to(c->device->context, to, from, bytes), err);
}

static bool
copy_from(const cuda_training *c, void *to, const void *from, size_t bytes, llm_error *err)
{
	return bytes == 0 || cuda_ok(c->device, c->device->api->copy_from(c->device->context, to, from, bytes), err);
}

static bool
push_floats(const trainer *t, const float *from, size_t count, llm_error *err)
{
	return copy_to(t->cuda, twin(t, from), from, count * sizeof(float), err);
}

/* What was changed here goes to the device. */
static bool
push(trainer *t, llm_error *err)
{
	size_t parameters = t->frozen_floats + t->part_floats, all = t->frozen_floats + t->parts * t->part_floats;
	bool ok = true;

	if (t->changed & CHANGED_STATE)
		ok = push_floats(t, t->weights, all, err);
	else if (t->changed & CHANGED_WEIGHTS)
		ok = push_floats(t, t->weights, parameters, err) &&
			 (!t->average || push_floats(t, t->average, t->part_floats, err));
	if (ok && (t->changed & CHANGED_MERGED))
		ok = copy_to(t->cuda, t->cuda->memory + t->cuda->at.merged, t->merged, net_weight_bytes(t->n), err);
	if (ok)
		t->changed = 0;
	return ok;
}

static bool
cuda_fetch(trainer *t, llm_error *err)
{
	if (!push(t, err))
		return false;
	if (t->ahead &&
		!copy_from(t->cuda, t->trained, twin(t, t->trained), t->parts * t->part_floats * sizeof(float), err))
		return false;
	t->ahead = false;
	return true;
}

static bool
push_inputs(const cuda_training *c, const cuda_program *p, const batch *b, llm_error *err)
{
	net_input inputs[NET_INPUTS];
	bool ok = true;

	net_inputs(b, inputs);
	for (int32_t i = 0; ok && i < NET_INPUTS; i++)
	{
		size_t bytes = inputs[i].count * sizeof(float);

		if (!p->reads[i] || bytes == 0)
			continue;
		memcpy(c->staging + c->at.staged[i], inputs[i].data, bytes);
		ok = copy_to(c, c->memory + c->at.input[i], c->staging + c->at.staged[i], bytes, err);
	}
	return ok;
}

/* ---- runs ---- */

static const cuda_program *
program_of(const trainer *t, const net_plan *p)
{
	return &t->cuda->programs[p == &t->train ? 0 : p == &t->score ? 1 : 2];
}

/* The pinned memory may be written when nothing is on its way. */
static bool
cuda_run(trainer *t, net_plan *p, const batch *b, llm_error *err)
{
	const cuda_training *c = t->cuda;
	const llmapp_cuda_api *api = c->device->api;
	const cuda_program *program = program_of(t, p);
	llmapp_cuda_batch args = {.seed = t->run.seed, .step = t->run.step};

	if (t->run.poll && t->run.poll(t->run.poll_arg))
		return llm_fail(err, LLM_CANCELLED, "canceled");
	net_rows(b, t->run.rows);
	memcpy(args.rows, t->run.rows, sizeof(args.rows));
	return cuda_ok(c->device, api->synchronize(c->device->context), err) && push(t, err) &&
		   push_inputs(c, program, b, err) && cuda_ok(c->device, api->program_run(program->program, &args), err);
}

static const float *
cuda_result(trainer *t, const net_plan *p, int32_t tensor, int64_t count, llm_error *err)
{
	float *to = in_staging(t->cuda, t->cuda->at.result);

	return copy_from(t->cuda, to, plan_address(p->plan, tensor), count * sizeof(float), err) ? to : NULL;
}

/* Statistics go to the device before the update, whose average reads them. */
static bool
push_statistics(trainer *t, llm_error *err)
{
	if (!trainer_follow_statistics(t, err))
		return false;
	for (int32_t i = 0; i < t->train.statistic_count; i++)
	{
		const net_tensor_info *mean = &t->n->tensors[t->train.running[i]], *variance = mean + 1;

		if (!push_floats(t, t->weights + mean->offset, mean->count, err) ||
			!push_floats(t, t->weights + variance->offset, variance->count, err))
			return false;
	}
	return true;
}

static bool
cuda_update(trainer *t, open_step *o, double rate, double share, double *norm, llm_error *err)
{
	const cuda_training *c = t->cuda;
	const train_config *config = &t->config;
	double *to = on_device(c, c->at.norm), *pinned = in_staging(c, c->at.host_norm);
	float *trained = twin(t, t->trained);
	llmapp_cuda_update u = {
		.adamw = config->optimizer == OPT_ADAMW,
		.step = t->steps + 1,
		.learning_rate = rate,
		.weight_decay = config->weight_decay,
		.beta1 = config->beta1,
		.beta2 = config->beta2,
		.epsilon = config->epsilon,
		.momentum = config->momentum,
		.share = share,
		.clip_norm = config->clip_norm,
		.ema_decay = trainer_average_decay(t),
		.weights = trained,
		.moments = {trained + t->part_floats, trained + 2 * t->part_floats},
		.average = t->average ? twin(t, t->average) : NULL,
		.floats = t->part_floats,
	};

	if (!push_statistics(t, err) || !cuda_ok(c->device, c->device->api->optim_run(c->optim, &u, to), err))
		return false;
	t->ahead = true;
	if (!copy_from(c, pinned, to, sizeof(double), err) || !trainer_read_losses(t, o, err))
		return false;
	*norm = *pinned;
	return trainer_finite(t, *norm, o->loss_sum, err);
}

const trainer_device trainer_cuda = {cuda_start, cuda_stop, cuda_run, cuda_result, NULL, cuda_update, cuda_fetch};
