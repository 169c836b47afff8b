/*
 * net_record.h
 *	  What trainer.c and predictor.c share of a network: its layout, recording it into a
 *	  graph, and binding a batch to the graph's inputs.
 */
#ifndef LLMAPP_NET_RECORD_H
#define LLMAPP_NET_RECORD_H

#include "net_layers.h"
#include "plan.h"
#include "tuning.h"

#define NET_UNREAD SIZE_MAX

/* A layer has up to four; one embedding. */
#define NET_MAX_TENSORS (NET_MAX_MEMBERS * (4 * (NET_MAX_LAYERS + 1) + 1))

struct net
{
	net_config config;
	int32_t layer_count; /* with the output layer */
	layer_plan layers[NET_MAX_LAYERS + 1];
	int32_t tensor_count;
	int32_t text_tensors; /* first of them: those of the transformer */
	net_tensor_info tensors[NET_MAX_TENSORS];
	float deviation[NET_MAX_TENSORS]; /* of initial values, normal; 0: all are `constant` */
	float constant[NET_MAX_TENSORS];
	size_t weight_floats; /* with padding */
	size_t kept_bytes;    /* the same as a version keeps them */
};

/* Rows of each axis of the batch, into run_args.rows. */
extern void net_rows(const batch *b, int64_t rows[AXIS_COUNT]);

/* What a graph is for. */
typedef enum net_mode
{
	MODE_TRAIN,  /* forward with dropout, loss and backward */
	MODE_SCORE,  /* loss, then probabilities or numbers */
	MODE_PREDICT /* probabilities or numbers */
} net_mode;

typedef struct net_plan
{
	plan *plan;
	int32_t output;                    /* tensor (rows, outputs); of MODE_TRAIN none */
	int32_t loss;                      /* tensor (rows): weight times loss; none in MODE_PREDICT */
	int32_t correct;                   /* tensor (tokens), or (rows) of pairs: 1 where the target is predicted */
	int32_t statistic_count;           /* batch norms of MODE_TRAIN */
	int32_t statistic[NET_MAX_LAYERS]; /* tensor (4, channels), as op_batch_norm() says */
	int32_t running[NET_MAX_LAYERS];   /* net_tensor() of the running mean; the variance follows */
} net_plan;

/* Append a tensor; deviation 0: every element starts as `constant`. */
extern bool net_add_tensor(net *n, const char *name, int32_t ndim, const int64_t *dims, float deviation,
						   float constant, llm_error *err);

/* Weight and bias of dense layer i by their numbers; TENSOR_NONE: it has no bias. */
extern void net_dense_tensors(const net *n, int32_t i, int32_t numbers[2]);

/* Record and plan; *p is zeroed on failure. */
extern bool net_plan_new(net_plan *p, const net *n, net_mode mode, int64_t capacity, llm_error *err);
/*
 * The same of a network that is trained as tuning says, NULL: all of it, in this precision, and whose
 * transformer's layers are computed again for the backward pass or not.
 */
extern bool net_plan_tuned(net_plan *p, const net *n, const net_tuning *tuning, train_precision precision,
						   bool recompute, net_mode mode, int64_t capacity, llm_error *err);
/*
 * Of embeddings of whole texts: output is (texts, net_embedding_width()).  Texts are sources where there is an
 * encoder.  Only weights that it reads are laid out: offsets (NET_MAX_TENSORS) gets where, in floats, or
 * NET_UNREAD, and *floats how many there are.
 */
extern bool net_plan_embed(net_plan *p, const net *n, text_pool pool, int64_t texts, int64_t tokens, size_t *offsets,
						   size_t *floats, llm_error *err);
extern void net_plan_free(net_plan *p);
extern void net_plan_bind(net_plan *p, const batch *b);

#define NET_INPUTS 13 /* slots of inputs */

/* What a batch has for an input, of 4 bytes each. */
typedef struct net_input
{
	const void *data;
	int64_t count; /* of the rows that the batch has */
} net_input;

extern void net_inputs(const batch *b, net_input inputs[NET_INPUTS]); /* by slot */

/*
 * Weights before training, from the seed, the same for any pool (NULL: one thread).  False when
 * poll asked to stop.  weights are zero before.
 */
extern bool net_initialise(const net *n, uint64_t seed, float *weights, pool *p, llm_poll poll, void *poll_arg);

#endif /* LLMAPP_NET_RECORD_H */
