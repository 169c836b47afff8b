/*
 * target.c
 *	  The column(s) to predict: labels to class indices, numbers to standardised numbers.
 *
 * Class labels are the text PostgreSQL shows for the value, so that a prediction casts back to
 * the column's type.  They are sorted, so their numbers do not depend on the order of the rows.
 */
#include "target.h"

#include <stdlib.h>
#include <string.h>

#include "encoder.h"
#include "value.h"

/* What a target hides behind its public fields. */
typedef struct target_whole
{
	target public;   /* first, so that both have one address */
	strings *labels; /* label i is class i */
} target_whole;

struct target_fitter
{
	target_kind kind;
	int32_t columns;
	column *column;  /* (columns) names and types, copied */
	int32_t outputs; /* numbers; known with the first row */
	int64_t rows;
	strings *labels;
	int64_t *label_rows; /* (CLASSES_MAX) */
	double *mean;        /* (outputs) Welford's running moments */
	double *m2;
};

/* ---- the target ---- */

target *
target_new(target_kind kind, int32_t columns, llm_error *err)
{
	target_whole *w = calloc(1, sizeof(target_whole));
	target *t = &w->public;

	if (w != NULL)
	{
		t->kind = kind;
		t->columns = columns;
		t->names = calloc(columns, sizeof(char *));
		t->sql_types = calloc(columns, sizeof(char *));
	}
	if (w == NULL || t->names == NULL || t->sql_types == NULL)
	{
		target_free(w ? t : NULL);
		llm_fail(err, LLM_MEMORY, "out of memory for the target");
		return NULL;
	}
	return t;
}

/* Labels are added as if rows had them. */
target *
target_of_labels(const char *name, const char *const *labels, int32_t count, llm_error *err)
{
	column c = {.name = (char *) name, .sql_type = "text", .kind = COLUMN_TEXT};
	target_fitter *f = target_fitter_new(TARGET_CLASS, &c, 1, err);
	target *t;
	bool ok = f != NULL;

	for (int32_t i = 0; ok && i < count; i++)
	{
		value label = {.kind = VALUE_STRING, .string = labels[i], .length = (int32_t) strlen(labels[i])};

		ok = target_fitter_add(f, &label, err);
	}
	t = f ? target_fitter_finish(f, err) : NULL;
	if (t != NULL && t->class_count != count)
		ok = llm_fail(err, LLM_INVALID, "the list of classes holds a label twice");
	if (!ok || t == NULL)
	{
		target_free(t);
		return NULL;
	}
	memset(t->class_rows, 0, count * sizeof(int64_t));
	return t;
}

target *
target_of_text(const column *c, llm_error *err)
{
	target_fitter *f = target_fitter_new(TARGET_TEXT, c, 1, err);

	return f && target_fitter_add(f, &(value) {.kind = VALUE_NULL}, err) ? target_fitter_finish(f, err) : NULL;
}

void
target_free(target *t)
{
	if (t == NULL)
		return;
	for (int32_t i = 0; i < t->columns; i++)
	{
		if (t->names)
			free(t->names[i]);
		if (t->sql_types)
			free(t->sql_types[i]);
	}
	for (int32_t i = 0; t->classes && i < t->class_count; i++)
		free(t->classes[i]);
	free(t->names);
	free(t->sql_types);
	free(t->classes);
	free(t->class_rows);
	free(t->mean);
	free(t->scale);
	strings_free(((target_whole *) t)->labels);
	free(t);
}

void
target_shape(const target *t, batch_shape *shape)
{
	shape->outputs = t->outputs;
	shape->class_target = t->kind == TARGET_CLASS;
	shape->token_target = t->kind == TARGET_TEXT;
}

typedef struct label
{
	const char *text;
	double number;
	int64_t rows;
} label;

static bool
label_number(const char *text, double *number)
{
	char *end;

	*number = strtod(text, &end);
	return end != text && *end == '\0' && isfinite(*number);
}

