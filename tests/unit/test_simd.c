/*
 * test_simd.c
 *	  Every set of vector kernels that this CPU runs, against double-precision references,
 *	  at lengths around the vector widths and at unaligned addresses.
 */
#include "../../src/engine/blas.h"
#include "fixture.h"

static const int lengths[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257};
#define LENGTHS ((int) (sizeof(lengths) / sizeof(lengths[0])))
#define MAX 320

static const simd_kernels *k;

static double
reference_act(net_activation kind, double x)
{
	switch (kind)
	{
		case ACT_IDENTITY: return x;
		case ACT_RELU: return x > 0 ? x : 0;
		case ACT_GELU: return 0.5 * x * erfc(-x / sqrt(2));
		case ACT_GELU_TANH: return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
		case ACT_SILU: return x / (1 + exp(-x));
		case ACT_TANH: return tanh(x);
		case ACT_SIGMOID: return 1 / (1 + exp(-x));
	}
	return NAN;
}

/* The bounds that simd.h states, over the range where float results are normal. */
static void
test_act_error(void)
{
	static const double bound[] = {0, 0, 2e-6, 2e-6, 4e-7, 4e-7, 4e-7};
	float x[256], y[256];

	for (int kind = ACT_IDENTITY; kind <= ACT_SIGMOID; kind++)
	{
		double worst = 0;

		for (double at = -12; at < 12; at += 256 * 0.0007)
		{
			for (int i = 0; i < 256; i++)
				x[i] = (float) (at + i * 0.0007);
			k->act(kind, x, y, 256);
			for (int i = 0; i < 256; i++)
			{
				double expected = reference_act(kind, x[i]);
				bool gelu = kind == ACT_GELU || kind == ACT_GELU_TANH;
				double error = fabs(y[i] - expected);

				if (gelu && fabs(expected) <= 1e-6)
					error = error <= 1e-7 ? 0 : INFINITY;
				else if (expected != 0)
					error /= fabs(expected);
				worst = error > worst ? error : worst;
			}
		}
		if (!CHECK(worst <= bound[kind]))
			fprintf(stderr, "%s %s: error %g\n", k->name, net_activation_name(kind), worst);
	}
}

static void
test_add_rows(void)
{
	static const int32_t row[] = {2, 0, 2, 4, 1, 3};
	static const float factor[] = {1, -0.5f, 2, 0.25f, 1, 3};
	float x[5 * MAX], y[MAX + 1];
	double expected[MAX];

	for (int l = 0; l < LENGTHS; l++)
	{
		int n = lengths[l];

		for (int i = 0; i < 5 * n; i++)
			x[i] = next_normal();
		for (int i = 0; i < n; i++)
		{
			expected[i] = y[i] = next_normal();
			for (int r = 0; r < 6; r++)
				expected[i] += (double) factor[r] * x[row[r] * n + i];
		}
		y[n] = 99;
		k->add_rows(x, row, factor, 0, y, n);
		k->add_rows(x, row, factor, 6, y, n);
		CHECK_CLOSE(y, expected, n, 1e-12);
		CHECK(y[n] == 99);
	}
}

/* Equal to the bit for every width, because encoders of all machines read the same rows. */
static void
test_bins(void)
{
	float x[] = {-INFINITY, -2, -0.0f, 0.3f, 7, INFINITY, NAN};
	float edge[MAX], inverse[MAX], y[MAX + 1];

	for (int i = 0; i < MAX; i++)
	{
		edge[i] = i * 0.04f - 1;
		inverse[i] = 1 / (0.01f + i % 5);
	}
	for (int at = 0; at < 7 * LENGTHS; at++)
	{
		int n = lengths[at / 7];

		y[n] = 9;
		k->bins(x[at % 7], edge, inverse, y, n);
		for (int i = 0; i < n; i++)
		{
			float part = (x[at % 7] - edge[i]) * inverse[i];

			part = part > 0 ? part : 0;
			CHECK(y[i] == (part < 1 ? part : 1) && !signbit(y[i]));
		}
		CHECK(y[n] == 9);
	}
}

