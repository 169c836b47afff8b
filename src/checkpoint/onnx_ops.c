/*
 * onnx_ops.c
 *	  Operations of ONNX that layers compute: weights, windows, norms, sums.
 *
 * A bias, or the weights of a norm, may come in a node of their own behind the layer, as writers split them off;
 * they become the layer's when nothing else has seen what it makes.
 */
#include <math.h>
#include <string.h>

#include "onnx_ops.h"

#define EPSILON 1e-5 /* that norms add to the variance here */

/* Part of the layer that makes v: the numbers of c as they are. */
static onnx_part *
set_part(translator *t, const made *v, layer_part part, const source_tensor *c)
{
	onnx_part *p = part_of(t, v, part);

	*p = (onnx_part) {.from = c, .scale = 1, .repeat = 1};
	return p;
}

static void
fill_part(translator *t, const made *v, layer_part part, double number)
{
	*part_of(t, v, part) = (onnx_part) {.shift = number, .repeat = 1};
}

/* One number for each of `width` columns or channels, `behind` dimensions of 1 after it; or one for all. */
static bool
is_spread(const source_tensor *c, int64_t width, int32_t behind)
{
	int32_t at = c->ndim - 1 - behind;

	return c->count == 1 || (c->count == (size_t) width && at >= 0 && c->dims[at] == width);
}

static bool
wrong_shape(translator *t, const source_tensor *c)
{
	return NODE_FAIL(t, "reads initializer %s, whose shape does not fit", SOURCE_TEXT(c));
}

/* ---- linear layers ---- */

/* turned: the weights are (in, out). */
static json_t *
add_linear(translator *t, made *v, const source_tensor *weight, bool turned)
{
	json_t *layer;

	if (v->ndim != 1)
	{
		NODE_FAIL(t, "reads rows of %d dimensions, not flat ones", v->ndim);
		return NULL;
	}
	if (weight->ndim != 2 || weight->dims[turned ? 0 : 1] != v->dims[0] || weight->count == 0)
	{
		NODE_FAIL(t, "reads rows of %lld numbers, for which initializer %s is not made", (long long) v->dims[0],
				  SOURCE_TEXT(weight));
		return NULL;
	}
	layer = add_layer(t, "linear", v);
	if (layer == NULL)
		return NULL;
	v->vector = true;
	v->dims[0] = weight->dims[turned ? 1 : 0];
	set_part(t, v, PART_WEIGHT, weight)->columns = turned ? v->dims[0] : 0;
	json_object_set_new(layer, "width", json_integer(v->dims[0]));
	json_object_set_new(layer, "bias", json_false());
	return layer;
}

static bool
set_bias(translator *t, const made *v, json_t *layer, const source_tensor *bias, double scale)
{
	onnx_part *p = set_part(t, v, PART_BIAS, bias);

	p->scale = scale;
	p->repeat = bias->count == 1 ? v->dims[0] : 1;
	json_object_set_new(layer, "bias", json_true());
	return true;
}

static bool
translate_gemm(translator *t)
{
	const made *x = take_rows(t, 0);
	const source_tensor *weight, *bias;
	int64_t turn_rows, turn_weight;
	double alpha, beta;
	json_t *layer;
	made v;

	if (x == NULL || !take_constant(t, 1, false, &weight) || !take_constant(t, 2, true, &bias) ||
		!attribute_integer(t, "transA", 0, &turn_rows) || !attribute_integer(t, "transB", 0, &turn_weight) ||
		!attribute_number(t, "alpha", 1, &alpha) || !attribute_number(t, "beta", 1, &beta))
		return false;
	if (turn_rows != 0)
		return NODE_FAIL(t, "turns its rows");
	v = *x;
	layer = add_linear(t, &v, weight, turn_weight == 0);
	if (layer == NULL)
		return false;
	part_of(t, &v, PART_WEIGHT)->scale = alpha;
	if (bias != NULL && (!is_spread(bias, v.dims[0], 0) || bias->ndim > 2))
		return wrong_shape(t, bias);
	return (bias == NULL || set_bias(t, &v, layer, bias, beta)) && put_made(t, &v);
}

