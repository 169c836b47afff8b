/*
 * template_eval.h
 *	  A rendering: what template.c, which walks the tree, template_call.c, which knows filters, tests,
 *	  methods and functions, template_operate.c and template_text.c share.
 */
#ifndef LLMAPP_TEMPLATE_EVAL_H
#define LLMAPP_TEMPLATE_EVAL_H

#include <time.h>

#include "template_parse.h"

#define ARGUMENTS_MAX 16
#define TEMPLATE_STEPS_MAX 50000000

/* Names that were set, inside of others. */
typedef struct scope
{
	template_dict names;
	struct scope *up; /* NULL: the outermost */
} scope;

typedef enum flow
{
	FLOW_ON,
	FLOW_BREAK,
	FLOW_CONTINUE
} flow;

typedef struct rendering
{
	arena a;
	scope *outermost;
	scope *scope;
	piece_builder *out;
	const struct tm *now;
	flow flow;
	int64_t steps; /* that are left */
	int depth;
} rendering;

typedef struct arguments
{
	template_value values[ARGUMENTS_MAX]; /* those without a name first */
	piece names[ARGUMENTS_MAX];
	int count;
	int plain; /* without a name */
} arguments;

/* ---- template_eval.c ---- */

/* Work that has this size; false when all that is allowed is done. */
extern bool template_charge(rendering *r, size_t steps);
/* Something undefined has no parts at all, and asking for them is an error. */
extern bool has_parts(rendering *r, template_value of);
/* The value of an item; undefined if there is none. */
extern template_value get_item(rendering *r, template_value of, template_value key);
/* Elements: of a list, the keys of a dict, the characters of a text. */
extern template_value elements_of(rendering *r, template_value v);

/* ---- template_call.c ---- */

extern template_value call_filter(rendering *r, piece name, template_value self, const arguments *args);
extern bool call_test(rendering *r, piece name, template_value self, const arguments *args);
extern template_value call_method(rendering *r, piece name, template_value self, const arguments *args);
extern template_value call_function(rendering *r, piece name, const arguments *args);
extern bool is_function(piece name);
extern bool is_method(template_value self, piece name);

/* ---- operators: template_operate.c ---- */

extern template_value operate(rendering *r, node_operation operation, template_value x, template_value y);
extern template_value negate(rendering *r, template_value v);
/* Is it so that x == y, or x in y, ...? */
extern bool relation_holds(rendering *r, node_operation operation, template_value x, template_value y);
/* Is x one of those in y, or part of it?  An error where that cannot be asked. */
extern bool template_in(rendering *r, template_value x, template_value y);
/* -1, 0, 1 of numbers or of texts. */
extern int compare_values(rendering *r, template_value x, template_value y);

/* ---- texts: template_text.c ---- */

typedef enum letter_case
{
	CASE_UPPER,
	CASE_LOWER,
	CASE_TITLE,
	CASE_CAPITAL
} letter_case;

extern piece change_case(rendering *r, piece text, letter_case to);
/* Drop characters of the set, NULL: white space, from its ends. */
extern piece strip_text(rendering *r, piece text, const piece *set, bool left, bool right);
/* most < 0: all. */
extern piece replace_text(rendering *r, piece text, piece old, piece new, int64_t most);
/* separator NULL: by white space.  most < 0: without limit. */
extern template_value split_text(rendering *r, piece text, const piece *separator, int64_t most);
/* What elements print, or their attribute unless it is NULL. */
extern piece join_texts(rendering *r, template_value list, piece separator, const template_value *attribute);
/* Does the text begin or end with one of several?  given: a text or a list; an error if NULL or anything else. */
extern bool has_affix(rendering *r, piece text, const template_value *given, bool at_end);

#endif /* LLMAPP_TEMPLATE_EVAL_H */
