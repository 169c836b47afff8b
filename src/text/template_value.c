/*
 * template_value.c
 *	  Values of templates: memory, texts with marks, lists and dicts.
 */
#include "template_value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unicode.h"

#define CHUNK_BYTES 16384
#define DEPTH_MAX 64 /* of lists and dicts, so that recursion over them ends */

struct arena_chunk
{
	arena_chunk *next;
	size_t used;
	size_t size;
	char bytes[] __attribute__((aligned(16)));
};

/* ---- memory ---- */

void *
arena_take(arena *a, size_t bytes)
{
	arena_chunk *chunk = a->chunks;
	size_t wanted = (bytes + 15) / 16 * 16, size;

	if (template_failed(a))
		return NULL;
	if (bytes > a->limit || a->taken > a->limit - bytes)
	{
		llm_fail(&a->err, LLM_MEMORY, "a chat template needs more than %zu MB of memory", a->limit >> 20);
		return NULL;
	}
	if (chunk == NULL || wanted > chunk->size - chunk->used)
	{
		size = wanted > CHUNK_BYTES ? wanted : CHUNK_BYTES;
		chunk = malloc(sizeof(arena_chunk) + size);
		if (chunk == NULL)
		{
			llm_fail(&a->err, LLM_MEMORY, "out of memory for a chat template");
			return NULL;
		}
		*chunk = (arena_chunk) {.next = a->chunks, .size = size};
		a->chunks = chunk;
	}
	chunk->used += wanted;
	a->taken += wanted;
	return memset(chunk->bytes + chunk->used - wanted, 0, wanted);
}

void
arena_free(arena *a)
{
	while (a->chunks != NULL)
	{
		arena_chunk *next = a->chunks->next;

		free(a->chunks);
		a->chunks = next;
	}
}

bool
template_fail(arena *a, const char *format, ...)
{
	char message[200];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	return llm_fail(&a->err, LLM_INVALID, "line %d of the chat template: %s", a->line, message);
}

/* Room for one element more of an array in the arena. */
static bool
grow(arena *a, void **array, size_t count, size_t capacity, size_t wanted, size_t width)
{
	void *grown;

	if (count < capacity)
		return true;
	grown = arena_take(a, wanted * width);
	if (grown == NULL)
		return false;
	if (count > 0)
		memcpy(grown, *array, count * width);
	*array = grown;
	return true;
}

/* ---- text ---- */

piece
piece_of(const char *text)
{
	return (piece) {.bytes = text, .size = strlen(text)};
}

piece
piece_cut(piece p, size_t from, size_t to)
{
	return (piece) {.bytes = p.bytes + from, .marks = p.marks ? p.marks + from : NULL, .size = to - from};
}

static bool
build_reserve(piece_builder *b, size_t more)
{
	size_t capacity = b->capacity ? b->capacity : 64;
	char *bytes;
	uint8_t *marks;

	if (more <= b->capacity - b->size)
		return true;
	while (capacity - b->size < more && capacity < b->a->limit)
		capacity *= 2;
	bytes = arena_take(b->a, capacity);
	marks = arena_take(b->a, capacity);
	if (marks == NULL)
		return false;
	if (b->size > 0)
	{
		memcpy(bytes, b->bytes, b->size);
		memcpy(marks, b->marks, b->size);
	}
	b->bytes = bytes;
	b->marks = marks;
	b->capacity = capacity;
	return capacity - b->size >= more;
}

void
build_add(piece_builder *b, piece p)
{
	if (p.size == 0 || !build_reserve(b, p.size))
		return;
	memcpy(b->bytes + b->size, p.bytes, p.size);
	if (p.marks != NULL)
		memcpy(b->marks + b->size, p.marks, p.size);
	b->marked |= p.marks != NULL;
	b->size += p.size;
}

void
build_byte(piece_builder *b, char byte, bool mark)
{
	const uint8_t one = 1;

	build_add(b, (piece) {.bytes = &byte, .marks = mark ? &one : NULL, .size = 1});
}

void
build_text(piece_builder *b, const char *text)
{
	build_add(b, piece_of(text));
}

piece
build_finish(const piece_builder *b)
{
	return (piece) {.bytes = b->size ? b->bytes : "", .marks = b->marked ? b->marks : NULL, .size = b->size};
}

