/*
 * target_json.c
 *	  A target to JSON and back.
 *
 *	{ "kind": "class", "columns": [{"name", "type"}], "classes": [label], "class_rows": [n] }
 *	{ "kind": "number", "columns": [...], "means": [x], "scales": [x] }
 *	{ "kind": "text", "columns": [one] }
 * Reading checks everything; classes must be in the order in which fitting puts them.
 */
#include <stdlib.h>
#include <string.h>

#include "encoder.h"
#include "target.h"

#define ROWS_MAX (INT64_C(1) << 53)

static const char *const kind_names[] = {
	[TARGET_CLASS] = "class", [TARGET_NUMBER] = "number", [TARGET_TEXT] = "text"};

#define KINDS ((int) (sizeof(kind_names) / sizeof(kind_names[0])))

static void
write_classes(const target *t, json_t *o)
{
	json_t *classes = json_array();
	json_t *rows = json_array();

	for (int32_t i = 0; i < t->class_count; i++)
	{
		json_array_append_new(classes, json_bytes(t->classes[i], strlen(t->classes[i])));
		json_array_append_new(rows, json_integer(t->class_rows[i]));
	}
	json_object_set_new(o, "classes", classes);
	json_object_set_new(o, "class_rows", rows);
}

static void
write_numbers(const target *t, json_t *o)
{
	json_t *means = json_array();
	json_t *scales = json_array();

	for (int32_t i = 0; i < t->outputs; i++)
	{
		json_array_append_new(means, json_real(t->mean[i]));
		json_array_append_new(scales, json_real(t->scale[i]));
	}
	json_object_set_new(o, "means", means);
	json_object_set_new(o, "scales", scales);
}

json_t *
target_json(const target *t)
{
	json_t *o = json_object();
	json_t *columns = json_array();

	json_object_set_new(o, "kind", json_string(kind_names[t->kind]));
	for (int32_t i = 0; i < t->columns; i++)
		json_array_append_new(columns, json_pack("{s:o, s:o}", "name", json_bytes(t->names[i], strlen(t->names[i])),
												 "type", json_bytes(t->sql_types[i], strlen(t->sql_types[i]))));
	json_object_set_new(o, "columns", columns);
	if (t->kind == TARGET_CLASS)
		write_classes(t, o);
	if (t->kind == TARGET_NUMBER)
		write_numbers(t, o);
	return o;
}

static bool
no_memory(llm_error *err)
{
	return llm_fail(err, LLM_MEMORY, "out of memory while reading the target");
}

static bool
read_numbers(const json_t *json, target *t, llm_error *err)
{
	int32_t count;

	if (!json_read_numbers(json, "means", 1, OUTPUTS_MAX, -NUMBER_MAX, NUMBER_MAX, &t->mean, &t->outputs, err) ||
		!json_read_numbers(json, "scales", 1, OUTPUTS_MAX, SCALE_MIN, 2 * NUMBER_MAX, &t->scale, &count, err))
		return false;
	if (count != t->outputs || (t->columns > 1 && t->columns != count))
		return llm_fail(err, LLM_CORRUPT, "\"scales\" has %d elements for %d \"means\" of %d \"columns\"", count,
						t->outputs, t->columns);
	return true;
}

static bool
read_label(const json_t *element, char **label, llm_error *err)
{
	size_t length;

	*label = json_take_bytes(element, "classes", CLASS_BYTES_MAX, &length, err);
	return *label != NULL &&
		   (strlen(*label) == length || llm_fail(err, LLM_CORRUPT, "a label of \"classes\" contains a zero byte"));
}

static bool
read_labels(const json_t *classes, const json_t *rows, int32_t count, char **labels, int64_t *label_rows,
			llm_error *err)
{
	size_t bytes = 0;

	for (int32_t i = 0; i < count; i++)
	{
		const json_t *n = json_array_get(rows, i);

		if (!json_is_integer(n) || json_integer_value(n) < 0 || json_integer_value(n) > ROWS_MAX)
			return llm_fail(err, LLM_CORRUPT, "element %d of \"class_rows\" is not a number of rows", i);
		label_rows[i] = json_integer_value(n);
		if (!read_label(json_array_get(classes, i), &labels[i], err))
			return false;
		bytes += strlen(labels[i]) + 1;
		if (bytes > CLASS_BYTES_MAX)
			return llm_fail(err, LLM_CORRUPT, "\"classes\" have more than %d bytes", CLASS_BYTES_MAX);
	}
	return true;
}

