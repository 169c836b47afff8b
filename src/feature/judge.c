/*
 * judge.c
 *	  What an analyst would notice in a column: constant, an identifier, a copy of the target,
 *	  mostly empty, too many categories.
 *
 * Only columns that cannot help are dropped.  A column from which the target follows is reported
 * and kept: whether it is known at prediction time only the user can tell.
 */
#include "judge.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_TO_JUDGE 20     /* fewer rows prove nothing */
#define ALL_DISTINCT 0.95    /* share of rows; estimates are off by up to 2 % */
#define DENSE_RANGE 2.0      /* width of the range of an identifier, in rows */
#define KEPT_CORRELATION 0.5 /* an identifier that moves so much with the target is a measurement */
#define TOKEN_BYTES 64       /* mean length up to which distinct strings are identifiers */
#define COPY_SHARE 0.999
#define COPY_CORRELATION 0.9999
#define COPY_REPEATS 5 /* mean rows of a value for the target to follow from it */
#define MOSTLY_NULL 0.9
#define MANY_CATEGORIES 1000
#define CATEGORIES_SURE 64  /* so few distinct strings are categories when they repeat or are single words */
#define CATEGORY_SHARE 0.05 /* distinct strings per row up to which they are categories */

bool
finding_add(finding_list *list, const column *c, const char *kind, bool dropped, llm_error *err, const char *format,
			...)
{
	finding *f = calloc(1, sizeof(finding));
	va_list args;

	if (f == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for findings");
	snprintf(f->column, sizeof(f->column), "%s", c->name);
	f->kind = kind;
	f->dropped = dropped;
	va_start(args, format);
	vsnprintf(f->message, sizeof(f->message), format, args);
	va_end(args);
	*list->end = f;
	list->end = &f->next;
	return true;
}

void
finding_free(finding *list)
{
	while (list != NULL)
	{
		finding *next = list->next;

		free(list);
		list = next;
	}
}

bool
text_is_category(const column_stats *s)
{
	double rows = s->rows - s->missing;
	double distinct = tally_distinct(s->values);

	return distinct <= CATEGORY_SHARE * rows ||
		   (distinct <= CATEGORIES_SURE && (distinct <= rows / 2 || s->tokens >= ALL_DISTINCT * rows));
}

bool
column_is_constant(const column *c, const column_stats *s)
{
	if (s->missing > 0)
		return s->missing == s->rows;
	if (c->kind == COLUMN_VECTOR)
	{
		for (int32_t i = 0; i < s->length; i++)
			if (s->elements[i].m2 > 0)
				return false;
		return true;
	}
	/* Infinities are not in the tally. */
	if (s->values->rows < s->rows)
		return s->values->rows == 0;
	return s->values->overflow == 0 && s->values->values->count == 1;
}

static bool
integer_identifier(const column_stats *s, const judge_context *context)
{
	double n = s->x.count;

	if (n < ROWS_TO_JUDGE)
		return false;
	if ((context->only_column || !context->class_target) && fabs(stats_correlation(s)) > KEPT_CORRELATION)
		return false;
	return s->rising || s->falling ||
		   (s->high - s->low < DENSE_RANGE * n && tally_distinct(s->values) >= ALL_DISTINCT * n);
}

bool
column_is_identifier(const column *c, const column_stats *s, const judge_context *context)
{
	double n = s->rows - s->missing;

	if (c->kind == COLUMN_NUMBER)
		return c->integer && integer_identifier(s, context);
	if (n < ROWS_TO_JUDGE || (c->kind != COLUMN_CATEGORY && c->kind != COLUMN_TEXT) ||
		tally_distinct(s->values) < ALL_DISTINCT * n || s->bytes > TOKEN_BYTES * n)
		return false;
	return c->kind == COLUMN_CATEGORY || s->tokens >= ALL_DISTINCT * n;
}

/*
 * The target of nearly all rows follows from the value alone.  Values must repeat, and guessing
 * the most frequent target must be wrong ten times as often.
 */
static bool
copies_target(const column *c, const column_stats *s, const judge_context *context)
{
	int64_t n = s->rows - s->missing;
	int64_t agree;

	if (c->kind == COLUMN_VECTOR || n < ROWS_TO_JUDGE || n < context->rows * COPY_SHARE)
		return false;
	if (s->x.count == n && (s->equals_target || fabs(stats_correlation(s)) > COPY_CORRELATION))
		return true;
	if (s->values->overflow > 0 || s->values->values->count * (int64_t) COPY_REPEATS > n)
		return false;
	agree = tally_agree(s->values);
	return agree >= COPY_SHARE * n && context->rows - context->majority >= 10 * (n - agree) &&
		   context->majority < context->rows;
}

static bool
report_kept(const column *c, const column_stats *s, const judge_context *context, finding_list *list, llm_error *err)
{
	bool categories = c->kind == COLUMN_CATEGORY || (c->kind == COLUMN_JSON && s->strings > 0) ||
					  (c->kind == COLUMN_TEXT && text_is_category(s));
	double distinct = categories ? tally_distinct(s->values) : 0;

	if (copies_target(c, s, context) &&
		!finding_add(list, c, "copies_target", false, err,
					 "the target follows from this column alone; if it is not known before the target, "
					 "exclude it: params => '{\"exclude\": [\"%s\"]}'",
					 c->name))
		return false;
	if (s->missing >= MOSTLY_NULL * s->rows &&
		!finding_add(list, c, "mostly_null", false, err, "%.1f %% of the training rows have no value",
					 100.0 * s->missing / s->rows))
		return false;
	return distinct <= MANY_CATEGORIES ||
		   finding_add(list, c, "high_cardinality", false, err,
					   "about %.0f distinct values in %lld training rows; rare ones share one category", distinct,
					   (long long) s->rows);
}

bool
judge_column(const column *c, const column_stats *s, const judge_context *context, finding_list *list, bool *dropped,
			 llm_error *err)
{
	*dropped = true;
	if (s->missing == s->rows && c->tokens)
	{
		llm_fail(err, LLM_INVALID, "no training row has a text in column \"%s\"", c->name);
		return llm_hint(err,
						"Name another column: params => '{\"text\": \"column\"}', or use architecture => 'mlp'.");
	}
	if (s->missing == s->rows)
		return finding_add(list, c, "empty", true, err, "no training row has a value; the column is not used");
	if (!c->tokens && column_is_constant(c, s))
		return finding_add(list, c, "constant", true, err,
						   "all training rows have the same value; the column is not used");
	if (!c->tokens && column_is_identifier(c, s, context))
		return finding_add(list, c, "identifier", true, err,
						   "different in every row like an identifier; the column is not used%s",
						   c->kind == COLUMN_NUMBER ? " (to use it, cast it to double precision in the source)" : "");
	*dropped = false;
	return c->tokens || report_kept(c, s, context, list, err);
}
