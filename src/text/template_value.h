/*
 * template_value.h
 *	  Values of a template while it is rendered, and the memory that they live in.
 *
 * All memory of a template, or of one rendering, is taken from an arena of bounded size and freed
 * with it.  The first failure is kept in the arena; functions then return something harmless, so
 * that callers look at template_failed() only where they would loop or use a pointer.
 */
#ifndef LLMAPP_TEMPLATE_VALUE_H
#define LLMAPP_TEMPLATE_VALUE_H

#include "../format/json.h"

typedef struct arena_chunk arena_chunk;

typedef struct arena
{
	arena_chunk *chunks;
	size_t taken;
	size_t limit;
	int32_t line; /* of the template at hand, for messages */
	llm_error err;
} arena;

/* NULL after a failure. */
extern void *arena_take(arena *a, size_t bytes);
extern void arena_free(arena *a);

static inline bool
template_failed(const arena *a)
{
	return a->err.code != LLM_OK;
}

/* Fail with LLM_INVALID and the line; always false. */
extern bool template_fail(arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- text ---- */

/* Bytes that are not terminated; marks: one byte for each, 1 = not the template's own, NULL: all are. */
typedef struct piece
{
	const char *bytes;
	const uint8_t *marks;
	size_t size;
} piece;

/* A text that grows. */
typedef struct piece_builder
{
	arena *a;
	char *bytes;
	uint8_t *marks;
	size_t size;
	size_t capacity;
	bool marked; /* any byte */
} piece_builder;

extern piece piece_of(const char *text); /* which must stay */
extern piece piece_cut(piece p, size_t from, size_t to);
extern void build_add(piece_builder *b, piece p);
extern void build_byte(piece_builder *b, char byte, bool mark);
extern void build_text(piece_builder *b, const char *text);
extern piece build_finish(const piece_builder *b);
extern bool piece_equal(piece x, piece y);
extern bool piece_is(piece p, const char *text);
/* Where `what` begins in p at or after `from`; p.size + 1: nowhere. */
extern size_t piece_find(piece p, piece what, size_t from);
/* Code points, and the byte where the one of that number begins; p.size if there are fewer. */
extern size_t piece_length(piece p);
extern size_t piece_offset(piece p, size_t character);

/* ---- values ---- */

typedef enum value_class
{
	VALUE_UNDEFINED, /* text: its name */
	VALUE_NONE,
	VALUE_BOOLEAN,
	VALUE_INTEGER,
	VALUE_FLOAT,
	VALUE_TEXT,
	VALUE_LIST,
	VALUE_DICT,
	VALUE_NAMESPACE, /* a dict whose members can be set */
	VALUE_LOOP,
	VALUE_MACRO,
	VALUE_FUNCTION, /* text: its name */
	VALUE_METHOD    /* text: its name, self: of what */
} value_class;

struct template_node;
typedef struct template_value template_value;

typedef struct template_list
{
	template_value *items;
	size_t count;
	size_t capacity;
	int depth; /* lists and dicts within each other */
} template_list;

typedef struct template_dict
{
	piece *keys; /* in the order in which they were added */
	template_value *values;
	size_t count;
	size_t capacity;
	int depth;
} template_dict;

typedef struct template_loop
{
	const template_list *list;
	size_t index; /* from 0 */
} template_loop;

struct template_value
{
	value_class kind;
	piece text;
	union
	{
		bool boolean;
		int64_t integer;
		double number;
		template_list *list;
		template_dict *dict;
		const template_loop *loop;
		const struct template_node *macro;
		const template_value *self;
	};
};

extern template_value undefined_value(piece name);
extern template_value none_value(void);
extern template_value boolean_value(bool boolean);
extern template_value integer_value(int64_t integer);
extern template_value float_value(double number);
extern template_value text_value(piece text);
extern template_value list_value(arena *a); /* empty */
extern template_value dict_value(arena *a, value_class kind);

extern void template_list_add(arena *a, template_list *list, template_value item);
/* NULL: not there. */
extern template_value *template_dict_find(const template_dict *dict, piece key);
extern void template_dict_set(arena *a, template_dict *dict, piece key, template_value value);

extern template_value template_from_json(arena *a, const json_t *json, bool mark);
/* As Python's json.dumps() with ensure_ascii=False; indent < 0: on one line. */
extern void template_to_json(arena *a, template_value v, int indent, int level, piece_builder *out);

extern bool template_true(template_value v);
extern bool template_equal(template_value x, template_value y);
/* Of numbers and booleans. */
extern bool template_is_number(template_value v);
extern double template_number(template_value v);
/* What {{ }} writes. */
extern piece printed_text(arena *a, template_value v);
/* For messages: "a list". */
extern const char *template_kind_name(template_value v);

#endif /* LLMAPP_TEMPLATE_VALUE_H */