static bool
translate_matmul(translator *t)
{
	const made *x = take_rows(t, 0);
	const source_tensor *weight;
	made v;

	if (x == NULL || !take_constant(t, 1, false, &weight))
		return false;
	v = *x;
	return add_linear(t, &v, weight, true) != NULL && put_made(t, &v);
}

/* ---- windows on images ---- */

typedef struct window
{
	int64_t kernel[2], stride[2], padding[2]; /* height, width */
} window;

/* A window that lies beyond the image in part is one more than we have. */
static bool
is_plain_ceiling(const made *v, const window *k)
{
	for (int i = 0; i < 2; i++)
		if ((v->dims[1 + i] + 2 * k->padding[i] - k->kernel[i]) % k->stride[i] != 0)
			return false;
	return true;
}

/* As many windows as the stride fits into the image; what that needs is the same on both sides, or refused. */
static bool
pad_same(translator *t, const made *v, window *k)
{
	for (int i = 0; i < 2; i++)
	{
		int64_t outputs = (v->dims[1 + i] - 1) / k->stride[i] + 1;
		int64_t all = (outputs - 1) * k->stride[i] + k->kernel[i] - v->dims[1 + i];

		all = all > 0 ? all : 0;
		if (all % 2 != 0)
			return NODE_FAIL(t, "pads one side more than the other");
		k->padding[i] = all / 2;
	}
	return true;
}

static bool
read_padding(translator *t, const made *v, window *k)
{
	int64_t pads[4];
	const char *automatic;

	if (!attribute_text(t, "auto_pad", "NOTSET", &automatic) || !attribute_list(t, "pads", 4, 0, pads))
		return false;
	if (strcmp(automatic, "SAME_UPPER") == 0 || strcmp(automatic, "SAME_LOWER") == 0)
		return pad_same(t, v, k);
	if (strcmp(automatic, "VALID") == 0)
		return true;
	if (strcmp(automatic, "NOTSET") != 0 && automatic[0] != '\0')
		return NODE_FAIL(t, "has unknown \"auto_pad\"");
	if (pads[0] != pads[2] || pads[1] != pads[3])
		return NODE_FAIL(t, "pads one side more than the other");
	for (int i = 0; i < 2; i++)
		if (pads[i] < 0 || pads[i] >= k->kernel[i])
			return NODE_FAIL(t, "has padding %lld, not less than the kernel", (long long) pads[i]);
	memcpy(k->padding, pads, sizeof(k->padding));
	return true;
}

/* sizes: of the weights, when there is no kernel_shape; NULL: it has to be there. */
static bool
read_window(translator *t, const made *v, const int64_t *sizes, window *k)
{
	int64_t dilations[2];

	if (sizes != NULL && !has_attribute(t, "kernel_shape"))
		memcpy(k->kernel, sizes, sizeof(k->kernel));
	else if (!has_attribute(t, "kernel_shape"))
		return NODE_FAIL(t, "has no \"kernel_shape\"");
	else if (!attribute_list(t, "kernel_shape", 2, 1, k->kernel))
		return false;
	if (!attribute_list(t, "strides", 2, 1, k->stride) || !attribute_list(t, "dilations", 2, 1, dilations))
		return false;
	if (dilations[0] != 1 || dilations[1] != 1)
		return NODE_FAIL(t, "is dilated");
	for (int i = 0; i < 2; i++)
		if (k->kernel[i] < 1 || k->kernel[i] > 1024 || k->stride[i] < 1 || k->stride[i] > 1024)
			return NODE_FAIL(t, "has kernel %lld and stride %lld, not 1 to 1024", (long long) k->kernel[i],
							 (long long) k->stride[i]);
	return read_padding(t, v, k);
}

