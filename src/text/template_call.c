/*
 * template_call.c
 *	  Filters, tests, methods and functions of templates, each a row of a table.
 *
 * They do what those of Jinja and Python do.
 */
#include "template_eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANGE_MAX 100000

/* ---- arguments ---- */

/* The argument at a position, or of a name; NULL: it was not given. */
static const template_value *
argument(const arguments *args, int position, const char *name)
{
	if (position < args->plain)
		return &args->values[position];
	for (int i = args->plain; i < args->count; i++)
		if (piece_is(args->names[i], name))
			return &args->values[i];
	return NULL;
}

static piece
text_argument(rendering *r, const arguments *args, int position, const char *name, const char *fallback)
{
	const template_value *v = argument(args, position, name);

	if (v == NULL || v->kind == VALUE_NONE)
		return piece_of(fallback);
	if (v->kind != VALUE_TEXT)
		template_fail(&r->a, "argument %s is %s, but must be a string", name, template_kind_name(*v));
	return v->kind == VALUE_TEXT ? v->text : piece_of("");
}

static int64_t
integer_argument(rendering *r, const arguments *args, int position, const char *name, int64_t fallback)
{
	const template_value *v = argument(args, position, name);

	if (v == NULL || v->kind == VALUE_NONE)
		return fallback;
	if (v->kind == VALUE_BOOLEAN)
		return v->boolean;
	if (v->kind != VALUE_INTEGER)
		template_fail(&r->a, "argument %s is %s, but must be an integer", name, template_kind_name(*v));
	return v->kind == VALUE_INTEGER ? v->integer : fallback;
}

/* The text that a filter works on. */
static piece
self_text(rendering *r, template_value self)
{
	piece text = printed_text(&r->a, self);

	template_charge(r, text.size);
	return text;
}

/* ---- sequences ---- */

/* Keys and values of a dict. */
static template_value
dict_items(rendering *r, template_value self)
{
	template_value result = list_value(&r->a);

	if (self.kind != VALUE_DICT && self.kind != VALUE_UNDEFINED)
		template_fail(&r->a, "%s has no items", template_kind_name(self));
	for (size_t i = 0; self.kind == VALUE_DICT && i < self.dict->count && template_charge(r, 1); i++)
	{
		template_value pair = list_value(&r->a);

		if (template_failed(&r->a))
			break;
		template_list_add(&r->a, pair.list, text_value(self.dict->keys[i]));
		template_list_add(&r->a, pair.list, self.dict->values[i]);
		template_list_add(&r->a, result.list, pair);
	}
	return result;
}

/* ---- text ---- */

static piece
strip_by(rendering *r, piece text, const arguments *args, bool left, bool right)
{
	piece set = text_argument(r, args, 0, "chars", "");

	return strip_text(r, text, argument(args, 0, "chars") && set.size > 0 ? &set : NULL, left, right);
}

/* ---- methods ---- */

typedef template_value (*called)(rendering *r, template_value self, const arguments *args);

static template_value
do_strip(rendering *r, template_value self, const arguments *args)
{
	return text_value(strip_by(r, self_text(r, self), args, true, true));
}

static template_value
do_lstrip(rendering *r, template_value self, const arguments *args)
{
	return text_value(strip_by(r, self.text, args, true, false));
}

static template_value
do_rstrip(rendering *r, template_value self, const arguments *args)
{
	return text_value(strip_by(r, self.text, args, false, true));
}

static template_value
do_startswith(rendering *r, template_value self, const arguments *args)
{
	return boolean_value(has_affix(r, self.text, argument(args, 0, "prefix"), false));
}

static template_value
do_endswith(rendering *r, template_value self, const arguments *args)
{
	return boolean_value(has_affix(r, self.text, argument(args, 0, "prefix"), true));
}

static template_value
do_split(rendering *r, template_value self, const arguments *args)
{
	const template_value *given = argument(args, 0, "sep");
	piece separator = text_argument(r, args, 0, "sep", "");
	int64_t most = integer_argument(r, args, 1, "maxsplit", -1);

	return split_text(r, self.text, given == NULL || given->kind == VALUE_NONE ? NULL : &separator, most);
}

static template_value
do_upper(rendering *r, template_value self, const arguments *args)
{
	return text_value(change_case(r, self_text(r, self), CASE_UPPER));
}

static template_value
do_lower(rendering *r, template_value self, const arguments *args)
{
	return text_value(change_case(r, self_text(r, self), CASE_LOWER));
}

static template_value
do_title(rendering *r, template_value self, const arguments *args)
{
	return text_value(change_case(r, self_text(r, self), CASE_TITLE));
}

