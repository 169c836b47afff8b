/*
 * cpu_language.c
 *	  CPU kernels of the language loss: logits of the vocabulary, softmax, cross-entropy, gradients.
 *
 * Logits (tokens, vocab) would be the largest tensor of a training step by far, so tokens are
 * taken in chunks, of which ops_text.c records four steps each: products are so large that their
 * tiles keep all threads busy, the plan lets all chunks use the same memory, and the second
 * product's sum over chunks has one order.  A product is cut in both directions, because the
 * chunk may have few tokens and a large vocabulary, or the reverse.  Only tokens that count
 * (weight > 0) take part: they are gathered first, which is most of the work saved when a
 * language model is trained on masked tokens or on answers only.
 *
 * `active` = (1 + tokens): how many tokens count, and which.  size = width of the gathered rows,
 * vocab, tokens of a chunk; attr.index = number of the chunk's first gathered token, attr.number = cap of
 * logits.
 */
#include <math.h>
#include <string.h>

#include "bf16.h"
#include "blas.h"
#include "cpu_ops.h"

/* ---- active_tokens: in = weight; out = active, loss = 0, correct = 0 ---- */

void
prepare_active_tokens(step *s, const graph *g, const node *n)
{
	s->units = 1;
}

void
run_active_tokens(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const float *weight = s->in[0];
	int32_t *active = s->out[0], count = 0;
	int64_t tokens = r->rows[s->axis];

	for (int32_t t = 0; t < tokens; t++)
		if (weight[t] > 0)
			active[++count] = t;
	active[0] = count;
	memset(s->out[1], 0, tokens * sizeof(float));
	memset(s->out[2], 0, tokens * sizeof(float));
}

/* ---- gather_active: in = x, active; row i of the result is row active[1 + i] of x; size = columns ---- */

void
prepare_gather_active(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
}

void
run_gather_active(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int32_t *active = s->in[1];
	int64_t n = s->size[0];

	for (int64_t i = begin; i < end && i < active[0]; i++)
		memcpy((float *) s->out[0] + i * n, (const float *) s->in[0] + active[1 + i] * n, n * sizeof(float));
}

/* ---- scatter_active: in = gathered rows, active; rows that are not active are 0; size = columns; one unit ---- */

void
prepare_scatter_active(step *s, const graph *g, const node *n)
{
	per_row(s, g, n->in[0], COST_SIMPLE);
}