static void
test_act_extremes(void)
{
	float x[] = {-INFINITY, -1e30f, -200, -0.0f, 0, 200, 1e30f, INFINITY, NAN};
	float y[9];

	for (int kind = ACT_RELU; kind <= ACT_SIGMOID; kind++)
	{
		k->act(kind, x, y, 9);
		for (int i = 1; i < 7; i++)
			CHECK(isfinite(y[i]));
		CHECK(isnan(y[8]));
		CHECK(kind == ACT_TANH ? y[1] == -1 : fabsf(y[1]) < 1e-6f);
	}
	k->act(ACT_SIGMOID, x, y, 9);
	CHECK(y[7] == 1 && y[4] == 0.5f);
}

static void
test_act_slope(void)
{
	float x[MAX], y[MAX], dy[MAX], dx[MAX];
	double expected[MAX];

	for (int kind = ACT_IDENTITY; kind <= ACT_SIGMOID; kind++)
		for (int l = 0; l < LENGTHS; l++)
			for (int accumulate = 0; accumulate <= 1; accumulate++)
			{
				int n = lengths[l];
				bool by_input = kind == ACT_GELU || kind == ACT_GELU_TANH || kind == ACT_SILU;

				for (int i = 0; i < n; i++)
				{
					double h = 1e-5;

					x[i] = 2 * next_normal();
					dy[i] = next_normal();
					dx[i] = next_normal();
					expected[i] = dy[i] * (reference_act(kind, x[i] + h) - reference_act(kind, x[i] - h)) / (2 * h) +
								  (accumulate ? dx[i] : 0);
				}
				k->act(kind, x, y, n);
				k->act_grad(kind, dy, by_input ? x : y, dx, accumulate, n);
				CHECK_CLOSE(dx, expected, n, 1e-10);
			}
}

static void
test_reductions(void)
{
	float buffer[MAX + 1], y[MAX];
	float *x = buffer + 1; /* unaligned */
	double e[MAX];

	for (int l = 0; l < LENGTHS; l++)
	{
		int n = lengths[l];
		double sum = 0, squares = 0, top = -INFINITY, exp_sum = 0;

		for (int i = 0; i < n; i++)
		{
			x[i] = 3 * next_normal();
			sum += x[i];
			squares += (double) x[i] * x[i];
			top = x[i] > top ? x[i] : top;
		}
		for (int i = 0; i < n; i++)
			exp_sum += e[i] = exp(x[i] - top);
		CHECK_NEAR(k->sum(x, n), sum, 1e-4);
		CHECK_NEAR(k->sum_squares(x, n), squares, 1e-5 * squares);
		CHECK_NEAR(k->max(x, n), top, 0);
		CHECK_NEAR(k->exp_sum(x, (float) top, y, n), exp_sum, 1e-6 * exp_sum);
		CHECK_CLOSE(y, e, n, 1e-12);
		CHECK_NEAR(k->exp_sum(x, (float) top, NULL, n), exp_sum, 1e-6 * exp_sum);
	}
}

/* Three rows of a low rank, the same bytes by every set of kernels. */
static void
check_low_rank(const simd_kernels *k, const float *a, float *y, int n)
{
	float rows[3 * MAX], weights[3] = {0.7f, -1.3f, 0.01f};

	for (int i = 0; i < 3 * n; i++)
		rows[i] = next_normal();
	k->add_low_rank(a, weights, 3, rows, n, y, n);
	for (int i = 0; i < n; i++)
	{
		double sum = a[i];

		for (int r = 0; r < 3; r++)
			sum += (double) weights[r] * rows[r * n + i];
		CHECK(y[i] == (float) sum);
	}
}

static void
test_elementwise(void)
{
	float a[MAX], b[MAX], y[MAX];
	double expected[MAX];

	for (int l = 0; l < LENGTHS; l++)
	{
		int n = lengths[l];

		for (int i = 0; i < n; i++)
		{
			a[i] = next_normal();
			b[i] = y[i] = next_normal();
			expected[i] = b[i] + 0.3 * a[i];
		}
		y[n] = 99;
		k->axpy(0.3f, a, y, n);
		CHECK_CLOSE(y, expected, n, 1e-13);
		for (int i = 0; i < n; i++)
			expected[i] = (double) a[i] + b[i];
		k->add(a, b, y, n);
		CHECK_CLOSE(y, expected, n, 1e-13);
		for (int i = 0; i < n; i++)
			expected[i] = -2.5 * a[i];
		k->scale(-2.5f, a, y, n);
		CHECK_CLOSE(y, expected, n, 1e-13);
		for (int i = 0; i < n; i++)
			expected[i] = 0.9 * b[i] + 0.1 * a[i];
		k->average(b, a, 0.9f, n);
		CHECK_CLOSE(b, expected, n, 1e-12);
		check_low_rank(k, a, y, n);
		CHECK(y[n] == 99);
	}
}

