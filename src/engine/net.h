/*
 * net.h
 *	  Networks by architecture: configuration, parameter directory, and how they train
 *	  and predict.  This is what src/job and src/serve use of the engine.
 *
 * Intended use:
 *	 1. net_new() checks a configuration and lays out its parameters.
 *	 2. trainer_new() records forward, loss and backward graph, plans one arena, and
 *		initialises parameters from the seed; trainer_step() runs one batch.
 *	 3. net_weight_bytes() bytes at trainer_weights() are the weights; the directory net_tensor()
 *		gives names, shapes and offsets.  A version of a network on tokens may keep them in fewer
 *		bits: net_keep_all(), net_encode().
 *	 4. predictor_new() takes those bytes, read-only and possibly shared between
 *		processes, and plans a forward pass for up to max_rows rows, here or on a GPU.
 */
#ifndef LLMAPP_NET_H
#define LLMAPP_NET_H

#include <stddef.h>
#include <stdint.h>

#include "batch.h"
#include "error.h"
#include "quant.h"

#define NET_MAX_HIDDEN 16
#define NET_MAX_MEMBERS 20
#define NET_MAX_LAYERS 96
#define NET_MAX_DENSE 8
#define NET_NAME_BYTES 32

typedef enum net_activation
{
	ACT_IDENTITY,
	ACT_RELU,
	ACT_GELU,
	ACT_GELU_TANH,
	ACT_SILU,
	ACT_TANH,
	ACT_SIGMOID
} net_activation;

/* What stands for a text: the mean of its tokens, or one of them. */
typedef enum text_pool
{
	POOL_MEAN,
	POOL_FIRST,
	POOL_LAST
} text_pool;

typedef enum net_loss
{
	LOSS_CROSS_ENTROPY, /* outputs >= 3 classes, class target */
	LOSS_BINARY,        /* outputs = 1 logit, class target 0 or 1 */
	LOSS_MSE,
	LOSS_HUBER,
	LOSS_CONTRASTIVE /* of pairs of texts, each beside the other: no target, outputs = 1 that is none */
} net_loss;

typedef enum layer_kind
{
	LAYER_LINEAR, /* of all numbers of a row, and of the bag where it reads columns */
	LAYER_CONV2D,
	LAYER_MAX_POOL,
	LAYER_AVG_POOL,        /* over the pixels of a window that exist */
	LAYER_GLOBAL_AVG_POOL, /* (height, width, channels) to (channels) */
	LAYER_BATCH_NORM,      /* by channel, the last dimension */
	LAYER_GROUP_NORM,
	LAYER_LAYER_NORM, /* over all numbers of a row */
	LAYER_ACTIVATION,
	LAYER_DROPOUT,
	LAYER_FLATTEN,
	LAYER_ADD,   /* of two layers of one shape */
	LAYER_CONCAT /* of two layers, along channels */
} layer_kind;

#define LAYER_KINDS (LAYER_CONCAT + 1)

/* What a layer reads: an earlier layer by its number from 0, or one of the network's inputs. */
#define FROM_IMAGE (-1)
#define FROM_COLUMNS \
	(-2) /* dense numbers beside the image, then embeddings; the first linear layer reads the bag, too */

/* Members that its kind has no use for are zero. */
typedef struct net_layer
{
	layer_kind kind;
	char name[NET_NAME_BYTES];                /* of its tensors, "layer.N" when empty */
	int32_t from[2];                          /* add and concat read two */
	int32_t width;                            /* numbers out (linear), channels out (conv2d), groups (group_norm) */
	int32_t kernel[2], stride[2], padding[2]; /* height, width; padding < kernel */
	bool bias;                                /* linear, conv2d */
	net_activation activation;
	float rate; /* dropout, [0, 1) */
} net_layer;