/* Of the active tokens, in ascending order, how many come before token t. */
static int64_t
active_before(const int32_t *active, int64_t t)
{
	int64_t low = 0, high = active[0];

	while (low < high)
	{
		int64_t middle = (low + high) / 2;

		if (active[1 + middle] < t)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void
run_scatter_active(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int32_t *active = s->in[1];
	int64_t n = s->size[0], i = active_before(active, begin);

	for (int64_t t = begin; t < end; t++)
	{
		float *y = (float *) s->out[0] + t * n;
		bool is_active = i < active[0] && active[1 + i] == t;
		const float *x = (const float *) s->in[0] + i * n;

		i += is_active;
		if (s->accumulate[0] && is_active)
			r->simd->axpy(1, x, y, n);
		else if (!s->accumulate[0] && is_active)
			memcpy(y, x, n * sizeof(float));
		else if (!s->accumulate[0])
			memset(y, 0, n * sizeof(float));
	}
}

/* ---- products of a chunk: units are panels of its two directions ---- */

#define CAP_BLOCK 256 /* logits */
#define TOKEN_PANEL 256
#define VOCAB_PANEL 256
#define WIDTH_PANEL 192

static void
product(const step *s, const run_args *r, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
		const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
	if (s->bf16)
		gemm_bf16(transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
	else
		gemm(r->simd, transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

static void
prepare_chunk(step *s, const graph *g, int32_t logits, int64_t width)
{
	s->size[0] = width;
	s->size[1] = g->tensors[logits].dims[1];
	s->size[2] = g->tensors[logits].dims[0];
	s->bf16 = g->precision == PRECISION_BF16;
}

/* Tokens of the chunk that there are. */
static int64_t
chunk_tokens(const step *s, const int32_t *active)
{
	int64_t left = active[0] - s->attr.index;

	return left < 0 ? 0 : smaller(left, s->size[2]);
}

/* ---- head_logits: in = gathered x, w (vocab, width), bias or none, active; out = logits (chunk, vocab) ---- */

void
prepare_head_logits(step *s, const graph *g, const node *n)
{
	prepare_chunk(s, g, n->out[0], columns_of(g, n->in[0]));
	cut_panels(s, s->size[2], TOKEN_PANEL, s->size[1], VOCAB_PANEL);
}

void
run_head_logits(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t width = s->size[0], vocab = s->size[1], tokens = chunk_tokens(s, s->in[3]), i, j;
	const float *x = (const float *) s->in[0] + s->attr.index * width, *w = s->in[1], *bias = s->in[2];

	for (int64_t u = begin; u < end; u++)
	{
		int64_t m = panel_of(u / s->size[3], TOKEN_PANEL, tokens, &i);
		int64_t n = panel_of(u % s->size[3], VOCAB_PANEL, vocab, &j);
		float *y = (float *) s->out[0] + i * vocab + j;

		if (m == 0)
			continue;
		for (int64_t k = 0; bias && k < m; k++)
			memcpy(y + k * vocab, bias + j, n * sizeof(float));
		product(s, r, false, true, m, n, width, x + i * width, width, w + j * width, width, bias ? 1 : 0, y, vocab);
		for (int64_t k = 0; s->attr.number > 0 && k < m; k++)
			simd_cap(r->simd, s->attr.number, y + k * vocab, n);
	}
}

/*
 * ---- head_loss: in = logits, target, weight, 1 / total weight or none, active ----
 * out = loss and correct (tokens), gradient of the logits (chunk, vocab) or none; a unit is a token of the chunk
 */

void
prepare_head_loss(step *s, const graph *g, const node *n)
{
	prepare_chunk(s, g, n->in[0], 0);
	s->units = s->size[2];
	s->cost = COST_FUNCTION * s->size[1];
}

/*
 * Slopes of logits before they were capped, for one token.  They lie where the logits do, of which a block is
 * kept until its slopes are made.
 */
static void
capped_slopes(const simd_kernels *simd, const float *x, int64_t vocab, float cap, float top, float factor, float *dx)
{
	float kept[CAP_BLOCK];

	for (int64_t j = 0; j < vocab; j += CAP_BLOCK)
	{
		int64_t n = smaller(CAP_BLOCK, vocab - j);

		memcpy(kept, x + j, n * sizeof(float));
		simd->exp_sum(kept, top, dx + j, n);
		for (int64_t k = 0; k < n; k++)
			dx[j + k] *= factor * simd_cap_slope(cap, kept[k]);
	}
}

void
run_head_loss(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	const int32_t *active = s->in[4];
	int64_t vocab = s->size[1], tokens = chunk_tokens(s, active);

	for (int64_t i = begin; i < end && i < tokens; i++)
	{
		const float *x = (const float *) s->in[0] + i * vocab;
		float *dx = s->out[2] ? (float *) s->out[2] + i * vocab : NULL;
		int32_t token = active[1 + s->attr.index + i], target = ((const int32_t *) s->in[1])[token];
		float weight = ((const float *) s->in[2])[token], logit = x[target], top = r->simd->max(x, vocab);
		float cap = s->attr.number, sum = r->simd->exp_sum(x, top, cap > 0 ? NULL : dx, vocab);

		((float *) s->out[0])[token] = weight * (logf(sum) + (top - logit));
		((float *) s->out[1])[token] = logit >= top;
		if (dx)
		{
			float factor = weight * *(const float *) s->in[3];

			if (cap > 0)
				capped_slopes(r->simd, x, vocab, cap, top, factor / sum, dx);
			else
				r->simd->scale(factor / sum, dx, dx, vocab);
			dx[target] -= cap > 0 ? factor * simd_cap_slope(cap, logit) : factor;
		}
	}
}

/* ---- head_dw: in = gradient of the logits, gathered x, active; out = gradients of w and of the bias, either or none ---- */

void
prepare_head_dw(step *s, const graph *g, const node *n)
{
	prepare_chunk(s, g, n->in[0], columns_of(g, n->in[1]));
	cut_panels(s, s->size[1], VOCAB_PANEL, 1, 1);
}

void
run_head_dw(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t width = s->size[0], vocab = s->size[1], tokens = chunk_tokens(s, s->in[2]), j;
	const float *x = (const float *) s->in[1] + s->attr.index * width;

	for (int64_t u = begin; u < end; u++)
	{
		int64_t m = panel_of(u, VOCAB_PANEL, vocab, &j);
		const float *dy = (const float *) s->in[0] + j;
		float *dw = (float *) s->out[0] + j * width, *db = s->out[1] ? (float *) s->out[1] + j : NULL;

		if (db && !s->accumulate[1])
			memset(db, 0, m * sizeof(float));
		if (db)
			r->simd->column_sum(dy, tokens, vocab, db, m);
		if (!s->out[0])
			continue;
		if (tokens > 0)
			product(s, r, true, false, m, width, tokens, dy, vocab, x, width, s->accumulate[0] ? 1 : 0, dw, width);
		else if (!s->accumulate[0])
			memset(dw, 0, m * width * sizeof(float));
	}
}

/* ---- head_dx: in = gradient of the logits, w, active; out = the chunk's rows of the gradient of the gathered x ---- */

void
prepare_head_dx(step *s, const graph *g, const node *n)
{
	prepare_chunk(s, g, n->in[0], columns_of(g, n->in[1]));
	cut_panels(s, s->size[2], TOKEN_PANEL, s->size[0], WIDTH_PANEL);
}

void
run_head_dx(const step *s, const run_args *r, int64_t begin, int64_t end)
{
	int64_t width = s->size[0], vocab = s->size[1], tokens = chunk_tokens(s, s->in[2]), i, j;

	for (int64_t u = begin; u < end; u++)
	{
		int64_t m = panel_of(u / s->size[3], TOKEN_PANEL, tokens, &i);
		int64_t n = panel_of(u % s->size[3], WIDTH_PANEL, width, &j);

		if (m > 0)
			product(s, r, false, false, m, n, vocab, (const float *) s->in[0] + i * vocab, vocab,
					(const float *) s->in[1] + j, width, 0, (float *) s->out[0] + (s->attr.index + i) * width + j,
					width);
	}
}
