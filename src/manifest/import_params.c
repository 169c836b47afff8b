/*
 * import_params.c
 *	  What a user says about a file of tensors, so that it becomes a model.
 *
 * Encoder and target are written as the JSON of a manifest and read by its readers, so a model
 * that was imported holds nothing that those would refuse.  A target keeps its labels in an order
 * of its own and has one output for two classes: the file is read into a network shaped
 * as the file is, and the rows of its last layer are then put where the target has them.
 */
#include "import_params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../feature/encoder.h"
#include "../format/layers.h"
#include "../format/nearest.h"

#define SCALE_RANGE 1e12 /* of mean and std, either way */
#define NAME_ROOM 512    /* of a tensor's name in the file, with its end */

static const char *const keys[] = {"layers", "task", "classes", "input", "target", "layout", "tensors"};
static const char *const onnx_keys[] = {"task", "classes", "input", "target"};
static const char *const input_keys[] = {"name", "columns", "mean", "std", "shape"}; /* the last one not of ONNX */

#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* What is being read. */
typedef struct builder
{
	import_plan *plan;
	const json_t *params;
	const json_t *layers;
	const json_t *columns; /* names of columns with a number each; NULL: one column has all */
	net_config config;     /* without the last layer */
	net_layer last;        /* the output, as the user wrote it */
	int32_t dims[3];       /* of the input; [0] alone when it has one dimension */
	int64_t each;          /* numbers of one element of the first dimension */
	bool image;            /* layers read an image: the column is one */
	const char *last_name; /* "" when it has none */
	llm_error *err;
} builder;

/* ---- helpers ---- */

/* A string of at least one byte and without a zero byte, or the default. */
static bool
read_string(const json_t *object, const char *key, const char *fallback, const char **out, llm_error *err)
{
	const json_t *value = json_object_get(object, key);

	*out = value == NULL ? fallback : json_string_value(value);
	return (*out != NULL && **out != '\0' && (value == NULL || strlen(*out) == json_string_length(value))) ||
		   llm_fail(err, LLM_INVALID, "parameter \"%s\" must be a string that is not empty", key);
}

static bool
read_choice(const json_t *object, const char *key, const char *first, const char *second, bool *is_second,
			llm_error *err)
{
	const char *value;

	if (!read_string(object, key, first, &value, err))
		return false;
	*is_second = strcmp(value, second) == 0;
	if (*is_second || strcmp(value, first) == 0)
		return true;
	llm_fail(err, LLM_INVALID, "parameter \"%s\" cannot be \"%s\"", key, SHOWN(value));
	return llm_hint(err, "Legal values: %s, %s.", first, second);
}

/* The user's own words are wrong where a manifest's reader would say that bytes are damaged. */
static bool
as_invalid(const llm_error *why, llm_error *err)
{
	return llm_fail(err, why->code == LLM_CORRUPT ? LLM_INVALID : why->code, "%s", why->message);
}

/* ---- the input ---- */

/* A single layer reads the pixels of an image in their order, so it needs none. */
static bool
read_shape(builder *b, const json_t *input)
{
	const json_t *shape = json_object_get(input, "shape");
	size_t count = json_array_size(shape);
	int64_t numbers = 1, most;

	b->image = count == 3 && json_array_size(b->layers) > 1;
	most = b->image ? IMAGE_MAX : VECTOR_MAX;
	if (count != 1 && count != 3)
		return llm_fail(b->err, LLM_INVALID,
						"\"shape\" of parameter \"input\" must be [numbers] or [channels, height, width]");
	for (size_t i = 0; i < count; i++)
	{
		const json_t *dim = json_array_get(shape, i);

		if (!json_is_integer(dim) || json_integer_value(dim) < 1 || json_integer_value(dim) > most)
			return llm_fail(b->err, LLM_INVALID, "\"shape\" of parameter \"input\" must hold numbers from 1 to %lld",
							(long long) most);
		b->dims[i] = (int32_t) json_integer_value(dim);
		numbers *= b->dims[i];
	}
	b->each = numbers / b->dims[0];
	if (b->image)
		memcpy(b->config.image, b->dims, sizeof(b->dims));
	return numbers <= most ||
		   llm_fail(b->err, LLM_INVALID, "parameter \"input\" has %lld numbers, at most %lld are possible",
					(long long) numbers, (long long) most);
}