/* How images change at random while training; all zero: not at all. */
typedef struct image_augment
{
	int32_t shift; /* pixels up to which they move, edges repeated */
	bool flip;     /* half of them are mirrored left to right */
	float crop;    /* share of height and width up to which they are cut off, [0, 0.9]; the rest is enlarged */
} image_augment;

#define TRANSFORMER_MAX_DEPTH 128

/* A transformer; transformer_family() fills in what makes a family. */
typedef struct transformer_config
{
	int32_t vocab;          /* ids of tokens are below; 0: the network is no transformer */
	int32_t context;        /* most tokens of a row */
	int32_t width, depth;   /* of the stream; layers */
	int32_t heads;          /* of queries */
	int32_t kv_heads;       /* of keys and values; divides heads */
	int32_t head_dim;       /* usually width / heads */
	int32_t ffn;            /* width of the feed-forward layer */
	int32_t encoder_depth;  /* layers of an encoder, to whose stream every layer attends; 0: none */
	int32_t source_context; /* most tokens of a row that the encoder reads */
	bool rotary; /* positions turn queries and keys; without it and without buckets each has a learned vector */
	float rope_theta;
	int32_t rotary_dim; /* numbers of a head that are turned, the first ones, even; 0: all */
	/*
	 * What turns slowly turns rope_factor times slower, for a longer context; 0: nothing does.  Waves of more than
	 * rope_context / rope_low positions do, those of less than rope_context / rope_high do not, and those between
	 * in part (Llama 3); rope_low 0: all do.
	 */
	float rope_factor, rope_low, rope_high;
	int32_t rope_context;
	/*
	 * The part goes down evenly from one number of a head to the next, not by the length of their waves (Peng et al.,
	 * "YaRN", 2023); between those whose waves fit rope_high and rope_low times into rope_context, rounded outwards to
	 * whole numbers or not.
	 */
	bool rope_yarn, rope_whole;
	float rope_attention; /* what cosines and sines are multiplied by; 0: 1 */
	float window_theta; /* in place of rope_theta, not scaled, where layers have the window; 0: they are as others */
	int32_t buckets;    /* of relative positions, by which scores, then not scaled, have a bias (T5); 0: none */
	int32_t distance;   /* where the last bucket begins */
	bool rms_norm;      /* otherwise layer norm */
	float norm_epsilon;
	net_activation activation;
	bool gated;            /* act(gate) * up */
	bool bias, qkv_bias;   /* of linear layers and norms; of the queries' layer */
	bool parallel;         /* attention and feed-forward layer read the same stream, each through its norm */
	bool qk_norm;          /* each head's queries and keys by their root mean square */
	bool embed_scale;      /* embeddings times width^0.5 */
	bool tied;             /* logits by the table of embeddings */
	bool bidirectional;    /* tokens see their whole row, otherwise themselves and those before */
	int32_t window;        /* of those before and themselves, most tokens that are seen; 0: all.  Not on a GPU */
	int32_t window_period; /* of so many layers that follow each other the last one has no window; 0: all have it */
	int32_t query_dim;     /* by whose root scores are divided; 0: head_dim */
	float score_cap;       /* scores x become cap tanh(x / cap); 0: they stay.  Not on a GPU */
	float logit_cap;       /* the same of logits */
	bool post_norm;        /* norms after embeddings and additions to the stream, otherwise before layers and last */
	bool added_norm;       /* a norm of what each half of a layer adds, beside that of what it reads.  Not on a GPU */
	bool head_transform;   /* linear layer, activation and norm before logits, which have a bias; for masked tokens */
	bool head_scale;       /* stream times width^-0.5 before logits */
	int32_t types;         /* of tokens, each with a learned vector; 0: none */
	int32_t separator;     /* the token behind which the next type begins, up to the last one */
	int32_t labels;        /* that the head has for each token, in place of logits of the next one; 0: none */
	bool headless;         /* no logits: layers read what stands for the text */
	float dropout;         /* [0, 1), after embeddings and what is added to the stream, training only */
} transformer_config;

