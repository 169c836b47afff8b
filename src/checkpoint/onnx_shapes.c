/*
 * onnx_shapes.c
 *	  Operations of ONNX that compute nothing of a row: they change its shape, or compute shapes.
 *
 * Writers of graphs reach a flat row in many ways, as Reshape to a shape computed from Shape, Gather and Concat.
 */
#include <string.h>

#include "onnx_ops.h"

#define JOINED_MAX (1 << 28) /* channels or columns */

/* What input 0 is, numbers of a row or probabilities of them. */
static made *
take_shaped(translator *t)
{
	made *v = find_made(t, 0);

	return v != NULL && v->kind == MADE_CLASSES ? v : take_rows(t, 0);
}

static bool
translate_same(translator *t)
{
	const made *v = find_made(t, 0);
	int64_t type;

	if (v == NULL && is_constant(t, 0))
		return put_constant(t);
	if (v == NULL && take_rows(t, 0) == NULL)
		return false;
	if (has_attribute(t, "to") &&
		(!attribute_integer(t, "to", 1, &type) || (v->kind != MADE_INTEGERS && !is_float_type(type))))
		return NODE_FAIL(t, "casts numbers to no type of floats");
	return put_alias(t, *v);
}

/* Of inference, where nothing is dropped. */
static bool
translate_dropout(translator *t)
{
	const made *v = take_rows(t, 0);
	const source_tensor *rate;
	int64_t training[MADE_INTEGERS_MAX];
	int32_t count;

	if (v == NULL || !take_constant(t, 1, true, &rate) || !take_integers(t, 2, training, &count))
		return false;
	if (count > 0 && training[0] != 0)
		return NODE_FAIL(t, "is one of training");
	if (node_output(t, 1) != NULL && count_readers(t, node_output(t, 1)) > 0)
		return NODE_FAIL(t, "makes a mask, which is not computed");
	return put_alias(t, *v);
}

/* ---- integers ---- */

static bool
put_integers(translator *t, const int64_t *integers, int32_t count)
{
	made v = {.kind = MADE_INTEGERS, .count = count};

	memcpy(v.integers, integers, count * sizeof(int64_t));
	return put_made(t, &v);
}

static bool
translate_shape(translator *t)
{
	const made *v = take_rows(t, 0);
	int64_t all[MADE_DIMS + 1] = {BATCH}, start, end, count;

	if (v == NULL || !attribute_integer(t, "start", 0, &start) || !attribute_integer(t, "end", v->ndim + 1, &end))
		return false;
	count = v->ndim + 1;
	memcpy(all + 1, v->dims, v->ndim * sizeof(int64_t));
	start += start < 0 ? count : 0;
	end += end < 0 ? count : 0;
	if (start < 0 || end < start || end > count)
		return NODE_FAIL(t, "takes dimensions that are not there");
	return put_integers(t, all + start, (int32_t) (end - start));
}

static bool
translate_gather(translator *t)
{
	int64_t from[MADE_INTEGERS_MAX], at[MADE_INTEGERS_MAX], out[MADE_INTEGERS_MAX], axis;
	int32_t count, places;

	if (!attribute_integer(t, "axis", 0, &axis) || !take_integers(t, 0, from, &count) ||
		!take_integers(t, 1, at, &places))
		return false;
	if (axis != 0 || count < 0 || places < 0)
		return NODE_FAIL(t, "gathers other than elements of a shape");
	for (int32_t i = 0; i < places; i++)
	{
		int64_t place = at[i] < 0 ? at[i] + count : at[i];

		if (place < 0 || place >= count)
			return NODE_FAIL(t, "takes an element that is not there");
		out[i] = from[place];
	}
	return put_integers(t, out, places);
}

/* Lists of integers have no other dimensions here, so the axis says nothing. */
static bool
translate_unsqueeze(translator *t)
{
	int64_t from[MADE_INTEGERS_MAX], axes[MADE_INTEGERS_MAX];
	int32_t count, axis_count;

	return take_integers(t, 0, from, &count) && take_integers(t, 1, axes, &axis_count) &&
		   put_integers(t, from, count > 0 ? count : 0);
}

