/*
 * layers.c
 *	  Read and write the layers of a network.
 *
 * A key is known when its row in the table below lists it, so that a misspelt key is an
 * error and not a default.
 */
#include "layers.h"

#include <stdio.h>
#include <string.h>

#define NUMBER_MAX 65536
#define WINDOW_MAX 1024

/* Keys of each type, beside "type" and "name". */
static const char *const keys_of[LAYER_KINDS] = {
	[LAYER_LINEAR] = "input, width, bias",
	[LAYER_CONV2D] = "input, channels, kernel, stride, padding, bias",
	[LAYER_MAX_POOL] = "input, kernel, stride, padding",
	[LAYER_AVG_POOL] = "input, kernel, stride, padding",
	[LAYER_GLOBAL_AVG_POOL] = "input",
	[LAYER_BATCH_NORM] = "input",
	[LAYER_GROUP_NORM] = "input, groups",
	[LAYER_LAYER_NORM] = "input",
	[LAYER_ACTIVATION] = "input, function",
	[LAYER_DROPOUT] = "input, rate",
	[LAYER_FLATTEN] = "input",
	[LAYER_ADD] = "inputs",
	[LAYER_CONCAT] = "inputs",
};

/* Names that a layer may not take: inputs, and tensors that are there without it. */
static const char *const reserved[] = {"image", "columns", "output", "embed"};

/* The layer being read. */
typedef struct reader
{
	const json_t *json;
	net_config *config;
	net_layer *layer;
	int32_t index; /* from 0 */
	llm_error *err;
} reader;

#define LAYER_FAIL(r, format, ...) \
	llm_fail((r)->err, LLM_INVALID, "layer %d (%s): " format, (r)->index + 1, net_layer_name((r)->layer->kind), \
			 __VA_ARGS__)

/* ---- types and keys ---- */

/* "a, b, c" contains key as a whole word. */
static bool
listed(const char *list, const char *key)
{
	size_t length = strlen(key);

	for (const char *at = list; length > 0 && (at = strstr(at, key)) != NULL; at += length)
		if ((at == list || at[-1] == ' ') && (at[length] == '\0' || at[length] == ','))
			return true;
	return false;
}

static bool
read_type(reader *r)
{
	const json_t *type = json_object_get(r->json, "type");
	char names[256] = "";

	if (!json_is_object(r->json))
		return llm_fail(r->err, LLM_INVALID, "layer %d is not an object", r->index + 1);
	if (json_is_string(type) && net_layer_parse(json_string_value(type), &r->layer->kind))
		return true;
	for (int i = 0; i < LAYER_KINDS; i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ", " : "", net_layer_name(i));
	if (type == NULL)
		llm_fail(r->err, LLM_INVALID, "layer %d has no \"type\"", r->index + 1);
	else if (!json_is_string(type))
		llm_fail(r->err, LLM_INVALID, "layer %d: \"type\" is not a string", r->index + 1);
	else
		llm_fail(r->err, LLM_INVALID, "layer %d has unknown type \"%.40s\"", r->index + 1, json_string_value(type));
	return llm_detail(r->err, "Types are %s.", names);
}

static bool
check_keys(reader *r)
{
	const char *keys = keys_of[r->layer->kind], *key;
	json_t *value;

	json_object_foreach((json_t *) r->json, key, value)
		if (strcmp(key, "type") != 0 && strcmp(key, "name") != 0 && !listed(keys, key))
		{
			LAYER_FAIL(r, "unknown key \"%.40s\"", key);
			return llm_detail(r->err, "Keys of %s are type, name, %s.", net_layer_name(r->layer->kind), keys);
		}
	return true;
}

/* ---- values ---- */

static bool
is_whole(const json_t *value, int64_t low, int64_t high)
{
	return json_is_integer(value) && json_integer_value(value) >= low && json_integer_value(value) <= high;
}

static bool
read_whole(reader *r, const char *key, int32_t *out)
{
	const json_t *value = json_object_get(r->json, key);

	if (value == NULL)
		return LAYER_FAIL(r, "\"%s\" is missing", key);
	if (!is_whole(value, 1, NUMBER_MAX))
		return LAYER_FAIL(r, "\"%s\" is not a whole number from 1 to %d", key, NUMBER_MAX);
	*out = (int32_t) json_integer_value(value);
	return true;
}

/* A number for both directions, or two; when there is none *out stays as it is. */
static bool
read_pair(reader *r, const char *key, int32_t low, int32_t out[2])
{
	const json_t *value = json_object_get(r->json, key);

	if (value == NULL)
		return true;
	for (int i = 0; i < 2; i++)
	{
		const json_t *one = json_is_array(value) && json_array_size(value) == 2 ? json_array_get(value, i) : value;

		if (!is_whole(one, low, WINDOW_MAX))
			return LAYER_FAIL(r, "\"%s\" is not a whole number from %d to %d, or two of them for height and width",
							  key, low, WINDOW_MAX);
		out[i] = (int32_t) json_integer_value(one);
	}
	return true;
}

