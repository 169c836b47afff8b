/*
 * template_expression.c
 *	  From the tokens of an expression of a template to its tree, by recursive descent of bounded depth.
 */
#include "template_parser.h"

#include <string.h>

static template_node *parse_unary(parser *p, bool with_filters);

bool
parse_failed(const parser *p)
{
	return template_failed(p->a);
}

template_node *
parse_node(parser *p, node_kind kind)
{
	static template_node spare;
	template_node *node = arena_take(p->a, sizeof(template_node));

	if (node == NULL)
		return memset(&spare, 0, sizeof(spare));
	node->kind = kind;
	node->line = p->s.line;
	return node;
}

/* ---- tokens ---- */

bool
at_operator(const parser *p, const char *text)
{
	return p->s.token.kind == SCAN_OPERATOR && piece_is(p->s.token.text, text);
}

bool
at_name(const parser *p, const char *text)
{
	return p->s.token.kind == SCAN_NAME && piece_is(p->s.token.text, text);
}

bool
take_operator(parser *p, const char *text)
{
	if (parse_failed(p) || !at_operator(p, text))
		return false;
	scan_next(&p->s);
	return true;
}

bool
take_name(parser *p, const char *text)
{
	if (parse_failed(p) || !at_name(p, text))
		return false;
	scan_next(&p->s);
	return true;
}

void
parse_unexpected(parser *p, const char *wanted)
{
	const scanned *t = &p->s.token;

	if (t->kind == SCAN_END)
		template_fail(p->a, "the tag ends where %s should stand", wanted);
	else
		template_fail(p->a, "\"%.*s\" stands where %s should", (int) (t->text.size < 40 ? t->text.size : 40),
					  t->text.bytes ? t->text.bytes : "", wanted);
}

void
require_operator(parser *p, const char *text)
{
	if (!take_operator(p, text))
		parse_unexpected(p, text);
}

piece
require_name(parser *p)
{
	piece name = p->s.token.text;

	if (p->s.token.kind == SCAN_NAME)
		scan_next(&p->s);
	else
		parse_unexpected(p, "a name");
	return name;
}

/* ---- expressions ---- */

static template_node *
value_node(parser *p, template_value value)
{
	template_node *node = parse_node(p, NODE_VALUE);

	node->value = value;
	return node;
}

/* Elements up to a closing bracket; pairs: each is a key, a colon and a value. */
static template_node *
parse_elements(parser *p, const char *close, bool pairs)
{
	template_node *first = NULL, **last = &first;

	while (!parse_failed(p) && !take_operator(p, close))
	{
		*last = parse_expression(p);
		last = &(*last)->next;
		if (pairs)
		{
			require_operator(p, ":");
			*last = parse_expression(p);
			last = &(*last)->next;
		}
		if (!at_operator(p, close))
			require_operator(p, ",");
	}
	return first;
}

/* Behind an opening parenthesis: a value in it, or a tuple. */
static template_node *
parse_parenthesis(parser *p)
{
	template_node *node, *first;

	if (take_operator(p, ")"))
		return parse_node(p, NODE_LIST);
	first = parse_expression(p);
	if (take_operator(p, ")"))
		return first;
	node = parse_node(p, NODE_LIST);
	node->list = first;
	require_operator(p, ",");
	first->next = parse_elements(p, ")", false);
	return node;
}

static template_node *
parse_name(parser *p)
{
	static const struct
	{
		const char *name;
		value_class kind;
		bool boolean;
	} constants[] = {{"true", VALUE_BOOLEAN, true},   {"True", VALUE_BOOLEAN, true}, {"false", VALUE_BOOLEAN, false},
					 {"False", VALUE_BOOLEAN, false}, {"none", VALUE_NONE, false},   {"None", VALUE_NONE, false}};
	piece name = require_name(p);
	template_node *node;

	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		if (piece_is(name, constants[i].name))
			return value_node(p,
							  constants[i].kind == VALUE_NONE ? none_value() : boolean_value(constants[i].boolean));
	node = parse_node(p, NODE_NAME);
	node->text = name;
	return node;
}

static template_node *
parse_strings(parser *p)
{
	piece_builder all = {.a = p->a};

	for (; p->s.token.kind == SCAN_TEXT && !parse_failed(p); scan_next(&p->s))
		build_add(&all, p->s.token.text);
	return value_node(p, text_value(build_finish(&all)));
}

