/*
 * test_attention.c
 *	  Attention of one row against a double-precision reference that makes all scores, and its
 *	  gradient against finite differences of that reference, with every set of vector kernels.
 */
#include "../../src/engine/blas.h"
#include "../../src/engine/cpu_attention.h"
#include "fixture.h"

#define MAX_TOKENS 150
#define MAX_FLOATS (MAX_TOKENS * 300)
#define MAX_BIAS 64

typedef struct problem
{
	attention_shape s;
	int queries, keys;
	bool cross; /* queries and keys lie in tensors of their own */
} problem;

/* Self attention: qkv (tokens, (heads + 2 kv_heads) head_dim); cross: q and kv apart. */
static float q[MAX_FLOATS], kv[MAX_FLOATS], bias[MAX_BIAS], weight[MAX_FLOATS];
static float out[MAX_FLOATS], log_sum[MAX_FLOATS], dq[MAX_FLOATS], dkv[MAX_FLOATS], dbias[MAX_BIAS];
static double expected[MAX_FLOATS], expected_log_sum[MAX_FLOATS];
static const simd_kernels *simd;

static void
randomize(float *x, int n)
{
	for (int i = 0; i < n; i++)
		x[i] = next_normal();
}

static attention_row
row_of(const problem *p, bool grad)
{
	int n = p->s.head_dim, width = p->s.heads * n, kv_width = p->s.kv_heads * n;
	int step = width + 2 * kv_width;
	float *kv_at = p->cross ? kv : q + width, *dkv_at = p->cross ? dkv : dq + width;

	return (attention_row) {
		.queries = p->queries,
		.keys = p->keys,
		.q = q,
		.k = kv_at,
		.v = kv_at + kv_width,
		.q_step = p->cross ? width : step,
		.kv_step = p->cross ? 2 * kv_width : step,
		.bias = p->s.buckets ? bias : NULL,
		.out = out,
		.log_sum = log_sum,
		.dout = weight,
		.dq = dq,
		.dk = dkv_at,
		.dv = dkv_at + kv_width,
		.dq_step = p->cross ? width : step,
		.dkv_step = p->cross ? 2 * kv_width : step,
		.dbias = grad && p->s.buckets ? dbias : NULL,
	};
}

/* Fills expected and expected_log_sum; returns the sum of weight times the result. */
static double
reference(const problem *p)
{
	attention_row r = row_of(p, false);
	int n = p->s.head_dim, offset = p->keys - p->queries;
	double loss = 0;

	for (int h = 0; h < p->s.heads; h++)
		for (int i = 0; i < p->queries; i++)
		{
			int at = (i * p->s.heads + h) * n, kv_at = h / (p->s.heads / p->s.kv_heads) * n;
			int seen = p->s.causal ? i + offset + 1 : p->keys;
			int first = p->s.window > 0 && seen > p->s.window ? seen - p->s.window : 0;
			double score[MAX_TOKENS], sum = 0;

			for (int j = 0; j < n; j++)
				expected[at + j] = 0;
			for (int k = first; k < seen; k++)
			{
				score[k] = 0;
				for (int j = 0; j < n; j++)
					score[k] += (double) r.q[i * r.q_step + h * n + j] * r.k[k * r.kv_step + kv_at + j];
				score[k] *= p->s.scale;
				if (p->s.cap > 0)
					score[k] = p->s.cap * tanh(score[k] / p->s.cap);
				if (r.bias)
					score[k] += bias[relative_bucket(&p->s, k - (i + offset)) * p->s.heads + h];
				sum += exp(score[k]);
			}
			for (int k = first; k < seen; k++)
				for (int j = 0; j < n; j++)
					expected[at + j] += exp(score[k]) / sum * r.v[k * r.kv_step + kv_at + j];
			expected_log_sum[i * p->s.heads + h] = log(sum);
			for (int j = 0; j < n; j++)
				loss += expected[at + j] * weight[at + j];
		}
	return loss;
}

