/*
 * test_bf16.c
 *	  Products of numbers rounded to bf16 against sums in double of such products, and trainings
 *	  with them beside float32.
 */
#include "../../src/engine/bf16.h"
#include "net_check.h"

/* The products that read weights as they lie, with vectors of four and without the instruction. */
#define LANES 4
#define TARGET
#include "../../src/engine/simd_math.h"

static vf
add_products(vf sum, vu a, vu b)
{
	return sum + (vf) (a << 16) * (vf) (b << 16) + (vf) (a & 0xffff0000) * (vf) (b & 0xffff0000);
}

#include "../../src/engine/bf16_dots.h"

#define ROWS 24

static float
rounded(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	bits += 0x7fff + (bits >> 16 & 1); /* to the nearest, ties to even */
	bits &= 0xffff0000;
	memcpy(&x, &bits, sizeof(bits));
	return x;
}

static uint16_t
top_half(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits >> 16;
}

/* c (m, n), of which the product is the first columns, with a guard behind each row. */
static void
check_product(int m, int n, int k, bool transpose_a, bool transpose_b, float beta)
{
	int lda = (transpose_a ? m : k) + 3, ldb = (transpose_b ? k : n) + 1, ldc = n + 5;
	int a_size = (transpose_a ? k : m) * lda + 1, b_size = (transpose_b ? n : k) * ldb + 1;
	float *a = malloc(a_size * sizeof(float)), *b = malloc(b_size * sizeof(float)),
		  *c = malloc(m * ldc * sizeof(float));
	double *expected = malloc(m * ldc * sizeof(double));

	for (int i = 0; i < a_size; i++)
		a[i] = next_normal();
	for (int i = 0; i < b_size; i++)
		b[i] = next_normal();
	for (int i = 0; i < m * ldc; i++)
		expected[i] = c[i] = beta == 0 && i % ldc < n ? NAN : next_normal();
	for (int i = 0; i < m; i++)
		for (int j = 0; j < n; j++)
		{
			double sum = beta == 0 ? 0 : c[i * ldc + j];

			for (int p = 0; p < k; p++)
				sum += (double) rounded(transpose_a ? a[p * lda + i] : a[i * lda + p]) *
					   rounded(transpose_b ? b[j * ldb + p] : b[p * ldb + j]);
			expected[i * ldc + j] = sum;
		}
	gemm_bf16(transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
	CHECK_CLOSE(c, expected, m * ldc, 1e-12);
	free(a);
	free(b);
	free(c);
	free(expected);
}

static void
test_products(void)
{
	static const int sizes[][3] = {{1, 1, 1},   {3, 5, 7},     {8, 48, 256},    {9, 49, 2},      {17, 33, 31},
								   {5, 100, 0}, {63, 15, 100}, {130, 290, 513}, {257, 17, 1030}, {16, 600, 33}};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int form = 0; form < 8; form++)
			check_product(sizes[i][0], sizes[i][1], sizes[i][2], form & 1, form & 2, form & 4 ? 1 : 0);
}

typedef void (*dots)(const uint16_t *x, int64_t rows, int64_t k, const uint16_t *w, const float *bias, float *y,
					 int64_t ldy, int64_t n, void *panel);

static void
dots_without_panel(const uint16_t *x, int64_t rows, int64_t k, const uint16_t *w, const float *bias, float *y,
				   int64_t ldy, int64_t n, void *panel)
{
	multiply_dots(x, rows, k, w, bias, y, ldy, n);
}