/* Let v be what the window makes of it. */
static bool
apply_window(translator *t, made *v, const window *k)
{
	for (int i = 0; i < 2; i++)
	{
		if (k->padding[i] >= k->kernel[i])
			return NODE_FAIL(t, "has padding %lld, not less than the kernel", (long long) k->padding[i]);
		if (k->kernel[i] > v->dims[1 + i] + 2 * k->padding[i])
			return NODE_FAIL(t, "has a kernel of %lld for %lld pixels", (long long) k->kernel[i],
							 (long long) v->dims[1 + i]);
		v->dims[1 + i] = (v->dims[1 + i] + 2 * k->padding[i] - k->kernel[i]) / k->stride[i] + 1;
	}
	return true;
}

static void
set_pair(json_t *layer, const char *key, const int64_t pair[2])
{
	json_object_set_new(layer, key, json_pack("[I, I]", (json_int_t) pair[0], (json_int_t) pair[1]));
}

static json_t *
add_window(translator *t, const char *type, made *v, const window *k)
{
	json_t *layer;

	if (!apply_window(t, v, k))
		return NULL;
	layer = add_layer(t, type, v);
	if (layer == NULL)
		return NULL;
	set_pair(layer, "kernel", k->kernel);
	set_pair(layer, "stride", k->stride);
	set_pair(layer, "padding", k->padding);
	return layer;
}

static const made *
take_image(translator *t)
{
	const made *v = take_rows(t, 0);

	if (v != NULL && !made_image(v))
	{
		NODE_FAIL(t, "reads no image of channels, height and width");
		return NULL;
	}
	return v;
}

static bool
translate_conv(translator *t)
{
	const made *x = take_image(t);
	const source_tensor *weight, *bias;
	window k = {.padding = {0, 0}};
	int64_t groups;
	json_t *layer;
	made v;

	if (x == NULL || !take_constant(t, 1, false, &weight) || !take_constant(t, 2, true, &bias) ||
		!attribute_integer(t, "group", 1, &groups))
		return false;
	if (groups != 1)
		return NODE_FAIL(t, "is of %lld groups, not 1", (long long) groups);
	if (weight->ndim != 4 || weight->dims[1] != x->dims[0] || weight->count == 0)
		return NODE_FAIL(t, "reads an image of %lld channels, for which initializer %s is not made",
						 (long long) x->dims[0], SOURCE_TEXT(weight));
	if (!read_window(t, x, weight->dims + 2, &k))
		return false;
	if (weight->dims[2] != k.kernel[0] || weight->dims[3] != k.kernel[1])
		return wrong_shape(t, weight);
	if (bias != NULL && !has_dims(bias, 1, weight->dims))
		return wrong_shape(t, bias);
	v = *x;
	layer = add_window(t, "conv2d", &v, &k);
	if (layer == NULL)
		return false;
	v.dims[0] = weight->dims[0];
	json_object_set_new(layer, "channels", json_integer(v.dims[0]));
	json_object_set_new(layer, "bias", json_false());
	set_part(t, &v, PART_WEIGHT, weight);
	return (bias == NULL || set_bias(t, &v, layer, bias, 1)) && put_made(t, &v);
}

static bool
translate_pool(translator *t)
{
	bool mean = strcmp(json_string_value(json_object_get(t->node, "op")), "AveragePool") == 0;
	const made *x = take_image(t);
	window k = {.padding = {0, 0}};
	int64_t ceiling, columns_first, counts_padding;
	made v;

	if (x == NULL || !read_window(t, x, NULL, &k) || !attribute_integer(t, "ceil_mode", 0, &ceiling) ||
		!attribute_integer(t, "storage_order", 0, &columns_first) ||
		!attribute_integer(t, "count_include_pad", 0, &counts_padding))
		return false;
	if (ceiling != 0 && !is_plain_ceiling(x, &k))
		return NODE_FAIL(t, "has windows that lie beyond the image in part (ceil_mode)");
	if (mean && counts_padding != 0 && k.padding[0] + k.padding[1] > 0)
		return NODE_FAIL(t, "counts padding as pixels (count_include_pad)");
	if (node_output(t, 1) != NULL && count_readers(t, node_output(t, 1)) > 0)
		return NODE_FAIL(t, "makes places of maxima, which are not computed");
	v = *x;
	return add_window(t, mean ? "avg_pool" : "max_pool", &v, &k) != NULL && put_made(t, &v);
}

