/*
 * trainer_cpu.c
 *	  Steps of a training in this memory.
 */
#include "trainer.h"

#include <stdlib.h>

static bool
make_optim(trainer *t, llm_error *err)
{
	int32_t count;
	optim_tensor *tensors = trainer_gradients(t, &count, err);
	int64_t passes = trainer_passes(t);

	if (tensors && (passes == 1 || (t->sums = accumulator_new(tensors, count, passes, err))))
		t->optim = optim_new(tensors, count, err);
	free(tensors);
	return t->optim != NULL;
}

static bool
cpu_start(trainer *t, const float *published, const trainer_sizes *z, llm_error *err)
{
	t->arena = backend_cpu.allocate(z->arena);
	if (!t->arena)
		return llm_fail(err, LLM_MEMORY, "out of memory: training needs %zu bytes", z->state + z->merged + z->arena);
	plan_attach(t->train.plan, t->arena, t->weights);
	plan_attach(t->score.plan, t->arena, published);
	if (t->predict.plan)
		plan_attach(t->predict.plan, t->arena, published);
	return make_optim(t, err);
}

static void
cpu_stop(trainer *t)
{
	optim_free(t->optim);
	accumulator_free(t->sums);
	backend_cpu.release(t->arena);
}

static bool
cpu_run(trainer *t, net_plan *p, const batch *b, llm_error *err)
{
	net_plan_bind(p, b);
	net_rows(b, t->run.rows);
	return plan_run(p->plan, &t->run, err);
}

static const float *
cpu_result(trainer *t, const net_plan *p, int32_t tensor, int64_t count, llm_error *err)
{
	return plan_address(p->plan, tensor);
}

static bool
cpu_add_pass(trainer *t, open_step *o, float weight, llm_error *err)
{
	bool ok = trainer_read_losses(t, o, err);

	accumulator_add(t->sums, weight, o->passes == 1, t->run.simd, t->run.pool);
	return ok;
}

/* ---- update ---- */

typedef struct average_args
{
	trainer *t;
	float decay;
} average_args;

#define AVERAGE_TILE 65536

static void
average_tile(void *arg, int64_t tile)
{
	const average_args *a = arg;
	size_t begin = tile * AVERAGE_TILE;
	size_t rest = a->t->part_floats - begin;

	a->t->run.simd->average(a->t->average + begin, a->t->trained + begin, a->decay,
							rest < AVERAGE_TILE ? rest : AVERAGE_TILE);
}

static void
update_average(trainer *t)
{
	average_args a = {t, (float) trainer_average_decay(t)};

	if (t->average)
		pool_run(t->run.pool, average_tile, &a, (t->part_floats + AVERAGE_TILE - 1) / AVERAGE_TILE, NULL, NULL);
}

/* share: of the gradients that the optimizer reads, what makes them those of the mean. */
static bool
cpu_update(trainer *t, open_step *o, double rate, double share, double *norm, llm_error *err)
{
	double clip = t->config.clip_norm;
	optim_update u = {
		.config = &t->config,
		.step = t->steps + 1,
		.learning_rate = rate,
		.weights = t->trained,
		.moments = {t->trained + t->part_floats, t->trained + 2 * t->part_floats},
	};

	*norm = share * optim_norm(t->optim, t->run.simd, t->run.pool);
	if (!trainer_read_losses(t, o, err) || !trainer_finite(t, *norm, o->loss_sum, err))
		return false;
	u.gradient_scale = share * (clip > 0 && *norm > clip ? clip / *norm : 1);
	optim_apply(t->optim, &u, t->run.simd, t->run.pool);
	if (!trainer_follow_statistics(t, err))
		return false;
	update_average(t);
	return true;
}

static bool
cpu_fetch(trainer *t, llm_error *err)
{
	return true;
}

const trainer_device trainer_cpu = {cpu_start, cpu_stop, cpu_run, cpu_result, cpu_add_pass, cpu_update, cpu_fetch};
