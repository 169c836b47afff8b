/*
 * cpu_norm.c
 *	  Normalisation by channel on the CPU: batch, running and group statistics.
 *
 * Each row of the batch leaves moments of its own; those are put together in double and
 * in the order of rows.  Coefficients are four vectors (channels): mean, scale = gamma /
 * deviation, 1 / deviation, and the unbiased variance of a batch.
 */
#include <math.h>
#include <string.h>

#include "cpu_ops.h"

#define NORM_EPSILON 1e-5
#define MIN(a, b) ((a) < (b) ? (a) : (b))

/* Channels of a tensor, and positions of one row. */
static void
prepare_channels(step *s, const graph *g, int32_t x)
{
	const tensor *t = &g->tensors[x];

	s->size[0] = t->dims[t->ndim - 1];
	s->size[1] = tensor_columns(t) / s->size[0];
	s->by_axis = AXIS_ROW;
	s->cost = COST_SIMPLE * s->size[0] * s->size[1];
}

/* Work per channel on all rows. */
static void
prepare_by_channel(step *s, const graph *g, int32_t x)
{
	prepare_channels(s, g, x);
	s->by_axis = AXIS_NONE;
	s->units = s->size[0];
	s->cost = COST_SIMPLE * g->capacity[AXIS_ROW];
}

/* ---- channel_moments: size = channels, positions; out (rows, 2, channels) ---- */

void
prepare_channel_moments(step *s, const graph *g, const node *n)
{
	prepare_channels(s, g, n->in[0]);
}

void
run_channel_moments(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t c = s->size[0];

	for (int64_t i = begin; i < end; i++)
		r->simd->channel_moments((const float *) s->in[0] + i * s->size[1] * c, s->size[1], c,
								 (float *) s->out[0] + i * 2 * c);
}

/* ---- coefficients: size = channels, positions; in = moments, gamma ---- */

void
prepare_norm_batch(step *s, const graph *g, const node *n)
{
	prepare_by_channel(s, g, n->in[2]);
}

void
prepare_norm_group(step *s, const graph *g, const node *n)
{
	prepare_channels(s, g, n->in[2]);
	s->cost = COST_SIMPLE * s->size[0];
}

/* Means and sums of squares of `items` parts of `each` elements, `step` floats apart, as one. */
static void
merge_moments(const float *mean, const float *squares, int64_t items, int64_t step, double each, double *merged_mean,
			  double *merged_squares)
{
	double sum = 0, rest = 0;

	for (int64_t i = 0; i < items; i++)
		sum += mean[i * step];
	sum /= items;
	for (int64_t i = 0; i < items; i++)
		rest += squares[i * step] + each * (mean[i * step] - sum) * (mean[i * step] - sum);
	*merged_mean = sum;
	*merged_squares = rest;
}

/* variance is biased; out[3 c] gets `published`. */
static void
store_coefficients(float *out, int64_t c, double mean, double variance, double published, float gamma)
{
	double rstd = 1 / sqrt(fmax(variance, 0) + NORM_EPSILON);

	out[0] = (float) mean;
	out[c] = (float) (gamma * rstd);
	out[2 * c] = (float) rstd;
	out[3 * c] = (float) published;
}

void
run_norm_batch(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t c = s->size[0];
	double count = (double) r->rows[AXIS_ROW] * s->size[1];
	const float *moments = s->in[0], *gamma = s->in[1];
	double mean, squares;

	for (int64_t j = begin; j < end; j++)
	{
		merge_moments(moments + j, moments + c + j, r->rows[AXIS_ROW], 2 * c, s->size[1], &mean, &squares);
		store_coefficients((float *) s->out[0] + j, c, mean, squares / count, squares / fmax(count - 1, 1), gamma[j]);
	}
}

void
run_norm_group(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t c = s->size[0], width = c / s->attr.count;
	const float *gamma = s->in[1];
	double mean = 0, squares = 0;

	for (int64_t i = begin; i < end; i++)
	{
		const float *moments = (const float *) s->in[0] + i * 2 * c;
		float *out = (float *) s->out[0] + i * 4 * c;

		for (int64_t j = 0; j < c; j++)
		{
			if (j % width == 0)
				merge_moments(moments + j, moments + c + j, width, 1, s->size[1], &mean, &squares);
			store_coefficients(out + j, c, mean, squares / (width * s->size[1]), 0, gamma[j]);
		}
	}
}

/* norm_running: size = channels; in = mean, variance, gamma */
void
prepare_norm_running(step *s, const graph *g, const node *n)
{
	s->size[0] = s->units = g->tensors[n->in[0]].dims[0];
	s->cost = COST_FUNCTION;
}

void
run_norm_running(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const float *mean = s->in[0], *variance = s->in[1], *gamma = s->in[2];

	for (int64_t j = begin; j < end; j++)
		store_coefficients((float *) s->out[0] + j, s->size[0], mean[j], variance[j], variance[j], gamma[j]);
}