/* As the graph has it. */
static bool
take_shape(builder *b, const onnx_network *n)
{
	int64_t numbers = n->dims[0], most;

	b->image = n->ndim == 3;
	most = b->image ? IMAGE_MAX : VECTOR_MAX;
	b->each = b->image ? n->dims[1] * n->dims[2] : 1;
	if (b->each > most || numbers * b->each > most)
		return llm_fail(b->err, LLM_INVALID, "the input of the graph has more than %lld numbers", (long long) most);
	for (int i = 0; i < n->ndim; i++)
		b->dims[i] = (int32_t) n->dims[i];
	if (b->image)
		memcpy(b->config.image, b->dims, sizeof(b->dims));
	return true;
}

/* Names of columns, as many as there are numbers. */
static bool
read_columns(builder *b, const json_t *input)
{
	size_t i;
	json_t *name;

	b->columns = json_object_get(input, "columns");
	if (b->columns == NULL)
		return true;
	if (json_object_get(input, "name") != NULL)
		return llm_fail(b->err, LLM_INVALID, "parameter \"input\" cannot have both \"name\" and \"columns\"");
	if (b->image || b->each != 1 || !json_is_array(b->columns) || json_array_size(b->columns) != (size_t) b->dims[0])
		return llm_fail(b->err, LLM_INVALID,
						"\"columns\" of parameter \"input\" must be an array of names for %lld numbers",
						(long long) (b->dims[0] * b->each));
	json_array_foreach((json_t *) b->columns, i, name)
	{
		if (json_string_length(name) == 0 || strlen(json_string_value(name)) != json_string_length(name))
			return llm_fail(b->err, LLM_INVALID,
							"name %zu of \"columns\" of parameter \"input\" must be a string that is not empty",
							i + 1);
	}
	return true;
}

/* One number per channel of an image, or per element of a vector. */
static json_t *
read_scale(builder *b, const json_t *input, const char *key, double fallback, double low)
{
	const json_t *given = json_object_get(input, key);
	json_t *spread = json_array();

	for (int32_t i = 0; i < b->dims[0]; i++)
	{
		const json_t *one = json_is_array(given) ? json_array_get(given, i) : given;
		double number = given == NULL ? fallback : json_number_value(one);

		if ((given != NULL && !json_is_number(one)) || !(number >= low && number <= SCALE_RANGE) ||
			(json_is_array(given) && json_array_size(given) != (size_t) b->dims[0]))
		{
			json_decref(spread);
			llm_fail(b->err, LLM_INVALID,
					 "\"%s\" of parameter \"input\" must be a number from %g to %g, or an array of %d of them", key,
					 low, SCALE_RANGE, b->dims[0]);
			return NULL;
		}
		for (int64_t j = 0; j < (b->image ? 1 : b->each); j++)
			json_array_append_new(spread, json_real(number));
	}
	return spread;
}

/* Columns of one number each, taking over means and scales. */
static json_t *
columns_json(const builder *b, json_t *means, json_t *scales)
{
	json_t *list = json_array(), *name;
	size_t i;

	json_array_foreach((json_t *) b->columns, i, name)
	{
		json_array_append_new(list, json_pack("{s:O, s:s, s:s, s:b, s:s, s:b, s:O, s:O, s:f, s:f, s:b, s:[]}", "name",
											  name, "type", "double precision", "kind", "number", "integer", 0,
											  "encoding", "number", "missing", 0, "center", json_array_get(means, i),
											  "scale", json_array_get(scales, i), "low", -NUMBER_MAX, "high",
											  NUMBER_MAX, "squash", 0, "edges"));
	}
	json_decref(means);
	json_decref(scales);
	return json_pack("{s:o}", "columns", list);
}

