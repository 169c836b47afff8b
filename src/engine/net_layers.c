/*
 * net_layers.c
 *	  Lists of layers: those an mlp stands for, a convolutional network for an image, and
 *	  the check that the layers of a list fit each other.
 *
 * Messages number layers from 1, as users write them.
 */
#include "net_layers.h"

#include <stdio.h>
#include <string.h>

#include "graph.h"

#define MAX_WIDTH 65536
#define MAX_WINDOW 1024
#define MAX_ROW_NUMBERS ((int64_t) 1 << 28) /* of one layer, for one row */
#define MAX_WEIGHTS ((int64_t) 1 << 40)

/* ---- lists ---- */

/* Append a layer that reads the one before it, or `first` when there is none. */
static net_layer *
append(net_layer *layers, int32_t *count, int32_t first, layer_kind kind)
{
	net_layer *l = &layers[*count];

	memset(l, 0, sizeof(*l));
	l->kind = kind;
	l->from[0] = *count > 0 ? *count - 1 : first;
	(*count)++;
	return l;
}

static void
append_linear(net_layer *layers, int32_t *count, int32_t first, int32_t width)
{
	net_layer *l = append(layers, count, first, LAYER_LINEAR);

	l->width = width;
	l->bias = true;
}

static void
append_activation(net_layer *layers, int32_t *count, net_activation activation)
{
	if (activation != ACT_IDENTITY)
		append(layers, count, 0, LAYER_ACTIVATION)->activation = activation;
}

static void
append_dropout(net_layer *layers, int32_t *count, float rate)
{
	if (rate > 0)
		append(layers, count, 0, LAYER_DROPOUT)->rate = rate;
}

/* h = dropout(act(norm(linear(x)))) [+ x] for each hidden layer */
static int32_t
mlp_layers(const net_config *c, net_layer *layers)
{
	int32_t count = 0;

	for (int32_t i = 0; i < c->hidden_count; i++)
	{
		int32_t before = count - 1;

		append_linear(layers, &count, FROM_COLUMNS, c->hidden[i]);
		snprintf(layers[count - 1].name, NET_NAME_BYTES, "hidden.%d", i);
		if (c->layer_norm)
			snprintf(append(layers, &count, 0, LAYER_LAYER_NORM)->name, NET_NAME_BYTES, "hidden.%d.norm", i);
		append_activation(layers, &count, c->activation);
		append_dropout(layers, &count, c->dropout);
		if (c->residual && i > 0 && c->hidden[i] == c->hidden[i - 1])
			append(layers, &count, 0, LAYER_ADD)->from[1] = before;
	}
	return count;
}

#define CNN_CHANNELS 16 /* of the first stage, doubled by each */
#define CNN_MAX_CHANNELS 256
#define CNN_STAGES 2       /* at least */
#define CNN_SMALL 6        /* pixels below which an image is not made smaller */
#define CNN_FLAT_PIXELS 64 /* more are averaged, fewer are all inputs of the last layers */
#define CNN_HIDDEN 128
#define CNN_COLUMNS 64 /* made of the columns beside the image */

static void
append_window(net_layer *layers, int32_t *count, layer_kind kind, int32_t size, int32_t stride)
{
	net_layer *l = append(layers, count, FROM_IMAGE, kind);

	for (int i = 0; i < 2; i++)
	{
		l->kernel[i] = size;
		l->stride[i] = stride;
		l->padding[i] = (size - stride) / 2;
	}
}