/* ---- channel_norm: size = channels, positions; in = x, coefficients, beta; by row when attr.flag ---- */

void
prepare_channel_norm(step *s, const graph *g, const node *n)
{
	prepare_channels(s, g, n->in[0]);
}

/* in[first], in[first + 1] are coefficients and beta. */
static channel_coefficients
coefficients_of(const step *s, int first, int64_t row)
{
	int64_t c = s->size[0];
	const float *k = (const float *) s->in[first] + (s->attr.flag ? row * 4 * c : 0);

	return (channel_coefficients) {.mean = k, .scale = k + c, .rstd = k + 2 * c, .beta = s->in[first + 1]};
}

#define ROW(x) ((float *) (x) + i * s->size[0] * s->size[1])

void
run_channel_norm(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	for (int64_t i = begin; i < end; i++)
	{
		channel_coefficients k = coefficients_of(s, 1, i);

		r->simd->channel_norm(s->attr.act, ROW(s->in[0]), &k, ROW(s->out[0]), s->size[1], s->size[0]);
	}
}

/* ---- gradients: in = dy, x, coefficients, beta ---- */

void
prepare_channel_norm_sums(step *s, const graph *g, const node *n)
{
	prepare_channels(s, g, n->in[1]);
}

/* out (rows, 2, channels) */
void
run_channel_norm_sums(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	for (int64_t i = begin; i < end; i++)
	{
		channel_coefficients k = coefficients_of(s, 2, i);

		r->simd->channel_norm_sums(s->attr.act, ROW(s->in[0]), ROW(s->in[1]), &k,
								   (float *) s->out[0] + i * 2 * s->size[0], s->size[1], s->size[0]);
	}
}

void
prepare_channel_norm_dx(step *s, const graph *g, const node *n)
{
	prepare_channels(s, g, n->in[1]);
}

/* in[4] = means (2, channels), by row when attr.flag */
void
run_channel_norm_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	for (int64_t i = begin; i < end; i++)
	{
		channel_coefficients k = coefficients_of(s, 2, i);
		const float *means = (const float *) s->in[4] + (s->attr.flag ? i * 2 * s->size[0] : 0);

		r->simd->channel_norm_dx(s->attr.act, ROW(s->in[0]), ROW(s->in[1]), &k, means, ROW(s->out[0]),
								 s->accumulate[0], s->size[1], s->size[0]);
	}
}

/* Over all rows, of one column of the sums. */
static double
column_total(const step *s, const run_args *r, int64_t column)
{
	const float *sums = s->in[0];
	double total = 0;

	for (int64_t i = 0; i < r->rows[AXIS_ROW]; i++)
		total += sums[i * 2 * s->size[0] + column];
	return total;
}

/* channel_norm_dparam: size = channels; in = sums; out = dgamma, dbeta; a unit is a channel */
void
prepare_channel_norm_dparam(step *s, const graph *g, const node *n)
{
	s->size[0] = s->units = columns_of(g, n->in[0]) / 2;
	s->cost = 2 * COST_SIMPLE * g->capacity[AXIS_ROW];
}

void
run_channel_norm_dparam(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	float *dgamma = s->out[0], *dbeta = s->out[1];

	for (int64_t j = begin; j < end; j++)
	{
		dgamma[j] = (s->accumulate[0] ? dgamma[j] : 0) + (float) column_total(s, r, s->size[0] + j);
		dbeta[j] = (s->accumulate[1] ? dbeta[j] : 0) + (float) column_total(s, r, j);
	}
}

/* ---- means of gamma g and gamma g xhat: size = channels, positions; in = sums, gamma, x ---- */

void
prepare_norm_batch_means(step *s, const graph *g, const node *n)
{
	prepare_by_channel(s, g, n->in[2]);
}

void
run_norm_batch_means(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t c = s->size[0];
	const float *gamma = s->in[1];
	float *means = s->out[0];
	double count = (double) r->rows[AXIS_ROW] * s->size[1];

	for (int64_t j = begin; j < end; j++)
		for (int64_t half = 0; half < 2; half++)
			means[half * c + j] = (float) (gamma[j] * column_total(s, r, half * c + j) / count);
}

void
prepare_norm_group_means(step *s, const graph *g, const node *n)
{
	prepare_channels(s, g, n->in[2]);
	s->cost = COST_SIMPLE * s->size[0];
}

void
run_norm_group_means(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t c = s->size[0], width = c / s->attr.count;
	const float *gamma = s->in[1];

	for (int64_t i = begin * 2; i < end * 2; i++)
		for (int64_t first = 0; first < c; first += width)
		{
			const float *sums = (const float *) s->in[0] + i * c;
			float *means = (float *) s->out[0] + i * c;
			double total = 0;

			for (int64_t j = first; j < first + width; j++)
				total += gamma[j] * sums[j];
			for (int64_t j = first; j < first + width; j++)
				means[j] = (float) (total / (width * s->size[1]));
		}
}
