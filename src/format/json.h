/*
 * json.h
 *	  Typed, bounded reading of JSON from anywhere.  Parsing itself is jansson's.
 *
 * Each json_read_* looks up `key` in `object`, checks type and range, and reports
 * LLM_CORRUPT naming the key otherwise.  Nothing is coerced.
 *
 * This is the only file that includes jansson.h: PostgreSQL exports a function json_object
 * of its own, which the dynamic linker would prefer to jansson's.  Here the name stands for
 * new_json_object(), so no object file of ours refers to it.  Include PostgreSQL's headers first.
 */
#ifndef LLMAPP_JSON_H
#define LLMAPP_JSON_H

#define json_object new_json_object
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../engine/error.h"

/*
 * Has an allocation failed since the last call, so that what was built since may be incomplete?
 * json_text() asks by itself; who keeps or hands on JSON in another form asks at its end.
 */
extern bool json_memory_failed(void);
/* The same for other memory that JSON was to be made from. */
extern void json_fail_memory(void);

/* An empty object, NULL when out of memory. */
extern json_t *new_json_object(void);

/* Parse one JSON value of `length` bytes; duplicate keys are refused.  NULL: LLM_CORRUPT. */
extern json_t *json_parse(const char *text, size_t length, llm_error *err);
/* The same of a file where "no limit" may be an integer of more than 64 bits: then all its integers are reals. */
extern json_t *json_parse_large(const char *text, size_t length, llm_error *err);
/*
 * Compact text, malloc'd; keys in insertion order; numbers that read back equal.  NULL when
 * json_memory_failed().
 */
extern char *json_text(const json_t *json);

extern bool json_read_object(const json_t *object, const char *key, const json_t **out, llm_error *err);
extern bool json_read_array(const json_t *object, const char *key, size_t max, const json_t **out, llm_error *err);
extern bool json_read_string(const json_t *object, const char *key, const char **out, llm_error *err);
extern bool json_read_int(const json_t *object, const char *key, int64_t low, int64_t high, int64_t *out,
						  llm_error *err);
extern bool json_read_number(const json_t *object, const char *key, double low, double high, double *out,
							 llm_error *err); /* finite */
extern bool json_read_bool(const json_t *object, const char *key, bool *out, llm_error *err);

/* Every element finite and in range; *out is malloc'd, *count in [min, max]. */
extern bool json_read_numbers(const json_t *object, const char *key, size_t min, size_t max, double low, double high,
							  double **out, int32_t *count, llm_error *err);

/*
 * Byte strings in any encoding: a JSON string where they are UTF-8, {"hex": "..."} otherwise.
 * json_take_bytes() copies to malloc'd memory with a zero byte behind; key is for messages.
 */
extern json_t *json_bytes(const char *bytes, size_t length);
extern char *json_take_bytes(const json_t *value, const char *key, size_t max, size_t *length, llm_error *err);
/* The same for a member that must not contain a zero byte. */
extern bool json_read_name(const json_t *object, const char *key, size_t max, char **out, llm_error *err);

extern void json_hex(const void *bytes, size_t length, char *text); /* 2 * length + 1 bytes */
/* False unless text is exactly 2 * length lower case digits. */
extern bool json_unhex(const char *text, void *bytes, size_t length);

#endif /* LLMAPP_JSON_H */
