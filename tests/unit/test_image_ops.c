/*
 * test_image_ops.c
 *	  Operations on images against plain loops in double: y, the loss, and the gradient of
 *	  every parameter by finite differences of those loops; on each set of vector kernels.
 *
 * The chain is image -> 1 x 1 convolution -> operation -> mse, so that the gradient of
 * the first weights tests the operation's gradient of its input.
 */
#include "op_bench.h"

#define ROWS 5
#define MAX_FLOATS (1 << 16)
#define STEP 0x1p-19f /* small: largest of a window and rectifiers have kinks */

typedef enum kind
{
	CONV,
	CONV_BIAS,
	MAX_POOL,
	AVG_POOL,
	BATCH,
	GROUP
} kind;

typedef struct chain
{
	kind what;
	int h, w, c, mid, out; /* image, channels of x and y */
	window2d window;
	int groups;
	net_activation act;
} chain;

static double image[MAX_FLOATS], x[MAX_FLOATS], y[MAX_FLOATS];

static int
positions(const window2d *w, int axis, int inputs)
{
	return (inputs + 2 * w->padding[axis] - w->kernel[axis]) / w->stride[axis] + 1;
}

static double
plain_act(net_activation act, double u)
{
	return act == ACT_RELU ? fmax(u, 0) : act == ACT_SILU ? u / (1 + exp(-u)) : act == ACT_TANH ? tanh(u) : u;
}

/* out (h, w, n) of one image (h, w, c) with weights (kh, kw, c, n) */
static void
plain_conv(const double *in, int h, int w, int c, const float *weights, const float *bias, int n, const window2d *v,
		   double *out)
{
	int oh = positions(v, 0, h), ow = positions(v, 1, w);

	for (int i = 0; i < oh * ow * n; i++)
	{
		double sum = bias ? bias[i % n] : 0;

		for (int p = 0; p < v->kernel[0]; p++)
			for (int q = 0; q < v->kernel[1]; q++)
			{
				int r = i / n / ow * v->stride[0] + p - v->padding[0],
					s = i / n % ow * v->stride[1] + q - v->padding[1];

				for (int k = 0; k < c && r >= 0 && r < h && s >= 0 && s < w; k++)
					sum += in[(r * w + s) * c + k] * weights[((p * v->kernel[1] + q) * c + k) * n + i % n];
			}
		out[i] = sum;
	}
}

static void
plain_pool(const double *in, int h, int w, int c, const window2d *v, bool largest, double *out)
{
	int oh = positions(v, 0, h), ow = positions(v, 1, w);

	for (int i = 0; i < oh * ow * c; i++)
	{
		double sum = 0, top = -INFINITY;
		int count = 0;

		for (int p = 0; p < v->kernel[0]; p++)
			for (int q = 0; q < v->kernel[1]; q++)
			{
				int r = i / c / ow * v->stride[0] + p - v->padding[0],
					s = i / c % ow * v->stride[1] + q - v->padding[1];

				if (r < 0 || r >= h || s < 0 || s >= w)
					continue;
				sum += in[(r * w + s) * c + i % c];
				top = fmax(top, in[(r * w + s) * c + i % c]);
				count++;
			}
		out[i] = largest ? top : sum / count;
	}
}

/* Rows [first, last), channels [from, to) share statistics. */
static void
plain_norm(const chain *t, int first, int last, int from, int to, const float *gamma, const float *beta)
{
	int area = t->h * t->w;
	double sum = 0, squares = 0, count = (double) (last - first) * area * (to - from);

	for (int pass = 0; pass < 3; pass++)
		for (int i = first * area; i < last * area; i++)
			for (int k = from; k < to; k++)
			{
				double v = x[i * t->mid + k];

				if (pass == 0)
					sum += v / count;
				else if (pass == 1)
					squares += (v - sum) * (v - sum) / count;
				else
					y[i * t->mid + k] = plain_act(t->act, (v - sum) / sqrt(squares + 1e-5) * gamma[k] + beta[k]);
			}
}

/* Floats of one row of y. */
static int
output_floats(const chain *t)
{
	if (t->what == BATCH || t->what == GROUP)
		return t->h * t->w * t->mid;
	return positions(&t->window, 0, t->h) * positions(&t->window, 1, t->w) * t->out;
}