/* y (rows, n) with a guard behind each row; rows alone have the same bytes. */
static void
check_dots(dots multiply, int rows, int n, int k, bool biased)
{
	int ldy = n + 3;
	uint16_t *x = malloc(rows * k * sizeof(uint16_t)), *w = malloc(n * k * sizeof(uint16_t));
	float *y = malloc(rows * ldy * sizeof(float)), *alone = malloc(n * sizeof(float)),
		  *bias = malloc(n * sizeof(float));
	double *expected = malloc(rows * ldy * sizeof(double));
	void *panel = aligned_alloc(64, 64 * k);

	for (int i = 0; i < rows * k; i++)
		x[i] = top_half(next_normal());
	for (int i = 0; i < n * k; i++)
		w[i] = top_half(next_normal());
	for (int i = 0; i < n; i++)
		bias[i] = next_normal();
	for (int i = 0; i < rows * ldy; i++)
		expected[i] = y[i] = next_normal();
	for (int r = 0; r < rows; r++)
		for (int j = 0; j < n; j++)
		{
			expected[r * ldy + j] = biased ? bias[j] : 0;
			for (int i = 0; i < k; i++)
				expected[r * ldy + j] += (double) bf16_value(x[r * k + i]) * bf16_value(w[j * k + i]);
		}
	multiply(x, rows, k, w, biased ? bias : NULL, y, ldy, n, panel);
	CHECK_CLOSE(y, expected, rows * ldy, 1e-12);
	for (int r = 0; r < rows; r++)
	{
		multiply(x + r * k, 1, k, w, biased ? bias : NULL, alone, n, n, panel);
		CHECK(memcmp(alone, y + r * ldy, n * sizeof(float)) == 0);
	}
	free(x);
	free(w);
	free(y);
	free(alone);
	free(bias);
	free(expected);
	free(panel);
}

static void
test_dots(dots multiply)
{
	static const int sizes[][3] = {{1, 1, 32},   {2, 5, 64},   {3, 4, 32},   {7, 9, 96},   {13, 31, 384},
								   {16, 16, 64}, {17, 33, 96}, {32, 32, 32}, {33, 64, 64}, {50, 17, 1536}};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int biased = 0; biased < 2; biased++)
			check_dots(multiply, sizes[i][0], sizes[i][1], sizes[i][2], biased);
}

static void
test_rounding(void)
{
	float x[64];
	uint16_t y[64];

	for (int i = 0; i < 64; i++)
		x[i] = next_normal();
	round_bf16(x, 64, y);
	for (int i = 0; i < 64; i++)
		CHECK(bf16_value(y[i]) == rounded(x[i]));
}

/* An element does not depend on where a product is cut. */
static void
test_cuts(void)
{
	enum
	{
		M = 70,
		N = 120,
		K = 600
	};
	float *a = malloc(M * K * sizeof(float)), *b = malloc(N * K * sizeof(float));
	float *whole = malloc(M * N * sizeof(float)), *parts = malloc(M * N * sizeof(float));

	for (int i = 0; i < M * K; i++)
		a[i] = next_normal();
	for (int i = 0; i < N * K; i++)
		b[i] = next_normal();
	gemm_bf16(false, true, M, N, K, a, K, b, K, 0, whole, N);
	for (int i = 0; i < M; i += 27)
		for (int j = 0; j < N; j += 50)
			gemm_bf16(false, true, i + 27 < M ? 27 : M - i, j + 50 < N ? 50 : N - j, K, a + i * K, K, b + j * K, K, 0,
					  parts + i * N + j, N);
	CHECK_BYTES(whole, parts, M * N * sizeof(float));
	free(a);
	free(b);
	free(whole);
	free(parts);
}

/* All gradients of a plan, end to end; the number of them. */
static size_t
gradients(const net *n, const batch *b, const float *weights, train_precision precision, float **out)
{
	llm_error err = {0};
	net_plan p;
	run_args run = {.seed = 3, .step = 1, .simd = simd_best()};
	size_t count = 0;
	void *arena;

	CHECK(net_plan_tuned(&p, n, NULL, precision, false, MODE_TRAIN, ROWS, &err));
	arena = aligned_alloc(64, plan_arena_bytes(p.plan));
	plan_attach(p.plan, arena, weights);
	net_plan_bind(&p, b);
	net_rows(b, run.rows);
	CHECK(plan_run(p.plan, &run, &err));
	*out = malloc(net_weight_bytes(n));
	for (int32_t i = 0; i < plan_graph(p.plan)->tensor_count; i++)
	{
		const tensor *t = &plan_graph(p.plan)->tensors[i];

		if (t->role != ROLE_PARAM || t->gradient == TENSOR_NONE)
			continue;
		memcpy(*out + count, plan_address(p.plan, t->gradient), net_tensor(n, t->slot)->count * sizeof(float));
		count += net_tensor(n, t->slot)->count;
	}
	net_plan_free(&p);
	free(arena);
	return count;
}