/* ---- norms ---- */

/* By how much the norm's own epsilon is larger than ours. */
static bool
read_epsilon(translator *t, double *more)
{
	if (!attribute_number(t, "epsilon", EPSILON, more))
		return false;
	*more -= EPSILON;
	if (fabs(*more) < 1e-11) /* 1e-5 as a float is not that as a double */
		*more = 0;
	return true;
}

static bool
require_epsilon(translator *t)
{
	double more;

	return read_epsilon(t, &more) &&
		   (more == 0 || NODE_FAIL(t, "adds epsilon %g to the variance, not %g", more + EPSILON, EPSILON));
}

/* Running statistics make room for another epsilon. */
static bool
translate_batch_norm(translator *t)
{
	const made *x = take_rows(t, 0);
	const source_tensor *c[LAYER_PARTS];
	int64_t training, spatial;
	double more;
	made v;

	if (x == NULL || !attribute_integer(t, "training_mode", 0, &training) ||
		!attribute_integer(t, "spatial", 1, &spatial) || !read_epsilon(t, &more))
		return false;
	if (training != 0 || spatial != 1)
		return NODE_FAIL(t, "is one of training, or not by channel");
	if (x->ndim == 0 || x->ndim == 2)
		return NODE_FAIL(t, "reads neither columns nor an image");
	for (int i = 0; i < LAYER_PARTS; i++)
	{
		if (!take_constant(t, 1 + i, false, &c[i]))
			return false;
		if (!has_dims(c[i], 1, x->dims))
			return wrong_shape(t, c[i]);
	}
	for (int i = 1; i < 5; i++)
		if (node_output(t, i) != NULL && count_readers(t, node_output(t, i)) > 0)
			return NODE_FAIL(t, "makes statistics, which are not computed");
	v = *x;
	if (add_layer(t, "batch_norm", &v) == NULL)
		return false;
	for (int i = 0; i < LAYER_PARTS; i++)
		set_part(t, &v, i, c[i]);
	part_of(t, &v, PART_VARIANCE)->shift = more;
	return put_made(t, &v);
}

static bool
translate_layer_norm(translator *t)
{
	const made *x = take_rows(t, 0);
	const source_tensor *weight, *bias;
	int64_t axis, precision;
	made v;

	if (x == NULL || !take_constant(t, 1, false, &weight) || !take_constant(t, 2, true, &bias) ||
		!attribute_integer(t, "axis", -1, &axis) || !attribute_integer(t, "stash_type", 1, &precision) ||
		!require_epsilon(t))
		return false;
	if (x->ndim == 0 || (axis != 1 && axis != -x->ndim))
		return NODE_FAIL(t, "normalises parts of a row (axis %lld)", (long long) axis);
	if (!has_dims(weight, x->ndim, x->dims))
		return wrong_shape(t, weight);
	if (bias != NULL && !has_dims(bias, x->ndim, x->dims))
		return wrong_shape(t, bias);
	for (int i = 1; i < 3; i++)
		if (node_output(t, i) != NULL && count_readers(t, node_output(t, i)) > 0)
			return NODE_FAIL(t, "makes statistics, which are not computed");
	v = *x;
	if (add_layer(t, "layer_norm", &v) == NULL)
		return false;
	set_part(t, &v, PART_WEIGHT, weight);
	if (bias != NULL)
		set_part(t, &v, PART_BIAS, bias);
	return put_made(t, &v);
}

/* The layer reads what v is; weights have one number for each of some equal parts of the channels. */
static bool
add_group_norm(translator *t, made *v, int64_t groups, const source_tensor *weight, const source_tensor *bias)
{
	json_t *layer = add_layer(t, "group_norm", v);

	if (layer == NULL)
		return false;
	json_object_set_new(layer, "groups", json_integer(groups));
	set_part(t, v, PART_WEIGHT, weight)->repeat = v->dims[0] / (int64_t) weight->count;
	set_part(t, v, PART_BIAS, bias)->repeat = v->dims[0] / (int64_t) bias->count;
	return true;
}