/* The whole chain in double; fills y. */
static double
plain_chain(const bench *b, const chain *t)
{
	int area = t->h * t->w, floats = output_floats(t);
	window2d point = {{1, 1}, {1, 1}, {0, 0}};
	double loss = 0;

	for (int r = 0; r < ROWS; r++)
	{
		for (int i = 0; i < area * t->c; i++)
			image[r * area * t->c + i] = F(*b, 0)[r * area * t->c + i % t->c * area + i / t->c];
		plain_conv(image + r * area * t->c, t->h, t->w, t->c, W(*b, 0), NULL, t->mid, &point, x + r * area * t->mid);
	}
	for (int r = 0; r < ROWS; r++)
		switch (t->what)
		{
			case CONV:
			case CONV_BIAS:
				plain_conv(x + r * area * t->mid, t->h, t->w, t->mid, W(*b, 1), t->what == CONV ? NULL : W(*b, 2),
						   t->out, &t->window, y + r * floats);
				break;
			case MAX_POOL:
			case AVG_POOL:
				plain_pool(x + r * area * t->mid, t->h, t->w, t->mid, &t->window, t->what == MAX_POOL,
						   y + r * floats);
				break;
			case BATCH:
				for (int k = 0; k < t->mid && r == 0; k++)
					plain_norm(t, 0, ROWS, k, k + 1, W(*b, 1), W(*b, 2));
				break;
			case GROUP:
				for (int k = 0; k < t->groups; k++)
					plain_norm(t, r, r + 1, k * t->mid / t->groups, (k + 1) * t->mid / t->groups, W(*b, 1), W(*b, 2));
				break;
		}
	for (int i = 0; i < ROWS * floats; i++)
		loss += (y[i] - F(*b, 1)[i]) * (y[i] - F(*b, 1)[i]) / floats / ROWS;
	return loss;
}

static int32_t
weights4(bench *b, int kh, int kw, int c, int n)
{
	int32_t t = parameter(b, kh * kw * c, n);

	if (t != TENSOR_NONE)
	{
		b->g->tensors[t].ndim = 4;
		memcpy(b->g->tensors[t].dims, (int64_t[]) {kh, kw, c, n}, 4 * sizeof(int64_t));
	}
	return t;
}

static int32_t
record_operation(bench *b, const chain *t, int32_t in)
{
	int32_t p, q, statistics, result;

	switch (t->what)
	{
		case CONV:
		case CONV_BIAS:
			p = weights4(b, t->window.kernel[0], t->window.kernel[1], t->mid, t->out);
			q = t->what == CONV ? TENSOR_NONE : parameter(b, t->out, 0);
			return op_conv2d(b->g, in, p, q, &t->window);
		case MAX_POOL: return op_max_pool(b->g, in, &t->window);
		case AVG_POOL: return op_avg_pool(b->g, in, &t->window);
		case BATCH:
		case GROUP:
			p = parameter(b, t->mid, 0);
			q = parameter(b, t->mid, 0);
			if (t->what == GROUP)
				return op_group_norm(b->g, in, p, q, t->groups, t->act);
			result = op_batch_norm(b->g, in, p, q, t->act, &statistics);
			graph_keep(b->g, statistics);
			return result;
	}
	return TENSOR_NONE;
}

/* Every parameter, or about 60 of them. */
static void
check_gradients(bench *b, const chain *t)
{
	for (int32_t i = 0; i < b->g->tensor_count; i++)
	{
		const tensor *p = &b->g->tensors[i];
		int64_t count = p->dims[0] * tensor_columns(p), step = 1 + count / 60, n = 0;
		float got[MAX_FLOATS / 8];
		double want[MAX_FLOATS / 8];

		if (p->role != ROLE_PARAM || !CHECK(p->gradient != TENSOR_NONE))
			continue;
		for (int64_t j = 0; j < count; j += step, n++)
		{
			float *at = W(*b, p->slot) + j;
			float before = *at;
			double up, down, step_taken;

			got[n] = ((float *) plan_address(b->p, p->gradient))[j];
			*at = before + STEP;
			step_taken = *at;
			up = plain_chain(b, t);
			*at = before - STEP;
			step_taken -= *at;
			down = plain_chain(b, t);
			want[n] = (up - down) / step_taken;
			*at = before;
		}
		CHECK_CLOSE(got, want, n, 1e-6);
	}
}

