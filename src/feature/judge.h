/*
 * judge.h
 *	  What is worth telling about a column, and whether it is used.
 */
#ifndef LLMAPP_JUDGE_H
#define LLMAPP_JUDGE_H

#include "stats.h"

/* What the judgement of a column needs to know of all rows. */
typedef struct judge_context
{
	int64_t rows;
	bool class_target; /* targets are class indices */
	int64_t majority;  /* rows of the most frequent target */
	bool only_column;  /* no other column would remain */
} judge_context;

typedef struct finding_list
{
	finding *first;
	finding **end;
} finding_list;

extern bool finding_add(finding_list *list, const column *c, const char *kind, bool dropped, llm_error *err,
						const char *format, ...) __attribute__((format(printf, 6, 7)));

/* True when text is to be read as categories. */
extern bool text_is_category(const column_stats *s);

/* Constant, or different in every row. */
extern bool column_is_constant(const column *c, const column_stats *s);
extern bool column_is_identifier(const column *c, const column_stats *s, const judge_context *context);

/* Add findings about a column; *dropped says whether it must not be used. */
extern bool judge_column(const column *c, const column_stats *s, const judge_context *context, finding_list *list,
						 bool *dropped, llm_error *err);

#endif /* LLMAPP_JUDGE_H */