/* The column as a manifest has it, taking over means and scales. */
static json_t *
input_json(const builder *b, const char *name, json_t *means, json_t *scales)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:s, s:o, s:o}", "name", name, "type", "real[]", "kind", "vector",
						  "integer", 0, "encoding", b->image ? "image" : "vector", "means", means, "scales", scales);

	if (b->image)
		json_object_set_new(o, "shape", json_pack("[i, i, i]", b->dims[0], b->dims[1], b->dims[2]));
	else
	{
		json_object_set_new(o, "missing", json_false());
		json_object_set_new(o, "squash", json_false());
	}
	return json_pack("{s:[o]}", "columns", o);
}

static bool
make_encoder(builder *b, const json_t *input, const char *name)
{
	json_t *means = read_scale(b, input, "mean", 0, -SCALE_RANGE);
	json_t *scales = means ? read_scale(b, input, "std", 1, 1 / SCALE_RANGE) : NULL;
	llm_error why = {.code = LLM_OK};
	json_t *columns;

	if (scales == NULL)
	{
		json_decref(means);
		return false;
	}
	columns = b->columns ? columns_json(b, means, scales) : input_json(b, name, means, scales);
	if (json_memory_failed())
		llm_fail(&why, LLM_MEMORY, "out of memory for the input");
	else
		b->plan->encoder = encoder_from_json(columns, &why);
	json_decref(columns);
	return b->plan->encoder != NULL || as_invalid(&why, b->err);
}

static bool
read_input(builder *b)
{
	const onnx_network *onnx = b->plan->onnx;
	json_t *input = json_object_get(b->params, "input");
	const char *name;

	if (!json_is_object(input) && (input != NULL || onnx == NULL))
		return llm_fail(b->err, LLM_INVALID, "parameter \"input\" must be an object%s",
						onnx ? "" : " with the \"shape\" of the input");
	return (input == NULL || keys_known(input, "key of parameter \"input\"", input_keys,
										COUNT(input_keys) - (onnx ? 1 : 0), b->err)) &&
		   read_string(input, "name", "input", &name, b->err) &&
		   (onnx ? take_shape(b, onnx) : read_shape(b, input)) && read_columns(b, input) &&
		   make_encoder(b, input, name);
}

/* ---- the layers ---- */

/* The list for layers_from_json(), which reserves the name "output" for what we append. */
static json_t *
without_output_name(const json_t *layers)
{
	json_t *copy = json_copy((json_t *) layers);
	size_t last = json_array_size(copy) - 1;
	json_t *output = json_copy(json_array_get(copy, last));

	if (json_is_string(json_object_get(output, "name")) &&
		strcmp(json_string_value(json_object_get(output, "name")), "output") == 0)
		json_object_del(output, "name");
	json_array_set_new(copy, last, output);
	return copy;
}

static bool
check_last(builder *b, const json_t *json)
{
	int32_t count = b->config.layer_count;

	if (b->last.kind != LAYER_LINEAR)
	{
		llm_fail(b->err, LLM_INVALID, "the last layer is %s, not linear", net_layer_name(b->last.kind));
		return llm_hint(b->err, "It makes the outputs; softmax and the like follow from the task and are no layers.");
	}
	if (count > 1 && b->last.from[0] != count - 2)
		return llm_fail(b->err, LLM_INVALID, "the last layer does not read the layer before it");
	b->last_name = json_string_value(json_object_get(json, "name"));
	if (b->last_name == NULL)
		b->last_name = "";
	return true;
}

static bool
has_layers(builder *b)
{
	if (b->layers == NULL)
	{
		llm_fail(b->err, LLM_INVALID, "parameter \"layers\" is missing");
		return llm_hint(b->err, "For example {\"layers\": [{\"type\": \"linear\", \"name\": \"fc\", \"width\": 10}], "
								"\"input\": {\"shape\": [784]}}.");
	}
	return json_array_size(b->layers) > 0 ||
		   llm_fail(b->err, LLM_INVALID, "parameter \"layers\" must be an array of layers, at least one");
}

