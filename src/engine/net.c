/*
 * net.c
 *	  Networks by configuration: checks, the layout of parameters, initial values, names.
 *
 * The layout is a function of the configuration alone: tensors in the order of
 * add_tensor() calls, each at the next multiple of 64 bytes.
 */
#include "net_record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "philox.h"

#define MAX_WIDTH 65536
#define MAX_INPUTS (1 << 20)
#define MAX_EMBED_DIM 4096

static const char *const activation_names[] = {
	[ACT_IDENTITY] = "identity",[ACT_RELU] = "relu",[ACT_GELU] = "gelu",[ACT_GELU_TANH] = "gelu_tanh",
	[ACT_SILU] = "silu",[ACT_TANH] = "tanh",[ACT_SIGMOID] = "sigmoid",
};
static const char *const loss_names[] = {
	[LOSS_CROSS_ENTROPY] = "cross_entropy",[LOSS_BINARY] = "binary",[LOSS_MSE] = "mse",[LOSS_HUBER] = "huber",
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
	int			i = find_name(activation_names, COUNT(activation_names), name);

	if (i >= 0)
		*a = (net_activation) i;
	return i >= 0;
}

const char *
net_loss_name(net_loss l)
{
	return loss_names[l];
}

bool
net_loss_parse(const char *name, net_loss *l)
{
	int			i = find_name(loss_names, COUNT(loss_names), name);

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
	if (s->dense == 0 && s->embed_columns == 0 && s->bag_rows == 0)
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
	int32_t		outputs = c->shape.outputs;

	if (outputs < 1 || outputs > MAX_WIDTH)
		return llm_fail(err, LLM_INVALID, "number of outputs %d is not between 1 and %d", outputs, MAX_WIDTH);
	if ((unsigned) c->loss > LOSS_HUBER)
		return llm_fail(err, LLM_INVALID, "unknown loss");
	if (c->shape.class_target != (c->loss == LOSS_CROSS_ENTROPY || c->loss == LOSS_BINARY) ||
		(c->loss == LOSS_CROSS_ENTROPY && outputs < 2) || (c->loss == LOSS_BINARY && outputs != 1))
		return llm_fail(err, LLM_INVALID, "loss \"%s\" does not fit %d outputs", net_loss_name(c->loss), outputs);
	if (c->loss == LOSS_HUBER && !(c->huber_delta > 0 && isfinite(c->huber_delta)))
		return llm_fail(err, LLM_INVALID, "huber_delta must be positive");
	if (!(c->label_smoothing >= 0 && c->label_smoothing < 1))
		return llm_fail(err, LLM_INVALID, "label_smoothing must be at least 0 and less than 1");
	return true;
}

static bool
check_config(const net_config *c, llm_error *err)
{
	if (!check_inputs(&c->shape, c->embed_dim, err) || !check_loss(c, err))
		return false;
	if (c->hidden_count < 0 || c->hidden_count > NET_MAX_HIDDEN)
		return llm_fail(err, LLM_INVALID, "number of hidden layers %d is not between 0 and %d",
						c->hidden_count, NET_MAX_HIDDEN);
	for (int32_t i = 0; i < c->hidden_count; i++)
		if (c->hidden[i] < 1 || c->hidden[i] > MAX_WIDTH)
			return llm_fail(err, LLM_INVALID, "width %d of hidden layer %d is not between 1 and %d",
							c->hidden[i], i + 1, MAX_WIDTH);
	if (c->members < 0 || c->members > NET_MAX_MEMBERS)
		return llm_fail(err, LLM_INVALID, "number of members %d is not between 1 and %d", c->members, NET_MAX_MEMBERS);
	if ((unsigned) c->activation > ACT_SIGMOID)
		return llm_fail(err, LLM_INVALID, "unknown activation");
	if (!(c->dropout >= 0 && c->dropout < 1))
		return llm_fail(err, LLM_INVALID, "dropout must be at least 0 and less than 1");
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
	net		   *n;
	char		prefix[24];		/* of the member */
	llm_error  *err;
} layout;

/* columns 0: a vector.  deviation 0: every element starts as `constant`. */
static bool
add_tensor(layout *l, const char *layer, const char *name, int64_t rows, int64_t columns, float deviation,
		   float constant)
{
	net		   *n = l->n;
	net_tensor_info *t = &n->tensors[n->tensor_count];
	size_t		padded;

	snprintf(t->name, sizeof(t->name), "%s%s.%s", l->prefix, layer, name);
	t->ndim = columns ? 2 : 1;
	t->dims[0] = rows;
	t->dims[1] = columns;
	t->offset = n->weight_floats;
	if (__builtin_mul_overflow((size_t) rows, (size_t) (columns ? columns : 1), &t->count) ||
		t->count > ((size_t) 1 << 40) ||
		__builtin_add_overflow(n->weight_floats, padded = (t->count + 15) & ~(size_t) 15, &n->weight_floats))
		return llm_fail(l->err, LLM_MEMORY, "network is too large: tensor %s has more than 2^40 elements", t->name);
	n->deviation[n->tensor_count] = deviation;
	n->constant[n->tensor_count] = constant;
	n->tensor_count++;
	return true;
}

