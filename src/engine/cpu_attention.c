/*
 * cpu_attention.c
 *	  Attention between the tokens of a row, and its gradient.
 *
 * Blocks of queries meet blocks of keys; scores of a block lie as (keys, queries).  Of each
 * block of queries (and of the gradient of its results) a transposed copy is made once, with the
 * scale in it; all else is read and written where it lies by the kernel of strided products.
 * Under a causal mask, tiles of a product that nothing sees are left out.  A window is a bias of those
 * outside; blocks before it are left out.
 */
#include "cpu_attention.h"

#include <math.h>
#include <string.h>

#include "cpu_ops.h"

#define BLOCK ATTENTION_PAGE /* queries, and keys: scores, keys and queries of a block fit the caches */
#define OUTSIDE (-1e30f)     /* added to a score: its exponential is as good as 0, and no difference is a NaN */
#define ALIGNED __attribute__((aligned(64)))

/* What is visible of one block of keys from one block of queries. */
typedef struct block
{
	int64_t query, key;    /* the first */
	int64_t start;         /* the first key of all blocks that meet the queries */
	int64_t queries, keys; /* how many */
	int64_t width;         /* queries, up to whole vectors */
	int64_t visible;       /* query j sees keys below visible + j */
} block;

static inline int64_t
positive(int64_t a)
{
	return a > 0 ? a : 0;
}

/* Where the block of the first key begins that query sees. */
static int64_t
first_key(const attention_shape *s, const attention_row *r, int64_t query)
{
	return s->window > 0 ? positive(r->keys - r->queries + query + 1 - s->window) / BLOCK * BLOCK : 0;
}

static block
block_of_queries(const simd_kernels *simd, const attention_shape *s, const attention_row *r, int64_t query)
{
	int64_t queries = smaller(BLOCK, r->queries - query), start = first_key(s, r, query);

	return (block) {
		.query = query,
		.key = start,
		.start = start,
		.queries = queries,
		.width = (queries + simd->lanes - 1) / simd->lanes * simd->lanes,
	};
}

/* The next block of keys, from b->key + b->keys; false when the queries see no more. */
static bool
next_keys(const attention_shape *s, const attention_row *r, block *b)
{
	int64_t before = r->keys - r->queries + b->query + 1; /* keys that the first query sees */

	b->key += b->keys;
	b->keys = smaller(BLOCK, r->keys - b->key);
	b->visible = s->causal ? before - b->key : BLOCK;
	return b->keys > 0 && b->visible + b->queries > 1;
}

/* ---- products of a block ---- */

/* c (m, n) = or += sum over p < length of a[i a_row + p a_step] b[p b_step + j] */
static void
product(const simd_kernels *simd, const tile_shape *t, int64_t m, int64_t n, const float *a, const float *b,
		bool accumulate, float *c)
{
	int64_t rows = simd->tile_rows, columns = 2 * simd->lanes;

	for (int64_t j = 0; j < n; j += columns)
		for (int64_t i = 0; i < m; i += rows)
			simd->tile(t, smaller(rows, m - i), smaller(columns, n - j), a + i * t->a_row, b + j, NULL, accumulate,
					   c + i * t->c_row + j);
}

/* scores (keys, width) = k (keys, n) q^T (n, width) */
static void
score_block(const simd_kernels *simd, const block *b, int64_t n, const float *k, int64_t step, const float *q,
			float *scores)
{
	tile_shape t = {.runs = 1, .length = n, .a_row = step, .a_step = 1, .b_step = b->width, .c_row = b->width};
	int64_t columns = 2 * simd->lanes;

	for (int64_t j = 0; j < b->width; j += columns)
		product(simd, &t, smaller(b->keys, positive(b->visible + j + columns - 1)), smaller(columns, b->width - j), k,
				q + j, false, scores + j);
}

/* y (queries, n) = or += p^T (queries, keys) v (keys, n) */
static void
gather_block(const simd_kernels *simd, const block *b, int64_t n, const float *p, const float *v, int64_t v_step,
			 bool accumulate, float *y, int64_t y_step)
{
	tile_shape t = {.runs = 1, .a_row = 1, .a_step = b->width, .b_step = v_step, .c_row = y_step};
	int64_t rows = simd->tile_rows;

	for (int64_t i = 0; i < b->queries; i += rows)
	{
		t.length = smaller(b->keys, positive(b->visible + i + rows - 1));
		product(simd, &t, smaller(rows, b->queries - i), n, p + i, v, accumulate, y + i * y_step);
	}
}