/* Errors against the sizes of the terms that were added, because a sum of them may be near zero. */
static void
check_sums(const float *y, const double *expected, const double *sizes, int count)
{
	double error = 0, size = 0;

	for (int i = 0; i < count; i++)
	{
		error += (y[i] - expected[i]) * (y[i] - expected[i]);
		size += sizes[i] * sizes[i];
	}
	CHECK(error <= 1e-13 * size);
}

/* A row of a product depends on none beside it. */
static void
check_alone(const simd_kernels *k, const float *x, int rows, int kk, const float *w, const float *bias,
			const float *y, int n)
{
	float alone[200];

	for (int r = 0; r < rows; r++)
	{
		k->gemv(x + r * kk, 1, kk, w, bias, alone, n, n);
		CHECK(memcmp(alone, y + r * n, n * sizeof(float)) == 0);
	}
}

/* y (rows, n) = x w^T + bias */
static void
test_products(void)
{
	enum
	{
		LONGEST = 775
	};
	static const int ks[] = {1, 3, 6, 16, 21, 108, 130, 300, LONGEST};
	float *x = malloc(200 * LONGEST * 4), *w = malloc(200 * LONGEST * 4), *y = malloc(200 * 200 * 4), bias[200];
	double *expected = malloc(200 * 200 * sizeof(double)), *sizes = malloc(200 * 200 * sizeof(double));

	for (int i = 0; i < 200 * LONGEST; i++)
	{
		x[i] = next_normal();
		w[i] = next_normal();
	}
	for (int i = 0; i < 200; i++)
		bias[i] = next_normal();
	for (int rows = 1; rows <= 60; rows = rows * 2 + 3)
		for (int n = 1; n <= 150; n = n * 2 + 1)
			for (int j = 0; j < 9; j++)
			{
				int kk = ks[j];

				for (int r = 0; r < rows; r++)
					for (int c = 0; c < n; c++)
					{
						double sum = bias[c], size = fabs(bias[c]);

						for (int i = 0; i < kk; i++)
						{
							sum += (double) x[r * kk + i] * w[c * kk + i];
							size += fabs((double) x[r * kk + i] * w[c * kk + i]);
						}
						expected[r * n + c] = sum;
						sizes[r * n + c] = size;
					}
				k->gemv(x, rows, kk, w, bias, y, n, n);
				check_sums(y, expected, sizes, rows * n);
				if (kk < LONGEST) /* which has an order of its own for few rows */
					check_alone(k, x, rows, kk, w, bias, y, n);
				for (int r = 0; r < rows; r++)
					memcpy(y + r * n, bias, n * sizeof(float));
				gemm_builtin(k, false, true, rows, n, kk, x, kk, w, kk, 1, y, n);
				check_sums(y, expected, sizes, rows * n);
			}
	free(x);
	free(w);
	free(y);
	free(expected);
	free(sizes);
}

/* All four forms of transposition, built-in against OpenBLAS when it is there. */
static void
test_transposed(void)
{
	enum
	{
		M = 53,
		N = 37,
		K = 141
	};
	float a[M * K], b[N * K], c[M * N], d[M * N];
	double expected[M * N];

	for (int i = 0; i < M * K; i++)
		a[i] = next_normal();
	for (int i = 0; i < N * K; i++)
		b[i] = next_normal();
	for (int form = 0; form < 4; form++)
	{
		bool ta = form & 1, tb = form & 2;

		for (int i = 0; i < M * N; i++)
			c[i] = d[i] = 1;
		for (int i = 0; i < M; i++)
			for (int j = 0; j < N; j++)
			{
				expected[i * N + j] = 0;
				for (int p = 0; p < K; p++)
					expected[i * N + j] +=
						(double) (ta ? a[p * M + i] : a[i * K + p]) * (tb ? b[j * K + p] : b[p * N + j]);
			}
		gemm_builtin(k, ta, tb, M, N, K, a, ta ? M : K, b, tb ? K : N, 0, c, N);
		gemm(k, ta, tb, M, N, K, a, ta ? M : K, b, tb ? K : N, 0, d, N);
		CHECK_CLOSE(c, expected, M * N, 1e-12);
		CHECK_CLOSE(d, expected, M * N, 1e-12);
	}
}