/* Labels must stand in our order, or weights would belong to other labels than the file says. */
static bool
check_order(const target *t, char *const *labels, llm_error *err)
{
	for (int32_t i = 0; i < t->class_count; i++)
		if (strcmp(labels[i], t->classes[i]) != 0)
			return llm_fail(err, LLM_CORRUPT, "element %d of \"classes\" is out of order", i);
	return true;
}

static bool
read_classes(const json_t *json, target *t, llm_error *err)
{
	const json_t *classes, *rows;
	int32_t count;
	char **labels;
	int64_t *label_rows;
	bool ok;

	if (!json_read_array(json, "classes", CLASSES_MAX, &classes, err) ||
		!json_read_array(json, "class_rows", CLASSES_MAX, &rows, err))
		return false;
	count = (int32_t) json_array_size(classes);
	if (t->columns != 1 || count < 2 || json_array_size(rows) != (size_t) count)
		return llm_fail(err, LLM_CORRUPT, "%d \"classes\", %zu \"class_rows\" and %d \"columns\" do not fit", count,
						json_array_size(rows), t->columns);
	labels = calloc(count, sizeof(char *));
	label_rows = calloc(count, sizeof(int64_t));
	ok = (labels && label_rows) ? read_labels(classes, rows, count, labels, label_rows, err) &&
									  target_set_classes(t, (const char *const *) labels, label_rows, count, err) &&
									  check_order(t, labels, err)
								: no_memory(err);
	for (int32_t i = 0; labels && i < count; i++)
		free(labels[i]);
	free(labels);
	free(label_rows);
	return ok;
}

static bool
read_target(const json_t *json, const json_t *columns, target *t, llm_error *err)
{
	for (int32_t i = 0; i < t->columns; i++)
	{
		const json_t *c = json_array_get(columns, i);

		if (!json_is_object(c))
			return llm_fail(err, LLM_CORRUPT, "element %d of \"columns\" is not an object", i);
		if (!json_read_name(c, "name", NAME_BYTES_MAX, &t->names[i], err) ||
			!json_read_name(c, "type", NAME_BYTES_MAX, &t->sql_types[i], err))
			return false;
	}
	switch (t->kind)
	{
		case TARGET_CLASS: return read_classes(json, t, err);
		case TARGET_NUMBER: return read_numbers(json, t, err);
		case TARGET_TEXT: t->outputs = 1; break;
	}
	return t->columns == 1 || llm_fail(err, LLM_CORRUPT, "a target of text has %d \"columns\"", t->columns);
}

target *
target_from_json(const json_t *json, llm_error *err)
{
	const char *kind;
	const json_t *columns;
	target *t;
	int known = 0;

	if (!json_read_string(json, "kind", &kind, err) || !json_read_array(json, "columns", COLUMNS_MAX, &columns, err))
		return NULL;
	while (known < KINDS && strcmp(kind, kind_names[known]) != 0)
		known++;
	if (known == KINDS || json_array_size(columns) == 0)
	{
		llm_fail(err, LLM_CORRUPT, "\"kind\" of the target is \"%.32s\" with %zu \"columns\"", kind,
				 json_array_size(columns));
		return NULL;
	}
	t = target_new((target_kind) known, (int32_t) json_array_size(columns), err);
	if (t != NULL && read_target(json, columns, t, err))
		return t;
	target_free(t);
	return NULL;
}

target *
target_of_numbers(const char *name, int32_t count, llm_error *err)
{
	json_t *means = json_array(), *scales = json_array(), *json;
	target *t = NULL;

	for (int32_t i = 0; i < count; i++)
	{
		json_array_append_new(means, json_real(0));
		json_array_append_new(scales, json_real(1));
	}
	json = json_pack("{s:s, s:[{s:s, s:s}], s:o, s:o}", "kind", "number", "columns", "name", name, "type",
					 count > 1 ? "double precision[]" : "double precision", "means", means, "scales", scales);
	if (json_memory_failed())
		llm_fail(err, LLM_MEMORY, "out of memory for the target");
	else
		t = target_from_json(json, err);
	json_decref(json);
	return t;
}
