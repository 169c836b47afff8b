/*
 * test_ops.c
 *	  Operations recorded alone, planned and run with fewer rows than the capacity,
 *	  against double-precision references; and what the plan promises.
 */
#include "op_bench.h"

static double expected[CAPACITY * 600];

/* ---- forward ---- */

static void
test_linear(int64_t rows, int64_t k, int64_t n, bool bias)
{
	bench b = bench_new();
	int32_t x = rows_input(&b, k);
	int32_t w = parameter(&b, n, k);
	int32_t y = op_linear(b.g, x, w, bias ? parameter(&b, n, 0) : TENSOR_NONE);

	graph_keep(b.g, y);
	if (bench_run(&b, rows))
	{
		for (int64_t i = 0; i < rows * n; i++)
		{
			expected[i] = bias ? W(b, 1)[i % n] : 0;
			for (int64_t j = 0; j < k; j++)
				expected[i] += (double) F(b, 0)[i / n * k + j] * W(b, 0)[i % n * k + j];
		}
		CHECK_CLOSE(plan_address(b.p, y), expected, rows * n, 1e-12);
	}
	bench_free(&b);
}

static void
test_embeddings(void)
{
	enum
	{
		R = 13,
		D = 5,
		C = 3
	};
	bench b = bench_new();
	int32_t index = index_input(&b, 0, C, R);
	int32_t start = index_input(&b, CAPACITY + 1, 0, 1);
	int32_t pairs = index_input(&b, CAPACITY * 2, 0, R);
	int32_t value = rows_input(&b, 2); /* same count as pairs */
	int32_t base = rows_input(&b, D);
	int32_t table = parameter(&b, R, D);
	int32_t bias = parameter(&b, D, 0);
	int32_t e, with_base, without;

	/* pairs of a row: 0, 1 or 2 */
	for (int i = 0; i < CAPACITY; i++)
		((int32_t *) b.input[1])[i + 1] = I(b, 1)[i] + i % 3;
	b.g->tensors[value].ndim = 1;
	b.g->tensors[value].dims[0] = CAPACITY * 2;
	b.g->tensors[value].axis = AXIS_NONE;
	e = op_embed(b.g, index, table);
	with_base = op_embed_bag(b.g, base, start, pairs, value, table, TENSOR_NONE);
	without = op_embed_bag(b.g, TENSOR_NONE, start, pairs, value, table, bias);
	graph_keep(b.g, e);
	graph_keep(b.g, with_base);
	graph_keep(b.g, without);
	if (bench_run(&b, 30))
	{
		for (int i = 0; i < 30 * C * D; i++)
			expected[i] = W(b, 0)[I(b, 0)[i / D] * D + i % D];
		CHECK_CLOSE(plan_address(b.p, e), expected, 30 * C * D, 0);
		for (int form = 0; form < 2; form++)
		{
			for (int i = 0; i < 30 * D; i++)
			{
				expected[i] = form ? F(b, 4)[i] : W(b, 1)[i % D];
				for (int q = I(b, 1)[i / D]; q < I(b, 1)[i / D + 1]; q++)
					expected[i] += (double) F(b, 3)[q] * W(b, 0)[I(b, 2)[q] * D + i % D];
			}
			CHECK_CLOSE(plan_address(b.p, form ? with_base : without), expected, 30 * D, 1e-12);
		}
	}
	bench_free(&b);
}

