/*
 * cuda_plans.h
 *	  Plans of a network on a GPU: memory for what they read and make, their programs, and runs on batches.
 *
 * One block of device memory begins with memory of the caller's, weights among it; the arena, which plans that
 * never run at the same time share, and inputs of a batch follow, once where programs read them and once
 * where those of the next run are staged meanwhile (llmapp_cuda.h).  Inputs go and results come through one
 * block of pinned memory, which begins with the caller's, too.
 */
#ifndef LLMAPP_CUDA_PLANS_H
#define LLMAPP_CUDA_PLANS_H

#include "cuda.h"
#include "net_record.h"

#define CUDA_PLANS 3

/* Offsets into the two blocks, and their sizes. */
typedef struct cuda_layout
{
	size_t arena, device_bytes;
	size_t result, host_bytes;
	size_t input[NET_INPUTS], staged[NET_INPUTS], pinned[NET_INPUTS]; /* valid where a plan has it */
} cuda_layout;

typedef struct cuda_plans cuda_plans;

/* Count bytes behind what *end counts, aligned for anything; false on overflow. */
extern bool cuda_place(size_t bytes, size_t *at, size_t *end);
/* device_own, host_own: bytes of the caller's.  LLM_MEMORY on overflow. */
extern bool cuda_lay_out(const net_plan *const *plans, int count, size_t device_own, size_t host_own, cuda_layout *at,
						 llm_error *err);
/* The memory alone.  plans live as long, at most CUDA_PLANS. */
extern cuda_plans *cuda_plans_new(const cuda_device *d, net_plan *const *plans, int count, const cuda_layout *at,
								  llm_error *err);
/*
 * Attach plan i to weights, an address of the device, and make its program.  least > 0: more programs, each for a
 * quarter of the tokens, or of the rows where there are none, down to so many, of which a run takes the smallest
 * that its batch fits.
 */
extern bool cuda_plans_make(cuda_plans *c, int i, const float *weights, int64_t least, llm_error *err);
extern void cuda_plans_free(cuda_plans *c);          /* c may be NULL */
extern size_t cuda_plans_bytes(const cuda_plans *c); /* of the device, with scratch of programs */

/* Memory of the caller's, at its begin. */
extern void *cuda_plans_device(const cuda_plans *c);
extern void *cuda_plans_host(const cuda_plans *c);

/*
 * Inputs of the next run, if that is of plan i on this batch, which was checked and stays as it is.  Another run
 * drops them.
 */
extern bool cuda_plans_stage(cuda_plans *c, int i, const batch *b, llm_error *err);
/* Enqueue plan i on a batch that was checked; r->rows become those of the batch.  LLM_CANCELLED when r->poll says so. */
extern bool cuda_plans_run(cuda_plans *c, int i, const batch *b, run_args *r, llm_error *err);
/* The first `count` numbers of a tensor of the plan that ran last, in pinned memory until the next call; waits. */
extern const float *cuda_plans_result(const cuda_plans *c, int i, int32_t tensor, int64_t count, llm_error *err);

#endif /* LLMAPP_CUDA_PLANS_H */