/* Before version 21 its weights were those of groups, then of channels. */
static bool
translate_group_norm(translator *t)
{
	const made *x = take_rows(t, 0);
	const source_tensor *weight, *bias;
	int64_t groups, precision;
	made v;

	if (x == NULL || !take_constant(t, 1, false, &weight) || !take_constant(t, 2, false, &bias) ||
		!attribute_integer(t, "num_groups", 0, &groups) || !attribute_integer(t, "stash_type", 1, &precision) ||
		!require_epsilon(t))
		return false;
	if ((x->ndim != 3 && x->ndim != 1) || groups < 1 || x->dims[0] % groups != 0)
		return NODE_FAIL(t, "has %lld groups of other than the channels of an image", (long long) groups);
	if (!has_dims(weight, 1, x->dims) && !has_dims(weight, 1, &groups))
		return wrong_shape(t, weight);
	if (!has_dims(bias, 1, weight->dims))
		return wrong_shape(t, bias);
	v = *x;
	return add_group_norm(t, &v, groups, weight, bias) && put_made(t, &v);
}

/* All numbers of a small tensor are this one. */
static bool
is_filled(translator *t, const source_tensor *c, float number, bool *filled)
{
	*filled = true;
	for (size_t i = 0; *filled && i < c->count; i++)
	{
		float one;

		if (!tensor_source_read(t->source, c, i, 1, &one, t->err))
			return false;
		*filled = one == number;
	}
	return true;
}

/* Each channel is a group; or each group is what a Reshape made a channel, with weights in nodes that follow. */
static bool
translate_instance_norm(translator *t)
{
	const made *x = find_made(t, 0);
	bool grouped = x != NULL && x->kind == MADE_GROUPED, ones, zeros;
	const source_tensor *weight, *bias;
	int64_t channels;
	made v;

	if (!grouped)
		x = take_image(t);
	if (x == NULL || !take_constant(t, 1, false, &weight) || !take_constant(t, 2, false, &bias) ||
		!require_epsilon(t))
		return false;
	channels = grouped ? x->groups : x->dims[0];
	if (!has_dims(weight, 1, &channels))
		return wrong_shape(t, weight);
	if (!has_dims(bias, 1, &channels))
		return wrong_shape(t, bias);
	v = *x;
	if (!grouped)
		return add_group_norm(t, &v, channels, weight, bias) && put_made(t, &v);
	if (!is_filled(t, weight, 1, &ones) || !is_filled(t, bias, 0, &zeros) ||
		!add_group_norm(t, &v, channels, weight, bias))
		return false;
	if (!ones || !zeros)
		return NODE_FAIL(t, "has weights of groups that are not 1 and 0");
	fill_part(t, &v, PART_WEIGHT, 1);
	fill_part(t, &v, PART_BIAS, 0);
	v.kind = MADE_GROUPED;
	return put_made(t, &v);
}

/* ---- sums and products ---- */

/* The layer that v comes from, if it may still get the part: nothing else reads it, and it has none yet. */
static json_t *
open_layer(translator *t, const made *v, int i, layer_part part)
{
	json_t *layer = v->from >= 0 ? json_array_get(t->n->layers, v->from) : NULL;
	const onnx_part *p = layer ? part_of(t, v, part) : NULL;
	static const char *const with_weights = "linear conv2d group_norm layer_norm";
	const char *type = json_string_value(json_object_get(layer, "type"));

	if (layer == NULL || !v->fresh || count_readers(t, node_input(t, i)) != 1 || p->from != NULL ||
		strstr(with_weights, type) == NULL)
		return NULL;
	return layer;
}