/* About `samples` numbers of x, whose gradient is dx. */
static void
check_slopes(const problem *p, float *x, const float *dx, int count, int samples)
{
	const float step = 1.0f / 1024;
	float got[MAX_FLOATS];
	double want[MAX_FLOATS], up, down;
	int n = 0;

	for (int i = 0; i < count; i += 1 + count / samples, n++)
	{
		float before = x[i];

		x[i] = before + step;
		up = reference(p);
		x[i] = before - step;
		down = reference(p);
		x[i] = before;
		got[n] = dx[i];
		want[n] = (up - down) / (2.0 * step);
	}
	CHECK_CLOSE(got, want, n, 2e-8);
}

static void
test_problem(const problem *p, int samples)
{
	int n = p->s.head_dim, width = p->s.heads * n, kv_width = p->s.kv_heads * n;
	int q_floats = p->queries * (width + (p->cross ? 0 : 2 * kv_width)), kv_floats = p->keys * 2 * kv_width;
	attention_row r = row_of(p, true);
	float kept[2];

	randomize(q, q_floats);
	randomize(kv, kv_floats);
	randomize(weight, p->queries * width);
	randomize(bias, MAX_BIAS);
	memset(out, 0xff, sizeof(out));
	memset(dq, 0xff, sizeof(dq));
	memset(dkv, 0xff, sizeof(dkv));
	memset(dbias, 0xff, sizeof(dbias));
	for (int i = 0; i < p->s.heads; i++)
		attention_forward(simd, &p->s, &r, i);
	reference(p);
	CHECK_CLOSE(out, expected, p->queries * width, 1e-12);
	CHECK_CLOSE(log_sum, expected_log_sum, p->queries * p->s.heads, 1e-12);
	CHECK(isnan(out[p->queries * width]));
	for (int i = p->s.kv_heads - 1; i >= 0; i--)
		attention_backward(simd, &p->s, &r, i);
	CHECK(isnan(dq[q_floats]) && isnan(dkv[p->cross ? kv_floats : 0]));
	check_slopes(p, q, dq, q_floats, samples);
	if (p->cross)
		check_slopes(p, kv, dkv, kv_floats, samples);
	if (p->s.buckets)
		check_slopes(p, bias, dbias, p->s.buckets * p->s.heads, samples);
	/* again, on top of what is there */
	kept[0] = dq[0];
	kept[1] = r.dv[n / 2];
	r.accumulate_q = r.accumulate_kv = true;
	for (int i = 0; i < p->s.kv_heads; i++)
		attention_backward(simd, &p->s, &r, i);
	CHECK_NEAR(dq[0], 2 * kept[0], 1e-5 + 1e-5 * fabsf(kept[0]));
	CHECK_NEAR(r.dv[n / 2], 2 * kept[1], 1e-5 + 1e-5 * fabsf(kept[1]));
}

static void
test_all_problems(void)
{
	static const attention_shape shapes[] = {
		{.heads = 2, .kv_heads = 2, .head_dim = 8, .causal = true, .scale = 0.3f},
		{.heads = 4, .kv_heads = 2, .head_dim = 16, .causal = true, .scale = 0.25f},
		{.heads = 3, .kv_heads = 1, .head_dim = 5, .scale = 0.5f},
		{.heads = 2, .kv_heads = 2, .head_dim = 9, .scale = 0.5f, .buckets = 12, .distance = 40},
		{.heads = 2, .kv_heads = 1, .head_dim = 4, .causal = true, .scale = 1, .buckets = 8, .distance = 20},
		{.heads = 4, .kv_heads = 2, .head_dim = 16, .causal = true, .scale = 0.25f, .window = 3},
		{.heads = 2, .kv_heads = 1, .head_dim = 8, .causal = true, .scale = 0.25f, .window = 40},
		{.heads = 2,
		 .kv_heads = 1,
		 .head_dim = 4,
		 .causal = true,
		 .scale = 1,
		 .buckets = 8,
		 .distance = 20,
		 .window = 9},
		{.heads = 4, .kv_heads = 2, .head_dim = 16, .causal = true, .scale = 0.25f, .window = 20, .cap = 0.5f},
		{.heads = 3, .kv_heads = 1, .head_dim = 5, .scale = 0.5f, .cap = 1},
	};
	static const int tokens[] = {1, 2, 7, 16, 33, 64, 65, 131};
	problem one = {{0}, 1, 70, true}; /* as in generation: one query, a few blocks of keys */

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		for (size_t j = 0; j < sizeof(tokens) / sizeof(tokens[0]); j++)
		{
			problem p = {shapes[i], tokens[j], tokens[j]};

			test_problem(&p, tokens[j] > 64 ? 8 : 30);
			p.cross = true;
			if (!p.s.buckets && j + 1 < sizeof(tokens) / sizeof(tokens[0]))
			{
				/* causal: the queries are the last of the keys, as in generation */
				p.keys = tokens[j + 1];
				test_problem(&p, 8);
			}
		}
	one.s = shapes[1];
	test_problem(&one, 8);
	one.s = shapes[2];
	one.keys = 140;
	test_problem(&one, 8);
	one.s = shapes[5];
	test_problem(&one, 8);
	one.s = shapes[8];
	test_problem(&one, 8);
}

