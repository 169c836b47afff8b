/*
 * graph.h
 *	  A recorded computation: tensors that are shapes only, and the operations on them.
 *
 * Tensors are contiguous and row-major with at most 4 dimensions, and are named by their
 * index.  A tensor with an axis has that of the batch as its first dimension, at its
 * capacity; a run with fewer computes only those, and what is beyond holds nothing.
 * Everything else has a fixed shape.
 *
 * Use: graph_new(); graph_input() and graph_param(); op_*() record operations and return
 * the result's index; graph_backward() appends the gradient steps; plan.h runs it.  The
 * first failure sticks in the graph's error and later calls do nothing, so callers check
 * once, with graph_ok().
 */
#ifndef LLMAPP_GRAPH_H
#define LLMAPP_GRAPH_H

#include "net.h"

#define TENSOR_NONE (-1)
#define TENSOR_MAX_DIMS 4
#define NODE_INPUTS 8
#define NODE_NONE (-1)

/*
 * Tables with more rows than this get a compact gradient that holds only the rows a
 * batch used, and the optimizer updates only those.
 */
#define COMPACT_TABLE_ROWS 4096
#define NODE_OUTPUTS 4

/* What the first dimension of a tensor counts, whose number differs from run to run. */
typedef enum tensor_axis
{
	AXIS_NONE,   /* nothing: the tensor has a fixed shape */
	AXIS_ROW,    /* rows of the batch */
	AXIS_TOKEN,  /* tokens of its rows, laid end to end */
	AXIS_SOURCE, /* tokens of the texts that an encoder reads */
	AXIS_COUNT
} tensor_axis;

typedef enum tensor_role
{
	ROLE_INPUT,   /* given for each run: a part of the batch */
	ROLE_PARAM,   /* part of the weights */
	ROLE_VALUE,   /* made by an operation */
	ROLE_GRADIENT /* made by gradient steps, which may add to it */
} tensor_role;

typedef enum tensor_type
{
	TENSOR_F32,
	TENSOR_I32
} tensor_type;

typedef struct tensor
{
	tensor_role role;
	tensor_type type;
	int32_t ndim;
	int64_t dims[TENSOR_MAX_DIMS];
	tensor_axis axis;    /* dims[0] is its capacity */
	bool keep;           /* read after the run: its memory is not reused */
	bool needs_gradient; /* a parameter, or made from one */
	int32_t slot;        /* of an input: its number; of a parameter: net_tensor() index */
	int32_t gradient;    /* tensor, or TENSOR_NONE */
	int32_t used;        /* of a compact gradient: (1 + rows), how many rows and which */
} tensor;

/* A window that moves over an image; (height, width). */
typedef struct window2d
{
	int32_t kernel[2], stride[2], padding[2];
} window2d;

/* Heads of fused queries, keys and values, and how queries attend to keys. */
#define ATTENTION_MAX_DIM 256

typedef struct attention_shape
{
	int32_t heads, kv_heads; /* the second divides the first */
	int32_t head_dim;        /* at most ATTENTION_MAX_DIM */
	bool causal;
	float scale;
	int32_t buckets, distance; /* of relative positions: how many, and where the last one begins */
	int32_t window;            /* causal: most keys that a query sees, itself the last of them; 0: all */
	float cap;                 /* scores x become cap tanh(x / cap), without buckets; 0: they stay */
} attention_shape;

/* How positions turn heads; see transformer_config. */
typedef struct rotary_shape
{
	int32_t dim; /* even, at most that of a head */
	float theta;
	float factor, low, high;
	int32_t context;
	bool yarn, whole;
	float attention; /* 0: 1 */
} rotary_shape;

typedef enum op_kind
{
#define OP(name, inplace, shape, gradient) OP_##name,
#include "ops.def"
#undef OP
	OP_COUNT
} op_kind;