void
net_default_cnn(net_config *c)
{
	net_layer *layers = c->layers;
	int32_t *count = &c->layer_count;
	int32_t height = c->image[1], width = c->image[2], channels = CNN_CHANNELS;
	bool large = true;

	*count = 0;
	for (int stage = 0; stage < CNN_STAGES || large; stage++)
	{
		append_window(layers, count, LAYER_CONV2D, 3, 1);
		layers[*count - 1].width = channels;
		append(layers, count, 0, LAYER_BATCH_NORM);
		append_activation(layers, count, ACT_RELU);
		large = height >= CNN_SMALL && width >= CNN_SMALL;
		if (large)
			append_window(layers, count, LAYER_MAX_POOL, 2, 2);
		height /= large ? 2 : 1;
		width /= large ? 2 : 1;
		large = height >= CNN_SMALL && width >= CNN_SMALL;
		channels = channels < CNN_MAX_CHANNELS ? 2 * channels : channels;
	}
	append(layers, count, 0, (int64_t) height * width > CNN_FLAT_PIXELS ? LAYER_GLOBAL_AVG_POOL : LAYER_FLATTEN);
	if (c->shape.dense > c->image[0] * c->image[1] * c->image[2] || c->shape.embed_columns > 0 ||
		c->shape.bag_rows > 0)
	{
		int32_t seen = *count - 1;

		/* Columns get a layer of their own, else they drown among the many numbers of the image. */
		append_linear(layers, count, 0, CNN_COLUMNS);
		layers[*count - 1].from[0] = FROM_COLUMNS;
		append_activation(layers, count, ACT_RELU);
		append(layers, count, 0, LAYER_CONCAT)->from[1] = seen;
		append_linear(layers, count, 0, CNN_HIDDEN);
		append_activation(layers, count, ACT_RELU);
	}
	append_dropout(layers, count, c->dropout);
}

/* ---- the check ---- */

typedef struct checker
{
	const net_config *c;
	layer_plan *plan;
	int32_t count;
	layer_shape image, columns;
	bool image_read, columns_read, bag_read;
	llm_error *err;
} checker;

static int64_t
numbers(const layer_shape *s)
{
	return s->height * s->width * s->channels;
}

/* "28 x 28 x 16" or "64" */
static const char *
shape_text(const layer_shape *s, char *text, size_t size)
{
	if (s->vector)
		snprintf(text, size, "%lld", (long long) s->channels);
	else
		snprintf(text, size, "%lld x %lld x %lld", (long long) s->height, (long long) s->width,
				 (long long) s->channels);
	return text;
}

#define SHAPE_TEXT(s) shape_text((s), (char[72]) {0}, 72)

#define LAYER_FAIL(k, i, code, format, ...) \
	llm_fail((k)->err, code, "layer %d (%s) " format, (i) + 1, net_layer_name((k)->plan[i].layer.kind), __VA_ARGS__)

static void
make_inputs(checker *k)
{
	const batch_shape *s = &k->c->shape;
	int64_t pixels = (int64_t) k->c->image[0] * k->c->image[1] * k->c->image[2];

	k->image = (layer_shape) {false, k->c->image[1], k->c->image[2], k->c->image[0]};
	k->columns = (layer_shape) {true, 1, 1, s->dense - pixels};
	if (s->embed_columns > 0)
		k->columns.channels += (int64_t) s->embed_columns * k->c->embed_dim;
	if (k->c->text.vocab > 0)
		k->columns.channels += k->c->text.width;
}

static bool
has_columns(const checker *k)
{
	return k->columns.channels > 0 || k->c->shape.bag_rows > 0;
}

/* The shape that layer i reads as its input number j. */
static bool
input_shape(checker *k, int32_t i, int j, layer_shape *shape)
{
	int32_t from = k->plan[i].layer.from[j];

	if (from == FROM_IMAGE && k->image.channels == 0)
		return LAYER_FAIL(k, i, LLM_INVALID, "reads %s, but there is none", "the image");
	if (from == FROM_COLUMNS && !has_columns(k))
		return LAYER_FAIL(k, i, LLM_INVALID, "reads %s, but there are none beside the image", "columns");
	if (from < FROM_COLUMNS || from >= i)
		return LAYER_FAIL(k, i, LLM_INVALID, "reads layer %d, which does not come before it", from + 1);
	if (from >= 0)
		k->plan[from].readers++;
	k->image_read |= from == FROM_IMAGE;
	k->columns_read |= from == FROM_COLUMNS;
	*shape = from == FROM_IMAGE ? k->image : from == FROM_COLUMNS ? k->columns : k->plan[from].shape;
	return true;
}

/* Reads columns itself, or joined to something. */
static bool
reads_columns(const checker *k, const net_layer *l)
{
	const net_layer *joined = l->from[0] >= 0 ? &k->plan[l->from[0]].layer : l;

	return l->from[0] == FROM_COLUMNS ||
		   (joined->kind == LAYER_CONCAT && (joined->from[0] == FROM_COLUMNS || joined->from[1] == FROM_COLUMNS));
}