static void
test_chain(const simd_kernels *simd, const chain *t)
{
	bench b = bench_new();
	int floats = output_floats(t);
	int32_t dense = rows_input(&b, t->c * t->h * t->w);
	int32_t target = rows_input(&b, floats);
	int32_t weight = rows_input(&b, 0);
	int32_t w = weights4(&b, 1, 1, t->c, t->mid);
	int32_t out = op_conv2d(b.g, op_image(b.g, dense, t->c, t->h, t->w, NULL), w, TENSOR_NONE,
							&(window2d) {{1, 1}, {1, 1}, {0, 0}});
	int32_t loss;

	for (int i = 0; i < CAPACITY; i++)
		((float *) b.input[2])[i] = 1;
	out = record_operation(&b, t, out);
	graph_keep(b.g, out);
	loss = op_mse(b.g, op_flatten(b.g, out), target, weight, true);
	graph_backward(b.g);
	b.run.simd = simd;
	if (bench_run(&b, ROWS))
	{
		double sum = 0, want = plain_chain(&b, t);

		CHECK_CLOSE(plan_address(b.p, out), y, ROWS * floats, 1e-11);
		for (int i = 0; i < ROWS; i++)
			sum += ((float *) plan_address(b.p, loss))[i] / ROWS;
		CHECK_NEAR(sum, want, 1e-5 * want);
		check_gradients(&b, t);
	}
	bench_free(&b);
}

static const chain chains[] = {
	{CONV, 7, 6, 3, 4, 5, {{3, 3}, {1, 1}, {1, 1}}},
	{CONV_BIAS, 7, 6, 2, 3, 19, {{3, 3}, {1, 1}, {1, 1}}},
	{CONV_BIAS, 9, 20, 1, 1, 40, {{5, 3}, {1, 1}, {2, 1}}},
	{CONV, 5, 5, 2, 33, 16, {{1, 1}, {1, 1}, {0, 0}}},
	{CONV, 8, 7, 2, 5, 6, {{3, 3}, {2, 2}, {1, 1}}},
	{CONV_BIAS, 8, 7, 2, 5, 6, {{3, 2}, {2, 3}, {0, 1}}},
	{CONV, 6, 9, 2, 3, 4, {{1, 1}, {2, 3}, {0, 0}}}, /* inputs that nothing reads */
	{CONV, 2, 2, 2, 3, 4, {{5, 5}, {1, 1}, {2, 2}}}, /* no output has all taps */
	{CONV, 3, 40, 2, 3, 4, {{3, 4}, {1, 3}, {2, 3}}},
	{MAX_POOL, 6, 8, 2, 5, 5, {{2, 2}, {2, 2}, {0, 0}}},
	{MAX_POOL, 7, 7, 2, 20, 20, {{3, 3}, {2, 2}, {1, 1}}},
	{MAX_POOL, 7, 5, 2, 3, 3, {{2, 3}, {3, 1}, {1, 0}}},
	{AVG_POOL, 6, 8, 2, 5, 5, {{2, 2}, {2, 2}, {0, 0}}},
	{AVG_POOL, 7, 7, 2, 20, 20, {{3, 3}, {2, 2}, {1, 1}}},
	{AVG_POOL, 7, 5, 2, 33, 33, {{7, 5}, {1, 1}, {0, 0}}},
	{BATCH, 3, 4, 2, 5, 5, .act = ACT_IDENTITY},
	{BATCH, 5, 4, 2, 19, 19, .act = ACT_SILU},
	{BATCH, 1, 1, 2, 40, 40, .act = ACT_TANH},
	{GROUP, 3, 4, 2, 6, 6, .groups = 3, .act = ACT_IDENTITY},
	{GROUP, 5, 4, 2, 20, 20, .groups = 1, .act = ACT_TANH},
	{GROUP, 2, 4, 3, 36, 36, .groups = 4, .act = ACT_RELU},
};

