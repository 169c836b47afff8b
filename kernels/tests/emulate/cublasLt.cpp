/*
 * cublasLt.cpp
 *	  Matrix products by a plain loop in double, as cublasLt.h here says.
 */
#include "cublasLt.h"

#include <vector>

struct emulate_handle
{
	int unused;
};

struct emulate_desc
{
	cublasOperation_t turn_a, turn_b;
	cublasLtEpilogue_t epilogue;
	const float *bias;
	bool tf32; /* the last 13 bits of numbers are not read */
};

struct emulate_layout
{
	cudaDataType type;
	int64_t rows, columns, ld;
};

struct emulate_preference
{
	size_t workspace;
	uint32_t alignment[4]; /* of a, b, c, d */
};

cublasStatus_t
cublasLtCreate(cublasLtHandle_t *h)
{
	*h = new emulate_handle;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtDestroy(cublasLtHandle_t h)
{
	delete h;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType scale)
{
	*d = new emulate_desc {CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL,
						   compute == CUBLAS_COMPUTE_32F_FAST_TF32};
	return scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t
cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
	delete d;
	return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t
set(void *to, size_t room, const void *value, size_t bytes)
{
	if (bytes != room)
		return CUBLAS_STATUS_INVALID_VALUE;
	memcpy(to, value, bytes);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t which, const void *value,
							   size_t bytes)
{
	switch (which)
	{
		case CUBLASLT_MATMUL_DESC_TRANSA: return set(&d->turn_a, sizeof(d->turn_a), value, bytes);
		case CUBLASLT_MATMUL_DESC_TRANSB: return set(&d->turn_b, sizeof(d->turn_b), value, bytes);
		case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&d->epilogue, sizeof(d->epilogue), value, bytes);
		default: return set(&d->bias, sizeof(d->bias), value, bytes);
	}
}

cublasStatus_t
cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld)
{
	*l = new emulate_layout {type, (int64_t) rows, (int64_t) columns, ld};
	return rows > 0 && columns > 0 && ld >= (int64_t) rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t
cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
	delete l;
	return CUBLAS_STATUS_SUCCESS;
}

/* What cuBLASLt assumes unless told otherwise. */
cublasStatus_t
cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
	*p = new emulate_preference {0, {256, 256, 256, 256}};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
	delete p;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t which,
									 const void *value, size_t bytes)
{
	if (which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
		return set(&p->workspace, sizeof(p->workspace), value, bytes);
	return set(&p->alignment[which - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], sizeof(uint32_t), value, bytes);
}

static bool
fits(const emulate_desc *d, const emulate_layout *a, const emulate_layout *b, const emulate_layout *c)
{
	int64_t m = d->turn_a ? a->columns : a->rows, k = d->turn_a ? a->rows : a->columns;
	int64_t n = d->turn_b ? b->rows : b->columns, of_b = d->turn_b ? b->columns : b->rows;

	return m == c->rows && n == c->columns && k == of_b && a->type == b->type && c->type == CUDA_R_32F &&
		   (d->epilogue != CUBLASLT_EPILOGUE_BIAS || d->bias);
}

/* An algorithm remembers what it was chosen for. */
cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
							   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t to,
							   cublasLtMatmulPreference_t p, int most, cublasLtMatmulHeuristicResult_t *result,
							   int *found)
{
	*found = fits(d, a, b, c) && most > 0;
	result->algo = (cublasLtMatmulAlgo_t) {{(uint64_t) (uintptr_t) d, (uint64_t) (uintptr_t) a,
											(uint64_t) (uintptr_t) b, (uint64_t) (uintptr_t) c, p->workspace,
											p->alignment[0] | (uint64_t) p->alignment[1] << 32,
											p->alignment[2] | (uint64_t) p->alignment[3] << 32, 0}};
	return *found ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

static double
element(const emulate_desc *d, const emulate_layout *l, cublasOperation_t turn, const void *x, int64_t row,
		int64_t column)
{
	int64_t i = turn ? column + row * l->ld : row + column * l->ld;

	return __uint_as_float(l->type == CUDA_R_16BF ? (unsigned) ((const uint16_t *) x)[i] << 16
												  : ((const unsigned *) x)[i] & (d->tf32 ? ~0x1fffu : ~0u));
}

static void
multiply(emulate_desc d, emulate_layout a, emulate_layout b, emulate_layout c, const void *x, const void *y,
		 float alpha, float beta, float *z)
{
	int64_t k = d.turn_a ? a.rows : a.columns;
	std::vector<double> sum(c.rows), column(k);

	for (int64_t j = 0; j < c.columns; j++)
	{
		sum.assign(c.rows, 0.0);
		for (int64_t p = 0; p < k; p++)
			column[p] = element(&d, &b, d.turn_b, y, p, j);
		if (d.turn_a)
			for (int64_t i = 0; i < c.rows; i++)
				for (int64_t p = 0; p < k; p++)
					sum[i] += element(&d, &a, CUBLAS_OP_T, x, i, p) * column[p];
		else
			for (int64_t p = 0; p < k; p++)
				for (int64_t i = 0; i < c.rows; i++)
					sum[i] += element(&d, &a, CUBLAS_OP_N, x, i, p) * column[p];
		for (int64_t i = 0; i < c.rows; i++)
		{
			float *to = z + i + j * c.ld;

			*to = (float) (alpha * sum[i] + (d.epilogue == CUBLASLT_EPILOGUE_BIAS ? d.bias[i] : 0) +
						   (beta != 0 ? beta * (double) *to : 0));
		}
	}
}

static bool
is_aligned(const void *x, uint64_t alignment)
{
	return (uintptr_t) x % (uint32_t) alignment == 0;
}

cublasStatus_t
cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
			   cublasLtMatrixLayout_t layout_a, const void *b, cublasLtMatrixLayout_t layout_b, const void *beta,
			   const void *c, cublasLtMatrixLayout_t layout_c, void *to, cublasLtMatrixLayout_t layout_to,
			   const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes, cudaStream_t s)
{
	const uint64_t *chosen = algorithm->data;
	emulate_desc desc = *d;
	emulate_layout of_a = *layout_a, of_b = *layout_b, of_c = *layout_c;
	float times = *(const float *) alpha, plus = *(const float *) beta;

	if (chosen[0] != (uintptr_t) d || chosen[1] != (uintptr_t) layout_a || chosen[2] != (uintptr_t) layout_b ||
		chosen[3] != (uintptr_t) layout_c || c != to || chosen[4] > workspace_bytes || !is_aligned(a, chosen[5]) ||
		!is_aligned(b, chosen[5] >> 32) || !is_aligned(to, chosen[6] >> 32) || !fits(d, layout_a, layout_b, layout_c))
		return CUBLAS_STATUS_INVALID_VALUE;
	emulate_enqueue(s, [=]() { multiply(desc, of_a, of_b, of_c, a, b, times, plus, (float *) to); });
	return CUBLAS_STATUS_SUCCESS;
}
