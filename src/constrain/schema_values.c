/*
 * schema_values.c
 *	  Strings, numbers, and values that are listed one by one.
 */
#include "schema_compiler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "characters.h"

#define INTEGER_MOST 999999999999999999 /* 18 digits, which fit a bigint */
#define NUMBER_MOST 999999999999999     /* 15, which a double keeps */
#define FRACTION_DIGITS 15

/* ---- strings ---- */

#define YEAR "[1-9]\\d{3}"
#define LEAP_YEAR "([1-9]\\d(0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
#define DATE \
	"(" YEAR \
	"-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))|" LEAP_YEAR \
	"-02-29)"
#define TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-](0\\d|1[0-3]):[0-5]\\d)"

/* Days that exist and times with their zone, as RFC 3339 writes them; of the years 1000 to 9999. */
static const struct
{
	const char *name;
	const char *pattern;
} formats[] = {
	{"date", DATE},
	{"time", TIME},
	{"date-time", DATE "T" TIME},
	{"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
};

#define FORMATS (sizeof(formats) / sizeof(formats[0]))

/* The regular expression of "format" or "pattern"; NULL when there is none, or after a failure. */
static const char *
string_pattern(schema_compiler *c, const json_t *schema)
{
	const json_t *format = json_object_get(schema, "format"), *pattern = json_object_get(schema, "pattern");

	if (format == NULL && pattern == NULL)
		return NULL;
	if (format != NULL && pattern != NULL)
		schema_refuse(c, "the schema has \"format\" beside \"pattern\", which is not supported");
	else if (json_object_get(schema, "minLength") != NULL || json_object_get(schema, "maxLength") != NULL)
		schema_refuse(c, "the schema has a length beside \"%s\", which is not supported",
					  format ? "format" : "pattern");
	else if (!json_is_string(format ? format : pattern))
		schema_refuse(c, "\"%s\" is not a string", format ? "format" : "pattern");
	else if (pattern != NULL)
		return json_string_value(pattern);
	else
	{
		for (size_t i = 0; i < FORMATS; i++)
			if (strcmp(formats[i].name, json_string_value(format)) == 0)
				return formats[i].pattern;
		schema_refuse(c, "the schema has \"format\" \"%.60s\", which is not supported", json_string_value(format));
		llm_hint(&c->g->err, "Formats are date, time, date-time and uuid; others can be a pattern.");
	}
	return NULL;
}

static int32_t
character_rule(schema_compiler *c)
{
	if (c->character < 0)
	{
		c->character = grammar_rule(c->g);
		if (c->g->err.code == LLM_OK)
			add_character(c->g, c->g->rules[c->character].start, c->g->rules[c->character].end);
	}
	return c->character;
}

/* Between least and most characters, most = -1: any number, and the quotation mark behind them. */
static void
add_characters(schema_compiler *c, int32_t from, int64_t least, int64_t most, int32_t to)
{
	int32_t rule = character_rule(c);

	for (int64_t i = 0; i < most || i < least; i++)
	{
		int32_t next = grammar_state_new(c->g);

		if (i >= least)
			grammar_bytes(c->g, from, '"', '"', to);
		grammar_call(c->g, from, rule, next);
		from = next;
	}
	grammar_bytes(c->g, from, '"', '"', to);
	if (most < 0)
		grammar_call(c->g, from, rule, from);
}

void
schema_string(schema_compiler *c, const json_t *schema, int32_t from, int32_t to)
{
	const char *pattern = string_pattern(c, schema);
	int32_t open = grammar_state_new(c->g);
	int64_t least, most;

	if (!schema_count(c, schema, "minLength", 0, &least) || !schema_count(c, schema, "maxLength", -1, &most))
		return;
	grammar_bytes(c->g, from, '"', '"', open);
	if (pattern != NULL)
		add_pattern(c->g, open, pattern, to);
	else if (most >= 0 && most < least)
		schema_refuse(c, "\"maxLength\" is less than \"minLength\"");
	else
		add_characters(c, open, least, most, to);
}

/* ---- numbers ---- */

/* Digits of numbers of one length; free[n]: any n digits up to `to`, 0 = not there yet. */
typedef struct digits
{
	grammar *g;
	int32_t to;
	int32_t free[20];
} digits;

static int32_t
free_digits(digits *d, int n)
{
	if (n == 0)
		return d->to;
	if (d->free[n] == 0)
	{
		d->free[n] = grammar_state_new(d->g);
		grammar_bytes(d->g, d->free[n], '0', '9', free_digits(d, n - 1));
	}
	return d->free[n];
}

/* The last n digits of a number, from low to high; power is 10 to the n - 1. */
static void
add_digits(digits *d, int32_t from, int64_t low, int64_t high, int n, int64_t power)
{
	int first = (int) (low / power), last = (int) (high / power);
	int64_t low_rest = low % power, high_rest = high % power;
	int32_t next;

	if (first == last && n > 1)
	{
		next = grammar_state_new(d->g);
		grammar_bytes(d->g, from, '0' + first, '0' + first, next);
		add_digits(d, next, low_rest, high_rest, n - 1, power / 10);
		return;
	}
	if (n > 1 && low_rest > 0)
	{
		next = grammar_state_new(d->g);
		grammar_bytes(d->g, from, '0' + first, '0' + first, next);
		add_digits(d, next, low_rest, power - 1, n - 1, power / 10);
		first++;
	}
	if (n > 1 && high_rest < power - 1)
	{
		next = grammar_state_new(d->g);
		grammar_bytes(d->g, from, '0' + last, '0' + last, next);
		add_digits(d, next, 0, high_rest, n - 1, power / 10);
		last--;
	}
	if (first <= last)
		grammar_bytes(d->g, from, '0' + first, '0' + last, free_digits(d, n - 1));
}

/* Integers of [low, high], which are not negative, without leading zeros. */
static void
add_naturals(grammar *g, int32_t from, int64_t low, int64_t high, int32_t to)
{
	digits d = {.g = g, .to = to};
	int64_t power = 1;

	for (int n = 1; n <= 18 && power <= (high > 0 ? high : 1); n++, power *= 10)
	{
		int64_t least = n == 1 ? 0 : power, most = 10 * power - 1;

		if (low <= most && high >= least)
			add_digits(&d, from, low > least ? low : least, high < most ? high : most, n, power);
	}
}

/* The same with a fraction wherever that leaves them in the range. */
static void
add_decimals(grammar *g, int32_t from, int64_t low, int64_t high, int32_t to)
{
	int32_t point = grammar_state_new(g), next, whole;

	add_naturals(g, from, high, high, to);
	if (low == high)
		return;
	whole = grammar_state_new(g);
	add_naturals(g, from, low, high - 1, whole);
	grammar_empty(g, whole, to);
	grammar_bytes(g, whole, '.', '.', point);
	for (int i = 0; i < FRACTION_DIGITS; i++)
	{
		next = grammar_state_new(g);
		grammar_bytes(g, point, '0', '9', next);
		grammar_empty(g, next, to);
		point = next;
	}
}

static void
add_range(grammar *g, const range_rule *r)
{
	void (*add)(grammar *, int32_t, int64_t, int64_t, int32_t) = r->fraction ? add_decimals : add_naturals;
	int32_t start = g->rules[r->rule].start, end = g->rules[r->rule].end, minus;
	int64_t least = r->fraction ? 0 : 1; /* "-0" is no good integer */

	if (r->high >= 0)
		add(g, start, r->low > 0 ? r->low : 0, r->high, end);
	if (r->low >= 0)
		return;
	minus = grammar_state_new(g);
	grammar_bytes(g, start, '-', '-', minus);
	add(g, minus, -r->high > least ? -r->high : least, -r->low, end);
}

static int32_t
range_rule_of(schema_compiler *c, int64_t low, int64_t high, bool fraction)
{
	range_rule *r;

	for (int32_t i = 0; i < c->range_count; i++)
		if (c->ranges[i].low == low && c->ranges[i].high == high && c->ranges[i].fraction == fraction)
			return c->ranges[i].rule;
	if (c->range_count == c->range_room)
	{
		int32_t room = c->range_room ? 2 * c->range_room : 8;
		range_rule *grown = realloc(c->ranges, room * sizeof(range_rule));

		if (grown == NULL)
		{
			llm_fail(&c->g->err, LLM_MEMORY, "out of memory for a schema");
			return 0;
		}
		c->ranges = grown;
		c->range_room = room;
	}
	r = &c->ranges[c->range_count++];
	*r = (range_rule) {low, high, fraction, grammar_rule(c->g)};
	if (c->g->err.code == LLM_OK)
		add_range(c->g, r);
	return r->rule;
}

/* Narrow the range by a bound of the schema to the integers inside. */
static bool
read_bound(schema_compiler *c, const json_t *schema, const char *key, bool fraction, int64_t *low, int64_t *high)
{
	const json_t *value = json_object_get(schema, key);
	bool lower = strstr(key, "inimum") != NULL, exclusive = key[0] == 'e';
	double bound = json_number_value(value), whole = lower ? ceil(bound) : floor(bound);
	int64_t limit;

	if (value == NULL)
		return true;
	if (!json_is_number(value))
		return schema_refuse(c, "\"%s\" is not a number", key);
	if (exclusive && fraction)
		return schema_refuse(c, "the schema has \"%s\" of a number, which is not supported", key);
	if (whole < -1e18 || whole > 1e18)
		limit = whole < 0 ? -INTEGER_MOST - 1 : INTEGER_MOST + 1;
	else
		limit = json_is_integer(value) ? json_integer_value(value) : (int64_t) whole;
	if (exclusive && (json_is_integer(value) || whole == bound))
		limit += lower ? 1 : -1;
	if (lower && limit > *low)
		*low = limit;
	if (!lower && limit < *high)
		*high = limit;
	return true;
}

void
schema_number(schema_compiler *c, const json_t *schema, bool fraction, int32_t from, int32_t to)
{
	int64_t high = fraction ? NUMBER_MOST : INTEGER_MOST, low = -high;

	if (!read_bound(c, schema, "minimum", fraction, &low, &high) ||
		!read_bound(c, schema, "maximum", fraction, &low, &high) ||
		!read_bound(c, schema, "exclusiveMinimum", fraction, &low, &high) ||
		!read_bound(c, schema, "exclusiveMaximum", fraction, &low, &high))
		return;
	if (low > high)
		schema_refuse(c, "no %s lies between \"minimum\" and \"maximum\"", fraction ? "whole number" : "integer");
	else
		grammar_call(c->g, from, range_rule_of(c, low, high, fraction), to);
}

/* ---- values one by one ---- */

static int
type_of(const json_t *value)
{
	switch (json_typeof(value))
	{
		case JSON_OBJECT: return TYPE_OBJECT;
		case JSON_ARRAY: return TYPE_ARRAY;
		case JSON_STRING: return TYPE_STRING;
		case JSON_INTEGER: return TYPE_INTEGER | TYPE_NUMBER;
		case JSON_REAL:
			return json_real_value(value) == floor(json_real_value(value)) ? TYPE_INTEGER | TYPE_NUMBER : TYPE_NUMBER;
		case JSON_NULL: return TYPE_NULL;
		default: return TYPE_BOOLEAN;
	}
}

/* Text of a value; a number is written as short as it reads back. */
static char *
value_text(const json_t *value)
{
	char *text;

	if (!json_is_real(value))
		return json_text(value);
	text = malloc(40);
	for (int digits = 15; text != NULL && digits <= 17; digits++)
	{
		snprintf(text, 40, "%.*g", digits, json_real_value(value));
		if (strtod(text, NULL) == json_real_value(value))
			break;
	}
	return text;
}

void
schema_choices(schema_compiler *c, const json_t *schema, int types, int32_t from, int32_t to)
{
	const json_t *one = json_object_get(schema, "const"), *many = json_object_get(schema, "enum");
	size_t size = one ? 1 : json_array_size(many);
	char **texts = calloc(size + 1, sizeof(char *));
	int32_t count = 0;

	for (size_t i = 0; texts != NULL && i < size; i++)
	{
		const json_t *value = one ? one : json_array_get(many, i);

		if ((type_of(value) & types) != 0)
			texts[count++] = value_text(value);
		if (count > 0 && texts[count - 1] == NULL)
			count--, llm_fail(&c->g->err, LLM_MEMORY, "out of memory for a schema");
	}
	if (texts == NULL)
		llm_fail(&c->g->err, LLM_MEMORY, "out of memory for a schema");
	else if (one != NULL && many != NULL)
		schema_refuse(c, "the schema has \"enum\" beside \"const\", which is not supported");
	else if (count == 0)
		schema_refuse(c, "\"%s\" has no value of the type that the schema asks for", one ? "const" : "enum");
	else
		grammar_texts(c->g, from, texts, count, to);
	for (int32_t i = 0; i < count; i++)
		free(texts[i]);
	free(texts);
}

/* ---- values that satisfy two schemas ---- */

static bool
same_value(const json_t *a, const json_t *b)
{
	return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b)
												  : json_equal(a, b) != 0;
}