static template_value
do_capitalize(rendering *r, template_value self, const arguments *args)
{
	return text_value(change_case(r, self_text(r, self), CASE_CAPITAL));
}

static template_value
do_replace(rendering *r, template_value self, const arguments *args)
{
	return text_value(replace_text(r, self_text(r, self), text_argument(r, args, 0, "old", ""),
								   text_argument(r, args, 1, "new", ""), integer_argument(r, args, 2, "count", -1)));
}

static template_value
do_find(rendering *r, template_value self, const arguments *args)
{
	size_t at = piece_find(self_text(r, self), text_argument(r, args, 0, "sub", ""), 0);

	return integer_value(at > self.text.size ? -1 : (int64_t) piece_length(piece_cut(self.text, 0, at)));
}

/* The separator's method: ', '.join(list). */
static template_value
do_join_by(rendering *r, template_value self, const arguments *args)
{
	const template_value *list = argument(args, 0, "iterable");

	return text_value(list ? join_texts(r, *list, self.text, NULL) : piece_of(""));
}

static template_value
do_items(rendering *r, template_value self, const arguments *args)
{
	return dict_items(r, self);
}

static template_value
do_keys(rendering *r, template_value self, const arguments *args)
{
	return elements_of(r, self);
}

static template_value
do_values(rendering *r, template_value self, const arguments *args)
{
	template_value result = list_value(&r->a);

	for (size_t i = 0; i < self.dict->count && template_charge(r, 1); i++)
		template_list_add(&r->a, result.list, self.dict->values[i]);
	return result;
}

static template_value
do_get(rendering *r, template_value self, const arguments *args)
{
	const template_value *fallback = argument(args, 1, "default");
	const template_value *found = template_dict_find(self.dict, text_argument(r, args, 0, "key", ""));

	template_charge(r, self.dict->count);
	return found ? *found : fallback ? *fallback : none_value();
}

static const struct
{
	const char *name;
	value_class of;
	called call;
} methods[] = {
	{"strip", VALUE_TEXT, do_strip},       {"lstrip", VALUE_TEXT, do_lstrip},
	{"rstrip", VALUE_TEXT, do_rstrip},     {"startswith", VALUE_TEXT, do_startswith},
	{"endswith", VALUE_TEXT, do_endswith}, {"split", VALUE_TEXT, do_split},
	{"upper", VALUE_TEXT, do_upper},       {"lower", VALUE_TEXT, do_lower},
	{"title", VALUE_TEXT, do_title},       {"capitalize", VALUE_TEXT, do_capitalize},
	{"replace", VALUE_TEXT, do_replace},   {"find", VALUE_TEXT, do_find},
	{"join", VALUE_TEXT, do_join_by},      {"items", VALUE_DICT, do_items},
	{"keys", VALUE_DICT, do_keys},         {"values", VALUE_DICT, do_values},
	{"get", VALUE_DICT, do_get},
};

#define METHODS (sizeof(methods) / sizeof(methods[0]))

bool
is_method(template_value self, piece name)
{
	for (size_t i = 0; i < METHODS; i++)
		if (methods[i].of == self.kind && piece_is(name, methods[i].name))
			return true;
	return false;
}

template_value
call_method(rendering *r, piece name, template_value self, const arguments *args)
{
	for (size_t i = 0; i < METHODS; i++)
		if (methods[i].of == self.kind && piece_is(name, methods[i].name))
			return methods[i].call(r, self, args);
	return none_value();
}

/* ---- filters ---- */

static template_value
do_tojson(rendering *r, template_value self, const arguments *args)
{
	piece_builder out = {.a = &r->a};
	int64_t indent = integer_argument(r, args, 1, "indent", -1);

	if (indent > 64)
		template_fail(&r->a, "an indent of %lld is too much", (long long) indent);
	template_to_json(&r->a, self, (int) indent, 0, &out);
	template_charge(r, out.size);
	return text_value(build_finish(&out));
}

static template_value
do_length(rendering *r, template_value self, const arguments *args)
{
	switch (self.kind)
	{
		case VALUE_TEXT: template_charge(r, self.text.size); return integer_value((int64_t) piece_length(self.text));
		case VALUE_LIST: return integer_value((int64_t) self.list->count);
		case VALUE_DICT: return integer_value((int64_t) self.dict->count);
		case VALUE_UNDEFINED: return integer_value(0);
		default: template_fail(&r->a, "%s has no length", template_kind_name(self)); return none_value();
	}
}