static bool
concat_integers(translator *t)
{
	int64_t all[MADE_INTEGERS_MAX], one[MADE_INTEGERS_MAX];
	int32_t count = 0, more;

	for (int i = 0; node_input(t, i) != NULL; i++)
	{
		if (!take_integers(t, i, one, &more))
			return false;
		if (count + more > MADE_INTEGERS_MAX)
			return NODE_FAIL(t, "makes a shape of more than %d dimensions", MADE_INTEGERS_MAX);
		memcpy(all + count, one, more * sizeof(int64_t));
		count += more;
	}
	return put_integers(t, all, count);
}

/* ---- joining rows ---- */

static bool
join(translator *t, made *all, int i)
{
	const made *v = take_rows(t, i);
	json_t *layer, *inputs;

	if (v == NULL)
		return false;
	if (v->ndim != all->ndim || v->vector != all->vector ||
		memcmp(v->dims + 1, all->dims + 1, (v->ndim - 1) * sizeof(int64_t)) != 0)
		return NODE_FAIL(t, "joins values of different shapes");
	inputs = json_pack("[o, o]", from_json(all), from_json(v));
	layer = add_layer(t, "concat", all);
	json_object_set_new(layer, "inputs", inputs);
	all->dims[0] += v->dims[0];
	return layer != NULL && (all->dims[0] <= JOINED_MAX || NODE_FAIL(t, "joins too many channels"));
}

static bool
translate_concat(translator *t)
{
	const made *first = find_made(t, 0);
	int64_t axis;
	made all;

	if (!attribute_integer(t, "axis", 1, &axis))
		return false;
	if (is_constant(t, 0) || (first != NULL && first->kind == MADE_INTEGERS))
		return concat_integers(t);
	first = take_rows(t, 0);
	if (first == NULL)
		return false;
	if (first->ndim == 0 || (axis != 1 && axis != -first->ndim))
		return NODE_FAIL(t, "joins along axis %lld, not along 1, the channels or columns", (long long) axis);
	all = *first;
	for (int i = 1; node_input(t, i) != NULL; i++)
		if (!join(t, &all, i))
			return false;
	all.fresh = false;
	return put_made(t, &all);
}

/* ---- shapes of rows ---- */

/* All numbers one after the other, in the order of ONNX. */
static bool
put_flat(translator *t, made v)
{
	bool image = made_image(&v);
	int64_t count = made_count(&v);

	if (image && add_layer(t, "flatten", &v) == NULL)
		return false;
	v.vector = true;
	v.ndim = 1;
	v.dims[0] = count;
	return image ? put_made(t, &v) : put_alias(t, v);
}

static bool
translate_flatten(translator *t)
{
	const made *v = take_shaped(t);
	int64_t axis;

	if (v == NULL || !attribute_integer(t, "axis", 1, &axis))
		return false;
	if (axis != 1 && axis != -v->ndim)
		return NODE_FAIL(t, "flattens from axis %lld on, not from 1", (long long) axis);
	return put_flat(t, *v);
}

/* The shape that is asked for, without the batch; the numbers of a row must fill it. */
static bool
resolve_shape(translator *t, const made *v, int64_t *shape, int32_t count, bool copies)
{
	int64_t product = 1, numbers = made_count(v);
	int32_t open = -1;

	for (int32_t i = 0; i < count; i++)
	{
		if (shape[i] == 0 && copies)
			shape[i] = i == 0 ? BATCH : i <= v->ndim ? v->dims[i - 1] : 0;
		if (shape[i] == -1)
		{
			if (open >= 0)
				return NODE_FAIL(t, "has a shape with two open dimensions");
			open = i;
			continue;
		}
		if (i > 0 && (shape[i] < 1 || __builtin_mul_overflow(product, shape[i], &product)))
			return NODE_FAIL(t, "has a shape that rows cannot have");
	}
	if (shape[0] != BATCH && open != 0 && (t->batch == 0 || shape[0] != t->batch))
		return NODE_FAIL(t, "has a shape whose first dimension is not the batch");
	if (open > 0)
		shape[open] = numbers % product == 0 ? numbers / product : 0;
	if (open > 0 ? shape[open] == 0 : product != numbers)
		return NODE_FAIL(t, "makes rows of %lld numbers something else", (long long) numbers);
	return true;
}

