/*
 * cpu_contrastive.c
 *	  CPU kernels of the contrastive loss: rows of length 1, and how much nearer the rows of a pair
 *	  are to each other than to the rows of other pairs.
 *
 * Rows 2i and 2i + 1 are a pair.  A row is compared with the rows of the other side, every second
 * one, a block at a time, so that no matrix of all similarities is needed; the gradient computes
 * them once more.  Similarities are cosines, at most 1 / attr.number when divided by the
 * temperature, which serves as the shift of all exponentials.  A pair that shares a text with row
 * i's is no other pair: its similarity counts as none.
 */
#include <math.h>
#include <string.h>

#include "cpu_ops.h"

#define BLOCK 64

/* ---- unit_rows: in = x; out = x / |x|, 1 / |x| (rows), both 0 where x is; size = columns ---- */

void
prepare_unit_rows(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
}

void
run_unit_rows(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end; i++)
	{
		const float *x = (const float *) s->in[0] + i * n;
		double squares = r->simd->sum_squares(x, n);
		float factor = squares > 0 ? (float) (1 / sqrt(squares)) : 0;

		r->simd->scale(factor, x, (float *) s->out[0] + i * n, n);
		((float *) s->out[1])[i] = factor;
	}
}

/* ---- unit_rows_dx: in = dy, y, 1 / |x|; dx = (dy - y (y . dy)) / |x| ---- */

void
prepare_unit_rows_dx(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], 2 * COST_SIMPLE);
}

void
run_unit_rows_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end; i++)
	{
		const float *dy = (const float *) s->in[0] + i * n, *y = (const float *) s->in[1] + i * n;
		float *dx = (float *) s->out[0] + i * n;
		float factor = ((const float *) s->in[2])[i], along;

		r->simd->dots(y, n, dy, n, 1, factor, &along);
		if (s->accumulate[0])
			r->simd->axpy(factor, dy, dx, n);
		else
			r->simd->scale(factor, dy, dx, n);
		r->simd->axpy(-along, y, dx, n);
	}
}

/* ---- contrastive: in = x, text, weight; out = loss, correct, log of the sum of exponentials (all rows) ---- */

/* size = columns */
static void
prepare_comparison(step *s, const graph *g, int32_t x, double passes)
{
	int64_t n = columns_of(g, x);

	s->size[0] = n;
	s->by_axis = AXIS_ROW;
	s->cost = g->capacity[AXIS_ROW] / 2 * (passes * 2 * n + 2 * COST_FUNCTION);
}

void
prepare_contrastive(step *s, const graph *g, const node *n)
{
	prepare_comparison(s, g, n->in[0], 1);
}

/* Rows of the other side than row i's, one of each pair; the number of the pair's row. */
static inline int64_t
other_row(int64_t i, int64_t pair)
{
	return 2 * pair + 1 - i % 2;
}

/*
 * Similarities of row i to `count` rows of the other side from that of pair `first` on, over the temperature;
 * minus infinity for another pair with one of the texts of row i's.
 */
static void
compare(const step *s, const run_args *r, int64_t i, int64_t first, int64_t count, float *scores)
{
	const float *x = s->in[0], *text = s->in[1], *own = text + i / 2 * 2;
	int64_t n = s->size[0];

	r->simd->dots(x + i * n, n, x + other_row(i, first) * n, 2 * n, count, 1 / s->attr.number, scores);
	for (int64_t k = 0; k < count; k++)
	{
		const float *other = text + 2 * (first + k);

		if (other != own && (other[0] == own[0] || other[1] == own[1]))
			scores[k] = -INFINITY;
	}
}

void
run_contrastive(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t pairs = r->rows[AXIS_ROW] / 2;
	float shift = 1 / s->attr.number;

	for (int64_t i = begin; i < end; i++)
	{
		float scores[BLOCK], own = 0, top = -INFINITY, sum = 0, log_sum;
		int64_t first = 0;

		do
		{
			int64_t count = smaller(BLOCK, pairs - first), partner = i / 2 - first;

			compare(s, r, i, first, count, scores);
			if (partner >= 0 && partner < count)
				own = scores[partner];
			top = fmaxf(top, r->simd->max(scores, count));
			sum += r->simd->exp_sum(scores, shift, NULL, count);
			first += BLOCK;
		} while (first < pairs);
		log_sum = shift + logf(sum);
		((float *) s->out[0])[i] = ((const float *) s->in[2])[i] * (log_sum - own);
		((float *) s->out[1])[i] = own >= top;
		((float *) s->out[2])[i] = log_sum;
	}
}

/* ---- contrastive_grad: in = x, text, weight, 1 / total weight, logs of sums; dx ---- */

void
prepare_contrastive_grad(step *s, const graph *g, const node *n)
{
	prepare_comparison(s, g, n->in[0], 2);
}

/*
 * Row i and one of the other side appear in each other's softmax: slopes[k] is the derivative of the
 * loss by their similarity, through both.
 */
static void
slopes_of(const step *s, const run_args *r, int64_t i, int64_t first, int64_t count, float *slopes)
{
	const float *weight = s->in[2], *log_sum = s->in[4];
	float mine[BLOCK], theirs[BLOCK];

	compare(s, r, i, first, count, mine);
	for (int64_t k = 0; k < count; k++)
		theirs[k] = mine[k] - log_sum[other_row(i, first + k)];
	r->simd->exp_sum(mine, log_sum[i], mine, count);
	r->simd->exp_sum(theirs, 0, theirs, count);
	for (int64_t k = 0; k < count; k++)
	{
		float target = first + k == i / 2;

		slopes[k] = weight[i] * (mine[k] - target) + weight[other_row(i, first + k)] * (theirs[k] - target);
	}
}

void
run_contrastive_grad(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const float *x = s->in[0];
	int64_t pairs = r->rows[AXIS_ROW] / 2, n = s->size[0];
	float factor = *(const float *) s->in[3] / s->attr.number;

	for (int64_t i = begin; i < end; i++)
	{
		float *dx = (float *) s->out[0] + i * n;
		float slopes[BLOCK];

		if (!s->accumulate[0])
			memset(dx, 0, n * sizeof(float));
		for (int64_t first = 0; first < pairs; first += BLOCK)
		{
			int64_t count = smaller(BLOCK, pairs - first);

			slopes_of(s, r, i, first, count, slopes);
			for (int64_t k = 0; k < count; k++)
				r->simd->axpy(factor * slopes[k], x + other_row(i, first + k) * n, dx, n);
		}
	}
}