static void
test_layer_norm(void)
{
	float x[MAX], gamma[MAX], beta[MAX], y[MAX], stats[2];
	double expected[MAX];

	for (int l = 0; l < LENGTHS; l++)
	{
		int n = lengths[l];
		double mean = 0, variance = 0;

		for (int i = 0; i < n; i++)
		{
			x[i] = 5 + 2 * next_normal();
			gamma[i] = 1 + 0.2f * next_normal();
			beta[i] = next_normal();
			mean += (double) x[i] / n;
		}
		for (int i = 0; i < n; i++)
			variance += (x[i] - mean) * (x[i] - mean) / n;
		for (int i = 0; i < n; i++)
			expected[i] = (x[i] - mean) / sqrt(variance + 1e-5) * gamma[i] + beta[i];
		k->layer_norm(x, gamma, beta, 1e-5f, y, stats, n);
		CHECK_CLOSE(y, expected, n, n == 1 ? 1e-6 : 1e-11);
		CHECK_NEAR(stats[0], mean, 1e-5);
	}
}

/* Sums over rows that lie further apart than they are long, on top of what is there. */
static void
test_columns(void)
{
	enum
	{
		ROWS = 5,
		STEP = MAX + 3
	};
	static float x[ROWS * STEP], dy[ROWS * STEP];
	float stats[2 * ROWS], sum[MAX + 1], gamma[MAX + 1], beta[MAX + 1];
	double sums[MAX], gammas[MAX];

	for (int i = 0; i < ROWS * STEP; i++)
	{
		x[i] = next_normal();
		dy[i] = next_normal();
	}
	for (int i = 0; i < 2 * ROWS; i++)
		stats[i] = next_normal();
	for (int l = 0; l < LENGTHS; l++)
	{
		int n = lengths[l];

		/* Far from 0, where what cancels out would leave more than the rounding of its terms. */
		for (int i = 0; i <= n; i++)
			sum[i] = gamma[i] = beta[i] = 32;
		for (int i = 0; i < n; i++)
		{
			sums[i] = gammas[i] = 32;
			for (int r = 0; r < ROWS; r++)
			{
				sums[i] += dy[r * STEP + i];
				gammas[i] += (double) dy[r * STEP + i] * (x[r * STEP + i] - stats[2 * r]) * stats[2 * r + 1];
			}
		}
		k->column_sum(dy, ROWS, STEP, sum, n);
		CHECK_CLOSE(sum, sums, n, 1e-12);
		k->layer_norm_param(dy, x, stats, ROWS, STEP, gamma, beta, n);
		CHECK_CLOSE(gamma, gammas, n, 1e-12);
		CHECK_CLOSE(beta, sums, n, 1e-12);
		k->layer_norm_param(dy, x, stats, ROWS, STEP, gamma, NULL, n);
		CHECK(sum[n] == 32 && gamma[n] == 32 && beta[n] == 32);
	}
}

static void
test_transpose(void)
{
	float x[17 * 19], y[17 * 32];

	for (int i = 0; i < 17 * 19; i++)
		x[i] = next_normal();
	for (int rows = 1; rows <= 19; rows++)
		for (int columns = 1; columns <= 17; columns += 4)
		{
			int width = (rows + k->lanes - 1) / k->lanes * k->lanes;
			bool same = true;

			memset(y, 0xff, sizeof(y));
			k->transpose(x, 17, rows, columns, 2, y, width);
			for (int i = 0; i < columns * width; i++)
				same &= y[i] == (i % width < rows ? 2 * x[i % width * 17 + i / width] : 0);
			CHECK(same && (columns == 17 || isnan(y[columns * width])));
		}
}

