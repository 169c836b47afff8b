/*
 * net.c
 *	  Networks by configuration: checks, the layout of parameters, names.
 *
 * The layout is a function of the configuration alone: tensors in the order of layers
 * (net_layers.c), each at the next multiple of 64 bytes.
 */
#include "net_record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transformer.h"

#define MAX_WIDTH 65536
#define MAX_INPUTS (1 << 20)
#define MAX_EMBED_DIM 4096
#define MAX_SHIFT 256
#define MAX_CROP 0.9

static const char *const activation_names[] = {
	[ACT_IDENTITY] = "identity", [ACT_RELU] = "relu", [ACT_GELU] = "gelu",       [ACT_GELU_TANH] = "gelu_tanh",
	[ACT_SILU] = "silu",         [ACT_TANH] = "tanh", [ACT_SIGMOID] = "sigmoid",
};
static const char *const loss_names[] = {
	[LOSS_CROSS_ENTROPY] = "cross_entropy", [LOSS_BINARY] = "binary", [LOSS_MSE] = "mse", [LOSS_HUBER] = "huber",
	[LOSS_CONTRASTIVE] = "contrastive",
};
static const char *const layer_names[] = {
	[LAYER_LINEAR] = "linear",
	[LAYER_CONV2D] = "conv2d",
	[LAYER_MAX_POOL] = "max_pool",
	[LAYER_AVG_POOL] = "avg_pool",
	[LAYER_GLOBAL_AVG_POOL] = "global_avg_pool",
	[LAYER_BATCH_NORM] = "batch_norm",
	[LAYER_GROUP_NORM] = "group_norm",
	[LAYER_LAYER_NORM] = "layer_norm",
	[LAYER_ACTIVATION] = "activation",
	[LAYER_DROPOUT] = "dropout",
	[LAYER_FLATTEN] = "flatten",
	[LAYER_ADD] = "add",
	[LAYER_CONCAT] = "concat",
};

#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