/* y (keys, n) += p (keys, queries) x (queries, n) */
static void
scatter_block(const simd_kernels *simd, const block *b, int64_t n, const float *p, const float *x, int64_t x_step,
			  float *y, int64_t y_step)
{
	tile_shape t = {.runs = 1, .a_row = b->width, .a_step = 1, .b_step = x_step, .c_row = y_step};
	int64_t rows = simd->tile_rows;

	for (int64_t i = 0; i < b->keys; i += rows)
	{
		int64_t unseen = positive(i - b->visible + 1);

		if (unseen >= b->queries)
			break;
		t.length = b->queries - unseen;
		product(simd, &t, smaller(rows, b->keys - i), n, p + i * b->width + unseen, x + unseen * x_step, true,
				y + i * y_step);
	}
}

/* ---- what is added to scores: relative positions, windows ---- */

int32_t
relative_bucket(const attention_shape *s, int64_t distance)
{
	int32_t buckets = s->causal ? s->buckets : s->buckets / 2;
	int32_t first = !s->causal && distance > 0 ? buckets : 0;
	int32_t exact = buckets / 2, far;
	int64_t n = s->causal ? positive(-distance) : distance < 0 ? -distance : distance;

	if (n < exact)
		return first + (int32_t) n;
	far = exact + (int32_t) (logf((float) n / exact) / logf((float) s->distance / exact) * (buckets - exact));
	return first + (far < buckets ? far : buckets - 1);
}

/* Key - query of a block's key k and query k + d. */
static inline int64_t
distance_of(const attention_row *r, const block *b, int64_t d)
{
	return b->key - (b->query + r->keys - r->queries) - d;
}

#define DISTANCES (2 * BLOCK) /* of d, which is above -BLOCK and below BLOCK */

static bool
has_bias(const attention_shape *s, const attention_row *r)
{
	return r->bias || s->window > 0;
}

static void
bias_block(const attention_shape *s, const attention_row *r, const block *b, int32_t head, float *bias)
{
	for (int64_t d = 1 - b->keys; d < b->width; d++)
	{
		int64_t distance = distance_of(r, b, d);

		bias[d + BLOCK] = r->bias ? r->bias[relative_bucket(s, distance) * s->heads + head] : 0;
		if (s->window > 0 && distance <= -s->window)
			bias[d + BLOCK] = OUTSIDE;
	}
}

/* Add the slopes of a block to the row's part of the bias's gradient. */
static void
bias_grad_block(const simd_kernels *simd, const attention_shape *s, const attention_row *r, const block *b,
				int32_t head, const float *slopes)
{
	float sum[DISTANCES] = {0};

	for (int64_t k = 0; k < b->keys; k++)
		simd->axpy(1 / s->scale, slopes + k * b->width, sum + BLOCK - k, b->queries);
	for (int64_t d = 1 - b->keys; d < b->queries; d++)
		r->dbias[relative_bucket(s, distance_of(r, b, d)) * s->heads + head] += sum[d + BLOCK];
}

/* ---- caps ---- */

/* The first query of a block that sees key k. */
static inline int64_t
first_query(const block *b, int64_t k)
{
	return positive(k - b->visible + 1);
}

/* Scores that are seen; bend (keys, width), or NULL: their slopes by what they were before. */
static void
cap_block(const simd_kernels *simd, const attention_shape *s, const block *b, float *scores, float *bend)
{
	for (int64_t k = 0; k < b->keys && first_query(b, k) < b->width; k++)
	{
		int64_t first = first_query(b, k);

		simd_cap(simd, s->cap, scores + k * b->width + first, b->width - first);
		for (int64_t j = first; bend && j < b->width; j++)
			bend[k * b->width + j] = simd_cap_slope(s->cap, scores[k * b->width + j]);
	}
}

static void
bend_slopes(const block *b, const float *bend, float *slopes)
{
	for (int64_t k = 0; k < b->keys; k++)
		for (int64_t j = first_query(b, k); j < b->width; j++)
			slopes[k * b->width + j] *= bend[k * b->width + j];
}

/* ---- forward ---- */

/* Numbers before the first key of a block. */
static inline int64_t
block_offset(const attention_row *r, const block *b)
{
	return r->pages ? r->pages[b->key / BLOCK] * r->page_step : b->key * r->kv_step;
}

/* Keys or values of a block, and how far they are apart: where they lie, or decoded. */
static const float *
rows_of_block(const attention_row *r, const block *b, const float *x, int64_t kv, const uint16_t *x_f16, int64_t n,
			  float *decoded, int64_t *step)
{
	*step = r->kv_step;
	if (!x_f16)
		return x + block_offset(r, b) + kv;
	r->quant->decode[WEIGHT_F16](x_f16 + block_offset(r, b), b->keys * n, decoded);
	return decoded;
}

static void
scale_rows(const simd_kernels *simd, const float *factor, int64_t rows, float *y, int64_t step, int64_t n)
{
	for (int64_t i = 0; i < rows; i++)
		if (factor[i] != 1)
			simd->scale(factor[i], y + i * step, y + i * step, n);
}