static void
test_simple(void)
{
	bench b = bench_new();
	int32_t x = rows_input(&b, 21);
	int32_t y = rows_input(&b, 21);
	int32_t gamma = parameter(&b, 21, 0);
	int32_t beta = parameter(&b, 21, 0);
	int32_t out[5];

	out[0] = op_concat(b.g, x, y);
	out[1] = op_add(b.g, x, y);
	out[2] = op_scale(b.g, x, 0.25f);
	out[3] = op_layer_norm(b.g, x, gamma, beta, LAYER_NORM_EPSILON);
	out[4] = op_softmax(b.g, x);
	for (int i = 0; i < 5; i++)
		graph_keep(b.g, out[i]);
	if (bench_run(&b, 23))
	{
		for (int i = 0; i < 23 * 42; i++)
			expected[i] = (i % 42 < 21 ? F(b, 0) : F(b, 1))[i / 42 * 21 + i % 21];
		CHECK_CLOSE(plan_address(b.p, out[0]), expected, 23 * 42, 0);
		for (int i = 0; i < 23 * 21; i++)
			expected[i] = (double) F(b, 0)[i] + F(b, 1)[i];
		CHECK_CLOSE(plan_address(b.p, out[1]), expected, 23 * 21, 1e-14);
		for (int i = 0; i < 23 * 21; i++)
			expected[i] = 0.25 * F(b, 0)[i];
		CHECK_CLOSE(plan_address(b.p, out[2]), expected, 23 * 21, 0);
		for (int r = 0; r < 23; r++)
		{
			const float *row = F(b, 0) + r * 21;
			double mean = 0, variance = 0;

			for (int i = 0; i < 21; i++)
				mean += row[i] / 21.0;
			for (int i = 0; i < 21; i++)
				variance += (row[i] - mean) * (row[i] - mean) / 21;
			for (int i = 0; i < 21; i++)
				expected[r * 21 + i] = (row[i] - mean) / sqrt(variance + 1e-5) * W(b, 0)[i] + W(b, 1)[i];
		}
		CHECK_CLOSE(plan_address(b.p, out[3]), expected, 23 * 21, 1e-12);
		for (int r = 0; r < 23; r++)
		{
			double sum = 0;

			for (int i = 0; i < 21; i++)
				sum += exp(F(b, 0)[r * 21 + i]);
			for (int i = 0; i < 21; i++)
				expected[r * 21 + i] = exp(F(b, 0)[r * 21 + i]) / sum;
		}
		CHECK_CLOSE(plan_address(b.p, out[4]), expected, 23 * 21, 1e-12);
	}
	bench_free(&b);
}

/* ---- losses and their gradients ---- */

static double
reference_loss(op_kind kind, const float *y, int n, int target_class, const float *target, double number,
			   double *slope)
{
	double loss = 0, sum = 0;

	for (int i = 0; i < n; i++)
		sum += exp(y[i]);
	for (int i = 0; i < n; i++)
	{
		double d = target[i] - (double) y[i];
		double want = (i == target_class) * (1 - number) + number / n;

		if (kind == OP_cross_entropy)
		{
			loss -= want * (y[i] - log(sum));
			slope[i] = exp(y[i]) / sum - want;
		}
		else if (kind == OP_binary)
		{
			want = target_class * (1 - number) + number / 2;
			loss = log1p(exp(y[i])) - want * y[i];
			slope[i] = 1 / (1 + exp(-y[i])) - want;
		}
		else
		{
			bool square = kind == OP_mse || fabs(d) < number;

			loss += kind == OP_mse ? d * d / n : (square ? d * d / 2 : number * (fabs(d) - number / 2)) / n;
			slope[i] = kind == OP_mse ? -2 * d / n : (square ? -d : d > 0 ? -number : number) / n;
		}
	}
	return loss;
}

static void
test_loss(op_kind kind, int n, float number)
{
	bench b = bench_new();
	bool classes = kind == OP_cross_entropy || kind == OP_binary;
	int32_t y = rows_input(&b, n);
	int32_t numbers = rows_input(&b, n);
	int32_t target_class = index_input(&b, 0, 0, n > 1 ? n : 2);
	int32_t weight = rows_input(&b, 0);
	int32_t scaled = op_scale(b.g, y, 1);
	int32_t loss, gradient;
	double slope[CAPACITY * 100], total = 0;

	for (int i = 0; i < CAPACITY; i++)
		((float *) b.input[3])[i] = 0.1f + next_uniform();
	loss = kind == OP_cross_entropy ? op_cross_entropy(b.g, scaled, target_class, weight, number, true)
		   : kind == OP_binary      ? op_binary_cross_entropy(b.g, scaled, target_class, weight, number, true)
		   : kind == OP_mse         ? op_mse(b.g, scaled, numbers, weight, true)
									: op_huber(b.g, scaled, numbers, weight, number, true);
	gradient = b.g->tensors[scaled].gradient;
	graph_keep(b.g, gradient);
	if (bench_run(&b, 17))
	{
		for (int r = 0; r < 17; r++)
			total += F(b, 3)[r];
		for (int r = 0; r < 17; r++)
		{
			expected[r] = F(b, 3)[r] * reference_loss(kind, F(b, 0) + r * n, n, classes ? I(b, 2)[r] : 0,
													  F(b, 1) + r * n, number, slope + r * n);
			for (int i = 0; i < n; i++)
				slope[r * n + i] *= F(b, 3)[r] / total;
		}
		CHECK_CLOSE(plan_address(b.p, loss), expected, 17, 1e-12);
		CHECK_CLOSE(plan_address(b.p, gradient), slope, 17 * n, 1e-12);
		CHECK(plan_address(b.p, gradient) == plan_address(b.p, scaled)); /* in place */
	}
	bench_free(&b);
}