static bool
read_bias(reader *r)
{
	const json_t *value = json_object_get(r->json, "bias");

	r->layer->bias = value == NULL || json_is_true(value);
	return value == NULL || json_is_boolean(value) || LAYER_FAIL(r, "\"%s\" is not true or false", "bias");
}

static bool
read_function(reader *r)
{
	const json_t *value = json_object_get(r->json, "function");
	char names[160] = "";

	if (json_is_string(value) && net_activation_parse(json_string_value(value), &r->layer->activation))
		return true;
	for (int i = ACT_IDENTITY; i <= ACT_SIGMOID; i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ", " : "", net_activation_name(i));
	return LAYER_FAIL(r, "\"function\" is not one of %s", names);
}

static bool
read_rate(reader *r)
{
	const json_t *value = json_object_get(r->json, "rate");
	double rate = json_number_value(value);

	r->layer->rate = (float) rate;
	return (json_is_number(value) && rate >= 0 && r->layer->rate < 1) ||
		   LAYER_FAIL(r, "\"%s\" is not a number, at least 0 and less than 1", "rate");
}

/* ---- names ---- */

static bool
read_layer_name(reader *r)
{
	const json_t *value = json_object_get(r->json, "name");
	const char *name = json_is_string(value) ? json_string_value(value) : "";
	size_t length = json_is_string(value) ? json_string_length(value) : 0;

	if (value == NULL)
		return true;
	if (length == 0 || length >= NET_NAME_BYTES || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != length ||
		name[0] < 'a')
		return LAYER_FAIL(r, "\"name\" is not 1 to %d lower case letters, digits and underscores, a letter first",
						  NET_NAME_BYTES - 1);
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (strcmp(name, reserved[i]) == 0)
			return LAYER_FAIL(r, "\"name\" \"%s\" has a meaning of its own", name);
	for (int32_t i = 0; i < r->index; i++)
		if (strcmp(name, r->config->layers[i].name) == 0)
			return LAYER_FAIL(r, "\"name\" \"%s\" is the name of layer %d, too", name, i + 1);
	memcpy(r->layer->name, name, length + 1);
	return true;
}

static bool
read_source(reader *r, const char *key, const json_t *value, int32_t *from)
{
	const char *name = json_string_value(value);

	if (is_whole(value, 1, r->index))
		*from = (int32_t) json_integer_value(value) - 1;
	else if (json_is_integer(value))
		return LAYER_FAIL(r, "\"%s\" is layer %lld, which does not come before it", key,
						  (long long) json_integer_value(value));
	else if (name == NULL)
		return LAYER_FAIL(r, "\"%s\" is not the name or number of a layer, \"image\" or \"columns\"", key);
	else if (strcmp(name, "image") == 0 || strcmp(name, "columns") == 0)
		*from = name[0] == 'i' ? FROM_IMAGE : FROM_COLUMNS;
	else
	{
		for (*from = r->index - 1; *from >= 0; (*from)--)
			if (strcmp(name, r->config->layers[*from].name) == 0 && name[0] != '\0')
				return true;
		return LAYER_FAIL(r, "\"%s\" is \"%.40s\", which names no layer before it", key, name);
	}
	return true;
}

static bool
read_sources(reader *r)
{
	const json_t *one = json_object_get(r->json, "input"), *two = json_object_get(r->json, "inputs");

	if (r->layer->kind == LAYER_ADD || r->layer->kind == LAYER_CONCAT)
	{
		if (!json_is_array(two) || json_array_size(two) != 2)
			return LAYER_FAIL(r, "\"%s\" is not an array of two layers", "inputs");
		return read_source(r, "inputs", json_array_get(two, 0), &r->layer->from[0]) &&
			   read_source(r, "inputs", json_array_get(two, 1), &r->layer->from[1]);
	}
	r->layer->from[0] = r->index > 0 ? r->index - 1 : r->config->image[0] > 0 ? FROM_IMAGE : FROM_COLUMNS;
	return one == NULL || read_source(r, "input", one, &r->layer->from[0]);
}

/* ---- layers ---- */

static bool
read_conv2d(reader *r)
{
	net_layer *l = r->layer;

	if (json_object_get(r->json, "kernel") == NULL)
		return LAYER_FAIL(r, "\"%s\" is missing", "kernel");
	l->stride[0] = l->stride[1] = 1;
	if (!read_whole(r, "channels", &l->width) || !read_pair(r, "kernel", 1, l->kernel) ||
		!read_pair(r, "stride", 1, l->stride))
		return false;
	for (int i = 0; i < 2; i++)
		l->padding[i] = (l->kernel[i] - 1) / 2;
	return read_pair(r, "padding", 0, l->padding) && read_bias(r);
}

