/*
 * template_parse.c
 *	  From the tags of a template to its tree, by recursive descent of bounded depth; expressions are in
 *	  template_expression.c.
 */
#include "template_parser.h"

static template_node *parse_body(parser *p, const char *const *ends);

/* Go behind the tag whose name ends a body. */
static void
end_body(parser *p, const char *name)
{
	if (take_name(p, name))
		scan_end(&p->s);
	else if (!parse_failed(p))
		template_fail(p->a, "%s is missing", name);
}

static template_node *
parse_if(parser *p)
{
	static const char *const ends[] = {"elif", "else", "endif", NULL};
	template_node *node = parse_node(p, NODE_IF);

	node->a = parse_expression(p);
	scan_end(&p->s);
	node->list = parse_body(p, ends);
	if (take_name(p, "elif"))
	{
		if (++p->depth > PARSE_DEPTH_MAX)
			template_fail(p->a, "more than %d branches of elif", PARSE_DEPTH_MAX);
		else
			node->other = parse_if(p);
		p->depth--;
		return node;
	}
	if (take_name(p, "else"))
	{
		scan_end(&p->s);
		node->other = parse_body(p, ends + 2);
	}
	end_body(p, "endif");
	return node;
}

/* Names, or attributes of them, separated by commas. */
static template_node *
parse_targets(parser *p)
{
	template_node *first = NULL, **last = &first;
	bool parenthesis = take_operator(p, "(");

	do
	{
		template_node *name = parse_node(p, NODE_NAME);

		name->text = require_name(p);
		if (take_operator(p, "."))
		{
			template_node *attribute = parse_node(p, NODE_ATTRIBUTE);

			attribute->a = name;
			attribute->text = require_name(p);
			name = attribute;
		}
		*last = name;
		last = &name->next;
	} while (take_operator(p, ","));
	if (parenthesis)
		require_operator(p, ")");
	return first;
}

static template_node *
parse_for(parser *p)
{
	static const char *const ends[] = {"else", "endfor", NULL};
	template_node *node = parse_node(p, NODE_FOR);

	node->names = parse_targets(p);
	if (!take_name(p, "in"))
		parse_unexpected(p, "in");
	node->a = parse_or(p);
	if (take_name(p, "if"))
		node->b = parse_expression(p);
	if (at_name(p, "recursive"))
		template_fail(p->a, "recursive loops are not supported");
	scan_end(&p->s);
	node->list = parse_body(p, ends);
	if (take_name(p, "else"))
	{
		scan_end(&p->s);
		node->other = parse_body(p, ends + 1);
	}
	end_body(p, "endfor");
	return node;
}

static template_node *
parse_set(parser *p)
{
	static const char *const ends[] = {"endset", NULL};
	template_node *node = parse_node(p, NODE_SET);

	node->names = parse_targets(p);
	if (take_operator(p, "="))
	{
		node->a = parse_expression(p);
		if (at_operator(p, ","))
		{
			template_node *tuple = parse_node(p, NODE_LIST), **last = &node->a->next;

			tuple->list = node->a;
			while (take_operator(p, ","))
			{
				*last = parse_expression(p);
				last = &(*last)->next;
			}
			node->a = tuple;
		}
		scan_end(&p->s);
		return node;
	}
	node->kind = NODE_SET_TEXT;
	scan_end(&p->s);
	node->list = parse_body(p, ends);
	end_body(p, "endset");
	return node;
}

static template_node *
parse_macro(parser *p)
{
	static const char *const ends[] = {"endmacro", NULL};
	template_node *node = parse_node(p, NODE_MACRO), **last = &node->names;

	node->text = require_name(p);
	require_operator(p, "(");
	while (!parse_failed(p) && !take_operator(p, ")"))
	{
		template_node *name = parse_node(p, NODE_NAME);

		name->text = require_name(p);
		if (take_operator(p, "="))
			name->a = parse_expression(p);
		*last = name;
		last = &name->next;
		if (!at_operator(p, ")"))
			require_operator(p, ",");
	}
	scan_end(&p->s);
	node->list = parse_body(p, ends);
	end_body(p, "endmacro");
	return node;
}

/* Marks of the assistant's part, which matter for training only. */
static template_node *
parse_generation(parser *p)
{
	static const char *const ends[] = {"endgeneration", NULL};
	template_node *node = parse_node(p, NODE_BLOCK);

	scan_end(&p->s);
	node->list = parse_body(p, ends);
	end_body(p, "endgeneration");
	return node;
}

static template_node *
parse_break(parser *p)
{
	template_node *node = parse_node(p, NODE_BREAK);

	scan_end(&p->s);
	return node;
}

static template_node *
parse_continue(parser *p)
{
	template_node *node = parse_node(p, NODE_CONTINUE);

	scan_end(&p->s);
	return node;
}

static const struct
{
	const char *name;
	template_node *(*parse)(parser *);
} statements[] = {
	{"if", parse_if},
	{"for", parse_for},
	{"set", parse_set},
	{"macro", parse_macro},
	{"break", parse_break},
	{"continue", parse_continue},
	{"generation", parse_generation},
};

#define STATEMENTS (sizeof(statements) / sizeof(statements[0]))

static template_node *
parse_statement(parser *p)
{
	for (size_t i = 0; i < STATEMENTS; i++)
		if (take_name(p, statements[i].name))
			return statements[i].parse(p);
	template_fail(p->a, "the statement \"%.*s\" is not supported",
				  (int) (p->s.token.text.size < 40 ? p->s.token.text.size : 40),
				  p->s.token.text.bytes ? p->s.token.text.bytes : "");
	return parse_node(p, NODE_NOTHING);
}

static template_node *
parse_print(parser *p)
{
	template_node *node = parse_node(p, NODE_PRINT);

	node->a = parse_expression(p);
	scan_end(&p->s);
	return node;
}

static bool
at_end(const parser *p, const char *const *ends)
{
	for (; *ends != NULL; ends++)
		if (at_name(p, *ends))
			return true;
	return false;
}

/* Statements up to a tag with one of these names, which is at hand then, or to the end of the source. */
static template_node *
parse_body(parser *p, const char *const *ends)
{
	template_node *first = NULL, **last = &first;

	if (++p->depth > PARSE_DEPTH_MAX)
		template_fail(p->a, "more than %d statements within each other", PARSE_DEPTH_MAX);
	while (!parse_failed(p))
	{
		piece text = scan_text(&p->s);

		if (text.size > 0)
		{
			template_node *node = parse_node(p, NODE_TEXT);

			node->text = text;
			*last = node;
			last = &node->next;
		}
		if (parse_failed(p) || p->s.tag == TAG_NONE || (p->s.tag == TAG_STATEMENT && at_end(p, ends)))
			break;
		*last = p->s.tag == TAG_PRINT ? parse_print(p) : parse_statement(p);
		last = &(*last)->next;
	}
	p->depth--;
	return first;
}

template_node *
template_tree(arena *a, const char *source, size_t length)
{
	static const char *const ends[] = {NULL};
	parser p = {.a = a};
	template_node *tree;

	scan_start(&p.s, a, source, length);
	tree = parse_body(&p, ends);
	return parse_failed(&p) ? NULL : tree;
}