static template_node *
parse_primary(parser *p)
{
	scanned token = p->s.token;
	template_node *node;

	switch (token.kind)
	{
		case SCAN_NAME: return parse_name(p);
		case SCAN_TEXT: return parse_strings(p);
		case SCAN_INTEGER: scan_next(&p->s); return value_node(p, integer_value(token.integer));
		case SCAN_FLOAT: scan_next(&p->s); return value_node(p, float_value(token.number));
		default: break;
	}
	if (take_operator(p, "("))
		return parse_parenthesis(p);
	node = parse_node(p, at_operator(p, "[") ? NODE_LIST : NODE_DICT);
	if (take_operator(p, "["))
		node->list = parse_elements(p, "]", false);
	else if (take_operator(p, "{"))
		node->list = parse_elements(p, "}", true);
	else
		parse_unexpected(p, "a value");
	return node;
}

/* Behind an opening parenthesis: values, and name = value. */
static template_node *
parse_arguments(parser *p)
{
	template_node *first = NULL, **last = &first;

	while (!parse_failed(p) && !take_operator(p, ")"))
	{
		template_node *value = parse_expression(p), *argument = value;

		if (value->kind == NODE_NAME && take_operator(p, "="))
		{
			argument = parse_node(p, NODE_ARGUMENT);
			argument->text = value->text;
			argument->a = parse_expression(p);
		}
		*last = argument;
		last = &argument->next;
		if (!at_operator(p, ")"))
			require_operator(p, ",");
	}
	return first;
}

/* Behind an opening bracket: an index, or a slice of up to three parts. */
static template_node *
parse_subscript(parser *p, template_node *of)
{
	template_node *parts[3] = {NULL}, *node = parse_node(p, NODE_INDEX);
	int colons = 0;

	node->a = of;
	while (!parse_failed(p) && !at_operator(p, "]"))
	{
		if (take_operator(p, ":"))
			colons++;
		else if (parts[colons] == NULL)
			parts[colons] = parse_expression(p);
		else
			parse_unexpected(p, "]");
		if (colons > 2)
			parse_unexpected(p, "]");
	}
	require_operator(p, "]");
	if (parse_failed(p))
		return node;
	node->b = parts[0];
	if (colons == 0)
	{
		if (node->b == NULL)
			parse_unexpected(p, "an index");
		return node;
	}
	node->kind = NODE_SLICE;
	for (int i = 2; i >= 0; i--)
	{
		template_node *part = parts[i] ? parts[i] : parse_node(p, NODE_NOTHING);

		part->next = node->list;
		node->list = part;
	}
	return node;
}

static template_node *
parse_postfix(parser *p, template_node *node)
{
	while (!parse_failed(p))
	{
		template_node *inside = node;

		if (take_operator(p, "."))
		{
			node = parse_node(p, NODE_ATTRIBUTE);
			node->a = inside;
			if (p->s.token.kind == SCAN_INTEGER)
			{
				node->kind = NODE_INDEX;
				node->b = parse_primary(p);
			}
			else
				node->text = require_name(p);
		}
		else if (take_operator(p, "["))
			node = parse_subscript(p, node);
		else if (take_operator(p, "("))
		{
			node = parse_node(p, NODE_CALL);
			node->a = inside;
			node->list = parse_arguments(p);
		}
		else
			break;
	}
	return node;
}

/* An argument of a test without parentheses: is divisibleby 3. */
static bool
at_bare_argument(const parser *p)
{
	static const char *const others[] = {"and", "or", "else", "if", "is", "in", "not"};
	const scanned *t = &p->s.token;
	bool value = t->kind == SCAN_TEXT || t->kind == SCAN_INTEGER || t->kind == SCAN_FLOAT || t->kind == SCAN_NAME ||
				 at_operator(p, "[");

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		value &= !at_name(p, others[i]);
	return value;
}

/* Filters and tests behind a value. */
static template_node *
parse_filters(parser *p, template_node *node)
{
	while (!parse_failed(p))
	{
		bool test = at_name(p, "is"), opposite;
		template_node *outer;

		if (!test && !at_operator(p, "|"))
			break;
		scan_next(&p->s);
		opposite = test && take_name(p, "not");
		outer = parse_node(p, test ? NODE_TEST : NODE_FILTER);
		outer->a = node;
		outer->text = require_name(p);
		if (take_operator(p, "("))
			outer->list = parse_arguments(p);
		else if (test && at_bare_argument(p))
			outer->list = parse_postfix(p, parse_primary(p));
		node = outer;
		if (opposite)
		{
			node = parse_node(p, NODE_NOT);
			node->a = outer;
		}
	}
	return node;
}

static template_node *
binary_node(parser *p, node_kind kind, node_operation operation, template_node *a)
{
	template_node *node = parse_node(p, kind);

	node->operation = operation;
	node->a = a;
	return node;
}