/* Extreme logits give finite losses and gradients. */
static void
test_loss_extremes(void)
{
	bench b = bench_new();
	int32_t y = rows_input(&b, 3);
	int32_t target = index_input(&b, 0, 0, 1);
	int32_t weight = rows_input(&b, 0);
	int32_t scaled = op_scale(b.g, y, 1);
	int32_t loss = op_cross_entropy(b.g, scaled, target, weight, 0, true);
	int32_t gradient = b.g->tensors[scaled].gradient;

	memcpy(b.input[0], (float[]) {1e4f, 0, -1e4f, -1e4f, 1e4f, 0}, 6 * sizeof(float));
	memcpy(b.input[2], (float[]) {1, 1}, 2 * sizeof(float));
	graph_keep(b.g, gradient);
	if (bench_run(&b, 2))
	{
		const float *l = plan_address(b.p, loss), *d = plan_address(b.p, gradient);

		CHECK_NEAR(l[0], 0, 1e-6);
		CHECK_NEAR(l[1], 2e4, 1);
		for (int i = 0; i < 6; i++)
			CHECK(isfinite(d[i]));
		CHECK_NEAR(d[3], -0.5, 1e-6);
	}
	bench_free(&b);
}

/* ---- gradients of single operations: y = op(x w^T), loss mse; dw against finite differences in double ---- */

typedef enum tail
{
	TAIL_SCALE,
	TAIL_DROPOUT,
	TAIL_ROW_DROPOUT,
	TAIL_SHARED
} tail;

static double
tail_loss(bench *b, tail kind, int64_t rows, const float *mask)
{
	double loss = 0, total = 0;

	for (int64_t r = 0; r < rows; r++)
		total += F(*b, 2)[r];
	for (int64_t i = 0; i < rows * 6; i++)
	{
		double y = 0, d;

		for (int j = 0; j < 4; j++)
			y += (double) F(*b, 0)[i / 6 * 4 + j] * W(*b, 0)[i % 6 * 4 + j];
		y = kind == TAIL_SCALE ? -1.5 * y : kind != TAIL_SHARED ? y * mask[i] : y + 0.5 * y + tanh(y);
		d = y - F(*b, 1)[i];
		loss += F(*b, 2)[i / 6] * d * d / 6 / total;
	}
	return loss;
}

/* TAIL_SHARED uses one value three times, so its gradient has three writers. */
static void
test_tail(tail kind)
{
	bench b = bench_new();
	int64_t rows = 19;
	int32_t x = rows_input(&b, 4);
	int32_t target = rows_input(&b, 6);
	int32_t weight = rows_input(&b, 0);
	int32_t w = parameter(&b, 6, 4);
	int32_t y = op_linear(b.g, x, w, TENSOR_NONE);
	double slope[24];
	float ones[CAPACITY * 8], mask[CAPACITY * 6];

	for (int i = 0; i < CAPACITY; i++)
		((float *) b.input[2])[i] = 0.1f + next_uniform();
	if (kind == TAIL_SCALE)
		y = op_scale(b.g, y, -1.5f);
	else if (kind == TAIL_DROPOUT)
		y = op_dropout(b.g, y, 0.4f, 5);
	else if (kind == TAIL_ROW_DROPOUT)
		y = op_row_dropout(b.g, y, 0.4f, 5);
	else
		y = op_add(b.g, op_add(b.g, y, op_scale(b.g, y, 0.5f)), op_act(b.g, y, ACT_TANH));
	op_mse(b.g, y, target, weight, true);
	graph_backward(b.g);
	if (bench_run(&b, rows))
	{
		dropout_key key = {1, 0, 5, 26214, 65536.0f / (65536 - 26214)};

		for (int i = 0; i < CAPACITY * 8; i++)
			ones[i] = 1;
		for (int64_t r = 0; r < rows; r++)
		{
			b.run.simd->dropout(ones, mask + r * 6, &key, (uint32_t) r, false, 6);
			for (int i = 1; kind == TAIL_ROW_DROPOUT && i < 6; i++)
				mask[r * 6 + i] = mask[r * 6];
		}
		for (int i = 0; i < 24; i++)
		{
			float before = W(b, 0)[i];
			double up, down;

			W(b, 0)[i] = before + 1.0f / 1024;
			up = tail_loss(&b, kind, rows, mask);
			W(b, 0)[i] = before - 1.0f / 1024;
			down = tail_loss(&b, kind, rows, mask);
			W(b, 0)[i] = before;
			slope[i] = (up - down) * 512;
		}
		CHECK_CLOSE(plan_address(b.p, b.g->tensors[w].gradient), slope, 24, 1e-9);
	}
	bench_free(&b);
}