/* Flags of a family, gpt, llama, bert or t5, with sizes left at 0; false: there is none of this name. */
extern bool transformer_family(const char *name, transformer_config *c);

/* A linear layer behind the pool of an embedding. */
typedef struct net_dense
{
	int32_t width; /* of what it makes */
	bool bias;
	net_activation activation;
} net_dense;

/*
 * A transformer, an mlp by its widths, or any network by its layers; the last two may read a
 * transformer and end with a linear layer "output" that reads the last layer.  Without hidden layers an mlp is linear or logistic
 * regression.
 */
typedef struct net_config
{
	batch_shape shape;
	int32_t image[3];      /* channels, height, width; zeros: none.  Else dense begins with it, in this order */
	image_augment augment; /* of images, while training */
	int32_t layer_count;   /* 0: an mlp, by what follows layers; otherwise 1 .. NET_MAX_LAYERS */
	net_layer layers[NET_MAX_LAYERS];
	/*
	 * If its vocab is not 0: with token targets nothing else but shape, loss and members = 1 counts;
	 * otherwise it is headless, and what its pool makes of a row's tokens is one of the columns, or all
	 * that there is with LOSS_CONTRASTIVE: an embedding.
	 */
	transformer_config text;
	text_pool pool;
	int32_t dense_count; /* LOSS_CONTRASTIVE: layers between pool and embedding */
	net_dense dense[NET_MAX_DENSE];
	float text_dropout;   /* [0, 1): of rows, which have to do without the text; training only, in no manifest */
	int32_t embed_dim;    /* width of one learned embedding */
	int32_t hidden_count; /* 0 .. NET_MAX_HIDDEN */
	int32_t hidden[NET_MAX_HIDDEN]; /* widths, 1 .. 65536 */
	net_activation activation;
	bool layer_norm; /* after each hidden linear layer, before the activation */
	bool residual;   /* add a hidden layer's input where widths are equal */
	float dropout;   /* [0, 1), after each activation, training only; this far of an mlp */
	net_loss loss;
	float huber_delta;     /* > 0, in units of the standardised target */
	float label_smoothing; /* [0, 1) */
	/*
	 * Networks of this form whose outputs are averaged, 0 or 1 = one.  Only prediction knows
	 * more than one: members are trained alone, with members = 1, and their weights laid end
	 * to end are the weights of all.
	 */
	int32_t members;
} net_config;

/*
 * Fill in layers for an image of config's size: convolutions of 3 x 3 with batch norm and
 * relu, each followed by a pool of 2 x 2 while the image is large; columns beside the
 * image join before a hidden linear layer.  Reads shape, image, dropout.
 */
extern void net_default_cnn(net_config *config);

typedef struct net net;

/* One parameter: float32, row-major, at `offset` floats from the start of the weights. */
typedef struct net_tensor_info
{
	char name[64];
	int32_t ndim; /* 1 .. 4 */
	int64_t dims[4];
	size_t offset; /* multiple of 16 floats (64 bytes) */
	size_t count;  /* product of dims */
	int32_t layer; /* number from 0, the output layer last; -1: the table of embeddings */
	/* as a version keeps it, in float32 unless net_keep_all() or net_keep() said otherwise */
	weight_type type;
	size_t place;  /* bytes from the start of what is kept, multiple of 64 */
} net_tensor_info; /* running statistics of batch_norm are tensors that the optimizer leaves alone */

extern net *net_new(const net_config *config, llm_error *err);
extern void net_free(net *n);
extern const net_config *net_get_config(const net *n);
/* A row has outputs; otherwise the network predicts tokens, or is there to embed texts. */
extern bool net_predicts_rows(const net_config *config);
/* Numbers that stand for a text: as many as its last dense layer makes, or its transformer's width. */
extern int32_t net_embedding_width(const net_config *config);
extern int32_t net_tensor_count(const net *n);
extern const net_tensor_info *net_tensor(const net *n, int32_t i);
extern size_t net_weight_bytes(const net *n); /* whole blob with padding, multiple of 64 */

