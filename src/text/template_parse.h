/*
 * template_parse.h
 *	  The tree of a template.  Nodes of a list are linked by `next`.
 */
#ifndef LLMAPP_TEMPLATE_PARSE_H
#define LLMAPP_TEMPLATE_PARSE_H

#include "template_value.h"

typedef enum node_kind
{
	/* expressions */
	NODE_VALUE,     /* value */
	NODE_NAME,      /* text */
	NODE_LIST,      /* list: elements */
	NODE_DICT,      /* list: key, value, key, value ... */
	NODE_ATTRIBUTE, /* a.text */
	NODE_INDEX,     /* a[b] */
	NODE_SLICE,     /* a[list: three of them, NODE_NOTHING where left out] */
	NODE_NOTHING,
	NODE_CALL,       /* a(list) */
	NODE_FILTER,     /* a|text(list) */
	NODE_TEST,       /* a is text(list) */
	NODE_ARGUMENT,   /* text = a, in lists of arguments */
	NODE_NOT,        /* a */
	NODE_MINUS,      /* a */
	NODE_AND,        /* a, b */
	NODE_OR,         /* a, b */
	NODE_BINARY,     /* a operation b */
	NODE_COMPARE,    /* a, then list of NODE_COMPARISON */
	NODE_COMPARISON, /* operation a */
	NODE_CONDITION,  /* a if b else c; c may be NULL */
	/* statements */
	NODE_TEXT,     /* text */
	NODE_PRINT,    /* a */
	NODE_IF,       /* if a: list, else: other */
	NODE_FOR,      /* for names in a if b: list, else: other */
	NODE_SET,      /* target = a */
	NODE_SET_TEXT, /* target = what list writes */
	NODE_MACRO,    /* text(names): list; a name's a is its default */
	NODE_BLOCK,    /* list */
	NODE_BREAK,
	NODE_CONTINUE
} node_kind;

typedef enum node_operation
{
	OP_ADD,
	OP_SUBTRACT,
	OP_MULTIPLY,
	OP_DIVIDE,
	OP_FLOOR,
	OP_MODULO,
	OP_POWER,
	OP_JOIN, /* ~ */
	OP_EQUAL,
	OP_UNEQUAL,
	OP_LESS,
	OP_LESS_EQUAL,
	OP_GREATER,
	OP_GREATER_EQUAL,
	OP_IN,
	OP_NOT_IN
} node_operation;

typedef struct template_node template_node;

struct template_node
{
	node_kind kind;
	node_operation operation;
	int32_t line;
	piece text;
	template_value value;
	template_node *a, *b, *c;
	template_node *list;
	template_node *other;
	template_node *names; /* NODE_NAME, NODE_ATTRIBUTE */
	template_node *next;
};

/* First statement of the source, which must stay; NULL with a->err clean: there is none. */
extern template_node *template_tree(arena *a, const char *source, size_t length);

/* ---- the scanner: template_scan.c ---- */

typedef enum scan_kind
{
	SCAN_END, /* of the tag */
	SCAN_NAME,
	SCAN_TEXT, /* a string, its escapes undone */
	SCAN_INTEGER,
	SCAN_FLOAT,
	SCAN_OPERATOR
} scan_kind;

typedef struct scanned
{
	scan_kind kind;
	piece text; /* a name, string or operator */
	int64_t integer;
	double number;
} scanned;

typedef enum tag_kind
{
	TAG_NONE, /* the source has ended */
	TAG_PRINT,
	TAG_STATEMENT
} tag_kind;

typedef struct scanner
{
	arena *a;
	const char *source;
	size_t length;
	size_t at;
	int32_t line;
	tag_kind tag;    /* whose inside is read */
	int brackets;    /* open in it */
	bool at_newline; /* what was read last ended a line, or begins the source */
	bool strip;      /* the tag before asked to drop white space */
	scanned token;   /* at hand */
} scanner;

extern void scan_start(scanner *s, arena *a, const char *source, size_t length);
/* Text up to the next tag that is no comment; s->tag is its kind, s->token its first token. */
extern piece scan_text(scanner *s);
/* The next token inside a tag. */
extern void scan_next(scanner *s);
/* The end of the tag must be at hand; go behind it. */
extern void scan_end(scanner *s);

#endif /* LLMAPP_TEMPLATE_PARSE_H */