/* Outputs of the running norm are those of y = act((x - mean) / deviation gamma + beta). */
static void
test_running_norm(void)
{
	enum
	{
		C = 21
	};
	bench b = bench_new();
	int32_t in = rows_input(&b, C);
	int32_t p[4];
	int32_t out;
	double want[CAPACITY * C];

	for (int i = 0; i < 4; i++)
		p[i] = parameter(&b, C, 0);
	for (int i = 0; i < C; i++)
		W(b, 3)[i] = fabsf(W(b, 3)[i]);
	out = op_running_norm(b.g, in, p[0], p[1], p[2], p[3], ACT_RELU);
	graph_keep(b.g, out);
	if (bench_run(&b, 11))
	{
		for (int i = 0; i < 11 * C; i++)
			want[i] = fmax(0, (F(b, 0)[i] - W(b, 2)[i % C]) / sqrt(W(b, 3)[i % C] + 1e-5) * W(b, 0)[i % C] +
								  W(b, 1)[i % C]);
		CHECK_CLOSE(plan_address(b.p, out), want, 11 * C, 1e-12);
	}
	bench_free(&b);
}

/* Mean and unbiased variance of the rows there are, for the running statistics. */
static void
test_statistics(void)
{
	enum
	{
		C = 3
	};
	bench b = bench_new();
	int32_t in = rows_input(&b, C);
	int32_t gamma = parameter(&b, C, 0);
	int32_t statistics;

	for (int i = 0; i < CAPACITY * C; i++)
		((float *) b.input[0])[i] += 1000;
	op_batch_norm(b.g, in, gamma, parameter(&b, C, 0), ACT_IDENTITY, &statistics);
	graph_keep(b.g, statistics);
	if (bench_run(&b, 9))
		for (int k = 0; k < C; k++)
		{
			const float *got = plan_address(b.p, statistics);
			double mean = 0, variance = 0;

			for (int i = 0; i < 9; i++)
				mean += F(b, 0)[i * C + k] / 9.0;
			for (int i = 0; i < 9; i++)
				variance += (F(b, 0)[i * C + k] - mean) * (F(b, 0)[i * C + k] - mean) / 8;
			CHECK_NEAR(got[k], mean, 1e-4);
			CHECK_NEAR(got[3 * C + k], variance, 1e-6 * variance);
		}
	bench_free(&b);
}

/* Each row is the image moved by some shift, the edge repeated; shifts differ, by step too. */
static void
test_shift(void)
{
	enum
	{
		H = 6,
		V = 5,
		S = 2,
		C = 2
	};
	int seen[2][2 * S + 1][2 * S + 1] = {0};

	for (int step = 0; step < 2; step++)
	{
		bench b = bench_new();
		int32_t dense = rows_input(&b, C * H * V + 3);
		int32_t out = op_image(b.g, dense, C, H, V, &(image_augment) {.shift = S});

		graph_keep(b.g, out);
		b.run.step = step;
		if (!bench_run(&b, CAPACITY))
			return;
		for (int i = 0; i < CAPACITY; i++)
		{
			const float *got = (float *) plan_address(b.p, out) + i * H * V * C;
			int matches = 0;

			for (int down = -S; down <= S; down++)
				for (int right = -S; right <= S; right++)
				{
					bool same = true;

					for (int j = 0; j < H * V * C; j++)
					{
						int h = j / C / V - down, w = j / C % V - right;

						h = h < 0 ? 0 : h >= H ? H - 1 : h;
						w = w < 0 ? 0 : w >= V ? V - 1 : w;
						same &= got[j] == F(b, 0)[i * (C * H * V + 3) + (j % C * H + h) * V + w];
					}
					matches += same;
					seen[step][down + S][right + S] += same;
				}
			CHECK_INT(matches, 1);
		}
		bench_free(&b);
	}
	CHECK(memcmp(seen[0], seen[1], sizeof(seen[0])) != 0);
}

/* Half of the images are mirrored, and a mirrored image is nothing else. */
static void
test_flip(void)
{
	enum
	{
		H = 3,
		V = 4,
		C = 2
	};
	bench b = bench_new();
	int32_t dense = rows_input(&b, C * H * V);
	int32_t out = op_image(b.g, dense, C, H, V, &(image_augment) {.flip = true});
	int mirrored = 0;

	graph_keep(b.g, out);
	if (!bench_run(&b, CAPACITY))
		return;
	for (int i = 0; i < CAPACITY; i++)
	{
		const float *got = (float *) plan_address(b.p, out) + i * H * V * C, *x = F(b, 0) + i * C * H * V;
		bool plain = true, turned = true;

		for (int j = 0; j < H * V * C; j++)
		{
			int h = j / C / V, w = j / C % V, c = j % C;

			plain &= got[j] == x[(c * H + h) * V + w];
			turned &= got[j] == x[(c * H + h) * V + V - 1 - w];
		}
		CHECK(plain != turned);
		mirrored += turned;
	}
	CHECK(mirrored > 0 && mirrored < CAPACITY);
	bench_free(&b);
}

