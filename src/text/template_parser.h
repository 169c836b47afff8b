/*
 * template_parser.h
 *	  What the parsers of statements, template_parse.c, and of expressions, template_expression.c, share.
 */
#ifndef LLMAPP_TEMPLATE_PARSER_H
#define LLMAPP_TEMPLATE_PARSER_H

#include "template_parse.h"

#define PARSE_DEPTH_MAX 100

typedef struct parser
{
	scanner s;
	arena *a;
	int depth;
} parser;

extern bool parse_failed(const parser *p);
/* After a failure a spare one for all, which nobody may read anything back from. */
extern template_node *parse_node(parser *p, node_kind kind);
/* An error: what is at hand stands where `wanted` should. */
extern void parse_unexpected(parser *p, const char *wanted);

/* Is the token at hand this one; take_: go behind it if it is; require_: an error if it is not. */
extern bool at_operator(const parser *p, const char *text);
extern bool at_name(const parser *p, const char *text);
extern bool take_operator(parser *p, const char *text);
extern bool take_name(parser *p, const char *text);
extern void require_operator(parser *p, const char *text);
extern piece require_name(parser *p); /* any */

extern template_node *parse_expression(parser *p);
extern template_node *parse_or(parser *p); /* one without `if` and `else` */

#endif /* LLMAPP_TEMPLATE_PARSER_H */