static bool
read_layers(builder *b)
{
	json_t *copy = without_output_name(b->layers);
	bool ok;

	ok = layers_from_json(copy, &b->config, b->err);
	json_decref(copy);
	if (!ok)
		return false;
	b->last = b->config.layers[b->config.layer_count - 1];
	if (!check_last(b, json_array_get(b->layers, b->config.layer_count - 1)))
		return false;
	b->config.layer_count--;
	return true;
}

/* ---- the target ---- */

/* Label of output i, or its number. */
static const char *
label_of(const json_t *classes, int32_t i, char number[16])
{
	if (classes != NULL)
		return json_string_value(json_array_get(classes, i));
	snprintf(number, 16, "%d", i);
	return number;
}

static value
string_value(const char *string)
{
	return (value) {.kind = VALUE_STRING, .string = string, .length = (int32_t) strlen(string)};
}

static bool
check_classes(const builder *b, const json_t *classes, int32_t count)
{
	if (b->last.width == 1)
		count = 2;
	if (classes == NULL)
		return true;
	if (!json_is_array(classes) || json_array_size(classes) != (size_t) count)
		return llm_fail(b->err, LLM_INVALID, "parameter \"classes\" must be an array of %d labels for %d outputs",
						count, b->last.width);
	for (int32_t i = 0; i < count; i++)
	{
		const json_t *label = json_array_get(classes, i);

		if (json_string_length(label) == 0 || strlen(json_string_value(label)) != json_string_length(label))
			return llm_fail(b->err, LLM_INVALID,
							"label %d of parameter \"classes\" must be a string that is not empty", i + 1);
	}
	return true;
}

static bool
make_classes(builder *b, const char *name, const json_t *classes, int32_t count)
{
	char(*numbers)[16] = calloc(count, sizeof(*numbers));
	const char **labels = calloc(count, sizeof(char *));
	target *t = NULL;

	b->plan->rows = calloc(count, sizeof(int32_t));
	if (numbers == NULL || labels == NULL || b->plan->rows == NULL)
		llm_fail(b->err, LLM_MEMORY, "out of memory for the classes");
	else
	{
		for (int32_t i = 0; i < count; i++)
			labels[i] = label_of(classes, i, numbers[i]);
		t = b->plan->target = target_of_labels(name, labels, count, b->err);
		for (int32_t i = 0; t != NULL && i < count; i++)
			b->plan->rows[target_class_of(t, (value[1]) {string_value(labels[i])})] = i;
	}
	free(numbers);
	free(labels);
	return t != NULL;
}

static bool
make_numbers(builder *b, const char *name)
{
	llm_error why = {.code = LLM_OK};

	b->plan->target = target_of_numbers(name, b->last.width, &why);
	return b->plan->target != NULL || as_invalid(&why, b->err);
}

static bool
read_target(builder *b)
{
	const json_t *classes = json_object_get(b->params, "classes");
	int32_t count = b->last.width == 1 ? 2 : b->last.width;
	const char *name;
	bool regression;

	if (!read_choice(b->params, "task", "classification", "regression", &regression, b->err) ||
		!read_string(b->params, "target", "label", &name, b->err))
		return false;
	if (b->plan->onnx != NULL)
		regression = strcmp(b->plan->onnx->task, "regression") == 0;
	b->plan->task = regression ? "regression" : "classification";
	if (!regression)
		return check_classes(b, classes, count) && make_classes(b, name, classes, count);
	if (classes != NULL)
		return llm_fail(b->err, LLM_INVALID, "parameter \"classes\" has no meaning for task \"regression\"");
	return make_numbers(b, name);
}

/* ---- the networks ---- */

static bool
make_networks(builder *b)
{
	import_plan *p = b->plan;
	net_config *c = &b->config;
	bool tensorflow;

	if (!read_choice(b->params, "layout", "pytorch", "tensorflow", &tensorflow, b->err))
		return false;
	encoder_shape(p->encoder, &c->shape);
	target_shape(p->target, &c->shape);
	c->loss = !c->shape.class_target ? LOSS_MSE : c->shape.outputs == 1 ? LOSS_BINARY : LOSS_CROSS_ENTROPY;
	p->architecture = c->layer_count > 0 ? "layers" : "mlp";
	p->net = net_new(c, b->err);
	c->shape.outputs = b->last.width;
	c->loss = !c->shape.class_target ? LOSS_MSE : c->shape.outputs == 1 ? LOSS_BINARY : LOSS_CROSS_ENTROPY;
	p->file_net = p->net ? net_new(c, b->err) : NULL;
	return p->file_net != NULL &&
		   exchange_init(&p->file, p->file_net, tensorflow ? ORDER_TENSORFLOW : ORDER_PYTORCH, b->err);
}