bool
piece_equal(piece x, piece y)
{
	return x.size == y.size && (x.size == 0 || memcmp(x.bytes, y.bytes, x.size) == 0);
}

bool
piece_is(piece p, const char *text)
{
	return piece_equal(p, piece_of(text));
}

size_t
piece_find(piece p, piece what, size_t from)
{
	for (size_t at = from; at + what.size <= p.size; at++)
		if (what.size == 0 || memcmp(p.bytes + at, what.bytes, what.size) == 0)
			return at;
	return p.size + 1;
}

static size_t
next_character(piece p, size_t at)
{
	int32_t length;

	utf8_read((const uint8_t *) p.bytes + at, (const uint8_t *) p.bytes + p.size, &length);
	return at + (size_t) length;
}

size_t
piece_length(piece p)
{
	size_t count = 0;

	for (size_t at = 0; at < p.size; at = next_character(p, at))
		count++;
	return count;
}

size_t
piece_offset(piece p, size_t character)
{
	size_t at = 0;

	while (character-- > 0 && at < p.size)
		at = next_character(p, at);
	return at;
}

/* ---- values ---- */

template_value
undefined_value(piece name)
{
	return (template_value) {.kind = VALUE_UNDEFINED, .text = name};
}

template_value
none_value(void)
{
	return (template_value) {.kind = VALUE_NONE};
}

template_value
boolean_value(bool boolean)
{
	return (template_value) {.kind = VALUE_BOOLEAN, .boolean = boolean};
}

template_value
integer_value(int64_t integer)
{
	return (template_value) {.kind = VALUE_INTEGER, .integer = integer};
}

template_value
float_value(double number)
{
	return (template_value) {.kind = VALUE_FLOAT, .number = number};
}

template_value
text_value(piece text)
{
	return (template_value) {.kind = VALUE_TEXT, .text = text};
}

template_value
list_value(arena *a)
{
	template_list *list = arena_take(a, sizeof(template_list));

	return list ? (template_value) {.kind = VALUE_LIST, .list = list} : none_value();
}

template_value
dict_value(arena *a, value_class kind)
{
	template_dict *dict = arena_take(a, sizeof(template_dict));

	return dict ? (template_value) {.kind = kind, .dict = dict} : none_value();
}

/* A list or dict that gets this member is so deep. */
static bool
deepen(arena *a, int *depth, template_value member)
{
	int inside = member.kind == VALUE_LIST ? member.list->depth : member.kind == VALUE_DICT ? member.dict->depth : 0;

	*depth = inside + 1 > *depth ? inside + 1 : *depth;
	return *depth <= DEPTH_MAX || template_fail(a, "a value has more than %d levels", DEPTH_MAX);
}

void
template_list_add(arena *a, template_list *list, template_value item)
{
	size_t wanted = list && list->capacity ? 2 * list->capacity : 8;

	if (template_failed(a) || !deepen(a, &list->depth, item) ||
		!grow(a, (void **) &list->items, list->count, list->capacity, wanted, sizeof(template_value)))
		return;
	list->capacity = list->count < list->capacity ? list->capacity : wanted;
	list->items[list->count++] = item;
}

template_value *
template_dict_find(const template_dict *dict, piece key)
{
	for (size_t i = 0; i < dict->count; i++)
		if (piece_equal(dict->keys[i], key))
			return &dict->values[i];
	return NULL;
}

void
template_dict_set(arena *a, template_dict *dict, piece key, template_value value)
{
	size_t wanted;
	template_value *known;

	if (template_failed(a) || !deepen(a, &dict->depth, value))
		return;
	known = template_dict_find(dict, key);
	wanted = dict->capacity ? 2 * dict->capacity : 8;
	if (known != NULL)
	{
		*known = value;
		return;
	}
	if (!grow(a, (void **) &dict->keys, dict->count, dict->capacity, wanted, sizeof(piece)) ||
		!grow(a, (void **) &dict->values, dict->count, dict->capacity, wanted, sizeof(template_value)))
		return;
	dict->capacity = dict->count < dict->capacity ? dict->capacity : wanted;
	dict->keys[dict->count] = key;
	dict->values[dict->count++] = value;
}

/* ---- from and to JSON ---- */