/* What an operation needs beside tensors; unused members are zero. */
typedef struct op_attr
{
	net_activation act;
	float number;    /* scale, dropout probability, label smoothing, huber delta, epsilon of a norm, cap of logits */
	int64_t index;   /* slice: first column; dropout: random stream; image: largest shift; head_*: first token;
						token_types: separator */
	bool flag;       /* losses: also make the gradient; table_grad: compact; channel_norm: by row; rotary: back */
	int32_t count;   /* slice: columns; image: channels; norm_group: groups; rotary_table: positions;
						token_types: how many */
	window2d window; /* conv2d and pools; image: height and width in .kernel */
	attention_shape attention; /* attention, rotary, head_norm */
	rotary_shape rotary;       /* rotary_table */
} op_attr;

typedef struct node
{
	op_kind op;
	int32_t in[NODE_INPUTS]; /* tensor or TENSOR_NONE */
	int32_t out[NODE_OUTPUTS];
	op_attr attr;
	int32_t segment; /* first node of what is computed again together with it, or NODE_NONE */
} node;

typedef struct graph
{
	tensor *tensors;
	int32_t tensor_count, tensor_room;
	node *nodes;
	int32_t node_count, node_room;
	int64_t capacity[AXIS_COUNT]; /* most of a batch */
	train_precision precision;    /* what linear layers and language losses multiply */
	llm_error error;
} graph;

/* rows at most; the capacities of other axes are set before what has them is recorded */
extern graph *graph_new(int64_t rows, llm_error *err);
extern void graph_free(graph *g);
extern bool graph_ok(const graph *g, llm_error *err); /* copies the sticky error */

/* Inputs come before all else.  columns = 0: one-dimensional; rows are those of AXIS_NONE. */
extern int32_t graph_input(graph *g, int32_t slot, tensor_type type, tensor_axis axis, int64_t rows, int64_t columns);
extern int32_t graph_param(graph *g, int32_t slot, int32_t ndim, const int64_t *dims);
extern int32_t graph_statistic(graph *g, int32_t slot, int32_t ndim,
							   const int64_t *dims); /* a parameter without gradient */
extern void graph_keep(graph *g, int32_t t);
/* The gradient tensor of t, made when there is none. */
extern int32_t graph_gradient(graph *g, int32_t t);
/*
 * What was recorded since node `first` (a node_count) is computed again before its gradient steps, so that
 * until then nothing of it is kept but what later nodes read.  The result is the same to the last bit, as
 * operations and random streams are.
 */
extern void graph_recompute(graph *g, int32_t first);
/* Append the gradient steps of everything recorded; a loss with attr.flag must be among it. */
extern void graph_backward(graph *g);

extern tensor_axis node_axis(const graph *g, const node *n); /* of its first input that has one, else AXIS_ROW */
extern int64_t tensor_columns(const tensor *t);              /* product of all dimensions but the first */
extern bool tensor_bytes(const tensor *t, size_t *bytes);    /* false on overflow */

/* ---- operations; (rows, n) has an axis, which is the result's, too ---- */

/* x (rows, k), w (n, k), bias (n) or none: x w^T + bias (rows, n) */
extern int32_t op_linear(graph *g, int32_t x, int32_t w, int32_t bias);
/* index (rows, c), table (r, d): (rows, c * d) */
extern int32_t op_embed(graph *g, int32_t index, int32_t table);
/* base (rows, d) or none, bias (d) or none, pairs as in batch.h, table (r, d): base + bias + weighted rows */
extern int32_t op_embed_bag(graph *g, int32_t base, int32_t start, int32_t index, int32_t value, int32_t table,
							int32_t bias);