/* The numbers of philox.h, whatever the width; about the right share is dropped. */
static void
test_dropout(void)
{
	dropout_key key = {0x123456789abcdefull, (uint64_t) 1 << 40 | 5, 3, 16384, 4.0f / 3};
	float x[4096], y[4096];
	uint32_t bits[4];
	int dropped = 0;

	for (int i = 0; i < 4096; i++)
		x[i] = 1;
	for (int l = 0; l <= LENGTHS; l++)
	{
		int n = l < LENGTHS ? lengths[l] : 4096;
		bool same = true;

		y[n < 4096 ? n : 0] = 77;
		k->dropout(x, y, &key, 1000, false, n);
		for (int i = 0; i < n; i++)
		{
			uint32_t word;

			philox(key.seed, key.step, key.stream, 1000 + i / 8, bits);
			word = bits[i % 8 / 2];
			same &= y[i] == ((i % 2 ? word >> 16 : word & 0xffff) >= key.threshold ? key.scale : 0);
		}
		CHECK(same && (n == 4096 || y[n] == 77));
	}
	for (int i = 0; i < 4096; i++)
		dropped += y[i] == 0;
	CHECK_NEAR(dropped / 4096.0, 0.25, 0.03);
}

static void
test_optimizers(void)
{
	float w[MAX], g[MAX], m[MAX], v[MAX];
	double we[MAX], me[MAX], ve[MAX];

	for (int l = 0; l < LENGTHS; l++)
	{
		int n = lengths[l];
		adamw_scalars s = {.learning_rate = 0.01f,
						   .decay = 0.999f,
						   .beta1 = 0.9f,
						   .beta2 = 0.99f,
						   .epsilon = 1e-6f,
						   .correction1 = 2.5f,
						   .correction2 = 7,
						   .gradient_scale = 0.5f};

		for (int i = 0; i < n; i++)
		{
			double gi;

			w[i] = next_normal();
			g[i] = next_normal();
			m[i] = next_normal();
			v[i] = next_uniform();
			gi = 0.5 * g[i];
			me[i] = (double) s.beta1 * m[i] + (1.0 - s.beta1) * gi;
			ve[i] = (double) s.beta2 * v[i] + (1.0 - s.beta2) * gi * gi;
			we[i] = (double) s.decay * w[i] - s.learning_rate * 2.5 * me[i] / (sqrt(7 * ve[i]) + 1e-6);
		}
		k->adamw(w, g, m, v, &s, n);
		CHECK_CLOSE(w, we, n, 1e-12);
		CHECK_CLOSE(m, me, n, 1e-12);
		CHECK_CLOSE(v, ve, n, 1e-12);
		for (int i = 0; i < n; i++)
		{
			me[i] = 0.8 * m[i] + 0.5 * g[i];
			we[i] = 0.999 * w[i] - 0.01 * me[i];
		}
		k->sgd(w, g, m, 0.8f, 0.5f, 0.01f, 0.999f, n);
		CHECK_CLOSE(m, me, n, 1e-12);
		CHECK_CLOSE(w, we, n, 1e-12);
	}
}

/* The published known-answer vectors of Philox 4x32-10. */
static void
test_philox(void)
{
	uint32_t out[4];

	philox(0, 0, 0, 0, out);
	CHECK(out[0] == 0x6627e8d5 && out[1] == 0xe169c58d && out[2] == 0xbc57ac4c && out[3] == 0x9b00dbd8);
	philox(UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX, out);
	CHECK(out[0] == 0x408f276d && out[1] == 0x41c83b0e && out[2] == 0xa20bc7c6 && out[3] == 0x6d5451fd);
}

int
main(void)
{
	int count;
	const simd_kernels *const *all = simd_all(&count);

	blas_open();
	test_philox();
	for (int i = 0; i < count; i++)
	{
		k = all[i];
		if (!k->supported())
			continue;
		test_act_error();
		test_act_extremes();
		test_bins();
		test_add_rows();
		test_act_slope();
		test_reductions();
		test_elementwise();
		test_products();
		test_transposed();
		test_layer_norm();
		test_columns();
		test_transpose();
		test_dropout();
		test_optimizers();
	}
	CHECK(simd_best()->supported());
	return test_summary();
}
