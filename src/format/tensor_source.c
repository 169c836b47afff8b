/*
 * tensor_source.c
 *	  The tensors of a checkpoint by name, and their numbers piece by piece.
 */
#include "tensor_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml_blocks.h"

#define PIECE_BYTES (1 << 20) /* read at once; it and what it decodes to stay in the second cache */

void
tensor_source_clear(tensor_source *s)
{
	for (int32_t i = 0; i < s->count; i++)
		free(s->tensors[i].name);
	free(s->tensors);
	s->tensors = NULL;
	s->count = 0;
}

bool
tensor_source_add(tensor_source *s, const source_tensor *t, llm_error *err)
{
	source_tensor *at;

	if (s->count == SOURCE_MAX_TENSORS)
		return llm_fail(err, LLM_CORRUPT, "the files have more than %d tensors", SOURCE_MAX_TENSORS);
	/* A count that is a power of two, or 0, fills its array. */
	if ((s->count & (s->count - 1)) == 0)
	{
		at = realloc(s->tensors, (s->count > 0 ? 2 * (size_t) s->count : 1) * sizeof(source_tensor));
		if (at == NULL)
			return llm_fail(err, LLM_MEMORY, "out of memory for the list of tensors");
		s->tensors = at;
	}
	at = &s->tensors[s->count];
	*at = *t;
	at->name = strdup(t->name);
	if (at->name == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory for the list of tensors");
	s->count++;
	return true;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const source_tensor *) a)->name, ((const source_tensor *) b)->name);
}

bool
tensor_source_sort(tensor_source *s, llm_error *err)
{
	if (s->count > 0)
		qsort(s->tensors, s->count, sizeof(source_tensor), by_name);
	for (int32_t i = 1; i < s->count; i++)
		if (by_name(&s->tensors[i - 1], &s->tensors[i]) == 0)
			return llm_fail(err, LLM_CORRUPT, "two tensors are named \"%s\"", SHOWN(s->tensors[i].name));
	return true;
}

const source_tensor *
tensor_source_find(const tensor_source *s, const char *name)
{
	source_tensor key = {.name = (char *) name};

	return s->count > 0 ? bsearch(&key, s->tensors, s->count, sizeof(source_tensor), by_name) : NULL;
}

/* Other bytes become question marks. */
const char *
source_shown(const char *name, char text[64])
{
	int i;

	for (i = 0; i < 60 && name[i] != '\0'; i++)
		text[i] = (char) (name[i] >= ' ' && name[i] <= '~' ? name[i] : '?');
	strcpy(text + i, name[i] == '\0' ? "" : "...");
	return text;
}

const char *
source_text(const char *name, const char *type, const int64_t *dims, int32_t ndim, char *text)
{
	int used = snprintf(text, SOURCE_TEXT_BYTES, "%s %s (", SHOWN(name), type);

	for (int32_t i = 0; i < ndim && used < SOURCE_TEXT_BYTES - 1; i++)
		used += snprintf(text + used, SOURCE_TEXT_BYTES - used, "%s%lld", i > 0 ? ", " : "", (long long) dims[i]);
	if (used < SOURCE_TEXT_BYTES - 1)
		strcpy(text + used, ")");
	return text;
}

static bool
check_range(const source_tensor *t, const ggml_type *type, size_t first, size_t count, llm_error *err)
{
	if (type == NULL)
		return llm_fail(err, LLM_INVALID, "tensor %s is of a type that cannot be read as numbers", SOURCE_TEXT(t));
	if (first > t->count || count > t->count - first)
		return llm_fail(err, LLM_INVALID, "tensor %s does not have numbers %zu to %zu", SOURCE_TEXT(t), first,
						first + count - 1);
	if (first % type->length != 0 || count % type->length != 0)
		return llm_fail(err, LLM_INVALID, "tensor %s is read in blocks of %zu numbers", SOURCE_TEXT(t), type->length);
	return true;
}

bool
tensor_source_read(const tensor_source *s, const source_tensor *t, size_t first, size_t count, float *out,
				   llm_error *err)
{
	const ggml_type *type = ggml_type_of(t->type);
	size_t blocks, piece;
	uint64_t offset;
	uint8_t *bytes;
	bool ok = true;

	if (!check_range(t, type, first, count, err))
		return false;
	blocks = count / type->length;
	offset = t->offset + (uint64_t) (first / type->length * type->bytes);
	piece = PIECE_BYTES / type->bytes < blocks ? PIECE_BYTES / type->bytes : blocks;
	bytes = malloc(piece * type->bytes + 1);
	if (bytes == NULL)
		return llm_fail(err, LLM_MEMORY, "out of memory while reading tensor %s", SOURCE_TEXT(t));
	while (ok && blocks > 0)
	{
		size_t now = piece < blocks ? piece : blocks;

		ok = s->read(s->arg, t->file, offset, bytes, now * type->bytes, err);
		if (ok)
			type->decode(bytes, now, out);
		offset += now * type->bytes;
		out += now * type->length;
		blocks -= now;
	}
	free(bytes);
	return ok;
}
