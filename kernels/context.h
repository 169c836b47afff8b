/*
 * context.h
 *	  A device that was opened, for the files that implement the interface.
 */
#ifndef LLMAPP_CUDA_CONTEXT_H
#define LLMAPP_CUDA_CONTEXT_H

#include "gemm.h"
#include "launch.h"

struct llmapp_cuda_context
{
	int device;
	cudaStream_t stream, copies; /* copies: of inputs that are staged */
	cudaEvent_t staged, taken;   /* the last of them; when the staging areas were read */
	gemm_device *gemms;
	bool lost;
	char text[LLMAPP_CUDA_TEXT];
};

/* Remember what went wrong; returns code. */
extern int context_fail(llmapp_cuda_context *c, int code, const char *what);
/* LLMAPP_CUDA_OK, or the code of an error of CUDA's with its text. */
extern int context_check(llmapp_cuda_context *c, cudaError_t error);
/* Makes the context's device this thread's. */
extern int context_enter(llmapp_cuda_context *c);
extern int context_allocate(llmapp_cuda_context *c, size_t bytes, void **memory);

/* optim.cu and sums.cu, for the table of functions. */
extern int optim_new(llmapp_cuda_context *c, const llmapp_cuda_param *params, int32_t count, llmapp_cuda_optim **o);
extern void optim_free(llmapp_cuda_optim *o);
extern int optim_run(llmapp_cuda_optim *o, const llmapp_cuda_update *u, double *norm);
extern int sum_add(llmapp_cuda_context *c, const llmapp_cuda_sum *sums, int32_t count, float weight, int first);
/* program.cu */
extern int op_number(const char *name);
extern int program_new(llmapp_cuda_context *c, const llmapp_cuda_step *steps, int32_t count,
					   const int64_t bucket[LLMAPP_CUDA_AXES], llmapp_cuda_program **p);
extern void program_free(llmapp_cuda_program *p);
extern size_t program_bytes(const llmapp_cuda_program *p);
extern int program_run(llmapp_cuda_program *p, const llmapp_cuda_batch *batch);

#endif /* LLMAPP_CUDA_CONTEXT_H */