static void
test_gradient(const net *n, const batch *b)
{
	float *w = aligned_alloc(64, net_weight_bytes(n)), *exact, *other;
	double product = 0, exact_square = 0, other_square = 0;
	size_t count;

	random_weights(n, w, 0.2f);
	count = gradients(n, b, w, PRECISION_F32, &exact);
	CHECK_INT(gradients(n, b, w, PRECISION_BF16, &other), count);
	for (size_t i = 0; i < count; i++)
	{
		product += (double) exact[i] * other[i];
		exact_square += (double) exact[i] * exact[i];
		other_square += (double) other[i] * other[i];
	}
	CHECK(memcmp(exact, other, count * sizeof(float)) != 0);
	CHECK(product / sqrt(exact_square * other_square) > 0.999);
	free(w);
	free(exact);
	free(other);
}

/* The last loss of so many steps; the state afterwards. */
static double
train(const net *n, const train_config *c, const batch *b, int steps, const void *from, void **state)
{
	llm_error err = {0};
	trainer *t = trainer_new(n, c, ROWS, &err);
	double loss = NAN;

	if (!CHECK(t != NULL))
		exit(1);
	if (from)
		CHECK(trainer_restore(t, from, trainer_state_bytes(t), &err));
	for (int i = 0; i < steps; i++)
		CHECK(trainer_step(t, b, &loss, &err));
	*state = malloc(trainer_state_bytes(t));
	trainer_save(t, *state);
	trainer_free(t);
	return loss;
}

static size_t
state_bytes(const net *n, const train_config *c)
{
	llm_error err = {0};
	trainer *t = trainer_new(n, c, ROWS, &err);
	size_t bytes = t ? trainer_state_bytes(t) : 0;

	trainer_free(t);
	return bytes;
}

/* It learns what float32 learns; threads and an interruption change nothing. */
static void
test_training(const net *n, const batch *b)
{
	train_config f32 = fast_training(1), one = fast_training(1), three = fast_training(3);
	void *exact, *whole, *half, *resumed, *shared;
	double f32_loss, loss;
	size_t bytes;

	one.precision = three.precision = PRECISION_BF16;
	bytes = state_bytes(n, &one);
	f32_loss = train(n, &f32, b, 80, NULL, &exact);
	loss = train(n, &one, b, 80, NULL, &whole);
	CHECK(f32_loss < 0.5);
	CHECK_NEAR(loss, f32_loss, 0.02 + 0.05 * f32_loss);
	train(n, &one, b, 30, NULL, &half);
	train(n, &one, b, 50, half, &resumed);
	CHECK_BYTES(resumed, whole, bytes);
	train(n, &three, b, 80, NULL, &shared);
	CHECK_BYTES(shared, whole, bytes);
	CHECK(memcmp(exact, whole, bytes) != 0);
	free(exact);
	free(whole);
	free(half);
	free(resumed);
	free(shared);
}

static void
test_refused(const net *n)
{
	train_config c = fast_training(1);
	llm_error err = {0};
	size_t bytes;

	c.precision = PRECISION_BF16;
	CHECK(!trainer_memory(n, &c, ROWS, &bytes, &err) && err.code == LLM_UNAVAILABLE);
	CHECK_STR(err.message, "precision bf16 needs a CPU with AVX512-BF16");
}

int
main(void)
{
	net_config config = small_transformer("gpt", 61, 12);
	llm_error err = {0};
	net *n = net_new(&config, &err);
	batch *b = batch_new(&config.shape, ROWS, &err);

	fill_tokens(b, ROWS);
	test_dots(dots_without_panel);
	if (bf16_supported())
	{
		test_dots(dots_bf16);
		test_rounding();
		test_products();
		test_cuts();
		test_gradient(n, b);
		test_training(n, b);
	}
	else
	{
		test_refused(n);
		printf("skipped: this CPU lacks AVX512-BF16\n");
	}
	batch_free(b);
	net_free(n);
	return test_summary();
}