static int
by_bytes(const void *a, const void *b)
{
	return strcmp(((const label *) a)->text, ((const label *) b)->text);
}

static int
by_number(const void *a, const void *b)
{
	double x = ((const label *) a)->number;
	double y = ((const label *) b)->number;

	return x < y ? -1 : x > y ? 1 : by_bytes(a, b);
}

static void
sort_labels(label *labels, int32_t count)
{
	bool numbers = true;

	for (int32_t i = 0; i < count; i++)
		numbers = numbers && label_number(labels[i].text, &labels[i].number);
	qsort(labels, count, sizeof(label), numbers ? by_number : by_bytes);
}

static bool
labels_differ(const label *sorted, int32_t count, llm_error *err)
{
	for (int32_t i = 1; i < count; i++)
		if (strcmp(sorted[i - 1].text, sorted[i].text) == 0)
			return llm_fail(err, LLM_CORRUPT, "label \"%.64s\" of \"classes\" is repeated", sorted[i].text);
	return true;
}

static bool
store_labels(target *t, const label *labels)
{
	target_whole *w = (target_whole *) t;

	w->labels = strings_new(CLASSES_MAX, CLASS_BYTES_MAX);
	t->classes = calloc(t->class_count, sizeof(char *));
	t->class_rows = calloc(t->class_count, sizeof(int64_t));
	if (w->labels == NULL || t->classes == NULL || t->class_rows == NULL)
		return false;
	for (int32_t i = 0; i < t->class_count; i++)
	{
		t->classes[i] = strdup(labels[i].text);
		t->class_rows[i] = labels[i].rows;
		if (t->classes[i] == NULL || strings_put(w->labels, labels[i].text, strlen(labels[i].text)) != i)
			return false;
	}
	return true;
}

bool
target_set_classes(target *t, const char *const *labels, const int64_t *rows, int32_t count, llm_error *err)
{
	label *sorted = calloc(count, sizeof(label));
	bool ok = sorted != NULL;

	t->class_count = count;
	t->outputs = count == 2 ? 1 : count;
	for (int32_t i = 0; ok && i < count; i++)
		sorted[i] = (label) {.text = labels[i], .rows = rows[i]};
	if (ok)
	{
		sort_labels(sorted, count);
		ok = labels_differ(sorted, count, err) && store_labels(t, sorted);
	}
	free(sorted);
	return ok || llm_fail(err, LLM_MEMORY, "out of memory for the classes");
}

/* The label PostgreSQL shows for a value of this type. */
static const char *
label_text(const value *v, const char *sql_type, char *buffer, int32_t *length)
{
	if (v->kind == VALUE_NUMBER && strcmp(sql_type, "boolean") == 0)
	{
		*length = v->number != 0 ? 4 : 5;
		return v->number != 0 ? "true" : "false";
	}
	return value_text(v, strcmp(sql_type, "real") == 0, buffer, length);
}

int32_t
target_class_of(const target *t, const value *v)
{
	char buffer[NUMBER_TEXT_BYTES];
	int32_t length;
	const char *text;

	if (t->kind != TARGET_CLASS || value_missing(v) || v->kind == VALUE_VECTOR)
		return -1;
	text = label_text(v, t->sql_types[0], buffer, &length);
	return strings_find(((const target_whole *) t)->labels, text, length);
}

/* Output i of the target columns: column i, or element i of the only column. */
static bool
output_number(const value *values, int32_t columns, int32_t outputs, int32_t i, double *number)
{
	const value *v = &values[columns == 1 ? 0 : i];

	if (v->kind == VALUE_VECTOR && columns == 1 && v->length == outputs)
		*number = v->vector[i];
	else if (v->kind == VALUE_NUMBER && outputs == columns)
		*number = v->number;
	else
		return false;
	return fabs(*number) <= NUMBER_MAX; /* false for NaN too */
}

