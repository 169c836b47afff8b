/*
 * template.h
 *	  Chat templates: from messages to the prompt that a model was trained with.
 *
 * Templates are those that model files carry, in the part of the Jinja language that they use: text,
 * {{ expressions }}, {% if %}, {% for %}, {% set %}, {% macro %}, {# comments #}, with the settings
 * trim_blocks and lstrip_blocks.  docs/reference.md lists filters, tests, methods and functions.
 *
 * Both template and values come from anywhere: memory, steps, depth and the size of the prompt
 * are bounded, and what is not known is an error that names it and its line.
 *
 * What came from messages stays marked on its way through the template, so that who encodes the
 * prompt can tell a special token of the template from one that somebody typed.
 */
#ifndef LLMAPP_TEMPLATE_H
#define LLMAPP_TEMPLATE_H

#include <time.h>

#include "../format/json.h"
#include "tokenizer.h"

#define TEMPLATE_BYTES_MAX ((size_t) 1 << 20)

typedef struct chat_template chat_template;

/* LLM_INVALID with line and construct for what is no template, LLM_MEMORY. */
extern chat_template *template_parse(const char *source, size_t length, llm_error *err);
extern void template_free(chat_template *t); /* t may be NULL */

/*
 * Append the prompt to text, and to marks a byte for each of its bytes: 1 = it came from `given`.
 * given, own: objects, whose members are the template's variables; now: for strftime_now().
 * LLM_INVALID for an error of the template or raised by it.
 */
extern bool template_render(const chat_template *t, const json_t *given, const json_t *own, const struct tm *now,
							text_buffer *text, text_buffer *marks, llm_error *err);

#endif /* LLMAPP_TEMPLATE_H */
