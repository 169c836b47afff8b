/*
 * dense.c
 *	  Modules Dense of sentence-transformers: linear layers between what stands for a text and its embedding.
 *
 * Each has a folder of its own with a configuration and a file of tensors.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "build.h"

#define WIDTH_MAX 65536
#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* Classes that are made without arguments. */
static const struct
{
	const char *module; /* behind "torch.nn." */
	net_activation activation;
} activations[] = {
	{"modules.linear.Identity", ACT_IDENTITY}, {"modules.activation.Tanh", ACT_TANH},
	{"modules.activation.ReLU", ACT_RELU},     {"modules.activation.GELU", ACT_GELU},
	{"modules.activation.SiLU", ACT_SILU},     {"modules.activation.Sigmoid", ACT_SIGMOID},
};

/* ---- folders ---- */

const char *
module_class(const json_t *modules, size_t i)
{
	const char *type = json_string_value(json_object_get(json_array_get(modules, i), "type"));

	return type && strrchr(type, '.') ? strrchr(type, '.') + 1 : type;
}

/* A name that leads nowhere else. */
static bool
is_folder(const char *name)
{
	if (name == NULL || name[0] == '\0' || name[0] == '.' || strlen(name) >= CHECKPOINT_FOLDER_BYTES)
		return false;
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char) *c) && strchr("_-.", *c) == NULL)
			return false;
	return true;
}

static bool
add_folder(const json_t *module, checkpoint_folders *out, llm_error *err)
{
	const char *name = json_string_value(json_object_get(module, "path"));

	if (out->count == NET_MAX_DENSE)
		return llm_fail(err, LLM_INVALID, "the sentence transformer has more than %d modules Dense", NET_MAX_DENSE);
	if (!is_folder(name))
		return llm_fail(err, LLM_INVALID, "the \"path\" of a module Dense is \"%s\", which is no folder of the model",
						name ? SHOWN(name) : "");
	for (int32_t i = 0; i < out->count; i++)
		if (strcmp(out->name[i], name) == 0)
			return llm_fail(err, LLM_INVALID, "two modules Dense have the same folder \"%s\"", name);
	strcpy(out->name[out->count++], name);
	return true;
}

bool
checkpoint_dense_folders(const checkpoint_text *modules, checkpoint_folders *out, llm_error *err)
{
	llm_error why = {.code = LLM_OK};
	json_t *json = modules->text ? json_parse(modules->text, modules->length, &why) : NULL;
	bool ok = true;

	out->count = 0;
	if (modules->text != NULL && json == NULL)
		return llm_fail(err, why.code, "modules.json: %s", why.message);
	for (size_t i = 0; ok && i < json_array_size(json); i++)
		if (module_class(json, i) && strcmp(module_class(json, i), "Dense") == 0)
			ok = add_folder(json_array_get(json, i), out, err);
	json_decref(json);
	return ok;
}

const char *
checkpoint_name_in(const char *folder, const char *name)
{
	size_t length = strlen(folder);

	return strncmp(name, folder, length) == 0 && name[length] == '/' ? name + length + 1 : NULL;
}

bool
dense_tensor(const builder *b, int32_t i, const char *kind, char *name, size_t size)
{
	return snprintf(name, size, "%s/linear%s", b->folders.name[i], kind) < (int) size;
}

bool
dense_is_tensor(const builder *b, const char *name)
{
	for (int32_t i = 0; i < b->folders.count; i++)
		if (checkpoint_name_in(b->folders.name[i], name) != NULL)
			return true;
	return false;
}

/* ---- configurations ---- */

static bool
read_activation(builder *b, const json_t *value, net_activation *out)
{
	const char *name = value ? json_string_value(value) : "torch.nn.modules.activation.Tanh";
	const char *last = name && strncmp(name, "torch.nn.", 9) == 0 ? strrchr(name, '.') : NULL;

	for (int i = 0; last && i < COUNT(activations); i++)
		if (strcmp(last, strrchr(activations[i].module, '.')) == 0)
		{
			*out = activations[i].activation;
			return true;
		}
	value_refuse(b, "activation_function", value);
	return llm_hint(b->err, "Activations of module Dense that are known: Identity, Tanh, ReLU, GELU, SiLU, Sigmoid, "
							"each of torch.nn.");
}

/* What reads or makes something else than the embedding is not known. */
static bool
check_keys(builder *b, const json_t *config)
{
	static const char *const read[] = {"in_features", "out_features", "bias", "activation_function"};
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) config, key, value)
	{
		bool known = json_is_null(value);

		for (int i = 0; i < COUNT(read); i++)
			known |= strcmp(key, read[i]) == 0;
		if (strcmp(key, "module_input_name") == 0 || strcmp(key, "module_output_name") == 0)
			known |= json_is_string(value) && strcmp(json_string_value(value), "sentence_embedding") == 0;
		if (strcmp(key, "use_residual") == 0)
			known |= json_is_false(value);
		if (!known)
			return value_refuse(b, key, value);
	}
	return true;
}

bool
dense_read(builder *b)
{
	net_config *c = &b->c->config;
	int32_t i = c->dense_count, inputs = net_embedding_width(c), width;
	const json_t *config = b->dense[i];
	net_dense *d = &c->dense[i];

	if (!json_is_object(config))
		return llm_fail(b->err, LLM_INVALID, "the configuration of module Dense, %s/config.json, is missing",
						b->folders.name[i]);
	if (!check_keys(b, config) || !value_integer(b, config, "in_features", 1, WIDTH_MAX, 0, &width) ||
		!value_integer(b, config, "out_features", 1, WIDTH_MAX, 0, &d->width) ||
		!value_flag(b, config, "bias", true, &d->bias) ||
		!read_activation(b, value_get(config, "activation_function"), &d->activation))
		return false;
	if (width != inputs || d->width == 0)
		return llm_fail(b->err, LLM_INVALID, "%s/config.json makes %d numbers of %d, where %d come in",
						b->folders.name[i], d->width, width, inputs);
	c->dense_count++;
	return true;
}

/* ---- the way back ---- */

json_t *
dense_json(const net_config *c, int32_t i)
{
	const net_dense *d = &c->dense[i];
	int32_t inputs = i > 0 ? c->dense[i - 1].width : c->text.width;

	for (int k = 0; k < COUNT(activations); k++)
		if (activations[k].activation == d->activation)
		{
			char name[64];

			snprintf(name, sizeof(name), "torch.nn.%s", activations[k].module);
			return json_pack("{s:i, s:i, s:b, s:s}", "in_features", inputs, "out_features", d->width, "bias", d->bias,
							 "activation_function", name);
		}
	return NULL;
}
