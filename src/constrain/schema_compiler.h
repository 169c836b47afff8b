/*
 * schema_compiler.h
 *	  From a JSON Schema to a grammar: what the files of the compiler share.
 */
#ifndef LLMAPP_SCHEMA_COMPILER_H
#define LLMAPP_SCHEMA_COMPILER_H

#include "../format/json.h"
#include "grammar.h"

/* Bits. */
enum value_type
{
	TYPE_OBJECT = 1,
	TYPE_ARRAY = 2,
	TYPE_STRING = 4,
	TYPE_NUMBER = 8,
	TYPE_INTEGER = 16,
	TYPE_BOOLEAN = 32,
	TYPE_NULL = 64,
	TYPE_ANY = 127
};

typedef enum keyword_kind
{
	KEYWORD_NOTE,        /* says nothing about values */
	KEYWORD_CONSTRAINT,  /* of values of some types */
	KEYWORD_TYPE,        /* type */
	KEYWORD_ALTERNATIVE, /* stands alone, but for notes */
	KEYWORD_CHOICE       /* values one by one: stands alone, but for notes and types */
} keyword_kind;

#define SCHEMA_WHERE_MAX 200

/* A part of the schema that has a rule of its own. */
typedef struct schema_rule
{
	const json_t *schema;
	int32_t rule;
	char where[SCHEMA_WHERE_MAX];
} schema_rule;

/* Integers or numbers of one range. */
typedef struct range_rule
{
	int64_t low;
	int64_t high;
	bool fraction;
	int32_t rule;
} range_rule;

typedef struct schema_compiler schema_compiler;

struct schema_compiler
{
	grammar *g;
	const json_t *root;
	const json_t *anything; /* the schema {}, whose address stands for every true */
	schema_rule *rules;
	int32_t rule_count, rule_room, rules_done;
	range_rule *ranges;
	int32_t range_count, range_room;
	int32_t character;            /* rule of a character of a string, -1: not there yet */
	char where[SCHEMA_WHERE_MAX]; /* JSON pointer of what is compiled */
	int depth;
	/* The values that satisfy a part, between two states: schema.c, to which objects and arrays come back with theirs. */
	void (*compile)(schema_compiler *c, const json_t *schema, int32_t from, int32_t to);
};

static inline bool
schema_failed(const schema_compiler *c)
{
	return c->g->err.code != LLM_OK;
}

/* Fail with the place in the schema; always false. */
extern bool schema_refuse(schema_compiler *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The rule of a part of the schema, made at the first request; its contents follow later. */
extern int32_t schema_rule_of(schema_compiler *c, const json_t *schema, const char *where);
/* Compile a part in place, between two states; step is where it stands below c->where. */
extern void schema_value(schema_compiler *c, const json_t *schema, const char *step, int32_t from, int32_t to);
/* Follow "$ref" until there is none; NULL after a failure. */
extern const json_t *schema_resolve(schema_compiler *c, const json_t *schema);

/* ---- schema_keywords.c ---- */

/*
 * The keyword that stands alone in the schema and its kind, or NULL and KEYWORD_NOTE; false when one is not known or does
 * not fit beside it.
 */
extern bool schema_keywords(schema_compiler *c, const json_t *schema, const char **alone, keyword_kind *kind);
/* A count such as "minItems"; fallback when it is not there. */
extern bool schema_count(schema_compiler *c, const json_t *schema, const char *key, int64_t fallback, int64_t *out);
/* Types that "type" lists, or its keywords are about. */
extern bool schema_types(schema_compiler *c, const json_t *schema, int *types);

/* ---- one value of a type, between two states: schema_values.c and schema_objects.c ---- */

extern void schema_string(schema_compiler *c, const json_t *schema, int32_t from, int32_t to);
extern void schema_number(schema_compiler *c, const json_t *schema, bool fraction, int32_t from, int32_t to);
extern void schema_choices(schema_compiler *c, const json_t *schema, int types, int32_t from, int32_t to);
extern void schema_object(schema_compiler *c, const json_t *schema, int32_t from, int32_t to);
extern void schema_array(schema_compiler *c, const json_t *schema, int32_t from, int32_t to);

/* Does no text of one of them satisfy the other?  A no may be wrong. */
extern bool schema_disjoint(schema_compiler *c, const json_t *a, const json_t *b, int depth);

#endif /* LLMAPP_SCHEMA_COMPILER_H */