/*
 * How a version keeps the weights.  Matrices of a network on tokens alone may be kept in another type when their rows
 * are a multiple of QUANT_BLOCK long: those of linear layers, and tables of embeddings and heads.  All other tensors,
 * and those of all other networks, are float32.
 */
extern bool net_can_keep(const net *n, int32_t i, weight_type type);
extern void net_keep_all(net *n, weight_type type);        /* all tensors that can be */
extern void net_keep(net *n, int32_t i, weight_type type); /* one, that can be; places change */
extern weight_type net_kept_type(const net *n); /* of most numbers that are not float32, if there are any */
extern size_t net_kept_bytes(const net *n);     /* whole, with padding, multiple of 64 */

/*
 * Numbers begin .. begin + count of tensor i to and from their place in `kept`, net_kept_bytes() bytes.  Encoded are
 * whole blocks; LLM_INVALID for numbers that the type cannot hold.  Padding between tensors is left to the caller: 0.
 */
extern bool net_encode_tensor(const net *n, int32_t i, size_t begin, size_t count, const float *x, void *kept,
							  llm_error *err);
/* The same of numbers alone, to bytes of the caller's. */
extern bool net_encode_numbers(const net *n, int32_t i, const float *x, size_t count, void *out, llm_error *err);
extern void net_decode_tensor(const net *n, int32_t i, size_t begin, size_t count, const void *kept, float *x);
/* Keep tensors with numbers that their types cannot hold in float32: then net_encode() does not fail. */
extern void net_keep_fitting(net *n, const float *weights);
/* All of them from net_weight_bytes() bytes, padding included. */
extern bool net_encode(const net *n, const float *weights, void *kept, llm_error *err);

extern double net_multiplications(const net *n); /* for one row, about; looking up a bag counts as many as it adds */

extern const char *net_layer_name(layer_kind k);
extern bool net_layer_parse(const char *name, layer_kind *k);
extern const char *net_activation_name(net_activation a);
extern bool net_activation_parse(const char *name, net_activation *a);
extern const char *net_loss_name(net_loss l);
extern bool net_loss_parse(const char *name, net_loss *l);

/* ---- training ---- */

/* Called between steps of a plan and between tiles of long ones; true asks to stop. */
typedef bool (*llm_poll)(void *arg);

typedef enum train_optimizer
{
	OPT_ADAMW,
	OPT_SGD
} train_optimizer;
typedef enum train_schedule
{
	SCHEDULE_CONSTANT,
	SCHEDULE_LINEAR,
	SCHEDULE_COSINE
} train_schedule;

/* Of the numbers that a training multiplies; all else, sums and weights among it, is float32. */
typedef enum train_precision
{
	PRECISION_F32,
	PRECISION_BF16 /* of linear layers and of a language model's head; LLM_UNAVAILABLE without AVX512-BF16 */
} train_precision;

typedef enum lora_target
{
	LORA_QKV = 1, /* queries, keys and values together */
	LORA_OUT = 2, /* of attention */
	LORA_UP = 4,  /* of the feed-forward layer, with its gates */
	LORA_DOWN = 8,
	LORA_ALL = 15
} lora_target;

