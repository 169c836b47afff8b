/*
 * llmapp_cuda.h
 *	  The CUDA backend as a pure C interface: llmapp_cuda.so is opened with dlopen() and asked
 *	  for its table of functions.
 *
 * Use: dlsym(LLMAPP_CUDA_SYMBOL) gives a llmapp_cuda_entry; call it with this header's version and
 * sizes; then api->open() a device, allocate() memory, program_new() from the steps of a plan whose
 * addresses are those of device memory, and for each batch copy_to() its arrays, program_run()
 * and copy_from() the results.  Everything but stage() is enqueued on the one stream of the context, in order;
 * only copy_from() and synchronize() wait.
 *
 * Inputs of the next run may be copied while one computes: stage() puts them into pinned memory and enqueues
 * their copies to a staging area of the device on a second stream; take() has the first stream wait for them
 * and copies from there to where programs read.  Addresses are part of a program, so the alternative to that
 * second copy, at the speed of the device's memory, would be every program twice.  What is staged next waits
 * until the area was read.  One pinned area is enough: its copy has ended when the run that took it computes,
 * and before that there is nothing to overlap with.
 *
 * Numbers of rows that differ from run to run: a program is made for buckets, the most rows of each
 * axis, which fix launches and matrix products; the rows of a run, its seed and its step lie in device
 * memory, where kernels read them.  So one program serves every batch that fits its buckets and is
 * captured as a CUDA graph once.  Memory of tensors with an axis must have room for the bucket; what
 * lies beyond the rows of a run is scratch: programs may write there (zeros, so that products over
 * rows may read it).
 *
 * Functions return a llmapp_cuda_code and put a sentence into the context's error text; they never
 * exit, abort or print.  After LLMAPP_CUDA_LOST the context is of no more use, nor are others of this
 * process on that device: end the process.  A context is used by one thread at a time.
 */
#ifndef LLMAPP_CUDA_H
#define LLMAPP_CUDA_H

#include <stddef.h>
#include <stdint.h>

#define LLMAPP_CUDA_VERSION 3
#define LLMAPP_CUDA_SYMBOL "llmapp_cuda_get"
#define LLMAPP_CUDA_INPUTS 8
#define LLMAPP_CUDA_OUTPUTS 4
#define LLMAPP_CUDA_AXES 4 /* none, rows, tokens, source tokens: tensor_axis of graph.h */
#define LLMAPP_CUDA_TEXT 256

typedef enum llmapp_cuda_code
{
	LLMAPP_CUDA_OK,
	LLMAPP_CUDA_UNAVAILABLE, /* no driver, no device, or an old one */
	LLMAPP_CUDA_INVALID,     /* arguments; nothing was enqueued */
	LLMAPP_CUDA_MEMORY,      /* not enough on the device */
	LLMAPP_CUDA_FAILED,      /* this call; the context stays usable */
	LLMAPP_CUDA_LOST         /* the device context: a sticky error */
} llmapp_cuda_code;

typedef struct llmapp_cuda_device
{
	char name[LLMAPP_CUDA_TEXT];
	int32_t major, minor; /* of the architecture */
	int32_t processors;   /* multiprocessors */
	int32_t pad;
	uint64_t memory, memory_free; /* bytes */
} llmapp_cuda_device;

/* A tensor of graph.h; data = NULL: none. */
typedef struct llmapp_cuda_tensor
{
	void *data;
	int32_t axis;
	int32_t ndim;
	int64_t dims[4]; /* dims[0] at the capacity of the axis */
} llmapp_cuda_tensor;

/* op_attr of graph.h. */
typedef struct llmapp_cuda_attr
{
	int64_t index;
	float number;
	int32_t act;
	int32_t flag;
	int32_t count;
	int32_t kernel[2], stride[2], padding[2];
	int32_t heads, kv_heads, head_dim, causal;
	float scale;
	int32_t buckets, distance;
	int32_t rotary_dim, rotary_context; /* rotary_shape */
	float rotary_theta, rotary_factor, rotary_low, rotary_high;
	int32_t pad;
} llmapp_cuda_attr;

typedef struct llmapp_cuda_step
{
	int32_t op;   /* of api->op() */
	int32_t axis; /* node_axis() */
	int32_t bf16; /* its products are of numbers rounded to bf16 */
	int32_t accumulate[LLMAPP_CUDA_OUTPUTS];
	llmapp_cuda_tensor in[LLMAPP_CUDA_INPUTS];
	llmapp_cuda_tensor out[LLMAPP_CUDA_OUTPUTS];
	llmapp_cuda_attr attr;
} llmapp_cuda_step;

/* What differs from run to run. */
typedef struct llmapp_cuda_batch
{
	int64_t
		rows[LLMAPP_CUDA_AXES]; /* by axis, at most the bucket; rows[0]: tokens with a weight, if bucket[0] is set */
	uint64_t seed, step;        /* of random numbers, as run_args */
} llmapp_cuda_batch;

/* An input of a run on its way. */
typedef struct llmapp_cuda_input
{
	const void *host;
	void *pinned;
	void *staged, *device; /* of the device; nothing but take() reads the first */
	size_t bytes;
} llmapp_cuda_input;

/* One parameter, as optim_tensor. */
typedef struct llmapp_cuda_param
{
	uint64_t offset;       /* floats, into weights and moments */
	int64_t rows, width;   /* of the gradient */
	int32_t decay, pad;    /* whether weights decay */
	const float *gradient; /* (rows, width) */
	const int32_t *used;   /* NULL, or used[0] rows used[1..] of the parameter */
} llmapp_cuda_param;

