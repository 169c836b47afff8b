/*
 * trainer_cuda.c
 *	  Steps of a training on a GPU.
 *
 * Device memory of its own, before that of the plans (cuda_plans.h), has the state at the offsets that it has in
 * this memory, merged weights, sums over passes and the norm of a step.  A step waits once, for the norm of its gradient; its losses
 * are there by then.  With batch norm it waits for their statistics, too, which the moving average has to have.
 */
#include "trainer.h"

#include <stdlib.h>
#include <string.h>

#include "cuda_plans.h"

typedef struct cuda_training
{
	const cuda_device *device;
	size_t merged, sums, norm; /* offsets in device memory; the state begins it */
	cuda_plans *plans;
	llmapp_cuda_optim *optim;
	int32_t sum_count;
	llmapp_cuda_sum *sum; /* (sum_count), of steps of several passes */
} cuda_training;

/* ---- memory ---- */

static int
list_plans(trainer *t, net_plan *plans[CUDA_PLANS])
{
	plans[0] = &t->train;
	plans[1] = &t->score;
	plans[2] = &t->predict;
	return t->predict.plan ? 3 : 2;
}

static bool
lay_out(trainer *t, const trainer_sizes *z, cuda_training *c, cuda_layout *at, llm_error *err)
{
	net_plan *plans[CUDA_PLANS];
	int count = list_plans(t, plans);
	size_t state, own = 0;

	if (!cuda_place(z->state, &state, &own) || !cuda_place(z->merged, &c->merged, &own) ||
		!cuda_place(z->sums, &c->sums, &own) || !cuda_place(sizeof(double), &c->norm, &own))
		return llm_fail(err, LLM_MEMORY, "network is too large");
	return cuda_lay_out((const net_plan *const *) plans, count, own, sizeof(double), at, err);
}

bool
trainer_cuda_memory(trainer *t, const trainer_sizes *z, size_t *device, size_t *host, llm_error *err)
{
	cuda_training c;
	cuda_layout at;
	bool ok = lay_out(t, z, &c, &at, err);

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
	return cuda_plans_bytes(c->plans);
}

/* ---- construction ---- */

static void *
on_device(const cuda_training *c, size_t offset)
{
	return (char *) cuda_plans_device(c->plans) + offset;
}

/* tensors become those of the sums. */
static bool
make_sums(trainer *t, optim_tensor *tensors, int32_t count, llm_error *err)
{
	cuda_training *c = t->cuda;
	gradient_sum *sums = calloc(count + 1, sizeof(gradient_sum));
	size_t bytes = 0;
	bool ok;

	c->sum = calloc(count + 1, sizeof(llmapp_cuda_sum));
	ok = (sums && c->sum && accumulator_bytes(tensors, count, trainer_passes(t), &bytes)) ||
		 llm_fail(err, LLM_MEMORY, "out of memory");
	if (ok)
		accumulator_lay_out(sums, tensors, count, trainer_passes(t), on_device(c, c->sums));
	for (int32_t i = 0; ok && i < count; i++)
		c->sum[i] = (llmapp_cuda_sum) {
			.rows = sums[i].pass.rows,
			.width = sums[i].pass.width,
			.gradient = sums[i].pass.gradient,
			.used = sums[i].pass.used,
			.total = sums[i].total,
			.total_used = sums[i].used,
			.place = sums[i].place,
		};
	c->sum_count = count;
	free(sums);
	return ok && cuda_ok(c->device, c->device->api->clear(c->device->context, on_device(c, c->sums), bytes), err);
}

static bool
make_optim(trainer *t, llm_error *err)
{
	cuda_training *c = t->cuda;
	int32_t count;
	optim_tensor *tensors = trainer_gradients(t, &count, err);
	llmapp_cuda_param *params = tensors ? calloc(count + 1, sizeof(llmapp_cuda_param)) : NULL;
	bool ok = params || llm_fail(err, LLM_MEMORY, "out of memory");

	ok = ok && (trainer_passes(t) == 1 || make_sums(t, tensors, count, err));

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
	net_plan *plans[CUDA_PLANS];
	cuda_layout at;
	int count = list_plans(t, plans);

	if (!c)
		return llm_fail(err, LLM_MEMORY, "out of memory");
	if (!(c->device = t->config.device))
		return llm_fail(err, LLM_UNAVAILABLE, "no GPU was opened");
	if (!lay_out(t, z, c, &at, err) || !(c->plans = cuda_plans_new(c->device, plans, count, &at, err)))
		return false;
	for (int i = 0; i < count; i++)
	{
		const float *weights = i == 0      ? twin(t, t->weights)
							   : t->merged ? on_device(c, c->merged)
										   : twin(t, published);

		if (!cuda_plans_make(c->plans, i, weights, 0, err))
			return false;
	}
	return make_optim(t, err);
}

static void
cuda_stop(trainer *t)
{
	cuda_training *c = t->cuda;

	if (c && c->device)
	{
		c->device->api->optim_free(c->optim);
		cuda_plans_free(c->plans);
		free(c->sum);
	}
	free(c);
	t->cuda = NULL;
}

/* ---- copies ---- */

static bool
push_floats(const trainer *t, const float *from, size_t count, llm_error *err)
{
	return cuda_copy_to(t->cuda->device, twin(t, from), from, count * sizeof(float), err);
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
		ok = cuda_copy_to(t->cuda->device, on_device(t->cuda, t->cuda->merged), t->merged, net_weight_bytes(t->n),
						  err);
	if (ok)
		t->changed = 0;
	return ok;
}

static bool
cuda_fetch(trainer *t, llm_error *err)
{
	if (!push(t, err))
		return false;
	if (t->ahead && !cuda_copy_from(t->cuda->device, t->trained, twin(t, t->trained),
									t->parts * t->part_floats * sizeof(float), err))
		return false;
	t->ahead = false;
	return true;
}

/* ---- runs ---- */

static int
number_of(const trainer *t, const net_plan *p)
{
	return p == &t->train ? 0 : p == &t->score ? 1 : 2;
}

/* Losses of the pass before are read only now, so that the next batch is read and staged while it computes. */
static bool
cuda_run(trainer *t, net_plan *p, const batch *b, llm_error *err)
{
	return trainer_read_losses(t, &t->open, err) && push(t, err) &&
		   cuda_plans_run(t->cuda->plans, number_of(t, p), b, &t->run, err);
}

bool
trainer_cuda_stage(trainer *t, const batch *b, llm_error *err)
{
	return cuda_plans_stage(t->cuda->plans, number_of(t, &t->train), b, err);
}

static const float *
cuda_result(trainer *t, const net_plan *p, int32_t tensor, int64_t count, llm_error *err)
{
	return cuda_plans_result(t->cuda->plans, number_of(t, p), tensor, count, err);
}

static bool
cuda_add_pass(trainer *t, open_step *o, float weight, llm_error *err)
{
	const cuda_training *c = t->cuda;

	return cuda_ok(c->device,
				   c->device->api->sum_add(c->device->context, c->sum, c->sum_count, weight, o->passes == 1), err);
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
	double *to = on_device(c, c->norm), *pinned = cuda_plans_host(c->plans);
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
	if (!cuda_copy_from(c->device, pinned, to, sizeof(double), err) || !trainer_read_losses(t, o, err))
		return false;
	*norm = *pinned;
	return trainer_finite(t, *norm, o->loss_sum, err);
}

const trainer_device trainer_cuda = {cuda_start,    cuda_stop,   cuda_run,  cuda_result,
									 cuda_add_pass, cuda_update, cuda_fetch};