static bool
bad_number(const char *name, int32_t outputs, llm_error *err)
{
	llm_fail(err, LLM_INVALID, "target column \"%s\" must hold finite numbers", name);
	if (outputs > 1)
		llm_detail(err, "Every row needs the same %d numbers.", outputs);
	return llm_hint(err, "Leave rows without a usable target out of the source with WHERE.");
}

bool
target_number_of(const target *t, const value *values, int32_t i, float *number, llm_error *err)
{
	double x;

	if (!output_number(values, t->columns, t->outputs, i, &x))
		return bad_number(t->names[t->columns == 1 ? 0 : i], t->outputs, err);
	*number = standard_clamp((x - t->mean[i]) / t->scale[i]);
	return true;
}

/* ---- fitting ---- */

static void
target_fitter_free(target_fitter *f)
{
	if (f == NULL)
		return;
	for (int32_t i = 0; f->column && i < f->columns; i++)
	{
		free(f->column[i].name);
		free(f->column[i].sql_type);
	}
	free(f->column);
	strings_free(f->labels);
	free(f->label_rows);
	free(f->mean);
	free(f->m2);
	free(f);
}

static bool
fitter_columns(target_fitter *f, const column *columns)
{
	f->column = calloc(f->columns, sizeof(column));
	for (int32_t i = 0; f->column && i < f->columns; i++)
	{
		f->column[i].name = strdup(columns[i].name);
		f->column[i].sql_type = strdup(columns[i].sql_type);
		if (f->column[i].name == NULL || f->column[i].sql_type == NULL)
			return false;
	}
	if (f->kind != TARGET_CLASS)
		return f->column != NULL;
	f->labels = strings_new(CLASSES_MAX, CLASS_BYTES_MAX);
	f->label_rows = calloc(CLASSES_MAX, sizeof(int64_t));
	return f->column != NULL && f->labels != NULL && f->label_rows != NULL;
}

target_fitter *
target_fitter_new(target_kind kind, const column *columns, int32_t count, llm_error *err)
{
	target_fitter *f;

	if (count < 1 || count > COLUMNS_MAX || (kind != TARGET_NUMBER && count > 1))
	{
		llm_fail(err, LLM_INVALID, "%d target columns cannot be predicted by one model", count);
		llm_hint(err, "Train one model for each column of classes.");
		return NULL;
	}
	f = calloc(1, sizeof(target_fitter));
	if (f != NULL)
	{
		f->kind = kind;
		f->columns = count;
	}
	if (f == NULL || !fitter_columns(f, columns))
	{
		target_fitter_free(f);
		llm_fail(err, LLM_MEMORY, "out of memory for the target");
		return NULL;
	}
	return f;
}

static bool
add_label(target_fitter *f, const value *v, llm_error *err)
{
	const column *c = &f->column[0];
	char buffer[NUMBER_TEXT_BYTES];
	int32_t length, class;
	const char *text;

	if (value_missing(v) || v->kind == VALUE_VECTOR)
		return llm_fail(err, LLM_INVALID, "target column \"%s\" has no label in a training row", c->name);
	text = label_text(v, c->sql_type, buffer, &length);
	class = memchr(text, 0, length) ? STRINGS_FULL : strings_put(f->labels, text, length);
	if (class == STRINGS_NO_MEMORY)
		return llm_fail(err, LLM_MEMORY, "out of memory for the classes");
	if (class == STRINGS_FULL)
	{
		llm_fail(err, LLM_INVALID, "target column \"%s\" has more than %d classes", c->name, CLASSES_MAX);
		return llm_hint(
			err, "Use task => 'regression' for a numeric target, or choose a column with fewer distinct values.");
	}
	f->label_rows[class]++;
	return true;
}

