/*
 * token_list.c
 *	  Lists of tokens and buffers of text that grow, and what a text that is no token adds to a list.
 *
 * When memory ends a list or buffer is as it was.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_block.h"

bool
token_list_reserve(token_list *list, int64_t more, llm_error *err)
{
	int64_t capacity = list->capacity ? list->capacity : 64;
	int32_t *id;

	if (list->count + more <= list->capacity)
		return true;
	while (capacity < list->count + more)
		capacity *= 2;
	id = realloc(list->id, capacity * sizeof(int32_t));
	if (id == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for %lld tokens", (long long) capacity);
	list->id = id;
	list->capacity = capacity;
	return true;
}

bool
token_list_append(token_list *list, int32_t id, llm_error *err)
{
	if (!token_list_reserve(list, 1, err))
		return false;
	list->id[list->count++] = id;
	return true;
}

bool
text_buffer_reserve(text_buffer *buffer, size_t more, llm_error *err)
{
	size_t capacity = buffer->capacity ? buffer->capacity : 256;
	char *bytes;

	if (more <= buffer->capacity - buffer->size)
		return true;
	while (capacity - buffer->size < more)
		capacity *= 2;
	bytes = realloc(buffer->bytes, capacity);
	if (bytes == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for a text of %zu bytes", capacity);
	buffer->bytes = bytes;
	buffer->capacity = capacity;
	return true;
}

bool
text_buffer_add(text_buffer *buffer, const void *bytes, size_t length, llm_error *err)
{
	if (!text_buffer_reserve(buffer, length, err))
		return false;
	if (length > 0)
		memcpy(buffer->bytes + buffer->size, bytes, length);
	buffer->size += length;
	return true;
}

void *
tokenizer_scratch(tokenizer *t, size_t bytes, llm_error *err)
{
	size_t capacity = t->scratch_bytes ? t->scratch_bytes : 4096;

	if (bytes <= t->scratch_bytes)
		return t->scratch;
	while (capacity < bytes)
		capacity *= 2;
	free(t->scratch);
	t->scratch_bytes = 0;
	t->scratch = malloc(capacity);
	if (t->scratch == NULL)
		llm_fail(err, LLM_MEMORY, "out of memory while encoding text");
	else
		t->scratch_bytes = capacity;
	return t->scratch;
}

bool
encode_missing(const tokenizer *t, const uint8_t *text, size_t length, token_list *out, llm_error *err)
{
	int32_t unknown = t->header->special[SPECIAL_UNKNOWN];
	bool bytes = (t->header->flags & FLAG_BYTE_FALLBACK) != 0;

	if (!token_list_reserve(out, (int64_t) length + 1, err))
		return false;
	for (size_t i = 0; bytes && i < length; i++)
		bytes = t->byte[text[i]] >= 0;
	for (size_t i = 0; bytes && i < length; i++)
		out->id[out->count++] = t->byte[text[i]];
	if (!bytes && unknown >= 0)
		out->id[out->count++] = unknown;
	return true;
}