/* Are the dimensions those, but for ones behind? */
static bool
same_dims(const made *v, const int64_t *dims, int32_t ndim)
{
	int32_t most = v->ndim > ndim ? v->ndim : ndim;

	for (int32_t i = 0; i < most; i++)
		if ((i < v->ndim ? v->dims[i] : 1) != (i < ndim ? dims[i] : 1))
			return false;
	return true;
}

static bool
is_normalised_next(const translator *t)
{
	const json_t *reader = node_output(t, 0) ? only_reader(t, node_output(t, 0)) : NULL;

	return reader != NULL && strcmp(json_string_value(json_object_get(reader, "op")), "InstanceNormalization") == 0;
}

/* The input of the graph itself, flat, becomes an image: then the column is one. */
static bool
put_input_image(translator *t, made v, const int64_t *dims)
{
	memcpy(v.dims, dims, sizeof(v.dims));
	v.ndim = 3;
	v.from = FROM_IMAGE;
	v.vector = false;
	t->n->ndim = 3;
	memcpy(t->n->dims, dims, sizeof(v.dims));
	return put_made(t, &v);
}

static bool
put_reshaped(translator *t, made v, const int64_t *dims, int32_t ndim)
{
	if (v.kind == MADE_GROUPED)
	{
		if (!same_dims(&v, dims, ndim) || ndim != v.ndim)
			return NODE_FAIL(t, "gives an image that was grouped another shape than before");
		v.kind = MADE_ROWS;
		return put_alias(t, v);
	}
	if (ndim <= MADE_DIMS && same_dims(&v, dims, ndim) && (v.vector || ndim == v.ndim))
	{
		v.ndim = ndim;
		memcpy(v.dims, dims, ndim * sizeof(int64_t));
		return put_alias(t, v);
	}
	if (ndim == 1)
		return put_flat(t, v);
	if (ndim == 2 && made_image(&v) && v.dims[0] % dims[0] == 0 && is_normalised_next(t))
	{
		v.kind = MADE_GROUPED;
		v.groups = dims[0];
		return put_alias(t, v);
	}
	if (ndim == 3 && v.from == FROM_COLUMNS && count_readers(t, node_input(t, 0)) == 1)
		return put_input_image(t, v, dims);
	return NODE_FAIL(t, "makes another shape than flat rows");
}

static bool
translate_reshape(translator *t)
{
	const made *v = find_made(t, 0);
	int64_t shape[MADE_INTEGERS_MAX], zero;
	int32_t count;

	if (v == NULL || (v->kind != MADE_GROUPED && v->kind != MADE_CLASSES))
		v = take_rows(t, 0);
	if (v == NULL || !attribute_integer(t, "allowzero", 0, &zero) || !take_integers(t, 1, shape, &count))
		return false;
	if (count < 1)
		return NODE_FAIL(t, "has no shape");
	return resolve_shape(t, v, shape, count, zero == 0) && put_reshaped(t, *v, shape + 1, count - 1);
}

/* Axes of an operation: an attribute, in newer graphs an input.  *count is 0 when it has none. */
static bool
take_axes(translator *t, int64_t *axes, int32_t *count)
{
	const json_t *list = json_object_get(json_object_get(t->node, "attributes"), "axes");

	*count = (int32_t) json_array_size(list);
	if (list != NULL && *count <= MADE_INTEGERS_MAX)
		return attribute_list(t, "axes", *count, 0, axes);
	if (!take_integers(t, 1, axes, count))
		return false;
	*count = *count < 0 ? 0 : *count;
	return true;
}