/* ---- names ---- */

/* Name of the layer of tensor i, as the user knows it. */
static const char *
layer_name(const builder *b, int32_t i, char number[16])
{
	int32_t layer = net_tensor(b->plan->file_net, i)->layer;
	const char *name = layer == b->config.layer_count ? b->last_name : b->config.layers[layer].name;

	if (name[0] != '\0')
		return name;
	snprintf(number, 16, "%d", layer);
	return number;
}

/* The name that "tensors" gives to key; NULL when it gives none, and an error when it is no name. */
static const char *
renamed(const builder *b, const char *key)
{
	const json_t *value = json_object_get(json_object_get(b->params, "tensors"), key);
	size_t length = json_string_length(value);

	if (value == NULL)
		return NULL;
	if (length == 0 || length > NAME_ROOM - 32 || strlen(json_string_value(value)) != length)
		llm_fail(b->err, LLM_INVALID, "\"%s\" of parameter \"tensors\" must be a string of 1 to %d bytes", SHOWN(key),
				 NAME_ROOM - 32);
	return json_string_value(value);
}

/* Name in the file of tensor i, malloc'd: given for itself, or made of what is given for its layer. */
static char *
file_name(const builder *b, int32_t i)
{
	char usual[EXCHANGE_NAME_BYTES], number[16], name[NAME_ROOM];
	const char *layer = layer_name(b, i, number);
	const char *part = strrchr(exchange_name(b->plan->file_net, i, usual), '.');
	const char *given;

	snprintf(name, sizeof(name), "%s%s", layer, part);
	given = renamed(b, name);
	if (given != NULL)
		return strdup(given);
	given = renamed(b, layer);
	if (given != NULL)
		snprintf(name, sizeof(name), "%s%s", given, part);
	return strdup(name);
}

/* Every member of "tensors" must name something. */
static bool
check_renames(const builder *b, const json_t *tensors)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) tensors, key, value)
	{
		bool found = false;

		for (int32_t i = 0; !found && i < net_tensor_count(b->plan->file_net); i++)
		{
			char usual[EXCHANGE_NAME_BYTES], number[16];
			const char *layer = layer_name(b, i, number);
			const char *part = strrchr(exchange_name(b->plan->file_net, i, usual), '.');
			size_t length = strlen(layer);

			found = strncmp(key, layer, length) == 0 && (key[length] == '\0' || strcmp(key + length, part) == 0);
		}
		if (!found)
		{
			llm_fail(b->err, LLM_INVALID, "parameter \"tensors\" has \"%s\", but no layer has such a tensor",
					 SHOWN(key));
			return llm_hint(b->err, "Name a layer, or one of its tensors as \"layer.weight\".");
		}
	}
	return true;
}

static bool
make_names(builder *b)
{
	import_plan *p = b->plan;
	const json_t *tensors = json_object_get(b->params, "tensors");
	int32_t count = net_tensor_count(p->file_net);

	if (tensors != NULL && !json_is_object(tensors))
		return llm_fail(b->err, LLM_INVALID, "parameter \"tensors\" must be an object from name to name in the file");
	if (!check_renames(b, tensors))
		return false;
	p->names = calloc(count, sizeof(char *));
	if (p->names == NULL)
		return llm_fail(b->err, LLM_MEMORY, "out of memory for names");
	for (int32_t i = 0; i < count; i++)
	{
		if (i == count - 1 && !b->last.bias)
			continue;
		p->names[i] = file_name(b, i);
		if (p->names[i] == NULL)
			return llm_fail(b->err, LLM_MEMORY, "out of memory for names");
	}
	return b->err->code == LLM_OK;
}