extern int32_t op_concat(graph *g, int32_t a, int32_t b); /* along the last dimension */
extern int32_t op_add(graph *g, int32_t a, int32_t b);
extern int32_t op_scale(graph *g, int32_t x, float factor);
extern int32_t op_act(graph *g, int32_t x, net_activation kind);
#define LAYER_NORM_EPSILON 1e-5f /* the usual one */
/* beta may be none */
extern int32_t op_layer_norm(graph *g, int32_t x, int32_t gamma, int32_t beta, float epsilon);
/* stream must differ between the dropouts of a network */
extern int32_t op_dropout(graph *g, int32_t x, float probability, int64_t stream);
/* Drops whole rows. */
extern int32_t op_row_dropout(graph *g, int32_t x, float probability, int64_t stream);
extern int32_t op_softmax(graph *g, int32_t logits);
/*
 * Losses: weight (rows); result (rows) is each row's weight times its loss.  With
 * gradient, also the gradient of the weighted mean with respect to the prediction, in
 * the memory of the prediction when nothing else reads it.
 */
extern int32_t op_cross_entropy(graph *g, int32_t logits, int32_t target, int32_t weight, float smoothing,
								bool gradient);
extern int32_t op_binary_cross_entropy(graph *g, int32_t logits, int32_t target, int32_t weight, float smoothing,
									   bool gradient);
extern int32_t op_mse(graph *g, int32_t y, int32_t target, int32_t weight, bool gradient);
extern int32_t op_huber(graph *g, int32_t y, int32_t target, int32_t weight, float delta, bool gradient);

/* ---- operations on images (rows, height, width, channels) ---- */

/*
 * Channels-last, because then every position is a run of channels: convolutions read
 * whole vectors without a copy, and norms and pools treat channels as lanes.  The first
 * channels * height * width numbers of a row of `dense`, in order (channel, row, column),
 * as an image; moved by up to `shift` pixels each way, at random by row and step, with
 * the edge repeated.
 */
extern int32_t op_image(graph *g, int32_t dense, int32_t channels, int32_t height, int32_t width,
						const image_augment *augment);
extern int32_t op_columns(graph *g, int32_t dense, int64_t first, int32_t count); /* (rows, count) of an input */
extern int32_t op_flatten(graph *g, int32_t x); /* (rows, height * width * channels) */
/* w (kernel height, kernel width, channels, n), bias (n) or none */
extern int32_t op_conv2d(graph *g, int32_t x, int32_t w, int32_t bias, const window2d *window);
extern int32_t op_max_pool(graph *g, int32_t x, const window2d *window);
extern int32_t op_avg_pool(graph *g, int32_t x, const window2d *window); /* mean of the pixels that exist */
/*
 * act(gamma (x - mean) / sqrt(variance + 1e-5) + beta) by channel, the last dimension of
 * x; gamma and beta (channels).  Of the batch: *statistics is a tensor (4, channels) of
 * mean, scale, 1 / deviation and unbiased variance.
 */
extern int32_t op_batch_norm(graph *g, int32_t x, int32_t gamma, int32_t beta, net_activation act,
							 int32_t *statistics);
extern int32_t op_running_norm(graph *g, int32_t x, int32_t gamma, int32_t beta, int32_t mean, int32_t variance,
							   net_activation act);
extern int32_t op_group_norm(graph *g, int32_t x, int32_t gamma, int32_t beta, int32_t groups, net_activation act);
/* Positions (outputs) of a window along one axis; 0: it does not fit. */
extern int64_t window_outputs(const window2d *w, int axis, int64_t inputs);

/* ---- operations on tokens (tokens, n) of rows that lie end to end ---- */

/*
 * start (rows + 1): tokens of row r are [start[r], start[r + 1]); rows may be empty.  qkv is
 * (tokens, (heads + 2 kv_heads) head_dim): queries, keys, values, each head by head.
 *
 * Tokens attend to those of their row: result (tokens, heads head_dim).  bias (buckets, heads)
 * or none is added to scores by relative position (T5).
 */
extern int32_t op_attention(graph *g, int32_t qkv, int32_t start, int32_t bias, const attention_shape *shape);
/* q (tokens, heads head_dim) of one axis to kv (tokens, 2 kv_heads head_dim) of another */
extern int32_t op_cross_attention(graph *g, int32_t q, int32_t kv, int32_t start, int32_t kv_start,
								  const attention_shape *shape);