static bool
squeeze_integers(translator *t, const made *v)
{
	int64_t axes[MADE_INTEGERS_MAX];
	int32_t count;

	return take_axes(t, axes, &count) && put_integers(t, v->integers, v->count);
}

static bool
translate_squeeze(translator *t)
{
	const made *v = find_made(t, 0);
	int64_t axes[MADE_INTEGERS_MAX];
	int32_t count, left = 0;
	made out;

	if (v != NULL && v->kind == MADE_INTEGERS)
		return squeeze_integers(t, v);
	v = take_shaped(t);
	if (v == NULL || !take_axes(t, axes, &count))
		return false;
	out = *v;
	for (int32_t d = 1; d <= v->ndim; d++)
	{
		bool drop = count == 0 && v->dims[d - 1] == 1;

		for (int32_t i = 0; i < count; i++)
			drop = drop || axes[i] == d || axes[i] == d - (v->ndim + 1);
		if (drop && v->dims[d - 1] != 1)
			return NODE_FAIL(t, "drops a dimension of %lld", (long long) v->dims[d - 1]);
		if (!drop)
			out.dims[left++] = v->dims[d - 1];
	}
	if (left + (count > 0 ? count : v->ndim - left) != v->ndim)
		return NODE_FAIL(t, "drops dimensions that are not there");
	if (made_image(v) && left < v->ndim)
		return left == 1 ? put_flat(t, *v) : NODE_FAIL(t, "makes another shape than flat rows");
	out.ndim = left;
	return put_alias(t, out);
}

static bool
translate_global_pool(translator *t)
{
	const made *v = take_rows(t, 0);
	int64_t keep, axes[MADE_INTEGERS_MAX], noop;
	int32_t count = 0;
	made out;

	if (v == NULL || !attribute_integer(t, "keepdims", 1, &keep) ||
		!attribute_integer(t, "noop_with_empty_axes", 0, &noop))
		return false;
	if (strcmp(json_string_value(json_object_get(t->node, "op")), "ReduceMean") == 0)
	{
		bool seen[4] = {false};

		if (!take_axes(t, axes, &count))
			return false;
		for (int32_t i = 0; i < count; i++)
			if (axes[i] >= -4 && axes[i] < 4)
				seen[(axes[i] + 4) % 4] = true;
		if (count != 2 || !seen[2] || !seen[3])
			return NODE_FAIL(t, "takes the mean along other dimensions than height and width");
	}
	if (!made_image(v))
		return NODE_FAIL(t, "reads no image of channels, height and width");
	out = *v;
	if (add_layer(t, "global_avg_pool", &out) == NULL)
		return false;
	out.vector = true;
	out.ndim = keep ? 3 : 1;
	out.dims[1] = out.dims[2] = 1;
	return put_made(t, &out);
}

/* Its tensor is among the constants. */
static bool
translate_constant(translator *t)
{
	return tensor_source_find(t->source, node_output(t, 0) ? node_output(t, 0) : "") != NULL ||
		   NODE_FAIL(t, "has no tensor as its value");
}

const onnx_op onnx_shape_ops[] = {
	{"Cast", "to, saturate, round_mode", translate_same},
	{"Concat", "axis", translate_concat},
	{"Constant", "value", translate_constant},
	{"Dropout", "ratio, seed", translate_dropout},
	{"Flatten", "axis", translate_flatten},
	{"Gather", "axis", translate_gather},
	{"GlobalAveragePool", "", translate_global_pool},
	{"Identity", "", translate_same},
	{"ReduceMean", "axes, keepdims, noop_with_empty_axes", translate_global_pool},
	{"Reshape", "allowzero", translate_reshape},
	{"Shape", "start, end", translate_shape},
	{"Squeeze", "axes", translate_squeeze},
	{"Unsqueeze", "axes", translate_unsqueeze},
	{NULL},
};
