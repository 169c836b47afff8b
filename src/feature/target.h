/*
 * target.h
 *	  What the files of this folder know of a target beyond feature.h.
 */
#ifndef LLMAPP_TARGET_H
#define LLMAPP_TARGET_H

#include "feature.h"

#define CLASSES_MAX 65536
#define CLASS_BYTES_MAX (16 << 20) /* all labels together */
#define OUTPUTS_MAX 65536

/* A target of class kind, or one of numbers, with nothing in it but its columns.  NULL: out of memory. */
extern target *target_new(target_kind kind, int32_t columns, llm_error *err);
/* Sort labels and rows and build the lookup; labels are copied. */
extern bool target_set_classes(target *t, const char *const *labels, const int64_t *rows, int32_t count,
							   llm_error *err);

/* Output i of a numeric target, standardised.  Missing or infinite is LLM_INVALID. */
extern bool target_number_of(const target *t, const value *values, int32_t i, float *number, llm_error *err);

#endif /* LLMAPP_TARGET_H */