static bool
plan_linear(checker *k, int32_t i)
{
	layer_plan *p = &k->plan[i];
	double bag = k->c->shape.bag_max;

	if (p->layer.width < 1 || p->layer.width > MAX_WIDTH)
		return LAYER_FAIL(k, i, LLM_INVALID, "has width %d, not 1 to %d", p->layer.width, MAX_WIDTH);
	p->bag = k->c->shape.bag_rows > 0 && !k->bag_read && reads_columns(k, &p->layer);
	k->bag_read |= p->bag;
	p->shape = (layer_shape) {true, 1, 1, p->layer.width};
	p->multiplications = p->layer.width * (p->inputs + (p->bag ? bag : 0));
	return true;
}

/* Sets height and width of the output of a window on x. */
static bool
plan_window(checker *k, int32_t i, const layer_shape *x)
{
	layer_plan *p = &k->plan[i];
	const net_layer *l = &p->layer;
	window2d w;

	memcpy(w.kernel, l->kernel, sizeof(w.kernel));
	memcpy(w.stride, l->stride, sizeof(w.stride));
	memcpy(w.padding, l->padding, sizeof(w.padding));
	if (x->vector)
		return LAYER_FAIL(k, i, LLM_INVALID, "reads %s numbers, not an image of height x width x channels",
						  SHAPE_TEXT(x));
	for (int a = 0; a < 2; a++)
		if (l->kernel[a] < 1 || l->kernel[a] > MAX_WINDOW || l->stride[a] < 1 || l->stride[a] > MAX_WINDOW ||
			l->padding[a] < 0 || l->padding[a] >= l->kernel[a])
			return LAYER_FAIL(k, i, LLM_INVALID,
							  "has kernel %d, stride %d and padding %d; "
							  "kernel and stride are from 1 to %d, padding is less than the kernel",
							  l->kernel[a], l->stride[a], l->padding[a], MAX_WINDOW);
	p->shape = (layer_shape) {false, window_outputs(&w, 0, x->height), window_outputs(&w, 1, x->width), x->channels};
	if (p->shape.height == 0 || p->shape.width == 0)
		return LAYER_FAIL(k, i, LLM_INVALID, "has a window of %d x %d, larger than its input of %s", l->kernel[0],
						  l->kernel[1], SHAPE_TEXT(x));
	return true;
}

static bool
plan_conv2d(checker *k, int32_t i, const layer_shape *x)
{
	layer_plan *p = &k->plan[i];
	const net_layer *l = &p->layer;

	if (!plan_window(k, i, x))
		return false;
	if (l->width < 1 || l->width > MAX_WIDTH)
		return LAYER_FAIL(k, i, LLM_INVALID, "has %d channels, not 1 to %d", l->width, MAX_WIDTH);
	p->shape.channels = l->width;
	p->multiplications = (double) numbers(&p->shape) * l->kernel[0] * l->kernel[1] * x->channels;
	return true;
}

static bool
plan_global_pool(checker *k, int32_t i, const layer_shape *x)
{
	if (x->vector)
		return LAYER_FAIL(k, i, LLM_INVALID, "reads %s numbers, not an image of height x width x channels",
						  SHAPE_TEXT(x));
	if (x->height > MAX_WIDTH || x->width > MAX_WIDTH)
		return LAYER_FAIL(k, i, LLM_INVALID, "reads an image of %s, which is too large", SHAPE_TEXT(x));
	k->plan[i].shape = (layer_shape) {true, 1, 1, x->channels};
	return true;
}

static bool
plan_pair(checker *k, int32_t i, const layer_shape *x)
{
	layer_plan *p = &k->plan[i];
	layer_shape y;
	bool add = p->layer.kind == LAYER_ADD;

	if (!input_shape(k, i, 1, &y))
		return false;
	if (x->vector != y.vector || x->height != y.height || x->width != y.width || (add && x->channels != y.channels))
		return LAYER_FAIL(k, i, LLM_INVALID, "reads shapes %s and %s, which do not fit", SHAPE_TEXT(x),
						  SHAPE_TEXT(&y));
	p->shape.channels += add ? 0 : y.channels;
	if (p->shape.channels == 0)
		return LAYER_FAIL(k, i, LLM_INVALID, "reads columns of which only a linear layer can make %s", "numbers");
	return true;
}