/*
 * Bilinear interpolation is exact on a plane: a crop of one is the plane seen through a window of
 * the image, no side of which is shorter than the crop leaves.
 */
static void
test_crop(void)
{
	enum
	{
		H = 9,
		V = 12
	};
	const float crop = 0.4f;
	bench b = bench_new();
	int32_t dense = rows_input(&b, H * V);
	int32_t out = op_image(b.g, dense, 1, H, V, &(image_augment) {.crop = crop});
	float narrowest = 1;

	graph_keep(b.g, out);
	for (int i = 0; i < CAPACITY * H * V; i++)
		((float *) F(b, 0))[i] = (float) (i / V % H) + 100 * (float) (i % V);
	if (!bench_run(&b, CAPACITY))
		return;
	for (int i = 0; i < CAPACITY; i++)
	{
		const float *got = (float *) plan_address(b.p, out) + i * H * V;
		/* Inside the image the plane rises by the window's share from pixel to pixel. */
		float across = (got[4 * V + 7] - got[4 * V + 4]) / 300, down = (got[5 * V + 6] - got[3 * V + 6]) / 2;

		CHECK(across >= 1 - crop - 1e-5f && across <= 1 + 1e-5f);
		CHECK(down >= 1 - crop - 1e-3f && down <= 1 + 1e-3f);
		CHECK(got[0] >= -1e-3f && got[H * V - 1] <= H - 1 + 100 * (V - 1) + 1e-3f);
		narrowest = across < narrowest ? across : narrowest;
	}
	CHECK(narrowest < 1);
	bench_free(&b);
}

/* The last dimension of images, forward and back. */
static void
test_concat(void)
{
	bench b = bench_new();
	window2d v = {{1, 1}, {1, 1}, {0, 0}};
	int32_t dense = rows_input(&b, 12);
	int32_t weight = rows_input(&b, 0);
	int32_t target = rows_input(&b, 42);
	int32_t im = op_image(b.g, dense, 2, 2, 3, NULL);
	int32_t p = op_conv2d(b.g, im, weights4(&b, 1, 1, 2, 3), TENSOR_NONE, &v);
	int32_t q = op_conv2d(b.g, im, weights4(&b, 1, 1, 2, 4), TENSOR_NONE, &v);
	int32_t both = op_concat(b.g, p, q);
	int32_t flat = op_flatten(b.g, both);
	int32_t d[3];

	op_mse(b.g, flat, target, weight, true);
	graph_backward(b.g);
	for (int i = 0; i < 3; i++)
	{
		int32_t t = (int32_t[]) {p, q, both}[i];

		d[i] = b.g->tensors[t].gradient;
		graph_keep(b.g, t);
		graph_keep(b.g, d[i]);
	}
	if (bench_run(&b, ROWS))
		for (int i = 0; i < ROWS * 6 * 7; i++)
			for (int side = 0; side < 2; side++)
			{
				const float *all = plan_address(b.p, side ? d[2] : both);
				const float *part = plan_address(b.p, i % 7 < 3 ? (side ? d[0] : p) : (side ? d[1] : q));

				CHECK(all[i] == part[i % 7 < 3 ? i / 7 * 3 + i % 7 : i / 7 * 4 + i % 7 - 3]);
			}
	bench_free(&b);
}

