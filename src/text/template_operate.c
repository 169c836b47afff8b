/*
 * template_operate.c
 *	  What operators of templates do with values, as in Python.
 */
#include "template_eval.h"

#include <math.h>
#include <string.h>

/* ---- numbers, texts and lists ---- */

static template_value
wrong_operands(rendering *r, template_value x, template_value y)
{
	template_fail(&r->a, "an operation does not fit %s and %s", template_kind_name(x), template_kind_name(y));
	return none_value();
}

static template_value
too_large(rendering *r)
{
	template_fail(&r->a, "a number is too large");
	return none_value();
}

static template_value
add_integers(rendering *r, node_operation operation, int64_t x, int64_t y)
{
	int64_t result = 0;
	bool overflow = operation == OP_ADD        ? __builtin_add_overflow(x, y, &result)
					: operation == OP_SUBTRACT ? __builtin_sub_overflow(x, y, &result)
											   : __builtin_mul_overflow(x, y, &result);

	return overflow ? too_large(r) : integer_value(result);
}

/* Rounded down, as Python does. */
static template_value
divide_integers(rendering *r, node_operation operation, int64_t x, int64_t y)
{
	int64_t rest;

	if (y == -1)
		return operation == OP_MODULO ? integer_value(0) : add_integers(r, OP_SUBTRACT, 0, x);
	rest = x % y;
	if (operation == OP_MODULO)
		return integer_value(rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest);
	return integer_value(x / y - (rest != 0 && (rest < 0) != (y < 0)));
}

static template_value
float_operation(node_operation operation, double x, double y)
{
	switch (operation)
	{
		case OP_ADD: return float_value(x + y);
		case OP_SUBTRACT: return float_value(x - y);
		case OP_MULTIPLY: return float_value(x * y);
		case OP_DIVIDE: return float_value(x / y);
		case OP_FLOOR: return float_value(floor(x / y));
		case OP_MODULO: return float_value(x - y * floor(x / y));
		default: return float_value(pow(x, y));
	}
}

static template_value
number_operation(rendering *r, node_operation operation, template_value x, template_value y)
{
	bool integers = x.kind != VALUE_FLOAT && y.kind != VALUE_FLOAT;
	int64_t i = x.kind == VALUE_BOOLEAN ? x.boolean : x.integer, k = y.kind == VALUE_BOOLEAN ? y.boolean : y.integer;
	bool divides = operation == OP_DIVIDE || operation == OP_FLOOR || operation == OP_MODULO;

	if (divides && template_number(y) == 0)
	{
		template_fail(&r->a, "division by zero");
		return none_value();
	}
	if (!integers || operation == OP_DIVIDE || (operation == OP_POWER && k < 0))
		return float_operation(operation, template_number(x), template_number(y));
	if (divides)
		return divide_integers(r, operation, i, k);
	if (operation == OP_POWER)
	{
		double power = pow((double) i, (double) k);

		return fabs(power) < 9e15 ? integer_value((int64_t) power) : too_large(r);
	}
	return add_integers(r, operation, i, k);
}

static template_value
join_lists(rendering *r, const template_list *x, const template_list *y)
{
	template_value result = list_value(&r->a);

	for (size_t i = 0; i < x->count && template_charge(r, 1); i++)
		template_list_add(&r->a, result.list, x->items[i]);
	for (size_t i = 0; i < y->count && template_charge(r, 1); i++)
		template_list_add(&r->a, result.list, y->items[i]);
	return result;
}

static template_value
concatenate(rendering *r, piece x, piece y)
{
	piece_builder out = {.a = &r->a};

	build_add(&out, x);
	build_add(&out, y);
	template_charge(r, out.size / 16);
	return text_value(build_finish(&out));
}

static template_value
repeat_text(rendering *r, piece text, int64_t times)
{
	piece_builder out = {.a = &r->a};

	for (int64_t i = 0; i < times && template_charge(r, text.size + 1); i++)
		build_add(&out, text);
	return text_value(build_finish(&out));
}

template_value
operate(rendering *r, node_operation operation, template_value x, template_value y)
{
	if (operation == OP_JOIN)
		return concatenate(r, printed_text(&r->a, x), printed_text(&r->a, y));
	if (template_is_number(x) && template_is_number(y))
		return number_operation(r, operation, x, y);
	if (operation == OP_ADD && x.kind == VALUE_TEXT && y.kind == VALUE_TEXT)
		return concatenate(r, x.text, y.text);
	if (operation == OP_ADD && x.kind == VALUE_LIST && y.kind == VALUE_LIST)
		return join_lists(r, x.list, y.list);
	if (operation == OP_MULTIPLY && x.kind == VALUE_TEXT && y.kind == VALUE_INTEGER)
		return repeat_text(r, x.text, y.integer);
	if (!has_parts(r, x) || !has_parts(r, y))
		return none_value();
	return wrong_operands(r, x, y);
}

template_value
negate(rendering *r, template_value v)
{
	if (v.kind == VALUE_FLOAT)
		return float_value(-v.number);
	if (!template_is_number(v))
		return wrong_operands(r, v, v);
	return add_integers(r, OP_SUBTRACT, 0, v.kind == VALUE_BOOLEAN ? v.boolean : v.integer);
}

/* ---- comparisons ---- */

bool
template_in(rendering *r, template_value x, template_value y)
{
	if (y.kind == VALUE_TEXT && x.kind == VALUE_TEXT)
		return template_charge(r, y.text.size) && piece_find(y.text, x.text, 0) <= y.text.size;
	if (y.kind == VALUE_DICT && x.kind == VALUE_TEXT)
		return template_charge(r, y.dict->count) && template_dict_find(y.dict, x.text) != NULL;
	if (y.kind == VALUE_LIST && template_charge(r, y.list->count))
		for (size_t i = 0; i < y.list->count; i++)
			if (template_equal(x, y.list->items[i]))
				return true;
	if (y.kind != VALUE_LIST && y.kind != VALUE_DICT && y.kind != VALUE_UNDEFINED)
		template_fail(&r->a, "%s cannot be in %s", template_kind_name(x), template_kind_name(y));
	return false;
}

int
compare_values(rendering *r, template_value x, template_value y)
{
	if (template_is_number(x) && template_is_number(y))
		return template_number(x) < template_number(y) ? -1 : template_number(x) > template_number(y);
	if (x.kind == VALUE_TEXT && y.kind == VALUE_TEXT)
	{
		size_t size = x.text.size < y.text.size ? x.text.size : y.text.size;
		int order = size ? memcmp(x.text.bytes, y.text.bytes, size) : 0;

		return order ? order : x.text.size < y.text.size ? -1 : x.text.size > y.text.size;
	}
	template_fail(&r->a, "%s cannot be compared with %s", template_kind_name(x), template_kind_name(y));
	return 0;
}

bool
relation_holds(rendering *r, node_operation operation, template_value x, template_value y)
{
	switch (operation)
	{
		case OP_EQUAL: return template_equal(x, y);
		case OP_UNEQUAL: return !template_equal(x, y);
		case OP_IN: return template_in(r, x, y);
		case OP_NOT_IN: return !template_in(r, x, y);
		case OP_LESS: return compare_values(r, x, y) < 0;
		case OP_LESS_EQUAL: return compare_values(r, x, y) <= 0;
		case OP_GREATER: return compare_values(r, x, y) > 0;
		default: return compare_values(r, x, y) >= 0;
	}
}
