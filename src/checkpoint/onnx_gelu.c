/*
 * onnx_gelu.c
 *	  Gelu as graphs before version 20 of the operations have it: x / sqrt(2), Erf, + 1, * x, * 0.5.
 *
 * Nothing but the next step can read what a step makes; a graph that does something else with it is refused.
 */
#include <math.h>
#include <string.h>

#include "onnx_ops.h"

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
	if (strcmp(op, steps[step].op) != 0 || (at != 0 && step < 2 && at >= 0))
		return NODE_FAIL(t, "is not a step of a gelu");
	if (step != 1 && !check_operand(t, x, at < 0 ? 1 : 1 - at, steps[step].number))
		return false;
	v = *x;
	v.kind = MADE_GELU;
	v.groups = step + 1;
	return v.groups == STEPS ? put_activation(t, v, "gelu") : put_made(t, &v);
}