static piece
copy_text(arena *a, const char *bytes, size_t size, bool mark)
{
	char *copy = arena_take(a, size + 1);
	uint8_t *marks = mark ? arena_take(a, size + 1) : NULL;

	if (template_failed(a))
		return piece_of("");
	memcpy(copy, bytes, size);
	if (marks != NULL)
		memset(marks, 1, size);
	return (piece) {.bytes = copy, .marks = marks, .size = size};
}

static template_value
value_of_part(arena *a, const json_t *json, bool mark, int depth)
{
	template_value result;
	const char *key;
	json_t *part;
	size_t i;

	if (depth > DEPTH_MAX)
		template_fail(a, "a value has more than %d levels", DEPTH_MAX);
	if (template_failed(a))
		return none_value();
	switch (json_typeof(json))
	{
		case JSON_OBJECT:
			result = dict_value(a, VALUE_DICT);
			json_object_foreach((json_t *) json, key, part)
				if (!template_failed(a))
					template_dict_set(a, result.dict, copy_text(a, key, strlen(key), mark),
									  value_of_part(a, part, mark, depth + 1));
			return result;
		case JSON_ARRAY:
			result = list_value(a);
			json_array_foreach(json, i, part)
				if (!template_failed(a))
					template_list_add(a, result.list, value_of_part(a, part, mark, depth + 1));
			return result;
		case JSON_STRING: return text_value(copy_text(a, json_string_value(json), json_string_length(json), mark));
		case JSON_INTEGER: return integer_value(json_integer_value(json));
		case JSON_REAL: return float_value(json_real_value(json));
		case JSON_NULL: return none_value();
		default: return boolean_value(json_is_true(json));
	}
}

template_value
template_from_json(arena *a, const json_t *json, bool mark)
{
	return value_of_part(a, json, mark, 0);
}

static void
text_to_json(piece p, piece_builder *out)
{
	static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";

	build_byte(out, '"', false);
	for (size_t i = 0; i < p.size; i++)
	{
		bool mark = p.marks && p.marks[i];
		char c = p.bytes[i], code[8];
		const char *known = c == '\0' ? NULL : strchr(escaped, c);

		if (known != NULL)
		{
			build_byte(out, '\\', mark);
			build_byte(out, letters[known - escaped], mark);
		}
		else if ((uint8_t) c < 0x20)
		{
			snprintf(code, sizeof(code), "\\u%04x", (uint8_t) c);
			build_text(out, code);
		}
		else
			build_byte(out, c, mark);
	}
	build_byte(out, '"', false);
}

/* What stands in front of an element, or of the bracket behind the last one. */
static void
json_separator(piece_builder *out, bool first, bool last, int indent, int level)
{
	if (!first && !last)
		build_text(out, indent < 0 ? ", " : ",");
	if (indent < 0 || (first && last))
		return;
	build_text(out, "\n");
	for (int i = 0; i < indent * level; i++)
		build_text(out, " ");
}

void
template_to_json(arena *a, template_value v, int indent, int level, piece_builder *out)
{
	bool list = v.kind == VALUE_LIST;
	size_t count = list ? v.list->count : v.kind == VALUE_DICT ? v.dict->count : 0;

	if (template_failed(a))
		return;
	if (level > DEPTH_MAX)
		template_fail(a, "a value has more than %d levels", DEPTH_MAX);
	else if (v.kind == VALUE_TEXT)
		text_to_json(v.text, out);
	else if (v.kind == VALUE_NONE)
		build_text(out, "null");
	else if (v.kind == VALUE_BOOLEAN)
		build_text(out, v.boolean ? "true" : "false");
	else if (template_is_number(v))
		build_add(out, printed_text(a, v));
	else if (!list && v.kind != VALUE_DICT)
		template_fail(a, "tojson cannot write %s", template_kind_name(v));
	else
	{
		build_text(out, list ? "[" : "{");
		for (size_t i = 0; i < count && !template_failed(a); i++)
		{
			json_separator(out, i == 0, false, indent, level + 1);
			if (!list)
			{
				text_to_json(v.dict->keys[i], out);
				build_text(out, ": ");
			}
			template_to_json(a, list ? v.list->items[i] : v.dict->values[i], indent, level + 1, out);
		}
		json_separator(out, count == 0, true, indent, level);
		build_text(out, list ? "]" : "}");
	}
}

/* ---- what Python makes of values ---- */