static bool
first_numbers(target_fitter *f, const value *values, llm_error *err)
{
	bool vector = f->columns == 1 && values[0].kind == VALUE_VECTOR;

	f->outputs = vector ? values[0].length : f->columns;
	if (f->outputs < 1 || f->outputs > OUTPUTS_MAX)
		return llm_fail(err, LLM_INVALID, "target column \"%s\" has %d elements, 1 to %d can be predicted",
						f->column[0].name, f->outputs, OUTPUTS_MAX);
	f->mean = calloc(f->outputs, sizeof(double));
	f->m2 = calloc(f->outputs, sizeof(double));
	return (f->mean && f->m2) || llm_fail(err, LLM_MEMORY, "out of memory for the target");
}

static bool
add_numbers(target_fitter *f, const value *values, llm_error *err)
{
	double x;

	if (f->mean == NULL && !first_numbers(f, values, err))
		return false;
	for (int32_t i = 0; i < f->outputs; i++)
	{
		double step;

		if (!output_number(values, f->columns, f->outputs, i, &x))
			return bad_number(f->column[f->columns == 1 ? 0 : i].name, f->outputs, err);
		step = x - f->mean[i];
		f->mean[i] += step / (f->rows + 1);
		f->m2[i] += step * (x - f->mean[i]);
	}
	return true;
}

bool
target_fitter_add(target_fitter *f, const value *values, llm_error *err)
{
	if (f->kind == TARGET_CLASS && !add_label(f, values, err))
		return false;
	if (f->kind == TARGET_NUMBER && !add_numbers(f, values, err))
		return false;
	f->rows++;
	return true;
}

static bool
finish_classes(target_fitter *f, target *t, llm_error *err)
{
	const char **labels;
	bool ok;

	if (f->labels->count == 1)
	{
		llm_fail(err, LLM_INVALID, "target column \"%s\" has the same value in all %lld training rows", t->names[0],
				 (long long) f->rows);
		llm_detail(err, "The only value is \"%.64s\".", strings_at(f->labels, 0));
		return llm_hint(err, "Train on rows of at least two classes.");
	}
	labels = calloc(f->labels->count, sizeof(char *));
	if (labels == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for the classes");
	for (int32_t i = 0; i < f->labels->count; i++)
		labels[i] = strings_at(f->labels, i);
	ok = target_set_classes(t, labels, f->label_rows, f->labels->count, err);
	free(labels);
	return ok;
}

static bool
finish_numbers(target_fitter *f, target *t, llm_error *err)
{
	t->outputs = f->outputs;
	t->mean = calloc(f->outputs, sizeof(double));
	t->scale = calloc(f->outputs, sizeof(double));
	if (t->mean == NULL || t->scale == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for the target");
	for (int32_t i = 0; i < f->outputs; i++)
	{
		double scale = sqrt(f->m2[i] / f->rows);

		t->mean[i] = f->mean[i];
		t->scale[i] = scale >= SCALE_MIN ? scale : 1; /* a constant target is its mean */
	}
	return true;
}

static bool
finish(target_fitter *f, target *t, llm_error *err)
{
	for (int32_t i = 0; i < f->columns; i++)
	{
		t->names[i] = f->column[i].name;
		t->sql_types[i] = f->column[i].sql_type;
		f->column[i].name = f->column[i].sql_type = NULL;
	}
	switch (f->kind)
	{
		case TARGET_CLASS: return finish_classes(f, t, err);
		case TARGET_NUMBER: return finish_numbers(f, t, err);
		case TARGET_TEXT: t->outputs = 1; break;
	}
	return true;
}

target *
target_fitter_finish(target_fitter *f, llm_error *err)
{
	target *t = NULL;

	if (f->rows == 0)
	{
		llm_fail(err, LLM_INVALID, "no training row has a value of target column \"%s\"", f->column[0].name);
		llm_hint(err, "Check the source: SELECT count(*), count(%s) FROM ...", f->column[0].name);
	}
	else
		t = target_new(f->kind, f->columns, err);
	if (t != NULL && !finish(f, t, err))
	{
		target_free(t);
		t = NULL;
	}
	target_fitter_free(f);
	return t;
}