static template_value
do_default(rendering *r, template_value self, const arguments *args)
{
	const template_value *fallback = argument(args, 0, "default_value"), *falsy = argument(args, 1, "boolean");

	if (self.kind == VALUE_UNDEFINED || (falsy != NULL && template_true(*falsy) && !template_true(self)))
		return fallback ? *fallback : text_value(piece_of(""));
	return self;
}

static template_value
do_join(rendering *r, template_value self, const arguments *args)
{
	return text_value(join_texts(r, self, text_argument(r, args, 0, "d", ""), argument(args, 1, "attribute")));
}

static template_value
element_at(rendering *r, template_value self, bool last)
{
	template_value list = elements_of(r, self);

	if (template_failed(&r->a) || list.list->count == 0)
		return undefined_value(piece_of("an element of something empty"));
	return list.list->items[last ? list.list->count - 1 : 0];
}

static template_value
do_first(rendering *r, template_value self, const arguments *args)
{
	return element_at(r, self, false);
}

static template_value
do_last(rendering *r, template_value self, const arguments *args)
{
	return element_at(r, self, true);
}

static template_value
do_list(rendering *r, template_value self, const arguments *args)
{
	return elements_of(r, self);
}

static template_value
do_reverse(rendering *r, template_value self, const arguments *args)
{
	template_value list = elements_of(r, self), result = list_value(&r->a);

	for (size_t i = 0; !template_failed(&r->a) && i < list.list->count && template_charge(r, 1); i++)
		template_list_add(&r->a, result.list, list.list->items[list.list->count - 1 - i]);
	return self.kind == VALUE_TEXT ? text_value(join_texts(r, result, piece_of(""), NULL)) : result;
}

static template_value
do_string(rendering *r, template_value self, const arguments *args)
{
	return text_value(printed_text(&r->a, self));
}

static template_value
do_int(rendering *r, template_value self, const arguments *args)
{
	char text[32] = "";
	char *end = text;
	long long number;

	if (template_is_number(self))
		return self.kind == VALUE_INTEGER           ? self
			   : fabs(template_number(self)) < 9e18 ? integer_value((int64_t) template_number(self))
													: integer_value(integer_argument(r, args, 0, "default", 0));
	if (self.kind == VALUE_TEXT)
		snprintf(text, sizeof(text), "%.*s", (int) (self.text.size < 31 ? self.text.size : 31), self.text.bytes);
	number = strtoll(text, &end, 10);
	return integer_value(*text == '\0' || *end != '\0' ? integer_argument(r, args, 0, "default", 0) : number);
}

static template_value
do_abs(rendering *r, template_value self, const arguments *args)
{
	if (!template_is_number(self))
		template_fail(&r->a, "abs of %s", template_kind_name(self));
	if (self.kind == VALUE_INTEGER && self.integer != INT64_MIN)
		return integer_value(self.integer < 0 ? -self.integer : self.integer);
	return float_value(fabs(template_number(self)));
}

static template_value
do_safe(rendering *r, template_value self, const arguments *args)
{
	return self;
}

/* Arguments behind the first `from` ones. */
static arguments
later_arguments(const arguments *args, int from)
{
	arguments rest = {.count = 0};

	for (int i = from; i < args->plain; i++)
		rest.values[rest.count++] = args->values[i];
	rest.plain = rest.count;
	return rest;
}

/* map(attribute='name'), or map('filter'). */
static template_value
do_map(rendering *r, template_value self, const arguments *args)
{
	const template_value *attribute = argument(args, ARGUMENTS_MAX, "attribute");
	template_value list = elements_of(r, self), result = list_value(&r->a);
	const template_value *fallback = argument(args, ARGUMENTS_MAX, "default");
	arguments rest = later_arguments(args, 1);

	if (attribute == NULL && args->plain == 0)
		template_fail(&r->a, "map needs an attribute or a filter");
	for (size_t i = 0; !template_failed(&r->a) && i < list.list->count && template_charge(r, 1); i++)
	{
		template_value item = list.list->items[i];

		item = attribute ? get_item(r, item, *attribute)
						 : call_filter(r, text_argument(r, args, 0, "filter", ""), item, &rest);
		if (item.kind == VALUE_UNDEFINED && fallback != NULL)
			item = *fallback;
		template_list_add(&r->a, result.list, item);
	}
	return result;
}

