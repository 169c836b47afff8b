/*
 * trainer_steps.c
 *	  Parts of a training step that are the same on every device.
 */
#include "trainer.h"

#include <math.h>
#include <stdlib.h>

int64_t
trainer_passes(const trainer *t)
{
	return (t->batch_rows + t->pass_rows - 1) / t->pass_rows;
}

optim_tensor *
trainer_gradients(const trainer *t, int32_t *count, llm_error *err)
{
	const graph *g = plan_graph(t->train.plan);
	optim_tensor *tensors = malloc((g->tensor_count + 1) * sizeof(optim_tensor));

	*count = 0;
	if (!tensors)
		llm_fail(err, LLM_MEMORY, "out of memory");
	for (int32_t i = 0; tensors && i < g->tensor_count; i++)
	{
		const tensor *x = &g->tensors[i];
		const tensor *d;

		if (x->role != ROLE_PARAM || x->gradient == TENSOR_NONE)
			continue;
		d = &g->tensors[x->gradient];
		tensors[(*count)++] = (optim_tensor) {
			.offset = tuning_offset(t->tuning, x->slot) - tuning_begin(t->tuning),
			.rows = d->dims[0],
			.width = tensor_columns(d),
			.decay = x->ndim > 1,
			.gradient = plan_address(t->train.plan, x->gradient),
			.used = plan_address(t->train.plan, d->used),
			.table_rows = d->used == TENSOR_NONE ? 0 : x->dims[0],
		};
	}
	return tensors;
}

bool
trainer_add_result(trainer *t, const net_plan *p, int32_t tensor, int64_t count, double *sum, llm_error *err)
{
	const float *x = t->device->result(t, p, tensor, count, err);

	for (int64_t i = 0; x && i < count; i++)
		*sum += x[i];
	return x != NULL;
}

bool
trainer_read_losses(trainer *t, open_step *o, llm_error *err)
{
	double sum = 0;
	bool ok = o->unread == 0 || trainer_add_result(t, &t->train, t->train.loss, o->unread, &sum, err);

	o->loss_sum += sum;
	o->unread = 0;
	return ok;
}

bool
trainer_finite(const trainer *t, double norm, double loss_sum, llm_error *err)
{
	if (isfinite(norm) && isfinite(loss_sum))
		return true;
	llm_fail(err, LLM_INVALID, "training diverged: the loss is not finite at step %lld", (long long) t->steps + 1);
	return llm_hint(err, "Lower learning_rate, or set clip_norm.");
}

/* Early steps weigh more, so that initial values fade. */
double
trainer_average_decay(const trainer *t)
{
	double early = (2.0 + t->steps) / (11.0 + t->steps);

	return early < t->config.ema_decay ? early : t->config.ema_decay;
}

/*
 * Running means and variances of batch norms follow those of the batch: the mean of the
 * first steps' values, then a moving average.  A batch with fewer rows counts less: with
 * one row, a channel without positions has no variance at all.
 */
#define STATISTICS_RATE 0.1f

bool
trainer_follow_statistics(trainer *t, llm_error *err)
{
	float rate = fmaxf(STATISTICS_RATE, 1.0f / (t->steps + 1)) * t->run.rows[AXIS_ROW] / t->batch_rows;

	for (int32_t i = 0; i < t->train.statistic_count; i++)
	{
		const net_tensor_info *mean = &t->n->tensors[t->train.running[i]];
		const net_tensor_info *variance = mean + 1;
		const float *batch = t->device->result(t, &t->train, t->train.statistic[i], 4 * mean->count, err);

		if (!batch)
			return false;
		t->run.simd->average(t->weights + mean->offset, batch, 1 - rate, mean->count);
		t->run.simd->average(t->weights + variance->offset, batch + 3 * mean->count, 1 - rate, variance->count);
	}
	return true;
}