/* ---- the plan ---- */

/* Tensors that live at the same time and are not one place must not overlap. */
static void
test_no_overlap(void)
{
	bench b = bench_new();
	int32_t x = rows_input(&b, 30);
	int32_t target = rows_input(&b, 10);
	int32_t weight = rows_input(&b, 0);
	int32_t h = x;
	size_t sum = 0;
	llm_error err = {0};
	int overlaps = 0;

	for (int i = 0; i < 6; i++)
	{
		int32_t w = parameter(&b, i < 5 ? 30 : 10, 30);
		int32_t y = op_linear(b.g, h, w, TENSOR_NONE);

		y = i < 5 ? op_act(b.g, y, i % 2 ? ACT_RELU : ACT_SILU) : y;
		h = i > 0 && i < 5 ? op_add(b.g, h, y) : y;
	}
	op_mse(b.g, h, target, weight, true);
	graph_backward(b.g);
	b.p = plan_new(b.g, &backend_cpu, b.offsets, &err);
	check_no_error(&err);
	for (int32_t s = 0; s < b.g->tensor_count; s++)
	{
		size_t begin, end, other_begin, other_end;
		int32_t first, last, other_first, other_last;

		if (!plan_place(b.p, s, &begin, &end, &first, &last))
			continue;
		sum += end - begin;
		CHECK(begin % 64 == 0 && end <= plan_arena_bytes(b.p));
		for (int32_t t = 0; t < s; t++)
			if (plan_place(b.p, t, &other_begin, &other_end, &other_first, &other_last) &&
				!(begin == other_begin && first == other_first && last == other_last) && first <= other_last &&
				other_first <= last && begin < other_end && other_begin < end)
				overlaps++;
	}
	CHECK_INT(overlaps, 0);
	CHECK(plan_arena_bytes(b.p) < sum * 3 / 4);
	bench_free(&b);
}

static void
test_refused(void)
{
	llm_error err = {0};
	bench b = bench_new();
	int32_t x = rows_input(&b, 4);
	int32_t w = parameter(&b, 3, 5);

	CHECK_INT(op_linear(b.g, x, w, TENSOR_NONE), TENSOR_NONE); /* 4 is not 5 */
	CHECK_INT(op_add(b.g, x, x), TENSOR_NONE);                 /* the error sticks */
	CHECK(plan_new(b.g, &backend_cpu, b.offsets, &err) == NULL);
	CHECK_INT(err.code, LLM_INVALID);
	bench_free(&b);

	err.code = LLM_OK;
	b = bench_new();
	CHECK_INT(graph_param(b.g, 0, 2, (int64_t[]) {INT64_MAX / 2, 5}), TENSOR_NONE);
	CHECK(!graph_ok(b.g, &err));
	CHECK_INT(err.code, LLM_MEMORY);
	graph_free(b.g);
	bench_free(&b);
}

int
main(void)
{
	blas_open();
	for (int64_t rows = 1; rows <= CAPACITY; rows += rows < 9 ? 4 : 31)
	{
		test_linear(rows, 33, 70, true);
		test_linear(rows, 7, 3, true);
		test_linear(rows, 130, 15, false);
	}
	test_embeddings();
	test_simple();
	for (int n = 2; n <= 70; n += 17)
	{
		test_loss(OP_cross_entropy, n, 0);
		test_loss(OP_cross_entropy, n, 0.2f);
		test_loss(OP_mse, n, 0);
		test_loss(OP_huber, n, 0.8f);
	}
	test_loss(OP_binary, 1, 0);
	test_loss(OP_binary, 1, 0.2f);
	test_loss_extremes();
	test_tail(TAIL_SCALE);
	test_tail(TAIL_DROPOUT);
	test_tail(TAIL_ROW_DROPOUT);
	test_tail(TAIL_SHARED);
	test_no_overlap();
	test_refused();
	return test_summary();
}