/* Elements of which a test holds or not: of themselves, or of an attribute. */
static template_value
select_elements(rendering *r, template_value self, const arguments *args, bool by_attribute, bool holds)
{
	template_value list = elements_of(r, self), result = list_value(&r->a);
	int at = by_attribute ? 1 : 0;
	arguments rest = later_arguments(args, at + 1);

	if (by_attribute && args->plain == 0)
		template_fail(&r->a, "selectattr and rejectattr need an attribute");
	for (size_t i = 0; !template_failed(&r->a) && i < list.list->count && template_charge(r, 1); i++)
	{
		template_value item = list.list->items[i], subject = by_attribute ? get_item(r, item, args->values[0]) : item;
		bool found = args->plain > at ? call_test(r, text_argument(r, args, at, "test", ""), subject, &rest)
									  : template_true(subject);

		if (found == holds)
			template_list_add(&r->a, result.list, item);
	}
	return result;
}

static template_value
do_select(rendering *r, template_value self, const arguments *args)
{
	return select_elements(r, self, args, false, true);
}

static template_value
do_reject(rendering *r, template_value self, const arguments *args)
{
	return select_elements(r, self, args, false, false);
}

static template_value
do_selectattr(rendering *r, template_value self, const arguments *args)
{
	return select_elements(r, self, args, true, true);
}

static template_value
do_rejectattr(rendering *r, template_value self, const arguments *args)
{
	return select_elements(r, self, args, true, false);
}

static const struct
{
	const char *name;
	called call;
} filters[] = {
	{"trim", do_strip},
	{"tojson", do_tojson},
	{"length", do_length},
	{"count", do_length},
	{"upper", do_upper},
	{"lower", do_lower},
	{"title", do_title},
	{"capitalize", do_capitalize},
	{"default", do_default},
	{"d", do_default},
	{"join", do_join},
	{"replace", do_replace},
	{"first", do_first},
	{"last", do_last},
	{"items", do_items},
	{"list", do_list},
	{"reverse", do_reverse},
	{"string", do_string},
	{"int", do_int},
	{"abs", do_abs},
	{"safe", do_safe},
	{"map", do_map},
	{"select", do_select},
	{"reject", do_reject},
	{"selectattr", do_selectattr},
	{"rejectattr", do_rejectattr},
};

template_value
call_filter(rendering *r, piece name, template_value self, const arguments *args)
{
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
		if (piece_is(name, filters[i].name))
			return filters[i].call(r, self, args);
	template_fail(&r->a, "the filter \"%.*s\" is not supported", (int) (name.size < 40 ? name.size : 40), name.bytes);
	return none_value();
}

/* ---- tests ---- */

#define KIND_BIT(kind) (1u << (kind))

/* Tests of what a value is. */
static const struct
{
	const char *name;
	unsigned kinds;
} kind_tests[] = {
	{"undefined", KIND_BIT(VALUE_UNDEFINED)},
	{"defined", ~KIND_BIT(VALUE_UNDEFINED)},
	{"none", KIND_BIT(VALUE_NONE)},
	{"boolean", KIND_BIT(VALUE_BOOLEAN)},
	{"integer", KIND_BIT(VALUE_INTEGER)},
	{"float", KIND_BIT(VALUE_FLOAT)},
	{"number", KIND_BIT(VALUE_INTEGER) | KIND_BIT(VALUE_FLOAT) | KIND_BIT(VALUE_BOOLEAN)},
	{"string", KIND_BIT(VALUE_TEXT)},
	{"mapping", KIND_BIT(VALUE_DICT)},
	{"iterable", KIND_BIT(VALUE_TEXT) | KIND_BIT(VALUE_LIST) | KIND_BIT(VALUE_DICT) | KIND_BIT(VALUE_UNDEFINED)},
	{"sequence", KIND_BIT(VALUE_TEXT) | KIND_BIT(VALUE_LIST) | KIND_BIT(VALUE_DICT) | KIND_BIT(VALUE_UNDEFINED)},
	{"callable", KIND_BIT(VALUE_MACRO) | KIND_BIT(VALUE_FUNCTION) | KIND_BIT(VALUE_METHOD)},
};

/* Tests that compare; the bits say which results of compare_values() hold: less, equal, greater. */
static const struct
{
	const char *name;
	int results;
} comparison_tests[] = {
	{"lt", 1}, {"lessthan", 1},    {"<", 1}, {"le", 3}, {"<=", 3},
	{"gt", 4}, {"greaterthan", 4}, {">", 4}, {"ge", 6}, {">=", 6},
};

static int64_t
whole_number(rendering *r, template_value v)
{
	if (v.kind != VALUE_INTEGER)
		template_fail(&r->a, "%s is no integer", template_kind_name(v));
	return v.kind == VALUE_INTEGER ? v.integer : 0;
}