static void
forward_queries(const simd_kernels *simd, const attention_shape *s, const attention_row *r, block b, int32_t head)
{
	ALIGNED float q[ATTENTION_MAX_DIM * BLOCK], scores[BLOCK * BLOCK], top[BLOCK], sum[BLOCK], factor[BLOCK],
		decoded[ATTENTION_MAX_DIM * BLOCK];
	float bias[DISTANCES];
	int64_t n = s->head_dim, kv = head / (s->heads / s->kv_heads) * n, step = s->heads * n, from_step;
	const float *from;
	float *out = r->out + b.query * step + head * n;

	simd->transpose(r->q + b.query * r->q_step + head * n, r->q_step, b.queries, n, s->scale, q, b.width);
	for (int64_t i = 0; i < b.width; i++)
	{
		top[i] = -INFINITY;
		sum[i] = 0;
	}
	while (next_keys(s, r, &b))
	{
		from = rows_of_block(r, &b, r->k, kv, r->k_f16, n, decoded, &from_step);
		score_block(simd, &b, n, from, from_step, q, scores);
		if (s->cap > 0)
			cap_block(simd, s, &b, scores, NULL);
		if (has_bias(s, r))
			bias_block(s, r, &b, head, bias);
		simd->attention_softmax(scores, b.keys, b.width, b.visible, has_bias(s, r) ? bias + BLOCK : NULL, top, sum,
								factor);
		if (b.key > b.start)
			scale_rows(simd, factor, b.queries, out, step, n);
		from = rows_of_block(r, &b, r->v, kv, r->v_f16, n, decoded, &from_step);
		gather_block(simd, &b, n, scores, from, from_step, b.key > b.start, out, step);
	}
	for (int64_t i = 0; i < b.queries; i++)
	{
		factor[i] = 1 / sum[i];
		r->log_sum[(b.query + i) * s->heads + head] = top[i] + logf(sum[i]);
	}
	scale_rows(simd, factor, b.queries, out, step, n);
}

/* Its products with a block of keys. */
static void
score_keys(const simd_kernels *simd, const attention_shape *s, const attention_row *r, const block *b, int32_t head,
		   float *scores)
{
	int64_t n = s->head_dim, kv = head / (s->heads / s->kv_heads) * n;
	const float *q = r->q + head * n;
	quant_rows query = {.rows = 1, .k = n, .x = q};

	if (!r->k_f16)
	{
		simd->dots(q, n, r->k + block_offset(r, b) + kv, r->kv_step, b->keys, s->scale, scores);
		return;
	}
	r->quant->gemv[WEIGHT_F16](&query, r->k_f16 + block_offset(r, b), NULL, scores, b->keys, b->keys);
	simd->scale(s->scale, scores, scores, b->keys);
}

/* The sum of a block of values by their scores. */
static void
add_values(const simd_kernels *simd, const attention_shape *s, const attention_row *r, const block *b, int32_t head,
		   const float *scores, float *out)
{
	int64_t n = s->head_dim, kv = head / (s->heads / s->kv_heads) * n;
	tile_shape t = {.runs = 1, .length = b->keys, .a_step = 1, .b_step = r->kv_step};

	if (r->v_f16)
		r->quant->add_f16_rows(r->v_f16 + block_offset(r, b), scores, b->keys, b->key > b->start, out, n);
	else
		product(simd, &t, 1, n, scores, r->v + block_offset(r, b) + kv, b->key > b->start, out);
}

/* One query, as in generation: scores are a vector, and products of blocks would be mostly padding. */
static void
forward_one_query(const simd_kernels *simd, const attention_shape *s, const attention_row *r, int32_t head)
{
	ALIGNED float scores[BLOCK];
	float bias[DISTANCES], top = -INFINITY, sum = 0;
	int64_t n = s->head_dim;
	float *out = r->out + head * n;
	block b = {.key = first_key(s, r, 0), .start = first_key(s, r, 0), .queries = 1, .width = 1};

	while (next_keys(s, r, &b))
	{
		float before = top, factor;

		score_keys(simd, s, r, &b, head, scores);
		if (s->cap > 0)
			simd_cap(simd, s->cap, scores, b.keys);
		if (has_bias(s, r))
			bias_block(s, r, &b, head, bias);
		for (int64_t k = 0; has_bias(s, r) && k < b.keys; k++)
			scores[k] += bias[BLOCK - k];
		top = fmaxf(before, simd->max(scores, b.keys));
		factor = expf(before - top);
		sum = sum * factor + simd->exp_sum(scores, top, scores, b.keys);
		if (b.key > b.start)
			scale_rows(simd, &factor, 1, out, n, n);
		add_values(simd, s, r, &b, head, scores, out);
	}
	simd->scale(1 / sum, out, out, n);
	r->log_sum[head] = top + logf(sum);
}