/* Layers that keep the shape, which is set already. */
static bool
plan_plain(checker *k, int32_t i, const layer_shape *x)
{
	const net_layer *l = &k->plan[i].layer;

	if (numbers(x) == 0)
		return LAYER_FAIL(k, i, LLM_INVALID, "reads columns of which only a linear layer can make %s", "numbers");
	if (l->kind == LAYER_GROUP_NORM && (l->width < 1 || x->channels % l->width != 0))
		return LAYER_FAIL(k, i, LLM_INVALID, "has %d groups, which do not divide %lld channels", l->width,
						  (long long) x->channels);
	if (l->kind == LAYER_ACTIVATION && (unsigned) l->activation > ACT_SIGMOID)
		return LAYER_FAIL(k, i, LLM_INVALID, "has unknown function %d", (int) l->activation);
	if (l->kind == LAYER_DROPOUT && !(l->rate >= 0 && l->rate < 1))
		return LAYER_FAIL(k, i, LLM_INVALID, "has rate %g, not at least 0 and less than 1", l->rate);
	return true;
}

static bool
plan_layer(checker *k, int32_t i)
{
	layer_plan *p = &k->plan[i];
	layer_shape x;
	bool ok;

	if ((unsigned) p->layer.kind >= LAYER_KINDS)
		return llm_fail(k->err, LLM_INVALID, "layer %d is of unknown type", i + 1);
	if (!input_shape(k, i, 0, &x))
		return false;
	p->shape = x;
	p->inputs = numbers(&x);
	p->channels = x.channels;
	switch (p->layer.kind)
	{
		case LAYER_LINEAR: ok = plan_linear(k, i); break;
		case LAYER_CONV2D: ok = plan_conv2d(k, i, &x); break;
		case LAYER_MAX_POOL:
		case LAYER_AVG_POOL: ok = plan_window(k, i, &x); break;
		case LAYER_GLOBAL_AVG_POOL: ok = plan_global_pool(k, i, &x); break;
		case LAYER_FLATTEN:
			p->shape = (layer_shape) {true, 1, 1, p->inputs};
			ok = plan_plain(k, i, &x);
			break;
		case LAYER_ADD:
		case LAYER_CONCAT: ok = plan_pair(k, i, &x); break;
		default: ok = plan_plain(k, i, &x);
	}
	if (ok && (numbers(&p->shape) > MAX_ROW_NUMBERS || p->multiplications > MAX_WEIGHTS))
		return LAYER_FAIL(k, i, LLM_MEMORY, "is too large: it makes %s of each row", SHAPE_TEXT(&p->shape));
	return ok;
}

static bool
all_read(checker *k)
{
	for (int32_t i = 0; i < k->count - 1; i++)
		if (k->plan[i].readers == 0)
			return LAYER_FAIL(k, i, LLM_INVALID, "is read by %s", "no other layer");
	if (k->image.channels > 0 && !k->image_read)
		return llm_fail(k->err, LLM_INVALID, "no layer reads the image");
	if (has_columns(k) && !k->columns_read)
		return llm_fail(k->err, LLM_INVALID, "no layer reads the columns%s",
						k->image.channels > 0 ? " beside the image" : "");
	if (k->c->shape.bag_rows > 0 && !k->bag_read)
	{
		llm_fail(k->err, LLM_INVALID, "no linear layer reads the columns that are categories or text");
		return llm_hint(k->err, "Let a linear layer read \"columns\", or a concat with them.");
	}
	return true;
}

int32_t
layers_plan(const net_config *config, layer_plan *plan, llm_error *err)
{
	checker k = {.c = config, .plan = plan, .err = err};
	net_layer layers[NET_MAX_LAYERS + 1];

	memcpy(layers, config->layers, sizeof(config->layers));
	k.count = config->layer_count > 0 ? config->layer_count : mlp_layers(config, layers);
	append_linear(layers, &k.count, FROM_COLUMNS, config->shape.outputs);
	strcpy(layers[k.count - 1].name, "output");
	make_inputs(&k);
	for (int32_t i = 0; i < k.count; i++)
	{
		plan[i].layer = layers[i];
		if (!plan_layer(&k, i))
			return 0;
	}
	return all_read(&k) ? k.count : 0;
}