/* The gradient of a parameter in one pass, and its sum over the passes of a step. */
typedef struct llmapp_cuda_sum
{
	int64_t rows, width; /* of the gradient */
	const float *gradient;
	const int32_t *used; /* as in llmapp_cuda_param */
	float *total;        /* (rows, width), of a compact gradient as many rows as all passes use */
	int32_t *total_used; /* as used; before the first step total_used[0] */
	int32_t *place;      /* and all of (rows of the parameter), where sums of its rows are, are 0 */
} llmapp_cuda_sum;

typedef struct llmapp_cuda_update
{
	int32_t adamw; /* otherwise SGD with momentum */
	int32_t pad;
	int64_t step; /* 1 for the first */
	double learning_rate, weight_decay, beta1, beta2, epsilon, momentum;
	double share;     /* what makes gradients those of the mean */
	double clip_norm; /* of the gradient times share; 0: none */
	double ema_decay; /* of average */
	float *weights, *moments[2];
	float *average; /* or NULL */
	int64_t floats; /* of weights, for average */
} llmapp_cuda_update;

/* How weights are kept: weight_type of quant.h, whose layouts these are. */
typedef enum llmapp_cuda_kept
{
	LLMAPP_CUDA_F32,
	LLMAPP_CUDA_F16,
	LLMAPP_CUDA_BF16,
	LLMAPP_CUDA_Q8_0, /* blocks of 32: fp16 d, int8[32]; w = q d */
	LLMAPP_CUDA_Q4_0  /* fp16 d, 16 bytes, low nibbles first; w = (q - 8) d */
} llmapp_cuda_kept;

/* So many rows of a step need no memory to decode weights into. */
#define LLMAPP_CUDA_FEW_ROWS 8

typedef struct llmapp_cuda_context llmapp_cuda_context;
typedef struct llmapp_cuda_program llmapp_cuda_program;
typedef struct llmapp_cuda_optim llmapp_cuda_optim;

typedef struct llmapp_cuda_api
{
	size_t size;
	/* Devices of architecture 8.0 and above in *count, the first `room` described; text: why there is none. */
	int (*devices)(llmapp_cuda_device *devices, int room, int *count, char *text, size_t text_bytes);
	int (*open)(int device, llmapp_cuda_context **c, char *text, size_t text_bytes);
	void (*close)(llmapp_cuda_context *c); /* frees all that was made of it, but for programs and optimizers */
	const char *(*error)(const llmapp_cuda_context *c); /* of the last call that failed */
	/* Number of an operation of ops.def, or a step of serving.def, by its name, -1: there is none. */
	int (*op)(const char *name);

	int (*allocate)(llmapp_cuda_context *c, size_t bytes, void **memory);
	int (*release)(llmapp_cuda_context *c, void *memory);
	int (*allocate_host)(llmapp_cuda_context *c, size_t bytes, void **memory); /* pinned */
	int (*release_host)(llmapp_cuda_context *c, void *memory);
	/* Enqueued; host memory must stay as it is until the next wait. */
	int (*copy_to)(llmapp_cuda_context *c, void *device, const void *host, size_t bytes);
	int (*copy_from)(llmapp_cuda_context *c, void *host, const void *device, size_t bytes); /* waits */
	int (*clear)(llmapp_cuda_context *c, void *device, size_t bytes);
	/* From the host to staged; host memory may change when it returns, which may wait for inputs staged before. */
	int (*stage)(llmapp_cuda_context *c, const llmapp_cuda_input *inputs, int32_t count);
	/* From staged to device, enqueued. */
	int (*take)(llmapp_cuda_context *c, const llmapp_cuda_input *inputs, int32_t count);
	int (*synchronize)(llmapp_cuda_context *c);

	/*
	 * steps are copied; bucket: most rows by axis, at least 1 of each that a tensor has.  bucket[0]: most
	 * tokens with a weight, which language losses multiply; 0: as many as there are tokens.
	 */
	int (*program_new)(llmapp_cuda_context *c, const llmapp_cuda_step *steps, int32_t count,
					   const int64_t bucket[LLMAPP_CUDA_AXES], llmapp_cuda_program **p);
	void (*program_free)(llmapp_cuda_program *p);
	size_t (*program_bytes)(const llmapp_cuda_program *p); /* device memory of its own */
	int (*program_run)(llmapp_cuda_program *p, const llmapp_cuda_batch *batch);

	/* params are copied. */
	int (*optim_new)(llmapp_cuda_context *c, const llmapp_cuda_param *params, int32_t count, llmapp_cuda_optim **o);
	void (*optim_free)(llmapp_cuda_optim *o);
	/*
	 * Norm, clipping, update and average.  norm: device memory of one double, gets the norm of the
	 * gradient times share; where it is not finite nothing else is changed.
	 */
	int (*optim_run)(llmapp_cuda_optim *o, const llmapp_cuda_update *u, double *norm);
	/* Add weight times the gradients to the sums, which the first pass of a step begins anew. */
	int (*sum_add)(llmapp_cuda_context *c, const llmapp_cuda_sum *sums, int32_t count, float weight, int first);
} llmapp_cuda_api;

/* NULL and a reason when version or sizes are not those of the library. */
typedef const llmapp_cuda_api *(*llmapp_cuda_entry)(uint32_t version, size_t api_size, size_t step_size, char *text,
													size_t text_bytes);

/* Functions of C in either language. */
#ifdef __cplusplus
#define LLMAPP_CUDA_EXTERN extern "C"
#else
#define LLMAPP_CUDA_EXTERN extern
#endif

LLMAPP_CUDA_EXTERN __attribute__((visibility("default"))) const llmapp_cuda_api *llmapp_cuda_get(
	uint32_t version, size_t api_size, size_t step_size, char *text, size_t text_bytes);

#endif /* LLMAPP_CUDA_H */