/* Of nothing comes nothing. */
static void
test_empty(void)
{
	problem p = {{.heads = 1, .kv_heads = 1, .head_dim = 3, .scale = 1}, 0, 2, true};
	attention_row r = row_of(&p, true);

	memset(dkv, 0xff, sizeof(dkv));
	attention_forward(simd, &p.s, &r, 0);
	attention_backward(simd, &p.s, &r, 0);
	for (int i = 0; i < 12; i++)
		CHECK(dkv[i] == 0);
	p.queries = 2;
	p.keys = 0;
	r = row_of(&p, true);
	memset(out, 0xff, sizeof(out));
	memset(dq, 0xff, sizeof(dq));
	attention_forward(simd, &p.s, &r, 0);
	attention_backward(simd, &p.s, &r, 0);
	for (int i = 0; i < 6; i++)
		CHECK(out[i] == 0 && dq[i] == 0);
}

/* Scores of any size give finite results. */
static void
test_extremes(void)
{
	problem p = {{.heads = 1, .kv_heads = 1, .head_dim = 4, .causal = true, .scale = 1000}, 70, 70};
	attention_row r = row_of(&p, true);
	bool finite = true;

	randomize(q, 70 * 12);
	randomize(weight, 70 * 4);
	attention_forward(simd, &p.s, &r, 0);
	attention_backward(simd, &p.s, &r, 0);
	reference(&p);
	for (int i = 0; i < 70 * 12; i++)
		finite &= isfinite(out[i / 3]) && isfinite(dq[i]);
	CHECK(finite);
}

/* Buckets of google/t5-v1_1-small's encoder (32, 128) and decoder. */
static void
test_buckets(void)
{
	attention_shape both = {.buckets = 32, .distance = 128},
					causal = {.buckets = 32, .distance = 128, .causal = true};
	static const int distances[] = {0, -1, 1, -7, 8, -8, 15, -16, 31, 64, -127, 127, 128, -500, 500};
	static const int both_expected[] = {0, 1, 17, 7, 24, 8, 25, 10, 27, 30, 15, 31, 31, 15, 31};
	static const int causal_expected[] = {0, 1, 0, 7, 0, 8, 0, 16, 0, 0, 31, 0, 0, 31, 0};

	for (size_t i = 0; i < sizeof(distances) / sizeof(distances[0]); i++)
	{
		CHECK_INT(relative_bucket(&both, distances[i]), both_expected[i]);
		CHECK_INT(relative_bucket(&causal, distances[i]), causal_expected[i]);
	}
}

int
main(void)
{
	int count;
	const simd_kernels *const *all = simd_all(&count);

	blas_open();
	test_buckets();
	for (int i = 0; i < count; i++)
	{
		simd = all[i];
		if (!simd->supported())
			continue;
		test_all_problems();
		test_empty();
		test_extremes();
	}
	return test_summary();
}
