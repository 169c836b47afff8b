/*
 * gemm.cu
 *	  Matrix products by cuBLASLt.
 *
 * cuBLASLt counts columns first, so a row-major product c = op(a) op(b) is asked for as its transpose:
 * the first matrix is b, and a bias along rows of what it calls the result is one along our columns.
 * Algorithms are those that its heuristic puts first, kept from when the program was made; none uses
 * atomics in sums, so on one kind of device the same product makes the same bytes.
 */
#include <cublasLt.h>
#include <stdlib.h>

#include "gemm.h"

#define WORKSPACE ((size_t) 32 << 20) /* what Hopper's algorithms want */

struct gemm_device
{
	cublasLtHandle_t handle;
	void *workspace;
};

typedef struct product
{
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t a, b, c;
	cublasLtMatmulAlgo_t algorithm;
} product;

struct gemm_set
{
	gemm_device *device;
	product *products;
	int count, room, next;
};

gemm_device *
gemm_device_new(const char **what)
{
	gemm_device *d = (gemm_device *) calloc(1, sizeof(gemm_device));

	if (!d || cublasLtCreate(&d->handle) != CUBLAS_STATUS_SUCCESS ||
		cudaMalloc(&d->workspace, WORKSPACE) != cudaSuccess)
	{
		*what = "cuBLASLt does not start";
		gemm_device_free(d);
		return NULL;
	}
	return d;
}

void
gemm_device_free(gemm_device *d)
{
	if (!d)
		return;
	cudaFree(d->workspace);
	if (d->handle)
		cublasLtDestroy(d->handle);
	free(d);
}

gemm_set *
gemm_set_new(gemm_device *d)
{
	gemm_set *s = (gemm_set *) calloc(1, sizeof(gemm_set));

	if (s)
		s->device = d;
	return s;
}

static void
free_product(product *p)
{
	if (p->a)
		cublasLtMatrixLayoutDestroy(p->a);
	if (p->b)
		cublasLtMatrixLayoutDestroy(p->b);
	if (p->c)
		cublasLtMatrixLayoutDestroy(p->c);
	if (p->desc)
		cublasLtMatmulDescDestroy(p->desc);
}

void
gemm_set_free(gemm_set *s)
{
	if (!s)
		return;
	for (int i = 0; i < s->count; i++)
		free_product(&s->products[i]);
	free(s->products);
	free(s);
}

void
gemm_set_restart(gemm_set *s)
{
	s->next = 0;
}

/* Bytes of which an address is a multiple, at most 256. */
static uint32_t
alignment_of(const void *address)
{
	uintptr_t bits = (uintptr_t) address | 256;

	return (uint32_t) (bits & -bits);
}

static bool
describe(product *p, const gemm_shape *s, const float *bias)
{
	cublasOperation_t turn_a = s->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasOperation_t turn_b = s->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
	cudaDataType_t type = s->bf16 ? CUDA_R_16BF : CUDA_R_32F;
	cublasComputeType_t compute = s->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
	uint64_t n = s->n, m = s->m, k = s->k, c_step = s->c_step > 0 ? s->c_step : s->n;

	return cublasLtMatmulDescCreate(&p->desc, compute, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
		   cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &turn_a, sizeof(turn_a)) ==
			   CUBLAS_STATUS_SUCCESS &&
		   cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &turn_b, sizeof(turn_b)) ==
			   CUBLAS_STATUS_SUCCESS &&
		   (!bias || (cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
													 sizeof(epilogue)) == CUBLAS_STATUS_SUCCESS &&
					  cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
													 sizeof(bias)) == CUBLAS_STATUS_SUCCESS)) &&
		   cublasLtMatrixLayoutCreate(&p->a, type, s->transpose_b ? k : n, s->transpose_b ? n : k,
									  s->transpose_b ? k : n) == CUBLAS_STATUS_SUCCESS &&
		   cublasLtMatrixLayoutCreate(&p->b, type, s->transpose_a ? m : k, s->transpose_a ? k : m,
									  s->transpose_a ? m : k) == CUBLAS_STATUS_SUCCESS &&
		   cublasLtMatrixLayoutCreate(&p->c, CUDA_R_32F, n, m, c_step) == CUBLAS_STATUS_SUCCESS;
}

static bool
set_preference(cublasLtMatmulPreference_t preference, const void *a, const void *b, const float *c)
{
	size_t workspace = WORKSPACE;
	uint32_t align_a = alignment_of(b), align_b = alignment_of(a), align_c = alignment_of(c);

	return cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
												sizeof(workspace)) == CUBLAS_STATUS_SUCCESS &&
		   cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align_a,
												sizeof(align_a)) == CUBLAS_STATUS_SUCCESS &&
		   cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align_b,
												sizeof(align_b)) == CUBLAS_STATUS_SUCCESS &&
		   cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align_c,
												sizeof(align_c)) == CUBLAS_STATUS_SUCCESS &&
		   cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align_c,
												sizeof(align_c)) == CUBLAS_STATUS_SUCCESS;
}

static bool
choose(product *p, const gemm_device *d, const void *a, const void *b, const float *c)
{
	cublasLtMatmulPreference_t preference;
	cublasLtMatmulHeuristicResult_t result;
	int found = 0;
	bool ok;

	if (cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
		return false;
	ok = set_preference(preference, a, b, c) &&
		 cublasLtMatmulAlgoGetHeuristic(d->handle, p->desc, p->a, p->b, p->c, p->c, preference, 1, &result, &found) ==
			 CUBLAS_STATUS_SUCCESS &&
		 found > 0;
	if (ok)
		p->algorithm = result.algo;
	cublasLtMatmulPreferenceDestroy(preference);
	return ok;
}

static void
add_product(gemm_set *set, launch *l, const gemm_shape *s, const void *a, const void *b, const float *bias,
			const float *c)
{
	product *p;

	if (set->count == set->room)
	{
		int room = set->room ? 2 * set->room : 64;
		product *bigger = (product *) realloc(set->products, room * sizeof(product));

		if (!bigger)
		{
			l->what = "out of memory";
			return;
		}
		set->products = bigger;
		set->room = room;
	}
	p = &set->products[set->count++];
	*p = (product) {};
	if (!describe(p, s, bias) || !choose(p, set->device, a, b, c))
		l->what = "cuBLASLt has no algorithm for a matrix product";
}

void
gemm_enqueue(launch *l, const gemm_shape *s, const void *a, const void *b, const float *bias, float beta, float *c)
{
	const float one = 1;
	gemm_set *set = l->gemms;
	product *p;

	if (l->what || l->error != cudaSuccess)
		return;
	if (l->measure)
	{
		add_product(set, l, s, a, b, bias, c);
		return;
	}
	p = &set->products[set->next++];
	if (cublasLtMatmul(set->device->handle, p->desc, &one, b, p->a, a, p->b, &beta, c, p->c, c, p->c, &p->algorithm,
					   set->device->workspace, WORKSPACE, l->stream) != CUBLAS_STATUS_SUCCESS)
		l->what = "a matrix product of cuBLASLt failed";
}