typedef struct train_config
{
	train_optimizer optimizer;
	double learning_rate;
	double weight_decay;          /* decoupled; not applied to biases and norms */
	double beta1, beta2, epsilon; /* adamw */
	double momentum;              /* sgd */
	double clip_norm;             /* global gradient norm, 0 = off */
	train_schedule schedule;
	int64_t warmup_steps;
	int64_t total_steps; /* the schedule ends here */
	double ema_decay;    /* 0 = off; otherwise weights to publish are the moving average */
	/*
	 * Fine-tuning of a transformer: only the last layers, the norm behind them and what makes outputs are
	 * trained, and everything before stays as it is; 0: all is trained.
	 */
	int32_t train_layers;
	/*
	 * Or adapters of this rank for linear layers of all its layers (Hu et al., "LoRA", 2021) and the layer
	 * that makes a row's outputs; 0: none.  What they add is scaled by lora_alpha / lora_rank.
	 */
	int32_t lora_rank;
	float lora_alpha;
	uint32_t lora_targets;     /* which linear layers, of lora_target */
	train_precision precision; /* of training steps; scores are those of the weights in float32 */
	/*
	 * Most rows of a pass; 0: all of a step.  With fewer than a step has, its gradient is summed over passes,
	 * which takes less memory for what layers make and a buffer as large as the trained weights.  Networks
	 * with batch norm, whose statistics are those of a pass, are refused.
	 */
	int64_t micro_rows;
	/*
	 * Of a transformer's layers only the inputs are kept, and each is computed again before its gradient (Chen
	 * et al., "Training deep nets with sublinear memory cost", 2016): the same results in less memory.
	 */
	bool recompute;
	uint64_t seed;
	int32_t threads; /* size of the pool, >= 1; results do not depend on it */
	/*
	 * Steps and scores are computed on a GPU, which has parameters, moments, sums over passes and what layers
	 * make.  Checkpoints are those of the CPU.  trainer_new() needs the device, opened; planning does not.
	 */
	bool gpu;
	struct cuda_device *device;
	llm_poll poll; /* may be NULL; trainer_set_poll() replaces it */
	void *poll_arg;
} train_config;

typedef struct trainer trainer;

/* Bytes that trainer_new() will allocate, so that a job can be refused before it starts.  batch_rows: most of a step. */
extern bool trainer_memory(const net *n, const train_config *config, int64_t batch_rows, size_t *bytes,
						   llm_error *err);
/* Of config->gpu: bytes on the device, without scratch of its operations; trainer_memory() are the others. */
extern bool trainer_device_memory(const net *n, const train_config *config, int64_t batch_rows, size_t *bytes,
								  llm_error *err);
/* And with that scratch, of one that was made; 0 without config->gpu. */
extern size_t trainer_device_bytes(const trainer *t);
/* LLM_CANCELLED when config->poll asked to stop. */
extern trainer *trainer_new(const net *n, const train_config *config, int64_t batch_rows, llm_error *err);
extern void trainer_free(trainer *t); /* joins its threads */
extern void trainer_set_poll(trainer *t, llm_poll poll, void *arg);

/*
 * Forward, backward and update on the rows of b, at most those of a pass; an even number with
 * LOSS_CONTRASTIVE, where rows 2i and 2i + 1 are a pair.  *loss is the
 * weighted mean loss of the batch before the update.  After LLM_CANCELLED parameters are
 * those before the step, and the step can be run again.
 */
extern bool trainer_step(trainer *t, const batch *b, double *loss, llm_error *err);
/*
 * The same in several passes: each adds the rows of b to the step, at most batch_rows in all, and
 * trainer_update() ends it, with the result of one pass over all rows but for rounding, dropout and moved
 * images.  Parameters change at the end only; after LLM_CANCELLED the rows of b can be added again.
 * Predicting and scoring have to wait for the end; trainer_restore() and trainer_set_weights() drop what
 * was added.
 */
extern bool trainer_accumulate(trainer *t, const batch *b, llm_error *err); /* b may change afterwards */
/* The next pass will be on b, which does not change before: a GPU takes its inputs while it computes. */
extern bool trainer_stage(trainer *t, const batch *b, llm_error *err);
extern bool trainer_update(trainer *t, double *loss, llm_error *err);
extern int64_t trainer_steps_done(const trainer *t);
extern double trainer_learning_rate(const trainer *t); /* of the last step */
extern double trainer_gradient_norm(const trainer *t); /* of the last step, before clipping */