bool
template_is_number(template_value v)
{
	return v.kind == VALUE_INTEGER || v.kind == VALUE_FLOAT || v.kind == VALUE_BOOLEAN;
}

double
template_number(template_value v)
{
	return v.kind == VALUE_FLOAT ? v.number : v.kind == VALUE_BOOLEAN ? v.boolean : (double) v.integer;
}

bool
template_true(template_value v)
{
	switch (v.kind)
	{
		case VALUE_UNDEFINED:
		case VALUE_NONE: return false;
		case VALUE_BOOLEAN: return v.boolean;
		case VALUE_INTEGER: return v.integer != 0;
		case VALUE_FLOAT: return v.number != 0;
		case VALUE_TEXT: return v.text.size > 0;
		case VALUE_LIST: return v.list->count > 0;
		case VALUE_DICT: return v.dict->count > 0;
		default: return true;
	}
}

static bool
lists_equal(const template_list *x, const template_list *y)
{
	bool equal = x->count == y->count;

	for (size_t i = 0; equal && i < x->count; i++)
		equal = template_equal(x->items[i], y->items[i]);
	return equal;
}

static bool
dicts_equal(const template_dict *x, const template_dict *y)
{
	bool equal = x->count == y->count;

	for (size_t i = 0; equal && i < x->count; i++)
	{
		const template_value *other = template_dict_find(y, x->keys[i]);

		equal = other != NULL && template_equal(x->values[i], *other);
	}
	return equal;
}

bool
template_equal(template_value x, template_value y)
{
	if (template_is_number(x) && template_is_number(y))
		return x.kind != VALUE_FLOAT && y.kind != VALUE_FLOAT ? (x.kind == VALUE_BOOLEAN ? x.boolean : x.integer) ==
																	(y.kind == VALUE_BOOLEAN ? y.boolean : y.integer)
															  : template_number(x) == template_number(y);
	if (x.kind != y.kind)
		return false;
	switch (x.kind)
	{
		case VALUE_UNDEFINED:
		case VALUE_NONE: return true;
		case VALUE_TEXT: return piece_equal(x.text, y.text);
		case VALUE_LIST: return lists_equal(x.list, y.list);
		case VALUE_DICT: return dicts_equal(x.dict, y.dict);
		default: return x.self == y.self;
	}
}

/* As short as it reads back, with a point or exponent. */
static void
float_text(double number, char out[40])
{
	for (int digits = 1; digits <= 17; digits++)
	{
		snprintf(out, 40, "%.*g", digits, number);
		if (strtod(out, NULL) == number)
			break;
	}
	if (fabs(number) >= 1e-4 && fabs(number) < 1e16 && strchr(out, 'e') != NULL)
		snprintf(out, 40, "%.0f", number);
	if (strpbrk(out, ".einf") == NULL)
		strcat(out, ".0");
}

piece
printed_text(arena *a, template_value v)
{
	char text[40];

	switch (v.kind)
	{
		case VALUE_UNDEFINED: return piece_of("");
		case VALUE_NONE: return piece_of("None");
		case VALUE_BOOLEAN: return piece_of(v.boolean ? "True" : "False");
		case VALUE_TEXT: return v.text;
		case VALUE_INTEGER: snprintf(text, sizeof(text), "%lld", (long long) v.integer); break;
		case VALUE_FLOAT: float_text(v.number, text); break;
		default:
			template_fail(a, "%s is no text; tojson can write lists and dicts", template_kind_name(v));
			return piece_of("");
	}
	return copy_text(a, text, strlen(text), false);
}

const char *
template_kind_name(template_value v)
{
	static const char *const names[] = {
		[VALUE_UNDEFINED] = "something undefined",
		[VALUE_NONE] = "none",
		[VALUE_BOOLEAN] = "a boolean",
		[VALUE_INTEGER] = "an integer",
		[VALUE_FLOAT] = "a float",
		[VALUE_TEXT] = "a string",
		[VALUE_LIST] = "a list",
		[VALUE_DICT] = "a dict",
		[VALUE_NAMESPACE] = "a namespace",
		[VALUE_LOOP] = "a loop",
		[VALUE_MACRO] = "a macro",
		[VALUE_FUNCTION] = "a function",
		[VALUE_METHOD] = "a method",
	};

	return names[v.kind];
}
