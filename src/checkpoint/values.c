/*
 * values.c
 *	  Values of a configuration: read one, or refuse it by its name.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"

#define COUNT(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* NULL where it is null, too. */
const json_t *
value_get(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_null(value) ? NULL : value;
}

bool
value_refuse(builder *b, const char *name, const json_t *value)
{
	char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

	llm_fail(b->err, LLM_INVALID, "\"%s\" of the configuration is %.100s, which is not supported", SHOWN(name),
			 text ? text : "missing");
	free(text);
	return false;
}

bool
ignored_by_user(const builder *b, const char *name)
{
	const json_t *ignore = json_object_get(b->params, "ignore");
	size_t count = json_array_size(ignore);

	for (size_t i = 0; i < count; i++)
	{
		const char *pattern = json_string_value(json_array_get(ignore, i));

		if (pattern && pattern_matches(pattern, name))
			return true;
	}
	return false;
}

/* A whole number in [low, high], or the fallback where there is none. */
bool
value_integer(builder *b, const json_t *object, const char *name, int64_t low, int64_t high, int32_t fallback,
			  int32_t *out)
{
	const json_t *value = value_get(object, name);

	*out = fallback;
	if (value == NULL)
		return true;
	if (!json_is_integer(value) || json_integer_value(value) < low || json_integer_value(value) > high)
		return value_refuse(b, name, value);
	*out = (int32_t) json_integer_value(value);
	return true;
}

bool
value_number(builder *b, const json_t *object, const char *name, double fallback, double *out)
{
	const json_t *value = value_get(object, name);

	*out = value ? json_number_value(value) : fallback;
	return value == NULL || (json_is_number(value) && isfinite(*out) && *out >= 0 && *out <= 1e9) ||
		   value_refuse(b, name, value);
}

bool
value_flag(builder *b, const json_t *object, const char *name, bool fallback, bool *out)
{
	const json_t *value = value_get(object, name);

	*out = value ? json_is_true(value) : fallback;
	return value == NULL || json_is_boolean(value) || value_refuse(b, name, value);
}

static const struct
{
	const char *name;
	net_activation activation;
} activations[] = {
	{"gelu", ACT_GELU},
	{"gelu_python", ACT_GELU},
	{"gelu_new", ACT_GELU_TANH},
	{"gelu_fast", ACT_GELU_TANH},
	{"gelu_pytorch_tanh", ACT_GELU_TANH},
	{"gelu_python_tanh", ACT_GELU_TANH},
	{"silu", ACT_SILU},
	{"swish", ACT_SILU},
	{"relu", ACT_RELU},
	{"tanh", ACT_TANH},
	{"sigmoid", ACT_SIGMOID},
};

bool
value_find_activation(const char *name, net_activation *out)
{
	for (int i = 0; name && i < COUNT(activations); i++)
		if (strcmp(activations[i].name, name) == 0)
		{
			*out = activations[i].activation;
			return true;
		}
	return false;
}

const char *
value_activation_name(net_activation activation)
{
	for (int i = 0; i < COUNT(activations); i++)
		if (activations[i].activation == activation)
			return activations[i].name;
	return NULL;
}

/* The shortest decimal number that is this one in single precision. */
json_t *
value_json(float number)
{
	char text[32];
	int digits = 1;

	do
		snprintf(text, sizeof(text), "%.*g", digits, number);
	while (digits++ < 9 && strtof(text, NULL) != number);
	return json_real(strtod(text, NULL));
}

bool
value_activation(builder *b, const char *name, net_activation *out)
{
	const json_t *value = value_get(b->config, name);

	if (value == NULL || value_find_activation(json_string_value(value), out))
		return true;
	value_refuse(b, name, value);
	return llm_hint(b->err,
					"Activations that are known: gelu, gelu_new, gelu_pytorch_tanh, silu, relu, tanh, sigmoid.");
}