/*
 * dense and embeddings share one matrix; the bag has its own table, stored by input.
 * Variance gain^2 / inputs: gain sqrt(2) keeps the scale through rectifiers (He et al.,
 * "Delving deep into rectifiers", 2015).
 */
static bool
add_layer(layout *l, const char *layer, int64_t inputs, int64_t bag_rows, int64_t width, float gain)
{
	int64_t		fan_in = inputs + (bag_rows < MAX_BAG_FAN_IN ? bag_rows : MAX_BAG_FAN_IN);
	float		deviation = gain / sqrtf((float) fan_in);

	return (inputs == 0 || add_tensor(l, layer, "weight", width, inputs, deviation, 0)) &&
		(bag_rows == 0 || add_tensor(l, layer, "bag", bag_rows, width, deviation, 0)) &&
		add_tensor(l, layer, "bias", width, 0, 0, 0);
}

static bool
lay_out_member(layout *l)
{
	const net_config *c = &l->n->config;
	const batch_shape *s = &c->shape;
	int64_t		inputs = s->dense + (int64_t) s->embed_columns * (s->embed_columns ? c->embed_dim : 0);
	int64_t		bag_rows = s->bag_rows;
	char		layer[32];

	if (inputs > INT32_MAX)
		return llm_fail(l->err, LLM_MEMORY, "network is too large");
	if (s->embed_columns > 0 &&
		!add_tensor(l, "embed", "weight", s->embed_rows, c->embed_dim, 1 / sqrtf((float) c->embed_dim), 0))
		return false;
	for (int32_t i = 0; i < c->hidden_count; i++)
	{
		snprintf(layer, sizeof(layer), "hidden.%d", i);
		if (!add_layer(l, layer, inputs, bag_rows, c->hidden[i], (float) M_SQRT2))
			return false;
		snprintf(layer, sizeof(layer), "hidden.%d.norm", i);
		if (c->layer_norm &&
			!(add_tensor(l, layer, "weight", c->hidden[i], 0, 0, 1) &&
			  add_tensor(l, layer, "bias", c->hidden[i], 0, 0, 0)))
			return false;
		inputs = c->hidden[i];
		bag_rows = 0;
	}
	return add_layer(l, "output", inputs, bag_rows, s->outputs, OUTPUT_GAIN);
}

static bool
lay_out(net *n, llm_error *err)
{
	layout		l = {.n = n,.err = err};

	for (int32_t i = 0; i < n->config.members; i++)
	{
		if (n->config.members > 1)
			snprintf(l.prefix, sizeof(l.prefix), "member.%d.", i);
		if (!lay_out_member(&l))
			return false;
	}
	return true;
}

net *
net_new(const net_config *config, llm_error *err)
{
	net		   *n;

	if (!check_config(config, err))
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
	if (!lay_out(n, err))
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

/* ---- initial values ---- */

/* No training step has this number, so initial values share no random numbers with dropout. */
#define INITIAL_STEP UINT64_MAX

/* Two normal numbers from two words (Box and Muller, 1958); the logarithm's argument is above 0. */
static void
normal_pair(uint32_t a, uint32_t b, float *out)
{
	double		radius = sqrt(-2 * log((a + 0.5) / 4294967296.0));
	double		angle = 2 * M_PI * (b / 4294967296.0);

	out[0] = (float) (radius * cos(angle));
	out[1] = (float) (radius * sin(angle));
}

#define INITIAL_TILE 65536		/* floats; a multiple of what philox() gives at once */

typedef struct initial_args
{
	const net  *n;
	int32_t		tensor;
	uint64_t	seed;
	float	   *w;				/* (count) of the tensor */
} initial_args;

static void
initial_tile(void *arg, int64_t tile)
{
	const initial_args *a = arg;
	float		deviation = a->n->deviation[a->tensor];
	size_t		begin = tile * INITIAL_TILE;
	size_t		rest = a->n->tensors[a->tensor].count - begin;
	size_t		end = begin + (rest < INITIAL_TILE ? rest : INITIAL_TILE);
	uint32_t	bits[4];
	float		normal[4];

	for (size_t j = begin; j < end; j++)
	{
		if (deviation == 0)
		{
			a->w[j] = a->n->constant[a->tensor];
			continue;
		}
		if (j % 4 == 0)
		{
			/* a stream has 2^34 numbers; larger tensors use more streams */
			philox(a->seed, INITIAL_STEP, (uint32_t) a->tensor + NET_MAX_TENSORS * (uint32_t) (j >> 34),
				   (uint32_t) (j / 4), bits);
			normal_pair(bits[0], bits[1], normal);
			normal_pair(bits[2], bits[3], normal + 2);
		}
		a->w[j] = deviation * normal[j % 4];
	}
}

bool
net_initialise(const net *n, uint64_t seed, float *weights, pool *p, llm_poll poll, void *poll_arg)
{
	for (int32_t i = 0; i < n->tensor_count; i++)
	{
		initial_args a = {n, i, seed, weights + n->tensors[i].offset};

		if (!pool_run(p, initial_tile, &a, (n->tensors[i].count + INITIAL_TILE - 1) / INITIAL_TILE, poll, poll_arg))
			return false;
	}
	return true;
}