/* ---- settings ---- */

static void
add_setting(json_t *settings, const json_t *params, const char *key, json_t *fallback)
{
	json_t *given = json_object_get(params, key);

	json_object_set_new(
		settings, key,
		json_pack("{s:O, s:s}", "value", given ? given : fallback, "source", given ? "user" : "default"));
	json_decref(fallback);
}

static void
fill_settings(builder *b)
{
	json_t *classes = json_array();
	json_t *settings = b->plan->settings = json_object();
	const target *t = b->plan->target;

	for (int32_t i = 0; i < t->class_count; i++)
		json_array_append_new(classes, json_string(t->classes[i]));
	if (b->plan->onnx != NULL)
		json_object_set_new(settings, "layers", json_pack("{s:O, s:s}", "value", b->layers, "source", "auto"));
	else
		add_setting(settings, b->params, "layers", json_array());
	add_setting(settings, b->params, "input", json_object());
	add_setting(settings, b->params, "task", json_string(b->plan->task));
	if (t->kind == TARGET_CLASS)
		add_setting(settings, b->params, "classes", classes);
	else
		json_decref(classes);
	add_setting(settings, b->params, "target", json_string("label"));
	if (b->plan->onnx != NULL)
		return;
	add_setting(settings, b->params, "layout", json_string("pytorch"));
	add_setting(settings, b->params, "tensors", json_object());
}

static bool
make_settings(builder *b)
{
	fill_settings(b);
	return !json_memory_failed() || llm_fail(b->err, LLM_MEMORY, "out of memory for the settings");
}

/* ---- the plan ---- */

/* Without names of tensors; b->layers are there. */
static bool
make_plan(builder *b)
{
	return read_input(b) && read_layers(b) && read_target(b) && make_networks(b);
}