static template_node *
parse_unary(parser *p, bool with_filters)
{
	template_node *node;

	if (++p->depth > PARSE_DEPTH_MAX)
		template_fail(p->a, "more than %d expressions within each other", PARSE_DEPTH_MAX);
	if (parse_failed(p))
		node = parse_node(p, NODE_NOTHING);
	else if (take_operator(p, "-"))
	{
		node = parse_node(p, NODE_MINUS);
		node->a = parse_unary(p, false);
	}
	else if (take_operator(p, "+"))
		node = parse_unary(p, false);
	else
		node = parse_postfix(p, parse_primary(p));
	p->depth--;
	return with_filters ? parse_filters(p, node) : node;
}

static template_node *
parse_power(parser *p)
{
	template_node *node = parse_unary(p, true);

	while (take_operator(p, "**"))
	{
		node = binary_node(p, NODE_BINARY, OP_POWER, node);
		node->b = parse_unary(p, true);
	}
	return node;
}

/* Operators that bind alike, tighter from row to row. */
static const struct
{
	const char *text;
	int level;
	node_operation operation;
} operators[] = {
	{"+", 0, OP_ADD},    {"-", 0, OP_SUBTRACT}, {"~", 1, OP_JOIN},   {"*", 2, OP_MULTIPLY},
	{"/", 2, OP_DIVIDE}, {"//", 2, OP_FLOOR},   {"%", 2, OP_MODULO},
};

#define OPERATORS (sizeof(operators) / sizeof(operators[0]))

static template_node *
parse_binary(parser *p, int level)
{
	template_node *node = level == 2 ? parse_power(p) : parse_binary(p, level + 1);
	bool found = true;

	while (found && !parse_failed(p))
	{
		found = false;
		for (size_t i = 0; i < OPERATORS && !found; i++)
			if (operators[i].level == level && take_operator(p, operators[i].text))
			{
				node = binary_node(p, NODE_BINARY, operators[i].operation, node);
				node->b = level == 2 ? parse_power(p) : parse_binary(p, level + 1);
				found = true;
			}
	}
	return node;
}

/* The comparison at hand, taken. */
static bool
take_comparison(parser *p, node_operation *operation)
{
	static const struct
	{
		const char *text;
		node_operation operation;
	} comparisons[] = {{"==", OP_EQUAL}, {"!=", OP_UNEQUAL},       {"<=", OP_LESS_EQUAL},
					   {"<", OP_LESS},   {">=", OP_GREATER_EQUAL}, {">", OP_GREATER}};

	for (size_t i = 0; i < sizeof(comparisons) / sizeof(comparisons[0]); i++)
		if (take_operator(p, comparisons[i].text))
		{
			*operation = comparisons[i].operation;
			return true;
		}
	*operation = at_name(p, "not") ? OP_NOT_IN : OP_IN;
	if (take_name(p, "not"))
	{
		if (!take_name(p, "in"))
			parse_unexpected(p, "in");
		return !parse_failed(p);
	}
	return take_name(p, "in");
}

static template_node *
parse_comparison(parser *p)
{
	template_node *first = parse_binary(p, 0), *node, **last;
	node_operation operation;

	if (parse_failed(p) || !take_comparison(p, &operation))
		return first;
	node = binary_node(p, NODE_COMPARE, operation, first);
	last = &node->list;
	do
	{
		template_node *comparison = binary_node(p, NODE_COMPARISON, operation, NULL);

		comparison->a = parse_binary(p, 0);
		*last = comparison;
		last = &comparison->next;
	} while (!parse_failed(p) && take_comparison(p, &operation));
	return node;
}

static template_node *
parse_not(parser *p)
{
	template_node *node;
	bool opposite = false;

	while (take_name(p, "not"))
		opposite = !opposite;
	node = parse_comparison(p);
	if (!opposite)
		return node;
	return binary_node(p, NODE_NOT, OP_ADD, node);
}

static template_node *
parse_and(parser *p)
{
	template_node *node = parse_not(p);

	while (take_name(p, "and"))
	{
		node = binary_node(p, NODE_AND, OP_ADD, node);
		node->b = parse_not(p);
	}
	return node;
}

template_node *
parse_or(parser *p)
{
	template_node *node = parse_and(p);

	while (take_name(p, "or"))
	{
		node = binary_node(p, NODE_OR, OP_ADD, node);
		node->b = parse_and(p);
	}
	return node;
}

template_node *
parse_expression(parser *p)
{
	template_node *node;

	if (++p->depth > PARSE_DEPTH_MAX)
		template_fail(p->a, "more than %d expressions within each other", PARSE_DEPTH_MAX);
	node = parse_or(p);
	while (take_name(p, "if"))
	{
		template_node *value = node;

		node = parse_node(p, NODE_CONDITION);
		node->b = value;
		node->a = parse_or(p);
		if (take_name(p, "else"))
			node->c = parse_expression(p);
	}
	p->depth--;
	return node;
}