bool
call_test(rendering *r, piece name, template_value self, const arguments *args)
{
	template_value other = args->plain > 0 ? args->values[0] : none_value();

	for (size_t i = 0; i < sizeof(kind_tests) / sizeof(kind_tests[0]); i++)
		if (piece_is(name, kind_tests[i].name))
			return (kind_tests[i].kinds & KIND_BIT(self.kind)) != 0;
	for (size_t i = 0; i < sizeof(comparison_tests) / sizeof(comparison_tests[0]); i++)
		if (piece_is(name, comparison_tests[i].name))
		{
			int order = compare_values(r, self, other);

			return (comparison_tests[i].results >> (order < 0 ? 0 : order == 0 ? 1 : 2) & 1) != 0;
		}
	if (piece_is(name, "true") || piece_is(name, "false"))
		return self.kind == VALUE_BOOLEAN && self.boolean == piece_is(name, "true");
	if (piece_is(name, "equalto") || piece_is(name, "eq") || piece_is(name, "==") || piece_is(name, "sameas"))
		return template_equal(self, other);
	if (piece_is(name, "ne") || piece_is(name, "!="))
		return !template_equal(self, other);
	if (piece_is(name, "in"))
		return template_in(r, self, other);
	if (piece_is(name, "odd") || piece_is(name, "even"))
		return (whole_number(r, self) % 2 != 0) == piece_is(name, "odd");
	if (piece_is(name, "divisibleby"))
		return whole_number(r, other) != 0 && whole_number(r, other) != -1
				   ? whole_number(r, self) % other.integer == 0
				   : other.integer == -1;
	return template_fail(&r->a, "the test \"%.*s\" is not supported", (int) (name.size < 40 ? name.size : 40),
						 name.bytes);
}

/* ---- functions ---- */

static template_value
do_range(rendering *r, template_value self, const arguments *args)
{
	template_value result = list_value(&r->a);
	int64_t start = args->plain > 1 ? integer_argument(r, args, 0, "start", 0) : 0;
	int64_t stop = integer_argument(r, args, args->plain > 1 ? 1 : 0, "stop", 0);
	int64_t step = integer_argument(r, args, 2, "step", 1);

	if (step == 0 || start < -RANGE_MAX || start > RANGE_MAX || stop < -RANGE_MAX || stop > RANGE_MAX ||
		step < -RANGE_MAX || step > RANGE_MAX)
		template_fail(&r->a, "a range is larger than %d", RANGE_MAX);
	for (int64_t i = start; !template_failed(&r->a) && (step > 0 ? i < stop : i > stop) && template_charge(r, 1);
		 i += step)
		template_list_add(&r->a, result.list, integer_value(i));
	return result;
}

static template_value
named_members(rendering *r, const arguments *args, value_class kind)
{
	template_value result = dict_value(&r->a, kind);

	for (int i = args->plain; i < args->count && !template_failed(&r->a); i++)
		template_dict_set(&r->a, result.dict, args->names[i], args->values[i]);
	return result;
}

static template_value
do_namespace(rendering *r, template_value self, const arguments *args)
{
	return named_members(r, args, VALUE_NAMESPACE);
}

static template_value
do_dict(rendering *r, template_value self, const arguments *args)
{
	return named_members(r, args, VALUE_DICT);
}

static template_value
do_raise(rendering *r, template_value self, const arguments *args)
{
	piece message = text_argument(r, args, 0, "message", "an error");

	template_fail(&r->a, "%.*s", (int) (message.size < 150 ? message.size : 150), message.bytes);
	return none_value();
}

static template_value
do_strftime(rendering *r, template_value self, const arguments *args)
{
	piece format = text_argument(r, args, 0, "format", "");
	char *terminated = arena_take(&r->a, format.size + 1), *text = arena_take(&r->a, 256);

	if (template_failed(&r->a))
		return none_value();
	memcpy(terminated, format.bytes, format.size);
	return text_value((piece) {.bytes = text, .size = strftime(text, 256, terminated, r->now)});
}

static const struct
{
	const char *name;
	called call;
} functions[] = {
	{"range", do_range},           {"namespace", do_namespace},   {"dict", do_dict},
	{"raise_exception", do_raise}, {"strftime_now", do_strftime},
};

#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

bool
is_function(piece name)
{
	for (size_t i = 0; i < FUNCTIONS; i++)
		if (piece_is(name, functions[i].name))
			return true;
	return false;
}

template_value
call_function(rendering *r, piece name, const arguments *args)
{
	for (size_t i = 0; i < FUNCTIONS; i++)
		if (piece_is(name, functions[i].name))
			return functions[i].call(r, none_value(), args);
	return none_value();
}