/* The values that a schema lists, and how many; 0: it lists none. */
static size_t
listed(const json_t *schema, size_t at, const json_t **value)
{
	const json_t *one = json_object_get(schema, "const"), *many = json_object_get(schema, "enum");

	*value = one ? one : json_array_get(many, at);
	return one ? 1 : json_array_size(many);
}

static bool
lists_disjoint(const json_t *a, const json_t *b)
{
	const json_t *x, *y;
	size_t a_count = listed(a, 0, &x), b_count = listed(b, 0, &y);

	for (size_t i = 0; i < a_count; i++)
		for (size_t k = 0; k < b_count; k++)
		{
			listed(a, i, &x);
			listed(b, k, &y);
			if (same_value(x, y))
				return false;
		}
	return a_count > 0 && b_count > 0;
}

/*
 * Types of the values that satisfy a schema without references, or only of those that texts are made of, where its
 * keywords say what it is about.  An integer is a number, too.
 */
static int
possible_types(schema_compiler *c, const json_t *schema, bool made)
{
	const json_t *value;
	size_t count = listed(schema, 0, &value);
	int types = 0, asked = TYPE_ANY;

	if ((made || json_object_get(schema, "type") != NULL) && !schema_types(c, schema, &asked))
		return TYPE_ANY;
	for (size_t i = 0; i < count; i++)
	{
		listed(schema, i, &value);
		types |= type_of(value);
	}
	types = count > 0 ? types & asked : asked;
	return types & TYPE_NUMBER ? types | TYPE_INTEGER : types;
}

static bool
is_required(const json_t *schema, const char *name)
{
	const json_t *required = json_object_get(schema, "required");

	for (size_t i = 0; i < json_array_size(required); i++)
	{
		const char *text = json_string_value(json_array_get(required, i));

		if (text != NULL && strcmp(text, name) == 0)
			return true;
	}
	return false;
}

bool
schema_disjoint(schema_compiler *c, const json_t *a, const json_t *b, int depth)
{
	const char *name;
	json_t *property;
	int both;

	a = schema_resolve(c, a);
	b = schema_resolve(c, b);
	if (!json_is_object(a) || !json_is_object(b) || depth > 8)
		return false;
	both = (possible_types(c, a, true) & possible_types(c, b, false)) |
		   (possible_types(c, a, false) & possible_types(c, b, true));
	if (both == 0 || lists_disjoint(a, b))
		return true;
	if ((both & ~TYPE_OBJECT) != 0)
		return false;
	json_object_foreach(json_object_get(a, "properties"), name, property)
	{
		const json_t *other = json_object_get(json_object_get(b, "properties"), name);

		if (other != NULL && is_required(a, name) && is_required(b, name) &&
			schema_disjoint(c, property, other, depth + 1))
			return true;
	}
	return false;
}