static bool
add_constant(translator *t, int i)
{
	const made *v = take_rows(t, i);
	const source_tensor *bias;
	json_t *layer;

	if (v == NULL || !take_constant(t, 1 - i, false, &bias))
		return false;
	layer = open_layer(t, v, i, PART_BIAS);
	if (layer == NULL)
		return NODE_FAIL(t, "adds an initializer to what no layer before it takes as its bias");
	if (v->ndim == 0 || !is_spread(bias, v->dims[0], v->ndim - 1) || bias->ndim > v->ndim + 1)
		return wrong_shape(t, bias);
	if (json_object_get(layer, "bias") != NULL)
		set_bias(t, v, layer, bias, 1);
	else
		set_part(t, v, PART_BIAS, bias)->repeat = bias->count == 1 ? v->dims[0] : 1;
	return put_made(t, v);
}

static bool
translate_add(translator *t)
{
	const made *a, *b;
	json_t *layer, *inputs;
	made v;

	if (is_gelu_step(t))
		return translate_gelu_step(t);
	if (is_constant(t, 0) || is_constant(t, 1))
		return add_constant(t, is_constant(t, 0));
	a = take_rows(t, 0);
	b = a ? take_rows(t, 1) : NULL;
	if (b == NULL)
		return false;
	if (a->ndim != b->ndim || a->vector != b->vector || memcmp(a->dims, b->dims, a->ndim * sizeof(int64_t)) != 0)
		return NODE_FAIL(t, "adds values of different shapes");
	v = *a;
	inputs = json_pack("[o, o]", from_json(a), from_json(b));
	layer = add_layer(t, "add", &v);
	json_object_set_new(layer, "inputs", inputs);
	return layer != NULL && put_made(t, &v);
}

/* Weights of a norm that had none. */
static bool
multiply_constant(translator *t, int i)
{
	const made *v = take_rows(t, i);
	const source_tensor *weight;

	if (v == NULL || !take_constant(t, 1 - i, false, &weight))
		return false;
	if (open_layer(t, v, i, PART_BIAS) == NULL || open_layer(t, v, i, PART_WEIGHT) == NULL)
		return NODE_FAIL(t, "multiplies with an initializer what no norm before it takes as its weights");
	if (!is_spread(weight, v->dims[0], v->ndim - 1) || weight->ndim > v->ndim + 1)
		return wrong_shape(t, weight);
	set_part(t, v, PART_WEIGHT, weight)->repeat = weight->count == 1 ? v->dims[0] : 1;
	return put_made(t, v);
}

static bool
translate_mul(translator *t)
{
	const made *a = find_made(t, 0), *b = find_made(t, 1);
	int gate = a != NULL && a->kind == MADE_GATE ? 0 : b != NULL && b->kind == MADE_GATE ? 1 : -1;
	const made *v;

	if (is_gelu_step(t))
		return translate_gelu_step(t);
	if (is_constant(t, 0) || is_constant(t, 1))
		return multiply_constant(t, is_constant(t, 0));
	if (gate < 0)
		return (take_rows(t, 0) == NULL || take_rows(t, 1) == NULL)
				   ? false
				   : NODE_FAIL(t, "multiplies two values, which no layer does but x * Sigmoid(x)");
	v = take_rows(t, 1 - gate);
	return v != NULL && put_activation(t, *v, "silu");
}

const onnx_op onnx_layer_ops[] = {
	{"Add", "", translate_add},
	{"AveragePool", "auto_pad, ceil_mode, count_include_pad, dilations, kernel_shape, pads, strides", translate_pool},
	{"BatchNormalization", "epsilon, momentum, spatial, training_mode", translate_batch_norm},
	{"Conv", "auto_pad, dilations, group, kernel_shape, pads, strides", translate_conv},
	{"Gemm", "alpha, beta, transA, transB", translate_gemm},
	{"GroupNormalization", "epsilon, num_groups, stash_type", translate_group_norm},
	{"InstanceNormalization", "epsilon", translate_instance_norm},
	{"LayerNormalization", "axis, epsilon, stash_type", translate_layer_norm},
	{"MatMul", "", translate_matmul},
	{"MaxPool", "auto_pad, ceil_mode, dilations, kernel_shape, pads, storage_order, strides", translate_pool},
	{"Mul", "", translate_mul},
	{NULL},
};
