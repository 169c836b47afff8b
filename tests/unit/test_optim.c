/*
 * test_optim.c
 *	  Optimizer steps over several tensors against a double-precision reference, the
 *	  thread pool, and products called from several threads at once.
 */
#include "../../src/engine/blas.h"
#include "../../src/engine/optim.h"
#include "../../src/engine/plan.h"
#include "fixture.h"

#define COUNT 50000 /* several tiles */
#define WIDTH 10

/* Tensor 0 is dense with decay, tensor 1 dense without, tensor 2 has rows 3 and 40 of 100 used. */
static void
test_steps(train_optimizer kind, double clip)
{
	static float w[COUNT * 2], g[COUNT * 2], m[COUNT * 2], v[COUNT * 2];
	static double we[COUNT * 2], me[COUNT * 2], ve[COUNT * 2];
	static const int32_t used[] = {2, 3, 40};
	int32_t sparse_at = COUNT + 1600;
	optim_tensor tensors[] = {
		{0, 500, 100, true, g, NULL},
		{COUNT, 1, 1500, false, g + COUNT, NULL},
		{COUNT + 1600, 100, WIDTH, true, g + COUNT + 1600, used},
	};
	train_config c = small_training(1);
	llm_error err = {0};
	optim *o = optim_new(tensors, 3, &err);
	pool *p = pool_new(2, &err);

	check_no_error(&err);
	for (int i = 0; i < COUNT * 2; i++)
	{
		w[i] = next_normal();
		we[i] = w[i];
		m[i] = v[i] = 0;
		me[i] = ve[i] = 0;
	}
	for (int step = 1; step <= 3; step++)
	{
		optim_update u = {.config = &c,
						  .step = step,
						  .learning_rate = 0.01 * step,
						  .gradient_scale = 1,
						  .weights = w,
						  .moments = {m, v}};
		double norm = 0, got, scale;

		c.optimizer = kind;
		for (int i = 0; i < COUNT * 2; i++)
			g[i] = 0.1f * next_normal();
		for (int i = 0; i < COUNT + 1500; i++)
			norm += (double) g[i] * g[i];
		for (int i = 0; i < 2 * WIDTH; i++)
			norm += (double) g[sparse_at + i] * g[sparse_at + i];
		got = optim_norm(o, simd_best(), p);
		CHECK_NEAR(got, sqrt(norm), 1e-6 * sqrt(norm));
		scale = clip > 0 && got > clip ? clip / got : 1;
		u.gradient_scale = scale;
		optim_apply(o, &u, simd_best(), p);
		for (int i = 0; i < COUNT + 1600 + 100 * WIDTH; i++)
		{
			int row = (i - sparse_at) / WIDTH;
			double gi = g[i] * scale, decay = 1 - u.learning_rate * c.weight_decay;

			if (i >= COUNT + 1500 && (i < sparse_at || (row != 3 && row != 40)))
				continue;
			if (i >= sparse_at)
				gi = g[sparse_at + (row == 40) * WIDTH + (i - sparse_at) % WIDTH] * scale;
			if (i >= COUNT && i < COUNT + 1500)
				decay = 1;
			if (kind == OPT_ADAMW)
			{
				me[i] = c.beta1 * me[i] + (1 - c.beta1) * gi;
				ve[i] = c.beta2 * ve[i] + (1 - c.beta2) * gi * gi;
				we[i] = decay * we[i] - u.learning_rate * (me[i] / (1 - pow(c.beta1, step))) /
											(sqrt(ve[i] / (1 - pow(c.beta2, step))) + c.epsilon);
			}
			else
			{
				me[i] = c.momentum * me[i] + gi;
				we[i] = decay * we[i] - u.learning_rate * me[i];
			}
		}
		CHECK_CLOSE(w, we, COUNT * 2, 1e-12);
		CHECK_CLOSE(m, me, COUNT * 2, 1e-10);
	}
	pool_free(p);
	optim_free(o);
}

/* ---- pool ---- */

typedef struct pool_job
{
	int32_t done[1000];
	int limit;
} pool_job;

static void
mark_tile(void *arg, int64_t tile)
{
	((pool_job *) arg)->done[tile]++;
}

static bool
stop_at_third(void *arg)
{
	return ++((pool_job *) arg)->limit > 3;
}

static void
test_pool(void)
{
	llm_error err = {0};

	for (int threads = 1; threads <= 4; threads++)
	{
		pool *p = pool_new(threads, &err);
		bool once = true;

		for (int round = 0; round < 300; round++)
		{
			pool_job job = {{0}};
			int tiles = 1 + round * 3;

			CHECK(pool_run(p, mark_tile, &job, tiles, NULL, NULL));
			for (int i = 0; i < 1000; i++)
				once &= job.done[i] == (i < tiles);
		}
		CHECK(once);
		for (int round = 0; round < 20; round++)
		{
			pool_job job = {{0}};
			int total = 0;

			if (!pool_run(p, mark_tile, &job, 1000, stop_at_third, &job))
				total = -1;
			for (int i = 0; i < 1000; i++)
				once &= job.done[i] <= 1;
			CHECK(once && (total == -1 || threads > 1));
		}
		pool_free(p);
	}
}

/* ---- products from several threads ---- */

typedef struct product_job
{
	const float *a, *b;
	float *c; /* (tiles, 64, 48) */
} product_job;

static void
product_tile(void *arg, int64_t tile)
{
	product_job *j = arg;

	gemm(simd_best(), false, true, 64, 48, 100, j->a + tile % 4 * 64 * 100, 100, j->b, 100, 0, j->c + tile * 64 * 48,
		 48);
}

/* Every call, in whatever thread, gives the bytes of a call that runs alone. */
static void
test_concurrent_products(void)
{
	enum
	{
		TILES = 400
	};
	llm_error err = {0};
	float *a = malloc(4 * 64 * 100 * sizeof(float)), *b = malloc(48 * 100 * sizeof(float));
	float *alone = malloc(4 * 64 * 48 * sizeof(float)), *c = malloc(TILES * 64 * 48 * sizeof(float));
	product_job job = {a, b, alone};
	bool same = true;
	pool *p = pool_new(4, &err);

	for (int i = 0; i < 4 * 64 * 100; i++)
		a[i] = next_normal();
	for (int i = 0; i < 48 * 100; i++)
		b[i] = next_normal();
	for (int i = 0; i < 4; i++)
		product_tile(&job, i);
	job.c = c;
	for (int round = 0; round < 5; round++)
	{
		memset(c, 0, TILES * 64 * 48 * sizeof(float));
		pool_run(p, product_tile, &job, TILES, NULL, NULL);
		for (int i = 0; i < TILES; i++)
			same &= memcmp(c + i * 64 * 48, alone + i % 4 * 64 * 48, 64 * 48 * sizeof(float)) == 0;
	}
	CHECK(same);
	pool_free(p);
	free(a);
	free(b);
	free(c);
	free(alone);
}

int
main(void)
{
	if (!blas_open())
		printf("OpenBLAS is not installed: %s product\n", blas_name());
	CHECK(getenv("OPENBLAS_NUM_THREADS") == NULL);
	test_steps(OPT_ADAMW, 0);
	test_steps(OPT_ADAMW, 2);
	test_steps(OPT_SGD, 2);
	test_pool();
	test_concurrent_products();
	return test_summary();
}
