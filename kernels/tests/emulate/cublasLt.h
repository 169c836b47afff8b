/*
 * cublasLt.h
 *	  Stands in for cuBLASLt's header: the part that gemm.cu calls, with its meaning.
 *
 * Matrices count columns first.  The product is d = alpha op(a) op(b) + beta c, and a bias has one number for
 * each row of d.  Shapes that do not fit, an algorithm that was not chosen for these layouts, addresses less
 * aligned than was promised, and too small a workspace are errors.
 */
#ifndef EMULATE_CUBLASLT_H
#define EMULATE_CUBLASLT_H

#include "cuda_runtime.h"

typedef enum cublasStatus_t
{
	CUBLAS_STATUS_SUCCESS,
	CUBLAS_STATUS_INVALID_VALUE = 7
} cublasStatus_t;

typedef enum cublasOperation_t
{
	CUBLAS_OP_N,
	CUBLAS_OP_T
} cublasOperation_t;

typedef enum cudaDataType_t
{
	CUDA_R_32F,
	CUDA_R_16BF = 14
} cudaDataType;

typedef enum cublasComputeType_t
{
	CUBLAS_COMPUTE_32F = 68,
	CUBLAS_COMPUTE_32F_FAST_TF32 = 77
} cublasComputeType_t;

typedef enum cublasLtEpilogue_t
{
	CUBLASLT_EPILOGUE_DEFAULT = 1,
	CUBLASLT_EPILOGUE_BIAS = 4
} cublasLtEpilogue_t;

typedef enum cublasLtMatmulDescAttributes_t
{
	CUBLASLT_MATMUL_DESC_TRANSA = 3,
	CUBLASLT_MATMUL_DESC_TRANSB,
	CUBLASLT_MATMUL_DESC_EPILOGUE = 7,
	CUBLASLT_MATMUL_DESC_BIAS_POINTER
} cublasLtMatmulDescAttributes_t;

typedef enum cublasLtMatmulPreferenceAttributes_t
{
	CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,
	CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5,
	CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
	CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
	CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES
} cublasLtMatmulPreferenceAttributes_t;

typedef struct emulate_handle *cublasLtHandle_t;
typedef struct emulate_desc *cublasLtMatmulDesc_t;
typedef struct emulate_layout *cublasLtMatrixLayout_t;
typedef struct emulate_preference *cublasLtMatmulPreference_t;

typedef struct cublasLtMatmulAlgo_t
{
	uint64_t data[8];
} cublasLtMatmulAlgo_t;

typedef struct cublasLtMatmulHeuristicResult_t
{
	cublasLtMatmulAlgo_t algo;
} cublasLtMatmulHeuristicResult_t;

extern cublasStatus_t cublasLtCreate(cublasLtHandle_t *h);
extern cublasStatus_t cublasLtDestroy(cublasLtHandle_t h);
extern cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute,
											   cudaDataType scale);
extern cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d);
extern cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t which,
													 const void *value, size_t bytes);
extern cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows,
												 uint64_t columns, int64_t ld);
extern cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l);
extern cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p);
extern cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p);
extern cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
														   cublasLtMatmulPreferenceAttributes_t which,
														   const void *value, size_t bytes);
extern cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d,
													 cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
													 cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t to,
													 cublasLtMatmulPreference_t p, int most,
													 cublasLtMatmulHeuristicResult_t *result, int *found);
extern cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
									 cublasLtMatrixLayout_t layout_a, const void *b, cublasLtMatrixLayout_t layout_b,
									 const void *beta, const void *c, cublasLtMatrixLayout_t layout_c, void *to,
									 cublasLtMatrixLayout_t layout_to, const cublasLtMatmulAlgo_t *algorithm,
									 void *workspace, size_t workspace_bytes, cudaStream_t s);

#endif /* EMULATE_CUBLASLT_H */