import_plan *
import_plan_new(const json_t *params, llm_error *err)
{
	builder b = {.params = params, .config = {.huber_delta = 1, .members = 1}, .err = err};

	b.layers = json_object_get(params, "layers");
	b.plan = calloc(1, sizeof(import_plan));
	if (b.plan == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory for an import");
	else if (keys_known(params, "parameter", keys, COUNT(keys), err) && has_layers(&b) && make_plan(&b) &&
			 make_names(&b) && make_settings(&b))
		return b.plan;
	import_plan_free(b.plan);
	return NULL;
}

/* The layers that the graph means, of the task that the user or the graph says. */
static bool
read_graph(builder *b, const json_t *graph, const tensor_source *source)
{
	const json_t *params = b->params;
	bool regression, classes = json_object_get(params, "classes") != NULL;

	if (!read_choice(params, "task", "classification", "regression", &regression, b->err))
		return false;
	b->plan->onnx =
		onnx_network_new(graph, source, json_string_value(json_object_get(params, "task")), classes, b->err);
	b->layers = b->plan->onnx ? b->plan->onnx->layers : NULL;
	return b->layers != NULL;
}

import_plan *
import_plan_onnx(const json_t *graph, const tensor_source *source, const json_t *params, llm_error *err)
{
	builder b = {.params = params, .config = {.huber_delta = 1, .members = 1}, .err = err};

	b.plan = calloc(1, sizeof(import_plan));
	if (b.plan == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory for an import");
	else if (keys_known(params, "parameter", onnx_keys, COUNT(onnx_keys), err) && read_graph(&b, graph, source) &&
			 make_plan(&b) && make_settings(&b))
		return b.plan;
	import_plan_free(b.plan);
	return NULL;
}

void
import_plan_free(import_plan *p)
{
	if (p == NULL)
		return;
	for (int32_t i = 0; p->names && i < net_tensor_count(p->file_net); i++)
		free(p->names[i]);
	free(p->names);
	free(p->rows);
	onnx_network_free(p->onnx);
	net_free(p->file_net);
	net_free(p->net);
	encoder_free(p->encoder);
	target_free(p->target);
	json_decref(p->settings);
	free(p);
}

/* ---- weights ---- */

/*
 * Row i of the last layer's weight or bias for the target: that of its class.  Two outputs of two
 * classes become one: softmax of both is the sigmoid of their difference.  One output of two
 * classes is about the second one that the user named.
 */
static void
take_row(const import_plan *p, int32_t i, const float *from, float *to, int64_t columns)
{
	int32_t outputs = net_get_config(p->file_net)->shape.outputs;
	bool folded = p->rows != NULL && net_get_config(p->net)->shape.outputs == 1;

	if (!folded)
		memcpy(to, from + (p->rows ? p->rows[i] : i) * columns, columns * sizeof(float));
	else
		for (int64_t j = 0; j < columns; j++)
			to[j] = outputs == 2      ? from[p->rows[1] * columns + j] - from[p->rows[0] * columns + j]
					: p->rows[1] == 1 ? from[j]
									  : -from[j];
}

/* Weights of file_net as those of net, which differ in the last layer only: the weight and bias at the end. */
static void
place_outputs(const import_plan *p, const float *from, float *to)
{
	int32_t last = net_tensor_count(p->net) - 1;
	int32_t outputs = net_get_config(p->net)->shape.outputs;

	memcpy(to, from, net_tensor(p->net, last - 1)->offset * sizeof(float));
	for (int32_t i = 0; i < outputs; i++)
		for (int32_t t = last - 1; t <= last; t++)
		{
			int64_t columns = t == last ? 1 : net_tensor(p->net, t)->dims[1];

			take_row(p, i, from + net_tensor(p->file_net, t)->offset,
					 to + net_tensor(p->net, t)->offset + i * columns, columns);
		}
}

/* Weights of file_net become those of net; from, NULL when they could not be read, is freed. */
static float *
finish_weights(const import_plan *p, float *from, llm_error *err)
{
	float *to;

	if (from == NULL)
		return NULL;
	to = calloc(1, net_weight_bytes(p->net));
	if (to != NULL)
		place_outputs(p, from, to);
	else
		llm_fail(err, LLM_MEMORY, "out of memory for the weights of the network");
	free(from);
	return to;
}

float *
import_plan_read(const import_plan *p, const safetensors *file, llm_poll poll, void *arg, llm_error *err)
{
	return finish_weights(p, tensor_file_read(&p->file, file, (const char *const *) p->names, poll, arg, err), err);
}

/* By the end of a tensor's name. */
static layer_part
part_of_tensor(const net_tensor_info *t)
{
	const char *end = strrchr(t->name, '.') + 1;

	return strcmp(end, "weight") == 0         ? PART_WEIGHT
		   : strcmp(end, "bias") == 0         ? PART_BIAS
		   : strcmp(end, "running_mean") == 0 ? PART_MEAN
											  : PART_VARIANCE;
}

static bool
read_onnx_tensor(const import_plan *p, const tensor_source *source, int32_t i, float *weights, llm_poll poll,
				 void *arg, llm_error *err)
{
	const net_tensor_info *t = net_tensor(p->file_net, i);
	float *outside = malloc(t->count * sizeof(float));
	bool ok = outside != NULL || llm_fail(err, LLM_MEMORY, "out of memory for tensor \"%s\"", t->name);

	ok = ok && onnx_network_read(p->onnx, source, t->layer, part_of_tensor(t), t->count, outside, err) &&
		 exchange_read(&p->file, i, outside, weights + t->offset, poll, arg, err);
	free(outside);
	return ok;
}

float *
import_plan_read_onnx(const import_plan *p, const tensor_source *source, llm_poll poll, void *arg, llm_error *err)
{
	float *weights = calloc(1, net_weight_bytes(p->file_net));
	bool ok = weights != NULL || llm_fail(err, LLM_MEMORY, "out of memory for the weights of the network");

	for (int32_t i = 0; ok && i < net_tensor_count(p->file_net); i++)
	{
		if (poll != NULL && poll(arg))
			ok = llm_fail(err, LLM_CANCELLED, "cancelled");
		ok = ok && read_onnx_tensor(p, source, i, weights, poll, arg, err);
	}
	if (ok)
		return finish_weights(p, weights, err);
	free(weights);
	return NULL;
}