/* (positions, dim): cosines and sines of the longest row's positions at least */
extern int32_t op_rotary_table(graph *g, int32_t start, int32_t positions, const rotary_shape *shape);
/* Queries and keys turned by position: number i of a head with number i + dim / 2 of a table's dim. */
extern int32_t op_rotary(graph *g, int32_t qkv, int32_t start, int32_t table, const attention_shape *shape);
extern int32_t op_rms_norm(graph *g, int32_t x, int32_t gamma, float epsilon);
/* Each head of queries and of keys by its root mean square, times a gain (head_dim). */
extern int32_t op_head_norm(graph *g, int32_t qkv, int32_t q_gain, int32_t k_gain, float epsilon,
							const attention_shape *shape);
extern int32_t op_glu(graph *g, int32_t x, net_activation kind); /* (rows, 2 n): act(first half) * second half */
/* index (tokens, 1): how many separators are before a token in its row, at most types - 1 */
extern int32_t op_token_types(graph *g, int32_t token, int32_t start, int32_t separator, int32_t types);
/* table (positions, n), at least as many as the longest row has tokens */
extern int32_t op_position(graph *g, int32_t x, int32_t start, int32_t table);
extern int32_t op_pool_tokens(graph *g, int32_t x, int32_t start, text_pool pool); /* (rows, n), 0 of no tokens */
/*
 * Cross-entropy of the softmax over x w^T + bias, x (tokens, n), w (vocab, n), bias (vocab) or
 * none, without all logits at once; with a cap above 0, of cap tanh(logit / cap).  Result (tokens): weight
 * times loss; *correct (tokens): 1 where no logit is above the target's.  Both are 0 where weight is 0, and cost
 * nothing there.  With gradient, also that of the weighted mean with respect to x, w and bias.
 */
extern int32_t op_language_loss(graph *g, int32_t x, int32_t w, int32_t bias, float cap, int32_t target,
								int32_t weight, bool gradient, int32_t *correct);
/*
 * Of pairs, rows 2i and 2i + 1 of x (rows, n), an even number: cross-entropy of the softmax over the
 * cosines of a row with those of the other side, divided by the temperature, where its partner is to
 * be found (InfoNCE: van den Oord et al., "Representation learning with contrastive predictive
 * coding", 2018).  text (rows): equal numbers on one side are one text; other pairs with a text of the
 * row's pair, which would be right answers, too, are left out.  weight (rows); result (rows): weight times
 * loss; *correct (rows): 1 where no row is nearer than the partner.  With gradient, also that of the weighted mean.
 */
#define CONTRASTIVE_LEAST_TEMPERATURE 0.03f /* exponentials of twice its reciprocal are floats */
extern int32_t op_contrastive_loss(graph *g, int32_t x, int32_t text, int32_t weight, float temperature,
								   bool gradient, int32_t *correct);

/* ---- for ops.c ---- */

/* Append a node and its outputs by the shape rule; the first output, TENSOR_NONE on failure. */
extern int32_t graph_append(graph *g, op_kind op, op_attr attr, int32_t in_count, const int32_t *in);
/* Append a gradient step with outputs that exist. */
extern void graph_append_step(graph *g, op_kind op, op_attr attr, int32_t in_count, const int32_t *in,
							  int32_t out_count, const int32_t *out);
extern int32_t graph_tensor(graph *g, tensor_role role, tensor_type type, tensor_axis axis, int32_t ndim,
							const int64_t *dims);

/* One row of ops.def. */
typedef struct op_info
{
	const char *name;
	int inplace;
	bool (*shape)(graph *g, node *n);          /* check inputs, make outputs */
	void (*gradient)(graph *g, const node *n); /* append steps */
} op_info;

extern const op_info op_table[OP_COUNT];

#endif /* LLMAPP_GRAPH_H */