static void
clear_rows(float *x, int64_t rows, int64_t step, int64_t n)
{
	for (int64_t i = 0; i < rows; i++)
		memset(x + i * step, 0, n * sizeof(float));
}

void
attention_forward(const simd_kernels *simd, const attention_shape *s, const attention_row *r, int32_t head)
{
	if (r->keys == 0)
		clear_rows(r->out + head * s->head_dim, r->queries, s->heads * s->head_dim, s->head_dim);
	else if (r->queries == 1)
		forward_one_query(simd, s, r, head);
	else
		for (int64_t query = 0; query < r->queries; query += BLOCK)
			forward_queries(simd, s, r, block_of_queries(simd, s, r, query), head);
}

/* ---- backward ---- */

/* What the gradient needs of each query: log_sum and the mean slope of its probabilities. */
static void
query_numbers(const simd_kernels *simd, const attention_shape *s, const attention_row *r, const block *b,
			  int32_t head, float *log_sum, float *delta)
{
	int64_t n = s->head_dim;

	for (int64_t i = 0; i < b->width; i++)
	{
		int64_t at = ((b->query + i) * s->heads + head);

		log_sum[i] = delta[i] = 0;
		if (i >= b->queries)
			continue;
		log_sum[i] = r->log_sum[at];
		simd->gemv(r->dout + at * n, 1, n, r->out + at * n, NULL, delta + i, 1, 1);
	}
}

static void
backward_queries(const simd_kernels *simd, const attention_shape *s, const attention_row *r, block b, int32_t head)
{
	ALIGNED float q[ATTENTION_MAX_DIM * BLOCK], dout[ATTENTION_MAX_DIM * BLOCK], scores[BLOCK * BLOCK],
		slopes[BLOCK * BLOCK], bend[BLOCK * BLOCK], log_sum[BLOCK], delta[BLOCK];
	float bias[DISTANCES];
	int64_t n = s->head_dim, kv = head / (s->heads / s->kv_heads) * n, step = s->heads * n;
	const float *from_q = r->q + b.query * r->q_step + head * n, *from_dout = r->dout + b.query * step + head * n;

	simd->transpose(from_q, r->q_step, b.queries, n, s->scale, q, b.width);
	simd->transpose(from_dout, step, b.queries, n, 1, dout, b.width);
	query_numbers(simd, s, r, &b, head, log_sum, delta);
	while (next_keys(s, r, &b))
	{
		const float *k = r->k + b.key * r->kv_step + kv, *v = r->v + b.key * r->kv_step + kv;

		score_block(simd, &b, n, k, r->kv_step, q, scores);
		score_block(simd, &b, n, v, r->kv_step, dout, slopes);
		if (s->cap > 0)
			cap_block(simd, s, &b, scores, bend);
		if (has_bias(s, r))
			bias_block(s, r, &b, head, bias);
		simd->attention_softmax_grad(scores, slopes, b.keys, b.width, b.visible, has_bias(s, r) ? bias + BLOCK : NULL,
									 log_sum, delta, s->scale);
		if (s->cap > 0)
			bend_slopes(&b, bend, slopes);
		scatter_block(simd, &b, n, scores, from_dout, step, r->dv + b.key * r->dkv_step + kv, r->dkv_step);
		scatter_block(simd, &b, n, slopes, from_q, r->q_step, r->dk + b.key * r->dkv_step + kv, r->dkv_step);
		gather_block(simd, &b, n, slopes, k, r->kv_step, true, r->dq + b.query * r->dq_step + head * n, r->dq_step);
		if (r->dbias)
			bias_grad_block(simd, s, r, &b, head, slopes);
	}
}

void
attention_backward(const simd_kernels *simd, const attention_shape *s, const attention_row *r, int32_t kv_head)
{
	int32_t group = s->heads / s->kv_heads, first = kv_head * group;
	int64_t n = s->head_dim;

	if (!r->accumulate_q)
		clear_rows(r->dq + first * n, r->queries, r->dq_step, group * n);
	if (!r->accumulate_kv)
	{
		clear_rows(r->dk + kv_head * n, r->keys, r->dkv_step, n);
		clear_rows(r->dv + kv_head * n, r->keys, r->dkv_step, n);
	}
	for (int32_t bucket = 0; r->dbias && bucket < s->buckets; bucket++)
		memset(r->dbias + bucket * s->heads + first, 0, group * sizeof(float));
	for (int32_t head = first; head < first + group; head++)
		for (int64_t query = 0; query < r->queries && r->keys > 0; query += BLOCK)
			backward_queries(simd, s, r, block_of_queries(simd, s, r, query), head);
}