/* A few layers on images large enough for several tiles; gradients do not depend on threads. */
static void
test_threads(void)
{
	llm_error err = {0};
	float *first = NULL;
	size_t bytes = 0;

	for (int threads = 1; threads <= 3; threads++)
	{
		bench b;
		int32_t h, statistics, gamma, dense, target, weight;
		window2d v = {{3, 3}, {1, 1}, {1, 1}}, pool = {{2, 2}, {2, 2}, {0, 0}};
		size_t at = 0;
		float *all = calloc(1 << 16, sizeof(float));

		fixture_counter = 0;
		b = bench_new();
		dense = rows_input(&b, 3 * 20 * 20);
		target = rows_input(&b, 10 * 10 * 24);
		weight = rows_input(&b, 0);
		h = op_image(b.g, dense, 3, 20, 20, &(image_augment) {.shift = 1});
		h = op_conv2d(b.g, h, weights4(&b, 3, 3, 3, 16), TENSOR_NONE, &v);
		gamma = parameter(&b, 16, 0);
		h = op_batch_norm(b.g, h, gamma, parameter(&b, 16, 0), ACT_RELU, &statistics);
		h = op_max_pool(b.g, h, &pool);
		h = op_conv2d(b.g, h, weights4(&b, 3, 3, 16, 24), parameter(&b, 24, 0), &v);
		gamma = parameter(&b, 24, 0);
		h = op_group_norm(b.g, h, gamma, parameter(&b, 24, 0), 4, ACT_GELU);
		op_mse(b.g, op_flatten(b.g, h), target, weight, true);
		graph_backward(b.g);
		b.run.pool = pool_new(threads, &err);
		if (bench_run(&b, 37))
			for (int32_t i = 0; i < b.g->tensor_count; i++)
			{
				const tensor *p = &b.g->tensors[i];

				if (p->role != ROLE_PARAM)
					continue;
				memcpy(all + at, plan_address(b.p, p->gradient), p->dims[0] * tensor_columns(p) * sizeof(float));
				at += p->dims[0] * tensor_columns(p);
			}
		CHECK(at > 0 && isfinite(all[0]) && all[0] != 0);
		if (first == NULL)
		{
			first = all;
			bytes = at * sizeof(float);
		}
		else
		{
			CHECK_BYTES(first, all, bytes);
			free(all);
		}
		pool_free(b.run.pool);
		bench_free(&b);
	}
	free(first);
}

#define REFUSED(record) \
	do \
	{ \
		bench b = bench_new(); \
		int32_t dense = rows_input(&b, 50); \
		int32_t im = op_image(b.g, dense, 2, 5, 5, NULL); \
		llm_error err = {0}; \
		CHECK_INT(record, TENSOR_NONE); \
		CHECK(im != TENSOR_NONE && !graph_ok(b.g, &err)); \
		CHECK_INT(err.code, LLM_INVALID); \
		graph_free(b.g); \
		bench_free(&b); \
	} while (0)

static void
test_refused(void)
{
	window2d v = {{3, 3}, {1, 1}, {1, 1}}, large = {{8, 3}, {1, 1}, {1, 1}}, deep = {{3, 3}, {1, 1}, {3, 1}},
			 still = {{3, 3}, {1, 0}, {1, 1}};

	REFUSED(op_image(b.g, dense, 3, 5, 5, NULL));
	REFUSED(op_image(b.g, im, 0, 5, 5, NULL));
	REFUSED(op_columns(b.g, dense, 48, 3));
	REFUSED(op_conv2d(b.g, im, weights4(&b, 3, 3, 3, 4), TENSOR_NONE, &v));
	REFUSED(op_conv2d(b.g, im, weights4(&b, 3, 2, 2, 4), TENSOR_NONE, &v));
	REFUSED(op_conv2d(b.g, im, weights4(&b, 3, 3, 2, 4), parameter(&b, 3, 0), &v));
	REFUSED(op_conv2d(b.g, dense, weights4(&b, 3, 3, 2, 4), TENSOR_NONE, &v));
	REFUSED(op_max_pool(b.g, im, &large));
	REFUSED(op_max_pool(b.g, im, &deep));
	REFUSED(op_avg_pool(b.g, im, &still));
	REFUSED(op_avg_pool(b.g, dense, &v));
	REFUSED(op_group_norm(b.g, im, parameter(&b, 2, 0), parameter(&b, 2, 0), 3, ACT_RELU));
	REFUSED(op_group_norm(b.g, im, parameter(&b, 3, 0), parameter(&b, 2, 0), 1, ACT_RELU));
}

int
main(void)
{
	int count;
	const simd_kernels *const *all = simd_all(&count);

	blas_open();
	for (int k = 0; k < count; k++)
		for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]) && all[k]->supported(); i++)
			test_chain(all[k], &chains[i]);
	test_running_norm();
	test_statistics();
	test_shift();
	test_flip();
	test_crop();
	test_concat();
	test_threads();
	test_refused();
	return test_summary();
}
