/*
 * gemm.cpp
 *	  Stands in for gemm.cu: matrix products by a plain loop in double.
 */
#include "../../gemm.h"

#include <vector>

struct gemm_device
{
	int unused;
};

/* Products of a program are counted, so that those of its runs are seen to be those of its making. */
struct gemm_set
{
	std::vector<gemm_shape> shapes;
	size_t next;
};

gemm_device *
gemm_device_new(const char **what)
{
	return new gemm_device;
}

void
gemm_device_free(gemm_device *d)
{
	delete d;
}

gemm_set *
gemm_set_new(gemm_device *d)
{
	return new gemm_set();
}

void
gemm_set_free(gemm_set *s)
{
	delete s;
}

void
gemm_set_restart(gemm_set *s)
{
	s->next = 0;
}

static float
element(const void *x, bool bf16, int64_t i)
{
	return bf16 ? __uint_as_float((unsigned) ((const uint16_t *) x)[i] << 16) : ((const float *) x)[i];
}

static void
multiply(const gemm_shape *s, const void *a, const void *b, const float *bias, float beta, float *c)
{
	for (int64_t i = 0; i < s->m; i++)
	{
		std::vector<double> sum(s->n, 0.0);

		for (int64_t p = 0; p < s->k; p++)
		{
			double x = element(a, s->bf16, s->transpose_a ? p * s->m + i : i * s->k + p);

			for (int64_t j = 0; j < s->n; j++)
				sum[j] += x * element(b, s->bf16, s->transpose_b ? j * s->k + p : p * s->n + j);
		}
		for (int64_t j = 0; j < s->n; j++)
			c[i * s->n + j] = (float) (sum[j] + (bias ? bias[j] : 0) + (beta != 0 ? (double) c[i * s->n + j] : 0));
	}
}

void
gemm_enqueue(launch *l, const gemm_shape *s, const void *a, const void *b, const float *bias, float beta, float *c)
{
	gemm_set *set = l->gemms;
	gemm_shape shape = *s;

	if (l->measure)
	{
		set->shapes.push_back(shape);
		return;
	}
	if (set->next >= set->shapes.size() || memcmp(&set->shapes[set->next++], s, sizeof(shape)) != 0)
		l->what = "a product is none of those that were planned";
	emulate_enqueue([=]() { multiply(&shape, a, b, bias, beta, c); });
}