/*
 * Forward with the weights that would be published, without dropout.  out is
 * (rows, outputs): class probabilities (one probability of class 1 for LOSS_BINARY) or
 * standardised numbers.  *loss_sum and *weight_sum are added to; either may be NULL.
 */
extern bool trainer_predict(trainer *t, const batch *b, float *out, double *loss_sum, double *weight_sum,
							llm_error *err);

/*
 * Start the output layer of a network that predicts rows at these biases (outputs), before
 * the first step: log odds or log shares of classes save the first steps of learning them.
 */
extern void trainer_set_output_bias(trainer *t, const float *bias);

/*
 * In its place for a network that predicts no rows: what is added to are sums over tokens of weight
 * times loss, of weights, and of tokens of weight > 0 predicted right; or over the rows of pairs, of
 * those whose partner is the nearest row.
 */
extern bool trainer_score_tokens(trainer *t, const batch *b, double *loss_sum, double *weight_sum, double *correct,
								 llm_error *err);

/*
 * Bring parameters and moments from the GPU to this memory.  After steps, trainer_weights(), trainer_adapters()
 * and trainer_save() need it; without config->gpu it does nothing.
 */
extern bool trainer_fetch(trainer *t, llm_error *err);

/*
 * The weights that would be published now (the average when ema is on), adapters merged into them.  They
 * stay valid, and what they are, until the next call that changes parameters.
 */
extern const float *trainer_weights(trainer *t);
/* Replace parameters (fine-tuning, restoring the best epoch); moments stay, adapters add nothing. */
extern void trainer_set_weights(trainer *t, const float *weights);

/*
 * Adapters alone: a directory of their tensors, layers.0.attn.qkv.lora_A.weight (rank, inputs) and
 * lora_B (outputs, rank) in turn, of which only net_tensor_count(), net_tensor() and
 * net_weight_bytes() have a meaning; *data: that many bytes, as they would be published now.  NULL
 * without lora_rank.
 */
extern const net *trainer_adapters(const trainer *t, const float **data);

/*
 * Parameters, moments, average, counters: everything that makes a resumed run equal to the bit, but for
 * weights that fine-tuning leaves as they are: trainer_restore() needs them to be there, as
 * trainer_set_weights() puts them there, and is LLM_INVALID where they are others.
 */
extern size_t trainer_state_bytes(const trainer *t);
extern void trainer_save(const trainer *t, void *state);
extern bool trainer_restore(trainer *t, const void *state, size_t bytes, llm_error *err);

/* ---- prediction ---- */

typedef struct predictor predictor;
struct cuda_device;

/* Bytes that predictor_new() will allocate for max_rows rows in this memory, without a device. */
extern bool predictor_memory(const net *n, int64_t max_rows, size_t *bytes, llm_error *err);
/* And on one, without scratch of its operations. */
extern bool predictor_device_memory(const net *n, int64_t max_rows, size_t *bytes, llm_error *err);
/*
 * weights: net_kept_bytes() bytes, all of them float32, 64-byte aligned, kept by the caller as long as
 * the predictor lives, never written.  One thread, no pool; OpenBLAS only for more than 8 rows.  device: a
 * GPU that is open as long, which has a copy of the weights and runs the plan; NULL: the CPU.
 */
extern predictor *predictor_new(const net *n, const void *weights, int64_t max_rows, struct cuda_device *device,
								llm_error *err);
extern void predictor_free(predictor *p);
/* On the device, with that scratch; 0 without one. */
extern size_t predictor_device_bytes(const predictor *p);
extern batch *predictor_batch(predictor *p); /* fill this, then run; owned by the predictor */
/* Returns (rows, outputs) as trainer_predict() does, valid until the next run, or NULL. */
extern const float *predictor_run(predictor *p, llm_error *err);
extern void predictor_set_poll(predictor *p, llm_poll poll, void *arg);

#endif /* LLMAPP_NET_H */