static bool
read_pool(reader *r)
{
	net_layer *l = r->layer;

	l->kernel[0] = l->kernel[1] = 2;
	if (!read_pair(r, "kernel", 1, l->kernel))
		return false;
	memcpy(l->stride, l->kernel, sizeof(l->stride));
	return read_pair(r, "stride", 1, l->stride) && read_pair(r, "padding", 0, l->padding);
}

/* What its kind alone has. */
static bool
read_own(reader *r)
{
	switch (r->layer->kind)
	{
		case LAYER_LINEAR: return read_whole(r, "width", &r->layer->width) && read_bias(r);
		case LAYER_CONV2D: return read_conv2d(r);
		case LAYER_MAX_POOL:
		case LAYER_AVG_POOL: return read_pool(r);
		case LAYER_GROUP_NORM: return read_whole(r, "groups", &r->layer->width);
		case LAYER_ACTIVATION: return read_function(r);
		case LAYER_DROPOUT: return read_rate(r);
		default: return true;
	}
}

bool
layers_from_json(const json_t *layers, net_config *config, llm_error *err)
{
	size_t count = json_array_size(layers);

	if (!json_is_array(layers) || count < 1 || count > NET_MAX_LAYERS)
		return llm_fail(err, LLM_INVALID, "\"layers\" is not an array of 1 to %d layers", NET_MAX_LAYERS);
	config->layer_count = 0;
	for (size_t i = 0; i < count; i++)
	{
		reader r = {json_array_get(layers, i), config, &config->layers[i], (int32_t) i, err};

		memset(r.layer, 0, sizeof(net_layer));
		if (!read_type(&r) || !check_keys(&r) || !read_layer_name(&r) || !read_sources(&r) || !read_own(&r))
			return false;
	}
	config->layer_count = (int32_t) count;
	return true;
}

/* Convolutions and pools read nothing else. */
bool
layers_read_image(const json_t *layers)
{
	static const layer_kind windows[] = {LAYER_CONV2D, LAYER_MAX_POOL, LAYER_AVG_POOL, LAYER_GLOBAL_AVG_POOL};
	size_t i, k;
	json_t *layer, *input;

	json_array_foreach((json_t *) layers, i, layer)
	{
		const char *type = json_string_value(json_object_get(layer, "type"));
		const char *from = json_string_value(json_object_get(layer, "input"));

		if (from != NULL && strcmp(from, "image") == 0)
			return true;
		for (k = 0; k < sizeof(windows) / sizeof(windows[0]); k++)
			if (strcmp(type, net_layer_name(windows[k])) == 0)
				return true;
		json_array_foreach(json_object_get(layer, "inputs"), k, input)
			if (json_is_string(input) && strcmp(json_string_value(input), "image") == 0)
				return true;
	}
	return false;
}

/* ---- writing ---- */

static json_t *
source_json(int32_t from)
{
	return from == FROM_IMAGE     ? json_string("image")
		   : from == FROM_COLUMNS ? json_string("columns")
								  : json_integer(from + 1);
}

static void
set_pair(json_t *o, const char *key, const int32_t pair[2])
{
	json_object_set_new(o, key, json_pack("[i, i]", pair[0], pair[1]));
}

static void
set_window(json_t *o, const net_layer *l)
{
	set_pair(o, "kernel", l->kernel);
	set_pair(o, "stride", l->stride);
	set_pair(o, "padding", l->padding);
}

static void
set_own(json_t *o, const net_layer *l)
{
	switch (l->kind)
	{
		case LAYER_LINEAR:
			json_object_set_new(o, "width", json_integer(l->width));
			json_object_set_new(o, "bias", json_boolean(l->bias));
			break;
		case LAYER_CONV2D:
			json_object_set_new(o, "channels", json_integer(l->width));
			set_window(o, l);
			json_object_set_new(o, "bias", json_boolean(l->bias));
			break;
		case LAYER_MAX_POOL:
		case LAYER_AVG_POOL: set_window(o, l); break;
		case LAYER_GROUP_NORM: json_object_set_new(o, "groups", json_integer(l->width)); break;
		case LAYER_ACTIVATION:
			json_object_set_new(o, "function", json_string(net_activation_name(l->activation)));
			break;
		case LAYER_DROPOUT: json_object_set_new(o, "rate", json_real(l->rate)); break;
		default: break;
	}
}

json_t *
layers_json(const net_config *config)
{
	json_t *layers = json_array();

	for (int32_t i = 0; i < config->layer_count; i++)
	{
		const net_layer *l = &config->layers[i];
		json_t *o = json_pack("{s:s}", "type", net_layer_name(l->kind));

		if (l->name[0])
			json_object_set_new(o, "name", json_string(l->name));
		if (l->kind == LAYER_ADD || l->kind == LAYER_CONCAT)
			json_object_set_new(o, "inputs", json_pack("[o, o]", source_json(l->from[0]), source_json(l->from[1])));
		else
			json_object_set_new(o, "input", source_json(l->from[0]));
		set_own(o, l);
		json_array_append_new(layers, o);
	}
	return layers;
}