static int
find_name(const char *const *names, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

const char *
net_activation_name(net_activation a)
{
	return activation_names[a];
}

bool
net_activation_parse(const char *name, net_activation *a)
{
	int i = find_name(activation_names, COUNT(activation_names), name);

	if (i >= 0)
		*a = (net_activation) i;
	return i >= 0;
}

const char *
net_loss_name(net_loss l)
{
	return loss_names[l];
}

const char *
net_layer_name(layer_kind k)
{
	return layer_names[k];
}

bool
net_layer_parse(const char *name, layer_kind *k)
{
	int i = find_name(layer_names, COUNT(layer_names), name);

	if (i >= 0)
		*k = (layer_kind) i;
	return i >= 0;
}

bool
net_loss_parse(const char *name, net_loss *l)
{
	int i = find_name(loss_names, COUNT(loss_names), name);

	if (i >= 0)
		*l = (net_loss) i;
	return i >= 0;
}

/* ---- checks ---- */

static bool
check_inputs(const batch_shape *s, int32_t embed_dim, llm_error *err)
{
	if (s->dense < 0 || s->dense > MAX_INPUTS || s->embed_columns < 0 || s->embed_columns > MAX_WIDTH ||
		s->embed_rows < 0 || s->bag_rows < 0 || s->bag_max < 0 || s->bag_max > MAX_INPUTS)
		return llm_fail(err, LLM_INVALID, "network has an impossible number of inputs");
	if (s->dense == 0 && s->embed_columns == 0 && s->bag_rows == 0 && s->vocab == 0)
		return llm_fail(err, LLM_INVALID, "network has no input");
	if ((s->bag_rows > 0) != (s->bag_max > 0) || (s->embed_columns > 0) != (s->embed_rows > 0))
		return llm_fail(err, LLM_INVALID, "network has a table that no input uses");
	if (s->embed_columns > 0 && (embed_dim < 1 || embed_dim > MAX_EMBED_DIM))
		return llm_fail(err, LLM_INVALID, "embed_dim %d is not between 1 and %d", embed_dim, MAX_EMBED_DIM);
	return true;
}

static bool
check_loss(const net_config *c, llm_error *err)
{
	int32_t outputs = c->shape.outputs;

	if (outputs < 1 || outputs > MAX_WIDTH)
		return llm_fail(err, LLM_INVALID, "number of outputs %d is not between 1 and %d", outputs, MAX_WIDTH);
	if ((unsigned) c->loss > LOSS_HUBER)
		return llm_fail(err, LLM_INVALID, "unknown loss");
	if (c->shape.class_target != (c->loss == LOSS_CROSS_ENTROPY || c->loss == LOSS_BINARY) ||
		(c->loss == LOSS_CROSS_ENTROPY && outputs < 2) || (c->loss == LOSS_BINARY && outputs != 1))
		return llm_fail(err, LLM_INVALID, "loss \"%s\" does not fit %d outputs", net_loss_name(c->loss), outputs);
	if (c->loss == LOSS_HUBER && !(c->huber_delta > 0 && isfinite(c->huber_delta)))
		return llm_fail(err, LLM_INVALID, "huber_delta must be positive");
	if (!(c->text_dropout >= 0 && c->text_dropout < 1))
		return llm_fail(err, LLM_INVALID, "text_dropout must be at least 0 and less than 1");
	if (!(c->label_smoothing >= 0 && c->label_smoothing < 1))
		return llm_fail(err, LLM_INVALID, "label_smoothing must be at least 0 and less than 1");
	return true;
}

static bool
check_image(const net_config *c, llm_error *err)
{
	int64_t pixels = 1;

	if (c->image[0] == 0 && c->image[1] == 0 && c->image[2] == 0 && c->augment.shift == 0)
		return true;
	for (int i = 0; i < 3; i++)
	{
		if (c->image[i] < 1 || c->image[i] > MAX_INPUTS)
			return llm_fail(err, LLM_INVALID, "image of %d channels, height %d and width %d is not possible",
							c->image[0], c->image[1], c->image[2]);
		pixels *= c->image[i]; /* at most 2^60 */
	}
	if (pixels > c->shape.dense)
		return llm_fail(err, LLM_INVALID, "image has %lld numbers, rows have %d", (long long) pixels, c->shape.dense);
	if (c->augment.shift < 0 || c->augment.shift > MAX_SHIFT)
		return llm_fail(err, LLM_INVALID, "image_shift %d is not between 0 and %d", c->augment.shift, MAX_SHIFT);
	if (!(c->augment.crop >= 0 && c->augment.crop <= MAX_CROP))
		return llm_fail(err, LLM_INVALID, "image_crop %g is not between 0 and %g", c->augment.crop, MAX_CROP);
	return true;
}

static bool
check_config(const net_config *c, llm_error *err)
{
	if (!check_inputs(&c->shape, c->embed_dim, err) || !check_loss(c, err) || !check_image(c, err))
		return false;
	if (c->layer_count < 0 || c->layer_count > NET_MAX_LAYERS)
		return llm_fail(err, LLM_INVALID, "number of layers %d is not between 1 and %d", c->layer_count,
						NET_MAX_LAYERS);
	if (c->hidden_count < 0 || c->hidden_count > NET_MAX_HIDDEN)
		return llm_fail(err, LLM_INVALID, "number of hidden layers %d is not between 0 and %d", c->hidden_count,
						NET_MAX_HIDDEN);
	for (int32_t i = 0; i < c->hidden_count; i++)
		if (c->hidden[i] < 1 || c->hidden[i] > MAX_WIDTH)
			return llm_fail(err, LLM_INVALID, "width %d of hidden layer %d is not between 1 and %d", c->hidden[i],
							i + 1, MAX_WIDTH);
	if (c->members < 0 || c->members > NET_MAX_MEMBERS)
		return llm_fail(err, LLM_INVALID, "number of members %d is not between 1 and %d", c->members,
						NET_MAX_MEMBERS);
	if ((unsigned) c->activation > ACT_SIGMOID)
		return llm_fail(err, LLM_INVALID, "unknown activation");
	if (!(c->dropout >= 0 && c->dropout < 1))
		return llm_fail(err, LLM_INVALID, "dropout must be at least 0 and less than 1");
	return true;
}

static bool
check_dense(const net_config *c, llm_error *err)
{
	if (c->dense_count < 0 || c->dense_count > NET_MAX_DENSE || (c->dense_count > 0 && c->loss != LOSS_CONTRASTIVE))
		return llm_fail(err, LLM_INVALID, "a network that embeds texts has up to %d dense layers, others have none",
						NET_MAX_DENSE);
	for (int32_t i = 0; i < c->dense_count; i++)
	{
		if (c->dense[i].width < 1 || c->dense[i].width > MAX_WIDTH)
			return llm_fail(err, LLM_INVALID, "width %d of dense layer %d is not between 1 and %d", c->dense[i].width,
							i + 1, MAX_WIDTH);
		if ((unsigned) c->dense[i].activation > ACT_SIGMOID)
			return llm_fail(err, LLM_INVALID, "unknown activation of dense layer %d", i + 1);
	}
	return true;
}

/* Of a network that predicts no rows. */
static bool
check_tokens_only(const net_config *c, llm_error *err)
{
	const batch_shape *s = &c->shape;
	bool embeds = c->loss == LOSS_CONTRASTIVE;

	if (s->class_target || s->dense > 0 || s->embed_columns > 0 || s->bag_rows > 0 || c->layer_count > 0)
		return llm_fail(err, LLM_INVALID, "a language model reads and predicts tokens, nothing else");
	if (embeds &&
		(s->token_target || s->vocab == 0 || s->outputs != 1 || s->source_context > 0 || c->hidden_count > 0))
		return llm_fail(err, LLM_INVALID,
						"a network that embeds texts reads tokens by one transformer, nothing else");
	return true;
}

/* ---- layout ---- */

/* The table of a bag may have far more rows than inputs that matter: hashed n-grams. */
#define MAX_BAG_FAN_IN 1024
/* A small last layer starts near the mean (or the class shares, trainer_set_output_bias()). */
#define OUTPUT_GAIN 0.1f

/* Where the next tensors go. */
typedef struct layout
{
	net *n;
	char prefix[24]; /* of the member */
	int32_t layer;   /* -1: the embeddings */
	llm_error *err;
} layout;

static bool
add_tensor(layout *l, const char *layer, const char *name, int32_t ndim, const int64_t *dims, float deviation,
		   float constant)
{
	char full[64];

	snprintf(full, sizeof(full), "%s%s.%s", l->prefix, layer, name);
	if (!net_add_tensor(l->n, full, ndim, dims, deviation, constant, l->err))
		return false;
	l->n->tensors[l->n->tensor_count - 1].layer = l->layer;
	return true;
}

static bool
add_vector(layout *l, const char *layer, const char *name, int64_t size, float constant)
{
	return add_tensor(l, layer, name, 1, &size, 0, constant);
}

/*
 * The bag has its own table, stored by input.  Variance gain^2 / inputs: gain sqrt(2) keeps
 * the scale through rectifiers (He et al., "Delving deep into rectifiers", 2015).
 */
static bool
add_linear(layout *l, const layer_plan *p, const char *name, float gain)
{
	int64_t bag_rows = p->bag ? l->n->config.shape.bag_rows : 0;
	int64_t fan_in = p->inputs + (bag_rows < MAX_BAG_FAN_IN ? bag_rows : MAX_BAG_FAN_IN);
	float deviation = gain / sqrtf((float) fan_in);
	int64_t weight[2] = {p->layer.width, p->inputs}, bag[2] = {bag_rows, p->layer.width};

	return (p->inputs == 0 || add_tensor(l, name, "weight", 2, weight, deviation, 0)) &&
		   (bag_rows == 0 || add_tensor(l, name, "bag", 2, bag, deviation, 0)) &&
		   (!p->layer.bias || add_vector(l, name, "bias", p->layer.width, 0));
}

static bool
add_conv2d(layout *l, const layer_plan *p, const char *name)
{
	int64_t dims[4] = {p->layer.kernel[0], p->layer.kernel[1], p->channels, p->layer.width};
	float fan_in = (float) dims[0] * dims[1] * dims[2];

	return add_tensor(l, name, "weight", 4, dims, (float) M_SQRT2 / sqrtf(fan_in), 0) &&
		   (!p->layer.bias || add_vector(l, name, "bias", p->layer.width, 0));
}

static bool
add_layer(layout *l, const layer_plan *p, bool output)
{
	char number[NET_NAME_BYTES];
	const char *name = p->layer.name[0] ? p->layer.name : number;
	int64_t channels = p->layer.kind == LAYER_LAYER_NORM ? p->inputs : p->channels;

	snprintf(number, sizeof(number), "layer.%d", (int) (p - l->n->layers) + 1);
	switch (p->layer.kind)
	{
		case LAYER_LINEAR: return add_linear(l, p, name, output ? OUTPUT_GAIN : (float) M_SQRT2);
		case LAYER_CONV2D: return add_conv2d(l, p, name);
		case LAYER_BATCH_NORM:
		case LAYER_GROUP_NORM:
		case LAYER_LAYER_NORM:
			return add_vector(l, name, "weight", channels, 1) && add_vector(l, name, "bias", channels, 0) &&
				   (p->layer.kind != LAYER_BATCH_NORM || (add_vector(l, name, "running_mean", channels, 0) &&
														  add_vector(l, name, "running_variance", channels, 1)));
		default: return true;
	}
}

static bool
lay_out_member(layout *l)
{
	const net *n = l->n;
	int64_t table[2] = {n->config.shape.embed_rows, n->config.embed_dim};

	l->layer = -1;
	if (n->config.shape.embed_columns > 0 &&
		!add_tensor(l, "embed", "weight", 2, table, 1 / sqrtf((float) n->config.embed_dim), 0))
		return false;
	for (l->layer = 0; l->layer < n->layer_count; l->layer++)
		if (!add_layer(l, &n->layers[l->layer], l->layer == n->layer_count - 1))
			return false;
	return true;
}

static bool
lay_out(net *n, llm_error *err)
{
	layout l = {.n = n, .err = err};

	for (int32_t i = 0; i < n->config.members; i++)
	{
		if (n->config.members > 1)
			snprintf(l.prefix, sizeof(l.prefix), "member.%d.", i);
		if (!lay_out_member(&l))
			return false;
	}
	return true;
}

static bool
lay_out_dense(net *n, llm_error *err)
{
	layout l = {.n = n, .layer = -1, .err = err};
	int64_t inputs = n->config.text.width;

	for (int32_t i = 0; i < n->config.dense_count; i++)
	{
		const net_dense *d = &n->config.dense[i];
		int64_t dims[2] = {d->width, inputs};
		char name[NET_NAME_BYTES];

		snprintf(name, sizeof(name), "dense.%d", i);
		if (!add_tensor(&l, name, "weight", 2, dims, 1 / sqrtf((float) inputs), 0) ||
			(d->bias && !add_vector(&l, name, "bias", d->width, 0)))
			return false;
		inputs = d->width;
	}
	return true;
}

net *
net_new(const net_config *config, llm_error *err)
{
	net *n;
	bool ok;

	if ((config->text.vocab > 0 && !transformer_check(config, err)) ||
		(net_predicts_rows(config) ? !check_config(config, err) : !check_tokens_only(config, err)) ||
		!check_dense(config, err))
		return NULL;
	n = calloc(1, sizeof(net));
	if (!n)
	{
		llm_fail(err, LLM_MEMORY, "out of memory");
		return NULL;
	}
	n->config = *config;
	if (n->config.members == 0)
		n->config.members = 1;
	ok = config->text.vocab == 0 || transformer_layout(n, err);
	n->text_tensors = n->tensor_count;
	ok = ok && lay_out_dense(n, err);
	if (ok && net_predicts_rows(config))
	{
		n->layer_count = layers_plan(&n->config, n->layers, err);
		ok = n->layer_count > 0 && lay_out(n, err);
	}
	if (!ok)
	{
		net_free(n);
		return NULL;
	}
	return n;
}

void
net_free(net *n)
{
	free(n);
}

const net_config *
net_get_config(const net *n)
{
	return &n->config;
}

int32_t
net_tensor_count(const net *n)
{
	return n->tensor_count;
}

const net_tensor_info *
net_tensor(const net *n, int32_t i)
{
	return &n->tensors[i];
}

size_t
net_weight_bytes(const net *n)
{
	return n->weight_floats * sizeof(float);
}

bool
net_predicts_rows(const net_config *config)
{
	return !config->shape.token_target && config->loss != LOSS_CONTRASTIVE;
}

int32_t
net_embedding_width(const net_config *config)
{
	return config->dense_count > 0 ? config->dense[config->dense_count - 1].width : config->text.width;
}

void
net_dense_tensors(const net *n, int32_t i, int32_t numbers[2])
{
	int32_t next = n->text_tensors;

	for (int32_t k = 0; k < i; k++)
		next += n->config.dense[k].bias ? 2 : 1;
	numbers[0] = next;
	numbers[1] = n->config.dense[i].bias ? next + 1 : TENSOR_NONE;
}

double
net_multiplications(const net *n)
{
	double sum = 0;

	for (int32_t i = 0; i < n->layer_count; i++)
		sum += n->layers[i].multiplications;
	for (int32_t i = 0; i < n->text_tensors; i++)
		if (n->tensors[i].ndim > 1 && n->tensors[i].dims[0] != n->config.text.vocab)
			sum += (double) n->tensors[i].count * n->config.text.context;
	for (int32_t i = n->text_tensors; i < n->tensor_count && n->config.dense_count > 0; i++)
		sum += (double) n->tensors[i].count;
	return sum * n->config.members;
}
