/*
 * onnx_activations.c
 *	  Operations of ONNX that layers of activation compute, and those with which a graph of classes ends.
 *
 * Graphs before version 20 of the operations have gelu in steps: x / sqrt(2), Erf, + 1, * x, * 0.5.  Nothing but the
 * next step can read what a step makes; a graph that does something else with it is refused.
 */
#include <math.h>
#include <string.h>

#include "onnx_ops.h"

bool
put_activation(translator *t, made v, const char *function)
{
	json_t *layer = add_layer(t, "activation", &v);

	if (layer == NULL)
		return false;
	json_object_set_new(layer, "function", json_string(function));
	return put_made(t, &v);
}

/* ---- gelu in steps ---- */

/* Operation and number of each step; 0: the number is x itself, or there is none. */
static const struct
{
	const char *op;
	double number;
} steps[] = {{"Div", M_SQRT2}, {"Erf", 0}, {"Add", 1}, {"Mul", 0}, {"Mul", 0.5}};

#define STEPS ((int) (sizeof(steps) / sizeof(steps[0])))

static int
step_input(const translator *t)
{
	for (int i = 0; i < 2; i++)
	{
		const made *v = find_made(t, i);

		if (v != NULL && v->kind == MADE_GELU)
			return i;
	}
	return -1;
}

bool
is_gelu_step(const translator *t)
{
	return step_input(t) >= 0;
}

/* The other operand is this number, or x. */
static bool
check_operand(translator *t, const made *x, int i, double number)
{
	const source_tensor *c;
	const made *other;
	float value;

	if (number == 0)
	{
		other = take_rows(t, i);
		return other != NULL && ((other->from == x->from && other->ndim == x->ndim &&
								  memcmp(other->dims, x->dims, x->ndim * sizeof(int64_t)) == 0) ||
								 NODE_FAIL(t, "multiplies other numbers than those that it is the gelu of"));
	}
	if (!take_constant(t, i, false, &c))
		return false;
	if (c->count != 1)
		return NODE_FAIL(t, "takes more than one number for a gelu");
	if (!tensor_source_read(t->source, c, 0, 1, &value, t->err))
		return false;
	return fabs(value - number) < 1e-3 * number || NODE_FAIL(t, "takes %g for a gelu, not %g", value, number);
}

bool
translate_gelu_step(translator *t)
{
	int at = step_input(t);
	const char *op = json_string_value(json_object_get(t->node, "op"));
	const made *x = at < 0 ? take_rows(t, 0) : find_made(t, at);
	int64_t step = at < 0 || x == NULL ? 0 : x->groups;
	made v;

	if (x == NULL)
		return false;
	if (strcmp(op, steps[step].op) != 0)
		return NODE_FAIL(t, "is not a step of a gelu");
	if (step != 1 && !check_operand(t, x, at < 0 ? 1 : 1 - at, steps[step].number))
		return false;
	v = *x;
	v.kind = MADE_GELU;
	v.groups = step + 1;
	return v.groups == STEPS ? put_activation(t, v, "gelu") : put_made(t, &v);
}

/* ---- functions ---- */

static bool
translate_relu(translator *t)
{
	const made *v = take_rows(t, 0);

	return v != NULL && put_activation(t, *v, "relu");
}

static bool
translate_tanh(translator *t)
{
	const made *v = take_rows(t, 0);

	return v != NULL && put_activation(t, *v, "tanh");
}

static bool
translate_gelu(translator *t)
{
	const made *v = take_rows(t, 0);
	const char *form;

	if (v == NULL || !attribute_text(t, "approximate", "none", &form))
		return false;
	if (strcmp(form, "none") != 0 && strcmp(form, "tanh") != 0)
		return NODE_FAIL(t, "has unknown \"approximate\"");
	return put_activation(t, *v, form[0] == 'n' ? "gelu" : "gelu_tanh");
}

static bool
translate_swish(translator *t)
{
	const made *v = take_rows(t, 0);
	double alpha;

	if (v == NULL || !attribute_number(t, "alpha", 1, &alpha))
		return false;
	return alpha == 1 ? put_activation(t, *v, "silu") : NODE_FAIL(t, "has alpha %g, not 1", alpha);
}

/* Is the value what the graph makes, but for nodes that change its shape? */
static bool
is_last(const translator *t, const char *name)
{
	const char *output = json_string_value(json_array_get(json_object_get(t->graph, "outputs"), 0));
	size_t left = json_array_size(json_object_get(t->graph, "nodes"));

	while (name != NULL && strcmp(name, output) != 0 && left-- > 0)
	{
		const json_t *reader = only_reader(t, name);
		const char *op = json_string_value(json_object_get(reader, "op"));

		if (op == NULL || (strcmp(op, "Squeeze") != 0 && strcmp(op, "Reshape") != 0 && strcmp(op, "Identity") != 0))
			return false;
		name = json_string_value(json_array_get(json_object_get(reader, "outputs"), 0));
	}
	return name != NULL && count_readers(t, name) == 1;
}

static bool
put_classes(translator *t, made v)
{
	v.kind = MADE_CLASSES;
	t->n->task = "classification";
	return put_made(t, &v);
}

static bool
is_regression(const translator *t)
{
	return t->task != NULL && strcmp(t->task, "regression") == 0;
}

/* x * sigmoid(x) is an activation of its own. */
static bool
is_gate(const translator *t)
{
	const json_t *reader = only_reader(t, node_output(t, 0) ? node_output(t, 0) : "");
	const json_t *inputs = json_object_get(reader, "inputs");
	const char *op = json_string_value(json_object_get(reader, "op"));

	if (op == NULL || strcmp(op, "Mul") != 0)
		return false;
	for (int i = 0; i < 2; i++)
		if (json_array_size(inputs) == 2 &&
			strcmp(json_string_value(json_array_get(inputs, i)), node_input(t, 0)) == 0)
			return true;
	return false;
}

static bool
translate_sigmoid(translator *t)
{
	const made *x = take_rows(t, 0);
	made v;

	if (x == NULL)
		return false;
	v = *x;
	if (is_gate(t))
	{
		v.kind = MADE_GATE;
		return put_made(t, &v);
	}
	if (made_count(x) == 1 && x->ndim <= 1 && !is_regression(t) && is_last(t, node_output(t, 0)))
		return put_classes(t, v);
	return put_activation(t, v, "sigmoid");
}

static bool
translate_softmax(translator *t)
{
	const made *v = take_rows(t, 0);
	int64_t axis;

	if (v == NULL || !attribute_integer(t, "axis", v->ndim, &axis))
		return false;
	if (v->ndim != 1 || v->dims[0] < 2 || (axis != 1 && axis != -1))
		return NODE_FAIL(t, "makes probabilities of other than the columns of a row");
	if (is_regression(t))
		return NODE_FAIL(t, "makes probabilities of classes, but \"task\" is \"regression\"");
	return put_classes(t, *v);
}

const onnx_op onnx_activation_ops[] = {
	{"Div", "", translate_gelu_step},
	{"Erf", "", translate_gelu_step},
	{"Gelu", "approximate", translate_gelu},
	{"LogSoftmax", "axis", translate_softmax},
	{"Relu", "", translate_relu},
	{"Sigmoid", "", translate_sigmoid},
	{"Softmax", "axis", translate_softmax},
	{"Swish", "alpha", translate_swish},
	{"Tanh", "", translate_tanh},
	{NULL},
};
